"""What keeps everybody from getting through: a server that refuses, a network or a shared quota that is away.

All wait then, longer each time nothing gets through, until patience ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .backoff import full_jitter
from .endings import Ending, EndingKind
from .events import GateClosed, GateOpened, QuotaTrouble
from .verdicts import VerdictKind, gave_up, is_genuine, meaning

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model import Reply
    from ..quota import Permit, Quota, Trouble
    from .events import Event
    from .time_limits import Patience


class Backpressure:
    """Of one run."""

    def __init__(
        self, patience: Patience, tell: Callable[[Event], None], uniform: Callable[[float, float], float]
    ) -> None:
        self._patience = patience
        self._tell = tell
        self._uniform = uniform
        self._quota: Quota
        self._count = 0  # closings of the gate since something got through
        self._quota_is_away = False

    @property
    def any(self) -> bool:
        """Whether there were any since something got through."""
        return self._count > 0

    def watch(self, quota: Quota) -> None:
        """From now on these are the setbacks with this quota."""
        self._quota = quota
        quota.tell = self._on_trouble

    def account(self, reply: Reply, permit: Permit) -> bool:
        """Tell the quota what became of a request; whether it shows that requests get through."""
        verdict = meaning(reply).verdict
        if verdict is VerdictKind.THROTTLED:
            self._quota.throttled(permit, reply.retry_after)
        elif not reply.left:
            self._quota.unsent(permit)
        elif reply.status is None:
            self._quota.lost(permit)
        else:
            healthy = verdict not in (VerdictKind.RETRY, VerdictKind.RETRY_MAYBE_ISSUED) and is_genuine(reply)
            self._quota.answered(permit, healthy=healthy)
            # One that was sent before the pause, or before the quota went away, says nothing about the end of that.
            if healthy and not self._quota.paused and not self._quota_is_away:
                self._end()
                return True
        return False

    def _end(self) -> None:
        self._patience.renew()
        if self._count:
            self._count = 0
            self._tell(GateOpened())

    def suffer(self, reply: Reply, asked: float | None, *, everybody: bool = False) -> None:
        """All wait, as long as the server ``asked`` (within reason) and for a backoff.

        Where the wait that the server asked for was not enough a backoff grows, since somebody else was faster; it
        ends when slots of our own come free, on a server that counts by windows.

        Args:
            reply: why.
            asked: seconds; None if it did not ask.
            everybody: whether all runs wait that share the quota, and not this one alone.
        """
        ending = gave_up(reply)
        if not self._quota.paused:  # of many failures at once, one counts
            self._count += 1
            backoff = full_jitter(self._count, self._uniform)
            if asked is None:
                asked = backoff
            elif self._count > 1:
                asked = max(asked, min(backoff, self._quota.next_release()))
        self._patience.wear(ending)
        if asked is not None:
            asked = min(asked, self._patience.seconds + 1)  # a run that comes once this has given up shall ask anew
            self._quota.pause(asked, everybody=everybody)
            self._tell(GateClosed(asked, ending, self._patience.seconds))

    def _on_trouble(self, trouble: Trouble | None) -> None:
        """The shared quota cannot be reached (told again with each try), or is there again (None)."""
        told, self._quota_is_away = self._quota_is_away, trouble is not None and trouble.waits
        if trouble is None:
            if not self._count:  # else there is something else to be patient with
                self._patience.renew()
            return
        if trouble.waits:
            self._patience.wear(Ending(EndingKind.GAVE_UP, trouble.message, trouble.tip))
        if not (told and trouble.waits):
            self._tell(QuotaTrouble(trouble.message, trouble.tip, self._patience.seconds if trouble.waits else None))
