"""Durations and times of day as people write them: ``30s``, ``5m``, ``06:00``."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

from ..errors import SettingsError

UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
"""Each in seconds."""


def seconds(text: str) -> float:
    """Read a duration such as ``30``, ``1.5s``, ``250ms``, ``5m`` or ``2h`` as seconds.

    Raises:
        SettingsError: for anything else.
    """
    match = re.fullmatch(rf"\s*(\d{{1,9}}(?:\.\d{{0,9}})?)\s*({'|'.join(UNITS)}|)\s*", text, re.ASCII)
    if not match:
        raise SettingsError(f"{text!r} is not a valid duration", "write it as 30s, 5m or 250ms")
    return float(match[1]) * UNITS[match[2] or "s"]


def duration_argument(value: float) -> str:
    """A number of seconds as a person writes it and `seconds` reads it back exactly: ``10m``, ``30s``, ``1.5s``."""
    for unit in ("h", "m"):
        if value and not value % UNITS[unit]:
            return f"{value / UNITS[unit]:.0f}{unit}"
    texts = [f"{value / UNITS[unit]:.9f}".rstrip("0").rstrip(".") + unit for unit in ("s", "ms", "m", "h")]
    return next((text for text in texts if _reads_as(text, value)), texts[0])


def _reads_as(text: str, value: float) -> bool:
    try:
        return seconds(text) == value
    except SettingsError:
        return False


def deadline(text: str) -> time | timedelta:
    """Read a time of day such as ``06:00``, or a duration such as ``45m``.

    Raises:
        SettingsError: for anything else.
    """
    if re.fullmatch(r"\s*\d{1,2}:\d\d\s*", text, re.ASCII):
        hour, _, minute = text.partition(":")
        try:
            return time(int(hour), int(minute))
        except ValueError:
            raise SettingsError(f"{text!r} is not a valid time of day", "write it as 06:00") from None
    try:
        return timedelta(seconds=seconds(text))
    except (SettingsError, OverflowError):
        raise SettingsError(f"{text!r} is not a valid deadline", "write it as 06:00, 45m or 2h") from None


def next_time(at: time, now: datetime | None = None) -> datetime:
    """When a local clock shows ``at`` next; ``now`` needs a time zone."""
    now = now or datetime.now().astimezone()
    today = datetime.combine(now.date(), at).astimezone()
    return today if today > now else datetime.combine(now.date() + timedelta(days=1), at).astimezone()
