"""Lines on stderr and stdout, as wide as the terminal, in colour where it has any. Nothing here knows what they say."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

NARROWEST, WIDEST = 40, 200
"""Columns that lines are wrapped at, whatever the terminal's width."""

LABELS = {"error": "1;31", "warning": "1;33", "hint": "1;36"}
"""How a line may begin, and the colour of that word (SGR, ECMA-48)."""

TICK, CROSS = "\u2713", "\u2717"
SIGNS = {TICK: "32", CROSS: "31"}

LEAST_ROOM = 20
"""Columns that the last column of a table must have left to be wrapped in it."""

BELOW = 6
"""Columns that a last cell without room of its own is indented on the next line."""

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What a terminal obeys; an edited file may contain some."""

MARK = re.compile(rf"(\s*)(?:({'|'.join(LABELS)}):|([{TICK}{CROSS}]))(?: |$)")


class Screen:
    """A stream as a person sees it.

    Attributes:
        is_terminal: whether it can show colours, signs and a bar; not so with ``TERM=dumb``.
        width: columns to wrap at; None if it is not a terminal.
        has_colour: by ``NO_COLOR`` (no-color.org), else ``FORCE_COLOR`` (``0`` for none), else on a terminal.
        has_signs: whether a tick and a cross can be shown.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        """Find out what it can show."""
        has_width = stream.isatty()
        self.is_terminal = has_width and environ.get("TERM") != "dumb"
        self.width: int | None = None
        if has_width:
            self.width = min(max(_columns_of(stream, environ), NARROWEST), WIDEST)
        knows_colour = sys.platform != "win32" or not environ.keys().isdisjoint({"WT_SESSION", "ANSICON", "TERM"})
        forced = environ.get("FORCE_COLOR") or ("1" if self.is_terminal and knows_colour else "0")
        self.has_colour = not environ.get("NO_COLOR") and forced != "0"
        try:
            (TICK + CROSS).encode(stream.encoding or "ascii")
            self.has_signs = self.is_terminal
        except (LookupError, UnicodeError):
            self.has_signs = False

    def render(self, text: str) -> str:
        """One line of text as it is printed; a `TICK` or `CROSS` it begins with is left out where it cannot be."""
        text = CONTROLS.sub(" ", text)
        if not self.has_signs and _has_sign(text):
            text = text[2:]
        first, *others = [text] if self.width is None else wrap(text, self.width)
        return "\n".join((self._painted(first), *others))

    def table(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Rows of cells as aligned lines; the last cell is wrapped in its own column, or below where that is narrow.

        A row may begin with a `TICK` or a `CROSS`; the others then with two spaces.
        """
        rows = [[CONTROLS.sub(" ", cell) for cell in row] for row in rows]
        if not self.has_signs and any(_has_sign(row[0]) for row in rows):
            rows = [[row[0][2:], *row[1:]] for row in rows]
        widths = [max(columns(row[position]) for row in rows) for position in range(len(rows[0]) - 1)]
        before = sum(widths) + 2 * len(widths)
        for *cells, last in rows:
            start = "".join(cell + " " * (most - columns(cell) + 2) for cell, most in zip(cells, widths, strict=True))
            if self.width is None or before + columns(last) <= self.width:
                parts = [f"{start}{last}"]
            elif self.width - before >= LEAST_ROOM:
                first, *others = wrap(last, self.width - before)
                parts = [f"{start}{first}", *(" " * before + part for part in others)]
            else:
                parts = [start, *wrap(" " * BELOW + last, self.width)]
            yield self._painted(parts[0].rstrip())
            yield from parts[1:]

    def _painted(self, line: str) -> str:
        mark = MARK.match(line) if self.has_colour else None
        if mark is None:
            return line
        word = mark[2] or mark[3]
        start = len(mark[1])
        end = start + len(word) + bool(mark[2])
        colour = LABELS.get(word) or SIGNS[word]
        return f"{line[:start]}\033[{colour}m{line[start:end]}\033[0m{line[end:]}"


def _has_sign(text: str) -> bool:
    return text.startswith((f"{TICK} ", f"{CROSS} "))


def _columns_of(stream: TextIO, environ: Mapping[str, str]) -> int:
    """The width of a terminal; stdout, which Python asks, may be a file while stderr is the terminal."""
    if not environ.get("COLUMNS", "").isdigit():
        with suppress(OSError, ValueError):
            if width := os.get_terminal_size(stream.fileno()).columns:
                return width
    return shutil.get_terminal_size().columns


def columns(text: str) -> int:
    """Columns that a text takes on a terminal; Chinese, Japanese and Korean characters take two (UAX #11)."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def wrap(text: str, width: int) -> Iterator[str]:
    """Break a line at blanks; what follows is indented to where its text begins, after spaces and a label."""
    mark = MARK.match(text)
    lead = mark[0] if mark else text[: len(text) - len(text.lstrip())]
    indent = " " * columns(lead)
    first, *words = text[len(lead) :].split(" ")
    line = lead + first
    for word in words:
        if columns(line) + 1 + columns(word) <= width:
            line += f" {word}"
        else:
            yield line
            line = indent + word
    yield line


def say(*texts: str, as_is: bool = False) -> None:
    """Lines for a person, on stderr; ``as_is`` for a command to copy, which must not be broken."""
    if sys.stderr is not None:
        screen = Screen(sys.stderr)
        _say(texts if as_is else map(screen.render, texts))


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """A table for a person, on stderr; see `Screen.table`."""
    if sys.stderr is not None:
        _say(Screen(sys.stderr).table(rows))


def _say(lines: Iterable[str]) -> None:
    with suppress(OSError):  # whoever read it has left: that must not end a run
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def out(*texts: str, as_is: bool = False) -> None:
    """Lines for a pipe, on stdout; ``as_is`` for a path or JSON, which must not be broken."""
    if sys.stdout is not None:
        _out(texts if as_is else map(Screen(sys.stdout).render, texts))


def out_table(rows: Sequence[Sequence[str]]) -> None:
    """A table for a pipe, on stdout; see `Screen.table`."""
    if sys.stdout is not None:
        _out(Screen(sys.stdout).table(rows))


def _out(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            print(line, flush=True)
    except OSError:  # whoever read it has left, or has no room for it; what was done stays done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
