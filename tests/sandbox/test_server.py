"""The sandbox over real sockets: first with the official SDK, then with clients that show more than it does."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samsara import AsyncSamsara, errors
from samsara.core.api_error import ApiError

from batch_issuer.sandbox import AUTH_TOKEN_PATH, FAULTS, LEDGER_PATH, LIMITERS, LedgerEntry, Sandbox, answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CODE = "a1b2c3d4e5f6"
DRIVER = {"code": CODE, "driverId": 281474}
ONCE = {"max_retries": 0}  # the SDK would retry 429s and 5xx automatically


@asynccontextmanager
async def sdk(sandbox: Sandbox, *, connections: int = 20, key: str | None = None) -> AsyncIterator[AsyncSamsara]:
    """The official client, with a limited number of connections."""
    limits = httpx.Limits(max_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=10, trust_env=False) as http:
        yield AsyncSamsara(token=key or sandbox.api_token, base_url=sandbox.url, httpx_client=http)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends anything to a sandbox and shows the whole reply."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox, self.session = sandbox, session

    async def send(
        self,
        body: object = None,
        *,
        method: str = "POST",
        path: str = AUTH_TOKEN_PATH,
        key: str | None = None,
        raw: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        headers = {"Authorization": f"Bearer {key or self.sandbox.api_token}"} if headers is None else headers
        data = json.dumps(DRIVER if body is None else body).encode() if raw is None else raw
        url = self.sandbox.url + path
        async with self.session.request(method, url, data=data, headers=headers) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    async def statuses(self, count: int) -> list[int]:
        return [(await self.send()).status for _ in range(count)]


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Client]:
    async with Sandbox(**options) as sandbox, aiohttp.ClientSession() as session:
        yield Client(sandbox, session)


def assert_is_envelope(reply: Reply) -> None:
    assert reply.headers["Content-Type"].startswith("application/json")
    assert set(reply.json) == {"message", "requestId"}
    assert reply.json["message"]
    assert re.fullmatch("[0-9a-f]{8}", reply.json["requestId"])


# --- the official SDK ---


@pytest.mark.parametrize(
    ("arguments", "identifier"),
    [
        ({"driver_id": 281474}, "driverId=281474"),
        ({"external_id": "payrollId:ABFS18600"}, "externalId=payrollId:ABFS18600"),
        ({"username": "jdoe"}, "username=jdoe"),
    ],
)
def test_the_sdk_gets_a_token_by_each_kind_of_identifier(arguments: dict[str, Any], identifier: str) -> None:
    async def main() -> None:
        async with Sandbox(token_lifetime=300) as sandbox, sdk(sandbox) as client:
            reply = await client.auth_token_for_driver.auth_token(code=CODE, **arguments)
        (entry,) = sandbox.ledger
        assert (entry.token, entry.expiration_time) == (reply.data.token, reply.data.expiration_time)
        assert (entry.identifier, entry.code, entry.status) == (identifier, CODE, 200)
        assert reply.data.expiration_time / 1000 - time.time() == pytest.approx(300, abs=30)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, errors.UnauthorizedError),
        (404, errors.NotFoundError),
        (405, errors.MethodNotAllowedError),
        (413, errors.ContentTooLargeError),
        (429, errors.TooManyRequestsError),
        (500, errors.InternalServerError),
        (501, errors.NotImplementedError),
        (502, errors.BadGatewayError),
        (503, errors.ServiceUnavailableError),
        (504, errors.GatewayTimeoutError),
        (400, ApiError),
        (403, ApiError),
    ],
)
def test_the_sdk_sees_each_scripted_status_as_its_own_error(status: int, error: type[ApiError]) -> None:
    async def main() -> None:
        async with Sandbox(script=str(status)) as sandbox, sdk(sandbox) as client:
            with pytest.raises(error) as caught:
                await client.auth_token_for_driver.auth_token(code=CODE, driver_id=1, request_options=ONCE)
        assert type(caught.value) is error
        assert caught.value.status_code == status
        assert caught.value.body["requestId"] == sandbox.ledger[0].request_id

    asyncio.run(main())


def test_the_sdk_sees_a_wrong_api_token_an_unknown_driver_and_a_used_up_quota() -> None:
    async def main() -> None:
        async with Sandbox(limit=2) as sandbox, sdk(sandbox) as client, sdk(sandbox, key="wrong") as stranger:
            issue = client.auth_token_for_driver.auth_token
            with pytest.raises(errors.UnauthorizedError):
                await stranger.auth_token_for_driver.auth_token(code=CODE, driver_id=1)
            with pytest.raises(errors.NotFoundError):
                await issue(code=CODE, driver_id=281_404_404)
            await issue(code=CODE, driver_id=1)
            with pytest.raises(errors.TooManyRequestsError) as caught:
                await issue(code=CODE, driver_id=1, request_options=ONCE)
        assert 0 < float((caught.value.headers or {})["retry-after"]) <= 60.001

    asyncio.run(main())


def test_the_sdks_raw_response_shows_status_and_headers() -> None:
    async def main() -> None:
        async with Sandbox() as sandbox, sdk(sandbox) as client:
            raw = client.auth_token_for_driver.with_raw_response
            reply = await raw.auth_token(code=CODE, username="jdoe")
        assert reply.headers["content-type"].startswith("application/json")
        assert reply.data.data.token == sandbox.ledger[0].token

    asyncio.run(main())


def test_two_hundred_requests_in_a_row_use_one_connection() -> None:
    opened = 0

    async def trace(event: str, _: object) -> None:
        nonlocal opened
        opened += event == "connection.connect_tcp.complete"

    async def watch(request: httpx.Request) -> None:
        request.extensions["trace"] = trace

    async def main() -> None:
        http = httpx.AsyncClient(event_hooks={"request": [watch]}, trust_env=False)
        async with Sandbox(limiter="none") as sandbox, http:
            client = AsyncSamsara(token=sandbox.api_token, base_url=sandbox.url, httpx_client=http)
            for number in range(200):
                driver_id = number if number % 10 else 404_404  # errors keep the connection open, too
                with suppress(errors.NotFoundError):
                    await client.auth_token_for_driver.auth_token(code=CODE, driver_id=driver_id)
        assert Counter(entry.status for entry in sandbox.ledger) == {200: 180, 404: 20}

    asyncio.run(main())
    assert opened == 1


def test_every_token_of_concurrent_sdk_calls_is_in_the_ledger_with_its_driver_and_code() -> None:
    async def main() -> None:
        async with Sandbox(limiter="none", latency=(0, 0.01)) as sandbox, sdk(sandbox) as client:

            async def issue(driver_id: int) -> tuple[str, str, str]:
                code = secrets.token_hex(8)
                reply = await client.auth_token_for_driver.auth_token(code=code, driver_id=driver_id)
                return f"driverId={driver_id}", code, reply.data.token

            received = await asyncio.gather(*map(issue, range(1, 301)))
        assert len({token for _, _, token in received}) == 300
        assert {(entry.identifier, entry.code, entry.token) for entry in sandbox.ledger} == set(received)

    asyncio.run(main())


# --- what is checked, and in which order ---


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_405_with_allow_even_without_an_api_token(method: str) -> None:
    async def main() -> None:
        async with serving() as client:
            reply = await client.send(method=method, headers={})
            assert (reply.status, reply.headers["Allow"]) == (405, "POST")
            assert_is_envelope(reply)
            assert (await client.send(path=LEDGER_PATH)).headers["Allow"] == "GET"
            assert client.sandbox.ledger == []

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/fleet/drivers", "/fleet/drivers/auth-token/", "/fleet/drivers/auth-tokens"])
def test_another_path_is_404_even_without_an_api_token(path: str) -> None:
    async def main() -> None:
        async with serving() as client:
            reply = await client.send(path=path, method="GET", headers={})
            assert reply.status == 404
            assert_is_envelope(reply)

    asyncio.run(main())


def test_a_missing_or_wrong_api_token_is_401_not_counted_and_not_in_the_ledger() -> None:
    async def main() -> None:
        async with serving(limit=1, api_token="right") as client:  # noqa: S106 - made up
            wrong = [
                "",
                "Bearer",
                "Bearer ",
                "Bearer wrong",
                "Bearer right2",
                "Basic right",
                "right",
                "Bearer \udcff",
            ]
            for headers in [{}, *({"Authorization": value} for value in wrong)]:
                with suppress(UnicodeEncodeError):  # a client may be too strict to send the last one
                    reply = await client.send(headers=headers)
                    assert reply.status == 401
                    assert_is_envelope(reply)
            assert (await client.send(path=LEDGER_PATH, method="GET", key="wrong")).status == 401
            assert client.sandbox.ledger == []
            assert (await client.send(headers={"authorization": "bearer right"})).status == 200

    asyncio.run(main())


def test_a_used_up_quota_is_429_before_the_body_is_checked_and_a_bad_body_is_counted() -> None:
    async def main() -> None:
        async with serving(limit=1) as client:
            assert (await client.send(raw=b"nonsense")).status == 400
            reply = await client.send(raw=b"nonsense")
            assert (reply.status, reply.json["message"]) == (429, "Exceeded rate limit.")
            assert_is_envelope(reply)
            assert re.fullmatch(r"[0-9]+\.[0-9]{5}", reply.headers["Retry-After"])
            assert [entry.counted for entry in client.sandbox.ledger] == [True, False]
            assert client.sandbox.peak() == 1

    asyncio.run(main())


@given(wait=st.floats(1e-6, 1e5))
def test_retry_after_is_rounded_up_by_less_than_its_last_digit(wait: float) -> None:
    headers = answers.rate_limited(wait, "").headers
    assert headers is not None
    assert wait - 1e-9 <= float(headers["Retry-After"]) < wait + 1.001e-5


@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize("limiter", [name for name in LIMITERS if name != "none"])
def test_any_limiter_sends_retry_after_unless_that_is_switched_off(limiter: str, retry_after: bool) -> None:
    burst = 1 if limiter in ("bucket", "gcra") else None
    period = 1e9  # seconds: no window ends during the test

    async def main() -> None:
        async with serving(limiter=limiter, limit=1, per=period, burst=burst, retry_after=retry_after) as client:
            assert (await client.send()).status == 200
            reply = await client.send()
            assert (reply.status, reply.json["message"]) == (429, "Exceeded rate limit.")
            assert_is_envelope(reply)
            assert ("Retry-After" in reply.headers) == retry_after
            assert [entry.counted for entry in client.sandbox.ledger] == [True, False]

    asyncio.run(main())


def test_the_sdk_sees_a_429_without_retry_after_as_the_same_error() -> None:
    async def main() -> None:
        async with Sandbox(limit=1, retry_after=False) as sandbox, sdk(sandbox) as client:
            issue = client.auth_token_for_driver.auth_token
            await issue(code=CODE, driver_id=1)
            with pytest.raises(errors.TooManyRequestsError) as caught:
                await issue(code=CODE, driver_id=1, request_options=ONCE)
        assert "retry-after" not in (caught.value.headers or {})

    asyncio.run(main())


def test_a_strict_limiter_counts_refused_requests_and_the_ledger_shows_them_as_refused() -> None:
    async def main() -> None:
        async with serving(limiter="counter-strict", limit=2, per=1e9) as client:
            assert await client.statuses(4) == [200, 200, 429, 429]
            early, late = [float((await client.send()).headers["Retry-After"]) for _ in range(2)]
            assert early < late  # only refusals came in between
            assert [entry.counted for entry in client.sandbox.ledger] == [True] * 2 + [False] * 4
            assert client.sandbox.peak() == 2

    asyncio.run(main())


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b"x" * 1024


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_64_kib_is_413_and_the_connection_stays_open(chunked: bool) -> None:
    async def main() -> None:
        async with serving() as client:
            reply = await client.send(raw=_chunks(80 * 1024) if chunked else b"x" * (64 * 1024 + 1))
            assert reply.status == 413
            assert_is_envelope(reply)
            assert (await client.send()).status == 200
            assert [entry.status for entry in client.sandbox.ledger] == [413, 200]

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 60_000,
        b"\xff\xfe\xfd",
        b'{"code": "a1b2c3d4e5f6", "driverId": 1e3}',
        b'{"code": "a1b2c3d4e5f6", "driverId": ' + b"9" * 5000 + b"}",
        [],
        "text",
        7,
        {},
        {"code": CODE},
        {"driverId": 1},
        {"code": None, "driverId": 1},
        {"code": "elevenchars", "driverId": 1},
        {"code": 123456789012, "driverId": 1},
        {"code": CODE, "driverId": "281474"},
        {"code": CODE, "driverId": True},
        {"code": CODE, "driverId": 1.0},
        {"code": CODE, "driverId": 2**63},
        {"code": CODE, "driverId": None},
        {"code": CODE, "externalId": "payrollId"},
        {"code": CODE, "externalId": ":ABFS18600"},
        {"code": CODE, "externalId": "payrollId:"},
        {"code": CODE, "externalId": 7},
        {"code": CODE, "username": "bob"},
        {"code": CODE, "username": "j doe"},
        {"code": CODE, "username": "jdoe@example.com"},
        {"code": CODE, "username": ["jdoe"]},
        {"code": CODE, "driverId": 1, "username": "bob"},
    ],
)
def test_a_body_that_breaks_a_rule_is_400(body: Any) -> None:
    async def main() -> None:
        async with serving() as client:
            reply = await (client.send(raw=body) if isinstance(body, bytes) else client.send(body))
            assert reply.status == 400
            assert_is_envelope(reply)
            assert client.sandbox.ledger[0].token == ""

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "identifier"),
    [
        ({"driverId": 2**63 - 1}, f"driverId={2**63 - 1}"),
        ({"driverId": 5, "externalId": "a:b", "username": "jdoe"}, "driverId=5"),
        ({"username": "jdoe", "externalId": "a:b"}, "externalId=a:b"),
        ({"externalId": "a:b:c"}, "externalId=a:b:c"),
        ({"username": "jörg"}, "username=jörg"),
        ({"username": "jdoe", "driverId": None, "colour": "red"}, "username=jdoe"),
    ],
)
def test_the_most_specific_identifier_wins_and_unknown_fields_are_ignored(
    fields: dict[str, object], identifier: str
) -> None:
    async def main() -> None:
        async with serving() as client:
            assert (await client.send({"code": CODE, **fields})).status == 200
            assert client.sandbox.ledger[0].identifier == identifier

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"driverId": 281_404_404}, 404, "Object not found."),
        ({"externalId": "payrollId:x-unknown"}, 404, "Object not found."),
        ({"username": "joe-unknown"}, 404, "Object not found."),
        ({"driverId": 400_400}, 400, "Driver is deactivated."),
        ({"externalId": "payrollId:x-deactivated"}, 400, "Driver is deactivated."),
        ({"username": "joe-deactivated"}, 400, "Driver is deactivated."),
    ],
)
def test_magic_drivers_are_unknown_or_deactivated(fields: dict[str, object], status: int, message: str) -> None:
    async def main() -> None:
        async with serving() as client:
            reply = await client.send({"code": CODE, **fields})
            assert (reply.status, reply.json["message"]) == (status, message)
            assert_is_envelope(reply)

    asyncio.run(main())


# --- faults and scripts ---


@pytest.mark.parametrize("status", [400, 403, 418, 429, 499, 500, 529, 599])
def test_a_status_fault_answers_with_the_envelope_and_a_429_with_retry_after(status: int) -> None:
    async def main() -> None:
        async with serving(script=str(status)) as client:
            reply = await client.send()
            assert reply.status == status
            assert_is_envelope(reply)
            assert ("Retry-After" in reply.headers) == (status == 429)
            (entry,) = client.sandbox.ledger
            assert (entry.fault, entry.status, entry.counted, entry.token) == (str(status), status, True, "")

    asyncio.run(main())


@pytest.mark.parametrize("chosen", [{"script": "429"}, {"faults": {"429": 1.0}}])
def test_a_429_fault_has_no_retry_after_if_the_sandbox_sends_none(chosen: dict[str, Any]) -> None:
    async def main() -> None:
        async with serving(retry_after=False, **chosen) as client:
            reply = await client.send()
            assert (reply.status, client.sandbox.ledger[0].counted) == (429, True)
            assert_is_envelope(reply)
            assert "Retry-After" not in reply.headers

    asyncio.run(main())


async def _bytes_until_close(sandbox: Sandbox) -> bytes:
    """Send one request over a bare socket and return the whole reply."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(DRIVER).encode()
    head = f"POST {AUTH_TOKEN_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sandbox.api_token}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        return await reader.read()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def test_reset_resets_the_connection_and_issues_nothing() -> None:
    async def main() -> None:
        async with Sandbox(script="reset") as sandbox:
            with pytest.raises(ConnectionResetError):
                await _bytes_until_close(sandbox)
            (entry,) = sandbox.ledger
            assert (entry.fault, entry.status, entry.token, entry.counted) == ("reset", None, "", True)

    asyncio.run(main())


