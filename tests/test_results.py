"""What was issued is kept: byte for byte, on its own row, readable by its owner only, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import errno
import io
import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_issuer.errors import ResultsError, RosterError, StorageError, UsageError
from batch_issuer.hints import Hint
from batch_issuer.model import Driver, Identifier, IdentifierKind, Outcome, Status
from batch_issuer.results import (
    AUTH_COLUMNS,
    ROW_COLUMN,
    Destination,
    Journal,
    auth_frame,
    guard_cell,
    read_results,
    unguard_cell,
)
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Iterator

resource = pytest.importorskip("resource", reason="modes, locks and file size limits as POSIX has them")

BOM = b"\xef\xbb\xbf"
TOKEN = "ZmFrZS10b2tlbg"  # noqa: S105 - of nobody
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# Whatever a cell can hold; the characters that CSV or a spreadsheet cares about come often.
CELLS = st.text(
    st.one_of(
        st.sampled_from("\",;\t|\n\r''==+-@0a\u200f\ufeff\U0001f69a"),
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    ),
    max_size=8,
)
# Column names without letters: nobody takes them for an identifier or a password.
NAMES = st.text(st.sampled_from("\",;\t|\n\r'=+-@0 \u200f\U0001f69a"), max_size=14)


def roster(text: str = "Depot,Driver ID\nNorth,11\nSouth,12\nEast,x\nWest,11\n") -> Roster:
    """Rows 2 and 3 are drivers, row 4 is invalid, row 5 a duplicate of row 2."""
    return Roster.from_bytes(text.encode(), "depot.csv")


def issued(driver: Driver, token: str = TOKEN, code: str = "c0de") -> Outcome:
    return Outcome(
        driver.row,
        Status.ISSUED,
        driver.identifier,
        token=token,
        code=code,
        expires_at=AT + timedelta(minutes=15),
        http_status=200,
        attempts=1,
        issued_at=AT,
    )


def failed(driver: Driver, error: str = "HTTP 404: no such driver", request_id: str = "r-1") -> Outcome:
    return Outcome(
        driver.row,
        Status.FAILED,
        driver.identifier,
        error=error,
        hint=str(Hint.UNKNOWN_DRIVER),
        http_status=404,
        request_id=request_id,
        attempts=1,
    )


def lines(path: Path) -> list[dict[str, str]]:
    """A file's lines by column, read without the package; every line has as many cells as the header."""
    data = path.read_bytes()
    assert data.startswith(BOM)
    header, *body = csv.reader(io.StringIO(data[3:].decode(), newline=""), strict=True)
    return [dict(zip(header, cells, strict=True)) for cells in body]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond a size; Python ignores SIGXFSZ from its start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination(tmp_path / "depot.results.csv")


# --- cells that a spreadsheet would run


def runs(cell: str) -> bool:
    """Whether a spreadsheet program may run a cell: the list of OWASP, "CSV Injection", but for signed numbers."""
    if cell[:1] in ("+", "-"):
        return not (cell[1:2].isdecimal() and all(c.isdecimal() or c.isspace() or c in "().,/-+%eE" for c in cell[1:]))
    return cell[:1] in ("=", "@", "\t", "\r", "\n")


FORMULAS = st.tuples(
    st.sampled_from(["", "'", "''"]), st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "\n"]), CELLS
).map("".join)


@given(st.one_of(FORMULAS, st.text()))
def test_unguarding_gives_back_any_guarded_text(text: str) -> None:
    assert unguard_cell(guard_cell(text)) == text


@given(st.one_of(FORMULAS, st.text(st.characters(exclude_characters="\n"))))
@example("-1\n")
@example("-2+3+cmd|' /C calc'!A0")
@example("@SUM(1)")
@example("\n=1+1")
def test_no_guarded_cell_runs(text: str) -> None:
    assert not runs(guard_cell(text))


@given(st.one_of(FORMULAS, st.text()), st.one_of(FORMULAS, st.text()))
@example("=1", "'=1")
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (guard_cell(one) == guard_cell(other)) == (one == other)


