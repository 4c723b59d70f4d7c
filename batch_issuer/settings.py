"""Flags, environment, TOML → `Settings` and `RosterOptions`. Secrets come by reference only, never as an argument."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in the stubs

from .errors import SettingsError
from .hints import SCOPE
from .model import REGIONS, Secret, Settings, split_address
from .roster_options import RosterOptions, kind_named, kinds

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from pathlib import Path

API_TOKEN_VARIABLE = "SAMSARA_API_TOKEN"  # noqa: S105 - its name only
QUOTA_VARIABLE = "BATCH_ISSUER_QUOTA"
"""Stands for ``--quota``, since an argument is no place for the password that a Redis address may hold."""

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def settings_from(
    options: Namespace, environ: Mapping[str, str], *, sandbox: tuple[str, str] | None = None
) -> Settings:
    """Everything a run needs, from the parsed flags and an environment.

    Args:
        options: the namespace of the command line's parser.
        environ: environment variables.
        sandbox: base URL and API token of the sandbox to use; the real API token is then never looked at.

    Raises:
        SettingsError: a value is missing or cannot work; says which and what to do.
    """
    if sandbox is not None:
        base_url, api_token = sandbox
    else:
        base_url, api_token = options.base_url or REGIONS[options.region or "us"], _api_token(environ)
    settings = Settings(
        api_token=Secret(api_token),
        base_url=base_url,
        rate=options.rate,
        burst=options.burst,
        timeout=options.timeout,
        concurrency=options.concurrency,
        give_up_after=options.give_up_after,
        quota=options.quota or ("process" if sandbox is not None else environ.get(QUOTA_VARIABLE) or "host"),
        ca_file=environ.get("SSL_CERT_FILE") or None,
        min_validity=options.min_validity,
        deadline=next_time(options.deadline) if isinstance(options.deadline, time) else options.deadline,
    )
    return settings if sandbox is not None else replace(settings, proxy=proxy_for(settings.base_url, environ))


def next_time(at: time, now: datetime | None = None) -> datetime:
    """The next time that clocks here show it; ``now`` with its zone."""
    now = now or datetime.now().astimezone()
    today = datetime.combine(now.date(), at).astimezone()
    return today if today > now else datetime.combine(now.date() + timedelta(days=1), at).astimezone()


def _api_token(environ: Mapping[str, str]) -> str:
    token = environ.get(API_TOKEN_VARIABLE, "").strip()
    if not token:
        raise SettingsError(
            f"no API token: the environment variable {API_TOKEN_VARIABLE} is not set",
            f'create a token in the Samsara dashboard under Settings > API Tokens with the scope "{SCOPE}" '
            f"(category Drivers) and put it into {API_TOKEN_VARIABLE}; or try --sandbox, which needs none",
        )
    return token


_ROSTER_KEYS: dict[str, tuple[type, str]] = {
    "map": (dict, 'a table, as in map = { driver_id = "Fahrer-Nr." }'),
    "external_key": (str, "a text"),
    "identify_by": (str, 'a text, as in "username" or "username,driver_id"'),
    "encoding": (str, "a text"),
    "sheet": (str, "a text"),
}


def roster_options_from(options: Namespace) -> RosterOptions:
    """How the roster is to be read: what the flags say, else what the section ``[roster]`` of the settings file says.

    Raises:
        SettingsError: the file cannot be read, or holds something else than settings; or a setting cannot work.
    """
    told = _roster_section(options.config) if options.config else {}
    columns = {kind_named(kind): column for kind, column in told.get("map", {}).items()} | dict(options.map)
    return RosterOptions(
        columns=columns,
        external_key=told.get("external_key", "") if options.external_key is None else options.external_key,
        identify_by=options.identify_by or (kinds(told["identify_by"]) if "identify_by" in told else ()),
        encoding=getattr(options, "encoding", None) or told.get("encoding"),
        sheet=getattr(options, "sheet", None) or told.get("sheet"),
    )


def _roster_section(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", "check name and permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8 text"
        raise SettingsError(f"{path} is no settings file: {where}", "correct it; it has to be TOML") from None
    for name, section in content.items():
        if name != "roster" or not isinstance(section, dict):
            raise SettingsError(f"{path}: there is no setting {name[:40]!r}", "put settings under [roster]")
    told: dict[str, Any] = content.get("roster", {})
    for key, value in told.items():
        if key not in _ROSTER_KEYS:
            tip = f"under [roster] there are {', '.join(_ROSTER_KEYS)}"
            raise SettingsError(f"{path}: there is no setting {key[:40]!r} under [roster]", tip)
        kind, expected = _ROSTER_KEYS[key]
        values = value.values() if isinstance(value, dict) else [value]
        if not isinstance(value, kind) or not all(isinstance(one, str) for one in values):
            raise SettingsError(f"{path}: {key} under [roster] is of the wrong kind", f"it must be {expected}")
    return told


def proxy_for(base_url: str, environ: Mapping[str, str]) -> Secret | None:
    """The proxy that HTTPS_PROXY and NO_PROXY (in either case) prescribe for an address.

    Raises:
        SettingsError: it is not an ``http://`` address.
    """
    parts = urlsplit(base_url)
    if parts.scheme != "https":  # http goes to this machine only
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


def seconds(text: str) -> float:
    """Read a time such as ``30``, ``1.5s``, ``250ms``, ``5m`` or ``2h`` as seconds.

    Raises:
        SettingsError: for anything else.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{0,9})?)\s*(ms|s|min|m|h|)\s*", text, re.ASCII)
    if not match:
        raise SettingsError(f"{text!r} is not a time", "write it as 30s, 5m or 250ms")
    return float(match[1]) * _UNITS[match[2]]


def deadline(text: str) -> time | timedelta:
    """Read a time of day such as ``06:00``, or a time such as ``45m``.

    Raises:
        SettingsError: for anything else.
    """
    if re.fullmatch(r"\s*\d{1,2}:\d\d\s*", text, re.ASCII):
        hour, _, minute = text.partition(":")
        try:
            return time(int(hour), int(minute))
        except ValueError:
            raise SettingsError(f"{text!r} is not a time of day", "write it as 06:00") from None
    try:
        return timedelta(seconds=seconds(text))
    except (SettingsError, OverflowError):
        raise SettingsError(f"{text!r} is not a deadline", "write it as 06:00, or as 45m or 2h") from None
