"""The text of a CSV file → rows of strings, strictly: every row has exactly as many cells as the header.

pandas alone pads short rows, and if every row has one cell too many, it shifts all columns by one: a driver then gets
another driver's ID. So Python's csv module defines the content of a file. pandas is faster, and it keeps the texts of a
column adjacent in memory, which speeds up all later work on the column; so it reads every file for which it provably
gives the same result.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import RosterError
from ..wording import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HEADER_ROW = 1
"""The header's row number, as a spreadsheet shows it."""

ROWS_AT_ONCE = 10_000
"""Rows per chunk."""

DELIMITERS = ",;\t|"

MOST_PADDING = 10**7
"""Blank cells that a file may imply without writing them: a short file must not make a huge table."""


def split_separator_line(text: str) -> tuple[str | None, str]:
    """The separator in a first line such as ``sep=;`` (None without one) and the text after it.

    Spreadsheet programs that support the line do not count it as a row.
    """
    found = re.match(r'"?sep=([^"\r\n\w])"?(?:\r\n|\r|\n|$)', text, re.IGNORECASE)
    return (found[1], text[found.end() :]) if found else (None, text)


def delimiter_of(text: str, fits: Callable[[Sequence[str]], bool], name: str) -> str:
    """The separator of the cells: comma, semicolon, tab or pipe.

    The one that gives a header with the required columns; of several such, the one that gives most cells.

    Args:
        text: of the file, without separator line.
        fits: whether a header has the required columns.
        name: of the file, for messages.

    Raises:
        RosterError: two separators fit equally well.
    """
    found = re.match(r'(?:[^"\r\n]++|"[^"]*+")*+', text)
    header = found[0] if found else ""
    unquoted = re.sub(r'"[^"]*"', "", header)
    used = sorted(DELIMITERS, key=unquoted.count, reverse=True)
    if not unquoted.count(used[0]):
        return ","
    fitting = [one for one in used if one in unquoted and fits(_cells(header, one))]
    best = [one for one in fitting if unquoted.count(one) == unquoted.count(fitting[0])]
    if len(best) > 1:
        both = " and ".join("tab" if one == "\t" else repr(one) for one in best)
        raise RosterError(
            f"{name}: {both} could both separate the columns", f"put a line sep={best[0]} above the header"
        )
    return best[0] if best else used[0]


def _cells(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(header, newline=""), delimiter=delimiter))
    except csv.Error:
        return []


def empty(name: str) -> RosterError:
    """The error for a file without content."""
    return RosterError(f"{name} is empty", "add a header row and a row for each driver")


def too_many_blanks(name: str) -> RosterError:
    """The error for a file with more than `MOST_PADDING`."""
    return RosterError(f"{name} has too many blank rows and cells", "delete the blank rows and columns, and save again")


def read_columns(
    text: str, delimiter: str, name: str, fills_up: Callable[[list[str], list[str]], bool] | None = None
) -> tuple[list[str], pd.DataFrame]:
    """The header of a CSV text and its columns of strings (labelled by position), without blank rows at the end.

    Args:
        text: of the file, without separator line.
        delimiter: the separator of the cells.
        name: of the file, for messages.
        fills_up: whether a row (the first argument) that is not as wide as the header (the second) only lost blank
            cells at its end; it may raise an error of its own.

    Raises:
        RosterError: not valid CSV, no header, a row with more or fewer cells than the header, or too many blank cells.
    """
    with suppress(UnicodeEncodeError):
        if quick := _read_quickly(text.encode(), delimiter):
            return quick
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    parts: list[pd.DataFrame] = []
    blank: list[list[str]] = []  # rows so far without content after them
    number = padding = 0
    while rows := _next_rows(reader, number, name):
        header = header if number else rows[0]
        end = next((end for end in range(len(rows), 0, -1) if any(map(str.strip, rows[end - 1]))), 0)
        filled = [*blank, *rows[:end]] if end else []
        if filled and not header:
            raise RosterError(f"{name}: the first row is blank", "the first row must be the header")
        padding += _fill_up(filled, header, number - len(blank), name, fills_up)
        blank = rows[end:] if end else blank + rows
        if padding + len(blank) * len(header) > MOST_PADDING:
            raise too_many_blanks(name)
        if filled:
            parts.append(pd.DataFrame(filled, columns=range(len(header)), dtype=object))
        number += len(rows)
    if not parts:
        raise empty(name)
    return header, pd.concat(parts, ignore_index=True).iloc[1:].reset_index(drop=True)


