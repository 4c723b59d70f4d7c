"""The cost of ``--help``, the first request, a hundred tokens, waiting for the quota, and an install.

    .venv/bin/python tests/benchmarks/startup.py          (about a minute; Linux only)

Each run has its own sandbox process, because the quota is 100 requests a minute. Prints Markdown tables.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from clients import FIRST_DRIVER, Server, sandbox
from figures import PAIRS, Figure, Pairs, each, show, spread
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HELP_WANTED = 3.0
"""Multiple of ``python -c pass``."""

FIRST_REQUEST_WANTED = 0.8
RUN_WANTED = 2.0
"""Seconds from the start of the process."""

IDLE_WANTED = 0.01
"""Share of a core."""

IDLE_FROM, IDLE_UNTIL = 3.0, 23.0
"""Seconds from the start: the first hundred have their tokens, the next ones wait for the quota."""

STARTS = 3 * PAIRS
"""Pairs of short processes, of which more can be measured."""

HEAVY = {"pandas", "numpy", "aiohttp", "asyncio", "tqdm"}

COMMAND = [sys.executable, "-m", "batch_issuer"]

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Compiled modules are kept, as after an install."""


def seconds_of(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    return time.perf_counter() - began


def help_and_version() -> Iterator[Figure]:
    nothing = [sys.executable, "-c", "pass"]
    for flags in (["--help"], ["--version"], ["issue", "--help"]):
        ours = [*COMMAND, *flags]
        seconds_of(ours)
        pairs = Pairs(lambda ours=ours: seconds_of(ours), lambda: seconds_of(nothing), STARTS)  # type: ignore[misc]
        heavy = ", ".join(sorted(HEAVY & imported(ours))) or "nothing"
        yield Figure(
            f"`{' '.join(flags)}` / `python -c pass` ({median(pairs.other) * 1000:.0f} ms)",
            f"{pairs}, imports {heavy} of {', '.join(sorted(HEAVY))}",
            f"≤ {HELP_WANTED:g}, nothing",
            pairs.ratio <= HELP_WANTED and heavy == "nothing",
        )


def imported(command: Sequence[str]) -> set[str]:
    """The modules that a Python command imports."""
    listing = [command[0], "-X", "importtime", *command[1:]]
    output = subprocess.run(listing, env=ENVIRONMENT, check=True, capture_output=True, text=True).stderr
    return {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}


@dataclass
class Depot:
    """A folder with a roster, for one run against one server."""

    folder: Path
    server: Server

    @property
    def roster(self) -> Path:
        return self.folder / "depot.csv"

    @property
    def results(self) -> Path:
        return self.folder / "depot.results.csv"

    @property
    def environ(self) -> dict[str, str]:
        """Variables with a state folder of its own, so that the quota is unused."""
        return {**ENVIRONMENT, "SAMSARA_API_TOKEN": self.server.api_token, "XDG_STATE_HOME": str(self.folder)}

    def issue(self, *flags: str) -> list[str]:
        return [*COMMAND, "issue", str(self.roster), "--base-url", self.server.url, "--rate", "100/min", *flags]

    def sdk(self) -> list[str]:
        script = Path(__file__).with_name("sdk_job.py")
        return [sys.executable, str(script), self.server.url, str(self.roster), str(self.results)]

    def tokens(self) -> int:
        with self.results.open(encoding="utf-8-sig", newline="") as file:
            return sum(bool(row.get("auth_token", row.get("token"))) for row in csv.DictReader(file))


@contextmanager
def depot(count: int, latency: str) -> Iterator[Depot]:
    with sandbox("--latency", latency) as server, tempfile.TemporaryDirectory() as folder:
        one = Depot(Path(folder), server)
        one.roster.write_text("Driver ID\n" + "".join(f"{FIRST_DRIVER + number}\n" for number in range(count)))
        yield one


def first_request() -> Iterator[Figure]:
    """Measured by the sandbox on the same clock; without latency, which would delay its record of a request."""
    readings = []
    for _ in range(PAIRS):
        with depot(100, "0ms") as one:
            began = time.monotonic()
            subprocess.run(one.issue("--quiet"), env=one.environ, check=True, capture_output=True)
            readings.append(min(entry["at"] for entry in one.server.ledger()) - began)
    middle = median(readings)
    yield Figure(
        "first of 100 requests, from process start",
        spread(readings, " s"),
        f"≤ {FIRST_REQUEST_WANTED:g} s",
        middle <= FIRST_REQUEST_WANTED,
    )


def whole_run() -> Iterator[Figure]:
    """From the start to the end of the process, including the published file."""

    def ours() -> float:
        with depot(100, "100ms") as one:
            return to_the_end(one, one.issue("--quiet"))

    def sdk() -> float:
        with depot(100, "100ms") as one:
            return to_the_end(one, one.sdk())

    pairs = Pairs(ours, sdk)
    middle = median(pairs.ours)
    yield Figure(
        "100 drivers at 100 ms, from process start to published file",
        spread(pairs.ours, " s"),
        f"≤ {RUN_WANTED:g} s",
        middle <= RUN_WANTED,
    )
    yield Figure("the same with the official SDK, `asyncio.gather`, `csv`", f"{median(pairs.other):.2f} s")
    yield Figure("ours / the SDK's", str(pairs))


def to_the_end(one: Depot, command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, env=one.environ, check=True, capture_output=True)
    took = time.monotonic() - began
    assert one.tokens() == 100
    return took


def idle() -> Iterator[Figure]:
    """While the second hundred waits for the quota. All at once, which does not affect CPU time."""
    kinds = {f"`--quota {quota}`{quiet}": (quota, quiet) for quota in ("process", "host") for quiet in ("", ", quiet")}
    with ExitStack() as stack:
        runs = {}
        for name, (quota, quiet) in kinds.items():
            one = stack.enter_context(depot(150, "100ms"))
            output = stack.enter_context((one.folder / "output").open("wb"))
            command = one.issue("--quota", quota, *(["--quiet"] if quiet else []))
            process = subprocess.Popen(command, env=one.environ, stdout=output, stderr=output)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            runs[name] = one, process
        time.sleep(IDLE_FROM)
        before = {name: cpu_seconds(process.pid) for name, (_, process) in runs.items()}
        time.sleep(IDLE_UNTIL - IDLE_FROM)
        for name, (one, process) in runs.items():
            share = (cpu_seconds(process.pid) - before[name]) / (IDLE_UNTIL - IDLE_FROM)
            assert len(one.server.ledger()) == 100
            yield Figure(
                f"CPU while waiting for the quota, {name}",
                f"{share:.2%} of a core",
                f"≤ {IDLE_WANTED:.0%}",
                share <= IDLE_WANTED,
            )


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process (proc(5): fields 14 and 15; field 2 is in brackets)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def install_table() -> str:
    """The packages of an install without extras and their size on disk, the largest first."""
    sizes = sorted(((size_of(name), name) for name in closure("batch-issuer")), reverse=True)
    direct = {requirement.name for requirement in requirements("batch-issuer")}
    lines = [
        f"| {name} {distribution(name).version}{'' if name in direct else ' (indirect)'} | {megabytes(size)} |"
        for size, name in sizes
    ]
    total = f"| {len(sizes)} packages | {megabytes(sum(size for size, _ in sizes))} |"
    return "\n".join(["| package | MB |", "|---|---|", *lines, total])


def requirements(name: str) -> list[Requirement]:
    """What a distribution needs here, without extras."""
    required = map(Requirement, distribution(name).requires or [])
    return [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]


def closure(name: str) -> set[str]:
    """The names of its direct and indirect requirements."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        names = {canonicalize_name(one.name) for one in requirements(ahead.pop())} - found
        found |= names
        ahead += names
    return found


def size_of(name: str) -> int:
    """Bytes of its files, including compiled ones if present."""
    paths = (Path(str(file.locate())) for file in distribution(name).files or [])
    return sum(path.stat().st_size for path in paths if path.is_file())


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def figures() -> Iterator[Figure]:
    return each(help_and_version, first_request, whole_run, idle)


if __name__ == "__main__":
    show(figures())
    print(f"\n{install_table()}")
