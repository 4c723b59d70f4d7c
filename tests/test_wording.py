"""Counts, times and commands as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from batch_issuer.wording import command_text, utc_text


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))])
def test_a_time_is_written_in_utc_and_never_rounded_up(zone: timezone) -> None:
    at = datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC).astimezone(zone)
    assert utc_text(at) == "2026-12-31T23:59:59Z"
    assert utc_text(at, "milliseconds") == "2026-12-31T23:59:59.999Z"
    assert utc_text(at.replace(microsecond=0), "milliseconds") == "2026-12-31T23:59:59.000Z"


def test_none_is_blank() -> None:
    assert utc_text(None) == ""


@pytest.mark.parametrize(
    ("platform", "path", "expected"),
    [
        ("linux", "/srv/our depot.csv", "retry '/srv/our depot.csv'"),
        ("win32", r"C:\depots\north.csv", r"retry C:\depots\north.csv"),
        ("win32", r"C:\our depots\north.csv", r'retry "C:\our depots\north.csv"'),
    ],
)
def test_a_command_can_be_copied(platform: str, path: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows into PowerShell as well as into cmd, which knows no single quotes."""
    monkeypatch.setattr("sys.platform", platform)
    assert command_text("retry", path) == expected
