"""How long a number of requests takes. Pure arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .congestion import INITIAL_THRESHOLD, TRUSTED_WINDOW
from .leases import Budget

if TYPE_CHECKING:
    from ..settings.run_settings import Rate

TYPICAL_LATENCY = 0.1
"""Seconds from a request to its reply, before any is measured."""


def estimate(
    rate: Rate,
    count: int,
    burst: int,
    concurrency: int,
    budget: Budget = Budget(),  # noqa: B008 - immutable
    latency: float = TYPICAL_LATENCY,
) -> float:
    """Seconds until the next ``count`` requests have their replies, each after ``latency`` seconds."""
    if count <= 0:
        return 0.0
    in_last_round = (count - 1) % rate.limit + 1
    return latency + max(
        budget.departure(rate, count, latency) + (round_trips(in_last_round, concurrency) - 1) * latency,
        (count - burst) * rate.spacing,
    )


def round_trips(count: int, ceiling: int) -> int:
    """Round trips until ``count`` requests have their replies, if the server never replies 429."""
    trips, window, sent = 0, 1.0, 0
    while sent < count:
        trips += 1
        sent += int(window)
        doubles = window * 2 <= INITIAL_THRESHOLD or window >= TRUSTED_WINDOW
        window = min(ceiling, window * 2 if doubles else window + 1)
    return trips