@pytest.mark.parametrize(
    "cell",
    [
        *("", "abc", "a=b", "1+1", "'quoted'", "o'clock", "''", "281474977075805"),
        *("-1", "+1", "-1.5", "+1,5", "-12%", "-1.5e-3", "-1E+10"),
        *("+1 212 555 0100", "+44 (0)20 7946-0958", "+1-212-555-0100", "+49/30.123"),
    ],
)
def test_texts_numbers_and_phone_numbers_stay_as_they_are(cell: str) -> None:
    assert guard_cell(cell) == cell
    assert unguard_cell(cell) == cell


@pytest.mark.parametrize(
    "cell", ["=1", "@a", "\tx", "\rx", "+a", "-a", "+", "-", "-1+cmd", "+1;x", "-(1)", "--1", "-=1"]
)
def test_formulas_get_one_apostrophe(cell: str) -> None:
    assert guard_cell(cell) == f"'{cell}"
    assert guard_cell(f"'{cell}") == f"''{cell}"


# --- before the run: what is in the way


def test_a_free_name_is_fine(place: Destination) -> None:
    place.check(overwrite=False)
    assert list(place.path.parent.iterdir()) == []


def refusal(place: Destination, *, overwrite: bool = False, source: Path | None = None) -> str:
    with pytest.raises(ResultsError) as caught:
        place.check(overwrite=overwrite, roster=source)
    assert caught.value.tip
    return caught.value.message


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_missing_folder_is_refused(tmp_path: Path, overwrite: bool) -> None:
    assert "no folder" in refusal(Destination(tmp_path / "missing" / "out.csv"), overwrite=overwrite)
    (tmp_path / "file").write_text("")
    assert "no folder" in refusal(Destination(tmp_path / "file" / "out.csv"), overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("suffix", ["", ".partial"])
@pytest.mark.parametrize("target", ["elsewhere.csv", "missing.csv"])
def test_a_symbolic_link_is_refused(place: Destination, overwrite: bool, suffix: str, target: str) -> None:
    elsewhere = place.path.with_name("elsewhere.csv")
    elsewhere.write_text("precious")
    place.path.with_name(place.path.name + suffix).symlink_to(place.path.with_name(target))
    assert "symbolic link" in refusal(place, overwrite=overwrite)
    assert elsewhere.read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_way_is_refused(place: Destination, overwrite: bool) -> None:
    place.path.mkdir()
    assert "not a file" in refusal(place, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_the_roster_itself_is_refused_by_whatever_name(place: Destination, overwrite: bool, linked: bool) -> None:
    source = place.path
    source.write_text("Driver ID\n1\n")
    if linked:
        place = Destination(source.with_name("other.csv"))
        place.path.hardlink_to(source)
    assert "the roster itself" in refusal(place, overwrite=overwrite, source=source)


def test_a_roster_that_is_not_there_is_not_in_the_way(place: Destination) -> None:
    place.check(overwrite=False, roster=place.path.with_name("missing.csv"))


def test_results_with_tokens_are_replaced_only_when_told(place: Destination) -> None:
    rows = roster()
    place.publish(rows, [issued(rows.drivers[0])])
    assert "holds tokens" in refusal(place)
    place.check(overwrite=True)


def test_results_without_tokens_may_be_replaced(place: Destination) -> None:
    rows = roster()
    place.publish(rows, [failed(driver) for driver in rows.drivers])
    place.check(overwrite=False)


@pytest.mark.parametrize("data", [b"", b"Driver ID\n1\n", b"auth_token\n\n", b"PK\x03\x04", b"\xff\xfe\x00", b'"'])
def test_any_other_file_is_never_replaced_told_or_not(place: Destination, data: bytes) -> None:
    place.path.write_bytes(data)
    assert "never replaced" in refusal(place)
    with pytest.raises(ResultsError, match="never replaced"):
        place.check(overwrite=True)
    assert place.path.read_bytes() == data


@pytest.mark.parametrize("name", ["results.xlsx", "results.XLS", "results.ods"])
def test_a_name_that_promises_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResultsError, match="written as CSV"):
        Destination(tmp_path / name)


def test_a_journal_is_read_as_the_rows_it_comes_to(place: Destination) -> None:
    """The last line of a row counts, rows are numbered as in the roster, and those without a line are not there."""
    rows = roster()
    journal = place.open_journal(rows)
    first, second = rows.drivers[:2]
    journal.intend(second, 1)
    journal.intend(first, 1)
    journal.record(issued(first))
    journal.close()
    read = read_results(place.partial)
    assert read.rows[:2] == [first.row, second.row]
    assert read.counts()["issued"] == 1
    assert read.counts()["unknown"] == 1
    assert (second.row, "unknown") in [failure[:2] for failure in read.failures()]


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_too_long_for_the_disk_is_refused_before_the_run(tmp_path: Path, length: int) -> None:
    """With 250 characters the results would fit, but not the files beside them."""
    place = Destination(tmp_path / ("x" * length))

    def begin() -> None:
        place.check(overwrite=False)
        place.open_journal(roster())

    with pytest.raises(ResultsError):
        begin()
    assert list(tmp_path.iterdir()) == []


# --- the journal: beginning


def test_a_journal_left_behind_is_not_touched_by_a_new_run(place: Destination) -> None:
    place.partial.write_bytes(b"precious")
    with pytest.raises(ResultsError, match="did not finish") as caught:
        place.open_journal(roster())
    assert "--overwrite" in caught.value.tip
    assert place.partial.read_bytes() == b"precious"


def test_a_journal_left_behind_is_set_aside_under_a_free_name(place: Destination) -> None:
    assert place.set_aside() is None
    for number in (1, 2, 3):
        place.partial.write_text(f"run {number}")
        aside = place.set_aside()
        assert aside == place.partial.with_name(f"{place.partial.name}.{number}")
        assert not place.partial.exists()
    assert [place.partial.with_name(f"{place.partial.name}.{n}").read_text() for n in (1, 2, 3)] == [
        "run 1",
        "run 2",
        "run 3",
    ]


def test_the_journal_of_a_live_run_is_neither_moved_nor_taken_for_left_behind(place: Destination) -> None:
    journal = place.open_journal(roster())
    for attempt in (place.set_aside, lambda: place.open_journal(roster())):
        with pytest.raises(ResultsError, match="another run"):
            attempt()
    assert place.partial.exists()
    journal.close()
    assert place.set_aside() is not None


def test_the_journal_of_another_live_process_is_not_moved_until_that_is_killed(place: Destination) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from batch_issuer.results import Destination; from batch_issuer.roster import Roster\n"
        "journal = Destination(Path(sys.argv[1])).open_journal(Roster.from_bytes(b'id\\n1\\n', 'depot.csv'))\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(place.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ResultsError, match="another run"):
            place.set_aside()
        other.kill()
    aside = place.set_aside()
    assert aside is not None
    assert lines(aside) == []


def test_a_symbolic_link_in_the_place_of_the_journal_is_a_results_error(place: Destination) -> None:
    elsewhere = place.path.with_name("elsewhere.csv")
    elsewhere.write_text("precious")
    place.partial.symlink_to(elsewhere)
    for attempt in (lambda: place.open_journal(roster()), place.set_aside):
        with pytest.raises(ResultsError):
            attempt()
    assert elsewhere.read_text() == "precious"


def test_a_journal_that_cannot_be_created_is_a_results_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be written to"):
        Destination(tmp_path / "missing" / "out.csv").open_journal(roster())


def test_a_disk_that_is_full_from_the_start_leaves_no_journal(place: Destination) -> None:
    with files_up_to(10), pytest.raises(ResultsError):
        place.open_journal(roster())
    assert list(place.path.parent.iterdir()) == []


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_files_are_for_their_owner_only_whatever_the_umask(place: Destination, mask: int) -> None:
    rows = roster()
    place.path.write_text("auth")
    place.path.chmod(0o666)
    with umask(mask):
        journal = place.open_journal(rows)
        assert mode(place.partial) == 0o600
        journal.close()
        place.publish(rows, [issued(driver) for driver in rows.drivers])
    assert mode(place.path) == 0o600


# --- the journal: as it grows


def test_the_journal_is_csv_with_bom_row_number_roster_cells_and_outcome(place: Destination) -> None:
    rows = roster()
    journal = place.open_journal(rows)
    journal.record(issued(rows.drivers[1]))
    journal.close()
    found = lines(place.partial)
    assert list(found[0]) == [ROW_COLUMN, "Depot", "Driver ID", *AUTH_COLUMNS]
    assert [(line[ROW_COLUMN], line["Depot"], line["auth_status"]) for line in found] == [
        ("4", "East", "invalid"),  # refused rows come first
        ("5", "West", "duplicate"),
        ("3", "South", "issued"),
    ]
    assert list(found[2].values()) == [
        *("3", "South", "12"),
        *(
            "issued",
            TOKEN,
            "c0de",
            "2026-01-02T03:19:05Z",
            "driverId=12",
            "",
            "",
            "200",
            "",
            "1",
            "2026-01-02T03:04:05Z",
        ),
    ]


def test_a_line_is_in_the_file_when_the_call_returns(place: Destination) -> None:
    rows = roster()
    journal = place.open_journal(rows)
    try:
        for driver in rows.drivers:
            journal.intend(driver, 1)
            assert lines(place.partial)[-1]["auth_status"] == "unknown"
            journal.record(issued(driver))
            assert lines(place.partial)[-1]["auth_token"] == TOKEN
    finally:
        journal.close()


def test_an_intent_says_that_a_token_may_exist_and_the_last_line_of_a_row_wins(place: Destination) -> None:
    rows = roster()
    first, second = rows.drivers
    journal = place.open_journal(rows)
    journal.intend(first, 1)
    journal.intend(second, 3)
    journal.record(failed(first))
    journal.close()
    last = {line[ROW_COLUMN]: line for line in lines(place.partial)}
    assert (last["2"]["auth_status"], last["2"]["auth_http_status"]) == ("failed", "404")
    assert (last["3"]["auth_status"], last["3"]["auth_attempts"]) == ("unknown", "3")
    assert (last["3"]["auth_identifier"], last["3"]["auth_token"]) == ("driverId=12", "")
    assert "a token may exist" in last["3"]["auth_hint"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4), NAMES, CELLS.filter(bool), CELLS)
