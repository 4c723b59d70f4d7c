"""Whole jobs through the library: outcomes, a DataFrame, a file; against the real sandbox."""

from __future__ import annotations

import asyncio
import csv
import socket
import traceback
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from support.paths import SAMPLES
from support.rosters import DEPOT, batch, interrupted_run, issued, lines, publish

from batch_issuer import (
    AUTH_COLUMNS,
    Ending,
    EndingKind,
    ResultsError,
    Roster,
    Sandbox,
    Secret,
    Settings,
    SettingsError,
    Status,
    StopSignal,
    StorageError,
    issue,
    issue_file,
    issue_frame,
    retry_file,
)
from batch_issuer.api.client import open_client, open_connections
from batch_issuer.pipeline.events import Event, RowDone
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import open_quota
from batch_issuer.results import Destination, Validity, read_results
from batch_issuer.results.journal import Journal
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from batch_issuer import Outcome


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


# --- results files

THREE = b"Driver ID\n7001\n7002\n7003\n"


def test_a_file_is_issued_for_a_roster_and_its_result_adds_up(tmp_path: Path) -> None:
    async def job(settings: Settings, _sandbox: Sandbox) -> None:
        result = await issue_file(Roster.from_path(SAMPLES / "depot.csv"), settings, tmp_path / "out.csv")
        assert result.ending.kind is EndingKind.FINISHED
        assert result.path == tmp_path / "out.csv"
        expected = {Status.ISSUED: 55, Status.FAILED: 2, Status.INVALID: 2, Status.DUPLICATE: 1}
        assert result.counts() == expected
        assert [outcome.row for outcome in result.outcomes] == list(range(2, 62))
        assert result.without_token == [outcome for outcome in result.outcomes if not outcome.token]
        assert not result.complete
        assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]

    with_sandbox(job)


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_an_interrupted_run_is_resumed(by: str, tmp_path: Path) -> None:
    """What was issued is kept and not asked for again; what may have been issued is."""

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, place = Roster.from_bytes(THREE, "depot.csv"), Destination(tmp_path / "out.csv")
        kept = interrupted_run(place, roster)
        if by == "issue":
            result = await issue_file(roster, settings, place.path)
        else:
            result = await retry_file(str(place.path), settings)  # a text will do
        assert sorted(entry.identifier for entry in sandbox.ledger) == ["driverId=7002", "driverId=7003"]
        assert result.complete
        assert result.outcomes[0] == kept
        assert [outcome.attempts for outcome in result.outcomes] == [1, 2, 1]
        held = {line["auth_identifier"]: line["auth_token"] for line in lines(place.path)}
        assert held == {str(kept.identifier): kept.token, **{e.identifier: e.token for e in sandbox.ledger}}
        assert list(tmp_path.iterdir()) == [place.path]

    with_sandbox(job)


