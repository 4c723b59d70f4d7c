"""A log file that several processes append to, rotated when it is full."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from ..locks import Lock

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from datetime import datetime

    Value = str | int | float | datetime | None


MOST_BYTES = 10 * 1024 * 1024
"""Size of a file: the line that does not fit goes into a new one."""


KEPT = 5
"""Older files that are kept: ``F.1`` is the latest, ``F.5`` the oldest."""


def _is_at(descriptor: int, path: str) -> bool:
    """Whether an open file is still the one under its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def reason(error: BaseException | None) -> str:
    """Why a file cannot be used, for a person."""
    if isinstance(error, OSError):
        return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)
    return str(error)


class _Lines(io.TextIOWrapper):
    """A file where each line is one write that is never held back: a kill loses none, and no two are mixed up."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file, encoding="utf-8", newline="\n")
        self._file = file
        self._torn_at: int | None = None  # the size of the file when it was seen to end within a line

    def size(self) -> int:
        """In bytes, with what other processes wrote."""
        return os.fstat(self._file.fileno()).st_size

    def look_back(self) -> None:
        """Take note of half a line at the end, which a run left that was killed or had no room."""
        if size := self._file.seek(0, os.SEEK_END):
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self._torn_at = size

    def write(self, line: str, /) -> int:
        data = line.encode()
        if self._torn_at == self.size():  # else it was a line that another process was about to write
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        finally:
            if 0 < written < len(data):
                self._torn_at = self.size()
        return len(line)


class RotatedFile(RotatingFileHandler):
    """A file that several processes may write to: one of them rotates it, the others follow."""

    stream: _Lines

    def __init__(self, path: Path, on_trouble: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=MOST_BYTES, backupCount=KEPT, encoding="utf-8")
        self._path = path  # as people know it
        self._on_trouble = on_trouble
        self._was_told = False
        self.stream.look_back()

    def _open(self) -> _Lines:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe would be waited for
        descriptor = os.open(self.baseFilename, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not an ordinary file", self.baseFilename)
        return _Lines(io.FileIO(descriptor, "a+"))

    def _is_current(self) -> bool:
        return bool(self.stream) and not self.stream.closed and _is_at(self.stream.fileno(), self.baseFilename)

    def _follow(self) -> None:
        """Open the file that is under the name by now: another process, or a person, put the old one elsewhere."""
        if not self._is_current():
            old, self.stream = self.stream, self._open()
            if old:
                old.close()

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - the library's name
        """Whether the line does not fit any more, into the file that is current."""
        self._follow()
        size = self.stream.size()
        return 0 < self.maxBytes < size + len(f"{self.format(record)}\n".encode()) and size > 0

    def doRollover(self) -> None:  # noqa: N802
        """Rotate, unless another process does or did; the line is written wherever that leaves it."""
        lock = Lock(Path(f"{self.baseFilename}.lock"))
        try:
            if lock.acquire():
                try:
                    if self._is_current():  # the one that was found too large
                        super().doRollover()
                    else:
                        self._follow()
                finally:
                    lock.release()
        except OSError as error:
            self.maxBytes = 0  # no other try: each would move the older files on, and the oldest away
            self._on_trouble(f"the log file {self._path} cannot be rotated: {reason(error)}; it grows on")

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802
        """Tell it once; later lines are tried again."""
        self.tell(sys.exception())

    def tell(self, error: BaseException | None) -> None:
        """Report once that lines cannot be written."""
        if not self._was_told:
            self._was_told = True
            self._on_trouble(
                f"the log file {self._path} cannot be written: {reason(error)}; the run goes on without it"
            )
