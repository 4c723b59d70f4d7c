"""Find the settings file, ``batch-issuer.toml``, and check every key and value in it.

::

    [defaults]                    settings of every organization
    [roster]                      how to read rosters
    [report]                      log, summary, notification
    [organizations.north]         one organization: the keys of [defaults], its roster …
    [organizations.north.roster]  … and how to read it
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
from .kinds import SECRET, without_dots
from .options import OPTIONS, keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .options import Option

FILE_NAME = "batch-issuer.toml"

UNASSIGNED = "unassigned"
"""Stands for the organization of rows that name none in the settings."""

SECTIONS = {
    "defaults": ("run", "defaults"),
    "roster": ("roster",),
    "report": ("report",),
    "organizations": ("run", "organization"),
}
"""For each section of the file, the ``Option.section`` of its keys."""


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
    """The contents of a settings file.

    Attributes:
        path: where it is; None if there is no file.
        defaults, roster, report: its sections.
        organizations: by name, in the order of the file: the section of each, and that of its roster.
    """

    path: Path | None = None
    defaults: Section = Section()
    roster: Section = Section()
    report: Section = Section()
    organizations: Mapping[str, tuple[Section, Section]] = field(default_factory=dict)


def find_settings_file(named: Path | None) -> Path | None:
    """The file that was named, else the one in the working folder, else the one in the user config directory.

    Raises:
        SettingsError: other users can change the file that was found; one that was named is not checked.
    """
    if named is not None:
        return named
    for folder in (Path(), user_config_path("batch-issuer", appauthor=False)):
        path = folder / FILE_NAME
        try:
            found = path.stat()
        except OSError:
            continue
        # It can name commands to run and the server that gets the API token.
        if sys.platform != "win32" and (found.st_mode & stat.S_IWOTH or found.st_uid not in (0, os.geteuid())):
            raise SettingsError(
                f"other users can change the settings file {path.absolute()}",
                "check its contents; then make it your own (chown, chmod o-w), or name it with --config",
            )
        return path.absolute()
    return None


def read_settings_file(path: Path | None) -> SettingsFile:
    """The settings in a file; no settings without a file.

    Raises:
        SettingsError: it cannot be read, or a key is unknown or has an invalid value; the message names the key.
    """
    if path is None:
        return SettingsFile()
    with collection_paused():
        return _Reader(path).file(_content(path))


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise SettingsError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
        problem = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too long or too deep"
        raise SettingsError(f"{path} is not valid TOML: {problem}", "correct the file") from None


class _Reader:
    """Reads and checks sections. Each step costs the same however large the file is."""

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, without_dots(path.absolute()).parent
        self._keys = {section: keys(*places) for section, places in SECTIONS.items()}
        self._names: dict[str, str] = {}

    def file(self, content: dict[str, Any]) -> SettingsFile:
        for name in content:
            if name not in SECTIONS:
                raise self._unknown_section(name)
        organizations = content.get("organizations", {})
        if not isinstance(organizations, dict):
            raise SettingsError(f"{self._path}: organizations is not a section", "write [organizations.NAME]")
        return SettingsFile(
            self._path,
            **{name: self._section(name, content.get(name, {}), name) for name in ("defaults", "roster", "report")},
            organizations={name: self._organization(name, values) for name, values in organizations.items()},
        )

    def _unknown_section(self, name: str) -> SettingsError:
        if move := self._move(name):
            return SettingsError(f"{self._path}: the setting {name} is not in a section", move)
        hint = _suggestion(name, list(SECTIONS), _header) or f"use {', '.join(map(_header, SECTIONS))}"
        return SettingsError(f"{self._path}: there is no section {name[:40]!r}", hint)

    def _move(self, key: str) -> str:
        """A hint where to move a setting that is in the wrong section; blank if no section may contain it."""
        sections = [_header(section) for section, options in self._keys.items() if key in options]
        return f"move it to {sections[0]}" if sections else ""

    def _organization(self, name: str, values: object) -> tuple[Section, Section]:
        self._check_name(name)
        section, of_roster = f"organizations.{name}", Section()
        if isinstance(values, dict) and "roster" in values:
            of_roster = self._section(f"{section}.roster", values.pop("roster"), "roster")
        return self._section(section, values, "organizations"), of_roster

    def _check_name(self, name: str) -> None:
        """Check a name. It becomes part of file names, so letter case and punctuation do not distinguish two."""
        if not name.strip() or not name.isprintable() or len(name) > 80:  # noqa: PLR2004 - file names have 255 bytes
            raise SettingsError(self._invalid_name(name), "use 1 to 80 printable characters")
        if in_file_name(name).casefold() == UNASSIGNED:
            hint = "this name is reserved for rows without an organization; choose another one"
            raise SettingsError(self._invalid_name(name), hint)
        plain = _plain(name)
        if not plain:
            raise SettingsError(self._invalid_name(name), "use letters or digits")
        other = self._names.setdefault(plain, name)
        if other != name:
            raise SettingsError(
                f"{self._path}: the organization names {other!r} and {name!r} are too similar",
                "rename one of them; letter case and punctuation do not count",
            )

    def _invalid_name(self, name: str) -> str:
        return f"{self._path}: {name[:40]!r} is not a valid organization name"

    def _section(self, name: str, content: object, kind: str) -> Section:
        if not isinstance(content, dict):
            raise SettingsError(f"{self._path}: {name} is not a section", f"write [{name}], and its settings below")
        options = self._keys[kind]
        values = {key: self._value(name, key, value, options) for key, value in content.items()}
        for key in values:
            rivals = options[key].rivals
            if len(rivals) > 1 and len(both := [rival for rival in rivals if rival in values]) > 1:
                raise SettingsError(f"{self._path}: [{name}] sets {' and '.join(both)}", "keep only one of them")
        return Section(name, values)

    def _value(self, section: str, key: str, value: object, options: Mapping[str, Option]) -> object:
        if key not in options:
            hint = self._move(key) or _reference(key, options) or _suggestion(key, list(options), repr)
            hint = hint or f"use one of {', '.join(options)}"
            raise SettingsError(f"{self._path}: [{section}] has no setting {key[:40]!r}", hint)
        kind = options[key].kind
        try:
            return kind.of_toml(value, self._folder)
        except (TypeError, ValueError):
            raise SettingsError(f"{self._path}: [{section}] {key} is not valid", f"use {kind.expected}") from None
        except SettingsError as error:
            raise SettingsError(f"{self._path}: [{section}] {key}: {error.message}", error.hint) from None


def _header(section: str) -> str:
    return "[organizations.NAME]" if section == "organizations" else f"[{section}]"


def _reference(key: str, options: Mapping[str, Option]) -> str:
    """A hint how to refer to a secret instead; blank if the setting is not a secret."""
    if key not in OPTIONS or OPTIONS[key].kind is not SECRET:
        return ""
    *others, last = (rival for rival in OPTIONS[key].rivals if rival in options)
    return f"it is a secret: use {', '.join(others)} or {last}"


def _suggestion(name: str, valid: Sequence[str], shown: Callable[[str], str]) -> str:
    """``did you mean …?``; blank if no valid name is close."""
    from difflib import get_close_matches  # noqa: PLC0415 - for errors only

    close = get_close_matches(name, valid, n=1)
    return f"did you mean {shown(close[0])}?" if close else ""


def _plain(name: str) -> str:
    """A name as names are compared, in rosters and in file names."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold())


def in_file_name(text: str) -> str:
    """A name as part of a file name: characters with a meaning in file systems become ``_``."""
    return re.sub(r"[^\w .,&()+-]|^[.\s]+|[.\s]+$", "_", text.strip())
