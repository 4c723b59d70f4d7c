"""The pipeline: drivers in, one outcome each out; attempts and stop rules in between.

::

            ┌──────────────── retry after a backoff ──────────────┐
            ▼                                                     │
    work queue ──► quota.admit ──► journal.record ──► request ──► verdict ──► journal.record ──► outcome
       one dispatcher                 (intent)      many at once

One dispatcher starts all requests, so departures are ordered. Each request is a task of its own. All of them write to
one journal, which does not await. Each reply is judged once, and everything else uses its verdict.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from ..errors import StorageError
from ..hints import Hint
from ..model import Driver, NeverLeftError, Outcome
from ..quota import Budget, estimate
from .attempts import Attempts, Request, new_code
from .backoff import full_jitter
from .backpressure import Backpressure
from .circuit_breaker import CircuitBreaker
from .endings import FINISHED, Ending, EndingKind, StopSignal
from .events import ClockOff, FirstToken, Renewing, RowDone, RunStarted, Stopping
from .renewal import ExpiryTracker
from .time_limits import Deadline, Patience
from .token_owners import TokenOwners
from .usage import Usage
from .verdicts import VerdictKind, judge, unauthorized
from .work_queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..model import Reply, TokenIssuer
    from ..quota import Permit, Quota
    from ..results import Journal
    from ..settings.run_settings import Settings
    from .events import Event
    from .verdicts import Verdict

MAX_ASKED_WAIT = 60.0
"""Seconds: the longest wait that a failing server can ask for; a 429 has no such limit."""


class Run:
    """One pass over the drivers of a roster; `run` it once.

    Attributes:
        drivers: as given.
        ending: why it ended; None while it runs.
        finished: the outcomes so far, in order of completion; after `run`, of all rows.
        unkept: how many tokens could not be written to the journal.
        usage: how many requests were sent, and how fast.
    """

    def __init__(  # noqa: PLR0913 - all dependencies of a run
        self,
        drivers: Sequence[Driver],
        settings: Settings,
        issuer: TokenIssuer,
        quota: Quota,
        journal: Journal | None = None,
        *,
        stop: StopSignal | None = None,
        observe: Callable[[Event], None] = lambda _: None,
        earlier: Iterable[Outcome] = (),
        renewable: Iterable[Outcome] | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare a run; nothing is sent before `run`.

        Args:
            drivers: one row each, no driver twice.
            settings: attempts, patience and deadline are read here.
            issuer: sends the requests.
            quota: admits the requests.
            journal: records an intent before each request, and each outcome; None records nothing.
            stop: ends the run early; may be shared with other runs.
            observe: is called with every `Event`, and must not block. If it raises, the run ends and raises too.
            earlier: outcomes of all rows of the results file; a reply that repeats one of their tokens is not accepted.
            renewable: other rows of the same organization, which keep an earlier token. At the end of the run, tokens
                of these and of the drivers are renewed if they are valid for less than ``min_validity`` and renewal can
                help; so a row may have two outcomes. None to renew nothing.
            uniform: draws the backoffs.
            wall_clock: gives the UTC time, for ``issued_at`` and the deadline.
        """
        self.drivers = list(drivers)
        self.ending: Ending | None = None
        self.finished: list[Outcome] = []
        self.unkept = 0
        self.usage = Usage(settings.rate)
        self._settings = settings
        self._issuer, self._quota, self._journal = issuer, quota, journal
        self._stop_signal = stop or StopSignal()
        self._observe = observe
        self._uniform, self._wall_clock = uniform, wall_clock
        self._queue = WorkQueue(Attempts(driver) for driver in self.drivers)
        self._in_flight: dict[Request, asyncio.Task[None]] = {}  # those without a verdict
        before = (driver.before for driver in self.drivers if driver.before is not None)
        self._owners = TokenOwners(chain(before, earlier))
        self._renewable = None if renewable is None else {outcome.row: outcome for outcome in renewable}
        self._expiries = ExpiryTracker(settings.min_validity, (self._renewable or {}).values())
        self._breaker = CircuitBreaker(len(self.drivers))
        self._patience = Patience(settings.give_up_after, self._end)
        self._backpressure = Backpressure(quota, self._patience, self._emit, uniform)
        self._tasks = asyncio.TaskGroup()
        self._dispatcher: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._failure: Exception | None = None  # of the observer

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """The last outcome of each row so far."""
        return {outcome.row: outcome for outcome in self.finished}

    async def run(self) -> None:
        """Request a token for each driver; afterwards, `ending` is set.

        Cancelling it cancels the requests in flight: their tokens are lost, and their rows become ``unknown``.

        Raises:
            RuntimeError: it has already run.
        """
        if self._dispatcher is not None:
            raise RuntimeError("a Run runs only once")
        deadline = self._deadline()
        self._stop_signal.add_listener(self._end)
        try:
            if deadline is not None:
                deadline.start()
            async with self._tasks:
                self._dispatcher = self._tasks.create_task(self._dispatch(deadline))
                self._dispatcher.add_done_callback(lambda _: self._settle())  # even if it never starts
                syncing = self._tasks.create_task(self._keep_synced())
                await self._over.wait()
                self._dispatcher.cancel()
                syncing.cancel()
                if self._failure is not None:
                    raise self._failure
            self.ending = self.ending or self._breaker.wrong_address or FINISHED
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._stop_signal.remove_listener(self._end)
            self._patience.reset()
            if deadline is not None:
                deadline.cancel()
            self.ending = self.ending or Ending(
                EndingKind.INTERRUPTED, "the run was cancelled", "run batch-issuer retry for the remaining rows"
            )
            self._settle()

    def _end(self, ending: Ending) -> None:
        """Send no further request, and wait for those in flight. Only the first call has an effect."""
        if self.ending is not None:
            return
        self.ending = ending
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        self._emit(Stopping(ending, sum(request.sent for request in self._in_flight)))

    def _end_for_storage(self, error: StorageError) -> None:
        self._end(Ending(EndingKind.STORAGE, error.message, error.hint))

    def _deadline(self) -> Deadline | None:
        if self._settings.deadline is None:
            return None
        ending = Ending(EndingKind.DEADLINE, "the deadline was reached", Hint.DEADLINE.fix)
        return Deadline(self._settings.deadline, lambda: self._end(ending), self._abandon, self._wall_clock)

    def _abandon(self) -> None:
        """Stop waiting for replies: rows in flight become ``unknown`` unless their request had not left."""
        for task in self._in_flight.values():
            task.cancel()

    def _emit(self, event: Event) -> None:
        """Report an event. If the observer raises, the run ends in an orderly way."""
        try:
            self._observe(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller of `run` gets it
            self._failure = self._failure or error
            self._over.set()

    async def _keep_synced(self) -> None:
        if self._journal is None:
            return
        try:
            await self._journal.keep_synced()
        except StorageError as error:
            self._end_for_storage(error)

    async def _dispatch(self, deadline: Deadline | None) -> None:
        """Start requests one by one, whenever a row is ready and the quota admits one."""
        await self._start(deadline)
        self._settle()
        while self.ending is None:
            await self._queue.ready()
            self._send(await self._quota.admit(len(self._queue)))

    async def _start(self, deadline: Deadline | None) -> None:
        """Report the start. If stopped meanwhile, do not wait for the usage of other runs."""
        others = Budget()
        try:
            if self.ending is None:
                others = await self._quota.begin()
        except asyncio.CancelledError:
            if self.ending is None:
                raise
        self._emit(
            RunStarted(
                len(self.drivers),
                self._quota.rate,
                others.in_use,
                sum(others.waiting),
                self._seconds_left,
                deadline.left() if deadline else None,
            )
        )

    def _seconds_left(self) -> float:
        """Estimated seconds for the rows that wait."""
        return self._quota.estimate(len(self._queue))

    def _send(self, permit: Permit) -> None:
        """Start a request for the next row after recording its intent."""
        if self._breaker.open:
            attempts = self._queue.pop_random(self._uniform)
        else:
            attempts = self._queue.pop(untried=self._breaker.in_doubt)
        try:
            if self._journal is not None:
                self._journal.record(attempts.intent())
        except StorageError as error:
            self._queue.push_front(attempts)
            self._quota.unsent(permit)
            self._end_for_storage(error)
            return
        request = Request(attempts, permit)
        task = self._in_flight[request] = self._tasks.create_task(self._attempt(request))
        task.add_done_callback(partial(self._task_done, request))

    async def _attempt(self, request: Request) -> None:
        """Send a request, judge its reply, and act on the verdict."""
        if self.ending is not None:  # stopped between the admission and now
            return
        attempts, driver = request.attempts, request.attempts.driver
        request.sent = True
        code = new_code()
        try:
            reply = await self._issuer.issue(driver.identifier, code)
        except NeverLeftError:
            request.sent = False
            raise
        reply = self._owners.check(reply, driver)
        verdict = judge(reply)
        del self._in_flight[request]
        attempts.record(reply, verdict)
        self.usage.record(verdict, request.permit.sent_at)
        wrong_address = None
        if self._backpressure.record(reply, verdict, request.permit):
            self._breaker.record_success()
            self._queue.sort()
        else:
            wrong_address = self._breaker.record_sender(reply, verdict, driver.row)
        self._act_on(attempts, reply, verdict, code)
        if wrong_address is not None:
            self._end(wrong_address)

    def _task_done(self, request: Request, _: asyncio.Task[None]) -> None:
        """Account for a request that was cancelled or stopped before it had a verdict."""
        if self._in_flight.pop(request, None) is not None:
            if request.sent:
                request.attempts.record_lost()
                self._quota.lost(request.permit)
                self._queue.push_back(request.attempts)
            else:
                self._quota.unsent(request.permit)
                self._requeue(request.attempts)
        self._settle()

    def _act_on(self, attempts: Attempts, reply: Reply, verdict: Verdict, code: str) -> None:
        """Finish or requeue the row, by the reply to its request with ``code``."""
        match verdict.kind:
            case VerdictKind.THROTTLED:
                self._requeue(attempts)
            case VerdictKind.UNREACHABLE:
                self._hold_back(attempts, reply, verdict)
            case VerdictKind.ISSUED:
                self._record_expiry(attempts, reply)
                self._finish(attempts.issued(reply, code, self._wall_clock()))
            case VerdictKind.REJECTED if not verdict.genuine and self._is_outage(attempts):
                self._hold_back(attempts, reply, verdict)
            case VerdictKind.REJECTED:
                self._finish(attempts.rejected())
            case VerdictKind.UNAUTHORIZED:
                self._finish(attempts.rejected())
                self._end(unauthorized(reply, verdict))
            case VerdictKind.RETRY | VerdictKind.RETRY_MAYBE_ISSUED:
                self._fail(attempts, reply, verdict)

    def _record_expiry(self, attempts: Attempts, reply: Reply) -> None:
        """Record a token's expiry; at the first token, report whether all can be valid at once."""
        first = self._expiries.lifetime is None
        self._expiries.record(attempts.driver.row, reply, asyncio.get_running_loop().time())
        if not first or self._expiries.lifetime is None or reply.expires_at is None:
            return
        if self._expiries.clock_is_off:
            self._emit(ClockOff(self._expiries.clock_ahead))
        rate, concurrency = self._settings.rate, self._settings.concurrency
        alone = partial(estimate, rate, burst=self._settings.burst or rate.limit, concurrency=concurrency)
        at_once = self._expiries.capacity(len(self.drivers), alone)
        self._emit(FirstToken(self._expiries.lifetime, reply.expires_at, self._seconds_left(), at_once))

    def _is_outage(self, attempts: Attempts) -> bool:
        """Record a failure; return whether there is an outage."""
        return self._breaker.record_failure(attempts, len(self._queue) + len(self._in_flight) + 1)

    def _fail(self, attempts: Attempts, reply: Reply, verdict: Verdict) -> None:
        """Handle a reply that is not usable: an outage, or the row's own failure."""
        if self._is_outage(attempts):
            self._hold_back(attempts, reply, verdict)
            return
        attempts.failures += 1
        if attempts.failures >= self._settings.attempts:
            self._finish(attempts.exhausted())
        else:
            backoff = full_jitter(attempts.failures, self._uniform)
            self._requeue(attempts, max(backoff, min(reply.retry_after or 0.0, MAX_ASKED_WAIT)))

    def _hold_back(self, attempts: Attempts, reply: Reply, verdict: Verdict) -> None:
        """Handle an outage: all rows wait, and this one keeps its attempts."""
        asked = min(reply.retry_after, MAX_ASKED_WAIT) if reply.retry_after is not None else None
        self._backpressure.pause(reply, verdict, asked)
        self._requeue(attempts)

    def _requeue(self, attempts: Attempts, delay: float = 0.0) -> None:
        """Retry a row after ``delay`` seconds at the earliest."""
        if not attempts.maybe_issued:  # otherwise the intent would make it ``unknown`` after a crash
            self._record(attempts.not_attempted(self.ending))
        if delay > 0:
            self._queue.push_later(delay, attempts)
        elif self._breaker.open or self._backpressure.active:  # this row may be to blame: let another one probe
            self._queue.push_back(attempts)
        else:
            self._queue.push_front(attempts)

    def _settle(self) -> None:
        """Once nothing is in flight: after a stop, finish the remaining rows; if none is left, renew or end the run."""
        if self._in_flight:
            return
        if self.ending is not None:
            self._finish(*(attempts.stopped(self.ending) for attempts in self._queue.drain()))
        if not self._queue and not self._renew():
            self._over.set()

    def _renew(self) -> bool:
        """Queue the rows with tokens that expire too soon; return whether there are any."""
        if self.ending is not None or self._renewable is None:
            return False
        now = asyncio.get_running_loop().time()
        due = self._expiries.due(now, self._wall_clock(), self._quota.estimate)
        outcomes = self._renewable | self.outcomes if due else {}
        again = []
        for row in due:
            latest = outcomes[row]
            if latest.identifier is not None and not latest.hint:
                again.append(Attempts(Driver(row, latest.identifier, before=latest)))
        if again:
            self._queue.add(again)
            self._emit(Renewing(len(again)))
        return bool(again)

    def _finish(self, *outcomes: Outcome) -> None:
        self._record(*outcomes)
        for outcome in outcomes:
            self.finished.append(outcome)
            self._breaker.record_outcome(outcome.row)
            self._emit(RowDone(outcome))

    def _record(self, *outcomes: Outcome) -> None:
        """Write outcomes to the journal before they count; if that fails, the run ends."""
        if self._journal is None or not outcomes:
            return
        try:
            self._journal.record(*outcomes)
        except StorageError as error:
            self.unkept += sum(bool(outcome.token) for outcome in outcomes)
            self._end_for_storage(error)
