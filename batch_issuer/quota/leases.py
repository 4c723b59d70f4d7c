"""Leases: the slots of an organization's quota, their rules, and the interface of every store of leases.

The promise: **the server never counts more than L of our requests in any window of P seconds, whatever the network's
delays.** A limiter that knows only the times of sending cannot promise that, because a slow request and a fast one may
overtake each other. So a request holds one of L slots from before it leaves until P after its *reply* arrived.

Proof. Take all requests that the server counted in a window [t, t+P), and the one of them that was sent last, which was
before t+P. Each of the others was sent no later and answered no earlier than t, so it still held its slot when the last
one left. All of them held slots at that moment, and there are only L.

::

    free ─acquire► in flight ──answered──► cooling for P ──► free
     ▲                │    └────lost─────► cooling for P + G ──► free
     └────unsent──────┘

The runs of an organization share its slots fairly (max-min): while slots are scarce, no run gets more than another one
that needs as many. ``MemoryLeases``, ``SqliteLeases`` and ``RedisLeases`` differ only in where the leases are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings.run_settings import Rate

CLOCK_SLACK = 0.001
"""How much longer than P a slot cools, as a share of P, because two clocks never run at exactly the same speed."""

LOST_GRACE = 15.0
"""Seconds in which the server may still count a lost request."""

ACTIVE_FOR = 3.0
"""Seconds after a run's last request for a slot in which slots are kept free for it."""

POLL_INTERVAL = 0.25
"""Seconds between attempts to get a slot while other runs use the quota."""

MAX_WAIT = 1.0
"""Most seconds between attempts, so that other runs see that this one still wants slots."""


def cooling_time(rate: Rate) -> float:
    """Seconds for which a slot cools after the reply."""
    return rate.period * (1 + CLOCK_SLACK)


class End(Enum):
    """How the request that held a slot ended."""

    ANSWERED = "a reply came: the slot is free P later"
    LOST = "no reply came: the request may still reach the server"
    UNSENT = "the request provably never left: the slot is free at once"


class Lease(NamedTuple):
    """A slot held by one request, since ``taken_at`` in seconds of the event loop's clock."""

    id: str
    taken_at: float


class Answer(NamedTuple):
    """The result of requesting a slot.

    lease: None if no slot is available now.
    wait: seconds after which to try again, or sooner if a request ends.
    gate: seconds for which a 429 has closed the gate for every run.
    runs: how many runs want slots, this one included.
    """

    lease: Lease | None
    wait: float
    gate: float
    runs: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The slots in use at one moment, by one run, by the others, or by all.

    Attributes:
        in_flight: slots of requests that have not ended.
        cooling: seconds until each of the other slots in use becomes free, in order.
        gate: seconds until the gate opens after a 429; 0 if it is open.
        waiting: for each run that wants slots, the number of requests to send.
    """

    in_flight: int = 0
    cooling: tuple[float, ...] = ()
    gate: float = 0.0
    waiting: tuple[int, ...] = ()

    @property
    def in_use(self) -> int:
        """Slots that are not free."""
        return self.in_flight + len(self.cooling)

    def later(self, seconds: float) -> Budget:
        """The budget after some time without requests and replies."""
        cooling = tuple(left - seconds for left in self.cooling if left > seconds)
        return Budget(self.in_flight, cooling, max(0.0, self.gate - seconds), self.waiting)

    def __add__(self, other: Budget) -> Budget:
        return Budget(
            self.in_flight + other.in_flight,
            tuple(sorted(self.cooling + other.cooling)),
            max(self.gate, other.gate),
            self.waiting + other.waiting,
        )

    def departure(self, rate: Rate, count: int, latency: float) -> float:
        """Seconds until the ``count``-th request from now can leave, if every reply takes ``latency`` seconds."""
        round_trip = latency + cooling_time(rate)
        rounds, slot = divmod(count - 1, rate.limit)
        slot -= max(0, rate.limit - self.in_use)  # free slots are used first
        if slot < 0:
            wait = 0.0
        elif slot < len(self.cooling):
            wait = self.cooling[slot]
        else:
            wait = round_trip
        return max(self.gate, wait + rounds * round_trip)


def hold_time(end: End, rate: Rate) -> float:
    """Seconds for which a slot is still held after its request ended."""
    match end:
        case End.ANSWERED:
            return cooling_time(rate)
        case End.LOST:
            return cooling_time(rate) + LOST_GRACE
        case End.UNSENT:
            return 0.0


class Leases(Protocol):
    """The interface of one run to the slots; `close` it at the end of the run."""

    rate: Rate

    async def acquire(self, waiting: int) -> Answer:
        """Lease a slot if one is free, for a run that has ``waiting`` requests to send, this one included.

        Raises:
            QuotaError: the leases are unavailable for now.
            QuotaBrokenError: they are unavailable for good.
        """
        ...

    def release(self, lease: Lease, end: End) -> None:
        """Record that a request ended. Never fails: it is written later if necessary."""
        ...

    def is_valid(self, lease: Lease) -> bool:
        """Whether the lease has not lapsed, as it may after a long time without use."""
        ...

    def close_gate(self, seconds: float) -> None:
        """Give no run a slot for ``seconds``. Never fails."""
        ...

    async def snapshot(self) -> Budget:
        """The slots in use by other runs; raises as `acquire` does."""
        ...

    async def close(self) -> None:
        """Stop requesting slots; those in use cool as before."""
        ...


def may_acquire(limit: int, run: str, held: Mapping[str, int], waiting: Mapping[str, int]) -> bool:
    """Whether a run may have one of the free slots: enough must remain for runs with fewer slots to catch up.

    So no run is ahead by more than one slot while others wait: max-min fairness.

    Args:
        limit: L.
        run: the one that requests a slot.
        held: slots in use, by run.
        waiting: requests not sent yet, by run that requested a slot recently.
    """
    mine = held.get(run, 0)
    needed = sum(max(0, min(wants, mine - held.get(other, 0))) for other, wants in waiting.items())
    return limit - sum(held.values()) > needed


def poll_delay(*, free: int, alone: bool, release: float | None) -> float:
    """Seconds after which to request a slot again.

    Args:
        free: free slots, which other runs need.
        alone: whether no other run holds or wants a slot.
        release: seconds until the next cooling slot becomes free; None if none is cooling.
    """
    if free > 0:
        return POLL_INTERVAL
    return min(MAX_WAIT if alone else POLL_INTERVAL, MAX_WAIT if release is None else max(0.0, release))
