"""How much a run has sent, and how fast; for its summary."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .verdicts import VerdictKind, meaning

if TYPE_CHECKING:
    from ..model import Reply
    from ..settings.run_settings import Rate


class Usage:
    """Of one run.

    Attributes:
        requests: how many left.
        throttled: how many of them were answered 429.
        peak: most requests that left within any period of the rate; those answered 429 count.
    """

    def __init__(self, rate: Rate) -> None:
        self.requests = self.throttled = self.peak = 0
        self._period = rate.period
        self._sent: deque[float] = deque()  # within the last period, in the order of the replies

    def replied(self, reply: Reply, sent_at: float) -> None:
        """A request that left at ``sent_at``, by any clock in seconds, got this reply."""
        if not reply.left:
            return
        self.requests += 1
        self.throttled += meaning(reply).verdict is VerdictKind.THROTTLED
        self._sent.append(sent_at)
        while sent_at - self._sent[0] >= self._period:
            self._sent.popleft()
        self.peak = max(self.peak, len(self._sent))
