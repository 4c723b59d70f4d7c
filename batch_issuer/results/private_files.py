"""Files with secrets: created with mode 0600, never opened through a symbolic link, durable on request."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BOM = "\ufeff"
"""The start of every file: without it Excel reads UTF-8 as the local 8-bit encoding."""

LINE_END = "\r\n"
"""As in RFC 4180; it makes Python's csv writer quote cells that contain either of the two characters."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


def create_private(path: Path) -> int:
    """Create a file that only its owner can read, whatever the umask; returns its descriptor.

    Raises:
        FileExistsError: the name is in use, even if by a symbolic link.
        OSError: it cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(descriptor, 0o600)
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, at the descriptor's position.

    Raises:
        OSError: part of it may have been written.
    """
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])


def reserve(descriptor: int, size: int) -> None:
    """Reserve disk space for ``size`` bytes of a file, if the file system supports it.

    Raises:
        OSError: there is not enough disk space.
    """
    if not hasattr(os, "posix_fallocate") or not size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise


def sync_folder(folder: Path) -> None:
    """Make a rename durable; does nothing if folders cannot be opened (Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still under its name: it or its folder may have been removed or moved."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def exposure(file: Path) -> str:
    """A warning if other users can access private files in the folder of this one, else empty.

    Args:
        file: created with mode 0600.
    """
    if os.name == "nt":  # permissions are inherited there, modes do not count
        return ""
    folder = file.parent.absolute()
    try:
        file_mode, mode = file.lstat().st_mode, folder.stat().st_mode
        reachable = all(above.stat().st_mode & stat.S_IXOTH for above in (folder, *folder.parents))
    except OSError:
        return ""
    if file_mode & 0o077:
        return f"the file system of {folder} has no permissions: anyone who can access it can read the tokens"
    if reachable and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return f"all users can add and remove files in {folder}; use a folder that only you can write to"
    return ""
