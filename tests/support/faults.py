"""Everything that can go wrong between a client and the API, and the result that it must have.

A `Gateway` in front of the real sandbox tampers with requests in the ways of `FAULTS`. The sandbox's ledger records
what was issued, even if the reply is lost.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import trustme
from support.clock import SocketLoop
from support.raw_server import RawServer, http, server_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

    from support.clock import Traffic
    from support.raw_server import Exchange

    from batch_issuer.sandbox import Sandbox

    Tamper = Callable[["Exchange", "Gateway"], Awaitable[None]]


class Kind(Enum):
    """The result that a fault must have, for the row and for the run."""

    HARMLESS = "the row gets its token"
    EXPIRED = "the row gets its token, which is expired"
    UNANSWERED = "the row is tried again; if other rows have the same fault, all wait"
    NEVER_LEFT = "all wait until there is a connection"
    NO_TLS = "all wait; if no reply was ever better, this is not the API"
    THROTTLED = "all wait as long as the server requires"
    THROTTLED_FOR_LONG = "the run ends instead of waiting that long"
    REJECTED = "the row has failed"
    FOREIGN = "the row has failed; if other rows have the same fault, all wait, or this is not the API"
    IN_OTHER_WORDS = "the row has failed; if other rows have the same fault, all wait"
    UNAUTHORIZED = "the run ends"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: in test IDs.
        kind: its result.
        tamper: applies it to a request that the gateway has read.
        route: for faults of the connection, the name of the place where it leads instead.
    """

    name: str
    kind: Kind
    tamper: Tamper | None = None
    route: str = ""


# --- answers


def instead(answer: bytes) -> Tamper:
    """Answer with this instead of forwarding the request."""

    async def tamper(exchange: Exchange, _gateway: Gateway) -> None:
        await exchange.send(answer)

    return tamper


def changed(change: Callable[[bytes, bytes], bytes], *, close: bool = False) -> Tamper:
    """A token is issued; head and body of the reply are changed."""

    async def tamper(exchange: Exchange, gateway: Gateway) -> None:
        head, _, body = (await gateway.forward(exchange.request.raw)).partition(b"\r\n\r\n")
        await exchange.send(change(head, body))
        if close:
            exchange.writer.close()

    return tamper


def with_data(**fields: object) -> Tamper:
    """A token is issued; these fields of the reply are changed, or removed if None."""

    def change(_head: bytes, body: bytes) -> bytes:
        document = json.loads(body)
        data = {**document.get("data", {}), **fields}
        return http(200, {**document, "data": {name: value for name, value in data.items() if value is not None}})

    return changed(change)


async def reset(exchange: Exchange, _gateway: Gateway) -> None:
    _reset(exchange.writer)


async def lost(exchange: Exchange, gateway: Gateway) -> None:
    await gateway.forward(exchange.request.raw)
    exchange.writer.close()


async def silence(exchange: Exchange, gateway: Gateway) -> None:
    await gateway.forward(exchange.request.raw)
    await until_it_leaves(exchange)


async def until_it_leaves(exchange: Exchange) -> None:
    with suppress(OSError):
        await exchange.reader.read(1)
    exchange.writer.close()


async def a_byte_a_second(exchange: Exchange, gateway: Gateway) -> None:
    for byte in await gateway.forward(exchange.request.raw):
        await exchange.send(bytes([byte]))
        await asyncio.sleep(1.0)


async def headers_without_end(exchange: Exchange, gateway: Gateway) -> None:
    await gateway.forward(exchange.request.raw)
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await exchange.send(b"X-More: and more\r\n")
        await asyncio.sleep(0.5)


async def a_hundred_megabytes(exchange: Exchange, gateway: Gateway) -> None:
    await gateway.forward(exchange.request.raw)
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(100):
        await exchange.send(b"x" * 1_000_000)


async def the_token_of_another(exchange: Exchange, gateway: Gateway) -> None:
    answer = await gateway.forward(exchange.request.raw)
    gateway.repeated = gateway.repeated or answer
    await exchange.send(gateway.repeated)


async def closed_afterwards(exchange: Exchange, gateway: Gateway) -> None:
    """As a server does when a connection was idle too long, without announcing it in the reply."""
    await exchange.send(await gateway.forward(exchange.request.raw))
    exchange.writer.close()


