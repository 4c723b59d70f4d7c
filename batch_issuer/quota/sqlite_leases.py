"""Leases in a small SQLite file, shared by the processes of one user on one host.

A transaction per question; the rules are those of `leases`. Times are the monotonic clock's, which the processes of
a host have in common and nobody sets, so the wall clock does not matter. After a reboot that clock begins anew:
slots that cool until a time too far ahead are of another boot, and count as just taken; all others were due anyway.

A process is alive as long as it holds the lock on its own file beside the database: the kernel lets go of it when
the process dies, however it dies, and keeps it while the process is merely stopped. A live run's unanswered lease
never lapses, a dead one's lapses as a lost request's does, from when the death was noticed.

All of it happens on one thread of its own, so the event loop never waits for the file's lock.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sqlite3
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, ClassVar, TypeVar

from platformdirs import user_state_path

from ..errors import QuotaBrokenError, QuotaError
from ..locks import Lock
from .leases import ACTIVE_FOR, LOST_GRACE, Answer, Budget, End, Lease, cooling_time, hold_time, may_acquire, poll_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..settings.run_settings import Rate

T = TypeVar("T")

LOCK_WAIT = 1.0
"""Seconds to wait for another process's transaction, at a time; they take well under a millisecond."""

CLOSE_ATTEMPTS = 3
"""Tries to write down at the end what could not be written before; after them it lapses like a dead run's."""

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE lease (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL, run TEXT NOT NULL, owner TEXT NOT NULL,
    hold REAL NOT NULL,  -- seconds from the reply
    free_at REAL         -- monotonic seconds, NULL while in flight
) WITHOUT ROWID;
CREATE INDEX lease_of ON lease (organization, run);
CREATE INDEX lease_until ON lease (free_at);
CREATE TABLE run (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL, owner TEXT NOT NULL,
    waiting INTEGER NOT NULL, asked_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE gate (organization TEXT PRIMARY KEY, opens_at REAL NOT NULL, seconds REAL NOT NULL) WITHOUT ROWID;
"""


def state_folder() -> Path:
    """Where the file is kept."""
    return user_state_path("batch-issuer", appauthor=False)


def state_file(folder: Path) -> Path:
    """The file of this host: a home may be on several, and their clocks have nothing in common."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) or "localhost"
    return folder / f"quota-{host}.sqlite3"


class _Database:
    """The connection, and this process's sign of life. Used on one thread only, but for `owner`."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.owner = uuid.uuid4().hex
        self.now = clock
        self._folder = folder
        self._reaped_at = -1.0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._owner_lock = self._lock_of(self.owner)
        self._owner_lock.acquire()  # nobody else knows this name
        try:
            self._connection = self._connect(state_file(folder))
        except BaseException:
            self._release_lock()
            raise

    def _lock_of(self, owner: str) -> Lock:
        return Lock(self._folder / f"run-{owner}.lock")

    def _connect(self, path: Path) -> sqlite3.Connection:
        with suppress(FileExistsError):  # which must not be opened: closing it again would drop SQLite's own locks
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # private from birth
        connection = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None)
        try:
            self._use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")  # safe in a power cut; the leases are worthless then
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """For this one statement SQLite does not wait by itself, while another process makes the file."""
        given_up_at = time.monotonic() + LOCK_WAIT
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > given_up_at:
                    raise
                time.sleep(0.01)
            else:
                return

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA_VERSION):
            raise sqlite3.DatabaseError("it was made by another version of batch-issuer")
        if version == 0:
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def reap_dead_owners(self) -> None:
        """Let the leases of dead processes lapse, and delete their locks; looks once in a second."""
        now = self.now()
        if now < self._reaped_at + 1.0:
            return
        self._reaped_at = now
        rows = self._connection.execute("SELECT owner FROM lease WHERE free_at IS NULL UNION SELECT owner FROM run")
        for owner in {owner for (owner,) in rows.fetchall()} - {self.owner}:
            lock = self._lock_of(owner)
            if not lock.acquire():
                continue
            try:
                with self.transaction() as connection:
                    connection.execute(
                        "UPDATE lease SET hold = hold + ?, free_at = ? + hold + ? WHERE owner = ? AND free_at IS NULL",
                        (LOST_GRACE, self.now(), LOST_GRACE, owner),
                    )
                    connection.execute("DELETE FROM run WHERE owner = ?", (owner,))
            finally:
                lock.release()

    def close(self) -> None:
        self._connection.close()
        self._release_lock()

    def _release_lock(self) -> None:
        self._owner_lock.release()


class _Worker:
    """The thread that works on the database, and opens it when it can: one for all runs of this process."""

    _by_folder: ClassVar[dict[Path, _Worker]] = {}

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.users = 0
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "batch-issuer-quota")
        self._database: _Database | None = None

    @classmethod
    def acquire(cls, folder: Path, clock: Callable[[], float]) -> _Worker:
        """The worker of a folder, with one more user."""
        worker = cls._by_folder.setdefault(folder, cls(folder, clock))
        worker.users += 1
        return worker

    def submit(self, job: Callable[[_Database], T]) -> Future[T]:
        """Do a job after all those before it; it fails with one of the two exceptions of `Leases`."""
        return self._thread.submit(self._do, job)

    def _do(self, job: Callable[[_Database], T]) -> T:
        try:
            if self._database is None:
                self._database = _Database(self.folder, self._clock)
            return job(self._database)
        except (sqlite3.Error, OSError, NotImplementedError) as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> QuotaError:
        path = state_file(self.folder)
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return QuotaError(
                f"another process holds the lock of the quota's state file {path}",
                "end or continue a batch-issuer that was stopped midway, or use --quota process",
            )
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            tip = "delete it when no run is at work"
        else:
            tip = "see that its folder can be written and its disk has room"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return QuotaBrokenError(f"the quota cannot be shared with other runs, for its file {path}: {reason}", tip)

    def leave(self) -> None:
        """One user fewer; after the last one the database is closed."""
        self.users -= 1
        if not self.users:
            self._by_folder.pop(self.folder, None)
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error, OSError, NotImplementedError):
                self._database.close()


class SqliteLeases:
    """Leases of one run; see `Leases`.

    Args:
        organization: whose slots; a name that tells no secret.
        rate: L and P.
        folder: where the file is; the user's state folder by default.
        clock: seconds, monotonic, the same for all processes of the host.
    """

    def __init__(
        self,
        organization: str,
        rate: Rate,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = rate
        self._organization = organization
        self._run = uuid.uuid4().hex
        self._numbers = count(1)
        self._unwritten: list[tuple[str, dict[str, str | float]]] = []
        self._worker = _Worker.acquire(folder or state_folder(), clock)

    async def acquire(self, waiting: int) -> Answer:
        """See `Leases`."""
        lease = Lease(f"{self._run}-{next(self._numbers)}", asyncio.get_running_loop().time())
        asking = self._worker.submit(lambda database: self._acquire(database, lease, waiting))
        try:
            return await asyncio.wrap_future(asking)
        except asyncio.CancelledError:  # too late to withdraw the question, perhaps
            asking.add_done_callback(self._give_back)
            raise

    def _give_back(self, asked: Future[Answer]) -> None:
        if asked.cancelled() or asked.exception() is not None:
            return
        lease = asked.result().lease
        if lease is not None:
            with suppress(RuntimeError):  # the worker has left: it lapses like a dead run's
                self.release(lease, End.UNSENT)

    def _acquire(self, database: _Database, lease: Lease, waiting: int) -> Answer:
        with self._transaction(database) as connection:
            now = database.now()
            self._cool_down(connection, now)
            held = self._pairs(connection, "SELECT run, count(*) FROM lease WHERE organization = ? GROUP BY run")
            wanting = self._wanting(connection, now) | {self._run: waiting}
            gate = self._gate(connection, now)
            granted = not gate and may_acquire(self.rate.limit, self._run, held, wanting)
            if granted:
                connection.execute(
                    "INSERT INTO lease VALUES (?, ?, ?, ?, ?, NULL)",
                    (lease.id, self._organization, self._run, database.owner, cooling_time(self.rate)),
                )
            connection.execute(
                "REPLACE INTO run VALUES (?, ?, ?, ?, ?)",
                (self._run, self._organization, database.owner, waiting - granted, now),
            )
            (release,) = connection.execute(
                "SELECT min(free_at) FROM lease WHERE organization = ?", (self._organization,)
            ).fetchone()
        if granted:
            return Answer(lease, 0.0, 0.0, len(wanting))
        database.reap_dead_owners()
        wait = poll_delay(
            free=self.rate.limit - sum(held.values()),
            alone=held.keys() | wanting.keys() == {self._run},
            release=None if release is None else release - now,
        )
        return Answer(None, gate or wait, gate, len(wanting))

    def _pairs(self, connection: sqlite3.Connection, query: str, *more: object) -> dict[str, int]:
        return dict(connection.execute(query, (self._organization, *more)).fetchall())

    def _cool_down(self, connection: sqlite3.Connection, now: float) -> None:
        """Free what is due, of other organizations too: nothing is left behind for good."""
        connection.execute("DELETE FROM lease WHERE free_at <= ?", (now,))
        connection.execute("DELETE FROM gate WHERE opens_at <= ?", (now,))
        # Of another boot: it counts as just taken.
        connection.execute("UPDATE lease SET free_at = ?1 + hold WHERE free_at > ?1 + hold", (now,))
        connection.execute("UPDATE gate SET opens_at = ?1 + seconds WHERE opens_at > ?1 + seconds", (now,))

    def _wanting(self, connection: sqlite3.Connection, now: float) -> dict[str, int]:
        return self._pairs(
            connection,
            "SELECT id, waiting FROM run WHERE organization = ? AND waiting > 0 AND asked_at BETWEEN ? AND ?",
            now - ACTIVE_FOR,
            now,
        )

    def _gate(self, connection: sqlite3.Connection, now: float) -> float:
        row = connection.execute("SELECT opens_at FROM gate WHERE organization = ?", (self._organization,)).fetchone()
        return max(0.0, row[0] - now) if row else 0.0

    def release(self, lease: Lease, end: End) -> None:
        """See `Leases`."""
        if end is End.UNSENT:
            self._later("DELETE FROM lease WHERE id = :lease", lease=lease.id)
        else:
            self._later(
                "UPDATE lease SET hold = :seconds, free_at = :now + :seconds WHERE id = :lease",
                lease=lease.id,
                seconds=hold_time(end, self.rate),
            )

    def close_gate(self, seconds: float) -> None:
        """See `Leases`."""
        self._later(
            """
            INSERT INTO gate VALUES (:organization, :now + :seconds, :seconds) ON CONFLICT (organization)
            DO UPDATE SET opens_at = excluded.opens_at, seconds = :seconds WHERE excluded.opens_at > opens_at
            """,
            organization=self._organization,
            seconds=seconds,
        )

    def _later(self, statement: str, **values: str | float) -> None:
        """Write it down soon; in the statement, ``:now`` is the time then."""

        def write(database: _Database) -> None:
            self._unwritten.append((statement, {"now": database.now(), **values}))
            if len(self._unwritten) == 1:  # else it waits for the lock, and once is enough: what comes next writes all
                with self._transaction(database):
                    pass

        self._worker.submit(write)

    @contextmanager
    def _transaction(self, database: _Database) -> Iterator[sqlite3.Connection]:
        """One that also writes what could not be written before."""
        with database.transaction() as connection:
            for statement, values in self._unwritten:
                connection.execute(statement, values)
            yield connection
        self._unwritten.clear()

    def is_valid(self, lease: Lease) -> bool:  # noqa: ARG002 - the protocol's
        """See `Leases`."""
        return True

    async def snapshot(self) -> Budget:
        """See `Leases`."""
        return await asyncio.wrap_future(self._worker.submit(self._snapshot))

    def _snapshot(self, database: _Database) -> Budget:
        database.reap_dead_owners()
        with self._transaction(database) as connection:
            now = database.now()
            self._cool_down(connection, now)
            slots = connection.execute(
                "SELECT free_at FROM lease WHERE organization = ? AND run != ? ORDER BY free_at",
                (self._organization, self._run),
            ).fetchall()
            wanting = self._wanting(connection, now)
            gate = self._gate(connection, now)
        cooling = tuple(free_at - now for (free_at,) in slots if free_at is not None)
        waiting = tuple(wants for run, wants in wanting.items() if run != self._run)
        return Budget(len(slots) - len(cooling), cooling, gate, waiting)

    async def close(self) -> None:
        """See `Leases`."""
        try:
            for _ in range(CLOSE_ATTEMPTS):
                try:
                    await asyncio.wrap_future(self._worker.submit(self._unregister))
                except QuotaBrokenError:
                    break
                except QuotaError:
                    continue
                break
        finally:
            self._worker.leave()

    def _unregister(self, database: _Database) -> None:
        with self._transaction(database) as connection:
            connection.execute("DELETE FROM run WHERE id = ?", (self._run,))
