"""The journal: a line for every row from its birth, each further one in the file when the call returns."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import errno
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rosters import (
    AT,
    CELLS,
    CODE,
    DEPOT,
    FIVE_MINUTES,
    NAMES,
    TOKEN,
    batch,
    failed,
    files_up_to,
    interrupt,
    issued,
    journal_of,
    lines,
    mode,
    umask,
)

from batch_issuer.errors import ResultsError, StorageError, UsageError
from batch_issuer.model import Driver
from batch_issuer.pipeline.attempts import Attempts
from batch_issuer.results import (
    AUTH_COLUMNS,
    ROW_COLUMN,
    Batch,
    Destination,
    Journal,
    count_statuses,
    guard_cell,
    read_results,
    unguard_cell,
)
from batch_issuer.roster import Roster

# --- its birth


def test_it_starts_with_a_line_for_every_row(place: Destination) -> None:
    """So it can be resumed without the roster or earlier results."""
    assert interrupt(place, batch()) == place.partial
    found = lines(place.partial)
    assert list(found[0]) == [ROW_COLUMN, "Depot", "Driver ID", *AUTH_COLUMNS]
    assert [(line[ROW_COLUMN], line["Depot"], line["auth_status"], line["auth_identifier"]) for line in found] == [
        ("2", "North", "not_attempted", "driverId=11"),
        ("3", "South", "not_attempted", "driverId=12"),
        ("4", "East", "invalid", ""),
        ("5", "West", "duplicate", "driverId=11"),
    ]
    assert all(line["auth_hint"] for line in found)


def test_it_is_on_the_disk_with_all_these_lines_before_it_takes_its_name(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash before that leaves the previous journal."""
    found: list[tuple[str, int, bool]] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        found.append(("fsync", os.fstat(descriptor).st_size, place.partial.exists()))
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        found.append(("rename", path.stat().st_size, place.partial.exists()))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    with place:
        journal = place.open_journal(batch())
        born = place.partial.stat().st_size
        assert found[:2] == [("fsync", born, False), ("rename", born, False)]
        journal.close()


def test_a_journal_that_cannot_be_created_is_a_results_error_and_the_previous_one_stays(place: Destination) -> None:
    before = interrupt(place, batch()).read_bytes()
    with place:
        rows = place.reopen(FIVE_MINUTES)
        with files_up_to(10), pytest.raises(ResultsError, match=os.strerror(errno.EFBIG)):
            place.open_journal(rows)
    assert place.partial.read_bytes() == before
    assert list(place.path.parent.iterdir()) == [place.partial]


def test_a_missing_folder_is_a_results_error(tmp_path: Path) -> None:
    place = Destination(tmp_path / "folder" / "out.csv")
    place.path.parent.mkdir()
    with place:
        place.path.parent.rename(tmp_path / "moved")
        with pytest.raises(ResultsError, match="cannot be written to"):
            place.open_journal(batch())


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_all_files_are_for_their_owner_only_whatever_the_umask(place: Destination, mask: int) -> None:
    rows = batch()
    with umask(mask), place:
        journal_of(place, rows)
        modes = {path.name.removeprefix(place.path.name): mode(path) for path in place.path.parent.iterdir()}
        assert modes == {".partial": 0o600, ".writing": 0o600, ".lock": 0o600}
        place.publish(rows, rows.outcomes)
        assert mode(place.path) == 0o600


# --- as it grows


def test_a_recorded_line_is_row_number_roster_cells_and_outcome(place: Destination) -> None:
    rows = batch()
    interrupt(place, rows, issued(rows.drivers[1]))
    assert list(lines(place.partial)[-1].values()) == [
        *("3", "South", "12"),
        *("issued", TOKEN, CODE, "2026-01-02T03:19:05Z", "driverId=12"),
        *("", "", "200", "", "1", "2026-01-02T03:04:05Z"),
    ]


def test_a_line_is_in_the_file_when_the_call_returns(place: Destination) -> None:
    rows = batch()
    with place:
        journal = place.open_journal(rows)
        for driver in rows.drivers:
            journal.record(Attempts(driver).intent())
            assert lines(place.partial)[-1]["auth_status"] == "unknown"
            journal.record(issued(driver))
            assert lines(place.partial)[-1]["auth_token"] == TOKEN
        journal.close()


