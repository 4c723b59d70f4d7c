"""How close is batch-issuer to the optimum with different rate limiters?

    .venv/bin/python tests/benchmarks/servers.py             (virtual clock, 100 requests a minute)
    .venv/bin/python tests/benchmarks/servers.py --sockets   (the command and real sockets, 100 requests per 6 s)

It is compared with an omniscient client, which knows the server's state and has no latency; with `AsyncLimiter` around
a request and the usual retry (ten attempts; after a 429 it waits as asked, or 1 s); and with the official SDK. Each
seed draws other latencies and another start of the server's windows. If another client uses the same quota, the
omniscient client has a server of its own, with a limit reduced by the counted requests of that client.

Prints Markdown tables: time from the start to the last token in periods P, mean and worst of the seeds; 429s, mean and
worst; whether the mean is within the limit, and how many seeds are not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from math import ceil
from statistics import mean
from typing import TYPE_CHECKING

from clients import sandbox, this_tool
from worlds import (
    CLIENTS,
    LIMITERS,
    NEVER_REFUSE,
    OTHER_RATE,
    OTHERS,
    OURS,
    RATE,
    SDK,
    Case,
    Result,
    measure,
    omniscient,
)

from batch_issuer.sandbox import make_limiter

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = 20
SDK_SEEDS = 5
"""The official SDK is slow, and its results vary little."""

SOCKET_RUNS = 3


# --- the tables


def limits(case: Case) -> tuple[float | None, int | None]:
    """The most periods and 429s allowed; None without a limit."""
    if case.other:
        return None, None
    if case.stalls:
        return None, 0
    if case.overloaded:
        return 2.3, None
    if case.limiter in NEVER_REFUSE or (case.count <= 100 and case.limiter != "gcra"):
        return (0.05 if case.count <= 100 else (ceil(case.count / 100) - 1) * 1.02 + 0.06), 0
    if case.count != 250:
        return None, None
    match case.limiter, case.retry_after:
        case "gcra", True:
            return 2.55, 12
        case "counter", _:
            return 2.55, 20
        case _:
            return 3.0, None


def measured(pool: ProcessPoolExecutor, cases: list[Case]) -> Iterator[tuple[Case, dict[str, list[Result]]]]:
    """The results of each case, by client and seed."""
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
    heads += [*(["other client"] if cases[0].other else []), "within the limit"]
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
    """Whether the means are within the limits, and how many seeds are not."""
    if any(result.tokens != case.count for result in results):
        return "NO: not all tokens"
    if case.overloaded and any(result.throttled for result in results):
        return "NO: 429s of the limiter"
    most, most_refused = limits(case)
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
    print(f"{SEEDS} seeds, {SDK_SEEDS} for the SDK. Other clients: periods, or tokens if not all; 429s.")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count in (100, 250, 1000):
            cases = [Case(limiter, count, retry_after) for limiter in LIMITERS for retry_after in (True, False)]
            print_table(f"Every server, {count} drivers, latency 10 to 300 ms:", cases, pool)
        waits = (0.25, 1.0, None)
        cases = [Case("sliding", overloaded=0.03, overload_retry_after=wait) for wait in waits]
        print_table("An overloaded server (sliding log):", cases, pool)
        cases = [Case(limiter, stalls=share) for share in (0.03, 1.0) for limiter in NEVER_REFUSE]
        print_table("Stalls of 1 to 20 s:", cases, pool)
        for retry_after in (True, False):
            cases = [Case(limiter, retry_after=retry_after, other=other) for limiter in LIMITERS for other in OTHERS]
            print_table(f"Another client uses {OTHER_RATE} % of the quota:", cases, pool)


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

    cases = [Case(limiter, retry_after=retry_after) for limiter in LIMITERS for retry_after in (True, False)]
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
