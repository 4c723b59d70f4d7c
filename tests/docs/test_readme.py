"""The README is true: its help texts, hints, tables and examples are those of the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import readme
from support.paths import ROOT

from batch_issuer import Status
from batch_issuer.cli.parser import make_parser, subcommands
from batch_issuer.model import IdentifierKind
from batch_issuer.reporting import exit_codes
from batch_issuer.results import AUTH_COLUMNS
from batch_issuer.roster import identifier_columns, plain
from batch_issuer.roster.columns import COLUMN_NAMES
from batch_issuer.settings.addresses import REGIONS
from batch_issuer.settings.file import SettingsFile, read_settings_file
from batch_issuer.settings.layers import API_TOKEN_VARIABLE, NOTIFY_VARIABLE, QUOTA_VARIABLE, Layers
from batch_issuer.settings.options import OPTIONS
from batch_issuer.settings.roster_options import RosterOptions
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from pathlib import Path


def test_help_texts_and_hints_are_the_programs() -> None:
    """If this fails: ``python tests/support/readme.py --write``."""
    assert readme.text() == readme.up_to_date()


def test_every_command_is_in_the_readme() -> None:
    for name in ("", *subcommands(make_parser())):
        assert f"<!-- help: {name}".strip() in readme.text()


def test_every_variable_of_the_environment_is_in_the_readme() -> None:
    ours = [option.variable for option in OPTIONS.values() if option.variable]
    assert {API_TOKEN_VARIABLE, QUOTA_VARIABLE, NOTIFY_VARIABLE} <= {*ours}
    for variable in (*ours, "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        assert f"`{variable}`" in readme.text()


def test_the_order_of_exit_codes_is_the_programs() -> None:
    assert exit_codes.WORST_FIRST == (143, 130, 129, 3, 2, 4, 1, 0)
    assert "of 130, 143, 3, 2, 4, 1, 0 that one has" in make_parser().format_help()
    assert re.search(r"the first of\n130/143 .*, 3 .*, 2 .*, 4 .*, 1 .* and 0 that any", readme.text())


def test_columns_and_statuses_are_listed_in_order() -> None:
    listed = [line.split("`")[1] for line in readme.text().splitlines() if line.startswith("| `")]
    assert [name for name in listed if name in AUTH_COLUMNS][: len(AUTH_COLUMNS)] == list(AUTH_COLUMNS)
    assert [name for name in listed if name in list(Status)] == list(Status)


def test_every_column_name_of_the_readme_is_known_for_what_it_says() -> None:
    """And every name that is known is there, in some spelling."""
    shown = {kind: set[str]() for kind in IdentifierKind}
    for kind, flag in ((kind, kind.name.lower()) for kind in IdentifierKind):
        (names,) = re.findall(rf"^\| [\w ]+ \| (.*) \| `--map {flag}=", readme.text(), re.MULTILINE)
        for name in re.sub(r"\(s\)", "s", names).replace("`", "").split(", "):
            assert list(identifier_columns([name, "Depot"], "x.csv", RosterOptions()).sent) == [kind], name
            shown[kind].add(plain(name))
        missing = {*COLUMN_NAMES[kind]} - shown[kind] - {name.removesuffix("s") for name in shown[kind]}
        assert not missing


def settings_file(tmp_path: Path) -> SettingsFile:
    """The commented example."""
    file = tmp_path / "batch-issuer.toml"
    file.write_text(readme.block("settings"), encoding="utf-8")
    return read_settings_file(file)


def test_the_settings_of_the_readme_are_read(tmp_path: Path) -> None:
    file = settings_file(tmp_path)
    environ = {"SAMSARA_API_TOKEN": "key", "CHAT_WEBHOOK": "https://x.example"}
    layers = Layers(file, environ=environ)
    assert layers.roster_options() == RosterOptions(
        columns={IdentifierKind.DRIVER_ID: "Fahrer-Nr.", IdentifierKind.USERNAME: ""},
        external_key="payrollId",
        identify_by=(IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID),
        encoding="windows-1252",
        sheet="Fahrer",
    )
    assert layers.settings() == Settings(
        api_token=Secret("key"), burst=100, deadline=layers.settings().deadline, ca_file=layers.settings().ca_file
    )
    assert layers.report_options().log_format == "json"
    south = Layers(file, "Süd Logistik", environ=environ)
    assert south.rate() == Rate(50, 60.0)
    assert south.settings(sandbox=("http://127.0.0.1:1", "key")).burst == 50  # that of all, as far as it fits
    assert south.roster_options().columns[IdentifierKind.USERNAME] == "Kennung"
    assert south.roster_file() == tmp_path / "rosters" / "south.xlsx"


def test_the_settings_of_the_readme_are_all_there_are() -> None:
    """Alternatives that a section cannot have at once stand there as comments."""
    text = readme.block("settings")
    for option in OPTIONS.values():
        assert not option.in_file or re.search(rf"\b{option.name} = ", text), option.name


def test_exit_codes_of_the_help_are_the_programs() -> None:
    told = make_parser().format_help()
    for code, words in {
        exit_codes.EXIT_COMPLETE: "every row has a token",
        exit_codes.EXIT_ROWS_WITHOUT_TOKEN: "some rows have none",
        exit_codes.EXIT_NOTHING_SENT: "nothing was sent",
        exit_codes.EXIT_UNAUTHORIZED: "the API token was refused",
        exit_codes.EXIT_STOPPED_EARLY: "stopped early",
    }.items():
        assert f"{code}  {words}" in told
    assert list(REGIONS) == ["us", "eu", "ca"]


@pytest.mark.parametrize(("code", "output"), readme.examples(), ids=lambda text: text[:20])
def test_examples_print_what_the_readme_shows(code: str, output: str) -> None:
    """Run as a reader would, as a script in the project's folder."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=code,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.stdout == output


def test_the_first_command_prints_what_the_readme_shows(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sample_inputs", tmp_path / "sample_inputs", ignore=shutil.ignore_patterns("*.results.csv*"))
    arguments = readme.command("main").partition(".venv/bin/batch-issuer ")[2].split()
    command = [sys.executable, "-m", "batch_issuer", *arguments]
    ran = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=True
    )

    def timeless(text: str) -> str:
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+|\d\d:\d\d:\d\d", "TIME", text)

    assert timeless(ran.stdout) == timeless(readme.output("main"))


def test_there_are_examples() -> None:
    assert len(readme.examples()) == 4


def test_commands_are_the_ones_promised() -> None:
    assert readme.command("main").endswith("issue sample_inputs/depot_clean.csv --sandbox --overwrite")
    assert readme.command("tests").endswith(".venv/bin/pytest")


def test_public_names_in_the_readme_exist() -> None:
    import batch_issuer  # noqa: PLC0415

    for name in batch_issuer.__all__:
        assert getattr(batch_issuer, name) is not None


@pytest.mark.parametrize("path", ["README.md", "pyproject.toml", ".ci/run", "sample_inputs/depot.csv"])
def test_no_path_of_one_machine_is_committed(path: str) -> None:
    content = (ROOT / path).read_text(encoding="utf-8")
    assert not any(place in content for place in ("/home/", "/root/", "C:\\Users"))
    absolute = re.findall(r"(?<![\w.~>}-])/([a-z]+)/", content)
    # Where systems keep programs and services, and placeholders.
    assert set(absolute) <= {"usr", "bin", "path", "host", "etc", "opt", "run", "var"}
