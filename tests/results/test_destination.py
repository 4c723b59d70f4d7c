"""OUT itself: what is in its way before the run, and how the results take its place in one step after it."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processes import PythonProcess
from support.rosters import (
    AT,
    BOM,
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
    publish,
    roster,
)

from batch_issuer.errors import ResultsError, RosterError, StorageError
from batch_issuer.model import Outcome, Status
from batch_issuer.results import AUTH_COLUMNS, Batch, Destination, Validity, count_statuses, read_results
from batch_issuer.roster import Roster

NOT_REAL = replace(FIVE_MINUTES, real=False)
"""For another sandbox run."""


def begin(
    place: Destination,
    text: str = DEPOT,
    *,
    source: Path | None = None,
    overwrite: bool = False,
    validity: Validity = FIVE_MINUTES,
) -> Batch:
    """The rows that a run with this roster would issue for."""
    with Destination(place.path, roster=source) as entered:
        return entered.begin(roster(text), validity, overwrite=overwrite)


def start_over(place: Destination) -> None:
    """Start a journal in place of an interrupted run's, and leave it."""
    with place:
        place.open_journal(place.begin(roster(), FIVE_MINUTES, overwrite=True)).close()


def refusal_to_begin(
    place: Destination,
    text: str = DEPOT,
    *,
    source: Path | None = None,
    overwrite: bool = False,
) -> ResultsError:
    """The error with which such a run does not begin; nothing was changed, and there is a hint."""
    before = sorted(place.path.parent.iterdir()) if place.path.parent.is_dir() else None
    with pytest.raises(ResultsError) as caught:
        begin(place, text, source=source, overwrite=overwrite)
    assert caught.value.hint
    assert before is None or sorted(place.path.parent.iterdir()) == before
    return caught.value


# --- before the run: what is in the way


