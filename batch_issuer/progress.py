"""What a person watches: a tqdm bar on a terminal, a line now and then elsewhere. An observer of the run's events.

The time that is left comes from the quota's plan (a hundred at once, then a wait), not from the average rate, which
would promise seconds after the first hundred and hours before.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

from .events import GateClosed, GateOpened, QuotaTrouble, RowDone, RunStarted, Stopping
from .model import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .events import Event

TICK = 1.0
"""Seconds between looks at the clock on a terminal."""

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

NOTEWORTHY_WAIT = 2.0
"""Seconds: a shorter closing of the gate is not told."""


def duration_text(seconds: float) -> str:
    """A time for people: ``3 s``, ``2 min 10 s``, ``1 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _for_up_to(patience: float) -> str:
    return f"Trying for up to {duration_text(patience)}; Ctrl-C stops."


class _Unbreakable:
    """A stream whose reader may leave: that stops the showing, never the run, nor tqdm with its lock held."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


class _Bar(tqdm):  # type: ignore[type-arg] # tqdm is generic for the type checker only
    monitor_interval = 0  # our own timer refreshes the bar; a thread of tqdm's is not needed


class Progress:
    """Shows a run on ``stream``; call it with each event, use it as a context so that the bar is taken down."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = _Unbreakable(stream)
        self._seconds_left: Callable[[], float]
        self._quiet = quiet
        self._bar: _Bar | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._total = self._done = self._without = 0
        self._stopped = self._held_up = False
        self._told = ""  # the last reason for waiting, until a driver has a token again

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._bar is not None:
            self._bar.set_postfix_str(self._state())
            self._bar.close()

    def __call__(self, event: Event) -> None:  # noqa: C901 - one case per kind of event
        """Take note of an event."""
        match event:
            case RunStarted():
                self._seconds_left = event.seconds_left
                self._start(event)
            case RowDone():
                self._count(event.outcome.status)
                if event.outcome.status is Status.ISSUED:
                    self._told, self._held_up = "", False
            case GateClosed():
                self._held_up = True
                if event.seconds >= NOTEWORTHY_WAIT and event.ending.message != self._told:
                    self._told = event.ending.message
                    wait = duration_text(event.seconds)
                    self._say(f"Waiting {wait}: {event.ending.message}. {_for_up_to(event.patience)}")
            case GateOpened():
                self._held_up = False
            case QuotaTrouble():
                self._held_up = event.patience is not None
                if event.patience is None:
                    self._warn(
                        f"Warning: {event.message}. This run goes on with a quota of its own. To mend it: {event.tip}."
                    )
                else:
                    self._say(f"Waiting: {event.message}. {_for_up_to(event.patience)}")
            case Stopping():
                self._stopped = True
                if event.in_flight:
                    requests = "1 request" if event.in_flight == 1 else f"{event.in_flight} requests"
                    self._say(f"Stopping, after the {requests} under way.")

    def _count(self, status: Status) -> None:
        if status is Status.NOT_ATTEMPTED:
            return
        self._done += 1
        self._without += status is not Status.ISSUED
        if self._bar is not None:
            self._bar.update()

    def _start(self, event: RunStarted) -> None:
        self._total = total = event.drivers
        if self._quiet or not total:
            return
        drivers = "1 driver" if total == 1 else f"{total} drivers"
        in_use = f", {event.others} of {event.rate.limit} slots in use by another run" if event.others else ""
        if event.others_waiting:
            in_use += f" that has {event.others_waiting} more to send"
        self._say(f"{drivers} to send at {event.rate}{in_use}: about {duration_text(event.seconds_left())}.")
        if event.time is not None and event.seconds_left() > event.time:
            self._say(f"The deadline comes first, in {duration_text(event.time)}: batch-issuer retry goes on after it.")
        if self._stream.isatty():
            self._bar = _Bar(
                total=total,
                file=self._stream,
                unit="driver",
                dynamic_ncols=True,
                bar_format="{n_fmt} of {total_fmt} drivers{postfix} |{bar}|",
            )
        self._tick()

    def _tick(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._state())
        elif self._timer is not None:  # not at the very start
            self._say(f"{self._done} of {self._total} drivers, {self._state()}.")
        every = TICK if self._bar is not None else LINE_EVERY
        self._timer = asyncio.get_running_loop().call_later(every, self._tick)

    def _state(self) -> str:
        if self._stopped:
            left = "stopped"
        elif self._held_up:
            left = "nothing gets through at the moment"
        else:
            left = f"about {duration_text(self._seconds_left())} left" if self._done < self._total else "done"
        return f"{self._without} without a token, {left}" if self._without else left

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._warn(line)

    def _warn(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)
