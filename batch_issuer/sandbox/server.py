"""A local stand-in for the one endpoint of Samsara's API that this project uses.

It imports nothing from the package, so that a mistake shared by client and server cannot make both agree.

    async with Sandbox(limiter="fixed", limit=100, per=60.0, script="ok*50,503*3,reset") as sandbox:
        ...  # POST {sandbox.url}/fleet/drivers/auth-token, Authorization: Bearer {sandbox.api_token}
        assert sandbox.peak() <= 100

What it checks, in this order: path (404), method (405), API token (401), rate limit (429), the scripted or
random fault, body (413, 400), driver (404, 400). Every driver exists, but for these (as with test cards for
payments):

    driverId ending in   externalId or username ending in   answer
    404404               -unknown                           404 Object not found.
    400400               -deactivated                       400 Driver is deactivated.

Faults, by name:

    400 ... 599   that status with the usual error envelope; a 429 has its Retry-After
    reset         the connection is reset; nothing was issued
    lost          answered as usual, but the connection closes before the answer leaves: a token was issued
    hang          the same, but the connection stays open until the client leaves or the sandbox stops
    slow          the usual answer, byte by byte over 2 seconds
    truncated     the usual answer cut in half under its full Content-Length, then the connection closes
    html          200 with a proxy's HTML page; nothing was issued
    badjson       200 with broken JSON; nothing was issued
    shape         200 with {"data": null}; nothing was issued

A script is a comma-separated list of these names and `ok`, one for each request that passed the rate limit:
`ok*50` stands for fifty, `401*` at the end for all that follow (a key revoked half-way).

GET /_sandbox/ledger, with the same API token, shows {"entries": [...]}, each with at, identifier, code,
requestId, counted, fault, status, token and expirationTime, as LedgerEntry describes them.

Sources: the vendor's OpenAPI description and its guides to rate limits and response codes
(developers.samsara.com).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import math
import os
import random
import re
import secrets
import socket
import struct
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from .limiters import make_limiter, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

AUTH_TOKEN_PATH = "/fleet/drivers/auth-token"  # noqa: S105 - a path
LEDGER_PATH = "/_sandbox/ledger"
FAULTS = ("reset", "lost", "hang", "slow", "truncated", "html", "badjson", "shape")

_METHODS = {AUTH_TOKEN_PATH: "POST", LEDGER_PATH: "GET"}
_MOST_BODY = 64 * 1024  # bytes
_LEAST_CODE = 12  # characters
_LEAST_USERNAME = 4  # characters
_MOST_PORT = 65535
_SLOW_SECONDS = 2.0
_HANG_POLL = 0.05  # seconds between two looks at whether the client has left
_SHUTDOWN_SECONDS = 0.05  # aiohttp waits up to twice this for each unfinished request
_SCRIPT_ENTRY = re.compile(r"([a-z0-9]+)(?:\*([0-9]*))?")
_UNANSWERED = frozenset({"reset", "lost", "hang"})


@dataclass(slots=True)
class LedgerEntry:
    """One request for a token that came with the right API token, as the server saw it."""

    at: float  # seconds of time.monotonic(), when the limiter saw it
    identifier: str  # "driverId=...", "externalId=...", "username=..."; "" if none was valid
    code: str = field(repr=False)
    request_id: str
    counted: bool = True  # False: the limiter refused it
    fault: str = ""
    status: int | None = None  # None: no answer was sent
    token: str = field(default="", repr=False)
    expiration_time: int | None = None  # Unix milliseconds


class Sandbox:
    """The server; use it as `async with Sandbox(...) as sandbox:` or call start() and stop().

    limiter, limit, per, burst: see make_limiter; `per` is in seconds.
    latency: the least and the most seconds a request takes. A random share of them passes before the limiter
        counts the request and the rest after it, so requests overtake one another.
    token_lifetime: seconds from issue to expiration.
    faults: fault name to probability, at most 1 in all; they apply when the script is used up.
    script: see the module's docstring.
    api_token: the key that clients must send; a random one by default.
    host, port: a loopback address and a TCP port, 0 for any free one.
    seed: makes latencies, faults and request ids repeatable.

    Raises ValueError, with a line fit for a user, for arguments that make no sense.
    """

    def __init__(  # noqa: PLR0913 - all by name
        self,
        *,
        limiter: str = "sliding",
        limit: int = 100,
        per: float = 60.0,
        burst: int | None = None,
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
        self._faults = _checked_faults(faults or {})
        self._script = _parse_script(script)
        self._host, self._port = host, port
        self._random = random.Random(seed)  # noqa: S311 - tokens come from secrets
        self._runner: web.ServerRunner | None = None

    def __repr__(self) -> str:
        return f"<Sandbox url={self.url!r}, {self._limit_text}, {len(self.ledger)} requests>"

    async def start(self) -> None:
        """Listen, and set `url`. Raises OSError if the port is taken."""
        if self._runner is not None:
            raise RuntimeError("the sandbox has been started already")
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
        """Close all connections, hanging ones too; the ledger stays."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def peak(self) -> int:
        """Return the most requests that were counted in any window [t, t + per)."""
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
            return web.Response(status=400)  # the client left half-way: nobody reads this
        latency = self._random.uniform(*self._latency)
        inward = latency * self._random.random()
        if latency:
            await asyncio.sleep(inward)
        answer, fault = self._decide(request, body)
        if latency:
            await asyncio.sleep(latency - inward)
        return await _deliver(request, answer, fault)

    def _decide(self, request: web.BaseRequest, body: bytes | None) -> tuple[_Answer, str]:
        """Return, as things stand at this instant, the answer and the fault to deliver it with."""
        request_id = f"{self._random.getrandbits(32):08x}"
        method = _METHODS.get(request.path)
        if method is None:
            return _error(404, "Not found.", request_id), ""
        if request.method != method:
            return _error(405, "Method not allowed.", request_id, Allow=method), ""
        if not self._is_authorized(request):
            return _error(401, "Invalid token.", request_id), ""
        if request.path == LEDGER_PATH:
            entries = [{_camel_case(key): value for key, value in asdict(entry).items()} for entry in self.ledger]
            return _Answer(200, json.dumps({"entries": entries}).encode()), ""

        ask = _read_ask(body)
        entry = LedgerEntry(time.monotonic(), ask.identifier, ask.code, request_id)
        self.ledger.append(entry)
        wait = self._limiter.admit(entry.at)
        if wait is None:
            entry.fault = self._next_fault()
            answer = self._faulty(entry) or self._issue(ask, entry)
        else:
            entry.counted = False
            answer = _rate_limited(wait, request_id)
        entry.status = None if entry.fault in _UNANSWERED else answer.status
        return answer, entry.fault

    def _is_authorized(self, request: web.BaseRequest) -> bool:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        key_matches = hmac.compare_digest(key.encode(errors="surrogateescape"), self.api_token.encode())
        return scheme.lower() == "bearer" and key_matches

    def _next_fault(self) -> str:
        scripted = next(self._script, None)
        if scripted is not None:
            return "" if scripted == "ok" else scripted
        draw = self._random.random()
        for name, probability in self._faults.items():
            draw -= probability
            if draw < 0:
                return name
        return ""

    def _faulty(self, entry: LedgerEntry) -> _Answer | None:
        """Return the answer of a fault that takes the place of the usual one."""
        if entry.fault == "reset":
            return _Answer(500, b"")  # never leaves
        if entry.fault in _UNUSABLE:
            return _UNUSABLE[entry.fault]
        if not entry.fault.isdigit():
            return None
        if entry.fault == "429":
            return _rate_limited(self._random.uniform(0.05, 0.5), entry.request_id)
        return _error(int(entry.fault), "This is a fault of the sandbox.", entry.request_id)

    def _issue(self, ask: _Ask, entry: LedgerEntry) -> _Answer:
        """Return the usual answer: a token, or what is wrong with the request or its driver."""
        if ask.refusal is not None:
            return _error(*ask.refusal, entry.request_id)
        entry.token = secrets.token_urlsafe(24)
        entry.expiration_time = int((time.time() + self._token_lifetime) * 1000)
        data = {"token": entry.token, "expirationTime": entry.expiration_time}
        return _Answer(200, json.dumps({"data": data}).encode())


