"""Complete runs on a virtual clock against model servers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from support import clock as virtual_clock
from support.model_server import RATE, ModelServer, P, TroubledLeases, drivers

from batch_issuer.model import Fault, Outcome, Reply
from batch_issuer.pipeline.endings import StopSignal
from batch_issuer.pipeline.events import Event, GateClosed, RowDone
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import MemoryLeases, Quota
from batch_issuer.sandbox import Limiter, SlidingLog
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from batch_issuer.errors import QuotaError
    from batch_issuer.pipeline.endings import Ending
    from batch_issuer.settings.run_settings import Rate

NOW = datetime(2030, 1, 1, tzinfo=UTC)

OK = None
BUSY = Reply(503, message="HTTP 503: busy", request_id="r503")
REJECTED = Reply(404, message="HTTP 404: Object not found.", request_id="r404")
REVOKED = Reply(401, message="HTTP 401: Invalid token.", request_id="r401")
THROTTLED = Reply(429, message="HTTP 429", retry_after=0.25)
UNREACHABLE = Reply(left=False, fault=Fault.UNREACHABLE, message="no connection")
SILENCE = Reply(fault=Fault.TIMEOUT, message="no reply")
UNUSABLE = Reply(200, fault=Fault.UNUSABLE, message="HTTP 200 without a token")


class Recorder:
    """A complete run with its events."""

    def __init__(  # noqa: PLR0913 - everything that tests vary
        self,
        count: int,
        server: ModelServer,
        *,
        rate: Rate = RATE,
        at: Callable[[StopSignal, asyncio.AbstractEventLoop], object] = lambda *_: None,
        trouble: Callable[[float], QuotaError | None] | None = None,
        before: Outcome | None = None,
        earlier: Iterable[Outcome] = (),
        renewable: Iterable[Outcome] | None = None,
        **overrides: Any,
    ) -> None:
        """Run to the end.

        Args:
            count: drivers.
            server: receives the requests.
            rate: of the quota.
            at: is called at the start, with the stop signal and the loop.
            trouble: of leases shared with other processes; None for own leases.
            before: the earlier outcome of the first driver.
            earlier: outcomes of other rows of the file.
            renewable: other rows that keep an earlier token; None to renew nothing.
            overrides: of the settings.
        """
        self.events: list[Event] = []
        self.server = server
        rng = random.Random(3)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            requested = drivers(count)
            requested[:1] = [replace(driver, before=before) for driver in requested[:1]]
            stop = StopSignal()
            shared = TroubledLeases(rate, trouble) if trouble is not None else None
            self.run = Run(
                requested,
                Settings(api_token=Secret("token"), rate=rate, **overrides),
                server,
                Quota(MemoryLeases(rate), shared, concurrency=int(overrides.get("concurrency", 16))),
                stop=stop,
                observe=self.events.append,
                earlier=earlier,
                renewable=renewable,
                uniform=rng.uniform,
                wall_clock=lambda: NOW + timedelta(seconds=loop.time() if "deadline" in overrides else 0.0),
            )
            at(stop, loop)
            await self.run.run()
            self.elapsed = loop.time()
            await asyncio.sleep(0)
            self.left_behind = asyncio.all_tasks() - {asyncio.current_task()}

        virtual_clock.run(main())
        assert self.run.ending is not None
        self.ending: Ending = self.run.ending

    @property
    def outcomes(self) -> list[Outcome]:
        """In order of completion; a renewed row has two."""
        return [event.outcome for event in self.events if isinstance(event, RowDone)]

    def counts(self) -> Counter[str]:
        return Counter(str(outcome.status) for outcome in self.outcomes)

    @property
    def waits(self) -> list[float]:
        """Seconds of each closing of the gate, in order."""
        return [event.seconds for event in self.events if isinstance(event, GateClosed)]


def script(*replies: Reply | None, rest: Reply | None = OK) -> Iterable[Reply | None]:
    return chain(replies, repeat(rest))


def server_with(
    *replies: Reply | None,
    rest: Reply | None = OK,
    limiter: Limiter | None = None,
    latency: Callable[[], tuple[float, float]] = lambda: (0.05, 0.05),
) -> ModelServer:
    return ModelServer(limiter or SlidingLog(100, P), latency, script(*replies, rest=rest))
