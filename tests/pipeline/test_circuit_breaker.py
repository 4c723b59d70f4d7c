"""The circuit breaker alone: rows and replies in, decisions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import attempts

from batch_issuer.model import Fault, Reply
from batch_issuer.pipeline.circuit_breaker import BLAME_AFTER, FAILURES, FOREIGN_REPLIES, CircuitBreaker
from batch_issuer.pipeline.verdicts import judge, not_the_api

if TYPE_CHECKING:
    from batch_issuer.pipeline.attempts import Attempts

TOKEN = Reply(200, token="t")  # noqa: S106 - invented
OWN_404 = Reply(404, request_id="r")
PAGE = Reply(200, fault=Fault.UNUSABLE, web_page=True)
MOVED = Reply(302)
NO_TLS = Reply(left=False, fault=Fault.TLS)
BUSY = Reply(503)
OFFLINE = Reply(left=False, fault=Fault.UNREACHABLE)


def fail(breaker: CircuitBreaker, row: Attempts, left: int = 250) -> bool:
    """Record a failure as a run does."""
    if breaker.record_failure(row, left):
        return True
    row.failures += 1
    return False


def see(breaker: CircuitBreaker, reply: Reply, row: int) -> bool:
    """Whether it is then certain that this is not the API."""
    return breaker.record_sender(reply, judge(reply), row) is not None


def test_failures_of_several_rows_in_sequence_are_an_outage_and_cost_no_attempts() -> None:
    breaker, some = CircuitBreaker(250), attempts(FAILURES + 1)
    assert [fail(breaker, row) for row in some] == [False] * (FAILURES - 1) + [True, True]
    assert [row.failures for row in some] == [0] * len(some)


def test_repeated_failures_of_one_row_are_not_an_outage() -> None:
    breaker, (row, other) = CircuitBreaker(250), attempts(2)
    assert not any(fail(breaker, each) for _ in range(5) for each in (row, other))
    assert (row.failures, breaker.open) == (5, False)


def test_a_success_in_between_ends_the_series() -> None:
    breaker = CircuitBreaker(250)
    for row in attempts(20):
        assert not fail(breaker, row)
        breaker.record_success()


def test_rows_that_failed_twice_while_others_succeeded_never_open_it_again() -> None:
    """They are to blame: at the end, when no other rows are left, they use up their attempts and finish."""
    breaker, bad = CircuitBreaker(250), attempts(10)
    for row in bad * BLAME_AFTER:
        assert not fail(breaker, row)
        breaker.record_success()
    assert not any(fail(breaker, row) for _ in range(4) for row in bad)


def test_one_failure_before_an_outage_blames_no_row() -> None:
    breaker, some = CircuitBreaker(250), attempts(FAILURES)
    for row in some:
        fail(breaker, row)
        breaker.record_success()
    assert [fail(breaker, row) for row in some] == [False] * (FAILURES - 1) + [True]


def test_neighbouring_rows_with_problems_of_their_own_open_it_twice_at_most() -> None:
    breaker, bad = CircuitBreaker(250), attempts(FAILURES)
    opened = 0
    for _ in range(7):
        for row in bad:
            opened += fail(breaker, row) and row is bad[-1]
        breaker.record_success()
    assert opened == BLAME_AFTER
    assert all(row.failures == 5 for row in bad)


def test_an_outage_costs_no_row_an_attempt() -> None:
    breaker, some = CircuitBreaker(250), attempts(8)
    for row in some * 9:
        fail(breaker, row)
    breaker.record_success()
    assert [row.failures for row in some] == [0] * 8


def test_rows_that_failed_once_are_to_blame_when_only_such_are_left() -> None:
    breaker, (*bad, good) = CircuitBreaker(4), attempts(4)
    assert [fail(breaker, row, left=4) for row in bad] == [False, False, True]
    breaker.record_success()
    breaker.record_outcome(good.driver.row)
    assert not any(fail(breaker, row, left=3) for _ in range(5) for row in bad)


def test_rows_with_an_outcome_do_not_put_blame_on_others() -> None:
    breaker, (first, second, *others) = CircuitBreaker(5), attempts(5)
    for row in (first, second):
        fail(breaker, row, left=5)
        breaker.record_outcome(row.driver.row)
    breaker.record_success()
    assert [fail(breaker, row, left=3) for row in others] == [False, False, True]


def test_in_doubt_means_a_failure_without_a_later_success() -> None:
    breaker, some = CircuitBreaker(250), attempts(FAILURES)
    assert not breaker.in_doubt
    fail(breaker, some[0])
    assert breaker.in_doubt
    breaker.record_success()
    assert not breaker.in_doubt
    for row in attempts(FAILURES + 1)[1:]:
        fail(breaker, row)
    assert (breaker.open, breaker.in_doubt) == (True, True)


@pytest.mark.parametrize("reply", [PAGE, MOVED, NO_TLS, Reply(404), Reply(405), Reply(400, web_page=True)])
def test_three_foreign_replies_before_any_genuine_one_are_not_the_api(reply: Reply) -> None:
    breaker = CircuitBreaker(250)
    assert [see(breaker, reply, row) for row in range(FOREIGN_REPLIES)] == [False] * (FOREIGN_REPLIES - 1) + [True]
    assert breaker.wrong_address == not_the_api(reply, judge(reply))


@pytest.mark.parametrize(("drivers", "certain"), [(1, True), (2, False), (250, False)])
def test_three_foreign_replies_to_one_row_are_certain_only_if_there_is_no_other_row(
    drivers: int, certain: bool
) -> None:
    breaker = CircuitBreaker(drivers)
    assert [see(breaker, MOVED, 2) for _ in range(FOREIGN_REPLIES)][-1] == certain


def test_a_reply_that_is_not_foreign_resets_the_count() -> None:
    breaker = CircuitBreaker(250)
    for row in range(9):
        assert not see(breaker, MOVED, row)
        assert breaker.wrong_address is not None
        assert not see(breaker, BUSY, row)
        assert breaker.wrong_address is None


@pytest.mark.parametrize(
    "reply", [BUSY, OFFLINE, Reply(429), Reply(401), Reply(403, web_page=True), Reply(400), Reply(502, web_page=True)]
)
def test_replies_that_a_gateway_of_the_api_may_send_are_not_foreign(reply: Reply) -> None:
    breaker = CircuitBreaker(250)
    assert not any(see(breaker, reply, row) for row in range(9))
    assert breaker.wrong_address is None


@pytest.mark.parametrize("genuine", [TOKEN, OWN_404, Reply(503, request_id="r")])
def test_after_a_genuine_reply_it_is_never_a_wrong_address(genuine: Reply) -> None:
    breaker = CircuitBreaker(250)
    see(breaker, MOVED, 2)
    see(breaker, genuine, 3)
    assert breaker.wrong_address is None
    assert not any(see(breaker, PAGE, row) for row in range(9))


def test_after_a_success_it_is_never_a_wrong_address() -> None:
    breaker = CircuitBreaker(250)
    see(breaker, MOVED, 2)
    breaker.record_success()
    assert breaker.wrong_address is None
    assert not any(see(breaker, PAGE, row) for row in range(9))


@given(st.lists(st.integers(0, 12), max_size=200))
def test_only_failures_outside_an_outage_count(events: list[int]) -> None:
    """For any sequence (0 is a success, other numbers are rows that fail): an open breaker costs no attempts."""
    breaker, some = CircuitBreaker(250), attempts(12)
    for event in events:
        if not event:
            breaker.record_success()
            assert not breaker.open
            continue
        row = some[event - 1]
        before, was_open = row.failures, breaker.open
        is_outage = fail(breaker, row)
        assert is_outage == breaker.open
        assert not was_open or row.failures == before
        assert row.failures <= before + 1