def test_an_intent_records_that_a_token_may_exist_and_the_last_line_of_a_row_counts(place: Destination) -> None:
    rows = batch()
    first, second = rows.drivers
    requested_twice = Driver(second.row, second.identifier, replace(failed(second), attempts=2))
    interrupt(place, rows, Attempts(first).intent(), Attempts(requested_twice).intent(), failed(first))
    last = {line[ROW_COLUMN]: line for line in lines(place.partial)}
    assert (last["2"]["auth_status"], last["2"]["auth_http_status"]) == ("failed", "404")
    assert (last["3"]["auth_status"], last["3"]["auth_attempts"]) == ("unknown", "3")
    assert (last["3"]["auth_identifier"], last["3"]["auth_token"]) == ("driverId=12", "")
    assert "a token may exist" in last["3"]["auth_hint"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4), NAMES, CELLS.filter(bool), CELLS)
def test_any_cells_tokens_and_messages_are_kept_and_the_roster_is_recognized(
    cells: list[tuple[str, str, str]], name: str, token: str, error: str
) -> None:
    table = [[*row, str(number)] for number, row in enumerate(cells, 1)]
    rows = Roster.from_frame(pd.DataFrame(table, columns=["a", name, "c", "id"], dtype=object))
    with tempfile.TemporaryDirectory() as folder:
        place = Destination(Path(folder) / "out.csv")
        outcomes = [replace(issued(driver, token=token, code=token), error=error) for driver in reversed(rows.drivers)]
        interrupt(place, Batch.of_roster(rows), *outcomes)
        with place.partial.open(encoding="utf-8-sig", newline="") as file:
            header, *found = csv.reader(file, strict=True)
        with place:
            resumed = place.begin(rows, replace(FIVE_MINUTES, now=AT))
    assert header == [ROW_COLUMN, "a", guard_cell(name), "c", "id", *AUTH_COLUMNS]
    born, recorded = found[: len(table)], found[len(table) :]
    assert [int(line[0]) for line in born] == list(rows.row_numbers())
    assert [int(line[0]) for line in recorded] == list(reversed(rows.row_numbers()))
    assert [[unguard_cell(cell) for cell in line[1:5]] for line in born] == table
    assert [[unguard_cell(cell) for cell in line[1:5]] for line in reversed(recorded)] == table
    assert {(line[6], line[7], unguard_cell(line[10])) for line in recorded} == {(token, token, error)}
    assert resumed.cells.to_numpy().tolist() == table


# --- when the disk fails


def test_when_the_disk_is_full_it_keeps_whole_lines_and_reports_the_error(place: Destination) -> None:
    rows = batch()
    driver = rows.drivers[0]
    kept: list[str] = []

    def record_on(journal: Journal) -> None:
        while True:
            journal.record(issued(driver, token=f"{TOKEN}-{len(kept)}"))
            kept.append(f"{TOKEN}-{len(kept)}")

    with place:
        journal = place.open_journal(rows)
        with files_up_to(place.partial.stat().st_size + 700), pytest.raises(StorageError) as caught:
            record_on(journal)
        assert os.strerror(errno.EFBIG) in caught.value.message
        assert TOKEN not in caught.value.message + caught.value.hint
        assert len(kept) > 1
        assert [line["auth_token"] for line in lines(place.partial)[len(rows) :]] == kept
        journal.record(issued(driver, code="later"))  # there is room again: the next line is whole, too
        assert lines(place.partial)[-1]["auth_code"] == "later"
        journal.close()
    assert journal.is_whole


