"""What ends a run in time: patience with a server that gives nothing, and the deadline."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .endings import Ending

LAST_CALL = 2.0
"""Seconds before the deadline, a tenth of the time at most, from which on no further request leaves."""

LOOK_EVERY = 1.0
"""Seconds between looks at the clock: it may be set, and a computer that slept wakes up late."""


class Patience:
    """Ends the run unless something gets through within ``seconds``."""

    def __init__(self, seconds: float, stop: Callable[[Ending], None]) -> None:
        self.seconds = seconds
        self._stop = stop
        self._ending: Ending | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wear(self, ending: Ending) -> None:
        """Nothing got through; ``ending`` is what comes of it if that goes on. The first such call starts the time."""
        self._ending = ending
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._lose)

    def renew(self) -> None:
        """Something got through, or the run is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose(self) -> None:
        if self._ending is not None:
            self._stop(self._ending)


class Deadline:
    """Calls ``last_call`` shortly before the deadline and ``over`` when it has come, from the event loop.

    A time of day goes by the wall clock, a duration by the event loop's, which nobody sets.
    """

    def __init__(
        self,
        at: datetime | timedelta,
        last_call: Callable[[], None],
        over: Callable[[], None],
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._at = at
        self._last_call, self._over = last_call, over
        self._wall_clock = wall_clock
        self._begun_at = asyncio.get_running_loop().time()
        self._margin = min(LAST_CALL, max(0.0, self.left()) / 10)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """From now on it calls."""
        self._look()

    def left(self) -> float:
        """Seconds until it comes; negative once it has."""
        if isinstance(self._at, timedelta):
            return self._begun_at + self._at.total_seconds() - asyncio.get_running_loop().time()
        return (self._at - self._wall_clock()).total_seconds()

    def _look(self) -> None:
        left = self.left()
        if left <= self._margin:
            self._last_call()
        if left <= 0:
            self._over()
            return
        due = left if left <= self._margin else left - self._margin
        self._timer = asyncio.get_running_loop().call_later(min(due, LOOK_EVERY), self._look)

    def cancel(self) -> None:
        """It calls no more."""
        if self._timer is not None:
            self._timer.cancel()
