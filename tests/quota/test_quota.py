"""The quota of a run: the promise with any network delays, the gate, the estimate, and unavailable leases."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import clock as virtual_clock
from support.model_server import AWAY, BROKEN, RATE, ModelServer, P, TroubledLeases, drivers, peak, send_all

from batch_issuer.quota import Budget, MemoryLeases, Permit, Quota, Trouble, estimate, open_quota
from batch_issuer.quota.leases import LOST_GRACE
from batch_issuer.quota.memory_leases import Guard
from batch_issuer.sandbox import Gcra, SlidingLog, Unlimited
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.errors import QuotaError
    from batch_issuer.quota.leases import Answer, Lease


def quota_for(
    rate: Rate = RATE, guard: Guard | None = None, *, burst: int | None = None, concurrency: int = 16
) -> Quota:
    return Quota(MemoryLeases(rate, guard), burst=burst, concurrency=concurrency)


# --- the promise


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 12),
    burst=st.none() | st.integers(1, 12),
    concurrency=st.integers(1, 16),
    slowest=st.floats(0.0, 2.0),
)
def test_the_server_never_counts_more_than_the_limit_at_any_latency(
    seed: int, limit: int, burst: int | None, concurrency: int, slowest: float
) -> None:
    """Latencies from 0 to 2P each way: no window of a sliding log, and so of any server, has more than L requests."""
    rng = random.Random(seed)

    def latency() -> tuple[float, float]:
        return rng.uniform(0, slowest * P), rng.uniform(0, slowest * P)

    async def main() -> ModelServer:
        server = ModelServer(SlidingLog(limit, P), latency)
        quota = quota_for(Rate(limit, P), burst=min(burst, limit) if burst else None, concurrency=concurrency)
        await send_all(quota, server, 5 * limit)
        return server

    server = virtual_clock.run(main())
    assert server.peak(P) <= limit
    assert server.refusals == 0
    assert len(server.arrivals) == 5 * limit


def test_the_check_above_detects_a_limiter_by_sending_times() -> None:
    """A limiter that knows only sending times fails the same measurement, so the test above can fail."""
    rng = random.Random(1)

    async def main() -> int:
        server = ModelServer(Unlimited(), lambda: (rng.uniform(0, P), 0.0))

        async def one(at: float) -> None:
            await asyncio.sleep(at)
            await server.issue(drivers(1)[0].identifier, "code")

        await asyncio.gather(*(one(P * (number // 10)) for number in range(50)))  # 10 at the start of each period
        return server.peak(P)

    assert virtual_clock.run(main()) > 10


def test_a_depot_of_100_is_done_in_under_3_seconds_at_100_ms() -> None:
    async def main() -> float:
        await send_all(quota_for(), ModelServer(SlidingLog(100, P)), 100)
        return asyncio.get_running_loop().time()

    assert virtual_clock.run(main()) < 3.0


def test_a_small_burst_leaves_room_for_other_programs() -> None:
    """With a burst of B, at most B + t·L/P requests leave within t seconds."""

    async def main() -> list[float]:
        server = ModelServer(Unlimited(), lambda: (0.0, 0.1))
        await send_all(quota_for(burst=10), server, 100)
        return server.arrivals

    arrivals = virtual_clock.run(main())
    for seconds in (1.0, 6.0, 30.0):
        assert peak(arrivals, seconds) <= 10 + seconds * 100 / P + 1


def test_requests_to_a_trickling_server_are_sent_one_by_one() -> None:
    async def main() -> list[float]:
        server = ModelServer(Gcra(100, P, 10))
        await send_all(quota_for(), server, 90)
        return server.arrivals

    arrivals = virtual_clock.run(main())[-40:]
    assert min(later - earlier for earlier, later in pairwise(arrivals)) > 0.9 * P / 100


# --- the gate


def test_the_gate_closes_for_all_runs() -> None:
    """After a 429, no run sends before its Retry-After is over, and then a single canary is first."""

    async def main() -> None:
        quota = quota_for()
        loop = asyncio.get_running_loop()
        for _ in range(5):
            quota.answered(await quota.admit(9))
        refused = await quota.admit(9)
        quota.throttled(refused, 7.5, 7.5)
        quota.pause(2.0)  # a shorter one changes nothing
        assert quota.paused
        asked = loop.time()
        canary = await quota.admit(9)
        assert canary.sent_at >= asked + 7.5
        second = asyncio.create_task(quota.admit(9))
        await asyncio.sleep(5)
        assert not second.done()  # the canary has no reply yet
        quota.answered(canary)
        await second

    virtual_clock.run(main())


def test_a_run_that_finds_the_gate_closed_by_another_starts_over_with_a_canary() -> None:
    """Even after a pause too short to count as idling."""

    async def main() -> None:
        guard = Guard()
        one, other = quota_for(guard=guard), quota_for(guard=guard)
        for _ in range(5):
            other.answered(await other.admit(9))
        one.throttled(await one.admit(9), 1.5, 1.5)
        canary = await other.admit(9)
        assert canary.sent_at == pytest.approx(1.5, abs=0.01)
        second = asyncio.create_task(other.admit(9))
        await asyncio.sleep(5)
        assert not second.done()
        other.answered(canary)
        await second

    virtual_clock.run(main())


# --- slots given back


def test_a_cancelled_wait_holds_no_slot() -> None:
    """Whether it waited for the gate or for the only slot, which another request holds."""

    async def main() -> None:
        guard = Guard()
        quota = quota_for(Rate(1, P), guard)
        refused = await quota.admit(9)
        quota.unsent(refused)
        quota.pause(100.0)
        MemoryLeases(RATE, guard).close_gate(100.0)
        for given_up_at in (30.0, 80.0):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout_at(given_up_at):
                    await quota.admit(9)
        first = await quota.admit(9)
        assert first.sent_at == pytest.approx(100.0, abs=0.01)
        quota.answered(first)
        for given_up_at in (120.0, 150.0):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout_at(given_up_at):
                    await quota.admit(9)
        assert (await quota.admit(9)).sent_at == pytest.approx(100.0 + 1.001 * P, abs=0.01)

    virtual_clock.run(main())


def test_a_lost_request_holds_its_slot_longer_than_an_answered_one() -> None:
    async def next_departure(*, lost: bool) -> float:
        quota = quota_for(Rate(1, P))
        permit = await quota.admit(2)
        (quota.lost if lost else quota.answered)(permit)
        return (await quota.admit(1)).sent_at

    assert virtual_clock.run(next_departure(lost=False)) == pytest.approx(1.001 * P, abs=0.01)
    assert virtual_clock.run(next_departure(lost=True)) == pytest.approx(1.001 * P + LOST_GRACE, abs=0.01)


@pytest.mark.parametrize("shared", [False, True])
def test_a_run_that_has_ended_leaves_its_slots_to_others_at_once(*, shared: bool) -> None:
    """Even if it wanted more."""

    async def main() -> float:
        guard = Guard()
        leases = MemoryLeases(RATE, guard)
        over = Quota(MemoryLeases(RATE), leases) if shared else Quota(leases)
        over.answered(await over.admit(100))
        await over.close()
        return max(await send_all(quota_for(guard=guard), ModelServer(Unlimited()), 99))

    assert virtual_clock.run(main()) < 2.0


class SlowLeases(MemoryLeases):
    """Leases of another process or host: a reply takes a while, and a request cancelled meanwhile takes no slot."""

    async def acquire(self, waiting: int) -> Answer:
        await asyncio.sleep(0.3)
        return await super().acquire(waiting)


@settings(max_examples=100, deadline=None)
@given(
    moments=st.lists(st.floats(0.0, 100.0), max_size=8),
    burst=st.sampled_from([None, 1, 3]),
    gate=st.sampled_from([None, 0.0, 40.0]),
    slow=st.booleans(),
)
def test_after_a_cancelled_wait_only_requests_that_left_hold_slots(
    moments: list[float], burst: int | None, gate: float | None, *, slow: bool
) -> None:
    """By the guard's count, there are always as many slots in use as permits."""

    async def main() -> None:
        guard, permits = Guard(), list[Permit]()
        rate = Rate(5, P)
        quota = Quota((SlowLeases if slow else MemoryLeases)(rate, guard), burst=burst)
        watcher = MemoryLeases(rate, guard)

        async def send() -> None:
            while True:
                permits.append(await quota.admit(9))
                if gate is not None:
                    quota.pause(gate)
                    watcher.close_gate(gate)
                asyncio.get_running_loop().call_later(10.0, quota.answered, permits[-1])

        for moment in sorted(moments):
            task = asyncio.create_task(send())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout_at(moment):
                    await task
            now = asyncio.get_running_loop().time()
            held = [permit for permit in permits if now < permit.sent_at + 10.0 + 1.001 * P]
            assert (await watcher.snapshot()).in_use == len(held)

    virtual_clock.run(main())


