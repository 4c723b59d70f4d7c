"""How many requests a run sent, and how fast; for its summary."""

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
        requests: how many were sent.
        throttled: how many of them were answered 429.
        peak: most requests sent within any period of the rate, including those answered 429.
    """

    def __init__(self, rate: Rate) -> None:
        self.requests = self.throttled = self.peak = 0
        self._period = rate.period
        self._sent: deque[float] = deque()  # within the last period, in order of the replies

    def record(self, verdict: Verdict, sent_at: float) -> None:
        """Count a request that was sent at ``sent_at``, in seconds of any clock; one that never left does not count."""
        if verdict.kind is VerdictKind.UNREACHABLE:
            return
        self.requests += 1
        self.throttled += verdict.kind is VerdictKind.THROTTLED
        self._sent.append(sent_at)
        while sent_at - self._sent[0] >= self._period:
            self._sent.popleft()
        self.peak = max(self.peak, len(self._sent))
