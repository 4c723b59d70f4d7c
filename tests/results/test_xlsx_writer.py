"""Results as a workbook: every cell text and as it was, as durable and private as the CSV, and finished like it."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rosters import (
    AT,
    CELLS,
    DEPOT,
    FIVE_MINUTES,
    NAMES,
    TOKEN,
    batch,
    failed,
    files_up_to,
    interrupted_run,
    issued,
    lines,
    mode,
    publish,
    roster,
    umask,
)
from support.sandbox import run_command

from batch_issuer.cli import main
from batch_issuer.errors import ResultsError, StorageError
from batch_issuer.model import Outcome, Status
from batch_issuer.results import AUTH_COLUMNS, Batch, Destination, read_results
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from batch_issuer.sandbox import Sandbox


def sheet_of(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read("xl/worksheets/sheet1.xml").decode()


def resaved(path: Path, changes: dict[tuple[int, str], str], *, other_sheet: bool = False) -> None:
    """Save it as a user would after changing cells, by row and column."""
    frame = read_results(path).frame
    for (row, column), cell in changes.items():
        frame.loc[row - 2, column] = cell
    path.unlink()
    with xlsxwriter.Workbook(path, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Results")
        for y, cells in enumerate([list(frame.columns), *frame.to_numpy().tolist()]):
            for x, cell in enumerate(cells):
                sheet.write_string(y, x, cell)
        if other_sheet:
            book.add_worksheet("Mine").write_string(0, 0, "my notes")


# --- what is in it


@given(
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=4),
    st.data(),
)
@settings(max_examples=60)
def test_any_results_read_back_as_published(names: list[str], table: list[list[str]], data: st.DataObject) -> None:
    header = ["Driver ID", *names]
    text = io.StringIO(newline="")
    body = [[str(n), *cells[: len(names)]] for n, cells in enumerate(table, 11)]
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header, *body])
    rows = Batch.of_roster(Roster.from_bytes(b"\xef\xbb\xbf" + text.getvalue().encode(), "depot.csv"))
    outcomes = {
        driver.row: issued(driver, data.draw(CELLS.filter(bool)), data.draw(CELLS))
        if data.draw(st.booleans())
        else failed(driver, data.draw(CELLS))
        for driver in rows.drivers
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "depot.results.xlsx")
        published = publish(Destination(path), rows, *outcomes.values())
        found = read_results(path)
    assert published.guarded_cells == 0
    assert found.cells.to_numpy().tolist() == body
    assert list(found.cells.columns) == header
    for row, *output in zip(found.rows, *(found.frame[name] for name in ("auth_token", "auth_error")), strict=True):
        outcome = outcomes[row]
        assert output == [outcome.token, outcome.error]


def test_every_cell_is_text_or_blank_and_the_header_stays_in_view(tmp_path: Path) -> None:
    path = tmp_path / "depot.results.xlsx"
    publish(Destination(path), batch("Driver ID,Note\n11,=1+1\n12,-x\n13,1\n14,\n"))
    sheet = sheet_of(path)
    assert set(re.findall(r'<c r="\w+" s="\d+"(?: t="(\w+)"|/)', sheet)) == {"s", ""}
    assert "<f" not in sheet
    assert '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>' in sheet
    assert read_results(path).frame["Note"].tolist() == ["=1+1", "-x", "1", ""]


def test_rows_without_a_token_are_tinted_by_status(tmp_path: Path) -> None:
    path = tmp_path / "depot.results.xlsx"
    rows = batch(DEPOT)
    publish(Destination(path), rows, issued(rows.drivers[0]), failed(rows.drivers[1]))
    sheet = sheet_of(path)
    styles = [set(re.findall(rf'<c r="[A-Z]+{row}" s="(\d+)"', sheet)) for row in range(2, 6)]
    assert all(len(style) == 1 for style in styles)  # of rows 2 to 5: issued, failed, invalid, duplicate
    with_token, without, wrong, twice = styles
    assert without == wrong
    assert len({*map(frozenset, styles)}) == 3
    assert with_token not in (without, twice)


# --- private, durable, in one step


def test_it_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "depot.results.xlsx"
    with umask(0):
        publish(Destination(path), batch())
    assert mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_no_token_is_ever_in_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a temporary file")

    for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    rows = batch()
    publish(Destination(tmp_path / "depot.results.xlsx"), rows, issued(rows.drivers[0]))


def test_the_journal_of_a_workbook_is_csv_and_can_be_resumed(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(DEPOT)
    place = Destination(tmp_path / "depot.results.xlsx")
    kept = interrupted_run(place, roster())
    assert [line["auth_row"] for line in lines(place.partial)][:4] == ["2", "3", "4", "5"]
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "-o", place.path) == 1
    assert "Resuming the run that left" in capsys.readouterr().err
    frame = read_results(place.path).frame
    assert frame["auth_token"].tolist()[0] == kept.token
    assert frame["auth_status"].tolist() == ["issued", "issued", "invalid", "duplicate"]
    assert len(sandbox.ledger) == 1
    assert not place.partial.exists()


def test_a_disk_that_fills_up_during_writing_loses_nothing(tmp_path: Path) -> None:
    """The journal contains everything until the workbook is complete."""
    rows = batch("Driver ID,Note\n" + "".join(f"{n},{os.urandom(40).hex()}\n" for n in range(11, 200)))
    place = Destination(tmp_path / "depot.results.xlsx")
    with place:
        journal = place.open_journal(rows)
        outcomes = [issued(driver, f"{TOKEN}{driver.row}") for driver in rows.drivers]
        journal.record(*outcomes)
        journal.close()
        place._replacement.give_up()  # no room was reserved
        with files_up_to(2000), pytest.raises(StorageError):
            place.publish(rows, {outcome.row: outcome for outcome in outcomes})
    assert not place.path.exists()
    assert read_results(place.partial).frame["auth_token"].tolist() == [outcome.token for outcome in outcomes]
    with place:
        place.publish(place.reopen(FIVE_MINUTES), {outcome.row: outcome for outcome in outcomes})
    assert read_results(place.path).frame["auth_token"].tolist() == [outcome.token for outcome in outcomes]


# --- finished and refreshed like a CSV


def test_retry_keeps_tokens_and_finishes_the_rest(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID,Depot\n11,North\n281474404404,South\nx,East\n")
    path = tmp_path / "depot.results.xlsx"
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "-o", path) == 1
    before = read_results(path).frame
    assert before["auth_status"].tolist() == ["issued", "failed", "invalid"]
    resaved(path, {(3, "Driver ID"): "12", (3, "auth_identifier"): "", (4, "Driver ID"): "13"})
    assert run_command(sandbox, "retry", path) == 0
    after = read_results(path).frame
    assert after["auth_status"].tolist() == ["issued"] * 3
    assert after["auth_identifier"].tolist() == ["driverId=11", "driverId=12", "driverId=13"]
    assert after["auth_token"][0] == before["auth_token"][0]
    assert [entry.identifier for entry in sandbox.ledger if entry.token] == list(after["auth_identifier"])
    assert mode(path) == 0o600
    assert run_command(sandbox, "retry", path) == 0
    assert len(sandbox.ledger) == 4


def test_status_and_purge_work_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "depot.results.xlsx"
    rows = batch(DEPOT)
    now = datetime.now(UTC)
    publish(
        Destination(path),
        rows,
        issued(rows.drivers[0], "expired", expires_at=now - timedelta(minutes=1)),
        issued(rows.drivers[1], "valid", expires_at=now + timedelta(minutes=9)),
    )
    assert main(["status", str(path)]) == 1
    assert "1 login token valid now, 1 expired" in capsys.readouterr().out
    assert main(["purge", str(path)]) == 0
    assert read_results(path).frame["auth_token"].tolist() == ["", "valid", "", ""]


@pytest.mark.parametrize("command", ["retry", "purge", "issue"])
def test_a_workbook_with_other_sheets_is_refused(
    command: str, tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would be lost: exit code 2, nothing is sent or changed."""
    (tmp_path / "depot.csv").write_text(DEPOT)
    path = tmp_path / "depot.results.xlsx"
    publish(Destination(path), batch())
    resaved(path, {}, other_sheet=True)
    before = path.read_bytes()
    arguments: list[object] = [command, path]
    if command == "issue":
        arguments = [command, tmp_path / "depot.csv", "-o", path, "--overwrite"]
    code = main(["purge", str(path)]) if command == "purge" else run_command(sandbox, *arguments)
    assert code == 2
    assert "has other sheets, which would be lost: 'Mine'" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert sandbox.ledger == []


