"""A figure of the benchmarks: the reading, its limit, and whether that is met. Ratios are of alternating pairs."""

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
    reading: the measured value, as shown.
    wanted: the limit, as shown.
    met: whether the limit is met; None without a limit.
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
    """Print each figure as soon as it is measured."""
    print(HEAD, flush=True)
    for figure in figures:
        print(figure, flush=True)


def spread(readings: Iterable[float], unit: str = "") -> str:
    """The median, with the least and the greatest."""
    least, *_, most = found = sorted(readings)
    return f"{median(found):.2f}{unit} ({least:.2f} to {most:.2f})"


class Pairs:
    """Alternating readings of two things, so that changes in the machine's speed affect both.

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
        """Ours / other for each pair, in ascending order."""
        return sorted(one / other for one, other in zip(self.ours, self.other, strict=True))

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return median(self.ratios)

    def __str__(self) -> str:
        return spread(self.ratios)


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes, after collecting earlier garbage."""
    gc.collect()
    began = time.perf_counter()
    result = action()
    took = time.perf_counter() - began
    del result
    return took


def each(*makers: Callable[[], Iterator[Figure]]) -> Iterator[Figure]:
    """The figures of all makers."""
    for maker in makers:
        yield from maker()
