"""How fast is the engine without a quota, and is it as fast for 200,000 rows?

    .venv/bin/python tests/benchmarks/engine.py           (25 minutes)
    .venv/bin/python tests/benchmarks/engine.py --quick   (fewer rows and pairs, as a smoke test)

Compares the whole pipeline, including journal and published file, with a bare aiohttp loop that writes nothing and with
the official SDK under `asyncio.gather`: 64 requests in flight, each client and a sandbox without a limiter in their own
processes. Time is measured from the checked roster to the published file, without the start of Python. The CPU time
without HTTP is that of a run with immediate replies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import pandas as pd
from clients import CODE, FIRST_DRIVER, Server, official_sdk, sandbox
from figures import Figure, Pairs, show, spread, timed

from batch_issuer import AUTH_COLUMNS, Rate, Roster, Secret, Settings, issue_file
from batch_issuer.cli.loop import run_async
from batch_issuer.model import Reply
from batch_issuer.pipeline.attempts import Attempts, new_code
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import open_quota
from batch_issuer.results import Destination, Validity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_issuer.model import Identifier

WORKERS = 64
NO_LIMIT = Rate(1_000_000, 1.0)
HEADER = ("Driver Name", "Driver ID", "Username", "Depot")
LATENCIES = ("50ms-150ms", "20ms", "0ms")
"""The usual latency of the sandbox, about that of Samsara; and shorter ones, to see the cost of the pipeline."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of the benchmark: rows, and pairs of measurements."""

    rows: int = 20_000
    many: int = 200_000
    sdk: int = 1_500  # its time grows with the square, and it loses half of 2,000 rows
    pairs: int = 5


# --- in child processes


def write_roster(folder: Path, rows: int) -> Path:
    path = folder / "depot.csv"
    lines = (f"Driver {n},{FIRST_DRIVER + n},driver.{n},Depot {n % 7}\n" for n in range(rows))
    path.write_text(",".join(HEADER) + "\n" + "".join(lines))
    return path


def settings_for(url: str, api_token: str) -> Settings:
    return Settings(base_url=url, api_token=Secret(api_token), rate=NO_LIMIT, quota="process", concurrency=WORKERS)


def ours(server: Server, rows: int) -> int:
    """Issue for a roster; returns the number of tokens in the results."""
    report = run_async(issue_file(Roster.from_path("depot.csv"), settings_for(server.url, server.api_token), "out.csv"))
    return sum(bool(outcome.token) for outcome in report.outcomes[:rows])


async def bare(server: Server, rows: int) -> int:
    """Workers around a POST; returns the number of tokens."""
    drivers, tokens = iter(range(FIRST_DRIVER, FIRST_DRIVER + rows)), 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal tokens
        for driver in drivers:
            body = {"code": CODE, "driverId": driver}
            async with session.post(f"{server.url}/fleet/drivers/auth-token", json=body) as reply:
                tokens += "token" in (await reply.json())["data"]

    connector = aiohttp.TCPConnector(limit=WORKERS)
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {server.api_token}"}, connector=connector
    ) as session:
        await asyncio.gather(*(work(session) for _ in range(WORKERS)))
    return tokens


class AtOnce:
    """A server that replies at once at almost no cost."""

    def __init__(self) -> None:
        self._expires_at = datetime.now(UTC) + timedelta(minutes=15)

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        await asyncio.sleep(0)
        return Reply(200, token=f"{identifier.value}-{code}", expires_at=self._expires_at, lifetime=900.0)


async def _without_http() -> int:
    settings, roster = settings_for("http://127.0.0.1:9", "none"), Roster.from_path("depot.csv")
    with Destination("out.csv") as destination:
        batch = destination.begin(roster, Validity.at_least(0, real=False))
        journal = destination.open_journal(batch)
        async with open_quota(settings) as quota:
            run = Run(batch.drivers, settings, AtOnce(), quota, journal)
            await run.run()
        journal.close()
        destination.publish(batch, batch.outcomes | run.outcomes)
    return len(run.outcomes)


