"""Backpressure: all rows wait while the server throttles, or network or shared quota cannot be reached.

Waits grow until a request succeeds or the run gives up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .backoff import full_jitter
from .endings import Ending, EndingKind
from .events import GateClosed, GateOpened, QuotaTrouble
from .verdicts import VerdictKind, gave_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model import Reply
    from ..quota import Permit, Quota, Trouble
    from .events import Event
    from .time_limits import Patience
    from .verdicts import Verdict


class Backpressure:
    """Between one run and its quota."""

    def __init__(
        self,
        quota: Quota,
        patience: Patience,
        emit: Callable[[Event], None],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._quota = quota
        self._patience = patience
        self._emit = emit
        self._uniform = uniform
        self._closings = 0  # of the gate since the last success
        self._quota_is_unavailable = False
        quota.on_trouble = self._on_trouble

    @property
    def active(self) -> bool:
        """Whether all rows had to wait since the last success."""
        return self._closings > 0

    def record(self, reply: Reply, verdict: Verdict, permit: Permit) -> bool:
        """Report the end of a request to the quota; return whether it succeeded."""
        if verdict.kind is VerdictKind.THROTTLED:
            wait = self._wait(reply.retry_after)
            self._quota.throttled(permit, reply.retry_after, wait or 0.0)
            self._report_wait(gave_up(reply, verdict), wait)
        elif not reply.left:
            self._quota.unsent(permit)
        elif reply.status is None:
            self._quota.lost(permit)
        else:
            trouble = verdict.kind in (VerdictKind.RETRY, VerdictKind.RETRY_MAYBE_ISSUED) or not verdict.genuine
            self._quota.answered(permit, healthy=not trouble)
            # A request sent before the pause, or before the quota was lost, does not show that these are over.
            if not trouble and not self._quota.paused and not self._quota_is_unavailable:
                self._end()
                return True
        return False

    def _end(self) -> None:
        self._patience.reset()
        if self._closings:
            self._closings = 0
            self._emit(GateOpened())

    def pause(self, reply: Reply, verdict: Verdict, asked: float | None) -> None:
        """Let all rows of this run wait because of a failure other than a 429.

        Args:
            reply: the failure.
            verdict: of the reply.
            asked: seconds that the server asks to wait; None if it does not.
        """
        wait = self._wait(asked)
        if wait is not None:
            self._quota.pause(wait)
        self._report_wait(gave_up(reply, verdict), wait)

    def _wait(self, asked: float | None) -> float | None:
        """Seconds to wait: as the server ``asked``, or a backoff; None to leave the current wait unchanged.

        If the wait that the server asked for was too short, another client was faster. Then the backoff grows, but only
        up to the time when slots of our own become free: on a server that counts by windows, that is enough.
        """
        if not self._quota.paused:  # of several failures at once, only the first counts
            self._closings += 1
            backoff = full_jitter(self._closings, self._uniform)
            if asked is None:
                asked = backoff
            elif self._closings > 1:
                asked = max(asked, min(backoff, self._quota.next_release()))
        # Never past the time to give up: a run that starts after this one must be able to send.
        return None if asked is None else min(asked, self._patience.seconds + 1)

    def _report_wait(self, ending: Ending, wait: float | None) -> None:
        self._patience.start(ending)
        if wait is not None:
            self._emit(GateClosed(wait, ending, self._patience.seconds))

    def _on_trouble(self, trouble: Trouble | None) -> None:
        """The shared quota cannot be reached (called at each retry), or is back (None)."""
        was_unavailable, self._quota_is_unavailable = self._quota_is_unavailable, trouble is not None and trouble.waits
        if trouble is None:
            if not self._closings:  # else the server still makes us wait
                self._patience.reset()
            return
        if trouble.waits:
            self._patience.start(Ending(EndingKind.GAVE_UP, trouble.message, trouble.hint))
        if not (was_unavailable and trouble.waits):
            self._emit(QuotaTrouble(trouble.message, trouble.hint, self._patience.seconds if trouble.waits else None))
