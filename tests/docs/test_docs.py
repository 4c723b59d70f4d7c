"""README and manual are true: their outputs, hints, tables and examples are those of the program."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import docs
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


def test_the_readme_can_be_read_in_three_minutes() -> None:
    assert len(docs.text().encode()) <= 10_000


@pytest.mark.parametrize("page", docs.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_hints_and_events_are_the_programs(page: Path) -> None:
    """If this fails: ``python tests/support/docs.py --write``."""
    assert docs.text(page) == docs.up_to_date(page)


def test_hints_and_events_are_in_the_manual() -> None:
    for mark in ("hints", "events"):
        assert docs.everything().count(f"<!-- {mark} -->") == 1


def test_help_texts_are_the_programs() -> None:
    """If this fails: ``python tests/support/docs.py --write``."""
    assert {file.stem: docs.text(file) for file in docs.HELP.iterdir()} == docs.help_texts()


def test_every_command_is_in_the_readme() -> None:
    commands = docs.text().partition("| command |")[2].partition("| exit code |")[0]
    listed = re.findall(r"^\| `(\w+)` \|", commands, re.MULTILINE)
    assert sorted(listed) == sorted(subcommands(make_parser()))


def test_every_variable_of_the_environment_is_in_the_manual() -> None:
    ours = [option.variable for option in OPTIONS.values() if option.variable]
    assert {API_TOKEN_VARIABLE, QUOTA_VARIABLE, NOTIFY_VARIABLE} <= {*ours}
    for variable in (*ours, "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        assert f"`{variable}`" in docs.text(docs.MANUAL / "settings.md")


def test_the_order_of_exit_codes_is_the_programs() -> None:
    assert exit_codes.WORST_FIRST == (143, 130, 129, 3, 2, 4, 1, 0)
    assert "the first of 130, 143, 3, 2, 4, 1, 0 that occurs" in make_parser().format_help()
    text = docs.text(docs.MANUAL / "organizations.md")
    assert re.search(r"the first of 130/143 .*, 3 .*, 2 .*, 4 .*, 1 .* and 0 that one has", text.replace("\n", " "))


def test_the_exit_codes_of_the_readme_are_the_programs() -> None:
    listed = re.findall(r"^\| (\d[\d, ]*) \|", docs.text().partition("| exit code |")[2], re.MULTILINE)
    codes = [int(code) for cell in listed[:6] for code in cell.split(", ")]
    assert sorted(codes) == sorted({*exit_codes.WORST_FIRST} - {129})  # SIGHUP is in the manual


@pytest.mark.parametrize("page", [docs.README, docs.MANUAL / "results.md"], ids=lambda page: page.stem)
def test_columns_and_statuses_are_listed_in_order(page: Path) -> None:
    listed = re.findall(r"^(?:\| |- )`(\w+)`(?: \||:)", docs.text(page), re.MULTILINE)
    assert [name for name in listed if name in AUTH_COLUMNS][: len(AUTH_COLUMNS)] == list(AUTH_COLUMNS)
    assert [name for name in listed if name in list(Status)] == list(Status)


def test_every_column_name_of_the_manual_is_known_for_what_it_is() -> None:
    """And every name that is known is there, in some spelling."""
    shown = {kind: set[str]() for kind in IdentifierKind}
    text = docs.text(docs.MANUAL / "rosters.md")
    for kind, flag in ((kind, kind.name.lower()) for kind in IdentifierKind):
        (names,) = re.findall(rf"^- \*\*Names\*\*: ([^*]*)\n- \*\*Flag\*\*: `--map {flag}=", text, re.MULTILINE)
        for name in re.split(r",\s+", names.replace("(s)", "s")):
            assert list(identifier_columns([name, "Depot"], "x.csv", RosterOptions()).sent) == [kind], name
            shown[kind].add(plain(name))
        missing = {*COLUMN_NAMES[kind]} - shown[kind] - {name.removesuffix("s") for name in shown[kind]}
        assert not missing


def settings_file(tmp_path: Path) -> SettingsFile:
    """The commented example."""
    file = tmp_path / "batch-issuer.toml"
    file.write_text(docs.block("settings"), encoding="utf-8")
    return read_settings_file(file)


def test_the_settings_of_the_manual_are_read(tmp_path: Path) -> None:
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


def test_the_settings_of_the_manual_are_all_there_are() -> None:
    """Alternatives that exclude each other are comments."""
    text = docs.block("settings")
    for option in OPTIONS.values():
        assert not option.in_file or re.search(rf"\b{option.name} = ", text), option.name


def test_exit_codes_of_the_help_are_the_programs() -> None:
    text = make_parser().format_help()
    for code, words in {
        exit_codes.EXIT_COMPLETE: "every row has a token",
        exit_codes.EXIT_ROWS_WITHOUT_TOKEN: "some rows have none",
        exit_codes.EXIT_NOTHING_SENT: "nothing was sent",
        exit_codes.EXIT_UNAUTHORIZED: "the API token was refused",
        exit_codes.EXIT_STOPPED_EARLY: "stopped early",
    }.items():
        assert f"{code}  {words}" in text
    assert list(REGIONS) == ["us", "eu", "ca"]


@pytest.mark.parametrize(("code", "output"), docs.examples(), ids=lambda text: text[:20])
def test_examples_print_what_is_shown(code: str, output: str) -> None:
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


@pytest.mark.parametrize(
    "page", [page for page in docs.pages() if docs.outputs(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_print_what_is_shown(page: Path) -> None:
    """If this fails: ``python tests/support/docs.py --write``."""
    for name, printed in docs.printed(page).items():
        assert docs.timeless(printed) == docs.timeless(docs.output(name)), name


def test_times_are_no_difference_and_all_else_is() -> None:
    shown = "55 of 60 rows have a login token (1.3 s).\nFirst expiry: 2026-11-28 20:15:02 UTC, in 15 min.\n"
    later = "55 of 60 rows have a login token (0.9 s).\nFirst expiry: 2027-01-02 03:04:05 CET, in 14 min 59 s.\n"
    assert docs.timeless(shown) == docs.timeless(later)
    assert docs.timeless(shown) != docs.timeless(later.replace("55", "54"))
    together = "The next one expires at 2026-11-28 20:15:02 UTC.\n"
    apart = "The next one expires at 2026-11-28 20:15:02 UTC, the last one at 2026-11-28\n20:15:03 UTC.\n"
    assert docs.timeless(together) == docs.timeless(apart)


def test_there_are_examples() -> None:
    assert len(docs.examples()) == 4


def test_commands_are_the_ones_promised() -> None:
    assert docs.command("main").endswith("issue sample_inputs/depot_clean.csv --sandbox --overwrite")
    assert docs.command("tests").endswith(".venv/bin/pytest")


def test_every_promise_has_evidence() -> None:
    promises = docs.text().partition("## What it promises\n\n")[2].partition("\n\n## ")[0].split("\n- ")
    assert len(promises) == 6
    for promise in promises:
        assert re.search(r"\]\((tests|batch_issuer)/\S+\)", promise), promise


def test_the_figures_of_the_readme_are_those_that_were_measured() -> None:
    measured = " ".join((docs.ROOT / "tests" / "README.md").read_text(encoding="utf-8").split())
    shown = " ".join(docs.text().split())
    for figure in ("500 kills", "7,827 tokens", "91 faults", "728 combinations", "1,432,207"):
        assert figure in shown
        assert figure in measured
    corpus = [file for file in (ROOT / "tests" / "corpus" / "files").rglob("*") if file.is_file()]
    assert f"{len(corpus)} sample files" in shown
    assert f"{len(corpus)} small rosters" in measured
    figures = docs.text(ROOT / "tests" / "benchmarks" / "figures.md")
    runs = [
        int(servers) * int(seeds)
        for servers, seeds in re.findall(r"(\d+) servers x (\d+) seeds.*, 0 times 429", figures)
    ]
    assert f"no 429 in {sum(runs)} runs against four kinds of server" in shown


def anchors(page: Path) -> set[str]:
    """As code hosts make them of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", docs.text(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", docs.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", docs.text(page), flags=re.DOTALL)):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
            if page.parent == docs.MANUAL:
                assert target.parent == docs.MANUAL, f"{link} is not in the package"


def test_every_page_of_the_manual_is_linked_from_the_readme() -> None:
    for page in docs.manual():
        assert f"](batch_issuer/manual/{page.name})" in docs.text()


def test_public_names_exist() -> None:
    import batch_issuer  # noqa: PLC0415

    for name in batch_issuer.__all__:
        assert getattr(batch_issuer, name) is not None


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "tests/README.md",
        "tests/benchmarks/README.md",
        "pyproject.toml",
        ".ci/run",
        "sample_inputs/depot.csv",
    ],
)
def test_no_path_of_one_machine_is_committed(path: str) -> None:
    content = (ROOT / path).read_text(encoding="utf-8")
    assert not any(place in content for place in ("/home/", "/root/", "C:\\Users"))
    absolute = re.findall(r"(?<![\w.~>}-])/([a-z]+)/", content)
    # Where systems keep programs and services, and placeholders.
    assert set(absolute) <= {"usr", "bin", "path", "host", "etc", "opt", "run", "var"}
