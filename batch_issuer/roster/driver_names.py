"""The column with the drivers' names, for people to recognize a row by. It never decides anything."""

from __future__ import annotations

import re
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

SHORTEST_CODE, LONGEST_WORD = 12, 20
"""Characters of a code, by a rule of the API, and of a word that is taken for part of a name."""


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
    """On one line, without control characters; blank where a token or code may have moved here."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return "" if any(map(_may_be_secret, words)) else shortened(" ".join(words), LONGEST_NAME)


def _may_be_secret(word: str) -> bool:
    """Whether a word is as long as a token or code and not plainly a name, such as Lüdenscheidt-O'Connor."""
    return len(word) > LONGEST_WORD or (len(word) >= SHORTEST_CODE and not re.sub(r"[-'\u2019.]", "", word).isalpha())