def test_lost_issues_a_token_and_closes_without_a_byte() -> None:
    async def main() -> None:
        async with Sandbox(script="lost") as sandbox:
            assert await _bytes_until_close(sandbox) == b""
            (entry,) = sandbox.ledger
            assert (entry.fault, entry.status) == ("lost", None)
            assert entry.token
            assert entry.expiration_time

    asyncio.run(main())


def test_hang_issues_a_token_and_stop_ends_it_promptly() -> None:
    async def main() -> None:
        sandbox = Sandbox(script="hang*")
        await sandbox.start()
        waiting = [asyncio.create_task(_bytes_until_close(sandbox)) for _ in range(20)]
        async with asyncio.timeout(5):
            while len(sandbox.ledger) < 20:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
            started = time.monotonic()
            await sandbox.stop()
            assert await asyncio.gather(*waiting) == [b""] * 20
        assert time.monotonic() - started < 1
        assert all(entry.token and entry.status is None for entry in sandbox.ledger)

    asyncio.run(main())


def test_slow_sends_the_whole_reply_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_SLOW_SECONDS", 0.05)

    async def main() -> None:
        async with serving(script="slow,ok") as client:
            headers = {"Authorization": f"Bearer {client.sandbox.api_token}"}
            url = client.sandbox.url + AUTH_TOKEN_PATH
            async with client.session.post(url, json=DRIVER, headers=headers) as response:
                pieces = [piece async for piece in response.content.iter_any()]
            (entry,) = client.sandbox.ledger
            assert json.loads(b"".join(pieces))["data"]["token"] == entry.token
            assert len(pieces) > 10
            assert (await client.send()).status == 200

    asyncio.run(main())


