"""One request → one `Reply`; the only file that knows aiohttp's client.

Network and server failures do not raise: they become a `Reply` with what is known. What matters most is whether the
request may have reached the server, because then a token may exist.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import ssl
import zlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

import aiohttp

from ..errors import SettingsError
from ..model import Fault, NeverLeftError, Reply
from .replies import read_reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter

    from ..model import Identifier
    from ..settings.run_settings import Settings
    from ..settings.secrets import Secret

PATH = "/fleet/drivers/auth-token"

MAX_BODY = 64 * 1024
"""Most bytes of a reply; a genuine one has a few hundred."""

MOST_IN_FLIGHT = 400
"""Most requests in flight of all organizations together, so that neither sockets nor memory run out."""

LATE = 0.1
"""Extra seconds after a timeout, in which a reply that came while this process was stopped is still read."""


class _Problem(TypedDict):
    fault: Fault
    message: str


class Client:
    """A `TokenIssuer` over HTTPS. Made by `open_client`."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings, room: asyncio.Semaphore) -> None:
        self._session = session
        self._room = room
        self._url = settings.base_url + PATH
        self._api_token = settings.api_token
        self._seconds = settings.timeout
        self._where = urlsplit(settings.base_url).netloc
        self._proxied = settings.proxy is not None

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        """Request one token: at most one POST, redirects refused. Network and server failures do not raise.

        Raises:
            NeverLeftError: it was cancelled before anything was sent.
        """
        body = _Body(json.dumps({"code": code, **identifier.as_json()}).encode())
        try:
            async with (
                self._room,  # waiting here does not count as time of the request
                _Within(self._seconds),
                self._session.post(self._url, data=body, allow_redirects=False) as response,
            ):
                data = await _bounded(response)
                secrets = (self._api_token.reveal(), code)
                return read_reply(response.status, response.headers, data, secrets, datetime.now(UTC))
        except asyncio.CancelledError:
            if body.has_left:
                raise
            raise NeverLeftError from None
        # TimeoutError is an OSError; ValueError is a host name that IDNA cannot encode.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if not body.has_left:
                return Reply(left=False, **self._why_not_connected(error))
            if isinstance(error, TimeoutError):
                return Reply(fault=Fault.TIMEOUT, message=f"sent, but no complete reply within {self._seconds:g} s")
            return Reply(fault=Fault.NO_ANSWER, message="sent, but the connection broke before the reply was complete")

    def _why_not_connected(self, error: Exception) -> _Problem:
        """In our own words: the text of an exception may contain the proxy's address with its password."""
        match error:
            case aiohttp.ClientProxyConnectionError():
                return _Problem(fault=Fault.PROXY, message=f"the proxy cannot be reached{_reason(error)}")
            case aiohttp.ClientHttpProxyError():
                return _Problem(fault=Fault.PROXY, message=f"the proxy refused the connection (HTTP {error.status})")
            case aiohttp.ClientConnectorCertificateError():
                return _Problem(fault=Fault.TLS, message=f"the certificate of {self._where} is not trusted")
            case aiohttp.ClientSSLError():
                return _Problem(fault=Fault.TLS, message=f"no secure connection to {self._where}")
            case aiohttp.ClientConnectorDNSError() if self._proxied:  # only the proxy's name is looked up here
                return _Problem(fault=Fault.PROXY, message="the name of the proxy cannot be looked up")
            case aiohttp.ClientConnectorDNSError():
                return _Problem(fault=Fault.UNREACHABLE, message=f"the name {self._where} cannot be looked up")
            case aiohttp.ClientConnectorError():
                none_left = error.os_error.errno in (errno.EMFILE, errno.ENFILE)
                fault = Fault.DESCRIPTORS if none_left else Fault.UNREACHABLE
                return _Problem(fault=fault, message=f"no connection to {self._where}{_reason(error)}")
            case TimeoutError():
                return _Problem(fault=Fault.UNREACHABLE, message=f"no connection to {self._where} in time")
            case _ if self._proxied:
                return _Problem(fault=Fault.PROXY, message="the proxy did not connect")
            case _:
                return _Problem(fault=Fault.UNREACHABLE, message=f"no connection to {self._where}")


