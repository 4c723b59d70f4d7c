"""Congestion control as in TCP: how fast may requests leave, if the server's limits are unknown?

The leases keep within the documented limit. Any other limit of the server is found as TCP finds the capacity of a
network path (RFC 5681): slow start, a window of requests in flight, a threshold at half the window after a 429, and a
restart after idling::

    start ──► CANARY ───reply───► SLOW START ───threshold───► AVOIDANCE
              window 1            window + 1 per reply        window + 1 per window of replies;
               ▲   ▲                  │                       from 16 without any 429: + 1 per reply
               │   └── after idling ──┴────────────┬─────────────┘
               │                                   │ 429 (also in CANARY): threshold = window / 2
               │                                   ▼
               └─────── gate opens ─────────── GATE CLOSED
                                               for every run, for Retry-After or a backoff

In every state, departures are paced once the server is known to trickle (`pace`).

Pure: ``now`` is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from .pace import SHORT_WAIT, Pace

if TYPE_CHECKING:
    from ..settings.run_settings import Rate

INITIAL_THRESHOLD = 6.0
"""Requests in flight at which slow start ends, so that a server that allows a burst of about ten refuses few."""

TRUSTED_WINDOW = 16.0
"""Requests in flight: a server that never refused up to here may get as many as the user allows."""

MIN_IDLE = 0.1
"""Seconds, about a round trip: a shorter pause does not count as idling, even at a high rate."""


class CongestionControl:
    """The window of requests in flight and the gate of one run.

    Attributes:
        ceiling: most requests in flight.
        pace: of departures, for a trickling server.
        first_reply_at: when the first reply came to a request sent after the gate last closed.
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
        self._sent_since = True  # whether a request has left since the gate last opened
        self._replies = 0  # to requests sent after the gate last closed

    def wait(self, now: float) -> float:
        """Seconds until a request may leave; infinity if only a reply can change that."""
        if self._in_flight >= int(self._window):
            return inf
        return max(self.pace.wait(now), self.gate(now))

    def gate(self, now: float) -> float:
        """Seconds until the gate opens; 0 if it is open."""
        return max(0.0, self._gate_opens_at - now)

    def sent(self, now: float) -> None:
        """Record that a request left."""
        idle = now - max(self._idle_since, self._gate_opens_at)
        if idle > max(MIN_IDLE, SHORT_WAIT * self._rate.spacing):
            self._window = 1.0
            self.pace.idled()
        self.pace.sent(now)
        self._in_flight += 1
        self._idle_since = inf
        self._sent_since = True

    def answered(self, sent_at: float, now: float, *, healthy: bool) -> None:
        """Record a reply other than a 429, ``healthy`` unless the server has a problem."""
        self.unsent(now)
        if not healthy or sent_at <= self._gate_closed_at:  # outdated if sent before the gate closed
            return
        if not self._replies:
            self.first_reply_at = now
        self._replies += 1
        growth = 1.0 if self._window < self._threshold or self._window >= self._trusted else 1 / (self._window + 1)
        self._window = min(self.ceiling, self._window + growth)
        self.pace.answered(now)

    def throttled(self, sent_at: float, now: float, asked: float | None, wait: float) -> None:
        """Record a 429: the threshold becomes half the window, and the gate closes.

        Args:
            sent_at: when its request left.
            now: the time.
            asked: seconds of its ``Retry-After``; None without one.
            wait: seconds for which the gate closes.
        """
        self.unsent(now)
        if sent_at > self._gate_closed_at:  # otherwise it is one of several at once
            self._threshold = max(1.0, self._window / 2)
            self._trusted = inf
            self.pace.throttled(asked, self._replies, now - self._gate_closed_at)
        self.close_gate(now, wait)

    def lost(self, now: float) -> None:
        """Record a lost request: others may get lost too, so the window is 1."""
        self.unsent(now)
        self._window = 1.0

    def unsent(self, now: float) -> None:
        """Record that a request is no longer in flight."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle_since = now

    def close_gate(self, now: float, seconds: float) -> None:
        """Close the gate for ``seconds``, then send a canary; closing it again before a request left prolongs that."""
        if self._sent_since:
            self._gate_closed_at = now
            self._sent_since = False
            self._window = 1.0
            self._replies = 0
        self._gate_opens_at = max(self._gate_opens_at, now + seconds)
        self.pace.restart(self._gate_opens_at)
