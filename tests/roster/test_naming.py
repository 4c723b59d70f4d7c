"""Rows without a driver are found, and rows with the same driver, even if identified in different ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rosters import roster

from batch_issuer.hints import Hint
from batch_issuer.model import Identifier, IdentifierKind, Status
from batch_issuer.roster import Roster, same_drivers

if TYPE_CHECKING:
    import random

DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME


def hints_of_refused(found: Roster) -> dict[int, str]:
    return {outcome.row: outcome.hint for outcome in found.refused}


# --- rows without a driver


def test_a_repeated_header_is_not_a_driver() -> None:
    found = roster("Username,Depot\nann.x,North\nUsername,Depot\nbob.x,South\n Username, Depot\n")
    assert [driver.identifier.value for driver in found.drivers] == ["ann.x", "bob.x", "Username"]
    assert hints_of_refused(found) == {3: str(Hint.REPEATED_HEADER)}


def test_a_driver_named_like_the_column_is_a_driver() -> None:
    found = roster("Username,Depot\nUsername,North\n")
    assert [driver.identifier.value for driver in found.drivers] == ["Username"]


@pytest.mark.parametrize(
    "last",
    [
        *("Total,,", "Total:,2,", ",Grand Total,2", "SUM,2,", ",,subtotal 2", "Summe;2;".replace(";", ",")),
        *("Gesamt: 2,,", "Anzahl,2,", "Totaal,,2", "count,2,", "Total drivers: 2,,", "2,,", ",2,", "Totals 1.234,,"),
    ],
)
def test_a_row_of_totals_at_the_bottom_is_not_a_driver(last: str) -> None:
    found = roster(f"Username,Name,Depot\nann.x,Ann,North\nbob.x,Bob,South\n{last}\n")
    assert [driver.row for driver in found.drivers] == [2, 3]
    assert hints_of_refused(found) == {4: str(Hint.TOTALS)}


@pytest.mark.parametrize(
    "rows",
    [
        "ann.x,Ann,Total\nbob.x,Bob,Total\n",  # the oil company
        "ann.x,Ann,North\ntotally.bob,Bob,South\n",
        "ann.x,Ann,North\nbob.x,Bob,Totalenergies\n",
        "ann.x,Ann,\nbob.x,Bob,2\n",
        "ann.x,,\n2,,\n",
        "Total,,\nbob.x,Bob,South\n",
    ],
)
def test_other_last_rows_are_drivers(rows: str) -> None:
    assert [driver.row for driver in roster(f"Username,Name,Depot\n{rows}").drivers] == [2, 3]


# --- one driver on two rows


@pytest.mark.parametrize(
    ("rows", "duplicates"),
    [
        ("5,k:5,ann\n,,ann\n", {3: 2}),
        (",,ann\n5,k:5,ann\n", {3: 2}),
        (",,ann\n,k:5,\n5,k:5,ann\n", {3: 2, 4: 2}),
        ("5,,ann\n,k:5,ann\n,k:5,\n", {3: 2, 4: 2}),
        (",k:1,ann\n,k:2,ann\n,k:2,\n", {3: 2, 4: 2}),
        ("5,,ann\n6,,ann\n", {}),
        ("5,,ann\n6,,ann\n,,ann\n", {4: 2}),
        ("5,,ann\n6,,ann\n,,ann\n,,ann\n", {4: 2, 5: 2}),
        ("5,,ann\n5,,bob\n,,bob\n", {3: 2, 4: 2}),
        ("5,k:1,\n,k:1,ann\n6,,ann\n", {3: 2}),
        ("x,,ann\n,,ann\n", {}),
    ],
)
def test_rows_of_one_driver_are_sent_once(rows: str, duplicates: dict[int, int]) -> None:
    """Also if only a third row connects them; but never rows with different driver IDs."""
    found = roster(f"ID,External ID,Username\n{rows}")
    named = {outcome.row: outcome.error for outcome in found.refused if outcome.status is Status.DUPLICATE}
    assert list(named) == list(duplicates)
    assert all(f"as row {first}" in named[row] for row, first in duplicates.items())


def test_a_duplicate_reports_the_identifier_of_the_other_row() -> None:
    (outcome,) = roster("ID,Username\n5,ann.x\n,ann.x\n").refused
    assert outcome.error == "same driver as row 2 (driverId=5)"


def test_contradictory_identifiers_get_a_warning() -> None:
    found = roster("ID,Username\n5,ann.x\n6,bob.x\n7,ann.x\n")
    assert [driver.row for driver in found.drivers] == [2, 3, 4]
    assert list(found.warnings) == [2, 4]
    assert "row 4 has username=ann.x with a different driver ID" in found.warnings[2]


TABLES = st.lists(
    st.tuples(
        st.sampled_from(["", "", "1", "2", "3"]), st.sampled_from(["", "a", "b"]), st.sampled_from(["", "u", "v"])
    ),
    max_size=8,
)


def texts(table: list[tuple[str, str, str]]) -> dict[IdentifierKind, list[str]]:
    return {kind: [row[at] for row in table] for at, kind in enumerate(IdentifierKind)}


def together(table: list[tuple[str, str, str]]) -> dict[int, frozenset[int]]:
    """For each row the rows that share an identifier with it, directly or through others, by brute force."""
    groups = {row: {row} for row in range(len(table))}
    for _ in table:
        for one, group in groups.items():
            for other, others in groups.items():
                if any(x and x == y for x, y in zip(table[one], table[other], strict=True)):
                    group.update(others)
    return {row: frozenset(group) for row, group in groups.items()}


@given(TABLES)
def test_rows_that_share_nothing_are_never_one_driver_and_without_contradiction_all_others_are(
    table: list[tuple[str, str, str]],
) -> None:
    rows = [row for row, cells in enumerate(table) if any(cells)]
    groups = together(table)
    found = same_drivers(texts(table), rows)
    for row, first in found.first.items():
        assert first in groups[row]
        assert first < row
        assert first not in found.first
        assert not (table[row][0] and table[first][0] and table[row][0] != table[first][0])
    for group in {groups[row] for row in rows}:
        if len({table[row][0] for row in group} - {""}) <= 1:
            assert {found.first.get(row, row) for row in group} == {min(group)}


@given(TABLES)
def test_nothing_is_sent_twice(table: list[tuple[str, str, str]]) -> None:
    rows = [row for row, cells in enumerate(table) if any(cells)]
    same = same_drivers(texts(table), rows).first
    sent = [next((kind, cell) for kind, cell in enumerate(table[row]) if cell) for row in rows if row not in same]
    assert len(set(sent)) == len(sent)


@given(TABLES, st.randoms(use_true_random=False))
def test_which_rows_are_one_driver_does_not_depend_on_their_order(
    table: list[tuple[str, str, str]], chance: random.Random
) -> None:
    """As long as the driver IDs do not contradict each other."""
    rows = [row for row, cells in enumerate(table) if any(cells)]
    groups = together(table)
    rows = [row for row in rows if len({table[other][0] for other in groups[row]} - {""}) <= 1]

    def parts(order: list[int]) -> set[frozenset[int]]:
        first = same_drivers(texts(table), order).first
        found: dict[int, set[int]] = {}
        for row in order:
            found.setdefault(first.get(row, row), set()).add(row)
        return {frozenset(part) for part in found.values()}

    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert parts(shuffled) == parts(rows)


def test_the_order_of_the_rows_decides_which_is_first() -> None:
    assert same_drivers({USERNAME: ["ann", "ann"]}, [1, 0]).first == {0: 1}


def test_a_contradiction_names_the_identifier_and_the_other_row() -> None:
    found = same_drivers({DRIVER_ID: ["1", "2"], EXTERNAL_ID: ["k:1", "k:1"]}, [0, 1])
    assert found.first == {}
    assert found.contradicted == {0: (Identifier(EXTERNAL_ID, "k:1"), 1), 1: (Identifier(EXTERNAL_ID, "k:1"), 0)}
