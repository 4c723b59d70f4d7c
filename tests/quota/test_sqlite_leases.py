"""Leases in SQLite behave like leases in memory, even if the file, processes or clocks fail."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import wraps
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.processes import PythonProcess, wait_until
from support.rosters import write_roster
from support.sandbox import live_sandbox

from batch_issuer.cli import main
from batch_issuer.errors import QuotaBrokenError, QuotaError
from batch_issuer.quota import open_quota, sqlite_database
from batch_issuer.quota.leases import LOST_GRACE, End, Lease, cooling_time, hold_time
from batch_issuer.quota.memory_leases import Guard
from batch_issuer.quota.sqlite_database import state_file, state_folder
from batch_issuer.quota.sqlite_leases import SqliteLeases
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

    from batch_issuer.quota.leases import Answer

T = TypeVar("T")

P = 60.0
COOLING = cooling_time(Rate(1, P))
HAIR = 1e-3  # seconds


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FastClock(Clock):
    """The clock that real processes share, ``now`` seconds ahead."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def __call__(self) -> float:
        return time.monotonic() + self.now


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **more: Any) -> None:
        asyncio.run(test(*arguments, **more))

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def leases_in(folder: Path, clock: Callable[[], float], limit: int = 1, organization: str = "ours") -> SqliteLeases:
    return SqliteLeases(organization, Rate(limit, P), folder=folder, clock=clock)


def as_another_process(folder: Path, clock: Callable[[], float], limit: int = 1) -> SqliteLeases:
    """Leases with their own connection, thread and owner lock, as in another process."""
    workers = sqlite_database.Worker._by_folder
    ours = workers.pop(folder, None)
    try:
        return leases_in(folder, clock, limit)
    finally:
        workers.pop(folder)
        if ours is not None:
            workers[folder] = ours


@asynccontextmanager
async def closing(*leases: SqliteLeases) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in leases:
            stack.push_async_callback(each.close)
        yield


def on_its_thread(leases: SqliteLeases, job: Callable[[Any], T]) -> T:
    """The result of a job with the database, after all earlier jobs."""
    return leases._worker.submit(job).result(30)


def settled(leases: SqliteLeases) -> None:
    """Wait until all jobs are done."""
    on_its_thread(leases, lambda _: None)


def die(leases: SqliteLeases) -> None:
    """Do what the kernel does when a process is killed."""

    def release_all(database: Any) -> None:
        database._connection.close()
        database._owner_lock.release()

    on_its_thread(leases, release_all)
    leases._worker._by_folder.pop(leases._worker.folder, None)
    leases._worker._thread.shutdown()


async def taken(leases: SqliteLeases, waiting: int = 1) -> Lease:
    answer = await leases.acquire(waiting)
    assert answer.lease is not None, answer
    return answer.lease


async def take_many(leases: SqliteLeases, number: int) -> list[Lease]:
    return [await taken(leases, waiting) for waiting in range(number, 0, -1)]