def test_any_cells_tokens_and_messages_are_kept_in_the_journal(
    cells: list[tuple[str, str, str]], name: str, token: str, error: str
) -> None:
    table = [[*row, str(number)] for number, row in enumerate(cells, 1)]
    rows = Roster.from_frame(pd.DataFrame(table, columns=["a", name, "c", "id"], dtype=object))
    with tempfile.TemporaryDirectory() as folder:
        place = Destination(Path(folder) / "out.csv")
        journal = place.open_journal(rows)
        for driver in reversed(rows.drivers):
            journal.record(replace(issued(driver, token=token, code=token), error=error))
        journal.close()
        with place.partial.open(encoding="utf-8-sig", newline="") as file:
            header, *found = csv.reader(file, strict=True)
    assert header == [ROW_COLUMN, "a", guard_cell(name), "c", "id", *AUTH_COLUMNS]
    assert [int(line[0]) for line in found] == list(reversed(rows.row_numbers()))
    assert [[unguard_cell(cell) for cell in line[1:5]] for line in reversed(found)] == table
    assert {(line[6], line[7], unguard_cell(line[10])) for line in found} == {(token, token, error)}


def test_when_the_disk_is_full_the_journal_keeps_whole_lines_and_says_so(place: Destination) -> None:
    rows = roster()
    driver = rows.drivers[0]
    journal = place.open_journal(rows)
    kept: list[str] = []

    def record_on() -> None:
        while True:
            journal.record(issued(driver, token=f"{TOKEN}-{len(kept)}"))
            kept.append(f"{TOKEN}-{len(kept)}")

    with files_up_to(place.partial.stat().st_size + 700), pytest.raises(StorageError) as caught:
        record_on()
    assert os.strerror(errno.EFBIG) in caught.value.message
    assert TOKEN not in caught.value.message + caught.value.tip
    found = lines(place.partial)[len(rows.refused) :]
    assert len(kept) > 1
    assert [line["auth_token"] for line in found] == kept
    journal.record(issued(driver, code="later"))  # there is room again: the next line is whole, too
    journal.close()
    assert lines(place.partial)[-1]["auth_code"] == "later"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
            Journal(descriptor, tmp_path / "out.csv.partial", roster())
    finally:
        os.close(descriptor)


