"""The client over real sockets: against the sandbox, and against servers that reply with anything."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import sys
import time
import tracemalloc
from base64 import b64encode
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.raw_server import Exchange, RawServer, http, keep_alive, server_tls, then_silence, tunnel, unused_port

from batch_issuer.api.client import open_client
from batch_issuer.errors import SettingsError
from batch_issuer.hints import Hint
from batch_issuer.model import Fault, Identifier, IdentifierKind, NeverLeftError, Reply
from batch_issuer.pipeline.verdicts import VerdictKind, judge
from batch_issuer.sandbox import Sandbox
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

    import trustme
    from support.raw_server import Answer

    from batch_issuer.api.client import Client

T = TypeVar("T")

KEY = "samsara_api_Qx7Zk3Lm9Pw2Rt5V"
CODE = "Kq8mZt3xWb5n"
DRIVER = Identifier(IdentifierKind.DRIVER_ID, "281474977075805")
SHORT = 0.2  # seconds: the timeout of tests that reach it
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXPIRY = 1_710_000_000_123
TOKEN = "ZmFrZS10b2tlbg=="  # noqa: S105 - invented
ISSUED: dict[str, Any] = {"data": {"token": TOKEN, "expirationTime": EXPIRY}}
QUICK: dict[str, Any] = {}  # see `ca_file`
MAYBE = (None, True, VerdictKind.RETRY_MAYBE_ISSUED)  # `gist` of a request without a complete reply


FULL_BACKLOG = pytest.mark.skipif(sys.platform != "linux", reason="how a full backlog behaves differs")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end; the event loop must report no problem."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await main

    result = asyncio.run(watched())
    assert not complaints
    return result


@pytest.fixture(scope="module", autouse=True)
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All clients trust only this authority: loading the system's certificates takes 30 ms for each client."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    QUICK["ca_file"] = str(path)
    yield str(path)
    QUICK.clear()


def client_settings(url: str, **options: Any) -> Settings:
    return Settings(**{"api_token": Secret(KEY), "base_url": url, "timeout": 10.0, **QUICK, **options})


async def ask(url: str, identifier: Identifier = DRIVER, code: str = CODE, **options: Any) -> Reply:
    async with open_client(client_settings(url, **options)) as client:
        return await client.issue(identifier, code)


def answered(answer: bytes | Answer, code: str = CODE, **options: Any) -> Reply:
    """The client's reading of a reply; it always sends exactly one request."""

    async def main() -> Reply:
        async with RawServer(answer) as server:
            reply = await ask(server.url, code=code, **options)
            assert len(server.requests) == 1
            return reply

    return run(main())


@asynccontextmanager
async def sandboxed(*, concurrency: int = 16, timeout: float = 10.0, **options: Any) -> AsyncIterator[Any]:  # noqa: ASYNC109
    """A sandbox and its client."""
    async with (
        Sandbox(api_token=KEY, limiter="none", **options) as sandbox,
        open_client(client_settings(sandbox.url, concurrency=concurrency, timeout=timeout)) as client,
    ):
        yield sandbox, client


def gist(reply: Reply) -> tuple[int | None, bool, VerdictKind]:
    return reply.status, reply.left, judge(reply).kind


def assert_is_line(message: str) -> None:
    assert message.isprintable()
    assert message == message.strip()
    assert 0 < len(message) <= 400


# --- the request, and a token ---


@pytest.mark.parametrize(
    ("identifier", "field"),
    [
        (DRIVER, {"driverId": 281474977075805}),
        (Identifier(IdentifierKind.EXTERNAL_ID, "payrollId:ABFS 18600"), {"externalId": "payrollId:ABFS 18600"}),
        (Identifier(IdentifierKind.USERNAME, "jdöe"), {"username": "jdöe"}),
    ],
)
def test_the_body_contains_only_the_code_and_one_identifier(identifier: Identifier, field: dict[str, object]) -> None:
    async def main() -> None:
        async with RawServer(http(200, ISSUED)) as server:
            await ask(server.url, identifier)
        (request,) = server.requests
        assert request.line == "POST /fleet/drivers/auth-token HTTP/1.1"
        body = json.loads(request.body)
        assert body == {"code": CODE, **field}
        assert {type(value) for value in body.values()} == {str, *map(type, field.values())}
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"

    run(main())


def test_a_base_url_may_have_a_path_and_a_trailing_slash() -> None:
    async def main() -> None:
        async with RawServer(http(200, ISSUED)) as server:
            await ask(f"{server.url}/gateway/")
        assert server.requests[0].line == "POST /gateway/fleet/drivers/auth-token HTTP/1.1"

    run(main())


@pytest.mark.parametrize(
    "identifier",
    [
        DRIVER,
        Identifier(IdentifierKind.EXTERNAL_ID, "payrollId:ABFS18600"),
        Identifier(IdentifierKind.USERNAME, "jdoe"),
    ],
)
def test_token_code_and_expiry_are_those_of_the_servers_ledger(identifier: Identifier) -> None:
    async def main() -> None:
        async with sandboxed() as (sandbox, client):
            reply = await client.issue(identifier, CODE)
        (entry,) = sandbox.ledger
        assert (entry.identifier, entry.code, entry.token) == (str(identifier), CODE, reply.token)
        assert reply.expires_at == EPOCH + timedelta(milliseconds=entry.expiration_time)
        assert reply.expires_at.utcoffset() == timedelta(0)
        assert (gist(reply), reply.fault, reply.message) == ((200, True, VerdictKind.ISSUED), None, "")

    run(main())


