"""Leases in memory, for the runs of one process."""

from __future__ import annotations

import heapq
from asyncio import get_running_loop
from collections import Counter
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from .leases import ACTIVE_FOR, Answer, Budget, Lease, hold_time, may_acquire, poll_delay

if TYPE_CHECKING:
    from ..settings.run_settings import Rate
    from .leases import End


class Guard:
    """The slots of one organization within this process. Pure: ``now`` is in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._in_flight: dict[str, str] = {}  # lease → run
        self._cooling: list[tuple[float, str]] = []  # heap of (free at, run)
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, tuple[int, float]] = {}  # run → (requests, asked at)
        self._gate_opens_at = -inf

    def acquire(self, lease: str, run: str, limit: int, waiting: int, now: float) -> tuple[bool, float, float, int]:
        """Whether a slot is granted, and the other fields of `Answer`."""
        self._free_cooled(now)
        self._waiting[run] = waiting, now
        wanting = self._wanting(now)
        gate = max(0.0, self._gate_opens_at - now)
        granted = not gate and may_acquire(limit, run, self._held, wanting)
        if granted:
            self.hold(lease, run)
            self._waiting[run] = waiting - 1, now
            return True, 0.0, 0.0, len(wanting)
        alone = wanting.keys() | self._held.keys() == {run}
        release = self._cooling[0][0] - now if self._cooling else None
        wait = gate or poll_delay(free=limit - self._held.total(), alone=alone, release=release)
        return False, wait, gate, len(wanting)

    def hold(self, lease: str, run: str) -> None:
        """Record a slot that is held by a request, granted here or elsewhere."""
        self._in_flight[lease] = run
        self._held[run] += 1

    def release(self, lease: str, seconds: float, now: float) -> None:
        """Free a slot after ``seconds``; an unknown lease is ignored."""
        run = self._in_flight.pop(lease, None)
        if run is None:
            return
        if seconds > 0:
            heapq.heappush(self._cooling, (now + seconds, run))
        else:
            self._free(run)

    def close_gate(self, seconds: float, now: float) -> None:
        """Grant nothing for ``seconds``."""
        self._gate_opens_at = max(self._gate_opens_at, now + seconds)

    def leave(self, run: str) -> None:
        """Record that a run wants no more slots."""
        self._waiting.pop(run, None)

    def snapshot(self, run: str, now: float, *, mine: bool) -> Budget:
        """The slots of a run (``mine``), or of all others."""
        self._free_cooled(now)
        return Budget(
            in_flight=sum((holder == run) == mine for holder in self._in_flight.values()),
            cooling=tuple(sorted(at - now for at, holder in self._cooling if (holder == run) == mine)),
            gate=max(0.0, self._gate_opens_at - now),
            waiting=tuple(wants for other, wants in self._wanting(now).items() if (other == run) == mine),
        )

    def _free_cooled(self, now: float) -> None:
        while self._cooling and self._cooling[0][0] <= now:
            self._free(heapq.heappop(self._cooling)[1])

    def _free(self, run: str) -> None:
        self._held[run] -= 1
        if not self._held[run]:
            del self._held[run]

    def _wanting(self, now: float) -> dict[str, int]:
        return {run: wants for run, (wants, at) in self._waiting.items() if wants > 0 and now - at <= ACTIVE_FOR}


class MemoryLeases:
    """Leases of one run, in a `Guard` that the runs of this process share; see `Leases`. All in one thread."""

    _runs = count(1)

    def __init__(self, rate: Rate, guard: Guard | None = None) -> None:
        self.rate = rate
        self._guard = guard or Guard()
        self._run = f"run {next(self._runs)}"
        self._numbers = count(1)

    async def acquire(self, waiting: int) -> Answer:
        """See `Leases`."""
        now = get_running_loop().time()
        lease = Lease(f"{self._run}, request {next(self._numbers)}", now)
        granted, wait, gate, runs = self._guard.acquire(lease.id, self._run, self.rate.limit, waiting, now)
        return Answer(lease if granted else None, wait, gate, runs)

    def hold(self, lease: Lease) -> None:
        """Record a slot that was granted elsewhere."""
        self._guard.hold(lease.id, self._run)

    def release(self, lease: Lease, end: End) -> None:
        """See `Leases`."""
        self._guard.release(lease.id, hold_time(end, self.rate), get_running_loop().time())

    def is_valid(self, lease: Lease) -> bool:  # noqa: ARG002 - the protocol's
        """See `Leases`."""
        return True

    def close_gate(self, seconds: float) -> None:
        """See `Leases`."""
        self._guard.close_gate(seconds, get_running_loop().time())

    async def snapshot(self) -> Budget:
        """See `Leases`."""
        return self._guard.snapshot(self._run, get_running_loop().time(), mine=False)

    def mine(self) -> Budget:
        """The slots that this run uses now."""
        return self._guard.snapshot(self._run, get_running_loop().time(), mine=True)

    async def close(self) -> None:
        """See `Leases`."""
        self._guard.leave(self._run)
