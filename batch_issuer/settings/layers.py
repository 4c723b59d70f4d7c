"""Flags over environment over settings file → `Settings`, `RosterOptions` and the rest, each with its source.

Secrets come by reference only, never as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..hints import SCOPE
from .addresses import REGIONS, checked_notify, is_remote, proxy_for
from .durations import next_time
from .file import Section, SettingsFile
from .kinds import check_pattern
from .options import OPTIONS, Option, given
from .roster_options import RosterOptions
from .run_settings import Rate, Settings
from .secrets import Reference, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

API_TOKEN_VARIABLE = OPTIONS["api_token"].variable
QUOTA_VARIABLE = OPTIONS["quota"].variable
"""Sets ``--quota`` without showing a password in the arguments of a process."""
NOTIFY_VARIABLE = OPTIONS["notify"].variable
"""The notification address. It is a secret, so no flag sets it."""

DEFAULT = "default"

_PLACEHOLDER = "not-read"
"""An API token, where it is not needed."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
NO_FILE = SettingsFile()


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its source.

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
    """How a run is reported.

    Attributes:
        log_file: where each event is written; None for nowhere.
        log_format: ``text`` or ``json``.
        summary: where the summary is written; None for nowhere.
        notify: the notification address at the end; None for none.
        notify_on: ``failure`` or ``always``.
        no_notify: why the notification address could not be read; blank if it could, or none is set.
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
"""Settings that are passed on as they are found; those with rivals are not."""


class Layers:
    """The settings of one organization, or of a run without one, each with its source.

    Args:
        file: the settings file.
        organization: its name in the file; blank for none.
        flags: options by name, as they were given; None and False mean not given.
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
        """The setting of an option; its default if a rival of it is set, or nothing.

        Raises:
            SettingsError: an environment variable has an invalid value.
        """
        option = OPTIONS[name]
        found = self._first(option)
        if found is not None and found.name == name:
            return found
        return Setting(name, option.kind.of_text(option.default) if option.default else None, DEFAULT)

    def _first(self, option: Option) -> Setting | None:
        """The first setting of the option or one of its rivals, in the order of precedence."""
        own, *common = self._sections[option.section]
        # An organization's own API token precedes the variable, which may belong to another organization: a wrong token
        # is worse than none.
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
        """The base URL of the API; that of the region by default."""
        found = self.find("base_url")
        if found.value is not None:
            return found
        found = self.find("region")
        return replace(found, value=REGIONS[found.value])

    def burst(self) -> Setting:
        """The burst; one set for all organizations is limited to the rate of an organization or a flag."""
        burst, rate = self.find("burst"), self.find("rate")
        is_common = burst.source.startswith("[defaults]") and not rate.source.startswith(("[defaults]", DEFAULT))
        return replace(burst, value=min(burst.value, rate.value.limit)) if is_common else burst

    def _reference(self, name: str, what: str) -> tuple[Reference | Secret | None, str]:
        """A secret or a reference to it, from its option or one such as ``token_env``; and the source."""
        found = self._first(OPTIONS[name])
        if found is None:
            return None, DEFAULT
        kind: Any = found.name.rpartition("_")[2]
        if kind not in ("env", "file", "command"):
            return Secret(found.value), found.source
        return Reference(kind, found.value if kind == "command" else str(found.value), what), found.source

    def _of_organization(self, what: str) -> str:
        return f"{what} of {self.organization}" if self.organization else what

    def api_token_reference(self) -> tuple[Reference | None, str]:
        """Where the API token is kept, and the source."""
        found, source = self._reference("token_env", self._of_organization("the API token"))
        if isinstance(found, Secret):
            found = Reference("env", API_TOKEN_VARIABLE, self._of_organization("the API token"))
        return found, source

    def notify_reference(self) -> tuple[Reference | Secret | None, str]:
        """The notification address, or where it is kept, and the source."""
        return self._reference("notify_env", "the notification address")

    # --- what a run needs

    def settings(self, *, sandbox: tuple[str, str] | None = None) -> Settings:
        """Everything a run needs. The API token is read last.

        Args:
            sandbox: base URL and API token of the sandbox to use; the real API token is then never read.

        Raises:
            SettingsError: a value is missing or invalid.
        """
        if sandbox is not None:
            return self._settings(*sandbox, quota="process")
        return replace(self._checked(), api_token=self._api_token())

    def check(self, *, sandbox: bool = False) -> Settings:
        """Check all settings without running a command; for a sandbox run, all but the API token.

        Returns:
            The settings, with a placeholder as API token.

        Raises:
            SettingsError: a value is missing or invalid.
        """
        if sandbox:
            return self.settings(sandbox=(REGIONS["us"], _PLACEHOLDER))
        settings = self._checked()
        reference, _ = self.api_token_reference()
        if reference is None or reference.kind != "command":
            self._api_token()
        return settings

    def _checked(self) -> Settings:
        """Settings without the API token."""
        settings = self._settings(str(self.base_url().value), _PLACEHOLDER)
        return replace(settings, proxy=proxy_for(settings.base_url, self.environ))

    def _settings(self, base_url: str, api_token: str, *, quota: str = "") -> Settings:
        """Settings without a proxy; ``quota`` is used unless a flag sets another."""
        found = {name: self.find(name) for name in _OF_SETTINGS} | {"burst": self.burst()}
        if quota and found["quota"].source != OPTIONS["quota"].flag:
            found["quota"] = Setting("quota", quota, DEFAULT)
        values = {name: setting.value for name, setting in found.items()}
        if isinstance(values["deadline"], time):
            values["deadline"] = next_time(values["deadline"])
        return Settings(
            api_token=Secret(api_token),
            base_url=base_url,
            ca_file=self.environ.get("SSL_CERT_FILE") or None,
            organization=self.organization,
            **values,
        )

    def _api_token(self) -> Secret:
        if found := self.api_token_reference()[0]:
            return found.read(self.environ)
        own = f"[organizations.{self.organization}] sets no token_env, token_file or token_command, and "
        where = own if self.organization else ""
        raise SettingsError(
            f"no {self._of_organization('API token')}: {where}the environment variable {API_TOKEN_VARIABLE} is not set",
            f"create an API token with the scope {SCOPE} (category Drivers) in the Samsara dashboard under Settings > "
            f"API Tokens, then set {API_TOKEN_VARIABLE}, --token-file or --token-command; to try without one, add "
            "--sandbox",
        )

    def rate(self) -> Rate:
        """The quota; see `Settings`."""
        rate: Rate = self.find("rate").value
        return rate

    def way_to(self, address: str) -> tuple[Secret | None, str | None]:
        """The proxy and the certificate file for an address.

        Raises:
            SettingsError: see `proxy_for`.
        """
        return proxy_for(address, self.environ), self.environ.get("SSL_CERT_FILE") or None

    def min_validity(self) -> float:
        """Seconds; see `Settings`."""
        return float(self.find("min_validity").value)

    def is_remote(self) -> bool:
        """Whether requests go to another computer, not to a local test server."""
        return is_remote(str(self.base_url().value))

    def roster_options(self) -> RosterOptions:
        """How the roster is read.

        Raises:
            SettingsError: a setting is invalid.
        """
        values = {name: self.find(name).value for name in _OF_ROSTER}
        return RosterOptions(
            columns={kind: column for kind, (column, _) in self.columns().items()},
            **{name: value for name, value in values.items() if value is not None},
        )

    def columns(self) -> dict[Any, tuple[str, str]]:
        """By kind of identifier its column and the source; all places are merged."""
        own, common = self._sections["roster"]
        places = [(common.values, f"[{common.name}] map"), (own.values, f"[{own.name}] map"), (self._flags, "--map")]
        return {kind: (column, source) for values, source in places for kind, column in values.get("map", {}).items()}

    def roster_file(self) -> Path | None:
        """The organization's roster, from its section."""
        found: Path | None = self.find("roster_file").value
        return found

    def organization_column(self) -> str:
        """The name of the roster column that names the organization of each driver."""
        return str(self.find("organization_column").value)

    def output(self) -> str | None:
        """The pattern of the results file; None for a file next to the roster.

        Raises:
            SettingsError: it has an unknown placeholder or ending.
        """
        found = self.find("output")
        if self.output_is_flag():  # one of the settings file was checked as it was read
            check_pattern(str(found.value))
        return str(found.value) if found.value is not None else None

    def output_is_flag(self) -> bool:
        """Whether the results file was named by a flag, not in the settings file."""
        return self.find("output").source == OPTIONS["output"].flag

    def report_options(self) -> ReportOptions:
        """How a run is reported.

        Raises:
            SettingsError: the notification address is invalid; it is not quoted because it is a secret.
        """
        address, no_notify = self.notify_reference()[0], ""
        if isinstance(address, Reference):
            try:
                address = address.read(self.environ)
            except SettingsError as error:  # must not keep tokens from being issued
                address, no_notify = None, f"{error.message}; {error.hint}"
        values = {name: self.find(name).value for name in _OF_REPORT}
        return ReportOptions(notify=checked_notify(address), no_notify=no_notify, **values)
