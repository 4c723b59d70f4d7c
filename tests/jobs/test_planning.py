"""What is checked before a run, in which order, and what is created for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.rosters import lines, mode, write_roster
from support.sandbox import QUICK, live_sandbox
from support.settings_files import written

from batch_issuer.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions and shells")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with live_sandbox(limiter="none") as running:
        yield running


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str, environ: dict[str, str] | None = None
) -> tuple[str, str]:
    """Error and hint of a command that sends nothing."""
    assert main(list(arguments), environ or {}) == 2
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


# --- settings before files


@pytest.mark.parametrize("command", ["issue missing.csv", "retry missing.csv", "issue --org north"])
def test_a_missing_api_token_is_reported_before_a_missing_file(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--org" in command:
        written(folder, '[organizations.north]\nroster_file = "missing.csv"\n', "batch-issuer.toml")
    assert "API token" in refused(capsys, *command.split())[0]


@pytest.mark.parametrize(
    "command", ["issue missing.csv", "retry missing.csv", "check missing.csv", "issue x --sandbox"]
)
def test_an_invalid_setting_is_reported_before_the_api_token_and_files(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "a burst of 101" in refused(capsys, *command.split(), "--burst", "101")[0]
    assert list(folder.iterdir()) == []


def test_settings_of_several_organizations_are_checked_first_as_far_as_possible(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with valid settings may be the one that the roster names."""
    organizations: dict[str, Any] = {"north": {"token_env": "NORTH"}, "south": {"token_env": "SOUTH"}}
    written(folder, {"organizations": organizations}, "batch-issuer.toml")
    assert "the API token of north" in refused(capsys, "issue", "missing.csv")[0]
    assert "missing.csv" in refused(capsys, "issue", "missing.csv", environ={"SOUTH": "token"})[0]


@posix
@pytest.mark.parametrize("command", ["issue", "issue depot.csv", "issue --all", "issue --org north"])
def test_a_token_command_runs_once(command: str, folder: Path, server: Sandbox) -> None:
    write_roster(folder, 2)
    script = folder / "token.sh"
    script.write_text(f"#!/bin/sh\necho run >> {folder}/runs\necho {server.api_token}\n")
    script.chmod(0o700)
    north = {"token_command": str(script), "base_url": server.url, "roster_file": "depot.csv"}
    written(folder, {"organizations": {"north": north}}, "batch-issuer.toml")
    assert main([*command.split(), *QUICK], {}) == 0
    assert (folder / "runs").read_text() == "run\n"


@posix
def test_a_token_command_runs_once_for_each_organization_of_a_roster(folder: Path, server: Sandbox) -> None:
    """It does not run for an organization without a row."""
    (folder / "all.csv").write_text("Username,Organization\ndriver.1,north\ndriver.2,south\n")
    organizations = {}
    for name in ("north", "south", "west"):
        script = folder / f"{name}.sh"
        script.write_text(f"#!/bin/sh\necho {name} >> {folder}/runs\necho {server.api_token}\n")
        script.chmod(0o700)
        url = server.url if name == "north" else server.url.replace("127.0.0.1", "localhost")
        organizations[name] = {"token_command": str(script), "base_url": url}
    written(folder, {"organizations": organizations}, "batch-issuer.toml")
    assert main(["issue", "all.csv", *QUICK], {}) == 0
    assert sorted((folder / "runs").read_text().split()) == ["north", "south"]


def test_all_with_the_sandbox_needs_no_api_token(folder: Path) -> None:
    organizations = {}
    for name in ("north", "south"):
        write_roster(folder, 2, f"{name}.csv")
        organizations[name] = {"roster_file": f"{name}.csv", "token_env": "UNSET"}
    written(folder, {"organizations": organizations}, "batch-issuer.toml")
    assert main(["issue", "--all", "--sandbox"], {}) == 0
    assert [row["auth_status"] for row in lines(folder / "south.results.csv")] == ["issued"] * 2


# --- which organization


