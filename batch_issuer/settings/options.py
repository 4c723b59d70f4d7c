"""Every setting in one table: its flag, its key in the settings file, its variable, its kind, its default and its help.

The command line's parser, the reader of the settings file, the order of precedence, ``config`` and the command that
resumes a run are all read off ``OPTIONS``: a new setting is one entry.
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
    arguments,
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
        help: of the flag; blank if there is none.
        section: where in the settings file it may be: ``run`` (``[defaults]`` and organizations), ``defaults`` or
            ``organization`` (one of them only), ``roster``, ``report``; blank for what only one command is told.
        in_file: whether it is a key there; what is itself a secret is none.
        default: what applies where nobody sets it, as a text; blank for nothing.
        variable: of the environment, that sets it; blank for none.
        rivals: this and the settings that exclude it, being about the same: who sets one of them overrules them all.
        commands: whose flag it is.
        metavar: of the flag, if not that of the kind.
        short: another name of the flag.
        not_resumed: why the command that resumes a run does without it; blank if it needs it.
    """

    __slots__ = (
        "commands",
        "default",
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
        """What its environment variable sets it to; None if that is not set, or blank.

        Raises:
            SettingsError: that cannot be its value.
        """
        text = environ.get(self.variable, "").strip() if self.variable else ""
        try:
            return self.kind.of_text(text) if text else None
        except SettingsError as error:
            raise SettingsError(f"{self.variable}: {error.message}", error.hint) from None


# --- the table

_API = ("region", "base_url", "sandbox")
_TOKEN = ("api_token", "token_env", "token_file", "token_command")
_NOTIFY = ("notify", "notify_env", "notify_file")
_ROSTER = "check issue retry config"
_ONE = "issue retry config quota"
_ALL = "check issue retry config quota"
_RESULTS_NAMED = "retry is given the results file"
_NO_ROSTER = "retry reads no roster"
_ANEW = "it starts over"

OPTIONS = {
    option.name: option
    for option in (
        Option(
            "encoding",
            TEXT,
            "of a CSV file, if it is not Unicode, for example windows-1252",
            section="roster",
            commands="check issue config",
            not_resumed=_NO_ROSTER,
        ),
        Option(
            "sheet",
            TEXT,
            "of a workbook, if several could be the roster",
            section="roster",
            commands="check issue config",
            not_resumed=_NO_ROSTER,
        ),
        Option(
            "all",
            SWITCH,
            "issue for the rosters of all organizations in the settings, at once",
            section="",
            commands="issue",
            not_resumed=_RESULTS_NAMED,
        ),
        Option("roster_file", FILE, section="organization"),
        Option("organization_column", TEXT, section="defaults", default="organization"),
        Option(
            "output",
            PATTERN,
            "the results file, .csv or .xlsx; its name may hold {organization}, {date} and {roster} (default: "
            "depot.results.csv beside depot.csv)",
            short="-o",
            commands="issue config",
            not_resumed=_RESULTS_NAMED,
        ),
        Option(
            "overwrite",
            SWITCH,
            "replace an earlier results file that holds tokens, and ask for new ones for every row",
            section="",
            commands="issue",
            not_resumed=_ANEW,
        ),
        Option(
            "map",
            COLUMNS,
            "the column that holds the driver_id, external_id or username, if its name does not tell; without COLUMN: "
            "none does",
            section="roster",
            commands=_ROSTER,
        ),
        Option(
            "external_key",
            TEXT,
            "the key of external IDs that stand without one, such as payrollId",
            section="roster",
            commands=_ROSTER,
            metavar="KEY",
        ),
        Option(
            "identify_by",
            IDENTIFIERS,
            "go by this identifier where a row has several; several with commas, the preferred one first "
            "(default: driver_id,external_id,username)",
            section="roster",
            commands=_ROSTER,
        ),
        Option(
            "config",
            FILE,
            "the settings file; flags win (default: batch-issuer.toml here or in your folder for settings)",
            section="",
            commands=_ALL,
            metavar="F.toml",
        ),
        Option("org", TEXT, "one organization of the settings file", section="", commands=_ALL),
        Option(
            "restart",
            SWITCH,
            "do not go on with a run that was cut off, but keep aside what it left",
            section="",
            commands="issue retry",
            not_resumed=_ANEW,
        ),
        Option(
            "min_validity",
            TIME,
            "leave alone earlier tokens that are still valid for so long; renew at the end those that are no more",
            default="5m",
        ),
        Option(
            "region", one_of("us", "eu", "ca"), "where the organization is", default="us", rivals=_API, commands=_ONE
        ),
        Option("base_url", ADDRESS, "another address of the API", rivals=_API, commands=_ONE),
        Option("api_token", SECRET, in_file=False, variable="SAMSARA_API_TOKEN", rivals=_TOKEN),
        Option("token_env", VARIABLE, rivals=_TOKEN),
        Option("token_file", FILE, "the file that holds the API token, yours alone", rivals=_TOKEN, commands=_ONE),
        Option(
            "token_command",
            COMMAND,
            "the command that prints the API token, such as a password manager's",
            rivals=_TOKEN,
            commands=_ONE,
        ),
        Option(
            "sandbox",
            SWITCH,
            "use the built-in stand-in for the API; its tokens open nothing",
            section="",
            rivals=_API,
            commands="issue retry",
        ),
        Option("rate", RATE, "the organization's quota, as 5/s or 100/6s", default="100/min", commands=_ALL),
        Option(
            "burst",
            WHOLE,
            "most requests sent at once; a small one leaves room for other programs (default: all of the quota)",
            commands=_ROSTER,
        ),
        Option(
            "quota",
            QUOTA,
            "runs to share the quota with: process, host or redis://HOST/0",
            default="host",
            variable="BATCH_ISSUER_QUOTA",
            commands=_ONE,
        ),
        Option("timeout", TIME, "seconds for one request", default="30", metavar="S"),
        Option("concurrency", WHOLE, "most requests waiting for a reply", default="16"),
        Option("give_up_after", TIME, "stop after this long without progress", default="10m"),
        # To resume, a time of day stays what it is, and a time from the start counts from the new start.
        Option("deadline", DEADLINE, "be over by then, whatever happens: a time of day such as 06:00, or 45m from now"),
        Option("quiet", SWITCH, "say nothing unless something is wrong", section="", commands="issue retry"),
        Option("log_file", FILE, "write each event there; kept small by itself", section="report"),
        Option("log_format", one_of("text", "json"), "of the log file", section="report", default="text"),
        Option("summary", FILE, "write there what the run came to", section="report", metavar="F.json"),
        Option(
            "notify",
            SECRET,
            "tell this address at the end; better as BATCH_ISSUER_NOTIFY, it is a secret",
            section="report",
            in_file=False,
            variable="BATCH_ISSUER_NOTIFY",
            rivals=_NOTIFY,
        ),
        Option("notify_env", VARIABLE, section="report", rivals=_NOTIFY),
        Option("notify_file", FILE, section="report", rivals=_NOTIFY),
        Option("notify_on", one_of("failure", "always"), "when", section="report", default="failure"),
    )
}
"""By name, in the order of help texts and of ``config``."""


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those flags that were given: neither None nor False."""
    return {name: value for name, value in flags.items() if value is not None and value is not False}


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a caller writes them, each of its option's kind: a text is read as in the settings file.

    Raises:
        SettingsError: there is no such setting, or it cannot have that value.
    """
    names = [name for name, option in OPTIONS.items() if option.in_file and option.section not in ("organization", "")]
    for name in values:
        if name not in names:
            raise SettingsError(f"there is no setting {name[:40]!r}", f"there are {', '.join(names)}")
    return {
        name: OPTIONS[name].kind.of_text(value) if isinstance(value, str) else value for name, value in values.items()
    }


def keys(*sections: str) -> dict[str, Option]:
    """The options that a section of the settings file may set."""
    return {option.name: option for option in OPTIONS.values() if option.in_file and option.section in sections}


# --- the command that resumes a run


def resume_flags(flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """The flags with which ``batch-issuer retry RESULTS`` continues a run under the same conditions.

    What the environment sets and a flag can say becomes a flag, so that the command stands for itself. A secret does
    not: `resume_variables` names the variables that it needs.

    Args:
        flags: options by name, as they were given.
        environ: environment variables.
    """
    found = []
    for option, value in _resumed(flags, environ):
        if option.kind is SWITCH:
            found.append(option.flag)
        elif not option.kind.hides(value):
            for text in arguments(value):
                found += [f"{option.flag}={text}"] if text.startswith("-") else [option.flag, text]
    return found


def resume_variables(flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """The environment variables that must be set for that command, since their values are not to be shown."""
    hidden = [option for option, value in _resumed(flags, environ) if option.kind.hides(value)]
    return [option.variable for option in hidden if option.variable]


def _resumed(flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[tuple[Option, Any]]:
    """What the command needs. A run on the sandbox has a quota of its own, whatever the environment says."""
    flags = given(flags)
    environ = {} if "sandbox" in flags else environ
    options = [option for option in OPTIONS.values() if option.help and not option.not_resumed]
    values = [(option, flags.get(option.name, option.of_variable(environ))) for option in options]
    return [(option, value) for option, value in values if value is not None]
