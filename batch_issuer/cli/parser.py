"""The flags and their help. Parsing changes nothing and imports nothing heavy."""

from __future__ import annotations

import argparse
import os
import re
import sys

from .. import __version__
from ..errors import SettingsError
from ..settings.kinds import FILE, SWITCH, TIME, WHOLE, Kind
from ..settings.options import GROUPS, OPTIONS, given
from .help_texts import EXAMPLES, NOTES

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

SANDBOX_LATENCY = (0.05, 0.15)
"""Seconds that a request to the built-in sandbox takes, about the same as with Samsara."""

_HELP_OF_RETRY = {"overwrite": "use RESULTS as it is; the journal of an interrupted run is set aside"}


class _Parser(argparse.ArgumentParser):
    """Reports errors with a hint: the flag or command that was probably meant, how a value is written, or the help."""

    def parse_known_args(  # type: ignore[override]  # it takes no other namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        arguments = list(sys.argv[1:] if args is None else args)
        self._check_flags(arguments)
        found, more = super().parse_known_args(arguments, namespace)
        if more:
            raise SettingsError(f"unexpected argument {_masked(more[0])!r}", self._see_help)
        return found, more

    def _check_flags(self, arguments: list[str]) -> None:
        """Report a misspelled flag first: argparse would take its value for a ROSTER, or miss one."""
        known = self._option_string_actions
        for argument in arguments:
            if argument == "--" or (self.has_commands and not argument.startswith("-")):
                return
            name = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
            if re.fullmatch(r"--?[A-Za-z].*", name) and " " not in name and name not in known:
                flag = _masked(name if argument.startswith("--") else argument)
                raise SettingsError(f"{self.name} has no flag {flag}", self._did_you_mean(name, known))

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - as argparse declares it
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:  # noqa: SLF001
            hint = self._did_you_mean(value, action.choices)
            raise SettingsError(f"{_masked(value)!r} is not a {self.prog} command", hint)
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """Report an error of argparse in our words."""
        if match := re.fullmatch(r"argument (\S+): not allowed with argument (\S+)", message):
            raise SettingsError(f"{match[2]} and {match[1]} cannot be used together", "leave out one of them")
        if match := re.fullmatch(r"argument (?:\S+/)?(\S+): expected one argument", message):
            (action,) = (action for action in self._actions if match[1] in action.option_strings)
            raise SettingsError(f"{match[1]} needs a value", f"write it as {match[1]} {action.metavar}")
        if match := re.match(r"argument (?:\S+/)?(\S+): ignored explicit argument", message):
            raise SettingsError(f"{match[1]} takes no value", self._see_help)
        if match := re.fullmatch(r"the following arguments are required: (.+)", message):
            raise SettingsError(f"{self.name} needs {match[1]}", self._see_help)
        raise SettingsError(_masked(message), self._see_help)

    @property
    def name(self) -> str:
        """How messages call the command."""
        return self.prog.rpartition(" ")[2]

    @property
    def has_commands(self) -> bool:
        """Whether this is the parser of the whole command line."""
        return self._subparsers is not None

    @property
    def _see_help(self) -> str:
        return f"see {self.prog} --help"

    def _did_you_mean(self, text: str, known: Iterable[str]) -> str:
        from difflib import get_close_matches

        names = {name.lstrip("-"): name for name in known}
        found = get_close_matches(text.lstrip("-"), names, 1)
        return f"did you mean {names[found[0]]}? See {self.prog} --help" if found else self._see_help


def _masked(text: str) -> str:
    """Text that may quote an address, without its password."""
    text = re.sub(r"(://)\S*@", r"\1***@", text)
    return re.sub(r"(password=)[^\s&]*", r"\1***", text)


def _help_width() -> int:
    """80 columns, as the texts are written, or fewer on a narrow terminal."""
    try:
        return min(80, max(40, os.get_terminal_size(1).columns))
    except (OSError, ValueError):
        return 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Writes ``-o, --output OUT`` on every Python version, so that the snapshots are the same."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=_help_width())

    def _split_lines(self, text: str, width: int) -> list[str]:
        from textwrap import wrap

        return wrap(text, width, break_on_hyphens=False)

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
        f"spreadsheet in, a results spreadsheet out, within the API's quota.\n\n{EXAMPLES['']}",
        epilog=NOTES[""],
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batch-issuer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    def add(name: str, usage: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            prog=f"batch-issuer {name}",
            usage=f"batch-issuer {usage}",
            help=text,
            description=f"{text[0].upper()}{text[1:]}.\n\n{EXAMPLES.get(name, '')}",
            epilog=NOTES.get(name),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    _add_roster(add("check", "check [ROSTER] [options]", "check a roster, request nothing"))
    _add_roster(add("issue", "issue [ROSTER] [-o OUT] [options]", "issue a token for every driver of a roster"))
    _add_results(add("retry", "retry RESULTS [options]", "finish or renew a results file in place"))
    status = add("status", "status RESULTS [--json]", "show what is in a results file")
    _add_results(status)
    status.add_argument("--json", action="store_true", help="for scripts")
    _add_results(add("purge", "purge RESULTS", "blank expired tokens and their codes"))
    add("config", "config [options]", "show the settings that apply, and their sources")
    add("quota", "quota [options]", "show how much of the organization's quota is in use")
    _add_server(add("sandbox", "sandbox [--port N] [options]", "run the local test server"))
    manual = add("help", "help [TOPIC]", "show a page of the manual")
    manual.add_argument("topic", metavar="TOPIC", nargs="?", help="a page, or a command (default: list the pages)")
    for name, command in commands.choices.items():
        add_flags(command, name)
    return parser


def add_flags(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a command as flags, under their headings; None stands for one that is not given."""
    options = [option for option in OPTIONS.values() if name in option.commands]
    headings = {group: command.add_argument_group(group) for group in GROUPS if any(o.group == group for o in options)}
    exclusive: dict[tuple[str, ...], argparse._MutuallyExclusiveGroup] = {}
    for option in options:
        place: argparse._ActionsContainer = headings.get(option.group, command)
        if len(option.rivals) > 1:
            if option.rivals not in exclusive:
                exclusive[option.rivals] = place.add_mutually_exclusive_group()
            place = exclusive[option.rivals]
        flags = [option.short, option.flag] if option.short else [option.flag]
        text = _HELP_OF_RETRY.get(option.name, option.help) if name == "retry" else option.help
        if option.kind is SWITCH:
            place.add_argument(*flags, action="store_true", help=text)
        else:
            _add_value(place, flags, option.kind, text, metavar=option.metavar)


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


def _add_roster(command: argparse.ArgumentParser) -> None:
    text = "a CSV file or an Excel workbook; - for stdin (default: the one in the settings)"
    command.add_argument("roster", metavar="ROSTER", nargs="?", help=text)


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument("results", metavar="RESULTS", help="a file that issue wrote", type=FILE.of_text)


def _add_value(
    place: argparse._ActionsContainer,
    flags: list[str],
    kind: Kind,
    text: str,
    *,
    metavar: str = "",
    default: object = None,
) -> None:
    """Add a flag with a value of a kind."""
    place.add_argument(
        *flags,
        metavar=metavar or kind.metavar,
        help=text,
        action="append" if kind.repeated else "store",
        default=default,
        type=_reader(flags[-1], kind),
    )


def _reader(flag: str, kind: Kind) -> Callable[[str], object]:
    """Reads the values of a flag; errors name it."""

    def read(text: str) -> object:
        try:
            return kind.of_text(text)
        except SettingsError as error:
            raise SettingsError(f"{flag}: {_masked(error.message)}", error.hint) from None

    return read


def _add_server(sandbox: argparse.ArgumentParser) -> None:
    """The flags of the local test server. They belong to this command alone and are not settings."""

    def add(flag: str, kind: Kind, text: str, default: object = None) -> None:
        _add_value(sandbox, [flag], kind, text, default=default)

    add("--port", WHOLE, "port on 127.0.0.1 (default: any free one)", "0")
    add(
        "--limiter",
        Kind("NAME"),
        "fixed, sliding, sliding-strict, counter, counter-strict, bucket, gcra or none; strict ones count refused "
        "requests, too (default: sliding)",
        "sliding",
    )
    add("--limit", WHOLE, "requests per period (default: 100)", "100")
    add("--per", TIME, "period (default: 60s)", "60s")
    add("--burst", WHOLE, "burst of bucket (default: the limit) and gcra (default: 10)")
    sandbox.add_argument(
        "--no-retry-after", dest="retry_after", action="store_false", help="send 429s without a Retry-After"
    )
    add("--latency", Kind("A-B", of_text=_latency), "time a request takes (default: 50ms-150ms)", SANDBOX_LATENCY)
    add("--token-lifetime", TIME, "lifetime of issued tokens (default: 15m)", "15m")
    add("--fault", Kind("NAME=P", of_text=_fault, repeated=True), "a fault and its share", [])
    add("--script", Kind("LIST"), "the first replies, one by one", "")
    add("--seed", WHOLE, "make latency and faults repeatable")


def _latency(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    return TIME.of_text(low), TIME.of_text(high if dash else low)


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise SettingsError(f"{text!r} is not a valid fault", "write it as reset=0.05") from None
