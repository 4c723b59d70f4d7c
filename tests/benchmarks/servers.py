"""How near is this tool to the best possible, whatever way the server limits the rate?

    .venv/bin/python tests/benchmarks/servers.py             (virtual clock, 100 requests a minute)
    .venv/bin/python tests/benchmarks/servers.py --sockets   (the command and real sockets, 100 requests per 6 s)

Beside it: an omniscient client, which knows the server's state and has no latency; `AsyncLimiter` around a request,
with the retry that one writes next (`TRIES` tries, after a 429 it waits as asked, or 1 s); the official SDK. Each seed
draws other latencies, and another moment for the server's windows to start. Where another client uses the same quota,
the omniscient one has a server to itself whose limit is less by what was counted of that other client beside ours.

Prints Markdown tables: completion from the start to the last token in periods P, mean and worst of the seeds; 429s,
mean and worst; whether the mean is within the limit that the project set itself, and how many seeds are not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import httpx
from aiolimiter import AsyncLimiter
from clients import Server, limiter_around, official_sdk, sandbox, this_tool

from batch_issuer.model import Identifier, IdentifierKind, Rate, Reply, Secret, Settings
from batch_issuer.quota import MemoryLeases, Quota
from batch_issuer.runner import Run
from batch_issuer.sandbox import make_limiter

sys.path.append(str(Path(__file__).parents[1]))
import virtual_clock
from model_server import ModelServer, drivers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from batch_issuer.sandbox import Limiter

P = 60.0
RATE = Rate(100, P)
LIMITERS = ("fixed", "sliding", "sliding-strict", "bucket", "gcra", "counter", "counter-strict")
NEVER_REFUSE = LIMITERS[:4]
"""Servers that let every client through that keeps within the documented limit."""

SEEDS = 20
SDK_SEEDS = 5
"""The official SDK takes its time, and hardly depends on luck."""

SOCKET_RUNS = 3

TRIES = 10
OTHER_RATE = 40
"""Requests that the other client wants each P."""


# --- what is measured


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table.

    limiter, count, retry_after: the server, how many tokens are wanted, whether its 429s say how long to wait.
    overloaded: this share of the replies is a 429 all the same, which asks for ``overload_asks`` seconds.
    stalls: this share of the requests takes 1 to 20 s.
    other: another client of the same quota, a key of `OTHERS`.
    """

    limiter: str
    count: int = 250
    retry_after: bool = True
    overloaded: float = 0.0
    overload_asks: float | None = None
    stalls: float = 0.0
    other: str = ""

    def __str__(self) -> str:
        text = f"{self.limiter}{'' if self.retry_after else ', no Retry-After'}"
        if self.overloaded:
            asks = "no Retry-After" if self.overload_asks is None else f"Retry-After {self.overload_asks:g} s"
            text = f"{self.overloaded:.0%} overloaded, {asks}"
        if self.stalls:
            text += f", {self.stalls:.0%} of the requests stall" if self.stalls < 1 else ", all requests stall"
        return f"{text}, {self.other}" if self.other else text

    def limits(self) -> tuple[float | None, int | None]:
        """The most periods and the most 429s allowed, where such a limit is set."""
        if self.other:
            return None, None
        if self.stalls:
            return None, 0
        if self.overloaded:
            return 2.3, None
        if self.limiter in NEVER_REFUSE or (self.count <= 100 and self.limiter != "gcra"):
            return (0.05 if self.count <= 100 else (ceil(self.count / 100) - 1) * 1.02 + 0.06), 0
        if self.count != 250:
            return None, None
        match self.limiter, self.retry_after:
            case "gcra", True:
                return 2.55, 12
            case "counter", _:
                return 2.55, 20
            case _:
                return 3.0, None


