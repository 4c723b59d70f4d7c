"""What a user types and what comes out: commands, messages, exit codes, the results file; against the real sandbox."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from support.live_sandbox import live_sandbox
from support.paths import SAMPLES
from support.rosters import CODE, cut_off_run, issued, publish

import batch_issuer
from batch_issuer.cli import main
from batch_issuer.cli.parser import make_parser
from batch_issuer.errors import SettingsError
from batch_issuer.hints import SCOPE, Hint
from batch_issuer.quota.leases import End
from batch_issuer.quota.opening import organization
from batch_issuer.quota.sqlite_database import state_file, state_folder
from batch_issuer.quota.sqlite_leases import SqliteLeases
from batch_issuer.results import AUTH_COLUMNS, Batch, Destination
from batch_issuer.roster import Roster
from batch_issuer.sandbox import AUTH_TOKEN_PATH
from batch_issuer.settings.addresses import REGIONS
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox


def roster(folder: Path, count: int, name: str = "depot.csv") -> Path:
    path = folder / name
    path.write_text("Driver,Driver ID\n" + "".join(f"Sample {n},{700000 + n}\n" for n in range(count)))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def settings_for(sandbox: Sandbox) -> Settings:
    return Settings(api_token=Secret(sandbox.api_token), base_url=sandbox.url)


def environ_for(sandbox: Sandbox) -> dict[str, str]:
    return {"SAMSARA_API_TOKEN": sandbox.api_token}


def assert_agrees(path: Path, sandbox: Sandbox) -> None:
    """Each token of the file is one that the server issued for that driver and that code, and none is missing."""
    issued = {(entry.identifier, entry.code, entry.token) for entry in sandbox.ledger if entry.token}
    held = {(r["auth_identifier"], r["auth_code"], r["auth_token"]) for r in rows(path) if r["auth_token"]}
    assert held == issued


# --- the main job


def test_clean_sample_in_the_built_in_sandbox(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100 drivers, 100 tokens, exit 0; the path on stdout, everything else on stderr, "sandbox" said plainly."""
    out = tmp_path / "out.csv"
    assert main(["issue", str(SAMPLES / "depot_clean.csv"), "--sandbox", "-o", str(out)], {}) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n"
    assert "100 rows: 100 issued." in told.err
    assert "SANDBOX tokens" in told.err
    assert len({row["auth_token"] for row in rows(out)}) == 100


def test_other_sample_shows_five_rows_without_a_token_each_for_another_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "-o", str(out)], {}) == 1
    lacking = [row for row in rows(out) if not row["auth_token"]]
    assert [(row["auth_status"], row["auth_http_status"], row["auth_error"]) for row in lacking] == [
        ("failed", "404", "HTTP 404: Object not found."),
        ("failed", "400", "HTTP 400: Driver is deactivated."),
        ("invalid", "", "no identifier in this row"),
        ("invalid", "", "'SMP00035' is not an external ID"),
        ("duplicate", "", "the same driver as in row 13"),
    ]
    assert len({row["auth_hint"] for row in lacking}) == 5
    assert len(rows(out)) == 60
    told = capsys.readouterr().err
    assert "60 rows: 55 issued, 2 failed, 2 invalid, 1 duplicate." in told
    assert all(row["auth_hint"] in told for row in lacking)


def test_results_hold_the_roster_unchanged_and_what_the_server_issued(tmp_path: Path) -> None:
    """Same rows, same order, all roster columns, then the auth columns; private from birth; nothing left beside it."""
    with live_sandbox() as sandbox:
        source = roster(tmp_path, 40)
        assert main(["issue", str(source), "--base-url", sandbox.url, "--quiet"], environ_for(sandbox)) == 0
    out = tmp_path / "depot.results.csv"
    assert_agrees(out, sandbox)
    assert list(rows(out)[0]) == ["Driver", "Driver ID", *AUTH_COLUMNS]
    assert [row["Driver ID"] for row in rows(out)] == [row["Driver ID"] for row in rows(source)]
    assert all(row["auth_identifier"] == f"driverId={row['Driver ID']}" for row in rows(out))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["auth_expires_at"]) for row in rows(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depot.csv", "depot.results.csv"]


def test_quota_holds_over_real_sockets(tmp_path: Path) -> None:
    """Three windows of requests that overtake one another on the way: the server never counts more than the limit."""
    with live_sandbox(limit=20, per=0.6, latency=(0.0, 0.3), seed=5) as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "20/0.6s", "--quiet"]
        assert main(["issue", str(roster(tmp_path, 60)), *options], environ_for(sandbox)) == 0
    assert sandbox.peak() <= 20
    assert [entry for entry in sandbox.ledger if not entry.counted] == []
    assert_agrees(tmp_path / "depot.results.csv", sandbox)


@pytest.mark.parametrize("limiter", ["fixed", "bucket", "gcra"])
def test_every_server_model_gives_every_token_in_the_end(limiter: str, tmp_path: Path) -> None:
    with live_sandbox(limiter=limiter, limit=50, per=1.0) as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "50/s", "--quiet"]
        assert main(["issue", str(roster(tmp_path, 80)), *options], environ_for(sandbox)) == 0
    assert_agrees(tmp_path / "depot.results.csv", sandbox)


