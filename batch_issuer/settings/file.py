"""The settings file, ``batch-issuer.toml``: found, read strictly, every value of the kind that its key wants.

::

    [defaults]                what applies to every organization
    [roster]                  how rosters are read
    [report]                  log, summary, notification
    [organizations.north]     one organization: the keys of [defaults], its roster …
    [organizations.north.roster]  … and how that is read
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tomllib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_config_path

from ..errors import SettingsError
from .addresses import REGIONS
from .durations import deadline, seconds
from .roster_options import kind_named, kinds
from .run_settings import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE_NAME = "batch-issuer.toml"

PLACEHOLDERS = ("organization", "date", "roster")
"""What an output pattern may hold in braces."""

UNASSIGNED = "unassigned"
"""Stands for the organization of rows that name none of the settings."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file.

    Attributes:
        expected: what its value must be, for messages.
        read: makes the setting of the value; raises TypeError, ValueError or SettingsError if it cannot.
    """

    expected: str
    read: Callable[[Any, Path], Any]


def _text(value: object, _folder: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value


def _whole(value: object, _folder: Path) -> int:
    if type(value) is not int or abs(value) >= 10**9:
        raise TypeError
    return value


def _seconds(value: object, folder: Path) -> float:
    if type(value) in (int, float):
        value = str(value)
    return seconds(_text(value, folder))


def _region(value: object, _folder: Path) -> str:
    if value not in REGIONS:
        raise ValueError
    return str(value)


def _path(value: object, folder: Path) -> Path:
    if "\0" in _text(value, folder):
        raise ValueError
    try:
        return folder / Path(_text(value, folder)).expanduser()
    except RuntimeError:  # nobody's home
        raise ValueError from None


def _pattern(value: object, folder: Path) -> str:
    check_pattern(_text(value, folder))
    return str(_path(value, folder))


def _command(value: object, folder: Path) -> str | list[str]:
    if isinstance(value, list) and value:
        return [_text(part, folder) for part in value]
    return _text(value, folder)


def _columns(value: object, _folder: Path) -> dict[Any, str]:
    if not isinstance(value, dict) or not all(isinstance(column, str) for column in value.values()):
        raise TypeError
    return {kind_named(kind): column for kind, column in value.items()}


def _one_of(*choices: str) -> Callable[[Any, Path], str]:
    def read(value: object, _folder: Path) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return read


def _quota(value: object, folder: Path) -> str:
    text = _text(value, folder)
    if re.search(r"://[^/]*@|password=", text):
        raise SettingsError(
            "a password has no place in this file", "put the address into the environment variable BATCH_ISSUER_QUOTA"
        )
    return text


_A_TIME = 'a time, as in "30s" or "5m"'
_A_TEXT = "a text"

RUN_KEYS = {
    "region": Key('"us", "eu" or "ca"', _region),
    "base_url": Key('an address, as in "https://api.samsara.com"', _text),
    "token_env": Key("the name of an environment variable", _text),
    "token_file": Key("the path of a file", _path),
    "token_command": Key('a command, as in "pass show samsara" or ["pass", "show", "samsara"]', _command),
    "rate": Key('a rate, as in "100/min"', lambda value, folder: Rate.parse(_text(value, folder))),
    "burst": Key("a whole number", _whole),
    "quota": Key('"process", "host" or the address of a Redis server', _quota),
    "timeout": Key(_A_TIME, _seconds),
    "concurrency": Key("a whole number", _whole),
    "give_up_after": Key(_A_TIME, _seconds),
    "min_validity": Key(_A_TIME, _seconds),
    "deadline": Key(
        'a time of day, as in "06:00", or a time, as in "45m"', lambda value, at: deadline(_text(value, at))
    ),
    "output": Key('a path, as in "results/{organization}-{date}.csv"', _pattern),
}
"""What ``[defaults]`` and each organization may say of a run."""

DEFAULTS_KEYS = RUN_KEYS | {"organization_column": Key("the name of a roster's column", _text)}
ORGANIZATION_KEYS = RUN_KEYS | {"roster_file": Key("the path of its roster", _path)}

ROSTER_KEYS = {
    "map": Key('a table, as in map = { driver_id = "Fahrer-Nr." }', _columns),
    "external_key": Key(_A_TEXT, _text),
    "identify_by": Key('a text, as in "username" or "username,driver_id"', lambda value, at: kinds(_text(value, at))),
    "encoding": Key(_A_TEXT, _text),
    "sheet": Key(_A_TEXT, _text),
}

REPORT_KEYS = {
    "log_file": Key("the path of a file", _path),
    "log_format": Key('"text" or "json"', _one_of("text", "json")),
    "summary": Key("the path of a file", _path),
    "notify_env": Key("the name of an environment variable", _text),
    "notify_file": Key("the path of a file", _path),
    "notify_on": Key('"failure" or "always"', _one_of("failure", "always")),
}

ONLY_ONE_OF = (("region", "base_url"), ("token_env", "token_file", "token_command"), ("notify_env", "notify_file"))
"""Keys that say the same: a section has one of them, and a section that wins wins with all of them."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section, checked.

    Attributes:
        name: as in the file, without brackets.
        values: by key.
    """

    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A settings file that was read.

    Attributes:
        path: where it is; None if there is none.
        defaults, roster, report: its sections.
        organizations: by name, in the order of the file: what each says of its runs, and of its roster.
    """

    path: Path | None = None
    defaults: Section = Section()
    roster: Section = Section()
    report: Section = Section()
    organizations: Mapping[str, tuple[Section, Section]] = field(default_factory=dict)


