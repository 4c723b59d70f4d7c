"""The replies of the sandbox: those of the API, or with a requested fault.

Faults, by name:

    400 ... 599   that status with the usual error envelope; a 429 has a Retry-After unless the sandbox sends none
    reset         the connection is reset; no token is issued
    lost          a token is issued, but the connection closes before the reply is sent
    hang          the same, but the connection stays open until the client disconnects or the sandbox stops
    slow          the usual reply, byte by byte over 2 seconds
    truncated     half of the usual reply with the full Content-Length, then the connection closes
    html          200 with a proxy's HTML page; no token is issued
    badjson       200 with broken JSON; no token is issued
    shape         200 with {"data": null}; no token is issued

A script is a comma-separated list of these names and `ok`, one for each request that passed the rate limit. `ok*50`
stands for fifty, and `401*` at the end for all that follow (as if the API token was revoked during a run).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import socket
import struct
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from .limiters import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

FAULTS = ("reset", "lost", "hang", "slow", "truncated", "html", "badjson", "shape")
UNANSWERED = frozenset({"reset", "lost", "hang"})

_SLOW_SECONDS = 2.0
_HANG_POLL = 0.05  # seconds between checks whether the client has disconnected
_SCRIPT_ENTRY = re.compile(r"([a-z0-9]+)(?:\*([0-9]*))?")


class Answer(NamedTuple):
    """A reply, before a fault affects its delivery."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] | None = None


INSTEAD = {
    "reset": Answer(500, b""),  # never sent
    "html": Answer(200, b"<html><body><h1>Sign in to the guest network</h1></body></html>", "text/html"),
    "badjson": Answer(200, b'{"data": {"token": "'),
    "shape": Answer(200, b'{"data": null}'),
}
"""The replies of faults that replace the usual reply."""


def error(status: int, message: str, request_id: str, **headers: str) -> Answer:
    """Return an error in the API's envelope."""
    body = json.dumps({"message": message, "requestId": request_id}).encode()
    return Answer(status, body, headers=headers)


def rate_limited(wait: float | None, request_id: str) -> Answer:
    """Return a 429 with a Retry-After of `wait` seconds, or without one if `wait` is None."""
    headers = {}
    if wait is not None:
        seconds = math.ceil(wait * 1e5) / 1e5  # rounded up, so that waiting exactly that long is enough
        headers["Retry-After"] = f"{seconds:.5f}"
    return error(429, "Exceeded rate limit.", request_id, **headers)


def planned_faults(script: str, faults: Mapping[str, float], random: Random) -> Iterator[str]:
    """Yield the fault of each request, "" for none: first by the script, then by the probabilities.

    Raises ValueError, with a message for users, for an invalid script or probability.
    """
    for name, probability in faults.items():
        _require_fault(name)
        require(0 <= probability <= 1, f"the probability of {name!r} must be 0 to 1, not {probability}")
    total = sum(faults.values())
    require(total < 1 + 1e-9, f"the probabilities of the faults must add up to 1 at most, not {total:g}")
    names, weights = [*faults, ""], [*faults.values(), max(0.0, 1 - total)]
    return chain(_parse_script(script), (random.choices(names, weights)[0] for _ in repeat(None)))


def _parse_script(script: str) -> Iterator[str]:
    """Yield the faults in `script`; see the module's docstring."""
    parts: list[Iterator[str]] = []
    entries = [entry.strip() for entry in script.split(",")] if script.strip() else []
    for number, entry in enumerate(entries, start=1):
        match = _SCRIPT_ENTRY.fullmatch(entry)
        if match is None or match[2] == "0":
            raise ValueError(f"script entry {entry!r} is not of the form name, name*3 or name*")
        name, count = match[1], match[2]
        if name != "ok":
            _require_fault(name)
        fault = "" if name == "ok" else name
        if count == "":
            require(number == len(entries), f"script entry {entry!r} never ends; only the last one may")
            parts.append(repeat(fault))
        else:
            parts.append(repeat(fault, int(count or 1)))
    return chain.from_iterable(parts)


def _require_fault(name: str) -> None:
    known = name in FAULTS or re.fullmatch("[45][0-9][0-9]", name) is not None
    require(known, f"unknown fault {name!r}; choose a status from 400 to 599 or one of {', '.join(FAULTS)}")


async def deliver(request: web.BaseRequest, answer: Answer, fault: str) -> web.StreamResponse:
    """Send the reply as `fault` requires; "" sends it unchanged."""
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
    return response  # aiohttp discards it if the connection is closed


async def _deliver_in_part(
    request: web.BaseRequest, response: web.Response, body: bytes, fault: str
) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    with suppress(ConnectionError):  # the client disconnected
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