def chunked(_head: bytes, body: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


ENVELOPE = {"message": "This is a fault of the gateway.", "requestId": "f4017"}
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>to the guest network</body></html>"
BODIES: dict[str, object] = {"envelope": ENVELOPE, "text": b"upstream connect error", "HTML": PAGE}
STATUSES = {
    **dict.fromkeys((400, 404, 405, 409, 413), Kind.REJECTED),
    **dict.fromkeys((401, 403), Kind.UNAUTHORIZED),
    429: Kind.THROTTLED,
    **dict.fromkeys((408, 500, 502, 503, 504), Kind.UNANSWERED),
}
IN_OTHER_WORDS = {(400, "text"), (409, "text"), (413, "text")}
FOREIGN = {(404, "text"), (405, "text"), *((status, "HTML") for status in (400, 404, 405, 409, 413))}
WAITS = {
    "0.40235": Kind.THROTTLED,
    "3": Kind.THROTTLED,
    "0": Kind.THROTTLED,
    "nan": Kind.THROTTLED,
    "-5": Kind.THROTTLED,
    "soon": Kind.THROTTLED,
    "1e3": Kind.THROTTLED,
    "Fri, 01 Jan 2100 00:00:02 GMT": Kind.THROTTLED,
    "Thu, 01 Jan 1970 00:00:00 GMT": Kind.THROTTLED,
    "86400": Kind.THROTTLED_FOR_LONG,
    "Sat, 02 Jan 2100 00:00:00 GMT": Kind.THROTTLED_FOR_LONG,
}
DATE = "Date: Fri, 01 Jan 2100 00:00:00 GMT"


def _faults() -> Iterator[Fault]:
    for name in ("refused", "no name", "no connection in time", "reset at once"):
        kind = Kind.UNANSWERED if name == "reset at once" else Kind.NEVER_LEFT
        yield Fault(name, kind, route=name)
    for name in ("another host's certificate", "no TLS", "an authority that is not trusted"):
        yield Fault(name, Kind.NO_TLS, route=name)

    unanswered: dict[str, Tamper] = {
        "reset after the request": reset,
        "closed after the request": changed(lambda *_: b"", close=True),
        "answer lost": lost,
        "silence": silence,
        "half a body": changed(lambda head, body: head + b"\r\n\r\n" + body[: len(body) // 2], close=True),
        "Content-Length too long": changed(lambda _, body: http(200, body, length=len(body) + 9), close=True),
        "Content-Length too short": changed(lambda _, body: http(200, body, length=len(body) - 9), close=True),
        "Content-Length is none": changed(lambda _, body: http(200, body).replace(b"Length: ", b"Length: -")),
        "a byte a second": a_byte_a_second,
        "headers without end": headers_without_end,
        "a hundred megabytes": a_hundred_megabytes,
        "garbage": changed(lambda *_: b"\x00\xff\x16\x03 not HTTP\r\n\r\n", close=True),
        "200 with HTML": instead(http(200, PAGE)),
        "200, empty": instead(http(200)),
        "200 with []": instead(http(200, [])),
        "200 without data": instead(http(200, {"data": None})),
        "200 without token": with_data(token=None),
        "200 with a number as token": with_data(token=7),
        "200 with an empty token": with_data(token=""),
        "200 with half a document": changed(lambda _, body: http(200, body[:-3])),
        "the token of another": the_token_of_another,
        "204": instead(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "302 to another host": instead(http(302, b"", "Location: https://login.example.net/?from=api")),
        "301 to HTTP": instead(http(301, PAGE, "Location: http://api.example.com/fleet")),
        "307 to itself": instead(http(307, b"", "Location: /fleet/drivers/auth-token")),
    }
    for name, tamper in unanswered.items():
        yield Fault(name, Kind.UNANSWERED, tamper)

    seconds = 1_710_000_000
    harmless: dict[str, Tamper] = {
        "expiry as text": with_data(expirationTime="1710000000000"),
        "expiry in seconds": with_data(expirationTime=seconds),
        "expiry absurdly far": with_data(expirationTime=10**17),
        "no expiry": with_data(expirationTime=None),
        "closed between requests": closed_afterwards,
        "HTTP/1.0": changed(lambda _, body: b"HTTP/1.0 200 OK\r\n\r\n" + body, close=True),
        "gzip": changed(lambda _, body: http(200, gzip.compress(body), "Content-Encoding: gzip")),
        "chunked": changed(chunked),
    }
    for name, tamper in harmless.items():
        yield Fault(name, Kind.HARMLESS, tamper)
    yield Fault("expiry in the past", Kind.EXPIRED, with_data(expirationTime=seconds * 1000))

    for status, kind in STATUSES.items():
        for name, body in BODIES.items():
            meant = Kind.FOREIGN if (status, name) in FOREIGN else kind
            meant = Kind.IN_OTHER_WORDS if (status, name) in IN_OTHER_WORDS else meant
            yield Fault(f"{status} with {name}", meant, instead(http(status, body)))
    for wait, kind in WAITS.items():
        yield Fault(f"429, Retry-After: {wait}", kind, instead(http(429, ENVELOPE, f"Retry-After: {wait}", DATE)))


FAULTS = tuple(_faults())


# --- the gateway


class NetworkLoop(SocketLoop):
    """Virtual time, and a network in which a connection may lead to the wrong place.

    Attributes:
        gateway: the server that the client connects to.
    """

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(traffic)
        self.gateway: Gateway | None = None

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        assert host == "localhost"
        if self.gateway is not None and self.gateway.leads_to(self.gateway.connections + 1) == "no name":
            self.gateway.connections += 1
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        if self.gateway is not None and address[1] == self.gateway.port:
            self.gateway.connections += 1
            place = self.gateway.leads_to(self.gateway.connections)
            if place == "no connection in time":
                await asyncio.sleep(3600)
            address = address[0], self.gateway.traps.get(place, address[1])
        await super().sock_connect(sock, address)


class Gateway:
    """A server in front of a sandbox that tampers with requests.

    Attributes:
        fault: the fault of a request or its connection, by its number, counted from 1.
        arrivals: when requests arrived, in seconds of the loop's clock.
        connections: how many times the client tried to connect.
        traps: ports where connections lead instead, by the name of the fault.
        one_each: whether each request has its own connection.
    """

    def __init__(self, sandbox: Sandbox, authority: trustme.CA | None = None, *, one_each: bool = False) -> None:
        self.fault: Callable[[int], Fault | None] = lambda _: None
        self.arrivals: list[float] = []
        self.connections = 0
        self.traps: dict[str, int] = {}
        self.one_each = one_each
        self.repeated = b""
        self._sandbox_port = int(sandbox.url.rpartition(":")[2])
        self._authority = authority
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        tls = self._authority
        server = RawServer(self._answer, tls=server_tls(tls, "localhost") if tls else None)
        await self._stack.enter_async_context(server)
        self.port = server.port
        self.url = f"http{'s' if tls else ''}://localhost:{server.port}"
        with socket.create_server(("127.0.0.1", 0)) as closed:
            self.traps["refused"] = closed.getsockname()[1]
        await self._trap("reset at once", b"")
        await self._trap("no TLS", b"HTTP/1.1 400 Bad Request\r\n\r\n")
        if tls is not None:
            await self._trap("another host's certificate", b"", server_tls(tls, "login.example.net"))
            await self._trap("an authority that is not trusted", b"", server_tls(trustme.CA(), "localhost"))

    async def _trap(self, name: str, answer: bytes, tls: ssl.SSLContext | None = None) -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if answer:
                writer.write(answer)
                writer.close()
            else:
                _reset(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        self.traps[name] = server.sockets[0].getsockname()[1]
        self._stack.push_async_callback(server.wait_closed)
        self._stack.callback(server.close)

    async def stop(self) -> None:
        await self._stack.aclose()

    def leads_to(self, number: int) -> str:
        """The name of the place where a connection leads instead."""
        fault = self.fault(number)
        return fault.route if fault else ""

    async def forward(self, request: bytes) -> bytes:
        """The sandbox's reply, to the last byte."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._sandbox_port)
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.replace(b"\r\nConnection: close", b"\r\nX-Was: closed", 1)

    async def _answer(self, exchange: Exchange) -> None:
        self.arrivals.append(asyncio.get_running_loop().time())
        fault = self.fault(len(self.arrivals))
        if fault is not None and fault.tamper is not None:
            await fault.tamper(exchange, self)
        else:
            answer = await self.forward(exchange.request.raw)
            await exchange.send(answer)
            if b'"token"' in answer:
                self.repeated = self.repeated or answer
        if self.one_each:
            exchange.writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)  # on, 0 s: an RST instead of a FIN
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