@dataclass(frozen=True, slots=True)
class Result:
    """What one client came to with one seed.

    took, tokens, refused: periods until it was through, tokens it got, 429s.
    spurned: the 429s that are the limiter's; all others are an overload's.
    best: periods an omniscient client takes.
    other_served: tokens that the other client got, each period.
    """

    took: float
    tokens: int
    refused: int
    spurned: int
    best: float
    other_served: float = 0.0


# --- the server of a case, on the virtual clock


class Shifted:
    """A limiter by whose clock it is later."""

    def __init__(self, limiter: Limiter, by: float) -> None:
        self._limiter, self._by = limiter, by

    def admit(self, now: float) -> float | None:
        return self._limiter.admit(now + self._by)


class World:
    """The server, the other client, and the luck of one seed."""

    def __init__(self, case: Case, seed: int, limit: int = RATE.limit) -> None:
        self.case = case
        self.random = random.Random(seed)
        burst = RATE.limit if case.limiter == "bucket" else None
        self.limiter = Shifted(make_limiter(case.limiter, limit, P, burst), self.random.uniform(P, 2 * P))
        self.server = ModelServer(self.limiter, self._latency, self._overload(), with_retry_after=case.retry_after)
        self.other_counted = self.other_served = 0

    def _latency(self) -> tuple[float, float]:
        stalls = self.random.random() < self.case.stalls
        latency, share = self.random.uniform(*((1.0, 20.0) if stalls else (0.01, 0.3))), self.random.random()
        return latency * share, latency * (1 - share)

    def _overload(self) -> Iterator[Reply | None]:
        reply = Reply(429, message="HTTP 429", retry_after=self.case.overload_asks)
        while True:
            yield reply if self.random.random() < self.case.overloaded else None

    async def post(self, driver: int) -> Reply:
        return await self.server.issue(Identifier(IdentifierKind.DRIVER_ID, str(driver)), "code")

    def other_asks(self) -> float | None:
        """One request of the other client; the seconds to wait if it was refused."""
        wait = self.limiter.admit(now())
        self.other_served += wait is None
        self.other_counted += wait is None or self.case.limiter.endswith("-strict")
        return wait if wait is None or self.case.retry_after else 1.0

    async def other_insists(self) -> None:
        """The same, again until it is served."""
        while True:
            wait = self.other_asks()
            if wait is None:
                return
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def other_at_work(self) -> AsyncIterator[None]:
        """The other client has been there for some time, and goes on."""
        if not self.case.other:
            yield
            return
        task = asyncio.create_task(OTHERS[self.case.other](self))
        await asyncio.sleep(self.random.uniform(P, 2 * P))
        self.other_counted = self.other_served = 0
        yield
        task.cancel()


async def steady(world: World) -> None:
    """Asks evenly, and does without what is refused."""
    while True:
        await asyncio.sleep(P / OTHER_RATE)
        world.other_asks()


async def persistent(world: World) -> None:
    """Asks evenly, and insists."""
    while True:
        await asyncio.sleep(P / OTHER_RATE)
        await world.other_insists()


async def bursty(world: World) -> None:
    """Insists on its share at once, then rests for P."""
    while True:
        for _ in range(OTHER_RATE):
            await world.other_insists()
        await asyncio.sleep(P)


OTHERS = {"steady": steady, "persistent": persistent, "bursty": bursty}


def now() -> float:
    return asyncio.get_running_loop().time()


# --- the clients


async def ours(world: World) -> None:
    run = Run(drivers(world.case.count), Settings(api_token=Secret("none"), rate=RATE), uniform=world.random.uniform)
    async for _ in run.outcomes(world.server, Quota(MemoryLeases(RATE))):
        pass


async def burst_snippet(world: World) -> None:
    await limiter_around(world.post, world.case.count, AsyncLimiter(RATE.limit, P), tries=TRIES)


async def paced_snippet(world: World) -> None:
    await limiter_around(world.post, world.case.count, AsyncLimiter(1, RATE.spacing), tries=TRIES)


