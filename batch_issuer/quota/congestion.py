"""How fast may requests leave, when the server does not say how it counts? Congestion control, as TCP does it.

The leases keep within the documented limit. What else the server bears is found like the capacity of a network path,
with the means of RFC 5681: slow start, a window of requests in flight, a threshold at half the window where the server
pushed back, a restart after idling::

    start ──► CANARY ───reply───► SLOW START ───threshold───► AVOIDANCE
              window 1            window + 1 a reply          window + 1 a window of replies; from 16 on,
               ▲   ▲                  │                          │ if it never refused: + 1 a reply
               │   └── after a rest ──┴────────────┬─────────────┘
               │                                   │ 429 (in the canary too): the threshold is half the window
               │                                   ▼
               └─────── the gate opens ─────── GATE CLOSED
                                               for every run, as long as asked or for a backoff

Whichever of these it is in, departures are paced once the server is known to trickle (`pace`).

Pure: ``now`` is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from .pace import SHORT_WAIT, Pace

if TYPE_CHECKING:
    from ..settings.run_settings import Rate

INITIAL_THRESHOLD = 6.0
"""Requests in flight at which slow start ends: a server that bears a burst of ten or so then refuses few."""

TRUSTED_WINDOW = 16.0
"""Requests in flight: a server that never refused on the way to so many bears as many as the user allows."""

MIN_REST = 0.1
"""Seconds, about a round trip: a shorter silence is no rest, however high the rate."""


class CongestionControl:
    """The window of requests in flight and the gate of one run.

    Attributes:
        ceiling: most requests in flight.
        pace: of departures, where the server trickles.
        first_reply_at: when the first reply came to what was sent since the gate closed last.
    """

    def __init__(self, rate: Rate, ceiling: int) -> None:
        self.ceiling = ceiling
        self.pace = Pace(rate)
        self.first_reply_at = -inf
        self._rate = rate
        self._window = 1.0
        self._threshold = min(INITIAL_THRESHOLD, ceiling)
        self._trusted = TRUSTED_WINDOW
        self._in_flight = 0
        self._idle_since = inf
        self._gate_closed_at = self._gate_opens_at = -inf
        self._sent_since = True  # whether anything has left since the gate opened last
        self._replies = 0  # to what was sent since the gate closed last

    def wait(self, now: float) -> float:
        """Seconds until a request may leave: 0 for now, infinity while only a reply can change that."""
        if self._in_flight >= int(self._window):
            return inf
        return max(self.pace.wait(now), self.gate(now))

    def gate(self, now: float) -> float:
        """Seconds until the gate opens; 0 if it is open."""
        return max(0.0, self._gate_opens_at - now)

    def sent(self, now: float) -> None:
        """A request left."""
        idle = now - max(self._idle_since, self._gate_opens_at)
        if idle > max(MIN_REST, SHORT_WAIT * self._rate.spacing):
            self._window = 1.0
            self.pace.rested()
        self.pace.sent(now)
        self._in_flight += 1
        self._idle_since = inf
        self._sent_since = True

    def answered(self, sent_at: float, now: float, *, healthy: bool) -> None:
        """A reply other than a 429 came, ``healthy`` unless the server has a problem."""
        self.unsent(now)
        if not healthy or sent_at <= self._gate_closed_at:  # what was sent before the gate closed is old news
            return
        if not self._replies:
            self.first_reply_at = now
        self._replies += 1
        growth = 1.0 if self._window < self._threshold or self._window >= self._trusted else 1 / (self._window + 1)
        self._window = min(self.ceiling, self._window + growth)
        self.pace.answered(now)

    def throttled(self, sent_at: float, now: float, asked: float | None, wait: float) -> None:
        """A 429 came: half the window is the threshold, and the gate closes.

        Args:
            sent_at: when its request left.
            now: the time.
            asked: seconds that it asks for; None if it does not.
            wait: seconds for which the gate closes.
        """
        self.unsent(now)
        if sent_at > self._gate_closed_at:  # else it is one of many at once
            self._threshold = max(1.0, self._window / 2)
            self._trusted = inf
            self.pace.throttled(asked, self._replies, now - self._gate_closed_at)
        self.close_gate(now, wait)

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
        if self._sent_since:
            self._gate_closed_at = now
            self._sent_since = False
            self._window = 1.0
            self._replies = 0
        self._gate_opens_at = max(self._gate_opens_at, now + seconds)
        self.pace.restart(self._gate_opens_at)
