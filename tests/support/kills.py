"""Kills runs with SIGKILL and resumes them until every driver has a token, to find out whether anything is lost.

    python tests/support/kills.py 500      (3 to 4 minutes)

A run is killed up to 400 ms after its first request, at random. `issue` or `retry` resumes it and may be killed, too.
When a run finishes, a new roster begins. All runs use one sandbox and its ledger. Each run reports its requests and the
tokens it has counted, so that it is known what it had handled when it was killed. Prints a Markdown table; a lost token
that had been handled, or any other error, is an exception.

Processes are forked from one that has loaded the command, so that the time does not include Python's start.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import random
import signal
import stat
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # it is also run by its name
from support.processes import Commands, wait_until
from support.sandbox import live_sandbox, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.processes import Command

    from batch_issuer.sandbox import LedgerEntry, Sandbox

ROWS = 60
LATEST_KILL = 0.4
"""Seconds after the first request."""

LATENCY = (0.01, 0.08)
"""Seconds; with this latency a full run takes about as long as `LATEST_KILL`."""

MOST_IN_FLIGHT = 16

AWKWARD = {
    "plain": "plain",
    'say "hi", twice': 'say "hi", twice',
    "two\nlines": "two\nlines",
    'two\r\n"lines"\r\n': 'two\r\n"lines"\r\n',
    "=1+1": "'=1+1",
    "'=1+1": "''=1+1",
    "'tis": "'tis",
    "+49 170 1234567": "+49 170 1234567",
    "-2+3": "'-2+3",
    "@SUM(A1)": "'@SUM(A1)",
    "\tindented": "'\tindented",
    "": "",
    " ": " ",
    ",;\t|": ",;\t|",
    "\N{DELIVERY TRUCK} \N{RIGHT-TO-LEFT OVERRIDE}abc": "\N{DELIVERY TRUCK} \N{RIGHT-TO-LEFT OVERRIDE}abc",
    "long, " * 2000: "long, " * 2000,
}
"""Roster cells, and the same cells in a results file, where no spreadsheet may run them."""

HEADER = {"Driver": "Driver", "Driver ID": "Driver ID", "External ID": "External ID", "Username": "Username"} | {
    "=Note": "'=Note"
}
"""The same for the roster's header."""

STEPS = ("open", "fchmod", "posix_fallocate", "write", "ftruncate", "fsync", "replace", "rename", "unlink")
"""Functions of `os` through which a run changes files."""


