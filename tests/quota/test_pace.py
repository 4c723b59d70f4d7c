"""Which servers trickle, and at which pace requests then leave."""

from __future__ import annotations

import heapq
import random
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.congestion import EVENTS, HAIR, IDLE, RATE, SPACING, Anything, Line

from batch_issuer.quota.congestion import CongestionControl
from batch_issuer.sandbox.limiters import Gcra, SlidingCounter, SlidingLog, Unlimited

if TYPE_CHECKING:
    from batch_issuer.sandbox import Limiter

# --- detecting a trickle


def paced_after(*bouts: int, asked: float | None = 0.5, idle: float = 0.0, closed_again: float = 0.0) -> bool:
    """Whether departures are paced for a server that accepts ``bouts`` requests before each 429.

    idle: seconds after the gate has opened.
    closed_again: seconds for which the gate closes again as soon as it has opened.
    """
    line = Line()
    for replies in bouts:
        for _ in range(replies):
            line.send()
            line.now += 0.1
            line.reply()
        line.send()
        line.now += 0.1
        line.refuse(asked, wait=0.5)
        if line.control.pace.active:
            return True
        line.now += line.control.gate(line.now) + HAIR
        if closed_again:
            line.control.close_gate(line.now, closed_again)
            line.now += closed_again + HAIR
        line.now += idle
    return False


@pytest.mark.parametrize("asked", [0.5, 0.01, None], ids=["with Retry-After", "a short one", "without"])
@pytest.mark.parametrize("bouts", [(10, 1, 1), (1, 1, 1), (99, 1, 1), (10, 1, 0, 0, 0, 1)], ids=str)
def test_repeatedly_no_more_than_the_rate_allows_is_a_trickle(bouts: tuple[int, ...], asked: float | None) -> None:
    assert paced_after(*bouts, asked=asked)
    assert not paced_after(*bouts[:-1], asked=asked)


def test_it_is_a_trickle_also_with_more_than_one_request_in_between() -> None:
    for bouts in ((10, 2, 2, 2), (10, 1, 2, 1)):
        assert paced_after(*bouts)
        assert not paced_after(*bouts[:-1])


def test_a_gate_closed_again_before_a_request_left_is_the_same_closing() -> None:
    """As with leases of several runs, which learn of it a moment later."""
    assert paced_after(10, 2, 2, 2, closed_again=0.002)


@pytest.mark.parametrize(
    ("bouts", "asked", "idle"),
    [
        ((3,) * 20, 0.5, 0.0),
        ((30,) * 20, None, 0.0),
        ((10, 1, 30) * 6, 0.5, 0.0),
        ((10, 1, 1, 1, 1, 1, 1), 1.01 * IDLE, 0.0),
        ((10, 1, 1, 1, 1, 1, 1), 20.0, 0.0),
        ((0,) * 20, 0.5, 0.0),
        ((0,) * 20, None, 0.0),
        ((10, 1, 1, 1, 1, 1, 1), 0.5, 1.1 * IDLE),
    ],
    ids=[
        "it accepts more, so it is overloaded",
        "it refuses occasionally",
        "it trickled, but not any more",
        "it asks for long waits",
        "it asks for very long waits",
        "it refuses everything",
        "it refuses everything, without Retry-After",
        "each bout follows an idle time",
    ],
)
def test_other_servers_do_not_count_as_trickling(bouts: tuple[int, ...], asked: float | None, idle: float) -> None:
    assert not paced_after(*bouts, asked=asked, idle=idle)


# --- against models of servers


class Simulated(NamedTuple):
    control: CongestionControl
    sent: list[float]  # seconds, of all requests that left
    refused: list[float]

    @property
    def took(self) -> float:
        return self.sent[-1]


def simulated(
    limiter: Limiter, count: int, *, overloaded: float = 0.0, with_retry_after: bool = True, seed: int = 0
) -> Simulated:
    """The control against a server until ``count`` successes; a latency of 10 to 300 ms, no leases."""
    rng = random.Random(seed)
    control, now, refusals = CongestionControl(RATE, 16), 0.0, 0
    sent: list[float] = []
    refused: list[float] = []
    arrivals: list[tuple[float, int]] = []
    replies: list[tuple[float, float, float | None]] = []  # at, sent at, seconds asked for
    while len(sent) - len(refused) < count or arrivals or replies:
        if len(sent) - len(refused) < count and control.wait(now) == 0:
            control.sent(now)
            heapq.heappush(arrivals, (now + rng.uniform(0.005, 0.15), len(sent)))
            sent.append(now)
            continue
        wait = control.wait(now) if len(sent) - len(refused) < count else inf
        now = HAIR + min([now + wait, *(at for at, *_ in arrivals[:1]), *(at for at, *_ in replies[:1])])
        if arrivals and arrivals[0][0] <= now:
            at, number = heapq.heappop(arrivals)
            asks = rng.uniform(0.2, 1.0) if rng.random() < overloaded else limiter.admit(at)
            heapq.heappush(replies, (at + rng.uniform(0.005, 0.15), sent[number], asks))
        elif replies and replies[0][0] <= now:
            _, sent_at, asks = heapq.heappop(replies)
            if asks is None:
                control.answered(sent_at, now, healthy=True)
                refusals = 0  # in succession
                continue
            refused.append(sent_at)
            asked = wait = asks if with_retry_after else None
            if asked is None and not control.gate(now):
                refusals += 1
                wait = rng.uniform(0, 0.5 * 2**refusals)
            control.throttled(sent_at, now, asked, wait or 0.0)
    return Simulated(control, sent, refused)


