"""A roster is read whole and unambiguously, or refused with the reason; every row becomes a driver or an outcome."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.rosters import roster

from batch_issuer.errors import RosterError
from batch_issuer.hints import Hint
from batch_issuer.model import Driver, Identifier, IdentifierKind, Outcome, Status
from batch_issuer.roster import Roster, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME

DELIMITERS = ",;\t|"

# Whatever a cell can hold; the characters that CSV or a spreadsheet cares about come often.
CELLS = st.text(
    st.one_of(
        st.sampled_from("\",;\t|\n\r' =+-@0a\u200f\u202e\ufeff\u00a0\U0001f69a"),
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    ),
    max_size=8,
)


@st.composite
def tables(
    draw: st.DrawFn, cells: st.SearchStrategy[str], header: st.SearchStrategy[str], least: int = 1
) -> list[list[str]]:
    width = draw(st.integers(least, 4))
    body = st.lists(st.lists(cells, min_size=width, max_size=width), max_size=5)
    return [draw(st.lists(header, min_size=width, max_size=width)), *draw(body)]


def as_csv(
    rows: Sequence[Sequence[str]], delimiter: str = ",", end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL
) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return file.getvalue()


def without_blank_rows(rows: list[list[str]]) -> list[list[str]]:
    while rows and not "".join(rows[-1]).strip():
        rows = rows[:-1]
    return rows


def reads_as(data: bytes, rows: list[list[str]]) -> bool:
    """Whether the bytes are read as exactly these rows, or refused as empty if there are none."""
    expected = without_blank_rows(rows)
    if not expected:
        with pytest.raises(RosterError, match="empty"):
            read_table(data, "depot.csv")
        return True
    frame, notes = read_table(data, "depot.csv")
    assert notes == []
    assert all(type(cell) is str for cell in frame.to_numpy().ravel())
    return [list(frame.columns), *frame.to_numpy().tolist()] == expected


# --- reading a table


@given(
    tables(CELLS, CELLS),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
    st.sampled_from(["\r\n", "\n", "\r"]),
)
def test_quoted_comma_tables_come_back_as_they_are(rows: list[list[str]], encoding: str, end: str) -> None:
    text = as_csv(rows, ",", end, csv.QUOTE_ALL)
    bom = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert reads_as(bom + text.encode(encoding), rows)


@given(tables(CELLS, CELLS, least=2), st.sampled_from(DELIMITERS))
@example([["Note\n(old)", "Driver ID"], ["", "1"]], ";")
@example([["a;b\n(old)", "Driver ID"], ["", "1"]], ",")
@example([['a "b;c', "Driver ID"], ["", "1"]], ",")
def test_quoted_tables_of_every_delimiter_come_back_as_they_are(rows: list[list[str]], delimiter: str) -> None:
    """Quotation marks end a header cell, whatever delimiters and line breaks are inside it."""
    assert reads_as(as_csv(rows, delimiter, quoting=csv.QUOTE_ALL).encode(), rows)


@given(
    tables(CELLS, CELLS.filter(lambda cell: not set(cell) & set(DELIMITERS)), least=2),
    st.sampled_from(DELIMITERS),
    st.booleans(),
)
def test_sparingly_quoted_tables_of_every_delimiter_come_back_as_they_are(
    rows: list[list[str]], delimiter: str, bom: bool
) -> None:
    text = as_csv(rows, delimiter)
    assume(not text.startswith("\ufeff"))  # that would be a byte order mark, the first or another one
    assert reads_as(text.encode("utf-8-sig" if bom else "utf-8"), rows)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from(
                [b"a", b",", b";", b'"', b"\n", b"\r", b"\0", b"\xff", b"\xfe", b"\xc3\xa9", b"\xef\xbb\xbf"]
            )
        ).map(b"".join),
        st.builds(
            bytes.__add__,
            st.sampled_from([b"PK\x03\x04", b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"]),
            st.binary(max_size=20),
        ),
    )
)
@example(b'"Dep\not"\n1\n')
def test_any_bytes_are_a_table_of_strings_or_a_roster_error_of_one_line(data: bytes) -> None:
    refused = None
    try:
        frame, _ = read_table(data, "depot.csv")
        assert all(type(cell) is str for cell in frame.to_numpy().ravel())
        Roster(frame, "depot.csv")
    except RosterError as error:
        refused = error
    if refused:
        assert refused.message.startswith("depot.csv")
        assert len(refused.message.splitlines()) == 1
        assert refused.hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Driver ID,Name\n1,a\n2\n", "depot.csv, row 3: 1 cell instead of 2"),
        (b"Driver ID,Name\n1,a\n2,b,c\n", "depot.csv, row 3: 3 cells instead of 2"),
        (b'Driver ID,Name\n1,"a\nb"\n2\n', "depot.csv, row 3: 1 cell instead of 2"),
        (b'Driver ID,Name\n1,a\n2,"b\n3,c\n', "depot.csv, row 3: not valid CSV"),
        (b'Driver ID,Name\n1,"a"b\n', "depot.csv, row 2: not valid CSV"),
        (b"Driver ID,Name\n1,a\0\n", "depot.csv contains NUL characters"),
        (b"PK\x03\x04\x14\x00\x06\x00", "depot.csv is a ZIP archive, or a workbook that is not .xlsx, not a CSV file"),
        (b"PK\x03\x04\x14\x00\x06\x00xl/worksheets/", "depot.csv is a damaged workbook"),
        (b"\x1f\x8b\x08\x00", "depot.csv is a damaged gzip file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "depot.csv is an old Excel workbook (.xls), or one with a password"),
        (b"%PDF-1.7\n", "depot.csv is a PDF document, not a CSV file"),
        (b"<html><table><tr><td>1", "depot.csv is a web page or XML, not a CSV file"),
        (b' [\n {"driverId": 1}]', "depot.csv is JSON, not a CSV file"),
        (b"Driver ID,Name\n1,a\n2,M\xfcller\n", "depot.csv, line 3: not UTF-8 text"),
        (b"\xff\xfea\x00b", "depot.csv, line 1: not UTF-16 text"),
        ("Driver ID\n1\n".encode("utf-16-le"), "depot.csv contains NUL characters"),
        (b"", "depot.csv is empty"),
        (b"\xef\xbb\xbf", "depot.csv is empty"),
        (b"\r\n\r\n , \r\n", "depot.csv is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unreadable_input_is_refused_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(RosterError) as caught:
        read_table(data, "depot.csv")
    assert caught.value.message.startswith(message)
    assert caught.value.hint


def test_a_cell_over_the_limit_of_the_csv_module_is_a_roster_error_with_its_row() -> None:
    data = f"Driver ID,Note\n1,\n2,{'x' * (csv.field_size_limit() + 1)}\n".encode()
    with pytest.raises(RosterError, match="row 3"):
        read_table(data, "depot.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_in_the_middle_keep_the_row_numbers_and_at_the_end_are_dropped(end: str) -> None:
    found = roster(end.join(["Driver ID,Name", "1,a", "", "3,c", ",", "", "  , ", ""]))
    assert len(found) == 3
    assert [driver.row for driver in found.drivers] == [2, 4]
    assert [(outcome.row, outcome.status) for outcome in found.refused] == [(3, Status.INVALID)]


@pytest.mark.parametrize(
    "cell", ["NA", "null", "None", "nan", "007", "1.0", "1e5", "TRUE", "2026-01-02", " x ", "-", "#N/A"]
)
def test_no_cell_is_read_as_a_number_a_date_or_a_missing_value(cell: str) -> None:
    frame, _ = read_table(f"Driver ID,Note\n1,{cell}\n2,{cell}\n".encode(), "depot.csv")
    assert frame["Note"].tolist() == [cell, cell]


def test_a_file_that_is_missing_or_a_folder_is_a_roster_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(RosterError):
            Roster.from_path(path)


def test_a_file_is_called_by_its_name_in_messages(tmp_path: Path) -> None:
    (tmp_path / "depot.csv").write_bytes(b"Name\na\n")
    with pytest.raises(RosterError, match=r"^depot\.csv has no column"):
        Roster.from_path(tmp_path / "depot.csv")


# --- which column names the drivers


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, DRIVER_ID)
            for name in ("Driver ID", "driver_id", "DRIVER-ID", "driverId", " Driver  Id ", "Samsara ID", "ID", "id")
        ),
        *(
            (name, DRIVER_ID)
            for name in ("\uff24\uff52\uff49\uff56\uff45\uff52\u3000\uff29\uff24", "Driver\u00a0ID", "Driver\nID")
        ),
        *((name, EXTERNAL_ID) for name in ("External ID", "externalIds", "external_id", "Driver External ID")),
        *(
            (name, USERNAME)
            for name in ("Username", "User Name", "user-name", "LOGIN", "Login name", "Driver Username")
        ),
    ],
)
def test_identifier_columns_are_found_ignoring_case_spaces_and_punctuation(name: str, kind: IdentifierKind) -> None:
    found = roster(as_csv([["Depot", name], ["North", "9"]]))
    assert found.columns == {kind: name}


@pytest.mark.parametrize("name", ["Driver", "Depot ID", "Identity", "Driver ID 2", "Vehicle ID", "Name of user"])
def test_other_columns_are_not_identifiers(name: str) -> None:
    with pytest.raises(RosterError, match="no column that identifies drivers"):
        roster(f"{name},Depot\n1,North\n")


@pytest.mark.parametrize(
    "names", [("Driver ID", "driver_id"), ("ID", "Samsara ID"), ("Username", "Login"), ("Driver ID", "Driver ID")]
)
def test_two_columns_of_one_kind_are_refused_naming_both(names: tuple[str, str]) -> None:
    with pytest.raises(RosterError) as caught:
        roster(f"{names[0]},Depot,{names[1]}\n1,North,2\n")
    assert f"{names[0]!r} and {names[1]!r}" in caught.value.message


def test_a_roster_without_identifier_column_lists_its_columns() -> None:
    with pytest.raises(RosterError) as caught:
        roster(f"Depot,,{'x' * 500},c4,c5,c6,c7,c8,c9\n1,2,3,4,5,6,7,8,9\n")
    message = caught.value.message
    assert "Depot" in message
    assert "(blank)" in message
    assert "c8, …" in message
    assert len(message) < 300


def test_the_most_specific_identifier_wins_and_the_next_fills_the_gaps() -> None:
    found = roster("Username,External ID,Driver ID\nuser.1,k:v1,11\nuser.2,k:v2, \nuser.3,,\n,k:v4,\n")
    assert list(found.columns) == [DRIVER_ID, EXTERNAL_ID, USERNAME]
    assert found.drivers == [
        Driver(2, Identifier(DRIVER_ID, "11")),
        Driver(3, Identifier(EXTERNAL_ID, "k:v2")),
        Driver(4, Identifier(USERNAME, "user.3")),
        Driver(5, Identifier(EXTERNAL_ID, "k:v4")),
    ]


def test_an_invalid_preferred_identifier_is_not_replaced_by_another_one() -> None:
    found = roster("Driver ID,Username\n2.81475E+14,user.1\n")
    assert found.drivers == []
    assert found.refused[0].hint == str(Hint.ROUNDED_DRIVER_ID)


def test_a_results_file_is_refused_as_a_roster() -> None:
    with pytest.raises(RosterError, match="results file"):
        roster("Driver ID,auth_status\n1,issued\n")


@pytest.mark.parametrize("text", ["Driver ID\n", "Driver ID,Name\r\n,\r\n", "Driver ID"])
def test_a_header_without_rows_is_refused(text: str) -> None:
    with pytest.raises(RosterError, match="no rows"):
        roster(text)


@pytest.mark.parametrize(
    "name",
    [
        "Password",
        "driver password",
        "Passwort",
        "PASSWD",
        "pwd",
        "PIN",
        "Pin code",
        "pass-code",
        "\uff30assword",
        "Driver PIN",
    ],
)
def test_a_password_column_is_dropped_and_reported_without_its_content(name: str) -> None:
    found = roster(f"Driver ID,{name},Depot\n1,hunter2,North\n2,hunter2,South\n")
    assert list(found.frame.columns) == ["Driver ID", "Depot"]
    assert "hunter2" not in found.frame.to_csv()
    assert len(found.notes) == 1
    assert repr(name) in found.notes[0]
    assert "hunter2" not in found.notes[0]


@pytest.mark.parametrize("name", ["Shipping", "Pinewood depot", "Passport", "Bypass"])
def test_a_column_with_a_similar_name_is_kept(name: str) -> None:
    found = roster(f"Driver ID,{name}\n1,x\n")
    assert list(found.frame.columns) == ["Driver ID", name]
    assert found.notes == []


# --- row by row


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("2.81475E+14", Hint.ROUNDED_DRIVER_ID),
        ("2,81475E+14", Hint.ROUNDED_DRIVER_ID),
        ("2.81475e+14", Hint.ROUNDED_DRIVER_ID),
        ("9223372036854775808", Hint.DRIVER_ID),
        ("99999999999999999999", Hint.DRIVER_ID),
        ("9" * 5000, Hint.DRIVER_ID),
        ("-1", Hint.DRIVER_ID),
        ("0", Hint.DRIVER_ID),
        ("007", Hint.DRIVER_ID),
        ("0x1F", Hint.DRIVER_ID),
        ("1_000", Hint.DRIVER_ID),
        ("\u00b2", Hint.DRIVER_ID),
        ("12\u200b3", Hint.DRIVER_ID),
        ("12\n3", Hint.DRIVER_ID),
        ("NA", Hint.DRIVER_ID),
        ("-", Hint.DRIVER_ID),
    ],
)
def test_an_invalid_driver_id_has_its_hint(cell: str, hint: Hint) -> None:
    found = roster(as_csv([["Driver ID", "Depot"], [cell, "North"]]))
    assert found.drivers == []
    (outcome,) = found.refused
    assert (outcome.row, outcome.status, outcome.identifier) == (2, Status.INVALID, None)
    assert outcome.hint == str(hint)
    assert outcome.error.isprintable()
    assert len(outcome.error) < 200
    assert outcome.attempts == 0


def test_a_long_invalid_driver_id_gives_a_short_message() -> None:
    found = roster(f"Driver ID\n{'9' * 5000}E+14\n")
    assert len(found.refused[0].error) < 200


@pytest.mark.parametrize(
    "cell", ["1", "281474977075805", "9223372036854775807", " 281474977075805 ", "281474977075805\u00a0"]
)
def test_a_whole_number_of_int64_is_a_driver_id(cell: str) -> None:
    found = roster(f"Driver ID\n{cell}\n")
    assert found.drivers == [Driver(2, Identifier(DRIVER_ID, cell.strip()))]


@pytest.mark.parametrize(
    ("column", "cell", "hint"),
    [
        ("External ID", "ABFS18600", Hint.EXTERNAL_ID),
        ("External ID", ":ABFS18600", Hint.EXTERNAL_ID),
        ("External ID", "payrollId:", Hint.EXTERNAL_ID),
        ("External ID", "payrollId: ", Hint.EXTERNAL_ID),
        ("External ID", "payrollId:AB\tFS", Hint.CHARACTERS),
        ("External ID", "payrollId:AB\u200fFS", Hint.CHARACTERS),
        ("External ID", "payrollId:AB\nFS", Hint.CHARACTERS),
        ("Username", "user\u200b.1", Hint.CHARACTERS),
        ("Username", "user\r.1", Hint.CHARACTERS),
        ("Username", "us\u202eer.1", Hint.CHARACTERS),
        ("Username", "\u200f\u200b", Hint.CHARACTERS),
    ],
)
def test_an_invalid_external_id_or_username_has_its_hint(column: str, cell: str, hint: Hint) -> None:
    found = roster(as_csv([[column, "Depot"], [cell, "North"]]))
    (outcome,) = found.refused
    assert (outcome.row, outcome.status, outcome.hint) == (2, Status.INVALID, str(hint))
    assert outcome.error.isprintable()


def test_the_value_of_an_external_id_may_contain_colons_and_letters_of_any_language() -> None:
    found = roster("External ID\npayrollId:A:B\ncl\u00e9:\u3042\n")
    assert [driver.identifier.value for driver in found.drivers] == ["payrollId:A:B", "cl\u00e9:\u3042"]


def test_a_row_without_identifier_is_invalid_with_its_hint() -> None:
    (outcome,) = roster("Driver ID,Username,Depot\n , ,North\n").refused
    assert (outcome.row, outcome.status, outcome.hint) == (2, Status.INVALID, str(Hint.NO_IDENTIFIER))


def test_all_duplicates_point_to_the_first_row_of_the_driver() -> None:
    found = roster("Driver ID\n5\n6\n5\n 5 \n6\n")
    assert [driver.row for driver in found.drivers] == [2, 3]
    assert [(outcome.row, outcome.status) for outcome in found.refused] == [
        (row, Status.DUPLICATE) for row in (4, 5, 6)
    ]
    assert [outcome.error.endswith(f" {row}") for outcome, row in zip(found.refused, (2, 2, 3), strict=True)] == [
        True
    ] * 3
    assert found.refused[0].identifier == Identifier(DRIVER_ID, "5")


def test_two_equal_invalid_cells_are_not_duplicates() -> None:
    assert [outcome.status for outcome in roster("Driver ID\nx\nx\n").refused] == [Status.INVALID] * 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "1", "2", "03", "x"]),
            st.sampled_from(["", "k:v", "k"]),
            st.one_of(st.just("user"), CELLS),
        ),
        min_size=1,
    )
)
def test_every_row_is_either_a_driver_or_a_refused_outcome(rows: list[tuple[str, str, str]]) -> None:
    found = Roster.from_frame(pd.DataFrame(rows, columns=["Driver ID", "External ID", "Username"]))
    assert len(found) == len(rows)
    assert sorted([*(driver.row for driver in found.drivers), *(outcome.row for outcome in found.refused)]) == list(
        found.row_numbers()
    )
    assert len({driver.identifier for driver in found.drivers}) == len(found.drivers)
    for driver in found.drivers:  # sent unchanged, or without invisible characters at the ends and with a warning
        value, cells = driver.identifier.value, rows[driver.row - 2]
        warning = driver.row in found.warnings
        assert any(cell.strip() == value or (warning and value in cell) for cell in cells)
    for outcome in found.refused:
        assert outcome.hint
        assert outcome.error.isprintable()


def test_no_cell_outside_the_identifier_columns_is_shown_in_a_message() -> None:
    found = roster("Driver ID,Note\nx,hunter2\n1,hunter2\n1,hunter2\n")
    assert "hunter2" not in repr((found.refused, found.drivers, found.notes))


# --- from a DataFrame


def values(frame: pd.DataFrame, **expected: list[str]) -> Roster:
    found = Roster.from_frame(frame)
    for column, cells in expected.items():
        assert found.frame[column].tolist() == cells
    return found


def test_integers_become_their_digits() -> None:
    values(pd.DataFrame({"id": [281474977075805, 9223372036854775807]}), id=["281474977075805", "9223372036854775807"])


@pytest.mark.parametrize("gap", [None, float("nan"), pd.NA, pd.NaT])
def test_missing_values_become_blank_cells(gap: object) -> None:
    values(pd.DataFrame({"id": pd.Series([1, gap, "x"], dtype=object)}), id=["1", "", "x"])


def test_integers_that_a_gap_turned_into_floats_become_integers_again() -> None:
    frame = pd.DataFrame({"id": [281474977075805, None]})
    assert frame["id"].dtype == float
    assert [driver.identifier.value for driver in values(frame, id=["281474977075805", ""]).drivers] == [
        "281474977075805"
    ]


@pytest.mark.parametrize("number", [2.0**53, 1.5, float("inf"), 1e300, -1.0])
def test_a_float_that_may_have_lost_digits_is_not_a_driver_id(number: float) -> None:
    assert Roster.from_frame(pd.DataFrame({"id": [number]})).drivers == []


def test_a_float_of_single_precision_has_lost_digits_and_is_not_a_driver_id() -> None:
    """As float32, 281474977075805 is 281474976710656: another driver's ID."""
    frame = pd.DataFrame({"id": pd.Series([281474977075805, None], dtype="float32")})
    assert Roster.from_frame(frame).drivers == []


