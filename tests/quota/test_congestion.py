"""Congestion control, a pure state machine: its states, what it takes for a trickle, and the pace it then keeps."""

from __future__ import annotations

import heapq
import random
from math import inf, isnan
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_issuer.quota.congestion import INITIAL_THRESHOLD, MIN_REST, SHORT_WAIT, TRUSTED_WINDOW, CongestionControl
from batch_issuer.quota.estimate import round_trips
from batch_issuer.sandbox.limiters import Gcra, SlidingCounter, SlidingLog, Unlimited
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    from batch_issuer.sandbox import Limiter

RATE = Rate(100, 60.0)
SPACING = RATE.spacing
REST = SHORT_WAIT * SPACING
HAIR = 1e-9
"""Seconds by which a clock moves on in any case."""


class Line:
    """A control, its clock, and the requests under way."""

    def __init__(self, ceiling: int = 16, *, replies: int = 0) -> None:
        """Begin with so many ``replies``, one request after the other."""
        self.control = CongestionControl(RATE, ceiling)
        self.now = 0.0
        self.under_way: list[float] = []  # when they left
        for _ in range(replies):
            self.send()
            self.reply()

    @property
    def wait(self) -> float:
        return self.control.wait(self.now)

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.wait == 0
            self.control.leave(self.now)
            self.under_way.append(self.now)

    def fill(self) -> int:
        """Send as many as may leave now; returns how many are under way."""
        while self.wait == 0:
            self.send()
        return len(self.under_way)

    def grow_to(self, window: int) -> None:
        """So many are under way afterwards."""
        while self.fill() < window:
            self.reply()

    def reply(self, count: int = 1, *, healthy: bool = True) -> None:
        for _ in range(count):
            self.control.reply(self.under_way.pop(0), self.now, healthy=healthy)

    def refuse(self, asked: float | None, *, wait: float | None = None) -> None:
        """A 429 that asks for so many seconds; without, the gate closes for ``wait``."""
        self.control.refusal(self.under_way.pop(0), self.now, asked)
        self.control.close_gate(self.now, asked or wait or 0.0)

    def drop_all(self) -> None:
        while self.under_way:
            self.under_way.pop()
            self.control.unsent(self.now)


# --- the window


def test_the_first_request_is_a_canary() -> None:
    line = Line()
    assert line.fill() == 1
    line.now += 1e6
    assert line.wait == inf  # however long its reply takes


@pytest.mark.parametrize("ceiling", [1, 2, 4, 16])
def test_the_window_grows_by_one_with_each_reply_and_then_with_each_window_of_replies(ceiling: int) -> None:
    """Slow start up to the threshold, congestion avoidance beyond it, and never more than the ceiling."""
    threshold = min(int(INITIAL_THRESHOLD), ceiling)
    line, replies = Line(ceiling), dict.fromkeys(range(1, ceiling + 1), 0)
    for _ in range(500):
        replies[line.fill()] += 1
        line.reply()
    assert [replies[window] for window in range(1, threshold)] == [1] * (threshold - 1)
    assert all(window <= replies[window] <= window + 2 for window in range(threshold, ceiling))
    assert line.fill() == ceiling


def test_a_server_that_bore_the_usual_window_is_asked_for_as_many_as_the_user_allows() -> None:
    """By one with each reply again: a --concurrency of 64 is reached in seconds, not after a thousand replies."""
    line = Line(64)
    line.grow_to(int(TRUSTED_WINDOW))
    for _ in range(48):
        line.reply()
        line.fill()
    assert line.fill() == 64


def test_one_that_refused_on_the_way_is_not() -> None:
    line = Line(64)
    line.grow_to(8)
    line.refuse(3.0)
    line.drop_all()
    line.now += 3.001
    line.grow_to(int(TRUSTED_WINDOW))
    line.reply(16)
    assert line.fill() <= TRUSTED_WINDOW + 1


@pytest.mark.parametrize("ceiling", [1, 5, 16, 64, 400])
def test_the_plan_counts_the_round_trips_that_the_window_takes(ceiling: int) -> None:
    for count in (1, 2, 20, 100, 1000, 5000):
        line, trips, left = Line(ceiling), 0, count
        while left > 0:
            trips += 1
            left -= line.fill()
            line.reply(len(line.under_way))
        assert trips == pytest.approx(round_trips(count, ceiling), rel=0.05, abs=1)


