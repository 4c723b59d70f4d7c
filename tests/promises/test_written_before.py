"""Files of the version before the restructuring: this version reads, finishes and refuses them just the same.

``written_before/`` holds what the command of commit 43148c9 wrote, one folder for each state a run can leave.
``expected.json`` holds what that version then did with each file, as facts that other words do not change: exit
codes, the drivers that were requested, and for each row its status, driver, attempts and token. Texts count only where
they are a file's own cells, in rows that were not requested again.

The command is called in process, and nothing else of the package is used but its sandbox.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import socket
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from support.sandbox import live_sandbox

from batch_issuer.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batch_issuer import Sandbox

    Facts = dict[str, Any]
    Row = dict[str, str]

FIXTURES = Path(__file__).with_name("written_before")
ROSTER = "depot.csv"
SETTINGS = "batch-issuer.toml"
WORDS = ("auth_error", "auth_hint")
JUDGED_AGAIN = ("invalid", "duplicate", "not_attempted")
"""Statuses that every run decides again from the cells, with the error and hint of this version."""

STATUSES = ("issued", "failed", "invalid", "duplicate", "unknown", "not_attempted")
NAMED = ("--overwrite", "batch-issuer retry", "batch-issuer.toml")
"""What a refusal may point to. The earlier version had ``--restart`` besides, which ``--overwrite`` now includes."""

SEED_OF_LONG_BACKOFFS = 1
"""With it the first backoff is 67 ms. Unseeded, one in 25 is shorter than 20 ms, and a second row is sent."""

LOST = re.compile(r"^(\d+) rows?\b.*\b(?:nobody knows|may|lost)\b", re.MULTILINE)
"""The line about rows to request again although a token may exist."""


# --- the files, read without the package


def raw_lines(path: Path) -> list[list[str]]:
    """All cells of a results file or journal, as they are in it; without a journal's torn last line."""
    if path.suffix == ".xlsx":
        return sheet_lines(path)
    text = path.read_bytes().partition(b"\0")[0].decode("utf-8-sig", errors="ignore")
    delimiter = re.findall(r"auth_status([,;\t|])auth_token", text)[0]
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    return [line for line in lines if len(line) == len(lines[0])]


def sheet_lines(path: Path) -> list[list[str]]:
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as archive:
        strings = ET.fromstring(archive.read("xl/sharedStrings.xml"))  # noqa: S314 - a file of our own
        sheet = ET.fromstring(archive.read("xl/worksheets/sheet1.xml"))  # noqa: S314
    texts = ["".join(part.text or "" for part in one.iter(f"{space}t")) for one in strings]

    def text_of(cell: ET.Element) -> str:
        value = cell.find(f"{space}v")
        return "" if value is None else texts[int(value.text or 0)]

    return [[text_of(cell) for cell in row] for row in sheet.iter(f"{space}row")]


def rows_of(path: Path) -> dict[int, Row]:
    """Each row by its number as the spreadsheet shows it; of a journal its last line."""
    header, *lines = raw_lines(path)
    found = [dict(zip(header, line, strict=True)) for line in lines]
    numbered = {int(row.pop("auth_row", place)): row for place, row in enumerate(found, 2)}
    return dict(sorted(numbered.items()))


# --- the command


