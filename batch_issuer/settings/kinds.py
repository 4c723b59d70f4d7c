"""How settings are written: as text in flags and environment variables, and as TOML in the settings file.

Readers import what they need when they are called, which keeps ``--help`` fast.
"""

from __future__ import annotations

import re

from ..errors import SettingsError

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

PLACEHOLDERS = ("organization", "date", "roster")
"""What an output pattern may contain in braces."""

RESULTS_ENDINGS = (".csv", ".tsv", ".txt", ".xlsx")
"""Of results files, in any case."""


class Kind:
    """How a value is written.

    Attributes:
        metavar: its placeholder in help texts; blank for a switch, which takes no value.
        expected: what it must be, for messages about the settings file.
        of_text: reads a flag or an environment variable; raises SettingsError for invalid text.
        of_toml: reads a value of the settings file, given its folder; raises TypeError, ValueError or SettingsError
            for an invalid one.
        repeated: whether the flag may be given several times; the value is then one mapping of all of them.
        hides: whether a value contains a secret and must not be shown.
    """

    __slots__ = ("expected", "hides", "metavar", "of_text", "of_toml", "repeated")

    def __init__(
        self,
        metavar: str,
        expected: str = "",
        of_text: Callable[[str], Any] = str,
        of_toml: Callable[[object, Path], Any] | None = None,
        *,
        repeated: bool = False,
        hides: Callable[[object], bool] = lambda _value: False,
    ) -> None:
        self.metavar = metavar
        self.expected = expected
        self.of_text = of_text
        self.of_toml = of_toml or (lambda value, _folder: of_text(_text(value)))
        self.repeated = repeated
        self.hides = hides


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{text!r} is not a whole number", "write it in digits, such as 16") from None


def _whole_of_toml(value: object, _folder: Path) -> int:
    if type(value) is not int or abs(value) >= 10**9:
        raise TypeError
    return value


def _seconds(text: str) -> float:
    from .durations import seconds

    return seconds(text)


def _seconds_of_toml(value: object, _folder: Path) -> float:
    return _seconds(str(value) if type(value) in (int, float) else _text(value))


def _deadline(text: str) -> object:
    from .durations import deadline

    return deadline(text)


def _rate(text: str) -> object:
    from .run_settings import Rate

    return Rate.parse(text)


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


def _path_of_toml(value: object, folder: Path) -> Path:
    text = _text(value)
    if "\0" in text:
        raise ValueError
    try:
        return without_dots(folder / (_path(text).expanduser() if text.startswith("~") else text))
    except RuntimeError:  # unknown home folder
        raise ValueError from None


def without_dots(path: Path) -> Path:
    """The same path without ``..``; its last part may stay a symbolic link, which results never follow."""
    import os

    return _path(os.path.realpath(path.parent)) / path.name if ".." in path.parts else path


def _pattern_of_toml(value: object, folder: Path) -> str:
    check_pattern(_text(value))
    return str(_path_of_toml(value, folder))


def check_pattern(text: str) -> None:
    """Check the placeholders and the ending of an output pattern.

    Raises:
        SettingsError: one of them is unknown.
    """
    for name in re.findall(r"\{([^{}]*)\}", text):
        if name not in PLACEHOLDERS:
            raise SettingsError(
                f"unknown placeholder {f'{{{name[:40]}}}'!r} in the name of the results",
                "use {organization}, {date} or {roster}",
            )
    if problem := results_name_problem(text):
        raise SettingsError(*problem)


def results_name_problem(text: str) -> tuple[str, str] | None:
    """Why results cannot have this name, and what to do; None if they can."""
    name = re.split(r"[/\\]", text)[-1]
    if not name.strip("."):
        return f"{text or '.'} is a folder", "name a file, such as depot.results.csv"
    stem, dot, ending = name.rpartition(".")
    if stem and f"{dot}{ending}".lower() in RESULTS_ENDINGS:
        return None
    message = f"results cannot be written as {dot}{ending}" if stem else f"the results file {name} has no ending"
    return message, f"use a name that ends in {', '.join(RESULTS_ENDINGS[:-1])} or {RESULTS_ENDINGS[-1]}"


