"""How long to wait before the next attempt: bounds, no clock."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.pipeline.backoff import BACKOFF_BASE, BACKOFF_CAP, full_jitter


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_full_jitter_stays_within_a_bound_that_doubles_up_to_a_cap(failures: int, seed: int) -> None:
    delay = full_jitter(failures, random.Random(seed).uniform)
    assert 0.0 <= delay <= min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures - 1, 100))


def test_full_jitter_draws_from_the_whole_range() -> None:
    assert full_jitter(3, min) == 0.0
    assert full_jitter(3, max) == 4 * BACKOFF_BASE
    assert full_jitter(99, max) == BACKOFF_CAP
