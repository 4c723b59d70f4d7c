"""Cells that no spreadsheet program runs as a formula."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


# What a spreadsheet program runs: = and @, a leading tab or CR that it strips, and a sign before anything that is
# neither a number nor a phone number (OWASP, "CSV Injection").
_FORMULA = re.compile(r"'*(?:[=@\t\r\n]|[+-](?!\d[\d\s().,/-]*(?:[eE][+-]?\d+)?%?$))", re.DOTALL)


_FIRST_OF_FORMULAS = frozenset("'=@\t\r\n+-")


def guard_cell(text: str) -> str:
    """A cell that no spreadsheet program runs as a formula: such a cell gets one leading apostrophe.

    So does one that is apostrophes and then a formula; therefore `unguard_cell` gives back exactly what was there.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def guard_column(cells: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """The same of many cells; just these, if none is changed."""
    if {cell[:1] for cell in cells}.isdisjoint(_FIRST_OF_FORMULAS):
        return cells
    return np.array([guard_cell(cell) for cell in cells], dtype=object)


def unguard_cell(text: str) -> str:
    """What `guard_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