@pytest.mark.parametrize("token", ["=1+1", "-", "@x", "a" * 2000, "tök€n", "'\",;\\", "0001"])
def test_a_token_is_kept_byte_for_byte(token: str) -> None:
    reply = answered(http(200, {"data": {"token": token, "expirationTime": EXPIRY}}))
    assert (reply.token, reply.expires_at) == (token, EPOCH + timedelta(milliseconds=EXPIRY))


def test_concurrent_requests_never_swap_their_tokens() -> None:
    async def main() -> None:
        async with sandboxed(latency=(0.0, 0.02), seed=1, concurrency=8) as (sandbox, client):
            asked = [(Identifier(IdentifierKind.DRIVER_ID, str(n)), f"{CODE}{n}") for n in range(1000, 1100)]
            replies = await asyncio.gather(*(client.issue(*each) for each in asked))
        ledger = {(entry.identifier, entry.code): entry.token for entry in sandbox.ledger}
        assert {
            (str(driver), code): reply.token for (driver, code), reply in zip(asked, replies, strict=True)
        } == ledger

    run(main())


def test_fifty_requests_share_one_connection_and_send_no_cookie_back() -> None:
    async def main() -> None:
        cookies = ("Set-Cookie: session=1; Path=/", "Set-Cookie: malformed\x01; =;;")
        async with (
            RawServer(keep_alive(http(200, ISSUED, *cookies), http(500, {}, *cookies))) as server,
            open_client(client_settings(server.url)) as client,
        ):
            for _ in range(50):
                await client.issue(DRIVER, CODE)
        assert (server.connections, len(server.requests)) == (1, 50)
        assert not any("cookie" in request.headers for request in server.requests)

    run(main())


def test_the_client_itself_reads_no_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with RawServer(http(502)) as proxy, RawServer(http(200, ISSUED)) as server:
            for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            assert (await ask(server.url)).token == TOKEN
            assert proxy.connections == 0

    run(main())


# --- replies without a token ---

VERDICTS = {
    400: (VerdictKind.REJECTED, Hint.REFUSED),
    401: (VerdictKind.UNAUTHORIZED, Hint.API_TOKEN_INVALID),
    403: (VerdictKind.UNAUTHORIZED, Hint.API_TOKEN_FORBIDDEN),
    404: (VerdictKind.REJECTED, Hint.UNKNOWN_DRIVER),
    405: (VerdictKind.REJECTED, Hint.ADDRESS),
    408: (VerdictKind.RETRY, Hint.SERVER),
    409: (VerdictKind.REJECTED, Hint.REFUSED),
    413: (VerdictKind.REJECTED, Hint.REFUSED),
    429: (VerdictKind.THROTTLED, Hint.THROTTLED),
    **dict.fromkeys(range(500, 505), (VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER)),
}


def test_every_status_of_the_sandbox_is_reported_with_its_message_and_request_id() -> None:
    async def main() -> None:
        async with sandboxed(script=",".join(map(str, VERDICTS))) as (sandbox, client):
            for status, (verdict, hint) in VERDICTS.items():
                reply = await client.issue(DRIVER, CODE)
                assert (gist(reply), reply.fault) == ((status, True, verdict), None)
                assert judge(reply).hint is hint
                assert reply.request_id == sandbox.ledger[-1].request_id
                text = "Exceeded rate limit." if status == 429 else "This is a fault of the sandbox."
                assert reply.message == f"HTTP {status}: {text}"
                assert (reply.retry_after is not None) == (status == 429)
                assert (reply.token, reply.expires_at) == ("", None)

    run(main())


@pytest.mark.parametrize("status", VERDICTS)
@pytest.mark.parametrize(
    "body",
    [
        b"upstream connect error",
        b"<html><title>No\nway</title><body><h1>No</h1></body></html>",
        b"",
        b'{"message": 7}',
        b"[]",
        b"\xff\xfe\x00",
    ],
    ids=["text", "html", "empty", "other JSON", "list", "binary"],
)
def test_a_status_means_the_same_with_any_body(status: int, body: bytes) -> None:
    """Except for 404: without the API's envelope it is from another server."""
    reply = answered(http(status, body))
    verdict, hint = VERDICTS[status]
    assert (gist(reply), reply.fault) == ((status, True, verdict), None)
    foreign = status == 404 or (body.startswith(b"<html>") and hint is Hint.REFUSED)
    assert judge(reply).hint is (Hint.ADDRESS if foreign else hint)
    assert reply.request_id == ""
    problem = {
        b"u": "without a Samsara API error message: upstream connect error",
        b"<": "with a web page (No way) instead of a Samsara API error message",
    }.get(body[:1], "without a Samsara API error message")
    assert reply.message == f"HTTP {status} {problem}"
    assert reply.web_page == body.startswith(b"<html>")