def test_a_client_that_disconnects_during_a_slow_reply_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with serving(script="slow") as client:
            headers = {"Authorization": f"Bearer {client.sandbox.api_token}"}
            url = client.sandbox.url + AUTH_TOKEN_PATH
            async with client.session.post(url, json=DRIVER, headers=headers) as response:
                await response.content.readany()
            assert (await client.send()).status == 200

    asyncio.run(main())
    assert caplog.records == []


def test_truncated_promises_more_than_it_sends() -> None:
    async def main() -> None:
        async with Sandbox(script="truncated") as sandbox:
            head, _, body = (await _bytes_until_close(sandbox)).partition(b"\r\n\r\n")
            (length,) = re.findall(rb"Content-Length: ([0-9]+)", head)
            assert 0 < len(body) < int(length)
            (entry,) = sandbox.ledger
            assert (entry.fault, entry.status) == ("truncated", 200)
            assert entry.token

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "content_type", "start"),
    [
        ("html", "text/html", b"<html>"),
        ("badjson", "application/json", b"{"),
        ("shape", "application/json", b"{"),
    ],
)
def test_an_unusable_200_issues_nothing(fault: str, content_type: str, start: bytes) -> None:
    async def main() -> None:
        async with serving(script=fault) as client:
            reply = await client.send()
            assert reply.status == 200
            assert reply.headers["Content-Type"].startswith(content_type)
            assert reply.body.startswith(start)
            if fault == "shape":
                assert reply.json == {"data": None}
            else:
                with pytest.raises(ValueError, match="char"):
                    json.loads(reply.body)
            assert client.sandbox.ledger[0].token == ""

    asyncio.run(main())


