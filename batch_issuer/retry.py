"""What a reply means, how long to back off, how ``Retry-After`` reads. Pure functions only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING

from .events import Ending, EndingKind
from .hints import SCOPE, Hint
from .model import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Reply

BACKOFF_BASE = 0.5
"""Seconds: the first backoff is drawn from 0 to this."""

BACKOFF_CAP = 30.0
"""Seconds: no backoff is longer."""


class Verdict(Enum):
    """What to do about a reply."""

    ISSUED = "keep the token"
    REJECTED = "the row has failed; asking again would not help"
    KEY_REFUSED = "stop the run: every other row would be refused too"
    THROTTLED = "the server asks to wait: everybody does; costs the row nothing"
    UNREACHABLE = "the request never left: everybody waits; costs the row nothing"
    RETRY = "ask again; no token was issued"
    RETRY_MAYBE_ISSUED = "ask again; a token may have been issued"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A verdict, and the hint to give where it is the last word on a row."""

    verdict: Verdict
    hint: Hint | None = None


_FAULTS = {
    Fault.UNREACHABLE: Meaning(Verdict.UNREACHABLE, Hint.UNREACHABLE),
    Fault.TLS: Meaning(Verdict.UNREACHABLE, Hint.TLS),
    Fault.PROXY: Meaning(Verdict.UNREACHABLE, Hint.PROXY),
    Fault.DESCRIPTORS: Meaning(Verdict.UNREACHABLE, Hint.DESCRIPTORS),
    Fault.NO_ANSWER: Meaning(Verdict.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
    Fault.TIMEOUT: Meaning(Verdict.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
}


def meaning(reply: Reply) -> Meaning:
    """What a reply means, by its status alone: the API's documentation says that message texts may change."""
    if reply.fault in _FAULTS:
        return _FAULTS[reply.fault]
    match reply.status:
        case 200 if reply.token:
            return Meaning(Verdict.ISSUED)
        case 401 | 403:
            return Meaning(Verdict.KEY_REFUSED, Hint.KEY)
        case 404:  # the API's own 404 carries a request id, that of a wrong address does not
            return Meaning(Verdict.REJECTED, Hint.UNKNOWN_DRIVER if reply.request_id else Hint.ADDRESS)
        case 408:
            return Meaning(Verdict.RETRY, Hint.SERVER)
        case 429:
            return Meaning(Verdict.THROTTLED, Hint.THROTTLED)
        case int(status) if 200 <= status < 300:  # noqa: PLR2004 - the classes of HTTP statuses
            return Meaning(Verdict.RETRY_MAYBE_ISSUED, Hint.ADDRESS)
        case int(status) if 300 <= status < 400 or status == 405:  # noqa: PLR2004
            return Meaning(Verdict.REJECTED, Hint.ADDRESS)
        case int(status) if 400 <= status < 500:  # noqa: PLR2004
            return Meaning(Verdict.REJECTED, Hint.REFUSED)
        case _:
            return Meaning(Verdict.RETRY_MAYBE_ISSUED, Hint.SERVER)


def key_refused(reply: Reply) -> Ending:
    """What a 401 or 403 means for the whole run."""
    if reply.status == 401:  # noqa: PLR2004 - unauthorized: the key is not known here
        tip = (
            "copy the token again from the Samsara dashboard (Settings > API Tokens); "
            f'it needs the scope "{SCOPE}", and --region eu or --region ca if the organization is in the EU or Canada'
        )
    else:
        tip = f'give the token the scope "{SCOPE}" in the Samsara dashboard (Settings > API Tokens), or check --region'
    return Ending(EndingKind.KEY_REFUSED, f"the API token was refused ({reply.message})", tip)


def full_jitter(failures: int, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait after the ``failures``-th failure in a row: anything from 0 to a bound that doubles.

    "Full jitter" of Marc Brooker, *Exponential Backoff and Jitter*, AWS Architecture Blog, 2015.

    Args:
        failures: 1 or more.
        uniform: draws a number between two others, such as ``random.uniform``.
    """
    return uniform(0.0, min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 32)))


def parse_retry_after(text: str | None, *, server_date: str | None = None, now: datetime | None = None) -> float | None:
    """Seconds to wait as ``Retry-After`` asks, or None where it says nothing usable.

    Reads what RFC 9110 §10.2.3 allows, a whole number of seconds or an HTTP date, and the fractional seconds that
    Samsara sends (``0.40235``). Signs, exponents, ``nan``, ``1_000`` and the like are nobody's waiting time.

    Args:
        text: the header's value; None without one.
        server_date: the reply's ``Date`` header; a date is read against it, so that this machine's clock may be wrong.
        now: UTC, the clock to use where the server sent no date.
    """
    text = (text or "").strip(" \t")
    if re.fullmatch(r"\d{1,9}(\.\d{0,30})?|\.\d{1,30}", text, re.ASCII):
        return float(text)
    at = _http_date(text)
    if at is None:
        return None
    return max(0.0, (at - (_http_date(server_date) or now or datetime.now(UTC))).total_seconds())


def _http_date(text: str | None) -> datetime | None:
    if not text or not re.match(r"[A-Za-z]{3,9},? ", text):
        return None
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
