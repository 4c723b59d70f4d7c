"""Patience and the deadline, on a virtual clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support import clock as virtual_clock

from batch_issuer.pipeline.endings import Ending, EndingKind
from batch_issuer.pipeline.time_limits import CHECK_INTERVAL, STOP_MARGIN, Deadline, Patience

if TYPE_CHECKING:
    from collections.abc import Callable

BEGUN = datetime(2030, 1, 1, 5, 0, tzinfo=UTC)


def ending(message: str) -> Ending:
    return Ending(EndingKind.GAVE_UP, message)


def test_patience_ends_after_its_time_with_the_last_reason() -> None:
    async def main() -> None:
        told: list[tuple[float, str]] = []
        loop = asyncio.get_running_loop()
        patience = Patience(10.0, lambda one: told.append((loop.time(), one.message)))
        patience.start(ending("first"))
        await asyncio.sleep(6)
        patience.start(ending("second"))
        await asyncio.sleep(3.9)
        assert told == []
        await asyncio.sleep(20)
        assert [(round(at, 3), message) for at, message in told] == [(10.0, "second")]

    virtual_clock.run(main())


def test_renewed_patience_begins_anew() -> None:
    async def main() -> None:
        told: list[Ending] = []
        patience = Patience(10.0, told.append)
        for _ in range(5):
            patience.start(ending("again"))
            await asyncio.sleep(9)
            patience.reset()
        await asyncio.sleep(60)
        assert told == []

    virtual_clock.run(main())


def calls(at: datetime | timedelta, ahead: Callable[[float], float] = lambda _: 0.0, upto: float = 99.0) -> list[float]:
    """When the last call came and when it was over; the wall clock is ``ahead`` of the loop's by so many seconds."""
    seen: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def note(index: int) -> None:
            if len(seen) == index:
                seen.append(round(loop.time(), 2))

        deadline = Deadline(
            at, lambda: note(0), lambda: note(1), lambda: BEGUN + timedelta(seconds=loop.time() + ahead(loop.time()))
        )
        deadline.start()
        await asyncio.sleep(upto)
        deadline.cancel()
        await asyncio.sleep(9999.0)

    virtual_clock.run(main())
    return seen


@pytest.mark.parametrize("at", [BEGUN + timedelta(minutes=1), timedelta(minutes=1)])
def test_the_last_call_comes_shortly_before_the_end(at: datetime | timedelta) -> None:
    assert calls(at) == [60.0 - STOP_MARGIN, 60.0]


def test_of_a_short_time_the_last_call_leaves_nine_tenths() -> None:
    assert calls(timedelta(seconds=5)) == [4.5, 5.0]


def test_a_deadline_that_is_past_is_over_at_once() -> None:
    assert calls(BEGUN - timedelta(hours=1)) == [0.0, 0.0]


def test_a_time_of_day_goes_by_the_wall_clock_wherever_it_jumps() -> None:
    """Set an hour ahead, or woken from sleep, it is noticed within a second; set back, it is later."""
    woken = calls(BEGUN + timedelta(minutes=30), lambda now: 3600.0 if now > 20 else 0.0)
    assert all(20.0 <= at <= 20.0 + CHECK_INTERVAL + 0.01 for at in woken)
    assert len(woken) == 2
    assert calls(BEGUN + timedelta(minutes=1), lambda now: -3600.0 if now > 20 else 0.0, upto=3000.0) == []


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_duration_does_not_mind_the_wall_clock(jump: float) -> None:
    assert calls(timedelta(minutes=1), lambda now: jump if now > 20 else 0.0) == [60.0 - STOP_MARGIN, 60.0]


def test_a_deadline_that_is_cancelled_calls_no_more() -> None:
    assert calls(timedelta(minutes=1), upto=50.0) == []
