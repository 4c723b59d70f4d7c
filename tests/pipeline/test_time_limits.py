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
        endings: list[tuple[float, str]] = []
        loop = asyncio.get_running_loop()
        patience = Patience(10.0, lambda one: endings.append((loop.time(), one.message)))
        patience.start(ending("first"))
        await asyncio.sleep(6)
        patience.start(ending("second"))
        await asyncio.sleep(3.9)
        assert endings == []
        await asyncio.sleep(20)
        assert [(round(at, 3), message) for at, message in endings] == [(10.0, "second")]

    virtual_clock.run(main())


def test_renewed_patience_starts_over() -> None:
    async def main() -> None:
        endings: list[Ending] = []
        patience = Patience(10.0, endings.append)
        for _ in range(5):
            patience.start(ending("again"))
            await asyncio.sleep(9)
            patience.reset()
        await asyncio.sleep(60)
        assert endings == []

    virtual_clock.run(main())


def calls(at: datetime | timedelta, ahead: Callable[[float], float] = lambda _: 0.0, upto: float = 99.0) -> list[float]:
    """The times of both calls; the wall clock is ``ahead`` seconds ahead of the loop's."""
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
def test_stop_is_called_shortly_before_the_deadline(at: datetime | timedelta) -> None:
    assert calls(at) == [60.0 - STOP_MARGIN, 60.0]


def test_a_short_time_is_used_to_nine_tenths() -> None:
    assert calls(timedelta(seconds=5)) == [4.5, 5.0]


def test_a_deadline_in_the_past_ends_at_once() -> None:
    assert calls(BEGUN - timedelta(hours=1)) == [0.0, 0.0]


def test_a_time_of_day_follows_jumps_of_the_wall_clock() -> None:
    """If the clock is set forward or the computer wakes up, it is noticed within a second; if set back, it is later."""
    woken = calls(BEGUN + timedelta(minutes=30), lambda now: 3600.0 if now > 20 else 0.0)
    assert all(20.0 <= at <= 20.0 + CHECK_INTERVAL + 0.01 for at in woken)
    assert len(woken) == 2
    assert calls(BEGUN + timedelta(minutes=1), lambda now: -3600.0 if now > 20 else 0.0, upto=3000.0) == []


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_duration_ignores_the_wall_clock(jump: float) -> None:
    assert calls(timedelta(minutes=1), lambda now: jump if now > 20 else 0.0) == [60.0 - STOP_MARGIN, 60.0]


def test_a_cancelled_deadline_makes_no_calls() -> None:
    assert calls(timedelta(minutes=1), upto=50.0) == []
