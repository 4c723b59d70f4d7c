"""Runs that are killed with SIGKILL, at any moment: nothing handled is lost, and any of them can be finished."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.kills import AWKWARD, ROWS, STEPS, Story, digest, kill_runs, whole_lines
from support.sandbox import live_sandbox

from batch_issuer.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.processes import Commands

    from batch_issuer.sandbox import LedgerEntry, Sandbox

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="neither fork nor SIGKILL")

NEVER = 10**6
"""A moment that no run reaches: it counts its steps and survives."""

MULTILINE = [cell for cell in AWKWARD if "\n" in cell]


# --- at random moments


@pytest.mark.parametrize("kills", [10, pytest.param(60, marks=pytest.mark.soak)])
def test_random_kills_lose_no_handled_token(kills: int, commands: Commands, tmp_path: Path) -> None:
    """Each run is resumed until every driver has its one token; other tokens were lost in flight."""
    figures = kill_runs(kills, tmp_path, commands, seed=kills)
    assert figures.kills == kills
    assert figures.runs == kills + figures.rosters
    assert figures.issued == figures.rosters * ROWS + figures.lost
    assert figures.most_lost[0] <= figures.most_lost[1] <= figures.most_in_flight


# --- at each moment


def moments(story: Story, *, after: bool) -> range:
    """The moments before each file system step of a first run, or also after it; no run survives all of them."""
    run = story.run("issue", moment=NEVER)
    assert {"open", "write", "fsync", "ftruncate", "replace", "unlink"} <= set(run.steps) <= set(STEPS)
    assert run.steps.count("replace") == 2  # the journal takes its name, and so do the results
    return range(1, 2 * len(run.steps) + 10, 1 if after else 2)


def kill_at(story: Story, command: str, moment: int, deaths: int, *options: str) -> None:
    """Kill at the same moment repeatedly; then let the next run finish."""
    for death in range(deaths):
        if not story.run(story.next_command(command if not death else "retry"), *options, moment=moment).killed:
            return
    story.run(story.next_command(("issue", "retry")[moment % 4 < 2]), *options)


def assert_nothing_lost(stories: list[Story], ledger: list[LedgerEntry]) -> None:
    """No run loses anything. Some were killed at each stage, the last one at none."""
    for story in stories:
        story.check(ledger)
    killed = [run for story in stories for run in story.runs if run.killed]
    assert any(not run.requested for run in killed)
    assert any(run.in_flight for run in killed)
    assert any(len(run.handled) == len(stories[0].drivers) for run in killed)
    assert not any(run.killed for run in stories[-1].runs)


@pytest.mark.parametrize(
    ("after", "deaths"),
    [(False, 1), pytest.param(True, 1, marks=pytest.mark.soak), pytest.param(True, 3, marks=pytest.mark.soak)],
)
def test_killed_at_each_step_of_journal_and_publication(
    after: bool, deaths: int, commands: Commands, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Before each change to a file, or also after it, once or three times in a row: the same promises."""
    stories = [Story(tmp_path, commands, sandbox, rows=3)]
    for moment in moments(stories[0], after=after):
        stories.append(Story(tmp_path, commands, sandbox, rows=3))
        kill_at(stories[-1], "issue", moment, deaths)
    assert_nothing_lost(stories, sandbox.ledger)


@pytest.mark.soak
def test_killed_at_each_step_of_a_renewal(commands: Commands, tmp_path: Path) -> None:
    """Every driver keeps the earlier token until the new one is handled, and ends with the new one."""
    with (
        live_sandbox(limiter="none", token_lifetime=100.0) as before,
        live_sandbox(limiter="none", token_lifetime=900.0) as sandbox,
    ):
        stories = [Story(tmp_path, commands, before, rows=3)]
        for moment in moments(stories[0], after=True):
            stories.append(Story(tmp_path, commands, before, rows=3))
            stories[-1].run("issue")
            stories[-1].sandbox, stories[-1].reissue_from = sandbox, 1
            kill_at(stories[-1], "retry", moment, 1)
    assert_nothing_lost(stories, [*before.ledger, *sandbox.ledger])
    renewed = {(entry.identifier, digest(entry.code, entry.token)) for entry in sandbox.ledger}
    assert all(story.runs[-1].issued.items() <= renewed for story in stories[1:])


