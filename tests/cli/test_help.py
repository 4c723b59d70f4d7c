"""``help``: the topics, a page, a command, a misspelled topic, and the pager."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.terminal import needs_terminal, run_on_terminal

from batch_issuer.cli import main
from batch_issuer.cli.manual import MANUAL, page_text, topics
from batch_issuer.cli.parser import make_parser, subcommands


def test_without_a_topic_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"], {}) == 0
    output = capsys.readouterr().out
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ")]
    assert listed == list(topics())
    assert listed[0] == "first-time"
    assert "batch-issuer issue --help" in output


@pytest.mark.parametrize("topic", topics())
def test_a_topic_is_its_page_without_comments(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic], {}) == 0
    assert capsys.readouterr().out == page_text(MANUAL / f"{topic}.md")


@pytest.mark.parametrize("command", sorted({*subcommands(make_parser())} - {*topics()}))
def test_a_command_is_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"], {})
    expected = capsys.readouterr().out
    assert main(["help", command], {}) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("rostres", "did you mean 'rosters'? batch-issuer help lists the topics"),
        ("Settings", "did you mean 'settings'? batch-issuer help lists the topics"),
        ("isue", "did you mean 'issue'? batch-issuer help lists the topics"),
        ("../README", "batch-issuer help lists the topics"),
    ],
)
def test_an_unknown_topic_is_an_error_with_the_nearest_one(
    topic: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["help", topic], {}) == 2
    assert capsys.readouterr().err == f"error: no help topic {topic!r}\nhint: {hint}\n"


def on_terminal(*arguments: str, lines: int, **environ: str) -> str:
    """What the command prints on a terminal."""
    seen = run_on_terminal(*arguments, environ={"LINES": str(lines), **environ})
    assert seen.code == 0
    return seen.written


@needs_terminal
def test_on_a_terminal_a_long_page_goes_through_the_pager_and_a_short_one_does_not() -> None:
    environ = {"PAGER": "sed 's/^/paged: /'", "TERM": "xterm"}
    environ["MANPAGER"] = environ["PAGER"]
    page = page_text(topics()["results"])
    assert on_terminal("help", "results", lines=24, **environ).startswith("paged: # Results\n")
    assert on_terminal("help", "results", lines=page.count("\n") + 1, **environ) == page
    assert "paged" not in on_terminal("help", lines=24, **environ)


@needs_terminal
def test_a_dumb_terminal_gets_the_page_without_a_pager() -> None:
    environ = {"TERM": "dumb", "PAGER": "", "MANPAGER": ""}
    assert on_terminal("help", "results", lines=24, **environ) == page_text(topics()["results"])


def test_it_imports_nothing_heavy() -> None:
    code = "import sys; from batch_issuer.cli import main; main(['help', 'results'], {}); print(*sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=True)
    loaded = {*ran.stdout.splitlines()[-1].split()}
    assert "batch_issuer.cli.manual" in loaded
    assert not loaded & {"aiohttp", "asyncio", "numpy", "pandas", "tqdm", "pydoc", "inspect"}