async def answer_without_slot(leases: SqliteLeases, waiting: int = 1) -> Answer:
    answer = await leases.acquire(waiting)
    assert answer.lease is None, answer
    return answer


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(state_file(folder), isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another process is in a transaction."""
    with database(folder) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def owner_locks(folder: Path) -> list[str]:
    return [name for name in files(folder) if name.endswith(".lock")]


def wait_until_gone(leases: SqliteLeases) -> None:
    """Wait until their thread has ended, and with it the connection and the owner lock."""
    threads = leases._worker._thread._threads
    wait_until(lambda: not any(thread.is_alive() for thread in threads), "the thread ends", patience=5.0)


# --- the same as in memory


class SameAsInMemory(RuleBasedStateMachine):
    """For any actions of three runs in two processes, each answer and budget equals that of a `Guard` in memory."""

    @initialize(limit=st.integers(1, 7))
    def begin(self, limit: int) -> None:
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory())) / "state"
        self.loop = asyncio.new_event_loop()
        self.stack.callback(self.loop.close)
        self.clock, self.limit, self.guard = Clock(), limit, Guard()
        self.names = count(1)
        self.another_organization = leases_in(self.folder, self.clock, organization="theirs")
        self.do(taken(self.another_organization))
        elsewhere = as_another_process(self.folder, self.clock, limit)
        self.runs = [(leases_in(self.folder, self.clock, limit), "one"), (elsewhere, "elsewhere")]
        self.a_run_begins()
        self.held: list[tuple[SqliteLeases, Lease]] = []

    def do(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.loop.run_until_complete(wait())

    def a_run_begins(self) -> None:
        self.runs.append((leases_in(self.folder, self.clock, self.limit), f"run {next(self.names)}"))

    @rule(which=st.integers(0, 2), waiting=st.integers(1, 9), most=st.sampled_from([1, 9]))
    def acquire(self, which: int, waiting: int, most: int) -> None:
        run, name = self.runs[which]
        for left in range(waiting, max(0, waiting - most), -1):
            answer = self.do(run.acquire(left))
            lease = answer.lease.id if answer.lease is not None else "not granted"
            granted, wait, gate, runs = self.guard.acquire(lease, name, self.limit, left, self.clock.now)
            assert (answer.lease is not None, answer.gate, answer.runs) == (granted, gate, runs)
            if answer.lease is None:
                assert answer.wait == wait
                break
            self.held.append((run, answer.lease))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), end=st.sampled_from(End))
    def end(self, which: int, end: End) -> None:
        run, lease = self.held.pop(which % len(self.held))
        run.release(lease, end)
        settled(run)
        self.guard.release(lease.id, hold_time(end, run.rate), self.clock.now)

    @rule(which=st.integers(0, 2), seconds=st.sampled_from([0.0, 0.5, 20.0]))
    def close_gate(self, which: int, seconds: float) -> None:
        run, _ = self.runs[which]
        run.close_gate(seconds)
        settled(run)
        self.guard.close_gate(seconds, self.clock.now)

    @rule(seconds=st.sampled_from([0.5, 2.9, 3.1, 30.0, P]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def a_slot_becomes_free(self) -> None:
        """At exactly the same moment as in memory."""
        cooling = self.guard.snapshot("another run", self.clock.now, mine=False).cooling
        if cooling:
            self.clock.now += cooling[0]

    @precondition(lambda self: self.runs[2][0] not in [run for run, _ in self.held])
    @rule()
    def a_run_ends_and_another_begins(self) -> None:
        run, name = self.runs.pop()
        self.do(run.close())
        self.guard.leave(name)
        self.a_run_begins()

    @invariant()
    def all_see_the_same_budget(self) -> None:
        for run, name in self.runs if hasattr(self, "held") else ():
            seen, expected = self.do(run.snapshot()), self.guard.snapshot(name, self.clock.now, mine=False)
            assert (seen.in_flight, seen.cooling, seen.gate) == (expected.in_flight, expected.cooling, expected.gate)
            assert sorted(seen.waiting) == sorted(expected.waiting)

    def teardown(self) -> None:
        if hasattr(self, "held"):
            for run, _ in (*self.runs, (self.another_organization, "")):
                self.do(run.close())
            self.stack.close()


class TestSameAsInMemory(SameAsInMemory.TestCase):
    settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@pytest.mark.soak
class TestSameAsInMemoryForLong(SameAsInMemory.TestCase):
    settings = settings(max_examples=400, stateful_step_count=100, deadline=None)


@pytest.mark.parametrize(
    ("end", "held"), [(End.ANSWERED, COOLING), (End.LOST, COOLING + LOST_GRACE)], ids=["answered", "lost"]
)
@in_a_loop
async def test_a_slot_is_free_a_period_after_the_reply_and_not_sooner(folder: Path, end: End, held: float) -> None:
    clock = Clock()
    ours = leases_in(folder, clock)
    async with closing(ours):
        lease = await taken(ours)
        clock.now += 1000.0
        ours.release(lease, end)
        settled(ours)
        clock.now += held - HAIR
        assert (await answer_without_slot(ours)).wait == pytest.approx(HAIR, rel=1e-6)
        clock.now += HAIR
        await taken(ours)


# --- death, reboot, clocks


_HOLDER = """
import asyncio, sys
from pathlib import Path
from batch_issuer.settings.run_settings import Rate
from batch_issuer.quota.sqlite_leases import SqliteLeases

async def main(folder, limit, slots):
    leases = SqliteLeases("ours", Rate(int(limit), 60.0), folder=Path(folder))
    for waiting in range(int(slots), 0, -1):
        assert (await leases.acquire(waiting)).lease is not None
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

_IN_A_TRANSACTION = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO gate VALUES ('ours', 1e9, 1e9)")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[PythonProcess]:
    """A real process, which has reported that it is ready."""
    with PythonProcess("-c", script, *arguments) as started:
        assert started.line() == "ready"
        yield started


@in_a_loop
async def test_slots_of_a_killed_process_lapse_like_lost_ones_after_its_death_was_noticed(folder: Path) -> None:
    clock = FastClock()
    ours = leases_in(folder, clock, limit=3)
    async with closing(ours):
        with process(_HOLDER, folder, 3, 3) as other:
            await answer_without_slot(ours)
            assert len(owner_locks(folder)) == 2
            other.kill()
            other.end()
        clock.now += 3600.0  # the death was not noticed
        await answer_without_slot(ours)
        assert len(owner_locks(folder)) == 1
        noticed_at = clock()
        clock.now += COOLING + LOST_GRACE - (clock() - noticed_at) - 1.0
        await answer_without_slot(ours, waiting=3)
        clock.now += 1.0
        await take_many(ours, 3)


@in_a_loop
async def test_slots_of_a_live_process_never_lapse_even_if_it_is_stopped(folder: Path) -> None:
    clock = FastClock()
    ours = leases_in(folder, clock, limit=3)
    async with closing(ours):
        with process(_HOLDER, folder, 3, 3) as other:
            other.send_signal(signal.SIGSTOP)
            for _ in range(3):
                clock.now += 3600.0
                await answer_without_slot(ours)
            assert len(owner_locks(folder)) == 2
            assert (await ours.snapshot()).in_flight == 3


@in_a_loop
async def test_answered_slots_of_a_dead_process_cool_as_usual(folder: Path) -> None:
    clock = Clock()
    ours, other = leases_in(folder, clock, limit=2), as_another_process(folder, clock, limit=2)
    async with closing(ours):
        other.release(await taken(other, 9), End.ANSWERED)
        await taken(other, 8)
        die(other)
        clock.now += 30.0
        assert (await ours.snapshot()).cooling == pytest.approx((COOLING - 30.0, COOLING + LOST_GRACE))


@in_a_loop
async def test_nothing_is_kept_free_for_a_dead_run(folder: Path) -> None:
    clock = Clock()
    ours, other = leases_in(folder, clock, limit=4), as_another_process(folder, clock, limit=4)
    async with closing(ours):
        other.release(await taken(other, 9), End.UNSENT)
        die(other)
        for waiting in (4, 3):
            await taken(ours, waiting)
        assert (await answer_without_slot(ours, 2)).runs == 2
        for waiting in (2, 1):
            await taken(ours, waiting)
    with database(folder) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (0,)


@in_a_loop
async def test_a_process_killed_in_a_transaction_leaves_no_trace(folder: Path) -> None:
    ours = leases_in(folder, Clock(), limit=2)
    async with closing(ours):
        await taken(ours)
        with process(_IN_A_TRANSACTION, state_file(folder)) as other:
            other.kill()
            other.end()
        await taken(ours)


class World:
    """The true time, which the host's clock does not show: that starts over at each boot.

    A request may be counted until its reply, or for the grace after it was lost or its process died.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.true_time, self.booted_at = 5000.0, 4900.0
        self.clock = Clock(100.0)
        self.leases = leases_in(folder, self.clock, limit)
        self.in_flight: list[Lease] = []
        self.may_count_until: list[float] = []

    def time_passes(self, seconds: float) -> None:
        self.true_time += seconds
        self.clock.now = self.true_time - self.booted_at

    def crash(self, *, reboot: bool) -> None:
        die(self.leases)
        self.may_count_until.extend(self.true_time + LOST_GRACE for _ in self.in_flight)
        self.in_flight.clear()
        if reboot:
            self.booted_at = self.true_time + 1.0
            self.time_passes(1.0)
        self.leases = leases_in(self.leases._worker.folder, self.clock, self.leases.rate.limit)

    async def free_slot(self) -> Lease | None:
        """A slot, after checking that none is free too early."""
        await self.leases.snapshot()  # notices dead processes
        lease = (await self.leases.acquire(1)).lease
        held = len(self.in_flight) + sum(until + P > self.true_time for until in self.may_count_until)
        assert lease is None or held < self.leases.rate.limit
        return lease

    async def try_to_take(self) -> None:
        lease = await self.free_slot()
        if lease is not None:
            self.in_flight.append(lease)

    async def check_for_a_slot(self) -> None:
        lease = await self.free_slot()
        if lease is not None:
            self.leases.release(lease, End.UNSENT)

    def end(self, end: End) -> None:
        if self.in_flight:
            self.leases.release(self.in_flight.pop(0), end)
            settled(self.leases)
            if end is not End.UNSENT:
                self.may_count_until.append(self.true_time + (LOST_GRACE if end is End.LOST else 0.0))

    async def live(self, steps: list[str | float | End]) -> None:
        for step in steps:
            match step:
                case "take":
                    await self.try_to_take()
                case "crash" | "reboot":
                    self.crash(reboot=step == "reboot")
                case End():
                    self.end(step)
                case float():
                    self.time_passes(step)
            await self.check_for_a_slot()


@settings(max_examples=40, deadline=None)
@example(limit=1, steps=["take", End.ANSWERED, "reboot"])
@example(limit=1, steps=["take", "reboot", 50.0])
@example(limit=1, steps=["take", "crash", 50.0])
@example(limit=1, steps=["take", End.LOST, 50.0, 2.0, "crash"])
@given(
    limit=st.integers(1, 3),
    steps=st.lists(st.sampled_from(["take", *End, "crash", "reboot", 2.0, 30.0, 50.0, 1000.0]), max_size=30),
)
def test_with_any_crashes_and_reboots_no_slot_is_free_early_and_all_are_in_the_end(
    limit: int, steps: list[str | float | End]
) -> None:
    async def main(folder: Path) -> None:
        world = World(folder, limit)
        await world.live([*steps, "reboot", 2.0, COOLING + LOST_GRACE, *["take"] * limit])
        assert len(world.in_flight) == limit
        await world.leases.close()

    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary, "state")))


@in_a_loop
async def test_the_gate_stays_closed_after_a_reboot_and_opens_again(folder: Path) -> None:
    """It is closed for the time asked for, counted from the boot at the latest."""
    clock = Clock(5000.0)
    ours = leases_in(folder, clock)
    ours.close_gate(100.0)
    settled(ours)
    die(ours)
    clock.now = 3.0
    ours = leases_in(folder, clock)
    async with closing(ours):
        assert (await answer_without_slot(ours)).gate == pytest.approx(100.0)
        clock.now += 100.0
        await taken(ours)


@in_a_loop
async def test_the_wall_clock_is_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it may be set to any time."""

    def read() -> float:
        raise AssertionError("the wall clock was read")

    monkeypatch.setattr(time, "time", read)
    monkeypatch.setattr(time, "time_ns", read)
    clock = Clock()
    ours, other = leases_in(folder, clock), as_another_process(folder, clock)
    async with closing(ours, other):
        ours.release(await taken(ours), End.ANSWERED)
        settled(ours)
        await answer_without_slot(other)
        await other.snapshot()
        clock.now += COOLING
        await taken(other)


# --- another process stopped in a transaction


@pytest.fixture
def short_lock_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "LOCK_WAIT", 0.1)


