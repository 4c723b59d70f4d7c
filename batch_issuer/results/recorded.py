"""What a results file says of its rows, column by column: nearly all are plain, and settled without a closer look."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ..model import Status
from .auth_columns import AUTH_COLUMNS, outcome_of, told, utc_time
from .validity import SANDBOX_TOKEN, spoilt_rows

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from datetime import datetime

    import numpy.typing as npt
    import pandas as pd

    from ..model import Identifier, Outcome
    from ..roster import Rows
    from .validity import Validity

    Cells = npt.NDArray[np.object_]
    Truths = npt.NDArray[np.bool_]

WITHOUT_TOKEN = (Status.FAILED, Status.UNKNOWN, Status.NOT_ATTEMPTED)


class Recorded:
    """The `AUTH_COLUMNS` of a results file. Rows are counted from 0.

    A row is plain if what was sent is what its cells name, in the form in which nearly all names are; if it shares
    neither driver nor token with another row; and if all that decides about it is written as this program writes it.

    Attributes:
        names: for each row, the driver that its cells name as a text; blank unless in that form.
        good: of plain rows, whether the token is good, and there is nothing to add.
        expired: of plain rows, whether the token has expired.
        lacking: of plain rows, whether there is none, and a request may bring one.
    """

    def __init__(self, auth: pd.DataFrame, rows: Rows, validity: Validity) -> None:
        self._columns = {column: auth[column].to_numpy() for column in AUTH_COLUMNS}
        self.names = rows.names()
        status, token, code, expires, who, _, hint, *_, issued = self._columns.values()
        known = np.array(self.names, dtype=object)
        plain = (who == known) & (known != "")
        plain &= _once(self.names, plain) & _once(token.tolist(), token != "")
        until, now, enough = _times(expires), validity.now, validity.now + validity.least
        past = {text for text, at in until.items() if at <= now}
        in_time = {text for text, at in until.items() if at > now and at >= enough}
        is_issued = plain & (status == Status.ISSUED.value) & _among(issued, _times(issued))
        self.expired = is_issued & _among(expires, past)
        self.good = is_issued & _among(expires, in_time) & (token != "") & (code != "") & (hint == "")
        self.good[spoilt_rows(token.tolist(), code.tolist())] = False
        if validity.real and self.good.any():
            self.good &= [not one.startswith(SANDBOX_TOKEN) for one in token]
        self.lacking = plain & _among(status, set(map(str, WITHOUT_TOKEN)))
        self.lacking &= (token == "") & (code == "") & (expires == "")

    @property
    def plain(self) -> Truths:
        """Whether each row is."""
        found: Truths = self.good | self.expired | self.lacking
        return found

    def but_for(self, rows: Iterable[int]) -> None:
        """These need a closer look all the same."""
        for column in (self.good, self.expired, self.lacking):
            column[list(rows)] = False

    def cells(self, row: int) -> dict[str, str]:
        """What stands in the columns."""
        return {column: cells[row] for column, cells in self._columns.items()}

    def outcome(self, row: int, number: int) -> Outcome | None:
        """What is recorded of any row, None if nothing is; ``number`` is its own.

        Raises:
            ResultsError: its status or identifier is none.
        """
        cells = self.cells(row)
        return outcome_of(number, cells) if any(cell.strip() for cell in cells.values()) else None

    def plainly(self, row: int, number: int, who: Identifier) -> Outcome:
        """The same of a plain row, whose driver is known."""
        return told(number, who, self.cells(row))

    def tokens(self) -> list[str]:
        """For each row its token if it is a good one, else blank."""
        return [token if good else "" for token, good in zip(self._columns["auth_token"], self.good, strict=True)]


def _times(texts: Cells) -> dict[str, datetime]:
    """What each text that occurs says, if that can be told."""
    return {text: at for text in set(texts) if (at := utc_time(text))}


def _among(cells: Cells, some: Container[str]) -> Truths:
    return np.fromiter((cell in some for cell in cells), bool, len(cells))


def _once(cells: Sequence[str], counted: Truths) -> Truths:
    """Whether the text of each cell stands in no other one of those that count."""
    those = [cell for cell, counts in zip(cells, counted, strict=True) if counts]
    if len(set(those)) == len(those):
        return np.ones(len(cells), bool)
    repeated = {cell for cell, times in Counter(those).items() if times > 1}
    return np.fromiter((cell not in repeated for cell in cells), bool, len(cells))
