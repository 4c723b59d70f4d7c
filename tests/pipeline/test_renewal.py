"""The lifetime of tokens: reported early, and tokens that expire too soon are renewed where that helps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import ModelServer, drivers
from support.recorder import NOW, Recorder

from batch_issuer.model import Outcome, Reply, Status
from batch_issuer.pipeline.events import ClockOff, FirstToken, Renewing, RowDone
from batch_issuer.pipeline.renewal import ROUNDS, ExpiryTracker
from batch_issuer.sandbox import SlidingLog
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_issuer.model import Identifier

RATE = Rate(10, 10.0)
WAIT = Reply(429, message="HTTP 429", retry_after=25.0)
TOKEN = "t"  # noqa: S105


class MortalServer(ModelServer):
    """Its tokens are valid for ``lifetime`` seconds; its replies show a client clock ``ahead`` seconds ahead."""

    def __init__(self, lifetime: float, *, ahead: float = 0.0, **options: Any) -> None:
        super().__init__(SlidingLog(10, 10.0), **options)
        self._lifetime, self._ahead = lifetime, ahead
        self.until: dict[str, float] = {}  # by identifier, on the loop's clock

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        reply = await super().issue(identifier, code)
        if not reply.token:
            return reply
        now = asyncio.get_running_loop().time()
        self.until[str(identifier)] = now + self._lifetime
        expires_at = NOW + timedelta(seconds=now + self._lifetime)
        return replace(reply, expires_at=expires_at, lifetime=self._lifetime, clock_ahead=self._ahead)


def renewed(count: int, server: MortalServer, *, kept: Iterable[Outcome] = (), **settings: Any) -> Recorder:
    return Recorder(count, server, rate=RATE, renewable=kept, **settings)


def events_of(recorder: Recorder, kind: type) -> list[Any]:
    return [event for event in recorder.events if isinstance(event, kind)]


@pytest.mark.parametrize(("lifetime", "at_once"), [(25.0, None), (19.0, 20), (9.0, 10)])
def test_the_first_token_shows_whether_all_can_be_valid_at_once(lifetime: float, at_once: int | None) -> None:
    """25 drivers at 10 in 10 s take a bit more than 20 s."""
    recorder = renewed(25, MortalServer(lifetime), min_validity=0.0)
    (first,) = events_of(recorder, FirstToken)
    assert first.at_once == at_once
    assert recorder.events.index(first) < 10
    assert first.lifetime == lifetime
    assert first.seconds_left == pytest.approx(recorder.elapsed, abs=1.0)


@pytest.mark.parametrize(("ahead", "off"), [(0.0, False), (50.0, False), (3600.0, True), (-3600.0, True)])
def test_a_wrong_clock_of_this_computer_is_reported_once(ahead: float, off: bool) -> None:
    recorder = renewed(12, MortalServer(60.0, ahead=ahead))
    assert events_of(recorder, ClockOff) == ([ClockOff(ahead)] if off else [])


def test_tokens_that_expire_too_soon_are_renewed_at_the_end() -> None:
    """The last of 12 has to wait, so the first ten tokens are old by then."""
    server = MortalServer(60.0, script=[*[None] * 11, WAIT])
    recorder = renewed(12, server, min_validity=40.0)
    assert events_of(recorder, Renewing) == [Renewing(11)]
    assert recorder.ending.kind == "finished"
    assert min(server.until.values()) >= recorder.elapsed + 40.0
    latest = {outcome.row: outcome for outcome in recorder.outcomes}
    assert len(latest) == 12
    assert {outcome.token for outcome in latest.values()} == {some[-1][1] for some in server.issued.values()}
    assert len(events_of(recorder, RowDone)) == len(recorder.outcomes) == 23


def test_an_earlier_token_that_now_expires_too_soon_is_renewed_too() -> None:
    identifier = drivers(30)[-1].identifier
    earlier = Outcome(31, Status.ISSUED, identifier, token=TOKEN, code="c" * 12, expires_at=NOW + timedelta(seconds=45))
    server = MortalServer(100.0, script=[None, WAIT])
    recorder = renewed(2, server, min_validity=40.0, kept=[earlier], deadline=timedelta(hours=1))
    assert recorder.outcomes[-1].row == 31
    assert recorder.outcomes[-1].token.startswith("token-")


@pytest.mark.parametrize("lifetime", [30.0, 39.0])
def test_nothing_is_renewed_if_that_cannot_succeed(lifetime: float) -> None:
    """The lifetime is shorter than the required validity, or there are too many drivers."""
    recorder = renewed(25, MortalServer(lifetime), min_validity=lifetime - 10.0)
    assert events_of(recorder, Renewing) == []
    assert len(recorder.server.arrivals) == 25


def test_a_failed_renewal_keeps_the_token_and_the_reason() -> None:
    server = MortalServer(60.0, script=[None, WAIT, None, *[Reply(404, message="HTTP 404: gone", request_id="r")] * 9])
    recorder = renewed(2, server, min_validity=40.0)
    latest = {outcome.row: outcome for outcome in recorder.outcomes}
    assert all(outcome.token for outcome in latest.values())
    assert "earlier token kept: HTTP 404: gone" in latest[2].error


def test_a_run_without_renewal_has_one_outcome_for_each_driver() -> None:
    recorder = Recorder(12, MortalServer(60.0, script=[*[None] * 11, WAIT]), rate=RATE, min_validity=40.0)
    assert len(recorder.outcomes) == 12


@given(
    st.lists(st.floats(-100, 2000), max_size=60),
    st.floats(1, 2000),
    st.floats(0, 1000),
    st.floats(0.01, 10),
)
def test_all_tokens_that_expire_too_soon_are_renewed_if_that_can_succeed(
    lefts: list[float], lifetime: float, least: float, each: float
) -> None:
    def plan(count: int) -> float:
        return count * each

    expiries = ExpiryTracker(least)
    for row, left in enumerate(lefts):
        expiries.record(row, Reply(200, token=TOKEN, lifetime=max(left, 0.001)), now=left - max(left, 0.001))
    expiries.record(len(lefts), Reply(200, token=TOKEN, lifetime=lifetime), now=10_000.0)
    short = expiries.due(0.0, NOW, plan)
    assert short == sorted(set(short))
    if short:
        assert plan(len(short)) + least < lifetime
        assert all((lefts[row] <= plan(len(short)) + least) == (row in short) for row in range(len(lefts)))
        for _ in range(ROUNDS):
            again = expiries.due(0.0, NOW, plan)
        assert again == []  # no endless rounds


@given(st.integers(1, 3000), st.floats(0.1, 2000))
def test_the_capacity_is_the_most_drivers_that_fit(drivers: int, lifetime: float) -> None:
    def plan(count: int) -> float:
        return (count - 1) // 100 * 60.0 + 0.1

    expiries = ExpiryTracker(0.0)
    expiries.record(1, Reply(200, token=TOKEN, lifetime=lifetime), now=0.0)
    at_once = expiries.capacity(drivers, plan)
    if at_once is None:
        assert plan(drivers) <= lifetime
    else:
        assert at_once == 0 or plan(at_once) <= lifetime
        assert plan(at_once + 1) > lifetime


def test_before_the_first_token_no_lifetime_is_known() -> None:
    expiries = ExpiryTracker(300.0)
    assert expiries.capacity(1000, float) is None
    assert expiries.due(0.0, NOW, float) == []
