"""Models on the event loop's clock, for virtual time.

A server with the sandbox's limiters, any latency and any script; drivers to send; leases that may be unavailable.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_issuer.errors import QuotaBrokenError, QuotaError
from batch_issuer.model import Driver, Identifier, IdentifierKind, Reply
from batch_issuer.pipeline.attempts import Attempts
from batch_issuer.quota import MemoryLeases
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_issuer.quota import Permit, Quota
    from batch_issuer.quota.leases import Answer, Budget
    from batch_issuer.quota.memory_leases import Guard
    from batch_issuer.sandbox import Limiter

LATE = datetime(2030, 1, 1, tzinfo=UTC)
P = 60.0
RATE = Rate(100, P)

AWAY = QuotaError("the quota server is unavailable", "start it")
BROKEN = QuotaBrokenError("the quota file is damaged", "delete it")


class ModelServer:
    """A `TokenIssuer`.

    limiter: decides about each request on arrival.
    latency: returns the seconds to and from the server for the next request.
    script: the next replies, None for a token; after them, all are tokens. A 429 of the limiter replaces a reply.
    """

    def __init__(
        self,
        limiter: Limiter,
        latency: Callable[[], tuple[float, float]] = lambda: (0.05, 0.05),
        script: Iterable[Reply | None] = (),
        *,
        with_retry_after: bool = True,
    ) -> None:
        self._limiter, self._latency, self._script = limiter, latency, iter(script)
        self._with_retry_after = with_retry_after
        self.arrivals: list[float] = []  # seconds, of all counted requests
        self.refusals = 0
        self.replies: list[Reply] = []  # all received ones
        self.issued: dict[str, list[tuple[str, str]]] = {}  # identifier → (code, token), in order
        self.in_flight = self.most_in_flight = 0

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        inward, outward = self._latency()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(inward)
            reply = self._decide(identifier, code)
            await asyncio.sleep(outward)
            reply = replace(reply)  # a copy, because the script may repeat a reply
            self.replies.append(reply)
            return reply
        finally:
            self.in_flight -= 1

    def _decide(self, identifier: Identifier, code: str) -> Reply:
        scripted = next(self._script, None)
        if scripted is not None and not scripted.left:
            return scripted
        now = asyncio.get_running_loop().time()
        self.arrivals.append(now)
        wait = self._limiter.admit(now)
        if wait is not None:
            self.refusals += 1
            return Reply(429, message="HTTP 429", retry_after=wait if self._with_retry_after else None)
        if scripted is not None:
            return scripted
        token = f"token-{identifier.value}-{len(self.arrivals)}"
        self.issued.setdefault(str(identifier), []).append((code, token))
        return Reply(200, token=token, expires_at=LATE)

    def peak(self, period: float) -> int:
        return peak(self.arrivals, period)


def peak(times: list[float], period: float) -> int:
    """The most of ``times`` in any window [t, t + period)."""
    times = sorted(times)
    return max((sum(1 for at in times[first:] if at < times[first] + period) for first in range(len(times))), default=0)


def drivers(count: int) -> list[Driver]:
    return [Driver(row, Identifier(IdentifierKind.DRIVER_ID, str(1000 + row))) for row in range(2, count + 2)]


def attempts(count: int) -> list[Attempts]:
    return [Attempts(driver) for driver in drivers(count)]


async def send_all(quota: Quota, server: ModelServer, count: int) -> list[float]:
    """Send ``count`` requests, each once as soon as it is admitted, and wait for their replies.

    Returns:
        The times of sending, in seconds of the loop's clock.
    """

    async def one(permit: Permit, identifier: Identifier) -> None:
        reply = await server.issue(identifier, "code")
        if reply.status == 429:
            quota.throttled(permit, reply.retry_after, reply.retry_after or 1.0)
        else:
            quota.answered(permit)

    tasks, sent = [], []
    for number, driver in enumerate(drivers(count)):
        permit = await quota.admit(count - number)
        sent.append(permit.sent_at)
        tasks.append(asyncio.create_task(one(permit, driver.identifier)))
    await asyncio.gather(*tasks)
    return sent


class TroubledLeases(MemoryLeases):
    """Leases as if shared with other processes: ``trouble`` returns why they are unavailable, or None."""

    def __init__(self, rate: Rate, trouble: Callable[[float], QuotaError | None], guard: Guard | None = None) -> None:
        super().__init__(rate, guard)
        self._trouble = trouble
        self.closed = False

    async def acquire(self, waiting: int) -> Answer:
        self._raise_trouble()
        return await super().acquire(waiting)

    async def snapshot(self) -> Budget:
        self._raise_trouble()
        return await super().snapshot()

    async def close(self) -> None:
        await super().close()
        self.closed = True

    def _raise_trouble(self) -> None:
        trouble = self._trouble(asyncio.get_running_loop().time())
        if trouble is not None:
            raise trouble
