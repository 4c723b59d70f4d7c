"""Addresses that a run uses: the API, a Redis server, a proxy, the notification address."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in the stubs

from ..errors import SettingsError
from .secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

REGIONS = {
    "us": "https://api.samsara.com",
    "eu": "https://api.eu.samsara.com",
    "ca": "https://api.ca.samsara.com",
}


def checked_base_url(text: str) -> str:
    """The base URL without a trailing slash.

    Raises:
        SettingsError: it is not valid, or could leak the API token (plain http, credentials inside).
    """
    hint = "use an address such as https://api.samsara.com, or --region us, eu or ca"
    # Quoted only where it cannot contain a password.
    parts = split_address(text.strip())
    if parts is None:
        raise SettingsError("the base URL is not a web address", hint)
    host = parts.hostname
    if "@" in text:
        raise SettingsError("the base URL must not contain a user name or password", hint)
    if not host or parts.scheme not in ("https", "http") or not re.fullmatch(r"[^\s?#\\]+", text.strip()):
        raise SettingsError("the base URL is not valid: it must begin with https:// and contain no space, ? or #", hint)
    if parts.scheme == "http" and not is_loopback(host):
        raise SettingsError(
            f"the base URL {text!r} would send the API token unencrypted",
            "use https://; http:// works for this computer only, as in http://127.0.0.1:8080",
        )
    return text.strip().rstrip("/")


def checked_quota(quota: str | Secret) -> str | Secret:
    """``process``, ``host``, or the address of a Redis server as a secret.

    Raises:
        SettingsError: it is none of these. The message does not quote what may be a password.
    """
    if quota in ("process", "host"):
        return quota
    text = quota.reveal() if isinstance(quota, Secret) else quota
    parts = split_address(text)
    if (
        parts is None
        or parts.scheme not in ("redis", "rediss")
        or not parts.hostname
        or re.search(r"\s|#", text)  # in a password, # and @ are written as %23 and %40
        or "@" in parts.query
    ):
        shown = f"{text!r}" if re.fullmatch(r"[\w-]{0,20}", text) else "this"
        raise SettingsError(
            f"{shown} is not a valid quota",
            "set --quota or BATCH_ISSUER_QUOTA to process, host, or a Redis address such as "
            "redis://quota.example.com/0 (write / ? # @ in a password as %2F %3F %23 %40)",
        )
    if not re.fullmatch(r"/?\d*", parts.path):
        raise SettingsError("the Redis address has no valid database", "end it with a number, as in redis://host/0")
    return Secret(text)


def checked_notify(address: Secret | None) -> Secret | None:
    """The notification address, checked.

    Raises:
        SettingsError: it is not an ``https://`` address.
    """
    if address is None:
        return None
    parts = split_address(address.reveal().strip())
    hint = "use the https:// address from Slack, Teams, Healthchecks or another service"
    if parts is None or not parts.hostname or re.search(r"\s", address.reveal().strip()):
        raise SettingsError("the notification address is not a web address", hint)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise SettingsError("the notification address does not start with https://", hint)
    return Secret(address.reveal().strip())


def proxy_for(base_url: str, environ: Mapping[str, str]) -> Secret | None:
    """The proxy for an address, from HTTPS_PROXY and NO_PROXY (upper or lower case).

    Raises:
        SettingsError: it is not an ``http://`` address.
    """
    parts = split_address(base_url)
    if parts is None or parts.scheme != "https":  # http:// is this computer only
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


def split_address(text: str) -> SplitResult | None:
    """The parts of a web address; None if host or port is not valid."""
    try:
        parts = urlsplit(text)
        _ = parts.hostname, parts.port
    except ValueError:
        return None
    return parts


def may_hold_password(text: str) -> bool:
    """Whether an address may contain a password and must not be shown."""
    return "@" in text or "password=" in text


def address_for_people(text: str) -> str:
    """An address with everything masked that may be secret."""
    parts = split_address(text)
    if parts is None or not parts.hostname:
        return "set, but not a valid address"
    name = "***@" * ("@" in parts.netloc)
    port = f":{parts.port}" if parts.port else ""
    path = parts.path if re.fullmatch(r"[\w/.-]*", parts.path) else "/***"
    return f"{parts.scheme}://{name}{parts.hostname}{port}{path}{'?***' if parts.query else ''}"


def is_remote(base_url: str) -> bool:
    """Whether requests go to another computer, not to a local test server."""
    parts = split_address(base_url)
    return parts is None or not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this computer."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