@pytest.mark.parametrize(
    ("script", "lost"), [("ok*3,reset,503,429*4,truncated,ok,lost", 2), ("html,ok*2,badjson,429*4,shape,ok,502", 0)]
)
def test_faults_on_the_way_cost_attempts_but_no_row(
    script: str, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four attempts fail, four 429s cost none, ``lost`` tokens never arrive: every row still gets one."""
    monkeypatch.setattr("batch_issuer.pipeline.backoff.BACKOFF_BASE", 0.01)
    with live_sandbox(script=script, limiter="none") as sandbox:
        options = ["--base-url", sandbox.url, "--quiet"]
        assert main(["issue", str(roster(tmp_path, 12)), *options], environ_for(sandbox)) == 0
    issued = {(entry.identifier, entry.code, entry.token) for entry in sandbox.ledger if entry.token}
    results = rows(tmp_path / "depot.results.csv")
    held = {(row["auth_identifier"], row["auth_code"], row["auth_token"]) for row in results}
    assert len(results) == len(held) == 12
    assert held <= issued
    assert len(issued) == 12 + lost
    assert sum(int(row["auth_attempts"]) for row in results) == 12 + 4 + 4


def test_standard_input_is_a_roster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"username\nsample.driver\n")))
    assert main(["issue", "-", "-o", str(tmp_path / "out.csv"), "--sandbox", "--quiet"], {}) == 0
    assert rows(tmp_path / "out.csv")[0]["auth_identifier"] == "username=sample.driver"
    assert main(["issue", "-"], {"SAMSARA_API_TOKEN": "key"}) == 2
    assert "needs a name for the results" in capsys.readouterr().err


def test_quiet_says_nothing_on_success_and_the_failures_on_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["issue", str(SAMPLES / "depot_clean.csv"), "--sandbox", "--quiet", "-o", str(tmp_path / "a.csv")], {})
    assert capsys.readouterr() == ("", "")
    main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "--quiet", "-o", str(tmp_path / "b.csv")], {})
    told = capsys.readouterr()
    assert told.out == ""
    assert "row 8 (driverId=281474977404404): failed: HTTP 404: Object not found." in told.err


def test_a_formula_in_the_roster_gets_an_apostrophe_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text('Driver ID,Note\n7001,"=HYPERLINK(""http://example.invalid"")"\n')
    assert main(["issue", str(tmp_path / "depot.csv"), "--sandbox"], {}) == 0
    assert rows(tmp_path / "depot.results.csv")[0]["Note"] == '\'=HYPERLINK("http://example.invalid")'
    assert "1 roster cell got a leading apostrophe" in capsys.readouterr().err


# --- endings


def test_a_refused_key_is_exit_3_after_one_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox() as sandbox:
        code = main(["issue", str(roster(tmp_path, 30)), "--base-url", sandbox.url], {"SAMSARA_API_TOKEN": "wrong"})
    assert code == 3
    told = capsys.readouterr().err
    assert SCOPE in told
    assert "--region" in told
    statuses = [row["auth_status"] for row in rows(tmp_path / "depot.results.csv")]
    assert statuses == ["failed"] + ["not_attempted"] * 29


def test_a_key_revoked_midway_keeps_what_was_issued(tmp_path: Path) -> None:
    with live_sandbox(script="ok*20,401*") as sandbox:
        code = main(["issue", str(roster(tmp_path, 60)), "--base-url", sandbox.url, "--quiet"], environ_for(sandbox))
    assert code == 3
    assert_agrees(tmp_path / "depot.results.csv", sandbox)
    assert sum(row["auth_status"] == "issued" for row in rows(tmp_path / "depot.results.csv")) == 20


def test_429s_for_too_long_are_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox(script="ok*2,429*") as sandbox:
        options = ["--base-url", sandbox.url, "--give-up-after", "600ms"]
        assert main(["issue", str(roster(tmp_path, 5)), *options], environ_for(sandbox)) == 4
    assert "HTTP 429" in capsys.readouterr().err
    statuses = [row["auth_status"] for row in rows(tmp_path / "depot.results.csv")]
    assert statuses == ["issued"] * 2 + ["not_attempted"] * 3


def test_an_outage_for_too_long_is_exit_4_and_costs_few_rows_an_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_sandbox(script="ok*10,503*") as sandbox:
        options = ["--base-url", sandbox.url, "--give-up-after", "600ms", "--quota", "process"]
        assert main(["issue", str(roster(tmp_path, 60)), *options], environ_for(sandbox)) == 4
        assert len(sandbox.ledger) < 40
    assert_agrees(tmp_path / "depot.results.csv", sandbox)
    said = capsys.readouterr().err
    assert "Stopped: the server is in trouble (HTTP 503: This is a fault of the sandbox.)." in said
    assert "What to do: the server had an internal problem; run batch-issuer retry later." in said


def test_a_deadline_is_exit_4_in_time_and_retry_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox() as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "40/s", "--concurrency", "40", "--quota", "process"]
        began = time.monotonic()
        assert main(["issue", str(roster(tmp_path, 90)), *options, "--deadline", "1200ms"], environ_for(sandbox)) == 4
        assert time.monotonic() - began < 1.2 + 1.0
        assert main(["retry", str(tmp_path / "depot.results.csv"), *options], environ_for(sandbox)) == 0
    assert_agrees(tmp_path / "depot.results.csv", sandbox)
    said = capsys.readouterr().err
    assert "The deadline comes first, in 1 s" in said
    assert "Stopped: the deadline came." in said
    assert len(sandbox.ledger) == 90


LOOKUP_THAT_HANGS = """
import socket, sys, time
def hang(*_, **__):
    time.sleep(60)
socket.getaddrinfo = hang
from batch_issuer.cli import entry_point
entry_point()
"""


def test_a_lookup_that_hangs_does_not_keep_a_deadline_from_ending_the_process(tmp_path: Path) -> None:
    """The system looks names up in a thread that nobody can stop; nothing was sent, and the results say so."""
    command = ["issue", str(roster(tmp_path, 5)), "--base-url", "https://localhost:1", "--deadline", "1s"]
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", LOOKUP_THAT_HANGS, *command, "--quota", "process"],
        env={**os.environ, "SAMSARA_API_TOKEN": "key"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert time.monotonic() - began < 40
    assert ran.returncode == 4
    assert "5 rows: 5 not_attempted." in ran.stderr
    assert {row["auth_attempts"] for row in rows(tmp_path / "depot.results.csv")} == {"0"}


def test_a_roster_in_which_every_row_is_invalid_is_exit_1_and_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\nx\n2.81475E+14\n")
    with live_sandbox() as sandbox:
        code = main(["issue", str(tmp_path / "depot.csv"), "--base-url", sandbox.url, "--quiet"], environ_for(sandbox))
    assert code == 1
    assert sandbox.ledger == []
    assert [row["auth_status"] for row in rows(tmp_path / "depot.results.csv")] == ["invalid"] * 2


# --- before the first request: one line, a cure, exit 2


def bad_inputs(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    good = str(roster(folder, 2))
    for name, content in {
        "empty.csv": "",
        "blank.csv": "\n\n",
        "rowless.csv": "Driver ID\n",
        "columnless.csv": "a,b\n1,2\n",
        "ragged.csv": "Driver ID,b\n1,2\n3\n",
        "ambiguous.csv": "ID,Driver ID\n1,2\n",
        "held.csv": "Driver ID,auth_status,auth_token\n1,issued,secret\n",
    }.items():
        (folder / name).write_text(content)
    (folder / "latin.csv").write_bytes("Username\nJürgen\n".encode("cp1252"))
    (folder / "book.xlsx").write_bytes(b"PK\x03\x04rest")
    (folder / "taken.csv").write_text("something,else\n1,2\n")
    (folder / "link.csv").symlink_to(folder / "elsewhere.csv")
    yield "no such roster", ["issue", str(folder / "nope.csv"), "--sandbox"], "there is no file"
    yield "roster is a folder", ["issue", str(folder), "--sandbox"], "is a folder"
    for name, message in {
        "empty.csv": "is empty",
        "blank.csv": "is empty",
        "rowless.csv": "no rows",
        "columnless.csv": "no column that names drivers; its columns are: a, b",
        "ragged.csv": "row 3: 1 cells, but the header has 2",
        "ambiguous.csv": "'ID' and 'Driver ID' could both be",
        "held.csv": "it is a results file",
        "latin.csv": "line 2: not UTF-8",
        "book.xlsx": "a workbook that is not .xlsx",
    }.items():
        yield name, ["issue", str(folder / name), "--sandbox"], message
    yield "no such folder", ["issue", good, "--sandbox", "-o", str(folder / "x" / "out.csv")], "there is no folder"
    yield "folder not writable", ["issue", good, "--sandbox", "-o", "/sys/out.csv"], "cannot be used"
    yield "output is a folder", ["issue", good, "--sandbox", "-o", str(folder)], "is not a file"
    yield "output is the roster", ["issue", good, "--sandbox", "-o", good, "--overwrite"], "is the roster itself"
    yield "the current folder", ["issue", ".", "--sandbox"], "is not a file"
    yield "an empty name", ["issue", "", "--sandbox"], "is not a file"
    yield "output is an empty name", ["issue", good, "--sandbox", "-o", ""], "is a folder"
    yield "output is no CSV", ["issue", good, "--sandbox", "-o", str(folder / "out.ods")], "kept as .csv or .xlsx"
    yield "output is taken", ["issue", good, "--sandbox", "-o", str(folder / "taken.csv")], "not a results file"
    yield "output is a link", ["issue", good, "--sandbox", "-o", str(folder / "link.csv")], "symbolic link"
    for option, value, message in [
        ("--rate", "fast", "is not a rate"),
        ("--rate", "0/min", "is not possible"),
        ("--burst", "101", "does not fit"),
        ("--burst", "many", "is not a whole number"),
        ("--timeout", "soon", "is not a time"),
        ("--concurrency", "0", "concurrency cannot be 0"),
        ("--min-validity", "long", "is not a time"),
        ("--region", "mars", "invalid choice"),
        ("--base-url", "http://api.samsara.com", "unencrypted"),
        ("--base-url", "nonsense", "not a web address"),
        ("--colour", "red", "unrecognized arguments"),
    ]:
        where = [] if option in ("--region", "--base-url") else ["--region", "us"]
        yield f"{option} {value}", ["issue", good, *where, option, value], message
    yield "no roster named", ["issue"], "no roster is named"
    yield "no command", [], "required: COMMAND"
    yield "unknown command", ["isue"], "invalid choice"
    for command in (["status"], ["status", "--json"], ["purge"], ["retry"]):
        yield f"{' '.join(command)} of a roster", [*command, good], "not a results file"
        yield f"{' '.join(command)} of nothing", [*command, str(folder / "nope.csv")], "there is no file"
    yield "retry of a folder", ["retry", str(folder)], "is not a file"
    yield "purge of a link", ["purge", str(folder / "link.csv")], "symbolic link"
    yield "sandbox port", ["sandbox", "--port", "99999"], "port"
    yield "sandbox fault", ["sandbox", "--fault", "gremlins=0.5"], "unknown fault"
    yield "sandbox limiter", ["sandbox", "--limiter", "strict"], "unknown limiter"


def test_bad_input_is_one_line_with_a_cure_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for name, arguments, message in bad_inputs(tmp_path):
        with subtests.test(name):
            before = sorted(tmp_path.iterdir())
            assert main(arguments, {"SAMSARA_API_TOKEN": "key"}) == 2
            told = capsys.readouterr()
            assert told.out == ""
            what, cure = told.err.splitlines()[-2:]
            assert what.startswith("batch-issuer: ")
            assert message in what
            assert cure.startswith("What to do: ")
            assert sorted(tmp_path.iterdir()) == before


def test_a_port_that_is_taken_is_reported_in_the_words_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["sandbox", "--port", str(port)], {}) == 2
    told = capsys.readouterr().err
    assert f"batch-issuer: port {port} cannot be used: {os.strerror(errno.EADDRINUSE)}\n" in told


def test_results_with_tokens_are_replaced_only_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = roster(tmp_path, 2), tmp_path / "depot.results.csv"
    assert main(["issue", str(source), "--sandbox"], {}) == 0
    first = out.read_bytes()
    assert main(["issue", str(source), "--sandbox"], {}) == 2
    told = capsys.readouterr().err
    assert "--overwrite" in told
    assert f"batch-issuer retry {out}" in told
    assert out.read_bytes() == first
    assert main(["issue", str(source), "--sandbox", "--overwrite"], {}) == 0
    assert out.read_bytes() != first


def test_results_without_any_token_may_be_replaced(tmp_path: Path) -> None:
    source = roster(tmp_path, 2)
    with live_sandbox() as sandbox:
        options = [str(source), "--base-url", sandbox.url, "--quiet"]
        assert main(["issue", *options], {"SAMSARA_API_TOKEN": "wrong"}) == 3
        assert main(["issue", *options], environ_for(sandbox)) == 0


def test_no_key_tells_how_to_get_one_and_sends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["issue", str(roster(tmp_path, 2))], ["quota"]):
        assert main(command, {}) == 2
        told = capsys.readouterr().err
        assert all(word in told for word in ("SAMSARA_API_TOKEN", SCOPE, "API Tokens", "--sandbox"))
    assert [path.name for path in tmp_path.iterdir()] == ["depot.csv"]


def test_sandbox_never_looks_at_the_real_key(tmp_path: Path) -> None:
    class Guarded(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
            assert key != "SAMSARA_API_TOKEN"
            return default

        __getitem__ = get  # type: ignore[assignment]

    assert main(["issue", str(roster(tmp_path, 3)), "--sandbox", "--quiet"], Guarded()) == 0


# --- going on with a run that was cut off


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_a_run_that_was_cut_off_is_gone_on_with_and_what_it_left_is_told(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place = roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    kept = cut_off_run(place, Roster.from_path(source))
    with live_sandbox() as sandbox:
        command = [by, str(source if by == "issue" else place.path), "--base-url", sandbox.url]
        assert main(command, environ_for(sandbox)) == 0
    assert [entry.identifier for entry in sandbox.ledger] == ["driverId=700001", "driverId=700002"]
    told = capsys.readouterr()
    assert f"Going on with {place.partial}, which a run that did not finish has left." in told.err
    assert "1 row of 3 with a token that is still good, left alone." in told.err
    assert "1 row of which nobody knows whether a token was issued: another is asked for." in told.err
    assert "3 rows: 3 issued." in told.err
    assert told.out == f"{place.path}\n"
    assert [row["auth_token"] for row in rows(place.path)] == [kept.token, *(e.token for e in sandbox.ledger)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depot.csv", "depot.results.csv"]


def test_a_run_of_another_roster_does_not_go_on_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, place = roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    cut_off_run(place, Roster.from_path(source))
    left = place.partial.read_bytes()
    source.write_text(source.read_text().replace("700001", "700009"))
    for options in ([], ["--overwrite"]):
        assert main(["issue", str(source), "--sandbox", *options], {}) == 2
        told = capsys.readouterr().err
        assert "its roster was another: row 3 differs" in told
        assert f"batch-issuer retry {place.path}" in told
        assert "--restart" in told
    assert place.partial.read_bytes() == left
    assert not place.path.exists()


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_restart_keeps_what_was_left_aside_and_begins_anew(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``retry`` by the results as they were before the run that was cut off."""
    source, place = roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    publish(place, Batch.of_roster(Roster.from_path(source)))
    kept = cut_off_run(place, Roster.from_path(source))
    left = place.partial.read_bytes()
    with live_sandbox() as sandbox:
        command = [by, str(source if by == "issue" else place.path), "--base-url", sandbox.url, "--restart"]
        assert main(command, environ_for(sandbox)) == 0
    aside = tmp_path / "depot.results.csv.partial.1"
    assert f"kept as {aside}; it may hold tokens" in capsys.readouterr().err
    assert aside.read_bytes() == left
    assert kept.token.encode() in left
    assert_agrees(place.path, sandbox)
    assert len(sandbox.ledger) == 3
    assert not place.partial.exists()


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_results_that_were_changed_after_the_run_was_cut_off_are_left_alone(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has worked on them: which of the two counts is for that person to say."""
    source, place = roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    publish(place, Batch.of_roster(Roster.from_path(source)))
    cut_off_run(place, Roster.from_path(source))
    place.path.write_bytes(place.path.read_bytes().replace(b"Sample 1", b"Sample One"))
    os.utime(place.path, (0, place.partial.stat().st_mtime + 1))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([by, str(source if by == "issue" else place.path), "--sandbox"], {}) == 2
    told = capsys.readouterr().err
    assert f"{place.path} was changed after the run that did not finish and left {place.partial}" in told
    assert "--restart" in told
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_no_journal_in_the_place_of_one_is_kept_aside_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, partial = roster(tmp_path, 2), tmp_path / "depot.results.csv.partial"
    partial.write_text("precious")
    for options in ([], ["--overwrite"]):
        assert main(["issue", str(source), "--sandbox", *options], {}) == 2
        assert "--restart" in capsys.readouterr().err
        assert partial.read_text() == "precious"
    assert main(["issue", str(source), "--sandbox", "--restart"], {}) == 0
    assert (tmp_path / "depot.results.csv.partial.1").read_text() == "precious"
    assert not partial.exists()


# --- retry


def results(folder: Path, count: int, tokens: int, lifetime: timedelta = timedelta(minutes=15)) -> Destination:
    """Results of an earlier run: so many rows, tokens in the first of them."""
    rows = Batch.of_roster(Roster.from_path(roster(folder, count)))
    place = Destination(folder / "depot.results.csv")
    expires_at = datetime.now(UTC) + lifetime
    publish(place, rows, *(issued(one, f"token-{one.row}", expires_at=expires_at) for one in rows.drivers[:tokens]))
    return place


def test_issue_of_results_names_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results(tmp_path, 3, 2).path
    before = path.read_bytes()
    assert main(["issue", str(path), "--sandbox"], {}) == 2
    what, cure = capsys.readouterr().err.splitlines()
    assert "it is a results file, not a roster" in what
    assert "batch-issuer retry" in cure
    assert path.read_bytes() == before


def test_retry_asks_for_the_rows_without_a_token_only_and_then_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time nothing is sent and the file is not touched; both are exit 0."""
    path = results(tmp_path, 5, 3).path
    with live_sandbox() as sandbox:
        command = ["retry", str(path), "--base-url", sandbox.url]
        assert main(command, environ_for(sandbox)) == 0
        assert "3 rows of 5 with a token that is still good, left alone." in capsys.readouterr().err
        before = path.stat()
        assert main(command, environ_for(sandbox)) == 0
        assert main([*command, "--quiet"], environ_for(sandbox)) == 0
    told = capsys.readouterr()
    assert told.err.count("There is nothing to do.") == 1
    assert told.out == f"{path}\n"
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [entry.identifier for entry in sandbox.ledger] == ["driverId=700003", "driverId=700004"]
    held = [row["auth_token"] for row in rows(path)]
    assert held == ["token-2", "token-3", "token-4", *(entry.token for entry in sandbox.ledger)]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["depot.csv", "depot.results.csv"]


@pytest.mark.parametrize(("least", "asked"), [([], 3), (["--min-validity", "3m"], 0), (["--min-validity", "1h"], 3)])
def test_retry_renews_what_is_not_valid_for_long_enough(least: list[str], asked: int, tmp_path: Path) -> None:
    path = results(tmp_path, 3, 3, timedelta(minutes=4)).path
    with live_sandbox() as sandbox:
        command = ["retry", str(path), "--base-url", sandbox.url, "--quiet", *least]
        assert main(command, environ_for(sandbox)) == 0
    assert len(sandbox.ledger) == asked


def test_retry_is_exit_1_while_a_row_has_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results(tmp_path, 3, 2).path
    with live_sandbox(script="404*2") as sandbox:
        command = ["retry", str(path), "--base-url", sandbox.url]
        assert main(command, environ_for(sandbox)) == 1
        assert "1 row without a token:" in capsys.readouterr().err
        assert main(command, environ_for(sandbox)) == 1
        assert main(command, environ_for(sandbox)) == 0
    assert [row["auth_attempts"] for row in rows(path)] == ["1", "1", "3"]


def test_an_earlier_token_that_could_not_be_renewed_is_kept_and_told_with_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results(tmp_path, 1, 1, timedelta(minutes=2)).path
    before = rows(path)[0]
    with live_sandbox(script="404") as sandbox:
        assert main(["retry", str(path), "--base-url", sandbox.url], environ_for(sandbox)) == 1
    told = capsys.readouterr().err
    assert "1 row without a good token:" in told
    assert "this is the earlier token; no new one: HTTP 404" in told
    (after,) = rows(path)
    assert {**after, "auth_error": "", "auth_hint": ""} == before


def test_retry_with_a_refused_key_is_exit_3_and_keeps_every_token(tmp_path: Path) -> None:
    path = results(tmp_path, 5, 3).path
    with live_sandbox() as sandbox:
        code = main(["retry", str(path), "--base-url", sandbox.url, "--quiet"], {"SAMSARA_API_TOKEN": "wrong"})
    assert code == 3
    assert [row["auth_token"] for row in rows(path)] == ["token-2", "token-3", "token-4", "", ""]
    assert [row["auth_status"] for row in rows(path)] == ["issued"] * 3 + ["failed", "not_attempted"]


# --- the other commands


def test_check_sends_nothing_and_tells_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(SAMPLES / "depot_clean.csv")], {}) == 0
    assert capsys.readouterr().out.startswith("100 rows: 100 can be sent, 0 cannot; issuing takes about 1 s at 100/min")
    assert main(["check", str(SAMPLES / "depot.csv")], {}) == 1
    told = capsys.readouterr().out
    assert told.startswith("60 rows: 57 can be sent, 3 cannot")
    assert "row 36: invalid: 'SMP00035' is not an external ID" in told
    assert main(["check", str(roster(tmp_path, 250))], {}) == 0
    assert "takes about 2 min" in capsys.readouterr().out


