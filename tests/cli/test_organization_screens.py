"""Several organizations on one screen: ``issue --all`` and ``config``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.terminal import needs_terminal, run_on_terminal

from batch_issuer.cli import main
from batch_issuer.cli.messages import print_endings
from batch_issuer.cli.screen import CROSS, TICK, columns
from batch_issuer.hints import Hint
from batch_issuer.pipeline.endings import Ending, EndingKind

if TYPE_CHECKING:
    from pathlib import Path

EXPIRY = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")

SETTINGS = """\
[defaults]
region = "us"
rate = "1000/s"

[organizations.north]
roster_file = "north.csv"
output = "north.out.csv"

[organizations.south-east-depot]
roster_file = "south.csv"
output = "south.out.csv"
region = "eu"
token_env = "SOUTH"
rate = "500/s"

[organizations.west]
roster_file = "west.csv"
output = "west.out.csv"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of three organizations: one is complete, one has failures, and of one the roster is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch-issuer.toml").write_text(SETTINGS)
    (tmp_path / "north.csv").write_text("Driver Name,Driver ID\nAnn,11\nBob,12\nCid,13\n")
    (tmp_path / "south.csv").write_text("Driver Name,Driver ID\nDan,21\nEve,x1\nFay,x1\nGus,21\n")
    return tmp_path


@needs_terminal
def test_all_ends_with_one_table_and_each_failure_once(folder: Path) -> None:
    seen = run_on_terminal("issue", "--all", "--sandbox", folder=folder, environ={"TZ": "UTC"})
    assert seen.code == 2
    lines = seen.lines
    text = re.sub(r"\s+", " ", " ".join(lines))
    for once in ("'x1' is not a valid driver ID", "same driver as row 2", "west.csv", "(exit 1)", "(exit 2)"):
        assert text.count(once) == 1, once
    for hint in (Hint.DRIVER_ID, Hint.DUPLICATE):
        assert text.count(f"hint: {hint}") == 1
    start = lines.index("south-east-depot:")
    assert lines[start + 1 : start + 3] == [
        f"{CROSS} 2 invalid: 'x1' is not a valid driver ID",
        "    rows 3 (Eve) and 4 (Fay)",
    ]
    assert sum(line.startswith("error: west: ") for line in lines) == 1
    head = next(number for number, line in enumerate(lines) if line.startswith("  organization "))
    assert [EXPIRY.sub("<the time of first expiry>", line) for line in lines[head : head + 5]] == [
        "  organization      login tokens  first expiry             result",
        f"{TICK} north             3 of 3        <the time of first expiry>  complete",
        f"{CROSS} south-east-depot  1 of 4        <the time of first expiry>  2 invalid, 1",
        " " * 59 + "duplicate (exit 1)",
        f"{CROSS} west              -                                      nothing sent (exit 2)",
    ]
    assert all(columns(line) <= 80 for line in lines[:-1] if " " in line.strip())  # a path is not broken
    assert lines[-2:] == [
        "To request the missing login tokens:",
        f"  batch-issuer retry {folder / 'south.out.csv'} --org south-east-depot --sandbox",
    ]


def test_all_in_a_file_has_a_table_that_lines_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", "--all", "--sandbox"], {}) == 2
    output = capsys.readouterr()
    assert output.out.splitlines() == [str(folder / "north.out.csv"), str(folder / "south.out.csv")]
    head, north, south, west = re.findall(
        r"^(?:organization|north|south-east-depot|west)  +.*$", output.err, re.MULTILINE
    )
    assert head.split("  ")[0] == "organization"
    assert north.endswith("  complete")
    assert south.endswith("  2 invalid, 1 duplicate (exit 1)")
    assert west.endswith("  nothing sent (exit 2)")
    column = head.index("result")
    assert [line[column - 2] for line in (north, south, west)] == [" "] * 3
    assert [line[column] for line in (north, south, west)] == ["c", "2", "n"]
    assert "4 of 7 rows have a login token: 4 issued, 2 invalid, 1 duplicate (" in output.err


def test_all_quietly_reports_only_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", "--all", "--sandbox", "--quiet"], {}) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "north" not in output.err.replace(str(folder), "")
    assert "1 of 4 rows have a login token: 1 issued, 2 invalid, 1 duplicate (" in output.err
    (folder / "west.csv").write_text("Driver ID\n31\n")
    (folder / "south.csv").write_text("Driver ID\n21\n")
    assert main(["issue", "--all", "--sandbox", "--quiet", "--overwrite"], {}) == 0
    assert capsys.readouterr() == ("", "")


def sections(text: str) -> dict[str, dict[str, str]]:
    """Of what ``config`` prints: name and value by section."""
    found: dict[str, dict[str, str]] = {}
    for part in text.split("\n\n")[1:]:
        title, *lines = part.splitlines()
        found[title] = {fields[0]: fields[1] for line in lines if (fields := re.split(r"  +", line.strip()))}
    return found


