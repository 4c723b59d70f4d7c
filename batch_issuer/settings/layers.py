"""Flags over environment over settings file → `Settings`, `RosterOptions` and the rest, each with where it is from.

Secrets come by reference only, never as an argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in the stubs

from ..errors import SettingsError
from ..hints import SCOPE
from .addresses import REGIONS, is_loopback, split_address
from .durations import next_time
from .file import ONLY_ONE_OF, Section, SettingsFile, check_pattern, in_file_name
from .roster_options import RosterOptions
from .run_settings import Rate, Settings
from .secrets import Reference, Secret

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping

API_TOKEN_VARIABLE = "SAMSARA_API_TOKEN"  # noqa: S105 - its name only
QUOTA_VARIABLE = "BATCH_ISSUER_QUOTA"
"""Stands for ``--quota``, since an argument is no place for the password that a Redis address may hold."""
NOTIFY_VARIABLE = "BATCH_ISSUER_NOTIFY"
"""Stands for ``--notify``, since such an address is a secret, too."""

_PLAIN = ("rate", "timeout", "concurrency", "give_up_after", "min_validity")
"""Settings that are handed on as they are."""

_NOT_SAID = ("notify", "no_notify")
"""Fields of `ReportOptions` that are no plain settings."""

_SHOWN = ("rate", "burst", *_PLAIN[1:], "deadline", "quota")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it is from: a flag, a variable, ``[section] key``, or ``default``."""

    value: Any
    source: str


DEFAULT = "default"


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