def test_a_flush_that_fails_is_a_storage_error(tmp_path: Path) -> None:
    """A pipe takes lines, but has no disk to flush them to."""
    reading, writing = os.pipe()
    try:
        journal = Journal(writing, tmp_path / "out.csv.partial", roster())
        with pytest.raises(StorageError, match="could not be written") as caught:
            asyncio.run(asyncio.wait_for(journal.keep_synced(), 10))
        assert os.strerror(errno.EINVAL) in caught.value.message
    finally:
        os.close(reading)
        journal.close()


def test_flushing_goes_on_until_cancelled(place: Destination) -> None:
    async def run() -> bool:
        journal = place.open_journal(roster())
        syncing = asyncio.create_task(journal.keep_synced())
        await asyncio.sleep(0)
        ended_early = syncing.done()
        syncing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await syncing
        journal.close()
        return ended_early

    assert not asyncio.run(run())


# --- what an outcome looks like


def test_rows_without_outcome_are_not_attempted() -> None:
    frame = auth_frame(roster(), {})
    assert list(frame.columns) == list(AUTH_COLUMNS)
    assert frame["auth_status"].tolist() == ["not_attempted"] * 4
    assert frame["auth_attempts"].tolist() == ["0"] * 4
    assert all(isinstance(cell, str) for cell in frame.to_numpy().ravel())


