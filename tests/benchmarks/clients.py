"""The clients that the benchmarks compare: batch-issuer and its alternatives."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from samsara import AsyncSamsara

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aiolimiter import AsyncLimiter

    from batch_issuer.model import Reply

CODE = "benchmark-code-1234"
FIRST_DRIVER = 1_000_000


@dataclass
class Server:
    url: str
    api_token: str

    def ledger(self) -> list[dict[str, Any]]:
        """The ledger of the sandbox."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/_sandbox/ledger", headers={"Authorization": f"Bearer {self.api_token}"}
        )
        with urllib.request.urlopen(request) as reply:  # noqa: S310
            entries: list[dict[str, Any]] = json.load(reply)["entries"]
            return entries


@contextmanager
def sandbox(*options: str) -> Iterator[Server]:
    """A sandbox in its own process."""
    command = [sys.executable, "-m", "batch_issuer", "sandbox", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        process.stderr.readline()
        found = re.search(r"SAMSARA_API_TOKEN=(\S+)", process.stderr.readline())
        assert found is not None
        yield Server(url, found[1])
    finally:
        process.terminate()
        process.communicate()


async def this_tool(server: Server, count: int, per: float) -> None:
    """The command as a user runs it: from process start to published file."""
    with tempfile.TemporaryDirectory() as folder:
        roster = Path(folder, "depot.csv")
        roster.write_text("Driver ID\n" + "".join(f"{FIRST_DRIVER + number}\n" for number in range(count)))
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "batch_issuer", "issue", str(roster), "--quiet"],
            *["--base-url", server.url, "--rate", f"100/{per:.3f}s", "--quota", "process"],
            env={**os.environ, "SAMSARA_API_TOKEN": server.api_token},
        )
        await process.wait()


async def official_sdk(server: Server, count: int, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """``asyncio.gather`` with the SDK's async client and its own retries; returns the number of tokens."""
    async with httpx.AsyncClient(timeout=60, trust_env=False, transport=transport) as http:
        client = AsyncSamsara(base_url=server.url, token=server.api_token, httpx_client=http)
        requests = (
            client.auth_token_for_driver.auth_token(code=CODE, driver_id=FIRST_DRIVER + number)
            for number in range(count)
        )
        replies = await asyncio.gather(*requests, return_exceptions=True)
    return sum(not isinstance(reply, BaseException) for reply in replies)


async def limiter_around(
    post: Callable[[int], Awaitable[Reply]], count: int, limiter: AsyncLimiter, *, tries: int = 1
) -> None:
    """The usual snippet: ``async with limiter: await post(…)``; with more ``tries``, also the usual retry."""

    async def one(driver: int) -> None:
        for _ in range(tries):
            async with limiter:
                reply = await post(driver)
            if reply.status != 429:
                return
            await asyncio.sleep(1.0 if reply.retry_after is None else reply.retry_after)

    await asyncio.gather(*(one(FIRST_DRIVER + number) for number in range(count)))
