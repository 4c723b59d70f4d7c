"""Reading ``Retry-After``: a table, and any text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.api.retry_after import parse_retry_after

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


def test_a_date_is_compared_with_the_servers_clock() -> None:
    wrong_clock = datetime(2031, 1, 1, tzinfo=UTC)
    assert parse_retry_after("Mon, 23 Nov 2026 12:00:20 GMT", server_date=NOON_TEXT, now=wrong_clock) == 20.0


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9A-Za-z :+-]{0,40}"))
def test_any_text_is_read_as_seconds_or_ignored(text: str) -> None:
    seconds = parse_retry_after(text, now=NOON)
    assert seconds is None or 0.0 <= seconds < 1e12