def test_times_are_written_in_utc_to_the_second() -> None:
    rows = roster()
    at = datetime(2026, 1, 2, 1, 4, 5, 999_999, tzinfo=timezone(timedelta(hours=-2)))
    frame = auth_frame(rows, {2: replace(issued(rows.drivers[0]), expires_at=at, issued_at=None)})
    assert frame["auth_expires_at"][0] == "2026-01-02T03:04:05Z"
    assert frame["auth_issued_at"][0] == ""


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (2, {"identifier": Identifier(IdentifierKind.DRIVER_ID, "12")}),
        (2, {"identifier": Identifier(IdentifierKind.USERNAME, "11")}),
        (2, {"identifier": None}),
        (2, {"row": 3}),
        (4, {"row": 4}),  # its cell is no driver ID
    ],
)
def test_a_token_never_sits_on_another_drivers_row(place: Destination, row: int, change: dict[str, object]) -> None:
    rows = roster()
    wrong = replace(issued(rows.drivers[0]), **change)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=f"row {row}") as caught:
        auth_frame(rows, {row: wrong})
    assert TOKEN not in caught.value.message
    assert not place.path.exists()


def test_publishing_an_outcome_of_another_driver_leaves_everything_as_it_was(place: Destination) -> None:
    rows = roster()
    place.path.write_bytes(b"old")
    place.open_journal(rows).close()
    with pytest.raises(StorageError):
        place.publish(rows, [replace(issued(rows.drivers[0]), row=3)])
    assert place.path.read_bytes() == b"old"
    assert place.partial.exists()


# --- publishing


def test_the_results_hold_the_roster_in_order_and_then_the_outcomes(place: Destination) -> None:
    rows = roster('Depot,Driver ID,"Note, old"\nNorth,11,"a ""b""\n=1"\n,,\nSouth,12,=1+1\nEast,x,007\n')
    journal = place.open_journal(rows)
    first, second = rows.drivers
    place.publish(rows, [failed(second, error="=HTTP 404", request_id="@r"), issued(first)])
    journal.close()
    assert sorted(place.path.parent.iterdir()) == [place.path]  # no .partial, no .publishing
    assert place.path.read_bytes().startswith(BOM + b"Depot,")
    found = lines(place.path)
    assert list(found[0]) == ["Depot", "Driver ID", "Note, old", *AUTH_COLUMNS]
    assert [line["auth_status"] for line in found] == ["issued", "invalid", "failed", "invalid"]
    assert [line["Note, old"] for line in found] == ['a "b"\n=1', "", "'=1+1", "007"]
    assert (found[2]["auth_error"], found[2]["auth_request_id"]) == ("'=HTTP 404", "'@r")
    back = read_results(place.path).frame
    assert (back["auth_error"][2], back["auth_request_id"][2]) == ("=HTTP 404", "@r")


def test_how_many_cells_got_an_apostrophe_is_told(place: Destination) -> None:
    assert place.publish(roster("Driver ID,=a,b\n1,=1,+1\n2,'=1,@x\n"), []) == 4


def test_a_column_name_that_would_run_gets_an_apostrophe(place: Destination) -> None:
    place.publish(roster("Driver ID,=a,'=b\n1,x,y\n"), [])
    assert list(lines(place.path)[0])[:3] == ["Driver ID", "'=a", "''=b"]


def test_columns_of_one_name_keep_their_cells(place: Destination) -> None:
    place.publish(roster("Note,Driver ID,Note\na,1,b\n"), [])
    assert place.path.read_bytes()[3:].decode().splitlines()[1].startswith("a,1,b,not_attempted,")


