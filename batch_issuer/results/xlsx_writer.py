"""The table as an Excel workbook (.xlsx): every cell is text, none is evaluated or rounded."""

from __future__ import annotations

import errno
import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError
from ..model import Status
from ..roster import MOST_COLUMNS, MOST_ROWS
from .private_files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    import xlsxwriter
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

SUFFIX = ".xlsx"

MOST_CHARACTERS = 32767
"""Excel's limit for a cell, in UTF-16 units."""

SHEET = "Results"

_WIDTHS = (8, 40)  # of columns, in characters
_SAMPLE = 1000  # rows, for the widths

# Excel's own colours for bad and neutral cells, and for headers.
_BAD, _NEUTRAL, _HEADER = "#FFC7CE", "#FFEB9C", "#D9E1F2"
_TINTS = dict.fromkeys((Status.FAILED, Status.INVALID, Status.UNKNOWN), _BAD)


def check_available(path: object) -> None:
    """Refuse to write a workbook without the package that writes it.

    Raises:
        ResultsError: the extra ``xlsx`` is not installed.
    """
    if find_spec("xlsxwriter") is None:
        raise ResultsError(
            f"{path}: the package for writing Excel workbooks is not installed",
            "run pip install XlsxWriter, or use a name that ends in .csv",
        )


def check_fits(table: pd.DataFrame, more_columns: int) -> None:
    """Refuse a table that does not fit a sheet, before anything is sent.

    Raises:
        ResultsError: it has too many rows or columns, or too long a cell.
    """
    hint = "use a name that ends in .csv for the results"
    rows, columns = len(table) + 1, table.shape[1] + more_columns
    if rows > MOST_ROWS or columns > MOST_COLUMNS:
        raise ResultsError(
            f"{rows} rows and {columns} columns do not fit an Excel sheet ({MOST_ROWS} rows, {MOST_COLUMNS} columns)",
            hint,
        )
    for position, column in enumerate(table.columns):
        for row, cell in enumerate((str(column), *table.iloc[:, position]), 1):
            if len(cell) * 2 > MOST_CHARACTERS and _units(cell) > MOST_CHARACTERS:
                raise ResultsError(
                    f"row {row}, column {str(column)[:40]!r}: longer than {MOST_CHARACTERS} characters, Excel's limit",
                    hint,
                )


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def write_workbook(descriptor: int, tables: Iterable[pd.DataFrame]) -> None:
    """Write the slices of a table to the start of a file; rows without a token are tinted.

    Raises:
        OSError: it could not be written.
    """
    import xlsxwriter  # noqa: PLC0415 - an extra

    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})  # a crash must not leave a temporary file with tokens
    _fill(book, pd.concat(list(tables), ignore_index=True))
    book.close()
    write_all(descriptor, content.getvalue())


def _fill(book: xlsxwriter.Workbook, table: pd.DataFrame) -> None:
    sheet = book.add_worksheet(SHEET)
    text = {"num_format": "@"}  # so that later edits of a cell stay text, too
    header = book.add_format({**text, "bold": True, "bg_color": _HEADER})
    plain = book.add_format(text)
    tinted = {status: book.add_format({**text, "bg_color": _TINTS.get(status, _NEUTRAL)}) for status in Status}
    formats = [
        plain if token else tinted.get(status, tinted[Status.UNKNOWN])
        for status, token in zip(table["auth_status"], table["auth_token"], strict=True)
    ]
    for position, name in enumerate(table.columns):
        cells = table.iloc[:, position].tolist()
        sheet.set_column(position, position, _width([str(name), *cells[:_SAMPLE]]), plain)
        _write_cell(sheet, 0, position, str(name), header)
        for row, (cell, format_) in enumerate(zip(cells, formats, strict=True), 1):
            _write_cell(sheet, row, position, cell, format_)
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, len(table), table.shape[1] - 1)
    sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{MOST_ROWS}"})  # intended


def _write_cell(sheet: Worksheet, row: int, column: int, text: str, format_: Format) -> None:
    if text:
        if sheet.write_string(row, column, text, format_) != 0:
            raise OSError(errno.EFBIG, f"row {row + 1} has a cell that is too long for a workbook")
    else:
        sheet.write_blank(row, column, None, format_)


def _width(texts: list[str]) -> int:
    least, most = _WIDTHS
    return min(max(least, 2 + max(map(len, texts))), most)
