"""The lifetime of tokens: whether all can be valid at once, and which to renew at the end of a run.

A lifetime is measured by the server's clock, from its ``Date`` to the expiry, and counted on the event loop's clock.
So this computer's clock may be wrong. No clock is read here: times are arguments, in seconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ..model import Outcome, Reply

CLOCK_TOLERANCE = 60.0
"""Seconds that this computer's clock may be off without a warning: ``Date`` is in seconds, and replies take time."""

ROUNDS = 3
"""Most rounds of renewal, so that an unreliable network cannot make it endless."""


class ExpiryTracker:
    """When the tokens of one run expire.

    Attributes:
        lifetime: seconds that the last token was valid from its reply on; None before the first.
        clock_ahead: seconds that this computer's clock is ahead of the server's; 0 if not known.
    """

    def __init__(self, min_validity: float, earlier: Iterable[Outcome] = ()) -> None:
        """Start with the ``earlier`` tokens of other rows, which were valid for long enough at the start."""
        self.lifetime: float | None = None
        self.clock_ahead = 0.0
        self._min_validity = min_validity
        # The row and expiry of each token, on the event loop's clock; the last token of a row counts.
        self._rows, self._until = array("q"), array("d")
        self._earlier: dict[int, datetime] = {  # by row, on the server's clock
            outcome.row: outcome.expires_at for outcome in earlier if outcome.token and outcome.expires_at
        }
        self._rounds = 0

    def record(self, row: int, reply: Reply, now: float) -> None:
        """Record a reply with a token."""
        if reply.clock_ahead is not None:
            self.clock_ahead = reply.clock_ahead
        if reply.lifetime is not None and not reply.expired:
            self.lifetime = reply.lifetime
            self._rows.append(row)
            self._until.append(now + reply.lifetime)

    @property
    def clock_is_off(self) -> bool:
        """Whether this computer's clock seems wrong."""
        return abs(self.clock_ahead) > CLOCK_TOLERANCE

    def capacity(self, drivers: int, estimate: Callable[[int], float]) -> int | None:
        """How many of ``drivers`` can have a valid token at the same time; None if all can.

        Args:
            drivers: how many there are.
            estimate: seconds until that many drivers have a token.
        """
        if self.lifetime is None or estimate(drivers) <= self.lifetime:
            return None
        return bisect_right(range(1, drivers + 1), self.lifetime, key=estimate)

    def due(self, now: float, wall_clock: datetime, estimate: Callable[[int], float]) -> list[int]:
        """The rows to renew, in order: their tokens would expire too soon after the renewal.

        Empty if renewal cannot succeed because tokens are too short-lived or there are too many drivers.

        Args:
            now: the event loop's time.
            wall_clock: this computer's time.
            estimate: seconds until that many drivers have a token.
        """
        if self.lifetime is None or self._rounds >= ROUNDS:
            return []
        until = {
            row: now + (expires_at - wall_clock).total_seconds() + self.clock_ahead
            for row, expires_at in self._earlier.items()
        }
        if min([min(self._until), *until.values()]) > now + estimate(0) + self._min_validity:  # the usual case
            return []
        until |= zip(self._rows, self._until, strict=True)
        order = sorted(until, key=until.__getitem__)
        times = [until[row] for row in order]
        count = -1
        due = 0
        while count != due:  # includes tokens that become too old during the renewal
            count = due
            due = bisect_right(times, now + estimate(count) + self._min_validity)
        if not due or estimate(due) + self._min_validity >= self.lifetime:
            return []
        self._rounds += 1
        return sorted(order[:due])
