"""A local stand-in for Samsara's API. Imports nothing from the rest of the package."""

from .limiters import LIMITERS, FixedWindow, Gcra, Limiter, SlidingLog, TokenBucket, Unlimited, make_limiter
from .server import AUTH_TOKEN_PATH, FAULTS, LEDGER_PATH, LedgerEntry, Sandbox

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
    "SlidingLog",
    "TokenBucket",
    "Unlimited",
    "make_limiter",
]
