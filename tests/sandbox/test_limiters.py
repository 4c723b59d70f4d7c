"""The limiters of the sandbox against their definitions, on a clock that the tests move."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.sandbox import (
    LIMITERS,
    FixedWindow,
    Gcra,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    Unlimited,
    make_limiter,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.sandbox import Limiter

LIMITING = [name for name in LIMITERS if name != "none"]
STRICT = ["sliding-strict", "counter-strict"]
WITH_BURST = {"bucket", "gcra"}

# Moments and intervals on a grid of eighths, where float arithmetic is exact.
grid_arrivals = st.lists(st.integers(0, 40), min_size=1, max_size=40).map(
    lambda gaps: [moment / 8 for moment in accumulate(gaps)]
)
grid_intervals = st.sampled_from([0.25, 0.5, 1.0, 2.0])
# Arbitrary moments and limits.
arrivals = st.builds(
    lambda start, gaps: list(accumulate(gaps, initial=start)),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 5), max_size=60),
)
limits = st.integers(1, 20)
periods = st.floats(0.01, 30)
bursts = st.integers(1, 12)


def admitted(limiter: Limiter, moments: list[float]) -> list[float]:
    return [now for now in moments if limiter.admit(now) is None]


def limiter_named(name: str, limit: int, period: float, burst: int) -> Limiter:
    return make_limiter(name, limit, period, burst if name in WITH_BURST else None)


# The definition of each limiter in exact arithmetic: may a request at `now` follow the `earlier` ones? Those are the
# admitted ones, or for a strict limiter all.


def fixed_window_admits(earlier: list[Fraction], now: Fraction, limit: int, period: Fraction, _: int) -> bool:
    return sum(math.floor(at / period) == math.floor(now / period) for at in earlier) < limit


def sliding_window_admits(earlier: list[Fraction], now: Fraction, limit: int, period: Fraction, _: int) -> bool:
    return sum(now - period < at for at in earlier) < limit


def two_windows_admit(earlier: list[Fraction], now: Fraction, limit: int, period: Fraction, _: int) -> bool:
    """This window's requests and a share of the previous window's leave room."""
    counts = Counter(math.floor(at / period) for at in earlier)
    window = math.floor(now / period)
    passed = now / period - window
    return counts[window] + counts[window - 1] * (1 - passed) <= limit - 1


def rate_and_burst_admit(earlier: list[Fraction], now: Fraction, limit: int, period: Fraction, burst: int) -> bool:
    """No interval that ends now has more than burst + rate x length."""
    joined = [*earlier, now]
    return all(len(joined) - i <= burst + limit / period * (now - at) for i, at in enumerate(joined))


DEFINITIONS: dict[str, Callable[[list[Fraction], Fraction, int, Fraction, int], bool]] = {
    "fixed": fixed_window_admits,
    "sliding": sliding_window_admits,
    "sliding-strict": sliding_window_admits,
    "counter": two_windows_admit,
    "counter-strict": two_windows_admit,
    "bucket": rate_and_burst_admit,
    "gcra": rate_and_burst_admit,
}


@pytest.mark.parametrize("name", LIMITING)
@given(moments=grid_arrivals, limit=st.integers(1, 8), interval=grid_intervals, burst=st.integers(1, 8))
def test_a_limiter_decides_by_its_definition(
    name: str, moments: list[float], limit: int, interval: float, burst: int
) -> None:
    period = limit * interval
    limiter = limiter_named(name, limit, period, burst)
    earlier: list[Fraction] = []
    for now in moments:
        may = DEFINITIONS[name](earlier, Fraction(now), limit, Fraction(period), burst)
        assert (limiter.admit(now) is None) == may
        if may or name in STRICT:
            earlier.append(Fraction(now))


@pytest.mark.parametrize("name", LIMITING)
@given(moments=arrivals, limit=limits, period=periods, burst=bursts)
def test_a_wait_is_long_enough_if_no_other_request_comes(
    name: str, moments: list[float], limit: int, period: float, burst: int
) -> None:
    limiter = limiter_named(name, limit, period, burst)
    late = 0.0
    for moment in moments:
        now = moment + late
        wait = limiter.admit(now)
        if wait is not None:
            assert wait > 0
            assert limiter.admit(now + wait) is None
            late += wait


@pytest.mark.parametrize("name", LIMITING)
@given(moments=grid_arrivals, limit=st.integers(1, 8), interval=grid_intervals, burst=st.integers(1, 8))
def test_no_shorter_wait_is_long_enough(
    name: str, moments: list[float], limit: int, interval: float, burst: int
) -> None:
    period = limit * interval
    limiter = limiter_named(name, limit, period, burst)
    earlier: list[Fraction] = []
    for now in moments:
        wait = limiter.admit(now)
        if wait is None or name in STRICT:
            earlier.append(Fraction(now))
        if wait is not None:
            sooner = Fraction(now + wait - 0.001)
            assert not DEFINITIONS[name](earlier, sooner, limit, Fraction(period), burst)


@pytest.mark.parametrize("name", [name for name in LIMITING if name not in STRICT])
@given(moments=arrivals, limit=limits, period=periods, burst=bursts)
def test_refused_requests_change_only_a_strict_limiter(
    name: str, moments: list[float], limit: int, period: float, burst: int
) -> None:
    times = admitted(limiter_named(name, limit, period, burst), moments)
    assert admitted(limiter_named(name, limit, period, burst), times) == times


@pytest.mark.parametrize("name", ["fixed", "counter", "counter-strict"])
@given(moments=arrivals, limit=limits, period=periods)
def test_a_fixed_window_never_admits_more_than_the_limit(
    name: str, moments: list[float], limit: int, period: float
) -> None:
    windows = Counter(now // period for now in admitted(make_limiter(name, limit, period), moments))
    assert max(windows.values()) <= limit


@pytest.mark.parametrize("name", ["sliding", "sliding-strict"])
@given(moments=arrivals, limit=limits, period=periods)
def test_a_sliding_log_never_admits_more_than_the_limit_in_any_window(
    name: str, moments: list[float], limit: int, period: float
) -> None:
    times = admitted(make_limiter(name, limit, period), moments)
    assert all(late - early >= period for early, late in zip(times, times[limit:], strict=False))


@pytest.mark.parametrize("name", ["counter", "counter-strict"])
@given(moments=grid_arrivals, limit=st.integers(1, 8), interval=grid_intervals)
def test_a_sliding_counter_admits_less_than_twice_the_limit_in_any_window(
    name: str, moments: list[float], limit: int, interval: float
) -> None:
    period = limit * interval
    times = admitted(make_limiter(name, limit, period), moments)
    assert all(late - early >= period for early, late in zip(times, times[2 * limit - 1 :], strict=False))


@pytest.mark.parametrize("kind", [TokenBucket, Gcra])
@given(moments=arrivals, limit=limits, period=periods, burst=bursts)
def test_no_interval_admits_more_than_the_burst_and_what_the_rate_adds(
    kind: type[TokenBucket | Gcra], moments: list[float], limit: int, period: float, burst: int
) -> None:
    times = admitted(kind(limit, period, burst), moments)
    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], start=first):
            assert last - first + 1 <= burst + (end - start) * limit / period + 1e-6


@given(moments=arrivals)
def test_unlimited_admits_everything(moments: list[float]) -> None:
    assert admitted(Unlimited(), moments) == moments


def test_a_fixed_window_admits_twice_the_limit_around_its_boundary() -> None:
    limiter = FixedWindow(100, 60.0)
    assert len(admitted(limiter, [59.0] * 101 + [60.0] * 101)) == 200
    assert limiter.admit(75.0) == pytest.approx(45.0, abs=1e-5)


def test_a_sliding_log_forgets_a_request_one_period_after_it() -> None:
    limiter = SlidingLog(2, 10.0)
    assert admitted(limiter, [0.0, 4.0, 9.5]) == [0.0, 4.0]
    assert limiter.admit(9.5) == pytest.approx(0.5, abs=1e-5)
    assert admitted(limiter, [10.0, 13.5, 14.0]) == [10.0, 14.0]


def test_a_sliding_counter_admits_almost_twice_the_limit_after_a_window_with_a_late_burst() -> None:
    limiter = SlidingCounter(100, 60.0)
    assert len(admitted(limiter, [59.0] * 200)) == 100
    assert len(admitted(limiter, [118.5] * 200)) == 97  # 59.5 s later; 100 x 1.5 / 60 of the others still count


def test_a_sliding_counter_refuses_what_a_log_would_admit_after_a_window_with_an_early_burst() -> None:
    moments = [0.0] * 100 + [60.0] * 100
    assert len(admitted(SlidingLog(100, 60.0), moments)) == 200
    assert len(admitted(SlidingCounter(100, 60.0), moments)) == 100


def test_a_sliding_counter_asks_to_wait_until_enough_of_the_previous_window_has_left() -> None:
    limiter = SlidingCounter(100, 60.0)
    assert len(admitted(limiter, [0.0] * 100)) == 100
    assert limiter.admit(15.0) == pytest.approx(45.6, abs=1e-5)  # 0.6 s into the next window 99 of the 100 count
    assert limiter.admit(60.0) == pytest.approx(0.6, abs=1e-5)
    assert len(admitted(limiter, [90.0] * 100)) == 50
    assert limiter.admit(90.0) == pytest.approx(0.6, abs=1e-5)


def test_a_sliding_counter_forgets_a_window_after_the_next() -> None:
    assert len(admitted(SlidingCounter(100, 60.0), [59.0] * 100 + [120.0] * 100)) == 200


@pytest.mark.parametrize("name", STRICT)
def test_a_strict_limiter_refuses_everything_at_twice_its_rate_and_recovers_after_a_pause(name: str) -> None:
    hammered = [0.25 * number for number in range(1000)]  # at most 20 in 10 s, up to 249.75
    assert admitted(make_limiter(name, 20, 10.0), hammered) == hammered[:20]

    limiter = make_limiter(name, 20, 10.0)
    admitted(limiter, hammered)
    assert len(admitted(limiter, [300.0] * 30)) == 20


@pytest.mark.parametrize("name", STRICT)
def test_each_request_that_a_strict_limiter_refuses_makes_the_wait_longer(name: str) -> None:
    limiter = make_limiter(name, 3, 10.0)
    assert len(admitted(limiter, [0.0, 1.0, 2.0])) == 3
    until = [now + (limiter.admit(now) or 0.0) for now in (5.0, 6.0, 7.0)]
    assert until == sorted(set(until))
    assert until[0] > 10.0


def test_refusals_of_a_sliding_log_do_not_postpone_the_next_admission() -> None:
    limiter = SlidingLog(1, 10.0)
    assert admitted(limiter, [0.0, *(9.9,) * 50, 10.0]) == [0.0, 10.0]


def test_a_bucket_starts_full_and_its_burst_is_the_limit_by_default() -> None:
    assert len(admitted(make_limiter("bucket", 100, 60.0), [5.0] * 150)) == 100
    assert len(admitted(TokenBucket(100, 60.0, burst=7), [5.0] * 150)) == 7


def test_gcra_admits_ten_and_then_one_at_a_time() -> None:
    limiter = make_limiter("gcra", 100, 60.0)
    assert len(admitted(limiter, [0.0] * 100)) == 10
    assert limiter.admit(0.0) == pytest.approx(0.6, abs=1e-5)
    assert limiter.admit(0.60001) is None
    assert limiter.admit(0.60001) is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("leaky", 100, 60.0),
            "unknown limiter 'leaky'; choose one of fixed, sliding, sliding-strict, counter, counter-",
        ),
        (("sliding", 0, 60.0), "limit must be 1"),
        (("none", -1, 60.0), "limit must be 1"),
        (("sliding", 100, 0.0), "period must be a positive"),
        (("sliding", 100, math.nan), "period must be a positive"),
        (("sliding", 100, math.inf), "period must be a positive"),
        (("bucket", 100, 60.0, 0), "burst must be 1"),
        (("fixed", 100, 60.0, 5), "no burst"),
        (("counter-strict", 100, 60.0, 5), "no burst"),
    ],
)
def test_invalid_arguments_are_refused_with_one_line(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make_limiter(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
