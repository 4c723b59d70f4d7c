"""The file that takes the place of OUT: private from birth, with room reserved, put there in one step."""

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
    """Where the results are, and how many cells in them got an apostrophe, since a spreadsheet would have run them."""

    path: Path
    guarded_cells: int


class Replacement:
    """A file ``OUT.writing`` that is to take the place of OUT.

    Attributes:
        path: of OUT.
        new: of the file, while it is there.
        is_workbook: whether OUT is an Excel workbook, by its name; else it is CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new = path.with_name(path.name + ".writing")
        self.is_workbook = path.suffix.lower() == SUFFIX
        self._descriptor: int | None = None
        self._seen: tuple[int, ...] | None = None  # OUT's state when it was looked at

    def remember(self) -> None:
        """Note how OUT is: if it is otherwise in the end, somebody saved it meanwhile and it is not replaced."""
        self._seen = self._state()

    def _state(self) -> tuple[int, ...]:
        """What changes when somebody saves OUT; empty if it is not there."""
        try:
            found = self.path.lstat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def make_room(self, size: int) -> None:
        """Begin the file, with room for ``size`` bytes.

        Raises:
            OSError: it cannot be created, or there is no room.
        """
        reserve(self._created(), size)

    def _created(self) -> int:
        self.new.unlink(missing_ok=True)  # of a run that was killed
        self._descriptor = create_private(self.new)
        return self._descriptor

    def give_up(self) -> None:
        """Remove the file, if it is there."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)  # wherever the folder is by now
            is_there = is_at(self._descriptor, self.new)
            os.close(self._descriptor)
            self._descriptor = None
            with contextlib.suppress(OSError):
                if is_there:
                    self.new.unlink()

    def put(self, tables: Iterable[pd.DataFrame], delimiter: str) -> Published:
        """Fill it with the slices of a table, flush it, and put it in the place of OUT in one step.

        Where OUT cannot be replaced, or was changed meanwhile, it gets a free name next to it.

        Raises:
            StorageError: it could not be written; OUT is as it was.
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
                f"{self.path} could not be written: {error.strerror}", "make room or correct the permissions"
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
    """The first name, counted from 1, under which there is nothing beside ``path``."""
    number = 1
    while os.path.lexists(free := path.with_name(pattern.format(number))):
        number += 1
    return free
