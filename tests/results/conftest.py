"""What several tests of the results are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batch_issuer.results import Destination

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination(tmp_path / "depot.results.csv")
