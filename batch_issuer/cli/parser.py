"""The flags and their help; parsing them changes nothing and imports nothing heavy."""

from __future__ import annotations

import argparse
import re

from .. import __version__
from ..errors import SettingsError

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import time, timedelta
    from pathlib import Path
    from typing import NoReturn

    from ..model import IdentifierKind
    from ..settings.run_settings import Rate

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

Takes the flags of retry, reads the same file and variables, and sends nothing.
Of secrets it says whether they are set; a --token-command is not run.
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
    _add_roster(check)
    _add_columns(check)
    _add_file(check)
    _add_rate(check)

    issue = add("issue", "issue ROSTER [-o OUT] [options]", "issue a token for every driver of a roster")
    _add_roster(issue, optional=True)
    issue.add_argument(
        "--all", action="store_true", help="issue for the rosters of all organizations in the settings, at once"
    )
    issue.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the results file, .csv or .xlsx; its name may hold {organization}, {date} and {roster} (default: "
        "depot.results.csv beside depot.csv)",
    )
    issue.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier results file that holds tokens, and ask for new ones for every row",
    )
    _add_columns(issue)
    _add_file(issue)
    _add_run(issue)
    _add_report(issue)

    retry = add("retry", "retry RESULTS [options]", "finish or refresh a results file in place")
    retry.add_argument("results", metavar="RESULTS", type=_path, help="a file that issue wrote")
    _add_columns(retry)
    _add_file(retry)
    _add_run(retry)
    _add_report(retry)

    status = add("status", "status RESULTS [--json]", "show what is in a results file")
    status.add_argument("results", metavar="RESULTS", type=_path, help="a file that issue wrote")
    status.add_argument("--json", action="store_true", help="for scripts")

    purge = add("purge", "purge RESULTS", "blank the tokens that have expired, and their codes")
    purge.add_argument("results", metavar="RESULTS", type=_path, help="a file that issue wrote")

    config = add("config", "config [options]", "show which settings apply, and where each is from")
    _add_columns(config)
    _add_file(config)
    _add_run(config)
    _add_report(config)

    quota = add("quota", "quota [options]", "show how much of the organization's quota is in use")
    _add_file(quota)
    _add_where(quota)
    _add_rate(quota, burst=False)
    _add_quota(quota)

    _add_server(add("sandbox", "sandbox [--port N] [options]", "run the local stand-in for the API"))
    return parser


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands, by name."""
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
    return dict(action.choices)


def _add_server(sandbox: argparse.ArgumentParser) -> None:
    """What the stand-in for the API shall be like."""
    sandbox.add_argument(
        "--port", metavar="N", type=_argument(_whole), default=0, help="the port on 127.0.0.1 (default: any free one)"
    )
    sandbox.add_argument(
        "--limiter",
        metavar="NAME",
        default="sliding",
        help="fixed, sliding, sliding-strict, counter, counter-strict, bucket, gcra or none; strict ones count refused "
        "requests, too (default: sliding)",
    )
    sandbox.add_argument(
        "--limit", metavar="N", type=_argument(_whole), default=100, help="requests per period (default: 100)"
    )
    sandbox.add_argument("--per", metavar="T", type=_argument(_seconds), default=60.0, help="the period (default: 60s)")
    sandbox.add_argument(
        "--burst", metavar="N", type=_argument(_whole), help="of bucket (default: the limit) and gcra (default: 10)"
    )
    sandbox.add_argument(
        "--no-retry-after", dest="retry_after", action="store_false", help="429s without a Retry-After"
    )
    sandbox.add_argument(
        "--latency",
        metavar="A-B",
        type=_argument(_latency),
        default=SANDBOX_LATENCY,
        help="time a request takes (default: 50ms-150ms)",
    )
    sandbox.add_argument(
        "--token-lifetime", metavar="T", type=_argument(_seconds), default=900.0, help="of issued tokens (default: 15m)"
    )
    sandbox.add_argument(
        "--fault", metavar="NAME=P", type=_argument(_fault), action="append", default=[], help="a fault and its share"
    )
    sandbox.add_argument("--script", metavar="LIST", default="", help="the first replies, one by one")
    sandbox.add_argument("--seed", metavar="N", type=_argument(_whole), help="makes latency and faults repeatable")


def _add_roster(command: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The roster, and how its file is to be read."""
    text = "the roster, a CSV file or an Excel workbook; - for stdin"
    if optional:
        command.add_argument("roster", metavar="ROSTER", nargs="?", help=f"{text} (default: the one in the settings)")
    else:
        command.add_argument("roster", metavar="ROSTER", help=text)
    command.add_argument(
        "--encoding", metavar="NAME", help="of a CSV file, if it is not Unicode, for example windows-1252"
    )
    command.add_argument("--sheet", metavar="NAME", help="of a workbook, if several could be the roster")


