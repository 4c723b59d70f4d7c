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
import heapq
import random
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from .errors import StorageError
from .events import FINISHED, Ending, EndingKind, GateClosed, QuotaTrouble, RowDone, RunStarted, Stopping
from .hints import Hint
from .model import Outcome, Status
from .retry import Verdict, full_jitter, key_refused, meaning
from .row import Flight, Request, Row, new_code

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from .events import Event
    from .model import Driver, Reply, Settings, TokenIssuer
    from .quota import Permit, Quota, Trouble
    from .results import Journal


class Run:
    """One pass over the drivers of a roster; it runs once.

    Attributes:
        drivers: as given.
        ending: why it ended; None while it goes on.
        finished: the outcomes so far, in the order they came; all of them once `outcomes` is over, however it ended.
        unkept: how many tokens could not be written into the journal.
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
            settings: attempts and patience are read here.
            observe: is told every `Event` as it happens; must not block. If it raises, the run ends and raises too.
            uniform: draws the backoffs.
            wall_clock: gives the UTC time for ``issued_at``.
        """
        self.drivers = list(drivers)
        self.ending: Ending | None = None
        self.finished: list[Outcome] = []
        self.unkept = 0
        self._attempts = settings.attempts
        self._give_up_after = settings.give_up_after
        self._observe = observe
        self._uniform = uniform
        self._wall_clock = wall_clock
        self._fresh = deque(Row(driver) for driver in drivers)
        self._later: list[tuple[float, int, Row]] = []  # heap of rows that back off, by due time
        self._order = count()
        self._in_flight: dict[asyncio.Task[None], Request] = {}
        self._work = asyncio.Event()
        self._done: asyncio.Queue[Outcome | BaseException] = asyncio.Queue()
        self._started = False
        self._dispatcher: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._impatient_ending: Ending | None = None
        self._setbacks = 0
        self._told_of_trouble = False
        self._issuer: TokenIssuer
        self._quota: Quota
        self._journal: Journal | None = None

    @property
    def started(self) -> bool:
        """Whether it has begun, and so cannot be used again."""
        return self._started

    def _seconds_left(self) -> float:
        """The quota's plan for the rows without an outcome, in seconds."""
        return self._quota.plan(len(self._fresh) + len(self._later))

    def stop(self, ending: Ending) -> None:
        """Start no further request; those in flight are waited for. The first call counts."""
        if self.ending is not None:
            return
        self.ending = ending
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
        """Yield exactly one outcome for each driver, as they come; then `ending` says why it was over.

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
        try:
            quota.tell = self._on_trouble
            others = await quota.begin()
            self._tell(
                RunStarted(len(self.drivers), quota.rate, others.in_use, sum(others.waiting), self._seconds_left)
            )
            background.append(self._start(self._dispatch()))
            if journal is not None:
                background.append(self._start(self._keep_synced(journal)))
            self._dispatcher = background[0]
            if self.ending is not None:  # stopped before it began
                self._dispatcher.cancel()
                self._finish_stopped()
            for _ in self.drivers:
                outcome = await self._done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
            self.ending = self.ending or FINISHED
        finally:
            if self.ending is None:
                self.ending = Ending(EndingKind.INTERRUPTED, "it was cancelled", "issue again for the rest")
            self._be_patient(None)
            background.extend(self._in_flight)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._finish_stopped()

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
            await self._row_waiting()
            permit = await self._quota.admit(len(self._fresh) + len(self._later))
            row = self._next_row()
            try:
                if self._journal is not None:
                    self._journal.record(row.about_to_leave())
            except StorageError as error:
                self._fresh.appendleft(row)
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
            row.maybe_issued = True
            self._quota.lost(request.permit)
            self._fresh.append(row)
        elif request.flight is Flight.ADMITTED:
            self._quota.unsent(request.permit)
            self._again(row, 0.0)
        self._finish_stopped()

    async def _row_waiting(self) -> None:
        """Until a row is fresh, or its backoff is over."""
        loop = asyncio.get_running_loop()
        while not self._fresh:
            due = self._later[0][0] if self._later else None
            if due is not None and due <= loop.time():
                return
            self._work.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._work.wait()

    def _next_row(self) -> Row:
        """Rows whose backoff is over go before fresh ones."""
        if self._later and (not self._fresh or self._later[0][0] <= asyncio.get_running_loop().time()):
            return heapq.heappop(self._later)[2]
        return self._fresh.popleft()

    async def _attempt(self, request: Request) -> None:
        """Send a request, and do what follows from its reply."""
        row = request.row
        if self.ending is not None:  # stopped between the admission and now
            return
        request.flight = Flight.UNDER_WAY
        code = new_code()
        reply = await self._issuer.issue(row.driver.identifier, code)
        request.flight = Flight.GROUNDED
        row.reply = reply
        row.sent += reply.left
        says = meaning(reply)
        verdict, hint = says.verdict, says.hint or Hint.SERVER
        self._account(verdict, reply, request.permit)
        match verdict:
            case Verdict.THROTTLED:
                ending = Ending(
                    EndingKind.GAVE_UP,
                    "the server asks to wait, the organization's quota is used up (HTTP 429)",
                    hint.cure,
                )
                self._set_back(row, reply.retry_after, ending, everybody=True)
            case Verdict.UNREACHABLE:
                self._set_back(row, None, Ending(EndingKind.GAVE_UP, reply.message, hint.cure), everybody=False)
            case Verdict.ISSUED:
                self._finish(row.issued(reply, code, self._wall_clock()))
            case Verdict.REJECTED:
                self._finish(row.without_token(Status.FAILED, reply.message, hint))
            case Verdict.KEY_REFUSED:
                self._finish(row.without_token(Status.FAILED, reply.message, hint))
                self.stop(key_refused(reply))
            case Verdict.RETRY | Verdict.RETRY_MAYBE_ISSUED:
                row.maybe_issued |= verdict is Verdict.RETRY_MAYBE_ISSUED
                row.failures += 1
                if row.failures >= self._attempts:
                    self._finish(row.spent(hint))
                else:
                    backoff = full_jitter(row.failures, self._uniform)
                    self._again(row, max(backoff, min(reply.retry_after or 0.0, self._give_up_after)))

    def _account(self, verdict: Verdict, reply: Reply, permit: Permit) -> None:
        """Tell the quota what became of a request."""
        if verdict is Verdict.THROTTLED:
            self._quota.throttled(permit, reply.retry_after)
        elif not reply.left:
            self._quota.unsent(permit)
        elif reply.status is None:
            self._quota.lost(permit)
        else:
            healthy = verdict not in (Verdict.RETRY, Verdict.RETRY_MAYBE_ISSUED)
            self._quota.answered(permit, healthy=healthy)
            # One that was sent before the pause, or before the quota went away, says nothing about the end of that.
            if healthy and not self._quota.paused and not self._told_of_trouble:
                self._setbacks = 0
                self._be_patient(None)

    def _set_back(self, row: Row, asked: float | None, ending: Ending, *, everybody: bool) -> None:
        """All wait, as long as the server ``asked`` and for a backoff; the row is next and keeps its attempts.

        Where the wait that the server asked for was not enough a backoff grows, since somebody else was faster; it
        ends when slots of our own come free, on a server that counts by windows.
        """
        if not self._quota.paused:  # of many failures at once, one counts
            self._setbacks += 1
            backoff = full_jitter(self._setbacks, self._uniform)
            if asked is None:
                asked = backoff
            elif self._setbacks > 1:
                asked = max(asked, min(backoff, self._quota.next_release()))
        self._be_patient(ending)
        self._again(row, 0.0)
        if asked is not None:
            self._quota.pause(asked, everybody=everybody)
            self._tell(GateClosed(asked, ending, self._give_up_after))

    def _on_trouble(self, trouble: Trouble | None) -> None:
        """The shared quota cannot be reached (told again with each try), or is there again (None)."""
        told, self._told_of_trouble = self._told_of_trouble, trouble is not None and trouble.waits
        if trouble is None:
            self._be_patient(None)
            return
        if trouble.waits:
            self._be_patient(Ending(EndingKind.GAVE_UP, trouble.message, trouble.tip))
        if not (told and trouble.waits):
            self._tell(QuotaTrouble(trouble.message, trouble.tip, self._give_up_after if trouble.waits else None))

    def _be_patient(self, ending: Ending | None) -> None:
        """End the run so, unless something gets through within ``give_up_after`` seconds; None: something did."""
        self._impatient_ending = ending
        if ending is None and self._patience is not None:
            self._patience.cancel()
            self._patience = None
        elif ending is not None and self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(self._give_up_after, self._give_up)

    def _give_up(self) -> None:
        if self._impatient_ending is not None:
            self.stop(self._impatient_ending)

    def _again(self, row: Row, delay: float) -> None:
        """Try a row again, ``delay`` seconds from now at the earliest."""
        if not row.maybe_issued:  # the intent in the journal would make it ``unknown`` after a crash
            self._keep(row.not_attempted(self.ending))
        if delay > 0:
            heapq.heappush(self._later, (asyncio.get_running_loop().time() + delay, next(self._order), row))
        else:
            self._fresh.appendleft(row)
        self._work.set()

    def _finish_stopped(self) -> None:
        """After a stop, once nothing is in flight: every row that is left has its outcome."""
        if self.ending is None or self._in_flight:
            return
        left = [*self._fresh, *(row for _, _, row in self._later)]
        self._fresh.clear()
        self._later.clear()
        for row in sorted(left, key=lambda row: row.driver.row):
            self._finish(row.left_over(self.ending))

    def _finish(self, outcome: Outcome) -> None:
        self._keep(outcome)
        self.finished.append(outcome)
        self._done.put_nowait(outcome)
        self._tell(RowDone(outcome))

    def _keep(self, outcome: Outcome) -> None:
        """Write it down before it counts; where that fails nothing further is asked for."""
        if self._journal is None:
            return
        try:
            self._journal.record(outcome)
        except StorageError as error:
            self.unkept += bool(outcome.token)
            self._stop_for_storage(error)

    def _stop_for_storage(self, error: StorageError) -> None:
        self.stop(Ending(EndingKind.STORAGE, error.message, error.tip))
