"""The `auth_` columns: what an outcome looks like in a spreadsheet, and cells that no spreadsheet runs."""

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
"""Those never guarded: a token and a code must stay byte-exact; the others hold nothing that would run."""

_STATUSES = {str(status): status for status in Status}

_KINDS = {str(kind): kind for kind in IdentifierKind}

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
        hint_text(outcome.hint, maybe_issued=outcome.maybe_issued and outcome.status is not Status.UNKNOWN),
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


def outcomes_of(auth: pd.DataFrame, first: int) -> list[Outcome | None]:
    """The outcomes that the `AUTH_COLUMNS` of a file tell of, unguarded; the inverse of `auth_cells`.

    A cell that a spreadsheet program has changed beyond reading counts as blank, but for the two that everything
    else hangs on.

    Args:
        auth: the columns.
        first: the number of the first row.

    Returns:
        None for a row whose cells are all blank.

    Raises:
        ResultsError: a status or an identifier is none.
    """
    time, whole = cache(utc_time), cache(_whole)  # many rows have the same
    lines = zip(*(auth[column].tolist() for column in AUTH_COLUMNS), strict=True)
    return [_outcome_of(row, cells, time, whole) for row, cells in enumerate(lines, first)]


def _outcome_of(
    row: int, cells: tuple[str, ...], time: Callable[[str], datetime | None], whole: Callable[[str], int]
) -> Outcome | None:
    written, token, code, expires_at, identifier, error, hint, http_status, request_id, attempts, issued_at = cells
    if not any(map(str.strip, cells)):
        return None
    status, who = _STATUSES.get(written.strip()), identifier_of(identifier)
    if status is None or (who is None and identifier.strip()):
        # Not quoted: in a file whose columns were shifted it may be a token.
        why = (
            f"its auth_status is none of {', '.join(Status)}"
            if status is None
            else "its auth_identifier names no driver"
        )
        raise ResultsError(
            f"row {row}: {why}",
            "correct the cell, or clear all cells of the row that begin with auth_ to ask anew",
        )
    return Outcome(
        row,
        status,
        who,
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
    """The driver that ``driverId=…``, ``externalId=…`` or ``username=…`` stands for; None if it stands for none."""
    written, _, value = text.strip().partition("=")
    kind = _KINDS.get(written)
    who = named(kind, value) if kind else None
    return who if isinstance(who, Identifier) else None


def utc_time(text: str) -> datetime | None:
    """A time in UTC as `utc_text` writes it, or as a spreadsheet program shows that; None if it cannot be told.

    With slashes it could be the day or the month that comes first: nothing is guessed.
    """
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
