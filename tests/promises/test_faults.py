"""The fault matrix: each fault, wherever it strikes, whether it stays or not.

The real command and the real client, with the sandbox behind the faults. Time is virtual, sockets are real, both ends
are in one event loop.
"""

from __future__ import annotations

import asyncio
import csv
import random
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, product
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from support.clock import Traffic
from support.faults import FAULTS, Gateway, Kind, NetworkLoop
from support.model_server import peak

from batch_issuer.cli import main
from batch_issuer.hints import Hint
from batch_issuer.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trustme
    from support.faults import Fault

    from batch_issuer.sandbox import LedgerEntry

KEYS = (f"samsara_api_Qx7Zk3Lm9Pw2Rt5V{number}" for number in count(1000))
"""One for each test: within a process what an organization used of its quota is remembered."""

COUNT = 12
LIMIT, PERIOD = 10, 10.0
PATIENCE = 60.0
OPTIONS = (
    "--rate",
    f"{LIMIT}/{PERIOD:g}s",
    "--timeout",
    "5s",
    "--give-up-after",
    f"{PATIENCE:g}s",
    "--quota",
    "process",
)
GIVES_UP = PATIENCE + 40.0
"""Longest run in seconds: after it gives up it waits for requests in flight, and before that for the quota."""

HINTS = [hint.fix for hint in Hint]


@dataclass(frozen=True)
class Cell:
    """A fault, the requests it affects, and the result that a run must have."""

    fault: Fault
    where: str
    stays: bool

    def __str__(self) -> str:
        return f"{self.fault.name}-{self.where}-{'stays' if self.stays else 'recovers'}"

    def strikes(self, number: int) -> bool:
        """Whether it affects a request, by its number."""
        first, last = {"first": (1, 1), "middle": (6, 8), "last": (COUNT, COUNT), "every 4th": (4, COUNT)}[self.where]
        if self.where == "every 4th" and number % 4:
            return False
        return first <= number and (self.stays or number <= last)

    @property
    def exit_code(self) -> int:
        """The exit code of a run with this fault."""
        alone = self.where == "last"  # there is no other row any more that could show that it is not this one's trouble
        lasts = self.stays and self.where != "every 4th"
        match self.fault.kind:
            case Kind.HARMLESS:
                return 0
            case Kind.UNAUTHORIZED:
                return 3
            case Kind.REJECTED | Kind.EXPIRED:
                return 1
            case Kind.THROTTLED_FOR_LONG:
                return 4
            case Kind.FOREIGN | Kind.IN_OTHER_WORDS:
                return 4 if lasts and not alone else 1
            case Kind.UNANSWERED:
                return 0 if not lasts else 1 if alone else 4
            case Kind.NEVER_LEFT | Kind.NO_TLS | Kind.THROTTLED:
                return 4 if lasts else 0


CELLS = [Cell(*each) for each in product(FAULTS, ("first", "middle", "last", "every 4th"), (False, True))]


