"""A results file read back, as it was written or as a spreadsheet program saved it, and what is in it."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rosters import AT, BOM, CODE, TOKEN, batch, failed, interrupt, issued, publish

from batch_issuer.errors import ResultsError, RosterError, UsageError
from batch_issuer.hints import Hint
from batch_issuer.model import Outcome, Status
from batch_issuer.results import (
    AUTH_COLUMNS,
    Batch,
    Destination,
    Results,
    count_statuses,
    failures_in,
    read_results,
    status_of,
)
from batch_issuer.roster import Roster
from batch_issuer.wording import utc_text

HEADER = ",".join(["Driver ID", *AUTH_COLUMNS])


# --- what is in it


def test_the_status_has_counts_expiries_and_problems(place: Destination) -> None:
    rows = batch()
    first, second = rows.drivers
    publish(place, rows, issued(first), failed(second))
    results = read_results(place.path)
    assert count_statuses(results) == {"issued": 1, "failed": 1, "invalid": 1, "duplicate": 1}
    assert list(count_statuses(results)) == ["issued", "failed", "invalid", "duplicate"]
    assert results.expires_at() == [AT + timedelta(minutes=15), None, None, None]
    assert failures_in(results) == [
        (3, "failed", "driverId=12", "HTTP 404: no such driver", str(Hint.UNKNOWN_DRIVER)),
        (4, "invalid", "", "'x' is not a valid driver ID", str(Hint.DRIVER_ID)),
        (5, "duplicate", "driverId=11", "same driver as row 2", str(Hint.DUPLICATE)),
    ]


def test_a_row_with_a_token_and_a_hint_is_a_problem(place: Destination) -> None:
    """An earlier token that could not be renewed."""
    rows = batch()
    kept = Outcome(2, Status.ISSUED, rows.drivers[0].identifier, token=TOKEN, error="no new one", hint="wait a while")
    publish(place, rows, replace(kept, code=CODE), issued(rows.drivers[1], "another"))
    assert [failure.row for failure in failures_in(read_results(place.path))] == [2, 4, 5]


def test_unreadable_expiries_are_none(place: Destination) -> None:
    times = [
        *("2026-01-02T04:00:00Z", "", "soon", "2026-01-02T03:00:00Z"),
        *("2026-01-02 02:30:00", "2026-01-02T03:30:00+02:00"),
    ]
    body = [f"{number},issued,token{number},{CODE},{at},,,,,,," for number, at in enumerate(times)]
    body.append("9,failed,,,2020-01-01T00:00:00Z,,,,,,,")
    place.path.write_text("\n".join([HEADER, *body]))
    at = AT.replace(minute=0, second=0)
    found = read_results(place.path)
    assert found.expires_at() == [
        *(at.replace(hour=4), None, None, at.replace(hour=3), at.replace(hour=2, minute=30)),
        *(at.replace(hour=1, minute=30), at.replace(year=2020, day=1, hour=0)),
    ]
    summary = status_of(found, at.replace(hour=2))
    assert (summary.valid, summary.expired, summary.unknown_expiry) == (3, 1, 2)
    assert (summary.next_expiry, summary.last_expiry) == (at.replace(hour=2, minute=30), at.replace(hour=4))


def test_a_token_is_expired_in_the_second_of_its_expiry(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0], expires_at=AT))
    results = read_results(place.path)
    before, then = status_of(results, AT - timedelta(seconds=1)), status_of(results, AT)
    assert (before.valid, before.expired, before.next_expiry) == (1, 0, AT)
    assert (then.valid, then.expired, then.next_expiry) == (0, 1, None)


def test_problems_are_grouped_by_hint_the_most_frequent_first(place: Destination) -> None:
    rows = batch("Driver ID\nx\n1\ny\n1\nz\n2\n")
    publish(place, rows, issued(rows.drivers[0]), issued(rows.drivers[1], "another"))
    found = status_of(read_results(place.path), AT).problems
    assert [(hint, [failure.row for failure in failures]) for hint, failures in found.items()] == [
        (str(Hint.DRIVER_ID), [2, 4, 6]),
        (str(Hint.DUPLICATE), [5]),
    ]


def test_a_purged_row_is_neither_valid_nor_expired(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    with place:
        place.purge(AT + timedelta(hours=1))
    summary = status_of(read_results(place.path), AT + timedelta(hours=1))
    assert (summary.purged, summary.valid, summary.expired, summary.unknown_expiry) == (1, 0, 0, 0)
    assert summary.counts["issued"] == 1


def test_invalid_statuses_are_counted_last_and_not_shown(place: Destination) -> None:
    body = [f"{number},{status}{',' * 10}" for number, status in enumerate(["zzz", "failed", "", "issued", "zzz"])]
    place.path.write_text("\n".join([HEADER, *body]))
    counts = count_statuses(read_results(place.path))
    assert list(counts.items()) == [("issued", 1), ("failed", 1), ("(unreadable)", 3)]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "auth_status": st.sampled_from([*Status, "", "other"]),
            "auth_token": st.sampled_from(["", TOKEN, *"abcdefgh", "#NAME?"]),
            "auth_code": st.sampled_from([CODE, CODE, CODE, ""]),
            "auth_expires_at": st.one_of(
                st.sampled_from(["", "soon"]), st.integers(-3, 3).map(lambda s: utc_text(AT + timedelta(seconds=s)))
            ),
            "auth_hint": st.sampled_from(["", "wait", "ask"]),
        }
    ),
    max_size=12,
)


@settings(deadline=None)
@given(ROWS)
def test_the_numbers_always_add_up(rows: list[dict[str, str]]) -> None:
    """Counts to the rows; valid, expired and unreadable expiries to the tokens; the groups to the failures."""
    frame = pd.DataFrame(rows, columns=list(AUTH_COLUMNS), dtype=object).fillna("")
    results = Results(frame, list(range(2, len(rows) + 2)))
    summary = status_of(results, AT)
    held = [row for row in rows if row["auth_token"]]
    assert sum(summary.counts.values()) == summary.rows == len(rows)
    assert summary.valid + summary.expired + summary.unknown_expiry + summary.corrupted == len(held)
    assert summary.purged == sum(row["auth_status"] == "issued" for row in rows) - sum(
        row["auth_status"] == "issued" for row in held
    )
    assert sorted(failure for group in summary.problems.values() for failure in group) == sorted(failures_in(results))
    assert all(failure.hint == hint for hint, group in summary.problems.items() for failure in group)
    assert (summary.next_expiry is None) == (summary.last_expiry is None) == (summary.valid == 0)
    if summary.next_expiry and summary.last_expiry:
        assert AT < summary.next_expiry <= summary.last_expiry


# --- as other programs save it


def without_blank_end(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_blank_cells_lost_at_the_end_of_a_row_are_restored(
    place: Destination, separator: str, line_end: str, quoting: Literal[0, 1]
) -> None:
    rows = batch("Driver ID,Note\n11,\n12,\nx,\n")
    publish(place, rows, issued(rows.drivers[0]), Outcome(3, Status.UNKNOWN, rows.drivers[1].identifier))
    before = read_results(place.path)
    cells = [list(before.frame.columns), *before.frame.to_numpy().tolist()]
    cells[2][-2] = ""  # one more, which a spreadsheet's user has cleared
    short = [without_blank_end(line) for line in cells]
    assert [len(line) for line in short] == [13, 13, 7, 12]
    with place.path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator=line_end, quoting=quoting).writerows(short)
    after = read_results(place.path)
    assert after.frame.to_numpy().tolist() == cells[1:]
    assert (list(after.frame.columns), after.rows, after.delimiter) == (cells[0], before.rows, separator)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_row_that_is_short_left_of_its_status_is_refused(place: Destination, lost: int) -> None:
    """Its cells were shifted: it is unclear which belongs to which column."""
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    header, first, *others = place.path.read_text("utf-8").splitlines()
    cells = first.split(",")
    del cells[lost]
    place.path.write_text("\n".join([header, ",".join(cells), *others]))
    with pytest.raises(RosterError, match="row 2: 12 cells instead of 13") as caught:
        read_results(place.path)
    assert caught.value.hint
    assert TOKEN not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("width", [1, 2])
def test_a_row_that_ends_before_its_status_is_refused(place: Destination, width: int) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    header, first, *others = place.path.read_text("utf-8").splitlines()
    place.path.write_text("\n".join([header, ",".join(first.split(",")[:width]), *others]))
    with pytest.raises(RosterError, match="row 2"):
        read_results(place.path)


def test_a_row_with_a_cell_too_many_is_refused(place: Destination) -> None:
    publish(place, batch())
    place.path.write_bytes(place.path.read_bytes().rstrip(b"\r\n") + b",\r\n")
    with pytest.raises(RosterError, match="row 5: 14 cells instead of 13"):
        read_results(place.path)


# --- what is none


@pytest.mark.parametrize(
    "header",
    [["Driver ID"], ["Driver ID", *AUTH_COLUMNS[:-1]], ["Driver ID", *AUTH_COLUMNS, "auth_token"], ["auth_token"]],
)
def test_a_file_without_exactly_the_auth_columns_is_refused(place: Destination, header: list[str]) -> None:
    place.path.write_text(",".join(header) + "\n" + ",".join(header) + "\n")
    with pytest.raises(ResultsError):
        read_results(place.path)


def test_an_unfinished_journal_can_be_read(place: Destination) -> None:
    rows = batch()
    assert count_statuses(read_results(interrupt(place, rows, issued(rows.drivers[0])))) == {
        "issued": 1,
        "invalid": 1,
        "duplicate": 1,
        "not_attempted": 1,
    }


@pytest.mark.parametrize("name", ["missing.csv", ".", "x" * 300])
def test_results_that_cannot_be_read_are_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        read_results(tmp_path / name)


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.sampled_from([*AUTH_COLUMNS, ",", ",", "\n", '"', "x", "2026", "é", "auth_row"])).map(
            lambda parts: "".join(parts).encode()
        ),
        st.lists(
            st.lists(
                st.sampled_from(["", "x", "issued", "2026", "9999-12-31T23:59:59-23:59", "'"]), min_size=11, max_size=11
            )
        ).map(lambda table: "\n".join(",".join(cells) for cells in [AUTH_COLUMNS, *table]).encode()),
    )
)
def test_any_file_is_either_complete_results_or_a_usage_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.csv"
        path.write_bytes(data)
        try:
            results = read_results(path)
        except UsageError:
            return
    summary = status_of(results, datetime.now(UTC))
    assert sum(summary.counts.values()) == len(results.frame) == len(results.rows)
    assert len(results.expires_at()) == len(results.frame)
    assert sum(map(len, summary.problems.values())) <= len(results.frame)


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_the_name_of_the_first_column_may_begin_with_a_byte_order_mark(suffix: str, tmp_path: Path) -> None:
    """As in a DataFrame that was read with the mark; the file has another one."""
    frame = pd.DataFrame({"\ufeffDepot": ["North"], "Driver ID": ["11"]})
    rows = Batch.of_roster(Roster.from_frame(frame))
    path = tmp_path / f"depot.{suffix}"
    publish(Destination(path), rows)
    assert list(read_results(path).cells.columns) == ["\ufeffDepot", "Driver ID"]


@pytest.mark.parametrize(
    ("note", "longest"),
    [
        ("x" * 131_072, True),
        ("x" * 131_073, False),
        ('"' + "x" * 131_073 + '"', False),
        ('"x\n' + "x" * 131_072 + '"', False),
    ],
)
def test_the_longest_cell_is_read_and_a_longer_one_refused(note: str, longest: bool, tmp_path: Path) -> None:
    path = tmp_path / "depot.csv"
    header = ",".join(["Note", *AUTH_COLUMNS])
    path.write_bytes(BOM + f"{header}\r\n{note},issued{',' * 10}\r\n".encode())
    if longest:
        assert read_results(path).frame.iloc[0, 0] == note
    else:
        with pytest.raises(RosterError, match="row 2: "):
            read_results(path)
