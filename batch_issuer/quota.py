"""When may the next request leave?

The promise: **the server never counts more than L of our requests in any window of P seconds, whatever the
network's delays.** A limiter that looks only at sending times cannot promise that: a slow request and a fast one
change places on the way. So a request holds one of L slots from the moment it leaves until P after its *reply*
came back.

Proof. Of all requests the server counted in a window [t, t+P) take the one sent last. Every other one was sent no
later, and was answered no earlier than t, so its slot was still held when that last one left: the last one was sent
before t+P. All of them held slots at one moment, and there are only L.

Around the guard::

    slot ──► bucket ──► gate ──► send ──► reply ──► slot cools for P, then is free
     │         │          └ closed for everybody by a 429, until its Retry-After has passed
     │         └ aiolimiter: spaces departures (a small burst, or one by one for a server that trickles)
     └ WindowGuard and FlightWindow

The flight window is slow start as in TCP (RFC 5681 §3.1): it opens at one request, the canary, grows by one with
each reply, and falls back to one on a 429.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from math import inf
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from .model import Rate, Settings

CLOCK_SLACK = 0.001
"""How much longer than P a slot cools, as a share of P: two clocks never tick quite alike."""

LOST_GRACE = 15.0
"""Seconds for which a request that was given up may still be counted by the server."""

POLL = 0.25
"""Seconds between looks at a guard whose slots are all in flight, some of them for another run of this process."""

TYPICAL_LATENCY = 0.2
"""Seconds from a request to its reply, until measured."""


class WindowGuard:
    """L slots, each held from departure until P after the reply. Pure: the time is an argument, in seconds.

    ``now`` may be any monotonic clock, always the same one.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.cooling_time = rate.period * (1 + CLOCK_SLACK)
        self._in_flight = 0
        self._cooling: list[float] = []  # heap of the times at which slots become free

    def wait(self, now: float) -> float:
        """Seconds until a slot is free: 0 for now, infinity while only a reply can free one."""
        while self._cooling and self._cooling[0] <= now:
            heapq.heappop(self._cooling)
        if self._in_flight + len(self._cooling) < self.rate.limit:
            return 0.0
        return self._cooling[0] - now if self._cooling else inf

    def take(self, now: float) -> None:
        """A request leaves: hold a slot for it.

        Raises:
            RuntimeError: no slot is free; ask `wait` first.
        """
        if self.wait(now) > 0:
            raise RuntimeError("no slot is free")
        self._in_flight += 1

    def answered(self, now: float) -> None:
        """Its reply came: the slot is free P later."""
        self._cool(now + self.cooling_time)

    def lost(self, now: float) -> None:
        """It was given up without a reply: it may still be on its way to the server."""
        self._cool(now + self.cooling_time + LOST_GRACE)

    def unsent(self) -> None:
        """It provably never left: the slot is free at once."""
        self._in_flight -= 1

    def _cool(self, until: float) -> None:
        self._in_flight -= 1
        heapq.heappush(self._cooling, until)

    def next_release(self, now: float) -> float:
        """Seconds until the next slot that is cooling becomes free; infinity without one."""
        self.wait(now)
        return self._cooling[0] - now if self._cooling else inf

    def departure(self, now: float, count: int, latency: float) -> float:
        """Seconds until the ``count``-th request from now can leave, if every reply takes ``latency`` seconds."""
        self.wait(now)
        round_trip = latency + self.cooling_time
        rounds, slot = divmod(count - 1, self.rate.limit)
        slot -= self.rate.limit - self._in_flight - len(self._cooling)  # the free ones go first
        if slot < 0:
            wait = 0.0
        elif slot < len(self._cooling):
            wait = sorted(self._cooling)[slot] - now
        else:
            wait = round_trip
        return wait + rounds * round_trip


