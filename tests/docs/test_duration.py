"""The documented durations are what the program prints in advance, and what the virtual clock measures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support import docs

from batch_issuer.quota import estimate
from batch_issuer.settings.run_settings import Settings
from batch_issuer.settings.secrets import Secret
from batch_issuer.wording import duration_text

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import duration
from worlds import BURST, NEVER_REFUSE, OURS, PACED, RATE, Case, measure

SOON = (50, 100, 250, 500)
"""Drivers that are measured in no time; for more, comparing with what the program prints is enough."""


def benchmark_table() -> str:
    found = re.search(r"<!-- all durations -->\n((\|.*\n)+)", docs.text(docs.BENCHMARKS))
    assert found
    return found[1]


def durations() -> list[list[str]]:
    """Drivers, fastest possible, this program, paced."""
    return docs.table("all durations", docs.BENCHMARKS)


def test_the_durations_are_what_the_program_prints_in_advance() -> None:
    concurrency = Settings(api_token=Secret("none"), rate=RATE).concurrency
    assert [int(drivers.replace(",", "")) for drivers, *_ in durations()] == list(duration.DRIVERS)
    for cells, best, ours, _ in durations():
        drivers = int(cells.replace(",", ""))
        assert ours == duration_text(estimate(RATE, drivers, RATE.limit, concurrency)), drivers
        periods = (drivers - 1) // RATE.limit
        assert best == (duration_text(periods * RATE.period) if periods else "at once"), drivers


def test_the_durations_are_what_the_virtual_clock_measures() -> None:
    """If this fails: ``python tests/benchmarks/duration.py`` prints the table."""
    assert benchmark_table().startswith(duration.table(SOON))


def test_the_durations_of_readme_and_manual_are_among_them() -> None:
    shown = docs.table("durations")
    assert len(shown) == 4
    assert [row for row in durations() if row in shown] == shown
    ours = [[drivers, time] for drivers, _, time, _ in durations()]
    paces = docs.table("pace", docs.MANUAL / "quota.md")
    assert paces
    assert [row for row in ours if row in paces] == paces


@pytest.mark.parametrize("limiter", NEVER_REFUSE)
def test_a_thousand_drivers_take_nine_periods_and_meet_no_429(limiter: str) -> None:
    result = measure(Case(limiter, 1000, latency=duration.UNSTEADY), OURS, 0)
    assert result.took <= duration.MOST_PERIODS
    assert (result.tokens, result.refused) == (1000, 0)


def picture() -> str:
    return duration.SVG.read_text(encoding="utf-8")


def test_the_picture_is_in_the_readme_with_a_text() -> None:
    (words,) = re.findall(r"!\[([^\]]+)\]\(tests/benchmarks/duration\.svg\)", docs.text())
    assert "limit of 100" in words.replace("\n", " ")


def test_the_picture_is_small_readable_and_of_no_one_day_or_machine() -> None:
    assert len(picture()) < 60_000
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.fromstring(picture())  # noqa: S314 - our own file
    assert root.tag == f"{svg}svg"
    assert root.findtext(f"{svg}title", "").startswith("Requests within 60 s")
    assert [text.text for text in root.iter(f"{svg}text")].count("limit: 100") == len(duration.PANELS)
    assert "fill: #ffffff" in picture()  # in dark mode, too
    assert not re.search(r"dc:date|\b20\d\d-\d\d|/home/|/root/|/tmp/|C:\\", picture())


@pytest.mark.parametrize("client", [OURS, PACED, BURST])
def test_the_picture_shows_what_the_virtual_clock_measures(client: str) -> None:
    """If this fails: ``python tests/benchmarks/duration.py`` redraws it. The SDK's makers may change its retries."""
    assert f"{duration.PANELS[client][0]}: {duration.outcome(duration.shown(client))}" in picture()


def test_never_more_than_the_limit_in_any_window() -> None:
    assert max(count for _, count in duration.windows(duration.shown(OURS).arrivals)) == RATE.limit


def test_a_window_includes_its_end_and_excludes_its_beginning() -> None:
    assert duration.windows([1.0, 2.0, 61.0]) == [(1.0, 1), (2.0, 2), (61.0, 2), (62.0, 1), (121.0, 0)]


def test_the_outline_loses_no_peak() -> None:
    """However short it is."""
    assert duration.outline([(0.2, 3), (1.4, 7), (1.5, 2), (3.0, 0)], 5) == ([3, 7, 2, 0], [0, 1, 2, 3, 5])


def test_without_matplotlib_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[plot\]'"):
        duration.plot(tmp_path / "x.svg")
