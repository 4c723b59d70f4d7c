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
from ..garbage import collection_paused
from .options import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .options import Option

FILE_NAME = "batch-issuer.toml"

UNASSIGNED = "unassigned"
"""Stands for the organization of rows that name none of the settings."""

SECTIONS = {
    "defaults": ("run", "defaults"),
    "roster": ("roster",),
    "report": ("report",),
    "organizations": ("run", "organization"),
}
"""Of each section of the file, where its options say that they may be."""


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
    with collection_paused():
        return _Reader(path).file(_content(path))


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "check name and permissions") from None
    except (ValueError, RecursionError) as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too long or too deep"
        where = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else where
        raise SettingsError(f"{path} is no settings file: {where}", "correct it; it has to be TOML") from None


class _Reader:
    """Reads sections; each step costs the same whatever else is in the file."""

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, path.parent.absolute()
        self._keys = {section: keys(*places) for section, places in SECTIONS.items()}
        self._names: dict[str, str] = {}

    def file(self, content: dict[str, Any]) -> SettingsFile:
        for name in content:
            if name not in SECTIONS:
                hint = "there are the sections [defaults], [roster], [report] and [organizations.NAME]"
                raise SettingsError(f"{self._path}: there is no setting {name[:40]!r}", hint)
        organizations = content.get("organizations", {})
        if not isinstance(organizations, dict):
            raise SettingsError(f"{self._path}: organizations is no section", "write [organizations.NAME]")
        return SettingsFile(
            self._path,
            **{name: self._section(name, content.get(name, {}), name) for name in ("defaults", "roster", "report")},
            organizations={name: self._organization(name, values) for name, values in organizations.items()},
        )

    def _organization(self, name: str, values: object) -> tuple[Section, Section]:
        self._check_name(name)
        section, of_roster = f"organizations.{name}", Section()
        if isinstance(values, dict) and "roster" in values:
            of_roster = self._section(f"{section}.roster", values.pop("roster"), "roster")
        return self._section(section, values, "organizations"), of_roster

    def _check_name(self, name: str) -> None:
        """It becomes part of file names, so no two may differ in letter case or punctuation alone."""
        if not name.strip() or not name.isprintable() or len(name) > 80:  # noqa: PLR2004 - file names have 255 bytes
            raise SettingsError(f"{self._path}: {name[:40]!r} is no name of an organization", "choose a short one")
        if in_file_name(name).casefold() == UNASSIGNED:
            hint = "that is what rows without an organization are called; choose another name"
            raise SettingsError(f"{self._path}: an organization cannot be called {name!r}", hint)
        plain = _plain(name)
        if not plain:
            raise SettingsError(f"{self._path}: {name!r} is no name of an organization", "use letters or digits")
        other = self._names.setdefault(plain, name)
        if other != name:
            raise SettingsError(
                f"{self._path}: the organizations {other!r} and {name!r} cannot be told apart", "rename one of them"
            )

    def _section(self, name: str, told: object, kind: str) -> Section:
        if not isinstance(told, dict):
            raise SettingsError(f"{self._path}: {name} is no section", f"write [{name}] and below it its settings")
        options = self._keys[kind]
        values = {key: self._value(name, key, value, options) for key, value in told.items()}
        for key in values:
            rivals = options[key].rivals
            if len(rivals) > 1 and len(both := [rival for rival in rivals if rival in values]) > 1:
                raise SettingsError(f"{self._path}: [{name}] has {' and '.join(both)}", "leave one of them")
        return Section(name, values)

    def _value(self, section: str, key: str, value: object, options: Mapping[str, Option]) -> object:
        if key not in options:
            raise SettingsError(
                f"{self._path}: there is no setting {key[:40]!r} under [{section}]",
                f"under [{section}] there are {', '.join(options)}",
            )
        kind = options[key].kind
        try:
            return kind.of_toml(value, self._folder)
        except (TypeError, ValueError):
            raise SettingsError(
                f"{self._path}: {key} under [{section}] is of the wrong kind", f"it must be {kind.expected}"
            ) from None
        except SettingsError as error:
            raise SettingsError(f"{self._path}: {key} under [{section}]: {error.message}", error.hint) from None


def _plain(name: str) -> str:
    """What tells names apart, in rosters as in file names."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold())


def in_file_name(text: str) -> str:
    """A name as part of a file's: whatever a file system could take for something else becomes ``_``."""
    return re.sub(r"[^\w .,&()+-]|^[.\s]+|[.\s]+$", "_", text.strip())
