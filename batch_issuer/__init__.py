"""Issue Samsara driver login tokens in bulk: the library behind the ``batch-issuer`` command.

``issue`` yields one outcome per row of a roster, ``issue_frame`` returns a pandas DataFrame with the ``auth_`` columns,
``issue_file`` writes a results file, ``retry_file`` finishes or renews one, ``issue_organizations`` issues for the
organizations of a settings file. ``manual/python.md`` has an example of each.

The house; each imports only from those above it, and inside a folder too:

- ``sandbox``: a local test server; imports nothing from the package
- ``errors``, ``wording``, ``locks``, ``garbage``, ``model``, ``hints``: the ground: exceptions, counts and times in
  words, locks, records, the table of causes and fixes
- ``settings``: one table of options → flags, TOML keys, precedence, ``config``; secrets by reference
- ``api``: one request → one reply; the only place that knows aiohttp's client
- ``quota``: when may the next request leave: leases in memory, SQLite, Redis; congestion control
- ``roster``: spreadsheet → checked drivers, before any token is requested
- ``results``: the results file: durable as it grows, published atomically, resumed
- ``pipeline``: drivers in, one outcome each out: run, attempts, verdicts, circuit breaker, backpressure, time limits
- ``jobs``: whole jobs: one roster or many organizations → runs → results; no ``argparse``, no printing
- ``reporting``: who watches a run: progress, event log, summary, notification, exit codes
- ``cli``: flags, screens, signals; the only place that prints or reads the environment

``manual`` contains the pages that ``batch-issuer help TOPIC`` prints.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from .api.client import Connections, open_connections
    from .errors import BatchIssuerError, QuotaError, ResultsError, RosterError, SettingsError, StorageError, UsageError
    from .jobs.job import issue, issue_file, issue_frame, retry_file
    from .jobs.organizations import issue_organizations
    from .jobs.records import JobResult, OrganizationJob
    from .model import Identifier, IdentifierKind, Outcome, Status
    from .pipeline.endings import Ending, EndingKind, StopSignal
    from .pipeline.events import Event, RowDone
    from .reporting.summary import OrganizationSummary, summarize
    from .results import AUTH_COLUMNS, read_results
    from .roster import Roster
    from .sandbox import Sandbox
    from .settings.file import SettingsFile, read_settings_file
    from .settings.roster_options import RosterOptions
    from .settings.run_settings import Rate, Settings
    from .settings.secrets import Secret

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "BatchIssuerError",
        "QuotaError",
        "ResultsError",
        "RosterError",
        "SettingsError",
        "StorageError",
        "UsageError",
    ),
    "api.client": ("Connections", "open_connections"),
    "jobs.job": ("issue", "issue_file", "issue_frame", "retry_file"),
    "jobs.records": ("JobResult", "OrganizationJob"),
    "jobs.organizations": ("issue_organizations",),
    "model": ("Identifier", "IdentifierKind", "Outcome", "Status"),
    "pipeline.endings": ("Ending", "EndingKind", "StopSignal"),
    "pipeline.events": ("Event", "RowDone"),
    "reporting.summary": ("OrganizationSummary", "summarize"),
    "results": ("AUTH_COLUMNS", "read_results"),
    "roster": ("Roster",),
    "sandbox": ("Sandbox",),
    "settings.file": ("SettingsFile", "read_settings_file"),
    "settings.roster_options": ("RosterOptions",),
    "settings.run_settings": ("Rate", "Settings"),
    "settings.secrets": ("Secret",),
}

__all__ = [
    "AUTH_COLUMNS",
    "BatchIssuerError",
    "Connections",
    "Ending",
    "EndingKind",
    "Event",
    "Identifier",
    "IdentifierKind",
    "JobResult",
    "OrganizationJob",
    "OrganizationSummary",
    "Outcome",
    "QuotaError",
    "Rate",
    "ResultsError",
    "Roster",
    "RosterError",
    "RosterOptions",
    "RowDone",
    "Sandbox",
    "Secret",
    "Settings",
    "SettingsError",
    "SettingsFile",
    "Status",
    "StopSignal",
    "StorageError",
    "UsageError",
    "issue",
    "issue_file",
    "issue_frame",
    "issue_organizations",
    "open_connections",
    "read_results",
    "read_settings_file",
    "retry_file",
    "summarize",
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
