"""How many of 250 tokens, how soon, and how many 429s: batch-issuer and its alternatives.

    .venv/bin/python tests/benchmarks/quota.py            (2 to 3 minutes, at Samsara's rate)
    .venv/bin/python tests/benchmarks/quota.py --per 6s   (ten times faster)

Each client has its own sandbox process (sliding window, 100 requests a period, 100 ms latency). For 100 drivers the
clients run one after another, because seconds count; for 250, all at the same time. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
from aiolimiter import AsyncLimiter
from clients import CODE, Server, limiter_around, official_sdk, sandbox, this_tool

from batch_issuer.model import Reply
from batch_issuer.settings.durations import seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def sdk(server: Server, count: int, _per: float) -> None:
    await official_sdk(server, count)


async def snippet(server: Server, count: int, limiter: AsyncLimiter) -> None:
    """No retries."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.api_token}"}) as session:

        async def post(driver: int) -> Reply:
            body = {"code": CODE, "driverId": driver}
            async with session.post(f"{server.url}/fleet/drivers/auth-token", json=body) as reply:
                await reply.read()
                return Reply(reply.status)

        await limiter_around(post, count, limiter)


async def burst_snippet(server: Server, count: int, per: float) -> None:
    await snippet(server, count, AsyncLimiter(100, per))


async def paced_snippet(server: Server, count: int, per: float) -> None:
    await snippet(server, count, AsyncLimiter(1, per / 100))


CLIENTS: dict[str, Callable[[Server, int, float], Awaitable[None]]] = {
    "batch-issuer": this_tool,
    "official SDK, `asyncio.gather`": sdk,
    "`AsyncLimiter(100, 60)` around a POST": burst_snippet,
    "`AsyncLimiter(1, 0.6)` around a POST": paced_snippet,
}


async def measure(name: str, count: int, per: float) -> tuple[str, int, float, int]:
    """Tokens, seconds and 429s of one client."""
    with sandbox("--latency", "100ms", "--per", f"{per:.3f}s") as server:
        started = time.monotonic()
        await CLIENTS[name](server, count, per)
        took = time.monotonic() - started
        ledger = await asyncio.to_thread(server.ledger)
    tokens = len({entry["identifier"] for entry in ledger if entry["status"] == 200})
    return name, tokens, took, sum(1 for entry in ledger if entry["status"] == 429)


async def main(per: float) -> None:
    for count in (100, 250):
        if count == 100:
            measured = [await measure(name, count, per) for name in CLIENTS]
        else:
            measured = await asyncio.gather(*(measure(name, count, per) for name in CLIENTS))
        ours = measured[0][2]
        print(f"\n{count} drivers, 100 requests per {per:g} s:\n")
        print("| client | tokens | 429s | time | time / ours |\n|---|---|---|---|---|")
        for name, tokens, took, refused in measured:
            print(f"| {name} | {tokens} of {count} | {refused} | {took:.1f} s | {took / ours:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per", type=seconds, default=60.0, help="the quota's period (default: 60s)")
    asyncio.run(main(parser.parse_args().per))
