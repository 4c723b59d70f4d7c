"""A retry of results: which rows it requests again, and what it reports."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.rosters import (
    earlier_results,
    lines,
)
from support.sandbox import environ_for, live_sandbox

from batch_issuer.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def test_issue_of_a_results_file_suggests_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = earlier_results(tmp_path, 3, 2).path
    before = path.read_bytes()
    assert main(["issue", str(path), "--sandbox"], {}) == 2
    what, fix = capsys.readouterr().err.splitlines()
    assert "is a results file, not a roster" in what
    assert "batch-issuer retry" in fix
    assert path.read_bytes() == before


def test_retry_requests_only_missing_tokens_and_then_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time nothing is sent and the file is not touched; both are exit 0."""
    path = earlier_results(tmp_path, 5, 3).path
    with live_sandbox() as sandbox:
        command = ["retry", str(path), "--base-url", sandbox.url]
        assert main(command, environ_for(sandbox)) == 0
        assert "Keeping 3 valid login tokens.\n" in capsys.readouterr().err
        before = path.stat()
        assert main(command, environ_for(sandbox)) == 0
        assert main([*command, "--quiet"], environ_for(sandbox)) == 0
    output = capsys.readouterr()
    assert output.err.count("Nothing to do.\n") == 1
    assert output.out == f"{path}\n"
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [entry.identifier for entry in sandbox.ledger] == ["driverId=700003", "driverId=700004"]
    held = [row["auth_token"] for row in lines(path)]
    assert held == ["token-2", "token-3", "token-4", *(entry.token for entry in sandbox.ledger)]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["depot.csv", "depot.results.csv"]


@pytest.mark.parametrize(("least", "asked"), [([], 3), (["--min-validity", "3m"], 0), (["--min-validity", "1h"], 3)])
def test_retry_renews_what_is_not_valid_for_long_enough(least: list[str], asked: int, tmp_path: Path) -> None:
    path = earlier_results(tmp_path, 3, 3, timedelta(minutes=4)).path
    with live_sandbox() as sandbox:
        command = ["retry", str(path), "--base-url", sandbox.url, "--quiet", *least]
        assert main(command, environ_for(sandbox)) == 0
    assert len(sandbox.ledger) == asked


def test_retry_is_exit_1_while_a_row_has_no_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = earlier_results(tmp_path, 3, 2).path
    with live_sandbox(script="404*2") as sandbox:
        command = ["retry", str(path), "--base-url", sandbox.url]
        assert main(command, environ_for(sandbox)) == 1
        assert "1 failed: HTTP 404: This is a fault of the sandbox.\n    row 4 (Sample 2)\n" in capsys.readouterr().err
        assert main(command, environ_for(sandbox)) == 1
        assert main(command, environ_for(sandbox)) == 0
    assert [row["auth_attempts"] for row in lines(path)] == ["1", "1", "3"]


def test_a_token_that_could_not_be_renewed_is_kept_and_reported_with_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = earlier_results(tmp_path, 1, 1, timedelta(minutes=2)).path
    before = lines(path)[0]
    with live_sandbox(script="404") as sandbox:
        assert main(["retry", str(path), "--base-url", sandbox.url], environ_for(sandbox)) == 1
    stderr = capsys.readouterr().err
    assert re.search(r"^1 not renewed: .*HTTP 404: .*\n    row 2 \(Sample 0\)\n    hint: ", stderr, re.MULTILINE)
    assert "1 of 1 row has a login token" in stderr
    assert "\nTo renew the remaining login tokens:\n  batch-issuer retry " in stderr
    (after,) = lines(path)
    assert {**after, "auth_error": "", "auth_hint": ""} == before


def test_retry_with_a_refused_api_token_is_exit_3_and_keeps_every_token(tmp_path: Path) -> None:
    path = earlier_results(tmp_path, 5, 3).path
    with live_sandbox() as sandbox:
        code = main(["retry", str(path), "--base-url", sandbox.url, "--quiet"], {"SAMSARA_API_TOKEN": "wrong"})
    assert code == 3
    assert [row["auth_token"] for row in lines(path)] == ["token-2", "token-3", "token-4", "", ""]
    assert [row["auth_status"] for row in lines(path)] == ["issued"] * 3 + ["failed", "not_attempted"]
