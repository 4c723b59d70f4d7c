"""A results file read back."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import ResultsError
from ..model import Status
from ..roster import HEADER_ROW, read_bytes, read_table
from .columns import AUTH_COLUMNS, GUARDED_COLUMNS, ROW_COLUMN, unguard_cell

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


Failure = tuple[int, str, str, str, str]
"""A row without a token: row number, status, identifier, error, hint."""


@dataclass(frozen=True, slots=True)
class Results:
    """A results file that was read, or the journal of a run that did not finish.

    Attributes:
        frame: its cells as strings, guards of `AUTH_COLUMNS` taken off; of a journal the last line of each row.
        rows: the row numbers as the roster's spreadsheet shows them.
    """

    frame: pd.DataFrame
    rows: list[int]

    def counts(self) -> dict[str, int]:
        """How many rows have which ``auth_status``, in the order of `Status`; statuses without rows left out."""
        found = Counter(self.frame["auth_status"])
        known = [str(status) for status in Status]
        return {status: found[status] for status in (*known, *sorted(set(found) - set(known))) if found[status]}

    def expiries(self) -> list[datetime]:
        """When the tokens expire, UTC, earliest first; tokens without a readable expiry left out."""
        held = self.frame.loc[self.frame["auth_token"] != "", "auth_expires_at"]
        times = []
        for text in held:
            with contextlib.suppress(ValueError):
                at = datetime.fromisoformat(text)
                times.append(at if at.tzinfo else at.replace(tzinfo=UTC))
        return sorted(times)

    def failures(self) -> list[Failure]:
        """Rows without a token."""
        columns = [
            self.frame[name] for name in ("auth_token", "auth_status", "auth_identifier", "auth_error", "auth_hint")
        ]
        return [(row, *cells) for row, token, *cells in zip(self.rows, *columns, strict=True) if not token]


def read_results(path: Path) -> Results:
    """Read a results file back.

    Raises:
        RosterError: it cannot be read.
        ResultsError: it is not a results file.
    """
    data = read_bytes(path)
    not_one = ResultsError(f"{path} is not a results file", "give a file that issue wrote")
    if b"auth_token" not in data:
        raise not_one
    frame = read_table(data, path.name, _delimiter)
    if any(list(frame.columns).count(column) != 1 for column in AUTH_COLUMNS):
        raise not_one
    rows = list(range(HEADER_ROW + 1, HEADER_ROW + 1 + len(frame)))
    if frame.columns[0] == ROW_COLUMN:
        frame = frame[~frame[ROW_COLUMN].duplicated(keep="last")]
        frame = frame.iloc[frame[ROW_COLUMN].astype(int).argsort().to_numpy()].reset_index(drop=True)
        rows = frame[ROW_COLUMN].astype(int).tolist()
    for column in GUARDED_COLUMNS:
        frame[column] = frame[column].map(unguard_cell)
    return Results(frame, rows)


def _delimiter(text: str) -> str:
    """The separator between two columns of ours, a comma unless another program saved the file again."""
    found = re.search(r'auth_status"?([,;\t|])"?auth_token', text)
    return found[1] if found else ","
