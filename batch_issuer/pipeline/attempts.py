"""The requests for one row: what they have brought so far, and the outcome that follows from it."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..hints import Hint, hint_text
from ..model import Outcome, Status, shortened
from .verdicts import VerdictKind

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import Driver, Reply
    from ..quota import Permit
    from .endings import Ending
    from .verdicts import Verdict

CODE_LENGTH = 24
"""Characters of a code, about 140 bits; the API asks for 12 or more."""

_MAYBE_ISSUED = str(Hint.MAYBE_ISSUED)


def new_code() -> str:
    """A fresh random code: a letter, then letters and digits, so that no spreadsheet program changes it."""
    alphabet = string.ascii_letters + string.digits
    rest = len(alphabet) ** (CODE_LENGTH - 1)
    first, number = divmod(secrets.randbelow(len(string.ascii_letters) * rest), rest)  # one look at the random source
    code = [string.ascii_letters[first]]
    for _ in range(CODE_LENGTH - 1):
        number, digit = divmod(number, len(alphabet))
        code.append(alphabet[digit])
    return "".join(code)


@dataclass(slots=True)
class Attempts:
    """What is known of a driver while its row has no outcome yet.

    A row whose earlier token has not expired keeps that until it has the new one, whatever happens.

    Attributes:
        driver: the row.
        sent: requests that left, those of earlier runs without a token included.
        failures: attempts used up.
        unanswered: whether a request of this run may have issued a token that never came.
        reply, verdict: the last ones; None before the first, and after a request that was given up.
    """

    driver: Driver
    sent: int = field(init=False)
    failures: int = 0
    unanswered: bool = False
    reply: Reply | None = None
    verdict: Verdict | None = None

    def __post_init__(self) -> None:
        self.sent = self._sent_before

    @property
    def maybe_issued(self) -> bool:
        """Whether a token may exist that never came, of this run or of an earlier one."""
        before = self.driver.before
        return self.unanswered or (before is not None and before.status is Status.UNKNOWN)

    @property
    def _sent_before(self) -> int:
        before = self.driver.before
        return before.attempts if before is not None and not before.token else 0

    def record(self, reply: Reply, verdict: Verdict) -> None:
        """A reply came."""
        self.reply, self.verdict = reply, verdict
        self.sent += reply.left
        self.unanswered |= verdict.kind is VerdictKind.RETRY_MAYBE_ISSUED

    def record_lost(self) -> None:
        """A request that may have left was given up."""
        self.reply = self.verdict = None
        self.sent += 1
        self.unanswered = True

    def intent(self) -> Outcome:
        """The outcome if the run crashes from now on: a token may exist, and its value is unknown."""
        sent = Outcome(
            self.driver.row,
            Status.UNKNOWN,
            self.driver.identifier,
            error="sent, but the run was cut off before the answer came",
            hint=_MAYBE_ISSUED,
            attempts=self.sent + 1,
            maybe_issued=True,
        )
        return self._or_earlier_token(sent)

    def issued(self, reply: Reply, code: str, at: datetime) -> Outcome:
        """It has its token, requested with ``code``; ``at`` is now, in UTC."""
        return Outcome(
            self.driver.row,
            Status.ISSUED,
            self.driver.identifier,
            token=reply.token,
            code=code,
            expires_at=reply.expires_at,
            error=reply.message,
            hint=str(Hint.EXPIRED if reply.expired else Hint.NO_EXPIRY) if reply.message else "",
            http_status=reply.status,
            request_id=reply.request_id,
            attempts=self.sent,
            issued_at=at,
        )

    def exhausted(self) -> Outcome:
        """Its attempts are used up, or the run is over: ``unknown`` if any of them may have issued a token."""
        message = self.reply.message if self.reply else "sent, but the run ended before the answer came"
        hint = self.verdict.hint if self.verdict else None
        return self._without_token(Status.UNKNOWN if self.maybe_issued else Status.FAILED, message, hint)

    def rejected(self) -> Outcome:
        """The API said no to the driver, or something on the way to the request.

        Only the first settles what earlier runs left open, and neither what this one did a moment ago.
        """
        settles = self.verdict is not None and self.verdict.genuine and self.verdict.kind is VerdictKind.REJECTED
        unknown = self.unanswered or (self.maybe_issued and not settles)
        message, hint = (self.reply.message if self.reply else ""), (self.verdict.hint if self.verdict else None)
        return self._without_token(Status.UNKNOWN if unknown else Status.FAILED, message, hint)

    def stopped(self, ending: Ending) -> Outcome:
        """The run has ended first."""
        touched = self.reply is not None or self.sent > self._sent_before
        return self.exhausted() if self.maybe_issued and touched else self.not_attempted(ending)

    def not_attempted(self, ending: Ending | None) -> Outcome:
        """Nothing can have been issued for it, and ``ending`` came first; None while the run goes on."""
        before = self.driver.before
        if before is not None and before.status is not Status.NOT_ATTEMPTED:
            return before if before.token else replace(before, attempts=self.sent)
        why = f"the run ended before its turn: {ending.message}" if ending else "not yet attempted"
        return self._without_token(Status.NOT_ATTEMPTED, why, Hint.NOT_ATTEMPTED)

    def _without_token(self, status: Status, error: str, hint: Hint | None) -> Outcome:
        """Any other outcome; the hint of an ``unknown`` one says that a token may exist."""
        reply, unknown = self.reply, status is Status.UNKNOWN
        outcome = Outcome(
            self.driver.row,
            status,
            self.driver.identifier,
            error=shortened(error),
            hint=hint_text(str(hint or Hint.MAYBE_ISSUED), maybe_issued=unknown),
            http_status=reply.status if reply else None,
            request_id=reply.request_id if reply else "",
            attempts=self.sent,
            maybe_issued=unknown,
        )
        return self._or_earlier_token(outcome)

    def _or_earlier_token(self, outcome: Outcome) -> Outcome:
        before = self.driver.before
        if before is None or not before.token:
            return outcome
        error = shortened(f"this is the earlier token; no new one: {outcome.error}")
        return replace(before, error=error, hint=outcome.hint, maybe_issued=outcome.maybe_issued)


@dataclass(slots=True, eq=False)
class Request:
    """One request of a row, from its permit to its verdict; ``sent`` once it may have left."""

    attempts: Attempts
    permit: Permit
    sent: bool = False
