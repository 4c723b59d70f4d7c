"""The quota that runs share, as a user sees it."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support.raw_server import unused_port
from support.rosters import (
    lines,
    write_roster,
)
from support.sandbox import environ_for, live_sandbox
from support.settings_files import HIDDEN

from batch_issuer.cli import main
from batch_issuer.quota.leases import End
from batch_issuer.quota.opening import organization
from batch_issuer.quota.sqlite_database import state_file, state_folder
from batch_issuer.quota.sqlite_leases import SqliteLeases
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox


def settings_for(sandbox: Sandbox) -> Settings:
    return Settings(api_token=Secret(sandbox.api_token), base_url=sandbox.url)


KEY = {"SAMSARA_API_TOKEN": "key"}


@pytest.fixture
def dead_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A closed port, and short patience for it."""
    monkeypatch.setattr("batch_issuer.quota.redis_leases.RETRY_INTERVAL", 0.01)
    with unused_port() as port:
        yield port


@contextmanager
def another_run(
    settings: Settings, *ends: End, in_flight: int = 2, waiting: int = 3, gate: float = 0.0
) -> Iterator[None]:
    """A run of this process with requests that ended, some in flight and some waiting."""
    leases = SqliteLeases(organization(settings), settings.rate)

    async def work() -> None:
        for number in range(len(ends) + in_flight):
            lease = (await leases.acquire(waiting + 1)).lease
            assert lease is not None
            if number < len(ends):
                leases.release(lease, ends[number])
        if gate:
            leases.close_gate(gate)
        await leases.snapshot()  # all of that is written

    try:
        asyncio.run(work())
        yield
    finally:
        asyncio.run(leases.close())


