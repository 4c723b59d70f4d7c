"""A local test server for the endpoint of Samsara's API that this project uses.

It imports nothing from the package, so that client and server cannot share a mistake.

    async with Sandbox(limiter="fixed", limit=100, per=60.0, script="ok*50,503*3,reset") as sandbox:
        ...  # POST {sandbox.url}/fleet/drivers/auth-token, Authorization: Bearer {sandbox.api_token}
        assert sandbox.peak() <= 100

It checks, in this order: path (404), method (405), API token (401), rate limit (429), the scripted or random
fault (see answers.py), body (413, 400), driver (404, 400). Every driver exists except these (like test cards
for payments):

    driverId ending in   externalId or username ending in   reply
    404404               -unknown                           404 Object not found.
    400400               -deactivated                       400 Driver is deactivated.

GET /_sandbox/ledger, with the same API token, returns {"entries": [...]}, each with at, identifier, code,
requestId, counted, fault, status, token and expirationTime; see LedgerEntry.

Sources: the vendor's OpenAPI description and its guides to rate limits and response codes
(developers.samsara.com).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import math
import random
import re
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from .answers import INSTEAD, UNANSWERED, Answer, deliver, error, planned_faults, rate_limited
from .limiters import make_limiter, require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

AUTH_TOKEN_PATH = "/fleet/drivers/auth-token"  # noqa: S105 - a path
LEDGER_PATH = "/_sandbox/ledger"

_METHODS = {AUTH_TOKEN_PATH: "POST", LEDGER_PATH: "GET"}
_MOST_BODY = 64 * 1024  # bytes
_LEAST_CODE = 12  # characters
_LEAST_USERNAME = 4  # characters
_MOST_PORT = 65535
_SHUTDOWN_SECONDS = 0.05  # aiohttp waits up to twice this for each unfinished request


@dataclass(slots=True)
class LedgerEntry:
    """A request for a token with the right API token, as the server saw it."""

    at: float  # seconds of time.monotonic(), when the limiter saw it
    identifier: str  # "driverId=...", "externalId=...", "username=..."; "" if none was valid
    code: str = field(repr=False)
    request_id: str
    counted: bool = True  # False: the limiter refused it (a strict one counts it nevertheless)
    fault: str = ""
    status: int | None = None  # None: no reply was sent
    token: str = field(default="", repr=False)
    expiration_time: int | None = None  # Unix milliseconds


class Sandbox:
    """The server; use it as `async with Sandbox(...) as sandbox:` or call start() and stop().

    limiter, limit, per, burst: see make_limiter; `per` is in seconds.
    retry_after: whether 429s, of the limiter and of faults, have a Retry-After.
    latency: the least and the most seconds a request takes. A random part of them passes before the limiter
        counts the request, so requests overtake one another.
    token_lifetime: seconds from issue to expiration.
    faults: fault name to probability, at most 1 in total; they apply after the script.
    script: the faults of the first requests; see answers.py.
    api_token: the API token that clients must send; a random one by default.
    host, port: a loopback address and a TCP port, 0 for any free one.
    seed: makes latencies, faults and request ids repeatable.

    Raises ValueError, with a message for users, for invalid arguments.
    """

    def __init__(  # noqa: PLR0913 - all by name
        self,
        *,
        limiter: str = "sliding",
        limit: int = 100,
        per: float = 60.0,
        burst: int | None = None,
        retry_after: bool = True,
        latency: tuple[float, float] = (0.0, 0.0),
        token_lifetime: float = 900.0,
        faults: Mapping[str, float] | None = None,
        script: str = "",
        api_token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int | None = None,
    ) -> None:
        low, high = latency
        require(0 <= low <= high < math.inf, f"the latency must be seconds, 0 <= low <= high, not {low}, {high}")
        require(
            0 < token_lifetime < math.inf,
            f"the token lifetime must be positive seconds, not {token_lifetime}",
        )
        require(_is_loopback(host), f"the sandbox listens on loopback only, 127.0.0.1 or ::1, not {host!r}")
        require(0 <= port <= _MOST_PORT, f"the port must be 0 (any free one) to {_MOST_PORT}, not {port}")
        self.api_token = f"sandbox_{secrets.token_urlsafe(24)}" if api_token is None else api_token
        require(bool(re.fullmatch("[!-~]+", self.api_token)), "the API token must be visible ASCII characters")
        self.url = ""  # "http://127.0.0.1:PORT" once started
        self.ledger: list[LedgerEntry] = []  # each authorized request for a token, in the order of counting
        self._limiter = make_limiter(limiter, limit, per, burst)
        self._limit_text = f"limiter={limiter!r}, limit={limit}, per={per}"
        self._per = per
        self._latency = latency
        self._token_lifetime = token_lifetime
        self._retry_after = retry_after
        self._host, self._port = host, port
        self._random = random.Random(seed)  # noqa: S311 - tokens come from secrets
        self._faults = planned_faults(script, faults or {}, self._random)
        self._runner: web.ServerRunner | None = None

    def __repr__(self) -> str:
        return f"<Sandbox url={self.url!r}, {self._limit_text}, {len(self.ledger)} requests>"

    async def start(self) -> None:
        """Listen, and set `url`. Raises OSError if the port is taken."""
        if self._runner is not None:
            raise RuntimeError("the sandbox is already running")
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{host}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close all connections, including hanging ones; the ledger stays."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def peak(self) -> int:
        """Return the most requests, without refused ones, counted in any window [t, t + per)."""
        times = [entry.at for entry in self.ledger if entry.counted]
        peak = first = 0
        for last, at in enumerate(times):
            while at - times[first] >= self._per:
                first += 1
            peak = max(peak, last - first + 1)
        return peak

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await _read_body(request)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400)  # the client disconnected, so no one reads this
        latency = self._random.uniform(*self._latency)
        inward = latency * self._random.random()
        if latency:
            await asyncio.sleep(inward)
        answer, fault = self._decide(request, body)
        if latency:
            await asyncio.sleep(latency - inward)
        return await deliver(request, answer, fault)

    def _decide(self, request: web.BaseRequest, body: bytes | None) -> tuple[Answer, str]:
        """Return the reply and the fault to deliver it with, by the state at this moment."""
        request_id = f"{self._random.getrandbits(32):08x}"
        method = _METHODS.get(request.path)
        if method is None:
            return error(404, "Not found.", request_id), ""
        if request.method != method:
            return error(405, "Method not allowed.", request_id, Allow=method), ""
        if not self._is_authorized(request):
            return error(401, "Invalid token.", request_id), ""
        if request.path == LEDGER_PATH:
            entries = [{_camel_case(key): value for key, value in asdict(entry).items()} for entry in self.ledger]
            return Answer(200, json.dumps({"entries": entries}).encode()), ""

        wanted = _read_token_request(body)
        entry = LedgerEntry(time.monotonic(), wanted.identifier, wanted.code, request_id)
        self.ledger.append(entry)
        wait = self._limiter.admit(entry.at)
        if wait is None:
            entry.fault = next(self._faults)
            answer = self._faulty(entry) or self._issue(wanted, entry)
        else:
            entry.counted = False
            answer = self._rate_limited(wait, request_id)
        entry.status = None if entry.fault in UNANSWERED else answer.status
        return answer, entry.fault

    def _is_authorized(self, request: web.BaseRequest) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(token.encode(errors="surrogateescape"), self.api_token.encode())
        return scheme.lower() == "bearer" and is_right

    def _faulty(self, entry: LedgerEntry) -> Answer | None:
        """Return the reply of a fault that replaces the usual one, if any."""
        if not entry.fault.isdigit():
            return INSTEAD.get(entry.fault)
        if entry.fault == "429":
            return self._rate_limited(self._random.uniform(0.05, 0.5), entry.request_id)
        return error(int(entry.fault), "This is a fault of the sandbox.", entry.request_id)

    def _rate_limited(self, wait: float, request_id: str) -> Answer:
        return rate_limited(wait if self._retry_after else None, request_id)

    def _issue(self, wanted: _TokenRequest, entry: LedgerEntry) -> Answer:
        """Return the usual reply: a token, or an error of the request or its driver."""
        if wanted.refusal is not None:
            return error(*wanted.refusal, entry.request_id)
        entry.token = f"sandbox-{secrets.token_urlsafe(24)}"  # recognizable as not real
        entry.expiration_time = int((time.time() + self._token_lifetime) * 1000)
        data = {"token": entry.token, "expirationTime": entry.expiration_time}
        return Answer(200, json.dumps({"data": data}).encode())


class _TokenRequest(NamedTuple):
    """The request in a body, as far as it is readable."""

    identifier: str = ""
    code: str = ""
    refusal: tuple[int, str] | None = None  # status and message


def _read_token_request(body: bytes | None) -> _TokenRequest:
    if body is None:
        return _TokenRequest(refusal=(413, "Request body is too large."))
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return _TokenRequest(refusal=(400, "Request body must be a JSON object."))

    code = fields.get("code")
    problems = [] if _is_code(code) else [f"code must be a string of {_LEAST_CODE} characters or more."]
    given = {name: fields[name] for name in _IDENTIFIERS if fields.get(name) is not None}
    problems += [f"{name} is malformed." for name, value in given.items() if not _IDENTIFIERS[name](value)]
    if not given:
        problems.append(f"One of {', '.join(_IDENTIFIERS)} is required.")

    name = next((name for name, value in given.items() if _IDENTIFIERS[name](value)), "")
    identifier = f"{name}={given[name]}" if name else ""
    refusal = (400, problems[0]) if problems else _driver_refusal(identifier)
    return _TokenRequest(identifier, code if isinstance(code, str) else "", refusal)


def _driver_refusal(identifier: str) -> tuple[int, str] | None:
    is_number = identifier.startswith("driverId=")
    if identifier.endswith("404404" if is_number else "-unknown"):
        return 404, "Object not found."
    if identifier.endswith("400400" if is_number else "-deactivated"):
        return 400, "Driver is deactivated."
    return None


def _is_code(value: object) -> bool:
    return isinstance(value, str) and len(value) >= _LEAST_CODE


def _is_driver_id(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63  # not isinstance: bool is an int


def _is_external_id(value: object) -> bool:
    return isinstance(value, str) and all(value.partition(":"))


def _is_username(value: object) -> bool:
    return isinstance(value, str) and len(value) >= _LEAST_USERNAME and not set(value) & set(" @")


# The most specific first: it wins if several are given.
_IDENTIFIERS = {"driverId": _is_driver_id, "externalId": _is_external_id, "username": _is_username}


async def _read_body(request: web.BaseRequest) -> bytes | None:
    """Return the body, or None if it is too large."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _MOST_BODY:
            return None
    return bytes(body)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