class Choice:
    """What applies to one organization, or to a run without any, and where each setting is from.

    Args:
        options: the namespace of the command line's parser; None or absent stands for a flag that was not given.
        environ: environment variables.
        file: the settings file.
        organization: its name in the file; blank for none.
    """

    def __init__(
        self,
        options: Namespace,
        environ: Mapping[str, str],
        file: SettingsFile | None = None,
        organization: str = "",
    ) -> None:
        self.organization = organization
        self._flags = {name: value for name, value in vars(options).items() if value is not None}
        self._environ = environ
        self._file = file or SettingsFile()
        own, own_roster = self._file.organizations.get(organization, (Section(), Section()))
        self._own, self._run_sections = own, (own, self._file.defaults)
        self._roster_sections = (own_roster, self._file.roster)

    def _find(self, name: str, *sections: Section) -> Setting | None:
        """The first that says it; a flag or section that says something else of the same group comes first, too."""
        group = next((group for group in ONLY_ONE_OF if name in group), (name,))
        if any(other in self._flags for other in group):
            return Setting(self._flags[name], _flag(name)) if name in self._flags else None
        if name == "quota" and self._environ.get(QUOTA_VARIABLE):
            return Setting(self._environ[QUOTA_VARIABLE], QUOTA_VARIABLE)
        for section in sections:
            if any(other in section.values for other in group):
                found = section.values.get(name)
                return Setting(found, f"[{section.name}] {name}") if found is not None else None
        return None

    def _run_setting(self, name: str) -> Setting:
        return self._find(name, *self._run_sections) or Setting(_DEFAULTS.get(name), DEFAULT)

    def _where(self) -> Setting:
        """The base URL."""
        if found := self._find("base_url", *self._run_sections):
            return found
        found = self._find("region", *self._run_sections) or Setting("us", DEFAULT)
        return Setting(REGIONS[found.value], found.source)

    def _key(self) -> tuple[Reference, str] | None:
        """Where the API token is kept, and who says so.

        An organization's own goes before the variable, which does not say whose token it holds: a token of another
        organization would be worse than none.
        """
        variable = Section(
            "", {"token_env": API_TOKEN_VARIABLE} if self._environ.get(API_TOKEN_VARIABLE, "").strip() else {}
        )
        for section in (self._own, variable, self._file.defaults):
            for name in ONLY_ONE_OF[1]:
                if (found := self._find(name, section)) is not None:
                    source = found.source if section is not variable or name in self._flags else API_TOKEN_VARIABLE
                    kind: Any = name.removeprefix("token_")
                    place = found.value if kind == "command" else str(found.value)
                    return Reference(kind, place, self._whose("the API token")), source
        return None

    def _whose(self, what: str) -> str:
        return f"{what} of {self.organization}" if self.organization else what

    def _api_token(self) -> Secret:
        if found := self._key():
            return found[0].read(self._environ)
        where = f"[organizations.{self.organization}] says no token_env, token_file or token_command, and " * bool(
            self.organization
        )
        raise SettingsError(
            f"no {self._whose('API token')}: {where}the environment variable {API_TOKEN_VARIABLE} is not set",
            f'create a token in the Samsara dashboard under Settings > API Tokens with the scope "{SCOPE}" '
            f"(category Drivers) and put it into {API_TOKEN_VARIABLE}, or name a --token-file or a --token-command; "
            "or try --sandbox, which needs none",
        )

    def settings(self, *, sandbox: tuple[str, str] | None = None) -> Settings:
        """Everything a run needs.

        Args:
            sandbox: base URL and API token of the sandbox to use; the real API token is then never looked at.

        Raises:
            SettingsError: a value is missing or cannot work; says which and what to do.
        """
        base_url, api_token = sandbox or (self._where().value, self._api_token())
        at = self._run_setting("deadline").value
        quota = self._run_setting("quota")
        if sandbox is not None and quota.source != _flag("quota"):
            quota = Setting("process", DEFAULT)
        settings = Settings(
            api_token=api_token if isinstance(api_token, Secret) else Secret(api_token),
            base_url=base_url,
            quota=quota.value,
            ca_file=self._environ.get("SSL_CERT_FILE") or None,
            deadline=next_time(at) if isinstance(at, time) else at,
            organization=self.organization,
            burst=self._burst().value,
            **{name: self._run_setting(name).value for name in _PLAIN},
        )
        return settings if sandbox is not None else replace(settings, proxy=proxy_for(settings.base_url, self._environ))

    def rate(self) -> Rate:
        """The quota; see `Settings`."""
        rate: Rate = self._run_setting("rate").value
        return rate

    def _burst(self) -> Setting:
        """The burst; one that is said for all does not exceed the rate of an organization, or of a flag."""
        burst, rate = self._run_setting("burst"), self._run_setting("rate")
        said_for_all = burst.source.startswith("[defaults]") and not rate.source.startswith(("[defaults]", DEFAULT))
        return Setting(min(burst.value, rate.value.limit), burst.source) if said_for_all else burst

    def way_to(self, address: str) -> tuple[Secret | None, str | None]:
        """The proxy, and the file of certificates, to reach an address with.

        Raises:
            SettingsError: see `proxy_for`.
        """
        return proxy_for(address, self._environ), self._environ.get("SSL_CERT_FILE") or None

    def min_validity(self) -> float:
        """Seconds; see `Settings`."""
        return float(self._run_setting("min_validity").value)

    def is_remote(self) -> bool:
        """Whether another computer is asked, and not a stand-in for the API on this one."""
        parts = split_address(str(self._where().value))
        return parts is None or not is_loopback(parts.hostname or "")

    def roster_options(self) -> RosterOptions:
        """How the roster is to be read.

        Raises:
            SettingsError: a setting cannot work.
        """
        own, common = self._roster_sections
        columns = common.values.get("map", {}) | own.values.get("map", {}) | dict(self._flags.get("map", []))
        found = {name: self._find(name, own, common) for name in _ROSTER_SHOWN if name != "map"}
        return RosterOptions(columns=columns, **{name: one.value for name, one in found.items() if one is not None})

    def roster_file(self) -> Path | None:
        """The organization's roster, as its section names it."""
        found: Path | None = self._own.values.get("roster_file")
        return found

    def organization_column(self) -> str:
        """The name of the column of rosters that says whose a driver is."""
        return str(self._file.defaults.values.get("organization_column", ORGANIZATION_COLUMN))

    def output(self) -> str | None:
        """The pattern of the name of the results; None for beside the roster.

        Raises:
            SettingsError: it holds a placeholder that there is not.
        """
        found = self._find("output", *self._run_sections)
        if found is not None and found.source == _flag("output"):  # that of the file was looked at as it was read
            check_pattern(str(found.value))
        return str(found.value) if found is not None else None

    def report_options(self) -> ReportOptions:
        """How a run tells what became of it.

        Raises:
            SettingsError: the address to notify cannot be used; it is not quoted, since it is a secret.
        """
        names = [field.name for field in fields(ReportOptions) if field.name not in _NOT_SAID]
        found = {name: self._find(name, self._file.report) for name in names}
        values = {name: one.value for name, one in found.items() if one is not None}
        address, no_notify = self._notify()[0], ""
        if isinstance(address, Reference):
            try:
                address = address.read(self._environ)
            except SettingsError as error:  # no reason to issue no tokens
                address, no_notify = None, f"{error.message}; {error.tip}"
        return ReportOptions(notify=_checked_notify(address), no_notify=no_notify, **values)

    def _notify(self) -> tuple[Reference | Secret | None, str]:
        """The address to notify, or where it is kept, and who says so."""
        if "notify" in self._flags:
            return Secret(self._flags["notify"]), _flag("notify")
        if address := self._environ.get(NOTIFY_VARIABLE, "").strip():
            return Secret(address), NOTIFY_VARIABLE
        for name in ONLY_ONE_OF[2]:
            if found := self._find(name, self._file.report):
                kind: Any = name.removeprefix("notify_")
                return Reference(kind, str(found.value), "the address to notify"), found.source
        return None, DEFAULT

    def shown(self) -> Iterator[tuple[str, str, str]]:
        """What applies, for a person: name, value, source; secrets as ``set`` or ``not set``."""
        key = self._key()
        is_set = key is not None and key[0].is_set(self._environ)
        yield "API token", "set" if is_set else "not set", f"{key[1]}: {key[0]}" if key else DEFAULT
        where = self._where()
        yield "base_url", _for_people("base_url", where.value), where.source
        for name in _SHOWN:
            found = self._burst() if name == "burst" else self._run_setting(name)
            if name == "burst" and found.value is None:
                found = Setting(self.rate().limit, DEFAULT)
            yield name, _for_people(name, found.value), found.source
        proxy = proxy_for(str(where.value), self._environ)
        yield "proxy", "set" if proxy else "not set", "HTTPS_PROXY, NO_PROXY" if proxy else DEFAULT
        ca_file = self._environ.get("SSL_CERT_FILE")
        yield "certificates", ca_file or "the system's", "SSL_CERT_FILE" if ca_file else DEFAULT
        if roster := self.roster_file():
            yield "roster_file", str(roster), f"[{self._own.name}] roster_file"
        output = self._find("output", *self._run_sections)
        yield "output", str(output.value) if output else "beside the roster", output.source if output else DEFAULT
        for name in _ROSTER_SHOWN:
            yield from self._shown_of_roster(name)

    def _shown_of_roster(self, name: str) -> Iterator[tuple[str, str, str]]:
        own, common = self._roster_sections
        if name != "map":
            found = self._find(name, own, common)
            if found is not None:
                yield name, _for_people(name, found.value), found.source
            return
        flags = Section("", {"map": dict(self._flags.get("map", []))})
        seen = set()
        for section in (flags, own, common):
            for kind, column in section.values.get("map", {}).items():
                if kind not in seen:
                    seen.add(kind)
                    source = f"[{section.name}] map" if section is not flags else "--map"
                    yield f"map {kind.name.lower()}", repr(column), source

    def shown_of_report(self) -> Iterator[tuple[str, str, str]]:
        """The same of how a run tells what became of it."""
        for field in fields(ReportOptions):
            if field.name == "no_notify":
                continue
            if field.name == "notify":
                notify, source = self._notify()
                is_set = notify.is_set(self._environ) if isinstance(notify, Reference) else bool(notify)
                yield "notify", "set" if is_set else "not set", source
                continue
            found = self._find(field.name, self._file.report) or Setting(field.default, DEFAULT)
            yield field.name, _for_people(field.name, found.value), found.source


