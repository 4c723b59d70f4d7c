"""``batch-issuer retry``, end to end: which rows are requested or kept, and what is never guessed.

The files are as a person and a spreadsheet program leave them, written here without the package.
"""

from __future__ import annotations

import csv
import os
import re
import socket
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.rosters import CELLS, NAMES, issued, lines, table
from support.sandbox import live_sandbox

from batch_issuer.cli import main
from batch_issuer.hints import Hint
from batch_issuer.model import Driver, Identifier, IdentifierKind, Outcome, Status
from batch_issuer.results import AUTH_COLUMNS, Destination, Validity, read_results
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_issuer.sandbox import Sandbox

HEADER = ["Depot", "Driver ID", *AUTH_COLUMNS]
BLANK_AUTH = dict.fromkeys(AUTH_COLUMNS, "")
FAR = "2099-11-24T03:00:00Z"
SECRET = "sandbox-token-"  # noqa: S105 - the prefix of fake ones in these files
CODE = "SecretCodeOfNobody"


def utc(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def held(number: int, **changes: str) -> dict[str, str]:
    """A row with a token that is valid for longer than these tests run."""
    return {
        "Depot": "North",
        "Driver ID": str(number),
        "auth_status": "issued",
        "auth_token": f"{SECRET}{number}",
        "auth_code": f"{CODE}{number}",
        "auth_expires_at": FAR,
        "auth_identifier": f"driverId={number}",
        "auth_error": "",
        "auth_hint": "",
        "auth_http_status": "200",
        "auth_request_id": f"r-{number}",
        "auth_attempts": "1",
        "auth_issued_at": "2026-01-02T03:04:05Z",
        **changes,
    }


def row_without_token(number: int | str, status: str = "failed", **changes: str) -> dict[str, str]:
    """A row without a token, sent or not."""
    sent = status in ("failed", "unknown")
    return {
        **dict.fromkeys(HEADER, ""),
        "Depot": "North",
        "Driver ID": str(number),
        "auth_status": status,
        "auth_identifier": "" if status == "invalid" else f"driverId={number}",
        "auth_error": "HTTP 404: Object not found." if status == "failed" else "why",
        "auth_hint": "fix",
        "auth_http_status": "404" if sent else "",
        "auth_request_id": "r-0" if sent else "",
        "auth_attempts": "1" if sent else "0",
        **changes,
    }


def by_hand(number: int | str) -> dict[str, str]:
    """A row that a user added."""
    return {"Depot": "Hill", "Driver ID": str(number), **BLANK_AUTH}


def text_of(
    table: Sequence[Sequence[str]], delimiter: str = ",", line_end: str = "\r\n", *, quote_all: bool = False
) -> str:
    """As spreadsheet programs write it: quotes everywhere, or only where they must be."""
    special = re.compile(f'["\r\n{re.escape(delimiter)}]')

    def quoted(cell: str) -> str:
        return '"{}"'.format(cell.replace('"', '""')) if quote_all or special.search(cell) else cell

    return "".join(f"{delimiter.join(map(quoted, row))}{line_end}" for row in table)


def save(path: Path, *rows: dict[str, str], header: Sequence[str] = HEADER) -> Path:
    """A results file as it was published."""
    table = [header, *([row[column] for column in header] for row in rows)]
    path.write_bytes(text_of(table).encode("utf-8-sig"))
    return path


def retry(path: Path, sandbox: Sandbox, *flags: str) -> int:
    options = ["--base-url", sandbox.url, "--quota", "process", *flags]
    return main(["retry", str(path), *options], {"SAMSARA_API_TOKEN": sandbox.api_token})


def requested(sandbox: Sandbox) -> list[str]:
    return sorted(entry.identifier for entry in sandbox.ledger)


def tokens_by_driver(sandbox: Sandbox) -> dict[str, tuple[str, str]]:
    return {entry.identifier: (entry.token, entry.code) for entry in sandbox.ledger if entry.token}


def assert_renewed(row: dict[str, str], sandbox: Sandbox) -> None:
    """The row has the token that the server issued for its driver, with its code."""
    assert row["auth_status"] == "issued"
    assert (row["auth_token"], row["auth_code"]) == tokens_by_driver(sandbox)[row["auth_identifier"]]
    assert row["auth_error"] == row["auth_hint"] == ""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "depot.results.csv"


# --- which rows are requested


def test_valid_tokens_are_kept_and_all_other_rows_are_requested_exactly_once(results: Path, sandbox: Sandbox) -> None:
    good = [held(11), held(12, auth_expires_at=utc(6)), held(13, Depot="=1+1")]
    corrupted = [
        held(21, auth_token="#NAME?"),  # noqa: S106 - no token any more
        held(22, auth_token="Err:508"),  # noqa: S106
        held(23, auth_token="1.2E+17"),  # noqa: S106
        held(24, auth_code=""),
        held(25, auth_code="#NAME?"),
        held(26, auth_code="1,2E+17"),
    ]
    dead = [held(31, auth_expires_at=utc(-1)), held(32, auth_expires_at=utc(4)), held(33, auth_token="")]
    copied = [held(41), held(42, auth_token=f"{SECRET}41", auth_code=f"{CODE}41")]
    without = [
        row_without_token(51),
        row_without_token(52, "unknown"),
        row_without_token(53, "not_attempted"),
        by_hand(54),
    ]
    again = [*corrupted, *dead, *copied, *without]
    before = [good[0], *again[:8], good[1], *again[8:], good[2]]
    save(results, *before)
    line = results.read_bytes().splitlines()[1]

    assert retry(results, sandbox) == 0

    assert requested(sandbox) == sorted(f"driverId={row['Driver ID']}" for row in again)
    after = lines(results)
    assert [row["Driver ID"] for row in after] == [row["Driver ID"] for row in before]
    for old, new in zip(before, after, strict=True):
        if old in good:
            assert new == {**old, "Depot": new["Depot"]}
        else:
            assert_renewed(new, sandbox)
    assert after[-1]["Depot"] == "'=1+1"
    assert results.read_bytes().splitlines()[1] == line


def test_without_anything_to_do_the_file_is_not_touched(
    results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    save(results, held(11), held(12))
    before = results.read_bytes(), results.stat()
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == []
    after = results.stat()
    assert results.read_bytes() == before[0]
    assert (after.st_ino, after.st_mtime_ns) == (before[1].st_ino, before[1].st_mtime_ns)
    output = capsys.readouterr()
    assert output.err.startswith("Nothing to do.\n")
    assert output.out == f"{results}\n"
    assert [path.name for path in results.parent.iterdir()] == [results.name]


@pytest.mark.parametrize(("flags", "count"), [((), 1), (("--min-validity", "3m"), 0), (("--min-validity", "2h"), 2)])
def test_min_validity_decides_which_tokens_are_renewed(
    flags: tuple[str, ...], count: int, results: Path, sandbox: Sandbox
) -> None:
    save(results, held(11, auth_expires_at=utc(4)), held(12, auth_expires_at=utc(60)))
    assert retry(results, sandbox, *flags) == 0
    assert requested(sandbox) == ["driverId=11", "driverId=12"][:count]


def test_sandbox_tokens_do_not_count_for_the_real_api(
    results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row is requested through a proxy that does not exist, because no test reaches the API."""
    save(results, held(11))
    assert retry(results, sandbox) == 0
    assert capsys.readouterr().err.startswith("Nothing to do.\n1 of 1 row has a login token (")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        environ = {"SAMSARA_API_TOKEN": "k", "HTTPS_PROXY": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        options = ["--quota", "process", "--give-up-after", "50ms"]
        assert main(["retry", str(results), *options], environ) == 4
    assert "Keeping" not in capsys.readouterr().err
    assert lines(results)[0]["auth_status"] == "not_attempted"


def test_rows_with_a_token_that_may_exist_are_counted(
    results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    save(results, row_without_token(11, "unknown"), row_without_token(12))
    assert retry(results, sandbox) == 0
    assert "1 row may have lost a login token; requesting new ones." in capsys.readouterr().err


def test_attempts_of_earlier_runs_are_added_up_until_there_is_a_token(results: Path, sandbox: Sandbox) -> None:
    save(results, row_without_token(11, auth_attempts="3"), held(12, auth_attempts="3", auth_expires_at=utc(-1)))
    assert retry(results, sandbox) == 0
    assert [row["auth_attempts"] for row in lines(results)] == ["4", "1"]


# --- rows that a user corrected


def test_invalid_and_duplicate_rows_are_checked_again(results: Path, sandbox: Sandbox) -> None:
    no_id = {"auth_error": "no identifier in the row", "auth_hint": str(Hint.NO_IDENTIFIER)}
    twin = {"auth_error": "same driver as row 2", "auth_hint": str(Hint.DUPLICATE)}
    save(
        results,
        held(11),
        row_without_token("21", "invalid"),  # corrected
        row_without_token("11", "invalid"),  # corrected to a driver that has a row
        row_without_token("", "invalid", **no_id),  # as it was
        row_without_token("22", "duplicate", auth_identifier="driverId=11"),  # corrected
        row_without_token("11", "duplicate", **twin),  # as it was
        row_without_token("x", "duplicate", auth_identifier="driverId=11", **twin),  # damaged since
    )
    before = lines(results)
    assert retry(results, sandbox) == 1
    assert requested(sandbox) == ["driverId=21", "driverId=22"]
    after = lines(results)
    assert_renewed(after[1], sandbox)
    assert_renewed(after[4], sandbox)
    assert after[2] == {**before[5], "auth_identifier": "driverId=11"}
    assert [after[place] for place in (0, 3, 5, 6)] == [before[place] for place in (0, 3, 5, 6)]


def test_uncorrected_rows_are_reported_and_the_file_is_not_touched(
    results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1 as long as a row has no token."""
    roster = results.with_name("depot.csv")
    roster.write_text("Driver ID\n11\n'x\n11\n=x\n")
    issue = ["issue", str(roster), "--base-url", sandbox.url, "--quota", "process"]
    assert main(issue, {"SAMSARA_API_TOKEN": sandbox.api_token}) == 1
    before = results.read_bytes()
    capsys.readouterr()
    assert retry(results, sandbox) == 1
    assert results.read_bytes() == before
    assert len(sandbox.ledger) == 1
    output = capsys.readouterr().err
    assert "\n2 invalid:\n    row 3: " in output
    assert "1 of 4 rows have a login token: 1 issued, 2 invalid, 1 duplicate (" in output


# --- the driver of a row


@pytest.mark.parametrize("cell", ["", "  ", "2.81E+14", "2,81475E+14", "2814749\x0777", "281.474", "#WERT!"])
def test_if_the_cell_is_damaged_the_identifier_is_sent(cell: str, results: Path, sandbox: Sandbox) -> None:
    row = {"auth_identifier": "driverId=281474977075805", "Driver ID": cell}
    save(results, row_without_token(0, **row), held(12))
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=281474977075805"]
    after = lines(results)[0]
    assert_renewed(after, sandbox)
    assert (after["Driver ID"], after["auth_identifier"]) == (cell, "driverId=281474977075805")


@pytest.mark.parametrize(
    "row", [held(11), row_without_token(11), row_without_token(11, "unknown"), row_without_token(11, "not_attempted")]
)
@pytest.mark.parametrize("flags", [(), ("--quiet",)])
def test_a_row_with_the_cell_of_another_driver_is_skipped_every_time(
    row: dict[str, str],
    flags: tuple[str, ...],
    results: Path,
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(results, {**row, "Driver ID": "12"}, held(13))
    first = b""
    for _ in range(2):
        assert retry(results, sandbox, *flags) == 1
        output = capsys.readouterr().err
        assert "driverId=11" in output
        assert "driverId=12" in output
        assert SECRET not in output
        after = lines(results)[0]
        assert after["auth_error"] == "sent as driverId=11, but the cells now name driverId=12"
        assert after["auth_hint"].startswith(str(Hint.ANOTHER_DRIVER))
        assert (Hint.MAYBE_ISSUED.fix in after["auth_hint"]) == (row["auth_status"] == "unknown")
        assert {**after, "auth_error": "", "auth_hint": ""} == {
            **row,
            "Driver ID": "12",
            "auth_error": "",
            "auth_hint": "",
        }
        first = first or results.read_bytes()
    assert results.read_bytes() == first
    assert requested(sandbox) == []


def test_a_corrected_row_is_like_any_other(results: Path, sandbox: Sandbox) -> None:
    """Its token is kept again, and the error is gone."""
    save(results, held(11, **{"Driver ID": "12"}), row_without_token(13, **{"Driver ID": "14"}))
    assert retry(results, sandbox) == 1
    first, second = lines(results)
    save(results, {**first, "Driver ID": "11"}, {**second, "Driver ID": "13"})
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=13"]
    assert lines(results)[0] == held(11)
    assert_renewed(lines(results)[1], sandbox)


def test_columns_of_other_kinds_do_not_matter(results: Path, sandbox: Sandbox) -> None:
    header = ["Username", *HEADER, "External ID"]
    row = {**row_without_token(11), "Username": "alice", "External ID": "payrollId:1"}
    named = {**row_without_token("999", auth_identifier="username=robert"), "Username": "robert", "External ID": ""}
    save(results, row, named, header=header)
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=11", "username=robert"]


@pytest.mark.parametrize("cleared", [("auth_identifier",), AUTH_COLUMNS])
@pytest.mark.parametrize("row", [held(11), row_without_token(11)])
def test_with_the_identifier_cleared_the_cell_decides(
    cleared: tuple[str, ...], row: dict[str, str], results: Path, sandbox: Sandbox
) -> None:
    save(results, {**row, "Driver ID": "12", **dict.fromkeys(cleared, "")})
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=12"]
    assert_renewed(lines(results)[0], sandbox)


# --- what is refused as a whole

TABLE = [HEADER, *([row[column] for column in HEADER] for row in (held(11), row_without_token(12), held(13)))]


def with_cell(row: int, column: str, cell: str) -> list[list[str]]:
    changed = [list(cells) for cells in TABLE]
    changed[row][HEADER.index(column)] = cell
    return changed


def with_column(place: int, cells: Sequence[str]) -> list[list[str]]:
    return [[*row[:place], cell, *row[place:]] for row, cell in zip(TABLE, cells, strict=True)]


def without_cell(row: int, place: int) -> list[list[str]]:
    """As after "delete, shift cells to the left"."""
    changed = [list(cells) for cells in TABLE]
    changed[row] = [*changed[row][:place], *changed[row][place + 1 :], ""]
    return changed


def with_new_cell(row: int, place: int) -> list[list[str]]:
    """As after "insert, shift cells to the right"; the program makes all rows as wide."""
    changed = [[*cells, ""] for cells in TABLE]
    changed[row] = [*changed[row][:place], "", *changed[row][place:-1]]
    return changed


def encoded(lines: Sequence[Sequence[str]]) -> bytes:
    return text_of(lines).encode("utf-8-sig")


STATUS, TOKEN = HEADER.index("auth_status"), HEADER.index("auth_token")
REFUSED: dict[str, tuple[bytes, str]] = {
    "a copied row": (encoded([*TABLE, TABLE[1]]), "rows 2 and 5 were both sent as driverId=11"),
    "a copied row with another cell": (
        encoded([*TABLE, ["Hill", "14", *TABLE[1][2:]]]),
        "rows 2 and 5 were both sent as driverId=11",
    ),
    "an unknown status": (
        encoded(with_cell(1, "auth_status", "done")),
        "row 2, column auth_status: not a valid status",
    ),
    "a blank status": (encoded(with_cell(3, "auth_status", "")), "row 4, column auth_status: not a valid status"),
    "a translated status": (
        encoded(with_cell(1, "auth_status", "Issued")),
        "row 2, column auth_status: not a valid status",
    ),
    "a deleted cell": (encoded(without_cell(1, 0)), "row 2, column auth_status: not a valid status"),
    "a deleted status": (encoded(without_cell(3, STATUS)), "row 4, column auth_status: not a valid status"),
    "an inserted cell": (encoded(with_new_cell(1, 0)), "row 2, column auth_status: not a valid status"),
    "an inserted cell before the token": (encoded(with_new_cell(1, TOKEN)), "row 2, column auth_identifier"),
    "a deleted header cell": (encoded(without_cell(0, 0)), "row 2, column auth_status: not a valid status"),
    "a word for an identifier": (encoded(with_cell(1, "auth_identifier", "someone")), "row 2, column auth_identifier"),
    "a corrupted identifier": (encoded(with_cell(1, "auth_identifier", "#NAME?")), "row 2, column auth_identifier"),
    "an unknown kind": (encoded(with_cell(1, "auth_identifier", "email=a")), "row 2, column auth_identifier"),
    "a kind alone": (encoded(with_cell(1, "auth_identifier", "driverId=")), "row 2, column auth_identifier"),
    "an identifier that no API takes": (
        encoded(with_cell(1, "auth_identifier", "driverId=x")),
        "row 2, column auth_identifier",
    ),
    "a token for an identifier": (
        encoded(with_cell(1, "auth_identifier", f"{SECRET}11")),
        "row 2, column auth_identifier",
    ),
    "a code column less": (encoded([[*row[: TOKEN + 1], *row[TOKEN + 2 :]] for row in TABLE]), "repeated columns"),
    "a token column less": (encoded([[*row[:TOKEN], *row[TOKEN + 1 :]] for row in TABLE]), "not a results file"),
    "two token columns": (encoded(with_column(TOKEN, [row[TOKEN] for row in TABLE])), "repeated columns"),
    "two status columns": (encoded(with_column(0, [row[STATUS] for row in TABLE])), "repeated columns"),
    "a cell too many": (encoded([*TABLE[:2], [*TABLE[2], "x"], TABLE[3]]), "row 3: 14 cells instead of 13"),
    "a separator lost on the left": (encoded([*TABLE[:3], TABLE[3][1:]]), "row 4: 12 cells instead of 13"),
    "a torn row": (encoded([*TABLE[:3], TABLE[3][:2]]), "row 4: 2 cells instead of 13"),
    "a NUL": (encoded(with_cell(1, "Depot", "N\0")), "contains NUL characters"),
    "an open quote": (encoded(TABLE) + b'"Hill', "not valid CSV"),
    "two columns for one kind": (encoded(with_column(0, ["ID", "1", "2", "3"])), "'ID' and 'Driver ID' could both be"),
    "the 8-bit encoding of Windows": (
        text_of(with_cell(2, "Depot", "Zürich")).encode("cp1252"),
        'line 3: not UTF-8 text\nhint: in the spreadsheet program, choose "Save as" and the type "CSV UTF-8"',
    ),
    "no whole workbook": (b"PK\x03\x04xl/worksheets/auth_token", "a damaged workbook"),
    "a roster": (b"Driver ID\n11\n", "is not a results file"),
    "nothing": (b"", "is not a results file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_ambiguous_files_are_refused_with_the_reason(
    what: str, results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, the file untouched, nothing sent, and no token or code in the message."""
    data, reason = REFUSED[what]
    results.write_bytes(data)
    assert retry(results, sandbox) == 2
    output = capsys.readouterr()
    assert reason in output.err
    assert "hint: " in output.err
    assert SECRET not in output.err + output.out
    assert CODE not in output.err + output.out
    assert results.read_bytes() == data
    assert requested(sandbox) == []
    assert [path.name for path in results.parent.iterdir()] == [results.name]


# --- rows and columns that a person moved


def test_rows_may_be_added_deleted_and_sorted(results: Path, sandbox: Sandbox) -> None:
    """A blank row between them stays where it is."""
    blank = dict.fromkeys(HEADER, "")
    save(
        results,
        row_without_token(17),
        held(13),
        blank,
        row_without_token(12, "not_attempted"),
        by_hand(19),
        by_hand(18),
    )
    assert retry(results, sandbox) == 1
    assert requested(sandbox) == [f"driverId={number}" for number in (12, 17, 18, 19)]
    after = lines(results)
    assert [row["Driver ID"] for row in after] == ["17", "13", "", "12", "19", "18"]
    assert after[1] == held(13)
    assert after[2]["auth_status"] == "invalid"
    for place in (0, 3, 4, 5):
        assert_renewed(after[place], sandbox)


@pytest.mark.parametrize("column", ["Depot", "Driver ID", "auth_status", "auth_token", "auth_expires_at"])
@pytest.mark.parametrize("descending", [False, True])
def test_sorted_by_any_column_every_row_keeps_its_own(
    column: str, descending: bool, results: Path, sandbox: Sandbox
) -> None:
    every = [
        held(11),
        row_without_token(12, Depot="East"),
        row_without_token(13, "unknown"),
        held(14, Depot="West"),
        by_hand(15),
    ]
    every.sort(key=lambda row: row[column], reverse=descending)
    save(results, *every)
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=12", "driverId=13", "driverId=15"]
    after = lines(results)
    assert [row["Driver ID"] for row in after] == [row["Driver ID"] for row in every]
    for old, new in zip(every, after, strict=True):
        assert new["auth_identifier"] == f"driverId={old['Driver ID']}"
        assert new["Depot"] == old["Depot"]
        if old["auth_token"]:
            assert new == old
        else:
            assert_renewed(new, sandbox)


def test_extra_columns_stay_in_place_with_their_cells(results: Path, sandbox: Sandbox) -> None:
    """At the left, within the columns of the results, at the right; names may repeat, or be blank."""
    extra = {0: "Note", 3: "Depot", 4: "", 8: "Depot", 15: "=Sum", 17: "Note"}
    base = [held(11), row_without_token(12), held(13)]
    header = list(HEADER)
    body = [[row[column] for column in HEADER] for row in base]
    for place, name in extra.items():
        header.insert(place, name)
        for number, cells in enumerate(body):
            cells.insert(place, f'{name}{number},;"\n{place}')
    results.write_bytes(encoded([header, *body]))
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=12"]
    header[15] = "'=Sum"
    for number, cells in enumerate(body):
        cells[15] = f"'=Sum{number},;\"\n15"
    changed, *others = table(results)
    assert changed == header
    assert [others[0], others[2]] == [body[0], body[2]]
    at = {name: place for place, name in enumerate(header) if name in AUTH_COLUMNS}
    assert [cell for place, cell in enumerate(others[1]) if place not in at.values()] == [
        cell for place, cell in enumerate(body[1]) if place not in at.values()
    ]
    assert_renewed({name: others[1][place] for name, place in at.items()}, sandbox)


def test_columns_may_be_reordered_and_the_roster_columns_deleted(results: Path, sandbox: Sandbox) -> None:
    header = list(reversed(AUTH_COLUMNS))
    save(results, row_without_token(11), held(12), header=header)
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=11"]
    assert table(results)[0] == header
    assert lines(results)[1] == {column: held(12)[column] for column in header}


# --- saved again by a spreadsheet program

PROGRAMS: dict[str, Callable[[list[list[str]]], bytes]] = {
    "Excel, CSV UTF-8": lambda lines: text_of(lines).encode("utf-8-sig"),
    "Excel, CSV UTF-8, semicolons": lambda lines: text_of(lines, ";").encode("utf-8-sig"),
    "Excel, Unicode text": lambda lines: text_of(lines, "\t").encode("utf-16"),
    "LibreOffice": lambda lines: text_of(lines, line_end="\n").encode(),
    "LibreOffice, every cell quoted, semicolons": lambda lines: text_of(lines, ";", "\n", quote_all=True).encode(),
    "LibreOffice, every cell quoted, tabs": lambda lines: text_of(lines, "\t", "\n", quote_all=True).encode(),
    "Numbers": lambda lines: text_of(lines, line_end="\n", quote_all=True).encode("utf-8-sig"),
    "Excel for Mac": lambda lines: text_of(lines, ";", "\r").encode(),
    "bars": lambda lines: text_of(lines, "|").encode(),
    "big-endian": lambda lines: b"\xfe\xff" + text_of(lines, ";").encode("utf-16-be"),
    "blank cells at the end dropped": lambda lines: re.sub(r",+\n", "\n", text_of(lines, line_end="\n")).encode(),
    "a column of blanks added": lambda lines: text_of([[*line, ""] for line in lines]).encode("utf-8-sig"),
    "blank lines added": lambda lines: text_of([*lines, [""] * len(HEADER), []]).encode("utf-8-sig"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_that_a_spreadsheet_program_saved_again_works_and_keeps_its_separator(
    program: str, results: Path, sandbox: Sandbox
) -> None:
    data = PROGRAMS[program](TABLE)
    results.write_bytes(data)
    delimiter = next(one for one in ",;\t|" if one in re.sub(r"\0", "", data.decode("latin-1")))
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=12"]
    after = lines(results, delimiter)
    assert list(after[0])[:13] == HEADER
    assert [{column: after[place][column] for column in HEADER} for place in (0, 2)] == [held(11), held(13)]
    assert_renewed(after[1], sandbox)
    assert len(after) == 3
    assert results.read_bytes().startswith(b"\xef\xbb\xbf")


KEPT_TIMES = ["2099-11-24 03:00:00", "2099-11-24 03:00", "24.11.2099 03:00", "24.11.2099 3:00", " 24.11.2099 03:00:00 "]
LOST_TIMES = ["24/11/2099", "11/24/2099 3:00", "24.11.2099", "72978.125", "########", "24. Nov 99", "2099-11-24", ""]


@pytest.mark.parametrize("text", KEPT_TIMES)
def test_a_time_in_the_format_of_a_spreadsheet_program_is_the_same_time(
    text: str, results: Path, sandbox: Sandbox
) -> None:
    touched = {"auth_expires_at": text, "auth_issued_at": text, "auth_http_status": "200.0", "auth_attempts": "1.0"}
    save(results, held(11, **touched), row_without_token(12))
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=12"]
    assert lines(results)[0] == held(11, auth_issued_at=FAR)


@pytest.mark.parametrize("text", LOST_TIMES)
def test_an_ambiguous_time_is_never_guessed_so_the_row_is_requested(text: str, results: Path, sandbox: Sandbox) -> None:
    save(results, held(11, auth_expires_at=text), held(12, auth_issued_at=text))
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ["driverId=11"]
    first, second = lines(results)
    assert_renewed(first, sandbox)
    assert second == held(12, auth_issued_at=text)


# --- an earlier token that is still alive


@pytest.mark.parametrize(
    ("number", "script", "code", "error"),
    [
        (404404, "", 1, "HTTP 404: Object not found."),
        (400400, "", 1, "HTTP 400: Driver is deactivated."),
        (11, "401*", 3, "HTTP 401: "),
        (11, "429*", 4, None),
        (11, "lost*", 1, ""),
    ],
)
def test_an_earlier_token_is_kept_until_there_is_a_new_one(
    number: int,
    script: str,
    code: int,
    error: str | None,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a warning if it was requested; it does not make the run complete."""
    monkeypatch.setattr("batch_issuer.pipeline.backoff.BACKOFF_BASE", 0.001)
    old = held(number, auth_expires_at=utc(4))
    save(results, old)
    with live_sandbox(limiter="none", script=script) as sandbox:
        assert retry(results, sandbox, "--give-up-after", "100ms") == code
    (row,) = lines(results)
    assert {**row, "auth_error": "", "auth_hint": ""} == old
    if error is not None:
        assert row["auth_error"].startswith(f"earlier token kept: {error}")
        assert row["auth_hint"]
    output = capsys.readouterr().err
    assert SECRET not in output
    not_reached = "1 earlier login token kept: still valid, but not renewed."
    assert code == 3 or (not_reached if code == 4 else "\n1 not renewed: earlier token kept: ") in output


def test_an_earlier_token_that_expired_does_not_outlive_the_retry(results: Path, sandbox: Sandbox) -> None:
    save(results, held(404404, auth_expires_at=utc(-1)))
    assert retry(results, sandbox) == 1
    (row,) = lines(results)
    assert (row["auth_status"], row["auth_token"], row["auth_code"], row["auth_expires_at"]) == ("failed", "", "", "")


# --- cells that a spreadsheet would run


@given(name=NAMES, cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4), delimiter=st.sampled_from(",;\t|"))
@example(name="=Note", cells=[("'=1+1", "''=1+1"), ("'+x", "-1"), ("\t=1", "'")], delimiter=";")
@settings(max_examples=10, deadline=None)
def test_cells_stay_unchanged_however_often_tokens_are_renewed(
    name: str, cells: list[tuple[str, str]], delimiter: str
) -> None:
    """Guarded once and only once; every time each row has the token of its own driver."""
    header = [name, "Driver ID", "Note"]
    body = [[left, str(11 + number), right] for number, (left, right) in enumerate(cells)]
    with tempfile.TemporaryDirectory() as folder, live_sandbox(limiter="none") as sandbox:
        source, out = Path(folder, "depot.csv"), Path(folder, "depot.results.csv")
        text = text_of([header, *body], delimiter, quote_all=True)
        source.write_bytes(text.encode("utf-8-sig"))
        options = ["--base-url", sandbox.url, "--quota", "process", "--quiet"]
        assert main(["issue", str(source), *options], {"SAMSARA_API_TOKEN": sandbox.api_token}) == 0
        published = [line[:3] for line in table(out)]
        for _ in range(2):
            assert retry(out, sandbox, "--min-validity", "1h", "--quiet") == 0
            assert [line[:3] for line in table(out)] == published
            found = read_results(out)
            assert [found.cells.columns.tolist(), *found.cells.to_numpy().tolist()] == [header, *body]
            latest = tokens_by_driver(sandbox)
            assert [(row[4], row[5]) for row in table(out)[1:]] == [latest[f"driverId={row[1]}"] for row in body]
        assert len(sandbox.ledger) == 3 * len(body)


def test_the_longest_cell_of_a_roster_still_fits_with_its_apostrophe(results: Path, sandbox: Sandbox) -> None:
    longest = "=" + "x" * (csv.field_size_limit() - 1)
    results.with_name("depot.csv").write_text(f"Note,Driver ID\n{longest},11\n")
    issue = ["issue", str(results.with_name("depot.csv")), "--base-url", sandbox.url, "--quota", "process"]
    assert main(issue, {"SAMSARA_API_TOKEN": sandbox.api_token}) in (0, 2)  # or refused before the run
    if sandbox.ledger:
        assert retry(results, sandbox) == 0


@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    line_end=st.sampled_from(["\r\n", "\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quote_all=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_however_a_file_was_saved_its_rows_read_the_same(
    cells: list[tuple[str, str]], delimiter: str, line_end: str, encoding: str, quote_all: bool
) -> None:
    """Guarded cells read as in the roster, in the row of their own token."""
    body = [[left, str(11 + number), right] for number, (left, right) in enumerate(cells)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "depot.results.csv")
        roster = Roster.from_bytes(text_of([["=A", "Driver ID", "B"], *body]).encode("utf-8-sig"), "depot.csv")
        with Destination(out) as place:
            batch = place.begin(roster, Validity.at_least(300))
            place.publish(batch, {driver.row: issued(driver) for driver in batch.drivers})
        before = read_results(out)
        again = text_of(table(out), delimiter, line_end, quote_all=quote_all)
        out.write_bytes(again.encode(encoding))
        after = read_results(out)
    assert after.delimiter == delimiter
    assert after.frame.equals(before.frame)
    assert after.cells.to_numpy().tolist() == body


# --- a run that did not finish


def token_for(row: int, number: int) -> Outcome:
    """A driver's token, valid as long as that of `held`."""
    driver = Driver(row, Identifier(IdentifierKind.DRIVER_ID, str(number)))
    return issued(driver, f"{SECRET}{number}", f"{CODE}{number}", datetime(2099, 1, 1, tzinfo=UTC))


def leave_journal(path: Path, *outcomes: Outcome, issue: Sequence[int] = ()) -> None:
    """Leave the journal of a killed run: of `issue` for these drivers, or of `retry` for the existing results."""
    validity = Validity.at_least(300, real=False)
    with Destination(path) as place:
        if issue:
            text = "Depot,Driver ID\n" + "".join(f"=North,{number}\n" for number in issue)
            batch = place.begin(Roster.from_bytes(text.encode(), "depot.csv"), validity)
        else:
            batch = place.reopen(validity)
        journal = place.open_journal(batch)
        journal.record(*outcomes)
        journal.close()
    assert place.partial.exists()


@pytest.mark.parametrize("named", ["", ".partial"])
def test_an_interrupted_run_is_resumed_from_its_journal_alone(
    named: str, results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the roster, and without results of an earlier run."""
    unknown = Outcome(3, Status.UNKNOWN, token_for(3, 12).identifier, error="interrupted", hint="fix", attempts=1)
    leave_journal(results, token_for(2, 11), unknown, issue=[11, 12, 13])
    assert retry(Path(f"{results}{named}"), sandbox) == 0
    output = capsys.readouterr()
    assert f"Resuming the run that left {results}.partial." in output.err
    assert "Keeping 1 valid login token." in output.err
    assert "1 row may have lost a login token; requesting new ones." in output.err
    assert output.out == f"{results}\n"
    assert requested(sandbox) == ["driverId=12", "driverId=13"]
    after = lines(results)
    assert [(row["Depot"], row["Driver ID"]) for row in after] == [("'=North", str(n)) for n in (11, 12, 13)]
    assert (after[0]["auth_token"], after[0]["auth_code"]) == (f"{SECRET}11", f"{CODE}11")
    assert_renewed(after[1], sandbox)
    assert after[1]["auth_attempts"] == "2"
    assert [path.name for path in results.parent.iterdir()] == [results.name]


def test_an_interrupted_retry_is_resumed_and_keeps_columns_and_separator(results: Path, sandbox: Sandbox) -> None:
    noted = [["Note", *line] for line in TABLE]
    results.write_bytes(text_of(noted, ";").encode())
    leave_journal(results, token_for(3, 12))
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == []
    after = lines(results, ";")
    assert list(after[0]) == noted[0]
    assert [row["auth_token"] for row in after] == [f"{SECRET}{number}" for number in (11, 12, 13)]
    assert after[0] == {"Note": "Note", **held(11)}
    assert [path.name for path in results.parent.iterdir()] == [results.name]


def make_newer(path: Path) -> None:
    """Make it newer than its journal, by more than the resolution of any file system's clock."""
    later = Path(f"{path}.partial").stat().st_mtime + 10
    os.utime(path, (later, later))


EDITS: dict[str, Callable[[list[dict[str, str]]], list[dict[str, str]]]] = {
    "a cell of the roster": lambda found: [{**found[0], "Depot": "South"}, *found[1:]],
    "a row more": lambda found: [*found, by_hand(14)],
    "a row less": lambda found: found[:-1],
    "another token": lambda found: [{**found[0], "auth_token": f"{SECRET}other"}, *found[1:]],
    "a cleared identifier": lambda found: [*found[:2], {**found[2], "auth_identifier": ""}],
    "another order": lambda found: found[::-1],
}


@pytest.mark.parametrize("edit", EDITS)
def test_results_that_were_edited_after_an_interruption_are_never_overwritten(
    edit: str, results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2; both files are named and stay; --overwrite uses the edited one and sets the other aside.

    One row is refused, so its identifier is cleared, as the hint suggests.
    """
    save(results, held(11), row_without_token(12), row_without_token(13, **{"Driver ID": "99"}))
    leave_journal(results, token_for(3, 12))
    partial = Path(f"{results}.partial")
    changed = EDITS[edit](lines(results))
    save(results, *changed)
    make_newer(results)
    before = results.read_bytes(), partial.read_bytes()
    assert retry(results, sandbox) == 2
    output = capsys.readouterr().err
    assert f"{results} was changed after the interrupted run that left {partial}" in output
    assert f"batch-issuer retry {results} --overwrite" in output
    assert (results.read_bytes(), partial.read_bytes()) == before
    assert requested(sandbox) == []

    assert retry(results, sandbox, "--overwrite") in (0, 1)
    assert Path(f"{partial}.1").read_bytes() == before[1]
    assert not partial.exists()
    assert [row["Driver ID"] for row in lines(results)] == [row["Driver ID"] for row in changed]
    assert "driverId=12" in requested(sandbox)
    assert ("driverId=99" in requested(sandbox)) == (edit == "a cleared identifier")
    assert f"{partial}.1" in capsys.readouterr().err


@pytest.mark.parametrize("last", [row_without_token(13), held(13, auth_expires_at=utc(-9)), held(13)])
def test_unchanged_results_with_a_newer_date_do_not_block(
    last: dict[str, str], results: Path, sandbox: Sandbox
) -> None:
    """As after a backup was restored, or a sync; also if the run had only to be published."""
    save(results, held(11), row_without_token(12), last)
    leave_journal(results, token_for(3, 12))
    make_newer(results)
    assert retry(results, sandbox) == 0
    assert requested(sandbox) == ([] if last == held(13) else ["driverId=13"])
    assert [row["auth_token"] for row in lines(results)][:2] == [f"{SECRET}11", f"{SECRET}12"]


@given(
    name=NAMES,
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t|"),
    finished=st.integers(0, 4),
)
@settings(max_examples=20, deadline=None)
def test_a_journal_contains_the_rows_with_any_cells(
    name: str, cells: list[tuple[str, str]], delimiter: str, finished: int
) -> None:
    """Also of a retry with columns in another order."""
    header = ["auth_error", name, *AUTH_COLUMNS[:5], "Driver ID", *AUTH_COLUMNS[6:], "Note"]
    empty = dict.fromkeys(range(len(header)), "")
    body = [
        list({**empty, 1: left, 7: str(11 + number), 13: right}.values()) for number, (left, right) in enumerate(cells)
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "depot.results.csv")
        out.write_bytes(text_of([header, *body], delimiter, quote_all=True).encode())
        before = read_results(out)
        outcomes = [token_for(2 + number, 11 + number) for number in range(min(finished, len(body)))]
        leave_journal(out, *outcomes)
        with Destination(out) as place:
            batch = place.reopen(Validity.at_least(300, real=False))
    assert batch.cells.equals(before.cells)
    assert batch.header == before.frame.columns.tolist()
    assert batch.delimiter == before.delimiter
    assert [batch.outcomes[one.row] for one in outcomes] == outcomes
    assert [one.row for one in batch.drivers] == list(range(2 + len(outcomes), 2 + len(body)))


def test_without_a_journal_overwrite_changes_nothing(results: Path, sandbox: Sandbox) -> None:
    save(results, held(11), row_without_token(12))
    assert retry(results, sandbox, "--overwrite") == 0
    assert requested(sandbox) == ["driverId=12"]
    assert [path.name for path in results.parent.iterdir()] == [results.name]


def test_an_unreadable_journal_is_refused_with_a_hint(
    results: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    save(results, row_without_token(12))
    partial = Path(f"{results}.partial")
    partial.write_text("nonsense")
    assert retry(results, sandbox) == 2
    hint = f"or add --overwrite to use {results.name} as it is: the journal is kept as {partial.name}.1"
    assert hint in capsys.readouterr().err
    assert (partial.read_text(), requested(sandbox)) == ("nonsense", [])
    assert retry(results, sandbox, "--overwrite") == 0
    assert Path(f"{partial}.1").read_text() == "nonsense"
    assert_renewed(lines(results)[0], sandbox)
