"""Counts, times and commands as text, the same in every message."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal


def duration_text(seconds: float) -> str:
    """A duration: ``3 s``, ``2 min 10 s``, ``1 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def amount(number: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def local(at: datetime) -> str:
    """A time in the local time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def utc_text(at: datetime | None, precision: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """ISO 8601 in UTC, truncated to the precision; blank for None."""
    return f"{at.astimezone(UTC).isoformat('T', precision)[:-6]}Z" if at else ""


def unexpected(error: BaseException | None) -> str:
    """A bug's exception without its text, which may contain a secret."""
    place = error.__traceback__ if error is not None else None
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place is not None else "?"
    return f"unexpected error ({type(error).__name__} at {where}); this is a bug"


def command_text(*arguments: str) -> str:
    """A command to copy; quoted for PowerShell and cmd on Windows, elsewhere for a POSIX shell."""
    if sys.platform == "win32":
        from subprocess import list2cmdline  # noqa: PLC0415 - for hints only

        return list2cmdline(arguments)
    else:  # noqa: RET505 - or mypy for Windows calls it unreachable
        return shlex.join(arguments)