def test_a_rate_without_end_makes_no_rest_of_the_time_a_reply_takes() -> None:
    control = CongestionControl(Rate(1_000_000, 1.0), 16)
    for _ in range(5):
        control.leave(0.0)
        control.reply(0.0, 0.0, healthy=True)
    control.leave(MIN_REST / 2)
    assert control.wait(MIN_REST / 2) == 0.0


def test_replies_that_show_a_server_with_a_problem_do_not_grow_it() -> None:
    line = Line()
    for _ in range(5):
        line.fill()
        line.reply(healthy=False)
    assert line.fill() == 1


def test_what_got_lost_may_lose_more_so_a_canary_goes_next() -> None:
    line = Line(replies=5)
    assert line.fill() == 6
    line.under_way.pop()
    line.control.lost(line.now)
    assert line.wait == inf
    line.drop_all()
    assert line.fill() == 1


def test_after_a_rest_it_begins_anew_but_not_while_a_reply_is_waited_for() -> None:
    for pause, expected in ((0.9 * REST, 6), (1.1 * REST, 1)):
        line = Line(replies=5)
        line.now += pause
        assert line.fill() == expected
    line = Line(replies=4)
    line.send(2)
    line.reply()
    line.now += 10 * REST
    assert line.fill() == 6


# --- the gate


def test_a_429_closes_the_gate_for_as_long_as_asked_and_then_a_canary_goes_first() -> None:
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
def test_the_threshold_is_half_the_window_and_one_refusal_of_many_counts_once(refused: int) -> None:
    """Slow start ends at 4 or 5 after 429s to 1 of 8 as to all of them."""
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


def test_replies_to_what_was_sent_before_the_gate_closed_neither_open_it_nor_grow_the_window() -> None:
    for gate_opens_first in (False, True):
        line = Line()
        line.grow_to(8)
        line.now += 0.1
        line.refuse(3.0)
        line.now += 3.001 if gate_opens_first else 1.0
        line.reply(7)
        line.now += 0.0 if gate_opens_first else 2.001
        assert line.fill() == 1


# --- does it trickle?


