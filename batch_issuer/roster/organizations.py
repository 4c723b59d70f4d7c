"""Rows that are of several organizations: whose is which?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RosterError
from ..hints import Hint
from .columns import plain
from .identifiers import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from ..settings.roster_options import RosterOptions

_SPELLINGS = {"organization": ("organization", "organisation", "org", "samsaraorganization", "samsaraorganisation")}
"""Of a column's name, compared without regard to case, spaces and punctuation."""


def organization_position(header: Sequence[str], column: str, name: str) -> int | None:
    """Which column says whose a driver is, counted from 0; None if none does.

    Args:
        header: the columns' names.
        column: what it is called.
        name: how messages call the file.

    Raises:
        RosterError: two could be it.
    """
    names = _SPELLINGS.get(plain(column), (plain(column),))
    found = [position for position, one in enumerate(header) if plain(one) in names]
    if len(found) > 1:
        both = " and ".join(repr(header[position]) for position in found)
        raise RosterError(f"{name}: columns {both} could both name the organization", "rename or delete one of them")
    return found[0] if found else None


def organizations_of(frame: pd.DataFrame, options: RosterOptions, name: str) -> list[str | Problem]:
    """For each row the organization it is of, or why none; all blank where there is only one.

    Raises:
        RosterError: there is no such column, or there are two.
    """
    if not options.organization_column:
        return [""] * len(frame)
    position = organization_position([str(column) for column in frame.columns], options.organization_column, name)
    if position is None:
        raise RosterError(
            f"{name} has no column {options.organization_column!r}, which is to say whose a driver is",
            "add it, or say with --org whose all of them are",
        )
    known = {plain(organization): organization for organization in options.organizations}
    exact = set(options.organizations)
    return [
        text if (text := cell.strip()) in exact else known.get(plain(text)) or _problem(text)
        for cell in frame.iloc[:, position]
    ]


def _problem(text: str) -> Problem:
    if not text:
        return Problem("no organization in this row", Hint.NO_ORGANIZATION)
    return Problem(f"the settings know no organization {text[:40]!r}", Hint.NO_ORGANIZATION)
