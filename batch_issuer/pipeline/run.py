"""The pipeline: drivers in, one outcome for each out, attempts and stop rules in between.

::

            ┌────────────── again, after a backoff ───────────────┐
            ▼                                                     │
    waiting rows ──► quota.admit ──► journal.record ──► request ──┴──► journal.record ──► outcome
       one dispatcher             (may be issued)      many at once

One dispatcher starts requests, so departures have one order; each request is a task of its own; all of them write
through one journal, which does not await.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from ..errors import StorageError
from ..hints import Hint
from ..model import Driver, NeverLeftError, Outcome
from ..quota import Budget, estimate
from .attempts import Attempts, Flight, Request, new_code
from .backoff import full_jitter
from .backpressure import Backpressure
from .circuit_breaker import CircuitBreaker
from .endings import FINISHED, Ending, EndingKind
from .events import ClockOff, FirstToken, Renewing, RowDone, RunStarted, Stopping
from .renewal import ExpiryTracker
from .time_limits import Deadline, Patience
from .token_owners import TokenOwners
from .usage import Usage
from .verdicts import VerdictKind, is_genuine, key_refused, meaning, not_the_api
from .work_queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence

    from ..model import Reply, TokenIssuer
    from ..quota import Quota
    from ..results import Journal
    from ..settings.run_settings import Settings
    from .events import Event

LONGEST_WAIT = 60.0
"""Seconds: a server in trouble that asks for more is looked at all the same."""


class Run:
    """One pass over the drivers of a roster; it runs once.

    Attributes:
        drivers: as given.
        ending: why it ended; None while it goes on.
        finished: the outcomes so far, in the order they came; all of them once `outcomes` is over, however it ended.
        unkept: how many tokens could not be written into the journal.
        tally: how much was sent, and how fast.
    """

    def __init__(
        self,
        drivers: Sequence[Driver],
        settings: Settings,
        *,
        observe: Callable[[Event], None] = lambda _: None,
        uniform: Callable[[float, float], float] = random.uniform,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare; nothing is sent before `outcomes` is iterated.

        Args:
            drivers: one row each, no driver twice.
            settings: attempts, patience and deadline are read here.
            observe: is told every `Event` as it happens; must not block. If it raises, the run ends and raises too.
            uniform: draws the backoffs.
            wall_clock: gives the UTC time, for ``issued_at`` and the deadline.
        """
        self.drivers = list(drivers)
        self.ending: Ending | None = None
        self.finished: list[Outcome] = []
        self.unkept = 0
        self.usage = Usage(settings.rate)
        self._attempts = settings.attempts
        self._deadline_at = settings.deadline
        self._observe = observe
        self._uniform = uniform
        self._wall_clock = wall_clock
        self._queue = WorkQueue(Attempts(driver) for driver in drivers)
        self._in_flight: dict[asyncio.Task[None], Request] = {}
        self._owners = TokenOwners(driver.before for driver in drivers if driver.before is not None)
        self._done: asyncio.Queue[Outcome | BaseException] = asyncio.Queue()
        self._expiries = ExpiryTracker(settings.min_validity)
        self._renewing = False
        self._others: dict[int, Outcome] = {}  # that `renew` may ask for again
        burst = settings.burst or settings.rate.limit
        self._planned = partial(estimate, settings.rate, burst=burst, concurrency=settings.concurrency)
        self._started = False
        self._beginning: asyncio.Task[Budget] | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._breaker = CircuitBreaker(len(self.drivers))
        self._patience = Patience(settings.give_up_after, self.stop)
        self._backpressure = Backpressure(self._patience, self._tell, uniform)
        self._issuer: TokenIssuer
        self._quota: Quota
        self._journal: Journal | None = None

    def know(self, outcomes: Iterable[Outcome]) -> None:
        """What other rows got earlier: a reply that repeats one of these tokens holds none."""
        self._owners.know(outcomes)

    def renew(self, kept: Iterable[Outcome]) -> None:
        """At the end, ask again for those whose token is not valid for ``min_validity`` any more, where that can help.

        Without this each driver has one outcome; with it, those have another one.

        Args:
            kept: what other rows of the same organization have from earlier runs.
        """
        self._renewing = True
        self._others = {outcome.row: outcome for outcome in kept}
        self._expiries.keep(list(self._others.values()))

    @property
    def started(self) -> bool:
        """Whether it has begun, and so cannot be used again."""
        return self._started

    def _seconds_left(self) -> float:
        """The quota's plan for the rows without an outcome, in seconds."""
        return self._quota.estimate(len(self._queue))

    def stop(self, ending: Ending) -> None:
        """Start no further request; those in flight are waited for. The first call counts."""
        if self.ending is not None:
            return
        self.ending = ending
        if self._beginning is not None:
            self._beginning.cancel()
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            self._finish_stopped()
        self._tell(Stopping(ending, sum(request.flight is Flight.UNDER_WAY for request in self._in_flight.values())))

    def _tell(self, event: Event) -> None:
        """An observer that raises ends the run in good order instead of leaving it half done."""
        try:
            self._observe(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, the consumer gets it
            self._done.put_nowait(error)

    async def outcomes(
        self, issuer: TokenIssuer, quota: Quota, journal: Journal | None = None
    ) -> AsyncGenerator[Outcome]:
        """Yield exactly one outcome for each driver, as they come (see `renew`); then `ending` says why it was over.

        Leaving the loop early, or being cancelled, cancels the requests in flight: tokens they would have brought are
        lost, and their rows become ``unknown`` in `finished`.

        Args:
            issuer: sends the requests.
            quota: says when.
            journal: is told before each request and of each outcome; None keeps nothing.

        Raises:
            RuntimeError: this run has been used already.
        """
        if self.started:
            raise RuntimeError("a Run runs once: make a new one")
        self._started = True
        self._issuer, self._quota, self._journal = issuer, quota, journal
        background: list[asyncio.Task[None]] = []
        deadline = self._deadline()
        try:
            self._backpressure.watch(quota)
            await self._begin(quota, deadline)
            background.append(self._start(self._dispatch()))
            if journal is not None:
                background.append(self._start(self._keep_synced(journal)))
            self._dispatcher = background[0]
            if self.ending is not None:  # stopped before it began
                self._dispatcher.cancel()
                self._finish_stopped()
            left = len(self.drivers)
            while left:
                outcome = await self._done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
                left = left - 1 or self._renew()
            self._conclude()
        finally:
            if self.ending is None:
                self.ending = Ending(EndingKind.INTERRUPTED, "it was cancelled", "issue again for the rest")
            self._patience.renew()
            if deadline is not None:
                deadline.cancel()
            if self._beginning is not None:
                self._beginning.cancel()
            background.extend(self._in_flight)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._finish_stopped()

    async def _begin(self, quota: Quota, deadline: Deadline | None) -> None:
        """Look at what others use of the quota, and tell how it stands; a stop does not wait for that."""
        others = Budget()
        if self.ending is None:
            self._beginning = asyncio.ensure_future(quota.begin())
            await asyncio.wait([self._beginning])
            others = others if self._beginning.cancelled() else self._beginning.result()
        self._tell(
            RunStarted(
                len(self.drivers),
                quota.rate,
                others.in_use,
                sum(others.waiting),
                self._seconds_left,
                deadline.left() if deadline else None,
            )
        )

    def _renew(self) -> int:
        """Let those wait for another token whose own is not good for long; how many these are."""
        if self.ending is not None or not self._renewing or not self._done.empty():
            return 0
        now = asyncio.get_running_loop().time()
        short = self._expiries.short(now, self._wall_clock(), self._quota.estimate)
        latest = self._others | {outcome.row: outcome for outcome in self.finished} if short else {}
        again = [
            Driver(row, one.identifier, before=one)
            for row in short
            if (one := latest[row]).identifier is not None and not one.hint
        ]
        if again:
            self._breaker.more(len(again))
            self._queue.add(Attempts(driver) for driver in again)
            self._tell(Renewing(len(again)))
        return len(again)

    def _conclude(self) -> None:
        """All rows have their outcome."""
        if not self._done.empty() and isinstance(error := self._done.get_nowait(), BaseException):
            raise error  # an observer that raised at the very end
        if self.ending is None:
            self.ending = not_the_api(self._breaker.foreign) if self._breaker.foreign else FINISHED

    def _deadline(self) -> Deadline | None:
        if self._deadline_at is None:
            return None
        ending = Ending(EndingKind.DEADLINE, "the deadline came", Hint.DEADLINE.cure)
        deadline = Deadline(self._deadline_at, lambda: self.stop(ending), self._abandon, self._wall_clock)
        deadline.start()
        return deadline

    def _abandon(self) -> None:
        """Wait for no request any more: what is in flight becomes ``unknown``, unless it had not left."""
        for task in self._in_flight:
            task.cancel()

    def _start(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task whose unexpected exception ends the run instead of hanging it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._report_crash)
        return task

    def _report_crash(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._done.put_nowait(error)

    async def _keep_synced(self, journal: Journal) -> None:
        try:
            await journal.keep_synced()
        except StorageError as error:
            self._stop_for_storage(error)

    async def _dispatch(self) -> None:
        """Start requests, one after the other, whenever a row is waiting and the quota admits one."""
        while True:
            await self._queue.ready()
            permit = await self._quota.admit(len(self._queue))
            probing = self._breaker.open
            row = self._queue.pop_random(self._uniform) if probing else self._queue.pop(untried=self._breaker.in_doubt)
            try:
                if self._journal is not None:
                    self._journal.record(row.intent())
            except StorageError as error:
                self._queue.push_front(row)
                self._quota.unsent(permit)
                self._stop_for_storage(error)
                return
            request = Request(row, permit)
            task = self._start(self._attempt(request))
            self._in_flight[task] = request
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        """Its request is over; account for one that was cancelled, or that stopped before it left."""
        request = self._in_flight.pop(task)
        row = request.row
        if request.flight is Flight.UNDER_WAY:
            row.sent += 1
            row.unanswered = True
            row.reply = None
            self._quota.lost(request.permit)
            self._queue.push_back(row)
        elif request.flight is Flight.ADMITTED:
            self._quota.unsent(request.permit)
            self._again(row)
        self._finish_stopped()

    async def _attempt(self, request: Request) -> None:
        """Send a request, and take note of its reply."""
        row = request.row
        if self.ending is not None:  # stopped between the admission and now
            return
        request.flight = Flight.UNDER_WAY
        code = new_code()
        try:
            reply = self._owners.checked(await self._issuer.issue(row.driver.identifier, code), row.driver)
        except NeverLeftError:
            request.flight = Flight.ADMITTED
            raise
        request.flight = Flight.GROUNDED
        row.reply = reply
        row.sent += reply.left
        self.usage.replied(reply, request.permit.sent_at)
        if self._backpressure.account(reply, request.permit):
            self._breaker.record_success()
            self._queue.sort()
        self._follow(row, reply, code)

    def _follow(self, row: Attempts, reply: Reply, code: str) -> None:
        """Do what follows from the reply to the request with ``code``."""
        says, strangers = meaning(reply), self._breaker.see(reply, row.driver.row)
        verdict, hint = says.verdict, says.hint or Hint.SERVER
        match verdict:
            case VerdictKind.THROTTLED:
                self._backpressure.suffer(reply, reply.retry_after, everybody=True)
                self._again(row)
            case VerdictKind.UNREACHABLE:
                self._set_back(row, reply)
            case VerdictKind.ISSUED:
                self._see_lifetime(row, reply)
                self._finish(row.issued(reply, code, self._wall_clock()))
            case VerdictKind.REJECTED if not is_genuine(reply) and self._breaker.record_failure(row):
                self._set_back(row, reply)
            case VerdictKind.REJECTED:
                self._finish(row.rejected(reply, hint))
            case VerdictKind.KEY_REFUSED:
                self._finish(row.rejected(reply, hint))
                self.stop(key_refused(reply))
            case VerdictKind.RETRY | VerdictKind.RETRY_MAYBE_ISSUED:
                row.unanswered |= verdict is VerdictKind.RETRY_MAYBE_ISSUED
                self._fail(row, reply, hint)
        if strangers:
            self.stop(not_the_api(reply))

    def _see_lifetime(self, row: Attempts, reply: Reply) -> None:
        """Tell, at the first token, whether all can be valid at once."""
        first = self._expiries.lifetime is None
        self._expiries.see(row.driver.row, reply, asyncio.get_running_loop().time())
        if not first or self._expiries.lifetime is None or reply.expires_at is None:
            return
        if self._expiries.clock_is_off:
            self._tell(ClockOff(self._expiries.clock_ahead))
        at_once = self._expiries.at_once(len(self.drivers), self._planned)
        self._tell(
            FirstToken(self._expiries.lifetime, reply.expires_at, self._quota.estimate(len(self._queue)), at_once)
        )

    def _fail(self, row: Attempts, reply: Reply, hint: Hint) -> None:
        """No usable answer: the row's own failure, or everybody's."""
        if self._breaker.record_failure(row):
            self._set_back(row, reply)
            return
        row.failures += 1
        if row.failures >= self._attempts:
            self._finish(row.spent(hint))
        else:
            backoff = full_jitter(row.failures, self._uniform)
            self._again(row, max(backoff, min(reply.retry_after or 0.0, LONGEST_WAIT)))

    def _set_back(self, row: Attempts, reply: Reply) -> None:
        """It is everybody's trouble: all wait, and the row keeps its attempts."""
        asked = min(reply.retry_after, LONGEST_WAIT) if reply.retry_after is not None else None
        self._backpressure.suffer(reply, asked)
        self._again(row)

    def _again(self, row: Attempts, delay: float = 0.0) -> None:
        """Try a row again, ``delay`` seconds from now at the earliest."""
        if not row.maybe_issued:  # the intent in the journal would make it ``unknown`` after a crash
            self._keep(row.not_attempted(self.ending))
        if delay > 0:
            self._queue.push_later(delay, row)
        elif self._breaker.open or self._backpressure.any:  # it may be to blame itself: another one shall probe
            self._queue.push_back(row)
        else:
            self._queue.push_front(row)

    def _finish_stopped(self) -> None:
        """After a stop, once nothing is in flight: every row that is left has its outcome."""
        if self.ending is None or self._in_flight:
            return
        self._finish(*(row.left_over(self.ending) for row in self._queue.drain()))

    def _finish(self, *outcomes: Outcome) -> None:
        self._keep(*outcomes)
        self.finished.extend(outcomes)
        for outcome in outcomes:
            self._breaker.done(outcome.row)
            self._done.put_nowait(outcome)
            self._tell(RowDone(outcome))

    def _keep(self, *outcomes: Outcome) -> None:
        """Write it down before it counts; where that fails nothing further is asked for."""
        if self._journal is None or not outcomes:
            return
        try:
            self._journal.record(*outcomes)
        except StorageError as error:
            self.unkept += sum(bool(outcome.token) for outcome in outcomes)
            self._stop_for_storage(error)

    def _stop_for_storage(self, error: StorageError) -> None:
        self.stop(Ending(EndingKind.STORAGE, error.message, error.tip))