def paced_after(*bouts: int, asked: float | None = 0.5, rest: float = 0.0, told_again: float = 0.0) -> bool:
    """Whether a server is taken to trickle that lets so many requests through before each 429.

    rest: seconds after the gate has opened.
    told_again: seconds for which the gate closes anew as soon as it has opened.
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
        if line.control.paced:
            return True
        line.now += line.control.gate(line.now) + HAIR
        if told_again:
            line.control.close_gate(line.now, told_again)
            line.now += told_again + HAIR
        line.now += rest
    return False


@pytest.mark.parametrize("asked", [0.5, 0.01, None], ids=["with Retry-After", "a short one", "without"])
@pytest.mark.parametrize("bouts", [(10, 1, 1), (1, 1, 1), (99, 1, 1), (10, 1, 0, 0, 0, 1)], ids=str)
def test_no_more_than_time_brought_again_and_again_is_a_trickle(bouts: tuple[int, ...], asked: float | None) -> None:
    assert paced_after(*bouts, asked=asked)
    assert not paced_after(*bouts[:-1], asked=asked)


def test_so_it_is_if_the_time_between_brought_more_than_one() -> None:
    for bouts in ((10, 2, 2, 2), (10, 1, 2, 1)):
        assert paced_after(*bouts)
        assert not paced_after(*bouts[:-1])


def test_a_gate_that_is_told_anew_before_anything_left_is_the_same_closing() -> None:
    """As from leases that other runs share, which hear of it a moment later: nothing was learnt in between."""
    assert paced_after(10, 2, 2, 2, told_again=0.002)


@pytest.mark.parametrize(
    ("bouts", "asked", "rest"),
    [
        ((3,) * 20, 0.5, 0.0),
        ((30,) * 20, None, 0.0),
        ((10, 1, 30) * 6, 0.5, 0.0),
        ((10, 1, 1, 1, 1, 1, 1), 1.01 * REST, 0.0),
        ((10, 1, 1, 1, 1, 1, 1), 20.0, 0.0),
        ((0,) * 20, 0.5, 0.0),
        ((0,) * 20, None, 0.0),
        ((10, 1, 1, 1, 1, 1, 1), 0.5, 1.1 * REST),
    ],
    ids=[
        "it let more through: it is overloaded",
        "it refuses now and then",
        "it trickled, and then it did not",
        "it asks for long waits",
        "it asks for very long waits",
        "it refuses everything",
        "it refuses everything and does not say for how long",
        "there was a rest after each: what it saved up came first",
    ],
)
def test_what_is_no_trickle(bouts: tuple[int, ...], asked: float | None, rest: float) -> None:
    assert not paced_after(*bouts, asked=asked, rest=rest)


# --- against models of servers


class Simulated(NamedTuple):
    control: CongestionControl
    sent: list[float]  # seconds, all that left
    refused: list[float]

    @property
    def took(self) -> float:
        return self.sent[-1]


def simulated(
    limiter: Limiter, count: int, *, overloaded: float = 0.0, with_retry_after: bool = True, seed: int = 0
) -> Simulated:
    """The control against a server, until ``count`` requests got through; a latency of 10 to 300 ms, no leases."""
    rng = random.Random(seed)
    control, now, setbacks = CongestionControl(RATE, 16), 0.0, 0
    sent: list[float] = []
    refused: list[float] = []
    arrivals: list[tuple[float, int]] = []
    replies: list[tuple[float, float, float | None]] = []  # at, sent at, seconds asked for
    while len(sent) - len(refused) < count or arrivals or replies:
        if len(sent) - len(refused) < count and control.wait(now) == 0:
            control.leave(now)
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
                control.reply(sent_at, now, healthy=True)
                setbacks = 0
                continue
            refused.append(sent_at)
            told = asks if with_retry_after else None
            control.refusal(sent_at, now, told)
            if told is None and not control.gate(now):
                setbacks += 1
                told = rng.uniform(0, 0.5 * 2**setbacks)
            control.close_gate(now, told or 0.0)
    return Simulated(control, sent, refused)


@pytest.mark.parametrize("with_retry_after", [True, False])
@pytest.mark.parametrize("limiter", [Gcra(100, 60.0, 10), SlidingCounter(100, 60.0)], ids=["gcra", "counter"])
def test_a_server_that_trickles_is_found_out_and_met_at_its_pace(limiter: Limiter, *, with_retry_after: bool) -> None:
    ran = simulated(limiter, 300, with_retry_after=with_retry_after)
    assert ran.control.paced
    assert len(ran.refused) < 40
    last = [at for at in ran.sent if at > ran.took - 60.0]
    assert len(last) >= 90
    assert sum(at in ran.refused for at in last) <= 4


@pytest.mark.parametrize("with_retry_after", [True, False])
def test_a_server_that_is_merely_overloaded_is_not_paced(*, with_retry_after: bool) -> None:
    for seed in range(10):
        ran = simulated(Unlimited(), 300, overloaded=0.03, with_retry_after=with_retry_after, seed=seed)
        assert ran.refused
        assert not ran.control.paced
        assert ran.took < 40.0  # at one a spacing it would be 180


def test_a_window_that_asks_for_long_waits_is_not_paced() -> None:
    ran = simulated(SlidingLog(50, 60.0), 200)
    assert ran.refused
    assert not ran.control.paced
    assert ran.took < 200.0


# --- the pace


def trickling(burst: int = 10) -> Line:
    """A line that has found out about a trickle after a burst."""
    line = Line()
    for replies in (burst, 1, 1):
        for _ in range(replies):
            line.send()
            line.reply()
        line.send()
        line.refuse(0.6)
        line.now += 0.6001
    assert line.control.paced
    return line


def spacing(line: Line) -> float:
    """Seconds between departures when nothing is saved."""
    line.control.close_gate(line.now, 1.0)
    found = line.wait - line.control.gate(line.now)
    line.now += 1.0
    return found


def test_the_pace_is_that_of_the_limit_shared_by_the_runs() -> None:
    line = trickling()
    assert spacing(line) == pytest.approx(SPACING)
    line.control.runs = 3
    assert spacing(line) == pytest.approx(3 * SPACING)


def test_a_429_makes_it_slower_by_a_fifth_and_replies_make_it_faster_step_by_step() -> None:
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


def test_refusals_without_a_reply_between_them_do_not_make_it_slower_and_slower() -> None:
    line = trickling()
    for _ in range(20):
        line.now += 10.0
        line.send()
        line.refuse(0.6)
    assert spacing(line) == pytest.approx(SPACING)


def test_however_often_it_changes_the_pace_stays_within_its_bounds() -> None:
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
def test_what_went_unused_is_saved_up_but_less_than_the_server_was_seen_to_save(burst: int) -> None:
    """After an hour's rest, with replies that come at once."""
    line, left = trickling(burst), 0
    line.now += 3600.0
    while line.wait == 0:
        line.send()
        line.reply()
        left += 1
    assert left == max(1, burst - 1)
    assert line.wait == pytest.approx(SPACING)


