"""The driver's name next to a row: which columns it is read from, and what a terminal gets of it."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.roster import driver_names
from batch_issuer.roster.driver_names import FIRST_AND_LAST, LONGEST_NAME, NAME_COLUMNS


def names(header: list[str], *rows: list[str]) -> list[str] | None:
    found = driver_names(pd.DataFrame(rows, columns=header, dtype=str))
    return None if found is None else list(found)


@pytest.mark.parametrize("column", [*NAME_COLUMNS, "Driver Name", "FULL NAME", "employee_name", "Driver-Name"])
def test_a_name_is_in_a_column_of_that_name(column: str) -> None:
    assert names(["ID", column], ["7001", "Ana Lima"], ["7002", ""]) == ["Ana Lima", ""]


@pytest.mark.parametrize(("first", "last"), FIRST_AND_LAST)
def test_a_name_may_be_in_two_columns(first: str, last: str) -> None:
    rows = [["Lima", "7001", "Ana"], ["", "7002", "Bo"], ["Diaz", "7003", ""], ["", "7004", ""]]
    assert names([last, "ID", first], *rows) == ["Ana Lima", "Bo", "Diaz", ""]


def test_the_most_telling_column_wins() -> None:
    assert names(["First Name", "Last Name", "Name", "Driver Name"], ["A", "B", "C", "D"]) == ["D"]
    assert names(["First Name", "Last Name", "Name"], ["A", "B", "C"]) == ["C"]


@pytest.mark.parametrize(
    "header", [["ID", "Depot"], ["Name", "name"], ["First Name", "ID"], ["First Name", "Last Name", "LAST NAME"], []]
)
def test_without_such_a_column_or_with_two_there_are_no_names(header: list[str]) -> None:
    assert names(header, ["x"] * len(header)) is None


def test_of_two_columns_of_one_name_another_one_is_taken() -> None:
    assert names(["Name", "Name", "First Name", "Last Name"], ["x", "y", "Ana", "Lima"]) == ["Ana Lima"]


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("  Ana \t Lima\r\n", "Ana Lima"),
        ("\x1b[2J\x1b]0;owned\x07Ana", "[2J ]0;owned Ana"),
        ("Ana\x9b31mLima", "Ana 31mLima"),
        ("Ana\u202egnirts\u2028", "Ana gnirts"),
        ("李小龙", "李小龙"),
        ("x " * 19 + "xx", "x " * 19 + "xx"),
        ("x " * 20 + "x", "x " * 19 + "x…"),
        ("\x00\x1b", ""),
    ],
)
def test_a_name_is_one_short_line_that_no_terminal_obeys(cell: str, name: str) -> None:
    assert names(["Name"], [cell]) == [name]


@pytest.mark.parametrize("word", ["x" * 21, "a" * 11 + "1", "abcdefgh-1234", "sandbox-Zm9vYmFyYmF6cXV4"])
@pytest.mark.parametrize("cells", [["{}", ""], ["Ana", "{}"], ["{}", "Lima"], ["Ana {}", "Lima"]])
def test_what_may_be_a_token_or_code_is_not_shown(word: str, cells: list[str]) -> None:
    """Columns of a results file may have been shifted."""
    assert names(["First Name", "Last Name"], [cell.format(word) for cell in cells]) == [""]


@pytest.mark.parametrize("name", ["Papadopoulos", "Annegret Müller-Lüdenscheid", "O'Shaughnessy-Lee", "Konstantinos"])
def test_a_long_name_is_shown(name: str) -> None:
    assert names(["Name"], [name]) == [name]


@given(st.text())
def test_whatever_is_in_a_cell_can_be_printed(cell: str) -> None:
    (name,) = names(["Name"], [cell]) or [""]
    assert name.isprintable()
    assert len(name) <= LONGEST_NAME
    assert name == name.strip()
