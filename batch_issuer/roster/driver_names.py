"""The column with the drivers' names, for people to recognize a row by. It never decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model import shortened
from .columns import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

NAME_COLUMNS = ("drivername", "fullname", "name", "driver", "employeename", "employee", "displayname")
"""Names of such a column as `plain` gives them, the most telling first."""

FIRST_AND_LAST = (("firstname", "lastname"), ("givenname", "surname"), ("givenname", "familyname"))

LONGEST_NAME = 40


def driver_names(cells: pd.DataFrame) -> Sequence[str] | None:
    """For each row the driver's name as a person reads it, blank where the cell is; None without such a column."""
    header = [plain(str(title)) for title in cells.columns]
    wanted = [(name,) for name in NAME_COLUMNS] + list(FIRST_AND_LAST)
    for names in wanted:
        if all(header.count(name) == 1 for name in names):
            columns = [cells.iloc[:, header.index(name)] for name in names]
            return [_readable(" ".join(parts)) for parts in zip(*columns, strict=True)]
    return None


def _readable(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return shortened(" ".join("".join(char if char.isprintable() else " " for char in text).split()), LONGEST_NAME)
