"""How long to wait before the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


BACKOFF_BASE = 0.5
"""Seconds: the upper bound of the first backoff."""


BACKOFF_CAP = 30.0
"""Seconds: the upper bound of any backoff."""


def full_jitter(failures: int, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait after the ``failures``-th failure in a row: random, from 0 to a bound that doubles.

    "Full jitter" of Marc Brooker, *Exponential Backoff and Jitter*, AWS Architecture Blog, 2015.

    Args:
        failures: 1 or more.
        uniform: draws a number between two others, such as ``random.uniform``.
    """
    return uniform(0.0, min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 32)))
