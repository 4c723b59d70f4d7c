"""Rows that wait for their turn, on a virtual clock."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from support import clock as virtual_clock
from support.model_server import drivers

from batch_issuer.pipeline.attempts import Row
from batch_issuer.pipeline.work_queue import WaitingRows


def rows(count: int) -> list[Row]:
    return [Row(driver) for driver in drivers(count)]


def test_a_row_whose_backoff_is_over_goes_before_the_others_unless_untried_ones_shall() -> None:
    async def main() -> None:
        first, second, third, fourth = rows(4)
        waiting = WaitingRows([second, third, fourth])
        waiting.after(5.0, first)
        assert (await waiting.one(), waiting.take()) == (None, second)
        await asyncio.sleep(5)
        assert waiting.take(untried=True) is third
        assert waiting.take() is first
        assert waiting.take() is fourth
        assert len(waiting) == 0

    virtual_clock.run(main())


def test_any_row_may_be_drawn_and_those_that_back_off_only_if_there_is_no_other() -> None:
    async def main() -> None:
        some = rows(4)
        waiting = WaitingRows(some[1:])
        waiting.after(0.5, some[0])
        await asyncio.sleep(1)
        assert waiting.any(max) is some[3]
        assert waiting.any(min) is some[1]
        assert waiting.any(lambda low, high: (low + high) / 2) is some[2]
        assert waiting.any(max) is some[0]

    virtual_clock.run(main())


def test_who_waits_for_a_row_wakes_when_one_comes_or_its_backoff_is_over() -> None:
    async def main() -> None:
        loop, (first, second) = asyncio.get_running_loop(), rows(2)
        waiting = WaitingRows([])
        loop.call_later(3.0, waiting.after, 4.0, first)
        await waiting.one()
        assert round(loop.time(), 3) == 7.0
        assert waiting.take() is first
        loop.call_later(2.0, waiting.last, second)
        await waiting.one()
        assert round(loop.time(), 3) == 9.0

    virtual_clock.run(main())


@settings(max_examples=100)
@given(st.permutations(range(8)), st.integers(0, 8))
def test_lined_up_or_drained_they_are_in_the_order_of_the_roster(order: list[int], late: int) -> None:
    async def main() -> None:
        some = rows(8)
        waiting = WaitingRows([])
        for place, index in enumerate(order):
            if place < late:
                waiting.after(1.0, some[index])
            else:
                (waiting.first if place % 2 else waiting.last)(some[index])
        waiting.line_up()
        taken = [waiting.take() for _ in range(8 - late)]
        assert taken == sorted(taken, key=lambda row: row.driver.row)
        for row in taken:
            waiting.last(row)
        assert waiting.drain() == some
        assert len(waiting) == 0

    virtual_clock.run(main())