def test_nothing_follows_a_torn_line_that_could_not_be_removed(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half of a line and refuses to truncate it: earlier lines are still read."""
    rows = batch()
    first, second = rows.drivers

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:20])
        refuse()

    with place:
        journal = place.open_journal(rows)
        journal.record(issued(first))
        with monkeypatch.context() as failing:
            failing.setattr("batch_issuer.results.journal.write_all", half)
            failing.setattr(os, "ftruncate", refuse)
            with pytest.raises(StorageError):
                journal.record(issued(second))
        with pytest.raises(StorageError):
            journal.record(issued(second))
        journal.close()
    assert list(read_results(place.partial).frame["auth_status"])[:2] == ["issued", "not_attempted"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_a_storage_error(place: Destination) -> None:
    rows = batch()
    with place:
        journal = place.open_journal(rows)
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), journal._descriptor)
        with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
            journal.record(issued(rows.drivers[0]))
        journal.close()
    assert not journal.is_whole


def test_a_flush_that_fails_is_a_storage_error(place: Destination) -> None:
    """A pipe accepts lines, but cannot flush them to a disk."""
    rows = batch()
    reading, writing = os.pipe()
    with place, os.fdopen(reading, "rb"):
        journal = place.open_journal(rows)
        os.dup2(writing, journal._descriptor)
        os.close(writing)
        journal.record(issued(rows.drivers[0]))
        with pytest.raises(StorageError, match="cannot write") as caught:
            asyncio.run(asyncio.wait_for(journal.keep_synced(), 10))
        assert os.strerror(errno.EINVAL) in caught.value.message
        journal.close()
    assert not journal.is_whole


def test_lines_are_flushed_to_the_disk_soon_until_cancelled(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, fsync = batch(), os.fsync

    async def run(journal: Journal) -> None:
        loop, flushed = asyncio.get_running_loop(), asyncio.Queue[int]()

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            loop.call_soon_threadsafe(flushed.put_nowait, os.fstat(descriptor).st_size)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", noted)
            syncing = asyncio.create_task(journal.keep_synced())
            for driver in rows.drivers:
                journal.record(issued(driver))
                assert await asyncio.wait_for(flushed.get(), 10) == place.partial.stat().st_size
                assert not syncing.done()
            syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await syncing

    with place:
        journal = place.open_journal(rows)
        asyncio.run(run(journal))
        journal.close()


# --- its torn tail

TORN = DEPOT.replace("Depot", '"De""pot"').replace("North", '"No\nr""th,\r\n\u00fc"')


def line_ends(data: bytes) -> list[int]:
    """Where each line of a CSV file ends: at a line feed outside quotation marks."""
    ends, quoted = [], False
    for offset, byte in enumerate(data):
        quoted ^= byte == ord('"')
        if byte == ord("\n") and not quoted:
            ends.append(offset + 1)
    return ends


def torn(place: Destination) -> tuple[bytes, list[int], list[dict[str, str]]]:
    """A journal with quotes and line ends in cells; the ends of its lines, the header first; and the lines."""
    rows = batch(TORN)
    first, second = rows.drivers
    data = interrupt(
        place, rows, Attempts(first).intent(), failed(second, error='said\n"no"'), issued(first)
    ).read_bytes()
    return data, line_ends(data), lines(place.partial)


def status_of(found: list[dict[str, str]]) -> dict[int, tuple[str, ...]]:
    """The status in the last line of each row."""
    return {int(line[ROW_COLUMN]): (line["auth_status"], line["auth_token"], line["auth_error"]) for line in found}


def test_exactly_the_whole_lines_of_a_truncated_journal_are_read(place: Destination) -> None:
    """As after a crash or a power cut; without a complete header it is a usage error."""
    data, ends, found = torn(place)
    assert len(ends) == len(found) + 1
    for cut in range(len(data) + 1):
        place.partial.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends) - 1  # without the header
        if whole < 0:
            with pytest.raises(UsageError):
                read_results(place.partial)
            continue
        results = read_results(place.partial)
        cells = results.auth[["auth_status", "auth_token", "auth_error"]].to_numpy().tolist()
        assert dict(zip(results.rows, map(tuple, cells), strict=True)) == status_of(found[:whole])


@pytest.mark.parametrize("nuls", [1, 4096])
@pytest.mark.parametrize("hole", [False, True])
def test_data_after_a_nul_is_ignored(place: Destination, nuls: int, hole: bool) -> None:
    """Some file systems leave NULs after a power cut, at the end or before a later line."""
    data, ends, found = torn(place)
    for cut in range(ends[0], len(data) + 1, 13):
        place.partial.write_bytes(data[:cut] + bytes(nuls) + (b"\r\n" + data[ends[-2] :] if hole else b""))
        whole = sum(end <= cut for end in ends) - 1
        assert read_results(place.partial).rows == sorted(status_of(found[:whole]))


def test_a_journal_without_a_line_for_every_row_is_not_resumed(place: Destination) -> None:
    """Every journal starts with all rows, so this one was damaged: missing rows are never guessed."""
    data, ends, _ = torn(place)
    place.partial.write_bytes(data[: ends[0]] + data[ends[1] : ends[4]])
    with place, pytest.raises(ResultsError, match="does not contain all rows") as caught:
        place.reopen(FIVE_MINUTES)
    assert "--overwrite" in caught.value.hint
    assert place.partial.read_bytes() == data[: ends[0]] + data[ends[1] : ends[4]]


def test_the_last_line_of_each_row_is_read_in_the_order_of_the_rows(place: Destination) -> None:
    rows = batch()
    first, second = rows.drivers
    interrupt(place, rows, Attempts(second).intent(), Attempts(first).intent(), issued(first))
    read = read_results(place.partial)
    assert read.rows == list(rows.row_numbers())
    assert read.frame["auth_status"].tolist() == ["issued", "unknown", "invalid", "duplicate"]
    assert count_statuses(read) == {"issued": 1, "invalid": 1, "duplicate": 1, "unknown": 1}
    assert ROW_COLUMN not in read.frame.columns
