"""What can go wrong before or around a run, as exceptions. Trouble with one driver is never one: it is an outcome.

::

    BatchIssuerError            message for a person, hint: what to do next
    ├── UsageError              nothing was sent: fix the input, then start again     (exit code 2)
    │   ├── SettingsError       a flag, an environment variable or an argument
    │   ├── RosterError         the roster cannot be used as a whole
    │   └── ResultsError        the results file cannot be written, replaced or read
    ├── StorageError            a row could not be kept while the run went on         (exit code 4)
    └── QuotaError              the shared quota cannot be reached for now            (exit code 4)
        └── QuotaBrokenError    … or cannot be shared at all; a run goes on alone

No other exception leaves the package for bad input, a bad network or a bad disk.
"""


class BatchIssuerError(Exception):
    """A problem told to a person.

    Attributes:
        message: what happened, to which row, file or setting; one line, never a secret.
        hint: what to do next; one line, may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BatchIssuerError):
    """Nothing was sent: the input has to be put right first."""


class SettingsError(UsageError):
    """A setting is missing, contradictory or not understood."""


class RosterError(UsageError):
    """The roster as a whole cannot be used: unreadable, empty, or without an identifier column."""


class ResultsError(UsageError):
    """The results file cannot be created, replaced or read."""


class StorageError(BatchIssuerError):
    """An outcome could not be written down, so the run stopped asking for more."""


class QuotaError(BatchIssuerError):
    """The quota that runs share cannot be reached for now."""


class QuotaBrokenError(QuotaError):
    """The quota cannot be shared that way at all."""
