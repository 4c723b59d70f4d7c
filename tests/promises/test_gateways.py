"""Behind rate limiters by others, a run gets every token, nearly as fast as possible.

P is scaled to 6 s. "Ideal" is what a client would take that knows the gateway: nginx lets 10 through at once, then one
each P/100; HAProxy 100 at once, and as many more in each P, evenly.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest
from support.gateways import haproxy, nginx
from support.model_server import drivers
from support.programs import needed
from support.sandbox import live_sandbox

from batch_issuer.api.client import Client, open_client
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import open_quota
from batch_issuer.sandbox import AUTH_TOKEN_PATH, Sandbox
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from batch_issuer.model import Identifier, Reply

P = 6.0
RATE = Rate(100, P)


def nginx_that_delays(upstream: str, rate: Rate) -> AbstractContextManager[str]:
    return nginx(upstream, rate, nodelay=False)


class Watched:
    """The real client, with its 429s counted."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.refusals = 0

    async def issue(self, identifier: Identifier, code: str) -> Reply:
        reply = await self._client.issue(identifier, code)
        self.refusals += reply.status == 429
        return reply


class Result(NamedTuple):
    took: float  # in units of P
    refusals: int


async def issued_through(url: str, upstream: Sandbox, count: int) -> Result:
    """A run through a gateway; it gets every token, each issued once upstream."""
    settings = Settings(
        api_token=Secret(upstream.api_token), base_url=url, rate=RATE, quota="process", give_up_after=5 * P
    )
    async with open_client(settings) as client, open_quota(settings) as quota:
        watched, started = Watched(client), time.monotonic()
        run = Run(drivers(count), settings, watched, quota)
        await run.run()
        took = time.monotonic() - started
    outcomes = run.outcomes.values()
    assert {outcome.status for outcome in outcomes} == {"issued"}
    assert sorted(entry.token for entry in upstream.ledger) == sorted(outcome.token for outcome in outcomes)
    assert len({entry.identifier for entry in upstream.ledger}) == count
    return Result(took / P, watched.refusals)


def measured(gateway: Callable[[str, Rate], AbstractContextManager[str]], count: int) -> Result:
    with live_sandbox(limiter="none", latency=(0.001, 0.03)) as upstream, gateway(upstream.url, RATE) as url:
        result = asyncio.run(issued_through(url, upstream, count))
    print(f"{count} drivers: {result.took:.2f} P, {result.refusals} refused")  # noqa: T201 - shown by pytest -rP
    return result


@pytest.mark.parametrize(
    ("gateway", "at_once", "passed"), [(nginx, 30, 10), (nginx_that_delays, 30, 10), (haproxy, 150, 100)]
)
def test_the_gateway_limits_as_documented_without_a_retry_after(
    gateway: Callable[[str, Rate], AbstractContextManager[str]], at_once: int, passed: int
) -> None:
    """The basis of the tests below: of many requests at once the first few pass, the others get a bare 429."""

    async def main(url: str, key: str) -> list[tuple[int, str | None]]:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:

            async def one(number: int) -> tuple[int, str | None]:
                body = {"code": "test-code-1234", "driverId": number}
                async with session.post(url + AUTH_TOKEN_PATH, json=body) as reply:
                    return reply.status, reply.headers.get("Retry-After")

            return await asyncio.gather(*(one(number) for number in range(at_once)))

    with live_sandbox(limiter="none") as upstream, gateway(upstream.url, RATE) as url:
        replies = asyncio.run(main(url, upstream.api_token))
    assert set(replies) == {(200, None), (429, None)}
    served = replies.count((200, None))
    assert served == len(upstream.ledger)
    assert passed <= served <= passed + 10  # some more time goes by on a slow machine


@pytest.mark.soak
@pytest.mark.parametrize(
    ("gateway", "most"),
    [
        pytest.param(nginx, 3.0, id="nginx"),  # ideal: 2.40
        pytest.param(nginx_that_delays, 3.0, id="nginx_that_delays"),  # ideal: 2.49
        pytest.param(haproxy, 3.3, id="haproxy"),  # ideal: 2.50
    ],
)
def test_250_drivers_behind_a_gateway(gateway: Callable[[str, Rate], AbstractContextManager[str]], most: float) -> None:
    """Every token, in no more than ``most`` periods, with few 429s."""
    took, refusals = measured(gateway, 250)
    assert took <= most
    assert refusals <= 40


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_server_that_is_not_installed_is_a_failure_where_servers_are_required(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere its tests are skipped; both messages name what to install."""
    monkeypatch.setenv("REQUIRE_SERVERS", required)
    with pytest.raises(outcome, match="apt-get install"):
        needed("no-such-server")


def test_a_gateway_that_cannot_run_is_a_failure_that_shows_its_output() -> None:
    with pytest.raises(AssertionError, match="expects <name> and <addr>"), haproxy("http://", RATE):
        pass
