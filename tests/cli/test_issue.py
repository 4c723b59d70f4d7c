"""The results of issuing for a roster: messages, exit codes, the results file; against the real sandbox."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.paths import SAMPLES
from support.raw_server import unused_port
from support.rosters import (
    assert_agrees,
    interrupt,
    interrupted_run,
    issued,
    lines,
    publish,
    write_roster,
)
from support.sandbox import environ_for, live_sandbox, tokens_of

from batch_issuer.cli import main
from batch_issuer.hints import SCOPE
from batch_issuer.pipeline.attempts import Attempts
from batch_issuer.results import AUTH_COLUMNS, Batch, Destination
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# --- the main job


def test_clean_sample_in_the_built_in_sandbox(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100 drivers, 100 tokens, exit 0; the path on stdout, everything else on stderr, the sandbox named."""
    out = tmp_path / "out.csv"
    assert main(["issue", str(SAMPLES / "depot_clean.csv"), "--sandbox", "-o", str(out)], {}) == 0
    output = capsys.readouterr()
    assert output.out == f"{out}\n"
    assert re.search(r"^100 of 100 rows have a login token \(\d+\.\d s\)\.$", output.err, re.MULTILINE)
    assert "Results (sandbox login tokens, which cannot be used to log in):\n" in output.err
    assert len({row["auth_token"] for row in lines(out)}) == 100


def test_other_sample_has_five_rows_without_a_token_for_five_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "-o", str(out)], {}) == 1
    without_token = [row for row in lines(out) if not row["auth_token"]]
    assert [(row["auth_status"], row["auth_http_status"], row["auth_error"]) for row in without_token] == [
        ("failed", "404", "HTTP 404: Object not found."),
        ("failed", "400", "HTTP 400: Driver is deactivated."),
        ("invalid", "", "no identifier in the row"),
        ("invalid", "", "'SMP00035' is not a valid external ID"),
        ("duplicate", "", "same driver as row 13"),
    ]
    assert len({row["auth_hint"] for row in without_token}) == 5
    assert len(lines(out)) == 60
    stderr = capsys.readouterr().err
    assert "55 of 60 rows have a login token: 55 issued, 2 failed, 2 invalid, 1 duplicate (" in stderr
    assert all(stderr.count(f"    hint: {row['auth_hint']}\n") == 1 for row in without_token)


def test_results_contain_the_roster_unchanged_and_what_the_server_issued(tmp_path: Path) -> None:
    """Same rows, same order, all roster columns, then the auth columns; private; nothing else is left."""
    with live_sandbox() as sandbox:
        source = write_roster(tmp_path, 40)
        assert main(["issue", str(source), "--base-url", sandbox.url, "--quiet"], environ_for(sandbox)) == 0
    out = tmp_path / "depot.results.csv"
    assert_agrees(out, sandbox)
    assert list(lines(out)[0]) == ["Driver", "Driver ID", *AUTH_COLUMNS]
    assert [row["Driver ID"] for row in lines(out)] == [row["Driver ID"] for row in lines(source, bom=b"")]
    assert all(row["auth_identifier"] == f"driverId={row['Driver ID']}" for row in lines(out))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["auth_expires_at"]) for row in lines(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depot.csv", "depot.results.csv"]


def test_quota_is_kept_over_real_sockets(tmp_path: Path) -> None:
    """Three windows of requests that overtake one another on the way: the server never counts more than the limit."""
    with live_sandbox(limit=20, per=0.6, latency=(0.0, 0.3), seed=5) as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "20/0.6s", "--quiet"]
        assert main(["issue", str(write_roster(tmp_path, 60)), *options], environ_for(sandbox)) == 0
    assert sandbox.peak() <= 20
    assert [entry for entry in sandbox.ledger if not entry.counted] == []
    assert_agrees(tmp_path / "depot.results.csv", sandbox)


