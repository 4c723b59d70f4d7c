"""How many tokens of 250, how soon, how many 429s: this tool beside what a user would otherwise run.

    .venv/bin/python tests/benchmarks/quota.py            (2 to 3 minutes, at Samsara's true rate)
    .venv/bin/python tests/benchmarks/quota.py --per 6s   (the same ten times faster)

Each client talks to a sandbox process of its own (sliding window, 100 requests a period, 100 ms latency): for 100
drivers one after the other, because seconds count there, for 250 all at the same time. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import httpx
from aiolimiter import AsyncLimiter
from samsara import AsyncSamsara

from batch_issuer.settings import seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CODE = "benchmark-code-1234"


@dataclass
class Server:
    url: str
    key: str

    def ledger(self) -> list[dict[str, object]]:
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/_sandbox/ledger", headers={"Authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request) as reply:  # noqa: S310
            entries: list[dict[str, object]] = json.load(reply)["entries"]
            return entries


@contextmanager
def sandbox(per: float) -> Iterator[Server]:
    command = [sys.executable, "-m", "batch_issuer", "sandbox", "--latency", "100ms", "--per", f"{per:.3f}s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        process.stderr.readline()
        key = re.search(r"SAMSARA_API_TOKEN=(\S+)", process.stderr.readline())
        assert key is not None
        yield Server(url, key[1])
    finally:
        process.terminate()
        process.communicate()


async def this_tool(server: Server, count: int, per: float) -> None:
    """The command as a user runs it: from process start to published file."""
    with tempfile.TemporaryDirectory() as folder:
        roster = Path(folder, "depot.csv")
        roster.write_text("Driver ID\n" + "".join(f"{1_000_000 + number}\n" for number in range(count)))
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "batch_issuer", "issue", str(roster), "--quiet"],
            *["--base-url", server.url, "--rate", f"100/{per:.3f}s"],
            env={**os.environ, "SAMSARA_API_TOKEN": server.key},
        )
        await process.wait()


async def official_sdk(server: Server, count: int, _per: float) -> None:
    """``asyncio.gather`` over the SDK's async client, its own retries on."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        client = AsyncSamsara(base_url=server.url, token=server.key, httpx_client=http)
        asks = (
            client.auth_token_for_driver.auth_token(code=CODE, driver_id=1_000_000 + number) for number in range(count)
        )
        await asyncio.gather(*asks, return_exceptions=True)


async def limiter_around_post(server: Server, count: int, limiter: AsyncLimiter) -> None:
    """The usual snippet: ``async with limiter: await session.post(…)``, no retries."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.key}"}) as session:

        async def one(driver: int) -> None:
            async with limiter:
                body = {"code": CODE, "driverId": driver}
                async with session.post(f"{server.url}/fleet/drivers/auth-token", json=body) as reply:
                    await reply.read()

        await asyncio.gather(*(one(1_000_000 + number) for number in range(count)))


async def burst_snippet(server: Server, count: int, per: float) -> None:
    await limiter_around_post(server, count, AsyncLimiter(100, per))


async def paced_snippet(server: Server, count: int, per: float) -> None:
    await limiter_around_post(server, count, AsyncLimiter(1, per / 100))


CLIENTS: dict[str, Callable[[Server, int, float], Awaitable[None]]] = {
    "batch-issuer": this_tool,
    "official SDK, `asyncio.gather`": official_sdk,
    "`AsyncLimiter(100, 60)` around a POST": burst_snippet,
    "`AsyncLimiter(1, 0.6)` around a POST": paced_snippet,
}


async def measure(name: str, count: int, per: float) -> tuple[str, int, float, int]:
    """Tokens, seconds and 429s of one client."""
    with sandbox(per) as server:
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
