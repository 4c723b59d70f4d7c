"""What is in a results file: how many rows of which status, tokens until when, and the rows to look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..hints import Hint
from ..model import Status
from .auth_columns import identifier_of
from .validity import is_spoilt

if TYPE_CHECKING:
    from datetime import datetime

    from .reading import Results

UNREADABLE = "(unreadable)"
"""Stands for an ``auth_status`` that is none."""


class Failure(NamedTuple):
    """A row that somebody has to look at: without a token, or with a remark that names a fix."""

    row: int
    status: str
    identifier: str
    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What is in a results file at a moment.

    Attributes:
        rows: how many there are.
        counts: how many of them have which ``auth_status``; they add up to ``rows``.
        corrupted: tokens that a spreadsheet program changed, themselves or their codes, or that stand in several rows.
        valid, expired, unknown_expiry: all other tokens, by what their ``auth_expires_at`` says.
        purged: rows whose token had expired and was blanked.
        next_expiry, last_expiry: of the valid tokens, UTC; None without one.
        problems: rows to look at, by hint, the most frequent hint first.
    """

    rows: int
    counts: dict[str, int]
    corrupted: int
    valid: int
    expired: int
    unknown_expiry: int
    purged: int
    next_expiry: datetime | None
    last_expiry: datetime | None
    problems: dict[str, list[Failure]]


def count_statuses(results: Results) -> dict[str, int]:
    """How many rows have which ``auth_status``, in the order of `Status`; statuses without rows left out.

    Any other text counts as `UNREADABLE`: where columns were shifted it may be a token.
    """
    found = Counter(_status(text) for text in results.frame["auth_status"])
    return {status: found[status] for status in (*map(str, Status), UNREADABLE) if found[status]}


def _spoilt(results: Results) -> list[bool]:
    """For each row, whether it holds a token that cannot be redeemed as it stands, or not for certain."""
    rows = Counter(results.frame["auth_token"])
    pairs = zip(results.frame["auth_token"], results.frame["auth_code"], strict=True)
    return [token != "" and (is_spoilt(token, code) or rows[token] > 1) for token, code in pairs]


def failures_in(results: Results) -> list[Failure]:
    """Rows to look at; a cell that cannot be what its column promises is left out, for it may be a token."""
    columns = [results.frame[name] for name in ("auth_status", "auth_identifier", "auth_error", "auth_hint")]
    found = (
        Failure(row, _status(status), str(identifier_of(who) or ""), _sentence(error), _sentence(hint))
        for row, status, who, error, hint in zip(results.rows, *columns, strict=True)
    )
    found = (
        failure._replace(error="its token or code was changed, or stands in two rows", hint=str(Hint.CORRUPTED))
        if bad
        else failure._replace(error="its auth_status is none", hint=str(Hint.CORRUPTED))
        if failure.status == UNREADABLE
        else failure
        for failure, bad in zip(found, _spoilt(results), strict=True)
    )
    return [failure for failure in found if failure.hint or failure.status != Status.ISSUED]


def status_of(results: Results, now: datetime) -> FileStatus:
    """What is in it at ``now``, in UTC."""
    bad_tokens = _spoilt(results)
    held = results.frame["auth_token"] != ""
    expiries = [at for at, has, bad in zip(results.expires_at(), held, bad_tokens, strict=True) if has and not bad]
    known = sorted(at for at in expiries if at)
    valid = [at for at in known if at > now]
    blank = (results.frame["auth_status"] == Status.ISSUED) & (results.frame["auth_token"] == "")
    found = failures_in(results)
    problems: dict[str, list[Failure]] = {
        hint: [] for hint, _ in Counter(failure.hint for failure in found).most_common()
    }
    for failure in found:
        problems[failure.hint].append(failure)
    return FileStatus(
        rows=len(results.frame),
        counts=count_statuses(results),
        corrupted=sum(bad_tokens),
        valid=len(valid),
        expired=len(known) - len(valid),
        unknown_expiry=len(expiries) - len(known),
        purged=int(blank.sum()),
        next_expiry=valid[0] if valid else None,
        last_expiry=valid[-1] if valid else None,
        problems=problems,
    )


def _status(text: str) -> str:
    return text.strip() if text.strip() in tuple(Status) else UNREADABLE


def _sentence(text: str) -> str:
    """A text that holds a blank, as all of ours do, and no token or code."""
    return text if " " in text.strip() else ""
