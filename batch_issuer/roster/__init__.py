"""Spreadsheet → a pandas DataFrame of strings, strictly read, and checked drivers, before any request.

::

    bytes ─ decoding ─► text ─ delimited ─► table of strings ─ rows ─► whom each row names ─ checked ─► Roster
          └─ workbook ─ sheet ────────────►          ▲ columns: which is which, ▲ identifiers: cell by cell

Never is an identifier guessed, never a row padded or shifted.
"""

from .collecting import collecting_later
from .columns import LABELS, Column, Columns, identifier_columns, plain
from .csv_reader import (
    HEADER_ROW,
    check_width,
    delimiter_of,
    has_short_lines,
    longest_cell,
    read_quickly,
    read_rows,
    split_separator_line,
)
from .decoding import decode, is_workbook, plain_utf8
from .duplicates import duplicate, same_drivers
from .forms import Form
from .identifiers import Problem, named
from .naming import Rows
from .organizations import organization_position, organizations_of
from .reading import read_bytes, read_table
from .roster import Roster
from .xlsx.workbook import read_workbook

__all__ = [
    "HEADER_ROW",
    "LABELS",
    "Column",
    "Columns",
    "Form",
    "Problem",
    "Roster",
    "Rows",
    "check_width",
    "collecting_later",
    "decode",
    "delimiter_of",
    "duplicate",
    "has_short_lines",
    "identifier_columns",
    "is_workbook",
    "longest_cell",
    "named",
    "organization_position",
    "organizations_of",
    "plain",
    "plain_utf8",
    "read_bytes",
    "read_quickly",
    "read_rows",
    "read_table",
    "read_workbook",
    "same_drivers",
    "split_separator_line",
]
