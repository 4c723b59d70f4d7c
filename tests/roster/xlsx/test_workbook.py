"""A workbook is read as its cells show it, or refused with the place; malicious ones cost little."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import xlsxwriter
from corpus.make import HEAD, TWO, number, row, words, workbook, zipped
from hypothesis import example, given
from hypothesis import strategies as st

from batch_issuer.errors import RosterError
from batch_issuer.roster import Roster, read_table
from batch_issuer.roster.xlsx.numbers import shown_number
from batch_issuer.roster.xlsx.sheet import _column, column_letters, unescaped

if TYPE_CHECKING:
    from collections.abc import Sequence

EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - as sheets count
ID = "281474977075805"

CELLS = st.text(
    st.one_of(
        st.sampled_from("\",;\t\n\r' =+-@0a_x000D_\u200f\ufeff\u00a0\U0001f69a<&>]"),
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    ),
    max_size=10,
)


def cells_of(data: bytes) -> list[list[str]]:
    frame, _ = read_table(data, "x.xlsx")
    return [list(frame.columns), *frame.to_numpy().tolist()]


def refusal_of_workbook(data: bytes) -> RosterError:
    with pytest.raises(RosterError) as caught:
        Roster.from_bytes(data, "x.xlsx")
    assert caught.value.message.startswith("x.xlsx")
    assert caught.value.hint
    return caught.value


def workbook_of(rows: Sequence[Sequence[str]]) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for y, line in enumerate(rows):
            for x, text in enumerate(line):
                sheet.write_string(y, x, text)
    return file.getvalue()


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=5)))
@example([["\t"], ['"']])
def test_any_table_of_strings_comes_back_as_it_was_written(rows: list[list[str]]) -> None:
    """Except for spaces in rows that are otherwise blank."""
    width = len(rows[0]) if rows else 1
    rows = [["Driver ID", *(f"c{n}" for n in range(1, width))], *rows]
    while len(rows) > 1 and not "".join(rows[-1]).strip():
        rows.pop()
    expected = [row if "".join(row).strip() else [""] * width for row in rows]
    assert cells_of(workbook_of(rows)) == expected


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("_x000D_", "\r"),
        ("_x005F_x000D_", "_x000D_"),
        ("a_x0041_", "aA"),
        ("_x000_", "_x000_"),
        ("_xD83D_", "_xD83D_"),
        ("_x0000_", "_x0000_"),
        ("_x00e9_", "é"),
    ],
)
def test_escaped_characters_are_resolved_except_those_that_csv_cannot_contain(text: str, meant: str) -> None:
    assert unescaped(text) == meant


@pytest.mark.parametrize(
    ("stored", "style", "shown"),
    [
        (ID, "0", ID),
        ("2.81474977075805E14", "0", ID),
        ("281474977075805.0", "0", ID),
        ("999999999999999", "0", "999999999999999"),
        ("1000000000000000", "0", "1E15"),
        ("281474977075805123", "1", "2.81474977075805E17"),
        ("0.1", "0", "0.1"),
        ("0.30000000000000004", "0", "0.3"),
        ("-5", "0", "-5"),
        ("-0", "0", "0"),
        ("7", "00000", "00007"),
        ("1234567", "00000", "1234567"),
        ("7", '"D-"000', "D-007"),
        ("12345", "000-00", "123-45"),
        ("12345", "\\D000000", "D012345"),
        ("5", '000;"minus "000', "005"),
        ("1234", "#,##0", "1234"),
        ("12", "#,##0.00", "12"),
        ("12", "@", "12"),
        ("45000", "14", "2023-03-15"),
        ("45000.5", "22", "2023-03-15 12:00:00"),
        ("0.25", "20", "06:00:00"),
        ("1.5", "[h]:mm:ss", "36:00:00"),
        ("45000", "dd\\.mm\\.yyyy", "2023-03-15"),
        ("45000", '[$-407]d" Tage"', "2023-03-15"),
        ("45000", '0" days"', "45000 days"),
        ("45000", "[Red]General", "45000"),
        ("1e300", "14", "1e300"),
        ("1e999", "0", "1e999"),
        ("1_0", "0", "1_0"),
        ("nan", "0", "nan"),
        ("", "0", ""),
    ],
)
def test_a_number_is_read_as_its_cell_shows_it_with_exact_digits_only(stored: str, style: str, shown: str) -> None:
    found = shown_number(stored, style, EPOCH)
    assert found.replace("E+", "E") == shown


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_a_whole_number_of_up_to_15_digits_is_exact(value: int) -> None:
    assert shown_number(str(value), "0", EPOCH) == str(value)
    assert shown_number(repr(float(value)), "0", EPOCH) == str(value)


@given(st.integers(10**15, 2**63 - 1), st.sampled_from(["{}", "{}.0", "{:.16E}"]))
def test_a_number_of_more_digits_is_never_a_driver_id(value: int, form: str) -> None:
    """Excel keeps 15: the rest may be another driver's ID."""
    book = workbook(row(1, words("ID")) + row(2, number(form.format(value))))
    assert Roster.from_bytes(book, "x.xlsx").drivers == []