class _Body(aiohttp.BytesPayload):
    """A request's body, which knows whether it was handed to the connection, together with the headers.

    That happens only once the connection is established, including proxy and TLS. Before, nothing has been sent.
    """

    has_left = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the body."""
        self.has_left = True
        await super().write_with_length(writer, content_length)


class _Within:
    """Raises TimeoutError after ``seconds`` and `LATE`.

    The extra time lets a process that was stopped read a reply that came meanwhile, although its timer is due too.
    """

    __slots__ = ("_limit", "_loop", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle

    def _expire(self) -> None:
        self._limit.reschedule(self._loop.time() + LATE)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._seconds, self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body; None if it is too long for a genuine one or cannot be decompressed.

    aiohttp does not decompress it, because some versions inflate hundreds of megabytes at a time.
    """
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_BODY:
            return None
    if response.headers.get("Content-Encoding", "identity").lower() == "identity":
        return bytes(data)
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib
    try:
        return inflater.decompress(data, MAX_BODY) if data else b""
    except zlib.error:
        return None


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """The system's error text, such as "Connection refused"."""
    number = error.os_error.errno
    return f" ({os.strerror(number)})" if number and number > 0 else ""


class Connections:
    """A connection pool that the clients of several organizations share. Made by `open_connections`."""

    def __init__(self, connector: aiohttp.TCPConnector, most: int) -> None:
        self.connector = connector
        self.room = asyncio.Semaphore(most)


@asynccontextmanager
async def open_connections(ca_file: str | None = None, most: int = MOST_IN_FLIGHT) -> AsyncIterator[Connections]:
    """A connection pool, closed at the end.

    Args:
        ca_file: certificates to trust instead of the system's.
        most: most requests in flight, of all clients together.

    Raises:
        SettingsError: the certificate file cannot be used.
    """
    connector = aiohttp.TCPConnector(limit=most, ssl=_trust(ca_file))
    async with connector:
        yield Connections(connector, most)
    await asyncio.sleep(0)  # lets the transports close


def _trust(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True  # the system's, for which aiohttp has a context already; another one takes 20 ms
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise SettingsError(f"cannot read the certificates in {ca_file}", "correct SSL_CERT_FILE or unset it") from None


@asynccontextmanager
async def open_client(settings: Settings, connections: Connections | None = None) -> AsyncIterator[Client]:
    """A client with a connection pool of its own, closed at the end, or with that of ``connections``.

    Environment variables are not read here; proxy and certificates are in the settings.

    Raises:
        SettingsError: the certificate file cannot be used.
    """
    if connections is None:
        connector = aiohttp.TCPConnector(limit=settings.concurrency, ssl=_trust(settings.ca_file))
        room = asyncio.Semaphore(settings.concurrency)
    else:
        connector, room = connections.connector, connections.room
    session = aiohttp.ClientSession(
        connector=connector,
        connector_owner=connections is None,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Authorization": f"Bearer {settings.api_token.reveal()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a reply has a few hundred bytes
            "User-Agent": "batch-issuer",
        },
        # Half the time is for connecting, to distinguish a slow connection from a slow reply.
        timeout=aiohttp.ClientTimeout(total=None, connect=settings.timeout / 2),
        proxy=settings.proxy.reveal() if settings.proxy else None,
        auto_decompress=False,
    )
    async with session:
        yield Client(session, settings, room)
    await asyncio.sleep(0)  # lets the transports close


async def post_json(url: Secret, document: object, *, proxy: Secret | None, ca_file: str | None, seconds: float) -> str:
    """Post a JSON document once, redirects refused. Network and server failures do not raise.

    Args:
        url: a secret address, of which the returned text contains nothing.
        document: a JSON value.
        proxy: the proxy to use, if any.
        ca_file: certificates to trust instead of the system's.
        seconds: the time limit.

    Returns:
        The problem, as part of a sentence; blank on success.

    Raises:
        SettingsError: the certificate file cannot be used.
    """
    address = url.reveal()
    connector = aiohttp.TCPConnector(ssl=_trust(ca_file))
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "batch-issuer"},
                timeout=aiohttp.ClientTimeout(total=seconds),
                proxy=proxy.reveal() if proxy else None,
            ) as session,
            session.post(address, json=document, allow_redirects=False) as response,
        ):
            return "" if response.status < 300 else f"the reply was HTTP {response.status}"  # noqa: PLR2004
    except TimeoutError:
        return f"no reply within {seconds:g} s"
    except aiohttp.ClientConnectorError as error:
        return f"no connection{_reason(error)}"
    except (aiohttp.ClientError, OSError, ValueError):
        return "no connection"