@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        ("reset", None, Fault.NO_ANSWER),
        ("lost", None, Fault.NO_ANSWER),
        ("hang", None, Fault.TIMEOUT),
        ("slow", None, Fault.TIMEOUT),
        ("truncated", None, Fault.NO_ANSWER),
        ("html", 200, Fault.UNUSABLE),
        ("badjson", 200, Fault.UNUSABLE),
        ("shape", 200, Fault.UNUSABLE),
    ],
)
def test_after_every_fault_of_the_sandbox_a_token_may_exist(fault: str, status: int | None, expected: Fault) -> None:
    async def main() -> None:
        timeout = SHORT if expected is Fault.TIMEOUT else 10.0
        async with sandboxed(script=fault, timeout=timeout) as (sandbox, client):
            reply = await client.issue(DRIVER, CODE)
            assert (gist(reply), reply.fault) == ((status, True, VerdictKind.RETRY_MAYBE_ISSUED), expected)
            assert reply.token == ""
            assert_is_line(reply.message)
            again = await client.issue(DRIVER, CODE)  # the client still works
            assert (again.token, len(sandbox.ledger)) == (sandbox.ledger[1].token, 2)

    run(main())


def test_the_sandboxs_own_refusals_reject_the_row() -> None:
    async def main() -> None:
        async with sandboxed() as (_, client):
            unknown = await client.issue(Identifier(IdentifierKind.USERNAME, "x-unknown"), CODE)
            refused = await client.issue(Identifier(IdentifierKind.USERNAME, "x-deactivated"), CODE)
            assert (judge(unknown).hint, judge(refused).hint) == (Hint.UNKNOWN_DRIVER, Hint.REFUSED)
            assert refused.message == "HTTP 400: Driver is deactivated."
        async with Sandbox(api_token="another") as sandbox:  # noqa: S106 - invented
            assert gist(await ask(sandbox.url)) == (401, True, VerdictKind.UNAUTHORIZED)

    run(main())


# --- a 200 without a token ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"data": []}',
        b'{"data": null}',
        b'{"data": "ZmFr"}',
        b'{"data": {}}',
        b'{"data": {"expirationTime": 1710000000000}}',
        b'{"token": "ZmFr"}',
        b'{"data": {"token": null}}',
        b'{"data": {"token": 7}}',
        b'{"data": {"token": true}}',
        b'{"data": {"token": ["ZmFr"]}}',
        b'{"data": {"token": ""}}',
        b'{"data": {"token": "Zm\\nFr"}}',
        b'{"data": {"token": "Zm Fr"}}',
        b'{"data": {"token": " "}}',
        b'{"data": {"token": "Zm\\u0000Fr"}}',
        b'{"data": {"token": "Zm\\ud800Fr"}}',
        b'{"data": {"token": "Zm\\u200bFr"}}',
        b'{"data": {"token": "ZmFr"}',
        b'{"data": {"token": "ZmFr\xff"}}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"<html>Sign in</html>",
    ],
)
def test_a_200_without_a_usable_token_is_unusable_and_may_have_issued_one(body: bytes) -> None:
    reply = answered(http(200, body))
    assert (gist(reply), reply.fault) == ((200, True, VerdictKind.RETRY_MAYBE_ISSUED), Fault.UNUSABLE)
    assert (reply.token, reply.expires_at) == ("", None)
    page = body.startswith(b"<html>")
    assert (reply.message, reply.web_page) == (
        f"HTTP 200 {'with a web page instead of a token' if page else 'without a token'}",
        page,
    )


@pytest.mark.parametrize(
    "expiry",
    ["1710000000000", True, None, 1.71e12, 1_710_000_000, 0, -1_710_000_000_000, 10**18, 10**40, "soon", [], {}],
)
def test_a_token_with_an_unreadable_expiry_is_kept_with_a_warning(expiry: object) -> None:
    reply = answered(http(200, {"data": {"token": TOKEN, "expirationTime": expiry}}))
    assert (gist(reply), reply.fault) == ((200, True, VerdictKind.ISSUED), None)
    assert (reply.token, reply.expires_at) == (TOKEN, None)
    assert_is_line(reply.message)


@pytest.mark.parametrize(
    ("date", "expired"), [("Sat, 09 Mar 2024 15:59:59 GMT", False), ("Sat, 09 Mar 2024 16:00:01 GMT", True), ("", True)]
)
def test_a_token_that_is_expired_on_arrival_is_kept_with_a_warning(date: str, expired: bool) -> None:
    """By the server's clock if the reply shows it, whatever this computer's clock."""
    reply = answered(http(200, ISSUED, *([f"Date: {date}"] if date else [])))
    assert (reply.token, reply.expires_at) == (TOKEN, EPOCH + timedelta(milliseconds=EXPIRY))
    assert (reply.expired, "expired" in reply.message, reply.message != "") == (expired, expired, expired)


def test_a_token_without_an_expiry_is_kept_with_a_warning() -> None:
    reply = answered(http(200, {"data": {"token": TOKEN}}))
    assert (reply.token, reply.expires_at, judge(reply).kind) == (TOKEN, None, VerdictKind.ISSUED)
    assert_is_line(reply.message)


@pytest.mark.parametrize("status", [201, 202, 204, 206, 299])
def test_another_2xx_may_have_issued_a_token(status: int) -> None:
    assert gist(answered(http(status))) == (status, True, VerdictKind.RETRY_MAYBE_ISSUED)


