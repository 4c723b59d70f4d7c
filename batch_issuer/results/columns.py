"""The `auth_` columns: what an outcome looks like in a spreadsheet, and cells that no spreadsheet runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import StorageError
from ..model import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..roster import Roster

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

GUARDED_COLUMNS = ("auth_error", "auth_hint", "auth_request_id")
"""Those whose text comes from elsewhere; a token and a code must stay byte-exact."""

ROW_COLUMN = "auth_row"
"""The journal's first column: the row number as the spreadsheet shows it."""

# What a spreadsheet program runs: = and @, a leading tab or CR that it strips, and a sign before anything that is
# neither a number nor a phone number (OWASP, "CSV Injection").
_FORMULA = re.compile(r"'*(?:[=@\t\r\n]|[+-](?!\d[\d\s().,/-]*(?:[eE][+-]?\d+)?%?$))", re.DOTALL)


def guard_cell(text: str) -> str:
    """A cell that no spreadsheet program runs as a formula: such a cell gets one leading apostrophe.

    So does one that is apostrophes and then a formula; therefore `unguard_cell` gives back exactly what was there.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguard_cell(text: str) -> str:
    """What `guard_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def utc_text(at: datetime | None) -> str:
    """ISO 8601 in UTC to the second, blank for None."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def auth_cells(outcome: Outcome) -> tuple[str, ...]:
    """An outcome as the cells of `AUTH_COLUMNS`."""
    return (
        outcome.status,
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


def guarded(cells: Iterable[str]) -> Iterator[str]:
    """Cells of `AUTH_COLUMNS`, those of `GUARDED_COLUMNS` guarded."""
    for column, cell in zip(AUTH_COLUMNS, cells, strict=True):
        yield guard_cell(cell) if column in GUARDED_COLUMNS else cell


def auth_frame(roster: Roster, outcomes: Mapping[int, Outcome]) -> pd.DataFrame:
    """The `AUTH_COLUMNS` for each row of the roster, in roster order, as strings.

    What was sent is compared with the row once more: a token never sits beside another driver.

    Args:
        roster: the roster the outcomes belong to.
        outcomes: by row number; a row without one counts as not attempted.

    Raises:
        StorageError: an outcome names another driver than its row; a bug, never the user's fault.
    """
    rows = []
    for row, named in zip(roster.row_numbers(), roster.identifiers(), strict=True):
        outcome = outcomes.get(row) or Outcome(row, Status.NOT_ATTEMPTED)
        sent = outcome.identifier
        if outcome.row != row or (sent is not None and sent != named) or (outcome.token and sent is None):
            raise StorageError(f"row {row}: the outcome belongs to another driver", "please report this as a bug")
        rows.append(auth_cells(outcome))
    return pd.DataFrame(rows, columns=list(AUTH_COLUMNS), dtype=object)