class Servers:
    """Sandboxes for the organizations, by their script; each runs until the end of all tests."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, list[Sandbox]] = {}

    def get(self, script: str, count: int) -> list[Sandbox]:
        """``count`` of them, with empty ledgers."""
        running = self._running.setdefault(script, [])
        while len(running) < count:
            running.append(self._stack.enter_context(live_sandbox(limiter="none", script=script)))
        for server in running:
            server.ledger.clear()
        return running[:count]


class Place:
    """A copy of a fixture, and the command run on it.

    output: returns stdout and stderr since the last call.
    """

    def __init__(self, fixture: str, folder: Path, output: Callable[[], tuple[str, str]], servers: Servers) -> None:
        self._servers = servers
        self.folder = folder / fixture
        self.folder.mkdir()
        self._output = output
        self.results = results_name(fixture)
        self.out = self.folder / self.results
        self.partial = self.folder / f"{self.results}.partial"
        for path in sorted((FIXTURES / fixture).iterdir()):
            shutil.copyfile(path, self.folder / path.name)
        if self.partial.exists():
            self.set_journal_age(-10)  # as it is after a kill: it was changed after the results
        self.before = rows_of(self.partial if self.partial.exists() else self.out)
        self.servers: list[Sandbox] = []
        self.err = ""

    def set_journal_age(self, seconds: float) -> None:
        at = time.time() - seconds
        os.utime(self.partial, (at, at))

    def content(self) -> dict[str, bytes]:
        ours = (path for path in self.folder.iterdir() if path.name != SETTINGS)
        return {path.name: path.read_bytes() for path in sorted(ours)}

    def run(self, *arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run a command on these files; its output must not contain a token or a code."""
        secrets = self._secrets()
        self._output()
        code = main(list(arguments), environ or {})
        out, self.err = self._output()
        for secret in secrets | self._secrets():
            assert secret not in out + self.err
        return code, out, self.err

    def _secrets(self) -> set[str]:
        files = [path for path in (self.out, self.partial) if path.exists()]
        rows = [row for path in files for row in rows_of(path).values()]
        cells = {row[name] for row in rows for name in ("auth_token", "auth_code")}
        return {cell for cell in cells if len(cell) > 10}

    def request(self, command: str, *arguments: str, script: str = "") -> Facts:
        """Run ``issue`` or ``retry`` against a sandbox for each organization."""
        many = (self.folder / SETTINGS).exists()
        names = ("north", "south") if many else ("",)
        self.servers = self._servers.get(script, len(names))
        environ = {"SAMSARA_API_TOKEN": self.servers[0].api_token}
        options = ["--base-url", self.servers[0].url]
        if many:
            text = (FIXTURES / self.folder.name / SETTINGS).read_text(encoding="utf-8")
            for name, server in zip(names, self.servers, strict=True):
                text = text.replace(f"{{{name}}}", server.url)
                environ[f"KEY_OF_{name.upper()}"] = server.api_token
            (self.folder / SETTINGS).write_text(text, encoding="utf-8")
            options = []
        options += ["--quota", "process", "--rate", "1000/s", "--give-up-after", "5s"]
        content = self.content()
        code, out, _ = self.run(command, *arguments, *options, environ=environ)
        return self.facts(code, out, content)

    def facts(self, code: int, out: str, content: dict[str, bytes]) -> Facts:
        """What a run did. ``content``: the files before it."""
        after = self.content()
        found: Facts = {"exit_code": code, "stdout": out, "requested": self._requests()}
        if code == 2:
            assert not found["requested"]
            return found | {"files_unchanged": after == content, "points_to": [one for one in NAMED if one in self.err]}
        new_names = sorted(set(after) - set(content))
        found["files"] = sorted(after)
        found["kept_aside"] = [name for name in new_names if after[name] == content.get(self.partial.name)]
        found["unchanged"] = after.get(self.results) == content.get(self.results)
        lost = LOST.search(self.err)
        found["requested_though_a_token_may_exist"] = int(lost[1]) if lost else 0
        rows = rows_of(self.out)
        found["rows"] = {str(number): self._row_facts(number, row) for number, row in rows.items()}
        found["texts"] = self._texts(rows)
        return found

    def _requests(self) -> list[str]:
        return sorted(entry.identifier for server in self.servers for entry in server.ledger)

    def _was_requested(self, row: Row) -> bool:
        """Whether the row's driver was requested from the server of its organization."""
        organization = row.get("Organization", "").lower()
        servers = self.servers[1:] if organization == "south" else self.servers[:1]
        return any(entry.identifier == row["auth_identifier"] for server in servers for entry in server.ledger)

    def _row_facts(self, number: int, row: Row) -> str:
        """One row: status, driver, attempts, token, whether it has an error and a hint, and which cells changed."""
        before = self.before[number]
        for name, cell in row.items():
            guarded = self.out.suffix == ".xlsx" and before[name] == f"'{cell}"  # in a journal only
            assert name.startswith("auth_") or guarded or cell == before[name], f"row {number}: {name} changed"
        requested = self._was_requested(row) and row["auth_status"] not in ("invalid", "duplicate")
        facts = [row["auth_status"], row["auth_identifier"] or "no driver", f"{row['auth_attempts']} attempts"]
        facts.append(self._token_facts(row, before))
        facts.append({0: "no words", 1: "some words", 2: "says why and how"}[sum(row[name] != "" for name in WORDS)])
        facts += ["a token may exist"] if may_exist(row["auth_hint"]) else []
        if requested:
            facts.append("requested")
        else:
            but = WORDS if row["auth_status"] in JUDGED_AGAIN else ()
            changed = [name for name in row if name.startswith("auth_") and row[name] != before[name]]
            facts += [f"changes {name}" for name in changed if name not in but]
        return "; ".join(facts)

    def _token_facts(self, row: Row, before: Row) -> str:
        token = row["auth_token"]
        if not token:
            assert not row["auth_code"] or row["auth_status"] == "issued"
            return "no token"
        issued = {(one.identifier, one.token, one.code) for server in self.servers for one in server.ledger}
        if token == before["auth_token"]:
            return "kept token"
        assert (row["auth_identifier"], token, row["auth_code"]) in issued, "a token without its code and driver"
        return "new token"

    def _texts(self, rows: dict[int, Row]) -> Facts:
        """Unchanged errors and hints of rows that were neither requested nor judged again."""
        found: Facts = {}
        for number, row in rows.items():
            words = [row[name] for name in WORDS]
            kept = words == [self.before[number][name] for name in WORDS] and not self._was_requested(row)
            if any(words) and kept and row["auth_status"] not in JUDGED_AGAIN:
                found[str(number)] = words
        return found


