"""Small rosters as real programs write them: each is read as expected, or refused with a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from corpus.make import CASES, FILES, Case, export_all
from support.programs import needed

from batch_issuer.cli.parser import flags_of, make_parser
from batch_issuer.errors import RosterError
from batch_issuer.hints import Hint
from batch_issuer.model import Status
from batch_issuer.roster import Roster
from batch_issuer.settings.layers import Layers

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.settings.roster_options import RosterOptions


def options_of(case: Case) -> RosterOptions:
    """The options that command-line flags would set."""
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name, values in case.options.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return Layers(flags=flags_of(make_parser().parse_args(["check", "roster", *flags]))).roster_options()


def rows_read(roster: Roster) -> list[str]:
    """For each row, what is sent or why nothing is."""
    hints = {str(hint): hint.name for hint in Hint}
    found = {driver.row: str(driver.identifier) for driver in roster.drivers}
    for outcome in roster.refused:
        is_duplicate = outcome.status is Status.DUPLICATE
        found[outcome.row] = "duplicate" if is_duplicate else f"{outcome.status} {hints[outcome.hint]}"
    return [found[row] for row in roster.row_numbers()]


def check_case(case: Case, file: Path) -> None:
    if case.refused:
        with pytest.raises(RosterError) as caught:
            Roster.from_path(file, options_of(case))
        assert case.refused in caught.value.message
        assert case.fix in caught.value.hint
        assert caught.value.message.startswith(file.name)
        assert "hunter" not in f"{caught.value.message} {caught.value.hint}"
        return
    roster = Roster.from_path(file, options_of(case))
    assert rows_read(roster) == list(case.rows)
    assert list(roster.warnings) == list(case.warnings)
    notes = "\n".join(roster.notes)
    assert all(note in notes for note in case.notes), notes
    assert bool(notes) == bool(case.notes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_each_roster_gives_the_expected_rows(case: Case) -> None:
    check_case(case, FILES / case.path)


@pytest.mark.parametrize("case", [case for case in CASES if case.content is not None], ids=lambda case: case.path)
def test_each_file_is_up_to_date_with_the_script(case: Case) -> None:
    """If this fails: ``python tests/corpus/make.py``."""
    assert (FILES / case.path).read_bytes() == case.content


def test_every_file_has_a_case_and_no_two_are_equal() -> None:
    assert sorted(str(path.relative_to(FILES)) for path in FILES.rglob("*.*")) == sorted(case.path for case in CASES)


@pytest.mark.soak
def test_libreoffice_still_writes_equivalent_files(tmp_path: Path) -> None:
    """New exports, with every delimiter, several encodings and both formats, are read the same."""
    needed("soffice")
    export_all(tmp_path)
    cases = [case for case in CASES if case.content is None]
    assert cases
    for case in cases:
        check_case(case, tmp_path / (FILES / case.path).name)
