"""The table as it is published: in the order of the rows; as CSV, safe for spreadsheet programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd

from .columns import AUTH_COLUMNS, EXACT_COLUMNS, auth_frame, guard_cell
from .files import BOM, LINE_END

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..model import Outcome
    from .batch import Batch


def composed(batch: Batch, outcomes: Mapping[int, Outcome]) -> pd.DataFrame:
    """The table as it is published, every cell a string."""
    auth = auth_frame(batch.whose(), batch.row_numbers(), outcomes, batch.auth_cells)
    cells = batch.cells.set_axis(range(batch.cells.shape[1]), axis=1)
    auth = auth.set_axis(range(cells.shape[1], cells.shape[1] + len(AUTH_COLUMNS)), axis=1)
    return pd.concat([cells, auth], axis=1)[batch.order].set_axis(batch.header, axis=1)


def guarded_table(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """A table that no spreadsheet program runs, and how many cells of its own columns were changed for that."""
    header = [guard_cell(column) for column in table.columns]
    changed = sum(name != column for name, column in zip(header, table.columns, strict=True))
    columns: dict[int, list[str]] = {}
    for position, column in enumerate(table.columns):
        cells = table.iloc[:, position].tolist()
        columns[position] = cells if column in EXACT_COLUMNS else [guard_cell(cell) for cell in cells]
        if column not in AUTH_COLUMNS:
            changed += sum(guarded != cell for guarded, cell in zip(columns[position], cells, strict=True))
    return pd.DataFrame(columns, dtype=object).set_axis(header, axis=1), changed


def write_csv(descriptor: int, table: pd.DataFrame, delimiter: str) -> int:
    """Fill a file; returns how many cells got an apostrophe."""
    table, changed = guarded_table(table)
    with open(descriptor, "w", encoding="utf-8", newline="", closefd=False) as file:
        file.write(BOM)
        table.to_csv(file, sep=delimiter, index=False, lineterminator=LINE_END)
    return changed


def finish(descriptor: int) -> None:
    """Flush a file to the disk; room that is not needed is given back."""
    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
    os.fsync(descriptor)