def test_status_counts_without_showing_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "--quiet", "-o", str(out)], {})
    capsys.readouterr()
    assert main(["status", str(out)], {}) == 1
    told = capsys.readouterr().out
    assert "60 rows: 55 issued, 2 failed, 2 invalid, 1 duplicate." in told
    assert "55 tokens valid now, 0 expired." in told
    assert "row 53 (driverId=281474977080492): duplicate: the same driver as in row 13" in told
    secrets = [row[column] for row in rows(out) for column in ("auth_token", "auth_code") if row[column]]
    assert not any(secret in told for secret in secrets)


def test_status_groups_rows_by_hint_and_shows_some_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, place = roster(tmp_path, 2), Destination(tmp_path / "out.csv")
    source.write_text(source.read_text() + "x,70000A\n" * 7 + "Twin,700000\n")
    drivers = Batch.of_roster(Roster.from_path(source))
    expires_at = [datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (-5, 5)]
    pairs = zip(drivers.drivers, expires_at, strict=True)
    publish(place, drivers, *(issued(driver, f"token-{driver.row}", expires_at=at) for driver, at in pairs))
    assert main(["status", str(place.path)], {}) == 1
    local = expires_at[1].astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    invalid = [f"  row {row}: invalid: '70000A' is not a driver ID" for row in range(4, 9)]
    assert capsys.readouterr().out.splitlines() == [
        "10 rows: 2 issued, 7 invalid, 1 duplicate.",
        "1 token valid now, 1 expired.",
        f"The next one expires at {local}, the last one at {local}.",
        f"7 rows: {Hint.DRIVER_ID}",
        *invalid,
        "  … and 2 more",
        f"1 row: {Hint.DUPLICATE}",
        "  row 11 (driverId=700000): duplicate: the same driver as in row 2",
        f"To ask for the rest: batch-issuer retry {place.path}",
    ]