@pytest.mark.parametrize("with_retry_after", [True, False])
@pytest.mark.parametrize("limiter", [Gcra(100, 60.0, 10), SlidingCounter(100, 60.0)], ids=["gcra", "counter"])
def test_a_trickling_server_is_detected_and_used_at_its_pace(limiter: Limiter, *, with_retry_after: bool) -> None:
    ran = simulated(limiter, 300, with_retry_after=with_retry_after)
    assert ran.control.pace.active
    assert len(ran.refused) < 40
    last = [at for at in ran.sent if at > ran.took - 60.0]
    assert len(last) >= 90
    assert sum(at in ran.refused for at in last) <= 4


@pytest.mark.parametrize("with_retry_after", [True, False])
def test_departures_to_an_overloaded_server_are_not_paced(*, with_retry_after: bool) -> None:
    for seed in range(10):
        ran = simulated(Unlimited(), 300, overloaded=0.03, with_retry_after=with_retry_after, seed=seed)
        assert ran.refused
        assert not ran.control.pace.active
        assert ran.took < 40.0  # with paced departures it would be 180


def test_departures_to_a_window_with_long_waits_are_not_paced() -> None:
    ran = simulated(SlidingLog(50, 60.0), 200)
    assert ran.refused
    assert not ran.control.pace.active
    assert ran.took < 200.0


# --- the pace


def trickling(burst: int = 10) -> Line:
    """A line that has detected a trickle after a burst."""
    line = Line()
    for replies in (burst, 1, 1):
        for _ in range(replies):
            line.send()
            line.reply()
        line.send()
        line.refuse(0.6)
        line.now += 0.6001
    assert line.control.pace.active
    return line


def spacing(line: Line) -> float:
    """Seconds between departures when none is saved up."""
    line.control.close_gate(line.now, 1.0)
    found = line.wait - line.control.gate(line.now)
    line.now += 1.0
    return found


def test_the_pace_is_that_of_the_limit_shared_by_the_runs() -> None:
    line = trickling()
    assert spacing(line) == pytest.approx(SPACING)
    line.control.pace.runs = 3
    assert spacing(line) == pytest.approx(3 * SPACING)


def test_a_429_slows_the_pace_by_a_fifth_and_replies_speed_it_up_in_steps() -> None:
    line = trickling()
    line.now += 60.0
    line.send()
    line.reply()
    line.now += 1.0
    line.send()
    line.refuse(0.6)
    assert spacing(line) == pytest.approx(SPACING / 0.8)
    line.now += 60.0
    for _ in range(5):
        line.now += 1.0
        line.send()
        line.reply()
    assert spacing(line) == pytest.approx(SPACING / 0.9)


def test_refusals_without_a_reply_in_between_do_not_slow_the_pace_again() -> None:
    line = trickling()
    for _ in range(20):
        line.now += 10.0
        line.send()
        line.refuse(0.6)
    assert spacing(line) == pytest.approx(SPACING)


def test_the_pace_stays_within_its_bounds() -> None:
    line = trickling()
    for _ in range(200):
        line.now += 100.0
        line.send()
        line.reply()
        line.now += 100.0
        line.send()
        line.refuse(0.6)
    assert SPACING < spacing(line) <= SPACING / 0.02
    for _ in range(200):
        line.now += 100.0
        line.send()
        line.reply()
    assert spacing(line) == pytest.approx(SPACING)


@pytest.mark.parametrize("burst", [1, 2, 5, 10])
def test_unused_departures_are_saved_up_but_fewer_than_the_server_accepted_in_succession(burst: int) -> None:
    """After an idle hour, with immediate replies."""
    line, left = trickling(burst), 0
    line.now += 3600.0
    while line.wait == 0:
        line.send()
        line.reply()
        left += 1
    assert left == max(1, burst - 1)
    assert line.wait == pytest.approx(SPACING)


def test_no_departures_are_saved_up_while_the_gate_is_closed() -> None:
    line = trickling()
    line.control.close_gate(line.now, 50.0)
    line.now += 50.0
    assert line.wait == pytest.approx(SPACING)


# --- any sequence of events


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=150), st.integers(1, 10))
def test_paced_departures_are_bounded(events: list[tuple[str, int, float | None]], burst: int) -> None:
    """In any time, at most as many as the limit allows plus those saved up."""
    line = Anything(16)
    tricked = trickling(burst)
    line.control, line.now = tricked.control, tricked.now
    for event in events:
        line.apply(*event)
    for first, begin in enumerate(line.departures):
        for number, at in enumerate(line.departures[first:], 1):
            assert number <= max(1, burst - 1) + (at - begin) / SPACING + 1e-6
