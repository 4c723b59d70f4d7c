"""Processes of the command: signals, closed pipes, the sandbox until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from support.processes import wait_until
from support.rosters import (
    assert_agrees,
    earlier_results,
    lines,
    write_roster,
)
from support.sandbox import environ_for, live_sandbox

from batch_issuer.cli import main
from batch_issuer.sandbox import AUTH_TOKEN_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox


class SlowRun:
    """A batch-issuer process on 200 rows, against a sandbox that lets 30 through and then takes its time.

    retry: whether it retries the results that are there.
    """

    def __init__(self, folder: Path, sandbox: Sandbox, rate: str, *, retry: bool = False) -> None:
        self.out = folder / "depot.results.csv"
        self.partial = folder / "depot.results.csv.partial"
        command = ["retry", str(self.out)] if retry else ["issue", str(write_roster(folder, 200))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "batch_issuer", *command, "--base-url", sandbox.url, "--rate", rate],
            env={**os.environ, **environ_for(sandbox)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def signal_after(self, sandbox: Sandbox, requests: int, number: int) -> None:
        wait_until(lambda: self.process.poll() is not None or len(sandbox.ledger) >= requests, f"{requests} requests")
        assert self.process.poll() is None
        self.process.send_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_finishes_what_is_in_flight_and_publishes(number: int, tmp_path: Path) -> None:
    with live_sandbox(latency=(0.05, 0.1)) as sandbox:
        command = SlowRun(tmp_path, sandbox, "30/min")
        command.signal_after(sandbox, 20, number)
        out, err = command.process.communicate(timeout=30)
    assert command.process.returncode == 128 + number
    assert_agrees(command.out, sandbox)
    statuses = [row["auth_status"] for row in lines(command.out)]
    assert len(statuses) == 200
    assert set(statuses) == {"issued", "not_attempted"}
    assert not command.partial.exists()
    assert out == f"{command.out}\n"
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert f"\nInterrupted by {name}.\n" in err
    assert "Traceback" not in err


def test_a_retry_stopped_by_a_signal_is_130_and_keeps_old_and_new_tokens(tmp_path: Path) -> None:
    earlier_results(tmp_path, 200, 3)
    with live_sandbox(latency=(0.05, 0.1)) as sandbox:
        command = SlowRun(tmp_path, sandbox, "30/min", retry=True)
        command.signal_after(sandbox, 20, signal.SIGINT)
        _, err = command.process.communicate(timeout=30)
    assert command.process.returncode == 130
    issued_now = {entry.token for entry in sandbox.ledger}
    held = [row["auth_token"] for row in lines(command.out) if row["auth_token"]]
    assert held[:3] == ["token-2", "token-3", "token-4"]
    assert {*held[3:]} == issued_now
    assert len(held) == 3 + len(issued_now)
    assert f"\nTo resume:\n  batch-issuer retry {command.out} --base-url {sandbox.url}" in err
    assert not command.partial.exists()


def test_one_ctrl_c_never_exits_at_once_even_while_the_run_is_stopping(tmp_path: Path) -> None:
    """An API token revoked midway, slow replies in flight, then Ctrl-C: their tokens are still published."""
    with live_sandbox(script="ok*30,401*", latency=(0.4, 0.8)) as sandbox:
        command = SlowRun(tmp_path, sandbox, "200/min")
        command.signal_after(sandbox, 31, signal.SIGINT)
        _, err = command.process.communicate(timeout=30)
    assert command.process.returncode in (3, 130)
    assert "Stopped at once" not in err
    assert_agrees(command.out, sandbox)


def test_closed_pipes_change_nothing(tmp_path: Path) -> None:
    """``… 2>&1 | true``: the run finishes, and the exit code is its own."""
    source = write_roster(tmp_path, 20)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "batch_issuer", "issue", str(source), "--sandbox"]
    assert subprocess.run(command, stdout=writer, stderr=writer, timeout=30, check=False).returncode == 0
    os.close(writer)
    assert {row["auth_status"] for row in lines(tmp_path / "depot.results.csv")} == {"issued"}


@pytest.mark.parametrize("command", ["check depot.csv", "status depot.results.csv", "config", "help", "help rosters"])
def test_a_command_whose_stdout_is_closed_prints_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python then has no ``sys.stdout``."""
    monkeypatch.chdir(tmp_path)
    write_roster(tmp_path, 2)
    assert main(["issue", "depot.csv", "--sandbox", "--quiet"], {}) == 0
    monkeypatch.setattr("sys.stdout", None)
    assert main(command.split(), {}) == 0
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_stream_closed_or_full_from_the_start_changes_nothing(closed: str, tmp_path: Path) -> None:
    source = write_roster(tmp_path, 3)
    for redirected in (f"{closed}>&-", f"{closed}>/dev/full"):
        issue = f'exec "{sys.executable}" -m batch_issuer issue "{source}" --sandbox --overwrite {redirected}'
        ran = subprocess.run(["/bin/sh", "-c", issue], capture_output=True, timeout=30, check=False)
        assert ran.returncode == 0, redirected
        assert {row["auth_status"] for row in lines(tmp_path / "depot.results.csv")} == {"issued"}


def test_a_second_ctrl_c_exits_at_once_with_the_journal_intact(tmp_path: Path) -> None:
    """With requests hanging in flight; each token whose reply came is in the journal, each request sent is known."""
    with live_sandbox(script="ok*12,hang*") as sandbox:
        command = SlowRun(tmp_path, sandbox, "30/min")
        command.signal_after(sandbox, 16, signal.SIGINT)
        while "Stopping" not in (line := command.process.stderr.readline()):  # type: ignore[union-attr]
            assert line
        command.process.send_signal(signal.SIGINT)
        _, err = command.process.communicate(timeout=10)
    assert command.process.returncode == 130
    assert "\nStopped at once. The login tokens so far are in " in err
    assert not command.out.exists()
    assert stat.S_IMODE(command.partial.stat().st_mode) == 0o600
    last = {row["auth_row"]: row for row in lines(command.partial)}
    assert len(last) == 200
    touched = {row["auth_identifier"] for row in last.values() if row["auth_status"] != "not_attempted"}
    assert {entry.identifier for entry in sandbox.ledger} <= touched
    answered = {(entry.identifier, entry.code, entry.token) for entry in sandbox.ledger if entry.status == 200}
    held = {(r["auth_identifier"], r["auth_code"], r["auth_token"]) for r in last.values() if r["auth_token"]}
    assert held == answered
    # A row that was admitted in the moment of the signal has sent nothing, as its last line shows.
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
        assert main(["issue", str(write_roster(tmp_path, 5)), *options], {"SAMSARA_API_TOKEN": key}) == 0


@pytest.mark.parametrize("flags", [(), ("--no-retry-after",)])
def test_sandbox_command_sends_retry_after_with_429s_unless_disabled(flags: tuple[str, ...]) -> None:
    """The fault's 429 as well as the limiter's."""
    with sandbox_command("--limiter", "sliding-strict", "--limit", "1", "--script", "429", *flags) as (url, key):
        headers = {"Authorization": f"Bearer {key}"}
        replies = [httpx.post(url + AUTH_TOKEN_PATH, headers=headers, trust_env=False) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [429, 429]
    assert ["Retry-After" in reply.headers for reply in replies] == [not flags] * 2
