"""Whole jobs through the library: outcomes, a DataFrame, a file; against the real sandbox."""

from __future__ import annotations

import asyncio
import csv
import socket
import traceback
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from batch_issuer import (
    AUTH_COLUMNS,
    Destination,
    EndingKind,
    Roster,
    Run,
    Sandbox,
    Secret,
    Settings,
    SettingsError,
    Status,
    StorageError,
    issue,
    issue_file,
    issue_frame,
)
from batch_issuer.client import open_client
from batch_issuer.model import Rate
from batch_issuer.quota import open_quota
from batch_issuer.results import read_results
from batch_issuer.results.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batch_issuer import Outcome
    from batch_issuer.events import Event

SAMPLES = Path(__file__).parent.parent / "sample_inputs"


def with_sandbox(job: Callable[[Settings, Sandbox], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with Sandbox(**options) as sandbox:
            return await job(Settings(api_token=Secret(sandbox.api_token), base_url=sandbox.url), sandbox)

    return asyncio.run(main())


def test_issue_yields_one_outcome_for_each_row_of_the_roster() -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster = Roster.from_path(SAMPLES / "depot.csv")
        outcomes = [outcome async for outcome in issue(roster, settings)]
        assert sorted(outcome.row for outcome in outcomes) == list(roster.row_numbers())
        held = {(str(o.identifier), o.code, o.token) for o in outcomes if o.status is Status.ISSUED}
        assert held == {(entry.identifier, entry.code, entry.token) for entry in sandbox.ledger if entry.token}

    with_sandbox(job)


def test_leaving_the_loop_early_sends_nothing_more() -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        async with aclosing(issue(Roster.from_path(SAMPLES / "depot_clean.csv"), settings)) as outcomes:
            async for _ in outcomes:
                break
        sent = len(sandbox.ledger)
        assert sent < 10
        await asyncio.sleep(0.05)
        assert len(sandbox.ledger) == sent

    with_sandbox(job, latency=(0.01, 0.01))


def test_a_frame_comes_back_with_its_columns_index_and_types() -> None:
    """Filtered, sorted and with mixed types, each token sits on its own row."""
    frame = pd.DataFrame(
        {"driverId": [7001, 7002, 404404, 7003], "when": pd.date_range("2026-01-01", periods=4), "note": list("abcd")},
        index=[9, 4, 4, "x"],
    ).sort_values("note", ascending=False)

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        result = await issue_frame(frame, settings)
        pd.testing.assert_frame_equal(result[list(frame.columns)], frame)
        assert list(result.columns) == [*frame.columns, *AUTH_COLUMNS]
        issued = {entry.identifier: entry.token for entry in sandbox.ledger}
        assert [issued[f"driverId={driver}"] for driver in result["driverId"]] == result["auth_token"].tolist()
        assert result["auth_status"].tolist() == ["issued", "failed", "issued", "issued"]

    with_sandbox(job)


def test_a_refused_key_is_an_outcome_not_an_exception() -> None:
    async def job(settings: Settings, _sandbox: Sandbox) -> list[str]:
        wrong = Settings(api_token=Secret("wrong"), base_url=settings.base_url)
        result = await issue_frame(pd.DataFrame({"username": ["sample.one", "sample.two"]}), wrong)
        return result["auth_status"].tolist()  # type: ignore[no-any-return]

    assert with_sandbox(job) == ["failed", "not_attempted"]


@pytest.mark.parametrize("quota", ["host", "process"])
def test_runs_in_a_row_share_the_quota_of_the_organization(quota: str) -> None:
    """Two frames one after the other: what the first used is not sent again by the second, and no 429 comes."""

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        limited = replace(settings, rate=Rate(10, 0.5), quota=quota)
        for start in (0, 8):
            await issue_frame(pd.DataFrame({"driverId": range(7000 + start, 7008 + start)}), limited)
        assert sandbox.peak() <= 10
        assert all(entry.counted for entry in sandbox.ledger)
        assert len(sandbox.ledger) == 16

    with_sandbox(job, limit=10, per=0.5)


def test_a_cancelled_job_publishes_every_token_that_came(tmp_path: Path) -> None:
    """As in a notebook whose cell is interrupted; what was under way is ``unknown``, no journal stays behind."""

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, out = Roster.from_path(SAMPLES / "depot_clean.csv"), Destination(tmp_path / "out.csv")
        run, forty = (
            Run(roster.drivers, settings, observe=lambda _: len(run.finished) < 40 or forty.set()),
            asyncio.Event(),
        )
        task = asyncio.create_task(issue_file(roster, settings, out, run=run))
        await forty.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        results = read_results(out.path)
        assert len(results.frame) == 100
        tokens = dict(zip(results.frame["auth_identifier"], results.frame["auth_token"], strict=True))
        status = dict(zip(results.frame["auth_identifier"], results.frame["auth_status"], strict=True))
        for entry in sandbox.ledger:
            assert tokens[entry.identifier] == entry.token or status[entry.identifier] == "unknown"
        assert not out.partial.exists()

    with_sandbox(job, latency=(0.001, 0.01))


def test_a_run_of_another_roster_or_one_that_ran_already_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster = Roster.from_bytes(b"Driver ID\n1\n2\n", "depot.csv")
        run, out = Run(roster.drivers[:1], settings), Destination(tmp_path / "out.csv")
        with pytest.raises(ValueError, match="another roster"):
            await issue_file(roster, settings, out, run=run)
        used = Run(roster.drivers, settings)
        await issue_file(roster, settings, out, run=used)
        published = out.path.read_bytes()
        with pytest.raises(ValueError, match="has run already"):
            await issue_file(roster, settings, out, run=used)
        assert len(sandbox.ledger) == 2
        left_early = Run(roster.drivers, settings)
        async with (
            open_client(settings) as client,
            open_quota(settings) as quota,
            aclosing(left_early.outcomes(client, quota)) as outcomes,
        ):
            await anext(outcomes)
        sent = len(sandbox.ledger)
        with pytest.raises(ValueError, match="has run already"):
            await issue_file(roster, settings, out, run=left_early)
        assert out.path.read_bytes() == published
        assert not out.partial.exists()
        assert len(sandbox.ledger) == sent

    with_sandbox(job)


def test_a_certificate_file_that_cannot_be_read_is_a_settings_error_before_anything_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        roster = Roster.from_path(SAMPLES / "depot.csv")
        settings = Settings(api_token=Secret("key"), ca_file=str(tmp_path / "nope.pem"))
        await issue_file(roster, settings, Destination(tmp_path / "out.csv"))

    with pytest.raises(SettingsError, match=r"nope\.pem"):
        asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_redis_server_that_is_not_there_is_a_settings_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_issuer.quota.on_hosts.RETRY", 0.01)
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"redis://user:hunter2hunter2@127.0.0.1:{nobody_listens.getsockname()[1]}/0"

        async def job(settings: Settings, sandbox: Sandbox) -> None:
            roster = Roster.from_path(SAMPLES / "depot.csv")
            with pytest.raises(SettingsError, match="cannot be reached") as caught:
                await issue_file(roster, replace(settings, quota=address), Destination(tmp_path / "out.csv"))
            assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + caught.value.tip
            assert sandbox.ledger == []

        with_sandbox(job)
    assert list(tmp_path.iterdir()) == []


def test_the_journal_calls_a_row_unknown_from_its_request_on_until_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line by line: a request that may have issued a token is never taken back, a refused one is."""
    monkeypatch.setattr("batch_issuer.retry.BACKOFF_BASE", 0.01)
    out, history = Destination(tmp_path / "out.csv"), []

    def observe(_: Event) -> None:
        if out.partial.exists():
            history[:] = list(csv.DictReader(out.partial.read_text("utf-8-sig").splitlines()))

    async def job(settings: Settings, _sandbox: Sandbox) -> None:
        roster = Roster.from_bytes(b"Username\nfirst.sample\nsecond.sample\n", "depot.csv")
        settings = replace(settings, concurrency=1)
        run = Run(roster.drivers, settings, observe=observe, uniform=max)
        await issue_file(roster, settings, out, run=run)

    with_sandbox(job, script="lost,429,429,503,429")
    lines = {row: [line["auth_status"] for line in history if line["auth_row"] == row] for row in ("2", "3")}
    refused, lost = sorted(lines.values(), key=lambda statuses: "not_attempted" not in statuses)
    assert set(lost) == {"unknown", "issued"}
    assert refused.index("not_attempted") == 1
    assert lost[-1] == refused[-1] == "issued"


class Failing:
    """A journal whose disk is full after some lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
        write, self.written = Journal._write, 0

        def limited(journal: Journal, *arguments: Any, **options: Any) -> None:
            self.written += 1
            if self.written > lines:
                raise StorageError("the disk is full", "make room")
            write(journal, *arguments, **options)

        monkeypatch.setattr(Journal, "_write", limited)


@pytest.mark.parametrize("lines", [3, 10, 11, 40, 41])
def test_a_full_disk_stops_the_run_and_what_was_issued_is_still_published(
    lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request leaves once a line could not be written; the tokens of those in flight are not lost."""
    Failing(monkeypatch, lines)

    async def job(settings: Settings, sandbox: Sandbox) -> tuple[list[Outcome], int]:
        roster = Roster.from_path(SAMPLES / "depot_clean.csv")
        out = Destination(tmp_path / "out.csv")
        report = await issue_file(roster, settings, out)
        assert report.ending.kind is EndingKind.STORAGE
        assert sum(report.counts().values()) == 100
        issued = {entry.identifier: entry.token for entry in sandbox.ledger}
        with out.path.open(encoding="utf-8-sig", newline="") as file:
            held = {row["auth_identifier"]: row["auth_token"] for row in csv.DictReader(file) if row["auth_token"]}
        assert held == issued
        return report.outcomes, len(sandbox.ledger)

    _, sent = with_sandbox(job, latency=(0.001, 0.002))
    assert sent <= lines
