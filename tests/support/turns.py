"""Takes turns with other processes by a lock: ``python tests/support/turns.py LOCK ROUNDS``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from batch_issuer.locks import Lock


def take_turns(path: Path, rounds: int) -> None:
    """Increment a counter next to a lock while holding it; two holders at once would be noticed."""
    counter, inside = path.with_name("counter"), path.with_name("inside")
    for _ in range(rounds):
        lock = Lock(path)
        while not lock.acquire(f"process {os.getpid()}"):
            time.sleep(0.0002)  # there is no event for its release
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        counter.write_text(str(int(counter.read_text()) + 1))
        inside.unlink()
        lock.release()


if __name__ == "__main__":
    take_turns(Path(sys.argv[1]), int(sys.argv[2]))
