"""Flags over environment over settings file → `Settings`, `RosterOptions` and the rest, each with where it is from.

Secrets come by reference only, never as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..hints import SCOPE
from .addresses import REGIONS, checked_notify, is_remote, proxy_for
from .durations import next_time
from .file import Section, SettingsFile, in_file_name
from .kinds import check_pattern
from .options import OPTIONS, Option, given
from .roster_options import RosterOptions
from .run_settings import Rate, Settings
from .secrets import Reference, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

API_TOKEN_VARIABLE = OPTIONS["api_token"].variable
QUOTA_VARIABLE = OPTIONS["quota"].variable
"""Stands for ``--quota``, since an argument is no place for the password that a Redis address may hold."""
NOTIFY_VARIABLE = OPTIONS["notify"].variable
"""Stands for ``--notify``, since such an address is a secret, too."""

DEFAULT = "default"

NOTHING: Mapping[str, Any] = MappingProxyType({})
NO_FILE = SettingsFile()


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it is from.

    Attributes:
        name: the option that sets it; of rivals, the one that wins.
        value: of the option's kind; None for none.
        source: a flag, a variable, ``[section] key``, or ``default``.
    """

    name: str
    value: Any = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """How a run tells what became of it.

    Attributes:
        log_file: where each event is written; None for nowhere.
        log_format: ``text`` or ``json``.
        summary: where the summary is written; None for nowhere.
        notify: the address that is told at the end; None for none.
        notify_on: ``failure`` or ``always``.
        no_notify: why there is no address to notify although one is to be; blank if all is well.
    """

    log_file: Path | None = None
    log_format: str = "text"
    summary: Path | None = None
    notify: Secret | None = None
    notify_on: str = "failure"
    no_notify: str = ""


_SINGLE = {option.name for option in OPTIONS.values() if len(option.rivals) == 1}
_OF_SETTINGS = _SINGLE & {field.name for field in fields(Settings)}
_OF_ROSTER = _SINGLE & {field.name for field in fields(RosterOptions)} - {"organization_column"}
_OF_REPORT = _SINGLE & {field.name for field in fields(ReportOptions)}
"""Settings that are handed on as they are found; those with rivals are not."""


