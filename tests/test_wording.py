"""Counts and times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from batch_issuer.wording import utc_text


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))])
def test_a_time_is_written_in_utc_and_never_rounded_up(zone: timezone) -> None:
    at = datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC).astimezone(zone)
    assert utc_text(at) == "2026-12-31T23:59:59Z"
    assert utc_text(at, "milliseconds") == "2026-12-31T23:59:59.999Z"
    assert utc_text(at.replace(microsecond=0), "milliseconds") == "2026-12-31T23:59:59.000Z"


def test_none_is_blank() -> None:
    assert utc_text(None) == ""
