"""A roster for several organizations: the organization of each row."""

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
"""Spellings of a column's name, compared ignoring case, spaces and punctuation."""


def organization_position(header: Sequence[str], column: str, name: str) -> int | None:
    """The position of the organization column, counted from 0; None if there is none.

    Args:
        header: the columns' names.
        column: the name of the organization column.
        name: of the file, for messages.

    Raises:
        RosterError: two columns match.
    """
    names = _SPELLINGS.get(plain(column), (plain(column),))
    found = [position for position, one in enumerate(header) if plain(one) in names]
    if len(found) > 1:
        both = " and ".join(repr(header[position]) for position in found)
        raise RosterError(f"{name}: columns {both} could both be the organization", "rename or delete one of them")
    return found[0] if found else None


def organizations_of(frame: pd.DataFrame, options: RosterOptions, name: str) -> list[str | Problem]:
    """The organization of each row, or the problem with it; all blank if there is only one organization.

    Raises:
        RosterError: the column is missing, or two columns match.
    """
    if not options.organization_column:
        return [""] * len(frame)
    position = organization_position([str(column) for column in frame.columns], options.organization_column, name)
    if position is None:
        raise RosterError(
            f"{name} has no column {options.organization_column!r} for the organization",
            "add the column, or pass --org if all drivers belong to one organization",
        )
    known = {plain(organization): organization for organization in options.organizations}
    exact = set(options.organizations)
    return [
        text if (text := cell.strip()) in exact else known.get(plain(text)) or _problem(text)
        for cell in frame.iloc[:, position]
    ]


def _problem(text: str) -> Problem:
    if not text:
        return Problem("no organization in the row", Hint.NO_ORGANIZATION)
    return Problem(f"no organization {text[:40]!r} in the settings file", Hint.NO_ORGANIZATION)
