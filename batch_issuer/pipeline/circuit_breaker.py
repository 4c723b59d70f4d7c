"""Is a failure one row's own, does it affect all rows, or is this the wrong server? Pure, no clock.

A circuit breaker (Nygard, *Release It!*, 2007) over the replies of a run::

            ┌─────── FAILURES rows fail one after another, without a success ─────────┐
            │                                                                         ▼
         CLOSED: a failure costs                                   OPEN: failures cost no attempt; all rows
            ▲    its row an attempt                                      wait, and one canary at a time probes
            └────────────────────────────── a success ────────────────────────────────┘

Rows that failed while it opened get their attempts back. A row that failed twice, each time followed by a success of
another row, is to blame: its failures no longer count towards an outage. If only such rows are left, one failure is
enough. So an outage costs no row its attempts, and rows with a problem of their own finish soon.
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
"""Rows that fail one after another before this counts as an outage."""

FOREIGN_REPLIES = 3
"""Foreign replies in a row, to as many rows if possible and with no genuine one before: this is not the API."""

BLAME_AFTER = 2
"""Successes of other rows after a row's failures until the row itself is to blame."""


class CircuitBreaker:
    """The circuit breaker of one run.

    Attributes:
        open: whether there is an outage.
        in_doubt: whether a request failed and none succeeded since; then a row that has not failed is the best probe.
        wrong_address: how the run ends if no further reply comes and the last one was foreign; None otherwise.
    """

    def __init__(self, drivers: int) -> None:
        """Start closed.

        Args:
            drivers: how many rows there are.
        """
        self.open = self.in_doubt = False
        self.wrong_address: Ending | None = None
        self._drivers = drivers
        self._foreign: list[int] = []  # the row of each foreign reply
        self._genuine = False  # whether the API has ever answered
        self._failed: dict[int, Attempts] = {}  # since the last success, by row number
        self._blame: Counter[int] = Counter()  # of rows without an outcome
        self._finished: set[int] = set()  # rows that failed recently and have an outcome

    def record_sender(self, reply: Reply, verdict: Verdict, row: int) -> Ending | None:
        """Record who sent an unsuccessful reply; return the ending once it is certain that this is not the API."""
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
        """Record a usable reply of the API."""
        self.open = self.in_doubt = False
        self._genuine = True
        self._forget_foreign()
        self._blame.update(self._failed.keys() - self._finished)
        self._failed.clear()
        self._finished.clear()

    def record_failure(self, attempts: Attempts, left: int) -> bool:
        """Record a failure; return whether there is an outage, so that the failure costs no attempt.

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
        """Record that a row has its outcome."""
        self._blame.pop(row, None)
        if row in self._failed:
            self._finished.add(row)
