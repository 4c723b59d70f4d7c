"""A figure of the benchmarks: what was measured, what is wanted, whether it is met. Ratios are taken pair by pair."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PAIRS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    name: what is measured.
    reading: as it is shown.
    wanted: the limit, as it is shown.
    met: whether it is kept; None where there is none.
    """

    name: str
    reading: str
    wanted: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "yes", False: "NO", None: ""}[self.met]
        return f"| {self.name} | {self.reading} | {self.wanted} | {verdict} |"


HEAD = "| figure | reading | wanted | met |\n|---|---|---|---|"


def show(figures: Iterable[Figure]) -> None:
    """Print them as they come."""
    print(HEAD, flush=True)
    for figure in figures:
        print(figure, flush=True)


def spread(readings: Iterable[float], unit: str = "") -> str:
    """Their median, with the least and the greatest."""
    least, *_, most = found = sorted(readings)
    return f"{median(found):.2f}{unit} ({least:.2f} to {most:.2f})"


class Pairs:
    """Readings of two things, taken turn by turn in one run, so that a machine's moods hit both.

    ours, other: the readings, in order.
    """

    def __init__(self, ours: Callable[[], float], other: Callable[[], float], pairs: int = PAIRS) -> None:
        self.ours: list[float] = []
        self.other: list[float] = []
        for _ in range(pairs):
            self.ours.append(ours())
            self.other.append(other())

    @property
    def ratios(self) -> list[float]:
        """Ours / other of each pair, the least first."""
        return sorted(one / other for one, other in zip(self.ours, self.other, strict=True))

    @property
    def ratio(self) -> float:
        """Their median."""
        return median(self.ratios)

    def __str__(self) -> str:
        return spread(self.ratios)


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes, without the garbage of what was before."""
    gc.collect()
    began = time.perf_counter()
    result = action()
    took = time.perf_counter() - began
    del result
    return took


def each(*makers: Callable[[], Iterator[Figure]]) -> Iterator[Figure]:
    """The figures of all of them."""
    for maker in makers:
        yield from maker()
