"""A server as a model on the event loop's clock, for virtual time: the sandbox's limiters, any latency, any script."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_issuer.model import Driver, Identifier, IdentifierKind, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_issuer.sandbox import Limiter

LATE = datetime(2030, 1, 1, tzinfo=UTC)


class ModelServer:
    """A `TokenIssuer`.

    limiter: decides about each request when it arrives.
    latency: gives the seconds inward and outward of the next request.
    script: the next replies, None for a token; then all are tokens. A 429 of the limiter takes the place of one.
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
        self.arrivals: list[float] = []  # seconds, of all requests that were counted
        self.refusals = 0
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