def find_settings_file(named: Path | None) -> Path | None:
    """The file that was named, else the one in the working folder, else the one in the user's folder for settings.

    Raises:
        SettingsError: one that was found, and not named, could be another user's doing.
    """
    if named is not None:
        return named
    for folder in (Path(), user_config_path("batch-issuer", appauthor=False)):
        path = folder / FILE_NAME
        try:
            found = path.stat()
        except OSError:
            continue
        # It may name commands, and where an API token is sent.
        if sys.platform != "win32" and (found.st_mode & stat.S_IWOTH or found.st_uid not in (0, os.geteuid())):
            raise SettingsError(
                f"the settings in {path.absolute()} could be another user's doing",
                "look at the file; then make it yours (chown, chmod o-w), or name it with --config",
            )
        return path.absolute()
    return None


def read_settings_file(path: Path | None) -> SettingsFile:
    """The settings in a file; none, if there is no file.

    Raises:
        SettingsError: it cannot be read, or a key is unknown or has a value of the wrong kind; names the key.
    """
    if path is None:
        return SettingsFile()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "check name and permissions") from None
    except (ValueError, RecursionError) as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too long or too deep"
        where = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else where
        raise SettingsError(f"{path} is no settings file: {where}", "correct it; it has to be TOML") from None
    return _Reader(path).file(content)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def file(self, content: dict[str, Any]) -> SettingsFile:
        known = ("defaults", "roster", "report", "organizations")
        for name in content:
            if name not in known:
                tip = f"there are the sections {', '.join(f'[{section}]' for section in known[:3])} "
                raise SettingsError(
                    f"{self._path}: there is no setting {name[:40]!r}", f"{tip}and [organizations.NAME]"
                )
        organizations = content.get("organizations", {})
        if not isinstance(organizations, dict):
            raise SettingsError(f"{self._path}: organizations is no section", "write [organizations.NAME]")
        found: dict[str, tuple[Section, Section]] = {}
        for name, values in organizations.items():
            self._check_name(name, found)
            of_roster = values.get("roster", {}) if isinstance(values, dict) else {}
            section = f"organizations.{name}"
            rest = (
                {key: value for key, value in values.items() if key != "roster"} if isinstance(values, dict) else values
            )
            found[name] = (
                self._section(section, rest, ORGANIZATION_KEYS),
                self._section(f"{section}.roster", of_roster, ROSTER_KEYS),
            )
        return SettingsFile(
            self._path,
            self._section("defaults", content.get("defaults", {}), DEFAULTS_KEYS),
            self._section("roster", content.get("roster", {}), ROSTER_KEYS),
            self._section("report", content.get("report", {}), REPORT_KEYS),
            found,
        )

    def _check_name(self, name: str, others: Mapping[str, object]) -> None:
        """It becomes part of file names, so no two may differ in letter case or punctuation alone."""
        if not name.strip() or not name.isprintable() or len(name) > 80:  # noqa: PLR2004 - file names have 255 bytes
            raise SettingsError(f"{self._path}: {name[:40]!r} is no name of an organization", "choose a short one")
        if in_file_name(name).casefold() == UNASSIGNED:
            tip = "that is what rows without an organization are called; choose another name"
            raise SettingsError(f"{self._path}: an organization cannot be called {name!r}", tip)
        if not _plain(name):
            raise SettingsError(f"{self._path}: {name!r} is no name of an organization", "use letters or digits")
        for other in others:
            if _plain(other) == _plain(name):
                raise SettingsError(
                    f"{self._path}: the organizations {other!r} and {name!r} cannot be told apart",
                    "rename one of them",
                )

    def _section(self, name: str, told: object, keys: Mapping[str, Key]) -> Section:
        if not isinstance(told, dict):
            raise SettingsError(f"{self._path}: {name} is no section", f"write [{name}] and below it its settings")
        values: dict[str, Any] = {}
        for key, value in told.items():
            if key not in keys:
                raise SettingsError(
                    f"{self._path}: there is no setting {key[:40]!r} under [{name}]",
                    f"under [{name}] there are {', '.join(keys)}",
                )
            try:
                values[key] = keys[key].read(value, self._path.parent.absolute())
            except (TypeError, ValueError):
                raise SettingsError(
                    f"{self._path}: {key} under [{name}] is of the wrong kind", f"it must be {keys[key].expected}"
                ) from None
            except SettingsError as error:
                raise SettingsError(f"{self._path}: {key} under [{name}]: {error.message}", error.tip) from None
        for group in ONLY_ONE_OF:
            if len(both := [key for key in group if key in values]) > 1:
                raise SettingsError(f"{self._path}: [{name}] has {' and '.join(both)}", "leave one of them")
        return Section(name, values)


def check_pattern(text: str) -> None:
    """See that an output pattern holds no other placeholders than there are.

    Raises:
        SettingsError: it does.
    """
    for name in re.findall(r"\{([^{}]*)\}", text):
        if name not in PLACEHOLDERS:
            raise SettingsError(
                f"{f'{{{name[:40]}}}'!r} in the name of the results stands for nothing",
                f"there are {', '.join(f'{{{placeholder}}}' for placeholder in PLACEHOLDERS)}",
            )


def _plain(name: str) -> str:
    """What tells names apart, in rosters as in file names."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold())


def in_file_name(text: str) -> str:
    """A name as part of a file's: whatever a file system could take for something else becomes ``_``."""
    return re.sub(r"[^\w .,&()+-]|^[.\s]+|[.\s]+$", "_", text.strip())