def test_a_slot_that_lapsed_while_the_request_waited_is_not_used() -> None:
    """Leases may lapse after a long time without use: the request then waits for another one."""

    class Expired(MemoryLeases):
        expired = 2

        def is_valid(self, lease: Lease) -> bool:  # noqa: ARG002 - the protocol's
            self.expired -= 1
            return self.expired < 0

    async def main() -> tuple[Permit, Budget]:
        guard = Guard()
        permit = await Quota(Expired(RATE, guard)).admit(1)
        return permit, await MemoryLeases(RATE, guard).snapshot()

    permit, seen = virtual_clock.run(main())
    assert seen.in_use == 1
    assert permit.lease.id.endswith("3")


# --- the estimate


@pytest.mark.parametrize("count", [1, 50, 100, 101, 250, 1000])
@pytest.mark.parametrize("burst", [100, 10, 1])
def test_the_estimate_is_accurate(count: int, burst: int) -> None:
    """It is within 4 % of a period of the time it takes, or 1 % of that time."""

    async def main() -> tuple[float, float]:
        quota = quota_for(burst=burst)
        planned = quota.estimate(count)
        await send_all(quota, ModelServer(SlidingLog(100, P), lambda: (0.1, 0.1)), count)
        return planned, asyncio.get_running_loop().time()

    planned, took = virtual_clock.run(main())
    assert planned == pytest.approx(took, abs=max(0.04 * P, 0.01 * took))


