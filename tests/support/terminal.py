"""The command on a pseudo-terminal, as a person sees it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals like this")

UNCOLOURED = {"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": ""}


class Seen(NamedTuple):
    """An exit code, all that was written, and the lines that are left of it once the progress bar is gone."""

    code: int
    written: str
    lines: list[str]


def run_on_terminal(
    *arguments: object,
    columns: int = 80,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdout: Path | None = None,
) -> Seen:
    """Run the command on a terminal of 24 lines.

    columns: how wide it is.
    environ: further variables; without any, nothing is coloured.
    folder: where it runs.
    stdout: a file for stdout instead of the terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(stdout or os.dup(theirs), "wb") as out:  # noqa: PTH123 - it may be a descriptor
        process = subprocess.Popen(
            [sys.executable, "-m", "batch_issuer", *map(str, arguments)],
            stdin=theirs,
            stdout=out,
            stderr=theirs,
            cwd=folder,
            env={**os.environ, **UNCOLOURED, **(environ or {})},
        )
    os.close(theirs)
    data = b""
    with suppress(OSError):  # Linux reports so that the other end is closed
        while part := os.read(ours, 4096):
            data += part
    os.close(ours)
    written = data.decode().replace("\r\n", "\n")
    lines = re.sub(r"[^\n]*\r", "", written).splitlines()
    return Seen(process.wait(30), written, lines)
