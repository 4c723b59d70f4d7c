"""What a person says about a roster, as far as the file does not say it itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..model import IdentifierKind

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {kind.name.lower(): kind for kind in IdentifierKind}
"""The kinds of identifier as flags and settings call them: ``driver_id``, ``external_id``, ``username``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterOptions:
    """How a roster is to be read, as far as the file does not say it itself.

    Attributes:
        columns: by kind of identifier the name of its column; a blank one where no column is to be taken for that.
        external_key: of external IDs that stand in the roster without one, such as ``payrollId``; blank for none.
        identify_by: the kinds to go by, the preferred one first; blank for all, the most specific first.
        encoding: of a CSV file without byte order mark that is not UTF-8, as Python names it.
        sheet: of a workbook, its name; not needed where only one has a column that names drivers.
        organization_column: of the column that says whose a driver is; blank where all are of one organization.
        organizations: the names that may stand in that column.

    Raises:
        SettingsError: a key that cannot be one, or a kind twice.
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
                f"{self.external_key[:40]!a} is no key of external IDs", "give the part before the colon, as payrollId"
            )
        if len(set(self.identify_by)) != len(self.identify_by):
            raise SettingsError("a kind of identifier is named twice", f"choose of {', '.join(KINDS)}")


def kind_named(text: str) -> IdentifierKind:
    """The kind of identifier that flags and settings call so, in whatever spelling.

    Raises:
        SettingsError: there is none.
    """
    name = re.sub(r"[\s-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text.strip())).lower()
    if name not in KINDS:
        raise SettingsError(f"{text[:40]!a} is no kind of identifier", f"choose of {', '.join(KINDS)}")
    return KINDS[name]


def mapping(text: str) -> tuple[IdentifierKind, str]:
    """Read ``driver_id=Fahrer-Nr.``; what follows the first ``=`` is the column's name, blank for none.

    Raises:
        SettingsError: it is not of that form.
    """
    kind, equals, column = text.partition("=")
    if not equals:
        raise SettingsError(f"{text[:60]!a} names no column", 'write it as driver_id="Fahrer-Nr."')
    return kind_named(kind), column.strip()


def kinds(text: str) -> tuple[IdentifierKind, ...]:
    """Read ``username`` or ``username,driver_id``.

    Raises:
        SettingsError: one of them is no kind of identifier.
    """
    return tuple(kind_named(name) for name in text.split(","))