def without_http(_server: Server, _rows: int) -> int:
    """Everything except HTTP, including reading the roster and publishing."""
    return run_async(_without_http())


def resumed(_server: Server, _rows: int) -> int:
    """Read a results file and find the rows to request."""
    with Destination("out.csv") as destination:
        batch = destination.reopen(Validity.at_least(0, real=False))
    return len(batch)


def read_by_pandas(_server: Server, _rows: int) -> int:
    return len(pd.read_csv("out.csv", dtype=str, keep_default_na=False))


def journal_by_pandas(_server: Server, _rows: int) -> int:
    return pd.read_csv("out.csv.partial", dtype=str, keep_default_na=False)["auth_row"].nunique()


def interrupted(_server: Server, rows: int) -> int:
    """Leave the journal of a half-finished run."""
    reply, now = Reply(200, expires_at=datetime.now(UTC) + timedelta(days=1)), datetime.now(UTC)
    with Destination("out.csv") as destination:
        batch = destination.begin(Roster.from_path("depot.csv"), Validity.at_least(0, real=False), overwrite=True)
        journal = destination.open_journal(batch)
        for driver in batch.drivers[: rows // 2]:
            row, code = Attempts(driver), new_code()
            journal.record(row.intent())
            journal.record(row.issued(replace(reply, token=f"{driver.row}-{code}"), code, now))
        journal.close()
    return rows


CHILDREN: dict[str, Callable[[Server, int], int]] = {
    "ours": ours,
    "bare": lambda server, rows: asyncio.run(bare(server, rows)),
    "sdk": lambda server, rows: asyncio.run(official_sdk(server, rows)),
    "without_http": without_http,
    "resumed": resumed,
    "read_by_pandas": read_by_pandas,
    "journal_by_pandas": journal_by_pandas,
    "interrupted": interrupted,
}


def child(name: str, url: str, rows: int) -> None:
    """Run one of the children, and print seconds, CPU seconds and successful rows."""
    server, cpu = Server(url, os.environ["API_TOKEN"]), time.process_time()
    done: list[int] = []
    took = timed(lambda: done.append(CHILDREN[name](server, rows)))
    print(json.dumps([took, time.process_time() - cpu, done[0]]))


# --- measurements


def in_child(name: str, rows: int, folder: Path, server: Server | None = None) -> tuple[float, float]:
    """Seconds and CPU seconds per successful row of a child process in a folder; the SDK does not complete all rows."""
    url, api_token = (server.url, server.api_token) if server else ("http://127.0.0.1:9", "none")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--child", name, url, str(rows)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "API_TOKEN": api_token},
    )
    took, cpu, came = json.loads(done.stdout)
    assert came == rows or name == "sdk", f"{name}: {came} of {rows}"
    return took / came, cpu / came


def seconds(name: str, rows: int, latency: str) -> float:
    """Seconds per row, with a sandbox of its own."""
    with sandbox("--limiter", "none", "--latency", latency) as server, tempfile.TemporaryDirectory() as folder:
        write_roster(Path(folder), rows)
        return in_child(name, rows, Path(folder), server)[0]


def against(other: str, rows: int, latency: str, pairs: int) -> tuple[Pairs, str]:
    """The ratio of rows per second to another client, and both rates."""
    found = Pairs(partial(seconds, other, rows, latency), partial(seconds, "ours", rows, latency), pairs)
    rates = f"{1 / median(found.other):,.0f} rows/s, the other {1 / median(found.ours):,.0f}"
    return found, f"{found}: {rates}"


def throughput(scale: Scale) -> Iterator[Figure]:
    for latency in LATENCIES:
        pairs, reading = against("bare", scale.rows, latency, scale.pairs)
        name = f"engine / bare aiohttp loop, {scale.rows:,} rows, replies after {latency}"
        yield Figure(name, reading, "≥ 0.9", pairs.ratio >= 0.9)