@in_a_loop
async def test_a_lock_that_is_held_for_long_is_a_temporary_error(folder: Path, short_lock_wait: None) -> None:  # noqa: ARG001
    """After its release, everything works as before."""
    ours = leases_in(folder, Clock(), limit=2)
    async with closing(ours):
        first = await taken(ours)
        with locked(folder):
            for request in (ours.acquire(1), ours.snapshot()):
                with pytest.raises(QuotaError, match="has locked") as trouble:
                    await request
                assert not isinstance(trouble.value, QuotaBrokenError)
                assert str(state_file(folder)) in trouble.value.message
        await taken(ours)
        ours.release(first, End.UNSENT)
        await taken(ours)


@in_a_loop
async def test_the_event_loop_continues_while_the_lock_is_held(folder: Path) -> None:
    ours = leases_in(folder, Clock())
    async with closing(ours):
        lease = await taken(ours)
        with locked(folder):
            ours.release(lease, End.ANSWERED)
            ours.close_gate(1.0)
            request = asyncio.create_task(ours.acquire(1))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not request.done()
        await request


@in_a_loop
async def test_ends_reported_while_the_lock_is_held_count_from_then(folder: Path, short_lock_wait: None) -> None:  # noqa: ARG001
    """They are written with the next request, or at the end."""
    clock = Clock()
    ours, others = leases_in(folder, clock, limit=3), as_another_process(folder, clock, limit=3)
    async with closing(others):
        leases = await take_many(ours, 3)
        await others.snapshot()
        with locked(folder):
            for lease, end in zip(leases, End, strict=True):
                ours.release(lease, end)
            ours.close_gate(500.0)
            with pytest.raises(QuotaError):
                await ours.acquire(1)
            clock.now += 10.0
        assert (await others.snapshot()).in_flight == 3
        await ours.close()
        seen = await others.snapshot()
        assert seen.in_flight == 0
        assert seen.cooling == pytest.approx((COOLING - 10.0, COOLING + LOST_GRACE - 10.0))
        assert seen.gate == pytest.approx(490.0)


