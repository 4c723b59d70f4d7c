"""Read the bytes of a reply as a `Reply`, without the secrets that a server may echo. Pure."""

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
"""Milliseconds: 2001-09-09 and 2100-01-01. Anything else is not an expiry, such as a time in seconds."""

CLOCKS_AGREE = 2.0
"""Seconds by which two clocks that agree may differ."""

_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<")
"""The start of a web page, which the API never sends."""


def read_reply(
    status: int, headers: Mapping[str, str], data: bytes | None, secrets: Sequence[str], now: datetime
) -> Reply:
    """The facts of a complete reply.

    Args:
        status: the HTTP status.
        headers: by name, in any letter case.
        data: the body; None if it is too long for a genuine one.
        secrets: texts in the request that no message may show.
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
        problem = f" with {_page(data, secrets)} instead of a token" if page else " without a token"
        return Reply(
            status, fault=Fault.UNUSABLE, message=shortened(f"HTTP 200{problem}"), request_id=request_id, web_page=page
        )
    return _issued(status, token, payload.get("expirationTime"), parse_http_date(headers.get("Date")), request_id, now)


def _issued(
    status: int, token: str, expiry: object, server_time: datetime | None, request_id: str, now: datetime
) -> Reply:
    if type(expiry) is not int or not MIN_EXPIRY < expiry < MAX_EXPIRY:
        warning = "issued, but the reply has no readable expiry"
        return Reply(status, token=token, message=warning, request_id=request_id)
    expires_at = utc_from_milliseconds(expiry)
    ahead = (now - server_time).total_seconds() if server_time else None
    lifetime = (expires_at - (server_time or now)).total_seconds()
    if ahead is not None and abs(ahead) <= CLOCKS_AGREE < lifetime:
        lifetime -= ahead  # Date has whole seconds; a clock of ours that agrees with it is more precise
    return Reply(
        status,
        token=token,
        expires_at=expires_at,
        message="" if lifetime > 0 else "issued, but already expired on arrival",
        request_id=request_id,
        lifetime=lifetime,
        clock_ahead=ahead,
    )


def _without_message(headers: Mapping[str, str], data: bytes | None, secrets: Sequence[str]) -> str:
    """Describe an error reply that is not the API's; its text is shown only where it is safe."""
    if host := _redirected_to(headers, secrets):
        return f" with a redirect to {host!r} instead of a Samsara API error message"
    if _MARKUP.match(data or b""):
        return f" with {_page(data, secrets)} instead of a Samsara API error message"
    text = clean(_plain_text(data), secrets)
    return f" without a Samsara API error message{f': {text}' if text else ''}"


def _page(data: bytes | None, secrets: Sequence[str]) -> str:
    title = re.search(rb"<title[^>]*>([^<]{1,200})<", data or b"", re.IGNORECASE)
    name = clean(title[1].decode(errors="replace"), secrets) if title else ""
    return f"a web page{f' ({name})' if name else ''}"


def _redirected_to(headers: Mapping[str, str], secrets: Sequence[str]) -> str:
    """The host of a redirect; the rest of its address may contain secrets."""
    try:
        return clean(urlsplit(headers.get("Location", "")).hostname, secrets, 100)
    except ValueError:
        return ""


def clean(text: object, secrets: Sequence[str], length: int = MAX_ERROR) -> str:
    """A server's text as one printable line, without the secrets it may echo; blank if it is not text."""
    if not isinstance(text, str):
        return ""
    text = unescape(text)
    for secret in secrets:
        for form in (secret, unescape(secret), quote(secret, safe="")):
            pattern = r"\s*".join(map(re.escape, form))  # may be split over lines; host names are in lower case
            text = re.sub(pattern, "***", text, flags=re.IGNORECASE)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return shortened(line, length)


def _plain_text(data: bytes | None) -> str:
    """A plain text body, as some gateways send; blank for markup, JSON or binary data."""
    try:
        text = (data or b"").decode()
    except UnicodeDecodeError:
        return ""
    return "" if text.lstrip().startswith(("{", "[", '"')) or "\0" in text else text


def _json_object(data: bytes | None) -> dict[str, Any]:
    """The JSON object in a body; empty for anything else (plain text, a proxy's HTML, half a document)."""
    try:
        document = json.loads(data or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def utc_from_milliseconds(milliseconds: int) -> datetime:
    """The UTC time of Unix milliseconds, the API's format of an expiry."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
