"""A local test server for Samsara's API. Imports nothing from the rest of the package."""

from .answers import FAULTS
from .limiters import (
    LIMITERS,
    FixedWindow,
    Gcra,
    Limiter,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    Unlimited,
    make_limiter,
)
from .server import AUTH_TOKEN_PATH, LEDGER_PATH, LedgerEntry, Sandbox

__all__ = [
    "AUTH_TOKEN_PATH",
    "FAULTS",
    "LEDGER_PATH",
    "LIMITERS",
    "FixedWindow",
    "Gcra",
    "LedgerEntry",
    "Limiter",
    "Sandbox",
    "SlidingCounter",
    "SlidingLog",
    "TokenBucket",
    "Unlimited",
    "make_limiter",
]
