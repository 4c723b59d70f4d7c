"""The settings of one run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..errors import SettingsError
from .addresses import REGIONS, checked_base_url, checked_quota, is_remote
from .durations import seconds
from .secrets import Secret


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``limit`` requests in any window of ``period`` seconds."""

    limit: int
    period: float

    def __post_init__(self) -> None:
        if not (isinstance(self.limit, int) and self.limit >= 1 and 0 < self.period < float("inf")):
            raise SettingsError(
                f"a rate of {self.limit} requests per {self.period} s is not possible",
                "use a whole number of requests and a time, such as 100/min",
            )

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``100/min``, ``100/6s`` or ``5/s``.

        Raises:
            SettingsError: for anything else.
        """
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9}(?:\.\d{1,9})?)?\s*(s|sec|min|m|h)\s*", text, re.ASCII)
        if not match:
            raise SettingsError(f"{text!r} is not a valid rate", "write it as 100/min, 100/6s or 5/s")
        limit, count, unit = match.groups()
        return cls(int(limit), seconds(f"{count or 1}{unit}"))

    @property
    def spacing(self) -> float:
        """Seconds between evenly spread requests: P/L."""
        return self.period / self.limit

    def __str__(self) -> str:
        if self.period == 60:  # noqa: PLR2004 - a minute
            return f"{self.limit}/min"
        return f"{self.limit}/{'' if self.period == 1 else f'{self.period:.12g}'}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs besides the roster.

    Attributes:
        api_token: the organization's API token, with the scope "Write Driver Auth Token".
        base_url: ``https://…``; ``http://`` on a loopback address only.
        rate: the organization's quota for this endpoint.
        burst: requests that may leave back to back, 1 to ``rate.limit``; None means ``rate.limit``.
        timeout: seconds for one request, from connecting to the last byte.
        concurrency: most requests in flight.
        attempts: requests per row before it fails; those answered 429 do not count.
        give_up_after: seconds without progress after which the run stops: every request is throttled, or the server
            cannot be reached.
        proxy: URL of the proxy; None for none. A secret because it may contain a password.
        quota: which runs of the organization share its quota: those of this process (``process``), those of this user
            on this computer (``host``), or all that use the Redis server at a ``redis://`` or ``rediss://`` address.
            An address becomes a secret because it may contain a password.
        ca_file: certificates to trust instead of the system's.
        min_validity: seconds. Earlier tokens that stay valid for at least this long are kept; others are renewed at
            the end of the run where possible.
        deadline: when the run stops, as a time with its zone or counted from its start; None for no deadline.
        organization: its name; blank for none. Runs share a quota by this name, so that several API tokens of one
            organization can share it; without a name, by the API token.

    Raises:
        SettingsError: for a value that cannot work.
    """

    api_token: Secret
    base_url: str = REGIONS["us"]
    rate: Rate = Rate(100, 60.0)
    burst: int | None = None
    timeout: float = 30.0
    concurrency: int = 16
    attempts: int = 5
    give_up_after: float = 600.0
    proxy: Secret | None = None
    ca_file: str | None = None
    quota: str | Secret = "host"
    min_validity: float = 300.0
    deadline: datetime | timedelta | None = None
    organization: str = ""

    def __post_init__(self) -> None:
        token: object = self.api_token
        if not isinstance(token, Secret):
            raise SettingsError("api_token must be a Secret", "write api_token=Secret(text)")
        if not re.fullmatch(r"[!-~]+", token.reveal()):
            raise SettingsError(
                "the API token is empty or contains spaces, line breaks or non-ASCII characters",
                "copy it again from the Samsara dashboard; it is a single word",
            )
        object.__setattr__(self, "base_url", checked_base_url(self.base_url))
        object.__setattr__(self, "quota", checked_quota(self.quota))
        for name, value, least in (
            ("timeout", self.timeout, 0.001),
            ("concurrency", self.concurrency, 1),
            ("attempts", self.attempts, 1),
            ("give_up_after", self.give_up_after, 0.0),
            ("min_validity", self.min_validity, 0.0),
        ):
            if not least <= value < float("inf") or (isinstance(least, int) and value != int(value)):
                number = "a whole number" if isinstance(least, int) else "a number"
                raise SettingsError(f"{name} cannot be {value}", f"use {number} of {least:g} or more")
        if isinstance(self.deadline, datetime) and self.deadline.tzinfo is None:
            raise SettingsError("the deadline has no time zone", "add one with .astimezone()")
        if isinstance(self.deadline, timedelta) and self.deadline <= timedelta(0):
            raise SettingsError("the deadline is not in the future", "choose a longer time")
        if self.burst is not None and not 1 <= self.burst <= self.rate.limit:
            raise SettingsError(
                f"a burst of {self.burst} is not possible at a rate of {self.rate}",
                f"choose 1 to {self.rate.limit}",
            )

    @property
    def is_remote(self) -> bool:
        """Whether requests go to another computer, not to a local test server."""
        return is_remote(self.base_url)
