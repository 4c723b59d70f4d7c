"""Spreadsheet → a strictly read DataFrame of strings → checked drivers, before any request.

::

    bytes ─ decoding ─► text ─ csv_reader ─► table of strings ─ naming ─► a driver per row ─ checks ─► Roster
          └─ workbook ─ sheet ────────────►       ▲ columns: which identify drivers    ▲ identifiers: cell by cell

No identifier is ever guessed, no row ever padded or shifted.
"""

from .columns import LABELS, Column, Columns, identifier_columns, plain
from .csv_reader import (
    HEADER_ROW,
    check_lengths,
    delimiter_of,
    read_columns,
    split_separator_line,
)
from .decoding import decode, is_workbook
from .driver_names import driver_names
from .duplicates import duplicate, same_drivers
from .identifiers import Problem, named
from .naming import Rows
from .organizations import organization_position, organizations_of
from .reading import read_bytes, read_table, row_numbers
from .roster import Roster
from .xlsx.sheet import MOST_COLUMNS, MOST_ROWS
from .xlsx.workbook import read_workbook

__all__ = [
    "HEADER_ROW",
    "LABELS",
    "MOST_COLUMNS",
    "MOST_ROWS",
    "Column",
    "Columns",
    "Problem",
    "Roster",
    "Rows",
    "check_lengths",
    "decode",
    "delimiter_of",
    "driver_names",
    "duplicate",
    "identifier_columns",
    "is_workbook",
    "named",
    "organization_position",
    "organizations_of",
    "plain",
    "read_bytes",
    "read_columns",
    "read_table",
    "read_workbook",
    "row_numbers",
    "same_drivers",
    "split_separator_line",
]
