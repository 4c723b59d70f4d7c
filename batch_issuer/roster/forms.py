"""Which cells of a column have not the form that nearly all have: those between are passed over at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


_AT_ONCE = 10_000
"""Cells that are joined: not all, for the sake of memory."""


class Form:
    """A regular expression that cells match as a whole, read as ASCII; it matches no line end."""

    def __init__(self, pattern: str) -> None:
        self._cell = re.compile(pattern, re.ASCII)
        self._lines = re.compile(rf"(?:(?:{pattern})\n)*+", re.ASCII)

    def misses(self, cells: Sequence[str]) -> list[int]:
        """Positions of the cells that do not have it."""
        starts = range(0, len(cells), _AT_ONCE)
        return [start + position for start in starts for position in self._misses(cells[start : start + _AT_ONCE])]

    def _misses(self, cells: Sequence[str]) -> list[int]:
        lines = "\n".join([*cells, ""])
        if lines.count("\n") > len(cells):  # a cell holds line ends of its own
            return [position for position, cell in enumerate(cells) if not self._cell.fullmatch(cell)]
        found: list[int] = []
        start = position = 0
        while (passed := self._lines.match(lines, start)) and passed.end() < len(lines):
            position += lines.count("\n", start, passed.end())
            found.append(position)
            position, start = position + 1, lines.index("\n", passed.end()) + 1
        return found