@in_a_loop
async def test_closing_while_the_lock_is_held_ends_and_the_slots_lapse_like_those_of_a_dead_run(
    folder: Path,
    short_lock_wait: None,  # noqa: ARG001
) -> None:
    clock = Clock()
    ours, others = leases_in(folder, clock), as_another_process(folder, clock)
    async with closing(others):
        ours.release(await taken(ours), End.ANSWERED)
        lease = None
        settled(ours)
        clock.now += COOLING
        lease = await taken(ours)
        await others.snapshot()
        with locked(folder):
            ours.release(lease, End.ANSWERED)
            await ours.close()
            wait_until_gone(ours)
        clock.now += 2.0
        seen = await others.snapshot()
        assert seen.in_flight == 0
        assert COOLING <= seen.cooling[0] <= COOLING + LOST_GRACE


@pytest.mark.parametrize("times", [1, 2])
@in_a_loop
async def test_a_cancelled_request_leaves_no_slot_taken(folder: Path, times: int) -> None:
    """Even if the slot was being granted, and if it is cancelled twice."""
    clock = Clock()
    ours, others = leases_in(folder, clock), as_another_process(folder, clock)
    async with closing(ours, others):
        await others.snapshot()
        await ours.snapshot()
        with locked(folder):
            request = asyncio.create_task(ours.acquire(1))
            await asyncio.sleep(0.01)
            for _ in range(times):
                request.cancel()
                await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await request
        settled(ours)  # the slot was granted
        settled(ours)  # and given back
        assert (await others.snapshot()).in_use == 0