@pytest.mark.parametrize(
    ("command", "error", "hint"),
    [
        ("issue --org north", "no organization 'north': no settings file found", "create batch-issuer.toml here"),
        ("issue", "ROSTER is missing", "pass one, such as depot.csv"),
        ("issue --all", "the settings have no organizations", "add [organizations.NAME] with a roster_file for each"),
    ],
)
def test_without_a_settings_file_the_hint_is_how_to_do_without_or_create_one(
    command: str, error: str, hint: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refused(capsys, *command.split(), environ={"SAMSARA_API_TOKEN": "token"})
    assert found[0] == error
    assert found[1].startswith(hint)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "error", "hint"),
    [
        ("quota", "the settings have 2 organizations: north, south", "pass --org NAME"),
        ("issue depot.csv", "the settings have 2 organizations: north, south", "pass --org NAME"),
        ("issue", "the settings have 2 organizations: north, south", "pass --org NAME for one of them, or --all"),
        ("issue --org west", "no organization 'west' in {}", "choose north, south"),
        ("issue --org north", "[organizations.north] has no roster_file", "add one, or pass a ROSTER"),
    ],
)
def test_of_several_organizations_the_hint_fits_the_command(
    command: str, error: str, hint: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_roster(folder, 1)
    file = written(folder, "[organizations.north]\n[organizations.south]\n", "batch-issuer.toml")
    found = refused(capsys, *command.split(), environ={"SAMSARA_API_TOKEN": "token"})
    assert found == (error.replace("{}", str(file)), hint)


# --- the results file


@posix
def test_missing_folders_of_an_output_in_the_settings_are_created_private(folder: Path) -> None:
    write_roster(folder, 2)
    written(folder, '[defaults]\noutput = "results/tonight/{roster}.csv"\n', "batch-issuer.toml")
    assert main(["issue", "depot.csv", "--sandbox"], {}) == 0
    assert [row["auth_status"] for row in lines(folder / "results" / "tonight" / "depot.csv")] == ["issued"] * 2
    assert mode(folder / "results") == mode(folder / "results" / "tonight") == 0o700


def test_a_missing_folder_that_was_typed_is_an_error_unless_it_has_a_placeholder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_roster(folder, 2)
    assert refused(capsys, "issue", "depot.csv", "--sandbox", "-o", "reslts/out.csv")[0] == "no folder reslts"
    assert [path.name for path in folder.iterdir()] == ["depot.csv"]
    assert main(["issue", "depot.csv", "--sandbox", "-o", "{roster}/out.csv"], {}) == 0
    assert (folder / "depot" / "out.csv").exists()


def test_commands_that_only_read_create_no_folder(folder: Path) -> None:
    write_roster(folder, 2)
    written(
        folder,
        '[defaults]\noutput = "results/{organization}-{date}.csv"\n[organizations.north]\nroster_file = "depot.csv"\n',
        "batch-issuer.toml",
    )
    for command in ("check depot.csv", "config", "status results/north-2030-01-01.csv", "issue missing.csv --sandbox"):
        main(command.split(), {})
        assert sorted(path.name for path in folder.iterdir()) == ["batch-issuer.toml", "depot.csv"]


@pytest.mark.parametrize("by", ["flag", "file"])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("x.pdf", "results cannot be written as .pdf"),
        ("{date}", "the results file {date} has no ending"),
        ("out.{organization}", "results cannot be written as .{organization}"),
        ("a.b/out", "the results file out has no ending"),
        (".csv", "the results file .csv has no ending"),
    ],
)
def test_another_ending_is_refused(
    name: str, error: str, by: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_roster(folder, 1)
    command = ["issue", "depot.csv", "--sandbox"]
    if by == "flag":
        command += ["-o", name]
    else:
        file = written(folder, {"defaults": {"output": name}}, "batch-issuer.toml")
        error = f"{file}: [defaults] output: {error}"
    assert refused(capsys, *command) == (error, "use a name that ends in .csv, .tsv, .txt or .xlsx")
