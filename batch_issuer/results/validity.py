"""Which tokens of an earlier run are good enough to be left alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..model import Status

if TYPE_CHECKING:
    from ..model import Outcome

SANDBOX_TOKEN = "sandbox-"  # noqa: S105 - how those of the sandbox begin

# What a spreadsheet program made of a cell: #NAME?, Err:508, 1.2E+17.
_SPOILT = re.compile(r"#.*|Err:.*|[+-]?\d+(?:[.,]\d+)?[eE]\+\d+|\s*")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{11,}")


def is_spoilt(token: str, code: str) -> bool:
    """Whether a token cannot be redeemed, since it or its code is no longer what it was."""
    return bool(_SPOILT.fullmatch(token)) or not _CODE.fullmatch(code)


@dataclass(frozen=True, slots=True)
class Validity:
    """Which tokens of an earlier run are good enough to be left alone.

    Attributes:
        least: how long they must still be valid.
        now: UTC.
        real: whether tokens of the sandbox are worth nothing.
    """

    least: timedelta
    now: datetime
    real: bool = True

    @classmethod
    def until(cls, seconds: float, *, real: bool = True) -> Validity:
        """Valid for so many seconds from now on."""
        return cls(timedelta(seconds=seconds), datetime.now(UTC), real)

    def lives(self, outcome: Outcome) -> bool:
        """Whether a row holds a token that may still be redeemed: complete, intact, not known to have expired."""
        return (
            outcome.status is Status.ISSUED
            and outcome.identifier is not None
            and (outcome.expires_at is None or outcome.expires_at > self.now)
            and not is_spoilt(outcome.token, outcome.code)
            and not (self.real and outcome.token.startswith(SANDBOX_TOKEN))
        )

    def suffices(self, outcome: Outcome) -> bool:
        """Whether it lives, and is known to live long enough."""
        return self.lives(outcome) and outcome.expires_at is not None and outcome.expires_at >= self.now + self.least
