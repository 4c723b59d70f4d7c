"""Leases in a small SQLite file, shared by the processes of one user on one host.

Each call is one transaction, by the rules of `leases`. Times are those of the monotonic clock, which all processes of a
host share and which is never set. It starts over at a reboot: slots that would cool until a time too far ahead are from
before the reboot and count as just taken; all others would be free by now anyway.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from ..errors import QuotaBrokenError, QuotaError
from .leases import ACTIVE_FOR, Answer, Budget, End, Lease, cooling_time, hold_time, may_acquire, poll_delay
from .sqlite_database import Worker, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from ..settings.run_settings import Rate
    from .sqlite_database import Connection, Database

CLOSE_ATTEMPTS = 3
"""Attempts to write the rest at the end; after that, leases lapse like those of a dead run."""


class SqliteLeases:
    """Leases of one run; see `Leases`.

    Args:
        organization: identifies the organization, without revealing a secret.
        rate: L and P.
        folder: where the file is; the user's state folder by default.
        clock: monotonic, in seconds, the same for all processes of the host.
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
        self._worker = Worker.acquire(folder or state_folder(), clock)

    async def acquire(self, waiting: int) -> Answer:
        """See `Leases`."""
        lease = Lease(f"{self._run}-{next(self._numbers)}", asyncio.get_running_loop().time())
        request = self._worker.submit(lambda database: self._acquire(database, lease, waiting))
        try:
            return await asyncio.wrap_future(request)
        except asyncio.CancelledError:  # the slot may be granted nevertheless
            request.add_done_callback(self._give_back)
            raise

    def _give_back(self, request: Future[Answer]) -> None:
        if request.cancelled() or request.exception() is not None:
            return
        lease = request.result().lease
        if lease is not None:
            with suppress(RuntimeError):  # the worker is closed: the lease lapses like that of a dead run
                self.release(lease, End.UNSENT)

    def _acquire(self, database: Database, lease: Lease, waiting: int) -> Answer:
        with self._transaction(database) as connection:
            now = database.now()
            self._free_cooled(connection, now)
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

    def _pairs(self, connection: Connection, query: str, *more: object) -> dict[str, int]:
        return dict(connection.execute(query, (self._organization, *more)).fetchall())

    def _free_cooled(self, connection: Connection, now: float) -> None:
        """Free cooled slots and open gates, of other organizations too, so that the file does not grow."""
        connection.execute("DELETE FROM lease WHERE free_at <= ?", (now,))
        connection.execute("DELETE FROM gate WHERE opens_at <= ?", (now,))
        # From before a reboot: it counts as just taken.
        connection.execute("UPDATE lease SET free_at = :now + hold WHERE free_at > :now + hold", {"now": now})
        connection.execute("UPDATE gate SET opens_at = :now + seconds WHERE opens_at > :now + seconds", {"now": now})

    def _wanting(self, connection: Connection, now: float) -> dict[str, int]:
        return self._pairs(
            connection,
            "SELECT id, waiting FROM run WHERE organization = ? AND waiting > 0 AND asked_at BETWEEN ? AND ?",
            now - ACTIVE_FOR,
            now,
        )

    def _gate(self, connection: Connection, now: float) -> float:
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
        """Execute a statement soon; ``:now`` is the time of execution."""

        def write(database: Database) -> None:
            self._unwritten.append((statement, {"now": database.now(), **values}))
            if len(self._unwritten) == 1:  # otherwise the next transaction writes all
                with self._transaction(database):
                    pass

        self._worker.submit(write)

    @contextmanager
    def _transaction(self, database: Database) -> Iterator[Connection]:
        """A transaction that also writes pending updates."""
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

    def _snapshot(self, database: Database) -> Budget:
        database.reap_dead_owners()
        with self._transaction(database) as connection:
            now = database.now()
            self._free_cooled(connection, now)
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
            self._worker.release()

    def _unregister(self, database: Database) -> None:
        with self._transaction(database) as connection:
            connection.execute("DELETE FROM run WHERE id = ?", (self._run,))