def test_faults_of_delivery_issue_no_tokens_to_refused_drivers() -> None:
    async def main() -> None:
        async with serving(script="truncated,ok") as client:
            with pytest.raises(aiohttp.ClientPayloadError):
                await client.send({"code": CODE, "driverId": 404_404})
            assert client.sandbox.ledger[0].status == 404
            assert client.sandbox.ledger[0].token == ""

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "statuses"),
    [
        ("", [200] * 3),
        ("ok", [200] * 3),
        ("401", [401, 200, 200]),
        (" ok*2 , 503*2 ,404 ", [200, 200, 503, 503, 404, 200]),
        ("ok*3,401*", [200] * 3 + [401] * 20),
        ("500*", [500] * 10),
        ("ok*", [200] * 10),
    ],
)
def test_a_script_is_followed_entry_by_entry(script: str, statuses: list[int]) -> None:
    async def main() -> None:
        async with serving(script=script) as client:
            assert await client.statuses(len(statuses)) == statuses
            faults = [entry.fault for entry in client.sandbox.ledger]
            assert faults == ["" if status == 200 else str(status) for status in statuses]

    asyncio.run(main())


def test_requests_refused_for_api_token_or_quota_do_not_use_up_the_script() -> None:
    async def main() -> None:
        async with serving(script="503,418", limit=2, per=3600) as client:
            assert (await client.send(key="wrong")).status == 401
            assert await client.statuses(4) == [503, 418, 429, 429]

    asyncio.run(main())


