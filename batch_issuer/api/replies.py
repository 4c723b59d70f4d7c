"""The bytes of a reply → a `Reply`: facts, without the secrets that a server may echo. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ..model import MAX_ERROR, Fault, Reply, shortened
from .retry_after import parse_http_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIN_EXPIRY, MAX_EXPIRY = 1_000_000_000_000, 4_102_444_800_000
"""Milliseconds: 2001-09-09 and 2100-01-01. What lies outside is no expiry; seconds look like the first of them."""

CLOCKS_AGREE = 2.0
"""Seconds that our clock and a server's may differ."""

_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<")
"""How a web page begins, and nothing of the API's."""


def read_reply(
    status: int, headers: Mapping[str, str], data: bytes | None, secrets: Sequence[str], now: datetime
) -> Reply:
    """The facts of a complete reply.

    Args:
        status: of HTTP.
        headers: by name, whatever their letter case.
        data: the body; None where it is longer than any genuine one.
        secrets: texts that the request held and that no message may show.
        now: UTC, by this computer's clock.
    """
    document = _json_object(data)
    page = not document and _MARKUP.match(data or b"") is not None
    request_id = clean(document.get("requestId"), secrets, 64)
    if status != 200:  # noqa: PLR2004 - OK
        message = clean(document.get("message"), secrets)
        message = f": {message}" if message else _without_message(headers, data, secrets)
        return Reply(
            status,
            message=shortened(f"HTTP {status}{message}"),
            request_id=request_id,
            web_page=page,
            retry_after=parse_retry_after(headers.get("Retry-After"), server_date=headers.get("Date"), now=now),
        )
    payload = document.get("data")
    payload = payload if isinstance(payload, dict) else {}
    token = payload.get("token")
    if not isinstance(token, str) or not token or not token.isprintable() or " " in token:
        but = _page(data, secrets) if page else ", but no token in the answer"
        return Reply(
            status, fault=Fault.UNUSABLE, message=shortened(f"HTTP 200{but}"), request_id=request_id, web_page=page
        )
    return _issued(status, token, payload.get("expirationTime"), parse_http_date(headers.get("Date")), request_id, now)


def _issued(
    status: int, token: str, expiry: object, server_time: datetime | None, request_id: str, now: datetime
) -> Reply:
    if type(expiry) is not int or not MIN_EXPIRY < expiry < MAX_EXPIRY:
        remark = "issued, but the answer holds no readable expiry"
        return Reply(status, token=token, message=remark, request_id=request_id)
    expires_at = utc_from_milliseconds(expiry)
    ahead = (now - server_time).total_seconds() if server_time else None
    lifetime = (expires_at - (server_time or now)).total_seconds()
    if ahead is not None and abs(ahead) <= CLOCKS_AGREE < lifetime:
        lifetime -= ahead  # Date has whole seconds, so where our clock agrees with it, ours is the finer one
    return Reply(
        status,
        token=token,
        expires_at=expires_at,
        message="" if lifetime > 0 else "issued, but it had expired already when it came",
        request_id=request_id,
        lifetime=lifetime,
        clock_ahead=ahead,
    )


def _without_message(headers: Mapping[str, str], data: bytes | None, secrets: Sequence[str]) -> str:
    """What a reply is that is not the API's, as far as it may be shown: its whole text may hold anything."""
    if host := _redirected_to(headers, secrets):
        what = f", but a redirection to {host!r}"
    elif _MARKUP.match(data or b""):
        what = _page(data, secrets)
    else:
        text = clean(_plain_text(data), secrets)
        what = f": {text}" if text else ""
    return f" without an error message of the Samsara API{what}"


def _page(data: bytes | None, secrets: Sequence[str]) -> str:
    title = re.search(rb"<title[^>]*>([^<]{1,200})<", data or b"", re.IGNORECASE)
    name = clean(title[1].decode(errors="replace"), secrets) if title else ""
    return f", but a web page{f' ({name})' if name else ''}"


def _redirected_to(headers: Mapping[str, str], secrets: Sequence[str]) -> str:
    """The host a reply points to; only that, because the rest of an address may hold secrets."""
    try:
        return clean(urlsplit(headers.get("Location", "")).hostname, secrets, 100)
    except ValueError:
        return ""


def clean(text: object, secrets: Sequence[str], length: int = MAX_ERROR) -> str:
    """A server's text as one printable line, without the secrets it may echo; blank if it is not a text."""
    if not isinstance(text, str):
        return ""
    text = unescape(text)
    for secret in secrets:
        for form in (secret, unescape(secret), quote(secret, safe="")):
            anyhow = r"\s*".join(map(re.escape, form))  # broken over lines; a host name comes in lower case
            text = re.sub(anyhow, "***", text, flags=re.IGNORECASE)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return shortened(line, length)


def _plain_text(data: bytes | None) -> str:
    """A body that is neither markup nor JSON nor binary, as a gateway on the way writes it; else nothing."""
    try:
        text = (data or b"").decode()
    except UnicodeDecodeError:
        return ""
    return "" if text.lstrip().startswith(("{", "[", '"')) or "\0" in text else text


def _json_object(data: bytes | None) -> dict[str, Any]:
    """A JSON object, empty where the body is anything else (plain text, a proxy's HTML, half a document)."""
    try:
        document = json.loads(data or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def utc_from_milliseconds(milliseconds: int) -> datetime:
    """Unix milliseconds, as the API states expiry, as a UTC time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
