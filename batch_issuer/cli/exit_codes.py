"""What the process ends with."""

from __future__ import annotations

from ..errors import BatchIssuerError, UsageError

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_KEY_REFUSED = 3
EXIT_STOPPED_EARLY = 4
EXIT_SIGNAL = 128  # and the signal's number


def exit_code_of(error: BatchIssuerError) -> int:
    """The exit code of a command that ends with an error."""
    return EXIT_NOTHING_SENT if isinstance(error, UsageError) else EXIT_STOPPED_EARLY
