"""Measure all figures with limits in one run.

    .venv/bin/pip install '.[test,plot]' && .venv/bin/python tests/benchmarks    (half an hour; let nothing else run)

Prints each as it is measured, then writes `figures.md` and draws `duration.svg`. README.md describes the other files
here, which can be run alone.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import duration
import engine
import settings
import startup
from figures import HEAD, each

HERE = Path(__file__).parent


def main() -> None:
    print(HEAD, flush=True)
    lines = []
    for figure in each(startup.figures, settings.figures, duration.figures, engine.figures):
        print(figure, flush=True)
        lines.append(str(figure))
    system = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    when = f"Measured on {datetime.now(UTC):%Y-%m-%d} with {system}. Ratios are medians of alternating pairs,\n"
    how = "with the least and the greatest in brackets."
    what = "What `pip install .` installs, with its size on disk:"
    text = [f"{when}{how}", "", HEAD, *lines, "", what, "", startup.install_table(), ""]
    (HERE / "figures.md").write_text("\n".join(text), encoding="utf-8")
    duration.plot(HERE / "duration.svg")


if __name__ == "__main__":
    main()