# --- torn lines


def journal_writes(commands: Commands, sandbox: Sandbox, folder: Path) -> list[int]:
    """The moments after each line that a run writes; the lines before them are renamed into place together."""
    steps = Story(folder, commands, sandbox, rows=2).run("issue", moment=NEVER).steps
    moments = [2 * number for number, name in enumerate(steps, 1) if name == "write"][1:]
    assert len(moments) == 4  # two for each row, one before and one after
    return moments


def killed_story(moment: int, commands: Commands, sandbox: Sandbox, folder: Path) -> Story:
    story = Story(folder, commands, sandbox, rows=2, notes=MULTILINE)
    assert story.run("issue", moment=moment).killed
    return story


def last_line(story: Story) -> bytes:
    journal = story.partial.read_bytes()
    return journal[len(whole_lines(journal[:-1])) :]


def tear(story: Story, left: int) -> None:
    """Leave ``left`` bytes of the last line, and check the journal again."""
    line = last_line(story)
    os.truncate(story.partial, story.partial.stat().st_size - len(line) + left)
    if b",issued," in line:
        story.torn.add(story.drivers[int(line.partition(b",")[0]) - 2])
    story.check_files(story.runs[-1])


def some_of(line: bytes) -> list[int]:
    """Inside the row number, inside a cell of two lines, inside the outcome, and between CR and LF."""
    return [1, line.index(b"\n") + 1, len(line) * 3 // 4, len(line) - 1]


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param(some_of, id="some"),
        pytest.param(lambda line: range(0, len(line), 7), marks=pytest.mark.soak, id="many"),
    ],
)
def test_a_torn_last_line_affects_no_other_row(
    lengths: Callable[[bytes], Sequence[int]], commands: Commands, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Earlier lines count; its own row is unchanged, and the next run finishes."""
    stories = []
    for moment in journal_writes(commands, sandbox, tmp_path):
        for left in lengths(last_line(killed_story(moment, commands, sandbox, tmp_path))):
            stories.append(killed_story(moment, commands, sandbox, tmp_path))
            tear(stories[-1], left)
            stories[-1].run(("issue", "retry")[left % 2])
    for story in stories:
        story.check(sandbox.ledger)
    assert any(story.torn for story in stories)


def test_the_loss_of_a_handled_token_is_detected(commands: Commands, sandbox: Sandbox, tmp_path: Path) -> None:
    """If the last token written were missing from the journal, or replaced, the checks would fail."""
    moment = journal_writes(commands, sandbox, tmp_path)[2]  # the row after it was counted by then
    story = killed_story(moment, commands, sandbox, tmp_path)
    assert len(story.runs[0].handled) == 1
    story.partial.write_bytes(story.partial.read_bytes().replace(b",issued,sandbox-", b",issued,sandbox+"))
    with pytest.raises(AssertionError):
        story.check_files(story.runs[0])


# --- leftovers


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_a_renewal_killed_while_creating_its_journal_leaves_nothing_behind(
    command: str, commands: Commands, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The next command on the results removes it even if there is nothing to do, because it contains tokens."""
    renew = ("retry", "--min-validity", "1h")
    stories = [Story(tmp_path, commands, sandbox, rows=2) for _ in range(2)]
    for story in stories:
        story.run("issue")
        story.reissue_from = 1
    before_its_name = 2 * stories[0].run(*renew, moment=NEVER).steps.index("replace") + 1
    assert stories[1].run(*renew, moment=before_its_name).killed
    results = stories[1].results
    assert (results.parent / f"{results.name}.partial.writing").stat().st_size > results.stat().st_size
    options = ["--base-url", sandbox.url, "--quota", "process", "--quiet"] if command == "retry" else []
    assert main([command, str(results), *options], {"SAMSARA_API_TOKEN": sandbox.api_token}) == 0
    assert sorted(results.parent.iterdir()) == [stories[1].roster, results]
