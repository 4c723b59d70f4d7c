"""The `auth_` columns: cells that no spreadsheet runs, and outcomes that come back as they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.rosters import AT, CELLS, TOKEN, issued, roster

from batch_issuer.errors import ResultsError, StorageError
from batch_issuer.hints import Hint
from batch_issuer.model import Identifier, IdentifierKind, Outcome, Status
from batch_issuer.results import AUTH_COLUMNS, auth_frame, guard_cell, unguard_cell
from batch_issuer.results.auth_columns import auth_cells, guarded, outcomes_of, utc_time
from batch_issuer.roster import named

if TYPE_CHECKING:
    from collections.abc import Iterable

# --- cells that a spreadsheet would run


def runs(cell: str) -> bool:
    """Whether a spreadsheet program may run a cell: OWASP's list, "CSV Injection", except for signed numbers."""
    if cell[:1] in ("+", "-"):
        return not (cell[1:2].isdecimal() and all(c.isdecimal() or c.isspace() or c in "().,/-+%eE" for c in cell[1:]))
    return cell[:1] in ("=", "@", "\t", "\r", "\n")


FORMULAS = st.tuples(
    st.sampled_from(["", "'", "''"]), st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n"]), CELLS
).map("".join)


@given(st.one_of(FORMULAS, st.text()))
def test_unguarding_restores_any_guarded_text(text: str) -> None:
    assert unguard_cell(guard_cell(text)) == text


@given(st.one_of(FORMULAS, st.text(st.characters(exclude_characters="\n"))))
@example("-1\n")
@example("-2+3+cmd|' /C calc'!A0")
@example("@SUM(1)")
@example("\n=1+1")
def test_no_guarded_cell_runs(text: str) -> None:
    assert not runs(guard_cell(text))


@given(st.one_of(FORMULAS, st.text()), st.one_of(FORMULAS, st.text()))
@example("=1", "'=1")
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (guard_cell(one) == guard_cell(other)) == (one == other)


@pytest.mark.parametrize(
    "cell",
    [
        *("", "abc", "a=b", "1+1", "'quoted'", "o'clock", "''", "281474977075805"),
        *("-1", "+1", "-1.5", "+1,5", "-12%", "-1.5e-3", "-1E+10"),
        *("+1 212 555 0100", "+44 (0)20 7946-0958", "+1-212-555-0100", "+49/30.123"),
    ],
)
def test_texts_numbers_and_phone_numbers_stay_unchanged(cell: str) -> None:
    assert guard_cell(cell) == cell
    assert unguard_cell(cell) == cell


@pytest.mark.parametrize(
    "cell", ["=1", "@a", "\tx", "\rx", "+a", "-a", "+", "-", "-1+cmd", "+1;x", "-(1)", "--1", "-=1"]
)
def test_formulas_get_one_apostrophe(cell: str) -> None:
    assert guard_cell(cell) == f"'{cell}"
    assert guard_cell(f"'{cell}") == f"''{cell}"


# --- outcomes as cells, and back

WORDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=":"), min_size=1, max_size=12)
IDENTIFIERS = st.one_of(
    st.builds(Identifier, st.just(IdentifierKind.DRIVER_ID), st.integers(1, 2**63 - 1).map(str)),
    st.builds(Identifier, st.just(IdentifierKind.EXTERNAL_ID), st.tuples(WORDS, WORDS).map(":".join)),
    st.builds(Identifier, st.just(IdentifierKind.USERNAME), st.tuples(WORDS, WORDS).map(" =".join)),
).filter(lambda identifier: named(identifier.kind, identifier.value) == identifier)  # valid identifiers
TIMES = st.one_of(
    st.none(),
    st.datetimes(
        AT.replace(year=1971, tzinfo=None),
        AT.replace(year=9999, tzinfo=None),
        timezones=st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours))),
    ),
)
OUTCOMES = st.builds(
    Outcome,
    st.integers(2, 10**6),
    st.sampled_from(Status),
    st.one_of(st.none(), IDENTIFIERS),
    token=CELLS,
    code=CELLS,
    expires_at=TIMES,
    error=st.one_of(FORMULAS, CELLS),
    hint=st.one_of(FORMULAS, CELLS),
    http_status=st.one_of(st.none(), st.integers(100, 599)),
    request_id=st.one_of(FORMULAS, CELLS),
    attempts=st.integers(0, 10**9 - 1),
    issued_at=TIMES,
)