def test_nullable_integers_keep_their_digits_and_gaps() -> None:
    values(pd.DataFrame({"id": pd.array([9223372036854775807, None], dtype="Int64")}), id=["9223372036854775807", ""])


def test_pandas_strings_and_categories_are_kept() -> None:
    values(
        pd.DataFrame({"id": pd.array(["007", None], dtype="string"), "n": pd.Categorical(["a", "b"])}),
        id=["007", ""],
        n=["a", "b"],
    )


def test_columns_of_one_name_are_all_kept() -> None:
    found = Roster.from_frame(pd.DataFrame([["1", "a", "b"]], columns=["id", "Note", "Note"]))
    assert found.frame.to_numpy().tolist() == [["1", "a", "b"]]
    assert list(found.frame.columns) == ["id", "Note", "Note"]


def test_column_names_need_not_be_strings() -> None:
    found = Roster.from_frame(pd.DataFrame([["1", "a", "b"]], columns=pd.Index(["id", 2026, None], dtype=object)))
    assert found.columns == {DRIVER_ID: "id"}
    assert found.frame.shape == (1, 3)


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"id": []}), pd.DataFrame(index=[1, 2])])
def test_a_frame_without_rows_or_columns_is_a_roster_error(frame: pd.DataFrame) -> None:
    with pytest.raises(RosterError):
        Roster.from_frame(frame)


@pytest.mark.parametrize("index", [[7, 3], [0, 0], ["b", "a"]])
def test_rows_are_counted_by_position_whatever_the_index_of_the_frame(index: list[object]) -> None:
    found = Roster.from_frame(pd.DataFrame({"id": ["5", "6"]}, index=pd.Index(index)))
    assert found.drivers == [Driver(2, Identifier(DRIVER_ID, "5")), Driver(3, Identifier(DRIVER_ID, "6"))]


def test_the_given_frame_stays_as_it_was() -> None:
    frame = pd.DataFrame({"id": [1.0, None], "password": ["x", "y"]})
    before = frame.copy(deep=True)
    Roster.from_frame(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_refused_outcomes_are_plain_outcomes_without_token_or_request() -> None:
    assert roster("Driver ID\nx\n").refused == [
        Outcome(2, Status.INVALID, error="'x' is not a valid driver ID", hint=str(Hint.DRIVER_ID)),
    ]
