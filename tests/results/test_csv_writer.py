"""The table is written slice by slice, with the same result."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.rosters import BOM, CELLS, FIVE_MINUTES, NAMES, TOKEN, batch, interrupt, issued, lines, publish, table
from support.sandbox import run_command

from batch_issuer.errors import StorageError
from batch_issuer.model import Outcome, Status
from batch_issuer.results import AUTH_COLUMNS, Batch, Destination, csv_writer
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer import Sandbox


def parts(path: Path) -> list[bytes]:
    """A file's bytes; of a workbook those of its parts, without the time of creation."""
    if path.suffix == ".csv":
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if name != "docProps/core.xml"]


@given(
    names=st.lists(NAMES, min_size=2, max_size=2),
    body=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    finished=st.sets(st.integers(2, 6)),
    at_once=st.integers(1, 4),
    suffix=st.sampled_from(["csv", "csv", "xlsx"]),
)
@example(
    names=[" ", " "], body=[("=1", "'=1"), ("", ""), ("-x", "b"), ("a", "+1")], finished={3}, at_once=1, suffix="csv"
)
@settings(max_examples=60, deadline=None)
def test_files_are_the_same_with_any_slice_size(
    names: list[str],
    body: list[tuple[str, str]],
    finished: set[int],
    at_once: int,
    suffix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Results and journal, also with repeated column names and cells that get an apostrophe."""
    header = pd.Index([names[0], "Driver ID", names[1]])
    frame = pd.DataFrame([[a, str(11 + n), b] for n, (a, b) in enumerate(body)], columns=header, dtype=object)
    rows = Batch.of_roster(Roster.from_frame(frame))
    outcomes = [issued(driver, f"{TOKEN}{driver.row}") for driver in rows.drivers if driver.row in finished]
    written = []
    for count in (at_once, 10_000):
        path = tmp_path_factory.mktemp("slices") / f"depot.{suffix}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_writer, "ROWS_AT_ONCE", count)
            journal = interrupt(Destination(path), rows, *outcomes).read_bytes()
            published = publish(Destination(path), rows, *outcomes)
        written.append((journal, published.guarded_cells, parts(path)))
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("out.csv", ","), ("out.txt", ","), ("out.tsv", "\t"), ("OUT.TSV", "\t")],
)
def test_the_ending_of_the_name_decides_the_separator_of_new_results(
    name: str, delimiter: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Cells that contain the separator are quoted; retry keeps the separator of the file."""
    out = tmp_path / name
    source = tmp_path / "depot.csv"
    source.write_text('Driver,Driver ID\n"a,b",700000\n"a\tb",700001\n')
    assert run_command(sandbox, "issue", source, "-o", out) == 0
    for _ in range(2):
        header, *rows = table(out, delimiter)
        assert header == ["Driver", "Driver ID", *AUTH_COLUMNS]
        assert [row[:2] for row in rows] == [["a,b", "700000"], ["a\tb", "700001"]]
        assert [row[header.index("auth_status")] for row in rows] == ["issued"] * 2
        assert run_command(sandbox, "retry", out, "--min-validity", "1h") == 0
    assert len(sandbox.ledger) == 6


def test_results_without_rows_keep_their_header(tmp_path: Path) -> None:
    path = tmp_path / "depot.csv"
    path.write_bytes(BOM + ",".join(["Driver ID", *AUTH_COLUMNS]).encode() + b"\r\n")
    before = path.read_bytes()
    place = Destination(path)
    with place:
        rows = place.reopen(FIVE_MINUTES)
    publish(place, rows)
    assert path.read_bytes() == before
    assert lines(path) == []


def test_a_token_of_another_driver_in_a_late_slice_leaves_the_results_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, rows = Destination(tmp_path / "depot.csv"), batch("Driver ID\n11\n12\n13\n")
    publish(place, rows)
    before = place.path.read_bytes()
    stranger = Outcome(4, Status.ISSUED, rows.drivers[0].identifier, TOKEN)
    monkeypatch.setattr(csv_writer, "ROWS_AT_ONCE", 1)
    with pytest.raises(StorageError, match="row 4"):
        publish(place, rows, stranger)
    assert place.path.read_bytes() == before
    assert not list(tmp_path.glob("*.writing"))