def test_config_shows_the_defaults_once_and_of_each_organization_what_differs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config"], {"SOUTH": "s3cr3t"}) == 0
    shown = sections(capsys.readouterr().out)
    assert [*shown] == [
        "for all organizations",
        "organization north",
        "organization south-east-depot",
        "organization west",
    ]
    common = shown["for all organizations"]
    assert common["rate"] == "1000/s"
    assert common["base_url"] == "https://api.samsara.com"
    assert common["give_up_after"] == "10m"
    assert {"log_file", "summary"} <= common.keys()
    assert shown["organization north"] == {
        "roster_file": str(folder / "north.csv"),
        "output": str(folder / "north.out.csv"),
    }
    assert shown["organization south-east-depot"] == {
        "roster_file": str(folder / "south.csv"),
        "output": str(folder / "south.out.csv"),
        "base_url": "https://api.eu.samsara.com",
        "API token": "set",
        "rate": "500/s",
        "burst": "500",
    }


def test_config_of_an_organization_without_settings_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.toml").write_text("[organizations.north]\n[organizations.south]\nburst = 7\n")
    assert main(["config", "--config", str(tmp_path / "b.toml")], {}) == 0
    assert capsys.readouterr().out.endswith(
        "\n\norganization north\n  roster_file  none  (default)\n\n"
        "organization south\n  roster_file  none  (default)\n  burst        7  ([organizations.south] burst)\n"
    )


@needs_terminal
@pytest.mark.parametrize("width", [60, 80])
def test_config_fits_the_terminal(width: int, folder: Path) -> None:
    """Except for a path that is longer than a line."""
    lines = run_on_terminal("config", columns=width, folder=folder).lines
    too_wide = [line for line in lines if columns(line) > width]
    assert all(str(folder) in line or "/etc/" in line for line in too_wide)


def test_a_deadline_of_all_organizations_is_reported_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("north", "south", "west"):
        (folder / f"{name}.csv").write_text("Driver ID\n" + "".join(f"{number}\n" for number in range(1, 40)))
    flags = ["--rate", "10/min", "--deadline", "1s"]
    assert main(["issue", "--all", "--sandbox", *flags], {}) == 4
    stderr = capsys.readouterr().err
    assert stderr.count(f"hint: {Hint.DEADLINE.fix}\n") == 1
    assert len(re.findall(r"^error: the deadline ", stderr, re.MULTILINE)) == 1
    assert not re.search(r"^(north|south-east-depot|west):$", stderr, re.MULTILINE)
    assert len(re.findall(r" {2}deadline \(exit 4\)$", stderr, re.MULTILINE)) == 3


def test_a_reason_that_some_organizations_share_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    refused = Ending(EndingKind.UNAUTHORIZED, "the API token was refused", "create one")
    assert print_endings({"north": refused, "south": Ending(EndingKind.FINISHED), "west": refused})
    assert capsys.readouterr().err == "error: north, west: the API token was refused\nhint: create one\n"
    assert not print_endings({"south": Ending(EndingKind.FINISHED)})
    assert print_endings({"north": refused, "east": None})
    assert capsys.readouterr().err == "error: north: the API token was refused\nhint: create one\n"
    by_hand = Ending(EndingKind.INTERRUPTED, "stopped by Ctrl-C")
    assert print_endings({"north": by_hand, "south": Ending(EndingKind.FINISHED), "west": by_hand})
    assert capsys.readouterr().err == "Stopped by Ctrl-C.\n"


# --- check --all


def test_a_rehearsal_checks_every_roster(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--all"], {"SAMSARA_API_TOKEN": "k", "SOUTH": "s"}) == 2
    output = capsys.readouterr()
    assert "north: 3 rows: 3 can be sent, 0 cannot" in output.out
    assert "south-east-depot: 4 rows: 1 can be sent, 3 cannot" in output.out
    assert output.out.splitlines()[-1].startswith("3 organizations, 7 rows: 4 can be sent; issuing takes about ")
    assert "error: west: no file west.csv in " in output.err
    assert "warning" not in output.err
    (folder / "west.csv").write_text("Driver ID\n31\n")
    assert main(["check", "--all"], {"SAMSARA_API_TOKEN": "k", "SOUTH": "s"}) == 1
    (folder / "south.csv").write_text("Driver ID\n21\n")
    assert main(["check", "--all"], {"SAMSARA_API_TOKEN": "k", "SOUTH": "s"}) == 0


def test_a_rehearsal_warns_of_missing_and_shared_api_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--all"], {"SAMSARA_API_TOKEN": "k"})
    stderr = capsys.readouterr().err
    missing = "the API token of south-east-depot is missing: the environment variable SOUTH is not set"
    assert f"warning: {missing}\n" in stderr
    (folder / "west.csv").write_text("Driver ID\n31\n")
    main(["check", "--all"], {"SAMSARA_API_TOKEN": "k", "SOUTH": "k"})  # in another region, so it is another one
    stderr = capsys.readouterr().err
    assert "warning: west: north has the same API token\n" in stderr
    assert stderr.count("warning: ") == 1


def test_a_rehearsal_refuses_one_results_file_for_two_as_the_run_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "batch-issuer.toml").write_text(SETTINGS.replace("west.out", "north.out"))
    (folder / "west.csv").write_text("Driver ID\n31\n")
    errors = []
    for command in (["check", "--all"], ["issue", "--all", "--sandbox"]):
        assert main(command, {}) == 2
        stderr = capsys.readouterr().err
        errors.append(re.findall(r"^error: (\w+): .* have the same results file .*$", stderr, re.MULTILINE))
    assert errors == [["north", "west"]] * 2
