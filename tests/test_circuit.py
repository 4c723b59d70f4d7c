"""Whose trouble is it? The circuit breaker alone: rows and replies in, verdicts out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_server import drivers

from batch_issuer.circuit import FAILURES, STRANGERS, Circuit
from batch_issuer.model import Fault, Reply
from batch_issuer.row import Row

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
    circuit, some = Circuit(), rows(FAILURES + 1)
    assert [fail(circuit, row) for row in some] == [False] * (FAILURES - 1) + [True, True]
    assert [row.failures for row in some] == [0] * len(some)


def test_one_row_that_fails_again_and_again_is_its_own_trouble() -> None:
    circuit, (row, other) = Circuit(), rows(2)
    assert not any(fail(circuit, each) for _ in range(5) for each in (row, other))
    assert (row.failures, circuit.open) == (5, False)


def test_what_gets_through_in_between_ends_the_series() -> None:
    circuit = Circuit()
    for row in rows(20):
        assert not fail(circuit, row)
        circuit.got_through()


def test_rows_that_fail_while_others_get_through_never_open_it_again() -> None:
    """They are to blame themselves: at the end, when nobody else is left, they use up their attempts and are done."""
    circuit, bad = Circuit(), rows(10)
    for row in bad:
        fail(circuit, row)
        circuit.got_through()
    assert not any(fail(circuit, row) for _ in range(4) for row in bad)


def test_rows_next_to_one_another_that_fail_for_themselves_open_it_once() -> None:
    circuit, bad = Circuit(), rows(FAILURES)
    opened = 0
    for _ in range(6):
        for row in bad:
            opened += fail(circuit, row) and row is bad[-1]
        circuit.got_through()
    assert opened == 1
    assert all(row.failures == 5 for row in bad)


def test_an_outage_costs_no_row_an_attempt() -> None:
    circuit, some = Circuit(), rows(8)
    for row in some * 9:
        fail(circuit, row)
    assert circuit.got_through()
    assert [row.failures for row in some] == [0] * 8


def test_it_tells_once_that_an_outage_is_over() -> None:
    circuit = Circuit()
    assert not circuit.got_through()
    for row in rows(FAILURES):
        fail(circuit, row)
    assert (circuit.got_through(), circuit.got_through()) == (True, False)


def test_in_doubt_means_that_something_failed_and_nothing_got_through_since() -> None:
    circuit, some = Circuit(), rows(FAILURES)
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
    circuit = Circuit()
    assert [circuit.see(reply) for _ in range(STRANGERS)] == [False] * (STRANGERS - 1) + [True]
    assert circuit.foreign is reply


@pytest.mark.parametrize(
    "reply", [BUSY, OFFLINE, Reply(429), Reply(401), Reply(403, web_page=True), Reply(400), Reply(502, web_page=True)]
)
def test_what_a_gateway_of_the_api_may_say_is_not_foreign(reply: Reply) -> None:
    circuit = Circuit()
    assert not any(circuit.see(reply) for _ in range(9))
    assert circuit.foreign is None


@pytest.mark.parametrize("genuine", [TOKEN, OWN_404, Reply(503, request_id="r")])
def test_after_a_genuine_reply_nothing_makes_it_another_server(genuine: Reply) -> None:
    circuit = Circuit()
    circuit.see(MOVED)
    circuit.see(genuine)
    assert circuit.foreign is None
    assert not any(circuit.see(PAGE) for _ in range(9))


@given(st.lists(st.integers(0, 12), max_size=200))
def test_a_row_has_as_many_failures_as_it_had_of_its_own(events: list[int]) -> None:
    """Whatever happens in whatever order (0 gets through, others are rows): while it is open nobody is charged."""
    circuit, some = Circuit(), rows(12)
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
