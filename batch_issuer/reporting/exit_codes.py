"""The exit codes. Defined only here."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..pipeline.endings import Ending

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_UNAUTHORIZED = 3
EXIT_STOPPED_EARLY = 4
EXIT_SIGNAL = 128  # and the signal's number
EXIT_INTERRUPTED = EXIT_SIGNAL + signal.SIGINT

WORST_FIRST = (
    EXIT_SIGNAL + signal.SIGTERM,
    EXIT_INTERRUPTED,
    EXIT_SIGNAL + 1,  # SIGHUP, which Windows does not have
    EXIT_UNAUTHORIZED,
    EXIT_NOTHING_SENT,
    EXIT_STOPPED_EARLY,
    EXIT_ROWS_WITHOUT_TOKEN,
    EXIT_COMPLETE,
)
"""All exit codes: stopped by a signal; to be fixed by a person; resumed by ``retry``; some rows; complete."""


def severity(code: int) -> int:
    """A key to sort exit codes by, the worst first; an unknown code is as bad as the worst."""
    return WORST_FIRST.index(code) if code in WORST_FIRST else 0


def worst(codes: Iterable[int]) -> int:
    """The exit code of several organizations."""
    return min(codes, key=severity, default=EXIT_COMPLETE)


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that ends with an error."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_NOTHING_SENT if isinstance(error, UsageError) else EXIT_STOPPED_EARLY


def exit_code_of_ending(ending: Ending, *, complete: bool, moved: bool) -> int:
    """The exit code of an organization whose run ended.

    Args:
        ending: why it ended.
        complete: whether every row has a valid login token.
        moved: whether the results file has another name than intended.
    """
    from ..pipeline.endings import EndingKind  # noqa: PLC0415 - a mistyped flag is reported without it

    match ending.kind:
        case EndingKind.FINISHED if moved:
            return EXIT_STOPPED_EARLY
        case EndingKind.FINISHED:
            return EXIT_COMPLETE if complete else EXIT_ROWS_WITHOUT_TOKEN
        case EndingKind.UNAUTHORIZED:
            return EXIT_UNAUTHORIZED
        case EndingKind.INTERRUPTED:
            return EXIT_SIGNAL + ending.signal if ending.signal else EXIT_INTERRUPTED
        case _:
            return EXIT_STOPPED_EARLY
