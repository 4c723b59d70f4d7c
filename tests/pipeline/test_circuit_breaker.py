"""Whose trouble is it? The circuit breaker alone: rows and replies in, verdicts out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import drivers

from batch_issuer.model import Fault, Reply
from batch_issuer.pipeline.attempts import Row
from batch_issuer.pipeline.circuit_breaker import BOUTS, FAILURES, STRANGERS, Circuit

TOKEN = Reply(200, token="t")  # noqa: S106 - invented
OWN_404 = Reply(404, request_id="r")
PAGE = Reply(200, fault=Fault.UNUSABLE, web_page=True)
MOVED = Reply(302)
NO_TLS = Reply(left=False, fault=Fault.TLS)
BUSY = Reply(503)
OFFLINE = Reply(left=False, fault=Fault.UNREACHABLE)


def rows(count: int) -> list[Row]:
    return [Row(driver) for driver in drivers(count)]


def fail(circuit: Circuit, row: Row) -> bool:
    """As a run does it."""
    if circuit.failed(row):
        return True
    row.failures += 1
    return False


def test_failures_of_several_rows_in_a_row_are_everybodys_and_are_given_back() -> None:
    circuit, some = Circuit(250), rows(FAILURES + 1)
    assert [fail(circuit, row) for row in some] == [False] * (FAILURES - 1) + [True, True]
    assert [row.failures for row in some] == [0] * len(some)


def test_one_row_that_fails_again_and_again_is_its_own_trouble() -> None:
    circuit, (row, other) = Circuit(250), rows(2)
    assert not any(fail(circuit, each) for _ in range(5) for each in (row, other))
    assert (row.failures, circuit.open) == (5, False)


def test_what_gets_through_in_between_ends_the_series() -> None:
    circuit = Circuit(250)
    for row in rows(20):
        assert not fail(circuit, row)
        circuit.got_through()


def test_rows_that_failed_twice_while_others_got_through_never_open_it_again() -> None:
    """They are to blame themselves: at the end, when nobody else is left, they use up their attempts and are done."""
    circuit, bad = Circuit(250), rows(10)
    for row in bad * BOUTS:
        assert not fail(circuit, row)
        circuit.got_through()
    assert not any(fail(circuit, row) for _ in range(4) for row in bad)


def test_one_failure_before_an_outage_makes_nobody_to_blame() -> None:
    circuit, some = Circuit(250), rows(FAILURES)
    for row in some:
        fail(circuit, row)
        circuit.got_through()
    assert [fail(circuit, row) for row in some] == [False] * (FAILURES - 1) + [True]


def test_rows_next_to_one_another_that_fail_for_themselves_open_it_twice_at_most() -> None:
    circuit, bad = Circuit(250), rows(FAILURES)
    opened = 0
    for _ in range(7):
        for row in bad:
            opened += fail(circuit, row) and row is bad[-1]
        circuit.got_through()
    assert opened == BOUTS
    assert all(row.failures == 5 for row in bad)


def test_an_outage_costs_no_row_an_attempt() -> None:
    circuit, some = Circuit(250), rows(8)
    for row in some * 9:
        fail(circuit, row)
    circuit.got_through()
    assert [row.failures for row in some] == [0] * 8


def test_rows_that_failed_once_are_to_blame_when_only_such_are_left() -> None:
    circuit, (*bad, good) = Circuit(4), rows(4)
    assert [fail(circuit, row) for row in bad] == [False, False, True]
    circuit.got_through()
    circuit.done(good.driver.row)
    assert not any(fail(circuit, row) for _ in range(5) for row in bad)


def test_rows_that_have_their_outcome_are_no_reason_to_blame_others() -> None:
    circuit, (first, second, *others) = Circuit(5), rows(5)
    for row in (first, second):
        fail(circuit, row)
        circuit.done(row.driver.row)
    circuit.got_through()
    assert [fail(circuit, row) for row in others] == [False, False, True]


def test_in_doubt_means_that_something_failed_and_nothing_got_through_since() -> None:
    circuit, some = Circuit(250), rows(FAILURES)
    assert not circuit.in_doubt
    fail(circuit, some[0])
    assert circuit.in_doubt
    circuit.got_through()
    assert not circuit.in_doubt
    for row in rows(FAILURES + 1)[1:]:
        fail(circuit, row)
    assert (circuit.open, circuit.in_doubt) == (True, True)


@pytest.mark.parametrize("reply", [PAGE, MOVED, NO_TLS, Reply(404), Reply(405), Reply(400, web_page=True)])
def test_three_foreign_replies_before_any_genuine_one_are_not_the_api(reply: Reply) -> None:
    circuit = Circuit(250)
    assert [circuit.see(reply, row) for row in range(STRANGERS)] == [False] * (STRANGERS - 1) + [True]
    assert circuit.foreign is reply


@pytest.mark.parametrize(("drivers", "certain"), [(1, True), (2, False), (250, False)])
def test_three_foreign_replies_to_one_row_are_certain_only_where_there_is_no_other(drivers: int, certain: bool) -> None:
    circuit = Circuit(drivers)
    assert [circuit.see(MOVED, 2) for _ in range(STRANGERS)][-1] == certain


def test_a_reply_that_is_not_foreign_begins_the_count_anew() -> None:
    circuit = Circuit(250)
    for row in range(9):
        assert not circuit.see(MOVED, row)
        assert circuit.foreign is MOVED
        assert not circuit.see(BUSY, row)
        assert circuit.foreign is None


@pytest.mark.parametrize(
    "reply", [BUSY, OFFLINE, Reply(429), Reply(401), Reply(403, web_page=True), Reply(400), Reply(502, web_page=True)]
)
def test_what_a_gateway_of_the_api_may_say_is_not_foreign(reply: Reply) -> None:
    circuit = Circuit(250)
    assert not any(circuit.see(reply, row) for row in range(9))
    assert circuit.foreign is None


@pytest.mark.parametrize("genuine", [TOKEN, OWN_404, Reply(503, request_id="r")])
def test_after_a_genuine_reply_nothing_makes_it_another_server(genuine: Reply) -> None:
    circuit = Circuit(250)
    circuit.see(MOVED, 2)
    circuit.see(genuine, 3)
    assert circuit.foreign is None
    assert not any(circuit.see(PAGE, row) for row in range(9))


@given(st.lists(st.integers(0, 12), max_size=200))
def test_a_row_has_as_many_failures_as_it_had_of_its_own(events: list[int]) -> None:
    """Whatever happens in whatever order (0 gets through, others are rows): while it is open nobody is charged."""
    circuit, some = Circuit(250), rows(12)
    for event in events:
        if not event:
            circuit.got_through()
            assert not circuit.open
            continue
        row = some[event - 1]
        before, was_open = row.failures, circuit.open
        everybodys = fail(circuit, row)
        assert everybodys == circuit.open
        assert not was_open or row.failures == before
        assert row.failures <= before + 1
