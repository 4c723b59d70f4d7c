"""A server, a client and the randomness of one seed on the virtual clock, for the benchmarks of the quota."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from aiolimiter import AsyncLimiter
from clients import Server, limiter_around, official_sdk

from batch_issuer.model import Identifier, IdentifierKind, Reply
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import MemoryLeases, Quota
from batch_issuer.sandbox import make_limiter
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

sys.path.append(str(Path(__file__).parents[1]))
from support import clock as virtual_clock
from support.model_server import ModelServer, drivers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from batch_issuer.sandbox import Limiter

P = 60.0
RATE = Rate(100, P)
LIMITERS = ("fixed", "sliding", "sliding-strict", "bucket", "gcra", "counter", "counter-strict")
NEVER_REFUSE = LIMITERS[:4]
"""Servers that never refuse clients within the documented limit."""

TRIES = 10
"""Attempts of a snippet for each driver."""

OTHER_RATE = 40
"""Requests of the other client in each P."""


# --- cases and results


@dataclass(frozen=True, slots=True)
class Case:
    """A server, and the drivers to send.

    limiter, count, retry_after: the server, the number of drivers, whether its 429s have a Retry-After.
    overloaded: the share of replies that are 429s of an overload, with ``overload_retry_after`` seconds.
    stalls: the share of requests that take 1 to 20 s.
    other: another client of the same quota, a key of `OTHERS`.
    latency: the least and the most seconds of the other requests.
    tries: attempts of the snippets for each driver.
    """

    limiter: str
    count: int = 250
    retry_after: bool = True
    overloaded: float = 0.0
    overload_retry_after: float | None = None
    stalls: float = 0.0
    other: str = ""
    latency: tuple[float, float] = (0.01, 0.3)
    tries: int = TRIES

    def __str__(self) -> str:
        text = f"{self.limiter}{'' if self.retry_after else ', no Retry-After'}"
        if self.overloaded:
            asks = (
                "no Retry-After"
                if self.overload_retry_after is None
                else f"Retry-After {self.overload_retry_after:g} s"
            )
            text = f"{self.overloaded:.0%} overloaded, {asks}"
        if self.stalls:
            text += f", {self.stalls:.0%} of the requests stall" if self.stalls < 1 else ", all requests stall"
        return f"{text}, {self.other}" if self.other else text


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one client with one seed.

    took, tokens, refused: periods until its end, its tokens, its 429s.
    throttled: the 429s of the limiter; all others are from an overload.
    best: periods of an omniscient client.
    other_served: tokens of the other client per period.
    arrivals: seconds from the start at which its requests reached the server, including those with a 429.
    """

    took: float
    tokens: int
    refused: int
    throttled: int
    best: float
    other_served: float = 0.0
    arrivals: tuple[float, ...] = ()


# --- the server of a case, on the virtual clock


class Shifted:
    """A limiter with a clock that is ahead."""

    def __init__(self, limiter: Limiter, by: float) -> None:
        self._limiter, self._by = limiter, by

    def admit(self, now: float) -> float | None:
        return self._limiter.admit(now + self._by)


class World:
    """The server, the other client, and the randomness of one seed."""

    def __init__(self, case: Case, seed: int, limit: int = RATE.limit) -> None:
        self.case = case
        self.random = random.Random(seed)
        burst = RATE.limit if case.limiter == "bucket" else None
        self.limiter = Shifted(make_limiter(case.limiter, limit, P, burst), self.random.uniform(P, 2 * P))
        self.server = ModelServer(self.limiter, self._latency, self._overload(), with_retry_after=case.retry_after)
        self.other_counted = self.other_served = 0

    def _latency(self) -> tuple[float, float]:
        stalls = self.random.random() < self.case.stalls
        latency, share = self.random.uniform(*((1.0, 20.0) if stalls else self.case.latency)), self.random.random()
        return latency * share, latency * (1 - share)

    def _overload(self) -> Iterator[Reply | None]:
        reply = Reply(429, message="HTTP 429", retry_after=self.case.overload_retry_after)
        while True:
            yield reply if self.random.random() < self.case.overloaded else None

    async def post(self, driver: int) -> Reply:
        return await self.server.issue(Identifier(IdentifierKind.DRIVER_ID, str(driver)), "code")

    def other_requests(self) -> float | None:
        """Send a request of the other client; returns the seconds to wait if it was refused."""
        wait = self.limiter.admit(now())
        self.other_served += wait is None
        self.other_counted += wait is None or self.case.limiter.endswith("-strict")
        return wait if wait is None or self.case.retry_after else 1.0

    async def other_retries(self) -> None:
        """Send a request of the other client until it succeeds."""
        while True:
            wait = self.other_requests()
            if wait is None:
                return
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def other_running(self) -> AsyncIterator[None]:
        """Run the other client, if any, from some time before."""
        if not self.case.other:
            yield
            return
        task = asyncio.create_task(OTHERS[self.case.other](self))
        await asyncio.sleep(self.random.uniform(P, 2 * P))
        self.other_counted = self.other_served = 0
        yield
        task.cancel()


