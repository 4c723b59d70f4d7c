"""``OUT.partial``: the results in completion order, durable as they come."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
from typing import TYPE_CHECKING

from ..errors import StorageError
from ..hints import Hint
from ..model import Outcome, Status
from .columns import AUTH_COLUMNS, ROW_COLUMN, auth_cells, guard_cell, guarded
from .files import BOM, LINE_END

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..model import Driver
    from ..roster import Roster

SYNC_DELAY = 0.010
"""Seconds after which a written line is flushed to the disk; the design allows 0.020."""


class Journal:
    """``OUT.partial``: each line is in the file (``write(2)``) when the call returns, and on the disk soon after."""

    def __init__(self, descriptor: int, path: Path, roster: Roster) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = 0
        self._cells = roster.frame.map(guard_cell).to_numpy()
        self._first_row = roster.row_numbers().start
        self._dirty = asyncio.Event()
        header = [guard_cell(str(column)) for column in roster.frame.columns]
        self._write([[ROW_COLUMN, *header, *AUTH_COLUMNS]], prefix=BOM)
        self.record(*roster.refused)

    def intend(self, driver: Driver, attempt: int) -> None:
        """Say that a request for this driver is about to leave.

        Raises:
            StorageError: the line could not be written; send nothing.
        """
        unknown, hint = Status.UNKNOWN, str(Hint.MAYBE_ISSUED)
        self.record(Outcome(driver.row, unknown, driver.identifier, error="sent", hint=hint, attempts=attempt))

    def record(self, *outcomes: Outcome) -> None:
        """Keep what rows came to.

        Raises:
            StorageError: the lines could not be written; send nothing more.
        """
        self._write(
            [outcome.row, *self._cells[outcome.row - self._first_row], *guarded(auth_cells(outcome))]
            for outcome in outcomes
        )

    def _write(self, rows: Iterable[Iterable[object]], prefix: str = "") -> None:
        buffer = io.StringIO(prefix)
        buffer.seek(0, io.SEEK_END)
        csv.writer(buffer, lineterminator=LINE_END).writerows(rows)
        data = buffer.getvalue().encode()
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # no torn line: the file stays valid CSV
                os.ftruncate(self._descriptor, self._size)
            raise self._broken(error) from None
        self._size += written
        self._dirty.set()

    async def keep_synced(self) -> None:
        """Flush to the disk what was written, soon after it was, until cancelled.

        Raises:
            StorageError: the disk refused; what was written since the last flush may be lost in a power cut.
        """
        while True:
            await self._dirty.wait()
            await asyncio.sleep(SYNC_DELAY)
            self._dirty.clear()
            try:
                await asyncio.to_thread(os.fsync, self._descriptor)
            except OSError as error:
                raise self._broken(error) from None

    def _broken(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path} could not be written: {error.strerror}",
            "make room on the disk or check its permissions, then run again",
        )

    def close(self) -> None:
        """Flush and close; the file stays until it is published."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)