def digest(*texts: str) -> str:
    """A hash in place of a secret, for reports."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def strictly_read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


# --- the process that is killed


def report_and_die(report: str, moment: int) -> None:
    """Prepare this process, before it runs the command, to report what it does and to kill itself.

    report: a file for lines of JSON: the requests, the tokens counted, the steps below.
    moment: when it kills itself; 0 for never. Moments are before its first file system step (1), after it (2), before
        the second (3) and so on.
    """
    write, file = os.write, os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def report_line(*what: str) -> None:
        write(file, f"{json.dumps(what)}\n".encode())

    _report_requests(report_line)
    _report_rows(report_line)
    if moment:
        _die_at(moment, report_line)


def _report_requests(report_line: Callable[..., None]) -> None:
    """Report each request before it leaves."""
    from batch_issuer.api.client import Client  # noqa: PLC0415

    issue = Client.issue

    async def reported(self: Client, identifier: Any, code: str) -> Any:
        report_line("requests", str(identifier), digest(code))
        return await issue(self, identifier, code)

    Client.issue = reported  # type: ignore[method-assign]


def _report_rows(report_line: Callable[..., None]) -> None:
    """Report each row after it was counted."""
    from batch_issuer.pipeline.events import RowDone  # noqa: PLC0415
    from batch_issuer.reporting.progress import Progress  # noqa: PLC0415

    count = Progress.__call__

    def reported(self: Progress, event: Any) -> None:
        count(self, event)
        if isinstance(event, RowDone) and event.outcome.token:
            outcome = event.outcome
            report_line("has", str(outcome.identifier), digest(outcome.code, outcome.token))

    Progress.__call__ = reported  # type: ignore[method-assign]


def _die_at(moment: int, report_line: Callable[..., None]) -> None:
    """Count the steps, except those of other threads, because their order is random."""
    moments = 0

    def pass_moment() -> None:
        nonlocal moments
        moments += 1
        if moments == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(name: str) -> Callable[..., Any]:
        step = getattr(os, name)

        def around(*args: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return step(*args, **options)
            pass_moment()
            try:
                return step(*args, **options)
            finally:
                report_line("step", name)
                pass_moment()

        return around

    for name in STEPS:
        setattr(os, name, counted(name))


# --- what a run leaves


@dataclass
class Run:
    """One process and the files after it.

    requested: the drivers it requested, by the digest of the code.
    handled: the tokens it had counted: by driver, the digest of code and token.
    steps: those it completed, if it was to kill itself.
    issued: like ``handled``, for the rows with a token in the file that it left.
    unknown: drivers for which the file records that a token may exist that it does not contain.
    """

    killed: bool
    requested: dict[str, str] = field(default_factory=dict, repr=False)
    handled: dict[str, str] = field(default_factory=dict, repr=False)
    steps: list[str] = field(default_factory=list, repr=False)
    issued: dict[str, str] = field(default_factory=dict, repr=False)
    unknown: set[str] = field(default_factory=set, repr=False)

    @property
    def in_flight(self) -> set[str]:
        """Drivers requested without a reply that was counted."""
        return set(self.requested.values()) - self.handled.keys()

    @classmethod
    def reported(cls, path: Path, *, killed: bool) -> Run:
        run = cls(killed)
        whole_lines = path.read_text().split("\n")[:-1] if path.exists() else []
        for kind, *what in map(json.loads, whole_lines):
            if kind == "requests":
                run.requested[what[1]] = what[0]
            elif kind == "has":
                run.handled[what[0]] = what[1]
            else:
                run.steps.append(what[0])
        return run


class Story:
    """A roster, and its runs until the results are complete.

    notes: the roster's awkward cells.
    sandbox: the server of the next run.
    torn: drivers with a token that a test removed from the journal.
    reissue_from: the number of runs before all tokens were to be reissued.
    """

    _drivers_before = 0  # in all rosters so far

    def __init__(
        self,
        folder: Path,
        commands: Commands,
        sandbox: Sandbox,
        rows: int = ROWS,
        notes: Sequence[str] = tuple(AWKWARD),
    ) -> None:
        first = 1_000_000 + Story._drivers_before
        Story._drivers_before += rows
        self.folder = folder / f"depot-{first}"
        self.folder.mkdir()
        self.roster = self.folder / "depot.csv"
        self.results = self.folder / "depot.results.csv"
        self.partial = self.folder / "depot.results.csv.partial"
        self.runs: list[Run] = []
        self.sandbox = sandbox
        self.torn: set[str] = set()
        self.reissue_from = 0
        self._commands, self._notes = commands, notes
        self._reports = folder / f"reports-{first}"
        self._reports.mkdir()
        self._write_roster(range(first, first + rows))

    def _write_roster(self, numbers: range) -> None:
        """Write drivers with a driver ID, an external ID or a username, in turn."""
        cells = self._notes
        self.drivers: list[str] = []
        self.published: list[list[str]] = []  # the roster's cells as they are in the results
        with self.roster.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(HEADER)
            for number in numbers:
                kind, name, note = number % 3, cells[number * 7 % len(cells)], cells[number % len(cells)]
                identifiers = [""] * 3
                identifiers[kind] = (str(number), f"payrollId:{number}", f"=user{number}")[kind]
                self.drivers.append(f"{('driverId', 'externalId', 'username')[kind]}={identifiers[kind]}")
                rows.writerow([name, *identifiers, note])
                guarded = [f"'{cell}" if cell.startswith("=") else cell for cell in identifiers]
                self.published.append([AWKWARD[name], *guarded, AWKWARD[note]])

    # --- runs

    def run(self, command: str, *extra: str, kill_after: float | None = None, moment: int = 0) -> Run:
        """One run; a run that was not killed ends the story and must have succeeded.

        command: ``issue`` or ``retry``.
        extra: further options.
        kill_after: seconds after its first request; None to let it finish.
        moment: see `report_and_die`.
        """
        number = len(self.runs)
        report = self._reports / f"{number}.jsonl"
        what = ["issue", self.roster] if command == "issue" else ["retry", self.results]
        options = ["--quota", "process", "--rate", "1000/s", *extra]
        requests_before = len(self.sandbox.ledger)
        process = self._commands.start(
            self.sandbox, *what, *options, prepare="support.kills:report_and_die", report=str(report), moment=moment
        )
        if kill_after is not None:
            self._wait_for_a_request(process, report, requests_before)
            if not process.ends_within(kill_after):
                process.kill()
        code = process.end()
        assert code in (0, -signal.SIGKILL), process.output
        run = Run.reported(report, killed=code != 0)
        self.runs.append(run)
        self.check_files(run)
        return run

    def _wait_for_a_request(self, process: Command, report: Path, seen: int) -> None:
        """Wait for a request of this run: those of an earlier run may still be on their way to the ledger."""

        def has_sent() -> bool:
            new = {digest(entry.code) for entry in self.sandbox.ledger[seen:]}
            return bool(new) and bool(new & set(Run.reported(report, killed=False).requested))

        wait_until(lambda: process.ends_within(0) or has_sent(), "a first request")

    def next_command(self, either: str) -> str:
        """The command that a user would type next; ``either`` if both commands would work."""
        if self.partial.exists():
            return either
        return "retry" if self.results.exists() else "issue"

    @property
    def over(self) -> bool:
        return bool(self.runs) and not self.runs[-1].killed

    # --- what must hold after each run

    def check_files(self, run: Run) -> None:
        """Check the files that the last run has left."""
        for path in self.folder.iterdir():
            assert path == self.roster or stat.S_IMODE(path.stat().st_mode) == 0o600, path
        if self.results.exists():
            self._remember(run, self._check_published())
        if self.partial.exists():
            self._remember(run, self._check_journal())
            self._check_status(self.partial)
        elif self.results.exists():
            self._check_status(self.results)
        else:
            assert not any(run.requested for run in self.runs)
        assert self._handled() <= run.issued.items()
        assert not self.reissue_from or len(run.issued) == len(self.drivers)

    def _handled(self) -> set[tuple[str, str]]:
        """What must be there: the tokens that a run had counted, as digests, unless a later run requested another."""
        handled: dict[str, str] = {}
        for run in self.runs:
            for driver in run.requested.values():
                handled.pop(driver, None)
            handled |= run.handled
        return {(driver, token) for driver, token in handled.items() if driver not in self.torn}

    def _remember(self, run: Run, rows: list[dict[str, str]]) -> None:
        from support.disks import INTERRUPTED  # noqa: PLC0415 - the killed process must not wait for this import

        run.issued = {r["auth_identifier"]: digest(r["auth_code"], r["auth_token"]) for r in rows if r["auth_token"]}
        intents = [row for row in rows if row["auth_error"].endswith(INTERRUPTED.decode())]
        assert all(row in intents for row in rows if row["auth_status"] == "unknown")
        run.unknown = {row["auth_identifier"] for row in intents}

    def _check_published(self) -> list[dict[str, str]]:
        """The results: all rows in order, all cells unchanged, each with a token of its own driver."""
        lines = strictly_read(self.results.read_bytes().decode("utf-8-sig"))
        rows = self._checked(lines)
        assert [row["auth_identifier"] for row in rows] == self.drivers
        assert all(row["auth_status"] == "issued" and row["auth_token"] for row in rows)
        return rows

    def _check_journal(self) -> list[dict[str, str]]:
        """The last line of each row; every row must have one, and at most one line may be torn."""
        header, *lines = strictly_read(whole_lines(self.partial.read_bytes()).decode("utf-8-sig"))
        assert header[0] == "auth_row"
        last = {int(row): cells for row, *cells in lines}
        assert sorted(last) == list(range(2, 2 + len(self.drivers)))
        return self._checked([header[1:], *(last[row] for row in sorted(last))])

    def _checked(self, lines: list[list[str]]) -> list[dict[str, str]]:
        """The rows' `auth_` cells by column; the roster's cells must be unchanged."""
        header, *body = lines
        width = len(HEADER)
        assert header[:width] == list(HEADER.values())
        assert [cells[:width] for cells in body] == self.published
        return [dict(zip(header[width:], cells[width:], strict=True)) for cells in body]

    def _check_status(self, path: Path) -> None:
        from batch_issuer.cli import main  # noqa: PLC0415 - the killed process has loaded it already

        with contextlib.redirect_stdout(io.StringIO()) as output:
            assert main(["status", str(path)], {}) in (0, 1)
        assert output.getvalue().startswith(f"{len(self.drivers)} rows: ")

    # --- what must hold in the end

    def check(self, ledger: Sequence[LedgerEntry]) -> list[int]:
        """Check every promise; returns how many tokens each run has lost.

        ledger: of a sandbox that has stopped.
        """
        assert self.over
        assert sorted(path.name for path in self.folder.iterdir()) == [self.roster.name, self.results.name]
        entries = [entry for entry in ledger if entry.identifier in set(self.drivers)]
        rows = self._check_published()
        held = {(row["auth_identifier"], row["auth_code"], row["auth_token"]) for row in rows}
        assert len(held) == len(self.drivers)
        assert held <= tokens_of(entries)
        assert self._handled() <= {(driver, digest(code, token)) for driver, code, token in held}
        by_run = self._entries_by_run(entries)
        self._check_no_needless_requests(by_run)
        return [self._lost_in(run, sent, held) for run, sent in zip(self.runs, by_run, strict=True)]

    def _entries_by_run(self, entries: Sequence[LedgerEntry]) -> list[list[LedgerEntry]]:
        sender = {code: number for number, run in enumerate(self.runs) for code in run.requested}
        by_run: list[list[LedgerEntry]] = [[] for _ in self.runs]
        for entry in entries:
            number = sender[digest(entry.code)]
            assert self.runs[number].requested[digest(entry.code)] == entry.identifier
            by_run[number].append(entry)
        return by_run

    def _check_no_needless_requests(self, by_run: list[list[LedgerEntry]]) -> None:
        """A driver with a token after a run is not requested by later runs, and by none of them twice."""
        done: set[str] = set()
        for number, (run, sent) in enumerate(zip(self.runs, by_run, strict=True), 1):
            requested = [entry.identifier for entry in sent]
            assert max(Counter(requested).values(), default=1) == 1
            assert not done.intersection(requested)
            if number > self.reissue_from:
                done |= (run.issued.keys() if not self.reissue_from else run.handled.keys()) - self.torn

    def _lost_in(self, run: Run, sent: Sequence[LedgerEntry], held: set[tuple[str, str, str]]) -> int:
        """Only a kill loses tokens, at most one per request in flight, and the row records it."""
        lost = {
            entry.identifier
            for entry in sent
            if entry.token
            and entry.identifier not in run.handled
            and (entry.identifier, entry.code, entry.token) not in held
        }
        assert run.killed or not lost
        assert lost <= run.in_flight & run.unknown
        assert len(run.in_flight) <= MOST_IN_FLIGHT
        return len(lost)


def whole_lines(journal: bytes) -> bytes:
    """A journal without its last line if that is torn; the rest must be valid."""
    end = len(journal)
    while True:
        end = journal.rfind(b"\r\n", 0, end)
        assert end >= 0, "no whole line"
        with contextlib.suppress(csv.Error):
            lines = strictly_read(journal[: end + 2].decode("utf-8-sig"))
            if len({len(cells) for cells in lines}) == 1:
                break
    torn = journal[end + 2 :].decode(errors="replace")
    assert len(list(csv.reader(io.StringIO(torn, newline="")))) <= 1, "more than one line is torn"
    return journal[: end + 2]


# --- many kills


@dataclass
class Figures:
    """The result of many kills."""

    kills: int = 0
    rosters: int = 0
    runs: int = 0
    late: int = 0  # kills of runs that had all tokens
    issued: int = 0
    kept: int = 0  # handled before a kill, and found in the results
    lost: int = 0
    most_lost: tuple[int, int] = (0, 0)  # in one kill, and requests in flight then
    most_in_flight: int = 0
    seconds: float = 0.0

    def count(self, story: Story, lost: Sequence[int]) -> None:
        self.rosters += 1
        self.runs += len(story.runs)
        for run, number in zip(story.runs, lost, strict=True):
            in_flight = len(run.in_flight)
            self.late += run.killed and len(run.issued) == len(story.drivers)
            self.kept += run.killed * len(run.handled)
            self.lost += number
            self.most_lost = max(self.most_lost, (number, in_flight))
            self.most_in_flight = max(self.most_in_flight, in_flight)


def kill_runs(kills: int, folder: Path, commands: Commands, seed: int) -> Figures:
    """Kill runs, resume each until it finishes, and check all promises.

    kills: how many.
    seed: decides when runs are killed and which command resumes them.
    """
    figures, chance = Figures(), random.Random(seed)
    started = time.monotonic()
    stories: list[Story] = []
    with live_sandbox(limiter="none", latency=LATENCY, seed=seed) as sandbox:
        while figures.kills < kills:
            story = Story(folder, commands, sandbox)
            stories.append(story)
            while not story.over:
                delay = chance.uniform(0.0, LATEST_KILL) if figures.kills < kills else None
                run = story.run(story.next_command(chance.choice(["issue", "retry"])), kill_after=delay)
                figures.kills += run.killed
    for story in stories:
        figures.count(story, story.check(sandbox.ledger))
    figures.issued = sum(bool(entry.token) for entry in sandbox.ledger)
    figures.seconds = time.monotonic() - started
    return figures


def _print(figures: Figures) -> None:
    lost, in_flight = figures.most_lost
    cells = {
        "kills": figures.kills,
        "rosters": figures.rosters,
        "runs": figures.runs,
        "of the kills, after the last reply": figures.late,
        "tokens issued": figures.issued,
        "handled before a kill, and kept": figures.kept,
        "lost in flight": figures.lost,
        "most in one kill": f"{lost} of {in_flight} in flight",
        "most in flight": figures.most_in_flight,
        "time": f"{figures.seconds:.0f} s",
    }
    print(f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}")  # noqa: T201
    print(f"| {' | '.join(map(str, cells.values()))} |")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Commands(Path(folder)) as commands:
        _print(kill_runs(options.kills, Path(folder), commands, options.seed))


if __name__ == "__main__":
    main()
