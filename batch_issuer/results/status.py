"""A summary of a results file: rows by status, validity of the tokens, and the rows with problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..hints import Hint
from ..model import Status
from .auth_columns import identifier_of
from .validity import is_corrupted

if TYPE_CHECKING:
    from datetime import datetime

    from .reading import Results

UNREADABLE = "(unreadable)"
"""In place of an invalid ``auth_status``."""


class Failure(NamedTuple):
    """A row with a problem: without a token, or with a hint."""

    row: int
    status: str
    identifier: str
    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A summary of a results file at a point in time.

    Attributes:
        rows: their number.
        counts: rows by ``auth_status``; they add up to ``rows``.
        corrupted: tokens that were changed, have a changed code, or are in several rows.
        valid, expired, unknown_expiry: all other tokens, by their ``auth_expires_at``.
        purged: rows with an expired token that was blanked.
        next_expiry, last_expiry: of the valid tokens, UTC; None without one.
        problems: rows with problems, by hint, the most frequent hint first.
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
    """The number of rows by ``auth_status``, in the order of `Status`, without statuses that have no rows.

    Any other text counts as `UNREADABLE`, because it may be a token if columns were shifted.
    """
    found = Counter(_status(text) for text in results.frame["auth_status"])
    return {status: found[status] for status in (*map(str, Status), UNREADABLE) if found[status]}


def _corrupted(results: Results) -> list[bool]:
    """For each row, whether it has a token that cannot be redeemed, or might belong to another row."""
    rows = Counter(results.frame["auth_token"])
    pairs = zip(results.frame["auth_token"], results.frame["auth_code"], strict=True)
    return [token != "" and (is_corrupted(token, code) or rows[token] > 1) for token, code in pairs]


def failures_in(results: Results) -> list[Failure]:
    """Rows with problems. Cells that do not fit their column are left out, because they may be tokens."""
    columns = [results.frame[name] for name in ("auth_status", "auth_identifier", "auth_error", "auth_hint")]
    found = (
        Failure(row, _status(status), str(identifier_of(identifier) or ""), _sentence(error), _sentence(hint))
        for row, status, identifier, error, hint in zip(results.rows, *columns, strict=True)
    )
    found = (
        failure._replace(error="token or code changed, or in two rows", hint=str(Hint.CORRUPTED))
        if bad
        else failure._replace(error="auth_status is not a valid status", hint=str(Hint.CORRUPTED))
        if failure.status == UNREADABLE
        else failure
        for failure, bad in zip(found, _corrupted(results), strict=True)
    )
    return [failure for failure in found if failure.hint or failure.status != Status.ISSUED]


def status_of(results: Results, now: datetime) -> FileStatus:
    """Summarize a results file at ``now``, in UTC."""
    bad_tokens = _corrupted(results)
    has_token = results.frame["auth_token"] != ""
    expiries = [at for at, has, bad in zip(results.expires_at(), has_token, bad_tokens, strict=True) if has and not bad]
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
    """A text with a space, as every error and hint has; a token or code has none."""
    return text if " " in text.strip() else ""
