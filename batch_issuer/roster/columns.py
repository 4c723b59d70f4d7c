"""Which columns identify drivers: by the names that Samsara, its API and people use, or by the roster options."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import RosterError, SettingsError
from ..model import IdentifierKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..settings.roster_options import RosterOptions

MOST_COLUMNS_SHOWN = 8
"""Columns listed in a message."""

# Compared ignoring case, spaces and punctuation; most specific kind first.
COLUMN_NAMES = {
    IdentifierKind.DRIVER_ID: ("driverid", "samsaraid", "samsaradriverid", "id"),
    IdentifierKind.EXTERNAL_ID: ("externalid", "externalids", "driverexternalid", "driverexternalids"),
    IdentifierKind.USERNAME: ("username", "driverusername", "samsarausername", "login", "loginname", "driverlogin"),
}

# Keys of external IDs, as Samsara's documentation spells them, that are common column names.
EXTERNAL_KEYS = {"payrollid": "payrollId", "maintenanceid": "maintenanceId"}

LABELS = {
    IdentifierKind.DRIVER_ID: "driver ID",
    IdentifierKind.EXTERNAL_ID: "external ID",
    IdentifierKind.USERNAME: "username",
}
"""Their names in messages."""

_PASSWORD = re.compile(
    r"password|passwd|passwort|(?<!com)passcode|pwd|pincode|kennwort|motdepasse|contrasena|wachtwoord"
)
_KEY = r"[A-Za-z][\w.-]*"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that identifies drivers.

    Attributes:
        position: counted from 0.
        name: as in the header.
        key: for external IDs without a key.
        only_key: whether the column is named by that key, so it contains no external IDs with other keys.
    """

    position: int
    name: str
    key: str = ""
    only_key: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that identify drivers.

    Attributes:
        sent: those to send, the preferred one first.
        known: all of them; after those to send come those that only help to find duplicates.
    """

    sent: dict[IdentifierKind, Column]
    known: dict[IdentifierKind, Column]


def plain(name: str) -> str:
    """A column name without case, spaces and punctuation."""
    return "".join(character for character in unicodedata.normalize("NFKC", name).casefold() if character.isalnum())


def is_password(name: str) -> bool:
    """Whether a column of this name probably contains passwords."""
    return bool(_PASSWORD.search(plain(name)) or re.search(r"(?<![^\W_])pin(?![^\W_])", name, re.IGNORECASE))


def names_drivers(header: Sequence[str], options: RosterOptions) -> bool:
    """Whether any column identifies drivers, possibly several of a kind."""
    return any(_candidates(header, options).values())


def identifier_columns(header: Sequence[str], name: str, options: RosterOptions, *, required: bool = True) -> Columns:
    """Which column contains which kind of identifier.

    Args:
        header: the columns' names.
        name: of the file, for messages.
        options: the user's choice of columns.
        required: whether there must be one.

    Raises:
        RosterError: there is none but one is required, or two could contain the same kind, or a chosen one is missing
            or contains passwords.
    """
    found: dict[IdentifierKind, Column] = {}
    for kind, columns in _candidates(header, options).items():
        wanted = options.columns.get(kind)
        if wanted and not columns:
            hint = f"choose one of its columns: {_listed(header)}"
            if is_password(wanted):
                hint = "choose another column; columns with passwords are never read"
            raise RosterError(f"{name} has no column {wanted!r} for the {LABELS[kind]}", hint)
        if len(columns) > 1 and options.identify_by and kind not in options.identify_by:
            continue
        if len(columns) > 1:
            both = " and ".join(repr(column.name) for column in columns)
            hint = f'choose one, as in --map {kind.name.lower()}="{columns[0].name}"'
            if len({plain(column.name) for column in columns}) == 1:
                hint = "rename or delete one of them"
            raise RosterError(f"{name}: columns {both} could both be the {LABELS[kind]}", hint)
        if columns:
            found[kind] = columns[0]
    sent = {kind: found[kind] for kind in options.identify_by or found if kind in found}
    if required and not sent:
        by = f" by {' or '.join(LABELS[kind] for kind in options.identify_by)}" if options.identify_by else ""
        raise RosterError(
            f"{name} has no column that identifies drivers{by}; its columns are: {_listed(header)}",
            'name one of them Driver ID, External ID or Username, or choose one, as in --map driver_id="Driver No."; '
            "the first row must be the header",
        )
    return Columns(sent, sent | found)


def _candidates(header: Sequence[str], options: RosterOptions) -> dict[IdentifierKind, list[Column]]:
    """The columns that could contain each kind of identifier."""
    names = [plain(column) for column in header]
    found: dict[IdentifierKind, list[Column]] = {kind: [] for kind in COLUMN_NAMES}
    taken: set[int] = set()
    for kind, wanted in options.columns.items():
        exact = [position for position, column in enumerate(header) if column.strip() == wanted.strip()]
        alike = [position for position, column in enumerate(names) if column and column == plain(wanted)]
        for position in (exact or alike) if wanted.strip() else ():
            if position in taken:
                raise SettingsError(
                    f"column {wanted!r} is mapped to two kinds of identifier", "choose another column in one --map"
                )
            taken.add(position)
            found[kind].append(_column(kind, position, header[position], options))
    for position, column in enumerate(names):
        for kind, known in COLUMN_NAMES.items():
            by_key = kind is IdentifierKind.EXTERNAL_ID and _is_named_by_key(header[position], options)
            if kind not in options.columns and position not in taken and (column in known or by_key):
                found[kind].append(_column(kind, position, header[position], options))
    if not any(found.values()) and IdentifierKind.EXTERNAL_ID not in options.columns:
        # "Payroll ID" is often unknown to Samsara, so it counts only if no other column does.
        kind = IdentifierKind.EXTERNAL_ID
        positions = [position for position, column in enumerate(names) if column in EXTERNAL_KEYS]
        found[kind] = [_column(kind, position, header[position], options) for position in positions]
    return found


def _column(kind: IdentifierKind, position: int, name: str, options: RosterOptions) -> Column:
    if kind is not IdentifierKind.EXTERNAL_ID:
        return Column(position, name)
    if key := _key_in(name):
        return Column(position, name, key, only_key=True)
    if options.external_key and (plain(name) == plain(options.external_key) or kind in options.columns):
        return Column(position, name, options.external_key, only_key=plain(name) not in COLUMN_NAMES[kind])
    if key := EXTERNAL_KEYS.get(plain(name), ""):
        return Column(position, name, key, only_key=True)
    return Column(position, name, options.external_key)


def _is_named_by_key(column: str, options: RosterOptions) -> bool:
    """Whether the name of a column is certainly a key of external IDs."""
    if _key_in(column) or column.strip() in EXTERNAL_KEYS.values():
        return True
    return bool(options.external_key) and plain(column) == plain(options.external_key)


def _key_in(column: str) -> str:
    """``payrollId`` in ``externalIds.payrollId``, ``External ID (payrollId)`` and ``External ID: payrollId``."""
    found = re.fullmatch(
        rf"external[ _-]?ids?\s*(?:[.:]\s*({_KEY})|[(\[]\s*({_KEY})\s*[)\]])", column.strip(), re.IGNORECASE
    )
    return (found[1] or found[2]) if found else ""


def _listed(header: Sequence[str]) -> str:
    """Column names for a message, but not the cells of a first row that is not a header."""
    if any(column.startswith(tuple(f"{kind}=" for kind in IdentifierKind)) for column in header):
        return "(not shown: the first row looks like a row of results)"
    if any(re.search(r"\d{6}", column) for column in header):
        return "(not shown: the first row looks like a driver, not a header)"
    shown = [" ".join(column[:40].split()) or "(blank)" for column in header[:MOST_COLUMNS_SHOWN]]
    return ", ".join(shown) + (", …" if len(header) > MOST_COLUMNS_SHOWN else "")
