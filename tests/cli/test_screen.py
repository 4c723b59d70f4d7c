"""Lines and tables as a terminal or a file gets them: width, colour, signs."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.terminal import needs_terminal, run_on_terminal

from batch_issuer.cli.screen import CROSS, LEAST_ROOM, NARROWEST, TICK, WIDEST, Screen, columns, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WORDS = st.text(st.sampled_from("abc.:,-/李\u30c9\U0001f69ae\u0301"), min_size=1, max_size=12)
LEADS = st.sampled_from(["", "    ", "error: ", "hint: ", "    hint: ", f"{TICK} ", f"{CROSS} ", "  "])
WIDTHS = st.integers(NARROWEST, WIDEST)


class Stream(io.TextIOWrapper):
    """A terminal, or a file."""

    def __init__(self, *, is_terminal: bool = True, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def screen(
    width: int = 80, *, is_terminal: bool = True, encoding: str = "utf-8", environ: Mapping[str, str] | None = None
) -> Screen:
    made = Screen(Stream(is_terminal=is_terminal, encoding=encoding), environ or {"TERM": "xterm", "NO_COLOR": "1"})
    if is_terminal:
        made.width = width
    return made


# --- wrapping


@given(LEADS, st.lists(WORDS, min_size=1, max_size=60), WIDTHS)
def test_wrapped_lines_fit_are_indented_alike_and_lose_no_word(lead: str, words: list[str], width: int) -> None:
    """Only a line of a single word may be too wide."""
    first, *others = wrap(lead + " ".join(words), width)
    indent = " " * columns(lead)
    assert first.startswith(lead)
    assert all(line.startswith(indent) and line[len(indent)] != " " for line in others)
    contents = [first[len(lead) :], *(line[len(indent) :] for line in others)]
    assert " ".join(contents) == " ".join(words)
    for content in contents:
        assert columns(lead) + columns(content) <= width or " " not in content


@given(LEADS, st.lists(WORDS, min_size=1, max_size=60), WIDTHS)
def test_no_line_ends_before_it_is_full(lead: str, words: list[str], width: int) -> None:
    wrapped = [*wrap(lead + " ".join(words), width)]
    for line, following in itertools.pairwise(wrapped):
        assert columns(line) + 1 + columns(following.split()[0]) > width


def test_a_hint_hangs_under_its_first_word() -> None:
    text = "    hint: roster: write an external ID as key:value, for example payrollId:ABFS18600"
    assert [*wrap(text, 48)] == [
        "    hint: roster: write an external ID as",
        "          key:value, for example",
        "          payrollId:ABFS18600",
    ]


def test_a_word_that_is_too_long_has_a_line_of_its_own() -> None:
    long = "/" + "x" * 50
    assert [*wrap(f"hint: delete {long} first", 40)] == ["hint: delete", f"      {long}", "      first"]


@pytest.mark.parametrize(
    ("text", "width"), [("Ana", 3), ("李小龙", 6), ("ドライバ", 8), ("e\u0301", 1), ("\uff21", 2), ("\U0001f69a", 2)]
)
def test_wide_characters_take_two_columns_and_combining_ones_none(text: str, width: int) -> None:
    assert columns(text) == width


def test_wide_characters_are_wrapped_by_their_width() -> None:
    assert [*wrap(f"error: {'李' * 8} {'龙' * 8}", 40)] == [f"error: {'李' * 8} {'龙' * 8}"]
    assert [*wrap(f"error: {'李' * 8} {'龙' * 9}", 40)] == [f"error: {'李' * 8}", f"       {'龙' * 9}"]


# --- what a stream can show


@pytest.mark.parametrize(("terminal", "width"), [(10, 40), (40, 40), (57, 57), (200, 200), (500, 200)])
def test_the_width_is_that_of_the_terminal_within_limits(
    terminal: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(terminal))
    assert Screen(Stream(), {"TERM": "xterm"}).width == width


LINES = [f"{TICK} done", f"{CROSS} 1 failed", "error: " + "word " * 100, "    hint: do", "warning: w"]


def plain(lines: list[str]) -> list[str]:
    return [line.removeprefix(f"{TICK} ").removeprefix(f"{CROSS} ") for line in lines]


@pytest.mark.parametrize("environ", [{}, {"TERM": "xterm"}, {"TERM": "xterm", "FORCE_COLOR": "0"}])
def test_a_file_gets_whole_lines_without_colour_or_signs(environ: Mapping[str, str]) -> None:
    assert list(map(screen(is_terminal=False, environ=environ).render, LINES)) == plain(LINES)


def test_a_dumb_terminal_gets_wrapped_lines_without_colours_and_signs() -> None:
    dumb = Screen(Stream(), {"TERM": "dumb", "COLUMNS": "80"})
    assert (dumb.is_terminal, dumb.has_colour, dumb.has_signs, dumb.width) == (False, False, False, 80)
    assert [dumb.render(line) for line in LINES] == ["\n".join(wrap(line, 80)) for line in plain(LINES)]


@pytest.mark.parametrize(
    ("environ", "on_terminal", "in_file"),
    [
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": ""}, True, False),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "dumb", "FORCE_COLOR": "3"}, True, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colour_is_for_terminals_unless_the_environment_decides(
    environ: Mapping[str, str], *, on_terminal: bool, in_file: bool
) -> None:
    assert Screen(Stream(), environ).has_colour == on_terminal
    assert Screen(Stream(is_terminal=False), environ).has_colour == in_file


def test_only_labels_and_signs_are_coloured() -> None:
    painted = screen(environ={"TERM": "xterm"})
    assert painted.render("error: no file") == "\033[1;31merror:\033[0m no file"
    assert painted.render("warning: no file") == "\033[1;33mwarning:\033[0m no file"
    assert painted.render("    hint: add it") == "    \033[1;36mhint:\033[0m add it"
    assert painted.render(f"{TICK} 3 rows") == f"\033[32m{TICK}\033[0m 3 rows"
    assert painted.render(f"{CROSS} 3 rows") == f"\033[31m{CROSS}\033[0m 3 rows"
    for line in ("errors: 3", "an error: none", "hint", "north: error: none"):
        assert painted.render(line) == line


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_without_the_signs_gets_the_line_without_them(encoding: str) -> None:
    assert [screen(encoding=encoding).render(line) for line in (f"{TICK} done", f"{CROSS} 1 failed")] == [
        "done",
        "1 failed",
    ]
    assert screen(encoding="cp437").has_signs is False
    assert screen(encoding="utf-16").has_signs


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_line_or_cell_controls_a_terminal(*, is_terminal: bool) -> None:
    shown = screen(is_terminal=is_terminal)
    assert shown.render("error: \x1b[2J\x9b1m\rx") == "error:  [2J 1m x"
    assert [*shown.table([("\x1b[2Ja", "\x07b")])] == [" [2Ja   b"]


# --- tables

TABLE = [
    ("  name", "value", "from"),
    (f"{TICK} 李小龙", "1", "default"),
    (f"{CROSS} Ana Lima", "12", " ".join(["[defaults]"] * 9)),
]


def test_a_table_is_aligned_with_wide_characters_and_wraps_its_last_column() -> None:
    assert [*screen(60).table(TABLE)] == [
        "  name      value  from",
        f"{TICK} 李小龙    1      default",
        f"{CROSS} Ana Lima  12     [defaults] [defaults] [defaults]",
        "                   [defaults] [defaults] [defaults]",
        "                   [defaults] [defaults] [defaults]",
    ]


def test_a_table_in_a_file_is_aligned_without_the_signs() -> None:
    assert [*screen(is_terminal=False).table(TABLE)] == [
        "name      value  from",
        "李小龙    1      default",
        "Ana Lima  12     " + "[defaults] " * 8 + "[defaults]",
    ]


def test_a_last_column_without_room_goes_on_the_next_line() -> None:
    long = ("  " + "n" * 20, "v" * 12, "[organizations.north] token_env")
    assert LEAST_ROOM > 50 - 2 - 20 - 2 - 12 - 2
    assert [*screen(50).table([("  name", "value", "from"), long])] == [
        f"  name{' ' * 16}  value{' ' * 7}  from",
        f"  {'n' * 20}  {'v' * 12}",
        "      [organizations.north] token_env",
    ]


@given(st.lists(st.tuples(WORDS, WORDS, st.lists(WORDS, max_size=30).map(" ".join)), min_size=1, max_size=5), WIDTHS)
def test_no_line_of_a_table_is_too_wide(rows: list[tuple[str, str, str]], width: int) -> None:
    """Except where its first columns are, which are not wrapped: here at most twice 24 and what is between them."""
    lines = [*screen(width).table(rows)]
    assert all(columns(line) <= max(width, 24 + 2 + 24) for line in lines)
    assert " ".join(lines).split() == " ".join(map(" ".join, rows)).split()


# --- the command


@needs_terminal
@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_terminal_that_stderr_is_decides_where_stdout_is_a_file(width: int, tmp_path: Path) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID,External ID,Username\n7001,,\nx,,\n")
    seen = run_on_terminal("issue", "depot.csv", "--sandbox", columns=width, folder=tmp_path, stdout=tmp_path / "out")
    assert seen.code == 1
    assert (tmp_path / "out").read_text() == "depot.results.csv\n"
    lines = [line for line in seen.lines if not line.startswith("  batch-issuer retry ")]
    assert max(map(columns, lines)) <= width
    assert max(map(columns, lines)) > width - 12