# --- the ways a reply can arrive ---

BODY = json.dumps(ISSUED).encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
        b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (BODY[:5], len(BODY) - 5, BODY[5:]),
        http(200, gzip.compress(BODY, mtime=0), "Content-Encoding: gzip"),
        http(200, BODY, "Content-Type: text/html; charset=klingon", "X-Twice: 1", "X-Twice: 2"),
        http(200, b"\xef\xbb\xbf" + BODY),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(200, BODY),
        http(200, BODY, f"X-Long: {'x' * 4000}"),
    ],
    ids=["HTTP/1.0", "until close", "no reason", "chunked", "gzip", "odd headers", "BOM", "early hints", "long header"],
)
def test_a_token_is_read_however_the_reply_is_framed(answer: bytes) -> None:
    reply = answered(answer)
    assert (reply.token, reply.expires_at) == (TOKEN, EPOCH + timedelta(milliseconds=EXPIRY))


def test_a_token_that_arrives_byte_by_byte_is_read() -> None:
    async def dribble(exchange: Exchange) -> None:
        for byte in http(200, ISSUED):
            await exchange.send(bytes([byte]))
            await asyncio.sleep(0)

    assert answered(dribble).token == TOKEN


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        http(200, BODY[:-5], length=len(BODY)),
        http(200, length=100_000_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n" + BODY,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x00" * 100_000,
        b"<html><body>Sign in</body></html>",
        http(200, BODY, f"X-Long: {'x' * 100_000}"),
        http(200, BODY, "No colon here"),
        http(200, b"this is not gzip", "Content-Encoding: gzip"),
        http(200, gzip.compress(BODY)[:-12], "Content-Encoding: gzip"),
        http(200, b"this is not brotli", "Content-Encoding: br"),
    ],
    ids=lambda answer: repr(answer[:60]),
)
def test_half_a_reply_or_garbage_is_not_a_reply_and_a_token_may_exist(answer: bytes) -> None:
    reply = answered(answer)
    assert judge(reply).kind is VerdictKind.RETRY_MAYBE_ISSUED
    assert reply.left
    assert reply.fault in (Fault.NO_ANSWER, Fault.UNUSABLE)
    assert reply.token == ""
    assert_is_line(reply.message)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-",
        http(200, length=100_000_000),
        http(200, b'{"data":', length=99),
        http(500, length=9),
    ],
    ids=["nothing", "half a head", "no body", "half a body", "an error without its body"],
)
def test_silence_ends_after_the_timeout_and_a_token_may_exist(start: bytes) -> None:
    reply = answered(then_silence(start), timeout=SHORT)
    assert (gist(reply), reply.fault) == (MAYBE, Fault.TIMEOUT)
    assert reply.message == "sent, but no complete reply within 0.2 s"


def test_endless_headers_end_after_the_timeout() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        while not exchange.writer.is_closing():
            await exchange.send(b"X-More: and more\r\n")
            await asyncio.sleep(0)

    reply = answered(endless, timeout=SHORT)
    assert gist(reply) == MAYBE
    assert reply.fault in (Fault.TIMEOUT, Fault.NO_ANSWER)