@pytest.mark.parametrize("limiter", ["fixed", "bucket", "gcra"])
def test_every_server_model_issues_every_token(limiter: str, tmp_path: Path) -> None:
    with live_sandbox(limiter=limiter, limit=50, per=1.0) as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "50/s", "--quiet"]
        assert main(["issue", str(write_roster(tmp_path, 80)), *options], environ_for(sandbox)) == 0
    assert_agrees(tmp_path / "depot.results.csv", sandbox)


@pytest.mark.parametrize(
    ("script", "lost"), [("ok*3,reset,503,429*4,truncated,ok,lost", 2), ("html,ok*2,badjson,429*4,shape,ok,502", 0)]
)
def test_network_faults_cost_attempts_but_no_row(
    script: str, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four attempts fail, four 429s cost none, ``lost`` tokens never arrive: every row still gets one."""
    monkeypatch.setattr("batch_issuer.pipeline.backoff.BACKOFF_BASE", 0.01)
    with live_sandbox(script=script, limiter="none") as sandbox:
        options = ["--base-url", sandbox.url, "--quiet"]
        assert main(["issue", str(write_roster(tmp_path, 12)), *options], environ_for(sandbox)) == 0
    issued = tokens_of(sandbox.ledger)
    results = lines(tmp_path / "depot.results.csv")
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
    assert lines(tmp_path / "out.csv")[0]["auth_identifier"] == "username=sample.driver"
    assert main(["issue", "-"], {"SAMSARA_API_TOKEN": "key"}) == 2
    assert "needs a name for the results" in capsys.readouterr().err


def test_quiet_prints_nothing_on_success_and_failures_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["issue", str(SAMPLES / "depot_clean.csv"), "--sandbox", "--quiet", "-o", str(tmp_path / "a.csv")], {})
    assert capsys.readouterr() == ("", "")
    main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "--quiet", "-o", str(tmp_path / "b.csv")], {})
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("1 failed: HTTP 404: Object not found.\n    row 8 (Sample Driver 007)\n    hint: ")


def test_a_formula_in_the_roster_gets_an_apostrophe_and_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text('Driver ID,Note\n7001,"=HYPERLINK(""http://example.invalid"")"\n')
    assert main(["issue", str(tmp_path / "depot.csv"), "--sandbox"], {}) == 0
    assert lines(tmp_path / "depot.results.csv")[0]["Note"] == '\'=HYPERLINK("http://example.invalid")'
    assert "1 roster cell got a leading apostrophe" in capsys.readouterr().err


# --- endings


def test_a_refused_api_token_is_exit_3_after_one_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox() as sandbox:
        code = main(
            ["issue", str(write_roster(tmp_path, 30)), "--base-url", sandbox.url], {"SAMSARA_API_TOKEN": "wrong"}
        )
    assert code == 3
    stderr = capsys.readouterr().err
    assert SCOPE in stderr
    assert "--region" in stderr
    statuses = [row["auth_status"] for row in lines(tmp_path / "depot.results.csv")]
    assert statuses == ["failed"] + ["not_attempted"] * 29


def test_an_api_token_revoked_midway_keeps_what_was_issued(tmp_path: Path) -> None:
    with live_sandbox(script="ok*20,401*") as sandbox:
        code = main(
            ["issue", str(write_roster(tmp_path, 60)), "--base-url", sandbox.url, "--quiet"], environ_for(sandbox)
        )
    assert code == 3
    assert_agrees(tmp_path / "depot.results.csv", sandbox)
    assert sum(row["auth_status"] == "issued" for row in lines(tmp_path / "depot.results.csv")) == 20


def test_429s_for_too_long_are_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox(script="ok*2,429*") as sandbox:
        options = ["--base-url", sandbox.url, "--give-up-after", "600ms"]
        assert main(["issue", str(write_roster(tmp_path, 5)), *options], environ_for(sandbox)) == 4
    assert "HTTP 429" in capsys.readouterr().err
    statuses = [row["auth_status"] for row in lines(tmp_path / "depot.results.csv")]
    assert statuses == ["issued"] * 2 + ["not_attempted"] * 3


def test_an_outage_for_too_long_is_exit_4_and_costs_few_rows_an_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_sandbox(script="ok*10,503*") as sandbox:
        options = ["--base-url", sandbox.url, "--give-up-after", "600ms", "--quota", "process"]
        assert main(["issue", str(write_roster(tmp_path, 60)), *options], environ_for(sandbox)) == 4
        assert len(sandbox.ledger) < 40
    assert_agrees(tmp_path / "depot.results.csv", sandbox)
    stderr = capsys.readouterr().err
    error = "error: the server has a problem (HTTP 503: This is a fault of the sandbox)\nhint: "
    assert stderr.count(error) == 1
    assert stderr.endswith(" --give-up-after 0.6s\n")


def test_a_deadline_is_exit_4_in_time_and_retry_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox() as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "40/s", "--concurrency", "40", "--quota", "process"]
        began = time.monotonic()
        assert (
            main(["issue", str(write_roster(tmp_path, 90)), *options, "--deadline", "1200ms"], environ_for(sandbox))
            == 4
        )
        assert time.monotonic() - began < 1.2 + 1.0
        assert main(["retry", str(tmp_path / "depot.results.csv"), *options], environ_for(sandbox)) == 0
    assert_agrees(tmp_path / "depot.results.csv", sandbox)
    stderr = capsys.readouterr().err
    assert "The deadline comes first, in 1 s; batch-issuer retry resumes after it.\n" in stderr
    assert stderr.count("\nerror: the deadline was reached\n") == 1
    assert "\nTo resume:\n  batch-issuer retry " in stderr
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
    """The system looks names up in a thread that cannot be stopped; nothing was sent, as the results show."""
    command = ["issue", str(write_roster(tmp_path, 5)), "--base-url", "https://localhost:1", "--deadline", "1s"]
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
    assert "0 of 5 rows have a login token: 5 not attempted (" in ran.stderr
    assert {row["auth_attempts"] for row in lines(tmp_path / "depot.results.csv")} == {"0"}


def test_a_roster_in_which_every_row_is_invalid_is_exit_1_and_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\nx\n2.81475E+14\n")
    with live_sandbox() as sandbox:
        code = main(["issue", str(tmp_path / "depot.csv"), "--base-url", sandbox.url, "--quiet"], environ_for(sandbox))
    assert code == 1
    assert sandbox.ledger == []
    assert [row["auth_status"] for row in lines(tmp_path / "depot.results.csv")] == ["invalid"] * 2


# --- before the first request: one line, a fix, exit 2


def bad_inputs(folder: Path) -> Iterator[tuple[str, list[str], str]]:
    good = str(write_roster(folder, 2))
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
    yield "no such roster", ["issue", str(folder / "nope.csv"), "--sandbox"], "no file"
    yield "roster is a folder", ["issue", str(folder), "--sandbox"], "is a folder"
    for name, message in {
        "empty.csv": "is empty",
        "blank.csv": "is empty",
        "rowless.csv": "no rows",
        "columnless.csv": "no column that identifies drivers; its columns are: a, b",
        "ragged.csv": "row 3: 1 cell instead of 2",
        "ambiguous.csv": "'ID' and 'Driver ID' could both be",
        "held.csv": "is a results file",
        "latin.csv": "line 2: not UTF-8",
        "book.xlsx": "a workbook that is not .xlsx",
    }.items():
        yield name, ["issue", str(folder / name), "--sandbox"], message
    yield "no such folder", ["issue", good, "--sandbox", "-o", str(folder / "x" / "out.csv")], "no folder"
    yield "folder not writable", ["issue", good, "--sandbox", "-o", "/sys/out.csv"], "cannot be used"
    yield "output is a folder", ["issue", good, "--sandbox", "-o", str(folder)], "has no ending"
    yield "output is a folder with its slash", ["issue", good, "--sandbox", "-o", f"{folder}/"], "is a folder"
    yield "output is the roster", ["issue", good, "--sandbox", "-o", good, "--overwrite"], "is the roster itself"
    yield "the current folder", ["issue", ".", "--sandbox"], "is not a file"
    yield "an empty name", ["issue", "", "--sandbox"], "is not a file"
    yield "output is an empty name", ["issue", good, "--sandbox", "-o", ""], "is a folder"
    for ending in (".ods", ".pdf", ".gz", ".csv.gz", ".partial"):
        shown = f"results cannot be written as .{ending.rpartition('.')[2]}"
        yield f"output is {ending}", ["issue", good, "--sandbox", "-o", str(folder / f"out{ending}")], shown
    yield "output has no ending", ["issue", good, "--sandbox", "-o", "out"], "the results file out has no ending"
    yield "output is taken", ["issue", good, "--sandbox", "-o", str(folder / "taken.csv")], "not a results file"
    yield "output is a link", ["issue", good, "--sandbox", "-o", str(folder / "link.csv")], "symbolic link"
    for option, value, message in [
        ("--rate", "fast", "--rate: 'fast' is not a valid rate"),
        ("--rate", "0/min", "--rate: a rate of 0 requests"),
        ("--burst", "101", "is not possible at a rate"),
        ("--burst", "many", "--burst: 'many' is not a whole number"),
        ("--timeout", "soon", "--timeout: 'soon' is not a valid duration"),
        ("--concurrency", "0", "concurrency cannot be 0"),
        ("--min-validity", "long", "--min-validity: 'long' is not a valid duration"),
        ("--region", "mars", "--region: 'mars' is not a valid choice"),
        ("--base-url", "http://api.samsara.com", "unencrypted"),
        ("--base-url", "nonsense", "the base URL is not valid: it must begin with https://"),
        ("--colour", "red", "issue has no flag --colour"),
    ]:
        where = [] if option in ("--region", "--base-url") else ["--region", "us"]
        yield f"{option} {value}", ["issue", good, *where, option, value], message
    yield "no roster named", ["issue"], "ROSTER is missing"
    yield "unknown command", ["isue"], "'isue' is not a batch-issuer command"
    for command in (["status"], ["status", "--json"], ["purge"], ["retry"]):
        yield f"{' '.join(command)} of a roster", [*command, good], "not a results file"
        yield f"{' '.join(command)} of nothing", [*command, str(folder / "nope.csv")], "no file"
    yield "retry of a folder", ["retry", str(folder)], "is not a file"
    yield "purge of a link", ["purge", str(folder / "link.csv")], "symbolic link"
    yield "sandbox port", ["sandbox", "--port", "99999"], "port"
    yield "sandbox fault", ["sandbox", "--fault", "gremlins=0.5"], "unknown fault"
    yield "sandbox limiter", ["sandbox", "--limiter", "strict"], "unknown limiter"


def test_bad_input_is_one_line_with_a_hint_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for name, arguments, message in bad_inputs(tmp_path):
        with subtests.test(name):
            before = sorted(tmp_path.iterdir())
            assert main(arguments, {"SAMSARA_API_TOKEN": "key"}) == 2
            output = capsys.readouterr()
            assert output.out == ""
            what, fix = output.err.splitlines()[-2:]
            assert what.startswith("error: ")
            assert message in what
            assert fix.startswith("hint: ")
            assert sorted(tmp_path.iterdir()) == before


def test_a_port_in_use_is_reported_with_the_text_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["sandbox", "--port", str(port)], {}) == 2
    stderr = capsys.readouterr().err
    assert f"error: port {port} cannot be used: {os.strerror(errno.EADDRINUSE)}\n" in stderr


def test_results_with_tokens_are_replaced_only_by_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_roster(tmp_path, 2), tmp_path / "depot.results.csv"
    assert main(["issue", str(source), "--sandbox"], {}) == 0
    first = out.read_bytes()
    assert main(["issue", str(source), "--sandbox"], {}) == 2
    stderr = capsys.readouterr().err
    assert "--overwrite" in stderr
    assert f"batch-issuer retry {out}" in stderr
    assert out.read_bytes() == first
    assert main(["issue", str(source), "--sandbox", "--overwrite"], {}) == 0
    assert out.read_bytes() != first


def test_results_without_any_token_may_be_replaced(tmp_path: Path) -> None:
    source = write_roster(tmp_path, 2)
    with live_sandbox() as sandbox:
        options = [str(source), "--base-url", sandbox.url, "--quiet"]
        assert main(["issue", *options], {"SAMSARA_API_TOKEN": "wrong"}) == 3
        assert main(["issue", *options], environ_for(sandbox)) == 0


def test_without_an_api_token_the_hint_explains_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["issue", str(write_roster(tmp_path, 2))], ["quota"]):
        assert main(command, {}) == 2
        stderr = capsys.readouterr().err
        assert all(word in stderr for word in ("SAMSARA_API_TOKEN", SCOPE, "API Tokens", "--sandbox"))
    assert [path.name for path in tmp_path.iterdir()] == ["depot.csv"]


def test_sandbox_never_reads_the_real_api_token(tmp_path: Path) -> None:
    class Guarded(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
            assert key != "SAMSARA_API_TOKEN"
            return default

        __getitem__ = get  # type: ignore[assignment]

    assert main(["issue", str(write_roster(tmp_path, 3)), "--sandbox", "--quiet"], Guarded()) == 0


# --- resuming an interrupted run


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_an_interrupted_run_is_resumed_and_reported(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place = write_roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    kept = interrupted_run(place, Roster.from_path(source))
    with live_sandbox() as sandbox:
        command = [by, str(source if by == "issue" else place.path), "--base-url", sandbox.url]
        assert main(command, environ_for(sandbox)) == 0
    assert [entry.identifier for entry in sandbox.ledger] == ["driverId=700001", "driverId=700002"]
    output = capsys.readouterr()
    assert f"Resuming the run that left {place.partial}.\n" in output.err
    assert "Keeping 1 valid login token.\n" in output.err
    assert "1 row may have lost a login token; requesting new ones.\n" in output.err
    assert "3 of 3 rows have a login token (" in output.err
    assert output.out == f"{place.path}\n"
    assert [row["auth_token"] for row in lines(place.path)] == [kept.token, *(e.token for e in sandbox.ledger)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depot.csv", "depot.results.csv"]


def test_an_interrupted_run_is_not_resumed_with_another_roster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, place = write_roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    interrupted_run(place, Roster.from_path(source))
    left = place.partial.read_bytes()
    source.write_text(source.read_text().replace("700001", "700009"))
    assert main(["issue", str(source), "--sandbox"], {}) == 2
    stderr = capsys.readouterr().err
    assert "had another roster: row 3 differs" in stderr
    assert f"batch-issuer retry {place.path}" in stderr
    assert "--overwrite" in stderr
    assert place.partial.read_bytes() == left
    assert not place.path.exists()


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_overwrite_starts_over_and_sets_the_journal_aside(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``retry`` uses the results as they were before the interrupted run."""
    source, place = write_roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    publish(place, Batch.of_roster(Roster.from_path(source)))
    kept = interrupted_run(place, Roster.from_path(source))
    left = place.partial.read_bytes()
    with live_sandbox() as sandbox:
        command = [by, str(source if by == "issue" else place.path), "--base-url", sandbox.url, "--overwrite"]
        assert main(command, environ_for(sandbox)) == 0
    aside = tmp_path / "depot.results.csv.partial.1"
    kept_line = f"The journal of the interrupted run is kept as {aside}; it may contain login tokens.\n"
    assert kept_line in capsys.readouterr().err
    assert aside.read_bytes() == left
    assert kept.token.encode() in left
    assert_agrees(place.path, sandbox)
    assert len(sandbox.ledger) == 3
    assert not place.partial.exists()


@pytest.mark.parametrize("by", ["issue", "retry"])
def test_results_changed_after_the_interruption_are_not_touched(
    by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has worked on them and has to decide which of the two counts."""
    source, place = write_roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    publish(place, Batch.of_roster(Roster.from_path(source)))
    interrupted_run(place, Roster.from_path(source))
    place.path.write_bytes(place.path.read_bytes().replace(b"Sample 1", b"Sample One"))
    os.utime(place.path, (0, place.partial.stat().st_mtime + 1))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([by, str(source if by == "issue" else place.path), "--sandbox"], {}) == 2
    stderr = capsys.readouterr().err
    assert f"{place.path} was changed after the interrupted run that left {place.partial}" in stderr
    assert f"batch-issuer retry {place.path} --overwrite" in stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_in_the_place_of_the_journal_is_set_aside_with_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, partial = write_roster(tmp_path, 2), tmp_path / "depot.results.csv.partial"
    partial.write_text("precious")
    assert main(["issue", str(source), "--sandbox"], {}) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert partial.read_text() == "precious"
    assert main(["issue", str(source), "--sandbox", "--overwrite"], {}) == 0
    assert (tmp_path / "depot.results.csv.partial.1").read_text() == "precious"
    assert not partial.exists()


def test_the_sandbox_never_replaces_real_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Destination(tmp_path / "depot.results.csv")
    drivers = Batch.of_roster(Roster.from_path(write_roster(tmp_path, 2)))
    publish(place, drivers, issued(drivers.drivers[0], expires_at=datetime.now(UTC) + timedelta(minutes=1)))
    before = place.path.read_bytes()
    for command in (["retry", str(place.path)], ["issue", str(tmp_path / "depot.csv"), "--overwrite"]):
        assert main([*command, "--sandbox"], {}) == 2
        assert "contains real login tokens" in capsys.readouterr().err
        assert place.path.read_bytes() == before


# --- after a sandbox run


@pytest.fixture
def unreachable() -> Iterator[dict[str, str]]:
    """The environment of a run with the real API, which a proxy that is not there keeps out of reach."""
    with unused_port() as port:
        yield {"SAMSARA_API_TOKEN": "k", "HTTPS_PROXY": f"http://127.0.0.1:{port}"}


OUT_OF_REACH = ["--quota", "process", "--rate", "1000/s", "--give-up-after", "20ms"]


def test_after_a_sandbox_run_the_real_one_just_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unreachable: dict[str, str]
) -> None:
    source, out = write_roster(tmp_path, 3), tmp_path / "depot.results.csv"
    assert main(["issue", str(source), "--sandbox"], {}) == 0
    assert main(["issue", str(source), "--sandbox"], {}) == 2  # nothing changes for another sandbox run
    assert "already contains login tokens" in capsys.readouterr().err
    assert main(["issue", str(source), *OUT_OF_REACH], unreachable) == 4
    assert "sandbox" not in out.read_text(encoding="utf-8-sig")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depot.csv", "depot.results.csv"]


def test_after_an_interrupted_sandbox_run_the_real_one_just_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unreachable: dict[str, str]
) -> None:
    """Also if the roster was corrected meanwhile; nothing is resumed, set aside or called lost."""
    source, place = write_roster(tmp_path, 3), Destination(tmp_path / "depot.results.csv")
    rows = Batch.of_roster(Roster.from_path(source))
    soon = datetime.now(UTC) + timedelta(minutes=10)
    interrupt(place, rows, issued(rows.drivers[0], "sandbox-1", expires_at=soon), Attempts(rows.drivers[1]).intent())
    source.write_text(source.read_text().replace("700001", "700009"))
    assert main(["issue", str(source), *OUT_OF_REACH], unreachable) == 4
    stderr = capsys.readouterr().err
    assert "Resuming" not in stderr
    assert "may have lost" not in stderr
    assert [row["auth_token"] for row in lines(place.path)] == [""] * 3
    assert lines(place.path)[1]["auth_identifier"] == "driverId=700009"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depot.csv", "depot.results.csv"]
