"""The `auth_` columns: what an outcome looks like in a spreadsheet, and cells that no spreadsheet runs."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError, StorageError
from ..model import Identifier, IdentifierKind, Outcome, Status
from ..roster import named
from ..wording import utc_text
from .formulas import guard_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


AUTH_COLUMNS = (
    "auth_status",
    "auth_token",
    "auth_code",
    "auth_expires_at",
    "auth_identifier",
    "auth_error",
    "auth_hint",
    "auth_http_status",
    "auth_request_id",
    "auth_attempts",
    "auth_issued_at",
)
"""The columns that follow the roster's own, in this order."""

EXACT_COLUMNS = frozenset(AUTH_COLUMNS) - {"auth_error", "auth_hint", "auth_request_id"}
"""Those never guarded: a token and a code must stay byte-exact; the others hold nothing that would run."""

_STATUSES = {str(status): status for status in Status}

_AS_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""A time, by `utc_text`."""

_WHOLE = re.compile(r"\s*(\d{1,9})(?:[.,]0*)?\s*", re.ASCII)

_GUARDED = tuple(position for position, column in enumerate(AUTH_COLUMNS) if column not in EXACT_COLUMNS)

PARTIAL = ".partial"
"""Ends a journal's name."""

ROW_COLUMN = "auth_row"
"""The journal's first column: the row number as the spreadsheet shows it."""


def auth_cells(outcome: Outcome) -> tuple[str, ...]:
    """An outcome as the cells of `AUTH_COLUMNS`."""
    return (
        outcome.status.value,
        outcome.token,
        outcome.code,
        utc_text(outcome.expires_at),
        str(outcome.identifier or ""),
        outcome.error,
        outcome.hint,
        str(outcome.http_status or ""),
        outcome.request_id,
        str(outcome.attempts),
        utc_text(outcome.issued_at),
    )


def guarded(cells: Iterable[str]) -> list[str]:
    """Cells of `AUTH_COLUMNS` that no spreadsheet program runs."""
    found = list(cells)
    for position in _GUARDED:
        if found[position]:
            found[position] = guard_cell(found[position])
    return found


def outcome_of(row: int, cells: Mapping[str, str]) -> Outcome:
    """The outcome that a row's `AUTH_COLUMNS` tell of, unguarded; the inverse of `auth_cells`.

    A cell that a spreadsheet program has changed beyond reading counts as blank, but for the two that everything
    else hangs on.

    Args:
        row: its number.
        cells: by column.

    Raises:
        ResultsError: its status or identifier is none.
    """
    status, identifier = cells["auth_status"].strip(), cells["auth_identifier"].strip()
    if status not in _STATUSES:  # not quoted: in a file whose columns were shifted it may be a token
        raise ResultsError(
            f"row {row}: its auth_status is none of {', '.join(Status)}",
            "correct the cell, or clear all cells of the row that begin with auth_ to ask anew",
        )
    who = identifier_of(identifier)
    if identifier and who is None:
        raise ResultsError(
            f"row {row}: its auth_identifier names no driver",
            "correct the cell, or clear all cells of the row that begin with auth_ to ask anew",
        )
    return told(row, who, cells)


def told(row: int, who: Identifier | None, cells: Mapping[str, str]) -> Outcome:
    """The same, where it is known that the status is one, and whom the identifier names."""
    return Outcome(
        row,
        _STATUSES[cells["auth_status"].strip()],
        who,
        token=cells["auth_token"],
        code=cells["auth_code"],
        expires_at=utc_time(cells["auth_expires_at"]),
        error=cells["auth_error"],
        hint=cells["auth_hint"],
        http_status=_whole(cells["auth_http_status"]) or None,
        request_id=cells["auth_request_id"],
        attempts=_whole(cells["auth_attempts"]),
        issued_at=utc_time(cells["auth_issued_at"]),
    )


def times_of(outcome: Outcome) -> dict[str, datetime | None]:
    """An outcome's times, by their columns."""
    return {"auth_expires_at": outcome.expires_at, "auth_issued_at": outcome.issued_at}


def identifier_of(text: str) -> Identifier | None:
    """The driver that ``driverId=…``, ``externalId=…`` or ``username=…`` stands for; None if it stands for none."""
    kind, _, value = text.strip().partition("=")
    who = named(IdentifierKind(kind), value) if kind in tuple(IdentifierKind) else None
    return who if isinstance(who, Identifier) else None


def utc_time(text: str) -> datetime | None:
    """A time in UTC as `utc_text` writes it, or as a spreadsheet program shows that; None if it cannot be told.

    With slashes it could be the day or the month that comes first: nothing is guessed.
    """
    if _AS_WRITTEN.fullmatch(text):  # nearly all are
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    text = text.strip()
    if ":" not in text:  # a day alone is no time
        return None
    dotted = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4}) (.*)", text, re.ASCII)
    if dotted:
        day, month, year, time = dotted.groups()
        text = f"{year}-{month:0>2}-{day:0>2} {time}"
    text = re.sub(r"(?<= )\d:", r"0\g<0>", text)  # 3:00
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _whole(text: str) -> int:
    """A small number, also as 200.0; 0 for anything else."""
    match = _WHOLE.fullmatch(text) if text else None
    return int(match[1]) if match else 0


def auth_frame(
    whose: Iterable[Identifier | object],
    rows: Iterable[int],
    outcomes: Mapping[int, Outcome],
    cells_of: Callable[[Outcome], tuple[str, ...]] = auth_cells,
) -> pd.DataFrame:
    """The `AUTH_COLUMNS` for each row, in their order, as strings.

    What was sent is compared with the row once more: a token never sits beside another driver.

    Args:
        whose: the driver that each row belongs to; anything else where it names none.
        rows: their numbers.
        outcomes: by row number; a row without one counts as not attempted.
        cells_of: makes an outcome's cells.

    Raises:
        StorageError: an outcome names another driver than its row; a bug, never the user's fault.
    """
    cells = []
    for row, named_here in zip(rows, whose, strict=True):
        outcome = outcomes.get(row) or Outcome(row, Status.NOT_ATTEMPTED)
        sent = outcome.identifier
        if outcome.row != row or (sent is not None and sent != named_here) or (outcome.token and sent is None):
            raise StorageError(f"row {row}: the outcome belongs to another driver", "please report this as a bug")
        cells.append(cells_of(outcome))
    return pd.DataFrame(cells, columns=list(AUTH_COLUMNS), dtype=object)
