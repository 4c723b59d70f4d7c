"""The requests for one row: their results so far, and the outcome that follows."""

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
"""Characters of a code, about 140 bits; the API requires 12 or more."""

_MAYBE_ISSUED = str(Hint.MAYBE_ISSUED)


def new_code() -> str:
    """A fresh random code. It starts with a letter, so that no spreadsheet program takes it for a number."""
    alphabet = string.ascii_letters + string.digits
    rest = len(alphabet) ** (CODE_LENGTH - 1)
    first, number = divmod(secrets.randbelow(len(string.ascii_letters) * rest), rest)  # one system call
    code = [string.ascii_letters[first]]
    for _ in range(CODE_LENGTH - 1):
        number, digit = divmod(number, len(alphabet))
        code.append(alphabet[digit])
    return "".join(code)


@dataclass(slots=True)
class Attempts:
    """The state of a row that has no outcome yet.

    A row with an earlier, unexpired token keeps it until the new one has arrived.

    Attributes:
        driver: the row.
        sent: requests sent, including those of earlier runs that got no token.
        failures: attempts used up.
        unanswered: whether a request of this run may have issued a token that never arrived.
        reply, verdict: the last ones; None before the first reply and after a lost request.
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
        """Whether this run or an earlier one may have issued a token that never arrived."""
        before = self.driver.before
        return self.unanswered or (before is not None and before.status is Status.UNKNOWN)

    @property
    def _sent_before(self) -> int:
        before = self.driver.before
        return before.attempts if before is not None and not before.token else 0

    def record(self, reply: Reply, verdict: Verdict) -> None:
        """Record a reply."""
        self.reply, self.verdict = reply, verdict
        self.sent += reply.left
        self.unanswered |= verdict.kind is VerdictKind.RETRY_MAYBE_ISSUED

    def record_lost(self) -> None:
        """Record a request that may have been sent and got no reply."""
        self.reply = self.verdict = None
        self.sent += 1
        self.unanswered = True

    def intent(self) -> Outcome:
        """The outcome if the run crashes before the reply: a token may exist, but its value is lost."""
        sent = Outcome(
            self.driver.row,
            Status.UNKNOWN,
            self.driver.identifier,
            error="sent, but the run was interrupted before a reply came",
            hint=_MAYBE_ISSUED,
            attempts=self.sent + 1,
            maybe_issued=True,
        )
        return self._or_earlier_token(sent)

    def issued(self, reply: Reply, code: str, at: datetime) -> Outcome:
        """The outcome with a token, requested with ``code``; ``at`` is the current time in UTC."""
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
        """The outcome after the last attempt: ``unknown`` if any attempt may have issued a token, else ``failed``."""
        message = self.reply.message if self.reply else "sent, but the run ended before a reply came"
        hint = self.verdict.hint if self.verdict else None
        return self._without_token(Status.UNKNOWN if self.maybe_issued else Status.FAILED, message, hint)

    def rejected(self) -> Outcome:
        """The outcome of a refused request.

        Only a refusal by the API itself settles whether an *earlier run* issued a token that was lost; for unanswered
        requests of *this* run that stays open.
        """
        settles = self.verdict is not None and self.verdict.genuine and self.verdict.kind is VerdictKind.REJECTED
        unknown = self.unanswered or (self.maybe_issued and not settles)
        message, hint = (self.reply.message if self.reply else ""), (self.verdict.hint if self.verdict else None)
        return self._without_token(Status.UNKNOWN if unknown else Status.FAILED, message, hint)

    def stopped(self, ending: Ending) -> Outcome:
        """The outcome of a row that the run's ending left unfinished."""
        touched = self.reply is not None or self.sent > self._sent_before
        return self.exhausted() if self.maybe_issued and touched else self.not_attempted(ending)

    def not_attempted(self, ending: Ending | None) -> Outcome:
        """The outcome of a row that cannot have a new token; ``ending`` is None while the run continues."""
        before = self.driver.before
        if before is not None and before.status is not Status.NOT_ATTEMPTED:
            return before if before.token else replace(before, attempts=self.sent)
        why = f"the run stopped first: {ending.message}" if ending else "not yet attempted"
        return self._without_token(Status.NOT_ATTEMPTED, why, Hint.NOT_ATTEMPTED)

    def _without_token(self, status: Status, error: str, hint: Hint | None) -> Outcome:
        """Any other outcome; for an ``unknown`` one, the hint includes that a token may exist."""
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
        error = shortened(f"earlier token kept: {outcome.error}")
        return replace(before, error=error, hint=outcome.hint, maybe_issued=outcome.maybe_issued)


@dataclass(slots=True, eq=False)
class Request:
    """One request of a row, from its permit to its verdict; ``sent`` once it may have left."""

    attempts: Attempts
    permit: Permit
    sent: bool = False