@in_a_loop
async def test_a_request_cancelled_while_the_quota_fails_is_cancelled(folder: Path, short_lock_wait: None) -> None:  # noqa: ARG001
    ours = leases_in(folder, Clock())
    async with closing(ours):
        await ours.snapshot()
        with locked(folder):
            request = asyncio.create_task(ours.acquire(1))
            await asyncio.sleep(0.01)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request


# --- one process


@in_a_loop
async def test_two_runs_of_one_process_share_slots_and_a_thread(folder: Path) -> None:
    clock = Clock()
    one, two = leases_in(folder, clock, limit=2), leases_in(folder, clock, limit=2)
    async with closing(two):
        async with closing(one):
            first, second = await taken(one), await taken(two)
            await answer_without_slot(one)
            assert one._worker is two._worker
            one.release(first, End.UNSENT)
        two.release(second, End.UNSENT)
        await taken(two, 2)
        await taken(two)  # the end of the first run did not close the database
    wait_until_gone(two)


@in_a_loop
async def test_a_run_leaves_only_cooling_slots(folder: Path) -> None:
    clock = Clock()
    ours = leases_in(folder, clock, limit=3)
    async with closing(ours):
        ours.release(await taken(ours, 9), End.ANSWERED)
        await taken(ours, 8)
    wait_until_gone(ours)
    assert files(folder) == [state_file(folder).name]
    with database(folder) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM lease").fetchone() == (2,)