def _next_rows(reader: Iterator[list[str]], number: int, name: str) -> list[list[str]]:
    """The next chunk of rows, empty at the end; ``number`` rows were read before.

    Raises:
        RosterError: not valid CSV.
    """
    rows: list[list[str]] = []
    try:
        rows.extend(islice(reader, ROWS_AT_ONCE))
    except csv.Error as error:
        raise RosterError(
            f"{name}, row {number + len(rows) + 1}: not valid CSV ({error})",
            "close the quotation mark that is open, or save the file again as CSV UTF-8",
        ) from None
    return rows


def _fill_up(
    rows: list[list[str]],
    header: list[str],
    number: int,
    name: str,
    fills_up: Callable[[list[str], list[str]], bool] | None,
) -> int:
    """Make all rows as wide as the header; returns the number of cells added.

    Raises:
        RosterError: one has more or fewer cells.
    """
    added, blank = 0, [""] * len(header)
    for position, cells in enumerate(rows) if set(map(len, rows)) != {len(header)} else ():
        missing = len(header) - len(cells)
        if not missing:
            continue
        if cells and not (fills_up is not None and fills_up(cells, header)):
            message = f"{name}, row {number + position + 1}: {amount(len(cells), 'cell')} instead of {len(header)}"
            raise RosterError(
                message, "add or remove a separator, or put quotation marks around a cell that contains one"
            )
        rows[position] = [*cells, *blank[:missing]] if cells else blank
        added += missing
    return added


def _read_quickly(data: bytes, delimiter: str) -> tuple[list[str], pd.DataFrame] | None:
    """The same by pandas, or None if the result might differ; overlong cells are read, too.

    The result is the same if every quotation mark opens or closes a cell or is doubled inside one, and if no row is
    shorter than the header. pandas refuses longer rows, so it is enough that there are as many separators as in full
    rows. They are counted first, so that pandas never fills a huge table with blank cells.

    Args:
        data: UTF-8 without NUL characters, which pandas would skip.
        delimiter: the separator of the cells.
    """
    # Strip blank rows at the end; inside quotation marks, one follows them. Large buffers are freed only at the end:
    # otherwise the C library places later buffers between lasting ones, and the gaps stay allocated.
    content = data.rstrip(b"\r\n")
    parts = content.split(b'"')
    if not content or len(parts) % 2 == 0 or content[:1] in b"\r\n" or content.startswith(codecs.BOM_UTF8):
        return None
    outside = parts[::2]
    unquoted = b"".join(outside)
    lines = unquoted.count(b"\n") + unquoted.count(b"\r") - unquoted.count(b"\r\n") + 1
    separator = delimiter.encode()
    header_end = re.search(rb"[\r\n]|$", unquoted)
    in_header = unquoted.count(separator, 0, header_end.start() if header_end else 0)
    if unquoted.count(separator) != in_header * lines:
        return None
    next_to_quotes = {b"", separator, b"\r", b"\n"}
    starts, ends = {part[:1] for part in outside[1:]}, {part[-1:] for part in outside[:-1]}
    if not starts | ends <= next_to_quotes:
        return None
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            sep=delimiter,
            header=None,
            dtype=object,
            na_filter=False,
            skip_blank_lines=False,
            engine="c",
        )
    except (ValueError, pd.errors.ParserError, UnicodeError):
        return None
    if table.shape != (lines, in_header + 1) or not any(cell.strip() for cell in table.iloc[-1]):
        return None
    header = table.iloc[0].tolist()
    return header, table.iloc[1:].reset_index(drop=True)


def check_lengths(frame: pd.DataFrame, name: str, most: int) -> None:
    """Refuse a cell of more than ``most`` characters.

    Raises:
        RosterError: there is one.
    """
    for position in range(frame.shape[1]):
        cells = frame.iloc[:, position].tolist()
        longest = max(map(len, cells), default=0)
        if longest > most:
            row = HEADER_ROW + 1 + [len(cell) for cell in cells].index(longest)
            raise RosterError(f"{name}, row {row}: a cell with {longest} characters", f"shorten it to {most}")
