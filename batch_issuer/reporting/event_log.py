"""The event log, for monitors: one line for each event of one run or several, in a file of limited size.

``EVENTS`` lists everything that is ever written: no login token, code or identifier is in it.
"""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self

from ..errors import SettingsError
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
from ..wording import utc_text
from .log_file import LogFile, reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from ..pipeline.events import Event

    Value = str | int | float | datetime | None


COMMON = ("time", "event", "organization", "pid")
"""What each line begins with: the time (UTC), the event, the organization if it has a name, and the process."""

EVENTS: dict[str, tuple[str, ...]] = {
    "run_started": ("drivers", "rate", "others", "others_waiting", "seconds_left"),
    "row_done": ("row", "status", "http_status", "request_id", "attempts", "error", "hint"),
    "gate_closed": ("seconds", "reason"),
    "gate_opened": (),
    "quota_trouble": ("message", "hint", "patience"),
    "first_token": ("lifetime", "expires_at", "seconds_left", "at_once"),
    "clock_off": ("seconds",),
    "renewing": ("drivers",),
    "stopping": ("ending", "message", "in_flight"),
    "run_ended": ("exit_code", "ending", "message", "rows", "issued", "results"),
}
"""The fields of each event in order; a field without a value is left out. Durations are in seconds."""


def _now() -> datetime:
    return datetime.now(UTC)


def _fields(event: Event) -> tuple[str, tuple[Value, ...]]:
    """The name of an event, and a value for each of its fields."""
    match event:
        case RunStarted():
            left = event.seconds_left()
            return "run_started", (event.drivers, str(event.rate), event.others, event.others_waiting, left)
        case RowDone():
            row = event.outcome
            values = row.row, row.status, row.http_status, row.request_id, row.attempts, row.error, row.hint
            return "row_done", values
        case GateClosed():
            return "gate_closed", (event.seconds, event.ending.message)
        case GateOpened():
            return "gate_opened", ()
        case QuotaTrouble():
            return "quota_trouble", (event.message, event.hint, event.patience)
        case FirstToken():
            return "first_token", (event.lifetime, event.expires_at, event.seconds_left, event.at_once)
        case ClockOff():
            return "clock_off", (event.seconds,)
        case Renewing():
            return "renewing", (event.drivers,)
        case Stopping():
            return "stopping", (event.ending.kind, event.ending.message, event.in_flight)


def _plain(value: Value) -> str | int | float | None:
    """A value as JSON can contain it."""
    if isinstance(value, datetime):
        return utc_text(value, "milliseconds")
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None  # JSON has no infinity
    return value


def _text(value: str | float) -> str:
    """A value in a line of text: a JSON string wherever it could be misread."""
    if not isinstance(value, str) or not value.isprintable():  # line ends of all kinds, what cannot be encoded
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False) if not value or set(value) & set(' "=\\') else value


class EventLog:
    """Appends a line for each event to a file; use it as a context, or close it.

    Args:
        path: the file, created readable only by its owner; a full one is renamed to ``F.1``, older ones up to
            ``F.5``.
        form: ``text``, as in ``2026-11-27T02:00:01.123Z row_done organization=north pid=12 row=7 status=issued``,
            where a value that is not a plain word is a JSON string; ``json``, one object a line.
        on_trouble: called with one sentence, once if lines cannot be written and once if the file cannot be
            rotated; neither ends a run.
        clock: gives the time, with its time zone.

    Raises:
        SettingsError: the file cannot be opened, or is a symbolic link or not an ordinary file.
    """

    def __init__(
        self,
        path: Path,
        form: Literal["text", "json"] = "text",
        *,
        on_trouble: Callable[[str], None],
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._form = form
        self._clock = clock
        self._is_closed = False
        try:
            self._file = LogFile(path, on_trouble)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"the log file {path} cannot be opened: {reason(error)}",
                "choose a file for --log-file in a folder that you can write to",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def observer(self, organization: str = "") -> Callable[[Event], None]:
        """An observer of one run; several runs can share the file.

        Args:
            organization: its name on each line; blank for none.
        """
        return lambda event: self._write(organization, *_fields(event))

    def ended(self, organization: str, *, exit_code: int, **fields: str | float | None) -> None:
        """The last line of a run, ``run_ended``.

        Args:
            organization: as for `observer`.
            exit_code: for this organization.
            fields: the others that ``EVENTS`` has for it: ``ending``, ``message``, ``rows``, ``issued``, ``results``.

        Raises:
            TypeError: there is no such field.
        """
        names = EVENTS["run_ended"]
        if unknown := fields.keys() - set(names):
            raise TypeError(f"run_ended has no {', '.join(sorted(unknown))}")
        values = {**fields, "exit_code": exit_code}
        self._write(organization, "run_ended", tuple(values.get(name) for name in names))

    def close(self) -> None:
        """Close the file; later events are not written."""
        if not self._is_closed:
            self._is_closed = True
            self._file.close()

    def _write(self, organization: str, event: str, values: tuple[Value, ...]) -> None:
        if self._is_closed:
            return
        common = self._clock(), event, organization or None, os.getpid()
        named = zip(COMMON + EVENTS[event], common + values, strict=True)
        line = {name: plain for name, value in named if (plain := _plain(value)) is not None}
        if self._form == "json":
            shown = json.dumps(line)
        else:
            time, name = line.pop("time"), line.pop("event")
            shown = " ".join([f"{time} {name}", *(f"{name}={_text(value)}" for name, value in line.items())])
        self._file.write(shown)