def test_a_free_name_is_fine_and_nothing_is_left_behind(place: Destination) -> None:
    assert [driver.row for driver in begin(place).drivers] == [2, 3]
    assert list(place.path.parent.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_missing_folder_is_refused(tmp_path: Path, overwrite: bool) -> None:
    assert "no folder" in refusal_to_begin(Destination(tmp_path / "missing" / "out.csv"), overwrite=overwrite).message
    (tmp_path / "file").write_text("")
    assert "no folder" in refusal_to_begin(Destination(tmp_path / "file" / "out.csv"), overwrite=overwrite).message


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("suffix", ["", ".partial"])
@pytest.mark.parametrize("target", ["elsewhere.csv", "missing.csv"])
def test_a_symbolic_link_is_refused(place: Destination, overwrite: bool, suffix: str, target: str) -> None:
    elsewhere = place.path.with_name("elsewhere.csv")
    elsewhere.write_text("precious")
    place.path.with_name(place.path.name + suffix).symlink_to(place.path.with_name(target))
    assert "symbolic link" in refusal_to_begin(place, overwrite=overwrite).message
    assert elsewhere.read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_way_is_refused(place: Destination, overwrite: bool) -> None:
    place.path.mkdir()
    assert "not a file" in refusal_to_begin(place, overwrite=overwrite).message


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_the_roster_itself_is_refused_by_whatever_name(place: Destination, overwrite: bool, linked: bool) -> None:
    source = place.path
    source.write_text("Driver ID\n1\n")
    if linked:
        place = Destination(source.with_name("other.csv"))
        place.path.hardlink_to(source)
    assert "the roster itself" in refusal_to_begin(place, overwrite=overwrite, source=source).message
    assert source.read_text() == "Driver ID\n1\n"


def test_a_roster_that_is_not_there_is_not_in_the_way(place: Destination) -> None:
    assert begin(place, source=place.path.with_name("missing.csv")).drivers


def test_results_with_tokens_are_replaced_only_with_overwrite_and_retry_is_suggested(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    refused = refusal_to_begin(place)
    assert "already contains login tokens" in refused.message
    assert f"batch-issuer retry {place.path}" in refused.hint
    assert "--overwrite" in refused.hint
    assert [driver.row for driver in begin(place, overwrite=True).drivers] == [2, 3]


def test_results_without_tokens_may_be_replaced(place: Destination) -> None:
    rows = batch()
    publish(place, rows, *(failed(driver) for driver in rows.drivers))
    assert [driver.row for driver in begin(place).drivers] == [2, 3]


@pytest.mark.parametrize("data", [b"", b"Driver ID\n1\n", b"auth_token\n\n", b"PK\x03\x04", b"\xff\xfe\x00", b'"'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_any_other_file_is_never_replaced(place: Destination, data: bytes, overwrite: bool) -> None:
    place.path.write_bytes(data)
    assert "never replaced" in refusal_to_begin(place, overwrite=overwrite).message
    assert place.path.read_bytes() == data


@pytest.mark.parametrize(
    "name", ["results.xlsm", "results.XLS", "results.ods", "results.ods.partial", "", ".", ".partial"]
)
def test_a_name_that_no_csv_file_can_have_or_that_promises_another_format_is_refused(name: str) -> None:
    with pytest.raises(ResultsError) as caught:
        Destination(Path(name))
    assert caught.value.hint


def test_the_name_of_the_journal_means_the_results(tmp_path: Path) -> None:
    place = Destination(tmp_path / "out.csv.partial")
    assert (place.path, place.partial) == (tmp_path / "out.csv", tmp_path / "out.csv.partial")


@pytest.mark.parametrize("length", [245, 250, 300])
def test_a_name_too_long_for_the_disk_is_refused_before_the_run(tmp_path: Path, length: int) -> None:
    """With 250 characters the results would fit, but not the files beside them."""
    place = Destination(tmp_path / f"{'x' * (length - 4)}.csv")

    def begun() -> None:
        with place:
            place.open_journal(place.begin(roster(), FIVE_MINUTES))

    with pytest.raises(ResultsError):
        begun()
    assert list(tmp_path.iterdir()) == []


# --- before the run: what an earlier one left


def test_the_journal_of_an_interrupted_run_of_the_same_roster_is_resumed(place: Destination) -> None:
    rows = batch()
    before = interrupt(place, rows, issued(rows.drivers[0])).read_bytes()
    resumed = begin(place)
    assert [driver.row for driver in resumed.drivers] == [3]
    assert resumed.outcomes[2] == issued(rows.drivers[0])
    assert place.partial.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "difference"),
    [
        (DEPOT.replace("South", "Sout"), "row 3"),
        (DEPOT.replace("12", "13"), "row 3"),
        (DEPOT + "North,13\n", "5 rows"),
        (DEPOT.replace("Depot", "depot"), "columns"),
    ],
)
def test_a_journal_of_another_roster_is_refused_unless_overwritten(
    place: Destination, text: str, difference: str
) -> None:
    rows = batch()
    before = interrupt(place, rows, issued(rows.drivers[0])).read_bytes()
    refused = refusal_to_begin(place, text)
    assert "had another roster" in refused.message
    assert difference in refused.message
    assert "--overwrite to start over: the journal is kept as depot.results.csv.partial.1" in refused.hint
    assert "batch-issuer retry" in refused.hint
    assert place.partial.read_bytes() == before
    assert [driver.row for driver in begin(place, text, overwrite=True).drivers][:2] == [2, 3]


def test_a_file_in_the_place_of_the_journal_is_refused_or_set_aside(place: Destination) -> None:
    place.partial.write_bytes(b"precious")
    assert "--overwrite" in refusal_to_begin(place).hint
    assert place.partial.read_bytes() == b"precious"
    start_over(place)
    assert place.aside is not None
    assert place.aside.read_bytes() == b"precious"


def test_starting_over_names_the_results_that_it_replaces_as_well(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    place.partial.write_bytes(b"precious")
    hint = refusal_to_begin(place).hint
    assert "start over: depot.results.csv is replaced, and the journal is kept as depot.results.csv.partial.1" in hint


def test_a_journal_that_cannot_be_read_may_be_set_aside_by_retry_only_if_there_are_results(place: Destination) -> None:
    place.partial.write_bytes(b"precious")
    with place, pytest.raises(ResultsError) as caught:
        place.reopen(FIVE_MINUTES)
    assert "--overwrite" not in caught.value.hint
    assert "move depot.results.csv.partial away" in caught.value.hint
    with place, pytest.raises(ResultsError, match="only the journal of an interrupted run"):
        place.reopen(FIVE_MINUTES, overwrite=True)
    assert place.partial.read_bytes() == b"precious"
    rows = batch()
    place.partial.unlink()
    publish(place, rows, issued(rows.drivers[0]))
    place.partial.write_bytes(b"precious")
    with place, pytest.raises(ResultsError) as caught:
        place.reopen(FIVE_MINUTES)
    assert "add --overwrite to use depot.results.csv as it is: the journal is kept as depot" in caught.value.hint
    with place:
        assert [driver.row for driver in place.reopen(FIVE_MINUTES, overwrite=True).drivers] == [3]


def test_a_command_in_a_hint_can_be_copied(tmp_path: Path) -> None:
    place, rows = Destination(tmp_path / "our depot.csv"), batch()
    publish(place, rows, issued(rows.drivers[0]))
    assert f"batch-issuer retry '{place.path}', or" in refusal_to_begin(place).hint


def test_the_journal_of_an_interrupted_run_is_set_aside_under_a_free_name(place: Destination) -> None:
    for number in (1, 2, 3):
        place.partial.write_text(f"run {number}")
        start_over(place)
        assert place.aside == place.partial.with_name(f"{place.partial.name}.{number}")
        place.partial.unlink()
    place.aside = None
    start_over(place)
    assert place.aside is None
    aside = [place.partial.with_name(f"{place.partial.name}.{number}") for number in (1, 2, 3)]
    assert [path.read_text() for path in aside] == ["run 1", "run 2", "run 3"]


def test_results_that_were_edited_after_the_run_was_interrupted_are_not_replaced(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    with place:
        journal_of(place, place.reopen(FIVE_MINUTES))
    place.path.write_bytes(place.path.read_bytes().replace(b"South", b"Harbour"))
    os.utime(place.path, ns=(0, place.partial.stat().st_mtime_ns + 10**9))
    edited = place.path.read_bytes()
    with place, pytest.raises(ResultsError, match="was changed after the interrupted run") as caught:
        place.reopen(FIVE_MINUTES)
    assert f"batch-issuer retry {place.path} --overwrite" in caught.value.hint
    with place:
        assert place.reopen(FIVE_MINUTES, overwrite=True).cells["Depot"].tolist()[1] == "Harbour"
    assert place.path.read_bytes() == edited


def test_results_of_the_sandbox_alone_are_replaced_by_real_ones(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0], "sandbox-1"), failed(rows.drivers[1]))
    assert [driver.row for driver in begin(place).drivers] == [2, 3]
    with pytest.raises(ResultsError, match="already contains login tokens"):
        begin(place, validity=NOT_REAL)  # another sandbox run
    publish(place, rows, issued(rows.drivers[0], "sandbox-1"), issued(rows.drivers[1], TOKEN))
    assert "already contains login tokens" in refusal_to_begin(place).message


@pytest.mark.parametrize("text", [DEPOT, DEPOT.replace("12", "13"), DEPOT + "North,13\n"])
def test_a_journal_of_the_sandbox_alone_is_replaced_by_a_real_one(place: Destination, text: str) -> None:
    """Whatever the roster is now; nothing of the sandbox is kept."""
    rows = batch()
    interrupt(place, rows, issued(rows.drivers[0], "sandbox-1"))
    with place:
        begun = place.begin(roster(text), FIVE_MINUTES)
        assert not place.resumes
        assert [driver.row for driver in begun.drivers][:2] == [2, 3]
        place.open_journal(begun).close()
    assert place.aside is None
    assert [path.name for path in place.path.parent.iterdir()] == [place.partial.name]
    assert b"sandbox-1" not in place.partial.read_bytes()


def test_a_journal_of_the_sandbox_is_resumed_by_another_sandbox_run(place: Destination) -> None:
    rows = batch()
    interrupt(place, rows, issued(rows.drivers[0], "sandbox-1"))
    assert [driver.row for driver in begin(place, validity=NOT_REAL).drivers] == [3]


def test_a_journal_with_one_real_token_is_resumed(place: Destination) -> None:
    rows = batch()
    interrupt(place, rows, issued(rows.drivers[0], "sandbox-1"), issued(rows.drivers[1], TOKEN))
    assert [driver.row for driver in begin(place).drivers] == [2]
    assert "had another roster" in refusal_to_begin(place, DEPOT + "North,13\n").message


def test_a_journal_of_the_sandbox_does_not_hide_real_results(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0], TOKEN))
    interrupt(place, rows, issued(rows.drivers[0], "sandbox-1"))
    assert "already contains login tokens" in refusal_to_begin(place).message


