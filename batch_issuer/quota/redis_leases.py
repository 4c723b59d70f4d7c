"""Leases in Redis, shared by the runs of several hosts.

A Lua script, `redis_leases.lua`, performs each operation atomically and by the Redis server's clock, so the clocks of
the hosts do not matter. A run sends a heartbeat every few seconds. Without one for half a minute it counts as dead, and
its unanswered leases lapse like those of lost requests. So a run that was suspended or disconnected for long must not
use its earlier leases: `RedisLeases.is_valid` detects that.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections import deque
from contextlib import suppress
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoAnswerError

from ..errors import QuotaError, SettingsError
from .leases import ACTIVE_FOR, LOST_GRACE, Answer, Budget, End, Lease, cooling_time, hold_time, poll_delay

if TYPE_CHECKING:
    from ..settings.run_settings import Rate
    from ..settings.secrets import Secret

HEARTBEAT = 5.0
"""Seconds between heartbeats of a run."""

DEAD_AFTER = 30.0
"""Seconds without a heartbeat after which a run counts as dead."""

RETRY_INTERVAL = 1.0
"""Seconds between attempts to write after a failure."""

CLOSE_TIMEOUT = 3.0
"""Seconds to write the rest at the end; after that, leases lapse like those of a dead run."""

TIMEOUT = 5.0
"""Seconds for a reply of the Redis server."""


class RedisLeases:
    """Leases of one run; see `Leases`. Make it with `connected`."""

    def __init__(self, url: Secret, organization: str, rate: Rate) -> None:
        self.rate = rate
        parts = urlsplit(url.reveal())
        self._place = f"the Redis server {parts.hostname}:{parts.port or 6379}"  # without the password
        self._redis = Redis.from_url(
            url.reveal(),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        pool = self._redis.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # raises here, not at each request, for an unknown option
        self._script = self._redis.register_script(files(__package__).joinpath("redis_leases.lua").read_text("utf-8"))
        own = [f"{{batch-issuer}}:{organization}:{name}" for name in ("slots", "runs", "state")]
        self._keys = [*own, "{batch-issuer}:server"]  # the braces keep the keys on one node of a cluster
        self._run = uuid.uuid4().hex
        self._numbers = count(1)
        self._generation = ""
        self._answered_at = -DEAD_AFTER, -DEAD_AFTER
        self._alive_since = 0.0
        self._unwritten: deque[tuple[str, *tuple[str | float, ...]]] = deque()
        self._to_write = asyncio.Event()
        self._requests: set[asyncio.Task[dict[str, Any]]] = set()
        self._closing = False
        self._writer = asyncio.get_running_loop().create_task(self._write())

    @classmethod
    async def connected(cls, url: Secret, organization: str, rate: Rate) -> RedisLeases:
        """Leases on a server that has replied once.

        Raises:
            SettingsError: the server cannot be used.
        """
        try:
            leases = cls(url, organization, rate)
        except Exception:  # noqa: BLE001 - the library raises many kinds
            raise SettingsError("the Redis address has an unknown option", "check --quota") from None
        try:
            await leases.snapshot()
        except BaseException as error:
            await leases.close()
            if isinstance(error, QuotaError):
                raise SettingsError(error.message, error.hint) from None
            raise
        return leases

    async def _call(self, what: str, *more: str | float) -> dict[str, Any]:
        clocks = _clocks()
        now = asyncio.get_running_loop().time()
        rules = self.rate.limit, cooling_time(self.rate), LOST_GRACE, ACTIVE_FOR, DEAD_AFTER
        arguments = [what, self._run, self._generation, uuid.uuid4().hex, *rules, *more]
        try:
            answer: dict[str, Any] = json.loads(await self._script(keys=self._keys, args=arguments))
        except Exception as error:  # noqa: BLE001 - the run waits and reports it
            raise self._quota_error(error) from None
        self._answered_at = clocks
        self._generation = answer["generation"]
        if not answer["known"] and what != "leave":  # new, or counted as dead: earlier leases may have lapsed
            self._alive_since = now
        return answer

    def _quota_error(self, error: Exception) -> QuotaError:
        causes = error, error.__cause__, error.__context__
        if any(isinstance(cause, ssl.SSLError | FileNotFoundError) for cause in causes):
            hint = "for a private certificate authority, end the address with ?ssl_ca_certs=/path/ca.pem"
            return QuotaError(f"the certificate of {self._place} is not trusted", hint)
        match error:
            case AuthenticationError():
                hint = "check both in the address"
                return QuotaError(f"{self._place} requires another user name or password", hint)
            case InvalidResponse():
                return QuotaError(f"{self._place} is not a Redis server", "check the address")
            case ResponseError():
                hint = "check the database number in the address and the user's permissions"
                return QuotaError(f"{self._place} refuses to store the quota", hint)
            case NoAnswerError() | TimeoutError():
                problem = "does not reply"
            case NoConnectionError() | OSError():
                problem = "cannot be reached"
            case _:
                problem = f"refuses to store the quota ({type(error).__name__})"
        hint = "check its address and the network, or use --quota host to share with runs on this computer only"
        return QuotaError(f"{self._place} {problem}", hint)

    async def acquire(self, waiting: int) -> Answer:
        """See `Leases`."""
        name = f"{self._run}-{next(self._numbers)}"
        request = asyncio.get_running_loop().create_task(self._call("take", name, waiting))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        try:
            answer = await asyncio.shield(request)
        except BaseException:  # the script may still run
            request.add_done_callback(lambda _: self._later("end", name, 0))
            raise
        lease = Lease(name, asyncio.get_running_loop().time())
        if answer["forgot"] > 0:
            raise QuotaError(
                f"{self._place} was restarted and may have lost track of requests; the next one is possible in "
                f"{answer['forgot']:.0f} s",
                "wait, and keep the server running next time",
            )
        if answer["granted"]:
            return Answer(lease, 0.0, 0.0, answer["runs"])
        wait = poll_delay(free=answer["free"], alone=answer["alone"], release=answer.get("release"))
        return Answer(None, answer["gate"] or wait, answer["gate"], answer["runs"])

    def is_valid(self, lease: Lease) -> bool:
        """See `Leases`."""
        silence = max(now - then for now, then in zip(_clocks(), self._answered_at, strict=True))
        return silence < DEAD_AFTER / 2 and lease.taken_at >= self._alive_since

    def release(self, lease: Lease, end: End) -> None:
        """See `Leases`."""
        self._later("end", lease.id, hold_time(end, self.rate))

    def close_gate(self, seconds: float) -> None:
        """See `Leases`."""
        self._later("gate", seconds)

    def _later(self, what: str, *more: str | float) -> None:
        self._unwritten.append((what, *more))
        self._to_write.set()

    async def _write(self) -> None:
        """Write pending updates in order, and send heartbeats in between."""
        while not self._closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._to_write.wait()
            try:
                await self._catch_up()
                if not self._to_write.is_set():
                    await self._call("heartbeat")
            except QuotaError:
                await asyncio.sleep(RETRY_INTERVAL)

    async def _catch_up(self) -> None:
        while self._unwritten:
            await self._call(*self._unwritten[0])
            self._unwritten.popleft()
        self._to_write.clear()

    async def snapshot(self) -> Budget:
        """See `Leases`."""
        answer = await self._call("snapshot")
        return Budget(
            answer["in_flight"], tuple(answer["releases"] or ()), answer["gate"], tuple(answer["waiting"] or ())
        )

    async def close(self) -> None:
        """See `Leases`."""
        self._closing = True
        self._to_write.set()
        with suppress(QuotaError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.gather(self._writer, *self._requests, return_exceptions=True)
                await self._catch_up()
                await self._call("leave")
        unfinished = [self._writer, *self._requests]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        with suppress(Exception):
            await self._redis.aclose()


def _clocks() -> tuple[float, float]:
    """Seconds of two clocks: the first stops while the computer sleeps, the second may be set."""
    return time.monotonic(), time.time()
