"""The cost of reading a settings file with many organizations: in seconds, and for twice as many.

    .venv/bin/python tests/benchmarks/settings.py          (a minute)

Each organization has a region, a variable with its API token, and a roster. Python's TOML parser takes most of the
time, and is shown as well.
"""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure, Pairs, show, spread, timed

from batch_issuer.settings.file import read_settings_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 50_000
SECONDS_WANTED = 5.0
DOUBLING_WANTED = 2.2


def document(organizations: int) -> str:
    return "[defaults]\nrate = '50/min'\n" + "".join(
        f'[organizations."Fleet {number:05}"]\nregion = "eu"\ntoken_env = "SAMSARA_{number:05}"\n'
        f'roster_file = "rosters/{number:05}.csv"\n'
        for number in range(organizations)
    )


def read(path: Path, organizations: int) -> float:
    def reading() -> object:
        file = read_settings_file(path)
        assert len(file.organizations) == organizations
        return file

    return timed(reading)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        half, whole = Path(folder, "half.toml"), Path(folder, "whole.toml")
        half.write_text(document(MANY // 2))
        whole.write_text(document(MANY))
        pairs = Pairs(lambda: read(whole, MANY), lambda: read(half, MANY // 2))
        parser = timed(lambda: tomllib.loads(whole.read_text()))
    yield Figure(
        f"a settings file of {MANY:,} organizations, read and checked",
        f"{spread(pairs.ours, ' s')}, its TOML alone {parser:.2f} s",
        f"≤ {SECONDS_WANTED:g} s",
        sorted(pairs.ours)[len(pairs.ours) // 2] <= SECONDS_WANTED,
    )
    yield Figure(f"one of {MANY // 2:,}", spread(pairs.other, " s"))
    yield Figure(
        "twice the organizations / half of them", str(pairs), f"≤ {DOUBLING_WANTED:g}", pairs.ratio <= DOUBLING_WANTED
    )


if __name__ == "__main__":
    show(figures())