def may_exist(hint: str) -> bool:
    """Whether a hint states that a token may exist, in any words."""
    return any(re.search(r"\bmay\b", part) and re.search(r"\btoken\b", part) for part in re.split("[;.]", hint))


def results_name(fixture: str) -> str:
    names = [path.name for path in (FIXTURES / fixture).iterdir()]
    (name,) = {
        name.removesuffix(".partial") for name in names if re.fullmatch(r"depot\.results\.\w+(\.partial)?", name)
    }
    return name


# --- what is done with the files


NEXT_COMMAND = re.compile(
    r"(?:A run is in progress or was interrupted; its journal is .*\n)?To .*:\n  batch-issuer retry .*\n"
)
"""What ``status`` prints to stderr today; it was part of stdout."""


def rows_shown(output: str) -> set[int]:
    """The rows of all groups that ``status`` lists."""
    lists = re.findall(r"^    rows? (.*)$", output, re.MULTILINE)
    spans = [span for rows in lists for span in re.findall(r"(?<![\w.-])(\d+)(?:-(\d+))?(?![\w.-])", rows)]
    return {row for first, last in spans for row in range(int(first), int(last or first) + 1)}


def status(place: Place) -> Facts:
    code, text, _ = place.run("status", "--json", place.results)
    found = json.loads(text)
    human, out, err = place.run("status", place.results)
    assert human == code
    for name, count in found["counts"].items():
        assert any(re.search(rf"\b{count}\b", line) and name.replace("_", " ") in line for line in out.splitlines())
    own = {(row["auth_error"], row["auth_hint"]) for row in place.before.values()}
    for problem in found["problems"]:
        assert problem["hint"] in out
        assert problem["rows"][0]["row"] in rows_shown(out)
    problems = {}
    for row in (row for problem in found["problems"] for row in problem["rows"]):
        is_own = (row["error"], row["hint"]) in own
        words = [row["error"], row["hint"]] if is_own else ["words that are not the file's", ""]
        problems[str(row["row"])] = [row["status"], row["identifier"], *words]
    return {
        "exit_code": code,
        "stderr": NEXT_COMMAND.sub("", err),
        "points_to_retry": "batch-issuer retry" in err,
        **{name: value for name, value in found.items() if name != "problems"},
        "problems": dict(sorted(problems.items(), key=lambda one: int(one[0]))),
    }


