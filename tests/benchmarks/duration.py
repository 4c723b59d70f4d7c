"""How long will it take? Measured on the virtual clock, compared with what the program announces and what others need.

    .venv/bin/pip install '.[test,plot]'
    .venv/bin/python tests/benchmarks/duration.py   (20 seconds)

The server counts a sliding window (or as its figure says), 100 requests a minute; a reply is there 100 ms after its
request left, the way there and the way back sharing them by chance, or after 10 to 300 ms. Prints the figures and the
table of durations, and draws `duration.svg`: how many requests reached the server within the 60 s before each moment.
"""

from __future__ import annotations

import re
from functools import cache
from io import StringIO
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from figures import Figure, each, show
from worlds import BURST, NEVER_REFUSE, OURS, PACED, RATE, SDK, Case, P, Result, measure

from batch_issuer.quota import estimate
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret
from batch_issuer.wording import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes

DRIVERS = (50, 100, 250, 500, 1000, 2500, 5000)
STEADY, UNSTEADY = (0.1, 0.1), (0.01, 0.3)
"""Latencies: the least and the most seconds."""

SEEDS = 10
FEW_SEEDS = 3
MOST_PERIODS = 9.2
"""For 1,000 drivers: the last hundred cannot leave before the end of the ninth period."""

SVG = Path(__file__).with_suffix(".svg")
SHOWN = Case("sliding", 250, latency=STEADY, tries=1)
"""The case in the picture, as in `quota.py`: the snippets do not retry."""

PANELS = {
    OURS: ("batch-issuer", "#0072B2"),
    PACED: ("AsyncLimiter(1, 0.6) around a POST", "#009E73"),
    BURST: ("AsyncLimiter(100, 60) around a POST", "#E69F00"),
    SDK: ("official SDK, asyncio.gather", "#D55E00"),
}
"""The name and colour of each client, from the colour-blind safe palette of Okabe and Ito."""


# --- the table

TABLE_HEAD = "| drivers | fastest possible | batch-issuer | evenly paced client |\n|---|---|---|---|"


@cache
def steady(count: int, client: str) -> Result:
    """One seed is enough at a steady latency."""
    return measure(Case("sliding", count, latency=STEADY), client, 0)


def announced(count: int) -> float:
    """Seconds that the program announces."""
    settings = Settings(api_token=Secret("none"), rate=RATE)
    return estimate(RATE, count, RATE.limit, settings.concurrency)


def table(counts: Iterable[int] = DRIVERS) -> str:
    """In Markdown, for README.md here; the main README has some of its rows."""
    return "\n".join([TABLE_HEAD, *map(line, counts)])


def line(count: int) -> str:
    ours, paced = steady(count, OURS), steady(count, PACED)
    assert ours.tokens == paced.tokens == count
    best = duration_text(ours.best * P) if ours.best else "at once"
    return f"| {count:,} | {best} | {duration_text(ours.took * P)} | {duration_text(paced.took * P)} |"


# --- the figures


def thousand() -> Iterator[Figure]:
    """1,000 drivers, with any server that never refuses clients within the limit."""
    for latency, words in ((UNSTEADY, "10 to 300 ms"), (STEADY, "100 ms")):
        cases = [(Case(limiter, 1000, latency=latency), seed) for limiter in NEVER_REFUSE for seed in range(SEEDS)]
        results = [measure(case, OURS, seed) for case, seed in cases]
        took, refused = [result.took for result in results], sum(result.refused for result in results)
        met = max(took) <= MOST_PERIODS and not refused and all(result.tokens == 1000 for result in results)
        name = f"1,000 drivers at 100/min, replies after {words}, {len(NEVER_REFUSE)} servers x {SEEDS} seeds"
        reading = f"mean {mean(took):.2f} P, worst {max(took):.2f} P, {refused} times 429"
        yield Figure(name, reading, f"≤ {MOST_PERIODS} P, no 429", met)


def accuracy() -> Iterator[Figure]:
    """Is it what the program announces?"""
    exact = sum(duration_text(steady(count, OURS).took * P) == duration_text(announced(count)) for count in DRIVERS)
    name = f"{DRIVERS[0]} to {DRIVERS[-1]:,} drivers, replies after 100 ms: time is as announced"
    yield Figure(name, f"{exact} of {len(DRIVERS)}", "all", exact == len(DRIVERS))
    off = (
        abs(measure(Case("sliding", count, latency=UNSTEADY), OURS, seed).took * P - announced(count))
        for count in DRIVERS
        for seed in range(FEW_SEEDS)
    )
    yield Figure("the same, replies after 10 to 300 ms: largest deviation", f"{max(off):.1f} s")


def in_any_window() -> Iterator[Figure]:
    """The figures of the picture."""
    for client, (name, _) in PANELS.items():
        result = shown(client)
        most = max(count for _, count in windows(result.arrivals))
        wanted, met = (f"≤ {RATE.limit}", most <= RATE.limit) if client == OURS else ("", None)
        yield Figure(f"250 drivers, {name} ({outcome(result)}): most requests in any 60 s", str(most), wanted, met)