def test_faults_apply_after_the_script() -> None:
    async def main() -> None:
        async with serving(script="ok*3", faults={"503": 1.0}) as client:
            assert await client.statuses(5) == [200, 200, 200, 503, 503]

    asyncio.run(main())


def test_the_seed_repeats_faults_and_request_ids_but_no_tokens() -> None:
    async def run(seed: int) -> Sandbox:
        async with serving(limiter="none", faults={"500": 0.3, "404": 0.2}, seed=seed) as client:
            await client.statuses(200)
            return client.sandbox

    first, again, other = (asyncio.run(run(seed)).ledger for seed in (7, 7, 8))
    assert [(e.status, e.request_id) for e in first] == [(e.status, e.request_id) for e in again]
    assert [e.status for e in first] != [e.status for e in other]
    counts = Counter(e.status for e in first)
    assert 35 < counts[500] < 85
    assert 20 < counts[404] < 65
    assert not {e.token for e in first if e.token} & {e.token for e in again if e.token}


# --- ledger, latency, life cycle ---


def test_the_ledger_over_http_is_the_ledger() -> None:
    async def main() -> None:
        async with serving(script="ok,lost*1,503", limit=4) as client:
            await client.send()
            with suppress(aiohttp.ServerDisconnectedError):
                await client.send()
            await client.send()
            await client.send({"code": "short", "username": "jdoe"})
            await client.send()
            reply = await client.send(method="GET", path=LEDGER_PATH)
            assert reply.status == 200
            shown = reply.json["entries"]
            assert shown == [
                {
                    "at": entry.at,
                    "identifier": entry.identifier,
                    "code": entry.code,
                    "requestId": entry.request_id,
                    "counted": entry.counted,
                    "fault": entry.fault,
                    "status": entry.status,
                    "token": entry.token,
                    "expirationTime": entry.expiration_time,
                }
                for entry in client.sandbox.ledger
            ]
            assert [entry["status"] for entry in shown] == [200, None, 503, 400, 429]
            assert [entry["identifier"] for entry in shown][3:] == ["username=jdoe", "driverId=281474"]
            assert all(early["at"] <= late["at"] for early, late in pairwise(shown))

    asyncio.run(main())


