"""Whose trouble is it: one row's, everybody's for a while, or are we asking the wrong server? Pure, no clock.

A circuit breaker (Nygard, *Release It!*, 2007) over the replies of a run::

            ┌──── FAILURES rows in a row fail, and nothing got through in between ────┐
            │                                                                         ▼
         CLOSED: a failure is its row's own                        OPEN: a failure is nobody's, all wait,
            ▲    and costs it an attempt                                 one canary after the other probes
            └─────────────────────────── one got through ─────────────────────────────┘

Rows whose failures opened it get their attempts back. Once something got through, a row that had failed before and
fails again is to blame itself: it no longer counts as a sign of trouble. So in an outage nobody is charged, and rows
that fail for themselves, wherever they stand, are done with soon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .retry import is_foreign, is_genuine

if TYPE_CHECKING:
    from .model import Reply
    from .row import Row

FAILURES = 3
"""Rows that fail one after the other before it is everybody's trouble."""

STRANGERS = 3
"""Foreign replies, with no genuine one before, after which this is not the API."""


class Circuit:
    """A circuit breaker for one run.

    Attributes:
        open: whether failures are everybody's trouble now.
        foreign: the last reply that was none of the API's, as long as none of the API's has come.
    """

    def __init__(self) -> None:
        self.open = False
        self.foreign: Reply | None = None
        self._strangers = 0
        self._known = False
        self._failed: dict[int, Row] = {}  # since something got through, by row number
        self._to_blame: set[int] = set()
        self._suspicion = False

    def see(self, reply: Reply) -> bool:
        """Take note of who answers; whether it is certain by now that this is not the API."""
        if is_genuine(reply):
            self._known, self.foreign = True, None
        elif not self._known and is_foreign(reply):
            self._strangers += 1
            self.foreign = reply
        return self.foreign is not None and self._strangers >= STRANGERS

    @property
    def in_doubt(self) -> bool:
        """Whether something failed and nothing got through since: then a row that has not failed tells most."""
        return self._suspicion

    def got_through(self) -> bool:
        """The server answers as it should; whether it was in trouble until now."""
        was_open, self.open = self.open, False
        self._suspicion = False
        self._to_blame.update(self._failed)
        self._failed.clear()
        return was_open

    def failed(self, row: Row) -> bool:
        """A row got no usable answer; whether that is everybody's trouble, and so costs it nothing."""
        self._suspicion = True
        if row.driver.row not in self._to_blame:
            self._failed[row.driver.row] = row
        if not self.open and len(self._failed) >= FAILURES:
            self.open = True
            for one in self._failed.values():
                one.failures = 0
        return self.open
