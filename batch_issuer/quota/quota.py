"""The quota of one run, which awaits a permit before each request and reports how the request ended.

::

    slot ──► bucket ──► gate and window ──► send ──► reply ──► slot cools for P, then is free
     │         │             └ CongestionControl: a 429 closes the gate for every run
     │         └ aiolimiter: limits the burst
     └ Leases: shared by the runs of a process, a host, or several hosts

Time is the running event loop's, so that a test's virtual clock reaches aiolimiter too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from aiolimiter import AsyncLimiter

from ..errors import QuotaBrokenError, QuotaError
from .congestion import CongestionControl
from .estimate import TYPICAL_LATENCY, estimate
from .leases import Budget, End, cooling_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..settings.run_settings import Rate
    from .leases import Lease, Leases
    from .memory_leases import MemoryLeases

RETRY_INTERVAL = 1.0
"""Seconds between attempts to reach unavailable leases."""

REFRESH_INTERVAL = 5.0
"""Seconds after which a run that waits for a slot updates the usage of other runs, for its estimates."""


class Permit(NamedTuple):
    """The right to send one request now, until its end is reported; ``sent_at`` by the loop's clock."""

    lease: Lease
    sent_at: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem with the shared quota.

    Attributes:
        message, hint: what happened, and how to fix it.
        waits: whether requests wait until it is solved; otherwise the run continues with a quota of its own.
    """

    message: str
    hint: str
    waits: bool


class Quota:
    """The quota as one run sees it.

    The run's dispatcher awaits `admit` before each request. One call reports how each request ended: `answered`,
    `throttled`, `lost` or `unsent`.

    Attributes:
        rate: L and P.
        on_trouble: called when the shared quota has a problem, and with None once it is solved.
    """

    def __init__(
        self, own: MemoryLeases, shared: Leases | None = None, *, burst: int | None = None, concurrency: int = 16
    ) -> None:
        """Start with a canary.

        Args:
            own: the slots known to this process.
            shared: leases shared with other processes, if any. ``own`` is updated alongside, for estimates and as a
                replacement if ``shared`` breaks.
            burst: requests that may leave back to back; L by default.
            concurrency: most requests in flight.
        """
        self.rate: Rate = own.rate
        self.on_trouble: Callable[[Trouble | None], None] = lambda _: None
        self._own, self._shared = own, shared
        self._burst = burst or self.rate.limit
        self._bucket = AsyncLimiter(self._burst, self._burst * self.rate.spacing)
        self._control = CongestionControl(self.rate, concurrency)
        self._latency = TYPICAL_LATENCY  # then a moving average
        self._changed = asyncio.Event()
        self._others, self._refreshed_at = Budget(), -inf
        self._troubled = False

    @property
    def _leases(self) -> Leases:
        return self._shared or self._own

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def admit(self, waiting: int) -> Permit:
        """Wait until one request may leave. A cancelled wait holds no slot.

        Args:
            waiting: requests that the run has yet to send, this one included, for fair sharing.
        """
        while True:
            await self._window_opens()
            lease = await self._lease(waiting)
            if lease is None:
                continue
            try:
                await self._bucket.acquire()
                await self._window_opens()
            except BaseException:
                self._release(lease, End.UNSENT)
                raise
            if self._leases.is_valid(lease):
                now = self._now
                self._control.sent(now)
                return Permit(lease, now)
            self._release(lease, End.UNSENT)

    async def _window_opens(self) -> None:
        """Wait until gate, window and pace allow one more request."""
        while (pause := self._control.wait(self._now)) > 0:
            await self._wait_for_change(None if pause == inf else pause)

    async def _lease(self, waiting: int) -> Lease | None:
        """A slot; None after waiting for one."""
        try:
            answer = await self._leases.acquire(waiting)
            if answer.lease is None and self._now >= self._refreshed_at + REFRESH_INTERVAL:
                await self.refresh()
        except QuotaError as trouble:
            await self._handle(trouble)
            return None
        if self._troubled:
            self._troubled = False
            self.on_trouble(None)
        self._control.pace.runs = answer.runs
        if answer.lease is not None:
            if self._shared is not None:
                self._own.hold(answer.lease)
        else:
            if answer.gate > self._control.gate(self._now):
                self._control.close_gate(self._now, answer.gate)
            await self._wait_for_change(answer.wait)
        return answer.lease

    async def _handle(self, trouble: QuotaError) -> None:
        if self._shared is not None and isinstance(trouble, QuotaBrokenError):
            broken, self._shared = self._shared, None
            self.on_trouble(Trouble(trouble.message, trouble.hint, waits=False))
            await broken.close()
            return
        self._troubled = True
        self.on_trouble(Trouble(trouble.message, trouble.hint, waits=True))
        await asyncio.sleep(RETRY_INTERVAL)

    async def _wait_for_change(self, seconds: float | None) -> None:
        """Wait until a request ends, or for ``seconds`` (None for no limit)."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def answered(self, permit: Permit, *, healthy: bool = True) -> None:
        """Record a reply other than a 429, ``healthy`` unless it shows that the server has a problem."""
        now = self._now
        self._latency += 0.2 * (now - permit.sent_at - self._latency)
        self._control.answered(permit.sent_at, now, healthy=healthy)
        self._release(permit.lease, End.ANSWERED)

    def throttled(self, permit: Permit, asked: float | None, wait: float) -> None:
        """Record a 429: the gate closes for every run, and opens for a canary.

        Args:
            permit: of its request.
            asked: seconds of its ``Retry-After``; None without a readable one.
            wait: seconds for which the gate closes.
        """
        self._control.throttled(permit.sent_at, self._now, asked, wait)
        self._release(permit.lease, End.ANSWERED)
        if wait > 0:
            self._leases.close_gate(wait)

    def lost(self, permit: Permit) -> None:
        """Record a request without a reply: the server may still count it."""
        self._control.lost(self._now)
        self._release(permit.lease, End.LOST)

    def unsent(self, permit: Permit) -> None:
        """Record a request that provably never left."""
        self._control.unsent(self._now)
        self._release(permit.lease, End.UNSENT)

    def _release(self, lease: Lease, end: End) -> None:
        self._own.release(lease, end)
        if self._shared is not None:
            self._shared.release(lease, end)
        self._changed.set()

    def pause(self, seconds: float) -> None:
        """Close the gate for this run alone, for a problem other than a 429; it opens for a canary."""
        self._control.close_gate(self._now, seconds)

    @property
    def paused(self) -> bool:
        """Whether the gate is closed."""
        return self._control.gate(self._now) > 0

    def next_release(self) -> float:
        """Seconds until the slots of the last successful requests begin to be free; infinity if there are none."""
        since = self._control.first_reply_at + cooling_time(self.rate) - self._now
        return since if since > 0 else inf

    async def begin(self) -> Budget:
        """The slots in use by other runs at the start; an empty budget if that is unknown."""
        try:
            return await self.refresh()
        except QuotaBrokenError as trouble:
            await self._handle(trouble)
        except QuotaError:
            pass
        return Budget()

    async def refresh(self) -> Budget:
        """Read the slots in use by other runs, for `estimate`.

        Raises:
            QuotaError: the leases are unavailable.
        """
        self._others, self._refreshed_at = await self._leases.snapshot(), self._now
        return self._others

    def estimate(self, count: int) -> float:
        """Seconds until ``count`` more requests have their replies, by the slots in use instead of an average rate.

        The requests that other runs have yet to send get equal shares of the slots.
        """
        mine, waiting = self._own.mine(), self._others.waiting
        ahead = (self._others.in_use / len(waiting) if waiting else 0) - mine.in_use
        theirs = sum(max(0, min(wants, count - max(0, round(ahead)))) for wants in waiting)
        budget = mine + self._others.later(self._now - self._refreshed_at)
        wait = max(self._control.gate(self._now), count * self._control.pace.spacing)
        count += theirs
        return max(wait, estimate(self.rate, count, self._burst, self._control.ceiling, budget, self._latency))

    async def close(self) -> None:
        """Leave the remaining quota to other runs."""
        await self._own.close()
        if self._shared is not None:
            await self._shared.close()
