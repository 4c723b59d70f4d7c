"""What a real spreadsheet program makes of the results: nothing is run, and in the workbook nothing is changed."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support import libreoffice
from support.programs import needed
from support.rosters import AT, FIVE_MINUTES, failed, issued, publish

from batch_issuer.results import Batch, Destination, read_results
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.results import Published

ROSTER = [
    ["Driver ID", "Number", "Note"],
    ["2814749770758051", "007", "=1+1"],
    ["9223372036854775807", "000", "@SUM(A1:A2)"],
    ["281474977075807", "1E5", "-2+3"],
    ["281474977075808", "12/24", '+cmd|" /C calc"!A0'],
    ["281474977075809", "TRUE", "Zürich, \"North\"; 'x'\nsecond line"],
]
TOKENS = ["-1abcDEF", "=token", "+1", "0123456789012345678", "ZmFrZS10b2tlbg"]

AS_SHOWN = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false"
PLAINLY = "Text - txt - csv (StarCalc):44,34,76,1"  # explicit, because headless LibreOffice assumes Windows-1252
AS_TEXT = f"{PLAINLY},{'/'.join(f'{column}/2' for column in range(1, 15))}"
AS_FORMULAS = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,true"


def cells(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def published(path: Path) -> Published:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(ROSTER)
    rows = Batch.of_roster(Roster.from_bytes(text.getvalue().encode(), "depot.csv"))
    outcomes = [issued(driver, token) for driver, token in zip(rows.drivers, TOKENS, strict=True)]
    outcomes[-1] = failed(rows.drivers[-1], error="=HYPERLINK(1)", request_id="@r")
    return publish(Destination(path), rows, *outcomes)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The results in both formats, and what LibreOffice makes of them: as shown, as formulas, and saved again."""
    needed("soffice")
    folder = tmp_path_factory.mktemp("libreoffice")
    found = {}
    for suffix in ("csv", "xlsx"):
        path = published(folder / f"depot.{suffix}").path
        found[suffix] = path
        found[f"{suffix} shown"] = libreoffice.convert(path, AS_SHOWN, folder / f"{suffix}-shown")
    found["xlsx formulas"] = libreoffice.convert(found["xlsx"], AS_FORMULAS, folder / "xlsx-formulas")
    found["csv formulas"] = libreoffice.convert(found["csv"], AS_FORMULAS, folder / "csv-formulas")
    found["csv as text"] = libreoffice.convert(found["csv"], AS_SHOWN, folder / "csv-as-text", opened_as=AS_TEXT)
    found["csv saved"] = libreoffice.convert(found["csv"], AS_SHOWN, folder / "csv-saved", opened_as=PLAINLY)
    found["xlsx flat"] = libreoffice.convert(found["xlsx"], "fods", folder / "xlsx-flat")
    found["xlsx saved"] = libreoffice.convert(found["xlsx"], "xlsx", folder / "xlsx-saved")
    return found


def test_the_workbook_shows_every_cell_as_it_is(opened: dict[str, Path]) -> None:
    """Tokens, 16-digit IDs and leading zeros are intact, and no cell is evaluated."""
    shown, frame = cells(opened["xlsx shown"]), read_results(opened["xlsx"]).frame
    assert shown == [list(frame.columns), *frame.to_numpy().tolist()]
    assert [row[:3] for row in shown] == ROSTER
    assert frame["auth_token"].tolist() == [*TOKENS[:-1], ""]
    assert cells(opened["xlsx formulas"]) == shown


def test_every_cell_of_the_workbook_is_text_to_libreoffice(opened: dict[str, Path]) -> None:
    """Saved again, all its cells are strings, none is a formula."""
    with zipfile.ZipFile(opened["xlsx saved"]) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    kinds = re.findall(r'<c r="\w+" s="\d+" t="(\w+)">', sheet)
    assert len(kinds) >= len(ROSTER) * 4
    assert set(kinds) == {"s"}
    assert "<f" not in sheet