@in_a_loop
async def test_a_run_that_is_cancelled_while_closing_leaves_no_thread(folder: Path) -> None:
    ours = leases_in(folder, Clock())
    await taken(ours)
    with locked(folder):
        end = asyncio.create_task(ours.close())
        await asyncio.sleep(0.01)
        end.cancel()
        with suppress(asyncio.CancelledError):
            await end
    wait_until_gone(ours)


_COUNT_LEASES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM lease").fetchone()[0])
connection.close()
"""


def slots_seen_elsewhere(folder: Path) -> int:
    """The number of leases, by a process that opens and closes the file; the last one to close it cleans up."""
    command = [sys.executable, "-c", _COUNT_LEASES, str(state_file(folder))]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@in_a_loop
async def test_a_run_that_starts_while_another_ends_shares_with_other_processes(folder: Path) -> None:
    """A process that closes any descriptor of a file loses all its locks on it: POSIX, and sqlite.org/howtocorrupt."""
    ending, beginning = leases_in(folder, Clock(), limit=9), as_another_process(folder, Clock(), limit=9)
    async with closing(beginning):
        async with closing(ending):
            await taken(ending, 9)
            await taken(beginning, 9)
        wait_until_gone(ending)
        assert slots_seen_elsewhere(folder) == 2
        await taken(beginning, 8)
        assert slots_seen_elsewhere(folder) == 3


_STARTS_AT = """
import asyncio, sys, time
from pathlib import Path
from batch_issuer.settings.run_settings import Rate
from batch_issuer.quota.sqlite_leases import SqliteLeases

async def main():
    print("ready", flush=True)
    start_at = float(sys.stdin.readline())
    while time.monotonic() < start_at:
        pass
    leases = SqliteLeases("ours", Rate(9, 60.0), folder=Path(sys.argv[1]))
    await leases.snapshot()
    await leases.close()

