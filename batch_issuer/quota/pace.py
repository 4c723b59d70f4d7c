"""Paced departures, for a trickling server. Pure: times are arguments, in seconds of any monotonic clock.

A server trickles if, several times in succession, it accepts no more requests between two closings of the gate than
L/P allows for that time. It may have a small burst (GCRA), estimate its count from two windows, or another program may
use up its window. An overloaded server accepts more than that, and pacing would not help.

Departures are then P/L apart, farther after a 429 and closer with each reply (additive increase, multiplicative
decrease; Chiu and Jain 1989). Unused departures are saved up, as many as the server has accepted in succession.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings.run_settings import Rate

TRICKLE_CLOSINGS = 4
"""Closings of the gate in short succession that reveal a trickle; one fewer if only single requests succeeded."""

SHORT_WAIT = 4.0
"""Spacings P/L. A trickling server never asks for a longer wait; a longer pause counts as idling."""

DECREASE = 0.8
"""Factor of the pace after a 429."""

INCREASE = 0.02
"""Increase of the pace after another reply, as a share of L/P."""


class Pace:
    """Detects a trickle, and then paces the departures.

    Attributes:
        active: whether the server is known to trickle, so that departures are paced.
        runs: how many runs share the server's pace.
    """

    def __init__(self, rate: Rate) -> None:
        self.active = False
        self.runs = 1
        self._rate = rate
        self._pace = 1.0  # as a share of L/P
        self._saved, self._saved_at = 0.0, -inf  # departures saved up, and at which time
        self._most_saved = 1
        self._closings = 0  # of the gate in short succession
        self._replies_between = 0  # these closings
        self._most_replies = 0  # between any two closings

    @property
    def spacing(self) -> float:
        """Seconds between departures; 0 without pacing."""
        return self._spacing if self.active else 0.0

    def wait(self, now: float) -> float:
        """Seconds until a request may leave; 0 without pacing."""
        return max(0.0, (1 - self._saved_by(now)) * self._spacing) if self.active else 0.0

    def sent(self, now: float) -> None:
        """Record that a request left."""
        if self.active:
            self._save(now)
            self._saved -= 1

    def answered(self, now: float) -> None:
        """Record a reply other than a 429."""
        if self.active:
            self._save(now)
            self._pace = min(1.0, self._pace + INCREASE)

    def throttled(self, asked: float | None, replies: int, seconds: float) -> None:
        """Record the first 429 since the gate last opened.

        Args:
            asked: seconds of its ``Retry-After``; None without one.
            replies: other replies to requests sent after the gate last closed.
            seconds: time since the gate last closed.
        """
        if not self.active:
            self._detect(asked, replies, seconds)
        elif replies:
            self._pace *= DECREASE

    def idled(self) -> None:
        """Record that nothing was sent for a while, so that the server may now accept a burst."""
        self._closings = 0

    def restart(self, at: float) -> None:
        """Save nothing up before ``at``, so that a canary leaves one spacing later, which leaves room for jitter."""
        self._saved, self._saved_at = 0.0, at

    def _detect(self, asked: float | None, replies: int, seconds: float) -> None:
        self._most_replies = max(self._most_replies, replies)
        earned = seconds / self._rate.spacing + 1
        is_short = asked is None or asked <= SHORT_WAIT * self._rate.spacing
        if not is_short or replies > earned:
            self._closings = 0
        if not is_short or (self._closings and not replies):  # it refuses as before, which shows nothing new
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
        """Update what is saved up, before the pace changes."""
        self._saved, self._saved_at = self._saved_by(now), now