class FlightWindow:
    """How many requests may be in flight: one at first, one more with each reply, one again after a 429. Pure."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.size = 1
        self.in_flight = 0

    def has_room(self) -> bool:
        """Whether one more may leave."""
        return self.in_flight < self.size

    def grow(self) -> None:
        """A reply came."""
        self.size = min(self.size + 1, self.ceiling)

    def collapse(self) -> None:
        """The server pushed back: begin anew with a canary."""
        self.size = 1


class TrickleDetector:
    """Tells a server that lets requests trickle from one that is merely busy. Pure.

    A server that refuses although no slot of ours is about to free, and asks for about one spacing P/L only, hands out
    permits one by one if after a handful of replies it does the same again, and again. A server that goes on refusing
    although one waited as asked is overloaded, and one that refuses now and then is too: pacing would not help.
    """

    BOUTS = 3
    REPLIES_BETWEEN = 10

    def __init__(self, rate: Rate) -> None:
        self._spacing = rate.spacing
        self._bouts = 0
        self._replies = 0  # since the last refusal

    def reply(self) -> None:
        """A request got through."""
        self._replies += 1

    def refusal(self, retry_after: float | None, next_release: float) -> bool:
        """A 429 came, asking for ``retry_after`` seconds; whether the server is now known to trickle."""
        if retry_after is not None and retry_after <= 2 * self._spacing and retry_after < next_release:
            if self._bouts == 0 or self._replies > self.REPLIES_BETWEEN:
                self._bouts = 1
            elif self._replies:
                self._bouts += 1
            self._replies = 0
        return self._bouts >= self.BOUTS


class Quota:
    """The guard and what stands around it, for one run.

    Its one dispatcher awaits ``admit`` before each request, and each request gets one verdict after it: ``answered``,
    ``throttled``, ``lost`` or ``unsent``.

    Time is the running event loop's, so that a test's virtual clock reaches aiolimiter too.
    """

    def __init__(self, guard: WindowGuard, *, burst: int | None = None, concurrency: int = 16) -> None:
        rate = guard.rate
        burst = burst or rate.limit
        self._guard = guard
        self._spacing = rate.spacing
        self._burst = burst
        self._bucket = AsyncLimiter(burst, burst * self._spacing)
        self._flight = FlightWindow(concurrency)
        self._trickle = TrickleDetector(rate)
        self._gate_opens_at = -inf
        self._latency = TYPICAL_LATENCY  # then a moving average
        self._changed = asyncio.Event()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def admit(self) -> float:
        """Wait until one request may leave; returns the time it does, to be handed to the verdict.

        A cancelled wait holds no slot.
        """
        while (pause := self._pause()) > 0:
            await self._change_within(POLL if pause == inf else pause)
        self._guard.take(self._now)
        self._flight.in_flight += 1
        try:
            await self._bucket.acquire()
            while self.paused or self._flight.in_flight > self._flight.size:
                await self._change_within(self._gate_opens_at - self._now if self.paused else None)
        except BaseException:
            self.unsent()
            raise
        return self._now

    def _pause(self) -> float:
        return self._guard.wait(self._now) if self._flight.has_room() else inf

    async def _change_within(self, seconds: float | None) -> None:
        """Until a verdict comes in, or ``seconds`` have passed, if any are given."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def answered(self, sent_at: float, *, healthy: bool = True) -> None:
        """A reply other than a 429 came; the flight window grows with those that show a ``healthy`` server."""
        self._guard.answered(self._now)
        self._latency += 0.2 * (self._now - sent_at - self._latency)
        self._trickle.reply()
        if healthy:
            self._flight.grow()
        self._landed()

    def lost(self) -> None:
        """No reply: the request may still be counted, and whatever lost it may lose more."""
        self._guard.lost(self._now)
        self._flight.collapse()
        self._landed()

    def unsent(self) -> None:
        """The request provably never left."""
        self._guard.unsent()
        self._landed()

    def throttled(self, retry_after: float | None) -> None:
        """A 429 came, asking for ``retry_after`` seconds (None without a readable header); `pause` comes next."""
        now = self._now
        next_release = self._guard.next_release(now)
        self._guard.answered(now)
        if self._trickle.refusal(retry_after, next_release) and self._burst > 1:
            self._burst = 1
            self._bucket = AsyncLimiter(1, self._spacing)
        self._landed()

    def pause(self, seconds: float) -> None:
        """Close the gate for everybody, and begin with a canary when it opens."""
        self._gate_opens_at = max(self._gate_opens_at, self._now + seconds)
        self._flight.collapse()

    @property
    def paused(self) -> bool:
        """Whether the gate is closed."""
        return self._gate_opens_at > self._now

    def _landed(self) -> None:
        self._flight.in_flight -= 1
        self._changed.set()

    def plan(self, count: int) -> float:
        """Seconds until the replies of ``count`` more requests are there: the quota's plan, not an average rate."""
        gate = max(0.0, self._gate_opens_at - self._now)
        return max(gate, plan(self._guard, self._now, count, self._burst, self._flight.ceiling, self._latency))


def plan(
    guard: WindowGuard, now: float, count: int, burst: int, concurrency: int, latency: float = TYPICAL_LATENCY
) -> float:
    """Seconds until ``count`` requests from ``now`` on have their replies, each after ``latency`` seconds."""
    if count <= 0:
        return 0.0
    return latency + max(
        guard.departure(now, count, latency),
        (count - burst) * guard.rate.spacing,
        (count - 1) // concurrency * latency,
    )


_guards: dict[bytes, WindowGuard] = {}


def quota_for(settings: Settings) -> Quota:
    """The quota of one run; all runs of one organization in this process share one guard.

    So a notebook that issues for two depots in a row keeps the organization's limit. Runs count as one
    organization's if base URL, API token and rate are the same; all of them in one thread.
    """
    key = hashlib.sha256(f"{settings.base_url}\n{settings.api_token.reveal()}\n{settings.rate}".encode()).digest()
    guard = _guards.setdefault(key, WindowGuard(settings.rate))
    return Quota(guard, burst=settings.burst, concurrency=settings.concurrency)
