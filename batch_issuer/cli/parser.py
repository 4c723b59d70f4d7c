"""The flags and their help; parsing them changes nothing and imports nothing heavy."""

from __future__ import annotations

import argparse
import re

from .. import __version__
from ..errors import SettingsError
from ..settings.kinds import FILE, SWITCH, TIME, WHOLE, Kind
from ..settings.options import OPTIONS, given

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from typing import Any, NoReturn

SANDBOX_LATENCY = (0.05, 0.15)
"""Seconds that a request to the built-in sandbox takes: about what Samsara takes."""

_EPILOGS = {
    "": """\
examples:
  batch-issuer issue sample_inputs/depot_clean.csv --sandbox
                                  try it; no account and no API token needed
  batch-issuer check depot.csv    look a roster over, send nothing
  batch-issuer issue depot.csv    the main job: writes depot.results.csv
  batch-issuer retry depot.results.csv
                                  finish it, or renew what expires
  batch-issuer status depot.results.csv

The API token is read from the environment variable SAMSARA_API_TOKEN, or from
a file or a command (--token-file, --token-command). Settings may stand in
batch-issuer.toml, here or in your folder for settings; flags win.

exit codes:
  0  every row has a token        3  the API token was refused
  1  some rows have none          4  stopped early: network, quota, deadline, disk
  2  nothing was sent             130, 143  stopped by a signal
of several organizations, the first of 130, 143, 3, 2, 4, 1, 0 that one has
""",
    "check": """\
examples:
  batch-issuer check depot.csv
  batch-issuer check depot.csv && batch-issuer issue depot.csv
  batch-issuer check fahrer.xlsx --sheet Nord --map driver_id="Fahrer-Nr."

Exit code 0: every row can be sent; 1: some cannot; 2: the roster cannot be
used as a whole.
""",
    "issue": """\
examples:
  batch-issuer issue depot.csv                      writes depot.results.csv
  batch-issuer issue depot.csv -o safe/tonight.csv --overwrite
  batch-issuer issue depot.xlsx -o depot.results.xlsx
  batch-issuer issue depot.csv --region eu --burst 50
  batch-issuer issue - -o depot.results.csv < depot.csv
  batch-issuer issue depot.csv --org north          one organization of the settings
  batch-issuer issue --all --quiet                  all of them, for a timer

The results file holds login tokens: only you can read it, keep it so.
Ctrl-C stops in good order; a second Ctrl-C leaves at once. A run that was cut
off is gone on with, by this command or by retry.
""",
    "retry": """\
examples:
  batch-issuer retry depot.results.csv
  batch-issuer retry depot.results.csv --min-validity 10m

Rows that were sent before go by auth_identifier; for others give the same
--map, --external-key and --identify-by as for issue.

Asks for every row without a token that is valid long enough, and updates the
file in place; its other columns, order and separator stay. Cells that were
wrong may be corrected in it before. Exit code 0 also if nothing was to be done.
""",
    "purge": """\
example:
  batch-issuer purge depot.results.csv

Everything else in the file stays. Exit code 0; 2: this is not a results file.
""",
    "status": """\
examples:
  batch-issuer status depot.results.csv
  batch-issuer status depot.results.csv --json

Shows no token. Also shows what a run that is at work, or was cut off, has so
far. Exit code 0: every row has a token that is still valid; 1: some have not;
2: this is not a results file.
""",
    "config": """\
examples:
  batch-issuer config
  batch-issuer config --org north --rate 50/min

Takes the settings that it shows as flags, reads the same file and variables as
a run, and sends nothing. Of secrets it says whether they are set; a
--token-command is not run.
""",
    "quota": """\
examples:
  batch-issuer quota
  batch-issuer quota --region eu --quota redis://quota.example.com/0

Sends nothing. The quota belongs to the organization of the API token.
""",
    "sandbox": """\
examples:
  batch-issuer sandbox --port 8080
  batch-issuer sandbox --limiter fixed --limit 100 --per 6s --latency 50ms-150ms
  batch-issuer sandbox --fault reset=0.05 --fault 503=0.1
  batch-issuer sandbox --script 'ok*50,401*'        the key is revoked midway

Faults: any status from 400 to 599, or reset, lost, hang, slow, truncated,
html, badjson, shape. A driver ID that ends in 404404 is unknown to the
sandbox, one that ends in 400400 is deactivated.
""",
    "help": """\
examples:
  batch-issuer help                 list the pages
  batch-issuer help first-time
  batch-issuer help issue           same as batch-issuer issue --help
""",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"(://)\S*@", r"\1***@", message)  # it may quote an address with a password
        message = re.sub(r"(password=)[^\s&]*", r"\1***", message)
        raise SettingsError(message, f"see {self.prog} --help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Writes ``-o, --output OUT`` on every Python version, so that the README can quote it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = f" {action.metavar}" if action.nargs != 0 and action.metavar else ""
        return ", ".join(action.option_strings) + value


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="batch-issuer",
        usage="batch-issuer COMMAND ...",
        description="Samsara driver login tokens for a whole depot at once: a roster\n"
        "spreadsheet in, a results spreadsheet out, within the API's quota.",
        epilog=_EPILOGS[""],
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batch-issuer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def add(name: str, usage: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            prog=f"batch-issuer {name}",
            usage=f"batch-issuer {usage}",
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOGS[name],
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    check = add("check", "check ROSTER [options]", "look at a roster, send nothing")
    check.add_argument("roster", metavar="ROSTER", help=_ROSTER)
    issue = add("issue", "issue ROSTER [-o OUT] [options]", "issue a token for every driver of a roster")
    issue.add_argument("roster", metavar="ROSTER", nargs="?", help=f"{_ROSTER} (default: the one in the settings)")
    _add_results(add("retry", "retry RESULTS [options]", "finish or refresh a results file in place"))
    status = add("status", "status RESULTS [--json]", "show what is in a results file")
    _add_results(status)
    status.add_argument("--json", action="store_true", help="for scripts")
    _add_results(add("purge", "purge RESULTS", "blank the tokens that have expired, and their codes"))
    add("config", "config [options]", "show which settings apply, and where each is from")
    add("quota", "quota [options]", "show how much of the organization's quota is in use")
    _add_server(add("sandbox", "sandbox [--port N] [options]", "run the local stand-in for the API"))
    manual = add("help", "help [TOPIC]", "show a page of the manual")
    manual.add_argument("topic", metavar="TOPIC", nargs="?", help="a page, or a command (default: list the pages)")
    for name, command in commands.choices.items():
        add_flags(command, [option.name for option in OPTIONS.values() if name in option.commands])
    return parser


def add_flags(command: argparse.ArgumentParser, names: list[str]) -> None:
    """Give a command some of the options as flags; None stands for one that is not given."""
    exclusive: dict[tuple[str, ...], argparse._MutuallyExclusiveGroup] = {}
    for option in (OPTIONS[name] for name in names):
        place: argparse._ActionsContainer = command
        if len(option.rivals) > 1:
            if option.rivals not in exclusive:
                exclusive[option.rivals] = command.add_mutually_exclusive_group()
            place = exclusive[option.rivals]
        flags = [option.short, option.flag] if option.short else [option.flag]
        if option.kind is SWITCH:
            place.add_argument(*flags, action="store_true", help=option.help)
            continue
        place.add_argument(
            *flags,
            metavar=option.metavar,
            help=option.help,
            action="append" if option.kind.repeated else "store",
            **_values(option.kind),
        )


def flags_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options that were given as flags, by name."""
    flags = given({name: value for name, value in vars(options).items() if name in OPTIONS})
    for name in flags:
        if OPTIONS[name].kind.repeated:
            flags[name] = {kind: column for one in flags[name] for kind, column in one.items()}
    return flags


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands, by name."""
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
    return dict(action.choices)


_ROSTER = "the roster, a CSV file or an Excel workbook; - for stdin"


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("results", metavar="RESULTS", help="a file that issue wrote", **_values(FILE))


def _values(kind: Kind) -> dict[str, Any]:
    """How argparse reads values of a kind; errors say what was expected."""
    if kind.choices:
        return {"choices": list(kind.choices)}

    def convert(text: str) -> object:
        try:
            return kind.of_text(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(f"{error.message}; {error.hint}") from None

    return {"type": convert}


def _add_server(sandbox: argparse.ArgumentParser) -> None:
    """What the stand-in for the API shall be like. These flags are of its command alone, and no settings."""

    def add(name: str, kind: Kind, text: str, default: object = None) -> None:
        action = "append" if kind.repeated else "store"
        sandbox.add_argument(name, metavar=kind.metavar, default=default, help=text, action=action, **_values(kind))

    add("--port", WHOLE, "the port on 127.0.0.1 (default: any free one)", "0")
    add(
        "--limiter",
        Kind("NAME"),
        "fixed, sliding, sliding-strict, counter, counter-strict, bucket, gcra or none; strict ones count refused "
        "requests, too (default: sliding)",
        "sliding",
    )
    add("--limit", WHOLE, "requests per period (default: 100)", "100")
    add("--per", TIME, "the period (default: 60s)", "60s")
    add("--burst", WHOLE, "of bucket (default: the limit) and gcra (default: 10)")
    sandbox.add_argument(
        "--no-retry-after", dest="retry_after", action="store_false", help="429s without a Retry-After"
    )
    add("--latency", Kind("A-B", of_text=_latency), "time a request takes (default: 50ms-150ms)", SANDBOX_LATENCY)
    add("--token-lifetime", TIME, "of issued tokens (default: 15m)", "15m")
    add("--fault", Kind("NAME=P", of_text=_fault, repeated=True), "a fault and its share", [])
    add("--script", Kind("LIST"), "the first replies, one by one", "")
    add("--seed", WHOLE, "makes latency and faults repeatable")


def _latency(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    return TIME.of_text(low), TIME.of_text(high if dash else low)


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise SettingsError(f"{text!r} is not a fault", "write it as reset=0.05") from None
