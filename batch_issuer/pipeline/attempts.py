"""One row on its way to an outcome: what is known of it, and what that comes to."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Outcome, Status, shortened
from .verdicts import VerdictKind, is_genuine, meaning

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import Driver, Reply
    from ..quota import Permit
    from .endings import Ending

CODE_LENGTH = 24
"""Characters of a code, about 140 bits; the API asks for 12 or more."""


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


class Flight(Enum):
    """Where a request is; decides what a cancelled one leaves behind."""

    GROUNDED = "it has its verdict"
    ADMITTED = "it holds a slot and has not left"
    UNDER_WAY = "it may have left, its reply has not been accounted for"


@dataclass(slots=True)
class Attempts:
    """What is known of a driver while its row has no outcome yet.

    A row whose earlier token has not expired keeps that until it has the new one, whatever happens.
    """

    driver: Driver
    sent: int = field(init=False)  # requests that left, those of earlier runs without a token included
    failures: int = 0  # attempts used up
    unanswered: bool = False  # whether a request of this run may have issued a token that never came
    reply: Reply | None = None  # the last one

    def __post_init__(self) -> None:
        self.sent = self._sent_before

    @property
    def maybe_issued(self) -> bool:
        """Whether a token may exist that never came, of this run or of one before."""
        before = self.driver.before
        return self.unanswered or (before is not None and before.status is Status.UNKNOWN)

    @property
    def _sent_before(self) -> int:
        before = self.driver.before
        return before.attempts if before is not None and not before.token else 0

    def intent(self) -> Outcome:
        """What a crash from now on leaves behind: a token may exist that nobody knows."""
        sent = Outcome(
            self.driver.row,
            Status.UNKNOWN,
            self.driver.identifier,
            error="sent, but the run was cut off before the answer came",
            hint=str(Hint.MAYBE_ISSUED),
            attempts=self.sent + 1,
        )
        return self._or_earlier_token(sent)

    def issued(self, reply: Reply, code: str, at: datetime) -> Outcome:
        """It has its token, asked for with ``code``; ``at`` is now, in UTC."""
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

    def spent(self, hint: Hint) -> Outcome:
        """Its attempts are used up, or the run is over: ``unknown`` if any of them may have issued a token."""
        message = self.reply.message if self.reply else "sent, but the run ended before the answer came"
        return self.without_token(Status.UNKNOWN if self.maybe_issued else Status.FAILED, message, hint)

    def rejected(self, reply: Reply, hint: Hint) -> Outcome:
        """The API said no to the driver, or somebody to the request.

        Only the first settles what earlier runs left open, and neither what this one did a moment ago.
        """
        settles = is_genuine(reply) and meaning(reply).verdict is VerdictKind.REJECTED
        unknown = self.unanswered or (self.maybe_issued and not settles)
        return self.without_token(Status.UNKNOWN if unknown else Status.FAILED, reply.message, hint)

    def left_over(self, ending: Ending | None) -> Outcome:
        """The run has ended first."""
        touched = self.reply is not None or self.sent > self._sent_before
        if not (self.maybe_issued and touched):
            return self.not_attempted(ending)
        hint = meaning(self.reply).hint if self.reply else None
        return self.spent(hint or Hint.MAYBE_ISSUED)

    def not_attempted(self, ending: Ending | None) -> Outcome:
        """Nothing can have been issued for it, and ``ending`` came first; None while the run goes on."""
        before = self.driver.before
        if before is not None and before.status is not Status.NOT_ATTEMPTED:
            return before if before.token else replace(before, attempts=self.sent)
        why = f"the run ended before its turn: {ending.message}" if ending else "not yet attempted"
        return self.without_token(Status.NOT_ATTEMPTED, why, Hint.NOT_ATTEMPTED)

    def without_token(self, status: Status, error: str, hint: Hint) -> Outcome:
        """Any other outcome; an ``unknown`` one always says that a token may exist."""
        reply, cure = self.reply, str(hint)
        if status is Status.UNKNOWN and hint is not Hint.MAYBE_ISSUED:
            cure = f"{cure}; {Hint.MAYBE_ISSUED.cure}"
        outcome = Outcome(
            self.driver.row,
            status,
            self.driver.identifier,
            error=shortened(error),
            hint=cure,
            http_status=reply.status if reply else None,
            request_id=reply.request_id if reply else "",
            attempts=self.sent,
        )
        return self._or_earlier_token(outcome)

    def _or_earlier_token(self, outcome: Outcome) -> Outcome:
        before = self.driver.before
        if before is None or not before.token:
            return outcome
        error = shortened(f"this is the earlier token; no new one: {outcome.error}")
        return replace(before, error=error, hint=outcome.hint)


@dataclass(slots=True)
class Request:
    """One request of a row, from its permit to its verdict; the row may have the next one before this is put away."""

    row: Attempts
    permit: Permit
    flight: Flight = Flight.ADMITTED