def _command_of_toml(value: object, _folder: Path) -> str | list[str]:
    return [_text(part) for part in value] if isinstance(value, list) and value else _text(value)


def _columns(text: str) -> object:
    from .roster_options import mapping

    return dict([mapping(text)])


def _columns_of_toml(value: object, _folder: Path) -> object:
    from .roster_options import kind_named

    if not isinstance(value, dict) or not all(isinstance(column, str) for column in value.values()):
        raise TypeError
    return {kind_named(kind): column for kind, column in value.items()}


def _kinds(text: str) -> object:
    from .roster_options import kinds

    return kinds(text)


def _contains_password(value: object) -> bool:
    from .addresses import may_hold_password

    return may_hold_password(str(value))


def _quota_of_toml(value: object, _folder: Path) -> str:
    text = _text(value)
    if _contains_password(text):
        raise SettingsError(
            "the address contains a password", "put the address into the environment variable BATCH_ISSUER_QUOTA"
        )
    return text


def one_of(*choices: str) -> Kind:
    """A kind with a few possible values."""
    quoted = [f'"{choice}"' for choice in choices]
    expected = f"{', '.join(quoted[:-1])} or {quoted[-1]}"

    def of_text(text: str) -> str:
        if text not in choices:
            raise SettingsError(f"{text!r} is not a valid choice", f"choose {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    def of_toml(value: object, _folder: Path) -> object:
        if value not in choices:
            raise ValueError
        return value

    return Kind("|".join(choices), expected, of_text, of_toml)


SWITCH = Kind("")
TEXT = Kind("NAME", "a text")
WHOLE = Kind("N", "a whole number", _whole, _whole_of_toml)
TIME = Kind("T", 'a time, as in "30s" or "5m"', _seconds, _seconds_of_toml)
DEADLINE = Kind("T", 'a time of day, as in "06:00", or a time, as in "45m"', _deadline)
RATE = Kind("RATE", 'a rate, as in "100/min"', _rate)
FILE = Kind("F", "the path of a file", _path, _path_of_toml)
PATTERN = Kind("OUT", 'a path, as in "results/{organization}-{date}.csv"', of_toml=_pattern_of_toml)
VARIABLE = Kind("NAME", "the name of an environment variable")
COMMAND = Kind("CMD", 'a command, as in "pass show samsara" or ["pass", "show", "samsara"]', of_toml=_command_of_toml)
ADDRESS = Kind("URL", 'an address, as in "https://api.samsara.com"', hides=_contains_password)
QUOTA = Kind(
    "WITH", '"process", "host" or the address of a Redis server', of_toml=_quota_of_toml, hides=_contains_password
)
SECRET = Kind("URL", hides=lambda _value: True)
COLUMNS = Kind(
    "KIND=COLUMN", 'a table, as in map = { driver_id = "Driver No." }', _columns, _columns_of_toml, repeated=True
)
IDENTIFIERS = Kind("KIND", 'a text, as in "username" or "username,driver_id"', _kinds)

# --- writers


def arguments(value: object) -> list[str]:
    """A value as text for flags: one, or one for each item of a mapping."""
    import shlex
    from datetime import time, timedelta

    from .durations import duration_argument

    match value:
        case dict():
            return [f"{kind.name.lower()}={column}" for kind, column in value.items()]
        case tuple():
            return [",".join(kind.name.lower() for kind in value)]
        case list():
            return [shlex.join(value)]
        case time():
            return [f"{value:%H:%M}"]
        case timedelta():
            return [duration_argument(value.total_seconds())]
        case float():
            return [duration_argument(value)]
    return [str(value)]


def for_people(kind: Kind, value: object) -> str:
    """A value as ``config`` shows it, with secrets masked."""
    from datetime import timedelta

    from .addresses import address_for_people
    from .durations import duration_argument

    match value:
        case None | {} if not value:
            return "none"
        case _ if kind is SECRET:
            return "set"
        case str() if kind in (ADDRESS, QUOTA) and value not in ("process", "host"):
            return address_for_people(value)
        case float():
            return duration_argument(value)
        case timedelta():
            return f"{duration_argument(value.total_seconds())} from the start"
    return arguments(value)[0]
