"""How to read a roster, where the file itself leaves it open."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..model import IdentifierKind

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {kind.name.lower(): kind for kind in IdentifierKind}
"""The kinds of identifier by their names in flags and settings: ``driver_id``, ``external_id``, ``username``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterOptions:
    """How to read a roster, where the file itself leaves it open.

    Attributes:
        columns: the name of the column of each kind of identifier; blank where no column is to be used.
        external_key: the key of external IDs that the roster gives without one, such as ``payrollId``; blank for none.
        identify_by: the kinds to use, the preferred one first; empty for all, the most specific first.
        encoding: Python's name for the encoding of a CSV file that has no byte order mark and is not UTF-8.
        sheet: the name of the worksheet; needed only if several have a column of identifiers.
        organization_column: the column with each driver's organization; blank if all belong to one.
        organizations: the names allowed in that column.

    Raises:
        SettingsError: an invalid key, or a kind listed twice.
    """

    columns: Mapping[IdentifierKind, str] = field(default_factory=dict)
    external_key: str = ""
    identify_by: tuple[IdentifierKind, ...] = ()
    encoding: str | None = None
    sheet: str | None = None
    organization_column: str = ""
    organizations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.external_key and not re.fullmatch(r"[^\s:\"{}\[\]]+", self.external_key):
            raise SettingsError(
                f"{self.external_key[:40]!a} is not a valid external ID key",
                "use the part before the colon, such as payrollId",
            )
        if len(set(self.identify_by)) != len(self.identify_by):
            raise SettingsError("a kind of identifier is listed twice", f"list each of {', '.join(KINDS)} at most once")


def kind_named(text: str) -> IdentifierKind:
    """The kind of identifier of this name, in any spelling (``driverId``, ``Driver-ID``).

    Raises:
        SettingsError: there is no such kind.
    """
    name = re.sub(r"[\s-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text.strip())).lower()
    if name not in KINDS:
        raise SettingsError(f"{text[:40]!a} is not a kind of identifier", f"use one of {', '.join(KINDS)}")
    return KINDS[name]


def mapping(text: str) -> tuple[IdentifierKind, str]:
    """Read ``driver_id=Driver No.``; the column's name follows the first ``=``, blank for none.

    Raises:
        SettingsError: it is not of that form.
    """
    kind, equals, column = text.partition("=")
    if not equals:
        raise SettingsError(f"{text[:60]!a} is not a valid column mapping", 'write it as driver_id="Driver No."')
    return kind_named(kind), column.strip()


def kinds(text: str) -> tuple[IdentifierKind, ...]:
    """Read ``username`` or ``username,driver_id``.

    Raises:
        SettingsError: one of them is not a kind of identifier.
    """
    return tuple(kind_named(name) for name in text.split(","))