def test_status_as_json_has_the_same_numbers_and_all_rows_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "--quiet", "-o", str(out)], {})
    capsys.readouterr()
    assert main(["status", str(out), "--json"], {}) == 1
    told = capsys.readouterr().out
    found = json.loads(told)
    assert {"rows", "counts", "tokens", "next_expiry", "last_expiry", "problems"} <= found.keys()
    assert found["results"] == str(out)
    assert found["unfinished"] is False
    assert found["rows"] == 60
    assert found["counts"] == {"issued": 55, "failed": 2, "invalid": 2, "duplicate": 1}
    assert found["tokens"] == {"valid": 55, "expired": 0, "unknown_expiry": 0, "spoilt": 0, "purged": 0}
    held = [row for row in rows(out) if row["auth_token"]]
    expiries = sorted(row["auth_expires_at"] for row in held)
    assert (found["next_expiry"], found["last_expiry"]) == (expiries[0], expiries[-1])
    lacking = {number: row for number, row in enumerate(rows(out), 2) if not row["auth_token"]}
    problems = {row["row"]: {**row, "group": group["hint"]} for group in found["problems"] for row in group["rows"]}
    assert problems == {
        number: {
            "row": number,
            **{name: row[f"auth_{name}"] for name in ("status", "identifier", "error", "hint")},
            "group": row["auth_hint"],
        }
        for number, row in lacking.items()
    }
    assert not any(row[column] in told for row in held for column in ("auth_token", "auth_code"))


