"""Rows without a token as a person reads them: one group for each status and cause, with one hint.

::

    ✗ 10 failed: HTTP 404: Object not found.
        rows 4 (Ana Lima), 10 (Bo Chen), 16 (Cy Diaz) and 7 more
        hint: roster: …
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .screen import CROSS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..results import Failure

ALL_SHOWN, SOME_SHOWN = 5, 3
"""Entries of a group: so many are all shown; of more, the first few."""


def group_lines(failures: Iterable[Failure], names: Mapping[int, str], *, in_full: bool = False) -> Iterator[str]:
    """Lines for rows without a token, those of one status and hint together.

    Args:
        failures: the rows.
        names: of drivers, by row, as far as there are any.
        in_full: show every row, not just the first few of each group.
    """
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.status, failure.hint), []).append(failure)
    for (status, hint), group in groups.items():
        causes = {failure.error for failure in group}
        what = "not renewed" if status == "issued" else status.replace("_", " ")
        heading = f"{CROSS} {len(group)} {what}"
        if len(causes) == 1:
            cause = causes.pop()
            yield f"{heading}: {cause}" if cause else heading
            yield f"    {row_list([failure.row for failure in group], names, in_full=in_full)}"
        else:
            yield f"{heading}:"
            yield from _one_by_one({failure.row: failure.error for failure in group}, names, in_full=in_full)
        if hint:
            yield f"    hint: {hint}"


def warning_lines(warnings: Mapping[int, str], names: Mapping[int, str], *, in_full: bool = False) -> Iterator[str]:
    """Lines for rows that are sent although something about them looks wrong, those of one warning together."""
    by_text: dict[str, list[int]] = {}
    for row, text in warnings.items():
        by_text.setdefault(text, []).append(row)
    same = {text: rows for text, rows in by_text.items() if len(rows) > 1 or len(by_text) == 1}
    for text, rows in same.items():
        yield f"warning: {row_list(rows, names, in_full=in_full)}: {text}"
    if single := {rows[0]: text for text, rows in by_text.items() if text not in same}:
        yield f"warning: {len(single)} rows to check:"
        yield from _one_by_one(single, names, in_full=in_full)


def _one_by_one(texts: Mapping[int, str], names: Mapping[int, str], *, in_full: bool) -> Iterator[str]:
    rows = [*texts]
    shown = rows if in_full or len(rows) <= ALL_SHOWN else rows[:SOME_SHOWN]
    yield from (f"    row {_named(row, names)}: {texts[row]}" for row in shown)
    if others := rows[len(shown) :]:
        which = f": {row_list(others, {})}" if len([*_spans(others)]) <= ALL_SHOWN else ""
        yield f"    and {len(others)} more{which}"


def row_list(rows: Sequence[int], names: Mapping[int, str], *, in_full: bool = False) -> str:
    """``row 4``, ``rows 4-9 and 12``, ``rows 4 (Ana Lima), 10, 16 and 7 more``; ``in_full`` leaves none out."""
    entries = [(_named(row, names), 1) for row in rows] if any(map(names.get, rows)) else [*_spans(rows)]
    shown = entries if in_full or len(entries) <= ALL_SHOWN else entries[:SOME_SHOWN]
    texts = [text for text, _ in shown]
    if len(shown) < len(entries):
        texts.append(f"{len(rows) - sum(number for _, number in shown)} more")
    *first, last = texts
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(first)}{' and ' if first else ''}{last}"


def _named(row: int, names: Mapping[int, str]) -> str:
    return f"{row} ({names[row]})" if names.get(row) else str(row)


def _spans(rows: Iterable[int]) -> Iterator[tuple[str, int]]:
    """Runs of neighbouring rows, each with the number of its rows."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    for first, last in spans:
        yield (str(first) if first == last else f"{first}-{last}"), last - first + 1