class Site:
    """A sandbox behind a gateway, and the command, in an event loop with virtual time."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, runner: asyncio.Runner, authority: trustme.CA | None
    ) -> None:
        self.loop = runner.get_loop()
        self._key = next(KEYS)
        self.roster, self.results = folder / "depot.csv", folder / "depot.results.csv"
        monkeypatch.setattr("asyncio.run", runner.run)
        monkeypatch.setattr("aiohttp.connector._DNSCacheTable.expired", lambda *_: True)  # it goes by another clock
        monkeypatch.setattr("os.fsync", lambda _: None)  # it takes most of the time, and no power is cut here
        monkeypatch.setattr(
            "batch_issuer.sandbox.server.time", SimpleNamespace(monotonic=self.loop.time, time=time.time)
        )
        self._environ = {"SAMSARA_API_TOKEN": self._key}
        if authority is not None:
            authority.cert_pem.write_to_path(folder / "ca.pem")
            self._environ["SSL_CERT_FILE"] = str(folder / "ca.pem")
        self._authority = authority

    async def start(self, *, one_each: bool, limit: int, period: float) -> None:
        self.sandbox = Sandbox(api_token=self._key, limit=limit, per=period, latency=(0.02, 0.4), seed=1)
        await self.sandbox.start()
        self.gateway = Gateway(self.sandbox, self._authority, one_each=one_each)
        await self.gateway.start()
        assert isinstance(self.loop, NetworkLoop)
        self.loop.gateway = self.gateway

    async def stop(self) -> None:
        await self.gateway.stop()
        await self.sandbox.stop()

    def write_roster(self, count: int) -> None:
        rows = "".join(f"{1000 + number},Depot {number % 3}\n" for number in range(count))
        self.roster.write_text(f"Driver ID,Depot\n{rows}")

    def command(self, name: str, path: Path, *options: str) -> int:
        """Run it; returns the exit code."""
        self._before = len(self.sandbox.ledger)
        return main([name, str(path), "--base-url", self.gateway.url, *options], self._environ)

    def rows(self) -> list[dict[str, str]]:
        with self.results.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, strict=True))

    def issued(self, since: int = 0) -> dict[str, list[LedgerEntry]]:
        """What the sandbox issued after this many requests, including lost replies."""
        found: dict[str, list[LedgerEntry]] = {}
        for entry in self.sandbox.ledger[since:]:
            if entry.token:
                found.setdefault(entry.identifier, []).append(entry)
        return found

    def assert_agrees(self, rows: list[dict[str, str]]) -> None:
        """Each token is in the row of its driver, with its code.

        If the last command lost a token that was issued, the row reports that one may exist.
        """
        ledger, lately = self.issued(), self.issued(self._before)
        for row in rows:
            entries = ledger.get(row["auth_identifier"], [])
            assert (row["auth_status"] == "issued") == bool(row["auth_token"]) == bool(row["auth_code"])
            if row["auth_token"]:
                assert (row["auth_code"], row["auth_token"]) in [(entry.code, entry.token) for entry in entries]
            elif row["auth_identifier"] in lately:
                assert row["auth_status"] == "unknown"
                assert "a token may exist" in row["auth_hint"]

    def assert_keeps_secrets(self, shown: str, rows: list[dict[str, str]]) -> None:
        """They are neither in the output nor in any other column."""
        secrets = {
            self._key,
            *(secret for entry in self.sandbox.ledger for secret in (entry.code, entry.token) if secret),
        }
        other = {"auth_token", "auth_code"}
        text = shown + "\n".join(value for row in rows for name, value in row.items() if name not in other)
        assert not [secret for secret in secrets if secret in text]
        assert "Traceback" not in text
        assert "this is a bug" not in text


def assert_has_error_and_hint(row: dict[str, str]) -> None:
    """A row without a token has an error of one line, and a hint."""
    error, hint = row["auth_error"], row["auth_hint"]
    if row["auth_status"] == "issued" and not error:
        assert not hint
        return
    assert error
    assert error.isprintable()
    assert len(error) <= 300
    where, _, fix = hint.partition(": ")
    assert where in {hint.where for hint in Hint}
    assert any(fix.startswith(known) for known in HINTS)


@contextmanager
def site(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA | None = None,
    *,
    one_each: bool = True,
    limit: int = LIMIT,
    period: float = PERIOD,
) -> Iterator[Site]:
    traffic = Traffic(monkeypatch)
    with asyncio.Runner(loop_factory=lambda: NetworkLoop(traffic)) as runner:
        place = Site(folder, monkeypatch, runner, authority)
        runner.run(place.start(one_each=one_each, limit=limit, period=period))
        try:
            yield place
        finally:
            runner.run(place.stop())


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_fault_ends_soon_with_a_correct_result_and_a_hint(
    cell: Cell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    authority: trustme.CA,
) -> None:
    """Once the fault is over, ``retry`` finishes the file."""
    random.seed(str(cell))
    kind, tls = cell.fault.kind, cell.fault.kind is Kind.NO_TLS
    with site(tmp_path, monkeypatch, authority if tls else None, one_each=bool(cell.fault.route)) as place:
        place.write_roster(COUNT)
        place.gateway.fault = lambda number: cell.fault if cell.strikes(number) else None

        assert place.command("issue", place.roster, *OPTIONS) == cell.exit_code
        took = place.loop.time()
        output, rows = "".join(capsys.readouterr()), place.rows()

        place.assert_agrees(rows)
        place.assert_keeps_secrets(output, rows)
        assert [row["Driver ID"] for row in rows] == [str(1000 + number) for number in range(COUNT)]
        for row in rows:
            assert_has_error_and_hint(row)
        assert peak(place.gateway.arrivals, PERIOD) <= LIMIT
        assert took <= GIVES_UP
        if cell.exit_code in (3, 4):
            assert "\nerror: " in output
            assert "\nhint: " in output
            assert "\nTo resume:\n  batch-issuer retry" in output
        if cell.exit_code in (0, 4):
            assert {row["auth_status"] for row in rows} <= {"issued", "unknown", "not_attempted", "failed"}
        if kind is Kind.UNAUTHORIZED:
            assert sum(cell.strikes(number + 1) for number in range(len(place.gateway.arrivals))) <= 16
        if cell.stays and cell.where == "first" and (kind in (Kind.FOREIGN, Kind.NO_TLS)):
            assert "the server is not the Samsara API" in output
            assert took < 10.0
            assert max(len(place.gateway.arrivals), place.gateway.connections) == 3

        place.gateway.fault = lambda _: None
        assert place.command("retry", place.results, *OPTIONS) == 0
        rows = place.rows()
        place.assert_agrees(rows)
        if kind is not Kind.HARMLESS:
            assert Counter(row["auth_status"] for row in rows) == {"issued": COUNT}
        assert peak(place.gateway.arrivals, PERIOD) <= LIMIT


def test_the_matrix_has_its_full_size() -> None:
    assert len(CELLS) >= 300
    assert len(set(map(str, CELLS))) == len(CELLS)


@pytest.mark.soak
def test_retry_finishes_two_thousand_drivers_with_every_fault_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], authority: trustme.CA
) -> None:
    """15 % of the requests meet some fault; each run ends as expected, and the next one resumes it."""
    drivers, rng = 2000, random.Random(6)
    options = ("--timeout", "5s", "--give-up-after", "2m", "--quota", "process")

    def fault(number: int, chosen: dict[int, Fault | None] = {}) -> Fault | None:  # noqa: B006 - remembers
        if number not in chosen:
            chosen[number] = rng.choice(FAULTS) if rng.random() < 0.15 else None
        return chosen[number]

    with site(tmp_path, monkeypatch, authority, limit=100, period=60.0) as place:
        place.write_roster(drivers)
        place.gateway.fault = fault
        codes = [place.command("issue", place.roster, *options)]
        while codes[-1]:
            assert codes[-1] in (1, 3, 4)
            place.assert_agrees(place.rows())
            codes.append(place.command("retry", place.results, *options))
            assert len(codes) < 400
        rows = place.rows()
        place.assert_agrees(rows)
        assert Counter(row["auth_status"] for row in rows) == {"issued": drivers}
        assert len({row["auth_token"] for row in rows}) == drivers
        assert peak(place.gateway.arrivals, 60.0) <= 100
        place.assert_keeps_secrets("".join(capsys.readouterr()), rows)
    assert {*codes} == {0, 1, 3, 4}
