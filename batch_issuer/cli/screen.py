"""Lines on stderr and stdout, and how they are laid out. Nothing here knows what they say."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


MOST_SPANS_SHOWN = 12
"""Spans of row numbers in a line."""


def say(*lines: str) -> None:
    """Lines for a person, on stderr."""
    if sys.stderr is not None:
        with suppress(OSError):  # whoever read it has left: that must not end a run
            for line in lines:
                print(line, file=sys.stderr, flush=True)


def out(*lines: str) -> None:
    """Lines for a pipe, on stdout."""
    try:
        for line in lines:
            print(line, flush=True)
    except OSError:  # whoever read it has left, or has no room for it; what was done stays done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def spans(rows: Sequence[int]) -> str:
    """``2-29, 31, 33-60``."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:MOST_SPANS_SHOWN]]
    return ", ".join(texts) + (", …" if len(spans) > MOST_SPANS_SHOWN else "")


def in_columns(cells: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Lines of three cells each, aligned."""
    rows = list(cells)
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for name, value, source in rows:
        yield f"  {name.ljust(widths[0])}  {value.ljust(widths[1])}  {source}"
