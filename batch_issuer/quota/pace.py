"""Paced departures, for a server that trickles. Pure: times are arguments, in seconds of any monotonic clock.

A server trickles if between one closing of the gate and the next, again and again, it let no more through than that
time earned at L/P: a small burst (GCRA), a count estimated from two windows, or a window that another program keeps
full. One that is merely overloaded lets more through, and pacing would not help.

Departures are then P/L apart: further after a 429, closer with each reply (additive increase, multiplicative decrease;
Chiu and Jain 1989). What goes unused is saved up, as far as the server was seen to save.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings.run_settings import Rate

TRICKLE_CLOSINGS = 4
"""Closings of the gate in short succession that make a trickle; one fewer if single requests got through."""

SHORT_WAIT = 4.0
"""Spacings P/L. A server that trickles never asks for a longer wait; a longer silence is a rest."""

DECREASE = 0.8
"""What a 429 leaves of the pace."""

INCREASE = 0.02
"""What a reply adds to the pace, as a share of L/P."""


class Pace:
    """Detects a trickle; then says when the next request may leave.

    Attributes:
        active: whether the server is known to trickle, so that departures are paced.
        runs: how many runs share the server's pace.
    """

    def __init__(self, rate: Rate) -> None:
        self.active = False
        self.runs = 1
        self._rate = rate
        self._pace = 1.0  # as a share of L/P
        self._saved, self._saved_at = 0.0, -inf  # departures that the pace has room for, and as of when
        self._most_saved = 1
        self._closings = 0  # of the gate, in short succession
        self._replies_between = 0  # those closings
        self._most_replies = 0  # between any two closings

    @property
    def spacing(self) -> float:
        """Seconds between departures; 0 unless they are paced."""
        return self._spacing if self.active else 0.0

    def wait(self, now: float) -> float:
        """Seconds until a request may leave; 0 unless they are paced."""
        return max(0.0, (1 - self._saved_by(now)) * self._spacing) if self.active else 0.0

    def sent(self, now: float) -> None:
        """A request left."""
        if self.active:
            self._save(now)
            self._saved -= 1

    def answered(self, now: float) -> None:
        """A reply other than a 429 came."""
        if self.active:
            self._save(now)
            self._pace = min(1.0, self._pace + INCREASE)

    def throttled(self, asked: float | None, replies: int, seconds: float) -> None:
        """The first 429 since the gate opened last.

        Args:
            asked: seconds that it asks for; None if it does not.
            replies: other replies to what was sent since the gate closed last.
            seconds: since the gate closed last.
        """
        if not self.active:
            self._detect(asked, replies, seconds)
        elif replies:
            self._pace *= DECREASE

    def rested(self) -> None:
        """Nothing was sent for a while: what gets through now, the server may have saved up."""
        self._closings = 0

    def restart(self, at: float) -> None:
        """Nothing is saved by then, so that a canary leaves a spacing later: room for jitter on the way."""
        self._saved, self._saved_at = 0.0, at

    def _detect(self, asked: float | None, replies: int, seconds: float) -> None:
        self._most_replies = max(self._most_replies, replies)
        earned = seconds / self._rate.spacing + 1
        is_short = asked is None or asked <= SHORT_WAIT * self._rate.spacing
        if not is_short or replies > earned:
            self._closings = 0
        if not is_short or (self._closings and not replies):  # it still refuses: that is no news
            return
        self._replies_between = self._replies_between + replies if self._closings else 0
        self._closings += 1
        singly = self._replies_between == self._closings - 1
        if self._closings >= (TRICKLE_CLOSINGS - 1 if singly else TRICKLE_CLOSINGS):
            self.active = True
            self._most_saved = max(1, self._most_replies - 1)

    @property
    def _spacing(self) -> float:
        return self._rate.spacing * self.runs / self._pace

    def _saved_by(self, now: float) -> float:
        return min(self._most_saved, self._saved + (now - self._saved_at) / self._spacing)

    def _save(self, now: float) -> None:
        """Settle what was saved until now, before the pace changes."""
        self._saved, self._saved_at = self._saved_by(now), now
