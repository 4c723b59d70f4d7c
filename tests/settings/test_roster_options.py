"""What a person says about a roster, by flags and by a settings file, and what the commands say of the roster."""

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
def test_a_kind_of_identifier_is_known_in_every_spelling(text: str) -> None:
    assert kind_named(text) is DRIVER_ID


def test_flags_say_what_the_names_of_columns_do_not() -> None:
    told = options(
        "--map", "driver_id=Fahrer-Nr.", "--map=username=", "--external-key", "k", "--identify-by", "username"
    )
    assert told == RosterOptions(
        columns={DRIVER_ID: "Fahrer-Nr.", USERNAME: ""}, external_key="k", identify_by=(USERNAME,)
    )


def test_the_name_of_a_column_may_hold_an_equals_sign() -> None:
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
def test_a_flag_that_cannot_be_meant_is_refused_with_what_can(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n1\n")
    assert main(["check", str(tmp_path / "depot.csv"), *flags]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "hint: " in told


# --- the settings file


def test_flags_win_over_the_file_and_maps_are_put_together(tmp_path: Path) -> None:
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
def test_a_file_may_say_nothing(text: str, tmp_path: Path) -> None:
    assert options(f"--config={written(tmp_path, text)}") == RosterOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[roster\n", "is no settings file"),
        ('[roster]\nmapp = "x"\n', "no setting 'mapp' under [roster]"),
        ("[roster]\nexternal_key = 5\n", "external_key under [roster] is of the wrong kind"),
        ('[roster]\nmap = "x"\n', "map under [roster] is of the wrong kind"),
        ("[roster]\nmap = { driver_id = 5 }\n", "map under [roster] is of the wrong kind"),
        ('[roster]\nmap = { badge = "x" }\n', "'badge' is no kind of identifier"),
        ('[roster]\nidentify_by = ["username"]\n', "identify_by under [roster] is of the wrong kind"),
        ('[rooster]\nsheet = "x"\n', "no setting 'rooster'"),
        ('roster = "x"\n', "roster is no section"),
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


# --- what check says


def check(capsys: pytest.CaptureFixture[str], path: Path, *flags: str) -> tuple[int, str, str]:
    code = main(["check", str(path), *flags])
    told = capsys.readouterr()
    return code, told.out, told.err


MESSY = (
    "ID,Username,PIN\n281474977075805,ann.x,1111\n2.81475E+14,bob.x,1111\n2.81475E+14,bob.y,1111\n,cid@x,1111\n"
    "281474977075805,,1111\n,,1111\nTotal,5,\n"
)


def test_check_tells_what_will_be_sent_what_not_and_what_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In rows as the spreadsheet numbers them; a fix that rows share is told once; passwords are never shown."""
    (tmp_path / "depot.csv").write_text(MESSY)
    code, out, err = check(capsys, tmp_path / "depot.csv")
    assert code == 1
    assert out.splitlines() == [
        "7 rows: 2 can be sent, 5 cannot; issuing takes about 1 s at 100/min.",
        "  1 by driver ID: row 2",
        "  1 by username: row 5",
        "1 row to look at, sent all the same:",
        "  row 5: username 'cid@x' contains an @, which Samsara does not allow; sent unchanged",
        "5 rows that will not be sent:",
        "  row 3: invalid: driver ID '2.81475E+14' lost digits in a spreadsheet",
        "  row 4: invalid: driver ID '2.81475E+14' lost digits in a spreadsheet",
        f"      {Hint.ROUNDED_DRIVER_ID}",
        "  row 6 (driverId=281474977075805): duplicate: same driver as row 2",
        f"      {Hint.DUPLICATE}",
        "  row 7: invalid: no identifier in the row",
        f"      {Hint.NO_IDENTIFIER}",
        "  row 8: invalid: a row of totals, not a driver",
        f"      {Hint.TOTALS}",
    ]
    assert err.splitlines() == [
        "Password columns are not copied to the results: 'PIN'.",
        "Drivers are looked up by column 'ID' (driver ID), else by 'Username'.",
    ]
    assert "1111" not in out + err


@pytest.mark.parametrize(
    ("text", "code"), [("Driver ID\n1\n2\n", 0), ("Driver ID\n1\nx\n", 1), ("Driver ID\n", 2), ("Name\nx\n", 2)]
)
def test_the_exit_code_of_check_says_whether_all_some_or_nothing_can_be_sent(
    text: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(text)
    assert check(capsys, tmp_path / "depot.csv")[0] == code


def test_rows_that_will_be_sent_are_told_as_spans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = ["x" if n % 10 == 0 else str(n) for n in range(2, 202)]
    (tmp_path / "depot.csv").write_text("\n".join(["Driver ID", *ids]))
    _, out, _ = check(capsys, tmp_path / "depot.csv")
    assert "  180 by driver ID: rows 2-9, 11-19, 21-29, 31-39, " in out
    assert out.splitlines()[1].endswith("111-119, …")


@pytest.mark.parametrize(
    ("header", "flags", "said"),
    [
        ("Driver ID", [], "column 'Driver ID'."),
        ("Fahrer", ["--map=driver_id=fahrer"], "column 'Fahrer' (driver ID)."),
        ("payrollId", [], "column 'payrollId' (external ID payrollId)."),
        ("External ID", ["--external-key=k"], "column 'External ID' (external ID k)."),
        ("Login,ID", ["--identify-by=username,driver_id"], "column 'Login' (username), else by 'ID' (driver ID)."),
    ],
)
def test_the_columns_that_are_used_and_for_what_are_told(
    header: str, flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(f"{header},Depot\n{header},North\n")
    assert f"Drivers are looked up by {said}" in check(capsys, tmp_path / "depot.csv", *flags)[2]


def test_the_encoding_that_the_error_proposes_reads_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_bytes("Username;Name\nann.x;Jörg\n".encode("cp1252"))
    code, _, err = check(capsys, tmp_path / "depot.csv")
    assert code == 2
    assert "if byte F6 should read 'ö', add --encoding windows-1252" in err
    assert check(capsys, tmp_path / "depot.csv", "--encoding", "windows-1252")[0] == 0


@pytest.mark.parametrize("name", ["latin-99", "idna", "base64", "zip", "undefined"])
def test_an_encoding_that_is_none_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n1\n")
    code, _, err = check(capsys, tmp_path / "depot.csv", "--encoding", name)
    assert code == 2
    assert "unknown encoding" in err


def test_a_csv_file_has_no_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n1\n")
    code, _, err = check(capsys, tmp_path / "depot.csv", "--sheet", "North")
    assert code == 2
    assert "remove --sheet" in err


# --- what issue says and does


def test_issue_prints_the_same_warnings_before_it_starts(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text(MESSY)
    assert run_command(sandbox, "issue", tmp_path / "depot.csv") == 1
    told = capsys.readouterr().err
    before = told[: told.index("2 drivers to send")]
    assert "not copied to the results: 'PIN'" in before
    assert "Drivers are looked up by column 'ID' (driver ID), else by 'Username'." in before
    assert "row 5: username 'cid@x' contains an @" in before
    for row in (3, 4, 6, 7, 8):
        assert f"  row {row}: " in before
    assert "1111" not in told
    assert len(sandbox.ledger) == 2


def test_long_lists_of_warnings_are_cut_with_a_word_on_where_all_are(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "".join(f"d{n}@x\n" for n in range(30)) + "a\u200bb\n" * 30
    (tmp_path / "depot.csv").write_text(f"Username\n{names}", encoding="utf-8")
    assert run_command(sandbox, "issue", tmp_path / "depot.csv") == 1
    assert capsys.readouterr().err.count("… and 10 more; batch-issuer check lists all.") == 2


def test_quiet_says_nothing_of_the_roster(tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
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


# --- retry goes by the same columns


def issued_by_map(folder: Path, sandbox: Sandbox, *flags: str) -> Path:
    """Results whose third row was never sent; the column ID holds the numbers of another system."""
    (folder / "depot.csv").write_text("ID,Fahrer-Nr.\n501,11\n502,12\n503,\n")
    assert run_command(sandbox, "issue", folder / "depot.csv", *flags) == 1
    path = folder / "depot.results.csv"
    path.write_bytes(path.read_bytes().replace(b"503,,", b"503,13,"))
    return path


def test_a_row_never_sent_is_not_asked_for_by_another_column_than_the_others(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the flags of issue, ``ID`` would be the driver ID, and 503 somebody else."""
    path = issued_by_map(tmp_path, sandbox, "--map=driver_id=Fahrer-Nr.")
    sent = len(sandbox.ledger)
    assert run_command(sandbox, "retry", path) == 1
    assert len(sandbox.ledger) == sent
    told = capsys.readouterr().err
    assert "other rows were not sent by column 'ID'" in told
    assert str(Hint.ANOTHER_COLUMN) in told
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


def test_where_no_column_is_known_the_flags_are_asked_for(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Fahrer-Nr.\n11\nx\n")
    assert run_command(sandbox, "issue", tmp_path / "depot.csv", "--map=driver_id=fahrer nr") == 1
    assert run_command(sandbox, "retry", tmp_path / "depot.results.csv") == 1
    assert str(Hint.ANOTHER_COLUMN) in capsys.readouterr().err


def test_the_command_that_goes_on_names_the_flags(
    tmp_path: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Fahrer-Nr.,Kennung\n11,ann.x\n")
    flags = ["--map=driver_id=Fahrer-Nr.", "--map=username=Kennung", "--identify-by=username", "--external-key=k"]
    arguments = ["issue", str(tmp_path / "depot.csv"), *flags, "--base-url", sandbox.url, "--quota", "process"]
    assert main(arguments, {"SAMSARA_API_TOKEN": "wrong-key"}) == 3
    told = capsys.readouterr().err
    (command,) = [line for line in told.splitlines() if line.startswith("To go on: ")]
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


def test_rows_that_were_both_sent_keep_their_tokens_though_they_turn_out_to_be_one_driver(
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
