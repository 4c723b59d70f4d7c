"""How flags and settings describe a roster, and what the commands print about it."""

from __future__ import annotations

import gzip
import io
import sys
from typing import TYPE_CHECKING

import pytest
from support.sandbox import run_command
from support.settings_files import written

from batch_issuer.cli import main
from batch_issuer.cli.parser import flags_of, make_parser
from batch_issuer.errors import SettingsError
from batch_issuer.hints import Hint
from batch_issuer.model import IdentifierKind
from batch_issuer.results import count_statuses, read_results
from batch_issuer.settings.file import read_settings_file
from batch_issuer.settings.layers import Layers
from batch_issuer.settings.roster_options import RosterOptions, kind_named, kinds, mapping

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox

DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME


def options(*flags: str) -> RosterOptions:
    given = make_parser().parse_args(["check", "depot.csv", *flags])
    return Layers(read_settings_file(given.config), flags=flags_of(given)).roster_options()


# --- flags


@pytest.mark.parametrize("text", ["driver_id", "driver-id", "Driver ID", "driverId", " DRIVER_ID "])
def test_a_kind_of_identifier_may_be_spelled_in_several_ways(text: str) -> None:
    assert kind_named(text) is DRIVER_ID


def test_flags_name_the_columns_of_identifiers() -> None:
    found = options(
        "--map", "driver_id=Fahrer-Nr.", "--map=username=", "--external-key", "k", "--identify-by", "username"
    )
    assert found == RosterOptions(
        columns={DRIVER_ID: "Fahrer-Nr.", USERNAME: ""}, external_key="k", identify_by=(USERNAME,)
    )


def test_the_name_of_a_column_may_contain_an_equals_sign() -> None:
    assert mapping("username=a=b") == (USERNAME, "a=b")


def test_several_kinds_are_separated_by_commas() -> None:
    assert kinds("username, driver_id") == (USERNAME, DRIVER_ID)


@pytest.mark.parametrize(
    "flags",
    [
        ["--map", "driver_id"],
        ["--map", "badge=Nr"],
        ["--identify-by", "badge"],
        ["--identify-by", ""],
        ["--identify-by", "username,username"],
        ["--external-key", "a:b"],
    ],
)
def test_an_invalid_flag_is_refused_with_a_hint(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n1\n")
    assert main(["check", str(tmp_path / "depot.csv"), *flags]) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ")
    assert "hint: " in stderr


# --- the settings file


def test_flags_win_over_the_file_and_maps_are_merged(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[roster]\nmap = { driver_id = "A", username = "B" }\nexternal_key = "k"\nidentify_by = "username"\n'
        'encoding = "cp1252"\nsheet = "S"\n',
    )
    assert options(f"--config={file}") == RosterOptions(
        columns={DRIVER_ID: "A", USERNAME: "B"},
        external_key="k",
        identify_by=(USERNAME,),
        encoding="cp1252",
        sheet="S",
    )
    flags = ["--map=driver_id=Z", "--external-key=", "--identify-by=driver_id", "--encoding=utf-8", "--sheet=T"]
    assert options(f"--config={file}", *flags) == RosterOptions(
        columns={DRIVER_ID: "Z", USERNAME: "B"}, identify_by=(DRIVER_ID,), encoding="utf-8", sheet="T"
    )


@pytest.mark.parametrize("text", ["", "[roster]\n", "\ufeff# nothing\n"])
def test_a_file_may_be_empty(text: str, tmp_path: Path) -> None:
    assert options(f"--config={written(tmp_path, text)}") == RosterOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[roster\n", "is not valid TOML"),
        ('[roster]\nmapp = "x"\n', "[roster] has no setting 'mapp'"),
        ("[roster]\nexternal_key = 5\n", "[roster] external_key is not valid"),
        ('[roster]\nmap = "x"\n', "[roster] map is not valid"),
        ("[roster]\nmap = { driver_id = 5 }\n", "[roster] map is not valid"),
        ('[roster]\nmap = { badge = "x" }\n', "'badge' is not a kind of identifier"),
        ('[roster]\nidentify_by = ["username"]\n', "[roster] identify_by is not valid"),
        ('[rooster]\nsheet = "x"\n', "there is no section 'rooster'"),
        ('roster = "x"\n', "roster is not a section"),
    ],
)
def test_a_file_with_a_mistake_is_refused_naming_the_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        options(f"--config={written(tmp_path, text)}")
    assert message in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        options(f"--config={tmp_path / 'none.toml'}")