@given(st.integers(1, 2**14))
def test_columns_have_the_letters_of_a_spreadsheet(position: int) -> None:
    letters = column_letters(position)
    assert letters.isalpha()
    assert _column(letters) == position
    assert (len(letters), letters) < (len(after := column_letters(position + 1)), after)


def test_the_letters_of_a_cell_decide_its_column() -> None:
    book = workbook('<row r="1"><c r="AB1" t="inlineStr"><is><t>ID</t></is></c></row>')
    frame, _ = read_table(book, "x.xlsx")
    assert list(frame.columns) == [*[""] * 27, "ID"]


# --- what is not certain, or not a workbook


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (workbook(row(2, words("ID")) + row(3, number(ID))), "the first row is blank"),
        (workbook(""), "is empty"),
        (workbook(HEAD + row(3, number(ID)) + row(2, words("x"))), "rows are not in order"),
        (workbook(HEAD + '<row r="2"><c r="!1"><v>1</v></c></row>'), "invalid cell reference"),
        (workbook(HEAD + row(2, '<c t="s"><v>5</v></c>')), "invalid row or text number"),
        (workbook(HEAD + row(2, '<c t="s"><v>-1</v></c>')), "invalid row or text number"),
        (workbook(HEAD + '<row r="9999999">'), "damaged workbook"),
        (workbook(TWO)[:-30], "damaged workbook"),
        (workbook(TWO).replace(b"<sheetData>", b"<sheetData >", 1), "damaged workbook"),  # its checksum is wrong
        (zipped({"xl/worksheets/sheet1.xml": "<x/>"}), "no 'xl/workbook.xml'"),
        (zipped({"xl/worksheets/": "", "xl/workbook.xml": "<!DOCTYPE a><workbook/>"}), "a document type in its XML"),
        (
            zipped({"xl/worksheets/": "", "xl/workbook.xml": "<?xml version='1.0' encoding='x'?><a/>"}),
            "damaged workbook",
        ),
        (zipped({"xl/worksheets/": "", "xl/workbook.xml": "<workbook/>"}), "is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_workbook_that_cannot_be_read_reliably_is_refused_with_the_reason(data: bytes, message: str) -> None:
    assert message in refusal_of_workbook(data).message


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(workbook(TWO))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # the flag of every member, in both of its headers
        at = data.find(mark)
        while at >= 0:
            data[at + (6 if mark[2] == 3 else 8)] |= 1
            at = data.find(mark, at + 4)
    assert "encrypted" in refusal_of_workbook(bytes(data)).message


def test_a_formula_without_a_result_on_another_sheet_is_ignored() -> None:
    other = row(1, "<c><f>NOW()</f></c>")
    frame, notes = read_table(workbook(TWO, other), "x.xlsx")
    assert len(frame) == 2
    assert notes == ["Only sheet 'Drivers' is read, not 'Other'."]


def test_a_sheet_in_another_case_is_found() -> None:
    assert len(Roster.from_bytes(workbook(TWO), "x.xlsx")) == 2


# --- traps; no figure here is a benchmark, each of these would take minutes or gigabytes


def bomb(size: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(io.BytesIO(workbook(TWO))) as good:
            for name in good.namelist():
                archive.writestr(name, good.read(name))
        archive.writestr("xl/media/image1.png", bytes(size))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        bomb(50_000_000),
        workbook(
            '<row r="1"><c r="A1" t="inlineStr"><is><t>ID</t></is></c><c r="XFD1"><v>1</v></c></row>'
            f'<row r="1048576"><c r="A1048576"><v>{ID}</v></c></row>'
        ),
        b"Driver ID" + b"," * 9_999 + b"\n" * 10_000 + b"1" + b"," * 9_999 + b"\n",
    ],
    ids=["much out of little", "a last row far away", "blank lines under a wide header"],
)
def test_a_small_file_that_unpacks_to_a_huge_table_is_refused(data: bytes) -> None:
    with pytest.raises(RosterError):
        Roster.from_bytes(data, "x")
