"""The published table as CSV, safe for spreadsheet programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd

from .auth_columns import AUTH_COLUMNS, EXACT_COLUMNS
from .formulas import guard_cell, guard_column
from .private_files import BOM, LINE_END

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


ROWS_AT_ONCE = 10_000
"""Rows that are composed and written together: the whole table is never in memory."""


def delimiter_of_name(path: Path) -> str:
    """The separator of a new file, by its name: a tab for ``.tsv``, else a comma."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


def slices(length: int) -> Iterator[slice]:
    """All rows in slices of `ROWS_AT_ONCE`; one empty slice if there are no rows."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, length or 1, ROWS_AT_ONCE))


class GuardedCells:
    """The cells of each row, guarded so that no spreadsheet program runs them; only changed columns are copied."""

    def __init__(self, cells: pd.DataFrame) -> None:
        columns = [cells.iloc[:, position].to_numpy() for position in range(cells.shape[1])]
        self._columns = [guard_column(column) for column in columns]

    def __getitem__(self, row: int) -> list[str]:
        return [column[row] for column in self._columns]


def guarded_table(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """A table that no spreadsheet program runs, and the number of roster cells changed for that."""
    changed = 0
    columns = {}
    for position, column in enumerate(table.columns):
        cells = table.iloc[:, position].to_numpy()
        columns[position] = cells if column in EXACT_COLUMNS else guard_column(cells)
        if column not in AUTH_COLUMNS and columns[position] is not cells:
            changed += sum(guarded != cell for guarded, cell in zip(columns[position], cells, strict=True))
    header = [guard_cell(column) for column in table.columns]
    return pd.DataFrame(columns, dtype=object).set_axis(header, axis=1), changed


def write_csv(descriptor: int, tables: Iterable[pd.DataFrame], delimiter: str) -> int:
    """Fill a file with the slices of a table; returns the number of cells that got an apostrophe."""
    changed = 0
    with open(descriptor, "w", encoding="utf-8", newline="", closefd=False) as file:
        file.write(BOM)
        for number, table in enumerate(tables):
            guarded, cells = guarded_table(table)
            changed += cells
            if number == 0:
                changed += sum(name != column for name, column in zip(guarded.columns, table.columns, strict=True))
            guarded.to_csv(file, sep=delimiter, index=False, header=number == 0, lineterminator=LINE_END)
    return changed


def finish(descriptor: int) -> None:
    """Flush a file to the disk and free the space that it does not need."""
    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
    os.fsync(descriptor)
