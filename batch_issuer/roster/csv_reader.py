"""The text of a CSV file → rows of strings, strictly: every row has exactly as many cells as the header.

pandas alone pads short rows, and where every row has one cell too many it shifts all columns by one: an ID column then
holds somebody else's IDs. So Python's csv module defines what a file says. pandas reads it several times faster, and
does so where it can be proved beforehand that both come to the same.
"""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import RosterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HEADER_ROW = 1
"""The header's row number, as a spreadsheet shows it; the first driver is on the next."""

DELIMITERS = ",;\t|"

MOST_PADDING = 10**7
"""Blank cells that a file may have without spelling them out: a short file must not make a huge table."""

_TIP_OF_WIDTH = "look for a missing or extra separator, or for a cell with a separator and no quotation marks"


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


def read_rows(text: str, delimiter: str, name: str) -> Iterator[list[str]]:
    """The rows of a CSV text, the header first; blank ones as wide as the header, none at the very end.

    Raises:
        RosterError: it is not valid CSV, or has no header.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    blank: list[list[str]] = []  # until something follows
    number = HEADER_ROW - 1
    try:
        for cells in rows:
            number += 1
            header = cells if header is None else header
            blank.append(cells or [""] * len(header))
            if len(blank) * len(header) > MOST_PADDING:
                raise too_many_blanks(name)
            if any(cell.strip() for cell in cells):
                if not header:
                    raise RosterError(f"{name}: the first row is blank", "the first row must be the header")
                yield from blank
                blank.clear()
    except csv.Error as error:
        raise RosterError(
            f"{name}, row {number + 1}: not valid CSV ({error})",
            "look for a quotation mark that is opened and never closed, or save the file again as CSV UTF-8",
        ) from None
    if len(blank) == number:
        raise empty(name)


def empty(name: str) -> RosterError:
    """What to say of a file that holds nothing."""
    return RosterError(f"{name} is empty", "it needs a header row and a row for each driver")


def too_many_blanks(name: str) -> RosterError:
    """What to say of a file with more than `MOST_PADDING`."""
    return RosterError(f"{name} has too many blank rows and cells", "delete the blank rows and columns, and save again")


def check_width(cells: Sequence[str], header: Sequence[str], row: int, name: str) -> None:
    """Refuse a row with more or fewer cells than the header.

    Raises:
        RosterError: it has.
    """
    if len(cells) != len(header):
        raise RosterError(f"{name}, row {row}: {len(cells)} cells, but the header has {len(header)}", _TIP_OF_WIDTH)


def read_columns(text: str, delimiter: str, name: str) -> tuple[list[str], pd.DataFrame]:
    """The header of a CSV text and, by position, its columns of strings.

    Raises:
        RosterError: it is not valid CSV, has no header, a row with more or fewer cells than that, or an endless cell.
    """
    with suppress(UnicodeEncodeError):
        if (quick := read_quickly(text.encode(), delimiter)) is not None:
            return quick
    header, *body = read_rows(text, delimiter, name)
    for number, cells in enumerate(body, HEADER_ROW + 1):
        check_width(cells, header, number, name)
    return header, pd.DataFrame(body, columns=range(len(header)), dtype=object)


def check_lengths(frame: pd.DataFrame, name: str) -> None:
    """Refuse a cell that no CSV file could hold with an apostrophe more, since the csv module does not read it back.

    Raises:
        RosterError: there is one; says where.
    """
    for position in range(frame.shape[1]):
        cells = frame.iloc[:, position].tolist()
        longest = max(map(len, cells), default=0)
        if longest >= csv.field_size_limit():
            row = HEADER_ROW + 1 + [len(cell) for cell in cells].index(longest)
            raise RosterError(f"{name}, row {row}: a cell with {longest} characters", "shorten it")


def has_short_lines(data: bytes) -> bool:
    """Whether it is seen at a glance that no cell is longer than the csv module reads."""
    part = csv.field_size_limit() // 2 or 1  # such a cell would fill one of these parts at least
    parts = range(0, len(data) - part + 1, part)
    return b'"' not in data and all(data.find(b"\n", start, start + part) >= 0 for start in parts)


def longest_cell(frame: pd.DataFrame) -> int:
    """Its characters."""
    return max((max(map(len, frame[column].tolist()), default=0) for column in frame), default=0)


def read_quickly(data: bytes, delimiter: str) -> tuple[list[str], pd.DataFrame] | None:
    """The same of UTF-8 by pandas, None where it is not certain to be the same; of endless cells nothing is said.

    It is, if every quotation mark opens or closes a cell or is doubled within one, and if no row is shorter than the
    header: pandas itself refuses longer ones, so there must be as many separators as that many full rows have. That is
    seen beforehand, so that it never fills a huge table with blanks.

    Args:
        data: without byte order mark and NUL characters, which pandas would pass over.
        delimiter: what separates the cells.
    """
    # Blank rows at the end; within quotation marks there is one after them. What is large is let go only in the end:
    # else the C library keeps later buffers among what lasts, and the room they leave stays taken.
    content = data.rstrip(b"\r\n")
    parts = content.split(b'"')
    if not content or len(parts) % 2 == 0 or content[:1] in b"\r\n":
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
