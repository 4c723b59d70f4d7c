"""A cell identifies exactly its driver, in any form that a program gives it, or none; never another one."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_issuer.hints import Hint
from batch_issuer.model import Identifier, IdentifierKind
from batch_issuer.roster import Column, Problem, identifiers, named
from batch_issuer.roster.identifiers import EXACT_FLOAT, MAX_INT64, CellPattern, warning_about
from batch_issuer.roster.naming import read_column

DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME
KINDS = st.sampled_from(IdentifierKind)

# What identifiers are made of, and what programs and people put between.
CELLS = st.text(
    st.one_of(
        st.sampled_from("0123456789.,'+-eE:;| \t\n\r\"=@#_"),
        st.sampled_from("\u00a0\u200b\u200f\u202f\ufeff\u2019\uff11\u0663\u00b2abkAB"),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=20,
).filter(str.strip)

FORMS = {
    "with commas": lambda n: f"{n:,}",
    "with points": lambda n: f"{n:,}".replace(",", "."),
    "with apostrophes": lambda n: f"{n:,}".replace(",", "\u2019"),
    "with spaces": lambda n: f"{n:,}".replace(",", " "),
    "with narrow spaces": lambda n: f"{n:,}".replace(",", "\u202f"),
    "with commas and decimals": lambda n: f"{n:,}.00",
    "with points and decimals": lambda n: f"{n:,}".replace(",", ".") + ",00",
    "as a float": lambda n: f"{n}.0",
    "with a sign": lambda n: f"+{n}",
    "full-width": lambda n: "".join(chr(ord(digit) + 0xFEE0) for digit in str(n)),
    "Arabic-Indic": lambda n: "".join(chr(ord(digit) - ord("0") + 0x660) for digit in str(n)),
    "behind an apostrophe": lambda n: f"'{n}",
    "as a formula": lambda n: f'="{n}"',
    "between invisible characters": lambda n: f"\ufeff\u00a0{n}\u200b\t",
    "scientific, all digits": lambda n: f"{n:.{len(str(n)) - 1}E}",
    "scientific, six digits": lambda n: f"{n:.5E}",
    "scientific, as German Excel has it": lambda n: f"{n:.5E}".replace(".", ","),
}
LOSSLESS = [form for form in FORMS if "six digits" not in form and "German" not in form]


@pytest.mark.parametrize("form", FORMS)
@given(st.one_of(st.integers(1, MAX_INT64), st.integers(10**14, 10**15)))
@example(281474977075805)
@example(EXACT_FLOAT + 1)
@example(100000)
def test_a_driver_id_in_another_form_is_the_same_driver_or_none(form: str, number: int) -> None:
    """Including rounded ones: `2.81475E+14` is a number, but not an ID."""
    cell = FORMS[form](number)
    found = named(DRIVER_ID, cell)
    assert found == Identifier(DRIVER_ID, str(number)) or isinstance(found, Problem)
    if isinstance(found, Identifier) and cell.strip() != found.value:
        assert found.value in warning_about(DRIVER_ID, cell, found.value)


@pytest.mark.parametrize("form", LOSSLESS)
def test_a_driver_id_is_read_in_every_form_that_lost_no_digits(form: str) -> None:
    assert named(DRIVER_ID, FORMS[form](281474977075805)) == Identifier(DRIVER_ID, "281474977075805")


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        *((cell, Hint.ROUNDED_DRIVER_ID) for cell in ("2.81475E+14", "2,81475E+14", "2.81475e14", "2.8E+3", "1E15")),
        *((cell, Hint.ROUNDED_DRIVER_ID) for cell in ("9007199254740992.0", "9" * 400 + ".0", "9" * 5000 + ".0E+1")),
        *((cell, Hint.DRIVER_ID) for cell in ("123.000", "281.474", "281,474", "12,34,567", "1,234.567", "1.5")),
        *((cell, Hint.DRIVER_ID) for cell in ("-281474977075805", "++1", "1 2", "281 47", "0", "007", "0x1F", "1_0")),
        *((cell, Hint.DRIVER_ID) for cell in ("9223372036854775808", "281,474.977,075", "\u00b2", "2\u200b8", "''5")),
        ("#N/A", Hint.CELL_ERROR),
        ("Err:508", Hint.CELL_ERROR),
        ("\u200b\u200f", Hint.CHARACTERS),
    ],
)
def test_an_ambiguous_driver_id_is_refused(cell: str, hint: Hint) -> None:
    found = named(DRIVER_ID, cell)
    assert isinstance(found, Problem)
    assert found.hint is hint


@given(KINDS, CELLS, st.sampled_from(["", "payrollId"]))
def test_what_is_sent_reads_back_as_itself(kind: IdentifierKind, cell: str, key: str) -> None:
    """So an ``auth_identifier`` always names the driver that was requested, whatever the roster's cell looks like."""
    found = named(kind, cell, key)
    if isinstance(found, Problem):
        return
    assert named(kind, found.value) == found
    assert found.value.isprintable()
    assert found.value == found.value.strip()


@given(KINDS, CELLS, st.booleans())
def test_changes_are_reported_and_all_messages_are_one_short_line(
    kind: IdentifierKind, cell: str, only_key: bool
) -> None:
    found = named(kind, cell, "k", only_key=only_key)
    if isinstance(found, Problem):
        warning = found.error
        assert warning
    else:
        warning = warning_about(kind, cell, found.value)
        by_key = kind is EXTERNAL_ID and (found.value == f"k:{cell.strip()}" or ":" in cell)
        assert warning or found.value == cell.strip() or by_key
    assert warning.isprintable()
    assert len(warning) < 250


