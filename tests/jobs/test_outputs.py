"""Where results go, by the pattern in the settings or on the command line."""

from __future__ import annotations

import os
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.settings_files import written

from batch_issuer.jobs.outputs import organization_of_results, output_of, results_path
from batch_issuer.settings.file import read_settings_file
from batch_issuer.settings.selection import Selection

NOW = datetime.fromisoformat("2030-01-02T23:59:00+00:00")


@pytest.mark.parametrize(
    ("pattern", "organization", "roster", "expected"),
    [
        ("results/{organization}-{date}.csv", "north", "depot", "results/north-2030-01-02.csv"),
        ("{organization}/{roster}.csv", "North & Söhne", "depot 1", "North & Söhne/depot 1.csv"),
        ("{roster}{roster}.csv", "north", "depot", "depotdepot.csv"),
        ("plain.csv", "north", "depot", "plain.csv"),
        ("{date}/{organization}.csv", "", "depot", "2030-01-02/no-organization.csv"),
        ("{roster}.csv", "north", "", "no-roster.csv"),
        ("out/{organization}.csv", "../../etc/passwd", "", "out/__.._etc_passwd.csv"),
        ("out/{organization}.csv", "..", "", "out/_.csv"),
        ("out/{organization}.csv", "a/b\\c:d", "", "out/a_b_c_d.csv"),
        ("out/{organization}.csv", "{roster}", "depot", "out/_roster_.csv"),
        ("out/{organization}.csv", "a\0b\x1bc\nd", "", "out/a_b_c_d.csv"),
        ("out/{organization}.csv", "CON", "", "out/CON.csv"),
    ],
)
def test_the_name_of_the_results_is_the_pattern_with_organization_date_and_roster(
    pattern: str, organization: str, roster: str, expected: str
) -> None:
    assert results_path(pattern, organization=organization, roster=roster, now=NOW) == Path(expected)


@pytest.mark.parametrize("output", ['output = "../results/{organization}.csv"', ""])
@pytest.mark.parametrize("roster", ["north.csv", "../rosters/north.csv", "north.csv.gz"])
def test_the_organization_of_results_is_found_however_their_path_is_written(
    output: str, roster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``..`` is resolved in the settings, so it must be in a path that is typed."""
    folder = tmp_path / "settings"
    folder.mkdir()
    monkeypatch.chdir(folder)
    file = written(
        folder, f'[defaults]\n{output}\n[organizations.north]\nroster_file = "{roster}"\n[organizations.south]\n'
    )
    selection = Selection(read_settings_file(file))
    layers = selection.layers("north")
    path = output_of(layers, str(layers.roster_file()), NOW).path
    assert ".." not in path.parts
    for typed in (path, Path("..", path.parent.name, path.name), Path("..", "settings", os.path.relpath(path))):
        assert organization_of_results(selection, typed) == "north"
    assert organization_of_results(selection, path.with_name("other.csv")) is None


HOSTILE = st.one_of(
    st.sampled_from(
        ["", " ", ".", "..", "...", "../../etc", "/etc", "\\\\host\\share", "C:\\", "a/b", "CON", "~", "\0"]
    ),
    st.text("./\\ ~:\0\n{}ax\u2028\x85", max_size=12),
    st.text(max_size=12),
)


@given(
    st.sampled_from(
        [
            "out/{organization}/{roster}-{date}.csv",
            "{organization}/x.csv",
            "{roster}/x.csv",
            "{roster}.csv",
            "/out/{roster}",
        ]
    ),
    HOSTILE,
    HOSTILE,
)
@example("{roster}/x.csv", "", " ")
def test_no_name_leads_out_of_the_folder_of_the_pattern(pattern: str, organization: str, roster: str) -> None:
    path = results_path(pattern, organization=organization, roster=roster, now=NOW)
    wanted = Path(pattern)
    assert path.is_absolute() == wanted.is_absolute()
    assert len(path.parts) == len(wanted.parts)
    for part, before in zip(path.parts, wanted.parts, strict=True):
        assert part == before or "{" in before
        assert part not in ("", ".", "..")
        assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in part)
