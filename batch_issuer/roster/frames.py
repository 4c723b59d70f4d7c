"""A pandas DataFrame → a table of strings."""

from __future__ import annotations

import csv
import re

import pandas as pd

from ..errors import RosterError
from .csv_reader import HEADER_ROW


def as_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The same columns, every cell a string.

    Missing values become blank cells. Whole floats that are exact become integers, because pandas turns a column of
    integers with a gap into floats; larger floats are written so that the loss of digits is visible.

    Raises:
        RosterError: a cell cannot be written to a CSV file.
    """
    cells = {position: _texts(frame.iloc[:, position]) for position in range(frame.shape[1])}
    for column, texts in zip(frame.columns, cells.values(), strict=True):
        for row, text in enumerate((str(column), *texts), HEADER_ROW):
            if not _fits_csv(text):
                raise RosterError(
                    f"the DataFrame, row {row}, column {str(column)[:40]!a}: the cell does not fit a CSV file",
                    f"remove NUL characters and lone surrogates; shorten it to {csv.field_size_limit() - 1} characters",
                )
    return pd.DataFrame(cells, dtype=object).set_axis(frame.columns, axis=1)


def _fits_csv(text: str) -> bool:
    """Whether a results file with this cell can be written and read back."""
    return "\0" not in text and len(text) < csv.field_size_limit() and not re.search("[\ud800-\udfff]", text)


def _texts(column: pd.Series) -> list[str]:
    """A column's cells as strings; whole floats as integers, as far as floats of this size are exact."""
    significant_bits = {2: 11, 4: 24}.get(getattr(column.dtype, "itemsize", 8), 53) if column.dtype.kind == "f" else 53
    exact = 2.0**significant_bits
    return [_text(cell, exact) for cell in column]


def _text(cell: object, exact: float) -> str:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return ""
    if isinstance(cell, float):
        if cell != cell:  # noqa: PLR0124 - not a number: pandas' missing value
            return ""
        if cell.is_integer():
            return str(int(cell)) if abs(cell) < exact else f"{cell:E}"
    return str(cell)
