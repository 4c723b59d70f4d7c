"""The window of requests in flight and the gate: congestion control, a pure state machine."""

from __future__ import annotations

from math import inf, isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.congestion import EVENTS, IDLE, Anything, Line

from batch_issuer.quota.congestion import INITIAL_THRESHOLD, MIN_IDLE, TRUSTED_WINDOW, CongestionControl
from batch_issuer.quota.estimate import round_trips
from batch_issuer.settings.run_settings import Rate

# --- the window


def test_the_first_request_is_a_canary() -> None:
    line = Line()
    assert line.fill() == 1
    line.now += 1e6
    assert line.wait == inf  # no matter how long its reply takes


@pytest.mark.parametrize("ceiling", [1, 2, 4, 16])
def test_the_window_grows_by_one_per_reply_and_then_per_window_of_replies(ceiling: int) -> None:
    """Slow start up to the threshold, then congestion avoidance, never beyond the ceiling."""
    threshold = min(int(INITIAL_THRESHOLD), ceiling)
    line, replies = Line(ceiling), dict.fromkeys(range(1, ceiling + 1), 0)
    for _ in range(500):
        replies[line.fill()] += 1
        line.reply()
    assert [replies[window] for window in range(1, threshold)] == [1] * (threshold - 1)
    assert all(window <= replies[window] <= window + 2 for window in range(threshold, ceiling))
    assert line.fill() == ceiling


def test_a_server_that_never_refused_may_get_as_many_requests_as_the_user_allows() -> None:
    """Again by one per reply: a --concurrency of 64 is reached in seconds, not after a thousand replies."""
    line = Line(64)
    line.grow_to(int(TRUSTED_WINDOW))
    for _ in range(48):
        line.reply()
        line.fill()
    assert line.fill() == 64


def test_a_server_that_refused_once_may_not() -> None:
    line = Line(64)
    line.grow_to(8)
    line.refuse(3.0)
    line.drop_all()
    line.now += 3.001
    line.grow_to(int(TRUSTED_WINDOW))
    line.reply(16)
    assert line.fill() <= TRUSTED_WINDOW + 1


@pytest.mark.parametrize("ceiling", [1, 5, 16, 64, 400])
def test_the_estimate_counts_the_round_trips_of_the_growing_window(ceiling: int) -> None:
    for count in (1, 2, 20, 100, 1000, 5000):
        line, trips, left = Line(ceiling), 0, count
        while left > 0:
            trips += 1
            left -= line.fill()
            line.reply(len(line.in_flight))
        assert trips == pytest.approx(round_trips(count, ceiling), rel=0.05, abs=1)


def test_at_a_huge_rate_the_time_of_a_reply_is_not_idling() -> None:
    control = CongestionControl(Rate(1_000_000, 1.0), 16)
    for _ in range(5):
        control.sent(0.0)
        control.answered(0.0, 0.0, healthy=True)
    control.sent(MIN_IDLE / 2)
    assert control.wait(MIN_IDLE / 2) == 0.0


def test_unhealthy_replies_do_not_grow_the_window() -> None:
    line = Line()
    for _ in range(5):
        line.fill()
        line.reply(healthy=False)
    assert line.fill() == 1


def test_after_a_lost_request_a_canary_is_next() -> None:
    line = Line(replies=5)
    assert line.fill() == 6
    line.in_flight.pop()
    line.control.lost(line.now)
    assert line.wait == inf
    line.drop_all()
    assert line.fill() == 1


def test_after_idling_it_starts_over_but_not_while_a_reply_is_outstanding() -> None:
    for pause, expected in ((0.9 * IDLE, 6), (1.1 * IDLE, 1)):
        line = Line(replies=5)
        line.now += pause
        assert line.fill() == expected
    line = Line(replies=4)
    line.send(2)
    line.reply()
    line.now += 10 * IDLE
    assert line.fill() == 6


# --- the gate


def test_a_429_closes_the_gate_as_long_as_asked_and_then_a_canary_is_first() -> None:
    line = Line(replies=5)
    line.send()
    line.refuse(7.0)
    assert line.wait == line.control.gate(line.now) == 7.0
    line.now += 5.0
    line.control.close_gate(line.now, 1.0)  # a shorter one changes nothing
    assert line.wait == pytest.approx(2.0)
    line.now += 2.001
    assert line.control.gate(line.now) == 0.0
    assert line.fill() == 1
    line.reply()
    assert line.fill() == 2


@pytest.mark.parametrize("refused", [1, 2, 8])
def test_the_threshold_is_half_the_window_and_several_refusals_at_once_count_once(refused: int) -> None:
    """Slow start ends at 4 or 5 after 429s to one of 8 requests or to all of them."""
    line = Line()
    line.grow_to(8)
    line.now += 0.1
    for _ in range(refused):
        line.refuse(3.0)
    line.drop_all()
    line.now += 3.001
    windows = []
    for _ in range(8):
        windows.append(line.fill())
        line.reply()
    assert windows[:4] == [1, 2, 3, 4]
    assert windows[-1] <= 5


def test_replies_to_requests_sent_before_the_gate_closed_neither_open_it_nor_grow_the_window() -> None:
    for gate_opens_first in (False, True):
        line = Line()
        line.grow_to(8)
        line.now += 0.1
        line.refuse(3.0)
        line.now += 3.001 if gate_opens_first else 1.0
        line.reply(7)
        line.now += 0.0 if gate_opens_first else 2.001
        assert line.fill() == 1


# --- any sequence of events


@settings(max_examples=300)
@given(st.integers(1, 16), st.lists(EVENTS, max_size=150), st.sampled_from(["reply", "sick", "refuse", "lost"]))
def test_it_is_never_stuck_and_never_beyond_the_ceiling(
    ceiling: int, events: list[tuple[str, int, float | None]], last: str
) -> None:
    """Waits are numbers of 0 or more; after all replies and enough time, a request may leave."""
    line = Anything(ceiling)
    for event in (*events, *[(last, 0, 0.3)] * 16):
        line.apply(*event)
        assert not isnan(line.wait)
        assert line.wait >= 0
        assert len(line.in_flight) <= ceiling
        assert line.wait < inf or line.in_flight
    assert not line.in_flight
    line.now += line.wait + 1e-6
    assert line.wait == 0
