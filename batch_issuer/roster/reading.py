"""A file → a table of strings: all cells as they are, no type guessed, no value read as missing."""

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
"""Row numbers listed in a note."""


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        RosterError: it is missing, unreadable or too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise RosterError(f"no file {path.name} in {path.parent.resolve()}", "check the name and the folder") from None
    except IsADirectoryError:
        raise RosterError(f"{path} is a folder", "pass the path of the file") from None
    except OSError as error:
        raise RosterError(f"cannot read {path}: {error.strerror}", "check its permissions") from None
    if len(data) > MOST_BYTES:
        raise too_big(path.name)
    return data


def read_table(data: bytes, name: str, options: RosterOptions | None = None) -> tuple[pd.DataFrame, list[str]]:
    """A CSV file or an Excel workbook, gzipped or not, as strings, and notes about it.

    CSV: UTF-8, UTF-16 or UTF-32 with byte order mark, or the encoding in the options; separated by comma, semicolon,
    tab or pipe, or as a first line ``sep=…`` specifies; any line ending; quotes as in RFC 4180. Blank lines stay blank
    rows, except at the end, so that row numbers match the spreadsheet.

    Args:
        data: the file's bytes.
        name: of the file, for messages.
        options: encoding and sheet; the columns that identify drivers help to find the separator and the sheet.

    Raises:
        RosterError: it cannot be read completely and unambiguously.
        SettingsError: an unknown encoding, or a sheet of a CSV file.
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
            notes.append(f"Only sheet {found.name!r} is read, not {', '.join(map(repr, found.others))}.")
        if found.hidden:
            notes.append(f"Hidden rows are included: {_numbers(found.hidden)}.")
    else:
        if options.sheet is not None:
            raise SettingsError(f"{name} is not a workbook, so it has no sheet {options.sheet!r}", "remove --sheet")
        separator, text = split_separator_line(decode(data, name, options.encoding))
        if options.encoding and is_utf8(data) and text != data.decode("utf-8-sig"):
            notes.append(f"The file may be UTF-8; if names look wrong, remove --encoding {options.encoding}.")
        header, frame = read_columns(text, separator or delimiter_of(text, fits, name), name)
    # The csv module must be able to read a cell back with one more apostrophe.
    check_lengths(frame, name, csv.field_size_limit() - 1)
    return frame.set_axis(pd.Index(header, dtype=object), axis=1), notes


def _numbers(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - MOST_NUMBERS_SHOWN} more" if len(rows) > MOST_NUMBERS_SHOWN else ""
    return ", ".join(map(str, rows[:MOST_NUMBERS_SHOWN])) + more


def row_numbers(frame: pd.DataFrame) -> range:
    """The rows' numbers as a spreadsheet shows them."""
    return range(HEADER_ROW + 1, HEADER_ROW + 1 + len(frame))
