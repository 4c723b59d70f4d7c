"""Whose trouble is it: one row's, everybody's for a while, or are we asking the wrong server? Pure, no clock.

A circuit breaker (Nygard, *Release It!*, 2007) over the replies of a run::

            ┌──── FAILURES rows in a row fail, and nothing got through in between ────┐
            │                                                                         ▼
         CLOSED: a failure is its row's own                        OPEN: a failure is nobody's, all wait,
            ▲    and costs it an attempt                                 one canary after the other probes
            └─────────────────────────── one got through ─────────────────────────────┘

Rows whose failures opened it get their attempts back. A row that failed twice, while others got through in between and
after, is to blame itself: it no longer counts as a sign of trouble. Nor does one that failed once, when no other rows
than such are left. So in an outage nobody is charged, and rows that fail for themselves are done with soon.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .verdicts import is_foreign, is_genuine

if TYPE_CHECKING:
    from ..model import Reply
    from .attempts import Attempts

FAILURES = 3
"""Rows that fail one after the other before it is everybody's trouble."""

FOREIGN_REPLIES = 3
"""Foreign replies in a row, to as many rows if there are, with no genuine one before: then this is not the API."""

BLAME_AFTER = 2
"""Times that something gets through after a row has failed, until the row is to blame."""


class CircuitBreaker:
    """A circuit breaker for one run.

    Attributes:
        open: whether failures are everybody's trouble now.
        in_doubt: whether something failed and nothing got through since: then a row that has not failed tells most.
        foreign: the last reply that was none of the API's, as long as none of the API's has come.
    """

    def __init__(self, drivers: int) -> None:
        """Begin closed.

        Args:
            drivers: how many rows there are.
        """
        self.open = self.in_doubt = False
        self.foreign: Reply | None = None
        self._drivers = self._left = drivers
        self._strangers: list[int] = []  # rows, one for each foreign reply
        self._known = False
        self._failed: dict[int, Attempts] = {}  # since something got through, by row number
        self._bouts: Counter[int] = Counter()  # of rows without an outcome
        self._over: set[int] = set()  # rows that failed lately and have their outcome

    def more(self, drivers: int) -> None:
        """So many rows more have no outcome."""
        self._left += drivers

    def see(self, reply: Reply, row: int) -> bool:
        """Take note of who answers for a row; whether it is certain by now that this is not the API."""
        if not self._known and is_foreign(reply):
            self._strangers.append(row)
            self.foreign = reply
            rows = len({*self._strangers})
            return len(self._strangers) >= FOREIGN_REPLIES and rows >= min(FOREIGN_REPLIES, self._drivers)
        self._known |= is_genuine(reply)
        if reply.status is not None:
            self._strangers.clear()
            self.foreign = None
        return False

    def record_success(self) -> None:
        """The server answers as it should."""
        self.open = self.in_doubt = False
        self._bouts.update(self._failed.keys() - self._over)
        self._failed.clear()
        self._over.clear()

    def record_failure(self, row: Attempts) -> bool:
        """A row got no usable answer; whether that is everybody's trouble, and so costs it nothing."""
        self.in_doubt = True
        if not self._is_to_blame(row.driver.row):
            self._failed[row.driver.row] = row
        if not self.open and len(self._failed) >= FAILURES:
            self.open = True
            for one in self._failed.values():
                one.failures = 0
        return self.open

    def _is_to_blame(self, row: int) -> bool:
        bouts = self._bouts.get(row, 0)
        return bouts >= BLAME_AFTER or (bouts > 0 and len(self._bouts) >= self._left)

    def done(self, row: int) -> None:
        """A row has its outcome."""
        self._left -= 1
        self._bouts.pop(row, None)
        if row in self._failed:
            self._over.add(row)