def purge(place: Place) -> Facts:
    content = place.content()
    code, _, _ = place.run("purge", place.results)
    after = place.content()
    if code == 2:
        return {"exit_code": code, "files_unchanged": after == content}
    rows = rows_of(place.out)
    changed = {
        str(number): [name for name in row if row[name] != place.before[number][name]] for number, row in rows.items()
    }
    blanked = [number for number, names in changed.items() if names]
    assert all(names == ["auth_token", "auth_code"] for names in changed.values() if names)
    assert not any(rows[int(number)][name] for number in blanked for name in changed[number])
    return {"exit_code": code, "blanked": blanked, "files": sorted(after), "files_unchanged": after == content}


def retry(place: Place) -> Facts:
    return place.request("retry", place.results)


def retry_by_journal(place: Place) -> Facts:
    return place.request("retry", place.partial.name)


def retry_restart(place: Place) -> Facts:
    if place.out.exists():
        place.before = rows_of(place.out)
    return place.request("retry", place.results, "--overwrite")


def retry_twice(place: Place) -> Facts:
    place.request("retry", place.results)
    place.before = rows_of(place.out)
    again = place.request("retry", place.results)
    return {name: again[name] for name in ("exit_code", "requested", "unchanged", "files")}


def retry_with_a_refused_api_token(place: Place) -> Facts:
    """The first request ends the run, so that all other rows show how they were read."""
    return place.request("retry", place.results, "--concurrency", "1", script="401*")


def retry_with_the_sandbox_flag(place: Place) -> Facts:
    content = place.content()
    code, out, err = place.run("retry", place.results, "--sandbox", "--rate", "1000/s")
    if code == 2:
        return {"exit_code": code, "stdout": out, "files_unchanged": place.content() == content}
    assert err
    kept = [
        number for number, row in rows_of(place.out).items() if row["auth_token"] == place.before[number]["auth_token"]
    ]
    return {"exit_code": code, "stdout": out, "same_token": kept}


