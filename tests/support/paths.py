"""Paths of the project."""

from __future__ import annotations

from pathlib import Path

import batch_issuer

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SAMPLES = ROOT / "sample_inputs"
PACKAGE = Path(batch_issuer.__file__).parent