@pytest.mark.parametrize("name", ["results.pdf", "results.dat", "results", "results.", "results.csv.bak"])
def test_a_new_results_file_needs_a_known_ending_and_an_old_one_can_be_finished(tmp_path: Path, name: str) -> None:
    """An earlier version wrote CSV under any name."""
    place = Destination(tmp_path / name)
    assert "use a name that ends in .csv, .tsv, .txt or .xlsx" in refusal_to_begin(place).hint
    publish(place, batch(), issued(batch().drivers[0]))
    with place:
        rows = place.reopen(FIVE_MINUTES)
        assert [driver.row for driver in rows.drivers] == [3]
        place.publish(rows, rows.outcomes | {3: issued(rows.drivers[0], TOKEN[::-1])})
    assert [line["auth_status"] for line in lines(place.path)][:2] == ["issued", "issued"]


@pytest.mark.parametrize("name", ["results.CSV", "results.tsv", "results.Txt", "results.xlsx"])
def test_known_endings_are_accepted_in_any_case(tmp_path: Path, name: str) -> None:
    assert begin(Destination(tmp_path / name)).drivers


@pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")
def test_missing_folders_are_created_private_when_wanted(tmp_path: Path) -> None:
    path = tmp_path / "results" / "tonight" / "out.csv"
    with Destination(path, creates_folder=True):
        assert mode(path.parent) == mode(path.parent.parent) == 0o700
    with Destination(path, creates_folder=True):
        pass
    assert mode(tmp_path) == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError), Destination(tmp_path / "file" / "out.csv", creates_folder=True):
        pass


