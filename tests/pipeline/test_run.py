"""The pipeline: one outcome for each driver, attempts, stop rules; on a virtual clock with model servers."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import clock as virtual_clock
from support.model_server import AWAY, BROKEN, LATE, ModelServer, TroubledLeases, drivers
from support.recorder import (
    BUSY,
    NOW,
    OK,
    RATE,
    REJECTED,
    REVOKED,
    SILENCE,
    THROTTLED,
    UNREACHABLE,
    UNUSABLE,
    P,
    Recorder,
    script,
    server_with,
)
from support.rosters import CODE, TOKEN, batch, issued, lines

from batch_issuer.model import Fault, NeverLeftError, Outcome, Reply, Status
from batch_issuer.pipeline import verdicts
from batch_issuer.pipeline.attempts import CODE_LENGTH, new_code
from batch_issuer.pipeline.endings import Ending, EndingKind, StopSignal
from batch_issuer.pipeline.events import Event, QuotaTrouble, RowDone, RunStarted, Stopping
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import Budget, MemoryLeases, Quota
from batch_issuer.quota.memory_leases import Guard
from batch_issuer.results import Destination
from batch_issuer.sandbox import Limiter, SlidingLog, Unlimited, make_limiter
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from batch_issuer.model import Identifier


def test_every_driver_gets_its_own_token_and_code() -> None:
    ran = Recorder(30, server_with())
    assert ran.ending.kind is EndingKind.FINISHED
    assert ran.counts() == {"issued": 30}
    for outcome in ran.outcomes:
        assert outcome.identifier is not None
        assert ran.server.issued[str(outcome.identifier)] == [(outcome.code, outcome.token)]
        assert (outcome.expires_at, outcome.issued_at, outcome.attempts, outcome.error) == (LATE, NOW, 1, "")
    assert len({outcome.code for outcome in ran.outcomes}) == 30
    assert not ran.left_behind


def test_the_first_request_is_a_canary_and_concurrency_bounds_the_rest() -> None:
    first_second: list[int] = []

    def latency() -> tuple[float, float]:
        first_second.append(server.in_flight)
        return 1.0, 0.0

    server = ModelServer(Unlimited(), latency)
    ran = Recorder(60, server, concurrency=8)
    assert first_second[:2] == [0, 0]  # the first request was alone until its reply
    assert ran.server.most_in_flight == 8


@pytest.mark.parametrize(
    ("reply", "status", "attempts"),
    [
        (BUSY, Status.UNKNOWN, 5),
        (SILENCE, Status.UNKNOWN, 5),
        (replace(UNUSABLE, request_id="r200"), Status.UNKNOWN, 5),
        (REJECTED, Status.FAILED, 1),
        (Reply(408, message="HTTP 408"), Status.FAILED, 5),
        (Reply(400, message="HTTP 400"), Status.FAILED, 1),
    ],
    ids=["503", "silence", "unusable 200", "404", "408", "400"],
)
def test_the_outcome_of_a_row_if_every_reply_is_the_same(reply: Reply, status: Status, attempts: int) -> None:
    ran = Recorder(1, server_with(rest=reply))
    (outcome,) = ran.outcomes
    assert (outcome.status, outcome.attempts) == (status, attempts)
    assert outcome.error == reply.message
    assert outcome.hint
    assert outcome.token == outcome.code == ""
    assert (outcome.http_status, outcome.request_id) == (reply.status, reply.request_id)
    assert ran.ending.kind is EndingKind.FINISHED


def test_one_unanswered_request_among_refusals_makes_the_row_unknown() -> None:
    ran = Recorder(1, server_with(SILENCE, rest=Reply(408, message="HTTP 408")))
    assert ran.outcomes[0].status is Status.UNKNOWN
    assert "token may exist" in ran.outcomes[0].hint


def test_each_attempt_has_a_fresh_code_and_the_row_keeps_the_one_that_worked() -> None:
    ran = Recorder(1, server_with(BUSY, SILENCE, BUSY))
    (outcome,) = ran.outcomes
    assert (outcome.status, outcome.attempts) == (Status.ISSUED, 4)
    assert ran.server.issued[str(outcome.identifier)] == [(outcome.code, outcome.token)]


def test_backoff_grows_and_waits_as_a_503_asks() -> None:
    asked = Reply(503, message="HTTP 503", retry_after=40.0)
    ran = Recorder(1, server_with(asked, asked))
    assert 80.0 < ran.elapsed < 81.0


def test_a_429_fails_no_row_and_costs_no_attempt() -> None:
    ran = Recorder(3, server_with(*[THROTTLED] * 30, limiter=Unlimited()))
    assert ran.counts() == {"issued": 3}
    assert sum(outcome.attempts for outcome in ran.outcomes) == 33
    assert len(ran.waits) == 30


def test_a_wait_grows_only_if_it_was_too_short() -> None:
    """Otherwise two clients with the same wait would collide again and again."""
    enough = Recorder(9, server_with(*[OK, THROTTLED] * 8, limiter=Unlimited()), concurrency=1)
    assert enough.waits == [0.25] * 8
    too_short = Recorder(1, server_with(*[THROTTLED] * 8, limiter=Unlimited()))
    assert too_short.waits[0] == 0.25
    assert all(0.25 <= wait <= max(0.25, 0.5 * 2**number) for number, wait in enumerate(too_short.waits))
    assert max(too_short.waits) > 2.0


def test_a_server_that_never_asks_for_a_wait_is_not_hammered() -> None:
    """``Retry-After: 0``: the backoff grows nevertheless, and in the end the run gives up."""
    ran = Recorder(50, server_with(rest=Reply(429, retry_after=0.0), limiter=Unlimited()), give_up_after=300.0)
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert ran.counts() == {"not_attempted": 50}
    assert 300.0 <= ran.elapsed < 301.0
    assert len(ran.server.arrivals) < 100
    assert max(ran.waits) > 15.0


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_row_that_may_be_retried_at_once_is_sent_once(times: int) -> None:
    """The gate opens in the instant in which it closes, while the refused request is still being handled."""
    ran = Recorder(5, server_with(*[Reply(429, retry_after=0.0)] * times, limiter=Unlimited()))
    assert sorted(outcome.row for outcome in ran.outcomes) == [driver.row for driver in drivers(5)]
    assert {len(tokens) for tokens in ran.server.issued.values()} == {1}
    assert len(ran.server.arrivals) == 5 + times


def test_429s_without_any_success_end_the_run() -> None:
    ran = Recorder(3, server_with(rest=THROTTLED, limiter=Unlimited()), rate=Rate(10**6, P), give_up_after=20.0)
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert ran.counts() == {"not_attempted": 3}
    assert 20.0 <= ran.elapsed < 21.0


def test_without_a_network_no_row_fails_and_no_attempt_is_used() -> None:
    """No network for the first 40 attempts: all rows wait, single canaries probe, and then the run continues."""
    ran = Recorder(250, server_with(*[UNREACHABLE] * 40, limiter=Unlimited()), rate=Rate(10**6, P))
    assert ran.counts() == {"issued": 250}
    assert all(outcome.attempts == 1 for outcome in ran.outcomes)


def test_a_network_that_does_not_return_ends_the_run() -> None:
    ran = Recorder(250, server_with(rest=UNREACHABLE))
    assert ran.ending == Ending(EndingKind.GAVE_UP, "no connection", ran.ending.hint)
    assert "internet connection" in ran.ending.hint
    assert ran.counts() == {"not_attempted": 250}
    assert 600.0 <= ran.elapsed < 601.0
    assert len(ran.waits) < 120  # growing waits, one canary at a time


def test_many_failures_at_once_grow_the_backoff_once() -> None:
    """All requests in flight lose the network together: the wait is that of a first failure."""
    lost = []

    def latency() -> tuple[float, float]:
        now = asyncio.get_running_loop().time()
        return (0.05, 0.05) if now < 1.0 or now > 5.0 else (5.0 - now, 0.0)

    def replies() -> Iterator[Reply | None]:
        while True:
            if abs(asyncio.get_running_loop().time() - 5.0) < 0.01:
                lost.append(UNREACHABLE)
                yield UNREACHABLE
            else:
                yield OK

    ran = Recorder(150, ModelServer(Unlimited(), latency, replies()))
    assert ran.counts() == {"issued": 150}
    assert len(lost) >= 8
    assert len(ran.waits) == 1
    assert ran.waits[0] <= 0.5


def test_429s_without_retry_after_make_backoffs_grow() -> None:
    bare = Reply(429, message="HTTP 429")
    ran = Recorder(2, server_with(*[bare] * 8, limiter=Unlimited()))
    assert len(ran.waits) == 8
    assert all(wait <= 0.5 * 2**number for number, wait in enumerate(ran.waits))
    assert max(ran.waits) > 2.0


def test_a_success_resets_the_backoff() -> None:
    bare = Reply(429, message="HTTP 429")
    ran = Recorder(2, server_with(*[bare] * 8, OK, bare, limiter=Unlimited()), concurrency=1)
    assert max(ran.waits[:8]) > 2.0
    assert ran.waits[8] <= 0.5


def test_a_success_renews_patience_with_429s() -> None:
    """Throttled for 15 s at a time, with successes in between, a run with a patience of 20 s continues."""
    waits = [Reply(429, message="HTTP 429", retry_after=15.0), OK]
    ran = Recorder(6, server_with(*waits * 6, limiter=Unlimited()), give_up_after=20.0, concurrency=1)
    assert ran.counts() == {"issued": 6}
    assert ran.elapsed > 60


def test_a_reply_sent_before_the_pause_does_not_renew_patience() -> None:
    """One request is asked to wait a week; another one in flight still gets its token. Patience stays 20 s."""
    week = Reply(429, message="HTTP 429", retry_after=7 * 86_400.0)
    outward = iter([0.05, 0.05, 0.2, 0.5])
    server = server_with(OK, OK, week, OK, limiter=Unlimited(), latency=lambda: (0.0, next(outward, 0.05)))
    ran = Recorder(9, server, give_up_after=20.0)
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert ran.counts()["issued"] >= 3
    assert 20.0 <= ran.elapsed < 21.0


def test_a_wrong_api_token_costs_one_request() -> None:
    ran = Recorder(250, server_with(rest=REVOKED))
    assert len(ran.server.arrivals) == 1
    assert ran.ending.kind is EndingKind.UNAUTHORIZED
    assert "Write Driver Auth Token" in ran.ending.hint
    assert ran.counts() == {"failed": 1, "not_attempted": 249}


def test_an_api_token_revoked_during_a_run_keeps_every_token_issued_before() -> None:
    ran = Recorder(250, server_with(*[OK] * 50, rest=REVOKED))
    issued = [outcome for outcome in ran.outcomes if outcome.status is Status.ISSUED]
    assert len(issued) == 50
    assert all(ran.server.issued[str(outcome.identifier)] == [(outcome.code, outcome.token)] for outcome in issued)
    assert len(ran.server.arrivals) <= 50 + 16
    assert len(ran.outcomes) == 250
    assert ran.ending.kind is EndingKind.UNAUTHORIZED


@pytest.mark.parametrize("after", [0.0, 0.07, 0.5, 30.0, 60.5])
def test_a_stop_starts_nothing_new_and_keeps_what_is_in_flight(after: float) -> None:
    """Ledger and outcomes contain the same tokens, whenever the stop comes."""
    ending = Ending(EndingKind.INTERRUPTED, "by Ctrl-C")
    ran = Recorder(250, server_with(), at=lambda stop, loop: loop.call_later(after, stop.stop, ending))
    stopped = [event for event in ran.events if isinstance(event, Stopping)]
    assert ran.ending is ending
    assert [event.ending for event in stopped] == [ending]
    issued = {str(o.identifier): [(o.code, o.token)] for o in ran.outcomes if o.status is Status.ISSUED}
    assert issued == ran.server.issued
    assert len(ran.outcomes) == 250
    assert max(ran.server.arrivals, default=0.0) <= after + 0.1
    assert ran.elapsed <= after + 0.2
    assert not ran.left_behind


def test_a_stop_before_the_start_sends_nothing() -> None:
    ran = Recorder(5, server_with(), at=lambda stop, _: stop.stop(Ending(EndingKind.INTERRUPTED, "by Ctrl-C")))
    assert ran.counts() == {"not_attempted": 5}
    assert ran.server.arrivals == []


@pytest.mark.parametrize("steps", range(6))
def test_a_stop_in_the_first_steps_of_the_loop_ends_the_run(steps: int) -> None:
    """Even before the first step of the dispatcher, every row has its outcome."""
    ending = Ending(EndingKind.INTERRUPTED, "by Ctrl-C")

    def stop_after(signal: StopSignal, loop: asyncio.AbstractEventLoop, left: int = steps) -> None:
        if left:
            loop.call_soon(stop_after, signal, loop, left - 1)
        else:
            signal.stop(ending)

    ran = Recorder(5, server_with(), at=lambda signal, loop: loop.call_soon(stop_after, signal, loop))
    assert ran.ending == ending
    assert len(ran.run.outcomes) == 5
    assert ran.left_behind == set()


def test_a_stop_during_a_backoff_leaves_rows_unknown_or_not_attempted() -> None:
    long = 300.0
    replies = [Reply(503, retry_after=long), Reply(408, retry_after=long)]
    stop = Ending(EndingKind.INTERRUPTED)
    ran = Recorder(2, server_with(*replies), at=lambda signal, loop: loop.call_later(5.0, signal.stop, stop))
    assert ran.counts() == {"unknown": 1, "not_attempted": 1}
    assert [outcome.attempts for outcome in ran.outcomes] == [1, 1]


# --- outages, and rows that fail on their own


class Poisoned(ModelServer):
    """Always replies 500 for some drivers."""

    def __init__(self, bad: Iterable[int], limiter: Limiter | None = None) -> None:
        super().__init__(limiter or SlidingLog(100, P))
        self._bad = {str(drivers(number + 1)[-1].identifier) for number in bad}

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        reply = await super().issue(identifier, code)
        if str(identifier) in self._bad:
            del self.issued[str(identifier)]
            return Reply(500, message="HTTP 500: for this one")
        return reply


@pytest.mark.parametrize("reply", [BUSY, SILENCE, UNUSABLE, Reply(302, message="HTTP 302")], ids=lambda r: r.message)
@pytest.mark.parametrize("down", [(0.0, 120.0), (0.5, 300.0), (1.0, 500.0), (60.3, 200.0)])
def test_an_outage_costs_only_probes_and_then_the_run_continues(reply: Reply, down: tuple[float, float]) -> None:
    """One request at a time probes, less and less often; no row fails, and all get their token."""
    start, end = down
    if start == 0.0 and reply.status in (200, 302):
        start = 0.2  # otherwise it would count as a wrong address

    class Down(ModelServer):
        async def issue(self, identifier: Identifier, code: str) -> Reply:
            if not start <= asyncio.get_running_loop().time() < end:
                return await super().issue(identifier, code)
            probes.append(asyncio.get_running_loop().time())
            self.in_flight += 1
            at_once.append(self.in_flight)
            await asyncio.sleep(0.1)
            self.in_flight -= 1
            return reply

    probes: list[float] = []
    at_once: list[int] = []
    ran = Recorder(150, Down(SlidingLog(100, P)))
    assert ran.ending.kind is EndingKind.FINISHED
    assert ran.counts() == {"issued": 150}
    assert len(probes) <= 16 + 2 + (end - start) / 5
    assert set(at_once[-3:]) == {1}
    assert ran.elapsed < end + 31.0 + 2 * P


def test_a_permanent_outage_ends_the_run_and_affects_few_rows() -> None:
    ran = Recorder(500, server_with(*[OK] * 60, rest=BUSY))
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert "HTTP 503: busy" in ran.ending.message
    assert "retry" in ran.ending.hint
    assert ran.counts()["issued"] == 60
    assert ran.counts()["unknown"] <= 100
    assert sum(outcome.attempts for outcome in ran.outcomes) <= 60 + 120
    assert 600.0 <= ran.elapsed < 610.0


def test_a_failing_server_with_retry_after_is_retried_then_but_within_a_minute() -> None:
    """The requests in flight are refused at once; from then on, one request per wait."""
    waits = Recorder(50, server_with(OK, *[Reply(503, message="HTTP 503", retry_after=20.0)] * 8)).waits
    assert all(20.0 <= wait <= 30.0 for wait in waits)
    long = Recorder(50, server_with(*[Reply(503, message="HTTP 503", retry_after=9999.0)] * 5))
    assert long.waits
    assert set(long.waits) == {60.0}
    assert long.counts() == {"issued": 50}


@pytest.mark.parametrize(
    "bad",
    [
        [0],
        [0, 1, 2],
        [3, 4, 5, 6],
        [10, 20, 30, 40],
        [197, 199],
        [*range(0, 190, 2)],
        [*range(40)],
        [*range(60)],
        [*range(100, 150)],
    ],
    ids=[
        "first",
        "three",
        "four",
        "here and there",
        "last",
        "every other",
        "forty",
        "sixty",
        "a block",
    ],
)
def test_rows_that_fail_on_their_own_affect_no_others(bad: list[int]) -> None:
    """The others get their tokens, and the run ends soon: exit code 1, not 4."""
    ran = Recorder(200, Poisoned(bad, Unlimited()), rate=Rate(10**6, P))
    assert ran.ending.kind is EndingKind.FINISHED
    assert ran.counts() == {"issued": 200 - len(bad), "unknown": len(bad)}
    assert ran.elapsed < 400.0
    assert all(outcome.attempts <= 20 for outcome in ran.outcomes)


def test_even_if_most_rows_fail_on_their_own_the_others_get_their_tokens() -> None:
    """Two of three fail. The last of them look like an outage, but by then no other rows wait."""
    bad = [number for number in range(190) if number % 3]
    ran = Recorder(200, Poisoned(bad, Unlimited()), rate=Rate(10**6, P))
    assert ran.counts()["issued"] == 200 - len(bad)
    assert ran.elapsed < 1200.0


def test_the_last_rows_that_fail_on_their_own_are_known_by_successes_in_between() -> None:
    ran = Recorder(4, Poisoned([0, 1, 2], Unlimited()))
    assert ran.ending.kind is EndingKind.FINISHED
    assert ran.counts() == {"issued": 1, "unknown": 3}
    assert ran.elapsed < 60.0


def test_rows_that_failed_just_before_an_outage_survive_it() -> None:
    """Unreliable for a second, then down for two minutes: no row fails meanwhile."""
    for seed in range(12):
        rng = random.Random(seed)

        class Flaky(ModelServer):
            async def issue(self, identifier: Identifier, code: str, rng: random.Random = rng) -> Reply:
                now = asyncio.get_running_loop().time()
                if 1.2 < now < 121.2 or (now < 1.2 and rng.random() < 0.35):
                    await asyncio.sleep(0.1)
                    return BUSY if now > 1.2 else replace(BUSY, status=502)
                return await super().issue(identifier, code)

        ran = Recorder(60, Flaky(Unlimited()), concurrency=6)
        assert ran.ending.kind is EndingKind.FINISHED
        assert ran.counts()["issued"] >= 58


def test_in_doubt_rows_that_have_not_failed_come_first() -> None:
    """A silent server is detected after three timeouts, not after two rows have used up their attempts."""
    ran = Recorder(50, server_with(rest=SILENCE, latency=lambda: (30.0, 0.0)), give_up_after=60.0)
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert ran.elapsed <= 3 * 30 + 60 + 30 + 1
    assert max(outcome.attempts for outcome in ran.outcomes) == 1


# --- another server


@pytest.mark.parametrize("reply", [UNUSABLE, Reply(302, message="HTTP 302"), Reply(404, message="HTTP 404: nginx")])
@pytest.mark.parametrize("count", [1, 2, 3, 250])
def test_a_wrong_address_is_detected_after_three_replies_at_most(reply: Reply, count: int) -> None:
    ran = Recorder(count, server_with(rest=reply))
    assert ran.ending.kind is EndingKind.WRONG_ADDRESS
    assert reply.message in ran.ending.message
    assert "--region" in ran.ending.hint
    assert len(ran.server.arrivals) <= 3
    assert not ran.counts()["issued"]
    assert ran.elapsed < 10.0


def test_an_untrusted_certificate_ends_the_run_only_at_the_start() -> None:
    no_tls = Reply(left=False, fault=Fault.TLS, message="the certificate of x is not trusted")
    ran = Recorder(250, server_with(rest=no_tls))
    assert ran.ending.kind is EndingKind.WRONG_ADDRESS
    assert "SSL_CERT_FILE" in ran.ending.hint
    assert ran.elapsed < 3.0
    later = Recorder(150, server_with(*[OK] * 20, *[no_tls] * 9))
    assert later.counts() == {"issued": 150}


@pytest.mark.parametrize("page", [Reply(404, message="HTTP 404: nginx"), Reply(302, message="HTTP 302"), UNUSABLE])
def test_a_captive_portal_during_a_run_makes_it_wait(page: Reply) -> None:
    """It fails two rows at most; rows that were not requested stay as they are."""
    ran = Recorder(80, server_with(*[OK] * 20, *[page] * 12))
    assert ran.ending.kind is EndingKind.FINISHED
    assert ran.counts()["issued"] >= 78
    stays = Recorder(80, server_with(*[OK] * 20, rest=page))
    assert stays.ending.kind is EndingKind.GAVE_UP
    assert "something other than the Samsara API replied" in stays.ending.message
    assert stays.counts()["failed"] <= 2


# --- a token for two


def test_a_token_of_another_driver_is_not_accepted() -> None:
    """Whether this run issued it or an earlier one."""
    first, second = drivers(2)
    ran = Recorder(2, server_with(OK, *[Reply(200, token=f"token-{first.identifier.value}-1", expires_at=LATE)] * 5))
    assert [(outcome.row, outcome.status) for outcome in ran.outcomes] == [
        (first.row, Status.ISSUED),
        (second.row, Status.UNKNOWN),
    ]
    assert f"row {first.row}" in ran.outcomes[1].error
    assert ran.outcomes[1].token == ""
    known = Recorder(
        2,
        server_with(*[Reply(200, token=TOKEN, expires_at=LATE)] * 10),
        earlier=[replace(EARLIER, row=999)],
    )
    assert known.counts() == {"unknown": 2}


def test_an_earlier_token_that_is_repeated_keeps_the_code_it_was_issued_for() -> None:
    (outcome,) = Recorder(
        1, server_with(rest=Reply(200, token=EARLIER.token, expires_at=LATE)), before=EARLIER
    ).outcomes
    assert replace(outcome, error="", hint="", maybe_issued=False) == EARLIER
    assert "but with the earlier token of this row" in outcome.error


# --- the deadline


@pytest.mark.parametrize("deadline", [timedelta(seconds=70), NOW + timedelta(seconds=70)])
def test_a_deadline_ends_the_run_in_time(deadline: timedelta | datetime) -> None:
    ran = Recorder(500, server_with(), deadline=deadline)
    assert ran.ending.kind is EndingKind.DEADLINE
    assert "--deadline" in ran.ending.hint
    assert ran.counts() == {"issued": 200, "not_attempted": 300}
    assert ran.elapsed <= 70.0
    started = ran.events[0]
    assert isinstance(started, RunStarted)
    assert started.time == pytest.approx(70.0)


@pytest.mark.parametrize("rest", [OK, BUSY, THROTTLED], ids=["silence", "503", "429"])
def test_a_deadline_is_kept_in_any_case(rest: Reply | None) -> None:
    """Requests in flight at that time are abandoned; their tokens may exist."""
    server = server_with(OK, rest=rest, latency=lambda: (0.0, 0.1) if len(server.arrivals) < 1 else (0.0, 500.0))
    ran = Recorder(40, server, deadline=timedelta(minutes=2))
    assert ran.ending.kind is EndingKind.DEADLINE
    assert ran.elapsed <= 120.1
    sent = len(server.arrivals)
    assert ran.counts() == {"issued": 1, "unknown": sent - 1, "not_attempted": 40 - sent}
    assert len(ran.outcomes) == 40
    assert not ran.left_behind


def test_a_deadline_knows_which_requests_never_left() -> None:
    class Connecting(ModelServer):
        async def issue(self, identifier: Identifier, code: str) -> Reply:
            try:
                return await super().issue(identifier, code)
            except asyncio.CancelledError:
                raise NeverLeftError from None

    ran = Recorder(40, Connecting(Unlimited(), lambda: (500.0, 0.0)), deadline=timedelta(minutes=2))
    assert ran.counts() == {"not_attempted": 40}
    assert {outcome.attempts for outcome in ran.outcomes} == {0}
    assert not ran.left_behind


def test_a_deadline_in_the_past_sends_nothing() -> None:
    ran = Recorder(5, server_with(), deadline=NOW - timedelta(minutes=1))
    assert (ran.ending.kind, ran.server.arrivals) == (EndingKind.DEADLINE, [])
    assert ran.counts() == {"not_attempted": 5}


# --- outcomes of earlier runs

FIRST = drivers(1)[0]
EARLIER = Outcome(
    FIRST.row,
    Status.ISSUED,
    FIRST.identifier,
    token=TOKEN,
    code=CODE,
    expires_at=NOW + timedelta(minutes=3),
    http_status=200,
    request_id="r200",
    attempts=2,
    issued_at=NOW - timedelta(minutes=12),
)
FAILED = Outcome(FIRST.row, Status.FAILED, FIRST.identifier, error="HTTP 404", hint="roster: look", attempts=3)
UNKNOWN = replace(FAILED, status=Status.UNKNOWN, error="no answer", hint="network: a token may exist")
UNTOUCHED = replace(FAILED, status=Status.NOT_ATTEMPTED, error="not yet attempted", attempts=0)
STOP = Ending(EndingKind.INTERRUPTED, "by Ctrl-C")


def test_a_new_token_replaces_the_earlier_one() -> None:
    """The attempts for the earlier one do not count."""
    (outcome,) = Recorder(1, server_with(), before=EARLIER).outcomes
    assert outcome.token not in ("", EARLIER.token)
    assert (outcome.expires_at, outcome.attempts, outcome.error) == (LATE, 1, "")


@pytest.mark.parametrize(
    "reply", [REJECTED, REVOKED, BUSY, SILENCE, UNUSABLE, Reply(408, message="HTTP 408")], ids=lambda r: r.message
)
def test_without_a_new_token_the_earlier_one_is_kept_with_all_that_redeeming_it_needs(reply: Reply) -> None:
    """Its error and hint give the reason and the fix."""
    (outcome,) = Recorder(1, server_with(rest=reply), before=EARLIER).outcomes
    assert replace(outcome, error="", hint="", maybe_issued=False) == EARLIER
    assert outcome.error == f"earlier token kept: {reply.message}"
    assert outcome.hint


@pytest.mark.parametrize("before", [EARLIER, FAILED, UNKNOWN], ids=lambda before: before.status)
def test_a_row_that_was_not_requested_stays_as_it_was(before: Outcome) -> None:
    ran = Recorder(3, server_with(), before=before, at=lambda stop, _: stop.stop(STOP))
    assert ran.server.arrivals == []
    assert ran.outcomes[0] == before
    assert [outcome.status for outcome in ran.outcomes[1:]] == [Status.NOT_ATTEMPTED] * 2


def test_a_row_that_is_still_not_attempted_gets_the_new_reason() -> None:
    ran = Recorder(1, server_with(), before=UNTOUCHED, at=lambda stop, _: stop.stop(STOP))
    assert ran.outcomes[0].status is Status.NOT_ATTEMPTED
    assert "by Ctrl-C" in ran.outcomes[0].error


@pytest.mark.parametrize("before", [EARLIER, FAILED, UNKNOWN], ids=lambda before: before.status)
def test_429s_and_a_missing_network_change_only_the_number_of_attempts(before: Outcome) -> None:
    """They cannot have issued a token, but an earlier request still may have."""
    for reply in (THROTTLED, UNREACHABLE):
        ran = Recorder(1, server_with(rest=reply, limiter=Unlimited()), before=before, give_up_after=20.0)
        assert ran.ending.kind is EndingKind.GAVE_UP
        (outcome,) = ran.outcomes
        assert (outcome.status, outcome.token) == (before.status, before.token)
        sent = len(ran.server.arrivals)
        assert (sent > 0) == reply.left
        assert outcome.attempts == before.attempts + (0 if before.token else sent)


def test_a_stop_after_an_unanswered_request_keeps_the_earlier_token() -> None:
    asked = Reply(503, message="HTTP 503", retry_after=300.0)
    ran = Recorder(1, server_with(asked), before=EARLIER, at=lambda stop, loop: loop.call_later(5.0, stop.stop, STOP))
    (outcome,) = ran.outcomes
    assert replace(outcome, error="", hint="", maybe_issued=False) == EARLIER
    assert "earlier token kept: HTTP 503" in outcome.error
    assert "a token may exist" in outcome.hint


@pytest.mark.parametrize(
    ("before", "replies", "status", "attempts"),
    [
        (FAILED, [OK], Status.ISSUED, 4),
        (FAILED, [THROTTLED, OK], Status.ISSUED, 5),
        (FAILED, [UNREACHABLE, OK], Status.ISSUED, 4),
        (FAILED, [REJECTED], Status.FAILED, 4),
        (FAILED, [BUSY] * 5, Status.UNKNOWN, 8),
        (UNKNOWN, [BUSY] * 4, Status.ISSUED, 8),
    ],
)
def test_the_attempts_of_a_row_without_a_token_add_up(
    before: Outcome, replies: list[Reply | None], status: Status, attempts: int
) -> None:
    """Each run may use the full number of attempts."""
    (outcome,) = Recorder(1, server_with(*replies, limiter=Unlimited()), before=before).outcomes
    assert (outcome.status, outcome.attempts) == (status, attempts)


@pytest.mark.parametrize(
    ("reply", "status"),
    [(REJECTED, Status.FAILED), (REVOKED, Status.UNKNOWN), (Reply(404, message="HTTP 404: nginx"), Status.UNKNOWN)],
    ids=["the API's 404", "401", "another's 404"],
)
def test_only_a_reply_of_the_api_about_the_driver_settles_an_unknown_row(reply: Reply, status: Status) -> None:
    (outcome,) = Recorder(1, server_with(rest=reply), before=UNKNOWN).outcomes
    assert outcome.status is status
    assert ("a token may exist" in outcome.hint) == (status is Status.UNKNOWN)


def test_one_row_that_is_always_throttled_does_not_delay_the_others() -> None:
    class Unwilling(ModelServer):
        async def issue(self, identifier: Identifier, code: str) -> Reply:
            if identifier == drivers(5)[-1].identifier:
                await asyncio.sleep(0.1)
                return Reply(429, message="HTTP 429", retry_after=0.5)
            return await super().issue(identifier, code)

    ran = Recorder(30, Unwilling(Unlimited()))
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert ran.counts() == {"issued": 29, "not_attempted": 1}


def test_no_error_is_longer_than_300_characters() -> None:
    """Including the words around a long message."""
    long = "m" * 299
    for reply in (Reply(401, message=long, request_id="r"), Reply(404, message=long, request_id="r")):
        ran = Recorder(3, server_with(rest=reply), before=EARLIER)
        assert all(len(outcome.error) <= 300 for outcome in ran.outcomes)
        assert any(outcome.error.endswith("…") for outcome in ran.outcomes)


def test_an_unknown_row_stays_unknown_after_the_attempts_of_this_run() -> None:
    """They cannot have issued a token, but an earlier request may have."""
    refused = Reply(408, message="HTTP 408")
    (outcome,) = Recorder(1, server_with(rest=refused), before=UNKNOWN).outcomes
    assert (outcome.status, outcome.attempts) == (Status.UNKNOWN, 8)
    assert "a token may exist" in outcome.hint


def test_before_each_request_the_journal_records_that_a_token_may_exist(tmp_path: Path) -> None:
    """Or the earlier token, for a row that has one; checked at the moment of the request."""
    rows, place = batch("Driver ID\n11\n12\n13\n"), Destination(tmp_path / "out.csv")
    renewed = replace(rows.drivers[2], before=issued(rows.drivers[2]))
    seen: dict[str, list[tuple[str, ...]]] = {}

    class Witness(ModelServer):
        async def issue(self, identifier: Identifier, code: str) -> Reply:
            last = [line for line in lines(place.partial) if line["Driver ID"] == identifier.value][-1]
            recorded = last["auth_status"], last["auth_token"], last["auth_attempts"]
            seen.setdefault(identifier.value, []).append(recorded)
            return await super().issue(identifier, code)

    async def main() -> None:
        again = Reply(429, retry_after=0.0)
        server = Witness(Unlimited(), lambda: (0.0, 0.0), script(again, again, OK, again, BUSY, OK, BUSY))
        requested, settings = [*rows.drivers[:2], renewed], Settings(api_token=Secret("key"), concurrency=1)
        with place:
            journal = place.open_journal(rows)
            run = Run(requested, settings, server, Quota(MemoryLeases(RATE)), journal, uniform=min)
            await run.run()
            journal.close()
        assert [outcome.status for outcome in run.outcomes.values()] == [Status.ISSUED] * 3

    asyncio.run(main())
    assert sum(map(len, seen.values())) == 8
    for driver in ("11", "12"):
        assert seen[driver] == [("unknown", "", str(number + 1)) for number in range(len(seen[driver]))]
    assert set(seen["13"]) == {("issued", TOKEN, "1")}


# --- events, and failures inside


def test_events_report_the_run_in_order() -> None:
    ran = Recorder(4, server_with(THROTTLED, limiter=Unlimited()))
    started = ran.events[0]
    assert isinstance(started, RunStarted)
    assert (started.drivers, started.rate, started.others) == (4, RATE, 0)
    assert {event.outcome.row: event.outcome for event in ran.events if isinstance(event, RowDone)} == ran.run.outcomes


def test_a_run_without_drivers_is_finished() -> None:
    ran = Recorder(0, server_with())
    assert (ran.outcomes, ran.ending.kind) == ([], EndingKind.FINISHED)


def test_an_unexpected_exception_ends_the_run_instead_of_hanging_it() -> None:
    class Broken(ModelServer):
        async def issue(self, *_: object) -> Reply:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Recorder(3, Broken(Unlimited()))


@pytest.mark.parametrize("after", [1, 4, 20])
def test_a_cancelled_run_leaves_no_task_or_slot_and_every_row_has_its_outcome(after: int) -> None:
    """Rows in flight are ``unknown``; slots become free again, however often runs with one guard are cancelled."""

    async def cancelled(guard: Guard) -> None:
        def observe(_: Event) -> None:
            if len(run.outcomes) >= after:
                enough.set()

        server, enough = server_with(), asyncio.Event()
        settings, quota = Settings(api_token=Secret("key")), Quota(MemoryLeases(RATE, guard))
        run = Run(drivers(50), settings, server, quota, observe=observe)
        task = asyncio.create_task(run.run())
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert run.ending is not None
        assert sorted(run.outcomes) == [driver.row for driver in drivers(50)]
        sent = {str(outcome.identifier) for outcome in run.outcomes.values() if outcome.attempts}
        assert {*server.issued} <= sent
        for outcome in run.outcomes.values():
            assert (outcome.status is Status.NOT_ATTEMPTED) == (outcome.attempts == 0)

    async def main() -> None:
        guard = Guard()
        for _ in range(30):
            await cancelled(guard)
        await asyncio.sleep(P + 20)
        assert (await MemoryLeases(RATE, guard).snapshot()).in_use == 0

    virtual_clock.run(main())


@pytest.mark.parametrize("after", [0.0, 0.1, 0.35, 0.95])
def test_a_cancelled_run_has_an_outcome_for_every_row(after: float) -> None:
    async def main() -> None:
        server = server_with()
        run = Run(drivers(90), Settings(api_token=Secret("key")), server, Quota(MemoryLeases(RATE)))
        task = asyncio.create_task(run.run())
        await asyncio.sleep(after)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if after:
            assert len(run.outcomes) == 90
            held = {str(outcome.identifier) for outcome in run.outcomes.values() if outcome.token}
            unknown = {str(one.identifier) for one in run.outcomes.values() if one.status is Status.UNKNOWN}
            assert held <= {*server.issued} <= held | unknown

    virtual_clock.run(main())


def test_an_observer_that_raises_at_the_very_end_raises_too() -> None:
    def raising(event: Event) -> None:
        if isinstance(event, RowDone) and event.outcome.row == 11:
            raise ZeroDivisionError

    async def main() -> None:
        settings, quota = Settings(api_token=Secret("key"), concurrency=1), Quota(MemoryLeases(RATE))
        run = Run(drivers(10), settings, server_with(), quota, observe=raising)
        with pytest.raises(ZeroDivisionError):
            await run.run()
        assert len(run.outcomes) == 10

    virtual_clock.run(main())


def test_an_observer_that_raises_ends_the_run_without_losing_a_token() -> None:
    def raising(event: Event) -> None:
        if isinstance(event, RowDone) and event.outcome.row > 20:
            raise ZeroDivisionError

    async def main() -> None:
        server, quota = server_with(), Quota(MemoryLeases(RATE))
        run = Run(drivers(60), Settings(api_token=Secret("key")), server, quota, observe=raising)
        with pytest.raises(ZeroDivisionError):
            await run.run()
        assert len(run.outcomes) == 60
        tokens = {(str(o.identifier), o.token) for o in run.outcomes.values() if o.token}
        unknown = {str(o.identifier) for o in run.outcomes.values() if o.status is Status.UNKNOWN}
        issued = {(name, token) for name, ((_, token),) in server.issued.items()}
        assert tokens <= issued
        assert {name for name, _ in issued - tokens} <= unknown

    virtual_clock.run(main())


def test_no_request_leaves_after_a_stop_even_if_it_was_admitted() -> None:
    """After a stop in the instant of a burst of admissions, none is sent, and their slots are free."""

    async def main() -> None:
        guard, server, stop = Guard(), server_with(latency=lambda: (0.0, 0.1)), StopSignal()
        run: Run

        def stop_on_reply(event: Event) -> None:
            if isinstance(event, RowDone) and len(run.outcomes) == 30:
                stop.stop(Ending(EndingKind.INTERRUPTED))
                stopped.append(len(server.arrivals))

        stopped: list[int] = []
        quota = Quota(MemoryLeases(RATE, guard))
        run = Run(drivers(90), Settings(api_token=Secret("key")), server, quota, stop=stop, observe=stop_on_reply)
        await run.run()
        assert stopped == [len(server.arrivals)]
        assert (await MemoryLeases(RATE, guard).snapshot()).in_use == len(server.arrivals)
        assert len(run.outcomes) == 90

    virtual_clock.run(main())


def test_a_run_runs_once() -> None:
    async def main() -> None:
        server = server_with()
        run = Run(drivers(2), Settings(api_token=Secret("key")), server, Quota(MemoryLeases(RATE)))
        await run.run()
        assert [outcome.status for outcome in run.outcomes.values()] == [Status.ISSUED] * 2
        with pytest.raises(RuntimeError, match="runs only once"):
            await run.run()
        assert len(server.arrivals) == 2

    virtual_clock.run(main())


# --- any server: measured bounds of 20 seeds, with some margin


def delays(seed: int, *, stalled: float = 0.0) -> Callable[[], tuple[float, float]]:
    """Latencies of 10 to 300 ms, and for some of the requests 1 to 20 s more in one direction."""
    rng = random.Random(seed)

    def one_way() -> float:
        return rng.uniform(0.005, 0.15) + (rng.uniform(1.0, 20.0) if rng.random() < stalled / 2 else 0.0)

    return lambda: (one_way(), one_way())


SEEDS = range(3)


@pytest.mark.parametrize("name", ["fixed", "sliding", "sliding-strict", "bucket"])
@pytest.mark.parametrize(
    ("count", "periods"), [(30, 0.05), (100, 0.05), (101, 1.08), (250, 2 * 1.02 + 0.06), (1000, 9 * 1.02 + 0.06)]
)
def test_a_documented_limit_is_fully_used_without_a_429(name: str, count: int, periods: float) -> None:
    """100 at once, 100 a period later, and so on."""
    for seed in SEEDS if count < 1000 else SEEDS[:1]:
        ran = Recorder(count, server_with(limiter=make_limiter(name, 100, P), latency=delays(seed)))
        assert ran.counts() == {"issued": count}
        assert ran.server.refusals == 0
        assert ran.elapsed <= periods * P


@pytest.mark.parametrize("name", ["fixed", "sliding", "sliding-strict", "bucket"])
def test_stalled_requests_cause_no_429(name: str) -> None:
    """Every tenth request takes 1 to 20 s longer, so requests overtake each other by a third of a period."""
    for seed in SEEDS:
        ran = Recorder(250, server_with(limiter=make_limiter(name, 100, P), latency=delays(seed, stalled=0.1)))
        assert ran.counts() == {"issued": 250}
        assert ran.server.refusals == 0
        assert ran.server.peak(P) <= 100
        assert ran.elapsed < 3.5 * P


@pytest.mark.parametrize("with_retry_after", [True, False], ids=["with Retry-After", "without"])
@pytest.mark.parametrize(
    ("name", "periods", "refusals"), [("gcra", 2.65, 18), ("counter", 2.65, 20), ("counter-strict", 3.0, 30)]
)
def test_a_trickling_server_is_used_near_its_pace(
    name: str, periods: float, refusals: int, *, with_retry_after: bool
) -> None:
    """250 drivers; a client that knew the server would need 2.4 periods (gcra) or 2.14 (counter)."""
    for seed in SEEDS:
        limiter = make_limiter(name, 100, P)
        ran = Recorder(250, ModelServer(limiter, delays(seed), with_retry_after=with_retry_after))
        assert ran.counts() == {"issued": 250}
        assert ran.elapsed <= periods * P
        assert ran.server.refusals <= refusals


@pytest.mark.parametrize("with_retry_after", [True, False], ids=["with Retry-After", "without"])
def test_occasional_overload_costs_little(*, with_retry_after: bool) -> None:
    """3 % of the replies are 429s that have nothing to do with any limit."""
    for seed in SEEDS:
        rng, sent = random.Random(seed), []

        def overloaded(rng: random.Random = rng, sent: list[Reply] = sent) -> Iterator[Reply | None]:
            while True:
                if rng.random() < 0.03:
                    sent.append(Reply(429, retry_after=rng.uniform(0.1, 2.0) if with_retry_after else None))
                    yield sent[-1]
                else:
                    yield OK

        ran = Recorder(250, ModelServer(SlidingLog(100, P), delays(seed), overloaded()))
        assert ran.counts() == {"issued": 250}
        assert sent
        assert ran.server.refusals == 0  # no other 429s
        assert ran.elapsed <= 2.3 * P


@pytest.mark.parametrize("with_retry_after", [True, False], ids=["with Retry-After", "without"])
@pytest.mark.parametrize("name", ["fixed", "sliding", "sliding-strict", "bucket", "counter", "gcra"])
def test_a_run_finishes_while_another_client_uses_40_percent(name: str, *, with_retry_after: bool) -> None:
    """A client that sends evenly and respects Retry-After: 60 requests a period are left, so 4 periods at best."""
    for seed in SEEDS:
        limiter = make_limiter(name, 100, P)
        for number in range(40):
            limiter.admit((number - 40) * P / 40)

        async def other(limiter: Limiter = limiter) -> None:
            while True:
                wait = limiter.admit(asyncio.get_running_loop().time())
                await asyncio.sleep(wait or P / 40)

        others: list[asyncio.Task[None]] = []
        ran = Recorder(
            250,
            ModelServer(limiter, delays(seed), with_retry_after=with_retry_after),
            at=lambda _, loop, others=others, other=other: others.append(loop.create_task(other())),
        )
        assert ran.counts() == {"issued": 250}
        assert ran.elapsed <= 1.3 * 4.17 * P


# --- a shared quota that is unavailable


def test_a_shared_quota_that_does_not_return_ends_the_run() -> None:
    """It waits as long as for the network, reports why, and keeps its tokens."""
    ran = Recorder(40, server_with(), trouble=lambda now: AWAY if now > 0.5 else None, give_up_after=20.0)
    assert ran.ending == Ending(EndingKind.GAVE_UP, AWAY.message, AWAY.hint)
    assert ran.counts() == {"issued": len(ran.server.arrivals), "not_attempted": 40 - len(ran.server.arrivals)}
    assert 20.0 <= ran.elapsed < 22.0
    troubles = [event for event in ran.events if isinstance(event, QuotaTrouble)]
    assert set(troubles) == {QuotaTrouble(AWAY.message, AWAY.hint, 20.0)}


def test_a_shared_quota_that_is_unavailable_from_the_start_sends_nothing() -> None:
    ran = Recorder(40, server_with(), trouble=lambda _: AWAY, give_up_after=20.0)
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert ran.server.arrivals == []
    assert 20.0 <= ran.elapsed < 22.0


def test_a_shared_quota_that_returns_renews_patience() -> None:
    """If it is unavailable for 15 s at a time, a run with a patience of 20 s continues."""
    ran = Recorder(
        250, server_with(), trouble=lambda now: AWAY if 5.0 < now % 20.0 < 20.0 else None, give_up_after=20.0
    )
    assert ran.counts() == {"issued": 250}
    assert ran.server.refusals == 0
    assert ran.elapsed > 120.0


def test_replies_to_earlier_requests_do_not_renew_patience_with_an_unavailable_quota() -> None:
    """Slow replies arrive for 15 s after the quota is lost. Patience stays 20 s, plus a little for the last reply."""
    latencies = chain([(0.1, 0.1)] * 7, ((0.1, 2.0 * number) for number in range(1, 99)))
    ran = Recorder(
        40,
        server_with(latency=lambda: next(latencies)),
        trouble=lambda now: AWAY if now > 0.9 else None,
        give_up_after=20.0,
    )
    assert ran.ending.kind is EndingKind.GAVE_UP
    last_reply = max(event.outcome.row for event in ran.events if isinstance(event, RowDone) and event.outcome.token)
    assert last_reply > 10
    assert ran.elapsed < 40.0


@pytest.mark.parametrize("at", [0.5, 30.0])
def test_a_broken_shared_quota_is_reported_once_and_the_run_continues_alone(at: float) -> None:
    """Even if it has to wait for slots longer than its patience."""
    ran = Recorder(150, server_with(), trouble=lambda now: BROKEN if now > at else None, give_up_after=20.0)
    assert ran.counts() == {"issued": 150}
    assert ran.server.peak(P) == 100
    troubles = [event for event in ran.events if isinstance(event, QuotaTrouble)]
    assert troubles == [QuotaTrouble(BROKEN.message, BROKEN.hint, None)]


@pytest.mark.parametrize("reply", [UNREACHABLE, BUSY], ids=["no network", "503"])
@pytest.mark.parametrize(("away", "period"), [(30.0, 60.0), (5.0, 10.0), (5.0, 300.0)])
def test_an_unreliable_shared_quota_does_not_renew_patience_with_an_unavailable_server(
    reply: Reply, away: float, period: float
) -> None:
    ran = Recorder(40, server_with(rest=reply), trouble=lambda now: AWAY if now % period < away else None)
    assert ran.ending.kind is EndingKind.GAVE_UP
    assert 600.0 <= ran.elapsed < 700.0


@pytest.mark.parametrize("how", ["stop", "stop before", "deadline", "deadline that is past", "cancel"])
def test_a_run_that_waits_for_its_first_snapshot_of_the_quota_can_be_ended(how: str) -> None:
    class Hanging(TroubledLeases):
        async def snapshot(self) -> Budget:
            await asyncio.sleep(5000.0)
            return Budget()

    async def main() -> None:
        loop, server = asyncio.get_running_loop(), server_with()
        deadlines = {"deadline": timedelta(seconds=5), "deadline that is past": NOW - timedelta(days=9999)}
        deadline = deadlines.get(how)
        settings, quota = (
            Settings(api_token=Secret("key"), deadline=deadline),
            Quota(MemoryLeases(RATE), Hanging(RATE, lambda _: None)),
        )
        stop, events = StopSignal(), list[Event]()
        run = Run(drivers(9), settings, server, quota, stop=stop, observe=events.append)
        if how == "stop before":
            stop.stop(STOP)
        task = asyncio.create_task(run.run())
        if how == "stop":
            loop.call_later(3.0, stop.stop, STOP)
        elif how == "cancel":
            loop.call_later(3.0, task.cancel)
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert loop.time() < 5.1
        assert server.arrivals == []
        assert {outcome.status for outcome in run.outcomes.values()} == {Status.NOT_ATTEMPTED}
        assert len(run.outcomes) == 9
        if how != "cancel":
            assert [type(event) for event in events] == [Stopping, RunStarted, *[RowDone] * 9]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_clock.run(main())


def test_a_stop_while_the_shared_quota_is_unavailable_ends_the_run_at_once() -> None:
    ending = Ending(EndingKind.INTERRUPTED)
    ran = Recorder(
        40, server_with(), trouble=lambda _: AWAY, at=lambda stop, loop: loop.call_later(7.3, stop.stop, ending)
    )
    assert ran.ending is ending
    assert ran.elapsed < 7.4
    assert not ran.left_behind


# --- runs side by side


class SideBySide:
    """Runs of ``count`` drivers at once that share their slots, each with its server."""

    def __init__(self, count: int, *servers: ModelServer) -> None:
        self.ended: list[tuple[float, Ending | None]] = []

        async def one(server: ModelServer) -> None:
            quota = Quota(MemoryLeases(RATE, guard))
            run = Run(drivers(count), Settings(api_token=Secret("key")), server, quota)
            await run.run()
            await quota.close()
            self.ended.append((asyncio.get_running_loop().time(), run.ending))

        async def main() -> None:
            await asyncio.gather(*map(one, servers))

        guard = Guard()
        virtual_clock.run(main())


def test_a_run_without_a_network_does_not_stop_the_others() -> None:
    """Its address or proxy may differ. Only waits that the server asks for apply to all."""
    (first_at, first), (last_at, last) = SideBySide(40, server_with(rest=UNREACHABLE), server_with()).ended
    assert first is not None
    assert last is not None
    assert (first.kind, last.kind) == (EndingKind.FINISHED, EndingKind.GAVE_UP)
    assert first_at < 3.0
    assert last_at > 600.0


def test_runs_share_the_pace_of_a_trickling_server() -> None:
    """Three runs, each at a third of the pace: hardly more 429s than one run, and no slower."""
    server = ModelServer(make_limiter("gcra", 100, P), delays(1))
    ended = SideBySide(84, server, server, server).ended
    assert {ending and ending.kind for _, ending in ended} == {EndingKind.FINISHED}
    assert server.refusals <= 50
    assert max(at for at, _ in ended) <= 3.0 * P


# --- any sequence of events

AT_ONCE = Reply(429, message="HTTP 429", retry_after=0.0)
REPLIES = st.sampled_from([OK, BUSY, REJECTED, THROTTLED, AT_ONCE, UNREACHABLE, SILENCE, UNUSABLE, REVOKED])


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 30),
    replies=st.lists(REPLIES, max_size=80),
    stop_after=st.none() | st.floats(0.0, 90.0),
    seed=st.integers(0, 99),
)
def test_rows_add_up_and_no_token_is_lost_or_swapped_in_any_case(
    count: int, replies: list[Reply | None], stop_after: float | None, seed: int
) -> None:
    """Each driver has one outcome on its own row; each token that arrived is in one of them."""
    rng = random.Random(seed)
    server = server_with(*replies, limiter=SlidingLog(20, P), latency=lambda: (rng.uniform(0, 2), rng.uniform(0, 2)))

    def stop_later(stop: StopSignal, loop: asyncio.AbstractEventLoop) -> None:
        if stop_after is not None:
            loop.call_later(stop_after, stop.stop, Ending(EndingKind.INTERRUPTED))

    with judgements() as judged:
        ran = Recorder(count, server, rate=Rate(20, P), at=stop_later)
    assert sorted(map(id, judged)) == sorted(map(id, server.replies))
    assert sorted(outcome.row for outcome in ran.outcomes) == [driver.row for driver in drivers(count)]
    by_row = {driver.row: driver.identifier for driver in drivers(count)}
    for outcome in ran.outcomes:
        assert outcome.identifier == by_row[outcome.row]
        assert (outcome.status is Status.ISSUED) == bool(outcome.token) == bool(outcome.code)
        assert outcome.status is Status.ISSUED or outcome.hint
    issued = {str(o.identifier): [(o.code, o.token)] for o in ran.outcomes if o.token}
    assert issued == server.issued
    assert server.refusals == 0
    assert not ran.left_behind


@contextmanager
def judgements() -> Iterator[list[Reply]]:
    """The replies that are judged from now on, in order."""
    judged: list[Reply] = []

    def judge(reply: Reply) -> verdicts.Verdict:
        judged.append(reply)
        return original(reply)

    original = verdicts.judge
    with pytest.MonkeyPatch.context() as patch:
        for module in [module for name, module in sys.modules.items() if name.startswith("batch_issuer.")]:
            if getattr(module, "judge", None) is original:
                patch.setattr(module, "judge", judge)
        yield judged


@pytest.mark.parametrize("rest", [OK, BUSY, THROTTLED, UNREACHABLE, SILENCE, UNUSABLE, REVOKED, REJECTED])
def test_a_reply_is_judged_once(rest: Reply | None) -> None:
    """Usage, backpressure, circuit breaker, row and ending share one verdict, however the run ends."""
    mixed = [OK, THROTTLED, BUSY, OK, SILENCE, REJECTED, UNREACHABLE, OK, *[SILENCE] * 5, *[BUSY] * 3]
    server = server_with(*mixed, rest=rest, limiter=Unlimited())
    with judgements() as judged:
        Recorder(30, server, give_up_after=100.0)
    assert len(server.replies) > len(mixed)
    assert sorted(map(id, judged)) == sorted(map(id, server.replies))


def test_one_signal_stops_several_runs_and_each_has_its_own_ending() -> None:
    """A run that has ended keeps its ending; one that starts later sends nothing."""

    async def main() -> None:
        stop, ending = StopSignal(), Ending(EndingKind.INTERRUPTED, "by Ctrl-C")

        def run_of(count: int, server: ModelServer) -> Run:
            settings = Settings(api_token=Secret("key"))
            return Run(drivers(count), settings, server, Quota(MemoryLeases(RATE)), stop=stop)

        servers = [server_with(), server_with(rest=REVOKED), server_with(), server_with()]
        done, refused, running, late = (run_of(250 - 249 * (one is servers[0]), one) for one in servers)
        await asyncio.gather(done.run(), refused.run())
        task = asyncio.create_task(running.run())
        await asyncio.sleep(1.0)
        stop.stop(ending)
        stop.stop(Ending(EndingKind.DEADLINE))
        await task
        await late.run()
        assert done.ending is not None
        assert refused.ending is not None
        assert (done.ending.kind, refused.ending.kind) == (EndingKind.FINISHED, EndingKind.UNAUTHORIZED)
        assert running.ending is late.ending is stop.ending is ending
        assert running.outcomes[2].token
        assert len(running.outcomes) == len(late.outcomes) == 250
        assert servers[3].arrivals == []

    virtual_clock.run(main())


def test_an_outcome_records_whether_a_token_may_exist() -> None:
    """Also for a row that keeps its earlier token; the hint agrees with it."""
    for before in (None, EARLIER, FAILED, UNKNOWN):
        for reply in (OK, REJECTED, REVOKED, BUSY, SILENCE, THROTTLED, UNREACHABLE):
            ran = Recorder(2, server_with(OK, rest=reply, limiter=Unlimited()), before=before, give_up_after=20.0)
            for outcome in ran.outcomes:
                hinted = "a token may exist" in outcome.hint
                assert outcome is before or outcome.maybe_issued == (outcome.status is Status.UNKNOWN or hinted)


def test_codes_are_letters_and_digits_letter_first_and_never_the_same() -> None:
    codes = [new_code() for _ in range(2000)]
    assert len(set(codes)) == 2000
    assert all(len(code) == CODE_LENGTH >= 12 and code.isascii() and code.isalnum() for code in codes)
    assert all(code[0].isalpha() for code in codes)
