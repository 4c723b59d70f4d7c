"""How much a run has sent, and how fast; for its summary."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .verdicts import VerdictKind

if TYPE_CHECKING:
    from ..settings.run_settings import Rate
    from .verdicts import Verdict


class Usage:
    """Requests of one run.

    Attributes:
        requests: how many left.
        throttled: how many of them were answered 429.
        peak: most requests that left within any period of the rate; those answered 429 count.
    """

    def __init__(self, rate: Rate) -> None:
        self.requests = self.throttled = self.peak = 0
        self._period = rate.period
        self._sent: deque[float] = deque()  # within the last period, in the order of the replies

    def record(self, verdict: Verdict, sent_at: float) -> None:
        """Count a request by its reply; it left at ``sent_at``, by any clock in seconds, if it did leave."""
        if verdict.kind is VerdictKind.UNREACHABLE:
            return
        self.requests += 1
        self.throttled += verdict.kind is VerdictKind.THROTTLED
        self._sent.append(sent_at)
        while sent_at - self._sent[0] >= self._period:
            self._sent.popleft()
        self.peak = max(self.peak, len(self._sent))
