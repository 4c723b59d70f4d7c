"""The rows of a table → whom each names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Identifier, IdentifierKind
from .identifiers import AS_THEY_STAND, Problem, named, remark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from .columns import Column, Columns

# What stands in a row that adds up others, alone or after a name: "Total: 12", "North Total", "Gesamt".
_TOTAL = re.compile(
    r"(?:.*\s)?(?:(?:grand|sub|over\s?all)[\s-]*)?"
    r"(?:total(?:s|e|en)?|totaal|totaux|sum|(?:gesamt|zwischen)?summe|insgesamt|gesamt|somme|summa|suma|anzahl|count|"
    r"(?:total |number )(?:of )?drivers)"
    r"\s*[:=]?\s*[\d.,]*",
    re.IGNORECASE,
)
_LONGEST_TOTAL = 60
_SMALL = 6
"""Digits of a number that counts or adds up; driver IDs have more."""

_RULE = re.compile(r"-{2,}|={2,}")


@dataclass(frozen=True, slots=True)
class Reading:
    """A column, read.

    Attributes:
        texts: for each row what would be sent; blank where the cell is, or cannot be.
        problems: by row, counted from 0, why a cell names no driver.
        remarks: by row, what a person should know of a cell that does.
    """

    texts: Sequence[str] = field(repr=False)
    problems: dict[int, Problem]
    remarks: dict[int, str]


def read_column(kind: IdentifierKind, cells: list[str], column: Column) -> Reading:
    """All cells of a column."""
    second_look = range(len(cells)) if column.only_key else AS_THEY_STAND[kind].others(cells)
    if not second_look:
        return Reading(cells, {}, {})
    reading = Reading(texts := list(cells), {}, {})
    for row in second_look:
        cell, texts[row] = cells[row], ""
        if not cell.strip():
            continue
        found = named(kind, cell, column.key, only_key=column.only_key)
        if isinstance(found, Problem):
            reading.problems[row] = found
        else:
            texts[row] = found.value
            if said := remark(kind, cell, found.value):
                reading.remarks[row] = said
    return reading


_ADDS_UP = Problem("this row adds up others, it is no driver", Hint.TOTALS)


class Rows:
    """Whom each row of a table names, read afresh from its cells. Rows are counted from 0.

    Attributes:
        readings: by kind of identifier, of all columns that name drivers.
        kinds: for each row, by which kind it goes: the preferred one of those whose cells are not blank, if any.
        problems: by row, why it is none to send.
    """

    def __init__(self, frame: pd.DataFrame, columns: Columns) -> None:
        self.readings = {
            kind: read_column(kind, frame.iloc[:, column.position].tolist(), column)
            for kind, column in columns.known.items()
        }
        self.kinds: list[IdentifierKind | None] = [None] * len(frame)
        for kind in columns.sent:
            if None not in self.kinds:  # nearly all rows go by the first kind
                break
            reading = self.readings[kind]
            named = zip(self.kinds, reading.texts, strict=True)
            self.kinds = [before or (kind if text else None) for before, text in named]
            for row in reading.problems:
                self.kinds[row] = self.kinds[row] or kind
        self.problems = _no_drivers(frame, columns) | dict.fromkeys(self._totals(frame), _ADDS_UP)
        for kind in columns.sent:
            for row, problem in self.readings[kind].problems.items():
                if self.kinds[row] is kind:
                    self.problems.setdefault(row, problem)
        for row in [row for row, kind in enumerate(self.kinds) if kind is None]:
            self.problems.setdefault(row, Problem("no identifier in this row", Hint.NO_IDENTIFIER))

    def __len__(self) -> int:
        return len(self.kinds)

    def _totals(self, frame: pd.DataFrame) -> Iterator[int]:
        """Rows that add up others: a cell says so, and what stands for an identifier is no driver's.

        That is a driver ID of few digits; in the last row also a blank, or a word for totals.
        """
        ids = self.readings.get(IdentifierKind.DRIVER_ID)
        for row in [row for row, text in enumerate(ids.texts) if 0 < len(text) <= _SMALL] if ids else []:
            if self.kinds[row] is IdentifierKind.DRIVER_ID and any(map(_says_total, frame.iloc[row])):
                yield row
        if len(frame) > 1:
            above, last = ([cell.strip() for cell in frame.iloc[row] if cell.strip()] for row in (-2, -1))
            kind = self.kinds[-1]
            text = self.readings[kind].texts[-1] if kind else ""
            is_count = last == [str(len(frame) - 1)] and len(above) > 1
            if is_count or ((not text or _says_total(text)) and any(map(_says_total, last))):
                yield len(frame) - 1

    def identifier(self, row: int) -> Identifier:
        """The driver of a row without a problem."""
        kind = self.kinds[row]
        if kind is None:
            raise ValueError(f"row {row} names no driver")
        return Identifier(kind, self.readings[kind].texts[row])

    def whom(self, row: int) -> Identifier | Problem:
        """The driver that a row goes by, or why none."""
        return self.problems.get(row) or self.identifier(row)

    def who(self) -> Iterator[Identifier | Problem]:
        """The same of each row."""
        return map(self.whom, range(len(self)))

    def named(self, row: int) -> dict[IdentifierKind, Identifier | Problem]:
        """What each cell of a row says that is not blank, by kind."""
        found: dict[IdentifierKind, Identifier | Problem] = {}
        for kind, reading in self.readings.items():
            if problem := reading.problems.get(row):
                found[kind] = problem
            elif value := reading.texts[row]:
                found[kind] = Identifier(kind, value)
        return found

    def remarks(self) -> Iterator[tuple[int, str]]:
        """What a person should know of the identifiers that rows go by."""
        for kind, reading in self.readings.items():
            yield from ((row, said) for row, said in reading.remarks.items() if self.kinds[row] is kind)


def _no_drivers(frame: pd.DataFrame, columns: Columns) -> dict[int, Problem]:
    """Rows, counted from 0, that are no driver's whatever their cells say: repeated headers."""
    found: dict[int, Problem] = {}
    header = [str(column).strip() for column in frame.columns]
    for column in list(columns.known.values())[:1]:
        cells = frame.iloc[:, column.position].tolist()
        for row in [row for row, cell in enumerate(cells) if cell == column.name]:
            if [cell.strip() for cell in frame.iloc[row]] == header:
                found[row] = Problem("this is the header once more", Hint.REPEATED_HEADER)
    first = [cell.strip() for cell in frame.iloc[0]] if len(frame) else []
    if any(first) and all(not cell or _RULE.fullmatch(cell) for cell in first):
        found[0] = Problem("this is a line under the header", Hint.REPEATED_HEADER)
    return found


def _says_total(cell: str) -> bool:
    return len(cell) < _LONGEST_TOTAL and bool(_TOTAL.fullmatch(cell.strip()))
