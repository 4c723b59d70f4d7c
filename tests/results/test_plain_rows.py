"""What is done for many rows at once comes to the same as what is done for one at a time."""

from __future__ import annotations

import re
import zipfile
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.rosters import AT, BOM, CELLS, CODE, FIVE_MINUTES, NAMES, TOKEN, batch, cut_off, issued, lines, publish

from batch_issuer.errors import BatchIssuerError, RosterError, StorageError
from batch_issuer.model import Driver, Identifier, IdentifierKind, Outcome, Status
from batch_issuer.results import (
    AUTH_COLUMNS,
    Batch,
    Destination,
    Results,
    Validity,
    csv_writer,
    read_results,
    resume,
)
from batch_issuer.results.auth_columns import auth_cells, utc_time
from batch_issuer.results.outcomes import Outcomes
from batch_issuer.results.recorded import Recorded
from batch_issuer.results.validity import is_spoilt, spoilt_rows
from batch_issuer.roster import Form, Roster, Rows, forms, identifier_columns
from batch_issuer.settings.roster_options import RosterOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = ["Org", "Driver ID", "External ID", "Username", *AUTH_COLUMNS]
OPTIONS = [
    None,
    RosterOptions(identify_by=(IdentifierKind.USERNAME,)),
    RosterOptions(external_key="payrollId"),
    RosterOptions(organization_column="Org", organizations=("North", "South")),
]


class Careful(Recorded):
    """No row is plain, so each gets a closer look."""

    def __init__(self, auth: pd.DataFrame, rows: Rows, validity: Validity) -> None:
        super().__init__(auth, rows, validity)
        self.but_for(range(len(self.names)))


@contextmanager
def instead(owner: object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


# --- a results file that is gone on with

CHANGES = {
    "Org": ["", "North", "South", "West"],
    "Driver ID": ["", "1", "2", "3", "3.0", "x", "Total"],
    "Username": ["", "user.1", "user.2", "a b"],
    "External ID": ["", "payrollId:2", "7", "k:1"],
    "auth_status": ["", "issued", " issued", "failed", "unknown", "not_attempted", "invalid", "duplicate", "x"],
    "auth_token": [
        "",
        f"{TOKEN}-1",
        f"{TOKEN}-3",
        " ",
        "#NAME?",
        f"{TOKEN}-2",
        "sandbox-1",
        "\u0661e+\u0661",
        "\u00a0",
        "a\nb",
    ],
    "auth_code": ["", "short", "Abcdefghijklm\n", CODE],
    "auth_expires_at": [
        "",
        "2026-02-30T00:00:00Z",
        "2026-01-02 03:09",
        "1.1.2027 3:00",
        "soon",
        "2026-01-02T03:09:05Z",
    ],
    "auth_identifier": [
        "",
        "driverId=1",
        "driverId=2",
        "driverId=3",
        "username=user.2",
        "driverId=02",
        "x=1",
        " driverId=3",
    ],
    "auth_hint": ["", "cure"],
    "auth_error": ["", "why"],
    "auth_http_status": ["", "200.0", "x"],
    "auth_attempts": ["", "0", "3"],
    "auth_issued_at": ["", "never"],
}


KINDS = ["good", "short", "expired", "failed", "unknown", "not_attempted", "new"]


def row_of(kind: str, number: int, by: IdentifierKind = IdentifierKind.DRIVER_ID, blank: str = "") -> list[str]:
    """A row as a run leaves it, sent ``by`` one of its identifiers; one of the others may be ``blank``."""
    names = {
        IdentifierKind.DRIVER_ID: str(number),
        IdentifierKind.EXTERNAL_ID: f"payrollId:{number}",
        IdentifierKind.USERNAME: f"user.{number}",
    }
    who = Identifier(by, names[by])
    shown = ["" if one == blank and one is not by else name for one, name in names.items()]
    told = [""] * len(AUTH_COLUMNS)
    if kind in ("good", "short", "expired"):
        left = {"good": 900, "short": 60, "expired": -60}[kind]
        driver, until = Driver(2, who), AT + timedelta(seconds=left)
        told = list(auth_cells(issued(driver, f"{TOKEN}-{number}", expires_at=until)))
    elif kind != "new":
        told = list(auth_cells(Outcome(2, Status(kind), who, error="why", hint="cure", attempts=1)))
    return ["North", *shown, *told]


@st.composite
def recorded(draw: st.DrawFn) -> list[list[str]]:
    """Such rows, most of them good; people or programs have changed some."""
    by, blank = draw(st.sampled_from(IdentifierKind)), draw(st.sampled_from(["", *IdentifierKind]))
    kinds = draw(st.lists(st.one_of(st.just("good"), st.sampled_from(KINDS)), max_size=7))
    body = [row_of(kind, number, by, blank) for number, kind in enumerate(kinds, 1)]
    for column in draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3)) if body else []:
        row = draw(st.sampled_from(body))
        row[HEADER.index(column)] = draw(st.sampled_from(CHANGES[column]))
    return body


