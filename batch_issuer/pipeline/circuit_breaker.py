"""Is it one row's trouble or everybody's for a while, or is this the wrong server? Pure, no clock.

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

from .verdicts import not_the_api

if TYPE_CHECKING:
    from ..model import Reply
    from .attempts import Attempts
    from .endings import Ending
    from .verdicts import Verdict

FAILURES = 3
"""Rows that fail one after the other before it is everybody's trouble."""

FOREIGN_REPLIES = 3
"""Foreign replies in a row, to as many rows if there are, with no genuine one before: then this is not the API."""

BLAME_AFTER = 2
"""Times that something gets through after a row has failed, until the row is to blame."""


class CircuitBreaker:
    """The circuit breaker of one run.

    Attributes:
        open: whether failures are everybody's trouble now.
        in_doubt: whether something failed and nothing got through since: then a row that has not failed tells most.
        wrong_address: how the run ends if the last reply, a foreign one, stays the last; None otherwise.
    """

    def __init__(self, drivers: int) -> None:
        """Begin closed.

        Args:
            drivers: how many rows there are.
        """
        self.open = self.in_doubt = False
        self.wrong_address: Ending | None = None
        self._drivers = drivers
        self._foreign: list[int] = []  # rows, one for each foreign reply
        self._genuine = False  # whether the API has ever answered
        self._failed: dict[int, Attempts] = {}  # since something got through, by row number
        self._blame: Counter[int] = Counter()  # of rows without an outcome
        self._finished: set[int] = set()  # rows that failed lately and have their outcome

    def record_sender(self, reply: Reply, verdict: Verdict, row: int) -> Ending | None:
        """Note who sent any other reply; how the run ends, once it is certain that this is not the API."""
        if not self._genuine and verdict.foreign:
            self._foreign.append(row)
            self.wrong_address = not_the_api(reply, verdict)
            rows = len({*self._foreign})
            certain = len(self._foreign) >= FOREIGN_REPLIES and rows >= min(FOREIGN_REPLIES, self._drivers)
            return self.wrong_address if certain else None
        self._genuine |= verdict.genuine
        if reply.status is not None:
            self._forget_foreign()
        return None

    def _forget_foreign(self) -> None:
        self._foreign.clear()
        self.wrong_address = None

    def record_success(self) -> None:
        """The API answered as it should."""
        self.open = self.in_doubt = False
        self._genuine = True
        self._forget_foreign()
        self._blame.update(self._failed.keys() - self._finished)
        self._failed.clear()
        self._finished.clear()

    def record_failure(self, attempts: Attempts, left: int) -> bool:
        """A row got no usable answer; whether that is everybody's trouble, and so costs it nothing.

        Args:
            attempts: of the row.
            left: rows without an outcome, this one included.
        """
        self.in_doubt = True
        row = attempts.driver.row
        if not self._is_to_blame(row, left):
            self._failed[row] = attempts
        if not self.open and len(self._failed) >= FAILURES:
            self.open = True
            for one in self._failed.values():
                one.failures = 0
        return self.open

    def _is_to_blame(self, row: int, left: int) -> bool:
        times = self._blame.get(row, 0)
        return times >= BLAME_AFTER or (times > 0 and len(self._blame) >= left)

    def record_outcome(self, row: int) -> None:
        """A row has its outcome."""
        self._blame.pop(row, None)
        if row in self._failed:
            self._finished.add(row)
