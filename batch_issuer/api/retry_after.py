"""The ``Retry-After`` and ``Date`` headers of a reply."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache


def parse_retry_after(text: str | None, *, server_date: str | None = None, now: datetime | None = None) -> float | None:
    """Seconds to wait by ``Retry-After``; None if it is not usable.

    Accepts what RFC 9110 §10.2.3 allows, a whole number of seconds or an HTTP date, and the fractional seconds that
    Samsara sends (``0.40235``); no signs, exponents, ``nan``, ``1_000`` or the like.

    Args:
        text: the header's value; None without one.
        server_date: the reply's ``Date`` header. A date is compared with it, so this computer's clock may be wrong.
        now: the UTC time to use if the server sent no ``Date``.
    """
    text = (text or "").strip(" \t")
    if re.fullmatch(r"\d{1,9}(\.\d{0,30})?|\.\d{1,30}", text, re.ASCII):
        return float(text)
    at = parse_http_date(text)
    if at is None:
        return None
    return max(0.0, (at - (parse_http_date(server_date) or now or datetime.now(UTC))).total_seconds())


@lru_cache(maxsize=64)  # each reply has one, mostly the same as the last
def parse_http_date(text: str | None) -> datetime | None:
    """A time in an HTTP header (RFC 9110 §5.6.7), in UTC; None if it is not valid."""
    if not text or not re.match(r"[A-Za-z]{3,9},? ", text):
        return None
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
