"""Which tokens of an earlier run are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..model import Status

if TYPE_CHECKING:
    from ..model import Outcome

SANDBOX_TOKEN = "sandbox-"  # noqa: S105 - the prefix of sandbox tokens

# Cells that a spreadsheet program changed: #NAME?, Err:508, 1.2E+17.
_CORRUPTED = re.compile(r"#.*|Err:.*|[+-]?\d+(?:[.,]\d+)?[eE]\+\d+|\s*")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{11,}")


def is_corrupted(token: str, code: str) -> bool:
    """Whether a token cannot be redeemed because it or its code was changed."""
    return bool(_CORRUPTED.fullmatch(token)) or not _CODE.fullmatch(code)


@dataclass(frozen=True, slots=True)
class Validity:
    """Which tokens of an earlier run are kept.

    Attributes:
        least: how long they must still be valid.
        now: UTC.
        real: whether sandbox tokens do not count, because the run is for the real API.
    """

    least: timedelta
    now: datetime
    real: bool = True

    @classmethod
    def at_least(cls, seconds: float, *, real: bool = True) -> Validity:
        """Tokens that stay valid for at least this many seconds from now."""
        return cls(timedelta(seconds=seconds), datetime.now(UTC), real)

    def is_usable(self, outcome: Outcome) -> bool:
        """Whether a row's token may still be redeemed: complete, intact, not known to have expired."""
        return (
            outcome.status is Status.ISSUED
            and outcome.identifier is not None
            and (outcome.expires_at is None or outcome.expires_at > self.now)
            and not is_corrupted(outcome.token, outcome.code)
            and not (self.real and outcome.token.startswith(SANDBOX_TOKEN))
        )

    def is_sufficient(self, outcome: Outcome) -> bool:
        """Whether a row's token is usable and stays valid long enough."""
        if outcome.expires_at is None or outcome.expires_at < self.now + self.least:
            return False
        return self.is_usable(outcome)
