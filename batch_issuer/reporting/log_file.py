"""A log file that several processes append to, and that is rotated when a process opens it."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ..locks import Lock
from ..results.private_files import write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_BYTES = 10 * 1024 * 1024
"""A file that has reached this size is rotated when it is opened."""

KEPT = 5
"""Older files that are kept: ``F.1`` is the latest, ``F.5`` the oldest."""


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be used, for a person."""
    if isinstance(error, ValueError):  # a NUL; the text differs between Python versions
        return "it is not a valid file name"
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)


class LogFile:
    """Appends lines to a file, each with one unbuffered write: a kill loses no line, and no lines are mixed up.

    A process that has the file open while another one rotates it continues in the same file, now ``F.1``.

    Args:
        path: the file, created readable only by its owner.
        on_trouble: called with one sentence if the file cannot be rotated, and once if lines cannot be written.

    Raises:
        OSError: the file cannot be opened, is a symbolic link or not an ordinary file.
        ValueError: the path is not a valid file name.
    """

    def __init__(self, path: Path, on_trouble: Callable[[str], None]) -> None:
        self._path = path
        self._on_trouble = on_trouble
        self._was_reported = False
        self._torn_at: int | None = None
        try:
            _rotate_if_full(path)
        except OSError as error:
            on_trouble(f"the log file {path} cannot be rotated: {reason(error)}; it keeps growing")
        self._descriptor = _open(path)
        self._look_back()

    def _look_back(self) -> None:
        """Note the size of a file whose last line is torn, after a kill or on a full disk.

        While another process is writing, its line may be incomplete without being torn.
        """
        self._torn_at = None
        if not _lock(self._descriptor, alone=True):
            return
        size = os.fstat(self._descriptor).st_size
        os.lseek(self._descriptor, max(0, size - 1), os.SEEK_SET)
        self._torn_at = None if os.read(self._descriptor, 1) in (b"", b"\n") else size
        _unlock(self._descriptor)

    def write(self, line: str) -> None:
        """Append a line, given without its line end; a failure is reported once, and later lines are tried again."""
        data = f"{line}\n".encode()
        try:
            found = os.fstat(self._descriptor)
            if not found.st_nlink:  # deleted, by a person or by many rotations
                self._reopen()
            elif found.st_size == self._torn_at:  # otherwise another process was about to finish the line
                data = b"\n" + data
            _lock(self._descriptor, alone=False)
            try:
                write_all(self._descriptor, data)
            finally:
                _unlock(self._descriptor)
        except OSError as error:
            self._report(error)
            with suppress(OSError):
                self._look_back()

    def _reopen(self) -> None:
        deleted, self._descriptor = self._descriptor, _open(self._path)
        os.close(deleted)
        self._look_back()

    def close(self) -> None:
        """Close the file; write nothing afterwards."""
        try:
            os.close(self._descriptor)
        except OSError as error:  # some file systems report a failed write only now
            self._report(error)

    def _report(self, error: OSError) -> None:
        if not self._was_reported:
            self._was_reported = True
            self._on_trouble(
                f"the log file {self._path} cannot be written: {reason(error)}; the run continues without it"
            )


if sys.platform == "win32":

    def _lock(_descriptor: int, *, alone: bool) -> bool:  # noqa: ARG001
        return True

    def _unlock(_descriptor: int) -> None:
        pass

else:
    import fcntl

    def _lock(descriptor: int, *, alone: bool) -> bool:
        """Show that this process is writing, or find out that none is (``alone``); never waits."""
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without such locks
            return True
        return True

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe must not wait
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


def _rotate_if_full(path: Path) -> None:
    """Rotate a full file, unless another process is doing so.

    Raises:
        OSError: a file cannot be renamed, or the lock cannot be taken.
    """
    if not _is_full(path):
        return
    lock = Lock(path.with_name(f"{path.name}.lock"))
    if lock.acquire():
        try:
            if _is_full(path):  # another process may have rotated it in between
                names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, KEPT + 1))]
                # Up to the first gap, so that repeated attempts do not lose the oldest.
                gap = next((number for number, name in enumerate(names) if not name.exists()), KEPT)
                for number in range(gap, 0, -1):
                    names[number - 1].replace(names[number])
        finally:
            lock.release()


def _is_full(path: Path) -> bool:
    try:
        found = path.lstat()
    except (OSError, ValueError):  # it does not exist, or opening it will fail too
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size >= MOST_BYTES
