"""Errors before or around a run. A problem with one driver is not an exception but an outcome.

::

    BatchIssuerError            message: what happened, hint: what to do
    ├── UsageError              nothing was sent: fix the input, then start again     (exit code 2)
    │   ├── SettingsError       a flag, an environment variable or an argument
    │   ├── RosterError         the roster cannot be used as a whole
    │   └── ResultsError        the results file cannot be written, replaced or read
    ├── StorageError            an outcome could not be written during the run        (exit code 4)
    └── QuotaError              the shared quota cannot be reached at the moment      (exit code 4)
        └── QuotaBrokenError    … or cannot be shared at all; a run continues without it

No other exception leaves the package for bad input, a bad network or a bad disk.
"""


class BatchIssuerError(Exception):
    """The base of all errors of this package.

    Attributes:
        message: what happened and where (row, column, file or setting); one line, never a secret.
        hint: what to do; one line, may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BatchIssuerError):
    """Nothing was sent: the input must be fixed first."""


class SettingsError(UsageError):
    """A setting is missing, contradictory or invalid."""


class RosterError(UsageError):
    """The roster as a whole cannot be used: unreadable, empty, or without an identifier column."""


class ResultsError(UsageError):
    """The results file cannot be created, replaced or read."""


class StorageError(BatchIssuerError):
    """An outcome could not be written, so the run sent no further requests."""


class QuotaError(BatchIssuerError):
    """The shared quota cannot be reached at the moment."""


class QuotaBrokenError(QuotaError):
    """The quota cannot be shared this way."""