class _Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] | None = None


_UNUSABLE = {
    "html": _Answer(200, b"<html><body><h1>Sign in to the guest network</h1></body></html>", "text/html"),
    "badjson": _Answer(200, b'{"data": {"token": "'),
    "shape": _Answer(200, b'{"data": null}'),
}


def _error(status: int, message: str, request_id: str, **headers: str) -> _Answer:
    body = json.dumps({"message": message, "requestId": request_id}).encode()
    return _Answer(status, body, headers=headers)


def _rate_limited(wait: float, request_id: str) -> _Answer:
    seconds = math.ceil(wait * 1e5) / 1e5  # rounded up: waiting just that long suffices
    return _error(429, "Exceeded rate limit.", request_id, **{"Retry-After": f"{seconds:.5f}"})


class _Ask(NamedTuple):
    """What a body asks for, as far as it can be read."""

    identifier: str = ""
    code: str = ""
    refusal: tuple[int, str] | None = None  # status and message


def _read_ask(body: bytes | None) -> _Ask:
    if body is None:
        return _Ask(refusal=(413, "Request body is too large."))
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return _Ask(refusal=(400, "Request body must be a JSON object."))

    code = fields.get("code")
    problems = [] if _is_code(code) else [f"code must be a string of {_LEAST_CODE} characters or more."]
    given = {name: fields[name] for name in _IDENTIFIERS if fields.get(name) is not None}
    problems += [f"{name} is malformed." for name, value in given.items() if not _IDENTIFIERS[name](value)]
    if not given:
        problems.append(f"One of {', '.join(_IDENTIFIERS)} is required.")

    name = next((name for name, value in given.items() if _IDENTIFIERS[name](value)), "")
    identifier = f"{name}={given[name]}" if name else ""
    refusal = (400, problems[0]) if problems else _driver_refusal(identifier)
    return _Ask(identifier, code if isinstance(code, str) else "", refusal)


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