def retry_with_the_real_api(place: Place) -> Facts:
    """It is unreachable behind a proxy that does not exist: which tokens are kept, and how the others are read."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        environ = {"SAMSARA_API_TOKEN": "k", "HTTPS_PROXY": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        content = place.content()
        options = ["--quota", "process", "--rate", "1000/s", "--give-up-after", "20ms"]
        random.seed(SEED_OF_LONG_BACKOFFS)
        code, out, _ = place.run("retry", place.results, *options, environ=environ)
    return place.facts(code, out, content)


def issue(place: Place) -> Facts:
    return place.request("issue", ROSTER, "-o", place.results)


def issue_restart(place: Place) -> Facts:
    return place.request("issue", ROSTER, "-o", place.results, "--overwrite")


def issue_overwrite(place: Place) -> Facts:
    return place.request("issue", ROSTER, "-o", place.results, "--overwrite")


def issue_another_roster(place: Place) -> Facts:
    """Its first row names another driver."""
    path = place.folder / ROSTER
    path.write_bytes(path.read_bytes().replace(b"1002", b"7002", 1))
    return place.request("issue", ROSTER, "-o", place.results)


def retry_with_newer_results(place: Place) -> Facts:
    """The results are unchanged; only their date is newer, as after a backup was restored."""
    place.set_journal_age(100)
    return place.request("retry", place.results)


def retry_with_edited_results(place: Place) -> Facts:
    """A cell of the results was changed after the run was interrupted."""
    place.out.write_bytes(place.out.read_bytes().replace(b"Driver 02", b"Driver zz", 1))
    place.set_journal_age(100)
    return place.request("retry", place.results)


OPERATIONS: dict[str, Callable[[Place], Facts]] = {
    one.__name__: one
    for one in (
        status,
        purge,
        retry,
        retry_by_journal,
        retry_restart,
        retry_twice,
        retry_with_a_refused_api_token,
        retry_with_the_sandbox_flag,
        retry_with_the_real_api,
        issue,
        issue_restart,
        issue_overwrite,
        issue_another_roster,
        retry_with_newer_results,
        retry_with_edited_results,
    )
}


ONLY: dict[str, Sequence[str]] = {
    "retry_by_journal": ("killed-csv", "killed-retry-xlsx", "organizations-killed-csv"),
    "retry_twice": ("outcomes-csv", "edited-csv", "renewed-edited-csv", "ctrl-c-xlsx", "organizations-csv"),
    "retry_with_the_sandbox_flag": ("sandbox-csv", "outcomes-xlsx", "renewed-csv", "purged-csv", "revoked-csv"),
    "retry_with_the_real_api": (
        *("sandbox-csv", "outcomes-csv", "outcomes-xlsx", "semicolon-csv", "renewed-csv"),
        *("killed-csv", "killed-retry-csv", "torn-csv"),
    ),
    "issue_overwrite": ("outcomes-csv", "complete-xlsx", "organizations-csv"),
    "issue_another_roster": ("killed-csv", "killed-retry-xlsx"),
    "retry_with_newer_results": ("killed-retry-csv", "killed-retry-xlsx", "killed-renewal-csv"),
    "retry_with_edited_results": ("killed-retry-csv", "killed-renewal-csv"),
}
"""Operations that need not be done with every file; the others are, wherever they make sense."""


def operations_of(fixture: str) -> Sequence[str]:
    """The operations on a fixture."""
    names = {path.name for path in (FIXTURES / fixture).iterdir()}
    found = {"status", "purge", "retry", "retry_with_a_refused_api_token"}
    found |= {"issue"} if ROSTER in names else set()
    found |= {"retry_restart", "issue_restart"} if f"{results_name(fixture)}.partial" in names else set()
    return [name for name in OPERATIONS if name in found or fixture in ONLY.get(name, ())]


# --- the promises

_FILE = FIXTURES / "expected.json"
EXPECTED: dict[str, dict[str, Facts]] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.exists() else {}


def promised(*operations: str) -> pytest.MarkDecorator:
    """Every fixture for which the earlier version did one of these."""
    cases = [(name, one) for name, expected in EXPECTED.items() for one in operations if one in expected]
    return pytest.mark.parametrize(("fixture", "operation"), [case for case in cases if case not in NO_LONGER_REFUSED])


NO_LONGER_REFUSED = [
    (name, "issue_restart")
    for name, expected in EXPECTED.items()
    if expected.get("issue_restart", {}).get("exit_code") == 2
]
"""``issue --restart`` did not replace tokens next to a journal; ``--overwrite``, which took its place, does."""

POINTS_TO = {
    "retry_with_edited_results": ["--overwrite", "batch-issuer retry"],
    "retry_restart": ["--overwrite", "batch-issuer retry"],  # refused where there is only a journal
}
"""Where a refusal now points to more than then."""


def expected_of(fixture: str, operation: str) -> Facts:
    """What the earlier version did, with today's flags."""
    expected = dict(EXPECTED[fixture][operation])
    if "points_to" in expected:
        names = {"--overwrite" if name == "--restart" else name for name in expected["points_to"]}
        expected["points_to"] = [name for name in NAMED if name in names.union(POINTS_TO.get(operation, ()))]
    return expected


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture
def done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], servers: Servers
) -> Callable[..., tuple[Facts, Facts]]:
    """Do it with a copy; returns what was found and what is expected.

    The earlier version's texts of rows that are judged again do not count; its JSON called corrupted tokens "spoilt".
    """
    for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is cut here, and disks are slow

    def do(fixture: str, operation: str) -> tuple[Facts, Facts]:
        place = Place(fixture, tmp_path, capsys.readouterr, servers)
        monkeypatch.chdir(place.folder)
        found, expected = json.loads(json.dumps(OPERATIONS[operation](place))), expected_of(fixture, operation)
        if tokens := expected.get("tokens"):
            tokens = {name.replace("spoilt", "corrupted"): count for name, count in tokens.items()}
            expected = {**expected, "tokens": tokens}
        return found, {name: fact for name, fact in expected.items() if name != "texts_judged_anew"}

    return do


