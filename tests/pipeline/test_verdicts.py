"""What replies mean and how long to wait: tables and bounds, no clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.api.retry_after import parse_retry_after
from batch_issuer.hints import Hint
from batch_issuer.model import Fault, Reply
from batch_issuer.pipeline.backoff import BACKOFF_BASE, BACKOFF_CAP, full_jitter
from batch_issuer.pipeline.verdicts import VerdictKind, judge

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
NOON_TEXT = "Mon, 23 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.40235", 0.40235),
        ("0", 0.0),
        ("7", 7.0),
        (" 12 ", 12.0),
        ("3.", 3.0),
        (".5", 0.5),
        ("86400", 86400.0),
        (None, None),
        ("", None),
        ("   ", None),
        ("nan", None),
        ("inf", None),
        ("-1", None),
        ("+1", None),
        ("1e9", None),
        ("1_000", None),
        ("1,5", None),
        ("0x10", None),
        ("12 s", None),
        ("9" * 400, None),
        ("١٢", None),
        ("soon", None),
        ("Mon, 23 Nov 2026 12:01:30 GMT", 90.0),
        ("Monday, 23-Nov-26 12:01:30 GMT", 90.0),
        ("Mon Nov 23 12:01:30 2026", 90.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 99 Nov 2026 11:00:00 GMT", None),
        ("Mon, 23 Nov 99999999999 11:00:00 GMT", None),
    ],
)
def test_retry_after_table(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, now=NOON) == seconds


def test_a_date_is_read_against_the_servers_own_clock() -> None:
    wrong_clock = datetime(2031, 1, 1, tzinfo=UTC)
    assert parse_retry_after("Mon, 23 Nov 2026 12:00:20 GMT", server_date=NOON_TEXT, now=wrong_clock) == 20.0


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9A-Za-z :+-]{0,40}"))
def test_any_text_reads_as_seconds_or_as_nothing(text: str) -> None:
    seconds = parse_retry_after(text, now=NOON)
    assert seconds is None or 0.0 <= seconds < 1e12


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_full_jitter_stays_within_a_bound_that_doubles_up_to_a_cap(failures: int, seed: int) -> None:
    delay = full_jitter(failures, random.Random(seed).uniform)
    assert 0.0 <= delay <= min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 100))


def test_full_jitter_draws_from_the_whole_range() -> None:
    assert full_jitter(3, min) == 0.0
    assert full_jitter(3, max) == 4 * BACKOFF_BASE
    assert full_jitter(99, max) == BACKOFF_CAP


@pytest.mark.parametrize(
    ("reply", "kind", "hint"),
    [
        (Reply(200, token="t"), VerdictKind.ISSUED, None),  # noqa: S106
        (Reply(200, fault=Fault.UNUSABLE), VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS),
        (Reply(204), VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS),
        (Reply(302), VerdictKind.RETRY, Hint.ADDRESS),
        (Reply(400), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(400, web_page=True), VerdictKind.REJECTED, Hint.ADDRESS),
        (Reply(400, request_id="r"), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(401, request_id="r"), VerdictKind.KEY_REFUSED, Hint.KEY_INVALID),
        (Reply(403, request_id="r"), VerdictKind.KEY_REFUSED, Hint.KEY_FORBIDDEN),
        (Reply(404, request_id="r"), VerdictKind.REJECTED, Hint.UNKNOWN_DRIVER),
        (Reply(404), VerdictKind.REJECTED, Hint.ADDRESS),
        (Reply(405), VerdictKind.REJECTED, Hint.ADDRESS),
        (Reply(408), VerdictKind.RETRY, Hint.SERVER),
        (Reply(409, request_id="r"), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(413, request_id="r"), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(429), VerdictKind.THROTTLED, Hint.THROTTLED),
        (Reply(500), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(501), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(504), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(599), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(left=False, fault=Fault.UNREACHABLE), VerdictKind.UNREACHABLE, Hint.UNREACHABLE),
        (Reply(left=False, fault=Fault.TLS), VerdictKind.UNREACHABLE, Hint.TLS),
        (Reply(left=False, fault=Fault.PROXY), VerdictKind.UNREACHABLE, Hint.PROXY),
        (Reply(fault=Fault.TIMEOUT), VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
        (Reply(fault=Fault.NO_ANSWER), VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
        (Reply(200, fault=Fault.REPEATED), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SAME_TOKEN),
    ],
    ids=lambda value: str(getattr(value, "status", None) or getattr(value, "fault", "") or getattr(value, "name", "")),
)
def test_verdict_table(reply: Reply, kind: VerdictKind, hint: Hint | None) -> None:
    assert (judge(reply).kind, judge(reply).hint) == (kind, hint)


@given(st.integers(100, 599), st.booleans())
def test_a_token_is_kept_from_a_200_only(status: int, has_token: bool) -> None:
    reply = Reply(status, token="t" if has_token else "")
    assert (judge(reply).kind is VerdictKind.ISSUED) == (status == 200 and has_token)
