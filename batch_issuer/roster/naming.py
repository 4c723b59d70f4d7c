"""The rows of a table → the driver of each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Identifier, IdentifierKind
from .identifiers import UNCHANGED, Problem, named, warning_about

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from .columns import Column, Columns

# A cell of a totals row, alone or after a name: "Total: 12", "North Total", "Gesamt".
_TOTAL = re.compile(
    r"(?:.*\s)?(?:(?:grand|sub|over\s?all)[\s-]*)?"
    r"(?:total(?:s|e|en)?|totaal|totaux|sum|(?:gesamt|zwischen)?summe|insgesamt|gesamt|somme|summa|suma|anzahl|count|"
    r"(?:total |number )(?:of )?drivers)"
    r"\s*[:=]?\s*[\d.,]*",
    re.IGNORECASE,
)
_LONGEST_TOTAL = 60
_SMALL = 6
"""Digits of a count or a sum; driver IDs have more."""

_RULE = re.compile(r"-{2,}|={2,}")


@dataclass(frozen=True, slots=True)
class Reading:
    """A column, read. Rows are counted from 0.

    Attributes:
        texts: for each row the text to send; blank if the cell is blank or has a problem.
        problems: by row, the problem with its cell.
        warnings: by row, the warning about a cell that is sent.
    """

    texts: Sequence[str] = field(repr=False)
    problems: dict[int, Problem]
    warnings: dict[int, str]


def read_column(kind: IdentifierKind, cells: list[str], column: Column) -> Reading:
    """Read all cells of a column."""
    changed = range(len(cells)) if column.only_key else UNCHANGED[kind].others(cells)
    if not changed:
        return Reading(cells, {}, {})
    reading = Reading(texts := list(cells), {}, {})
    for row in changed:
        cell, texts[row] = cells[row], ""
        if not cell.strip():
            continue
        found = named(kind, cell, column.key, only_key=column.only_key)
        if isinstance(found, Problem):
            reading.problems[row] = found
        else:
            texts[row] = found.value
            if warning := warning_about(kind, cell, found.value):
                reading.warnings[row] = warning
    return reading


_TOTALS = Problem("a row of totals, not a driver", Hint.TOTALS)


class Rows:
    """The driver of each row of a table, read from its cells. Rows are counted from 0.

    Attributes:
        readings: by kind of identifier, all columns that identify drivers.
        kinds: for each row the kind of identifier to send: the preferred one with a cell that is not blank, if any.
        problems: by row, why it is not sent.
    """

    def __init__(self, frame: pd.DataFrame, columns: Columns) -> None:
        self.readings = {
            kind: read_column(kind, frame.iloc[:, column.position].tolist(), column)
            for kind, column in columns.known.items()
        }
        self.kinds: list[IdentifierKind | None] = [None] * len(frame)
        for kind in columns.sent:
            if None not in self.kinds:  # nearly all rows have the first kind
                break
            reading = self.readings[kind]
            named = zip(self.kinds, reading.texts, strict=True)
            self.kinds = [before or (kind if text else None) for before, text in named]
            for row in reading.problems:
                self.kinds[row] = self.kinds[row] or kind
        self.problems = _repeated_headers(frame, columns) | dict.fromkeys(self._totals(frame), _TOTALS)
        for kind in columns.sent:
            for row, problem in self.readings[kind].problems.items():
                if self.kinds[row] is kind:
                    self.problems.setdefault(row, problem)
        for row in [row for row, kind in enumerate(self.kinds) if kind is None]:
            self.problems.setdefault(row, Problem("no identifier in the row", Hint.NO_IDENTIFIER))

    def __len__(self) -> int:
        return len(self.kinds)

    def _totals(self, frame: pd.DataFrame) -> Iterator[int]:
        """Totals rows: one of the cells is a word for totals, and the identifier is not a driver's.

        Such an identifier is a driver ID of few digits; in the last row also a blank, or a word for totals.
        """
        ids = self.readings.get(IdentifierKind.DRIVER_ID)
        for row in [row for row, text in enumerate(ids.texts) if 0 < len(text) <= _SMALL] if ids else []:
            if self.kinds[row] is IdentifierKind.DRIVER_ID and any(map(_is_total, frame.iloc[row])):
                yield row
        if len(frame) > 1:
            above, last = ([cell.strip() for cell in frame.iloc[row] if cell.strip()] for row in (-2, -1))
            kind = self.kinds[-1]
            text = self.readings[kind].texts[-1] if kind else ""
            is_count = last == [str(len(frame) - 1)] and len(above) > 1
            if is_count or ((not text or _is_total(text)) and any(map(_is_total, last))):
                yield len(frame) - 1

    def identifier(self, row: int) -> Identifier:
        """The driver of a row without a problem."""
        kind = self.kinds[row]
        if kind is None:
            raise ValueError(f"row {row} has no identifier")
        return Identifier(kind, self.readings[kind].texts[row])

    def driver_of(self, row: int) -> Identifier | Problem:
        """The driver of a row, or why it has none."""
        return self.problems.get(row) or self.identifier(row)

    def drivers(self) -> Iterator[Identifier | Problem]:
        """The driver of each row, or why it has none."""
        return map(self.driver_of, range(len(self)))

    def named(self, row: int) -> dict[IdentifierKind, Identifier | Problem]:
        """The driver or problem of each cell of a row that is not blank, by kind."""
        found: dict[IdentifierKind, Identifier | Problem] = {}
        for kind, reading in self.readings.items():
            if problem := reading.problems.get(row):
                found[kind] = problem
            elif value := reading.texts[row]:
                found[kind] = Identifier(kind, value)
        return found

    def warnings(self) -> Iterator[tuple[int, str]]:
        """Rows and the warnings about the identifiers that are sent for them."""
        for kind, reading in self.readings.items():
            yield from ((row, warning) for row, warning in reading.warnings.items() if self.kinds[row] is kind)


def _repeated_headers(frame: pd.DataFrame, columns: Columns) -> dict[int, Problem]:
    """Rows, counted from 0, that repeat the header or underline it."""
    found: dict[int, Problem] = {}
    header = [str(column).strip() for column in frame.columns]
    for column in list(columns.known.values())[:1]:
        cells = frame.iloc[:, column.position].tolist()
        for row in [row for row, cell in enumerate(cells) if cell == column.name]:
            if [cell.strip() for cell in frame.iloc[row]] == header:
                found[row] = Problem("the header again, not a driver", Hint.REPEATED_HEADER)
    first = [cell.strip() for cell in frame.iloc[0]] if len(frame) else []
    if any(first) and all(not cell or _RULE.fullmatch(cell) for cell in first):
        found[0] = Problem("a line under the header, not a driver", Hint.REPEATED_HEADER)
    return found


def _is_total(cell: str) -> bool:
    return len(cell) < _LONGEST_TOTAL and bool(_TOTAL.fullmatch(cell.strip()))
