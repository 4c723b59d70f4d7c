"""The records that flow through a run. Secrets are masked in every repr.

::

    Driver (row, identifier) ──► Reply (what one request came to) ──► Outcome (what the row came to)
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from .errors import SettingsError

REGIONS = {
    "us": "https://api.samsara.com",
    "eu": "https://api.eu.samsara.com",
    "ca": "https://api.ca.samsara.com",
}


class Secret:
    """A text that no repr, format or traceback shows. ``reveal()`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that must send it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled: pass a reference to where it is kept")


class IdentifierKind(StrEnum):
    """The three names the API knows a driver by, in its own spelling."""

    DRIVER_ID = "driverId"
    EXTERNAL_ID = "externalId"
    USERNAME = "username"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One driver as the API is asked for it; ``str()`` gives ``driverId=…`` as the results file shows it."""

    kind: IdentifierKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}={self.value}"

    def as_json(self) -> dict[str, str | int]:
        """The field of the request body. The server wants ``driverId`` as a JSON integer."""
        return {str(self.kind): int(self.value) if self.kind is IdentifierKind.DRIVER_ID else self.value}


@dataclass(frozen=True, slots=True)
class Driver:
    """A row worth sending.

    Attributes:
        row: its number as the spreadsheet shows it (the header is row 1).
        identifier: as it is sent.
        before: what an earlier run left of it that is worth keeping until there is something better: a token that has
            not expired, or why there is none.
    """

    row: int
    identifier: Identifier
    before: Outcome | None = None


class Status(StrEnum):
    """The ``auth_status`` of a row."""

    ISSUED = "issued"
    FAILED = "failed"  # the API said no
    INVALID = "invalid"  # never sent: the roster cell is wrong
    DUPLICATE = "duplicate"  # the same driver as an earlier row
    UNKNOWN = "unknown"  # sent, no answer: a token may exist
    NOT_ATTEMPTED = "not_attempted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one roster row came to. ``token`` and ``code`` are secrets and stay out of the repr.

    Attributes:
        row: the row's number as the spreadsheet shows it (the header is row 1).
        status: see `Status`; only ``issued`` carries a token.
        identifier: as sent; None where the roster names no usable one.
        token: the login token, byte for byte as the API gave it.
        code: the code that was sent for this token; redeeming needs both, and the identifier.
        expires_at: UTC; None without a token, or where the API gave no readable expiry.
        error: what went wrong, one line; for ``issued`` rows empty or a remark.
        hint: who can mend it, and how.
        http_status: of the last reply, None if there was none.
        request_id: the API's own id of the last reply; Samsara's support asks for it.
        attempts: requests sent for this row.
        issued_at: UTC, when the reply with the token was read.
    """

    row: int
    status: Status
    identifier: Identifier | None = None
    token: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    expires_at: datetime | None = None
    error: str = ""
    hint: str = ""
    http_status: int | None = None
    request_id: str = ""
    attempts: int = 0
    issued_at: datetime | None = None


MAX_ERROR = 300
"""Characters of what a row's error says."""


def shortened(line: str, length: int = MAX_ERROR) -> str:
    """A line that is no longer than that; an ellipsis shows where it was cut."""
    return line if len(line) <= length else f"{line[: length - 1]}…"


class Fault(StrEnum):
    """Why a request has no usable reply."""

    UNREACHABLE = "unreachable"  # no connection: the request never left
    TLS = "tls"  # no trusted connection: the request never left
    PROXY = "proxy"  # the proxy refused: the request never left
    DESCRIPTORS = "descriptors"  # this computer has no socket to spare: the request never left
    NO_ANSWER = "no answer"  # sent, then the connection broke
    TIMEOUT = "timeout"  # sent, then silence
    UNUSABLE = "unusable"  # an answer, but not one of this API's
    REPEATED = "repeated"  # the token of another driver


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request came to, as plain facts. `retry.meaning` says what they mean.

    Attributes:
        status: HTTP status, None if no complete reply came back.
        left: False only if the request provably never left this machine.
        fault: why there is no usable reply, if so.
        token, expires_at: of a usable 200; ``expires_at`` in UTC.
        message: the server's, or ours for a fault or a remark: one line, without secrets.
        request_id: the API's own; only its replies have one.
        web_page: whether the body is HTML, which the API never sends.
        lifetime: seconds from the server's time to ``expires_at``; from ours if it did not tell its own.
        clock_ahead: seconds that this computer's clock is ahead of the server's; None if it did not tell.
        retry_after: seconds, from the header; None without a readable one.
    """

    status: int | None = None
    left: bool = True
    fault: Fault | None = None
    token: str = field(default="", repr=False)
    expires_at: datetime | None = None
    message: str = ""
    request_id: str = ""
    web_page: bool = False
    lifetime: float | None = None
    clock_ahead: float | None = None
    retry_after: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the token had expired when it came."""
        return self.lifetime is not None and self.lifetime <= 0


class NeverLeftError(asyncio.CancelledError):
    """A request was cancelled before it left: nothing can have come of it."""


class TokenIssuer(Protocol):
    """Whatever can turn one driver and a fresh code into one reply: the HTTP client, or a model of a server."""

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        """Send one request; never raises for anything the network or the server does.

        Raises:
            NeverLeftError: it was cancelled and had not left; CancelledError where it may have.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` requests in any window of ``period`` seconds."""

    limit: int
    period: float

    def __post_init__(self) -> None:
        if not (isinstance(self.limit, int) and self.limit >= 1 and 0 < self.period < float("inf")):
            raise SettingsError(
                f"a rate of {self.limit} requests per {self.period} s is not possible",
                "give a whole number of requests and a time, for example 100/min",
            )

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``100/min``, ``100/6s`` or ``5/s``.

        Raises:
            SettingsError: for anything else.
        """
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(?:(\d{1,9}(?:\.\d{1,9})?)\s*)?(s|sec|min|m|h)\s*", text, re.ASCII)
        if not match:
            raise SettingsError(f"{text!r} is not a rate", "write it as 100/min, 100/6s or 5/s")
        limit, count, unit = match.groups()
        return cls(int(limit), float(count or 1) * {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}[unit])

    @property
    def spacing(self) -> float:
        """Seconds between requests that are spread evenly: P/L."""
        return self.period / self.limit

    def __str__(self) -> str:
        if self.period == 60:  # noqa: PLR2004 - a minute
            return f"{self.limit}/min"
        return f"{self.limit}/{'' if self.period == 1 else f'{self.period:.12g}'}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs to know besides the roster.

    Attributes:
        api_token: the organization's API key, with the scope "Write Driver Auth Token".
        base_url: ``https://…``; ``http://`` on a loopback address only.
        rate: the organization's quota for this endpoint.
        burst: requests that may leave back to back, 1 to ``rate.limit``; None means ``rate.limit``.
        timeout: seconds for one request, connection to last byte.
        concurrency: most requests in flight.
        attempts: requests per row before it is given up; replies of 429 do not count.
        give_up_after: seconds after which the run stops if nothing gets through any more: the server refuses all
            requests as too many, or cannot be reached.
        proxy: URL of the proxy to use, None for none; a secret because it may hold a password.
        quota: with whom the runs of an organization share its quota: ``process``, ``host`` (all processes of this user
            on this computer), or the ``redis://`` or ``rediss://`` address of a Redis server (several computers); an
            address becomes a secret because it may hold a password.
        ca_file: certificates to trust instead of the system's.
        min_validity: seconds that a token must still be valid: an earlier one that is good for so long is left alone,
            and one that no longer is at the end of the run gets a successor, where that can succeed.
        deadline: when the run has to be over, as a time with its zone or counted from its beginning; None for whenever.
        organization: its name, which several API tokens of one organization have in common: runs share its quota by
            it, instead of by the token; blank for none.

    Raises:
        SettingsError: for a value that cannot work.
    """

    api_token: Secret
    base_url: str = REGIONS["us"]
    rate: Rate = Rate(100, 60.0)
    burst: int | None = None
    timeout: float = 30.0
    concurrency: int = 16
    attempts: int = 5
    give_up_after: float = 600.0
    proxy: Secret | None = None
    ca_file: str | None = None
    quota: str | Secret = "host"
    min_validity: float = 300.0
    deadline: datetime | timedelta | None = None
    organization: str = ""

    def __post_init__(self) -> None:
        token: object = self.api_token
        if not isinstance(token, Secret):
            raise SettingsError("api_token must be a Secret", "write api_token=Secret(text)")
        if not re.fullmatch(r"[!-~]+", token.reveal()):
            raise SettingsError(
                "the API token is empty or holds spaces, line breaks or characters outside ASCII",
                "copy it again from the Samsara dashboard; it is a single word",
            )
        object.__setattr__(self, "base_url", _checked_base_url(self.base_url))
        object.__setattr__(self, "quota", _checked_quota(self.quota))
        for name, value, least in (
            ("timeout", self.timeout, 0.001),
            ("concurrency", self.concurrency, 1),
            ("attempts", self.attempts, 1),
            ("give_up_after", self.give_up_after, 0.0),
            ("min_validity", self.min_validity, 0.0),
        ):
            if not least <= value < float("inf") or (isinstance(least, int) and value != int(value)):
                raise SettingsError(f"{name} cannot be {value}", f"the least is {least}")
        if isinstance(self.deadline, datetime) and self.deadline.tzinfo is None:
            raise SettingsError("the deadline has no time zone", "write datetime(…).astimezone()")
        if isinstance(self.deadline, timedelta) and self.deadline <= timedelta(0):
            raise SettingsError("the deadline leaves no time", "choose a longer time")
        if self.burst is not None and not 1 <= self.burst <= self.rate.limit:
            raise SettingsError(
                f"a burst of {self.burst} does not fit a rate of {self.rate}",
                f"choose 1 to {self.rate.limit}",
            )

    @property
    def is_remote(self) -> bool:
        """Whether another computer is asked, and not a stand-in for the API on this one."""
        return not is_loopback(urlsplit(self.base_url).hostname or "")


def _checked_base_url(text: str) -> str:
    """The base URL without a trailing slash.

    Raises:
        SettingsError: the address could leak the key (plain http, credentials inside) or is none.
    """
    tip = "for example https://api.samsara.com, or choose --region us, eu or ca"
    # Not quoted unless it is harmless: it may hold a password.
    parts = split_address(text.strip())
    if parts is None:
        raise SettingsError("the base URL is not a web address", tip)
    host = parts.hostname
    if "@" in text:
        raise SettingsError("the base URL must not contain a user name or password", tip)
    if not host or parts.scheme not in ("https", "http") or not re.fullmatch(r"[^\s?#\\]+", text.strip()):
        raise SettingsError("the base URL is not a web address this tool can use", tip)
    if parts.scheme == "http" and not is_loopback(host):
        raise SettingsError(
            f"the base URL {text!r} would send the API token unencrypted",
            "use https:// (http:// is accepted only for this computer itself, as in http://127.0.0.1:8080)",
        )
    return text.strip().rstrip("/")


def _checked_quota(quota: str | Secret) -> str | Secret:
    """``process``, ``host``, or the address of a Redis server as a secret.

    Raises:
        SettingsError: it is none of these. The message does not quote it, since it may hold a password.
    """
    if quota in ("process", "host"):
        return quota
    text = quota.reveal() if isinstance(quota, Secret) else quota
    parts = split_address(text)
    if (
        parts is None
        or parts.scheme not in ("redis", "rediss")
        or not parts.hostname
        or re.search(r"\s|#", text)  # a # or @ in a password must be written as %23 or %40
        or "@" in parts.query
    ):
        shown = f"{text!r}" if re.fullmatch(r"[\w-]{0,20}", text) else "the value"
        raise SettingsError(
            f"{shown} of --quota or BATCH_ISSUER_QUOTA does not say with whom to share the quota",
            "choose process, host, or the address of a Redis server, such as redis://quota.example.com/0 "
            "(write / ? # @ in a password as %2F %3F %23 %40)",
        )
    if not re.fullmatch(r"/?\d*", parts.path):
        raise SettingsError("the Redis address names no database", "end it with a number, as in redis://host/0")
    return Secret(text)


def split_address(text: str) -> SplitResult | None:
    """The parts of a web address, None where host or port cannot be told."""
    try:
        parts = urlsplit(text)
        _ = parts.hostname, parts.port
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this computer."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def utc_from_milliseconds(milliseconds: int) -> datetime:
    """Unix milliseconds, as the API states expiry, as a UTC time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
