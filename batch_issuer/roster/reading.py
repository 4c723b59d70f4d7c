"""A file → a table of strings: all cells as they are, no type guessed, no value taken for a missing one."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import RosterError, SettingsError
from ..settings.roster_options import RosterOptions
from .columns import names_drivers
from .csv_reader import HEADER_ROW, check_lengths, delimiter_of, read_columns, split_separator_line
from .decoding import MOST_BYTES, decode, is_utf8, is_workbook, too_big, unpacked
from .xlsx.workbook import read_workbook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_NUMBERS_SHOWN = 10
"""Row numbers that a note lists."""


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        RosterError: it is not there, cannot be read, or is larger than a roster can be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise RosterError(f"there is no file {path.name} in {path.parent.resolve()}", "check name and folder") from None
    except IsADirectoryError:
        raise RosterError(f"{path} is a folder", "name the file itself") from None
    except OSError as error:
        raise RosterError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
    if len(data) > MOST_BYTES:
        raise too_big(path.name)
    return data


def read_table(data: bytes, name: str, options: RosterOptions | None = None) -> tuple[pd.DataFrame, list[str]]:
    """A CSV file or an Excel workbook, gzipped or not, as strings, and what a person should know about it.

    CSV: UTF-8, UTF-16 and UTF-32 with byte order mark, or another encoding that is named; comma, semicolon, tab or
    pipe, or what a first line ``sep=…`` says; any line ending; quotes as in RFC 4180. Blank lines are kept as blank
    rows, so that row numbers stay those of the spreadsheet, except at the very end.

    Args:
        data: the file's bytes.
        name: how messages call the file.
        options: what a person says about it; by which columns drivers are looked up tells the separator and the sheet.

    Raises:
        RosterError: it cannot be read whole and unambiguously; says in which row and what to do.
        SettingsError: there is no such encoding, or a CSV file has no sheets.
    """
    options = options or RosterOptions()

    def fits(header: Sequence[str]) -> bool:
        return names_drivers(header, options)

    data = unpacked(data, name)
    notes: list[str] = []
    if is_workbook(data):
        found = read_workbook(data, name, fits, options.sheet)
        header, *body = found.rows
        frame = pd.DataFrame(body, columns=range(len(header)), dtype=object)
        if found.others:
            notes.append(f"Sheet {found.name!r} is read; not {', '.join(map(repr, found.others))}.")
        if found.hidden:
            notes.append(f"Hidden rows are read like all others: {_numbers(found.hidden)}.")
    else:
        if options.sheet is not None:
            raise SettingsError(f"{name} is no workbook, so it has no sheet {options.sheet!r}", "leave out --sheet")
        separator, text = split_separator_line(decode(data, name, options.encoding))
        if options.encoding and is_utf8(data) and text != data.decode("utf-8-sig"):
            notes.append(f"The file may be UTF-8: if names look odd, leave out --encoding {options.encoding}.")
        header, frame = read_columns(text, separator or delimiter_of(text, fits, name), name)
    # With an apostrophe more, the csv module must still read it back.
    check_lengths(frame, name, csv.field_size_limit() - 1)
    return frame.set_axis(pd.Index(header, dtype=object), axis=1), notes


def _numbers(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - MOST_NUMBERS_SHOWN} more" if len(rows) > MOST_NUMBERS_SHOWN else ""
    return ", ".join(map(str, rows[:MOST_NUMBERS_SHOWN])) + more


def row_numbers(frame: pd.DataFrame) -> range:
    """The rows' numbers as a spreadsheet shows them."""
    return range(HEADER_ROW + 1, HEADER_ROW + 1 + len(frame))
