"""The guard's promise: never more than L requests in any window of P seconds, as the server counts."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from math import inf

import pytest
import virtual_clock
from hypothesis import given, settings
from hypothesis import strategies as st
from model_server import ModelServer, drivers, peak

from batch_issuer.model import Rate, Secret, Settings
from batch_issuer.quota import LOST_GRACE, FlightWindow, Quota, TrickleDetector, WindowGuard, plan, quota_for
from batch_issuer.sandbox import Gcra, SlidingLog, Unlimited

P = 60.0


# --- the guard alone, a pure state machine


def test_a_slot_is_held_until_a_period_after_the_reply() -> None:
    guard = WindowGuard(Rate(1, P))
    guard.take(0.0)
    assert guard.wait(1000.0) == inf  # no reply yet, however long
    guard.answered(1000.0)
    assert P < guard.wait(1000.0) < 1.01 * P
    assert guard.wait(1000.0 + 1.01 * P) == 0.0


def test_a_lost_request_holds_its_slot_longer_and_an_unsent_one_not_at_all() -> None:
    guard = WindowGuard(Rate(1, P))
    guard.take(0.0)
    guard.lost(5.0)
    assert guard.wait(5.0) == pytest.approx(P * 1.001 + LOST_GRACE)
    guard = WindowGuard(Rate(1, P))
    guard.take(0.0)
    guard.unsent()
    assert guard.wait(0.0) == 0.0


def test_a_slot_cannot_be_taken_when_none_is_free() -> None:
    guard = WindowGuard(Rate(1, P))
    guard.take(0.0)
    with pytest.raises(RuntimeError):
        guard.take(0.0)


@given(st.lists(st.sampled_from(["take", "answered", "lost", "unsent", "tick"]), max_size=200), st.integers(1, 5))
def test_slots_in_use_never_exceed_the_limit_nor_get_lost(actions: list[str], limit: int) -> None:
    """An independent count of what is held, kept beside the guard, always agrees with it."""
    guard, now, in_flight = WindowGuard(Rate(limit, 10.0)), 0.0, 0
    cooling: list[float] = []
    for action in actions:
        cooling = [until for until in cooling if until > now]
        assert (guard.wait(now) == 0.0) == (in_flight + len(cooling) < limit)
        if action == "tick":
            now += 3.7
        elif action == "take":
            if guard.wait(now) == 0.0:
                guard.take(now)
                in_flight += 1
        elif in_flight:
            getattr(guard, action)(*([] if action == "unsent" else [now]))
            in_flight -= 1
            if action != "unsent":
                cooling.append(now + guard.cooling_time + (LOST_GRACE if action == "lost" else 0.0))


def test_flight_window_is_slow_start() -> None:
    """One canary, one more with each reply, at most the ceiling, one again after a 429."""
    window = FlightWindow(4)
    sizes = [window.size]
    for _ in range(5):
        window.grow()
        sizes.append(window.size)
    window.collapse()
    assert [*sizes, window.size] == [1, 2, 3, 4, 4, 4, 1]


# --- the guard on a virtual clock, against latencies of any kind


async def send_all(quota: Quota, server: ModelServer, count: int) -> float:
    """Send ``count`` requests, each only once admitted; returns the seconds it took."""
    loop = asyncio.get_running_loop()

    async def one(sent_at: float, identifier: object) -> None:
        reply = await server.issue(identifier, "code")  # type: ignore[arg-type]
        if reply.status == 429:
            quota.throttled(reply.retry_after)
            quota.pause(reply.retry_after or 1.0)
        else:
            quota.answered(sent_at)

    tasks = []
    for driver in drivers(count):
        tasks.append(asyncio.create_task(one(await quota.admit(), driver.identifier)))  # noqa: PERF401
    await asyncio.gather(*tasks)
    return loop.time()


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 12),
    burst=st.none() | st.integers(1, 12),
    concurrency=st.integers(1, 16),
    slowest=st.floats(0.0, 2.0),
)
def test_server_never_counts_more_than_the_limit_whatever_the_latency(
    seed: int, limit: int, burst: int | None, concurrency: int, slowest: float
) -> None:
    """Latencies from 0 to 2P each way: no window of a sliding log, and so of no other server, holds more than L."""
    rng = random.Random(seed)

    def latency() -> tuple[float, float]:
        return rng.uniform(0, slowest * P), rng.uniform(0, slowest * P)

    async def main() -> ModelServer:
        server = ModelServer(SlidingLog(limit, P), latency)
        rate = Rate(limit, P)
        quota = Quota(WindowGuard(rate), burst=min(burst, limit) if burst else None, concurrency=concurrency)
        await send_all(quota, server, 5 * limit)
        return server

    server = virtual_clock.run(main())
    assert server.peak(P) <= limit
    assert server.refusals == 0
    assert len(server.arrivals) == 5 * limit


def test_this_check_would_notice_a_send_time_limiter() -> None:
    """The same measurement finds a limiter that only looks at sending times guilty: the property above can fail."""
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
        return await send_all(Quota(WindowGuard(Rate(100, P))), ModelServer(SlidingLog(100, P)), 100)

    assert virtual_clock.run(main()) < 3.0


def test_a_small_burst_leaves_room_for_other_programs() -> None:
    """With a burst of B, at most B + t·L/P requests leave within t seconds."""

    async def main() -> list[float]:
        server = ModelServer(Unlimited(), lambda: (0.0, 0.1))
        await send_all(Quota(WindowGuard(Rate(100, P)), burst=10), server, 100)
        return server.arrivals

    arrivals = virtual_clock.run(main())
    for seconds in (1.0, 6.0, 30.0):
        assert peak(arrivals, seconds) <= 10 + seconds * 100 / P + 1


def test_the_gate_closes_for_everybody() -> None:
    """After a 429 nobody sends before its Retry-After is over, and then a single canary goes first."""

    async def main() -> None:
        quota = Quota(WindowGuard(Rate(100, P)))
        loop = asyncio.get_running_loop()
        for _ in range(5):
            quota.answered(await quota.admit())
        await quota.admit()
        quota.throttled(7.5)
        quota.pause(7.5)
        quota.pause(2.0)  # a shorter one changes nothing
        assert quota.paused
        asked = loop.time()
        canary = await quota.admit()
        assert canary >= asked + 7.5
        second = asyncio.create_task(quota.admit())
        await asyncio.sleep(5)
        assert not second.done()  # the canary has no reply yet
        quota.answered(canary)
        await second

    virtual_clock.run(main())


def test_a_cancelled_wait_holds_no_slot() -> None:
    async def main() -> None:
        quota = Quota(WindowGuard(Rate(2, P)))
        await quota.admit()
        quota.throttled(100.0)
        quota.pause(100.0)
        for given_up_at in (30.0, 80.0):  # each holds the second slot while it waits at the gate
            with pytest.raises(TimeoutError):
                async with asyncio.timeout_at(given_up_at):
                    await quota.admit()
        assert await quota.admit() == pytest.approx(100.0, abs=0.01)

    virtual_clock.run(main())


@pytest.mark.parametrize("count", [1, 50, 100, 101, 250, 1000])
@pytest.mark.parametrize("burst", [100, 10, 1])
def test_the_plan_is_what_happens(count: int, burst: int) -> None:
    """The time told beforehand is within 4 % of a period of the time it takes."""

    async def main() -> tuple[float, float]:
        quota = Quota(WindowGuard(Rate(100, P)), burst=burst)
        planned = quota.plan(count)
        return planned, await send_all(quota, ModelServer(SlidingLog(100, P), lambda: (0.1, 0.1)), count)

    planned, took = virtual_clock.run(main())
    assert planned == pytest.approx(took, abs=0.04 * P)


def test_the_plan_in_mid_run_counts_slots_that_cool() -> None:
    async def main() -> tuple[float, float]:
        quota = Quota(WindowGuard(Rate(100, P)))
        server = ModelServer(SlidingLog(100, P))
        await send_all(quota, server, 130)
        planned, now = quota.plan(120), asyncio.get_running_loop().time()
        return planned, await send_all(quota, server, 120) - now

    planned, took = virtual_clock.run(main())
    assert planned == pytest.approx(took, abs=0.04 * P)


def test_nothing_to_send_takes_no_time() -> None:
    assert plan(WindowGuard(Rate(100, P)), 0.0, 0, 100, 16) == 0.0


def test_runs_of_one_organization_in_this_process_share_one_guard() -> None:
    """Two runs at once, and a third after them, stay within the limit together; another key has its own."""

    def settings_for(key: str) -> Settings:
        return Settings(api_token=Secret(key), rate=Rate(20, P))

    async def main() -> tuple[int, float]:
        server, other = ModelServer(SlidingLog(20, P)), ModelServer(SlidingLog(20, P))
        one, two = quota_for(settings_for("shared")), quota_for(settings_for("shared"))
        await asyncio.gather(send_all(one, server, 15), send_all(two, server, 15))
        await send_all(quota_for(settings_for("shared")), server, 15)
        before = asyncio.get_running_loop().time()
        await send_all(quota_for(settings_for("another")), other, 20)
        return server.refusals, asyncio.get_running_loop().time() - before

    refusals, took = virtual_clock.run(main())
    assert refusals == 0
    assert took < 3


# --- trickle


def trickle(*events: str | float, replies: int = 0) -> bool:
    detector, found = TrickleDetector(Rate(100, P)), False
    for event in events:
        if event == "reply":
            for _ in range(replies or 1):
                detector.reply()
        else:
            found = detector.refusal(float(event), 30.0)
    return found


def test_short_waits_again_and_again_are_a_trickle() -> None:
    assert trickle(0.5, "reply", 0.6, "reply", 0.4)


def test_long_waits_are_a_window_and_rare_ones_a_busy_server() -> None:
    assert not trickle(20.0, "reply", 25.0, "reply", 12.0)
    assert not trickle(0.5, "reply", 0.5, "reply", 0.5, replies=30)


def test_refusals_without_a_reply_between_them_are_an_overloaded_server() -> None:
    assert not trickle(*[0.5] * 20)


def test_a_server_that_trickles_is_met_by_sending_one_by_one() -> None:
    async def main() -> list[float]:
        server = ModelServer(Gcra(100, P, 10))
        quota = Quota(WindowGuard(Rate(100, P)))
        await send_all(quota, server, 90)
        return server.arrivals

    arrivals = virtual_clock.run(main())[-40:]
    assert min(later - earlier for earlier, later in pairwise(arrivals)) > 0.9 * P / 100
