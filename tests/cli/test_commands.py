"""Check, status, purge, help and version: what they print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.paths import SAMPLES
from support.rosters import (
    CODE,
    earlier_results,
    interrupted_run,
    issued,
    lines,
    publish,
    write_roster,
)
from support.sandbox import environ_for, live_sandbox

import batch_issuer
from batch_issuer.cli import main
from batch_issuer.cli.parser import make_parser
from batch_issuer.errors import SettingsError
from batch_issuer.hints import Hint
from batch_issuer.results import Batch, Destination
from batch_issuer.roster import Roster
from batch_issuer.settings.addresses import REGIONS

if TYPE_CHECKING:
    from pathlib import Path


def test_check_sends_nothing_and_lists_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(SAMPLES / "depot_clean.csv")], {}) == 0
    complete = capsys.readouterr().out
    assert complete.startswith("100 rows: 100 can be sent, 0 cannot; issuing takes about 1 s at 100/min.\n")
    assert main(["check", str(SAMPLES / "depot.csv")], {}) == 1
    output = capsys.readouterr().out
    assert output.startswith("60 rows: 57 can be sent, 3 cannot")
    assert "1 invalid: 'SMP00035' is not a valid external ID\n    row 36 (Sample Driver 035)\n    hint: " in output
    assert main(["check", str(write_roster(tmp_path, 250))], {}) == 0
    assert "takes about 2 min" in capsys.readouterr().out


def test_status_counts_without_showing_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "--quiet", "-o", str(out)], {})
    capsys.readouterr()
    assert main(["status", str(out)], {}) == 1
    output, command = capsys.readouterr()
    assert command.endswith(f"\n  batch-issuer retry {out} --sandbox\n")
    assert "60 rows: 55 issued, 2 failed, 2 invalid, 1 duplicate." in output
    assert "55 login tokens valid now, 0 expired." in output
    assert "1 duplicate: same driver as row 13\n    row 53 (Sample Driver 012)\n" in output
    secrets = [row[column] for row in lines(out) for column in ("auth_token", "auth_code") if row[column]]
    assert not any(secret in output for secret in secrets)


def test_status_groups_rows_by_hint_and_shows_some_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, place = write_roster(tmp_path, 2), Destination(tmp_path / "out.csv")
    source.write_text(source.read_text() + ",70000A\nBo,70000A\n" * 3 + ",70000A\nTwin,700000\n")
    drivers = Batch.of_roster(Roster.from_path(source))
    expires_at = [datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (-5, 5)]
    pairs = zip(drivers.drivers, expires_at, strict=True)
    publish(place, drivers, *(issued(driver, f"token-{driver.row}", expires_at=at) for driver, at in pairs))
    assert main(["status", str(place.path)], {}) == 1
    local = expires_at[1].astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "10 rows: 2 issued, 7 invalid, 1 duplicate.",
        "1 login token valid now, 1 expired.",
        f"The next one expires at {local}.",
        "7 invalid: '70000A' is not a valid driver ID",
        "    rows 4, 5 (Bo), 6 and 4 more",
        f"    hint: {Hint.DRIVER_ID}",
        "1 duplicate: same driver as row 2",
        "    row 11 (Twin)",
        f"    hint: {Hint.DUPLICATE}",
    ]
    assert output.err.splitlines() == [
        "To request the missing login tokens:",
        f"  batch-issuer retry {place.path}",
    ]


def test_status_as_json_has_the_same_numbers_and_all_rows_without_a_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    main(["issue", str(SAMPLES / "depot.csv"), "--sandbox", "--quiet", "-o", str(out)], {})
    capsys.readouterr()
    assert main(["status", str(out), "--json"], {}) == 1
    output = capsys.readouterr().out
    found = json.loads(output)
    assert {"rows", "counts", "tokens", "next_expiry", "last_expiry", "problems"} <= found.keys()
    assert found["results"] == str(out)
    assert found["unfinished"] is False
    assert found["rows"] == 60
    assert found["counts"] == {"issued": 55, "failed": 2, "invalid": 2, "duplicate": 1}
    assert found["tokens"] == {"valid": 55, "expired": 0, "unknown_expiry": 0, "corrupted": 0, "purged": 0}
    held = [row for row in lines(out) if row["auth_token"]]
    expiries = sorted(row["auth_expires_at"] for row in held)
    assert (found["next_expiry"], found["last_expiry"]) == (expiries[0], expiries[-1])
    without_token = {number: row for number, row in enumerate(lines(out), 2) if not row["auth_token"]}
    problems = {row["row"]: {**row, "group": group["hint"]} for group in found["problems"] for row in group["rows"]}
    assert problems == {
        number: {
            "row": number,
            **{name: row[f"auth_{name}"] for name in ("status", "identifier", "error", "hint")},
            "group": row["auth_hint"],
        }
        for number, row in without_token.items()
    }
    assert not any(row[column] in output for row in held for column in ("auth_token", "auth_code"))


@pytest.mark.parametrize("name", ["depot.results.csv", "depot.results.csv.partial"])
def test_status_of_an_unfinished_run_reads_its_journal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is in progress, or was interrupted."""
    place = Destination(tmp_path / "depot.results.csv")
    kept = interrupted_run(place, Roster.from_path(write_roster(tmp_path, 3)))
    assert main(["status", str(tmp_path / name)], {}) == 1
    output = capsys.readouterr()
    assert "3 rows: 1 issued, 1 unknown, 1 not attempted." in output.out
    assert output.err.splitlines() == [
        f"A run is in progress or was interrupted; its journal is {place.partial}.",
        "To resume an interrupted run:",
        f"  batch-issuer retry {place.path}",
    ]
    assert kept.code not in output.out
    assert main(["status", str(tmp_path / name), "--json"], {}) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["unfinished"] is True
    assert found["counts"] == {"issued": 1, "unknown": 1, "not_attempted": 1}
    assert found["tokens"]["valid"] == 1


