"""Samsara driver login tokens for a whole depot at once."""

__version__ = "0.1.0"