class Layers:
    """What applies to one organization, or to a run without any, and where each setting is from.

    Args:
        file: the settings file.
        organization: its name in the file; blank for none.
        flags: options by name, each of its kind, as a person gave them; None and False stand for not given.
        environ: environment variables.
    """

    def __init__(
        self,
        file: SettingsFile = NO_FILE,
        organization: str = "",
        *,
        flags: Mapping[str, Any] = NOTHING,
        environ: Mapping[str, str] = NOTHING,
    ) -> None:
        self.organization = organization
        self._flags = given(flags)
        self.environ = environ
        own, own_roster = file.organizations.get(organization, (Section(), Section()))
        self._sections = {
            "run": (own, file.defaults),
            "organization": (own,),
            "defaults": (file.defaults,),
            "roster": (own_roster, file.roster),
            "report": (file.report,),
            "": (Section(),),
        }

    def find(self, name: str) -> Setting:
        """What applies of an option; if a rival of it is set instead, or nothing, its default.

        Raises:
            SettingsError: an environment variable cannot be its value.
        """
        option = OPTIONS[name]
        found = self._first(option)
        if found is not None and found.name == name:
            return found
        return Setting(name, option.kind.of_text(option.default) if option.default else None, DEFAULT)

    def _first(self, option: Option) -> Setting | None:
        """What the first place says that sets the option or a rival of it."""
        own, *common = self._sections[option.section]
        # An organization's own API token goes before the variable, which does not say whose token it holds: a token of
        # another organization would be worse than none.
        own_first = "api_token" in option.rivals
        for place in (self._flags, own, None, *common) if own_first else (self._flags, None, own, *common):
            for name in option.rivals:
                if isinstance(place, Section):
                    value, source = place.values.get(name), f"[{place.name}] {name}"
                elif place is not None:
                    value, source = place.get(name), OPTIONS[name].flag
                else:
                    value, source = OPTIONS[name].of_variable(self.environ), OPTIONS[name].variable
                if value is not None:
                    return Setting(name, value, source)
        return None

    def base_url(self) -> Setting:
        """Of the API: that of the region, if there is no other."""
        found = self.find("base_url")
        if found.value is not None:
            return found
        found = self.find("region")
        return replace(found, value=REGIONS[found.value])

    def burst(self) -> Setting:
        """The burst; one that is said for all does not exceed the rate of an organization, or of a flag."""
        burst, rate = self.find("burst"), self.find("rate")
        said_for_all = burst.source.startswith("[defaults]") and not rate.source.startswith(("[defaults]", DEFAULT))
        return replace(burst, value=min(burst.value, rate.value.limit)) if said_for_all else burst

    def _reference(self, name: str, what: str) -> tuple[Reference | Secret | None, str]:
        """A secret or where it is kept, by the option of its own name or one such as ``token_env``; and who says so."""
        found = self._first(OPTIONS[name])
        if found is None:
            return None, DEFAULT
        kind: Any = found.name.rpartition("_")[2]
        if kind not in ("env", "file", "command"):
            return Secret(found.value), found.source
        return Reference(kind, found.value if kind == "command" else str(found.value), what), found.source

    def _whose(self, what: str) -> str:
        return f"{what} of {self.organization}" if self.organization else what

    def api_token_reference(self) -> tuple[Reference | None, str]:
        """Where the API token is kept, and who says so."""
        found, source = self._reference("token_env", self._whose("the API token"))
        if isinstance(found, Secret):
            found = Reference("env", API_TOKEN_VARIABLE, self._whose("the API token"))
        return found, source

    def notify_reference(self) -> tuple[Reference | Secret | None, str]:
        """The address to notify, or where it is kept, and who says so."""
        return self._reference("notify_env", "the notification address")

    # --- what a run needs

    def settings(self, *, sandbox: tuple[str, str] | None = None) -> Settings:
        """Everything a run needs.

        Args:
            sandbox: base URL and API token of the sandbox to use; the real API token is then never looked at.

        Raises:
            SettingsError: a value is missing or cannot work; says which and what to do.
        """
        found = {name: self.find(name) for name in _OF_SETTINGS} | {"burst": self.burst()}
        if sandbox is not None and found["quota"].source != OPTIONS["quota"].flag:
            found["quota"] = Setting("quota", "process", DEFAULT)
        values = {name: setting.value for name, setting in found.items()}
        if isinstance(values["deadline"], time):
            values["deadline"] = next_time(values["deadline"])
        settings = Settings(
            api_token=Secret(sandbox[1]) if sandbox else self._api_token(),
            base_url=sandbox[0] if sandbox else self.base_url().value,
            ca_file=self.environ.get("SSL_CERT_FILE") or None,
            organization=self.organization,
            **values,
        )
        return settings if sandbox is not None else replace(settings, proxy=proxy_for(settings.base_url, self.environ))

    def _api_token(self) -> Secret:
        if found := self.api_token_reference()[0]:
            return found.read(self.environ)
        own = f"[organizations.{self.organization}] says no token_env, token_file or token_command, and "
        where = own if self.organization else ""
        raise SettingsError(
            f"no {self._whose('API token')}: {where}the environment variable {API_TOKEN_VARIABLE} is not set",
            f'create a token in the Samsara dashboard under Settings > API Tokens with the scope "{SCOPE}" '
            f"(category Drivers) and put it into {API_TOKEN_VARIABLE}, or name a --token-file or a --token-command; "
            "or try --sandbox, which needs none",
        )

    def rate(self) -> Rate:
        """The quota; see `Settings`."""
        rate: Rate = self.find("rate").value
        return rate

    def way_to(self, address: str) -> tuple[Secret | None, str | None]:
        """The proxy, and the file of certificates, to reach an address with.

        Raises:
            SettingsError: see `proxy_for`.
        """
        return proxy_for(address, self.environ), self.environ.get("SSL_CERT_FILE") or None

    def min_validity(self) -> float:
        """Seconds; see `Settings`."""
        return float(self.find("min_validity").value)

    def is_remote(self) -> bool:
        """Whether another computer is asked, and not a stand-in for the API on this one."""
        return is_remote(str(self.base_url().value))

    def roster_options(self) -> RosterOptions:
        """How the roster is to be read.

        Raises:
            SettingsError: a setting cannot work.
        """
        values = {name: self.find(name).value for name in _OF_ROSTER}
        return RosterOptions(
            columns={kind: column for kind, (column, _) in self.columns().items()},
            **{name: value for name, value in values.items() if value is not None},
        )

    def columns(self) -> dict[Any, tuple[str, str]]:
        """By kind of identifier its column, and who says so: here all places are merged."""
        own, common = self._sections["roster"]
        places = [(common.values, f"[{common.name}] map"), (own.values, f"[{own.name}] map"), (self._flags, "--map")]
        return {kind: (column, source) for values, source in places for kind, column in values.get("map", {}).items()}

    def roster_file(self) -> Path | None:
        """The organization's roster, as its section names it."""
        found: Path | None = self.find("roster_file").value
        return found

    def organization_column(self) -> str:
        """The name of the column of rosters that says whose a driver is."""
        return str(self.find("organization_column").value)

    def output(self) -> str | None:
        """The pattern of the name of the results; None for beside the roster.

        Raises:
            SettingsError: it holds a placeholder that there is not.
        """
        found = self.find("output")
        if found.source == OPTIONS["output"].flag:  # that of the file was looked at as it was read
            check_pattern(str(found.value))
        return str(found.value) if found.value is not None else None

    def report_options(self) -> ReportOptions:
        """How a run tells what became of it.

        Raises:
            SettingsError: the address to notify cannot be used; it is not quoted, since it is a secret.
        """
        address, no_notify = self.notify_reference()[0], ""
        if isinstance(address, Reference):
            try:
                address = address.read(self.environ)
            except SettingsError as error:  # no reason to issue no tokens
                address, no_notify = None, f"{error.message}; {error.hint}"
        values = {name: self.find(name).value for name in _OF_REPORT}
        return ReportOptions(notify=checked_notify(address), no_notify=no_notify, **values)


def results_path(pattern: str, *, organization: str, roster: str, now: datetime) -> Path:
    """The name of the results.

    Args:
        pattern: with `PLACEHOLDERS`.
        organization: blank for none.
        roster: the name of the roster's file without its ending.
        now: local time; ``{date}`` is its day.
    """
    for name, text in (("organization", organization), ("roster", roster), ("date", f"{now:%Y-%m-%d}")):
        pattern = pattern.replace(f"{{{name}}}", in_file_name(text) or f"no-{name}")
    return Path(pattern)
