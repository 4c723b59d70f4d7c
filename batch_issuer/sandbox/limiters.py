"""Rate limiters that Samsara or a gateway in front of it may use. Pure: the time is an argument."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HAIR = 1e-6  # seconds added to each wait, so that float rounding cannot make it too short


class Limiter(Protocol):
    """When a server admits a request; `now` is in seconds of any monotonic clock."""

    def admit(self, now: float) -> float | None:
        """Count a request and return None, or refuse it and return the seconds until the next attempt."""


class FixedWindow:
    """`limit` requests per window; windows start at multiples of `period` seconds."""

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._period = limit, period
        self._window, self._count = -math.inf, 0

    def admit(self, now: float) -> float | None:
        """See Limiter."""
        window = now // self._period
        if window != self._window:
            self._window, self._count = window, 0
        if self._count >= self._limit:
            return (window + 1) * self._period - now + _HAIR
        self._count += 1
        return None


class SlidingLog:
    """`limit` requests in any `period` seconds; refused requests count if `counts_refused`."""

    def __init__(self, limit: int, period: float, *, counts_refused: bool = False) -> None:
        self._period, self._counts_refused = period, counts_refused
        self._counted: deque[float] = deque([-math.inf] * limit, maxlen=limit)

    def admit(self, now: float) -> float | None:
        """See Limiter."""
        full = now - self._counted[0] < self._period
        if not full or self._counts_refused:
            self._counted.append(now)  # pushes the oldest out
        return self._period - (now - self._counted[0]) + _HAIR if full else None


class SlidingCounter:
    """`limit` requests in the last `period` seconds, estimated from two fixed windows.

    The requests of the previous window are assumed to be spread evenly, and count in proportion to its part within the
    last `period` seconds. Many gateways do this, to store two numbers instead of a log. Windows start at multiples of
    `period` seconds; refused requests count if `counts_refused`.
    """

    def __init__(self, limit: int, period: float, *, counts_refused: bool = False) -> None:
        self._limit, self._period, self._counts_refused = limit, period, counts_refused
        self._window, self._before, self._count = -math.inf, 0, 0

    def admit(self, now: float) -> float | None:
        """See Limiter."""
        window, elapsed = divmod(now, self._period)
        if window != self._window:
            self._before = self._count if window == self._window + 1 else 0
            self._window, self._count = window, 0
        full = self._before * (self._period - elapsed) > self._room() * self._period
        if not full or self._counts_refused:
            self._count += 1
        return self._full_until() - elapsed + _HAIR if full else None

    def _room(self) -> int:
        """How many requests of the previous window may count if one more is admitted to this one."""
        return self._limit - 1 - self._count

    def _full_until(self) -> float:
        """Return when one more request fits, in seconds from this window's start, if no others arrive."""
        if self._room() >= 0:  # by the end of this window, when fewer of the previous one count
            return self._period * (1 - self._room() / self._before)
        return self._period * (2 - (self._limit - 1) / self._count)  # in the next window


class TokenBucket:
    """A burst of `burst` requests (`limit` by default), then `limit` per period."""

    def __init__(self, limit: int, period: float, burst: int | None = None) -> None:
        self._rate = limit / period
        self._burst = limit if burst is None else burst
        self._level, self._level_at = 0.0, -math.inf

    def admit(self, now: float) -> float | None:
        """See Limiter."""
        level = min(self._burst, self._level + (now - self._level_at) * self._rate)
        if level < 1:
            return (1 - level) / self._rate + _HAIR
        self._level, self._level_at = level - 1, now
        return None


class Gcra:
    """One request every `period / limit` seconds after a burst of `burst`: a trickle.

    The generic cell rate algorithm (ITU-T I.371), in its virtual scheduling form.
    """

    def __init__(self, limit: int, period: float, burst: int) -> None:
        self._interval = period / limit
        self._tolerance = (burst - 1) * self._interval
        self._expected = -math.inf

    def admit(self, now: float) -> float | None:
        """See Limiter."""
        wait = self._expected - self._tolerance - now
        if wait > 0:
            return wait + _HAIR
        self._expected = max(self._expected, now) + self._interval
        return None


class Unlimited:
    """Admits everything."""

    def admit(self, now: float) -> float | None:  # noqa: ARG002 - the protocol's
        """See Limiter."""
        return None


LIMITERS: Mapping[str, Callable[[int, float, int | None], Limiter]] = {
    "fixed": lambda limit, period, _: FixedWindow(limit, period),
    "sliding": lambda limit, period, _: SlidingLog(limit, period),
    "sliding-strict": lambda limit, period, _: SlidingLog(limit, period, counts_refused=True),
    "counter": lambda limit, period, _: SlidingCounter(limit, period),
    "counter-strict": lambda limit, period, _: SlidingCounter(limit, period, counts_refused=True),
    "bucket": TokenBucket,
    "gcra": lambda limit, period, burst: Gcra(limit, period, 10 if burst is None else burst),
    "none": lambda _limit, _period, _burst: Unlimited(),
}


def make_limiter(name: str, limit: int, period: float, burst: int | None = None) -> Limiter:
    """Return the limiter `name` (a key of LIMITERS) for `limit` requests per `period` seconds.

    A "-strict" limiter also counts refused requests, so that clients that retry too soon wait longer. `burst`
    (requests) is for "bucket", by default `limit`, and "gcra", by default 10.
    Raises ValueError, with a message for users, for invalid arguments.
    """
    require(name in LIMITERS, f"unknown limiter {name!r}; choose one of {', '.join(LIMITERS)}")
    require(limit >= 1, f"the limit must be 1 request or more, not {limit}")
    require(0 < period < math.inf, f"the limit's period must be a positive number of seconds, not {period}")
    require(burst is None or burst >= 1, f"the burst must be 1 request or more, not {burst}")
    require(
        burst is None or name in {"bucket", "gcra"},
        f"the limiter {name!r} has no burst; choose 'bucket' or 'gcra', or omit the burst",
    )
    return LIMITERS[name](limit, period, burst)


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)