@pytest.mark.parametrize(
    "secret", ["=cmd", "-a-b_c", "+x", "@x", "'=x", "\tx", "007", "1e5", "NA", 'a"b,c', "x" * 5000]
)
def test_tokens_and_codes_stay_byte_exact(place: Destination, secret: str) -> None:
    rows = roster()
    place.publish(rows, [issued(rows.drivers[0], token=secret, code=secret)])
    assert (lines(place.path)[0]["auth_token"], lines(place.path)[0]["auth_code"]) == (secret, secret)
    back = read_results(place.path).frame
    assert (back["auth_token"][0], back["auth_code"][0]) == (secret, secret)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_roster_and_any_outcomes_come_back_unchanged_on_their_own_rows(data: st.DataObject) -> None:
    width = data.draw(st.integers(0, 3))
    names = data.draw(st.lists(NAMES, min_size=width, max_size=width))
    position = data.draw(st.integers(0, width))
    height = data.draw(st.integers(1, 5))
    header = [*names[:position], "Driver ID", *names[position:]]
    table = [[data.draw(CELLS) for _ in names] for _ in range(height)]
    ids = data.draw(st.lists(st.sampled_from(["1", "2", "3", "x", "", "=1", " 2"]), min_size=height, max_size=height))
    table = [[*row[:position], driver, *row[position:]] for row, driver in zip(table, ids, strict=True)]
    rows = Roster.from_frame(pd.DataFrame(table, columns=pd.Index(header, dtype=object), dtype=object))
    texts = st.builds(tuple, st.tuples(CELLS.filter(bool), CELLS, CELLS, CELLS, CELLS))
    outcomes = {}
    for driver in data.draw(st.permutations(rows.drivers)):
        token, code, error, hint, request = data.draw(texts)
        common = {"code": code, "error": error, "hint": hint, "request_id": request, "attempts": len(code)}
        status = data.draw(st.sampled_from([Status.ISSUED, Status.FAILED, Status.UNKNOWN]))
        held = token if status is Status.ISSUED else ""
        outcomes[driver.row] = Outcome(driver.row, status, driver.identifier, token=held, **common)
    with tempfile.TemporaryDirectory() as folder:
        place = Destination(Path(folder) / "out.csv")
        place.publish(rows, outcomes.values())
        frame = read_results(place.path).frame
    assert [unguard_cell(column) for column in frame.columns] == [*header, *AUTH_COLUMNS]
    cells = frame.to_numpy().tolist()
    assert [[unguard_cell(cell) for cell in line[: len(header)]] for line in cells] == table
    for row, line in zip(rows.row_numbers(), cells, strict=True):
        found = dict(zip(AUTH_COLUMNS, line[len(header) :], strict=True))
        outcome = outcomes.get(row)
        if outcome is None:
            assert found["auth_token"] == ""
            assert found["auth_status"] in ("invalid", "duplicate")
            continue
        assert (found["auth_status"], found["auth_identifier"]) == (outcome.status, str(outcome.identifier))
        assert (found["auth_token"], found["auth_code"]) == (outcome.token, outcome.code)
        assert (found["auth_error"], found["auth_hint"]) == (outcome.error, outcome.hint)
        assert (found["auth_request_id"], found["auth_attempts"]) == (outcome.request_id, str(outcome.attempts))


@pytest.mark.parametrize(
    "name",
    [
        "Note;\n(old)",  # line break and separator in the first column's name, as a spreadsheet's Alt+Enter makes it
        ";" * 20,
        "|".join("abcdefghijklmnopqrst"),
        "\t" * 20,
    ],
)
def test_whatever_the_column_names_the_results_can_be_read_back(place: Destination, name: str) -> None:
    rows = Roster.from_frame(pd.DataFrame([["x", "1"]], columns=[name, "Driver ID"]))
    place.publish(rows, [issued(rows.drivers[0])])
    assert read_results(place.path).counts() == {"issued": 1}


