"""The last screen of ``issue``, and the same rows as ``check`` and ``status`` show them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.rosters import lines, write_roster
from support.sandbox import environ_for, live_sandbox
from support.terminal import needs_terminal, run_on_terminal

from batch_issuer.cli import main
from batch_issuer.cli.screen import CROSS, TICK, columns
from batch_issuer.hints import Hint

if TYPE_CHECKING:
    from pathlib import Path

    from support.terminal import Seen

NAMED = ["Ana Lima", "Bo Chen", "Cy Diaz"]


def named_roster(folder: Path, invalid: int, good: int) -> Path:
    """So many rows with an ID that is not one, each followed by five good ones; then the rest of the good ones."""
    rows = []
    for number in range(good + invalid):
        bad = number % 6 == 2 and number // 6 < invalid
        name = NAMED[number // 6] if bad and number // 6 < len(NAMED) else f"Driver {number}"
        rows.append(f"{name},{'70000A' if bad else 700000 + number}\n")
    path = folder / "depot.csv"
    path.write_text("Driver Name,Driver ID\n" + "".join(rows))
    return path


def joined(lines: list[str]) -> str:
    """The text of wrapped lines."""
    return re.sub(r"\s+", " ", " ".join(lines)).strip()


def ending(seen: Seen) -> list[str]:
    """From the first group on."""
    start = next(number for number, line in enumerate(seen.lines) if line.startswith(CROSS))
    return seen.lines[start:]


RESULT = rf"^{CROSS} 50 of 60 rows have a login token: 50 issued, 10 invalid \(\d+\.\d s\)\.$"
SHOWN = "rows 4 (Ana Lima), 10 (Bo Chen), 16 (Cy Diaz) and 7 more"


@needs_terminal
def test_ten_failures_of_one_kind_fit_a_screen_and_end_with_result_file_and_next_command(tmp_path: Path) -> None:
    named_roster(tmp_path, 10, 50)
    seen = run_on_terminal("issue", "depot.csv", "--sandbox", folder=tmp_path)
    assert seen.code == 1
    assert len(seen.lines) <= 24
    assert max(map(columns, seen.lines)) <= 80
    group, rows, *others = ending(seen)
    assert group == f"{CROSS} 10 invalid: '70000A' is not a valid driver ID"
    assert rows == f"    {SHOWN}"
    *hint, result, expiry, kind, file, why, command = others
    assert joined(hint) == f"hint: {Hint.DRIVER_ID}"
    assert all(line.startswith("          ") for line in hint[1:])
    assert re.match(RESULT, result)
    assert re.match(r"The first one expires at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+\.$", expiry)
    assert kind == "Results (sandbox login tokens, which cannot be used to log in):"
    assert file == "depot.results.csv"
    assert why == "To request the missing login tokens:"
    assert command == "  batch-issuer retry depot.results.csv --sandbox"


@needs_terminal
def test_a_narrow_terminal_gets_the_same_in_narrow_lines(tmp_path: Path) -> None:
    named_roster(tmp_path, 10, 50)
    seen = run_on_terminal("issue", "depot.csv", "--sandbox", columns=40, folder=tmp_path)
    *wrapped, command = seen.lines
    assert command == "  batch-issuer retry depot.results.csv --sandbox"
    assert max(map(columns, wrapped)) <= 40
    text = joined(ending(seen))
    assert (
        f"{CROSS} 10 invalid: '70000A' is not a valid driver ID {SHOWN} hint: {Hint.DRIVER_ID} {CROSS} 50 of 60" in text
    )


@needs_terminal
def test_a_complete_run_ends_with_a_tick_the_file_and_what_comes_next(tmp_path: Path) -> None:
    write_roster(tmp_path, 3)
    seen = run_on_terminal("issue", "depot.csv", "--sandbox", folder=tmp_path)
    assert seen.code == 0
    result, _, _, file, *following = seen.lines[-6:]
    assert re.match(rf"^{TICK} 3 of 3 rows have a login token \(\d+\.\d s\)\.$", result)
    assert file == "depot.results.csv"
    assert joined(following) == "For real login tokens, run the same command with an API token and without --sandbox."


@needs_terminal
def test_a_terminal_with_colours_has_them_on_labels_and_signs_only(tmp_path: Path) -> None:
    named_roster(tmp_path, 1, 2)
    seen = run_on_terminal("check", "depot.csv", folder=tmp_path, environ={"NO_COLOR": "", "LANG": "C.UTF-8"})
    assert set(re.findall(r"\033\[[\d;]+m[^\033]+\033\[0m", seen.written)) == {
        f"\033[31m{CROSS}\033[0m",
        "\033[1;36mhint:\033[0m",
    }


def test_refused_rows_are_listed_once_after_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = named_roster(tmp_path, 10, 50)
    assert main(["issue", str(path), "--sandbox"], {}) == 1
    stderr = capsys.readouterr().err
    assert stderr.count("'70000A'") == 1
    assert stderr.count(str(Hint.DRIVER_ID)) == 1
    assert stderr.count("Ana Lima") == 1
    before, after = stderr.split("Requesting 50 login tokens")
    assert "10 rows cannot be sent; listed at the end.\n" in before
    assert f"10 invalid: '70000A' is not a valid driver ID\n    {SHOWN}\n" in after


def test_check_lists_every_refused_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(named_roster(tmp_path, 10, 50))], {}) == 1
    rows = capsys.readouterr().out.splitlines()[-2]
    assert re.findall(r"\d+(?= \()", rows) == [str(row) for row in range(4, 64, 6)]
    assert "more" not in rows


def group_of(text: str) -> list[str]:
    """The lines of the groups in an output."""
    found = text.splitlines()
    return [line for line in found if re.match(r"\d+ (invalid|failed|duplicate)\b|    ", line)]


def test_check_issue_and_status_show_the_same_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = named_roster(tmp_path, 2, 10)
    path.write_text(path.read_text() + "Twin,700000\nAnn,\n")
    shown = []
    for command in (["check", path], ["issue", path, "--sandbox"], ["status", tmp_path / "depot.results.csv"]):
        assert main(list(map(str, command)), {}) == 1
        output = capsys.readouterr()
        shown.append(group_of(output.out + output.err))
    assert shown[0] == [
        "2 invalid: '70000A' is not a valid driver ID",
        "    rows 4 (Ana Lima) and 10 (Bo Chen)",
        f"    hint: {Hint.DRIVER_ID}",
        "1 duplicate: same driver as row 2",
        "    row 14 (Twin)",
        f"    hint: {Hint.DUPLICATE}",
        "1 invalid: no identifier in the row",
        "    row 15 (Ann)",
        f"    hint: {Hint.NO_IDENTIFIER}",
    ]
    assert shown[1] == shown[2] == shown[0]


ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m"


@pytest.mark.parametrize("command", ["check", "issue", "status"])
def test_a_name_from_the_roster_cannot_control_the_terminal(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "depot.csv"
    path.write_text(f"Driver Name,Driver ID\n{ESCAPES}Ana,70000A\nBo,7001\n")
    if command == "status":
        assert main(["issue", str(path), "--sandbox", "--quiet"], {}) == 1
        capsys.readouterr()
        path = tmp_path / "depot.results.csv"
    assert main([command, str(path), *(["--sandbox"] if command == "issue" else [])], {}) == 1
    output = "".join(capsys.readouterr())
    assert "row 2 ([2J ]0;owned 31mAna)" in output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", output)


def test_status_of_an_edited_file_cannot_control_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = named_roster(tmp_path, 1, 2)
    assert main(["issue", str(path), "--sandbox", "--quiet"], {}) == 1
    results = tmp_path / "depot.results.csv"
    results.write_bytes(results.read_bytes().replace(b"is not a valid driver ID", b"is not" + ESCAPES.encode()))
    capsys.readouterr()
    assert main(["status", str(results)], {}) == 1
    output = "".join(capsys.readouterr())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", output)


def test_quiet_prints_only_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", str(write_roster(tmp_path, 3)), "--sandbox", "--quiet"], {}) == 0
    assert capsys.readouterr() == ("", "")
    path = named_roster(tmp_path, 1, 2)
    assert main(["issue", str(path), "--sandbox", "--quiet", "--overwrite"], {}) == 1
    output = capsys.readouterr()
    assert output.out == ""
    group, rows, hint, result, *_ = output.err.splitlines()
    assert (group, rows) == ("1 invalid: '70000A' is not a valid driver ID", "    row 4 (Ana Lima)")
    assert hint == f"    hint: {Hint.DRIVER_ID}"
    assert result.startswith("2 of 3 rows have a login token: 2 issued, 1 invalid (")


def test_a_run_without_any_token_does_not_ask_to_keep_the_file_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for script, kind in [("404*3", "no login token in them"), ("ok*3", "they contain login tokens: keep them secret")]:
        with live_sandbox(script=script) as sandbox:
            command = ["issue", str(write_roster(tmp_path, 3)), "--base-url", sandbox.url, "--overwrite"]
            main(command, environ_for(sandbox))
        assert f"\nResults ({kind}):\n" in capsys.readouterr().err
    assert all(row["auth_token"] for row in lines(tmp_path / "depot.results.csv"))