@given(KINDS, st.lists(st.one_of(CELLS, st.sampled_from(["", " ", "ann.example", "281474977075805", "k:v", "1\n2"]))))
@example(DRIVER_ID, ["1\n2", "3"])
@example(DRIVER_ID, ["", "1", "x", "2", ""])
def test_a_column_reads_the_same_at_once_as_cell_by_cell(kind: IdentifierKind, cells: list[str]) -> None:
    reading = read_column(kind, cells, Column(0, "x", "k"))
    for row, cell in enumerate(cells):
        found = named(kind, cell, "k") if cell.strip() else None
        assert reading.problems.get(row) == (found if isinstance(found, Problem) else None)
        assert reading.texts[row] == (found.value if isinstance(found, Identifier) else "")
        warning = warning_about(kind, cell, found.value) if isinstance(found, Identifier) else ""
        assert reading.warnings.get(row, "") == warning
    assert len(reading.texts) == len(cells)


@pytest.mark.parametrize(
    ("cell", "key", "only_key", "sent"),
    [
        ("payrollId:ABFS18600", "", False, "payrollId:ABFS18600"),
        ("ABFS18600", "payrollId", False, "payrollId:ABFS18600"),
        ("ABFS18600", "payrollId", True, "payrollId:ABFS18600"),
        ("payrollId:A", "payrollId", True, "payrollId:A"),
        ("maintenanceId:7", "payrollId", False, "maintenanceId:7"),
        ("payrollId:A, maintenanceId:7", "maintenanceId", False, "maintenanceId:7"),
        ("a:1\nb:2", "a", False, "a:1"),
        ("url:https://x.example/a,b", "", False, "url:https://x.example/a,b"),
        ("k:A:B", "", False, "k:A:B"),
        ("k:Ärger, groß", "", False, "k:Ärger, groß"),
    ],
)
def test_an_external_id_is_sent_with_its_key(cell: str, key: str, only_key: bool, sent: str) -> None:
    assert named(EXTERNAL_ID, cell, key, only_key=only_key) == Identifier(EXTERNAL_ID, sent)


@pytest.mark.parametrize(
    ("cell", "key", "only_key", "hint"),
    [
        ("ABFS18600", "", False, Hint.EXTERNAL_ID),
        ("maintenanceId:7", "payrollId", True, Hint.EXTERNAL_ID),
        ("A:17", "payrollId", True, Hint.EXTERNAL_ID),
        ("payrollId:", "payrollId", False, Hint.EXTERNAL_ID),
        (":7", "payrollId", False, Hint.EXTERNAL_ID),
        ('{"payrollId": "A"}', "", False, Hint.EXTERNAL_ID),
        ("a:1, b:2", "", False, Hint.SEVERAL_EXTERNAL_IDS),
        ("a:1; a:2", "a", False, Hint.SEVERAL_EXTERNAL_IDS),
        ("#REF!", "payrollId", False, Hint.CELL_ERROR),
        ("k:a\u00a0b", "", False, Hint.CHARACTERS),
    ],
)
def test_an_external_id_with_an_ambiguous_key_is_refused(cell: str, key: str, only_key: bool, hint: Hint) -> None:
    found = named(EXTERNAL_ID, cell, key, only_key=only_key)
    assert isinstance(found, Problem)
    assert found.hint is hint


@pytest.mark.parametrize("cell", ["NA", "null", "None", "nan", "007", "TRUE", "1e5", "-", "=ann", "ann example", "a@b"])
def test_no_username_is_read_as_another_type(cell: str) -> None:
    assert named(USERNAME, cell) == Identifier(USERNAME, cell)


@pytest.mark.parametrize(("cell", "hint"), [("1.55501E+10", Hint.ROUNDED_TEXT), ("#N/A", Hint.CELL_ERROR)])
def test_a_username_that_a_spreadsheet_program_changed_is_refused(cell: str, hint: Hint) -> None:
    found = named(USERNAME, cell)
    assert isinstance(found, Problem)
    assert found.hint is hint


@pytest.mark.parametrize(
    ("cell", "word"),
    [("ann example", "a space"), ("ann@x.example", "an @"), ("ann", "fewer"), ("\u200bannika", "is sent as")],
)
def test_a_username_that_samsara_does_not_allow_is_sent_with_a_warning(cell: str, word: str) -> None:
    found = named(USERNAME, cell)
    assert isinstance(found, Identifier)
    assert word in warning_about(USERNAME, cell, found.value)


def test_an_id_that_excel_may_have_rounded_is_sent_with_a_warning() -> None:
    assert "compare it with Samsara" in warning_about(DRIVER_ID, "281474977075805000", "281474977075805000")
    assert warning_about(DRIVER_ID, "281474977075000", "281474977075000") == ""


@given(st.lists(st.text("ab\n", max_size=3), max_size=9), st.integers(1, 4))
def test_cells_that_do_not_match_are_found_with_any_chunk_size(cells: list[str], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identifiers, "CELLS_AT_ONCE", at_once)
        found = CellPattern("a*").others(cells)
    assert found == [row for row, cell in enumerate(cells) if not re.fullmatch("a*", cell)]
