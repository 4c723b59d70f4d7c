"""What holds up all rows of a run: a server that refuses, a network or a shared quota that cannot be reached.

All wait then, longer each time nothing gets through, until patience ends.
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
        self._closings = 0  # of the gate, since something got through
        self._quota_is_away = False
        quota.on_trouble = self._on_trouble

    @property
    def active(self) -> bool:
        """Whether all had to wait since something got through."""
        return self._closings > 0

    def record(self, reply: Reply, verdict: Verdict, permit: Permit) -> bool:
        """Report to the quota how a request ended; whether that shows that requests get through."""
        if verdict.kind is VerdictKind.THROTTLED:
            wait = self._wait(reply.retry_after)
            self._quota.throttled(permit, reply.retry_after, wait or 0.0)
            self._hold(gave_up(reply, verdict), wait)
        elif not reply.left:
            self._quota.unsent(permit)
        elif reply.status is None:
            self._quota.lost(permit)
        else:
            trouble = verdict.kind in (VerdictKind.RETRY, VerdictKind.RETRY_MAYBE_ISSUED) or not verdict.genuine
            self._quota.answered(permit, healthy=not trouble)
            # One that was sent before the pause, or before the quota went away, does not show that these are over.
            if not trouble and not self._quota.paused and not self._quota_is_away:
                self._end()
                return True
        return False

    def _end(self) -> None:
        self._patience.reset()
        if self._closings:
            self._closings = 0
            self._emit(GateOpened())

    def pause(self, reply: Reply, verdict: Verdict, asked: float | None) -> None:
        """All rows of this run wait, for trouble other than a 429.

        Args:
            reply: why.
            verdict: of the reply.
            asked: seconds that the server asks for; None if it does not.
        """
        wait = self._wait(asked)
        if wait is not None:
            self._quota.pause(wait)
        self._hold(gave_up(reply, verdict), wait)

    def _wait(self, asked: float | None) -> float | None:
        """Seconds to wait: as long as the server ``asked`` (within reason), and for a backoff; None to wait no longer.

        Where the wait that the server asked for was not enough the backoff grows, because another client was faster;
        it ends when slots of our own come free, on a server that counts by windows.
        """
        if not self._quota.paused:  # of many failures at once, one counts
            self._closings += 1
            backoff = full_jitter(self._closings, self._uniform)
            if asked is None:
                asked = backoff
            elif self._closings > 1:
                asked = max(asked, min(backoff, self._quota.next_release()))
        # No longer than patience lasts: a run that starts after this one has given up must request again.
        return None if asked is None else min(asked, self._patience.seconds + 1)

    def _hold(self, ending: Ending, wait: float | None) -> None:
        self._patience.start(ending)
        if wait is not None:
            self._emit(GateClosed(wait, ending, self._patience.seconds))

    def _on_trouble(self, trouble: Trouble | None) -> None:
        """The shared quota cannot be reached (called again with each try), or is back (None)."""
        was_away, self._quota_is_away = self._quota_is_away, trouble is not None and trouble.waits
        if trouble is None:
            if not self._closings:  # else there is something else to be patient with
                self._patience.reset()
            return
        if trouble.waits:
            self._patience.start(Ending(EndingKind.GAVE_UP, trouble.message, trouble.hint))
        if not (was_away and trouble.waits):
            self._emit(QuotaTrouble(trouble.message, trouble.hint, self._patience.seconds if trouble.waits else None))
