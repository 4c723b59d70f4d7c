"""The rows of a run that wait: those ready to send, and those in a backoff."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .attempts import Attempts


class WorkQueue:
    """Rows in the order of the roster, except for retries. Time is the event loop's, in seconds."""

    def __init__(self, rows: Iterable[Attempts]) -> None:
        self._ready = deque(rows)
        self._later: list[tuple[float, int, Attempts]] = []  # a heap, by due time
        self._order = count()
        self._changed = asyncio.Event()
        self._sorted = True

    def __len__(self) -> int:
        return len(self._ready) + len(self._later)

    async def ready(self) -> None:
        """Wait until there is a row to pop."""
        loop = asyncio.get_running_loop()
        while not self._ready:
            due = self._later[0][0] if self._later else None
            if due is not None and due <= loop.time():
                return
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._changed.wait()

    def pop(self, *, untried: bool = False) -> Attempts:
        """The next row: rows after a backoff come first, or last if ``untried`` ones are preferred."""
        due = self._later and self._later[0][0] <= asyncio.get_running_loop().time()
        if self._ready and (untried or not due):
            return self._ready.popleft()
        return heapq.heappop(self._later)[2]

    def pop_random(self, uniform: Callable[[float, float], float]) -> Attempts:
        """A random ready row, drawn with ``uniform``: neighbours in a roster may share a problem."""
        if not self._ready:
            return self.pop()
        index = min(int(uniform(0, len(self._ready))), len(self._ready) - 1)
        attempts = self._ready[index]
        del self._ready[index]
        return attempts

    def push_front(self, attempts: Attempts) -> None:
        """Make it the next row."""
        self._ready.appendleft(attempts)
        self._changed.set()

    def push_back(self, attempts: Attempts) -> None:
        """Make it the last row, until `sort`."""
        self._sorted = False
        self._ready.append(attempts)
        self._changed.set()

    def add(self, rows: Iterable[Attempts]) -> None:
        """Append rows in this order."""
        self._ready.extend(rows)
        self._changed.set()

    def push_later(self, delay: float, attempts: Attempts) -> None:
        """Return it after ``delay`` seconds at the earliest."""
        heapq.heappush(self._later, (asyncio.get_running_loop().time() + delay, next(self._order), attempts))
        self._changed.set()

    def sort(self) -> None:
        """Restore the order of the roster after `push_back`."""
        if not self._sorted:
            self._sorted = True
            self._ready = deque(sorted(self._ready, key=_row))

    def drain(self) -> list[Attempts]:
        """Remove and return all rows, in the order of the roster."""
        left = [*self._ready, *(attempts for _, _, attempts in self._later)]
        self._ready.clear()
        self._later.clear()
        return sorted(left, key=_row)


def _row(attempts: Attempts) -> int:
    return attempts.driver.row