ORGANIZATION_COLUMN = "organization"
"""How a roster calls the column that says whose a driver is, if the settings do not say."""

_DEFAULTS = {field.name: field.default for field in fields(Settings)}
_ROSTER_SHOWN = ("map", "external_key", "identify_by", "encoding", "sheet")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _for_people(name: str, value: object) -> str:
    match value:
        case None:
            return "none"
        case float():
            return f"{value:g} s"
        case timedelta():
            return f"{value.total_seconds():g} s from the start"
        case time():
            return f"{value:%H:%M}"
        case tuple():
            return ",".join(kind.name.lower() for kind in value)
        case str() if name in ("quota", "base_url") and value not in ("process", "host"):
            return _address_for_people(value)
    return str(value)


def _address_for_people(text: str) -> str:
    """An address without what may be secret in it."""
    parts = split_address(text)
    if parts is None or not parts.hostname:
        return "set, but not an address"
    name = "***@" * ("@" in parts.netloc)
    port = f":{parts.port}" if parts.port else ""
    path = parts.path if re.fullmatch(r"[\w/.-]*", parts.path) else "/***"
    return f"{parts.scheme}://{name}{parts.hostname}{port}{path}{'?***' if parts.query else ''}"


def settings_from(
    options: Namespace, environ: Mapping[str, str], *, sandbox: tuple[str, str] | None = None
) -> Settings:
    """Everything a run without a settings file needs; see `Choice.settings`."""
    return Choice(options, environ).settings(sandbox=sandbox)


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


def _checked_notify(address: Secret | None) -> Secret | None:
    """The address, if a POST can go there.

    Raises:
        SettingsError: it cannot.
    """
    if address is None:
        return None
    parts = split_address(address.reveal().strip())
    tip = "give the https:// address that Slack, Teams, Healthchecks or another service told you"
    if parts is None or not parts.hostname or re.search(r"\s", address.reveal().strip()):
        raise SettingsError("the address to notify is not a web address", tip)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise SettingsError("the address to notify does not begin with https://, so others could read along", tip)
    return Secret(address.reveal().strip())


def proxy_for(base_url: str, environ: Mapping[str, str]) -> Secret | None:
    """The proxy that HTTPS_PROXY and NO_PROXY (in either case) prescribe for an address.

    Raises:
        SettingsError: it is not an ``http://`` address.
    """
    parts = split_address(base_url)
    if parts is None or parts.scheme != "https":  # http goes to this machine only
        return None
    proxy = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
    skipped = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if not proxy or proxy_bypass_environment(parts.netloc, {"no": skipped}):
        return None
    if not _is_web_address(proxy):
        raise SettingsError("HTTPS_PROXY is not a web address", "write it as http://host:port, or unset it")
    return Secret(proxy)


def _is_web_address(text: str) -> bool:
    parts = split_address(text)
    if parts is None or not parts.hostname:
        return False
    return parts.scheme in ("http", "https") and not re.search(r"[\s\\]", text)
