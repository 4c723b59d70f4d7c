"""Slots: each is held as long as the promise requires, and the runs of an organization share them fairly."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import count, repeat
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import clock as virtual_clock
from support.model_server import RATE, ModelServer, P, send_all

from batch_issuer.quota import Budget, MemoryLeases, Quota
from batch_issuer.quota.leases import (
    ACTIVE_FOR,
    LOST_GRACE,
    MAX_WAIT,
    POLL_INTERVAL,
    End,
    cooling_time,
    hold_time,
    may_acquire,
)
from batch_issuer.quota.memory_leases import Guard
from batch_issuer.sandbox import SlidingLog
from batch_issuer.settings.run_settings import Rate

# --- one slot


def test_a_slot_is_held_until_a_period_after_the_reply() -> None:
    guard, only = Guard(), Rate(1, P)
    assert guard.acquire("1", "run", 1, 1, 0.0)[0]
    assert not guard.acquire("2", "run", 1, 1, 1000.0)[0]  # no reply yet, no matter how long
    guard.release("1", hold_time(End.ANSWERED, only), 1000.0)
    assert not guard.acquire("2", "run", 1, 1, 1000.0 + P)[0]
    assert guard.acquire("2", "run", 1, 1, 1000.0 + 1.01 * P)[0]


def test_a_lost_request_holds_its_slot_longer_and_an_unsent_one_frees_it_at_once() -> None:
    for end, held in ((End.LOST, P * 1.001 + LOST_GRACE), (End.ANSWERED, P * 1.001), (End.UNSENT, 0.0)):
        guard = Guard()
        guard.acquire("1", "run", 1, 1, 0.0)
        guard.release("1", hold_time(end, Rate(1, P)), 5.0)
        assert not held or not guard.acquire("2", "run", 1, 1, 5.0 + held - 0.01)[0]
        assert guard.acquire("3", "run", 1, 1, 5.0 + held + 0.01)[0]


def test_a_request_ends_once_and_one_without_a_slot_changes_nothing() -> None:
    guard = Guard()
    guard.acquire("1", "run", 2, 2, 0.0)
    for lease in ("1", "1", "of somebody else"):
        guard.release(lease, 10.0, 0.0)
    assert guard.snapshot("run", 0.0, mine=True) == Budget(0, (10.0,), 0.0, (1,))
    assert guard.snapshot("run", 0.0, mine=False) == Budget()
    assert guard.snapshot("run", 10.0, mine=True).in_use == 0


# --- the guard, against an independent count


class Book:
    """An independent record of each slot in use: its run, and until when it cools."""

    def __init__(self) -> None:
        self.in_flight: dict[str, str] = {}
        self.cooling: list[tuple[float, str]] = []

    def held(self, run: str, now: float, *, mine: bool) -> Budget:
        cooling = sorted(until - now for until, holder in self.cooling if until > now and (holder == run) == mine)
        return Budget(sum((holder == run) == mine for holder in self.in_flight.values()), tuple(cooling))


RUNS = ("a", "b", "c")
ACTIONS = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(RUNS), st.integers(1, 9)),
    st.tuples(st.just("end"), st.sampled_from(End), st.integers(0, 20)),
    st.tuples(st.just("gate"), st.just(""), st.integers(0, 8)),
    st.tuples(st.just("leave"), st.sampled_from(RUNS), st.just(0)),
    st.tuples(st.just("tick"), st.just(""), st.integers(0, 7)),
)


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=120), st.integers(1, 6))
def test_slots_in_use_never_exceed_the_limit_nor_get_lost(actions: list[tuple[str, str, int]], limit: int) -> None:
    """An independent count agrees with the guard, and no slot is free while a single run wants it."""
    guard, book, rate = Guard(), Book(), Rate(limit, 10.0)
    now, opens_at, numbers = 0.0, 0.0, count()
    asked: dict[str, float] = {}
    for action, what, number in actions:
        if action == "tick":
            now += number * 0.7
        elif action == "gate":
            guard.close_gate(number, now)
            opens_at = max(opens_at, now + number)
        elif action == "leave":
            guard.leave(what)
            asked.pop(what, None)
        elif action == "end":
            if book.in_flight:
                lease = sorted(book.in_flight)[number % len(book.in_flight)]
                run = book.in_flight.pop(lease)
                guard.release(lease, hold_time(End(what), rate), now)
                book.cooling.append((now + hold_time(End(what), rate), run))
        else:
            free = limit - sum(book.held(what, now, mine=mine).in_use for mine in (True, False))
            alone = all(run == what or now - at > ACTIVE_FOR for run, at in asked.items())
            lease = f"{next(numbers):03}"
            granted, wait, gate, runs = guard.acquire(lease, what, limit, number, now)
            assert gate == max(0.0, opens_at - now)
            assert not (granted and (gate or not free))
            assert granted or gate or not free or not alone
            assert granted or wait == gate > 0 or 0 < wait <= MAX_WAIT
            assert (runs == 1) == alone
            asked[what] = now
            if granted:
                book.in_flight[lease] = what
                if number == 1:  # it wants no more slots
                    asked.pop(what)
        for run in RUNS:
            seen = [guard.snapshot(run, now, mine=mine) for mine in (True, False)]
            known = [book.held(run, now, mine=mine) for mine in (True, False)]
            assert [(budget.in_flight, budget.cooling) for budget in seen] == [
                (budget.in_flight, pytest.approx(budget.cooling)) for budget in known
            ]
            assert sum(budget.in_use for budget in seen) <= limit


# --- how long to wait


def guard_full_until(release: float, *runs: str) -> Guard:
    """A guard with cooling slots of the ``runs``."""
    guard = Guard()
    for number, run in enumerate(runs):
        guard.hold(str(number), run)
        guard.release(str(number), release, 0.0)
    return guard


def test_a_run_retries_when_a_slot_becomes_free_and_often_enough_to_stay_active() -> None:
    guard = guard_full_until(10.0, "a", "a")
    assert guard.acquire("x", "a", 2, 5, 9.9)[1] == pytest.approx(0.1)
    assert guard.acquire("x", "a", 2, 5, 4.0)[1] < ACTIVE_FOR


def test_a_run_next_to_another_retries_soon() -> None:
    """The other run may end, so its slots or those kept for it may become free early."""
    wants_too, holds_too, has_requests_in_flight = (guard_full_until(10.0, *runs) for runs in ("aa", "ab", "a"))
    wants_too.acquire("x", "b", 2, 5, 4.0)
    has_requests_in_flight.hold("other", "b")
    for guard in (wants_too, holds_too, has_requests_in_flight):
        assert guard.acquire("x", "a", 2, 5, 4.0)[1] <= POLL_INTERVAL


def test_a_run_that_must_leave_free_slots_to_others_retries_soon() -> None:
    guard = guard_full_until(10.0, "a")
    guard.acquire("x", "b", 1, 5, 0.0)
    assert guard.acquire("x", "a", 2, 5, 0.0)[:2] == (False, POLL_INTERVAL)


# --- fairness: the rule


class Sharing(NamedTuple):
    """A limit, and by run the slots held and the requests waiting; a run may have only one of both."""

    limit: int
    held: dict[str, int]
    waiting: dict[str, int]

    @property
    def free(self) -> int:
        return self.limit - sum(self.held.values())

    @property
    def share(self) -> int:
        """An equal part of the slots that are free or held by runs that want more."""
        idle = sum(slots for run, slots in self.held.items() if run not in self.waiting)
        return (self.limit - idle) // len(self.waiting)

    def needed_by_others(self, run: str) -> int:
        """Slots that the other runs need to have their shares, and have requests for."""
        missing = {other: max(0, self.share - self.held.get(other, 0)) for other in self.waiting if other != run}
        return sum(min(self.waiting[other], slots) for other, slots in missing.items())


@st.composite
def sharings(draw: st.DrawFn) -> Sharing:
    limit = draw(st.integers(1, 100))
    held, free = {}, limit
    for run in draw(st.sets(st.sampled_from("abcdef"))):
        held[run] = draw(st.integers(0, free))
        free -= held[run]
    waiting = draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 150), min_size=1))
    return Sharing(limit, held, waiting)


@given(sharings())
def test_no_run_gets_a_slot_beyond_the_limit(now: Sharing) -> None:
    for run in now.waiting:
        assert now.free > 0 or not may_acquire(now.limit, run, now.held, now.waiting)


@given(sharings())
def test_a_run_below_its_share_gets_a_free_slot(now: Sharing) -> None:
    """Always, unless so few are free that another run below its share needs it more."""
    for run in now.waiting:
        mine = now.held.get(run, 0)
        poorest = all(mine <= now.held.get(other, 0) for other in now.waiting)
        if now.free > 0 and mine < now.share and (poorest or now.free > now.needed_by_others(run)):
            assert may_acquire(now.limit, run, now.held, now.waiting)


@given(sharings())
def test_a_run_with_its_share_leaves_others_the_slots_for_theirs(now: Sharing) -> None:
    for run in now.waiting:
        if now.held.get(run, 0) >= now.share and may_acquire(now.limit, run, now.held, now.waiting):
            assert now.free - 1 >= now.needed_by_others(run)


@given(sharings())
def test_no_slot_stays_free_if_only_one_run_wants_it(now: Sharing) -> None:
    for run, wants in now.waiting.items():
        assert may_acquire(now.limit, run, now.held, {run: wants}) == (now.free > 0)


@given(sharings())
def test_no_slot_stays_free_while_any_run_wants_it(now: Sharing) -> None:
    assert now.free <= 0 or any(may_acquire(now.limit, run, now.held, now.waiting) for run in now.waiting)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 60), st.randoms(use_true_random=False))
def test_runs_that_start_together_share_max_min_fairly(wants: list[int], limit: int, rng: random.Random) -> None:
    """In any order of requests: no run has more slots than one that still wants some, and no slot is unused."""
    guard, got, numbers = Guard(), [0] * len(wants), count()
    for run, wanted in enumerate(wants):
        guard.acquire("", str(run), 0, wanted, 0.0)  # none is free yet, but each run is known to want some
    asking = [run for run, _ in enumerate(wants)]
    while asking:
        run = rng.choice(asking)
        if guard.acquire(str(next(numbers)), str(run), limit, wants[run] - got[run], 0.0)[0]:
            got[run] += 1
            asking = [run for run, wanted in enumerate(wants) if got[run] < wanted]
        else:
            asking.remove(run)
    assert sum(got) == min(limit, sum(wants))
    for slots, wanted in zip(got, wants, strict=True):
        assert slots == wanted or slots >= max(got) - 1


@given(st.floats(0.0, 10.0), st.integers(2, 40))
def test_an_inactive_run_reserves_nothing(silence: float, limit: int) -> None:
    assume(abs(silence - ACTIVE_FOR) > 1e-6)
    guard = Guard()
    assert guard.acquire("first", "silent", limit, limit, 0.0)[0]
    got = sum(guard.acquire(str(number), "busy", limit, limit, silence)[0] for number in range(limit))
    assert got == (limit - 1 if silence > ACTIVE_FOR else limit - limit // 2)


def test_a_run_that_has_ended_reserves_nothing() -> None:
    guard = Guard()
    guard.acquire("first", "over", 10, 10, 0.0)
    guard.leave("over")
    assert sum(guard.acquire(str(number), "busy", 10, 10, 0.0)[0] for number in range(10)) == 9


# --- runs of one process, on a virtual clock


class Together:
    """Runs of ``count`` requests each on one guard, against a sliding log; ``starts`` are seconds."""

    def __init__(self, requests: int, *starts: float, seed: int = 0) -> None:
        rng = random.Random(seed)

        async def one(start: float) -> list[float]:
            await asyncio.sleep(start)
            quota = Quota(MemoryLeases(RATE, guard))
            try:
                return await send_all(quota, self.server, requests)
            finally:
                await quota.close()

        async def main() -> None:
            self.sent = await asyncio.gather(*map(one, starts))
            self.took = asyncio.get_running_loop().time()

        guard = Guard()
        self.server = ModelServer(SlidingLog(100, P), lambda: (rng.uniform(0.005, 0.15), rng.uniform(0.005, 0.15)))
        virtual_clock.run(main())

    def shares(self, first: int) -> list[int]:
        """How many of the ``first`` requests each run sent."""
        order = sorted((at, run) for run, sent in enumerate(self.sent) for at in sent)
        counts = Counter(run for _, run in order[:first])
        return [counts[run] for run in range(len(self.sent))]


@pytest.mark.parametrize("seed", range(3))
def test_four_runs_at_once_are_as_fast_as_one_and_each_gets_its_share(seed: int) -> None:
    four, one = Together(63, *repeat(0.0, 4), seed=seed), Together(252, 0.0, seed=seed)
    assert four.server.peak(P) == one.server.peak(P) == 100
    assert four.server.refusals == 0
    assert four.took <= 1.05 * one.took
    for first in (100, 200):
        assert all(first / 4 / 1.5 <= share <= first / 4 * 1.5 for share in four.shares(first))


def test_a_run_that_joins_later_waits_for_what_the_first_one_used() -> None:
    """100 at once, and 10 s later 63 more: they leave as slots become free, without 429s."""
    both = Together(100, 0.0, 10.0)
    assert both.server.refusals == 0
    assert both.server.peak(P) == 100
    assert max(both.sent[0]) < 3.0
    assert min(both.sent[1]) > P
    assert both.took < 1.1 * P


def test_a_run_that_joins_a_long_one_gets_its_share_of_what_comes_free() -> None:
    """The first has used all slots; of those that become free a minute later, the newcomer gets half."""
    both = Together(150, 0.0, 10.0)
    assert both.server.refusals == 0
    second_minute = [sum(P <= at < 2 * P for at in sent) for sent in both.sent]
    assert second_minute[1] >= 50
    assert sum(second_minute) == 100


def test_all_runs_wait_at_a_gate_that_one_of_them_closed() -> None:
    """Unless it closed the gate only for itself, because of its own network."""

    async def sent_by_the_other(*, for_all: bool) -> float:
        guard = Guard()
        one, other = Quota(MemoryLeases(RATE, guard)), Quota(MemoryLeases(RATE, guard))
        permit = await one.admit(5)
        await asyncio.sleep(1.0)
        if for_all:
            one.throttled(permit, 7.0, 7.0)
        else:
            one.answered(permit)
            one.pause(7.0)
        return (await other.admit(5)).sent_at

    assert virtual_clock.run(sent_by_the_other(for_all=True)) == pytest.approx(8.0, abs=0.01)
    assert virtual_clock.run(sent_by_the_other(for_all=False)) == pytest.approx(1.0, abs=0.01)


def test_a_run_sees_the_slots_of_others_and_its_own() -> None:
    async def main() -> tuple[Budget, Budget, Budget]:
        guard = Guard()
        one, other = MemoryLeases(RATE, guard), MemoryLeases(RATE, guard)
        taken = [(await one.acquire(7 - number)).lease for number in range(4)]
        assert None not in taken
        one.release(taken[0], End.ANSWERED)  # type: ignore[arg-type]
        one.release(taken[1], End.LOST)  # type: ignore[arg-type]
        one.release(taken[2], End.UNSENT)  # type: ignore[arg-type]
        other.close_gate(9.0)
        seen = one.mine(), await other.snapshot(), await one.snapshot()
        await one.close()
        assert (await other.snapshot()).waiting == ()
        return seen

    cooling = pytest.approx((cooling_time(RATE), cooling_time(RATE) + LOST_GRACE))
    mine, seen_by_the_other, of_the_other = virtual_clock.run(main())
    assert mine == seen_by_the_other == Budget(1, cooling, pytest.approx(9.0), (3,))  # type: ignore[arg-type]
    assert of_the_other == Budget(gate=pytest.approx(9.0))  # type: ignore[arg-type]


# --- the arithmetic of a budget

SECONDS = st.floats(0.0, 100.0)
BUDGETS = st.builds(
    Budget,
    in_flight=st.integers(0, 30),
    cooling=st.lists(st.floats(0.001, P), max_size=30).map(lambda seconds: tuple(sorted(seconds))),
    gate=SECONDS,
    waiting=st.lists(st.integers(1, 50), max_size=3).map(tuple),
)


def assert_alike(one: Budget, other: Budget) -> None:
    assert (one.in_flight, one.waiting) == (other.in_flight, other.waiting)
    assert one.cooling == pytest.approx(other.cooling)
    assert one.gate == pytest.approx(other.gate)


@given(BUDGETS, SECONDS)
def test_time_frees_only_cooling_slots(budget: Budget, seconds: float) -> None:
    later = budget.later(seconds)
    assert later.in_use == budget.in_flight + sum(left > seconds for left in budget.cooling)
    assert all(left > 0 for left in later.cooling)
    assert later.gate == max(0.0, budget.gate - seconds)
    assert budget.later(0.0) == budget


@given(BUDGETS, BUDGETS, SECONDS)
def test_budgets_add_up_in_any_order_and_at_any_time(one: Budget, other: Budget, seconds: float) -> None:
    both = one + other
    assert both.in_use == one.in_use + other.in_use
    assert list(both.cooling) == sorted(both.cooling)
    assert both.gate == max(one.gate, other.gate)
    assert Counter(both.waiting) == Counter((other + one).waiting) == Counter((*one.waiting, *other.waiting))
    assert_alike(both.later(seconds), one.later(seconds) + other.later(seconds))
    assert one + Budget() == one


@given(BUDGETS, st.integers(1, 300), st.floats(0.0, 5.0))
def test_a_departure_is_when_slots_and_gate_allow_it(budget: Budget, number: int, latency: float) -> None:
    """Counted slot by slot: each request takes the first one to be free and holds it for a round trip."""
    rate = Rate(60, P)
    round_trip = latency + cooling_time(rate)
    free = max(0, rate.limit - budget.in_use)
    slots = sorted([*repeat(0.0, free), *budget.cooling, *repeat(round_trip, budget.in_flight)])
    leaves = 0.0
    for _ in range(number):
        leaves = slots.pop(0)
        slots.append(leaves + round_trip)
        slots.sort()
    assert budget.departure(rate, number, latency) == pytest.approx(max(budget.gate, leaves))


@given(BUDGETS, st.integers(1, 300), SECONDS)
def test_with_more_slots_in_use_or_for_a_later_request_a_departure_is_never_earlier(
    budget: Budget, number: int, more: float
) -> None:
    rate = Rate(60, P)
    assert budget.departure(rate, number, 0.1) <= budget.departure(rate, number + 1, 0.1)
    fuller = budget + Budget(1, (min(max(0.001, more), P),), more)
    assert budget.departure(rate, number, 0.1) <= fuller.departure(rate, number, 0.1) + 1e-9
