"""``OUT.partial``: the outcomes in completion order, durable from the moment they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING

from ..errors import StorageError
from .auth_columns import ROW_COLUMN, guarded
from .csv_writer import GuardedCells, slices
from .formulas import guard_cell
from .private_files import BOM, LINE_END, create_private, is_at, sync_folder, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ..model import Outcome
    from .batch import Batch

SYNC_DELAY = 0.010
"""Seconds after which a written line is flushed to the disk; the design allows 0.020."""


@lru_cache(maxsize=1)
def _flushers(_process: int) -> ThreadPoolExecutor:
    """Threads that flush the journals of a process; starting one each time would cost more than the flush.

    A forked process does not inherit its parent's threads.
    """
    return ThreadPoolExecutor(4, "batch-issuer-flush")


class _Text(list[str]):
    """Text from a csv writer; one writer serves all lines, because creating one costs as much as a line."""

    write = list.append


class Journal:
    """``OUT.partial``: each line is in the file (``write(2)``) when the call returns, and on the disk soon after.

    It starts with a line for every row, so that a run can be resumed without the roster or earlier results. Once these
    lines are on the disk, it takes its name, replacing the journal of an earlier run.

    Attributes:
        path: of the file.
        is_whole: after closing, whether everything written is on the disk under this name.
    """

    def __init__(self, path: Path, batch: Batch) -> None:
        """Create it.

        Raises:
            OSError: it cannot be written; an earlier file under its name is still there.
        """
        self.path = path
        self.is_whole = False
        self._batch = batch
        self._cells = GuardedCells(batch.cells)
        self._first_row = batch.row_numbers().start
        self._in_order: Callable[[Sequence[str]], tuple[str, ...]] = itemgetter(*batch.order)
        self._text = _Text()
        self._writer = csv.writer(self._text, delimiter=batch.delimiter, lineterminator=LINE_END)
        self._dirty = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._failure: StorageError | None = None
        header = [ROW_COLUMN, *(guard_cell(column) for column in batch.header)]
        temporary = self.temporary_path(path)
        temporary.unlink(missing_ok=True)  # left by a killed run
        self._descriptor = create_private(temporary)
        self._size = 0
        try:
            beginning = BOM.encode() + self._lines([header])
            for part in slices(len(batch)):
                outcomes = (batch.outcomes[row] for row in batch.row_numbers()[part])
                self._append(beginning + self._outcome_lines(outcomes))
                beginning = b""
            os.fsync(self._descriptor)
            self._take_name(temporary)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)

    def _append(self, data: bytes) -> None:
        write_all(self._descriptor, data)
        self._size += len(data)

    @staticmethod
    def temporary_path(path: Path) -> Path:
        """The name of a journal until its first lines are on the disk."""
        return path.with_name(f"{path.name}.writing")

    def _take_name(self, temporary: Path) -> None:
        try:
            temporary.replace(self.path)
        except PermissionError:  # Windows does not rename open files
            os.close(self._descriptor)
            temporary.replace(self.path)
            flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
            self._descriptor = os.open(self.path, flags)

    def record(self, *outcomes: Outcome) -> None:
        """Write outcomes, or the intent to send requests.

        Raises:
            StorageError: the lines could not be written; send no further requests.
        """
        self._write(self._outcome_lines(outcomes))

    def _outcome_lines(self, outcomes: Iterable[Outcome]) -> bytes:
        return self._lines([outcome.row, *self._row(outcome)] for outcome in outcomes)

    def _row(self, outcome: Outcome) -> tuple[str, ...]:
        cells = [*self._cells[outcome.row - self._first_row], *guarded(self._batch.auth_cells(outcome))]
        return self._in_order(cells)

    def _lines(self, rows: Iterable[Iterable[object]]) -> bytes:
        self._text.clear()
        self._writer.writerows(rows)
        return "".join(self._text).encode()

    def _write(self, data: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            self._append(data)
        except OSError as error:
            try:  # remove the torn line, so that the file stays valid CSV
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)
            except OSError:  # then the torn line stays the last one, which is not read
                self._failure = self._broken(error.strerror)
            raise self._broken(error.strerror) from None
        self._dirty.set()

    async def keep_synced(self) -> None:
        """Flush new lines to the disk soon after they are written, until cancelled; one caller at a time.

        Raises:
            StorageError: flushing failed, so lines since the last flush may be lost in a power cut; or the file is no
                longer under its name.
        """
        async with self._flushing:
            while True:
                await self._dirty.wait()
                await asyncio.sleep(SYNC_DELAY)
                await self._flush()

    async def _flush(self) -> None:
        self._dirty.clear()
        try:
            in_place = await asyncio.get_running_loop().run_in_executor(_flushers(os.getpid()), self._sync)
        except OSError as error:
            self._dirty.set()  # so that other callers fail, too
            raise self._broken(error.strerror) from None
        if not in_place:
            self._dirty.set()
            raise self._broken("it was removed or moved during the run")

    def _sync(self) -> bool:
        os.fsync(self._descriptor)
        return self.in_place()

    def in_place(self) -> bool:
        """Whether the file is still there under its name."""
        return is_at(self._descriptor, self.path)

    def _broken(self, why: str | None) -> StorageError:
        return StorageError(
            f"cannot write {self.path}: {why}",
            "free disk space or correct the permissions",
        )

    def close(self) -> None:
        """Flush and close; the file stays until it is published."""
        try:
            os.fsync(self._descriptor)
            self.is_whole = self.in_place()
        except OSError:
            self.is_whole = False
        os.close(self._descriptor)