def _add_columns(command: argparse.ArgumentParser) -> None:
    """Which columns name drivers."""
    command.add_argument(
        "--map",
        metavar="KIND=COLUMN",
        type=_argument(_mapping),
        action="append",
        default=[],
        help="the column that holds the driver_id, external_id or username, if its name does not tell; without COLUMN: "
        "none does",
    )
    command.add_argument(
        "--external-key", metavar="KEY", help="the key of external IDs that stand without one, such as payrollId"
    )
    command.add_argument(
        "--identify-by",
        metavar="KIND",
        type=_argument(_kinds),
        help="go by this identifier where a row has several; several with commas, the preferred one first "
        "(default: driver_id,external_id,username)",
    )


def _add_file(command: argparse.ArgumentParser) -> None:
    """The settings file, and whose settings of it."""
    command.add_argument(
        "--config",
        metavar="F.toml",
        type=_path,
        help="the settings file; flags win (default: batch-issuer.toml here or in your folder for settings)",
    )
    command.add_argument("--org", metavar="NAME", help="one organization of the settings file")


def _add_run(command: argparse.ArgumentParser) -> None:
    """What ``issue`` and ``retry`` have in common."""
    command.add_argument(
        "--restart", action="store_true", help="do not go on with a run that was cut off, but keep aside what it left"
    )
    command.add_argument(
        "--min-validity",
        metavar="T",
        type=_argument(_seconds),
        help="leave alone earlier tokens that are still valid for so long; renew at the end those that are no more "
        "(default: 5m)",
    )
    where = _add_where(command)
    where.add_argument(
        "--sandbox", action="store_true", help="use the built-in stand-in for the API; its tokens open nothing"
    )
    _add_rate(command)
    _add_quota(command)
    command.add_argument(
        "--timeout", metavar="S", type=_argument(_seconds), help="seconds for one request (default: 30)"
    )
    command.add_argument(
        "--concurrency",
        metavar="N",
        type=_argument(_whole),
        help="most requests waiting for a reply (default: 16)",
    )
    command.add_argument(
        "--give-up-after",
        metavar="T",
        type=_argument(_seconds),
        help="stop after this long without progress (default: 10m)",
    )
    command.add_argument(
        "--deadline",
        metavar="T",
        type=_argument(_deadline),
        help="be over by then, whatever happens: a time of day such as 06:00, or 45m from now",
    )
    command.add_argument("--quiet", action="store_true", help="say nothing unless something is wrong")


def _add_report(command: argparse.ArgumentParser) -> None:
    """How a run that nobody watches tells what became of it."""
    command.add_argument("--log-file", metavar="F", type=_path, help="write each event there; kept small by itself")
    command.add_argument(
        "--log-format", choices=["text", "json"], metavar="text|json", help="of the log file (default: text)"
    )
    command.add_argument("--summary", metavar="F.json", type=_path, help="write there what the run came to")
    command.add_argument(
        "--notify", metavar="URL", help="tell this address at the end; better as BATCH_ISSUER_NOTIFY, it is a secret"
    )
    command.add_argument(
        "--notify-on", choices=["failure", "always"], metavar="failure|always", help="when (default: failure)"
    )


def _add_where(command: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--region", choices=["us", "eu", "ca"], metavar="us|eu|ca", help="where the organization is (default: us)"
    )
    where.add_argument("--base-url", metavar="URL", help="another address of the API")
    key = command.add_mutually_exclusive_group()
    key.add_argument("--token-file", metavar="F", type=_path, help="the file that holds the API token, yours alone")
    key.add_argument(
        "--token-command", metavar="CMD", help="the command that prints the API token, such as a password manager's"
    )
    return where


def _add_quota(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--quota",
        metavar="WITH",
        help="runs to share the quota with: process, host or redis://HOST/0 (default: host)",
    )


def _add_rate(command: argparse.ArgumentParser, *, burst: bool = True) -> None:
    command.add_argument(
        "--rate",
        metavar="RATE",
        type=_argument(_rate),
        help="the organization's quota, as 5/s or 100/6s (default: 100/min)",
    )
    if burst:
        command.add_argument(
            "--burst",
            metavar="N",
            type=_argument(_whole),
            help="most requests sent at once; a small one leaves room for other programs (default: all of the quota)",
        )


def _argument(read: Callable[[str], object]) -> Callable[[str], object]:
    """An argparse type whose error says what was expected."""

    def convert(text: str) -> object:
        try:
            return read(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(f"{error.message}; {error.tip}") from None

    return convert


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{text!r} is not a whole number", "write it in digits") from None


def _latency(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    return _seconds(low), _seconds(high if dash else low)


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise SettingsError(f"{text!r} is not a fault", "write it as reset=0.05") from None


# Those below import what reads an argument once there is one: --help does without.


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _seconds(text: str) -> float:
    from ..settings.durations import seconds

    return seconds(text)


def _deadline(text: str) -> time | timedelta:
    from ..settings.durations import deadline

    return deadline(text)


def _rate(text: str) -> Rate:
    from ..settings.run_settings import Rate

    return Rate.parse(text)


def _mapping(text: str) -> tuple[IdentifierKind, str]:
    from ..settings.roster_options import mapping

    return mapping(text)


def _kinds(text: str) -> tuple[IdentifierKind, ...]:
    from ..settings.roster_options import kinds

    return kinds(text)
