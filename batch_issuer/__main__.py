"""``python -m batch_issuer`` is the same as ``batch-issuer``."""

from .cli import entry_point

if __name__ == "__main__":
    entry_point()