def test_with_latency_requests_overtake_one_another_on_their_way_in_and_out() -> None:
    async def main() -> None:
        async with serving(latency=(0.0, 0.05), seed=1) as client:
            answered = []

            async def issue(number: int) -> None:
                await client.send({"code": CODE, "driverId": number})
                answered.append(f"driverId={number}")

            await asyncio.gather(*map(issue, range(30)))
            counted = [entry.identifier for entry in client.sandbox.ledger]
        assert sorted(counted) == sorted(answered)
        assert counted != [f"driverId={number}" for number in range(30)]
        assert counted != answered

    asyncio.run(main())


def test_a_request_with_a_client_that_disconnected_is_still_counted() -> None:
    async def main() -> None:
        async with asyncio.timeout(5), Sandbox(latency=(0.05, 0.05), seed=1) as sandbox:
            task = asyncio.create_task(_bytes_until_close(sandbox))
            for _ in range(50):  # turns of the loop: enough for the server to have read it
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert sandbox.ledger == []
            while not sandbox.ledger:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
            assert sandbox.ledger[0].token

    asyncio.run(main())


@given(
    gaps=st.lists(st.integers(0, 8), max_size=30),
    counted=st.lists(st.booleans(), min_size=30, max_size=30),
    per=st.integers(1, 20),
)
def test_the_peak_is_the_most_counted_in_any_window(gaps: list[int], counted: list[bool], per: int) -> None:
    sandbox = Sandbox(per=per)
    at = 0
    for gap, is_counted in zip(gaps, counted, strict=False):
        at += gap
        sandbox.ledger.append(LedgerEntry(at, "", "", "", counted=is_counted))
    times = [entry.at for entry in sandbox.ledger if entry.counted]
    assert sandbox.peak() == max((sum(t <= other < t + per for other in times) for t in times), default=0)


