"""Settings that cannot work are refused, without showing a secret."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.settings_files import HIDDEN, refusal, settings

from batch_issuer.errors import SettingsError
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret


@pytest.mark.parametrize(
    "record",
    [
        Settings(api_token=Secret(HIDDEN), proxy=Secret(f"http://user:{HIDDEN}@127.0.0.1:3128")),
        Settings(api_token=Secret(HIDDEN), quota=f"redis://user:{HIDDEN}@127.0.0.1/0"),
    ],
)
def test_settings_show_no_secret(record: object) -> None:
    assert HIDDEN not in f"{record} {record!r} {[record]}"


# --- the API token


@pytest.mark.parametrize(
    "text", ["", " ", "\t\n", f"{HIDDEN} x", f"{HIDDEN}\n", f"\r{HIDDEN}", f"{HIDDEN}\u00e9", f"{HIDDEN}\0"]
)
def test_an_api_token_that_is_not_one_ascii_word_is_refused_without_being_shown(text: str) -> None:
    error = refusal(api_token=Secret(text))
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.hint


def test_an_api_token_that_is_not_a_secret_is_refused_without_being_shown() -> None:
    error = refusal(api_token=HIDDEN)
    assert HIDDEN not in error.message + error.hint


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_any_word_of_visible_ascii_may_be_an_api_token(text: str) -> None:
    assert settings(api_token=Secret(text)).api_token.reveal() == text


# --- rate, burst and the other numbers


@pytest.mark.parametrize(
    ("text", "limit", "period"),
    [
        ("100/min", 100, 60),
        ("100/m", 100, 60),
        ("100/6s", 100, 6),
        ("5/s", 5, 1),
        ("5/sec", 5, 1),
        ("1/h", 1, 3600),
        ("100/2min", 100, 120),
        ("1/0.5s", 1, 0.5),
        (" 100 / 1.5 min ", 100, 90),
    ],
)
def test_a_rate_is_read(text: str, limit: int, period: float) -> None:
    assert Rate.parse(text) == Rate(limit, period)


@pytest.mark.parametrize(
    "text",
    [
        "", "100", "/min", "100/", "min", "0/min", "-1/min", "+1/min", "1.5/min", "100/0s", "100/-1s", "100/1e3s",
        "100/day", "100/MIN", "100/min/min", "100 per min", "1e2/min", "\uff11/min", "\u0661/s", "100/.5s", "100/5.s",
        "inf/s", "nan/s", "100/infs", "1000000000000/s", "100\\min", "100/ms",
    ],
)  # fmt: skip
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Rate.parse(text)
    assert caught.value.hint


@given(st.text(max_size=15))
def test_any_text_is_a_rate_or_a_settings_error(text: str) -> None:
    try:
        rate = Rate.parse(text)
    except SettingsError:
        return
    assert rate.limit >= 1
    assert rate.period > 0


@given(
    st.integers(1, 10**9 - 1),
    st.one_of(st.integers(1, 999_999), st.integers(1, 99_999).map(lambda tenths: tenths / 10)),
)
def test_a_rate_reads_back_as_it_is_written(limit: int, period: float) -> None:
    assert Rate.parse(str(Rate(limit, period))) == Rate(limit, period)


@pytest.mark.parametrize("rate", [(0, 60), (-1, 60), (1, 0), (1, -1), (1, float("inf")), (1, float("nan"))])
def test_an_impossible_rate_is_refused(rate: tuple[int, float]) -> None:
    with pytest.raises(SettingsError):
        Rate(*rate)


@pytest.mark.parametrize("burst", [None, 1, 50, 100])
def test_a_burst_up_to_the_limit_of_the_rate_is_accepted(burst: int | None) -> None:
    assert settings(rate=Rate(100, 60), burst=burst).burst == burst


@pytest.mark.parametrize("burst", [-1, 0, 101])
def test_a_burst_beyond_the_rate_is_refused(burst: int) -> None:
    assert "1 to 100" in refusal(rate=Rate(100, 60), burst=burst).hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, least in (
            ("timeout", 0.0),
            ("concurrency", 0),
            ("attempts", 0),
            ("give_up_after", -0.001),
            ("min_validity", -0.001),
        )
        for value in (least, -1, float("inf"), float("nan"))
    ],
)
def test_an_invalid_number_is_refused_and_named(name: str, value: float) -> None:
    assert name in refusal(**{name: value}).message


def test_settings_stay_checked_when_one_is_replaced() -> None:
    with pytest.raises(SettingsError):
        replace(settings(), burst=101)
