"""The SQLite file with this host's leases, the thread that uses it, and which processes are alive.

Each process holds a lock on a file of its own next to the database. The kernel releases the lock when the process dies,
but not while it is stopped. An unanswered lease of a live process never lapses; that of a dead one lapses like a lost
request's, from the time when the death was noticed.

The database is used on a thread of its own, so the event loop never waits for its lock.
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, TypeVar

from platformdirs import user_state_path

from ..errors import QuotaBrokenError, QuotaError
from ..locks import Lock
from .leases import LOST_GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

Connection = sqlite3.Connection

LOCK_WAIT = 1.0
"""Seconds to wait for another process's transaction, which takes well under a millisecond."""

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
    """The folder of the file."""
    return user_state_path("batch-issuer", appauthor=False)


def state_file(folder: Path) -> Path:
    """The file of this host; several hosts with different clocks may share a home folder."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) or "localhost"
    return folder / f"quota-{host}.sqlite3"


class Database:
    """The connection, and this process's owner lock. Used on one thread only, except for `owner`."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.owner = uuid.uuid4().hex
        self.now = clock
        self._folder = folder
        self._reaped_at = -1.0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._owner_lock = self._lock_of(self.owner)
        self._owner_lock.acquire()  # never waits: the name is unique
        try:
            self._connection = self._connect(state_file(folder))
        except BaseException:
            self._release_lock()
            raise

    def _lock_of(self, owner: str) -> Lock:
        return Lock(self._folder / f"run-{owner}.lock")

    def _connect(self, path: Path) -> Connection:
        with suppress(FileExistsError):  # do not open it: closing it would drop SQLite's locks
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # private from birth
        connection = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None)
        try:
            self._use_wal(connection)
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose leases, which are then useless
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: Connection) -> None:
        """Switch to WAL; wait while another process creates the file, which SQLite does not do for this statement."""
        give_up_at = time.monotonic() + LOCK_WAIT
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.01)
            else:
                return

    def _make_tables(self, connection: Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA_VERSION):
            raise sqlite3.DatabaseError("written by another version of batch-issuer")
        if version == 0:
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Commit at the end, or roll back if the block raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def reap_dead_owners(self) -> None:
        """Let the leases of dead processes lapse and delete their lock files, at most once a second."""
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
        """Close the file, and release the owner lock."""
        self._connection.close()
        self._release_lock()

    def _release_lock(self) -> None:
        self._owner_lock.release()


class Worker:
    """The thread that opens and uses the database, for all runs of this process."""

    _by_folder: ClassVar[dict[Path, Worker]] = {}

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.users = 0
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "batch-issuer-quota")
        self._database: Database | None = None

    @classmethod
    def acquire(cls, folder: Path, clock: Callable[[], float]) -> Worker:
        """The worker of a folder, for one more user."""
        worker = cls._by_folder.setdefault(folder, cls(folder, clock))
        worker.users += 1
        return worker

    def submit(self, job: Callable[[Database], T]) -> Future[T]:
        """Run a job after all earlier ones; it raises the exceptions of `Leases`."""
        return self._thread.submit(self._do, job)

    def _do(self, job: Callable[[Database], T]) -> T:
        try:
            if self._database is None:
                self._database = Database(self.folder, self._clock)
            return job(self._database)
        except (sqlite3.Error, OSError, NotImplementedError) as error:
            raise self._quota_error(error) from None

    def _quota_error(self, error: Exception) -> QuotaError:
        path = state_file(self.folder)
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return QuotaError(
                f"another process has locked the quota file {path}",
                "end or resume a suspended batch-issuer process, or use --quota process",
            )
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            hint = "delete the file while no run is active"
        else:
            hint = "check that its folder is writable and its disk has space"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return QuotaBrokenError(f"the quota cannot be shared with other runs: {path}: {reason}", hint)

    def release(self) -> None:
        """Remove one user; after the last one, the database is closed."""
        self.users -= 1
        if not self.users:
            self._by_folder.pop(self.folder, None)
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error, OSError, NotImplementedError):
                self._database.close()