def test_the_estimate_during_a_run_counts_cooling_slots() -> None:
    async def main() -> tuple[float, float]:
        quota = quota_for()
        server = ModelServer(SlidingLog(100, P))
        await send_all(quota, server, 130)
        planned, now = quota.estimate(120), asyncio.get_running_loop().time()
        await send_all(quota, server, 120)
        return planned, asyncio.get_running_loop().time() - now

    planned, took = virtual_clock.run(main())
    assert planned == pytest.approx(took, abs=0.04 * P)


@pytest.mark.parametrize("count", [60, 100, 250])
def test_the_estimate_counts_slots_of_other_runs(count: int) -> None:
    """By one snapshot at the start; the other run has ended by then."""

    async def main() -> tuple[float, float]:
        guard, server = Guard(), ModelServer(SlidingLog(100, P))
        await send_all(quota_for(guard=guard), server, 70)
        await asyncio.sleep(20)
        now, quota = asyncio.get_running_loop().time(), quota_for(guard=guard)
        assert (await quota.begin()).in_use == 70
        planned = quota.estimate(count)
        await send_all(quota, server, count)
        assert server.refusals == 0
        return planned, asyncio.get_running_loop().time() - now

    planned, took = virtual_clock.run(main())
    assert planned == pytest.approx(took, abs=0.05 * P)


def test_the_estimate_knows_that_slots_of_others_cool_after_the_snapshot() -> None:
    async def main() -> list[float]:
        guard = Guard()
        await send_all(quota_for(guard=guard), ModelServer(Unlimited()), 100)
        quota = quota_for(guard=guard)
        await quota.begin()
        plans = [quota.estimate(1)]
        for _ in range(2):
            await asyncio.sleep(20.0)
            plans.append(quota.estimate(1))
        return plans

    assert virtual_clock.run(main()) == pytest.approx([60.0, 40.0, 20.0], abs=3.0)


@pytest.mark.parametrize("for_all", [False, True])
def test_the_estimate_includes_the_gate(*, for_all: bool) -> None:
    async def main() -> float:
        guard = Guard()
        quota = quota_for(guard=guard)
        if for_all:
            MemoryLeases(RATE, guard).close_gate(300.0)
        else:
            quota.pause(300.0)
        return quota.estimate(10)

    assert virtual_clock.run(main()) >= 300.0


def test_sending_nothing_takes_no_time() -> None:
    assert estimate(RATE, 0, 100, 16) == 0.0
    assert estimate(RATE, 0, 100, 16, Budget(100, gate=50.0)) == 0.0


# --- runs of one process


def test_runs_of_one_organization_in_this_process_share_one_guard() -> None:
    """Two runs at once and a third after them stay within the limit together; another API token has its own."""

    async def sent(key: str, server: ModelServer, count: int) -> None:
        async with open_quota(Settings(api_token=Secret(key), rate=Rate(20, P), quota="process")) as quota:
            await send_all(quota, server, count)

    async def main() -> tuple[int, float]:
        server, other = ModelServer(SlidingLog(20, P)), ModelServer(SlidingLog(20, P))
        await asyncio.gather(sent("shared", server, 15), sent("shared", server, 15))
        await sent("shared", server, 15)
        before = asyncio.get_running_loop().time()
        await sent("another", other, 20)
        return server.refusals, asyncio.get_running_loop().time() - before

    refusals, took = virtual_clock.run(main())
    assert refusals == 0
    assert took < 3


