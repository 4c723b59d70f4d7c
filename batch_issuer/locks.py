"""A lock that the operating system releases when the process ends, however it ends."""

from __future__ import annotations

import errno
import io
import os
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

if TYPE_CHECKING:
    from pathlib import Path


class Lock:
    """A private file that exists while the lock is held; a file left by a dead process does not count as held.

    Args:
        path: of the file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: BaseFileLock = FileLock(path, timeout=0, thread_local=False, mode=0o600)
        self._held: os.stat_result | None = None

    def acquire(self, about: str = "") -> bool:
        """Acquire it without waiting; False if it is held elsewhere.

        Args:
            about: a description of the holder for other processes, one line.

        Raises:
            OSError: the file cannot be created or opened, or is a symbolic link.
        """
        try:
            with warnings.catch_warnings():  # a file system without locks: then the file itself is the lock
                warnings.simplefilter("ignore")
                self._lock.acquire()
            self._held = self._path.lstat()
        except Timeout:
            if not self._path.parent.is_dir() or not os.access(self._path.parent, os.W_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(self._path)) from None
            return False
        if about and not self._is_soft():  # a soft lock writes its own text into the file
            with suppress(OSError), self._open(os.O_WRONLY | os.O_TRUNC) as file:
                file.seek(1)  # Windows locks the first byte of a file
                file.write(f"{about}\n".encode())
        return True

    def _is_soft(self) -> bool:
        """Whether the file itself is the lock, because the file system has no locks.

        filelock 3 changes the lock's class in that case, filelock 4 gives it a ``pid``.
        """
        return isinstance(self._lock, SoftFileLock) or getattr(self._lock, "pid", None) is not None

    def holder(self) -> str:
        """The holder's description of itself; empty if unknown."""
        try:
            with self._open(os.O_RDONLY) as file:
                file.seek(1)
                about = (file.read(1000) or b"").decode(errors="replace").strip()
                return about if about.isprintable() else ""
        except OSError:
            return ""

    def _open(self, flags: int) -> io.FileIO:
        descriptor = os.open(self._path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        return io.FileIO(descriptor, "rb" if flags == os.O_RDONLY else "wb")

    def release(self) -> None:
        """Release it and remove the file: first, so that no other holder's is removed; afterwards on Windows."""
        if self._is_soft():
            self._lock.release()
            return
        try:
            if self._held is not None and os.path.samestat(self._path.lstat(), self._held):  # still this lock's file
                self._path.unlink()
        except PermissionError:
            self._lock.release()
            with suppress(OSError):
                self._path.unlink()
        except OSError:
            self._lock.release()
        else:
            self._lock.release()
        self._held = None
