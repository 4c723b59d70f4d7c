"""Every setting in one table: flag, key in the settings file, variable, kind, default and help.

The parser of the command line, the reader of the settings file, precedence, ``config`` and the command that resumes a
run all use ``OPTIONS``: a new setting is one entry.
"""

from __future__ import annotations

from ..errors import SettingsError
from .kinds import (
    ADDRESS,
    COLUMNS,
    COMMAND,
    DEADLINE,
    FILE,
    IDENTIFIERS,
    PATTERN,
    QUOTA,
    RATE,
    SECRET,
    SWITCH,
    TEXT,
    TIME,
    VARIABLE,
    WHOLE,
    Kind,
    one_of,
)

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Option:
    """One setting.

    Attributes:
        name: in the settings file; its flag is ``--name`` with hyphens.
        kind: how it is written.
        help: of the flag; blank if it has none.
        group: the heading of the flag in help texts, one of `GROUPS`; blank for none.
        section: where in the settings file it may be: ``run`` (``[defaults]`` and organizations), ``defaults`` or
            ``organization`` (one of them only), ``roster``, ``report``; blank if it belongs to a single command.
        in_file: whether it is a key there; a secret is not.
        default: the value if nobody sets it, as text; blank for none.
        variable: the environment variable that sets it; blank for none.
        rivals: this and the settings that exclude it: who sets one of them overrules them all.
        commands: those that have the flag.
        metavar: of the flag, if not that of the kind.
        short: another name of the flag.
        not_resumed: why the command that resumes a run does without it; blank if it needs it.
    """

    __slots__ = (
        "commands",
        "default",
        "group",
        "help",
        "in_file",
        "kind",
        "metavar",
        "name",
        "not_resumed",
        "rivals",
        "section",
        "short",
        "variable",
    )

    def __init__(  # noqa: PLR0913 - a record, but without the module that makes records
        self,
        name: str,
        kind: Kind,
        help: str = "",  # noqa: A002 - as argparse calls it
        *,
        group: str = "",
        section: str = "run",
        in_file: bool = True,
        default: str = "",
        variable: str = "",
        rivals: tuple[str, ...] = (),
        commands: str = "issue retry config",
        metavar: str = "",
        short: str = "",
        not_resumed: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = f"{help} (default: {default})" if help and default else help
        self.group = group
        self.section = section
        self.in_file = in_file and bool(section)
        self.default = default
        self.variable = variable
        self.rivals = rivals or (name,)
        self.commands = commands.split() if help else []
        self.metavar = metavar or kind.metavar
        self.short = short
        self.not_resumed = not_resumed

    @property
    def flag(self) -> str:
        """``--give-up-after``."""
        return f"--{self.name.replace('_', '-')}"

    def of_variable(self, environ: Mapping[str, str]) -> Any:  # noqa: ANN401 - of the option's kind
        """The value that its environment variable sets; None if that is unset or blank.

        Raises:
            SettingsError: it is not a valid value.
        """
        text = environ.get(self.variable, "").strip() if self.variable else ""
        try:
            return self.kind.of_text(text) if text else None
        except SettingsError as error:
            raise SettingsError(f"{self.variable}: {error.message}", error.hint) from None


# --- the table

_ROSTER, _RESULTS, _API, _PACE, _UNATTENDED = (
    "roster",
    "results",
    "API token and region",
    "pace",
    "unattended",
)
GROUPS = (_ROSTER, _RESULTS, _API, _PACE, _UNATTENDED)
"""The headings of help texts, in their order."""

_ADDRESS = ("region", "base_url", "sandbox")
_TOKEN = ("api_token", "token_env", "token_file", "token_command")
_NOTIFY = ("notify", "notify_env", "notify_file")
_RESULTS_NAMED = "retry is given the results file"
_NO_ROSTER = "retry reads no roster"
_STARTS_OVER = "it starts over"

OPTIONS = {
    option.name: option
    for option in (
        Option(
            "config",
            FILE,
            "settings file; flags override it (default: batch-issuer.toml here or in the user config directory)",
            section="",
            commands="check issue retry config quota",
            metavar="F.toml",
        ),
        Option(
            "org", TEXT, "one organization of the settings file", section="", commands="check issue retry config quota"
        ),
        Option(
            "all",
            SWITCH,
            "all organizations of the settings file, each with its own roster",
            group=_ROSTER,
            section="",
            commands="check issue",
            not_resumed=_RESULTS_NAMED,
        ),
        Option("roster_file", FILE, section="organization"),
        Option("organization_column", TEXT, section="defaults", default="organization"),
        Option(
            "encoding",
            TEXT,
            "encoding of a CSV file that is not Unicode, such as windows-1252",
            group=_ROSTER,
            section="roster",
            commands="check issue config",
            not_resumed=_NO_ROSTER,
        ),
        Option(
            "sheet",
            TEXT,
            "sheet of a workbook, if several could be the roster",
            group=_ROSTER,
            section="roster",
            commands="check issue config",
            not_resumed=_NO_ROSTER,
        ),
        Option(
            "map",
            COLUMNS,
            "column that contains the driver_id, external_id or username; KIND= for no column",
            group=_ROSTER,
            section="roster",
            commands="check issue retry config",
        ),
        Option(
            "external_key",
            TEXT,
            "key of external IDs that are written without one, such as payrollId",
            group=_ROSTER,
            section="roster",
            commands="check issue retry config",
            metavar="KEY",
        ),
        Option(
            "identify_by",
            IDENTIFIERS,
            "identifier to use if a row has several, or a list in order of preference "
            "(default: driver_id,external_id,username)",
            group=_ROSTER,
            section="roster",
            commands="check issue retry config",
        ),
        Option(
            "output",
            PATTERN,
            "results file, .csv, .tsv, .txt or .xlsx; its name may contain {organization}, {date} and {roster} "
            "(default: depot.results.csv next to depot.csv)",
            group=_RESULTS,
            short="-o",
            commands="issue config",
            not_resumed=_RESULTS_NAMED,
        ),
        Option(
            "overwrite",
            SWITCH,
            "start over: replace earlier results, set an interrupted run aside, and request a token for every row",
            group=_RESULTS,
            section="",
            commands="issue retry",
            not_resumed=_STARTS_OVER,
        ),
        Option(
            "min_validity",
            TIME,
            "keep tokens that stay valid for at least this long; renew the others at the end",
            group=_RESULTS,
            default="5m",
        ),
        Option(
            "region",
            one_of("us", "eu", "ca"),
            "region of the organization",
            group=_API,
            default="us",
            rivals=_ADDRESS,
            commands="issue retry config quota",
        ),
        Option(
            "base_url",
            ADDRESS,
            "another address of the API",
            group=_API,
            rivals=_ADDRESS,
            commands="issue retry config quota",
        ),
        Option("api_token", SECRET, in_file=False, variable="SAMSARA_API_TOKEN", rivals=_TOKEN),
        Option("token_env", VARIABLE, rivals=_TOKEN),
        Option(
            "token_file",
            FILE,
            "file that contains the API token, readable only by you",
            group=_API,
            rivals=_TOKEN,
            commands="issue retry config quota",
        ),
        Option(
            "token_command",
            COMMAND,
            "command that prints the API token, such as a password manager's",
            group=_API,
            rivals=_TOKEN,
            commands="issue retry config quota",
        ),
        Option(
            "sandbox",
            SWITCH,
            "try it on a local test server; no API token needed, and the tokens cannot be used to log in",
            group=_API,
            section="",
            rivals=_ADDRESS,
            commands="issue retry",
        ),
        Option(
            "rate",
            RATE,
            "quota of the organization, such as 5/s or 100/6s",
            group=_PACE,
            default="100/min",
            commands="check issue retry config quota",
        ),
        Option(
            "burst",
            WHOLE,
            "most requests sent at once; fewer leave room for other programs (default: the whole quota)",
            group=_PACE,
            commands="check issue retry config",
        ),
        Option(
            "quota",
            QUOTA,
            "where runs share the quota: process, host or redis://HOST/0",
            group=_PACE,
            default="host",
            variable="BATCH_ISSUER_QUOTA",
            commands="issue retry config quota",
        ),
        Option("timeout", TIME, "seconds that one request may take", group=_PACE, default="30", metavar="S"),
        Option("concurrency", WHOLE, "most requests waiting for a reply", group=_PACE, default="16"),
        Option("give_up_after", TIME, "stop after this long without progress", group=_UNATTENDED, default="10m"),
        # To resume, a time of day stays as it is; a time from the start counts from the new start.
        Option(
            "deadline", DEADLINE, "stop at this time: a time of day such as 06:00, or 45m from now", group=_UNATTENDED
        ),
        Option("quiet", SWITCH, "print problems only", group=_UNATTENDED, section="", commands="issue retry"),
        Option(
            "log_file",
            FILE,
            "write every event to this file, rotated at 10 MiB",
            group=_UNATTENDED,
            section="report",
        ),
        Option(
            "log_format",
            one_of("text", "json"),
            "format of the log file",
            group=_UNATTENDED,
            section="report",
            default="text",
        ),
        Option("summary", FILE, "write the result to this file", group=_UNATTENDED, section="report", metavar="F.json"),
        Option("notify", SECRET, section="report", in_file=False, variable="BATCH_ISSUER_NOTIFY", rivals=_NOTIFY),
        Option("notify_env", VARIABLE, section="report", rivals=_NOTIFY),
        Option("notify_file", FILE, section="report", rivals=_NOTIFY),
        Option("notify_on", one_of("failure", "always"), section="report", default="failure"),
    )
}
"""By name, in the order of help texts and of ``config``."""


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given: neither None nor False."""
    return {name: value for name, value in flags.items() if value is not None and value is not False}


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a caller writes them, each converted to its option's kind.

    Raises:
        SettingsError: there is no such setting, or it cannot have that value.
    """
    names = [name for name, option in OPTIONS.items() if option.in_file and option.section not in ("organization", "")]
    for name in values:
        if name not in names:
            raise SettingsError(f"no setting {name[:40]!r}", f"choose from {', '.join(names)}")
    return {
        name: OPTIONS[name].kind.of_text(value) if isinstance(value, str) else value for name, value in values.items()
    }


def keys(*sections: str) -> dict[str, Option]:
    """The options that a section of the settings file may set."""
    return {option.name: option for option in OPTIONS.values() if option.in_file and option.section in sections}
