"""Cells that no spreadsheet program runs as a formula."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


# Spreadsheet programs run cells that start with = or @, with a tab or CR that they strip, or with a sign before
# anything but a number or a phone number (OWASP, "CSV Injection").
_FORMULA = re.compile(r"'*(?:[=@\t\r\n]|[+-](?!\d[\d\s().,/-]*(?:[eE][+-]?\d+)?%?$))", re.DOTALL)


_FIRST_OF_FORMULAS = frozenset("'=@\t\r\n+-")


def guard_cell(text: str) -> str:
    """A cell with one leading apostrophe if a spreadsheet program would run it as a formula.

    Apostrophes followed by a formula get one more; so `unguard_cell` restores the exact text.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def guard_column(cells: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """The same for many cells; the same array if none changes."""
    if {cell[:1] for cell in cells}.isdisjoint(_FIRST_OF_FORMULAS):
        return cells
    return np.array([guard_cell(cell) for cell in cells], dtype=object)


def unguard_cell(text: str) -> str:
    """The inverse of `guard_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