@pytest.mark.parametrize("cell", ["a\0b", "a\ud800b", "x" * 200_000], ids=["NUL", "lone surrogate", "very long"])
def test_what_no_results_file_can_hold_is_refused_before_the_run(place: Destination, cell: str) -> None:
    """Else a run would end in the middle, or with tokens in a file that this tool cannot read."""
    try:
        rows = Roster.from_frame(pd.DataFrame({"Driver ID": ["1"], "Note": [cell]}))
    except RosterError:
        return
    journal = place.open_journal(rows)
    try:
        journal.intend(rows.drivers[0], 1)
    finally:
        journal.close()
    place.publish(rows, [issued(rows.drivers[0])])
    assert read_results(place.path).frame["Note"].tolist() == [cell]


def test_tokens_sit_on_their_rows_whatever_the_index_of_the_table(place: Destination) -> None:
    """A table that was filtered or sorted keeps its old row labels."""
    table = pd.DataFrame({"Driver ID": ["11", "12"]}, index=[7, 0], dtype=object)
    for rows in (Roster.from_frame(table), Roster(table, "depot.csv")):
        place.publish(rows, [issued(driver, token=f"for-{driver.identifier.value}") for driver in rows.drivers])
        found = [(line["Driver ID"], line["auth_token"]) for line in lines(place.path)]
        assert found == [("11", "for-11"), ("12", "for-12")]


def test_a_password_of_the_roster_is_in_no_file(place: Destination) -> None:
    rows = roster("Driver ID,Password\n1,hunter2\n2,hunter2\n")
    journal = place.open_journal(rows)
    journal.intend(rows.drivers[0], 1)
    journal.close()
    assert b"hunter2" not in place.partial.read_bytes()
    place.publish(rows, [])
    assert b"hunter2" not in place.path.read_bytes()


def prepared(place: Destination) -> tuple[Roster, bytes]:
    """A finished run that is about to publish."""
    rows = roster()
    journal = place.open_journal(rows)
    journal.record(*(issued(driver) for driver in rows.drivers))
    journal.close()
    return rows, place.partial.read_bytes()


def test_when_the_disk_is_full_the_old_results_and_the_journal_stay(place: Destination) -> None:
    place.path.write_bytes(b"old results")
    rows, journal = prepared(place)
    with files_up_to(100), pytest.raises(StorageError) as caught:
        place.publish(rows, [issued(driver) for driver in rows.drivers])
    assert str(place.partial) in caught.value.tip
    assert TOKEN not in caught.value.message + caught.value.tip
    assert place.path.read_bytes() == b"old results"
    assert place.partial.read_bytes() == journal
    place.publish(rows, [issued(driver) for driver in rows.drivers])  # with room again
    assert sorted(place.path.parent.iterdir()) == [place.path]


def test_a_folder_that_came_in_the_way_does_not_cost_the_journal(place: Destination) -> None:
    rows, journal = prepared(place)
    place.path.mkdir()
    with pytest.raises(StorageError, match="could not be written"):
        place.publish(rows, [issued(driver) for driver in rows.drivers])
    assert place.partial.read_bytes() == journal
    assert all(mode(path) == 0o600 for path in place.path.parent.iterdir() if path.is_file())


def test_a_folder_that_went_away_is_a_storage_error(place: Destination) -> None:
    rows, _ = prepared(place)
    folder = place.path.parent
    folder.rename(folder.with_name("moved"))
    with pytest.raises(StorageError, match="could not be written"):
        place.publish(rows, [issued(driver) for driver in rows.drivers])
    assert (folder.with_name("moved") / place.partial.name).exists()


@pytest.mark.parametrize("link", [False, True])
def test_what_a_killed_run_left_while_publishing_is_no_obstacle(place: Destination, link: bool) -> None:
    rows, _ = prepared(place)
    stale = place.path.with_name(place.path.name + ".publishing")
    elsewhere = place.path.parent.with_name("elsewhere")
    elsewhere.write_text("precious")
    if link:
        stale.symlink_to(elsewhere)
    else:
        stale.write_text("half a fi")
    place.publish(rows, [issued(driver) for driver in rows.drivers])
    assert sorted(place.path.parent.iterdir()) == [place.path]
    assert not place.path.is_symlink()
    assert len(lines(place.path)) == 4
    assert elsewhere.read_text() == "precious"


def test_a_reader_of_the_old_results_keeps_them_whole(place: Destination) -> None:
    """The new file takes the name in one step; the old one is never written to."""
    place.path.write_bytes(b"old results")
    rows, _ = prepared(place)
    with place.path.open("rb") as reader:
        place.publish(rows, [])
        assert reader.read() == b"old results"