# --- leases shared with other processes, which may be unavailable


class Troubled:
    """Requests with leases that have some ``trouble``, and the reports about it."""

    def __init__(self, count: int, trouble: Callable[[float], QuotaError | None], *, limit: int = 20) -> None:
        self.reports: list[tuple[float, Trouble | None]] = []
        self.server = ModelServer(SlidingLog(limit, P))
        self.leases: TroubledLeases

        async def main() -> None:
            loop, rate = asyncio.get_running_loop(), Rate(limit, P)
            self.leases = TroubledLeases(rate, trouble)
            quota = Quota(MemoryLeases(rate), self.leases)
            quota.on_trouble = lambda trouble: self.reports.append((loop.time(), trouble))
            await quota.begin()
            self.sent = await send_all(quota, self.server, count)
            self.took = loop.time()
            await quota.close()

        virtual_clock.run(main())

    @property
    def changes(self) -> list[Trouble | None]:
        """The reports without repetitions."""
        troubles = [trouble for _, trouble in self.reports]
        return [trouble for number, trouble in enumerate(troubles) if [trouble] != troubles[:number][-1:]]


def test_without_trouble_nothing_is_reported() -> None:
    ran = Troubled(50, lambda _: None)
    assert ran.reports == []
    assert ran.server.peak(P) == 20
    assert ran.leases.closed


@pytest.mark.parametrize(("since", "until"), [(0.3, 10.0), (0.0, 5.0), (10.0, 100.0), (59.0, 62.5)])
def test_a_run_waits_while_its_leases_are_unavailable_reports_it_and_continues(since: float, until: float) -> None:
    """Only a request that had its slot leaves meanwhile. It is reported soon, and once when they are back."""
    ran = Troubled(50, lambda now: AWAY if since <= now < until else None)
    waiting = Trouble(AWAY.message, AWAY.hint, waits=True)
    assert ran.changes == [waiting, None]
    assert ran.reports[-1][1] is None
    assert until <= ran.reports[-1][0] <= until + 2.0
    assert not [at for at in ran.sent if since + 0.5 < at < until]
    assert len(ran.server.arrivals) == 50
    assert ran.server.peak(P) <= 20
    assert ran.server.refusals == 0


def test_leases_that_are_briefly_unavailable_during_a_wait_for_slots_are_not_reported() -> None:
    """All slots cool for a minute, so the leases are not needed in between."""
    ran = Troubled(30, lambda now: AWAY if 20.0001 < now < 20.0002 else None)
    assert ran.reports == []


@pytest.mark.parametrize("at", [0.0, 0.4, 30.0, 60.5, 61.0])
def test_a_run_with_broken_leases_continues_with_its_own_which_count_its_requests(at: float) -> None:
    """It is reported once, and the server never counts more than the limit."""
    ran = Troubled(70, lambda now: BROKEN if now >= at else None)
    assert [trouble for _, trouble in ran.reports] == [Trouble(BROKEN.message, BROKEN.hint, waits=False)]
    assert ran.leases.closed
    assert ran.server.peak(P) == 20
    assert ran.server.refusals == 0
    assert ran.took < 3.2 * P


def test_a_run_stops_waiting_for_unavailable_leases_that_break() -> None:
    ran = Troubled(30, lambda now: AWAY if 0.3 <= now < 5.0 else BROKEN if now >= 5.0 else None)
    assert [trouble and trouble.waits for trouble in ran.changes] == [True, False, None]
    assert ran.server.refusals == 0


def test_the_gate_of_a_run_stays_closed_when_its_leases_break() -> None:
    async def main() -> float:
        quota = Quota(MemoryLeases(RATE), TroubledLeases(RATE, lambda now: BROKEN if now >= 1.0 else None))
        permit = await quota.admit(5)
        quota.throttled(permit, 30.0, 30.0)
        return (await quota.admit(5)).sent_at

    assert virtual_clock.run(main()) == pytest.approx(30.0, abs=0.01)


def test_unknown_usage_of_other_runs_counts_as_none() -> None:
    async def main(trouble: QuotaError) -> tuple[Budget, float]:
        quota = Quota(MemoryLeases(RATE), TroubledLeases(RATE, lambda _: trouble))
        return await quota.begin(), quota.estimate(100)

    for trouble in (AWAY, BROKEN):
        seen, planned = virtual_clock.run(main(trouble))
        assert seen == Budget()
        assert planned < 3.0
