"""The events that a run reports to its observers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import Outcome
    from ..settings.run_settings import Rate
    from .endings import Ending


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run has started.

    Attributes:
        drivers: how many will be sent.
        rate: the quota.
        others: slots in use by other runs.
        others_waiting: requests that other runs have yet to send.
        seconds_left: estimates the time for the drivers that are waiting.
        time: seconds until the deadline; None without one.
    """

    drivers: int
    rate: Rate
    others: int
    others_waiting: int
    seconds_left: Callable[[], float]
    time: float | None = None


@dataclass(frozen=True, slots=True)
class RowDone:
    """A row has its outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class GateClosed:
    """All rows wait ``seconds``; the run ends with ``ending`` after ``patience`` seconds without a success."""

    seconds: float
    ending: Ending
    patience: float


@dataclass(frozen=True, slots=True)
class GateOpened:
    """A request succeeded after the gate had been closed."""


@dataclass(frozen=True, slots=True)
class QuotaTrouble:
    """The quota cannot be shared: the run waits for up to ``patience`` seconds, or (None) continues without sharing."""

    message: str
    hint: str
    patience: float | None


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first token has arrived.

    Attributes:
        lifetime: seconds that tokens are valid, by the server's clock.
        expires_at: when this token expires.
        seconds_left: estimated time until the last token arrives.
        at_once: how many drivers can have a valid token at the same time; None if all can.
    """

    lifetime: float
    expires_at: datetime
    seconds_left: float
    at_once: int | None


@dataclass(frozen=True, slots=True)
class ClockOff:
    """This computer's clock is ``seconds`` ahead of the server's, or behind if negative."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renewing:
    """At the end of the run, ``drivers`` get new tokens because theirs would expire too soon."""

    drivers: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """No further request is sent; ``in_flight`` requests are still waiting for a reply."""

    ending: Ending
    in_flight: int


Event = RunStarted | RowDone | GateClosed | GateOpened | QuotaTrouble | FirstToken | ClockOff | Renewing | Stopping

Observer = Callable[[Event], None]
"""Receives the events of one run. It must not block; if it raises, the run ends and raises too."""