async def steady(world: World) -> None:
    """Sends evenly, without retries."""
    while True:
        await asyncio.sleep(P / OTHER_RATE)
        world.other_requests()


async def persistent(world: World) -> None:
    """Sends evenly, and retries."""
    while True:
        await asyncio.sleep(P / OTHER_RATE)
        await world.other_retries()


async def bursty(world: World) -> None:
    """Sends its share at once with retries, then pauses for P."""
    while True:
        for _ in range(OTHER_RATE):
            await world.other_retries()
        await asyncio.sleep(P)


OTHERS = {"steady": steady, "persistent": persistent, "bursty": bursty}


def now() -> float:
    return asyncio.get_running_loop().time()


# --- the clients


async def ours(world: World) -> None:
    settings, quota = Settings(api_token=Secret("none"), rate=RATE), Quota(MemoryLeases(RATE))
    await Run(drivers(world.case.count), settings, world.server, quota, uniform=world.random.uniform).run()


async def burst_snippet(world: World) -> None:
    await limiter_around(world.post, world.case.count, AsyncLimiter(RATE.limit, P), tries=world.case.tries)


async def paced_snippet(world: World) -> None:
    await limiter_around(world.post, world.case.count, AsyncLimiter(1, RATE.spacing), tries=world.case.tries)


async def sdk(world: World) -> None:
    random.seed(world.random.random())  # the SDK's own jitter
    await official_sdk(Server("http://127.0.0.1", "none"), world.case.count, ToModel(world))


class ToModel(httpx.AsyncBaseTransport):
    """Passes the SDK's requests to the model server."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reply = await self._world.post(json.loads(request.content)["driverId"])
        if reply.status == 200:
            return httpx.Response(200, json={"data": {"token": reply.token, "expirationTime": 1}})
        headers = {} if reply.retry_after is None else {"Retry-After": f"{reply.retry_after:.5f}"}
        return httpx.Response(429, headers=headers, json={"message": reply.message})


OURS = "ours"
BURST = f"`AsyncLimiter({RATE.limit}, P)`"
PACED = f"`AsyncLimiter(1, P/{RATE.limit})`"
SDK = "official SDK"
CLIENTS: dict[str, Callable[[World], Awaitable[None]]] = {
    OURS: ours,
    BURST: burst_snippet,
    PACED: paced_snippet,
    SDK: sdk,
}


def omniscient(limiter: Limiter, count: int, start: float = 0.0) -> float:
    """Seconds if each request leaves as soon as the server accepts it."""
    at = start
    for _ in range(count):
        while (wait := deepcopy(limiter).admit(at)) is not None:
            at += wait
        limiter.admit(at)
    return at - start


def measure(case: Case, client: str, seed: int) -> Result:
    async def main() -> Result:
        world = World(case, seed)
        async with world.other_running():
            started = now()
            await CLIENTS[client](world)
            took = (now() - started) / P
        tokens = sum(len(issued) for issued in world.server.issued.values())
        refused, throttled = len(world.server.arrivals) - tokens, world.server.refusals
        left = max(1, RATE.limit - round(world.other_counted / took))
        best = omniscient(World(case, seed, left).limiter, case.count) / P
        arrivals = tuple(at - started for at in world.server.arrivals)
        return Result(took, tokens, refused, throttled, best, world.other_served / took, arrivals)

    return virtual_clock.run(main())
