"""Files that hold secrets: born with mode 0600, never opened through a symbolic link, durable when asked."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BOM = "\ufeff"
"""Begins every file: without it Excel takes UTF-8 for the local 8-bit encoding."""

LINE_END = "\r\n"
"""As in RFC 4180; with it Python's csv writer quotes cells that hold either of the two characters."""


def create_private(path: Path) -> int:
    """A descriptor of a new file for appending, readable by its owner only, whatever the umask.

    Raises:
        FileExistsError: there is something under that name, be it a symbolic link.
        OSError: it cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(descriptor, 0o600)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make a rename durable; does nothing where folders cannot be opened (Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
