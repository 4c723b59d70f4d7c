"""Durations and times of day as people write them, or a settings error that shows how."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.errors import SettingsError
from batch_issuer.settings.durations import deadline, duration_argument, next_time, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("5min", 300.0),
        ("2h", 7200.0),
        (" 10 s ", 10.0),
        ("0.001", 0.001),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "s", "-1", "+1", "1e3", "1d", "1 m 30 s", "1:30", "1,5s", ".5", "inf", "nan", "5M", "5 minutes",
        "\uff15s", "\u0665", "1_000", "0x10", "1000000000000", "5mm", "--5",
    ],
)  # fmt: skip
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        seconds(text)
    assert caught.value.hint


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_settings_error(text: str) -> None:
    try:
        found = seconds(text)
    except SettingsError:
        return
    assert 0 <= found < float("inf")


@given(st.text("0123456789.msecinh ", max_size=12))
def test_a_duration_is_written_so_that_it_reads_back_the_same(text: str) -> None:
    try:
        found = seconds(text)
    except SettingsError:
        return
    assert seconds(duration_argument(found)) == pytest.approx(found, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0s"), (2700.0, "45m"), (0.25, "0.25s"), (1e-10, "0.0000001ms"), (3.6e11, "100000000h")],
)
def test_a_number_of_seconds_is_written_in_the_first_unit_that_fits(value: float, text: str) -> None:
    assert duration_argument(value) == text


# --- deadlines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("06:00", time(6, 0)),
        ("6:05", time(6, 5)),
        ("23:59", time(23, 59)),
        ("45m", timedelta(minutes=45)),
        ("2h", timedelta(hours=2)),
        ("90", timedelta(seconds=90)),
    ],
)
def test_a_deadline_is_a_time_of_day_or_a_duration(text: str, expected: time | timedelta) -> None:
    assert deadline(text) == expected


@pytest.mark.parametrize("text", ["", "24:00", "6:60", "06:00:00", "noon", "-5m", "99999999999h", "tomorrow 06:00"])
def test_an_invalid_deadline_is_refused_and_the_hint_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        deadline(text)
    assert "06:00" in caught.value.hint


@pytest.mark.parametrize(("now", "day"), [("05:59", 1), ("06:00", 2), ("06:01", 2), ("23:00", 2)])
def test_a_time_of_day_is_the_next_one_on_a_local_clock(now: str, day: int) -> None:
    at = datetime.combine(date(2030, 1, 1), time.fromisoformat(now)).astimezone()
    assert next_time(time(6, 0), at) == datetime.combine(date(2030, 1, day), time(6, 0)).astimezone()
