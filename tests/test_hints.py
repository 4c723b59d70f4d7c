"""The table of hints: nothing twice, nothing unused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import batch_issuer
from batch_issuer.hints import SCOPE, Hint, Where

CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in Path(batch_issuer.__file__).parent.rglob("*.py")
    if path.name != "hints.py"
)


@pytest.mark.parametrize("hint", Hint, ids=lambda hint: hint.name)
def test_every_hint_is_used_and_is_one_line(hint: Hint) -> None:
    assert re.search(rf"\bHint\.{hint.name}\b", CODE)
    assert hint.where in Where
    for text in (hint.what, hint.fix, str(hint)):
        assert text.isprintable()
        assert "|" not in text  # a row's hint is one plain line
        assert not text.endswith(".")


def test_no_two_hints_are_equal() -> None:
    assert len({hint.what for hint in Hint}) == len({str(hint) for hint in Hint}) == len(Hint)
    assert len(Hint.__members__) == len(Hint)


@pytest.mark.parametrize("hint", [Hint.API_TOKEN_INVALID, Hint.API_TOKEN_FORBIDDEN])
def test_a_refused_api_token_has_a_hint_with_scope_region_and_dashboard_page(hint: Hint) -> None:
    for word in (SCOPE, "--region eu", "Settings > API Tokens"):
        assert word in hint.fix