@pytest.mark.parametrize("name", ["depot.results.csv", "depot.results.csv.partial"])
def test_status_while_there_is_nothing_but_the_journal_is_that_of_the_journal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is at work, or was cut off."""
    place = Destination(tmp_path / "depot.results.csv")
    kept = cut_off_run(place, Roster.from_path(roster(tmp_path, 3)))
    assert main(["status", str(tmp_path / name)], {}) == 1
    told = capsys.readouterr().out
    assert "3 rows: 1 issued, 1 unknown, 1 not_attempted." in told
    assert f"batch-issuer retry {place.path} goes on" in told
    assert kept.code not in told
    assert main(["status", str(tmp_path / name), "--json"], {}) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["unfinished"] is True
    assert found["counts"] == {"issued": 1, "unknown": 1, "not_attempted": 1}
    assert found["tokens"]["valid"] == 1


def test_purge_blanks_expired_tokens_and_tells_of_those_it_cannot_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their codes with them; nothing else in the file changes, and the second time nothing at all."""
    place, now = Destination(tmp_path / "out.csv"), datetime.now(UTC)
    drivers = Batch.of_roster(Roster.from_path(roster(tmp_path, 4)))
    lifetimes = [timedelta(minutes=-1), timedelta(minutes=9), timedelta(minutes=-2), timedelta(days=9)]
    outcomes = [
        issued(driver, f"token-{driver.row}", f"code{driver.row}{CODE}", now + lifetime)
        for driver, lifetime in zip(drivers.drivers, lifetimes, strict=True)
    ]
    publish(place, drivers, *outcomes)
    data = place.path.read_bytes().replace(f"{now + lifetimes[3]:%Y-%m-%dT%H:%M:%SZ}".encode(), b"some day")
    place.path.write_bytes(data)
    assert main(["purge", str(place.path)], {}) == 0
    assert capsys.readouterr() == (
        "2 expired tokens blanked.\n",
        "1 token left, for no expiry can be read of them.\n",
    )
    for secret in ("token-2", f"code2{CODE}", "token-4", f"code4{CODE}"):
        data = data.replace(secret.encode(), b"")
    assert place.path.read_bytes() == data
    before = place.path.stat()
    assert main(["purge", str(place.path)], {}) == 0
    assert capsys.readouterr().out == "0 expired tokens blanked.\n"
    after = place.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert main(["status", str(place.path)], {}) == 1
    assert "1 token valid now, 0 expired, 1 without a readable expiry, 2 purged." in capsys.readouterr().out


