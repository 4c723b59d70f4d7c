"""Processes that issue at the same time, for tests of the quota they share.

Run as a script, this file is one of them: it loads the command, prints a line, waits for one, and becomes
``batch-issuer``. So the start of Python is not measured.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).parents[1]))  # this file is also a script
from support.processes import PythonProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_issuer.sandbox import LedgerEntry, Sandbox


@dataclass(frozen=True)
class WrongClocks:
    """Seconds by which a process's clocks are ahead; the wall clock only after ``after`` seconds."""

    wall: float = 0.0
    monotonic: float = 0.0
    after: float = 0.0


class Issuer:
    """One process of ``batch-issuer issue``, ready to start.

    rows: how many drivers its roster has; processes have different drivers.
    """

    _before = 0  # drivers of all rosters so far

    def __init__(self, folder: Path, sandbox: Sandbox, rows: int, options: Sequence[str], clocks: WrongClocks) -> None:
        first = 1_000_000 + Issuer._before
        Issuer._before += rows
        self.rows = rows
        self.drivers = {f"driverId={number}" for number in range(first, first + rows)}
        self.roster = folder / f"roster-{first}.csv"
        self.roster.write_text("Driver ID\n" + "".join(f"{number}\n" for number in range(first, first + rows)))
        self.results = self.roster.with_suffix(".results.csv")
        self.stderr_file = self.roster.with_suffix(".stderr")
        command = ["issue", str(self.roster), "--base-url", sandbox.url, *options]
        with self.stderr_file.open("w") as stderr:
            self.process = PythonProcess(
                *(__file__, json.dumps(asdict(clocks)), *command),
                environ={"SAMSARA_API_TOKEN": sandbox.api_token},
                stderr=stderr,
            )

    def go(self) -> None:
        self.process.send("go")

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def entries(self, sandbox: Sandbox) -> list[LedgerEntry]:
        """Its requests, as the server saw them."""
        return [entry for entry in list(sandbox.ledger) if entry.identifier in self.drivers]

    def has_all(self, sandbox: Sandbox) -> bool:
        """Whether each row has the token that the server issued for it."""
        # Imported later, because modules of an issuer would keep the right clocks.
        from support.rosters import tokens_in  # noqa: PLC0415
        from support.sandbox import tokens_of  # noqa: PLC0415

        issued = tokens_of(self.entries(sandbox))
        return tokens_in(self.results) == issued and len(issued) == self.rows


@contextmanager
def issuers(
    folder: Path,
    sandbox: Sandbox,
    rows: Sequence[int],
    options: Sequence[str],
    clocks: Sequence[WrongClocks] | None = None,
) -> Iterator[list[Issuer]]:
    """Processes that wait for `Issuer.go`, one for each number of rows; they end with the test."""
    clocks = clocks or [WrongClocks()] * len(rows)
    with ExitStack() as stack:
        started: list[Issuer] = []
        for count, wrong in zip(rows, clocks, strict=True):
            started.append(Issuer(folder, sandbox, count, options, wrong))
            stack.enter_context(started[-1].process)
        for issuer in started:
            assert issuer.process.line() == "ready", issuer.stderr
        yield started


def shares(processes: Sequence[Issuer], sandbox: Sandbox, first: int) -> list[int]:
    """How many of the ``first`` requests each process sent."""
    sent = Counter(entry.identifier for entry in sandbox.ledger[:first])
    return [sum(sent[driver] for driver in issuer.drivers) for issuer in processes]


def throttled(sandbox: Sandbox) -> list[LedgerEntry]:
    """The requests that got a 429."""
    return [entry for entry in sandbox.ledger if not entry.counted]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def redis_server(
    folder: Path, *options: str, port: int | None = None, password: str = "", forgetful: bool = False
) -> Iterator[int]:
    """A Redis server on loopback without files, on a free port by default; yields its port.

    Unless ``forgetful``, it counts as one that has lost no slots; a new server makes all runs wait at first.
    """
    from support.programs import needed  # noqa: PLC0415 - imports pytest, which the processes do not need

    options = (*options, "--requirepass", password) if password else options
    port = port or free_port()
    command = [needed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("w") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log, cwd=folder)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), "a Redis server that listens")
        assert process.poll() is None, (folder / "redis.log").read_text()
        if not forgetful:
            trust(port, password)
        yield port
    finally:
        process.kill()
        process.wait()


def trust(port: int, password: str = "") -> None:
    """Let a Redis server count as one that has forgotten nothing."""
    import redis  # noqa: PLC0415 - the processes load it on request

    with redis.Redis(port=port, password=password or None, decode_responses=True) as server:
        known = {"run_id": server.info("server")["run_id"], "generation": "first", "born": "0", "lost_at": "0"}
        server.hset("{batch-issuer}:server", mapping=known)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class _Clocks:
    """This process's clocks, set wrong before any other module uses them."""

    def __init__(self, wrong: WrongClocks) -> None:
        self._wrong, self._wall_is_wrong_from = wrong, inf
        self._monotonic = time.monotonic
        wall, wall_ns = time.time, time.time_ns
        time.monotonic = lambda: self._monotonic() + wrong.monotonic
        time.time = lambda: wall() + self._ahead()
        time.time_ns = lambda: wall_ns() + int(self._ahead() * 1e9)

    def _ahead(self) -> float:
        return self._wrong.wall if self._monotonic() >= self._wall_is_wrong_from else 0.0

    def go(self) -> None:
        self._wall_is_wrong_from = self._monotonic() + self._wrong.after


def _run_issuer() -> int:
    clocks = _Clocks(WrongClocks(**json.loads(sys.argv[1])))

    import redis.asyncio  # noqa: F401, PLC0415 - everything that the command needs later

    import batch_issuer.jobs.job  # noqa: PLC0415
    import batch_issuer.quota.sqlite_leases  # noqa: F401, PLC0415
    from batch_issuer.cli import main  # noqa: PLC0415

    print("ready", flush=True)  # noqa: T201 - to the test
    sys.stdin.readline()
    clocks.go()
    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(_run_issuer())
