"""The text of a CSV file → rows of strings, strictly: every row has exactly as many cells as the header.

pandas alone pads short rows, and where every row has one cell too many it shifts all columns by one: an ID column then
holds somebody else's IDs. So Python's csv module defines what a file says. pandas reads it faster, and leaves the texts
of a column side by side in memory, which all that is done to a column gains by; so it does so where it can be proved
beforehand that both come to the same.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HEADER_ROW = 1
"""The header's row number, as a spreadsheet shows it; the first driver is on the next."""

ROWS_AT_ONCE = 10_000
"""Rows that are read together."""

DELIMITERS = ",;\t|"

MOST_PADDING = 10**7
"""Blank cells that a file may have without spelling them out: a short file must not make a huge table."""


def split_separator_line(text: str) -> tuple[str | None, str]:
    """The separator that a first line such as ``sep=;`` names, None without one, and the text after it.

    No spreadsheet program that knows the line counts it as a row.
    """
    found = re.match(r'"?sep=([^"\r\n\w])"?(?:\r\n|\r|\n|$)', text, re.IGNORECASE)
    return (found[1], text[found.end() :]) if found else (None, text)


def delimiter_of(text: str, fits: Callable[[Sequence[str]], bool], name: str) -> str:
    """What separates the cells: comma, semicolon, tab or pipe.

    The one that makes the header one that fits; where several do, the one that makes most cells of it.

    Args:
        text: the file's, without separator line.
        fits: whether a header has the columns that are looked for.
        name: how messages call the file.

    Raises:
        RosterError: two separators do equally well.
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
    """What to say of a file that holds nothing."""
    return RosterError(f"{name} is empty", "it needs a header row and a row for each driver")


def too_many_blanks(name: str) -> RosterError:
    """What to say of a file with more than `MOST_PADDING`."""
    return RosterError(f"{name} has too many blank rows and cells", "delete the blank rows and columns, and save again")


def read_columns(
    text: str, delimiter: str, name: str, fills_up: Callable[[list[str], list[str]], bool] | None = None
) -> tuple[list[str], pd.DataFrame]:
    """The header of a CSV text and, by position, its columns of strings, without blank rows at the end.

    Args:
        text: the file's, without separator line.
        delimiter: what separates the cells.
        name: how messages call the file.
        fills_up: whether a row (the first argument) that is not as wide as the header (the second) only lost blank
            cells at its end; it may raise an error of its own.

    Raises:
        RosterError: it is not valid CSV, has no header, a row with more or fewer cells than that, or too many blanks.
    """
    with suppress(UnicodeEncodeError):
        if quick := _read_quickly(text.encode(), delimiter):
            return quick
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    parts: list[pd.DataFrame] = []
    blank: list[list[str]] = []  # until something follows
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
    """The next rows, none at the end; ``number`` were read before.

    Raises:
        RosterError: it is not valid CSV.
    """
    rows: list[list[str]] = []
    try:
        rows.extend(islice(reader, ROWS_AT_ONCE))
    except csv.Error as error:
        raise RosterError(
            f"{name}, row {number + len(rows) + 1}: not valid CSV ({error})",
            "look for a quotation mark that is opened and never closed, or save the file again as CSV UTF-8",
        ) from None
    return rows


def _fill_up(
    rows: list[list[str]],
    header: list[str],
    number: int,
    name: str,
    fills_up: Callable[[list[str], list[str]], bool] | None,
) -> int:
    """Make all rows as wide as the header; returns how many cells were added.

    Raises:
        RosterError: one has more or fewer cells.
    """
    added, blank = 0, [""] * len(header)
    for position, cells in enumerate(rows) if set(map(len, rows)) != {len(header)} else ():
        lacking = len(header) - len(cells)
        if not lacking:
            continue
        if cells and not (fills_up is not None and fills_up(cells, header)):
            said = f"{name}, row {number + position + 1}: {len(cells)} cells, but the header has {len(header)}"
            hint = "look for a missing or extra separator, or for a cell with a separator and no quotation marks"
            raise RosterError(said, hint)
        rows[position] = [*cells, *blank[:lacking]] if cells else blank
        added += lacking
    return added


def _read_quickly(data: bytes, delimiter: str) -> tuple[list[str], pd.DataFrame] | None:
    """The same of UTF-8 by pandas, None where it is not certain to be the same; endless cells are read, too.

    It is, if every quotation mark opens or closes a cell or is doubled within one, and if no row is shorter than the
    header: pandas itself refuses longer ones, so there must be as many separators as that many full rows have. That is
    seen beforehand, so that it never fills a huge table with blanks.

    Args:
        data: without NUL characters, which pandas would pass over.
        delimiter: what separates the cells.
    """
    # Blank rows at the end; within quotation marks there is one after them. What is large is let go only in the end:
    # else the C library keeps later buffers among what lasts, and the room they leave stays taken.
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
    beside = {b"", separator, b"\r", b"\n"}
    if not {part[:1] for part in outside[1:]} <= beside or not {part[-1:] for part in outside[:-1]} <= beside:
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
        RosterError: there is one; says where.
    """
    for position in range(frame.shape[1]):
        cells = frame.iloc[:, position].tolist()
        longest = max(map(len, cells), default=0)
        if longest > most:
            row = HEADER_ROW + 1 + [len(cell) for cell in cells].index(longest)
            raise RosterError(f"{name}, row {row}: a cell with {longest} characters", "shorten it")