asyncio.run(main())
"""


@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(5))
def test_processes_that_start_together_wait_for_the_one_that_creates_the_file(
    folder: Path,
    attempt: int,  # noqa: ARG001
) -> None:
    with ExitStack() as stack:
        together = [stack.enter_context(process(_STARTS_AT, folder)) for _ in range(6)]
        start_at = time.monotonic() + 0.05
        for each in together:
            each.send(str(start_at))
        assert [each.end() for each in together] == [0] * 6


# --- the file


@in_a_loop
async def test_files_are_private_from_birth(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with an open umask, and in a folder that was open before."""
    folder.mkdir(mode=0o755)
    made = []

    def open_file(path: str, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & os.O_CREAT:
            made.append(mode)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        return real_open(path, flags, mode, **more)

    def connect(path: Path, **options: Any) -> sqlite3.Connection:
        assert path.exists()  # SQLite would create it with other permissions
        return real_connect(path, **options)

    real_open, real_connect = os.open, sqlite3.connect
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(sqlite3, "connect", connect)
    umask = os.umask(0)
    try:
        ours = leases_in(folder, Clock())
        async with closing(ours):
            await taken(ours)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(umask)
    name = state_file(folder).name
    assert {f"{name}{suffix}" for suffix in ("", "-wal", "-shm")} < set(modes)
    assert set(modes.values()) == {0o600}
    assert set(made) == {0o600}


@in_a_loop
async def test_the_file_contains_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the API token nor its address, in names and contents."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = Settings(api_token=Secret("samsara_api_Tr0ub4dor"), base_url="https://api.depot.example")
    async with open_quota(settings) as quota:
        quota.answered(await quota.admit(7))
        await quota.refresh()
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        text = b"".join(path.name.encode() + path.read_bytes() for path in kept)
    assert len(text) > 10_000
    for secret in ("Tr0ub4dor", "samsara", "depot", "example"):
        assert secret.encode() not in text


def test_each_host_has_a_file_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several hosts with different clocks may share a home folder."""
    found = set()
    for name in ("depot-3.example.com", "depot-4", "../../etc/depot", "büro 5", ""):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        path = state_file(folder)
        assert path.parent == folder
        assert re.fullmatch(r"quota-[A-Za-z0-9._-]+\.sqlite3", path.name)
        found.add(path)
    assert len(found) == 5
    assert folder / "quota-depot-3.example.com.sqlite3" in found


# --- a file that cannot be used


async def _make_one(folder: Path, leases: int = 200) -> None:
    """A file with several pages."""
    ours = leases_in(folder, time.monotonic, limit=leases)
    async with closing(ours):
        for lease in await take_many(ours, leases):
            ours.release(lease, End.ANSWERED)
    wait_until_gone(ours)


def a_file_in_place_of_the_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("")


def a_folder_in_place_of_the_file(folder: Path) -> None:
    state_file(folder).mkdir(parents=True)


def a_file_that_is_not_a_database(folder: Path) -> None:
    folder.mkdir(parents=True)
    state_file(folder).write_bytes(b"This is not a database." * 1000)


def a_garbage_page(folder: Path) -> None:
    asyncio.run(_make_one(folder))
    with state_file(folder).open("r+b") as file:
        file.seek(4096)
        file.write(bytes(range(256)) * 16)


def half_a_file(folder: Path) -> None:
    asyncio.run(_make_one(folder))
    path = state_file(folder)
    os.truncate(path, path.stat().st_size // 2)


def another_version(folder: Path) -> None:
    asyncio.run(_make_one(folder, 1))
    with database(folder) as connection:
        connection.execute("PRAGMA user_version = 99")


def tables_of_another_program(folder: Path) -> None:
    asyncio.run(_make_one(folder, 1))
    with database(folder) as connection:
        connection.execute("DROP TABLE lease")


def a_read_only_file(folder: Path) -> None:
    asyncio.run(_make_one(folder, 1))
    state_file(folder).chmod(0o400)
    if os.access(state_file(folder), os.W_OK):
        pytest.skip("this user may write everywhere")


BREAKAGES = [
    a_file_in_place_of_the_folder,
    a_folder_in_place_of_the_file,
    a_file_that_is_not_a_database,
    a_garbage_page,
    half_a_file,
    another_version,
    tables_of_another_program,
    a_read_only_file,
]


@pytest.mark.parametrize("broken", BREAKAGES)
def test_an_unusable_file_is_a_permanent_error(folder: Path, broken: Callable[[Path], None]) -> None:
    """The error names its path each time, and no lock file is left."""
    broken(folder)

    async def use() -> None:
        ours = leases_in(folder, time.monotonic, limit=300)
        async with closing(ours):
            for call in (ours.acquire, ours.acquire, lambda _: ours.snapshot()):
                with pytest.raises(QuotaBrokenError, match="cannot be shared") as trouble:
                    await call(1)
                assert str(state_file(folder)) in trouble.value.message
                assert trouble.value.hint
        wait_until_gone(ours)

    asyncio.run(use())
    assert not folder.is_dir() or owner_locks(folder) == []


@in_a_loop
async def test_a_full_database_is_a_permanent_error(folder: Path) -> None:
    ours = leases_in(folder, Clock(), limit=10_000)
    async with closing(ours):
        await ours.snapshot()
        on_its_thread(ours, lambda database: database._connection.execute("PRAGMA max_page_count = 10"))
        with pytest.raises(QuotaBrokenError, match="full"):
            await take_many(ours, 1000)


# --- what a user sees


@pytest.mark.parametrize("broken", BREAKAGES)
def test_issue_warns_once_and_continues_with_a_quota_of_its_own(
    broken: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All rows are issued, within the limit."""
    broken(state_folder())
    with live_sandbox(limit=10, per=0.1) as sandbox:
        options = ["--base-url", sandbox.url, "--rate", "10/0.1s", "--quiet"]
        assert main(["issue", str(write_roster(tmp_path, 25)), *options], {"SAMSARA_API_TOKEN": sandbox.api_token}) == 0
    stderr = capsys.readouterr().err
    assert str(state_file(state_folder())) in stderr
    assert stderr.count("cannot be shared") == 1
    warning, hint = stderr.splitlines()
    assert warning.startswith("warning: ")
    assert hint.startswith("hint: ")
    assert len([entry for entry in sandbox.ledger if entry.token]) == 25
    assert sandbox.peak() <= 10


def test_issue_gives_up_if_the_lock_is_held_longer_than_its_patience(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    short_lock_wait: None,  # noqa: ARG001
) -> None:
    """Nothing is sent, and the reason is printed."""
    asyncio.run(_make_one(state_folder(), 1))
    with live_sandbox() as sandbox, locked(state_folder()):
        options = ["--base-url", sandbox.url, "--give-up-after", "300ms"]
        assert main(["issue", str(write_roster(tmp_path, 3)), *options], {"SAMSARA_API_TOKEN": sandbox.api_token}) == 4
    stderr = capsys.readouterr().err
    assert "Waiting: another process has locked" in stderr
    assert "error: another process has locked" in stderr
    assert "0 of 3 rows have a login token: 3 not attempted (" in stderr
    assert sandbox.ledger == []


def test_a_full_disk_during_a_run_is_reported_once_and_the_run_continues(tmp_path: Path) -> None:
    """A limit of the file size simulates the disk; the results are smaller than the database's journal."""
    limited = ["sh", "-c", 'ulimit -f 200 && exec "$@"', "sh"]
    with live_sandbox(limit=20, per=0.5) as sandbox:
        command = [sys.executable, "-m", "batch_issuer", "issue", str(write_roster(tmp_path, 50)), "--quiet"]
        done = subprocess.run(
            [*limited, *command, "--base-url", sandbox.url, "--rate", "20/0.5s"],
            env={**os.environ, "SAMSARA_API_TOKEN": sandbox.api_token},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be shared") == 1
    warning, hint = done.stderr.splitlines()
    assert warning.startswith("warning: ")
    assert hint.startswith("hint: ")
    assert len([entry for entry in sandbox.ledger if entry.token]) == 50
    assert sandbox.peak() <= 20
    assert [entry for entry in sandbox.ledger if not entry.counted] == []


def test_quota_reports_a_broken_file(capsys: pytest.CaptureFixture[str]) -> None:
    a_file_that_is_not_a_database(state_folder())
    assert main(["quota"], {"SAMSARA_API_TOKEN": "samsara_api_x"}) == 4
    output = capsys.readouterr()
    assert "cannot be shared" in output.err
    assert output.out == ""
