"""Which rows are the same driver, even if two rows identify it in different ways."""

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
    """Rows that share a driver or an identifier. Rows are counted from 0.

    Attributes:
        first: for each row with the driver of an earlier one, the first row of that driver.
        contradicted: for each row with an identifier that another row has with a different driver ID: that identifier,
            and the first such row.
    """

    first: dict[int, int]
    contradicted: dict[int, tuple[Identifier, int]]


def same_drivers(
    values: Mapping[IdentifierKind, Sequence[str]], rows: Sequence[int], organizations: Sequence[str] = ()
) -> Sameness:
    """Compare the identifiers of rows.

    Rows that share an identifier are the same driver, unless they have different driver IDs and do not share the
    identifier that is sent.

    Args:
        values: by kind, the preferred one first, the identifier of each row; blank for none.
        rows: the rows to compare, counted from 0; their order decides which is first.
        organizations: for each row its organization; drivers of different organizations are never compared.
    """
    shared = {kind: _repeated(column) for kind, column in values.items()}
    if not any(shared.values()):  # the usual case, so it is fast
        return Sameness({}, {})
    id_of = list(values.get(IdentifierKind.DRIVER_ID) or [""] * len(next(iter(values.values()))))  # of first rows
    place = {row: place for place, row in enumerate(rows)}
    owner: dict[tuple[str, Identifier], int] = {}  # the first row with an identifier
    earlier: dict[int, int] = {}
    contradicted: dict[int, tuple[Identifier, int]] = {}

    def first_row(row: int) -> int:
        """The first row of the driver, as known so far."""
        while row in earlier:
            earlier[row] = earlier.get(earlier[row], earlier[row])  # path halving, so that no chain grows long
            row = earlier[row]
        return row

    for row in rows:
        sent = None
        for kind, column in values.items():
            sent = sent or (kind if column[row] else None)
            if column[row] not in shared[kind]:
                continue
            identifier = Identifier(kind, column[row])
            other = owner.setdefault((organizations[row] if organizations else "", identifier), row)
            one, two = sorted((first_row(row), first_row(other)), key=place.__getitem__)
            if id_of[one] and id_of[two] and id_of[one] != id_of[two] and kind is not sent:
                contradicted.setdefault(row, (identifier, other))
                contradicted.setdefault(other, (identifier, row))
            elif one != two:
                earlier[two] = one
                id_of[one] = id_of[one] or id_of[two]
    return Sameness({row: first_row(row) for row in earlier}, contradicted)


def duplicate(row: int, identifier: Identifier, first: int, first_identifier: Identifier) -> Outcome:
    """The outcome of a row with the driver of an earlier one, which may have another identifier."""
    other = f" ({first_identifier})" if first_identifier != identifier else ""
    error = f"same driver as row {first}{other}"
    return Outcome(row, Status.DUPLICATE, identifier, error=error, hint=str(Hint.DUPLICATE))


def _repeated(values: Sequence[str]) -> set[str]:
    different = {*values, ""}
    if len(different) - 1 == len(values) - values.count(""):
        return set()
    return {value for value, times in Counter(values).items() if times > 1 and value}
