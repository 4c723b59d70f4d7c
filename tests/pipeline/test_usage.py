"""How many requests a run sent, and how fast."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.model import Fault, Reply
from batch_issuer.pipeline.usage import Usage
from batch_issuer.pipeline.verdicts import judge
from batch_issuer.settings.run_settings import Rate


@given(st.lists(st.floats(0, 300), max_size=80))
def test_the_peak_is_the_most_requests_in_a_period(times: list[float]) -> None:
    usage = Usage(Rate(100, 60.0))
    for at in sorted(times):
        usage.record(judge(Reply(429)), at)
    expected = max((sum(start <= at < start + 60.0 for at in times) for start in times), default=0)
    assert usage.peak == pytest.approx(expected, abs=0)
    usage.record(judge(Reply(left=False, fault=Fault.UNREACHABLE)), 1000.0)
    assert usage.requests == usage.throttled == len(times)