def outcome_of(cells: Iterable[str], row: int = 2) -> Outcome | None:
    """The outcome in a line of a file."""
    (found,) = outcomes_of(pd.DataFrame([list(cells)], columns=list(AUTH_COLUMNS), dtype=object), row)
    return found


def to_the_second(outcome: Outcome) -> Outcome:
    times = {"expires_at": outcome.expires_at, "issued_at": outcome.issued_at}
    return replace(outcome, **{name: at and at.replace(microsecond=0) for name, at in times.items()})


@given(OUTCOMES)
def test_any_outcome_comes_back_from_its_cells_to_the_second(outcome: Outcome) -> None:
    outcome = replace(outcome, maybe_issued=outcome.status is Status.UNKNOWN)
    assert outcome_of(auth_cells(outcome), outcome.row) == to_the_second(outcome)


def test_a_row_with_blank_auth_cells_has_no_outcome() -> None:
    assert outcome_of([" ", *[""] * 10]) is None


@given(OUTCOMES)
def test_no_cell_of_an_outcome_runs_except_tokens_and_codes_which_stay_byte_exact(outcome: Outcome) -> None:
    cells = dict(zip(AUTH_COLUMNS, guarded(auth_cells(outcome)), strict=True))
    assert (cells.pop("auth_token"), cells.pop("auth_code")) == (outcome.token, outcome.code)
    assert not any(runs(cell) for cell in cells.values())


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("auth_status", ""),
        ("auth_status", "Issued"),
        ("auth_status", TOKEN),
        ("auth_identifier", "11"),
        ("auth_identifier", "driverId=2,81475E+14"),
        ("auth_identifier", "driverId="),
        ("auth_identifier", "somebody=11"),
        ("auth_identifier", TOKEN),
    ],
)
def test_a_row_with_an_invalid_status_or_identifier_is_refused_without_showing_it(column: str, cell: str) -> None:
    """It may be a token if columns were shifted."""
    cells = dict(zip(AUTH_COLUMNS, auth_cells(issued(roster().drivers[0])), strict=True))
    with pytest.raises(ResultsError, match=f"row 7, column {column}: not a valid ") as caught:
        outcome_of({**cells, column: cell}.values(), 7)
    assert TOKEN not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("text", "number"), [("200", 200), (" 200 ", 200), ("200.0", 200), ("200,00", 200), ("", None), ("2E+2", None)]
)
def test_a_number_is_read_as_a_spreadsheet_shows_it_else_it_counts_as_blank(text: str, number: int | None) -> None:
    cells = dict(zip(AUTH_COLUMNS, auth_cells(issued(roster().drivers[0])), strict=True))
    found = outcome_of({**cells, "auth_http_status": text, "auth_attempts": text}.values())
    assert found
    assert (found.http_status, found.attempts) == (number, number or 0)


# --- times


@pytest.mark.parametrize(
    "text",
    [
        *("2026-01-02T03:04:05Z", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "2026-01-02 03:04:05"),
        *("2026-01-02T03:04:05+00:00", "2026-01-02 05:04:05+02:00", "2026-01-01T22:04:05-05:00"),
        *("02.01.2026 03:04:05", "2.1.2026 3:04:05", " 2026-01-02T03:04:05Z\n"),
    ],
)
def test_a_time_is_read_with_and_without_t_and_zone_and_as_spreadsheets_show_it(text: str) -> None:
    assert utc_time(text) == AT


