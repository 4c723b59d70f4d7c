"""The progress of runs: a tqdm bar on a terminal, a line now and then elsewhere. An observer of the runs' events.

The time left comes from the quota's plan (a hundred at once, then a wait), not from the average rate, which would
promise seconds after the first hundred and hours before it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
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
from ..wording import amount, duration_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ..pipeline.events import Event

TICK = 1.0
"""Seconds between updates on a terminal."""

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

NOTEWORTHY_WAIT = 2.0
"""Seconds; a shorter wait is not reported."""


def _for_up_to(patience: float) -> str:
    return f"Trying for up to {duration_text(patience)}; Ctrl-C stops the run."


class _Unbreakable:
    """A stream whose reader may leave: that ends the display, never the run, nor tqdm while it has its lock."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the stream
        return getattr(self._stream, name)


class _Bar(tqdm):  # type: ignore[type-arg] # tqdm is generic for the type checker only
    monitor_interval = 0  # our own timer refreshes the bar; a thread of tqdm's is not needed


@dataclass(slots=True)
class _Run:
    """What is known of a run.

    Attributes:
        name: of its organization, put before each line about it; blank where there is only one.
        started: its first event.
        done, total: drivers with an outcome, and all of them.
        stopped, waiting: whether it is.
        reason: the last reason for waiting that was shown, until a driver has a token again.
    """

    name: str
    started: RunStarted | None = None
    done: int = 0
    total: int = 0
    stopped: bool = False
    waiting: bool = False
    reason: str = ""

    @property
    def seconds_left(self) -> float:
        return self.started.seconds_left() if self.started and self.done < self.total else 0.0


class Progress:
    """Shows the progress of runs on a stream; use it as a context, so that the bar is removed at the end.

    Call it with each event of the only run; of several runs, call what `of` returns for each.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        runs: int = 1,
        bar: bool | None = None,
        render: Callable[[str], str] = str,
    ) -> None:
        """Show nothing yet.

        Args:
            stream: where to print.
            quiet: print nothing but warnings.
            runs: how many there will be.
            bar: whether to draw a bar; by default on a terminal.
            render: turns a line of text into what is printed.
        """
        self._stream = _Unbreakable(stream)
        self._quiet = quiet
        self._expected = runs
        self._draws = stream.isatty() if bar is None else bar
        self._render = render
        self._runs: dict[str, _Run] = {}
        self._bar: _Bar | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._without = 0
        self._introduced = False
        self._line = ""

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
                    run.reason, run.waiting = "", False
            case GateClosed():
                run.waiting = True
                if event.seconds >= NOTEWORTHY_WAIT and event.ending.message != run.reason:
                    run.reason = event.ending.message
                    wait = duration_text(event.seconds)
                    self._say(run, f"Waiting {wait}: {event.ending.message}. {_for_up_to(event.patience)}")
            case GateOpened():
                run.waiting = False
            case QuotaTrouble():
                run.waiting = event.patience is not None
                if event.patience is None:
                    self._warn(run, f"{event.message}; this run uses a quota of its own", event.hint)
                else:
                    self._say(run, f"Waiting: {event.message}. {_for_up_to(event.patience)}")
            case FirstToken():
                self._report_lifetime(run, event)
            case ClockOff():
                off = f"{duration_text(abs(event.seconds))} {'ahead of' if event.seconds > 0 else 'behind'}"
                seems = "too early" if event.seconds > 0 else "too late"
                self._warn(
                    run,
                    f"this computer's clock is {off} Samsara's, so login tokens seem to expire {seems}",
                    "set the clock of this computer",
                )
            case Renewing():
                run.total += event.drivers
                if self._bar is not None:
                    self._bar.total = self._total
                self._say(
                    run, f"Renewing the login tokens of {amount(event.drivers, 'driver')} that would expire too soon."
                )
            case Stopping():
                run.stopped = True
                if event.in_flight:
                    self._say(run, f"Stopping; waiting for {amount(event.in_flight, 'request')} in flight.")

    def _report_lifetime(self, run: _Run, event: FirstToken) -> None:
        """Whether all tokens will be valid at the same time; where they will, only of a run that takes a while."""
        lifetime = duration_text(event.lifetime)
        first = f"the first one expires at {event.expires_at.astimezone():%H:%M:%S}"
        if event.at_once is not None:
            left = duration_text(event.seconds_left)
            self._warn(
                run,
                f"login tokens are valid for {lifetime}: {first}, but the last one will be issued in about {left}; "
                f"at most {amount(event.at_once, 'driver')} can have a valid token at the same time",
                "split the roster by depot or shift, and issue for each shortly before it is needed",
            )
        elif self._expected == 1 and event.seconds_left >= LINE_EVERY:
            self._say(run, f"Login tokens are valid for {lifetime}; all are issued before the first one expires.")

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
            about = duration_text(event.seconds_left())
            self._say(run, f"Requesting {amount(event.drivers, 'login token')} at {event.rate}: about {about}.")
            if event.others:
                more = f" and have {event.others_waiting} more to send" if event.others_waiting else ""
                used = f"{event.others} of {amount(event.rate.limit, 'request')}"
                self._say(run, f"Other runs have used {used}{more}.")
        if event.time is not None and event.seconds_left() > event.time:
            comes = duration_text(event.time)
            self._say(run, f"The deadline comes first, in {comes}; batch-issuer retry resumes after it.")
        if self._bar is not None:
            self._bar.total = self._total
        elif self._draws:
            self._bar = _Bar(
                total=self._total,
                file=self._stream,
                unit="driver",
                dynamic_ncols=True,
                leave=False,
                bar_format="{n_fmt} of {total_fmt} drivers{postfix} |{bar}|",
            )
        if sum(one.started is not None for one in self._runs.values()) == self._expected:
            self._introduce()
        if self._timer is None:
            self._tick()

    def _introduce(self) -> None:
        """Print how much there is to do for several organizations, as soon as that is known."""
        if self._expected > 1 and not self._introduced:
            self._introduced = True
            organizations = sum(run.total > 0 for run in self._runs.values())
            about = duration_text(max(run.seconds_left for run in self._runs.values()))
            tokens = amount(self._total, "login token")
            self._print(f"Requesting {tokens} for {amount(organizations, 'organization')}: about {about}.")

    def _tick(self) -> None:
        if self._timer is not None:  # not at the very start
            self._introduce()
        if self._bar is not None:
            self._bar.set_postfix_str(self._state())
        elif (
            self._timer is not None
            and (line := f"{self._done} of {self._total} drivers, {self._state()}.") != self._line
        ):
            self._line = line
            self._print(line)
        every = TICK if self._bar is not None else LINE_EVERY
        self._timer = asyncio.get_running_loop().call_later(every, self._tick)

    def _state(self) -> str:
        runs = [run for run in self._runs.values() if run.done < run.total]
        if not runs:
            left = "done"
        elif all(run.stopped for run in runs):
            left = "stopped"
        elif all(run.waiting for run in runs):
            left = "waiting"
        else:
            left = f"about {duration_text(max(run.seconds_left for run in runs))} left"
        return f"{self._without} without a token, {left}" if self._without else left

    def _say(self, run: _Run, line: str) -> None:
        if not self._quiet:
            self._print(f"{run.name}: {line}" if run.name else line)

    def _warn(self, run: _Run, message: str, hint: str) -> None:
        of = f"{run.name}: " if run.name else ""
        self._print(f"warning: {of}{message}", f"hint: {hint}")

    def _print(self, *lines: str) -> None:
        text = "\n".join(map(self._render, lines))
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)