def test_the_header_stays_in_view_and_rows_without_a_token_are_tinted(opened: dict[str, Path]) -> None:
    """The tints as LibreOffice reads them; headless, it has no view and so no frozen pane."""
    with zipfile.ZipFile(opened["xlsx"]) as archive:
        assert re.search(r'<pane [^>]*ySplit="1"[^>]*state="frozen"', archive.read("xl/worksheets/sheet1.xml").decode())
    with zipfile.ZipFile(opened["xlsx saved"]) as archive:
        sheet, styles = (archive.read(f"xl/{part}.xml").decode() for part in ("worksheets/sheet1", "styles"))
    fills = re.findall(r"<fill>.*?</fill>", styles)
    looks = re.findall(r'<xf [^>]*fillId="(\d+)"', styles[styles.index("<cellXfs") :])

    def tint(row: int) -> set[str]:
        (found,) = re.findall(rf'<row r="{row}".*?</row>', sheet)
        return {fills[int(looks[int(style)])] for style in re.findall(r'<c r="\w+" s="(\d+)"', found)}

    plain, red = tint(2), tint(len(ROSTER))
    assert tint(3) == plain
    assert len(red) == 1
    assert "FFC7CE" in next(iter(red))
    assert red != plain


def test_no_cell_of_the_csv_is_evaluated(opened: dict[str, Path]) -> None:
    """Cells that start like a formula are shown with their apostrophe, except tokens, which stay exact."""
    shown, formulas = cells(opened["csv shown"]), cells(opened["csv formulas"])
    column = {name: position for position, name in enumerate(shown[0])}
    exact = column["auth_token"]
    for row, kept in zip(shown, formulas, strict=True):
        for position, (cell, formula) in enumerate(zip(row, kept, strict=True)):
            if position != exact:
                assert cell == formula or not formula.startswith("=")
    assert [row[column["Note"]] for row in shown[1:4]] == ["'=1+1", "'@SUM(A1:A2)", "'-2+3"]


def test_a_csv_opened_plainly_loses_zeros_and_digits_as_the_manual_warns(opened: dict[str, Path]) -> None:
    """So it is to be imported as text, or the workbook opened instead."""
    (_, first, second, *_) = cells(opened["csv shown"])
    assert first[1] == "7"
    assert second[0] != "9223372036854775807"


def test_files_saved_by_libreoffice_are_reopened_with_the_same_tokens(opened: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "depot.xlsx"
    file.write_bytes(opened["xlsx saved"].read_bytes())
    assert read_results(file).frame.equals(read_results(opened["xlsx"]).frame)
    with Destination(file) as destination:
        batch = destination.reopen(replace(FIVE_MINUTES, now=AT))
        assert [outcome.token for outcome in batch.outcomes.values()] == [*TOKENS[:-1], ""]
        assert [driver.row for driver in batch.drivers] == [len(ROSTER)]


def test_every_cell_of_the_workbook_is_a_string_in_open_document_too(opened: dict[str, Path]) -> None:
    document = opened["xlsx flat"].read_text()
    assert set(re.findall(r'office:value-type="(\w+)"', document)) == {"string"}
    assert "table:formula" not in document


def test_a_csv_imported_as_text_is_shown_and_reopened_as_it_is(opened: dict[str, Path], tmp_path: Path) -> None:
    """As the manual advises: zeros, digits and tokens are intact, also after it was saved again."""
    assert cells(opened["csv as text"]) == cells(opened["csv"])
    file = tmp_path / "depot.csv"
    file.write_bytes(opened["csv as text"].read_bytes())
    with Destination(file) as destination:
        batch = destination.reopen(replace(FIVE_MINUTES, now=AT))
        assert [outcome.token for outcome in batch.outcomes.values()] == [*TOKENS[:-1], ""]


def test_a_csv_opened_with_the_defaults_and_saved_never_keeps_a_changed_token(
    opened: dict[str, Path], tmp_path: Path
) -> None:
    """Tokens that became ``#NAME?`` or a rounded number are requested again; intact ones are kept."""
    file = tmp_path / "depot.csv"
    file.write_bytes(opened["csv saved"].read_bytes())
    with Destination(file) as destination:
        batch = destination.reopen(replace(FIVE_MINUTES, now=AT))
        tokens = {row: outcome.token for row, outcome in batch.outcomes.items()}
        assert tokens[2] == TOKENS[0]
        assert (tokens[3], tokens[5]) == ("", "")
        assert {3, 5, 6} <= {driver.row for driver in batch.drivers}