def come_to(body: list[list[str]], validity: Validity, options: RosterOptions | None) -> object:
    """All that there is to know of a batch, or why there is none."""
    frame = pd.DataFrame(body, columns=HEADER, dtype=object)
    try:
        found = Batch.of_results(Results(frame, list(range(2, 2 + len(body)))), "depot.csv", validity, options)
    except BatchIssuerError as error:
        return error.message, error.tip
    outcomes = [(one, one.token, one.code) for one in found.outcomes.values()]
    drivers = [(one, one.before and (one.before.token, one.before.code)) for one in found.drivers]
    return (
        (outcomes, drivers, found.refused, found.changed, found.kept, found.lost, found.with_token),
        (found.unread, found.organizations, found.holds_real_tokens, list(found.whose()), list(found.conflicts())),
        [found.auth_cells(one) for one in found.outcomes.values()],
    )


@given(body=recorded(), real=st.booleans(), options=st.sampled_from(OPTIONS))
@settings(max_examples=300, deadline=None)
def test_plain_rows_come_to_what_a_closer_look_at_them_would(
    body: list[list[str]], real: bool, options: RosterOptions | None
) -> None:
    validity = Validity(FIVE_MINUTES.least, AT, real=real)
    found = come_to(body, validity, options)
    with instead(resume, "Recorded", Careful):
        assert found == come_to(body, validity, options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", CHANGES)
def test_so_does_a_row_in_which_any_one_cell_was_changed(kind: str, column: str) -> None:
    for text in CHANGES[column]:
        body = [row_of("good", 1), row_of(kind, 2), row_of("expired", 3)]
        body[1][HEADER.index(column)] = text
        found = come_to(body, FIVE_MINUTES, None)
        with instead(resume, "Recorded", Careful):
            assert found == come_to(body, FIVE_MINUTES, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"Driver ID": "1", "auth_identifier": "driverId=1"},
        {"Driver ID": "3", "auth_identifier": "driverId=3", "External ID": "", "Username": ""},
        {"Driver ID": "", "auth_identifier": "", "External ID": "", "Username": ""},
        {"Driver ID": "2.0", "auth_identifier": "driverId=2.0"},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_so_does_a_row_that_was_copied_or_has_no_driver(kind: str, changes: dict[str, str]) -> None:
    body = [row_of("good", 1), row_of(kind, 2), row_of("expired", 3)]
    for column, text in changes.items():
        body[1][HEADER.index(column)] = text
    found = come_to(body, FIVE_MINUTES, None)
    with instead(resume, "Recorded", Careful):
        assert found == come_to(body, FIVE_MINUTES, None)


def test_rows_as_a_run_leaves_them_are_plain() -> None:
    """Else all the above proves nothing."""
    kinds = {"11": AT.replace(hour=9), "12": AT.replace(hour=1)}
    rows = batch("Driver ID\n11\n12\n13\n")
    told = [
        auth_cells(
            issued(driver, f"{TOKEN}{who}", expires_at=kinds[who]) if who in kinds else rows.outcomes[driver.row]
        )
        for driver in rows.drivers
        for who in [driver.identifier.value]
    ]
    auth = pd.DataFrame(told, columns=list(AUTH_COLUMNS), dtype=object)
    columns = identifier_columns(["Driver ID"], "x", RosterOptions())
    found = Recorded(auth, Rows(rows.cells, columns), FIVE_MINUTES)
    assert [found.good.tolist(), found.expired.tolist(), found.lacking.tolist()] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


# --- columns at once

TOKENS = st.one_of(st.sampled_from(CHANGES["auth_token"]), CELLS, st.from_regex(r"\A[+-]?\d{1,3}[.,]?\d?[eE]\+\d\Z"))


@given(st.lists(st.tuples(TOKENS, st.one_of(st.sampled_from([*CHANGES["auth_code"], CODE]), CELLS)), max_size=6))
def test_whatever_is_spoilt_is_found(pairs: list[tuple[str, str]]) -> None:
    found = spoilt_rows([token for token, _ in pairs], [code for _, code in pairs])
    assert {row for row, pair in enumerate(pairs) if all(pair) and is_spoilt(*pair)} <= set(found)


@given(st.lists(st.text("ab\n", max_size=3), max_size=9), st.integers(1, 4))
def test_cells_without_a_form_are_found_however_many_are_looked_at_at_once(cells: list[str], at_once: int) -> None:
    with instead(forms, "_AT_ONCE", at_once):
        found = Form("a*").misses(cells)
    assert found == [row for row, cell in enumerate(cells) if not re.fullmatch("a*", cell)]


@given(st.from_regex(r"\A\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\dZ\Z"))
@example("2026-02-30T00:00:00Z")
@example("0000-01-01T00:00:00Z")
def test_a_time_as_it_is_written_is_read_as_any_other_form_of_it(text: str) -> None:
    assert utc_time(text) == utc_time(f" {text}")
    assert (at := utc_time(text)) is None or at.utcoffset() == AT.utcoffset()


# --- files


@pytest.mark.parametrize(
    ("note", "longest"),
    [
        ("x" * 131_072, True),
        ("x" * 131_073, False),
        ('"' + "x" * 131_073 + '"', False),
        ('"x\n' + "x" * 131_072 + '"', False),
    ],
)
def test_the_longest_cell_is_read_and_an_endless_one_refused(note: str, longest: bool, tmp_path: Path) -> None:
    path = tmp_path / "depot.csv"
    header = ",".join(["Note", *AUTH_COLUMNS])
    path.write_bytes(BOM + f"{header}\r\n{note},issued{',' * 10}\r\n".encode())
    if longest:
        assert read_results(path).frame.iloc[0, 0] == note
    else:
        with pytest.raises(RosterError, match="row 2: not valid CSV"):
            read_results(path)


def parts(path: Path) -> list[bytes]:
    """A file's bytes; of a workbook those of its parts, but for the time of its making."""
    if path.suffix == ".csv":
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if name != "docProps/core.xml"]


