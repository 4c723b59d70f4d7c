"""The rows of a table → whom each names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Identifier, IdentifierKind
from .identifiers import PLAIN, Problem, named, remark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from .columns import Column, Columns

# What stands in a row that adds up the others.
_TOTALS = re.compile(
    r"(?:(?:grand|sub|over\s?all)[\s-]*)?total(?:s|e|en)?|totaal|totaux|sum|summe|gesamtsumme|zwischensumme|insgesamt|"
    r"gesamt|somme|summa|suma|anzahl|count|(?:total |number )(?:of )?drivers",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"\s*[:=]?\s*[\d.,]*$")
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
    second_look = range(len(cells)) if column.only_key else PLAIN[kind].misses(cells)
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
        self.kinds, left_over = self._kinds(list(columns.sent), len(frame))
        self.problems = _no_drivers(frame, columns) | self._subtotals(frame)
        for kind in columns.sent:
            for row, problem in self.readings[kind].problems.items():
                if self.kinds[row] is kind:
                    self.problems.setdefault(row, problem)
        for row in left_over:
            self.problems.setdefault(row, Problem("no identifier in this row", Hint.NO_IDENTIFIER))

    def __len__(self) -> int:
        return len(self.kinds)

    def _kinds(self, sent: list[IdentifierKind], length: int) -> tuple[list[IdentifierKind | None], Sequence[int]]:
        """By which kind each row goes, and the rows that go by none."""
        found: list[IdentifierKind | None] = [None] * length
        left: Sequence[int] = range(length)
        for kind in sent:
            texts, problems = self.readings[kind].texts, self.readings[kind].problems
            before, left = left, [row for row in left if not texts[row] and row not in problems]
            if len(before) == length:  # nearly all rows go by the first kind
                found = [kind] * length
                for row in left:
                    found[row] = None
            else:
                for row in set(before).difference(left):
                    found[row] = kind
        return found, left

    def _subtotals(self, frame: pd.DataFrame) -> dict[int, Problem]:
        """Rows anywhere that add up others: their driver ID is a small number, and one of their cells says so."""
        reading = self.readings.get(IdentifierKind.DRIVER_ID)
        small = [row for row, text in enumerate(reading.texts) if 0 < len(text) <= _SMALL] if reading else []
        return {
            row: _ADDS_UP
            for row in small
            if self.kinds[row] is IdentifierKind.DRIVER_ID and any(map(_tells_total, frame.iloc[row]))
        }

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

    def names(self) -> list[str]:
        """For each row, the driver it goes by as a text; blank where it has none, or one that needs a second look."""
        found = [""] * len(self)
        for kind in [kind for kind in self.readings if kind in self.kinds]:
            texts = self.readings[kind].texts
            found = [
                f"{kind}={text}" if of is kind else before
                for text, of, before in zip(texts, self.kinds, found, strict=True)
            ]
            for row in PLAIN[kind].misses(texts):
                if self.kinds[row] is kind:
                    found[row] = ""
        for row in self.problems:
            found[row] = ""
        return found

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
    """Rows, counted from 0, that are no driver's whatever their cells say: repeated headers, totals at the bottom."""
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
    if len(frame) > 1:
        last, above = ([cell.strip() for cell in frame.iloc[row]] for row in (-1, -2))
        filled = [cell for cell in last if cell]
        is_total = any(cell != before and _is_total(cell) for cell, before in zip(last, above, strict=True))
        is_count = filled == [str(len(frame) - 1)] and len([cell for cell in above if cell]) > 1
        if is_total or is_count:
            found[len(frame) - 1] = _ADDS_UP
    return found


def _is_total(cell: str) -> bool:
    """Whether a cell says that its row adds up others."""
    return len(cell) < _LONGEST_TOTAL and bool(_TOTALS.fullmatch(_AMOUNT.sub("", cell)))


def _tells_total(cell: str) -> bool:
    """The same, of what: ``North Total``."""
    words = cell.split() if len(cell) < _LONGEST_TOTAL else []
    return _is_total(cell.strip()) or bool(words and _is_total(words[-1].strip(":")))