# --- read back


def test_results_say_how_many_until_when_and_why_not(place: Destination) -> None:
    rows = roster()
    first, second = rows.drivers
    place.publish(rows, [issued(first), failed(second)])
    results = read_results(place.path)
    assert results.counts() == {"issued": 1, "failed": 1, "invalid": 1, "duplicate": 1}
    assert list(results.counts()) == ["issued", "failed", "invalid", "duplicate"]
    assert results.expiries() == [AT + timedelta(minutes=15)]
    assert results.failures() == [
        (3, "failed", "driverId=12", "HTTP 404: no such driver", str(Hint.UNKNOWN_DRIVER)),
        (4, "invalid", "", "'x' is not a driver ID", str(Hint.DRIVER_ID)),
        (5, "duplicate", "driverId=11", "the same driver as in row 2", str(Hint.DUPLICATE)),
    ]


def test_expiries_are_sorted_and_unreadable_ones_left_out(place: Destination) -> None:
    header = ",".join(["Driver ID", *AUTH_COLUMNS])
    times = [
        "2026-01-02T04:00:00Z",
        "",
        "soon",
        "2026-01-02T03:00:00Z",
        "2026-01-02 02:30:00",
        "2026-01-02T03:30:00+02:00",
    ]
    body = [f"{number},issued,t,c,{at},,,,,,," for number, at in enumerate(times)]
    body.append("9,failed,,,2020-01-01T00:00:00Z,,,,,,,")
    place.path.write_text("\n".join([header, *body]))
    hours = [(1, 30), (2, 30), (3, 0), (4, 0)]
    expected = [datetime(2026, 1, 2, hour, minute, tzinfo=UTC) for hour, minute in hours]
    assert read_results(place.path).expiries() == expected


def test_statuses_by_other_hands_are_counted_last(place: Destination) -> None:
    header = ",".join(["Driver ID", *AUTH_COLUMNS])
    body = [f"{number},{status}{',' * 10}" for number, status in enumerate(["zzz", "failed", "", "issued", "zzz"])]
    place.path.write_text("\n".join([header, *body]))
    counts = read_results(place.path).counts()
    assert list(counts.items()) == [("issued", 1), ("failed", 1), ("", 1), ("zzz", 2)]


@pytest.mark.parametrize(
    "header",
    [["Driver ID"], ["Driver ID", *AUTH_COLUMNS[:-1]], ["Driver ID", *AUTH_COLUMNS, "auth_token"], ["auth_token"]],
)
def test_a_file_without_exactly_the_columns_is_no_results_file(place: Destination, header: list[str]) -> None:
    place.path.write_text(",".join(header) + "\n" + ",".join(header) + "\n")
    with pytest.raises(ResultsError):
        read_results(place.path)


def test_an_unfinished_journal_can_be_read_back_too(place: Destination) -> None:
    rows = roster()
    journal = place.open_journal(rows)
    journal.record(issued(rows.drivers[0]))
    journal.close()
    assert read_results(place.partial).counts() == {"issued": 1, "invalid": 1, "duplicate": 1}


@pytest.mark.parametrize("name", ["missing.csv", ".", "x" * 300])
def test_results_that_cannot_be_read_are_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        read_results(tmp_path / name)


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(st.sampled_from([*AUTH_COLUMNS, ",", ",", "\n", '"', "x", "2026", "é"])).map(
            lambda parts: "".join(parts).encode()
        ),
        st.lists(
            st.lists(
                st.sampled_from(["", "x", "issued", "2026", "9999-12-31T23:59:59-23:59", "'"]), min_size=11, max_size=11
            )
        ).map(lambda table: "\n".join(",".join(cells) for cells in [AUTH_COLUMNS, *table]).encode()),
    )
)
def test_any_file_is_results_that_answer_every_question_or_a_usage_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.csv"
        path.write_bytes(data)
        try:
            results = read_results(path)
        except UsageError:
            return
    assert sum(results.counts().values()) == len(results.frame)
    assert results.expiries() == sorted(results.expiries())
    assert len(results.failures()) <= len(results.frame)


def test_the_results_are_on_the_disk_before_they_take_their_name(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut may leave the name with nothing behind it."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    place.publish(roster(), [])
    assert calls == ["file", "rename", "folder"]