# The most specific first: where several are given, it wins.
_IDENTIFIERS = {"driverId": _is_driver_id, "externalId": _is_external_id, "username": _is_username}


async def _read_body(request: web.BaseRequest) -> bytes | None:
    """Return the body, or None if it is too large."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _MOST_BODY:
            return None
    return bytes(body)


async def _deliver(request: web.BaseRequest, answer: _Answer, fault: str) -> web.StreamResponse:
    status, body, content_type, headers = answer
    response = web.Response(status=status, body=body, content_type=content_type, headers=headers)
    if fault in {"slow", "truncated"}:
        return await _deliver_in_part(request, response, body, fault)
    while fault == "hang" and request.transport is not None:  # noqa: ASYNC110 - aiohttp has no event for it
        await asyncio.sleep(_HANG_POLL)
    if fault in {"reset", "lost"} and request.transport is not None:
        if fault == "reset":
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # on, 0 s: an RST instead of a FIN
            peer = request.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    return response  # aiohttp drops it if the connection is closed


async def _deliver_in_part(
    request: web.BaseRequest, response: web.Response, body: bytes, fault: str
) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    with suppress(ConnectionError):  # the client left
        await stream.prepare(request)
        if fault == "slow":
            for position in range(len(body)):
                await stream.write(body[position : position + 1])
                await asyncio.sleep(_SLOW_SECONDS / len(body))
        else:
            await stream.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
    return stream


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_fault(name: str) -> None:
    known = name in FAULTS or re.fullmatch("[45][0-9][0-9]", name) is not None
    require(known, f"unknown fault {name!r}; choose a status from 400 to 599 or one of {', '.join(FAULTS)}")


def _checked_faults(faults: Mapping[str, float]) -> dict[str, float]:
    for name, probability in faults.items():
        _require_fault(name)
        require(0 <= probability <= 1, f"the probability of {name!r} must be 0 to 1, not {probability}")
    total = sum(faults.values())
    require(total < 1 + 1e-9, f"the probabilities of the faults must not exceed 1 in all, not {total:g}")
    return dict(faults)


def _parse_script(script: str) -> Iterator[str]:
    """Return the answers that `script` lists, one by one; see the module's docstring."""
    parts: list[Iterator[str]] = []
    entries = [entry.strip() for entry in script.split(",")] if script.strip() else []
    for number, entry in enumerate(entries, start=1):
        match = _SCRIPT_ENTRY.fullmatch(entry)
        if match is None or match[2] == "0":
            raise ValueError(f"the script's entry {entry!r} is none of name, name*3 and name*")
        name, count = match[1], match[2]
        if name != "ok":
            _require_fault(name)
        if count == "":
            require(number == len(entries), f"the script's entry {entry!r} never ends: only the last one may")
            parts.append(repeat(name))
        else:
            parts.append(repeat(name, int(count or 1)))
    return chain.from_iterable(parts)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
