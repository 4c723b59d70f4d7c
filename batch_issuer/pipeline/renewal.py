"""How long tokens live: can all be valid at once, and which get a successor at the end of a run?

Lifetimes are the server's, from its ``Date`` to the token's expiry, and are counted on the event loop's clock; so this
computer's own clock may be wrong. No clock is read here: times are arguments, in seconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ..model import Outcome, Reply

CLOCK_TOLERANCE = 60.0
"""Seconds that this computer's clock may be off without a word; ``Date`` has whole seconds, and replies take some."""

ROUNDS = 3
"""Times that tokens are renewed: a network that comes and goes must not make that endless."""


class ExpiryTracker:
    """Of the tokens of one run.

    Attributes:
        lifetime: seconds that the last token lived from its reply on; None before the first.
        clock_ahead: seconds that this computer's clock is ahead of the server's, as far as it was told; else 0.
    """

    def __init__(self, min_validity: float) -> None:
        self.lifetime: float | None = None
        self.clock_ahead = 0.0
        self._min_validity = min_validity
        # Of each token its row, and until when it is valid on the event loop's clock; of a row, the last one counts.
        self._rows, self._until = array("q"), array("d")
        self._earlier: dict[int, datetime] = {}  # by row, on the server's
        self._rounds = 0

    def keep(self, outcomes: list[Outcome]) -> None:
        """Rows that have an earlier token, which was good for long enough when the run began."""
        self._earlier = {
            outcome.row: outcome.expires_at for outcome in outcomes if outcome.token and outcome.expires_at
        }

    def see(self, row: int, reply: Reply, now: float) -> None:
        """A reply with a token came."""
        if reply.clock_ahead is not None:
            self.clock_ahead = reply.clock_ahead
        if reply.lifetime is not None and not reply.expired:
            self.lifetime = reply.lifetime
            self._rows.append(row)
            self._until.append(now + reply.lifetime)

    @property
    def clock_is_off(self) -> bool:
        """Whether this computer's clock is wrong, for all one can tell."""
        return abs(self.clock_ahead) > CLOCK_TOLERANCE

    def at_once(self, drivers: int, plan: Callable[[int], float]) -> int | None:
        """How many of so many drivers can hold a valid token at the same time; None if all can.

        Args:
            drivers: how many there are.
            plan: seconds until so many drivers have their token.
        """
        if self.lifetime is None or plan(drivers) <= self.lifetime:
            return None
        return bisect_right(range(1, drivers + 1), self.lifetime, key=plan)

    def short(self, now: float, wall_clock: datetime, plan: Callable[[int], float]) -> list[int]:
        """The rows whose token would not be valid for the least time, once all these have another; in order.

        None, where that cannot succeed: tokens that live too short a time, or too many drivers.

        Args:
            now: the event loop's time.
            wall_clock: the time as this computer has it.
            plan: seconds until so many drivers have their token.
        """
        if self.lifetime is None or self._rounds >= ROUNDS:
            return []
        until = {
            row: now + (expires_at - wall_clock).total_seconds() + self.clock_ahead
            for row, expires_at in self._earlier.items()
        }
        if min([min(self._until), *until.values()]) > now + plan(0) + self._min_validity:  # as usual
            return []
        until |= zip(self._rows, self._until, strict=True)
        order = sorted(until, key=until.__getitem__)
        times = [until[row] for row in order]
        count = -1
        short = 0
        while count != short:  # those that fall below while others are renewed are renewed as well
            count = short
            short = bisect_right(times, now + plan(count) + self._min_validity)
        if not short or plan(short) + self._min_validity >= self.lifetime:
            return []
        self._rounds += 1
        return sorted(order[:short])