@pytest.mark.parametrize("published", [False, True])
def test_purge_of_what_a_run_did_not_finish_is_refused(
    published: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That run would bring the tokens back, or is at work."""
    place = results(tmp_path, 3, 3, timedelta(minutes=-1))
    if not published:
        place.path.unlink()
    cut_off_run(place, Roster.from_path(tmp_path / "depot.csv"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["purge", str(place.path)], {}) == 2
    assert f"batch-issuer retry {place.path}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_status_of_a_complete_file_is_0_until_tokens_expire(tmp_path: Path) -> None:
    for lifetime, code in ((900.0, 0), (0.001, 1)):
        with live_sandbox(token_lifetime=lifetime) as sandbox:
            options = ["--base-url", sandbox.url, "--overwrite", "--quiet"]
            main(["issue", str(roster(tmp_path, 3)), *options], environ_for(sandbox))
        assert main(["status", str(tmp_path / "depot.results.csv")], {}) == code


def test_version_and_help_are_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--help"], ["issue", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments, {})
        assert exit_.value.code == 0
    assert batch_issuer.__version__ in capsys.readouterr().out


def modules_after(code: str) -> set[str]:
    """The top names of all modules that a process has imported by the end of a snippet, which may exit."""
    code = f"import sys\ntry:\n {code}\nexcept SystemExit: pass\nprint(*sys.modules, sep=',', file=sys.stderr)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr
    return {name.partition(".")[0] for name in told.splitlines()[-1].split(",")}


@pytest.mark.parametrize("flags", ["--help", "--version", "issue --help"])
def test_help_imports_what_argparse_imports_and_hardly_more(flags: str) -> None:
    """Neither pandas nor aiohttp, nor asyncio, typing or dataclasses, unless this Python's argparse needs them."""
    bare = "import argparse; argparse.ArgumentParser().parse_args(['--help'])"
    ours = f"from batch_issuer.cli import main; main({flags.split()}, {{}})"
    assert modules_after(ours) - modules_after(bare) <= {"batch_issuer", "__future__", "gc", "signal"}


def test_a_mistyped_flag_is_told_without_waiting_for_the_modules_of_a_command() -> None:
    ours = "from batch_issuer.cli import main; main(['issue', '--rat', '5/s'], {})"
    assert not modules_after(ours) & {"pandas", "numpy", "aiohttp", "asyncio", "dataclasses", "tqdm"}


@pytest.mark.parametrize("command", ["config", "quota"])
def test_a_command_without_a_roster_waits_for_no_pandas(command: str) -> None:
    ours = f"from batch_issuer.cli import main; main(['{command}'], {{'SAMSARA_API_TOKEN': 'key'}})"
    assert not modules_after(ours) & {"pandas", "numpy", "aiohttp", "tqdm"}


def test_the_regions_are_those_that_the_flag_knows() -> None:
    for region in REGIONS:
        assert make_parser().parse_args(["issue", "--region", region]).region == region
    with pytest.raises(SettingsError, match=re.escape("(choose from ")) as told:
        make_parser().parse_args(["issue", "--region", "mars"])
    assert re.findall(r"\b[a-z]{2}\b", told.value.message.partition("choose from")[2]) == list(REGIONS)


def test_an_unexpected_problem_is_told_without_traceback_or_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret is s3cr3t")

    monkeypatch.setattr("batch_issuer.jobs.planning.read_bytes", broken)
    assert main(["check", str(tmp_path)], {}) == 4
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "s3cr3t" not in told
    assert "Traceback" not in told


# --- the quota that runs share

HIDDEN = "hunter2hunter2"
KEY = {"SAMSARA_API_TOKEN": "key"}


@pytest.fixture
def unused_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port on which nobody listens, nor will; and nobody tries for long."""
    monkeypatch.setattr("batch_issuer.quota.redis_leases.RETRY_INTERVAL", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def another_run(
    settings: Settings, *ends: End, under_way: int = 2, waiting: int = 3, gate: float = 0.0
) -> Iterator[None]:
    """A run of this process that has sent requests which ended so, has some under way and some waiting."""
    leases = SqliteLeases(organization(settings), settings.rate)

    async def at_work() -> None:
        for number in range(len(ends) + under_way):
            lease = (await leases.acquire(waiting + 1)).lease
            assert lease is not None
            if number < len(ends):
                leases.release(lease, ends[number])
        if gate:
            leases.close_gate(gate)
        await leases.snapshot()  # all of that is written

    try:
        asyncio.run(at_work())
        yield
    finally:
        asyncio.run(leases.close())


def test_quota_of_nobody_is_all_free(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quota"], KEY) == 0
    assert capsys.readouterr() == ("0 of 100 slots in use.\n", "")


def test_quota_prints_what_all_runs_of_the_organization_have_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Sends nothing and uses none of it; another organization has its own."""
    eu = Settings(api_token=Secret("key"), base_url="https://api.eu.samsara.com")
    with another_run(eu, *[End.ANSWERED] * 4, End.LOST, End.UNSENT, gate=30.0):
        for _ in range(2):
            assert main(["quota", "--region", "eu"], KEY) == 0
        assert main(["quota"], KEY) == 0
    told = capsys.readouterr()
    lines = [
        "7 of 100 slots in use.",
        "2 requests under way.",
        "5 slots cooling down: the first is free in 1 min, all in 1 min 15 s.",
        "Every run has to wait, for 30 s more.",
        "1 run at work, with 3 requests yet to be sent.",
    ]
    assert told.out.splitlines() == [*lines, *lines, "0 of 100 slots in use."]
    assert told.err == ""


def test_quota_of_one_reads_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with another_run(Settings(api_token=Secret("key")), End.ANSWERED, under_way=1, waiting=1):
        assert main(["quota", "--rate", "50/min"], KEY) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 of 50 slots in use.\n1 request under way.\n1 slot cooling down: ")
    assert told.endswith("\n1 run at work, with 1 request yet to be sent.\n")


def test_quota_sees_what_another_process_sees(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "batch_issuer", "quota"]
    with another_run(Settings(api_token=Secret("key")), End.ANSWERED):
        subprocess.run(command, env={**os.environ, **KEY}, check=True, timeout=30)
    assert capfd.readouterr().out.startswith("3 of 100 slots in use.\n2 requests under way.\n1 slot cooling down")


def test_issue_says_before_it_starts_what_others_have_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_sandbox() as sandbox:
        command = ["issue", str(roster(tmp_path, 3)), "--base-url", sandbox.url]
        with another_run(settings_for(sandbox), *[End.ANSWERED] * 36):
            assert main(command, environ_for(sandbox)) == 0
    told = capsys.readouterr().err
    why = "38 of 100 slots in use by another run that has 3 more to send"
    assert f"3 drivers to send at 100/min, {why}: about 1 s." in told


def test_runs_one_after_the_other_share_the_quota(tmp_path: Path) -> None:
    """The second waits for what the first used instead of running into 429s."""
    with live_sandbox(limit=20, per=1.0) as sandbox:
        for name in ("north.csv", "south.csv"):
            options = ["--base-url", sandbox.url, "--rate", "20/s", "--quiet"]
            assert main(["issue", str(roster(tmp_path, 15, name)), *options], environ_for(sandbox)) == 0
    assert all(entry.counted for entry in sandbox.ledger)
    assert sandbox.peak() <= 20
    assert len(sandbox.ledger) == 30


def test_the_sandbox_and_check_leave_the_shared_quota_alone(tmp_path: Path) -> None:
    """Whatever the variable says."""
    source = str(roster(tmp_path, 3))
    for quota in ("host", "nonsense", f"redis://user:{HIDDEN}@127.0.0.1:1/0"):
        environ = {"BATCH_ISSUER_QUOTA": quota}
        assert main(["issue", source, "--sandbox", "--quiet", "--overwrite"], environ) == 0
        assert main(["check", source], environ) == 0
        assert not state_folder().exists()


def test_what_the_quota_is_kept_in_is_private_and_tells_no_secret(tmp_path: Path) -> None:
    """While it is in use, and after it."""
    with live_sandbox() as sandbox:
        options = ["--base-url", sandbox.url, "--quiet"]

        def look() -> None:
            assert stat.S_IMODE(state_folder().stat().st_mode) == 0o700
            for path in state_folder().iterdir():
                try:
                    mode, content = path.stat().st_mode, path.read_bytes()
                except FileNotFoundError:  # SQLite puts its own away, in a thread
                    continue
                assert stat.S_IMODE(mode) == 0o600
                secrets = [sandbox.api_token, *(entry.token for entry in sandbox.ledger)]
                assert not any(secret.encode() in content for secret in secrets)

        with another_run(settings_for(sandbox), End.ANSWERED):
            assert main(["issue", str(roster(tmp_path, 3)), *options], environ_for(sandbox)) == 0
            assert len(list(state_folder().iterdir())) > 1
            look()
        assert state_file(state_folder()).exists()
        look()


@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["", "quiet"])
def test_a_quota_that_is_broken_is_warned_of_once_and_the_run_goes_on(
    quiet: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_folder().mkdir(parents=True)
    state_file(state_folder()).write_text("precious, but no database" * 100)
    with live_sandbox() as sandbox:
        options = ["--base-url", sandbox.url, *quiet]
        assert main(["issue", str(roster(tmp_path, 30)), *options], environ_for(sandbox)) == 0
        told = capsys.readouterr().err
        assert told.count("Warning: the quota cannot be shared with other runs") == 1
        assert told.count("Warning") == 1
        assert sandbox.api_token not in told
        assert main(["quota", "--base-url", sandbox.url], environ_for(sandbox)) == 4
    what, cure = capsys.readouterr().err.splitlines()
    assert what.startswith("batch-issuer: the quota cannot be shared with other runs")
    assert cure.startswith("What to do: ")
    assert state_file(state_folder()).read_text() == "precious, but no database" * 100


def test_a_quota_that_cannot_be_had_for_too_long_is_exit_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has stopped in the middle of writing: what was issued before is published."""
    monkeypatch.setattr("batch_issuer.quota.sqlite_database.LOCK_WAIT", 0.01)
    monkeypatch.setattr("batch_issuer.quota.quota.RETRY_INTERVAL", 0.05)
    assert main(["quota"], KEY) == 0
    holder = sqlite3.connect(state_file(state_folder()), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with live_sandbox() as sandbox:
            options = ["--base-url", sandbox.url, "--give-up-after", "300ms"]
            assert main(["issue", str(roster(tmp_path, 5)), *options], environ_for(sandbox)) == 4
            assert sandbox.ledger == []
    finally:
        holder.close()
    told = capsys.readouterr().err
    assert "Waiting: another process holds the lock" in told
    assert "Stopped: another process holds the lock" in told
    assert [row["auth_status"] for row in rows(tmp_path / "depot.results.csv")] == ["not_attempted"] * 5


def test_a_quota_that_makes_no_sense_is_exit_2_and_its_password_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests, unused_port: int
) -> None:
    source, port = str(roster(tmp_path, 3)), unused_port
    for arguments, variable in [
        (["issue", source, "--quota", "everybody"], ""),
        (["issue", source, "--quota", f"http://user:{HIDDEN}@127.0.0.1"], ""),
        (["issue", source, "--quota", f"redis://user:{HIDDEN}@[::1"], ""),
        (["issue", source, "--quota", f"redis://user:{HIDDEN}@127.0.0.1:{port}/0"], ""),
        (["issue", source, f"--quota=redis://user:{HIDDEN}@127.0.0.1/0", "--rate", "fast"], ""),
        (["issue", source], f"redis//user:{HIDDEN}@127.0.0.1"),
        (["issue", source], f"redis://user:{HIDDEN}@127.0.0.1:{port}/0"),
        (["quota"], f"redis://user:{HIDDEN}@127.0.0.1:{port}/0"),
        (["quota", "--quota", f"rediss://user:{HIDDEN}@127.0.0.1:{port}/0"], ""),
        (["quota", "--quota", f"redis://user:{HIDDEN}@127.0.0.1:{port}/0?unknown_option=1"], ""),
        (["quota", "--quota", "process"], ""),
        (["quota", "--quotas", f"redis://user:{HIDDEN}@127.0.0.1:{port}/0"], ""),
        (["check", source, "--quota", f"redis://user:{HIDDEN}@127.0.0.1:{port}/0"], ""),
    ]:
        with subtests.test(" ".join(arguments).replace(HIDDEN, "***"), variable=bool(variable)):
            assert main(arguments, {**KEY, "BATCH_ISSUER_QUOTA": variable}) == 2
            told = capsys.readouterr()
            assert told.out == ""
            what, cure = told.err.splitlines()[-2:]
            assert what.startswith("batch-issuer: ")
            assert cure.startswith("What to do: ")
            assert HIDDEN not in told.err
            assert [path.name for path in tmp_path.iterdir()] == ["depot.csv"]


def test_a_password_in_an_argument_is_warned_of_and_one_in_the_variable_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unused_port: int
) -> None:
    address = f"redis://user:{HIDDEN}@127.0.0.1:{unused_port}/0"
    for command in (["quota"], ["issue", str(roster(tmp_path, 1))]):
        main([*command, "--quota", address], KEY)
        told = capsys.readouterr().err
        assert told.startswith("Warning: every user of this computer can see the password in --quota.\n")
        assert "BATCH_ISSUER_QUOTA" in told
        assert HIDDEN not in told
        main(command, {**KEY, "BATCH_ISSUER_QUOTA": address})
        main([*command, "--quota", f"redis://127.0.0.1:{unused_port}/0"], KEY)
        assert "Warning" not in capsys.readouterr().err


# --- signals, as a process of its own


class Command:
    """A batch-issuer process on 200 rows, against a sandbox that lets 30 through and then takes its time.

    retry: whether it retries the results that are there.
    """

    def __init__(self, folder: Path, sandbox: Sandbox, rate: str, *, retry: bool = False) -> None:
        self.out = folder / "depot.results.csv"
        self.partial = folder / "depot.results.csv.partial"
        command = ["retry", str(self.out)] if retry else ["issue", str(roster(folder, 200))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "batch_issuer", *command, "--base-url", sandbox.url, "--rate", rate],
            env={**os.environ, **environ_for(sandbox)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signal_after(self, sandbox: Sandbox, requests: int, number: int) -> None:
        deadline = time.monotonic() + 30
        while len(sandbox.ledger) < requests:
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.005)  # waiting for another process, not for time to pass
        self.process.send_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_finishes_what_is_in_flight_and_publishes(number: int, tmp_path: Path) -> None:
    with live_sandbox(latency=(0.05, 0.1)) as sandbox:
        command = Command(tmp_path, sandbox, "30/min")
        command.signal_after(sandbox, 20, number)
        out, err = command.process.communicate(timeout=30)
    assert command.process.returncode == 128 + number
    assert_agrees(command.out, sandbox)
    statuses = [row["auth_status"] for row in rows(command.out)]
    assert len(statuses) == 200
    assert set(statuses) == {"issued", "not_attempted"}
    assert not command.partial.exists()
    assert out == f"{command.out}\n"
    assert "Stopped: " in err
    assert "Traceback" not in err


def test_a_retry_that_a_signal_stops_is_130_and_keeps_earlier_tokens_as_well_as_new_ones(tmp_path: Path) -> None:
    results(tmp_path, 200, 3)
    with live_sandbox(latency=(0.05, 0.1)) as sandbox:
        command = Command(tmp_path, sandbox, "30/min", retry=True)
        command.signal_after(sandbox, 20, signal.SIGINT)
        _, err = command.process.communicate(timeout=30)
    assert command.process.returncode == 130
    issued_now = {entry.token for entry in sandbox.ledger}
    held = [row["auth_token"] for row in rows(command.out) if row["auth_token"]]
    assert held[:3] == ["token-2", "token-3", "token-4"]
    assert {*held[3:]} == issued_now
    assert len(held) == 3 + len(issued_now)
    assert f"To go on: batch-issuer retry {command.out} --base-url {sandbox.url}" in err
    assert not command.partial.exists()


def test_one_ctrl_c_never_leaves_at_once_even_if_the_run_is_stopping_already(tmp_path: Path) -> None:
    """A key revoked midway, slow replies still under way, then Ctrl-C: their tokens are waited for and published."""
    with live_sandbox(script="ok*30,401*", latency=(0.4, 0.8)) as sandbox:
        command = Command(tmp_path, sandbox, "200/min")
        command.signal_after(sandbox, 31, signal.SIGINT)
        _, err = command.process.communicate(timeout=30)
    assert command.process.returncode in (3, 130)
    assert "Left at once" not in err
    assert_agrees(command.out, sandbox)


def test_stdout_and_stderr_that_nobody_reads_change_nothing(tmp_path: Path) -> None:
    """``… 2>&1 | true``: the run goes on to its end, and the exit code is its own."""
    source = roster(tmp_path, 20)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "batch_issuer", "issue", str(source), "--sandbox"]
    assert subprocess.run(command, stdout=writer, stderr=writer, timeout=30, check=False).returncode == 0
    os.close(writer)
    assert {row["auth_status"] for row in rows(tmp_path / "depot.results.csv")} == {"issued"}


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_stream_that_is_closed_or_full_from_the_start_changes_nothing(closed: str, tmp_path: Path) -> None:
    source = roster(tmp_path, 3)
    for redirected in (f"{closed}>&-", f"{closed}>/dev/full"):
        issue = f'exec "{sys.executable}" -m batch_issuer issue "{source}" --sandbox --overwrite {redirected}'
        ran = subprocess.run(["/bin/sh", "-c", issue], capture_output=True, timeout=30, check=False)
        assert ran.returncode == 0, redirected
        assert {row["auth_status"] for row in rows(tmp_path / "depot.results.csv")} == {"issued"}


def test_the_sandbox_never_replaces_real_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Destination(tmp_path / "depot.results.csv")
    drivers = Batch.of_roster(Roster.from_path(roster(tmp_path, 2)))
    publish(place, drivers, issued(drivers.drivers[0], expires_at=datetime.now(UTC) + timedelta(minutes=1)))
    before = place.path.read_bytes()
    assert main(["retry", str(place.path), "--sandbox"], {}) == 2
    assert "tokens of the real API" in capsys.readouterr().err
    assert place.path.read_bytes() == before


def test_status_calls_no_token_valid_that_retry_would_ask_for_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Destination(tmp_path / "depot.results.csv")
    drivers = Batch.of_roster(Roster.from_path(roster(tmp_path, 4)))
    soon = datetime.now(UTC) + timedelta(minutes=10)
    tokens = ["#NAME?", "twice", "twice", "good"]
    pairs = zip(drivers.drivers, tokens, strict=True)
    publish(place, drivers, *(issued(driver, token, expires_at=soon) for driver, token in pairs))
    assert main(["status", str(place.path)], {}) == 1
    told = capsys.readouterr().out
    assert "1 token valid now, 0 expired, 3 spoilt." in told
    assert f"3 rows: {Hint.SPOILT}" in told
    assert "twice" not in told


def test_a_second_ctrl_c_leaves_at_once_with_the_journal_intact(tmp_path: Path) -> None:
    """With requests hanging in flight; each token whose reply came is in the journal, each request sent is known."""
    with live_sandbox(script="ok*12,hang*") as sandbox:
        command = Command(tmp_path, sandbox, "30/min")
        command.signal_after(sandbox, 16, signal.SIGINT)
        while "Stopping" not in (line := command.process.stderr.readline()):  # type: ignore[union-attr]
            assert line
        command.process.send_signal(signal.SIGINT)
        _, err = command.process.communicate(timeout=10)
    assert command.process.returncode == 130
    assert "Left at once" in err
    assert not command.out.exists()
    assert stat.S_IMODE(command.partial.stat().st_mode) == 0o600
    last = {row["auth_row"]: row for row in rows(command.partial)}
    assert len(last) == 200
    touched = {row["auth_identifier"] for row in last.values() if row["auth_status"] != "not_attempted"}
    assert {entry.identifier for entry in sandbox.ledger} <= touched
    answered = {(entry.identifier, entry.code, entry.token) for entry in sandbox.ledger if entry.status == 200}
    held = {(r["auth_identifier"], r["auth_code"], r["auth_token"]) for r in last.values() if r["auth_token"]}
    assert held == answered
    # A row that was admitted in the moment of the signal has sent nothing, and its last line says so.
    assert {row["auth_status"] for row in last.values()} - {"not_attempted"} == {"issued", "unknown"}


@contextmanager
def sandbox_command(*options: str) -> Iterator[tuple[str, str]]:
    """URL and key of a `batch-issuer sandbox` process; Ctrl-C ends it, and the URL was all it wrote to stdout."""
    process = subprocess.Popen(
        [sys.executable, "-m", "batch_issuer", "sandbox", "--latency", "0-1ms", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        process.stderr.readline()
        key = re.search(r"SAMSARA_API_TOKEN=(\S+)", process.stderr.readline())
        assert key
        yield url, key[1]
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
    assert out == ""
    assert process.returncode == 0


def test_sandbox_command_serves_until_ctrl_c(tmp_path: Path) -> None:
    """Its URL is all it writes to stdout; the command it suggests works."""
    with sandbox_command() as (url, key):
        options = ["--base-url", url, "--quiet"]
        assert main(["issue", str(roster(tmp_path, 5)), *options], {"SAMSARA_API_TOKEN": key}) == 0


@pytest.mark.parametrize("flags", [(), ("--no-retry-after",)])
def test_sandbox_command_gives_429s_a_retry_after_unless_told_not_to(flags: tuple[str, ...]) -> None:
    """The fault's 429 as well as the limiter's."""
    with sandbox_command("--limiter", "sliding-strict", "--limit", "1", "--script", "429", *flags) as (url, key):
        headers = {"Authorization": f"Bearer {key}"}
        replies = [httpx.post(url + AUTH_TOKEN_PATH, headers=headers, trust_env=False) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [429, 429]
    assert ["Retry-After" in reply.headers for reply in replies] == [not flags] * 2
