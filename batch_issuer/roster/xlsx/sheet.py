"""The XML of a sheet → its rows as strings; cells that cannot be read reliably are refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...errors import RosterError
from ..csv_reader import MOST_PADDING, too_many_blanks

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ROWS, MOST_COLUMNS = 2**20, 2**14
"""Excel's limits for a sheet."""

Attributes = dict[str, str]


class DamagedError(Exception):
    """The workbook does not conform to the standard."""


class EnoughError(Exception):
    """Everything needed has been read."""


class Texts:
    """Collects the text of an item: its runs, without phonetic hints."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._wanted = False
        self._phonetic = 0

    def start(self, tag: str, _attributes: Attributes) -> None:
        """Handle the start of an element."""
        self._wanted = tag == "t" and not self._phonetic
        self._phonetic += tag == "rPh"

    def text(self, text: str) -> None:
        """Handle text in an element."""
        if self._wanted:
            self._parts.append(text)

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        self._wanted = False
        self._phonetic -= tag == "rPh"

    def take(self) -> str:
        """Return the text and start the next item."""
        text = unescaped("".join(self._parts))
        self._parts.clear()
        return text


def unescaped(text: str) -> str:
    """A text with escapes such as ``_x000D_`` resolved (ECMA-376 part 1, 22.9.2.19)."""
    if "_x" not in text:
        return text
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: _character(found[1]) or found[0], text)


def _character(digits: str) -> str:
    character = chr(int(digits, 16))
    return "" if character == "\0" or "\ud800" <= character <= "\udfff" else character


class SheetRows:
    """Collects the rows of a sheet while its XML is parsed; refuses cells that cannot be read reliably.

    Attributes:
        rows: as in `Sheet`.
        hidden: as in `Sheet`.
    """

    def __init__(
        self,
        name: str,
        sheet: str,
        shared: list[str],
        shown: Callable[[str, str], str],
        *,
        computed: bool,
        only_header: bool,
    ) -> None:
        self.rows: list[list[str]] = []
        self.hidden: list[int] = []
        self._where = f"{name}, sheet {sheet!r}"
        self._shared = shared
        self._shown = shown
        self._without_result = ("",) if computed else ("", "0")  # as written by programs that do not calculate
        self._only_header = only_header
        self._number = 0  # of the row
        self._padding = 0  # blank cells that the file implies
        self._hidden = False
        self._cells: dict[int, str] = {}
        self._column = 0
        self._type = self._style = ""
        self._value: list[str] | None = None  # of the cell; None without one
        self._collecting = self._formula = False
        self._inline = Texts()

    def start(self, tag: str, attributes: Attributes) -> None:
        """Handle the start of an element."""
        if tag == "c":
            self._start_cell(attributes)
        elif tag == "v":
            self._collecting, self._value = True, []
        elif tag == "f":
            self._formula = True
        elif tag in ("t", "rPh"):
            self._inline.start(tag, attributes)
        elif tag == "row":
            self._start_row(attributes)

    def text(self, text: str) -> None:
        """Handle text in an element."""
        if self._collecting and self._value is not None:
            self._value.append(text)
        else:
            self._inline.text(text)

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        if tag == "v":
            self._collecting = False
        elif tag in ("t", "rPh"):
            self._inline.end(tag)
        elif tag == "c":
            self._end_cell()
        elif tag == "row":
            self._end_row()
            if self._only_header and self.rows:
                raise EnoughError

    def _start_row(self, attributes: Attributes) -> None:
        number = _whole(attributes.get("r", ""), self._number + 1, MOST_ROWS)
        if number <= self._number:
            raise DamagedError("rows are not in order")
        self._number, self._column, self._cells = number, 0, {}
        self._hidden = attributes.get("hidden") in ("1", "true")

    def _start_cell(self, attributes: Attributes) -> None:
        reference = attributes.get("r", "")
        letters = reference.rstrip("0123456789")
        self._column = _column(letters) if letters else self._column + 1
        self._type, self._style = attributes.get("t", "n"), attributes.get("s", "")
        self._value, self._formula = None, False

    def _end_cell(self) -> None:
        text, value = self._inline.take(), "".join(self._value or ())
        if self._formula and value in self._without_result and self._type != "str":
            raise RosterError(
                f"{self._where}, row {self._number}, column {column_letters(self._column)}: formula without a result",
                "open the file in the spreadsheet program and save it, so that the formula is calculated",
            )
        if self._value is not None:
            text = self._text_of(value)
        if text:
            self._cells[self._column] = text

    def _text_of(self, value: str) -> str:
        match self._type:
            case "s":
                index = _whole(value.strip(), -1, len(self._shared) - 1, least=0)
                if index < 0:
                    raise DamagedError("missing text")
                return self._shared[index]
            case "str" | "e":
                return unescaped(value)
            case "b":
                return {"1": "TRUE", "0": "FALSE"}.get(value.strip(), value)
            case "n":
                return self._shown(value.strip(), self._style)
            case _:  # d, a date in ISO 8601
                return value

    def _end_row(self) -> None:
        if not any(cell.strip() for cell in self._cells.values()):
            return
        last = max(column for column, cell in self._cells.items() if cell.strip())
        if not self.rows and self._number > 1:
            self.rows.append([])
            raise EnoughError
        width = len(self.rows[0]) if self.rows else last
        if last > width:
            raise RosterError(
                f"{self._where}, row {self._number}: column {column_letters(last)} has no name in the header",
                "add the name to the first row, or clear the cell",
            )
        if self._hidden and self.rows:
            self.hidden.append(self._number)
        blank = self._number - 1 - len(self.rows)
        self._padding += (blank + 1) * width - len(self._cells)
        if self._padding > MOST_PADDING:
            raise too_many_blanks(self._where)
        self.rows.extend([[""] * width] * blank)
        self.rows.append([self._cells.get(column, "") for column in range(1, width + 1)])


def _whole(text: str, otherwise: int, most: int, least: int = 1) -> int:
    """The number of a row or a text.

    Raises:
        DamagedError: not a number, or out of range.
    """
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MOST_ROWS)) + 3 or not least <= int(text) <= most:
        raise DamagedError("invalid row or text number")
    return int(text)


def _column(letters: str) -> int:
    """``A`` → 1, ``XFD`` → 16384."""
    number = 0
    for letter in letters[:4]:
        if not "A" <= letter <= "Z":
            raise DamagedError("invalid cell reference")
        number = number * 26 + ord(letter) - ord("A") + 1
    if number > MOST_COLUMNS:
        raise DamagedError("invalid cell reference")
    return number


def column_letters(number: int) -> str:
    """1 → ``A``, 16384 → ``XFD``."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
