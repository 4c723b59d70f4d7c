"""Which rows are one and the same driver, be it named in two ways on two rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Identifier, IdentifierKind, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Sameness:
    """What rows, counted from 0, have to do with each other.

    Attributes:
        first: for each row that is the driver of an earlier one, the first row of that driver.
        contradicted: for each row with an identifier that also stands beside another driver ID: that identifier, and
            the first such row.
    """

    first: dict[int, int]
    contradicted: dict[int, tuple[Identifier, int]]


def same_drivers(
    values: Mapping[IdentifierKind, Sequence[str]], rows: Sequence[int], organizations: Sequence[str] = ()
) -> Sameness:
    """Compare the identifiers of rows.

    Rows that share an identifier are one driver. Only those with different driver IDs are not, as long as they do not
    share what they are sent by.

    Args:
        values: by kind, the preferred one first, for each row an identifier; blank for none.
        rows: those to compare, counted from 0; which is first, is said by their order.
        organizations: for each row the one it is of; the drivers of different ones have nothing to do with each other.
    """
    shared = {kind: _repeated(column) for kind, column in values.items()}
    if not any(shared.values()):  # nearly always, so this is fast
        return Sameness({}, {})
    id_of = list(values.get(IdentifierKind.DRIVER_ID) or [""] * len(next(iter(values.values()))))  # of first rows
    place = {row: place for place, row in enumerate(rows)}
    owner: dict[tuple[str, Identifier], int] = {}  # the first row with an identifier
    earlier: dict[int, int] = {}
    contradicted: dict[int, tuple[Identifier, int]] = {}

    def first_row(row: int) -> int:
        """Of its driver, as far as is known."""
        while row in earlier:
            earlier[row] = earlier.get(earlier[row], earlier[row])  # halves the way, so that no chain grows long
            row = earlier[row]
        return row

    for row in rows:
        sent = None
        for kind, column in values.items():
            sent = sent or (kind if column[row] else None)
            if column[row] not in shared[kind]:
                continue
            who = Identifier(kind, column[row])
            other = owner.setdefault((organizations[row] if organizations else "", who), row)
            one, two = sorted((first_row(row), first_row(other)), key=place.__getitem__)
            if id_of[one] and id_of[two] and id_of[one] != id_of[two] and kind is not sent:
                contradicted.setdefault(row, (who, other))
                contradicted.setdefault(other, (who, row))
            elif one != two:
                earlier[two] = one
                id_of[one] = id_of[one] or id_of[two]
    return Sameness({row: first_row(row) for row in earlier}, contradicted)


def duplicate(row: int, who: Identifier, first: int, there: Identifier) -> Outcome:
    """What comes of a row whose driver an earlier row has, there maybe under another identifier."""
    error = f"the same driver as in row {first}{f', there as {there}' if there != who else ''}"
    return Outcome(row, Status.DUPLICATE, who, error=error, hint=str(Hint.DUPLICATE))


def _repeated(values: Sequence[str]) -> set[str]:
    different = {*values, ""}
    if len(different) - 1 == len(values) - values.count(""):
        return set()
    return {value for value, times in Counter(values).items() if times > 1 and value}