async def sdk(world: World) -> None:
    random.seed(world.random.random())  # the SDK's own jitter
    await official_sdk(Server("http://127.0.0.1", "none"), world.case.count, ToModel(world))


class ToModel(httpx.AsyncBaseTransport):
    """What the SDK sends, the model answers."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reply = await self._world.post(json.loads(request.content)["driverId"])
        if reply.status == 200:
            return httpx.Response(200, json={"data": {"token": reply.token, "expirationTime": 1}})
        headers = {} if reply.retry_after is None else {"Retry-After": f"{reply.retry_after:.5f}"}
        return httpx.Response(429, headers=headers, json={"message": reply.message})


OURS = "ours"
SDK = "official SDK"
CLIENTS: dict[str, Callable[[World], Awaitable[None]]] = {
    OURS: ours,
    f"`AsyncLimiter({RATE.limit}, P)`": burst_snippet,
    f"`AsyncLimiter(1, P/{RATE.limit})`": paced_snippet,
    SDK: sdk,
}


def omniscient(limiter: Limiter, count: int, start: float = 0.0) -> float:
    """Seconds, if each request leaves as soon as the server would let it through."""
    at = start
    for _ in range(count):
        while (wait := deepcopy(limiter).admit(at)) is not None:
            at += wait
        limiter.admit(at)
    return at - start


def measure(case: Case, client: str, seed: int) -> Result:
    async def main() -> Result:
        world = World(case, seed)
        async with world.other_at_work():
            started = now()
            await CLIENTS[client](world)
            took = (now() - started) / P
        tokens = sum(len(issued) for issued in world.server.issued.values())
        refused, spurned = len(world.server.arrivals) - tokens, world.server.refusals
        left = max(1, RATE.limit - round(world.other_counted / took))
        best = omniscient(World(case, seed, left).limiter, case.count) / P
        return Result(took, tokens, refused, spurned, best, world.other_served / took)

    return virtual_clock.run(main())


# --- the tables


def measured(pool: ProcessPoolExecutor, cases: list[Case]) -> Iterator[tuple[Case, dict[str, list[Result]]]]:
    """Each case with all clients and seeds."""
    futures = {
        case: {
            client: [pool.submit(measure, case, client, seed) for seed in range(SDK_SEEDS if client == SDK else SEEDS)]
            for client in CLIENTS
        }
        for case in cases
    }
    for case, clients in futures.items():
        yield case, {client: [future.result() for future in seeds] for client, seeds in clients.items()}


def print_table(title: str, cases: list[Case], pool: ProcessPoolExecutor) -> None:
    compared = [client for client in CLIENTS if client != OURS]
    heads = ["server", "N", "ours", "worst", "429s", "worst", "omniscient", *compared]
    heads += [*(["the other got"] if cases[0].other else []), "within the limit"]
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for case, results in measured(pool, cases):
        mine = results[OURS]
        cells = our_cells(case, mine) + [compared_cell(case, results[client]) for client in compared]
        if case.other:
            cells.append(f"{mean(result.other_served for result in mine):.0f} a P")
        print(f"| {' | '.join([*cells, verdict(case, mine)])} |", flush=True)


def our_cells(case: Case, results: list[Result]) -> list[str]:
    took, refused = [result.took for result in results], [result.refused for result in results]
    best = mean(result.best for result in results)
    cells = [f"{mean(took):.2f}", f"{max(took):.2f}", f"{mean(refused):.3g}", str(max(refused)), f"{best:.2f}"]
    return [str(case), str(case.count), *cells]


def compared_cell(case: Case, results: list[Result]) -> str:
    tokens = mean(result.tokens for result in results)
    took = f"{mean(result.took for result in results):.2f}" if tokens == case.count else f"{tokens:.4g} tokens"
    return f"{took}; {mean(result.refused for result in results):.0f}"


def verdict(case: Case, results: list[Result]) -> str:
    """Of the means; the worst seed gets a word."""
    if any(result.tokens != case.count for result in results):
        return "NO: not all tokens"
    if case.overloaded and any(result.spurned for result in results):
        return "NO: 429s that nobody sent unasked"
    most, most_refused = case.limits()
    words = []
    if case.other:
        words.append(judged([result.took / result.best for result in results], 1.3, "≤ 1.3 times the omniscient"))
    if most is not None:
        words.append(judged([result.took for result in results], most, f"≤ {most:.2f} P"))
    if most_refused is not None:
        words.append(judged([result.refused for result in results], most_refused, f"≤ {most_refused} 429s"))
    return "; ".join(words) or "(no limit set)"


def judged(values: list[float] | list[int], most: float, limit: str) -> str:
    if mean(values) > most:
        return f"NO ({limit})"
    exceeding = sum(value > most for value in values)
    return f"yes ({limit}{f', but not {exceeding} of {len(values)}' if exceeding else ''})"


def on_virtual_clock() -> None:
    print(f"{SEEDS} seeds, {SDK_SEEDS} for the SDK. Other clients: periods, or tokens if they did not get all; 429s.")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count in (100, 250, 1000):
            cases = [Case(limiter, count, asks) for limiter in LIMITERS for asks in (True, False)]
            print_table(f"Every server, {count} drivers, latency 10 to 300 ms:", cases, pool)
        asks_of_overload = (0.25, 1.0, None)
        cases = [Case("sliding", overloaded=0.03, overload_asks=asks) for asks in asks_of_overload]
        print_table("An overloaded server (sliding log):", cases, pool)
        cases = [Case(limiter, stalls=share) for share in (0.03, 1.0) for limiter in NEVER_REFUSE]
        print_table("Stalls of 1 to 20 s:", cases, pool)
        for asks in (True, False):
            cases = [Case(limiter, retry_after=asks, other=other) for limiter in LIMITERS for other in OTHERS]
            print_table(f"Another client takes {OTHER_RATE} % of the quota:", cases, pool)


# --- over real sockets


async def over_sockets(per: float = 6.0, at_a_time: int = 4) -> None:
    turns = asyncio.Semaphore(at_a_time)

    async def one(case: Case) -> Result:
        options = ["--limiter", case.limiter, "--per", f"{per:.3f}s", "--latency", "1ms-30ms"]
        async with turns:
            with sandbox(*options, *([] if case.retry_after else ["--no-retry-after"])) as server:
                await this_tool(server, case.count, per)
                ledger = await asyncio.to_thread(server.ledger)
        served = {entry["identifier"]: entry["at"] for entry in ledger if entry["status"] == 200}
        started = ledger[0]["at"]
        took = max(served.values()) - started
        best = omniscient(make_limiter(case.limiter, RATE.limit, per), case.count, started)
        refused = sum(entry["status"] == 429 for entry in ledger)
        return Result(took / per, len(served), refused, refused, best / per)

    cases = [Case(limiter, retry_after=asks) for limiter in LIMITERS for asks in (True, False)]
    runs = await asyncio.gather(*(one(case) for case in cases for _ in range(SOCKET_RUNS)))
    print(f"The command, {SOCKET_RUNS} runs, P = {per:g} s, latency 1 to 30 ms, from first request to last token:\n")
    heads = ["server", "N", "ours", "worst", "429s", "worst", "omniscient", "within the limit"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for number, case in enumerate(cases):
        mine = runs[number * SOCKET_RUNS :][:SOCKET_RUNS]
        print(f"| {' | '.join([*our_cells(case, mine), verdict(case, mine)])} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--virtual", action="store_true", help="on the virtual clock (the default)")
    kinds.add_argument("--sockets", action="store_true", help="the command over real sockets")
    if parser.parse_args().sockets:
        asyncio.run(over_sockets())
    else:
        on_virtual_clock()
