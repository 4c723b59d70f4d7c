"""What a person watches: a tqdm bar on a terminal, a line now and then elsewhere. An observer of the runs' events.

The time that is left comes from the quota's plan (a hundred at once, then a wait), not from the average rate, which
would promise seconds after the first hundred and hours before.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

from ..model import Status
from ..pipeline.events import (
    ClockOff,
    FirstToken,
    GateClosed,
    GateOpened,
    QuotaTrouble,
    Renewing,
    RowDone,
    RunStarted,
    Stopping,
)
from ..wording import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ..pipeline.events import Event

TICK = 1.0
"""Seconds between looks at the clock on a terminal."""

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

NOTEWORTHY_WAIT = 2.0
"""Seconds: a shorter closing of the gate is not told."""


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


@dataclass(slots=True)
class _Run:
    """What is known of a run.

    Attributes:
        name: of its organization, before each line about it; blank where there is only one.
        started: how it began.
        done: rows with an outcome.
        stopped, held_up: whether it is.
        told: the last reason for waiting, until a driver has a token again.
    """

    name: str
    started: RunStarted | None = None
    done: int = 0
    total: int = 0
    stopped: bool = False
    held_up: bool = False
    told: str = field(default="")

    @property
    def seconds_left(self) -> float:
        return self.started.seconds_left() if self.started and self.done < self.total else 0.0


class Progress:
    """Shows runs on ``stream``; use it as a context so that the bar is taken down.

    Call it with each event of a run; of several runs at once, call each one's `of`.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False, runs: int = 1) -> None:
        """Show nothing yet.

        Args:
            stream: where to.
            quiet: show nothing but warnings.
            runs: how many there will be.
        """
        self._stream = _Unbreakable(stream)
        self._quiet = quiet
        self._expected = runs
        self._runs: dict[str, _Run] = {}
        self._bar: _Bar | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._without = 0
        self._introduced = False

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

    def of(self, organization: str) -> Callable[[Event], None]:
        """The observer of one organization's run."""
        return partial(self._see, self._runs.setdefault(organization, _Run(organization)))

    def __call__(self, event: Event) -> None:
        """Take note of an event of the only run."""
        self._see(self._runs.setdefault("", _Run("")), event)

    def _see(self, run: _Run, event: Event) -> None:  # noqa: C901, PLR0912 - one case per kind of event
        match event:
            case RunStarted():
                run.started, run.total = event, event.drivers
                self._start(run, event)
            case RowDone():
                self._count(run, event.outcome.status)
                if event.outcome.status is Status.ISSUED:
                    run.told, run.held_up = "", False
            case GateClosed():
                run.held_up = True
                if event.seconds >= NOTEWORTHY_WAIT and event.ending.message != run.told:
                    run.told = event.ending.message
                    wait = duration_text(event.seconds)
                    self._say(run, f"Waiting {wait}: {event.ending.message}. {_for_up_to(event.patience)}")
            case GateOpened():
                run.held_up = False
            case QuotaTrouble():
                run.held_up = event.patience is not None
                if event.patience is None:
                    self._warn(
                        run,
                        f"warning: {event.message}. This run has a quota of its own. To fix it: {event.hint}.",
                    )
                else:
                    self._say(run, f"Waiting: {event.message}. {_for_up_to(event.patience)}")
            case FirstToken():
                self._tell_lifetime(run, event)
            case ClockOff():
                off = f"{duration_text(abs(event.seconds))} {'ahead' if event.seconds > 0 else 'behind'}"
                self._warn(
                    run,
                    f"warning: this computer's clock is {off} of Samsara's, so tokens look "
                    f"{'expired too soon' if event.seconds > 0 else 'valid too long'} to it. Set the clock right.",
                )
            case Renewing():
                run.total += event.drivers
                if self._bar is not None:
                    self._bar.total = self._total
                self._say(
                    run, f"The tokens of {_drivers(event.drivers)} would not be valid long enough: asking for new ones."
                )
            case Stopping():
                run.stopped = True
                if event.in_flight:
                    requests = "1 request" if event.in_flight == 1 else f"{event.in_flight} requests"
                    self._say(run, f"Stopping, after the {requests} under way.")

    def _tell_lifetime(self, run: _Run, event: FirstToken) -> None:
        """Whether the tokens will be valid all at the same time; where all is well, of one run only."""
        lifetime = duration_text(event.lifetime)
        first = f"the first one expires at {event.expires_at.astimezone():%H:%M:%S}"
        if event.at_once is None:
            if self._expected == 1:
                self._say(run, f"Tokens are valid for {lifetime}: {first}, after the last one is issued.")
            return
        self._warn(
            run,
            f"warning: tokens are valid for {lifetime}: {first}, before the last one is issued, in about "
            f"{duration_text(event.seconds_left)}. At most {event.at_once} drivers can hold a valid token at the same "
            "time. hint: split the roster by depot or shift, and issue for each shortly before it is needed.",
        )

    def _count(self, run: _Run, status: Status) -> None:
        if status is Status.NOT_ATTEMPTED:
            return
        run.done += 1
        self._without += status is not Status.ISSUED
        if self._bar is not None:
            self._bar.update()

    @property
    def _total(self) -> int:
        return sum(run.total for run in self._runs.values())

    @property
    def _done(self) -> int:
        return sum(run.done for run in self._runs.values())

    def _start(self, run: _Run, event: RunStarted) -> None:
        if self._quiet or not event.drivers:
            return
        if self._expected == 1:
            in_use = f", {event.others} of {event.rate.limit} slots in use by another run" if event.others else ""
            if event.others_waiting:
                in_use += f" that has {event.others_waiting} more to send"
            about = duration_text(event.seconds_left())
            self._say(run, f"{_drivers(event.drivers)} to send at {event.rate}{in_use}: about {about}.")
        if event.time is not None and event.seconds_left() > event.time:
            comes = duration_text(event.time)
            self._say(run, f"The deadline comes first, in {comes}: batch-issuer retry goes on after it.")
        if self._bar is not None:
            self._bar.total = self._total
        elif self._stream.isatty():
            self._bar = _Bar(
                total=self._total,
                file=self._stream,
                unit="driver",
                dynamic_ncols=True,
                bar_format="{n_fmt} of {total_fmt} drivers{postfix} |{bar}|",
            )
        if sum(one.started is not None for one in self._runs.values()) == self._expected:
            self._introduce()
        if self._timer is None:
            self._tick()

    def _introduce(self) -> None:
        """Say how much there is to do for several organizations, as soon as that is known."""
        if self._expected > 1 and not self._introduced:
            self._introduced = True
            organizations = sum(run.total > 0 for run in self._runs.values())
            about = duration_text(max(run.seconds_left for run in self._runs.values()))
            self._print(f"{_drivers(self._total)} of {organizations} organizations to send: about {about}.")

    def _tick(self) -> None:
        if self._timer is not None:  # not at the very start
            self._introduce()
        if self._bar is not None:
            self._bar.set_postfix_str(self._state())
        elif self._timer is not None:
            self._print(f"{self._done} of {self._total} drivers, {self._state()}.")
        every = TICK if self._bar is not None else LINE_EVERY
        self._timer = asyncio.get_running_loop().call_later(every, self._tick)

    def _state(self) -> str:
        runs = [run for run in self._runs.values() if run.done < run.total]
        if not runs:
            left = "done"
        elif all(run.stopped for run in runs):
            left = "stopped"
        elif all(run.held_up for run in runs):
            left = "nothing gets through at the moment"
        else:
            left = f"about {duration_text(max(run.seconds_left for run in runs))} left"
        return f"{self._without} without a token, {left}" if self._without else left

    def _say(self, run: _Run, line: str) -> None:
        if not self._quiet:
            self._warn(run, line)

    def _warn(self, run: _Run, line: str) -> None:
        self._print(f"{run.name}: {line}" if run.name else line)

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)


def _drivers(number: int) -> str:
    return "1 driver" if number == 1 else f"{number} drivers"
