"""Several organizations in one run: each with its own key, quota and stop rules; none in another's way."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from support.rosters import lines
from support.sandbox import QUICK, live_sandbox

from batch_issuer import (
    Ending,
    EndingKind,
    SettingsError,
    StopSignal,
    issue_organizations,
    open_connections,
    read_settings_file,
    summarize,
)
from batch_issuer.cli import main
from batch_issuer.pipeline.events import Event, RowDone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer import OrganizationJob
    from batch_issuer.sandbox import Sandbox


class Group:
    """A folder with settings, a sandbox for each organization, and rosters."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.file = folder / "batch-issuer.toml"
        self.sandboxes: dict[str, Sandbox] = {}
        self.environ: dict[str, str] = {}
        self._stack = stack
        self._sections: list[str] = []
        self.defaults = 'output = "results/{organization}-{date}.csv"'

    def add(self, name: str, rows: int = 3, **sandbox: Any) -> None:
        self.sandboxes[name] = self._stack.enter_context(live_sandbox(limiter="none", **sandbox))
        variable = f"KEY_{len(self.environ)}"
        self.environ[variable] = self.sandboxes[name].api_token
        base_url = self.sandboxes[name].url
        roster = self.folder / f"{name}.csv"
        roster.write_text("Username\n" + "".join(f"driver.{number}\n" for number in range(rows)))
        self._sections.append(
            f'[organizations."{name}"]\nbase_url = "{base_url}"\ntoken_env = "{variable}"\nroster_file = "{name}.csv"\n'
        )

    def write(self) -> None:
        (self.folder / "results").mkdir(exist_ok=True)
        self.file.write_text("\n".join([f"[defaults]\n{self.defaults}", *self._sections]))

    def run(self, *arguments: str) -> int:
        self.write()
        command, *rest = arguments
        return main([command, *rest, "--config", str(self.file), *QUICK], self.environ)

    def results(self, name: str) -> list[dict[str, str]]:
        (path,) = (self.folder / "results").glob(f"{name}-*.csv")
        return lines(path)

    def asked(self, name: str) -> list[str]:
        return [entry.identifier for entry in self.sandboxes[name].ledger]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with ExitStack() as stack:
        yield Group(tmp_path, stack)


def test_all_issues_for_every_roster_each_with_its_own_key(group: Group) -> None:
    group.add("north", 4)
    group.add("south", 2)
    assert group.run("issue", "--all") == 0
    for name, rows in (("north", 4), ("south", 2)):
        assert len(group.asked(name)) == rows
        tokens = {entry.token for entry in group.sandboxes[name].ledger}
        assert {row["auth_token"] for row in group.results(name)} == tokens