def test_results_that_were_only_touched_since_are_no_obstacle(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    with place:
        journal_of(place, place.reopen(FIVE_MINUTES), issued(rows.drivers[1], TOKEN[::-1]))
    os.utime(place.path, ns=(0, place.partial.stat().st_mtime_ns + 10**9))
    with place:
        assert place.reopen(FIVE_MINUTES).drivers == []


def test_another_live_run_keeps_all_others_away(place: Destination) -> None:
    """The second one names the first, and touches none of its files."""
    with place:
        journal = place.open_journal(batch())
        before = {path: path.read_bytes() for path in place.path.parent.iterdir()}
        with pytest.raises(ResultsError, match=f"another run .*process {os.getpid()}"), Destination(place.path):
            pass
        assert {path: path.read_bytes() for path in place.path.parent.iterdir()} == before
        journal.close()
    with Destination(place.path):
        pass


def test_another_live_process_keeps_all_others_away_until_it_is_killed(place: Destination) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from batch_issuer.results import Batch, Destination; from batch_issuer.roster import Roster\n"
        "place = Destination(Path(sys.argv[1])).__enter__()\n"
        "place.open_journal(Batch.of_roster(Roster.from_bytes(b'id\\n1\\n', 'depot.csv')))\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    with PythonProcess("-c", script, place.path) as other:
        assert other.line() == "open"
        with pytest.raises(ResultsError, match=f"another run .*process {other.pid}"), place:
            pass
        other.kill()
    start_over(place)
    assert place.aside is not None
    assert [line["auth_status"] for line in lines(place.aside)] == ["not_attempted"]


# --- publishing


def test_the_results_hold_the_roster_in_order_and_then_the_outcomes(place: Destination) -> None:
    rows = batch('Depot,Driver ID,"Note, old"\nNorth,11,"a ""b""\n=1"\n,,\nSouth,12,=1+1\nEast,x,007\n')
    first, second = rows.drivers
    with place:
        journal_of(place, rows)
        place.publish(rows, rows.outcomes | {4: failed(second, "=HTTP 404", "@r"), 2: issued(first)})
    assert list(place.path.parent.iterdir()) == [place.path]  # no .partial, no .writing, no .lock
    assert place.path.read_bytes().startswith(BOM + b"Depot,")
    found = lines(place.path)
    assert list(found[0]) == ["Depot", "Driver ID", "Note, old", *AUTH_COLUMNS]
    assert [line["auth_status"] for line in found] == ["issued", "invalid", "failed", "invalid"]
    assert [line["Note, old"] for line in found] == ['a "b"\n=1', "", "'=1+1", "007"]
    assert (found[2]["auth_error"], found[2]["auth_request_id"]) == ("'=HTTP 404", "'@r")
    back = read_results(place.path).frame
    assert (back["auth_error"][2], back["auth_request_id"][2]) == ("=HTTP 404", "@r")


def test_the_number_of_cells_with_an_apostrophe_is_reported(place: Destination) -> None:
    assert publish(place, batch("Driver ID,=a,b\n1,=1,+1\n2,'=1,@x\n")) == (place.path, 4)


def test_a_column_name_that_would_run_gets_an_apostrophe(place: Destination) -> None:
    publish(place, batch("Driver ID,=a,'=b\n1,x,y\n"))
    assert list(lines(place.path)[0])[:3] == ["Driver ID", "'=a", "''=b"]


def test_columns_of_one_name_keep_their_cells(place: Destination) -> None:
    publish(place, batch("Note,Driver ID,Note\na,1,b\n"))
    assert place.path.read_bytes()[3:].decode().splitlines()[1].startswith("a,1,b,not_attempted,")


@pytest.mark.parametrize(
    "secret", ["=cmd", "-a-b_c", "+x", "@x", "'=x", "\tx", "007", "1e5", "NA", 'a"b,c', "x" * 5000]
)
def test_tokens_and_codes_stay_byte_exact(place: Destination, secret: str) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0], token=secret, code=secret))
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
    rows = Batch.of_roster(Roster.from_frame(pd.DataFrame(table, columns=pd.Index(header, dtype=object), dtype=object)))
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
        publish(place, rows, *outcomes.values())
        frame = read_results(place.path).frame
    assert list(frame.columns) == [*header, *AUTH_COLUMNS]
    cells = frame.to_numpy().tolist()
    assert [line[: len(header)] for line in cells] == table
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
    rows = Batch.of_roster(Roster.from_frame(pd.DataFrame([["x", "1"]], columns=[name, "Driver ID"])))
    publish(place, rows, issued(rows.drivers[0]))
    assert count_statuses(read_results(place.path)) == {"issued": 1}


