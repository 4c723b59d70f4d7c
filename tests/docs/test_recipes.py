"""The recipes for unattended runs, run or verified as their schedulers would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import docs
from support.programs import needed
from support.sandbox import live_sandbox

from batch_issuer.cli.parser import make_parser

if TYPE_CHECKING:
    from batch_issuer.sandbox import Sandbox

COMMAND = Path(sys.executable).with_name("batch-issuer")


def depots(folder: Path, *sandboxes: Sandbox) -> None:
    """Settings, keys and rosters of as many organizations."""
    sections = ['[defaults]\noutput = "{organization}.csv"\nquota = "process"\n']
    for number, sandbox in enumerate(sandboxes):
        key = folder / f"{number}.key"
        key.touch(0o600)
        key.write_text(sandbox.api_token)
        (folder / f"{number}.csv").write_text("Username\ndriver.1\ndriver.2\n")
        sections.append(
            f'[organizations.org{number}]\nbase_url = "{sandbox.url}"\n'
            f'token_file = "{number}.key"\nroster_file = "{number}.csv"\n'
        )
    (folder / "batch-issuer.toml").write_text("\n".join(sections))


def as_cron(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A bare environment, no terminal, the shell that cron uses."""
    command = line.split(maxsplit=5)[5].replace("/path/to/depots", shlex.quote(str(folder)))
    assert "%" not in command  # which cron takes for a line end
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={"HOME": str(folder), "LOGNAME": "admin", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a ``.venv`` that holds the command."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "batch-issuer").symlink_to(COMMAND)
    return tmp_path


def test_the_line_for_cron_issues_for_all_and_mails_nothing(installed: Path) -> None:
    (line,) = docs.block("recipe: cron").strip().splitlines()
    with live_sandbox(limiter="none") as north, live_sandbox(limiter="none") as south:
        depots(installed, north, south)
        ran = as_cron(line, installed)
        assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "")
        assert len(north.ledger) == len(south.ledger) == 2


def test_the_line_for_cron_mails_only_the_organization_that_failed(installed: Path) -> None:
    """A missing roster is one clear line and its fix; the path of the other's results goes to stdout."""
    (line,) = docs.block("recipe: cron").strip().splitlines()
    with live_sandbox(limiter="none") as north, live_sandbox(limiter="none") as south:
        depots(installed, north, south)
        (installed / "1.csv").unlink()
        ran = as_cron(line, installed)
        assert ran.returncode == 2
        assert re.match(r"error: org1: no file 1\.csv in .*\nhint: ", ran.stderr)
        assert len(north.ledger) == 2
        assert not south.ledger


def units(folder: Path) -> tuple[Path, Path]:
    """The service and the timer, with a program that is there."""
    found = []
    for name in ("service", "timer"):
        text = docs.block(f"recipe: {name}").replace("/opt/batch-issuer/bin/batch-issuer", str(COMMAND))
        found.append(folder / f"batch-issuer.{name}")
        found[-1].write_text(text.replace("User=batch-issuer", "User=daemon"))  # one that is there
    return found[0], found[1]