@pytest.mark.parametrize("text", ["2026-01-02T03:04Z", "2026-01-02 03:04", "02.01.2026 03:04", "2.1.2026 3:04"])
def test_a_time_without_seconds_is_read(text: str) -> None:
    assert utc_time(text) == AT.replace(second=0)


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05.250Z", "2026-01-02 03:04:05.25"])
def test_a_time_with_a_fraction_is_read(text: str) -> None:
    assert utc_time(text) == AT.replace(microsecond=250_000)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "soon", "03:04:05", ":", "46024.128", "46024,128", "#####"),
        *("2026-01-02", "02.01.2026", "20260102T030405Z"),
        *("02/01/2026 03:04", "1/2/2026 3:04:05 AM", "2026/01/02 03:04", "02-01-2026 03:04"),
        *("2026-02-30T03:04:05Z", "31.02.2026 03:04", "2026-01-02T25:04:05Z", "2026-01-02T03:04:05 CET"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_an_ambiguous_or_incomplete_time_is_not_read(text: str) -> None:
    """With slashes, either the day or the month may come first: nothing is guessed."""
    assert utc_time(text) is None


@given(st.one_of(st.text(), st.text("0123456789.:-/ TZ+", max_size=25)))
def test_any_text_is_a_time_in_utc_or_none(text: str) -> None:
    at = utc_time(text)
    assert at is None or at.utcoffset() == timedelta(0)


@given(st.from_regex(r"\A\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\dZ\Z"))
@example("2026-02-30T00:00:00Z")
@example("0000-01-01T00:00:00Z")
def test_a_time_is_read_with_spaces_around_it(text: str) -> None:
    assert utc_time(text) == utc_time(f" {text}")
    assert (at := utc_time(text)) is None or at.utcoffset() == AT.utcoffset()


# --- a token that may exist


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.UNKNOWN])
@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("", str(Hint.MAYBE_ISSUED)),
        (str(Hint.SERVER), f"{Hint.SERVER}; {Hint.MAYBE_ISSUED.fix}"),
        (str(Hint.MAYBE_ISSUED), str(Hint.MAYBE_ISSUED)),
        (f"{Hint.SERVER}; {Hint.MAYBE_ISSUED.fix}", f"{Hint.SERVER}; {Hint.MAYBE_ISSUED.fix}"),
    ],
)
def test_the_hint_reports_once_that_a_token_may_exist_and_is_read_back(
    status: Status, hint: str, expected: str
) -> None:
    identifier = roster().drivers[0].identifier
    cells = auth_cells(Outcome(2, status, identifier, hint=hint, maybe_issued=True))
    assert cells[AUTH_COLUMNS.index("auth_hint")] == expected
    found = outcome_of(cells)
    assert found
    assert found.maybe_issued


OLDER = (
    "a token may exist for this driver but its value is lost; it expires by itself, so run batch-issuer retry for a "
    "new one"
)
"""As earlier versions wrote it: this text stays, even if the hint changes."""


@pytest.mark.parametrize("hint", [f"this tool: {OLDER}", f"network: check the proxy; {OLDER}", f"x; {OLDER} "])
@pytest.mark.parametrize("status", Status)
def test_that_a_token_may_exist_is_read_from_files_of_earlier_versions(status: Status, hint: str) -> None:
    cells = auth_cells(Outcome(2, status, roster().drivers[0].identifier, hint=hint))
    found = outcome_of(cells)
    assert found
    assert found.maybe_issued
    assert auth_cells(found) == cells


@pytest.mark.parametrize("status", Status)
def test_without_such_a_hint_only_an_unknown_row_may_have_a_token(status: Status) -> None:
    found = outcome_of(auth_cells(Outcome(2, status, roster().drivers[0].identifier, hint=str(Hint.SERVER))))
    assert found
    assert found.maybe_issued == (status is Status.UNKNOWN)


# --- the table


def auth_rows(outcomes: dict[int, Outcome]) -> list[dict[str, str]]:
    rows = roster()
    frame = auth_frame(rows.identifiers(), rows.row_numbers(), outcomes)
    assert list(frame.columns) == list(AUTH_COLUMNS)
    assert all(isinstance(cell, str) for cell in frame.to_numpy().ravel())
    return [dict(zip(AUTH_COLUMNS, cells, strict=True)) for cells in frame.to_numpy()]


def test_rows_without_outcome_are_not_attempted() -> None:
    assert [(line["auth_status"], line["auth_attempts"]) for line in auth_rows({})] == [("not_attempted", "0")] * 4


def test_times_are_written_in_utc_to_the_second() -> None:
    at = datetime(2026, 1, 2, 1, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=-2)))
    found = auth_rows({2: replace(issued(roster().drivers[0]), expires_at=at, issued_at=None)})[0]
    assert found["auth_expires_at"] == "2026-01-02T03:04:05Z"
    assert found["auth_issued_at"] == ""
    assert utc_time(found["auth_expires_at"]) == at.astimezone(UTC).replace(microsecond=0)


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (2, {"identifier": Identifier(IdentifierKind.DRIVER_ID, "12")}),
        (2, {"identifier": Identifier(IdentifierKind.USERNAME, "11")}),
        (2, {"identifier": None}),
        (2, {"row": 3}),
        (4, {"row": 4}),  # its cell is not a driver ID
    ],
)
def test_a_token_is_never_written_to_another_drivers_row(row: int, change: dict[str, object]) -> None:
    wrong = replace(issued(roster().drivers[0]), **change)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=f"row {row}") as caught:
        auth_rows({row: wrong})
    assert TOKEN not in caught.value.message