# --- refused before anything is sent


def test_without_the_package_writing_is_refused_with_the_install_command(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(DEPOT)
    monkeypatch.setattr("batch_issuer.results.xlsx_writer.find_spec", lambda _: None)
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "-o", tmp_path / "out.xlsx") == 2
    output = capsys.readouterr().err
    assert "the package for writing Excel workbooks is not installed" in output
    assert "pip install XlsxWriter" in output
    assert sandbox.ledger == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["depot.csv"]


def test_without_the_package_it_can_still_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "depot.results.xlsx"
    publish(Destination(path), batch())
    monkeypatch.setattr("batch_issuer.results.xlsx_writer.find_spec", lambda _: None)
    assert main(["status", str(path)]) == 1
    assert "4 rows: 1 invalid, 1 duplicate, 2 not attempted." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"Driver ID,Note\n11,\n12,{'x' * 32768}\n", "row 3, column 'Note': longer than 32767"),
        (f"Driver ID,Note\n11,{chr(0x1F69A) * 16384}\n", "row 2, column 'Note': longer than 32767"),
        (f"Driver ID,{'x' * 32768}\n11,\n", "row 1, column"),
        ("Driver ID" + "," * 16380 + "\n11" + "," * 16380 + "\n", "do not fit an Excel sheet"),
    ],
    ids=["a long cell", "a long cell of pairs", "a long name", "many columns"],
)
def test_a_table_that_does_not_fit_a_sheet_is_refused_before_the_first_request(
    text: str, message: str, tmp_path: Path
) -> None:
    place = Destination(tmp_path / "depot.results.xlsx")
    with place, pytest.raises(ResultsError) as caught:
        place.open_journal(batch(text))
    assert message in caught.value.message
    assert ".csv" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_longest_cell_is_written(tmp_path: Path) -> None:
    path = tmp_path / "depot.results.xlsx"
    rows = batch(f"Driver ID,Note\n11,{'x' * 32767}\n")
    with Destination(path) as place:
        place.open_journal(rows).close()
        place.publish(rows, rows.outcomes)
    assert read_results(path).frame["Note"][0] == "x" * 32767


def test_a_token_that_does_not_fit_a_cell_is_never_truncated(tmp_path: Path) -> None:
    path = tmp_path / "depot.results.xlsx"
    rows = batch("Driver ID\n11\n")
    with Destination(path) as place, pytest.raises(StorageError):
        place.publish(rows, {2: issued(rows.drivers[0], "x" * 40_000)})
    assert not path.exists()


def test_the_columns_are_those_of_the_csv_in_the_same_order(tmp_path: Path) -> None:
    rows = batch()
    outcome = Outcome(2, Status.NOT_ATTEMPTED, rows.drivers[0].identifier)
    for suffix in ("csv", "xlsx"):
        publish(Destination(tmp_path / f"depot.{suffix}"), rows, outcome)
    written = [read_results(tmp_path / f"depot.{suffix}").frame for suffix in ("csv", "xlsx")]
    assert written[0].equals(written[1])
    assert list(written[1].columns)[-len(AUTH_COLUMNS) :] == list(AUTH_COLUMNS)
    assert AT.tzinfo is UTC
