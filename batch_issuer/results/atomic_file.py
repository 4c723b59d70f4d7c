"""The file that replaces OUT: private from the start, with disk space reserved, renamed over OUT in one step."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from ..errors import StorageError
from .csv_writer import finish, write_csv
from .private_files import create_private, is_at, reserve, sync_folder
from .xlsx_writer import SUFFIX, write_workbook

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd


class Published(NamedTuple):
    """The path of the results, and the number of cells that got an apostrophe so that no spreadsheet runs them."""

    path: Path
    guarded_cells: int


class Replacement:
    """A file ``OUT.writing`` that will replace OUT.

    Attributes:
        path: of OUT.
        new: of the file, while it exists.
        is_workbook: whether OUT is an Excel workbook by its name; otherwise it is CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new = path.with_name(path.name + ".writing")
        self.is_workbook = path.suffix.lower() == SUFFIX
        self._descriptor: int | None = None
        self._seen: tuple[int, ...] | None = None  # OUT's state when it was read

    def remember(self) -> None:
        """Record the state of OUT: if it has changed when the results are published, OUT is not replaced."""
        self._seen = self._state()

    def _state(self) -> tuple[int, ...]:
        """What changes when OUT is saved; empty if it does not exist."""
        try:
            found = self.path.lstat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def make_room(self, size: int) -> None:
        """Create the file, with ``size`` bytes of disk space.

        Raises:
            OSError: it cannot be created, or there is not enough disk space.
        """
        reserve(self._created(), size)

    def _created(self) -> int:
        self.new.unlink(missing_ok=True)  # left by a killed run
        self._descriptor = create_private(self.new)
        return self._descriptor

    def give_up(self) -> None:
        """Remove the file, if it exists."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)  # even if the folder was moved
            is_there = is_at(self._descriptor, self.new)
            os.close(self._descriptor)
            self._descriptor = None
            with contextlib.suppress(OSError):
                if is_there:
                    self.new.unlink()

    def put(self, tables: Iterable[pd.DataFrame], delimiter: str) -> Published:
        """Fill it with the slices of a table, flush it and rename it over OUT.

        If OUT cannot be replaced, or was changed meanwhile, the file gets a free name in the same folder.

        Raises:
            StorageError: it could not be written; OUT is unchanged.
        """
        try:
            descriptor = self._descriptor
            if descriptor is None or not is_at(descriptor, self.new):
                self.give_up()
                descriptor = self._created()
            guarded_cells = self._fill(descriptor, tables, delimiter)
            os.close(descriptor)
            self._descriptor = None
            path = self._take_name()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.new.unlink()
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}", "free disk space or correct the permissions"
            ) from None
        sync_folder(self.path.parent)
        return Published(path, guarded_cells)

    def _fill(self, descriptor: int, tables: Iterable[pd.DataFrame], delimiter: str) -> int:
        guarded_cells = 0
        if self.is_workbook:
            write_workbook(descriptor, tables)
        else:
            guarded_cells = write_csv(descriptor, tables, delimiter)
        finish(descriptor)
        return guarded_cells

    def _take_name(self) -> Path:
        if self._seen is None or self._seen == self._state():
            with contextlib.suppress(OSError):  # Windows, while another program has it open
                return self.new.replace(self.path)
        return self.new.rename(free_name(self.path, f"{self.path.stem}.{{}}{self.path.suffix}"))


def free_name(path: Path, pattern: str) -> Path:
    """The first unused name in the folder of ``path``; ``pattern`` takes a number, counted from 1."""
    number = 1
    while os.path.lexists(free := path.with_name(pattern.format(number))):
        number += 1
    return free