def test_nothing_is_saved_while_the_gate_is_closed() -> None:
    line = trickling()
    line.control.close_gate(line.now, 50.0)
    line.now += 50.0
    assert line.wait == pytest.approx(SPACING)


# --- whatever happens

EVENTS = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 20), st.none()),
    st.tuples(st.sampled_from(["reply", "sick", "lost", "unsent"]), st.integers(0, 20), st.none()),
    st.tuples(st.just("refuse"), st.integers(0, 20), st.none() | st.sampled_from([0.0, 0.3, 0.6, 2.4, 2.5, 900.0])),
    st.tuples(st.just("gate"), st.integers(0, 3), st.none()),
    st.tuples(st.just("runs"), st.integers(1, 5), st.none()),
    st.tuples(st.just("tick"), st.sampled_from([0, 1, 5, 6, 7, 10, 24, 25, 100, 10_000]), st.none()),
)
"""What happens, to which request or how often, and how long a wait is asked for."""


class Anything(Line):
    """Applies events; a request leaves only when it may."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(ceiling)
        self.departures: list[float] = []

    def apply(self, event: str, number: int, asked: float | None) -> None:
        match event:
            case "tick":
                self.now += number / 10
            case "gate":
                self.control.close_gate(self.now, number / 4)
            case "runs":
                self.control.runs = number
            case "send":
                before = len(self.under_way)
                while self.wait == 0 and len(self.under_way) < before + number:
                    self.send()
                    self.departures.append(self.now)
            case _ if self.under_way:
                self.end(event, number, asked)

    def end(self, verdict: str, number: int, asked: float | None) -> None:
        self.under_way.insert(0, self.under_way.pop(number % len(self.under_way)))
        match verdict:
            case "reply" | "sick":
                self.reply(healthy=verdict == "reply")
            case "refuse":
                self.refuse(asked, wait=number / 10)
            case "lost" | "unsent":
                self.under_way.pop(0)
                getattr(self.control, verdict)(self.now)


@settings(max_examples=300)
@given(st.integers(1, 16), st.lists(EVENTS, max_size=150), st.sampled_from(["reply", "sick", "refuse", "lost"]))
def test_whatever_happens_it_is_never_stuck_and_never_beyond_the_ceiling(
    ceiling: int, events: list[tuple[str, int, float | None]], last: str
) -> None:
    """Waits are never negative nor no number; once all have their verdicts and time has passed, a request may leave."""
    line = Anything(ceiling)
    for event in (*events, *[(last, 0, 0.3)] * 16):
        line.apply(*event)
        assert not isnan(line.wait)
        assert line.wait >= 0
        assert len(line.under_way) <= ceiling
        assert line.wait < inf or line.under_way
    assert not line.under_way
    line.now += line.wait + 1e-6
    assert line.wait == 0


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=150), st.integers(1, 10))
def test_whatever_happens_paced_departures_are_bounded(events: list[tuple[str, int, float | None]], burst: int) -> None:
    """In any time at most what the limit allows in it and what was saved up."""
    line = Anything(16)
    tricked = trickling(burst)
    line.control, line.now = tricked.control, tricked.now
    for event in events:
        line.apply(*event)
    for first, begin in enumerate(line.departures):
        for number, at in enumerate(line.departures[first:], 1):
            assert number <= max(1, burst - 1) + (at - begin) / SPACING + 1e-6
