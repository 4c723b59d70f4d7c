"""Slots of an organization's budget, leased to requests: the rules, and what every store of leases offers.

The promise: **the server never counts more than L of our requests in any window of P seconds, whatever the
network's delays.** A limiter that looks only at sending times cannot promise that: a slow request and a fast one
change places on the way. So a request holds one of L slots from before it leaves until P after its *reply* came
back.

Proof. Of all requests the server counted in a window [t, t+P) take the one sent last. Every other one was sent no
later, and was answered no earlier than t, so its slot was still held when that last one left: the last one was sent
before t+P. All of them held slots at one moment, and there are only L.

::

    free ─acquire► in flight ──answered──► cooling for P ──► free
     ▲                │    └────lost─────► cooling for P + G ──► free
     └────unsent──────┘

The runs of one organization share its slots fairly (max-min): while they are scarce, no run acquires what another
needs to have as many. Where the leases are kept is the only difference between ``MemoryLeases``, ``SqliteLeases``
and ``RedisLeases``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..settings.run_settings import Rate

CLOCK_SLACK = 0.001
"""How much longer than P a slot cools, as a share of P: two clocks never tick quite alike."""

LOST_GRACE = 15.0
"""Seconds for which a request that was given up may still be counted by the server."""

ACTIVE_FOR = 3.0
"""Seconds since a run last requested a slot, after which none is kept free for it."""

POLL_INTERVAL = 0.25
"""Seconds between two tries, while it depends on other runs when a slot becomes free."""

MAX_WAIT = 1.0
"""Seconds after which a run that waits tries again in any case, so that others see that it still wants slots."""


def cooling_time(rate: Rate) -> float:
    """Seconds for which a slot is held after the reply."""
    return rate.period * (1 + CLOCK_SLACK)


class End(Enum):
    """How the request that held a slot ended."""

    ANSWERED = "its reply came: the slot is free P later"
    LOST = "it was given up without a reply: it may still be on its way to the server"
    UNSENT = "it provably never left: the slot is free at once"


class Lease(NamedTuple):
    """A slot held for one request, since ``taken_at`` in seconds of the event loop's clock."""

    id: str
    taken_at: float


class Answer(NamedTuple):
    """The result of requesting a slot.

    lease: None if there is none now.
    wait: seconds after which to try again, unless a request ends before.
    gate: seconds for which a 429 has closed the gate for every run.
    runs: how many runs want slots, this one included.
    """

    lease: Lease | None
    wait: float
    gate: float
    runs: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Slots in use at one moment: of one run, of the others, or of all.

    Attributes:
        in_flight: slots of requests that have not ended.
        cooling: seconds until each of the other slots in use becomes free, in order.
        gate: seconds until the gate opens that a 429 has closed; 0 if it is open.
        waiting: requests yet to be sent, of each run that wants slots.
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
        """The same after some time, if nothing is sent or answered."""
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
        slot -= max(0, rate.limit - self.in_use)  # the free ones go first
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
    """The slots as one run sees them, wherever they are kept; `close` it when the run is over."""

    rate: Rate

    async def acquire(self, waiting: int) -> Answer:
        """Lease a slot if one is free, for a run that has ``waiting`` requests to send, this one included.

        Raises:
            QuotaError: for now.
            QuotaBrokenError: for good.
        """
        ...

    def release(self, lease: Lease, end: End) -> None:
        """A request ended. Never fails: what cannot be written now is written later."""
        ...

    def is_valid(self, lease: Lease) -> bool:
        """Whether the lease still holds; one that was not used for long may have lapsed."""
        ...

    def close_gate(self, seconds: float) -> None:
        """Let no run have a slot for ``seconds``. Never fails."""
        ...

    async def snapshot(self) -> Budget:
        """The slots that other runs hold now; raises as `acquire` does."""
        ...

    async def close(self) -> None:
        """Stop wanting slots; those that are held cool as before."""
        ...


def may_acquire(limit: int, run: str, held: Mapping[str, int], waiting: Mapping[str, int]) -> bool:
    """Whether a run may have one of the free slots: enough must be left for runs with fewer to catch up with it.

    So no run is ever ahead by more than one slot while others go without: max-min fairness.

    Args:
        limit: L.
        run: the one that requests a slot.
        held: slots in use, by run.
        waiting: requests not sent yet, by run that requested a slot lately.
    """
    mine = held.get(run, 0)
    needed = sum(max(0, min(wants, mine - held.get(other, 0))) for other, wants in waiting.items())
    return limit - sum(held.values()) > needed


def poll_delay(*, free: int, alone: bool, release: float | None) -> float:
    """Seconds after which to request a slot again.

    Args:
        free: free slots, which others need.
        alone: whether no other run holds or wants a slot.
        release: seconds until the next one that is cooling is free, if any is.
    """
    if free > 0:
        return POLL_INTERVAL
    return min(MAX_WAIT if alone else POLL_INTERVAL, MAX_WAIT if release is None else max(0.0, release))
