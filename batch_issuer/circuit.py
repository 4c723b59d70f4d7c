"""Whose trouble is it: one row's, everybody's for a while, or are we asking the wrong server? Pure, no clock.

A circuit breaker (Nygard, *Release It!*, 2007) over the replies of a run::

            ┌──── FAILURES rows in a row fail, and nothing got through in between ────┐
            │                                                                         ▼
         CLOSED: a failure is its row's own                        OPEN: a failure is nobody's, all wait,
            ▲    and costs it an attempt                                 one canary after the other probes
            └─────────────────────────── one got through ─────────────────────────────┘

What closed it shows that the rows that had failed just before were not all to blame, so they get their attempts back. A
row that fails again and again while others get through is to blame itself: it no longer counts as a sign of trouble.
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
        self._excused: set[int] = set()
        self._to_blame: set[int] = set()

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
        """Whether rows have failed and nothing got through since: then one that has not failed tells more."""
        return bool(self._failed) and not self.open

    def got_through(self) -> bool:
        """The server answers as it should; whether it was in trouble until now."""
        was_open, self.open = self.open, False
        if not was_open:
            self._to_blame.update(self._failed)
        self._failed.clear()
        return was_open

    def failed(self, row: Row) -> bool:
        """A row got no usable answer; whether that is everybody's trouble, and so costs it nothing."""
        number = row.driver.row
        if not self.open and number not in self._to_blame:
            self._failed[number] = row
            if len(self._failed) >= FAILURES:
                self._trip()
        return self.open

    def _trip(self) -> None:
        self.open = True
        for number, row in self._failed.items():
            row.failures = 0
            (self._to_blame if number in self._excused else self._excused).add(number)