def test_purge_blanks_expired_tokens_and_counts_those_without_a_readable_expiry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their codes with them; nothing else in the file changes, and the second time nothing at all."""
    place, now = Destination(tmp_path / "out.csv"), datetime.now(UTC)
    drivers = Batch.of_roster(Roster.from_path(write_roster(tmp_path, 4)))
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
        "2 expired login tokens blanked.\n",
        "1 login token kept: auth_expires_at cannot be read.\n",
    )
    for secret in ("token-2", f"code2{CODE}", "token-4", f"code4{CODE}"):
        data = data.replace(secret.encode(), b"")
    assert place.path.read_bytes() == data
    before = place.path.stat()
    assert main(["purge", str(place.path)], {}) == 0
    assert capsys.readouterr().out == "0 expired login tokens blanked.\n"
    after = place.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert main(["status", str(place.path)], {}) == 1
    assert "1 login token valid now, 0 expired, 1 without a readable expiry, 2 purged." in capsys.readouterr().out


@pytest.mark.parametrize("published", [False, True])
def test_purge_of_an_unfinished_run_is_refused(
    published: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That run would bring the tokens back, or is in progress."""
    place = earlier_results(tmp_path, 3, 3, timedelta(minutes=-1))
    if not published:
        place.path.unlink()
    interrupted_run(place, Roster.from_path(tmp_path / "depot.csv"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["purge", str(place.path)], {}) == 2
    assert f"batch-issuer retry {place.path}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_status_of_a_complete_file_is_0_until_tokens_expire(tmp_path: Path) -> None:
    for lifetime, code in ((900.0, 0), (0.001, 1)):
        with live_sandbox(token_lifetime=lifetime) as sandbox:
            options = ["--base-url", sandbox.url, "--overwrite", "--quiet"]
            main(["issue", str(write_roster(tmp_path, 3)), *options], environ_for(sandbox))
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
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stderr
    return {name.partition(".")[0] for name in output.splitlines()[-1].split(",")}


@pytest.mark.parametrize("flags", ["--help", "--version", "issue --help"])
def test_help_imports_what_argparse_imports_and_hardly_more(flags: str) -> None:
    """Neither pandas nor aiohttp, nor asyncio, typing or dataclasses, unless this Python's argparse needs them."""
    bare = "import argparse; argparse.ArgumentParser().parse_args(['--help'])"
    ours = f"from batch_issuer.cli import main; main({flags.split()}, {{}})"
    assert modules_after(ours) - modules_after(bare) <= {"batch_issuer", "__future__", "gc", "signal"}


def test_a_mistyped_flag_is_reported_before_heavy_imports() -> None:
    ours = "from batch_issuer.cli import main; main(['issue', '--rat', '5/s'], {})"
    assert not modules_after(ours) & {"pandas", "numpy", "aiohttp", "asyncio", "dataclasses", "tqdm"}


@pytest.mark.parametrize("command", ["config", "quota"])
def test_a_command_without_a_roster_does_not_import_pandas(command: str) -> None:
    ours = f"from batch_issuer.cli import main; main(['{command}'], {{'SAMSARA_API_TOKEN': 'key'}})"
    assert not modules_after(ours) & {"pandas", "numpy", "aiohttp", "tqdm"}


def test_the_flag_accepts_exactly_the_known_regions() -> None:
    for region in REGIONS:
        assert make_parser().parse_args(["issue", "--region", region]).region == region
    with pytest.raises(SettingsError, match=r"^--region: 'mars' is not a valid choice$") as caught:
        make_parser().parse_args(["issue", "--region", "mars"])
    assert re.findall(r"\b[a-z]{2}\b", caught.value.hint.replace(" or ", ", ")) == list(REGIONS)


def test_an_unexpected_problem_is_reported_without_traceback_or_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the secret is s3cr3t")

    monkeypatch.setattr("batch_issuer.jobs.planning.read_bytes", broken)
    assert main(["check", str(tmp_path)], {}) == 4
    stderr = capsys.readouterr().err
    assert "ZeroDivisionError" in stderr
    assert "s3cr3t" not in stderr
    assert "Traceback" not in stderr


def test_status_counts_no_token_as_valid_that_retry_would_replace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Destination(tmp_path / "depot.results.csv")
    drivers = Batch.of_roster(Roster.from_path(write_roster(tmp_path, 4)))
    soon = datetime.now(UTC) + timedelta(minutes=10)
    tokens = ["#NAME?", "twice", "twice", "good"]
    pairs = zip(drivers.drivers, tokens, strict=True)
    publish(place, drivers, *(issued(driver, token, expires_at=soon) for driver, token in pairs))
    assert main(["status", str(place.path)], {}) == 1
    output = capsys.readouterr().out
    assert "1 login token valid now, 0 expired, 3 corrupted." in output
    assert "    rows 2 (Sample 0), 3 (Sample 1) and 4 (Sample 2)\n" in output
    assert output.count(f"    hint: {Hint.CORRUPTED}\n") == 1
    assert "twice" not in output


@pytest.mark.parametrize(("flag", "value"), [("--fault", "gremlins=0.5"), ("--limiter", "strict")])
def test_the_choices_of_the_sandbox_are_in_the_hint(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", flag, value], {}) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: unknown {flag[2:]} '{value.partition('=')[0]}'"
    assert hint.startswith("hint: choose ")