Done = Any


@promised("status")
def test_status_finds_the_same_in_every_file_and_journal(fixture: str, operation: str, done: Done) -> None:
    """Counts, expiries, exit code and the texts of each row are as before; the text output has the same figures."""
    found, expected = done(fixture, operation)
    assert found == expected


@promised("purge")
def test_purge_blanks_the_same_tokens_and_nothing_else(fixture: str, operation: str, done: Done) -> None:
    """Expired tokens and their codes are blanked, all other cells stay; next to a journal nothing is changed."""
    found, expected = done(fixture, operation)
    assert found == expected


@promised("retry", "retry_by_journal", "retry_twice")
def test_retry_requests_the_same_drivers_and_keeps_the_same_cells(fixture: str, operation: str, done: Done) -> None:
    """Of a finished file or a journal, by either name; a second retry requests only what failed again."""
    found, expected = done(fixture, operation)
    assert found == expected


@promised("retry_with_a_refused_api_token", "retry_with_the_real_api")
def test_rows_that_cannot_be_requested_stay_unchanged(fixture: str, operation: str, done: Done) -> None:
    """The API token is refused, or the API unreachable: valid tokens and texts stay, no lost token is forgotten.

    Sandbox tokens do not count for the real API.
    """
    found, expected = done(fixture, operation)
    assert found == expected


@promised("retry_with_the_sandbox_flag")
def test_the_sandbox_never_replaces_real_tokens(fixture: str, operation: str, done: Done) -> None:
    """Real tokens are recognized in files of either version."""
    found, expected = done(fixture, operation)
    assert found == expected


@promised("issue", "issue_restart", "issue_another_roster")
def test_issue_resumes_a_journal_and_never_replaces_tokens(fixture: str, operation: str, done: Done) -> None:
    """With the same roster it resumes, with another it refuses; --overwrite sets the journal aside, byte for byte.

    Next to finished results with tokens it requests nothing.
    """
    found, expected = done(fixture, operation)
    assert found == expected


@promised("issue_overwrite")
def test_issue_overwrite_replaces_earlier_results(fixture: str, operation: str, done: Done) -> None:
    """Every row that can be sent has a new token."""
    found, expected = done(fixture, operation)
    assert found == expected


@promised("retry_restart", "retry_with_newer_results", "retry_with_edited_results")
def test_results_next_to_a_journal_are_never_overwritten_if_edited(fixture: str, operation: str, done: Done) -> None:
    """Edited results are refused; a newer date alone does not matter; --overwrite uses them and keeps the journal."""
    found, expected = done(fixture, operation)
    assert found == expected


@pytest.mark.parametrize("fixture", [name for name, _ in NO_LONGER_REFUSED])
def test_issue_overwrite_replaces_results_and_sets_the_journal_aside(fixture: str, done: Done) -> None:
    """Every driver that a refused API token would leave unrequested is requested, as without any earlier file."""
    found, _ = done(fixture, "issue_restart")
    assert found["exit_code"] in (0, 1)
    assert found["kept_aside"] == [f"{results_name(fixture)}.partial.1"]
    assert not any("kept token" in row for row in found["rows"].values())
    identifiers = {row.split("; ")[1] for row in found["rows"].values() if row.startswith(("issued", "failed"))}
    assert set(found["requested"]) == identifiers
