"""An event loop whose clock moves only when everything is idle: an hour of quota in milliseconds.

For code without sockets. "Nothing can ever wake" is an error instead of a hang.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

HAIR = 1e-9
"""Seconds by which the clock moves on in any case, as a real one does: a timer that is early by rounding sets
itself again, and on a clock that stands still would do so for ever."""

DAY = 86_400.0
"""Seconds; no test takes that long, but something that polls for what never comes would."""


class NothingCanWakeError(Exception):
    """All tasks wait and no timer is set."""


class _IdleSelector(selectors.DefaultSelector):
    """Instead of sleeping, moves the clock on to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise NothingCanWakeError("every task waits for another one")
        self.now += max(timeout, 0.0) + HAIR
        if self.now > DAY:
            raise NothingCanWakeError("a day has passed and nothing is done")
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._idle = _IdleSelector()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
