"""The `auth_` columns: an outcome as cells of a spreadsheet, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError, StorageError
from ..hints import LOST_TOKEN_ENDINGS, hint_text
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
"""Columns that are never guarded: tokens and codes must stay byte-exact, the others contain no formulas."""

_STATUSES = {str(status): status for status in Status}

_KINDS = {str(kind): kind for kind in IdentifierKind}

_WHOLE = re.compile(r"\s*(\d{1,9})(?:[.,]0*)?\s*", re.ASCII)

_GUARDED = tuple(position for position, column in enumerate(AUTH_COLUMNS) if column not in EXACT_COLUMNS)

PARTIAL = ".partial"
"""The ending of a journal's name."""

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
        hint_text(outcome.hint, maybe_issued=outcome.maybe_issued and outcome.status is not Status.UNKNOWN),
        str(outcome.http_status or ""),
        outcome.request_id,
        str(outcome.attempts),
        utc_text(outcome.issued_at),
    )


def guarded(cells: Iterable[str]) -> list[str]:
    """Cells of `AUTH_COLUMNS`, guarded so that no spreadsheet program runs them."""
    found = list(cells)
    for position in _GUARDED:
        if found[position]:
            found[position] = guard_cell(found[position])
    return found


def outcomes_of(auth: pd.DataFrame, first: int) -> list[Outcome | None]:
    """The outcomes in the `AUTH_COLUMNS` of a file, unguarded; the inverse of `auth_cells`.

    A cell that became unreadable in a spreadsheet program counts as blank, except for the status and the identifier.

    Args:
        auth: the columns.
        first: the number of the first row.

    Returns:
        One for each row; None if all its cells are blank.

    Raises:
        ResultsError: a status or an identifier is invalid.
    """
    time, whole = cache(utc_time), cache(_whole)  # many rows have the same cells
    lines = zip(*(auth[column].tolist() for column in AUTH_COLUMNS), strict=True)
    return [_outcome_of(row, cells, time, whole) for row, cells in enumerate(lines, first)]


def _outcome_of(
    row: int, cells: tuple[str, ...], time: Callable[[str], datetime | None], whole: Callable[[str], int]
) -> Outcome | None:
    written, token, code, expires_at, identifier, error, hint, http_status, request_id, attempts, issued_at = cells
    if not any(map(str.strip, cells)):
        return None
    status, sent = _STATUSES.get(written.strip()), identifier_of(identifier)
    if status is None or (sent is None and identifier.strip()):
        # Not quoted: it may be a token if columns were shifted.
        column = "auth_status" if status is None else "auth_identifier"
        valid = f"; use {', '.join(Status)}" if status is None else ""
        raise ResultsError(
            f"row {row}, column {column}: not a valid {column.removeprefix('auth_')}",
            f"correct the cell{valid}, or clear all auth_ cells of the row to request a new token",
        )
    return Outcome(
        row,
        status,
        sent,
        token,
        code,
        time(expires_at),
        error,
        hint,
        whole(http_status) or None,
        request_id,
        whole(attempts),
        time(issued_at),
        status is Status.UNKNOWN or hint.rstrip().endswith(LOST_TOKEN_ENDINGS),
    )


def identifier_of(text: str) -> Identifier | None:
    """The identifier written as ``driverId=…``, ``externalId=…`` or ``username=…``; None if it is invalid."""
    written, _, value = text.strip().partition("=")
    kind = _KINDS.get(written)
    found = named(kind, value) if kind else None
    return found if isinstance(found, Identifier) else None


def utc_time(text: str) -> datetime | None:
    """A UTC time as `utc_text` writes it or a spreadsheet program shows it; None if unreadable.

    A date with slashes is unreadable, because either the day or the month may come first.
    """
    text = text.strip()
    if ":" not in text:  # only a date
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
    owners: Iterable[Identifier | object],
    rows: Iterable[int],
    outcomes: Mapping[int, Outcome],
    cells_of: Callable[[Outcome], tuple[str, ...]] = auth_cells,
) -> pd.DataFrame:
    """The `AUTH_COLUMNS` of each row, in order, as strings.

    The identifier that was sent is compared with the row once more: a token never gets onto another driver's row.

    Args:
        owners: the driver of each row; anything else if it has none.
        rows: their numbers.
        outcomes: by row number; a row without one counts as not attempted.
        cells_of: makes the cells of an outcome.

    Raises:
        StorageError: an outcome belongs to another driver than its row; a bug, never the user's fault.
    """
    cells = []
    for row, owner in zip(rows, owners, strict=True):
        outcome = outcomes.get(row) or Outcome(row, Status.NOT_ATTEMPTED)
        sent = outcome.identifier
        if outcome.row != row or (sent is not None and sent != owner) or (outcome.token and sent is None):
            raise StorageError(f"row {row}: the outcome belongs to another driver", "report this as a bug")
        cells.append(cells_of(outcome))
    return pd.DataFrame(cells, columns=list(AUTH_COLUMNS), dtype=object)
