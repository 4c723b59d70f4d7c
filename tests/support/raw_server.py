"""Servers of raw bytes, for replies that no HTTP library would send."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Self

    import trustme

    Answer = Callable[["Exchange"], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    raw: bytes  # head and body as received
    line: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Exchange:
    """One request, and everything that a reply may need."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stopping: asyncio.Event  # set when the server stops

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class RawServer:
    """Listens on 127.0.0.1; reads requests and replies with `answer`.

    answer: bytes to send before closing the connection, or a function, which may leave it open.
    """

    def __init__(self, answer: bytes | Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.closed = asyncio.Event()  # a connection has ended
        self._tls = tls
        self._stopping = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._stopping.set()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(task for task in self._tasks if task))
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        self._tasks.add(asyncio.current_task())
        with suppress(OSError):  # the client disconnected
            while not writer.is_closing() and (request := await _read_request(reader)):
                self.requests.append(request)
                if isinstance(self.answer, bytes):
                    writer.write(self.answer)
                    break
                await self.answer(Exchange(request, reader, writer, self._stopping))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self._writers.discard(writer)
        self.closed.set()


@contextmanager
def live_raw_server(answer: bytes | Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server on its own thread, for tests of the command."""
    server, loop = RawServer(answer, tls=tls), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (entry.partition(":") for entry in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    return Request(head + body, line, headers, body)


@contextmanager
def unused_port() -> Iterator[int]:
    """A port that is reserved, but without a server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def http(status: int | str, body: object = b"", *lines: str, length: int | None = None) -> bytes:
    """The bytes of a reply; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(data) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status} Some Reason", f"Content-Length: {size}", *lines, "", ""]).encode() + data


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's TLS context with a certificate of an authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def keep_alive(*answers: bytes) -> Answer:
    """Sends the next of `answers`, and repeats the last one, over a connection that stays open."""
    left = list(answers)

    async def answer(exchange: Exchange) -> None:
        await exchange.send(left.pop(0) if len(left) > 1 else left[0])

    return answer


def then_silence(start: bytes = b"") -> Answer:
    """Sends only `start`; the connection stays open."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(start)
        await exchange.stopping.wait()

    return answer


def tunnel(port: int) -> Answer:
    """Handles CONNECT as a proxy does, but always connects to `port` of this computer."""

    async def answer(exchange: Exchange) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await exchange.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(exchange.reader, writer), _pump(reader, exchange.writer))
        with suppress(OSError):
            await writer.wait_closed()

    return answer


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    target.close()
