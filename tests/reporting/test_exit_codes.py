"""What the process ends with: one code for one organization, the worst for several."""

from __future__ import annotations

import json

import pytest

from batch_issuer.reporting.exit_codes import WORST_FIRST, severity, worst
from batch_issuer.reporting.summary import SCHEMA


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 1), 1), ((1, 4), 4), ((4, 2), 2), ((2, 3), 3), ((3, 130), 130), ((), 0)]
)
def test_the_worst_exit_code_counts(codes: tuple[int, ...], code: int) -> None:
    assert worst(codes) == code
    assert worst(reversed(codes)) == code
    assert [severity(code) for code in WORST_FIRST] == [*range(len(WORST_FIRST))]


def test_an_unknown_code_is_as_bad_as_the_worst() -> None:
    assert worst((3, 131)) == 131


def test_the_schema_of_the_summary_has_the_same_codes() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    one = schema["properties"]["organizations"]["items"]["properties"]["exit_code"]
    assert schema["properties"]["exit_code"]["enum"] == one["enum"] == sorted(WORST_FIRST)
