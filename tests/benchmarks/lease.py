"""What does it cost to acquire and release a slot in each store of leases?

    .venv/bin/python tests/benchmarks/lease.py

The median of alternating rounds in µs, and as a multiple of the cost in memory; for host and Redis also while three
other processes do the same. Redis is a server on loopback; it is skipped if not installed.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from batch_issuer.quota.leases import End
from batch_issuer.quota.memory_leases import MemoryLeases
from batch_issuer.quota.redis_leases import RedisLeases
from batch_issuer.quota.sqlite_leases import SqliteLeases
from batch_issuer.settings.run_settings import Rate
from batch_issuer.settings.secrets import Secret

sys.path.append(str(Path(__file__).parents[1]))
from support.shared_quota import redis_server

if TYPE_CHECKING:
    from batch_issuer.quota.leases import Leases

RATE = Rate(100, 60.0)
ROUNDS, SLOTS = 9, 300


async def opened(kind: str, place: str) -> Leases:
    if kind == "process":
        return MemoryLeases(RATE)
    if kind == "host":
        return SqliteLeases("benchmark", RATE, folder=Path(place))
    return await RedisLeases.connected(Secret(place), "benchmark", RATE)


async def cost(leases: Leases) -> float:
    """Seconds per slot in one round."""
    started = time.perf_counter()
    for _ in range(SLOTS):
        answer = await leases.acquire(1)
        if answer.lease is not None:
            leases.release(answer.lease, End.UNSENT)
    return (time.perf_counter() - started) / SLOTS


async def contend(kind: str, place: str) -> None:
    leases = await opened(kind, place)
    print("ready", flush=True)
    while True:
        await cost(leases)


async def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        places = {"process": "", "host": str(Path(folder, "state"))}
        if shutil.which("redis-server"):
            places["redis"] = f"redis://127.0.0.1:{stack.enter_context(redis_server(Path(folder)))}/0"
        kinds = {kind: await opened(kind, place) for kind, place in places.items()}
        rounds = [[await cost(leases) for leases in kinds.values()] for _ in range(ROUNDS)]
        alone = dict(zip(kinds, (median(costs) for costs in zip(*rounds, strict=True)), strict=True))
        print("| `--quota` | a slot | / process | with three other processes |\n|---|---|---|---|")
        for kind, leases in kinds.items():
            contended_cost = f"{await contended(kind, places[kind], leases) * 1e6:.0f} µs" if kind != "process" else ""
            print(
                f"| `{kind}` | {alone[kind] * 1e6:.0f} µs | {alone[kind] / alone['process']:.0f} | {contended_cost} |"
            )
            await leases.close()


async def contended(kind: str, place: str, leases: Leases) -> float:
    command = [sys.executable, __file__, kind, place]
    others = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for other in others:
            assert other.stdout is not None
            await other.stdout.readline()
        return median([await cost(leases) for _ in range(ROUNDS)])
    finally:
        for other in others:
            other.kill()
            await other.communicate()


if __name__ == "__main__":
    asyncio.run(contend(*sys.argv[1:]) if len(sys.argv) > 1 else main())