# --- what check prints


def check(capsys: pytest.CaptureFixture[str], path: Path, *flags: str) -> tuple[int, str, str]:
    code = main(["check", str(path), *flags])
    output = capsys.readouterr()
    return code, output.out, output.err


MESSY = (
    "ID,Username,PIN\n281474977075805,ann.x,1111\n2.81475E+14,bob.x,1111\n2.81475E+14,bob.y,1111\n,cid@x,1111\n"
    "281474977075805,,1111\n,,1111\nTotal,5,\n"
)


def test_check_lists_the_rows_to_send_the_others_and_the_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows are numbered as in the spreadsheet; rows with the same fix show it once; passwords are never shown."""
    (tmp_path / "depot.csv").write_text(MESSY)
    code, out, err = check(capsys, tmp_path / "depot.csv")
    assert code == 1
    assert out.splitlines() == [
        "7 rows: 2 can be sent, 5 cannot; issuing takes about 1 s at 100/min.",
        "  1 by driver ID: row 2",
        "  1 by username: row 5",
        "warning: row 5: username 'cid@x' contains an @, which Samsara does not allow; sent unchanged",
        "2 invalid: driver ID '2.81475E+14' lost digits in a spreadsheet",
        "    rows 3-4",
        f"    hint: {Hint.ROUNDED_DRIVER_ID}",
        "1 duplicate: same driver as row 2",
        "    row 6",
        f"    hint: {Hint.DUPLICATE}",
        "1 invalid: no identifier in the row",
        "    row 7",
        f"    hint: {Hint.NO_IDENTIFIER}",
        "1 invalid: a row of totals, not a driver",
        "    row 8",
        f"    hint: {Hint.TOTALS}",
    ]
    assert err.splitlines() == [
        "Password columns are not copied to the results: 'PIN'.",
        "Drivers are identified by column 'ID' (driver ID), otherwise by 'Username'.",
    ]
    assert "1111" not in out + err


@pytest.mark.parametrize(
    ("text", "code"), [("Driver ID\n1\n2\n", 0), ("Driver ID\n1\nx\n", 1), ("Driver ID\n", 2), ("Name\nx\n", 2)]
)
def test_the_exit_code_of_check_shows_whether_all_some_or_no_rows_can_be_sent(
    text: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(text)
    assert check(capsys, tmp_path / "depot.csv")[0] == code


def test_rows_that_will_be_sent_are_shown_as_spans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = ["x" if n % 10 == 0 else str(n) for n in range(2, 202)]
    (tmp_path / "depot.csv").write_text("\n".join(["Driver ID", *ids]))
    _, out, _ = check(capsys, tmp_path / "depot.csv")
    spans = ", ".join(["2-9", *(f"{n}1-{n}9" for n in range(1, 19))])
    assert out.splitlines()[1] == f"  180 by driver ID: rows {spans}, 191-199 and 201"


@pytest.mark.parametrize(
    ("header", "flags", "expected"),
    [
        ("Driver ID", [], "column 'Driver ID'."),
        ("Fahrer", ["--map=driver_id=fahrer"], "column 'Fahrer' (driver ID)."),
        ("payrollId", [], "column 'payrollId' (external ID payrollId)."),
        ("External ID", ["--external-key=k"], "column 'External ID' (external ID k)."),
        ("Login,ID", ["--identify-by=username,driver_id"], "column 'Login' (username), otherwise by 'ID' (driver ID)."),
    ],
)
def test_the_columns_and_their_use_are_shown(
    header: str, flags: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(f"{header},Depot\n{header},North\n")
    assert f"Drivers are identified by {expected}\n" in check(capsys, tmp_path / "depot.csv", *flags)[2]


def test_the_encoding_that_the_error_proposes_reads_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_bytes("Username;Name\nann.x;Jörg\n".encode("cp1252"))
    code, _, err = check(capsys, tmp_path / "depot.csv")
    assert code == 2
    assert "if byte F6 should read 'ö', add --encoding windows-1252" in err
    assert check(capsys, tmp_path / "depot.csv", "--encoding", "windows-1252")[0] == 0


@pytest.mark.parametrize("name", ["latin-99", "idna", "base64", "zip", "undefined"])
def test_an_unknown_encoding_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n1\n")
    code, _, err = check(capsys, tmp_path / "depot.csv", "--encoding", name)
    assert code == 2
    assert "unknown encoding" in err


def test_a_csv_file_has_no_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n1\n")
    code, _, err = check(capsys, tmp_path / "depot.csv", "--sheet", "North")
    assert code == 2
    assert "remove --sheet" in err


# --- what issue prints and does


def test_issue_prints_the_same_warnings_before_it_starts(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(MESSY)
    assert run_command(sandbox, "issue", tmp_path / "depot.csv") == 1
    stderr = capsys.readouterr().err
    before = stderr[: stderr.index("Requesting 2 login tokens")]
    assert "not copied to the results: 'PIN'" in before
    assert "Drivers are identified by column 'ID' (driver ID), otherwise by 'Username'." in before
    assert "warning: row 5: username 'cid@x' contains an @" in before
    assert "5 rows cannot be sent; listed at the end.\n" in before
    assert "rows 3-4" not in before
    assert "warning" not in stderr.removeprefix(before)
    for rows in ("rows 3-4", "row 6", "row 7", "row 8"):
        assert stderr.count(f"\n    {rows}\n    hint: ") == 1
    assert "1111" not in stderr
    assert len(sandbox.ledger) == 2


def test_a_long_list_of_warnings_is_shortened(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "".join(f"d{n}@x\n" for n in range(30)) + "a\u200bb\n" * 30
    (tmp_path / "depot.csv").write_text(f"Username\n{names}", encoding="utf-8")
    assert run_command(sandbox, "issue", tmp_path / "depot.csv") == 1
    stderr = capsys.readouterr().err.splitlines()
    start = stderr.index("warning: 30 rows to check:")
    assert [line.partition(": ")[0] for line in stderr[start + 1 : start + 4]] == [
        "    row 2",
        "    row 3",
        "    row 4",
    ]
    assert stderr[start + 4 : start + 6] == ["    and 27 more: rows 5-31", "30 rows cannot be sent; listed at the end."]
    assert stderr.count("    rows 32-61") == 1


def test_quiet_prints_nothing_about_the_roster(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Username,Password\nanna\u200b,hunter2\n\u00a0bert,hunter2\n")
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["depot.csv.gz", "depot.xlsx.gz", "depot.gz"])
def test_the_results_of_a_packed_roster_are_named_as_if_it_were_not(
    name: str, tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"Driver ID\n1\n"))
    assert run_command(sandbox, "issue", tmp_path / name) == 0
    assert count_statuses(read_results(tmp_path / "depot.results.csv")) == {"issued": 1}


def test_a_roster_in_any_form_is_taken_from_stdin(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gzip.compress("\ufeffFahrer\tName\n1\tJörg\n".encode("utf-16-le"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run_command(sandbox, "issue", "-", "-o", tmp_path / "out.csv", "--map", "driver_id=fahrer") == 0
    assert count_statuses(read_results(tmp_path / "out.csv")) == {"issued": 1}


# --- retry uses the same columns


def issued_by_map(folder: Path, sandbox: Sandbox, *flags: str) -> Path:
    """Results with a third row that was never sent; the column ID contains the numbers of another system."""
    (folder / "depot.csv").write_text("ID,Fahrer-Nr.\n501,11\n502,12\n503,\n")
    assert run_command(sandbox, "issue", folder / "depot.csv", *flags) == 1
    path = folder / "depot.results.csv"
    path.write_bytes(path.read_bytes().replace(b"503,,", b"503,13,"))
    return path


def test_a_row_never_sent_is_not_requested_by_another_column_than_the_others(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the flags of issue, ``ID`` would be the driver ID, and 503 another driver."""
    path = issued_by_map(tmp_path, sandbox, "--map=driver_id=Fahrer-Nr.")
    sent = len(sandbox.ledger)
    assert run_command(sandbox, "retry", path) == 1
    assert len(sandbox.ledger) == sent
    stderr = capsys.readouterr().err
    assert "other rows were not sent by column 'ID'" in stderr
    assert str(Hint.ANOTHER_COLUMN) in stderr
    assert run_command(sandbox, "retry", path, "--map=driver_id=Fahrer-Nr.") == 0
    assert [entry.identifier for entry in sandbox.ledger[sent:]] == ["driverId=13"]