def test_an_unused_quota_is_all_free(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quota"], KEY) == 0
    assert capsys.readouterr() == ("0 of 100 requests used; 100 possible now.\n", "")


def test_quota_counts_all_runs_of_the_organization(capsys: pytest.CaptureFixture[str]) -> None:
    """Sends nothing and uses none of it; another organization has its own."""
    eu = Settings(api_token=Secret("key"), base_url="https://api.eu.samsara.com")
    with another_run(eu, *[End.ANSWERED] * 4, End.LOST, End.UNSENT, gate=30.0):
        for _ in range(2):
            assert main(["quota", "--region", "eu"], KEY) == 0
        assert main(["quota"], KEY) == 0
    output = capsys.readouterr()
    lines = [
        "7 of 100 requests used; 93 possible now.",
        "2 requests in flight.",
        "Samsara asked to wait: no run sends for another 30 s.",
        "1 run in progress, with 3 requests still to send.",
    ]
    assert output.out.splitlines() == [*lines, *lines, "0 of 100 requests used; 100 possible now."]
    assert output.err == ""


@pytest.mark.parametrize(
    ("ends", "in_flight", "line"),
    [
        (100, 0, r"100 of 100 requests used; the next is possible in (59 s|1 min)\."),
        (60, 40, r"100 of 100 requests used; the next is possible in (59 s|1 min)\."),
        (0, 100, r"100 of 100 requests used; the next is possible after a reply\."),
        (99, 0, r"99 of 100 requests used; 1 possible now\."),
    ],
)
def test_quota_shows_when_the_next_request_is_possible(
    ends: int, in_flight: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_run(Settings(api_token=Secret("key")), *[End.ANSWERED] * ends, in_flight=in_flight):
        assert main(["quota"], KEY) == 0
    assert re.fullmatch(line, capsys.readouterr().out.splitlines()[0])


def test_quota_uses_the_singular(capsys: pytest.CaptureFixture[str]) -> None:
    with another_run(Settings(api_token=Secret("key")), End.ANSWERED, in_flight=1, waiting=1):
        assert main(["quota", "--rate", "50/min"], KEY) == 0
    output = capsys.readouterr().out
    assert output.splitlines() == [
        "2 of 50 requests used; 48 possible now.",
        "1 request in flight.",
        "1 run in progress, with 1 request still to send.",
    ]


def test_quota_is_the_same_in_another_process(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "batch_issuer", "quota"]
    with another_run(Settings(api_token=Secret("key")), End.ANSWERED):
        subprocess.run(command, env={**os.environ, **KEY}, check=True, timeout=30)
    assert capfd.readouterr().out.startswith("3 of 100 requests used; 97 possible now.\n2 requests in flight.\n")


def test_issue_first_reports_what_other_runs_have_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox() as sandbox:
        command = ["issue", str(write_roster(tmp_path, 3)), "--base-url", sandbox.url]
        with another_run(settings_for(sandbox), *[End.ANSWERED] * 36):
            assert main(command, environ_for(sandbox)) == 0
    stderr = capsys.readouterr().err
    assert "Requesting 3 login tokens at 100/min: about 1 s.\n" in stderr
    assert "Other runs have used 38 of 100 requests and have 3 more to send.\n" in stderr


def test_runs_one_after_the_other_share_the_quota(tmp_path: Path) -> None:
    """The second waits for what the first used instead of running into 429s."""
    with live_sandbox(limit=20, per=1.0) as sandbox:
        for name in ("north.csv", "south.csv"):
            options = ["--base-url", sandbox.url, "--rate", "20/s", "--quiet"]
            assert main(["issue", str(write_roster(tmp_path, 15, name)), *options], environ_for(sandbox)) == 0
    assert all(entry.counted for entry in sandbox.ledger)
    assert sandbox.peak() <= 20
    assert len(sandbox.ledger) == 30


def test_sandbox_and_check_do_not_touch_the_shared_quota(tmp_path: Path) -> None:
    """Whatever the variable contains."""
    source = str(write_roster(tmp_path, 3))
    for quota in ("host", "nonsense", f"redis://user:{HIDDEN}@127.0.0.1:1/0"):
        environ = {"BATCH_ISSUER_QUOTA": quota}
        assert main(["issue", source, "--sandbox", "--quiet", "--overwrite"], environ) == 0
        assert main(["check", source], environ) == 0
        assert not state_folder().exists()


def test_the_file_of_the_quota_is_private_and_contains_no_secret(tmp_path: Path) -> None:
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
            assert main(["issue", str(write_roster(tmp_path, 3)), *options], environ_for(sandbox)) == 0
            assert len(list(state_folder().iterdir())) > 1
            look()
        assert state_file(state_folder()).exists()
        look()


@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["", "quiet"])
def test_a_broken_quota_is_one_warning_and_the_run_continues(
    quiet: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_folder().mkdir(parents=True)
    state_file(state_folder()).write_text("precious, but no database" * 100)
    with live_sandbox() as sandbox:
        options = ["--base-url", sandbox.url, *quiet]
        assert main(["issue", str(write_roster(tmp_path, 30)), *options], environ_for(sandbox)) == 0
        stderr = capsys.readouterr().err
        assert stderr.count("warning: the quota cannot be shared with other runs") == 1
        assert stderr.count("warning") == 1
        assert sandbox.api_token not in stderr
        assert main(["quota", "--base-url", sandbox.url], environ_for(sandbox)) == 4
    what, fix = capsys.readouterr().err.splitlines()
    assert what.startswith("error: the quota cannot be shared with other runs")
    assert fix.startswith("hint: ")
    assert state_file(state_folder()).read_text() == "precious, but no database" * 100


def test_a_quota_unavailable_for_too_long_is_exit_4(
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
            assert main(["issue", str(write_roster(tmp_path, 5)), *options], environ_for(sandbox)) == 4
            assert sandbox.ledger == []
    finally:
        holder.close()
    stderr = capsys.readouterr().err
    assert "Waiting: another process has locked" in stderr
    assert "error: another process has locked" in stderr
    assert [row["auth_status"] for row in lines(tmp_path / "depot.results.csv")] == ["not_attempted"] * 5


def test_an_invalid_quota_is_exit_2_and_its_password_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests, dead_port: int
) -> None:
    source, port = str(write_roster(tmp_path, 3)), dead_port
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
            output = capsys.readouterr()
            assert output.out == ""
            what, fix = output.err.splitlines()[-2:]
            assert what.startswith("error: ")
            assert fix.startswith("hint: ")
            assert HIDDEN not in output.err
            assert [path.name for path in tmp_path.iterdir()] == ["depot.csv"]


def test_only_a_password_in_an_argument_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dead_port: int
) -> None:
    address = f"redis://user:{HIDDEN}@127.0.0.1:{dead_port}/0"
    for command in (["quota"], ["issue", str(write_roster(tmp_path, 1))]):
        main([*command, "--quota", address], KEY)
        stderr = capsys.readouterr().err
        assert stderr.startswith("warning: other users of this computer can see the password in --quota\n")
        assert "BATCH_ISSUER_QUOTA" in stderr
        assert HIDDEN not in stderr
        main(command, {**KEY, "BATCH_ISSUER_QUOTA": address})
        main([*command, "--quota", f"redis://127.0.0.1:{dead_port}/0"], KEY)
        assert "warning" not in capsys.readouterr().err
