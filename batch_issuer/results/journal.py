"""``OUT.partial``: the results in completion order, durable as they come."""

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
    """Threads that wait for the disk, for all journals of a process: a new one each time costs more than the flush.

    A process that was forked has none of its parent's.
    """
    return ThreadPoolExecutor(4, "batch-issuer-flush")


class _Text(list[str]):
    """What a csv writer has written; one writer serves all lines, since making one costs as much as a line."""

    write = list.append


class Journal:
    """``OUT.partial``: each line is in the file (``write(2)``) when the call returns, and on the disk soon after.

    It begins with a line for every row, so that it needs neither the roster nor an earlier results file to be finished
    from; it takes its name, maybe from the journal of an earlier run, once these are on the disk.

    Attributes:
        path: of the file.
        is_whole: once it is closed, whether all that was written is on the disk under this name.
    """

    def __init__(self, path: Path, batch: Batch) -> None:
        """Begin it.

        Raises:
            OSError: it cannot be written; what was there under its name still is.
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
        self._torn: StorageError | None = None
        header = [ROW_COLUMN, *(guard_cell(column) for column in batch.header)]
        being_born = self.being_born(path)
        being_born.unlink(missing_ok=True)  # of a run that was killed here
        self._descriptor = create_private(being_born)
        self._size = 0
        try:
            beginning = BOM.encode() + self._lines([header])
            for part in slices(len(batch)):
                outcomes = (batch.outcomes[row] for row in batch.row_numbers()[part])
                self._append(beginning + self._outcome_lines(outcomes))
                beginning = b""
            os.fsync(self._descriptor)
            self._take_name(being_born)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            with contextlib.suppress(OSError):
                being_born.unlink()
            raise
        sync_folder(path.parent)

    def _append(self, data: bytes) -> None:
        write_all(self._descriptor, data)
        self._size += len(data)

    @staticmethod
    def being_born(path: Path) -> Path:
        """The name that a journal has until it is whole."""
        return path.with_name(f"{path.name}.writing")

    def _take_name(self, being_born: Path) -> None:
        try:
            being_born.replace(self.path)
        except PermissionError:  # Windows renames no file that is open
            os.close(self._descriptor)
            being_born.replace(self.path)
            flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
            self._descriptor = os.open(self.path, flags)

    def record(self, *outcomes: Outcome) -> None:
        """Keep what rows came to, or may come to.

        Raises:
            StorageError: the lines could not be written; send nothing more.
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
        if self._torn is not None:
            raise self._torn
        try:
            self._append(data)
        except OSError as error:
            try:  # no torn line: the file stays valid CSV
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)
            except OSError:  # then it is the last one, which is not read
                self._torn = self._broken(error.strerror)
            raise self._broken(error.strerror) from None
        self._dirty.set()

    async def keep_synced(self) -> None:
        """Flush to the disk what was written, soon after it was, until cancelled; of several callers, one at a time.

        Raises:
            StorageError: the disk refused, so what was written since the last flush may be lost in a power cut; or the
                file is no longer under its name.
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
            self._dirty.set()  # another caller shall find out, too
            raise self._broken(error.strerror) from None
        if not in_place:
            self._dirty.set()
            raise self._broken("it was removed or moved while the run was at work")

    def _sync(self) -> bool:
        os.fsync(self._descriptor)
        return self.in_place()

    def in_place(self) -> bool:
        """Whether the file is still there under its name."""
        return is_at(self._descriptor, self.path)

    def _broken(self, why: str | None) -> StorageError:
        return StorageError(
            f"{self.path} could not be written: {why}",
            "make room on the disk or check its permissions",
        )

    def close(self) -> None:
        """Flush and close; the file stays until it is published."""
        try:
            os.fsync(self._descriptor)
            self.is_whole = self.in_place()
        except OSError:
            self.is_whole = False
        os.close(self._descriptor)