@pytest.mark.parametrize("cell", ["a\0b", "a\ud800b", "x" * 200_000], ids=["NUL", "lone surrogate", "very long"])
def test_what_no_results_file_can_hold_is_refused_before_the_run(place: Destination, cell: str) -> None:
    """Else a run would end in the middle, or with tokens in a file that this tool cannot read."""
    try:
        rows = Batch.of_roster(Roster.from_frame(pd.DataFrame({"Driver ID": ["1"], "Note": [cell]})))
    except RosterError:
        return
    interrupt(place, rows)
    publish(place, rows, issued(rows.drivers[0]))
    assert read_results(place.path).frame["Note"].tolist() == [cell]


def test_tokens_sit_on_their_rows_whatever_the_index_of_the_table(place: Destination) -> None:
    """A table that was filtered or sorted keeps its old row labels."""
    table = pd.DataFrame({"Driver ID": ["11", "12"]}, index=[7, 0], dtype=object)
    for rows in map(Batch.of_roster, (Roster.from_frame(table), Roster(table, "depot.csv"))):
        publish(place, rows, *(issued(driver, token=f"for-{driver.identifier.value}") for driver in rows.drivers))
        found = [(line["Driver ID"], line["auth_token"]) for line in lines(place.path)]
        assert found == [("11", "for-11"), ("12", "for-12")]


