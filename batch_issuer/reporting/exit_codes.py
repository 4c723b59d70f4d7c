"""What the process ends with. The only place that knows."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ..errors import BatchIssuerError, UsageError

if TYPE_CHECKING:
    from ..pipeline.endings import Ending

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_KEY_REFUSED = 3
EXIT_STOPPED_EARLY = 4
EXIT_SIGNAL = 128  # and the signal's number


def exit_code_of(error: BatchIssuerError) -> int:
    """The exit code of a command that ends with an error."""
    return EXIT_NOTHING_SENT if isinstance(error, UsageError) else EXIT_STOPPED_EARLY


def exit_code_of_ending(ending: Ending, *, complete: bool, moved: bool) -> int:
    """The exit code of an organization whose run ended.

    Args:
        ending: why.
        complete: whether every row has a good token.
        moved: whether the results got another name than they were to have.
    """
    from ..pipeline.endings import EndingKind  # noqa: PLC0415 - a mistyped flag is reported without it

    match ending.kind:
        case EndingKind.FINISHED if moved:
            return EXIT_STOPPED_EARLY
        case EndingKind.FINISHED:
            return EXIT_COMPLETE if complete else EXIT_ROWS_WITHOUT_TOKEN
        case EndingKind.KEY_REFUSED:
            return EXIT_KEY_REFUSED
        case EndingKind.INTERRUPTED:
            return EXIT_SIGNAL + (ending.signal or signal.SIGINT)
        case _:
            return EXIT_STOPPED_EARLY