def sdk(scale: Scale) -> Iterator[Figure]:
    pairs, reading = against("sdk", scale.sdk, LATENCIES[0], scale.pairs)
    name = f"engine / official SDK, `asyncio.gather`, {scale.sdk:,} rows, replies after {LATENCIES[0]}"
    yield Figure(name, reading, "≥ 10", pairs.ratio >= 10)


def cpu(scale: Scale) -> Iterator[Figure]:
    def of(rows: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            write_roster(Path(folder), rows)
            return in_child("without_http", rows, Path(folder))[1]

    pairs = Pairs(partial(of, scale.many), partial(of, scale.rows), scale.pairs)
    few, much = (median(found) * 1e6 for found in (pairs.other, pairs.ours))
    each = f"{few:.0f} µs at {scale.rows:,} rows, {much:.0f} µs at {scale.many:,}"
    yield Figure("CPU time per row without HTTP, from roster to published file", each)
    times = scale.many / scale.rows
    ratios = [ratio * times for ratio in pairs.ratios]
    yield Figure(f"the same for {times:g} times the rows", spread(ratios), "≤ 10.5", median(ratios) <= times * 1.05)


def many(scale: Scale) -> Iterator[Figure]:
    few, much = (partial(seconds, "ours", rows, "0ms") for rows in (scale.rows, scale.many))
    pairs = Pairs(few, much, scale.pairs)
    name = f"rows/s at {scale.many:,} rows / at {scale.rows:,}, replies at once"
    yield Figure(name, str(pairs), "≥ 0.95", pairs.ratio >= 0.95)


def command(scale: Scale) -> Iterator[Figure]:
    """The command's memory, and the time to resume from its results file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sandbox("--limiter", "none", "--latency", "0ms", "--token-lifetime", "86400") as server:
            issue = [sys.executable, "-m", "batch_issuer", "issue", str(write_roster(folder, scale.many))]
            flags = ["-o", str(folder / "out.csv"), "--quiet", "--base-url", server.url, "--rate", "1000000/s"]
            with subprocess.Popen(
                [*issue, *flags, "--quota", "process", "--concurrency", str(WORKERS)],
                env={**os.environ, "SAMSARA_API_TOKEN": server.api_token},
            ) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peak = usage.ru_maxrss * 1024 / 1e6
        rows = f"{scale.many:,} rows x {len(HEADER)} + {len(AUTH_COLUMNS)} columns"
        yield Figure(f"peak memory of the command, {rows}", f"{peak:.0f} MB", "≤ 300 MB", peak <= 300)
        yield from resume(scale, folder)


def resume(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Resume from complete results, from results without half of the tokens, and from a journal."""

    def figure(name: str, compared: str) -> Figure:
        ours, other = (partial(in_child, child, scale.many, folder) for child in ("resumed", compared))
        pairs = Pairs(lambda: ours()[0], lambda: other()[0], scale.pairs)
        reading = f"{pairs}: {median(pairs.ours) * scale.many:.2f} s"
        about = f"resume of {name} / reading it with pandas, {scale.many:,} rows"
        return Figure(about, reading, "≤ 3", pairs.ratio <= 3)

    yield figure("finished results", "read_by_pandas")
    table = pd.read_csv(folder / "out.csv", dtype=str, keep_default_na=False)
    kept = {"auth_identifier": table["auth_identifier"], "auth_status": "not_attempted", "auth_attempts": "0"}
    for column in AUTH_COLUMNS:
        table.loc[::2, column] = kept.get(column, "")
    table.to_csv(folder / "out.csv", index=False, encoding="utf-8-sig")
    yield figure("results without half of the tokens", "read_by_pandas")
    in_child("interrupted", scale.many, folder)
    yield figure("the journal of a half-finished run", "journal_by_pandas")


def figures(scale: Scale = Scale()) -> Iterator[Figure]:
    for part in (throughput, sdk, cpu, many, command):
        yield from part(scale)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="fewer rows and pairs")
        show(figures(Scale(2_000, 20_000, 200, 2) if parser.parse_args().quick else Scale()))