def test_a_revoked_key_leaves_the_other_organizations_untouched(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    group.add("north", 5, script="ok,401*")
    group.add("south", 5)
    assert group.run("issue", "--all") == 3
    assert [row["auth_status"] for row in group.results("south")] == ["issued"] * 5
    assert "not_attempted" in {row["auth_status"] for row in group.results("north")}
    stderr = capsys.readouterr().err
    result = r"^south +5 of 5 +\S+ \S+ \S+ +complete\nnorth +1 of 5 +\S+ \S+ \S+ +API token refused \(exit 3\)$"
    assert re.search(result, stderr, re.MULTILINE)


def test_a_missing_roster_or_key_stops_only_its_own_organization(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("east", "north", "south"):
        group.add(name)
    (group.folder / "north.csv").unlink()
    group.environ["KEY_2"] = ""
    assert group.run("issue", "--all", "--quiet") == 2
    assert [row["auth_status"] for row in group.results("east")] == ["issued"] * 3
    stderr = capsys.readouterr().err
    assert "error: north: no file" in stderr
    assert "error: the API token of south is missing: the environment variable KEY_2 is not set" in stderr
    assert "east" not in stderr.split("organization ")[0]
    assert "organization  login tokens  first expiry  result\nnorth " in stderr
    assert stderr.count("error: ") == 2


def test_quiet_prints_nothing_on_success(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    group.add("north")
    group.add("south")
    assert group.run("issue", "--all", "--quiet") == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert len(output.out.splitlines()) in (0, 2)  # the names of the results, for a pipe


@pytest.mark.parametrize("flag", [[], ["--org", "south"]])
def test_the_organization_column_decides_which_one_a_row_belongs_to(group: Group, flag: list[str]) -> None:
    """Spelled as people do; with --org only the rows of that one are requested. All rows are in one file, in order."""
    group.add("north")
    group.add("South Freight")
    group.add("south")
    group.defaults = 'output = "results/all-{date}.csv"'
    shared = group.folder / "all.csv"
    shared.write_text(
        "Username,Organisation\ndriver.1,NORTH\ndriver.1,south freight\ndriver.2,south\ndriver.3,north\n"
        "driver.3,south\n"
    )
    assert group.run("issue", str(shared), *flag) == 0
    assert group.asked("south") == ["username=driver.2", "username=driver.3"]
    assert len(group.asked("north")) == (0 if flag else 2)
    found = group.results("all")
    assert [row["Username"][-1] for row in found] == ["1", "1", "2", "3", "3"]
    statuses = ["not_attempted", "not_attempted", "issued", "not_attempted", "issued"] if flag else ["issued"] * 5
    assert [row["auth_status"] for row in found] == statuses


@pytest.mark.parametrize(("flags", "rows"), [((), "2 rows"), (("--org", "north"), "1 row"), (("--org", "south"), "")])
def test_rows_that_are_announced_as_refused_are_listed_at_the_end(
    flags: tuple[str, ...], rows: str, group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not so those of other organizations, or of none, where one was named."""
    group.add("north")
    group.add("south")
    shared = group.folder / "all.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.1,north\ndriver.2,south\ndriver.3,\n")
    assert group.run("issue", str(shared), *flags, "-o", str(group.folder / "out.csv")) == (1 if rows else 0)
    stderr = capsys.readouterr().err
    assert re.findall(r"^(.*) cannot be sent; listed at the end\.$", stderr, re.MULTILINE) == ([rows] if rows else [])
    assert len(re.findall("^1 (?:duplicate|invalid)", stderr, re.MULTILINE)) == int(rows[:1] or 0)


def test_a_file_of_one_organizations_rows_is_finished_for_the_others_by_retry(group: Group) -> None:
    group.add("north")
    group.add("south")
    group.defaults = ""
    shared, out = group.folder / "all.csv", group.folder / "one.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.2,south\n")
    assert group.run("issue", str(shared), "--org", "south", "-o", str(out)) == 0
    token = lines(out)[1]["auth_token"]
    assert group.run("retry", str(out)) == 0
    assert [row["auth_status"] for row in lines(out)] == ["issued", "issued"]
    assert lines(out)[1]["auth_token"] == token
    assert group.asked("south") == ["username=driver.2"]


def test_rows_of_no_organization_are_kept_in_their_place(group: Group) -> None:
    group.add("north")
    group.add("south")
    group.defaults = ""
    shared, report = group.folder / "all.csv", group.folder / "s.json"
    shared.write_text("Username,Organization,Note\ndriver.2,,b\ndriver.1,north,a\ndriver.3,west,c\n")
    assert group.run("issue", str(shared), "--summary", str(report)) == 1
    found = lines(group.folder / "all.results.csv")
    assert [(row["Note"], row["auth_status"]) for row in found] == [("b", "invalid"), ("a", "issued"), ("c", "invalid")]
    assert "'west'" in found[2]["auth_error"]
    entries = json.loads(report.read_text())["organizations"]
    assert [(entry["organization"], entry["exit_code"], entry["rows"]) for entry in entries] == [
        ("north", 0, 1),
        ("unassigned", 1, 2),
    ]


@pytest.mark.parametrize("place", ["file", "flag"])
def test_a_file_for_each_organization_is_refused_for_a_roster_that_they_share(
    group: Group, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """Nothing is sent; the message names the alternatives."""
    group.add("north")
    group.add("south")
    flag = []
    if place == "flag":
        group.defaults, flag = "", ["-o", str(group.folder / "{organization}.csv")]
    shared = group.folder / "all.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.2,south\n")
    assert group.run("issue", str(shared), *flag) == 2
    stderr = capsys.readouterr().err
    assert "all.csv contains drivers of several organizations, so it has one results file" in stderr
    assert "-o" in stderr
    assert "roster_file" in stderr
    assert not group.asked("north")


def test_one_results_file_for_all_keeps_the_roster_and_is_resumed_by_organization(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same rows in the same order; a username of two organizations is two drivers, twice in one it is a duplicate."""
    monkeypatch.setattr("batch_issuer.pipeline.backoff.BACKOFF_BASE", 0.01)
    group.add("north", script="ok,503*5")
    group.add("south")
    group.defaults = ""
    shared = group.folder / "all.csv"
    rows = [
        ("driver.1", "north"),
        ("driver.1", "south"),
        ("driver.2", "north"),
        ("driver.1", "north"),
        ("driver.9", ""),
    ]
    shared.write_text("Username,Organization\n" + "".join(f"{name},{whose}\n" for name, whose in rows))
    out = group.folder / "one.csv"
    assert group.run("issue", str(shared), "-o", str(out)) == 1
    found = lines(out)
    assert [(row["Username"], row["Organization"]) for row in found] == rows
    assert [row["auth_status"] for row in found[:2]] == ["issued", "issued"]
    assert [row["auth_status"] for row in found[3:]] == ["duplicate", "invalid"]
    assert found[0]["auth_token"] == group.sandboxes["north"].ledger[0].token
    assert found[1]["auth_token"] == group.sandboxes["south"].ledger[0].token

    group.add("west")  # nothing of it in this file
    before = len(group.asked("south"))
    assert group.run("retry", str(out)) == 1
    again = lines(out)
    assert [row["auth_status"] for row in again] == ["issued", "issued", "issued", "duplicate", "invalid"]
    assert [row["auth_token"] for row in again[:2]] == [row["auth_token"] for row in found[:2]]
    assert len(group.asked("south")) == before


def test_a_missing_key_stops_only_its_own_rows_of_a_shared_file(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    group.add("north")
    group.add("south")
    group.environ["KEY_1"] = ""
    group.defaults = ""
    shared, out = group.folder / "all.csv", group.folder / "one.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.2,south\n")
    assert group.run("issue", str(shared), "-o", str(out), "--summary", str(group.folder / "s.json")) == 2
    assert [row["auth_status"] for row in lines(out)] == ["issued", "not_attempted"]
    assert "error: the API token of south is missing" in capsys.readouterr().err
    entries = json.loads((group.folder / "s.json").read_text())["organizations"]
    assert [(entry["organization"], entry["exit_code"], entry["rows"]) for entry in entries] == [
        ("north", 0, 1),
        ("south", 2, 1),
    ]


def test_rosters_of_their_own_never_share_a_results_file(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    """All that would are refused before anything is sent; one that has another name is issued for."""
    for name in ("east", "north", "south"):
        group.add(name, 2)
    group.defaults = 'output = "results/all-{date}.csv"'
    group._sections[0] += 'output = "results/{organization}-{date}.csv"\n'
    assert group.run("issue", "--all") == 2
    stderr = capsys.readouterr().err
    assert stderr.count("north and south have the same results file") >= 2
    assert "add {organization} to output" in stderr
    assert (len(group.asked("east")), len(group.asked("north")), len(group.asked("south"))) == (2, 0, 0)


def test_in_a_roster_of_its_own_an_organization_gets_its_own_rows_only(group: Group) -> None:
    """The rows of others are kept and not requested with its API token."""
    shared = "Username,Organization\ndriver.1,north\ndriver.2,south\ndriver.3,south\n"
    for name in ("north", "south"):
        group.add(name)
        (group.folder / f"{name}.csv").write_text(shared)
    assert group.run("issue", "--all") == 0
    assert group.asked("north") == ["username=driver.1"]
    assert sorted(group.asked("south")) == ["username=driver.2", "username=driver.3"]
    assert [row["auth_status"] for row in group.results("north")] == ["issued", "not_attempted", "not_attempted"]


def test_a_column_that_names_none_of_the_organizations_is_no_column_of_organizations(group: Group) -> None:
    group.add("north")
    group.add("south")
    roster = group.folder / "north.csv"
    roster.write_text("Username,Org\ndriver.1,Logistics\ndriver.2,Sales\n")
    out = group.folder / "r.csv"
    assert group.run("issue", str(roster), "--org", "north", "-o", str(out)) == 0
    assert group.run("retry", str(out), "--org", "north", "--min-validity", "20m") == 0
    assert [row["Org"] for row in lines(out)] == ["Logistics", "Sales"]
    assert len(group.asked("north")) == 4


def test_results_of_several_go_into_no_file_of_one_organization(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor anywhere else than each of them said: that could be a folder that others read."""
    group.add("north")
    group.add("south")
    group.defaults = ""
    group._sections = [
        f'{one}output = "{name}-only.csv"\n' for name, one in zip(("north", "south"), group._sections, strict=True)
    ]
    shared = group.folder / "all.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.2,south\n")
    assert group.run("issue", str(shared)) == 2
    assert "all.csv contains drivers of several organizations" in capsys.readouterr().err
    assert not group.asked("north")
    assert group.run("issue", str(shared), "-o", str(group.folder / "one.csv")) == 0
    assert [row["auth_status"] for row in lines(group.folder / "one.csv")] == ["issued", "issued"]
    assert not list(group.folder.glob("*-only.csv"))


def test_rows_that_all_name_no_known_organization_belong_to_none(group: Group) -> None:
    """They are not everybody's: the summary has them once."""
    for name in ("north", "south", "west"):
        group.add(name)
    group.defaults = ""
    shared, out, report = group.folder / "all.csv", group.folder / "one.csv", group.folder / "s.json"
    shared.write_text("Username,Organization\ndriver.1,west\ndriver.2,west\n")
    assert group.run("issue", str(shared), "-o", str(out)) == 0
    group._sections = group._sections[:2]
    assert group.run("retry", str(out), "--summary", str(report)) == 1
    entries = json.loads(report.read_text())["organizations"]
    assert [(entry["organization"], entry["exit_code"], entry["rows"]) for entry in entries] == [("unassigned", 1, 2)]
    assert [row["auth_status"] for row in lines(out)] == ["issued", "issued"]
    assert not group.asked("north") + group.asked("south")
    assert group.run("retry", str(out), "--org", "north") in (0, 2)
    assert not group.asked("south")


def test_retry_of_an_organization_without_rows_is_refused(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    group.add("north")
    group.add("south")
    group.defaults = ""
    shared, out = group.folder / "all.csv", group.folder / "one.csv"
    shared.write_text("Username,Organization\ndriver.1,north\n")
    assert group.run("issue", str(shared), "-o", str(out)) == 0
    assert group.run("retry", str(out), "--org", "south") == 2
    assert "no row of one.csv belongs to south" in capsys.readouterr().err


def test_check_takes_a_roster_of_which_organization_it_may_be(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    group.add("north")
    group.add("south")
    group.write()
    assert main(["check", str(group.folder / "north.csv"), "--config", str(group.file)], group.environ) == 0
    assert "3 can be sent" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--org", "north"], ["north.csv", "--org", "north"], ["--all"]])
def test_a_roster_that_is_missing_is_reported_with_its_organization(
    group: Group, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(group.folder)
    group.add("north")
    (group.folder / "north.csv").unlink()
    report = group.folder / "s.json"
    assert group.run("issue", *arguments, "--summary", str(report)) == 2
    (entry,) = json.loads(report.read_text())["organizations"]
    assert (entry["organization"], entry["ending"], entry["exit_code"]) == ("north", "not started", 2)
    assert entry["roster"].endswith("north.csv")


def test_a_roster_of_several_without_rows_is_an_error(group: Group) -> None:
    group.add("north")
    group.add("south")
    shared = group.folder / "all.csv"
    shared.write_text("Username,Organization\n")
    assert group.run("issue", str(shared), "--quiet") == 2


def test_retry_of_one_organization_answers_for_that_one(group: Group) -> None:
    group.add("north")
    group.add("south", script="404*9")
    group.defaults = ""
    shared, out = group.folder / "all.csv", group.folder / "one.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.2,south\ndriver.3,west\n")
    assert group.run("issue", str(shared), "-o", str(out)) == 1
    assert group.run("retry", str(out), "--org", "north") == 0
    assert group.run("retry", str(out), "--org", "south") == 1


def test_rows_of_organizations_that_the_settings_no_longer_know_stay_as_they_are(group: Group) -> None:
    """The same driver of two of them is two drivers; a token that may exist is not forgotten."""
    for name in ("north", "south", "west"):
        group.add(name, script="" if name == "west" else "lost*9")
    group.defaults = ""
    shared, out = group.folder / "all.csv", group.folder / "one.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.1,south\ndriver.2,west\n")
    group.run("issue", str(shared), "-o", str(out), "--timeout", "0.2s", "--give-up-after", "0.3s")
    assert [row["auth_status"] for row in lines(out)] == ["unknown", "unknown", "issued"]
    group._sections = group._sections[2:]
    assert group.run("retry", str(out)) == 1
    assert [row["auth_status"] for row in lines(out)] == ["unknown", "unknown", "issued"]
    assert all("a token may exist" in row["auth_hint"] for row in lines(out)[:2])


@pytest.mark.parametrize("flag", ["--summary", "--log-file"])
@pytest.mark.parametrize("victim", ["north.csv", "results.csv"])
def test_no_report_replaces_another_file(group: Group, flag: str, victim: str) -> None:
    group.add("north")
    out = group.folder / "results.csv"
    assert group.run("issue", "--org", "north", "-o", str(out)) == 0
    before = (group.folder / victim).read_bytes()
    assert group.run("retry", str(out), flag, str(group.folder / victim)) == 2
    assert (group.folder / victim).read_bytes() == before
    out.unlink()
    asked = len(group.asked("north"))
    code = group.run("issue", "--org", "north", "-o", str(out), flag, str(out))
    if flag == "--summary":  # the results are there first
        assert code == 0
        assert [row["auth_status"] for row in lines(out)] == ["issued"] * 3
    else:
        assert code == 2
        assert len(group.asked("north")) == asked


def test_a_settings_file_that_cannot_be_read_replaces_yesterdays_summary(group: Group) -> None:
    group.add("north")
    path = group.folder / "s.json"
    assert group.run("issue", "--org", "north", "--summary", str(path)) == 0
    group.defaults = "rate = 5"
    assert group.run("issue", "--org", "north", "--summary", str(path)) == 2
    summary = json.loads(path.read_text())
    assert summary["exit_code"] == 2
    assert "rate" in summary["organizations"][0]["message"]


def test_a_token_stays_when_its_row_loses_its_organization(group: Group) -> None:
    group.add("north")
    group.add("south")
    group.defaults = ""
    shared, out = group.folder / "all.csv", group.folder / "one.csv"
    shared.write_text("Username,Organization\ndriver.1,north\ndriver.2,south\n")
    assert group.run("issue", str(shared), "-o", str(out)) == 0
    token = lines(out)[0]["auth_token"]
    out.write_bytes(out.read_bytes().replace(b"driver.1,north", b"driver.1,"))
    assert group.run("retry", str(out)) == 1
    assert lines(out)[0]["auth_token"] == token
    assert "no organization" in lines(out)[0]["auth_error"]


def test_retry_knows_the_organization_by_the_name_of_the_results(group: Group) -> None:
    group.add("north", script="404*3")
    group.add("south")
    assert group.run("issue", "--all", "--quiet") == 1
    (path,) = (group.folder / "results").glob("north-*.csv")
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(re.sub(r"username=driver\.\d", "", text), encoding="utf-8-sig")
    assert group.run("retry", str(path), "--quiet") == 0
    assert len(group.asked("south")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["issue", "north.csv"], "the settings have 2 organizations: north, south"),
        (["issue", "north.csv", "--org", "west"], "no organization 'west'"),
        (["issue", "north.csv", "--all"], "--all cannot be combined with ROSTER or --org"),
        (["issue", "--all", "--token-command", "echo key"], "'north' and 'south' have the same API token"),
        (
            ["issue", "--org", "north", "-o", "{nothing}.csv"],
            "unknown placeholder '{nothing}' in the name of the results",
        ),
        (["retry", "north.csv"], "no column 'organization' for the organization"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    group: Group,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(group.folder)
    group.add("north")
    group.add("south")
    if "--token-command" in arguments:
        group._sections = [
            re.sub(r'base_url = ".*"', 'base_url = "http://127.0.0.1:1"', one) for one in group._sections
        ]
    if arguments[0] == "retry":
        (group.folder / "north.csv").write_text(
            "Username,auth_status,auth_token,auth_code,auth_expires_at,auth_identifier,"
            "auth_error,auth_hint,auth_http_status,auth_request_id,auth_attempts,auth_issued_at\na,,,,,,,,,,,\n"
        )
    assert group.run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not any(sandbox.ledger for sandbox in group.sandboxes.values())


def test_the_summary_has_each_organization_with_its_own_figures(group: Group) -> None:
    group.add("north", 4, script="404")
    group.add("south", 2)
    (group.folder / "south.csv").unlink()
    assert group.run("issue", "--all", "--quiet", "--summary", str(group.folder / "s.json")) == 2
    summary = json.loads((group.folder / "s.json").read_text())
    north, south = summary["organizations"]
    assert (north["organization"], north["exit_code"], north["counts"]["issued"]) == ("north", 1, 3)
    assert (south["organization"], south["exit_code"], south["ending"]) == ("south", 2, "not started")
    assert summary["exit_code"] == 2


def test_the_sandbox_stands_in_for_every_organization(group: Group) -> None:
    group.add("north")
    group.add("south")
    assert group.run("issue", "--all", "--sandbox") == 0
    assert all(row["auth_token"].startswith("sandbox-") for row in group.results("north") + group.results("south"))
    assert not any(sandbox.ledger for sandbox in group.sandboxes.values())


# --- from Python


def test_organizations_are_issued_for_from_python(group: Group) -> None:
    """A record each, with its results, from which the summary is made; one that fails does not end the others."""
    for name in ("north", "south"):
        group.add(name)
    group.add("west", script="401*")
    group.write()
    del group.environ["KEY_1"]
    date = datetime(2030, 5, 6, 1, tzinfo=UTC)

    async def main() -> list[OrganizationJob]:
        async with open_connections(None, 10) as connections:
            return await issue_organizations(
                read_settings_file(group.file),
                environ=group.environ,
                flags={"quota": "process"},
                date=date,
                connections=connections,
            )

    found = {one.name: one for one in asyncio.run(main())}
    assert {name: summarize(one).exit_code for name, one in found.items()} == {"north": 0, "south": 2, "west": 3}
    assert found["north"].results == group.folder / "results" / "north-2030-05-06.csv"
    assert [row["auth_token"] for row in lines(found["north"].results)] == [
        one.token for one in found["north"].outcomes
    ]
    assert isinstance(found["south"].error, SettingsError)
    assert "KEY_1" in summarize(found["south"]).message
    assert found["west"].ending is not None
    assert found["west"].ending.kind is EndingKind.UNAUTHORIZED


def test_one_organization_is_issued_for_by_its_name(group: Group) -> None:
    group.add("north")
    group.add("south")
    group.write()
    settings = read_settings_file(group.file)
    (one,) = asyncio.run(issue_organizations(settings, ["south"], environ=group.environ, flags={"quota": "process"}))
    assert (one.name, len(one.outcomes), one.without_token) == ("south", 3, [])
    assert one.usage is not None
    assert one.usage.requests == len(group.asked("south")) == 3
    assert not group.asked("north")
    with pytest.raises(SettingsError, match="no organization 'west'"):
        asyncio.run(issue_organizations(settings, ["west"], environ=group.environ))


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"rat": "5/s"}, "no setting 'rat'"), ({"api_token": "key"}, "no setting 'api_token'"), ({"rate": "x"}, "rate")],
)
def test_settings_from_python_are_read_as_those_of_the_file(group: Group, flags: dict[str, str], message: str) -> None:
    group.add("north")
    group.write()
    settings = read_settings_file(group.file)
    with pytest.raises(SettingsError, match=message):
        asyncio.run(issue_organizations(settings, environ=group.environ, flags=flags))
    written = {"rate": "1000/s", "quota": "process", "timeout": "5s"}
    (one,) = asyncio.run(issue_organizations(settings, ["north", "north"], environ=group.environ, flags=written))
    assert one.settings is not None
    assert (str(one.settings.rate), one.settings.timeout) == ("1000/s", 5.0)


def test_organizations_are_stopped_by_one_signal(group: Group) -> None:
    for name in ("north", "south"):
        group.add(name, 50, latency=(0.01, 0.01))
    group.write()
    stop, ending = StopSignal(), Ending(EndingKind.INTERRUPTED, "by the test")

    def observe(event: Event) -> None:
        if isinstance(event, RowDone):
            stop.stop(ending)

    found = asyncio.run(
        issue_organizations(
            read_settings_file(group.file),
            environ=group.environ,
            flags={"quota": "process"},
            stop=stop,
            observers={"north": observe},
        )
    )
    assert [one.ending for one in found] == [ending, ending]
    assert all(len(one.outcomes) == 50 and one.without_token for one in found)
