"""What a run reports as it happens, to whoever observes it."""

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
    """``drivers`` will be sent at ``rate``; other runs use ``others`` slots and have ``others_waiting`` more to send.

    ``seconds_left()`` gives the quota's estimate for the drivers that wait; ``time`` is how many seconds there are
    until the deadline, None without one.
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
    """All wait ``seconds``; the run ends with ``ending`` if nothing gets through for ``patience`` seconds."""

    seconds: float
    ending: Ending
    patience: float


@dataclass(frozen=True, slots=True)
class GateOpened:
    """Something got through again, after the gate had been closed once or more."""


@dataclass(frozen=True, slots=True)
class QuotaTrouble:
    """The budget cannot be shared with other runs: for good (``patience`` is None), or the run waits so long for it."""

    message: str
    hint: str
    patience: float | None


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first token came; tokens live ``lifetime`` seconds by the server's own clock.

    The others come within ``seconds_left`` by the quota's estimate; ``at_once`` is how many drivers can hold a valid
    token at the same time, None if all can.
    """

    lifetime: float
    expires_at: datetime
    seconds_left: float
    at_once: int | None


@dataclass(frozen=True, slots=True)
class ClockOff:
    """This computer's clock is ``seconds`` ahead of the server's; negative where it is behind."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renewing:
    """At the end of the run, ``drivers`` get another token, because theirs would not be valid long enough."""

    drivers: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """No further request leaves; ``in_flight`` are waited for."""

    ending: Ending
    in_flight: int


Event = RunStarted | RowDone | GateClosed | GateOpened | QuotaTrouble | FirstToken | ClockOff | Renewing | Stopping

Observer = Callable[[Event], None]
"""Receives the events of one run; must not block. If it raises, the run ends and raises, too."""