def test_a_password_of_the_roster_is_in_no_file(place: Destination) -> None:
    rows = batch("Driver ID,Password\n1,hunter2\n2,hunter2\n")
    assert b"hunter2" not in interrupt(place, rows).read_bytes()
    publish(place, rows)
    assert b"hunter2" not in place.path.read_bytes()


def test_publishing_an_outcome_of_another_driver_leaves_everything_as_it_was(place: Destination) -> None:
    rows = batch()
    publish(place, rows)
    old = place.path.read_bytes()
    with place:
        journal_of(place, rows)
        with pytest.raises(StorageError):
            place.publish(rows, rows.outcomes | {3: replace(issued(rows.drivers[0]), row=3)})
    assert place.path.read_bytes() == old
    assert sorted(place.path.parent.iterdir()) == [place.path, place.partial]


# --- publishing, when the disk fails


def all_issued(rows: Batch) -> dict[int, Outcome]:
    return rows.outcomes | {driver.row: issued(driver) for driver in rows.drivers}


def test_when_the_disk_is_full_the_old_results_and_the_journal_stay(place: Destination) -> None:
    place.path.write_bytes(b"old results")
    rows = batch()
    with place:
        journal_of(place, rows, *all_issued(rows).values())
        journal = place.partial.read_bytes()
        with files_up_to(100), pytest.raises(StorageError) as caught:
            place.publish(rows, all_issued(rows))
        assert TOKEN not in caught.value.message + caught.value.hint
        assert place.path.read_bytes() == b"old results"
        assert place.partial.read_bytes() == journal
        place.publish(rows, all_issued(rows))  # with room again
    assert list(place.path.parent.iterdir()) == [place.path]
    assert [line["auth_token"] for line in lines(place.path)] == [TOKEN, TOKEN, "", ""]


def test_room_for_the_results_is_kept_from_the_beginning_and_given_back(place: Destination) -> None:
    """What a disk that fills up meanwhile cannot take away; nothing of it is in the results."""
    rows = batch(f"Driver ID,Note\n11,{'x' * 5000}\n12,\n")
    with place:
        journal_of(place, rows)
        room = place.path.with_name(f"{place.path.name}.writing").stat().st_size
        place.publish(rows, all_issued(rows))
    assert room > place.path.stat().st_size
    assert b"\0" not in place.path.read_bytes()


def test_a_folder_that_came_in_the_way_does_not_cost_the_results(place: Destination) -> None:
    rows = batch()
    with place:
        journal_of(place, rows, *all_issued(rows).values())
        place.path.mkdir()
        path, _ = place.publish(rows, all_issued(rows))
    assert path == place.path.with_name("depot.results.1.csv")
    assert sorted(place.path.parent.iterdir()) == [path, place.path]
    assert mode(path) == 0o600
    assert [line["auth_token"] for line in lines(path)] == [all_issued(rows)[row].token for row in rows.row_numbers()]


