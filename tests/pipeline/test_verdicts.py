"""The verdict on each kind of reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.hints import Hint
from batch_issuer.model import Fault, Reply
from batch_issuer.pipeline.verdicts import VerdictKind, judge


@pytest.mark.parametrize(
    ("reply", "kind", "hint"),
    [
        (Reply(200, token="t"), VerdictKind.ISSUED, None),  # noqa: S106
        (Reply(200, fault=Fault.UNUSABLE), VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS),
        (Reply(204), VerdictKind.RETRY_MAYBE_ISSUED, Hint.ADDRESS),
        (Reply(302), VerdictKind.RETRY, Hint.ADDRESS),
        (Reply(400), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(400, web_page=True), VerdictKind.REJECTED, Hint.ADDRESS),
        (Reply(400, request_id="r"), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(401, request_id="r"), VerdictKind.UNAUTHORIZED, Hint.API_TOKEN_INVALID),
        (Reply(403, request_id="r"), VerdictKind.UNAUTHORIZED, Hint.API_TOKEN_FORBIDDEN),
        (Reply(404, request_id="r"), VerdictKind.REJECTED, Hint.UNKNOWN_DRIVER),
        (Reply(404), VerdictKind.REJECTED, Hint.ADDRESS),
        (Reply(405), VerdictKind.REJECTED, Hint.ADDRESS),
        (Reply(408), VerdictKind.RETRY, Hint.SERVER),
        (Reply(409, request_id="r"), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(413, request_id="r"), VerdictKind.REJECTED, Hint.REFUSED),
        (Reply(429), VerdictKind.THROTTLED, Hint.THROTTLED),
        (Reply(500), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(501), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(504), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(599), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SERVER),
        (Reply(left=False, fault=Fault.UNREACHABLE), VerdictKind.UNREACHABLE, Hint.UNREACHABLE),
        (Reply(left=False, fault=Fault.TLS), VerdictKind.UNREACHABLE, Hint.TLS),
        (Reply(left=False, fault=Fault.PROXY), VerdictKind.UNREACHABLE, Hint.PROXY),
        (Reply(fault=Fault.TIMEOUT), VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
        (Reply(fault=Fault.NO_ANSWER), VerdictKind.RETRY_MAYBE_ISSUED, Hint.MAYBE_ISSUED),
        (Reply(200, fault=Fault.REPEATED), VerdictKind.RETRY_MAYBE_ISSUED, Hint.SAME_TOKEN),
    ],
    ids=lambda value: str(getattr(value, "status", None) or getattr(value, "fault", "") or getattr(value, "name", "")),
)
def test_verdict_table(reply: Reply, kind: VerdictKind, hint: Hint | None) -> None:
    assert (judge(reply).kind, judge(reply).hint) == (kind, hint)


@given(st.integers(100, 599), st.booleans())
def test_only_a_200_brings_a_token(status: int, has_token: bool) -> None:
    reply = Reply(status, token="t" if has_token else "")
    assert (judge(reply).kind is VerdictKind.ISSUED) == (status == 200 and has_token)
