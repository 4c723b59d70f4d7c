"""Which rows are one and the same driver, be it named in two ways on two rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Identifier, IdentifierKind, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


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

    Rows that share an identifier are one driver, and so are rows of which a third one tells. But rows with different
    driver IDs are different drivers, whatever else they share; what they share then tells nothing.

    Args:
        values: by kind, the preferred one first, for each row an identifier; blank for none.
        rows: those to compare, counted from 0, each with an identifier; which is first, is said by their order.
        organizations: for each row the one it is of; the drivers of different ones have nothing to do with each other.
    """
    repeated = {kind: _repeated(column) for kind, column in values.items()}
    if not any(repeated.values()):  # nearly always, so this is fast
        return Sameness({}, {})
    if len(set(organizations)) > 1:
        return _same_drivers_within(values, rows, organizations)
    sharing = {
        row for kind, column in values.items() if repeated[kind] for row in rows if column[row] in repeated[kind]
    }
    involved = [row for row in rows if row in sharing]
    ids = values.get(IdentifierKind.DRIVER_ID)
    id_of = {row: ids[row] if ids else "" for row in involved}
    others = [(kind, column) for kind, column in values.items() if kind is not IdentifierKind.DRIVER_ID]
    named = {row: [Identifier(kind, column[row]) for kind, column in others if column[row]] for row in involved}
    beside = _driver_ids_beside(named, id_of)
    contradicted = {one: found for one, found in beside.items() if len(found) > 1}
    certain = {row: [one for one in some if one not in contradicted] for row, some in named.items()}

    leader = _Leaders(certain.values())
    drivers: dict[Identifier, set[Identifier | str]] = {}  # the driver IDs of a group
    for row, some in certain.items():
        if some and id_of[row]:
            drivers.setdefault(leader(some[0]), set()).add(id_of[row])
    first: dict[object, int] = {}
    same: dict[int, int] = {}
    for row, some in certain.items():
        group = leader(some[0]) if some else None
        known: set[Identifier | str] = drivers.get(group, {group}) if group else set()
        if len(known) > 1:  # its identifiers contradict each other: then the one that is sent counts
            known = set(beside.get(named[row][0], ()))
        driver = id_of[row] or (next(iter(known)) if len(known) == 1 else tuple(named[row]))
        sent = next((kind, column[row]) for kind, column in values.items() if column[row])
        earlier = first.get(driver, first.get(sent))
        if earlier is None:
            first[driver] = first[sent] = row
        else:
            same[row] = earlier
    return Sameness(
        same,
        {
            row: (one, next(at for driver_id, at in contradicted[one].items() if driver_id != id_of[row]))
            for row, some in named.items()
            for one in some
            if one in contradicted
        },
    )


def _same_drivers_within(
    values: Mapping[IdentifierKind, Sequence[str]], rows: Sequence[int], organizations: Sequence[str]
) -> Sameness:
    """The same, organization by organization."""
    rows_of: dict[str, list[int]] = {}
    for row in rows:
        rows_of.setdefault(organizations[row], []).append(row)
    first: dict[int, int] = {}
    contradicted: dict[int, tuple[Identifier, int]] = {}
    for some in rows_of.values():
        found = same_drivers({kind: [column[row] for row in some] for kind, column in values.items()}, range(len(some)))
        first |= {some[row]: some[there] for row, there in found.first.items()}
        contradicted |= {some[row]: (one, some[there]) for row, (one, there) in found.contradicted.items()}
    return Sameness(first, contradicted)


def _driver_ids_beside(
    named: Mapping[int, Sequence[Identifier]], id_of: Mapping[int, str]
) -> dict[Identifier, dict[str, int]]:
    """For identifiers that stand beside driver IDs: these, each with the first row that has it."""
    beside: dict[Identifier, dict[str, int]] = {}
    for row, some in named.items():
        for one in some if id_of[row] else ():
            beside.setdefault(one, {}).setdefault(id_of[row], row)
    return beside


def duplicate(row: int, who: Identifier, first: int, there: Identifier) -> Outcome:
    """What comes of a row whose driver an earlier row has, there maybe under another identifier."""
    error = f"the same driver as in row {first}{f', there as {there}' if there != who else ''}"
    return Outcome(row, Status.DUPLICATE, who, error=error, hint=str(Hint.DUPLICATE))


def _repeated(values: Sequence[str]) -> set[str]:
    different = {*values, ""}
    if len(different) - 1 == len(values) - values.count(""):
        return set()
    return {value for value, times in Counter(values).items() if times > 1 and value}


class _Leaders:
    """Groups of identifiers, each known by one of them (a union-find with path halving)."""

    def __init__(self, together: Iterable[Sequence[Identifier]]) -> None:
        self._above: dict[Identifier, Identifier] = {}
        for some in together:
            for one in some:
                self._above.setdefault(one, one)
                self._above[self(one)] = self(some[0])

    def __call__(self, one: Identifier) -> Identifier:
        """The leader of an identifier's group."""
        above = self._above
        while above[one] != one:
            above[one] = one = above[above[one]]
        return one