def test_results_that_somebody_saves_during_the_run_are_not_replaced(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    with place:
        again = place.reopen(FIVE_MINUTES)
        journal_of(place, again)
        place.path.write_bytes(place.path.read_bytes().replace(b"South", b"Harbour"))
        path, _ = place.publish(again, all_issued(rows))
    assert path == place.path.with_name("depot.results.1.csv")
    assert b"Harbour" in place.path.read_bytes()
    assert b"Harbour" not in path.read_bytes()


@pytest.mark.parametrize("name", [".partial", ".writing", ".partial.writing", ".lock"])
def test_a_roster_with_a_name_that_the_run_needs_is_refused(place: Destination, name: str) -> None:
    roster_path = place.path.with_name(f"{place.path.name}{name}")
    with pytest.raises(ResultsError, match="the run needs the name of the roster"):
        Destination(place.path, roster=roster_path)


def test_an_old_file_that_was_put_back_is_not_replaced_by_the_journal_of_a_later_run(place: Destination) -> None:
    """Its time of change may be years back."""
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    backup = place.path.rename(place.path.with_name("backup.csv"))
    with place:
        journal_of(place, batch("Driver ID\n99\n"))
    backup.rename(place.path)
    with pytest.raises(ResultsError, match="was changed after the interrupted run"), place:
        place.reopen(FIVE_MINUTES)


def test_purge_of_a_file_that_cannot_be_replaced_reports_that_nothing_was_blanked(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    before = place.path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with place, pytest.raises(StorageError, match="nothing was blanked"):
        place.purge(AT + timedelta(hours=1))
    assert place.path.read_bytes() == before
    assert list(place.path.parent.iterdir()) == [place.path]


def test_a_folder_that_went_away_is_a_storage_error(place: Destination) -> None:
    rows, folder = batch(), place.path.parent
    with place:
        journal_of(place, rows, *all_issued(rows).values())
        folder.rename(folder.with_name(f"{folder.name}-moved"))
        with pytest.raises(StorageError, match="cannot write"):
            place.publish(rows, all_issued(rows))
    assert (folder.with_name(f"{folder.name}-moved") / place.partial.name).exists()


@pytest.mark.parametrize("suffix", [".writing", ".partial.writing"])
@pytest.mark.parametrize("link", [False, True])
def test_what_a_killed_run_left_half_written_is_no_obstacle(place: Destination, suffix: str, link: bool) -> None:
    rows = batch()
    stale = place.path.with_name(place.path.name + suffix)
    elsewhere = place.path.parent.with_name("elsewhere")
    elsewhere.write_text("precious")
    if link:
        stale.symlink_to(elsewhere)
    else:
        stale.write_text("half a fi")
    with place:
        journal_of(place, rows)
        place.publish(rows, all_issued(rows))
    assert list(place.path.parent.iterdir()) == [place.path]
    assert not place.path.is_symlink()
    assert len(lines(place.path)) == 4
    assert elsewhere.read_text() == "precious"


def test_a_reader_of_the_old_results_keeps_them_whole(place: Destination) -> None:
    """The new file takes the name in one step; the old one is never written to."""
    place.path.write_bytes(b"old results")
    with place.path.open("rb") as reader:
        publish(place, batch())
        assert reader.read() == b"old results"


def test_the_results_are_on_the_disk_before_they_take_their_name(
    place: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut may leave the name with nothing behind it."""
    calls: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    publish(place, batch())
    assert calls == ["file", "rename", "folder"]


# --- purging


def test_purging_blanks_what_has_expired_with_its_code_and_changes_no_other_byte(place: Destination) -> None:
    """Quotes, line ends, formulas, columns of one name and blanks stay as they were written."""
    rows = batch('Note,Driver ID,Note\n"a ""b""\n=1",11,=1\n,12,\n007,13,\'=1\n"x,y",x,z\n')
    first, second, third = rows.drivers
    late, early = AT + timedelta(seconds=1), AT
    publish(
        place,
        rows,
        issued(first, "tokenA", "codeA" + CODE, early),
        issued(second, "tokenB", "codeB" + CODE, late),
        issued(third, "tokenC", "codeC" + CODE, early),
    )
    expected = place.path.read_bytes()
    for secret in ("tokenA", "codeA" + CODE, "tokenC", "codeC" + CODE):
        assert expected.count(secret.encode()) == 1
        expected = expected.replace(secret.encode(), b"")
    with place:
        assert place.purge(AT) == (2, 0)
    assert place.path.read_bytes() == expected
    assert mode(place.path) == 0o600
    assert list(place.path.parent.iterdir()) == [place.path]


def test_purging_where_nothing_has_expired_leaves_the_file_alone(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    before = place.path.stat()
    with place:
        assert place.purge(AT) == (0, 0)
    after = place.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_purging_when_the_disk_is_full_leaves_the_file_as_it_was(place: Destination) -> None:
    rows = batch()
    publish(place, rows, issued(rows.drivers[0]))
    before = place.path.read_bytes()
    with place, files_up_to(100), pytest.raises(StorageError, match="cannot write"):
        place.purge(AT + timedelta(hours=1))
    assert place.path.read_bytes() == before
    assert list(place.path.parent.iterdir()) == [place.path]
