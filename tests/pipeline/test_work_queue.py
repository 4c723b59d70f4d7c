"""The queue of rows, on a virtual clock."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from support import clock as virtual_clock
from support.model_server import attempts

from batch_issuer.pipeline.work_queue import WorkQueue


def test_a_row_after_its_backoff_comes_first_unless_untried_ones_are_preferred() -> None:
    async def main() -> None:
        first, second, third, fourth = attempts(4)
        queue = WorkQueue([second, third, fourth])
        queue.push_later(5.0, first)
        assert (await queue.ready(), queue.pop()) == (None, second)
        await asyncio.sleep(5)
        assert queue.pop(untried=True) is third
        assert queue.pop() is first
        assert queue.pop() is fourth
        assert len(queue) == 0

    virtual_clock.run(main())


def test_any_row_may_be_drawn_but_one_in_a_backoff_only_if_there_is_no_other() -> None:
    async def main() -> None:
        some = attempts(4)
        queue = WorkQueue(some[1:])
        queue.push_later(0.5, some[0])
        await asyncio.sleep(1)
        assert queue.pop_random(max) is some[3]
        assert queue.pop_random(min) is some[1]
        assert queue.pop_random(lambda low, high: (low + high) / 2) is some[2]
        assert queue.pop_random(max) is some[0]

    virtual_clock.run(main())


def test_waiting_for_a_row_ends_when_one_is_added_or_its_backoff_is_over() -> None:
    async def main() -> None:
        loop, (first, second) = asyncio.get_running_loop(), attempts(2)
        queue = WorkQueue([])
        loop.call_later(3.0, queue.push_later, 4.0, first)
        await queue.ready()
        assert round(loop.time(), 3) == 7.0
        assert queue.pop() is first
        loop.call_later(2.0, queue.push_back, second)
        await queue.ready()
        assert round(loop.time(), 3) == 9.0

    virtual_clock.run(main())


@settings(max_examples=100)
@given(st.permutations(range(8)), st.integers(0, 8))
def test_sorted_or_drained_rows_are_in_the_order_of_the_roster(order: list[int], late: int) -> None:
    async def main() -> None:
        some = attempts(8)
        queue = WorkQueue([])
        for place, index in enumerate(order):
            if place < late:
                queue.push_later(1.0, some[index])
            else:
                (queue.push_front if place % 2 else queue.push_back)(some[index])
        queue.sort()
        taken = [queue.pop() for _ in range(8 - late)]
        assert taken == sorted(taken, key=lambda row: row.driver.row)
        for row in taken:
            queue.push_back(row)
        assert queue.drain() == some
        assert len(queue) == 0

    virtual_clock.run(main())