def systemd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [needed("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_verifies_service_and_timer(tmp_path: Path) -> None:
    ran = systemd("verify", *units(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_systemd_would_notice_a_mistake_in_them(tmp_path: Path) -> None:
    service, timer = units(tmp_path)
    service.write_text(service.read_text().replace("ProtectClock=yes", "ProtectClok=yes"))
    assert "ProtectClok" in systemd("verify", service, timer).stderr


def test_systemd_calls_the_service_safe(tmp_path: Path) -> None:
    service, _ = units(tmp_path)
    ran = systemd("security", "--offline=true", "--threshold=20", "--no-pager", service)
    assert ran.returncode == 0, ran.stdout[-400:]


def test_the_command_of_the_service_runs_with_a_credential_as_systemd_gives_it(tmp_path: Path) -> None:
    """Mode 0440, in a folder that the service alone can enter, named by %d and CREDENTIALS_DIRECTORY."""
    text = docs.block("recipe: service")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    for folder in (credentials, state):
        folder.mkdir(0o700)
    (state / "depot.csv").write_text("Username\ndriver.1\n")
    with live_sandbox(limiter="none") as sandbox:
        (credentials / "samsara").write_text(sandbox.api_token + "\n")
        (credentials / "samsara").chmod(0o440)
        program, *arguments = shlex.split(command.replace("%d", str(credentials)))
        assert program == "/opt/batch-issuer/bin/batch-issuer"
        ran = subprocess.run(
            [str(COMMAND), *arguments, "--base-url", sandbox.url],
            cwd=state,
            env={"CREDENTIALS_DIRECTORY": str(credentials), "XDG_STATE_HOME": str(state / "state"), "PATH": "/usr/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (state / f"results-{datetime.now().astimezone():%Y-%m-%d}.csv").exists()
    assert (state / "night.json").exists()


def test_the_line_for_windows_is_one_that_schtasks_takes_and_its_command_is_ours() -> None:
    """By the reference of schtasks: a daily time as HH:mm, and at most 261 characters to run."""
    (line,) = docs.block("recipe: windows").strip().splitlines()
    found = re.fullmatch(r'schtasks /Create /TN "[^"]+" /SC DAILY /ST (\d\d:\d\d) /TR "([^"]+)"', line)
    assert found
    datetime.strptime(found[1], "%H:%M").astimezone()
    assert len(found[2]) <= 261
    folder, command = re.fullmatch(r"cmd /c cd /d (\S+) && \.venv\\Scripts\\batch-issuer (.*)", found[2]).groups()  # type: ignore[union-attr]
    assert re.fullmatch(r"[A-Z]:\\[\w\\]+", folder)
    options = make_parser().parse_args(shlex.split(command))
    assert (options.command, options.all, options.quiet) == ("issue", True, True)


def test_the_task_of_an_orchestrator_issues_fails_with_a_reason_and_resumes(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    exec(compile(docs.block("recipe: orchestrator"), "unattended.md", "exec"), found)  # noqa: S102 - our own page
    roster, results = tmp_path / "depot.csv", tmp_path / "results.csv"
    roster.write_text("Username\ndriver.1\ndriver.2\n")
    with live_sandbox(limiter="none", script="ok,404") as sandbox:
        arguments = (str(roster), str(results), sandbox.api_token)
        with pytest.raises(RuntimeError, match="finished: 1 rows without a good token"):
            found["issue_tokens"](*arguments, base_url=sandbox.url, quota="process")
        assert found["issue_tokens"](*arguments, base_url=sandbox.url, quota="process") == str(results)
        assert len(sandbox.ledger) == 3
    code = [line for line in docs.block("recipe: orchestrator").splitlines() if line.startswith((" ", "def"))]
    assert len(code) <= 10


@pytest.mark.skipif(sys.platform != "linux", reason="a disk of its own needs Linux")
def test_a_full_disk_is_one_clear_line_and_the_right_code(tmp_path: Path) -> None:
    """The journal finds no room: nothing is sent, exit code 2."""
    (tmp_path / "depot.csv").write_text(
        "Username\n" + "driver.1\n" * 1 + "".join(f"driver.{n}\n" for n in range(2, 400))
    )
    limited = f"ulimit -f 40; exec {shlex.quote(str(COMMAND))} issue depot.csv --quiet"
    with live_sandbox(limiter="none") as sandbox:
        ran = subprocess.run(
            ["/bin/sh", "-c", f"{limited} --base-url {sandbox.url} --quota process"],
            cwd=tmp_path,
            env={"SAMSARA_API_TOKEN": sandbox.api_token, "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not sandbox.ledger
    assert ran.returncode == 2
    assert re.match(r"error: the results cannot be written to .*: File too large\nhint: ", ran.stderr)