@pytest.mark.parametrize("lifetime", [-1, 290, 330])
def test_a_token_that_does_not_last_long_enough_is_renewed(lifetime: int, tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, place = Roster.from_bytes(THREE, "depot.csv"), Destination(tmp_path / "out.csv")
        interrupted_run(place, roster, timedelta(seconds=lifetime))
        result = await issue_file(roster, replace(settings, min_validity=300.0), place.path)
        assert result.complete
        assert len(sandbox.ledger) == (3 if lifetime < 300 else 2)

    with_sandbox(job)


def test_an_earlier_token_that_could_not_be_renewed_is_kept_and_reported_as_not_renewed(tmp_path: Path) -> None:
    async def job(settings: Settings, _sandbox: Sandbox) -> None:
        roster, place = Roster.from_bytes(THREE, "depot.csv"), Destination(tmp_path / "out.csv")
        kept = interrupted_run(place, roster, timedelta(seconds=200))
        result = await issue_file(roster, settings, place.path)
        (lacking,) = result.without_token
        assert (lacking.row, lacking.token, lacking.expires_at) == (kept.row, kept.token, kept.expires_at)
        assert "HTTP 404" in lacking.error
        assert result.counts() == {Status.ISSUED: 3}
        assert not result.complete

    with_sandbox(job, script="404")


def test_overwriting_sets_the_journal_aside_and_requests_every_row(tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, place = Roster.from_bytes(THREE, "depot.csv"), Destination(tmp_path / "out.csv")
        interrupted_run(place, roster)
        left = place.partial.read_bytes()
        assert (await issue_file(roster, settings, place.path, overwrite=True)).complete
        assert len(sandbox.ledger) == 3
        assert place.path.with_name("out.csv.partial.1").read_bytes() == left
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.partial.1"]

    with_sandbox(job)


def test_a_retry_that_overwrites_uses_the_results_as_they_are(tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, place = Roster.from_bytes(THREE, "depot.csv"), Destination(tmp_path / "out.csv")
        first = await issue_file(roster, settings, place.path)
        interrupted_run(place, roster)
        result = await retry_file(place.path, settings, overwrite=True)
        assert [outcome.token for outcome in result.outcomes] == [outcome.token for outcome in first.outcomes]
        assert len(sandbox.ledger) == 3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.partial.1"]

    with_sandbox(job)


def test_a_retry_asks_for_what_has_no_token_and_leaves_the_others_alone(tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        first = await issue_file(Roster.from_bytes(THREE, "depot.csv"), settings, tmp_path / "out.csv")
        (lacking,) = first.without_token
        second = await retry_file(tmp_path / "out.csv", settings)
        assert [entry.identifier for entry in sandbox.ledger[3:]] == [str(lacking.identifier)]
        assert second.complete
        for before, after in zip(first.outcomes, second.outcomes, strict=True):
            assert after.attempts == (2 if before is lacking else 1)
            assert before is lacking or after.token == before.token

    with_sandbox(job, script="404")


@pytest.mark.parametrize(("text", "lacking"), [(THREE.decode(), []), (DEPOT, [4, 5])], ids=["complete", "not"])
def test_with_nothing_to_do_nothing_is_sent_and_nothing_written(text: str, lacking: list[int], tmp_path: Path) -> None:
    """Rows that cannot be requested are no reason to write, as long as they are unchanged."""

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        rows, out = batch(text), tmp_path / "out.csv"
        late = datetime.now(UTC) + timedelta(hours=1)
        publish(Destination(out), rows, *(issued(d, f"token-{d.row}", expires_at=late) for d in rows.drivers))
        before = out.stat()
        result = await retry_file(out, settings)
        after = out.stat()
        assert result.ending.kind is EndingKind.FINISHED
        assert [outcome.row for outcome in result.without_token] == lacking
        assert result.complete == (not lacking)
        assert sandbox.ledger == []
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert list(tmp_path.iterdir()) == [out]

    with_sandbox(job)


def test_sandbox_tokens_do_not_count_for_the_real_api(tmp_path: Path) -> None:
    """A sandbox run first, then the real one on the same file: every row is asked for."""

    async def job(settings: Settings, _sandbox: Sandbox) -> None:
        await issue_file(Roster.from_bytes(THREE, "depot.csv"), settings, tmp_path / "out.csv")
        with Destination(tmp_path / "out.csv") as place:
            assert len(place.reopen(Validity.at_least(300.0, real=True)).drivers) == 3
            assert place.reopen(Validity.at_least(300.0, real=False)).drivers == []

    with_sandbox(job)


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_results_that_another_run_is_writing_are_refused_and_nothing_is_sent(by: str, tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, place = Roster.from_bytes(THREE, "depot.csv"), Destination(tmp_path / "out.csv")
        job = issue_file(roster, settings, place.path) if by == "issue" else retry_file(place.path, settings)
        with place, pytest.raises(ResultsError, match="another run"):
            await job
        assert sandbox.ledger == []

    with_sandbox(job)


def test_a_cancelled_job_publishes_every_token_that_came(tmp_path: Path) -> None:
    """As in a notebook whose cell is interrupted; a row in flight is ``unknown``, no journal stays behind."""

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        roster, out = Roster.from_path(SAMPLES / "depot_clean.csv"), Destination(tmp_path / "out.csv")
        done, forty = count(1), asyncio.Event()

        def observe(event: Event) -> None:
            if isinstance(event, RowDone) and next(done) == 40:
                forty.set()

        task = asyncio.create_task(issue_file(roster, settings, out.path, observe=observe))
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


@pytest.mark.parametrize("after", [0, 1, 40])
def test_a_stop_signal_ends_a_job_in_good_order(after: int, tmp_path: Path) -> None:
    """Before it begins, too: nothing is sent then. Every row has its outcome, and retry finishes the file."""
    ending = Ending(EndingKind.INTERRUPTED, "by the test")

    async def job(settings: Settings, sandbox: Sandbox) -> None:
        stop, done = StopSignal(), count(1)
        if not after:
            stop.stop(ending)

        def observe(event: Event) -> None:
            if isinstance(event, RowDone) and next(done) == after:
                stop.stop(ending)

        roster = Roster.from_path(SAMPLES / "depot_clean.csv")
        result = await issue_file(roster, settings, tmp_path / "out.csv", stop=stop, observe=observe)
        assert result.ending == ending
        assert sum(result.counts().values()) == 100
        sent = len(sandbox.ledger)
        assert after <= sent < 100
        assert result.counts().get(Status.ISSUED, 0) == sent
        assert (await retry_file(tmp_path / "out.csv", settings)).complete
        assert len(sandbox.ledger) == 100

    with_sandbox(job, latency=(0.001, 0.002))


def test_jobs_at_the_same_time_can_share_their_connections(tmp_path: Path) -> None:
    async def job(settings: Settings, sandbox: Sandbox) -> None:
        settings = replace(settings, quota="process")
        async with open_connections(None, 5) as connections:
            results = await asyncio.gather(
                *(
                    issue_file(
                        Roster.from_bytes(THREE, f"{number}.csv"),
                        settings,
                        tmp_path / f"{number}.csv",
                        connections=connections,
                    )
                    for number in range(3)
                )
            )
            assert len(sandbox.ledger) == 9
            outcomes = [
                outcome
                async for outcome in issue(Roster.from_bytes(THREE, "depot.csv"), settings, connections=connections)
            ]
        assert all(result.complete for result in results)
        assert [outcome.status for outcome in outcomes] == [Status.ISSUED] * 3

    with_sandbox(job)


def test_a_certificate_file_that_cannot_be_read_is_a_settings_error_before_anything_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        roster = Roster.from_path(SAMPLES / "depot.csv")
        settings = Settings(api_token=Secret("key"), ca_file=str(tmp_path / "nope.pem"))
        await issue_file(roster, settings, tmp_path / "out.csv")

    with pytest.raises(SettingsError, match=r"nope\.pem"):
        asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_redis_server_that_is_not_there_is_a_settings_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_issuer.quota.redis_leases.RETRY_INTERVAL", 0.01)
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"redis://user:hunter2hunter2@127.0.0.1:{nobody_listens.getsockname()[1]}/0"

        async def job(settings: Settings, sandbox: Sandbox) -> None:
            roster = Roster.from_path(SAMPLES / "depot.csv")
            with pytest.raises(SettingsError, match="cannot be reached") as caught:
                await issue_file(roster, replace(settings, quota=address), tmp_path / "out.csv")
            assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
            assert sandbox.ledger == []

        with_sandbox(job)
    assert list(tmp_path.iterdir()) == []


def test_the_journal_calls_a_row_unknown_from_its_request_on_until_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line by line: a request that may have issued a token is never taken back, a refused one is."""
    monkeypatch.setattr("batch_issuer.pipeline.backoff.BACKOFF_BASE", 0.01)
    out, history = Destination(tmp_path / "out.csv"), []

    def observe(_: Event) -> None:
        if out.partial.exists():
            history[:] = list(csv.DictReader(out.partial.read_text("utf-8-sig").splitlines()))

    async def job(settings: Settings, _sandbox: Sandbox) -> None:
        rows = batch("Username\nfirst.sample\nsecond.sample\n")
        settings = replace(settings, concurrency=1)
        with out:
            journal = out.open_journal(rows)
            async with open_client(settings) as client, open_quota(settings) as quota:
                await Run(rows.drivers, settings, client, quota, journal, observe=observe, uniform=max).run()
            journal.close()

    with_sandbox(job, script="lost,429,429,503,429")
    histories = [[line["auth_status"] for line in history if line["auth_row"] == row] for row in ("2", "3")]
    assert [statuses.pop(0) for statuses in histories] == ["not_attempted"] * 2  # from its first line on
    refused, lost = sorted(histories, key=lambda statuses: "not_attempted" not in statuses)
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


@pytest.mark.parametrize("kept", [0, 3, 10, 11, 40, 41])
def test_a_full_disk_stops_the_run_and_what_was_issued_is_still_published(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request leaves once a line could not be written; the tokens of those in flight are not lost."""
    Failing(monkeypatch, kept)

    async def job(settings: Settings, sandbox: Sandbox) -> tuple[list[Outcome], int]:
        out = tmp_path / "out.csv"
        result = await issue_file(Roster.from_path(SAMPLES / "depot_clean.csv"), settings, out)
        assert result.ending.kind is EndingKind.STORAGE
        assert sum(result.counts().values()) == 100
        ledger = {entry.identifier: entry.token for entry in sandbox.ledger}
        assert {line["auth_identifier"]: line["auth_token"] for line in lines(out) if line["auth_token"]} == ledger
        return result.outcomes, len(sandbox.ledger)

    _, sent = with_sandbox(job, latency=(0.001, 0.002))
    assert sent <= kept