def test_nor_by_another_kind_of_identifier(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "depot.csv").write_text("ID,Username\n501,ann.x\n502,bob.x\n503,\n")
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "--identify-by=username") == 1
    path = tmp_path / "depot.results.csv"
    sent = len(sandbox.ledger)
    assert run_command(sandbox, "retry", path) == 1
    assert len(sandbox.ledger) == sent
    assert read_results(path).frame["auth_hint"].tolist()[2] == str(Hint.ANOTHER_COLUMN)


def test_without_a_known_column_the_hint_names_the_flags(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Fahrer-Nr.\n11\nx\n")
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "--map=driver_id=fahrer nr") == 1
    assert run_command(sandbox, "retry", tmp_path / "depot.results.csv") == 1
    assert str(Hint.ANOTHER_COLUMN) in capsys.readouterr().err


def test_the_command_to_resume_contains_the_flags(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Fahrer-Nr.,Kennung\n11,ann.x\n")
    flags = ["--map=driver_id=Fahrer-Nr.", "--map=username=Kennung", "--identify-by=username", "--external-key=k"]
    arguments = ["issue", str(tmp_path / "depot.csv"), *flags, "--base-url", sandbox.url, "--quota", "process"]
    assert main(arguments, {"SAMSARA_API_TOKEN": "wrong-key"}) == 3
    stderr = capsys.readouterr().err
    why, command = stderr.splitlines()[-2:]
    assert why == "To resume:"
    for flag in ("--map driver_id=Fahrer-Nr.", "--map username=Kennung", "--identify-by username", "--external-key k"):
        assert flag in command


def test_a_driver_named_in_two_ways_stays_a_duplicate_and_no_token_is_lost_to_that(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID,Username\n11,ann.x\n,ann.x\n12,bob.x\n")
    path = tmp_path / "depot.results.csv"
    assert run_command(sandbox, "issue", tmp_path / "depot.csv") == 1
    tokens = read_results(path).frame["auth_token"].tolist()
    assert run_command(sandbox, "retry", path) == 1
    after = read_results(path).frame
    assert after["auth_token"].tolist() == tokens
    assert after["auth_status"].tolist() == ["issued", "duplicate", "issued"]
    assert len(sandbox.ledger) == 2


def test_two_rows_that_were_sent_keep_their_tokens_even_if_they_are_one_driver(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID,Username\n11,anna.x\n,bob.x\n")
    path = tmp_path / "depot.results.csv"
    assert run_command(sandbox, "issue", tmp_path / "depot.csv") == 0
    tokens = read_results(path).frame["auth_token"].tolist()
    path.write_bytes(path.read_bytes().replace(b"11,anna.x", b"11,bob.x"))
    assert run_command(sandbox, "retry", path) == 0
    assert read_results(path).frame["auth_token"].tolist() == tokens
    assert len(sandbox.ledger) == 2
