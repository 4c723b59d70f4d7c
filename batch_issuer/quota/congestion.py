"""How fast may requests leave, when the server does not say how it counts? Congestion control, as TCP does it.

The leases keep within the limit as documented. What else the server may do is found out like the capacity of a
network path, with the means of RFC 5681 (slow start, a window of requests in flight, a threshold at half the window
where the server pushed back, a restart after idling) and, for the pace, additive increase and multiplicative decrease
(Chiu and Jain 1989)::

    start ──► CANARY ───reply───► SLOW START ───threshold───► AVOIDANCE
              window 1            window + 1 a reply          window + 1 a window of replies; from 16 on,
               ▲   ▲                  │                          │ if it never refused: + 1 a reply
               │   └── after a rest ──┴────────────┬─────────────┘
               │                                   │ 429 (in the canary too): the threshold is half the window
               │                                   ▼
               └─────── the gate opens ─────── GATE CLOSED
                                               for every run, as long as asked or for a backoff

    and, whichever of these it is in:

    FREE ───────────── the gate closed ──────────────► PACED
    departures at      again and again                 departures P/L apart: wider after a 429, closer
    will               after no more than a trickle    with each reply; what went unused is saved up,
                                                       as far as the server was seen to save

A server trickles if between one closing of the gate and the next, again and again, it let no more through than the
time between them brought at L/P: a small burst (GCRA), a count estimated from two windows, or a window that another
program keeps full. One that is merely overloaded lets more through, and pacing would not help.

Pure: ``now`` is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings.run_settings import Rate

INITIAL_THRESHOLD = 6.0
"""Requests in flight at which slow start ends: a server that bears a burst of ten or so then refuses few."""

TRUSTED_WINDOW = 16.0
"""Requests in flight: a server that never refused on the way to so many bears as many as the user allows."""

TRICKLE_CLOSINGS = 4
"""Closings of the gate, one soon after the other, that make a trickle; one fewer if single requests got through."""

SHORT_WAIT = 4.0
"""Spacings P/L. A server that trickles never asks for a longer wait; a longer silence is a rest."""

MIN_REST = 0.1
"""Seconds, about a round trip: a shorter silence is none, however high the rate."""

DECREASE = 0.8
"""What a refusal leaves of the pace."""

INCREASE = 0.02
"""What a reply adds to the pace, as a share of L/P."""


class CongestionControl:
    """The window of requests in flight, the gate, and the pace.

    Attributes:
        ceiling: most requests in flight.
        runs: how many runs share the server's pace.
        paced: whether the server is known to trickle.
        first_reply_at: when the first one came to what was sent since the gate closed last.
    """

    def __init__(self, rate: Rate, ceiling: int) -> None:
        self.ceiling = ceiling
        self.runs = 1
        self.paced = False
        self._rate = rate
        self._window = 1.0
        self._threshold = min(INITIAL_THRESHOLD, ceiling)
        self._trusted = TRUSTED_WINDOW
        self._in_flight = 0
        self._idle_since = inf
        self._gate_closed_at = self._gate_opens_at = -inf
        self._left_since = True  # whether anything has left since the gate opened last
        self._replies = 0  # to what was sent since the gate closed last
        self.first_reply_at = -inf
        self._bouts = 0
        self._replies_between_bouts = 0
        self._most_replies = 0
        self._pace = 1.0  # as a share of L/P
        self._saved, self._saved_at = 0.0, -inf  # departures that the pace has room for, and when it had
        self._most_saved = 1

    def wait(self, now: float) -> float:
        """Seconds until a request may leave: 0 for now, infinity while only a verdict can change that."""
        if self._in_flight >= int(self._window):
            return inf
        lacking = (1 - self._saved_now(now)) * self._spacing if self.paced else 0.0
        return max(0.0, lacking, self.gate(now))

    def pacing(self) -> float:
        """Seconds between departures; 0 unless they are paced."""
        return self._spacing if self.paced else 0.0

    def gate(self, now: float) -> float:
        """Seconds until the gate opens; 0 if it is open."""
        return max(0.0, self._gate_opens_at - now)

    def leave(self, now: float) -> None:
        """A request leaves."""
        idle = now - max(self._idle_since, self._gate_opens_at)
        if idle > max(MIN_REST, SHORT_WAIT * self._rate.spacing):  # after a rest
            self._window = 1.0
            self._bouts = 0  # what comes now, the server may have saved up
        if self.paced:
            self._save(now)
            self._saved -= 1
        self._in_flight += 1
        self._idle_since = inf
        self._left_since = True

    def reply(self, sent_at: float, now: float, *, healthy: bool) -> None:
        """A reply other than a 429 came, ``healthy`` unless the server has a problem."""
        self.unsent(now)
        if not healthy or sent_at <= self._gate_closed_at:  # what was sent before the gate closed is old news
            return
        if not self._replies:
            self.first_reply_at = now
        self._replies += 1
        growth = 1.0 if self._window < self._threshold or self._window >= self._trusted else 1 / (self._window + 1)
        self._window = min(self.ceiling, self._window + growth)
        if self.paced:
            self._save(now)
            self._pace = min(1.0, self._pace + INCREASE)

    def refusal(self, sent_at: float, now: float, asked: float | None) -> None:
        """A 429 came that asked for a wait of ``asked`` seconds (None: it did not say); `close_gate` comes next."""
        self.unsent(now)
        if sent_at <= self._gate_closed_at:  # one of many at once
            return
        self._threshold = max(1.0, self._window / 2)
        self._trusted = inf
        if not self.paced:
            self._judge(now, asked)
        elif self._replies:
            self._pace *= DECREASE

    def lost(self, now: float) -> None:
        """A request was given up: whatever lost it may lose more."""
        self.unsent(now)
        self._window = 1.0

    def unsent(self, now: float) -> None:
        """A request is not in flight after all."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle_since = now

    def close_gate(self, now: float, seconds: float) -> None:
        """Nothing leaves for ``seconds``, then a canary; while nothing has left it is the same closing, prolonged."""
        if self._left_since:
            self._gate_closed_at = now
            self._left_since = False
            self._window = 1.0
            self._replies = 0
        self._gate_opens_at = max(self._gate_opens_at, now + seconds)
        # Nothing is saved when it opens, so a paced canary leaves a spacing later: room for jitter on the way.
        self._saved, self._saved_at = 0.0, self._gate_opens_at

    def _judge(self, now: float, asked: float | None) -> None:
        """Does the server trickle? Asked at the first 429 after each opening of the gate."""
        self._most_replies = max(self._most_replies, self._replies)
        brought = (now - self._gate_closed_at) / self._rate.spacing + 1
        soon = asked is None or asked <= SHORT_WAIT * self._rate.spacing
        if not soon or self._replies > brought:
            self._bouts = 0
        if not soon or (self._bouts and not self._replies):  # it still refuses: that says nothing new
            return
        self._replies_between_bouts = self._replies_between_bouts + self._replies if self._bouts else 0
        self._bouts += 1
        singly = self._replies_between_bouts == self._bouts - 1
        if self._bouts >= (TRICKLE_CLOSINGS - 1 if singly else TRICKLE_CLOSINGS):
            self.paced = True
            self._most_saved = max(1, self._most_replies - 1)

    @property
    def _spacing(self) -> float:
        return self._rate.spacing * self.runs / self._pace

    def _saved_now(self, now: float) -> float:
        return min(self._most_saved, self._saved + (now - self._saved_at) / self._spacing)

    def _save(self, now: float) -> None:
        """What was saved until now, before the pace changes."""
        self._saved, self._saved_at = self._saved_now(now), now