def figures() -> Iterator[Figure]:
    """All of them."""
    return each(thousand, accuracy, in_any_window)


# --- the picture


@cache
def shown(client: str) -> Result:
    return measure(SHOWN, client, 0)


def outcome(result: Result) -> str:
    """The result of a client in a few words."""
    refused = f"{result.refused} times 429" if result.refused else "no 429"
    return f"{result.tokens} of {SHOWN.count} tokens, {refused}, finished after {duration_text(result.took * P)}"


def windows(arrivals: Iterable[float]) -> list[tuple[float, int]]:
    """Times in seconds, and how many requests arrived in (t - P, t] from then on, including those with a 429."""
    changes: dict[float, int] = {}
    for at in arrivals:
        changes[at] = changes.get(at, 0) + 1
        changes[at + P] = changes.get(at + P, 0) - 1
    count, steps = 0, []
    for at, change in sorted(changes.items()):
        count += change
        steps.append((at, count))
    return steps


def outline(steps: list[tuple[float, int]], until: int) -> tuple[list[int], list[int]]:
    """The maximum of each second, and the seconds where it changes: a small file that keeps all peaks."""
    most = [0] * until
    for (start, count), (end, _) in pairwise([*steps, (float(until), 0)]):
        for second in range(int(start), min(ceil(end), until)):
            most[second] = max(most[second], count)
    changed = [second for second in range(until) if second == 0 or most[second] != most[second - 1]]
    return [most[second] for second in changed], [*changed, until]


def plot(path: Path) -> None:
    """Draw the picture, with the same bytes each time.

    Raises:
        SystemExit: matplotlib is missing.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the tests need no picture
        from matplotlib.figure import Figure as Drawing  # noqa: PLC0415
    except ImportError:
        raise SystemExit("The picture needs matplotlib: pip install '.[plot]'") from None

    results = {client: shown(client) for client in PANELS}
    until = 30 * ceil((max(result.took for result in results.values()) + 1) * P / 30)
    tallest = {client: max(count for _, count in windows(result.arrivals)) for client, result in results.items()}
    title = f"Requests within 60 s, for {SHOWN.count} drivers: batch-issuer never exceeds the limit of {RATE.limit}"
    with mpl.rc_context({"svg.hashsalt": "batch-issuer", "svg.fonttype": "none", "font.size": 11}):
        drawing = Drawing(figsize=(9, 8.6), layout="constrained", facecolor="white")
        # One scale for all: the height of a panel follows its curve.
        ratios = [most + 35 for most in tallest.values()]
        panels = drawing.subplots(len(PANELS), sharex=True, height_ratios=ratios)
        for axes, height, client in zip(panels, ratios, PANELS, strict=True):
            draw(axes, client, results[client], until)
            axes.set_ylim(0, height)
        panels[-1].set_xlim(0, until)
        panels[-1].set_xticks(range(0, until + 1, 30))
        panels[-1].set_xlabel("seconds since the start")
        drawing.supylabel("requests that reached the server in the 60 s before, those with a 429 included", fontsize=11)
        metadata = {"Title": title, "Date": None, "Creator": None}
        drawn = StringIO()
        drawing.savefig(drawn, format="svg", metadata=metadata)
    # Hundredths of a point are enough; further digits differ between computers.
    path.write_text(re.sub(r"(\.\d\d)\d+| +$", r"\1", drawn.getvalue(), flags=re.MULTILINE), encoding="utf-8")


def draw(axes: Axes, client: str, result: Result, until: int) -> None:
    """One client's panel."""
    name, colour = PANELS[client]
    counts, seconds = outline(windows(result.arrivals), until)
    axes.stairs(counts, seconds, fill=True, facecolor=(colour, 0.3), edgecolor=colour, linewidth=2)
    above = [max(count, RATE.limit) for count in counts]
    if max(above) > RATE.limit:
        axes.stairs(above, seconds, baseline=RATE.limit, fill=True, facecolor=colour)
    if max(above) >= RATE.limit + 50:
        axes.text(58, RATE.limit + 8, "beyond the limit", ha="right", fontweight="bold")
    axes.axhline(RATE.limit, color="black", linewidth=1.3, linestyle="--")
    axes.annotate(f"limit: {RATE.limit}", (until, RATE.limit), (-4, 3), textcoords="offset points", ha="right")
    axes.plot(result.took * P, 0, "o", color="black", clip_on=False)
    axes.annotate("over", (result.took * P, 0), (6, 4), textcoords="offset points")
    axes.set_title(f"{name}: {outcome(result)}", loc="left", fontsize=11, fontweight="bold")
    axes.set_yticks(range(0, max(counts) + 1, 100))
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    show(figures())
    print(f"\n{table()}")
    plot(SVG)
    print(f"\ndrew {SVG.name}")