def test_only_the_start_of_ten_megabytes_is_read() -> None:
    async def main() -> None:
        total, sent = 10_000_000, 0

        async def huge(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.send(http(200, b'{"data": {"token": "', length=total))
            for _ in range(total // 10_000 - 1):
                await exchange.send(b"x" * 10_000)
                sent += 10_000

        async with RawServer(huge) as server, open_client(client_settings(server.url)) as client:
            reply = await client.issue(DRIVER, CODE)
            assert (gist(reply), reply.fault) == ((200, True, VerdictKind.RETRY_MAYBE_ISSUED), Fault.UNUSABLE)
            await server.closed.wait()  # the client has left in the middle
            assert sent < total - 20_000
            server.answer = http(200, ISSUED)
            assert (await client.issue(DRIVER, CODE)).token == TOKEN

    run(main())


@contextmanager
def memory_peak() -> Iterator[Callable[[], int]]:
    """A function that returns the peak of Python's memory in bytes since the start."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_compression_bomb_is_not_inflated_in_memory() -> None:
    bomb = http(200, gzip.compress(bytes(200_000_000), 9, mtime=0), "Content-Encoding: gzip")
    with memory_peak() as peak:
        reply = answered(bomb)
        assert peak() < 40_000_000
    assert judge(reply).kind is VerdictKind.RETRY_MAYBE_ISSUED
    assert reply.token == ""


# --- a connection that the server closes ---


def test_a_connection_closed_while_idle_is_replaced() -> None:
    async def main() -> None:
        async with RawServer(http(200, ISSUED)) as server, open_client(client_settings(server.url)) as client:
            for _ in range(3):
                server.closed.clear()
                assert (await client.issue(DRIVER, CODE)).token == TOKEN
                await server.closed.wait()
                for _ in range(5):
                    await asyncio.sleep(0)  # the loop notices that the connection ended
            assert (server.connections, len(server.requests)) == (3, 3)

    run(main())


def test_a_request_on_a_closing_connection_is_not_repeated_automatically() -> None:
    """The server may have issued a token before it closed the connection, so the run decides."""

    async def main() -> None:
        async def once(exchange: Exchange) -> None:
            if len(server.requests) == 1:
                await exchange.send(http(200, ISSUED))
            else:
                exchange.writer.close()

        async with RawServer(once) as server, open_client(client_settings(server.url)) as client:
            assert (await client.issue(DRIVER, CODE)).token == TOKEN
            reply = await client.issue(DRIVER, CODE)
            assert (gist(reply), reply.fault) == (MAYBE, Fault.NO_ANSWER)
            assert (server.connections, len(server.requests)) == (1, 2)

    run(main())


def test_cancelling_cancels() -> None:
    async def main() -> None:
        arrived = asyncio.Event()

        async def silent(exchange: Exchange) -> None:
            arrived.set()
            await exchange.stopping.wait()

        async with RawServer(silent) as server, open_client(client_settings(server.url)) as client:
            request = asyncio.create_task(client.issue(DRIVER, CODE))
            await arrived.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request

    run(main())


def test_cancelled_after_sending_it_does_not_claim_that_nothing_left() -> None:
    async def main() -> None:
        async with RawServer(then_silence()) as server, open_client(client_settings(server.url)) as client:
            sent = asyncio.create_task(client.issue(DRIVER, CODE))
            while not server.requests:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.001)
            sent.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await sent
            assert not isinstance(caught.value, NeverLeftError)

    run(main())


def test_a_reply_that_came_while_the_process_was_stopped_is_read_after_the_timeout() -> None:
    async def main() -> None:
        async with (
            RawServer(keep_alive(http(200, ISSUED))) as server,
            open_client(client_settings(server.url, timeout=0.3)) as client,
        ):
            asking = asyncio.create_task(client.issue(DRIVER, CODE))
            while not server.requests:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - stops the whole process
            assert (await asking).token == TOKEN

    run(main())


# --- redirections ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed_and_only_its_host_is_shown(status: int) -> None:
    async def main() -> None:
        async with RawServer(http(200, ISSUED)) as other:
            location = f"Location: http://user:secret@127.0.0.1:{other.port}/private?session=1"
            async with RawServer(http(status, b"", location)) as server:
                reply = await ask(server.url)
            assert (other.connections, len(server.requests)) == (0, 1)
        assert gist(reply) == (status, True, VerdictKind.RETRY)
        assert judge(reply).hint is Hint.ADDRESS
        assert "'127.0.0.1'" in reply.message
        assert not any(word in reply.message for word in ("user", "secret", "private", "session", str(other.port)))

    run(main())


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://[",
        "http://[::1",
        "/login",
        "//",
        "\x80",
        "javascript:alert(1)",
        "http://\u2100.example/",
        "h" * 4000,
    ],
)
def test_a_malformed_location_is_ignored(location: str) -> None:
    reply = answered(http(302, b"", f"Location: {location}"))
    assert gist(reply) == (302, True, VerdictKind.RETRY)
    assert reply.message == "HTTP 302 without a Samsara API error message"


# --- Retry-After ---


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["Retry-After: 0.40235"], 0.40235),
        (["retry-after: 3"], 3.0),
        (["Retry-After: 0"], 0.0),
        (["Date: Tue, 05 Mar 2019 10:00:00 GMT", "Retry-After: Tue, 05 Mar 2019 10:01:30 GMT"], 90.0),
        (["Date: Tue, 05 Mar 2019 10:00:00 GMT", "Retry-After: Tue, 05 Mar 2019 09:00:00 GMT"], 0.0),
        (["Retry-After: 1.5", "Retry-After: 9"], 1.5),
        (["Retry-After: soon"], None),
        (["Retry-After: -1"], None),
        (["Retry-After: nan"], None),
        (["Retry-After:"], None),
        ([], None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_as_seconds(status: int, lines: list[str], seconds: float | None) -> None:
    assert answered(http(status, {"message": "Wait."}, *lines)).retry_after == seconds


# --- requests that never left ---


def assert_never_left(reply: Reply, fault: Fault, hint: Hint) -> None:
    assert (gist(reply), reply.fault) == ((None, False, VerdictKind.UNREACHABLE), fault)
    assert judge(reply).hint is hint
    assert_is_line(reply.message)


def test_a_refused_connection_never_left() -> None:
    with unused_port() as port:
        reply = run(ask(f"http://127.0.0.1:{port}"))
    assert_never_left(reply, Fault.UNREACHABLE, Hint.UNREACHABLE)
    assert f"127.0.0.1:{port}" in reply.message


class NoSuchName(aiohttp.abc.AbstractResolver):
    """A resolver that finds no name and sends no query."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def resolve(self, *_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        pass


def test_a_request_to_an_unknown_name_never_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", NoSuchName)
    reply = run(ask("https://nonexistent.invalid"))
    assert_never_left(reply, Fault.UNREACHABLE, Hint.UNREACHABLE)
    assert reply.message == "the name nonexistent.invalid cannot be looked up"


@pytest.mark.parametrize("host", [f"{'a' * 64}.invalid", "a..invalid"], ids=["too long a label", "an empty label"])
def test_a_request_to_an_invalid_name_never_left(host: str) -> None:
    """Fails in Python's IDNA encoding, before any lookup."""
    assert_never_left(run(ask(f"https://{host}")), Fault.UNREACHABLE, Hint.UNREACHABLE)


@pytest.mark.parametrize("url", ["https://2130706433", "https://127.1"])
def test_a_request_to_an_address_in_an_obsolete_notation_never_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", NoSuchName)
    assert_never_left(run(ask(url)), Fault.UNREACHABLE, Hint.UNREACHABLE)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that accepts no connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for each in waiting:
            each.close()


@FULL_BACKLOG
def test_a_request_without_a_connection_in_time_never_left() -> None:
    with full_backlog() as port:
        reply = run(ask(f"http://127.0.0.1:{port}", timeout=SHORT))
    assert_never_left(reply, Fault.UNREACHABLE, Hint.UNREACHABLE)


@FULL_BACKLOG
def test_cancelled_while_connecting_it_reports_that_nothing_left() -> None:
    async def main() -> None:
        with full_backlog() as port:
            async with open_client(client_settings(f"http://127.0.0.1:{port}")) as client:
                connecting = asyncio.create_task(client.issue(DRIVER, CODE))
                await asyncio.sleep(0.05)
                connecting.cancel()
                with pytest.raises(NeverLeftError):
                    await connecting

    run(main())


# --- TLS ---


def test_the_ca_file_of_the_settings_makes_a_certificate_trusted(authority: trustme.CA, ca_file: str) -> None:
    async def main() -> None:
        async with RawServer(keep_alive(http(200, ISSUED)), tls=server_tls(authority, "127.0.0.1")) as server:
            async with open_client(client_settings(server.url, ca_file=ca_file)) as client:
                replies = [await client.issue(DRIVER, CODE) for _ in range(3)]
            assert [reply.token for reply in replies] == [TOKEN] * 3
            assert server.connections == 1

    run(main())
    gc.collect()  # an unclosed transport would warn, and a warning is an error


@pytest.mark.parametrize(
    ("name", "trusted"), [("127.0.0.1", False), ("api.example.com", True)], ids=["untrusted", "of another host"]
)
def test_a_bad_certificate_prevents_the_request(
    authority: trustme.CA, ca_file: str, name: str, *, trusted: bool
) -> None:
    async def main() -> None:
        async with RawServer(http(200, ISSUED), tls=server_tls(authority, name)) as server:
            reply = await ask(server.url, ca_file=ca_file if trusted else None)
            assert server.requests == []
        assert_never_left(reply, Fault.TLS, Hint.TLS)
        assert reply.message == f"the certificate of 127.0.0.1:{server.port} is not trusted"

    run(main())
    gc.collect()


def test_a_request_by_tls_to_a_plain_http_port_never_left() -> None:
    async def main() -> Reply:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(http(400, b"The plain HTTP request was sent to an HTTPS port, or so"))
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            return await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert_never_left(run(main()), Fault.TLS, Hint.TLS)


def test_a_connection_closed_during_the_tls_handshake_never_left() -> None:
    async def main() -> Reply:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            return await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    reply = run(main())
    assert gist(reply) == (None, False, VerdictKind.UNREACHABLE)
    assert reply.fault in (Fault.TLS, Fault.UNREACHABLE)


def test_a_tls_handshake_that_is_never_answered_never_left() -> None:
    async def main() -> Reply:
        async with RawServer(then_silence()) as server:
            return await ask(f"https://127.0.0.1:{server.port}", timeout=SHORT)

    reply = run(main())
    assert gist(reply) == (None, False, VerdictKind.UNREACHABLE)


@pytest.mark.parametrize("content", [None, b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_unreadable_ca_file_is_a_settings_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    async def main() -> None:
        async with open_client(client_settings("https://127.0.0.1", ca_file=str(path))):
            pytest.fail("opened")

    with pytest.raises(SettingsError, match=r"ca\.pem"):
        run(main())


def test_a_folder_as_ca_file_is_a_settings_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_client(client_settings("https://127.0.0.1", ca_file=str(tmp_path))):
            pytest.fail("opened")

    with pytest.raises(SettingsError):
        run(main())


# --- a proxy ---

PASSWORD = "pr0xyPassw0rd"  # noqa: S105 - invented


def proxy_at(port: int, host: str = "127.0.0.1") -> Secret:
    return Secret(f"http://user:{PASSWORD}@{host}:{port}")


def assert_never_left_by_proxy(reply: Reply) -> None:
    assert_never_left(reply, Fault.PROXY, Hint.PROXY)
    assert PASSWORD not in repr(reply)


def test_through_a_proxy_the_request_goes_encrypted(authority: trustme.CA, ca_file: str) -> None:
    """The proxy sees its own password and the host name, but neither the API token nor the code."""

    async def main() -> None:
        async with (
            RawServer(keep_alive(http(200, ISSUED)), tls=server_tls(authority, "localhost")) as server,
            RawServer(tunnel(server.port)) as proxy,
        ):
            url = f"https://localhost:{server.port}"
            async with open_client(client_settings(url, ca_file=ca_file, proxy=proxy_at(proxy.port))) as client:
                replies = [await client.issue(DRIVER, CODE) for _ in range(3)]
            assert [reply.token for reply in replies] == [TOKEN] * 3
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
            assert "proxy-authorization" not in server.requests[0].headers
            (connect,) = proxy.requests
            assert connect.line == f"CONNECT localhost:{server.port} HTTP/1.1"
            assert connect.headers["proxy-authorization"] == f"Basic {b64encode(f'user:{PASSWORD}'.encode()).decode()}"
            assert KEY.encode() not in connect.raw
            assert CODE.encode() not in connect.raw

    run(main())
    gc.collect()


def test_a_bad_certificate_behind_a_proxy_never_left(authority: trustme.CA) -> None:
    async def main() -> None:
        async with (
            RawServer(http(200, ISSUED), tls=server_tls(authority, "localhost")) as server,
            RawServer(tunnel(server.port)) as proxy,
        ):
            reply = await ask(f"https://localhost:{server.port}", proxy=proxy_at(proxy.port), ca_file=None)
            assert server.requests == []
        assert_never_left(reply, Fault.TLS, Hint.TLS)

    run(main())
    gc.collect()


def test_a_request_to_a_proxy_that_refuses_connections_never_left() -> None:
    with unused_port() as port:
        reply = run(ask("https://localhost:1", proxy=proxy_at(port)))
    assert_never_left_by_proxy(reply)


def test_an_unknown_name_of_a_proxy_is_reported_as_a_proxy_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", NoSuchName)
    reply = run(ask("https://api.samsara.com", proxy=proxy_at(3128, "proxy.invalid")))
    assert "api.samsara.com cannot be looked up" not in reply.message
    assert_never_left_by_proxy(reply)


@pytest.mark.parametrize("status", [400, 403, 407, 502, 503, 504])
def test_a_request_by_a_proxy_that_refuses_to_connect_never_left(status: int) -> None:
    async def main() -> None:
        challenge = 'Proxy-Authenticate: Basic realm="' + PASSWORD + '"'
        async with RawServer(http(status, b"<html>No</html>", challenge)) as proxy:
            reply = await ask("https://localhost:1", proxy=proxy_at(proxy.port))
            assert [request.line for request in proxy.requests] == ["CONNECT localhost:1 HTTP/1.1"]
        assert_never_left_by_proxy(reply)
        assert f"HTTP {status}" in reply.message

    run(main())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 ", b"SSH-2.0-OpenSSH_9.6\r\n"], ids=["hangs up", "half", "SSH"])
def test_a_request_by_a_proxy_that_disconnects_during_connect_never_left(answer: bytes) -> None:
    """The request is sent only after CONNECT and the TLS handshake."""

    async def main() -> Reply:
        async with RawServer(answer) as proxy:
            return await ask("https://localhost:1", proxy=proxy_at(proxy.port))

    assert_never_left_by_proxy(run(main()))


def test_a_request_by_a_proxy_that_never_answers_connect_never_left() -> None:
    async def main() -> Reply:
        async with RawServer(then_silence()) as proxy:
            return await ask("https://localhost:1", proxy=proxy_at(proxy.port), timeout=SHORT)

    reply = run(main())
    assert gist(reply) == (None, False, VerdictKind.UNREACHABLE)
    assert PASSWORD not in repr(reply)


def test_a_computer_that_slept_while_connecting_knows_that_nothing_left() -> None:
    """Both timeouts, for the connection and for the whole request, have passed when it wakes."""

    async def suspend(exchange: Exchange) -> None:
        time.sleep(1.5 * SHORT)  # noqa: ASYNC251 - nothing runs meanwhile: that is the point
        await exchange.stopping.wait()

    async def main() -> Reply:
        async with RawServer(suspend) as proxy:
            return await ask("https://localhost:1", proxy=proxy_at(proxy.port), timeout=SHORT)

    assert gist(run(main())) == (None, False, VerdictKind.UNREACHABLE)


@pytest.mark.parametrize("more", [b"", b"this is not TLS"], ids=["hangs up", "no TLS"])
def test_a_request_by_a_tunnel_to_nowhere_never_left(more: bytes) -> None:
    async def main() -> Reply:
        async def grant(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
            await exchange.reader.read(65536)
            await exchange.send(more)
            exchange.writer.close()

        async with RawServer(grant) as proxy:
            return await ask("https://localhost:1", proxy=proxy_at(proxy.port))

    assert gist(run(main())) == (None, False, VerdictKind.UNREACHABLE)


@pytest.mark.parametrize("proxy", [f"http://user:{PASSWORD}@[", f"http://user:{PASSWORD}@:1", f"ftp://u:{PASSWORD}@p"])
def test_a_request_by_an_impossible_proxy_address_never_left(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", NoSuchName)
    reply = run(ask("https://localhost:1", proxy=Secret(proxy)))
    assert gist(reply) == (None, False, VerdictKind.UNREACHABLE)
    assert PASSWORD not in repr(reply)


# --- secrets ---


@pytest.mark.parametrize(
    ("status", "extra"),
    [
        (200, {}),
        (200, {"data": {"token": TOKEN}}),
        (302, {}),
        (400, {}),
        (401, {}),
        (429, {}),
        (500, {}),
    ],
)
@pytest.mark.parametrize(
    "where", ["https://{}.example/", "https://{}@example.com/{}", f"https://{'a' * 85}.{{}}.example/"]
)
def test_a_reply_shows_no_api_token_or_code_that_the_server_echoes(
    status: int, extra: dict[str, Any], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In any letter case: a host name becomes lower case."""
    caplog.set_level(0)
    replies = []
    for secret in (KEY, CODE, f"{'x' * 290} {KEY} {CODE}", f"{CODE}{KEY}"):
        body = {"message": f"no {secret}\n{KEY}", "requestId": f"{secret}-{CODE}", **extra}
        lines = [f"{name}: {secret}" for name in ("X-Echo", "Retry-After", "Set-Cookie", "Date", KEY)]
        lines.append(f"Location: {where.format(secret.split()[-1], KEY)}")
        replies += [answered(http(f"{status} {KEY}", each, *lines)) for each in (body, extra)]
    shown = f"{replies!r}{[(reply.message, reply.request_id) for reply in replies]}{caplog.text}".lower()
    for secret in (KEY, CODE):
        assert secret.lower() not in shown
        assert secret.lower()[:10] not in shown  # nor most of it


def test_the_message_shows_no_unusual_api_token_that_a_web_page_echoes_in_its_title() -> None:
    """Escaped for HTML or not."""
    key = "odd&key<with>'marks\"7gQ2xV9m"
    for title in (escape(key), escape(key, quote=False), f"for {escape(key)} {CODE}"):
        page = f"<!-- x -->\n<html><head><title>Denied: {title}</title></head></html>".encode()
        reply = answered(http(403, page), api_token=Secret(key))
        assert reply.web_page
        assert "Denied: " in reply.message
        assert not any(part in reply.message for part in (key, escape(key), "7gQ2xV9m", CODE))


def test_no_repr_shows_the_api_token_or_the_proxy_password() -> None:
    async def main() -> None:
        chosen = client_settings("https://127.0.0.1:1", proxy=proxy_at(1))
        async with open_client(chosen) as client:
            shown = f"{chosen!r}{chosen!s}{client!r}{client!s}"
            assert KEY not in shown
            assert PASSWORD not in shown

    run(main())


def test_no_repr_of_a_reply_shows_a_token() -> None:
    reply = answered(http(200, ISSUED))
    assert TOKEN not in f"{reply!r}{reply!s}"


# --- any bytes ---


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Callable[[bytes], Reply]]:
    """A function that serves bytes and returns the client's reply; one server and client for all examples."""
    complaints: list[dict[str, Any]] = []

    async def serving() -> AsyncGenerator[tuple[RawServer, Client], None]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with RawServer(b"") as server, open_client(client_settings(server.url, timeout=5.0)) as client:
            yield server, client

    with asyncio.Runner() as runner:
        both = serving()

        async def first() -> tuple[RawServer, Client]:
            return await anext(both)

        server, client = runner.run(first())

        async def exchange(answer: bytes) -> Reply:
            server.answer = answer
            return await client.issue(DRIVER, CODE)

        yield lambda answer: runner.run(exchange(answer))
        runner.run(both.aclose())
    assert not complaints


few = hypothesis_settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HEADS = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://",
        b"HTTP/1.1 429 Slow\r\nRetry-After: ",
        b"HTTP/1.1 503 No\r\nRetry-After: Mon, ",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: ",
        b"HTTP/1.1 ",
        b"HTTP/",
    ]
)
ENDS = st.sampled_from([b"", b"\r\n\r\n", b"\r\n0\r\n\r\n"])


@few
@given(head=HEADS, middle=st.binary(max_size=200), end=ENDS)
@example(head=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", middle=b"", end=b"")
@example(head=b"HTTP/1.1 999 Odd\r\n\r\n", middle=b"", end=b"")
@example(head=b"HTTP/1.1 000 Odd\r\n\r\n", middle=b"", end=b"")
@example(head=b"HTTP/9.9 200 OK\r\n\r\n", middle=BODY, end=b"")
@example(head=b"HTTP/1.1 100 Continue\r\n\r\n", middle=b"", end=b"")
def test_no_bytes_of_a_server_raise_an_exception(
    fuzzed: Callable[[bytes], Reply], head: bytes, middle: bytes, end: bytes
) -> None:
    reply = fuzzed(head + middle + end)
    assert isinstance(reply, Reply)
    assert reply.left
    assert isinstance(judge(reply).kind, VerdictKind)
    assert (reply.token != "") == (judge(reply).kind is VerdictKind.ISSUED)
    if not reply.token:
        assert_is_line(reply.message)


@few
@given(
    status=st.sampled_from([200, 302, 400, 404, 429, 500]),
    message=st.text(st.characters(), max_size=500),
    request_id=st.text(st.characters(), max_size=100),
    host=st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=200),
)
@example(status=302, message="", request_id="", host="\u200b" * 300)
@example(status=500, message="\ud800\u2028\x1b[2J" * 200, request_id="\n", host="")
def test_a_message_is_one_printable_line_of_bounded_length(
    fuzzed: Callable[[bytes], Reply], status: int, message: str, request_id: str, host: str
) -> None:
    reply = fuzzed(http(status, {"message": message, "requestId": request_id}, f"Location: http://{host}"))
    assert reply.status == status
    assert_is_line(reply.message)
    assert reply.request_id.isprintable()
    assert len(reply.request_id) <= 64
