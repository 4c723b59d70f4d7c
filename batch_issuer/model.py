"""The records that flow through a run. Secrets are masked in every repr.

::

    Driver (row, identifier) ──► Reply (of one request) ──► Outcome (of the row)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime


class IdentifierKind(StrEnum):
    """The three kinds of identifier that the API accepts, in its spelling."""

    DRIVER_ID = "driverId"
    EXTERNAL_ID = "externalId"
    USERNAME = "username"


@dataclass(frozen=True, slots=True)
class Identifier:
    """A driver as sent to the API; ``str()`` gives ``driverId=…`` as in the results file."""

    kind: IdentifierKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind}={self.value}"

    def as_json(self) -> dict[str, str | int]:
        """The field of the request body. The server requires ``driverId`` as a JSON integer."""
        return {str(self.kind): int(self.value) if self.kind is IdentifierKind.DRIVER_ID else self.value}


@dataclass(frozen=True, slots=True)
class Driver:
    """A row to send.

    Attributes:
        row: the row's number as the spreadsheet shows it (the header is row 1).
        identifier: as sent.
        before: the outcome of an earlier run, kept until there is a better one: a token that has not expired, or why
            there is none.
    """

    row: int
    identifier: Identifier
    before: Outcome | None = None


class Status(StrEnum):
    """The ``auth_status`` of a row."""

    ISSUED = "issued"
    FAILED = "failed"  # the API refused
    INVALID = "invalid"  # never sent: the roster cell is wrong
    DUPLICATE = "duplicate"  # the same driver as an earlier row
    UNKNOWN = "unknown"  # sent, no reply: a token may exist
    NOT_ATTEMPTED = "not_attempted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one roster row. ``token`` and ``code`` are secrets and stay out of the repr.

    Attributes:
        row: the row's number as the spreadsheet shows it (the header is row 1).
        status: see `Status`; only ``issued`` carries a token.
        identifier: as sent; None if the row has no valid one.
        token: the login token, byte for byte as received.
        code: the code sent for this token; redeeming the token needs both, and the identifier.
        expires_at: UTC; None without a token or a readable expiry.
        error: what went wrong, one line; for ``issued`` rows empty or a warning.
        hint: where to fix it, and how.
        http_status: of the last reply, None if there was none.
        request_id: the API's id of the last reply; Samsara's support needs it.
        attempts: requests sent for this row.
        issued_at: UTC, when the reply with the token was read.
        maybe_issued: whether a token may exist that was never received; also for a row that keeps its earlier one.
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
    maybe_issued: bool = False


MAX_ERROR = 300
"""Characters of a row's error."""


def shortened(line: str, length: int = MAX_ERROR) -> str:
    """The line, cut to this length and ending with an ellipsis if it is longer."""
    return line if len(line) <= length else f"{line[: length - 1]}…"


class Fault(StrEnum):
    """Why a request has no usable reply."""

    UNREACHABLE = "unreachable"  # no connection: the request never left
    TLS = "tls"  # no trusted connection: the request never left
    PROXY = "proxy"  # the proxy refused: the request never left
    DESCRIPTORS = "descriptors"  # too many open files: the request never left
    NO_ANSWER = "no answer"  # sent, then the connection broke
    TIMEOUT = "timeout"  # sent, then no reply in time
    UNUSABLE = "unusable"  # a reply, but not from this API
    REPEATED = "repeated"  # the token of another driver


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one request, as plain facts. `verdicts.judge` interprets them.

    Attributes:
        status: HTTP status, None if no complete reply came back.
        left: False only if the request provably never left this computer.
        fault: why there is no usable reply; None if there is one.
        token, expires_at: of a usable 200; ``expires_at`` in UTC.
        message: from the server, or this program's for a fault or a warning: one line, without secrets.
        request_id: the API's; other servers send none.
        web_page: whether the body is HTML, which the API never sends.
        lifetime: seconds from the server's time to ``expires_at``; from local time if the reply has no ``Date``.
        clock_ahead: seconds that the local clock is ahead of the server's; None if the reply has no ``Date``.
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
        """Whether the token was already expired on arrival."""
        return self.lifetime is not None and self.lifetime <= 0


class NeverLeftError(asyncio.CancelledError):
    """A request was cancelled before it left: it cannot have issued a token."""


class TokenIssuer(Protocol):
    """Turns one driver and a new code into one reply: the HTTP client, or a model of a server."""

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        """Send one request; never raises for anything the network or the server does.

        Raises:
            NeverLeftError: it was cancelled before it left; CancelledError if it may have left.
        """
        ...
