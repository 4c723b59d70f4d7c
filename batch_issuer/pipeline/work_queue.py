"""The rows of a run that wait for their turn: those whose turn it may be, and those that back off."""

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
    """In the order of the roster, but for what comes back. Time is the running event loop's, in seconds."""

    def __init__(self, rows: Iterable[Attempts]) -> None:
        self._fresh = deque(rows)
        self._later: list[tuple[float, int, Attempts]] = []  # a heap, by due time
        self._order = count()
        self._work = asyncio.Event()
        self._in_order = True

    def __len__(self) -> int:
        return len(self._fresh) + len(self._later)

    async def ready(self) -> None:
        """Until it is some row's turn."""
        loop = asyncio.get_running_loop()
        while not self._fresh:
            due = self._later[0][0] if self._later else None
            if due is not None and due <= loop.time():
                return
            self._work.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._work.wait()

    def pop(self, *, untried: bool = False) -> Attempts:
        """The row whose turn it is: those whose backoff is over go before the others, unless ``untried`` ones shall."""
        due = self._later and self._later[0][0] <= asyncio.get_running_loop().time()
        if self._fresh and (untried or not due):
            return self._fresh.popleft()
        return heapq.heappop(self._later)[2]

    def pop_random(self, uniform: Callable[[float, float], float]) -> Attempts:
        """One of those that do not back off, drawn with ``uniform``: its neighbours may have troubles of their own."""
        if not self._fresh:
            return self.pop()
        index = min(int(uniform(0, len(self._fresh))), len(self._fresh) - 1)
        row = self._fresh[index]
        del self._fresh[index]
        return row

    def push_front(self, row: Attempts) -> None:
        """It is next."""
        self._fresh.appendleft(row)
        self._work.set()

    def push_back(self, row: Attempts) -> None:
        """All others are before it, until they line up."""
        self._in_order = False
        self._fresh.append(row)
        self._work.set()

    def add(self, rows: Iterable[Attempts]) -> None:
        """They are next, in this order, after those that wait already."""
        self._fresh.extend(rows)
        self._work.set()

    def push_later(self, delay: float, row: Attempts) -> None:
        """It waits for ``delay`` seconds at least."""
        heapq.heappush(self._later, (asyncio.get_running_loop().time() + delay, next(self._order), row))
        self._work.set()

    def sort(self) -> None:
        """In the order of the roster again, where some had to go last."""
        if not self._in_order:
            self._in_order = True
            self._fresh = deque(sorted(self._fresh, key=lambda row: row.driver.row))

    def drain(self) -> list[Attempts]:
        """All of them, in the order of the roster; none waits any more."""
        left = [*self._fresh, *(row for _, _, row in self._later)]
        self._fresh.clear()
        self._later.clear()
        return sorted(left, key=lambda row: row.driver.row)