def test_a_taken_port_is_an_oserror_and_the_first_sandbox_continues() -> None:
    async def main() -> None:
        async with serving() as client:
            port = int(client.sandbox.url.rpartition(":")[2])
            with pytest.raises(OSError, match=str(port)):
                await Sandbox(port=port).start()
            assert (await client.send()).status == 200

    asyncio.run(main())


def test_a_sandbox_starts_once_stops_any_number_of_times_and_can_start_again() -> None:
    async def main() -> None:
        sandbox = Sandbox()
        await sandbox.stop()
        await sandbox.start()
        with pytest.raises(RuntimeError, match="already"):
            await sandbox.start()
        await sandbox.stop()
        await sandbox.stop()
        async with sandbox, aiohttp.ClientSession() as session:
            assert (await Client(sandbox, session).send()).status == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limiter": "leaky"}, "unknown limiter"),
        ({"limit": 0}, "limit must be"),
        ({"per": 0}, "period must be"),
        ({"burst": 3}, "no burst"),
        ({"latency": (0.2, 0.1)}, "latency"),
        ({"latency": (-0.1, 0.1)}, "latency"),
        ({"latency": (0.0, float("inf"))}, "latency"),
        ({"token_lifetime": 0}, "token lifetime"),
        ({"token_lifetime": float("nan")}, "token lifetime"),
        (
            {"faults": {"rest": 0.1}},
            "unknown fault 'rest'; choose a status from 400 to 599 or one of reset, lost",
        ),
        ({"faults": {"ok": 0.1}}, "unknown fault 'ok'"),
        ({"faults": {"200": 0.1}}, "unknown fault '200'"),
        ({"faults": {"600": 0.1}}, "unknown fault '600'"),
        ({"faults": {"500": -0.1}}, "probability of '500'"),
        ({"faults": {"500": float("nan")}}, "probability of '500'"),
        ({"faults": {"500": 0.6, "reset": 0.6}}, "add up to 1 at most"),
        ({"script": "ok,,401"}, "entry ''"),
        ({"script": "ok,"}, "entry ''"),
        ({"script": "ok*0"}, r"entry 'ok\*0'"),
        ({"script": "ok*-1"}, "entry"),
        ({"script": "ok**2"}, "entry"),
        ({"script": "ok*,401"}, "never ends"),
        ({"script": "ok,fail*3"}, "unknown fault 'fail'"),
        ({"host": "0.0.0.0"}, "loopback"),  # noqa: S104 - refused
        ({"host": "example.com"}, "loopback"),
        ({"port": 65536}, "port"),
        ({"port": -1}, "port"),
        ({"api_token": ""}, "API token"),
        ({"api_token": "with space"}, "API token"),
        ({"api_token": "line\n"}, "API token"),
    ],
)
def test_invalid_arguments_are_a_valueerror_of_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Sandbox(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_may_be_scripted_or_random(name: str) -> None:
    Sandbox(script=f"ok,{name}*2,{name}*", faults={name: 1.0})


def test_no_repr_shows_an_api_token_a_code_or_a_token() -> None:
    async def main() -> None:
        async with serving() as client:
            reply = await client.send()
            shown = f"{client.sandbox!r} {client.sandbox} {client.sandbox.ledger!r}"
            for secret in (client.sandbox.api_token, CODE, reply.json["data"]["token"]):
                assert secret not in shown
            assert client.sandbox.url in shown

    asyncio.run(main())


def test_api_tokens_are_random_unless_given() -> None:
    assert Sandbox().api_token != Sandbox().api_token
    assert Sandbox(api_token="given").api_token == "given"  # noqa: S105, S106 - made up