@given(
    names=st.lists(NAMES, min_size=2, max_size=2),
    body=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    finished=st.sets(st.integers(2, 6)),
    at_once=st.integers(1, 4),
    suffix=st.sampled_from(["csv", "csv", "xlsx"]),
)
@example(
    names=[" ", " "], body=[("=1", "'=1"), ("", ""), ("-x", "b"), ("a", "+1")], finished={3}, at_once=1, suffix="csv"
)
@settings(max_examples=60, deadline=None)
def test_files_are_the_same_in_however_many_slices_they_are_written(
    names: list[str],
    body: list[tuple[str, str]],
    finished: set[int],
    at_once: int,
    suffix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Results and journal; with columns of one name and cells that get an apostrophe, too."""
    header = pd.Index([names[0], "Driver ID", names[1]])
    frame = pd.DataFrame([[a, str(11 + n), b] for n, (a, b) in enumerate(body)], columns=header, dtype=object)
    rows = Batch.of_roster(Roster.from_frame(frame))
    outcomes = [issued(driver, f"{TOKEN}{driver.row}") for driver in rows.drivers if driver.row in finished]
    written = []
    for count in (at_once, 10_000):
        path = tmp_path_factory.mktemp("slices") / f"depot.{suffix}"
        with instead(csv_writer, "ROWS_AT_ONCE", count):
            journal = cut_off(Destination(path), rows, *outcomes).read_bytes()
            published = publish(Destination(path), rows, *outcomes)
        written.append((journal, published.guarded_cells, parts(path)))
    assert written[0] == written[1]


def test_results_without_rows_keep_their_header(tmp_path: Path) -> None:
    path = tmp_path / "depot.csv"
    path.write_bytes(BOM + ",".join(["Driver ID", *AUTH_COLUMNS]).encode() + b"\r\n")
    before = path.read_bytes()
    place = Destination(path)
    with place:
        rows = place.reopen(FIVE_MINUTES)
    publish(place, rows)
    assert path.read_bytes() == before
    assert lines(path) == []


def test_a_token_of_another_driver_in_a_late_slice_leaves_the_results_as_they_were(tmp_path: Path) -> None:
    place, rows = Destination(tmp_path / "depot.csv"), batch("Driver ID\n11\n12\n13\n")
    publish(place, rows)
    before = place.path.read_bytes()
    stranger = Outcome(4, Status.ISSUED, rows.drivers[0].identifier, TOKEN)
    with instead(csv_writer, "ROWS_AT_ONCE", 1), pytest.raises(StorageError, match="row 4"):
        publish(place, rows, stranger)
    assert place.path.read_bytes() == before
    assert not list(tmp_path.glob("*.writing"))


# --- outcomes


def test_outcomes_are_made_when_asked_for_unless_they_were_settled() -> None:
    made: list[int] = []

    def make(row: int) -> Outcome:
        made.append(row)
        return Outcome(row, Status.NOT_ATTEMPTED)

    outcomes = Outcomes(range(2, 5), make)
    other = Outcome(3, Status.ISSUED, token=TOKEN)
    later = outcomes | {3: other}
    assert made == []
    assert [later[row] for row in later] == [Outcome(2, Status.NOT_ATTEMPTED), other, Outcome(4, Status.NOT_ATTEMPTED)]
    assert made == [2, 4]
    assert outcomes[3] == Outcome(3, Status.NOT_ATTEMPTED)
    assert (later.tokens(), outcomes.tokens()) == (["", TOKEN, ""], [""] * 3)
    assert TOKEN not in repr(later)
    assert (1 in later, 5 in later, len(later)) == (False, False, 3)
    assert dict(later) == later
    with pytest.raises(KeyError):
        later[5]
