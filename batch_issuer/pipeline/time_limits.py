"""What ends a run in time: the patience without a success, and the deadline."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .endings import Ending

STOP_MARGIN = 2.0
"""Seconds before the deadline, at most a tenth of the time, in which no request is sent."""

CHECK_INTERVAL = 1.0
"""Seconds between checks of the clock, which may be set, or be late after the computer slept."""


class Patience:
    """Ends the run after ``seconds`` without a success."""

    def __init__(self, seconds: float, stop: Callable[[Ending], None]) -> None:
        self.seconds = seconds
        self._stop = stop
        self._ending: Ending | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, ending: Ending) -> None:
        """Record a failure; the run ends with ``ending`` if no success follows. The first call starts the timer."""
        self._ending = ending
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._expire)

    def reset(self) -> None:
        """Record a success, or the end of the run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if self._ending is not None:
            self._stop(self._ending)


class Deadline:
    """Calls ``stop`` shortly before the deadline and ``abandon`` when it has come, from the event loop.

    A time of day is measured by the wall clock, a duration by the event loop's, which is never set.
    """

    def __init__(
        self,
        at: datetime | timedelta,
        stop: Callable[[], None],
        abandon: Callable[[], None],
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._at = at
        self._stop, self._abandon = stop, abandon
        self._wall_clock = wall_clock
        self._started_at = asyncio.get_running_loop().time()
        self._margin = min(STOP_MARGIN, max(0.0, self.left()) / 10)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the clock."""
        self._check()

    def left(self) -> float:
        """Seconds until it comes; negative once it has."""
        if isinstance(self._at, timedelta):
            return self._started_at + self._at.total_seconds() - asyncio.get_running_loop().time()
        return (self._at - self._wall_clock()).total_seconds()

    def _check(self) -> None:
        left = self.left()
        if left <= self._margin:
            self._stop()
        if left <= 0:
            self._abandon()
            return
        due = left if left <= self._margin else left - self._margin
        self._timer = asyncio.get_running_loop().call_later(min(due, CHECK_INTERVAL), self._check)

    def cancel(self) -> None:
        """Make no further calls."""
        if self._timer is not None:
            self._timer.cancel()
