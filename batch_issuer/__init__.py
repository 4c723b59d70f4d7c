"""Samsara driver login tokens for a whole depot at once. The library under the ``batch-issuer`` command.

``issue`` yields an outcome for each row of a roster as they come, ``issue_frame`` gives a pandas DataFrame back with
the ``auth_`` columns, ``issue_file`` writes a results file, ``retry_file`` finishes or refreshes one. The README shows
each at work.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from .errors import BatchIssuerError, ResultsError, RosterError, SettingsError, StorageError, UsageError
    from .jobs.job import Report, issue, issue_batch, issue_file, issue_frame, retry_file
    from .model import Identifier, IdentifierKind, Outcome, Status
    from .pipeline.endings import Ending, EndingKind, StopSignal
    from .pipeline.run import Run
    from .results import AUTH_COLUMNS, Batch, Destination, Validity, read_results
    from .roster import Roster
    from .sandbox import Sandbox
    from .settings.roster_options import RosterOptions
    from .settings.run_settings import Rate, Settings
    from .settings.secrets import Secret

__version__ = "0.1.0"

_HOMES = {
    "errors": ("BatchIssuerError", "ResultsError", "RosterError", "SettingsError", "StorageError", "UsageError"),
    "jobs.job": ("Report", "issue", "issue_batch", "issue_file", "issue_frame", "retry_file"),
    "model": ("Identifier", "IdentifierKind", "Outcome", "Status"),
    "pipeline.endings": ("Ending", "EndingKind", "StopSignal"),
    "pipeline.run": ("Run",),
    "results": ("AUTH_COLUMNS", "Batch", "Destination", "Validity", "read_results"),
    "roster": ("Roster",),
    "sandbox": ("Sandbox",),
    "settings.roster_options": ("RosterOptions",),
    "settings.run_settings": ("Rate", "Settings"),
    "settings.secrets": ("Secret",),
}

__all__ = [
    "AUTH_COLUMNS",
    "Batch",
    "BatchIssuerError",
    "Destination",
    "Ending",
    "EndingKind",
    "Identifier",
    "IdentifierKind",
    "Outcome",
    "Rate",
    "Report",
    "ResultsError",
    "Roster",
    "RosterError",
    "RosterOptions",
    "Run",
    "Sandbox",
    "Secret",
    "Settings",
    "SettingsError",
    "Status",
    "StopSignal",
    "StorageError",
    "UsageError",
    "Validity",
    "issue",
    "issue_batch",
    "issue_file",
    "issue_frame",
    "read_results",
    "retry_file",
]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> object:
    """Import on first use: ``batch-issuer --help`` must not wait for pandas and aiohttp."""
    from importlib import import_module  # noqa: PLC0415

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
