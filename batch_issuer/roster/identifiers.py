"""One cell → the driver it identifies, or the problem with it.

Harmless changes by other programs are undone and reported. Anything else is refused: nothing is ever guessed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from ..hints import Hint
from ..model import Identifier, IdentifierKind
from .columns import LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_INT64 = 2**63 - 1

EXACT_FLOAT = 2**53
"""From here on a number with a decimal point may have lost digits (IEEE 754, 53 bits)."""

EXACT_DIGITS = 15
"""Digits of a number that Excel keeps; it replaces the others by zeros."""

CELLS_AT_ONCE = 10_000
"""Cells of a column that are matched together, to limit memory."""

LEAST_USERNAME = 4
"""Characters that Samsara requires in a username."""


class CellPattern:
    """An ASCII regular expression that most cells of a column match as a whole; it matches no line end."""

    def __init__(self, pattern: str) -> None:
        self._cell = re.compile(pattern, re.ASCII)
        self._lines = re.compile(rf"(?:(?:{pattern})\n)*+", re.ASCII)

    def others(self, cells: Sequence[str]) -> list[int]:
        """Positions of the cells that do not match, counted from 0; matching runs are skipped at once."""
        starts = range(0, len(cells), CELLS_AT_ONCE)
        return [start + at for start in starts for at in self._others(cells[start : start + CELLS_AT_ONCE])]

    def _others(self, cells: Sequence[str]) -> list[int]:
        lines = "\n".join([*cells, ""])
        if lines.count("\n") > len(cells):  # a cell contains line ends
            return [at for at, cell in enumerate(cells) if not self._cell.fullmatch(cell)]
        found: list[int] = []
        start = at = 0
        while (passed := self._lines.match(lines, start)) and passed.end() < len(lines):
            at += lines.count("\n", start, passed.end())
            found.append(at)
            at, start = at + 1, lines.index("\n", passed.end()) + 1
        return found


# Cells that are sent unchanged and without a warning, or are blank.
UNCHANGED = {
    IdentifierKind.DRIVER_ID: CellPattern(r"(?:[1-9][0-9]{0,14}|[1-9][0-9]{14,16}[1-9])?"),
    IdentifierKind.EXTERNAL_ID: CellPattern(r"(?:[A-Za-z][\w.-]*:[\w.@%+-]+)?"),
    IdentifierKind.USERNAME: CellPattern(rf"(?:[A-Za-z][!-?A-~]{{{LEAST_USERNAME - 1},}})?"),
}

_WITH_EXPONENT = re.compile(r"([+-]?\d+)(?:[.,](\d*))?[eE]([+-]?\d{1,4})", re.ASCII)
_WITH_DECIMALS = re.compile(r"(\d{4,})[.,]0*|(\d+)[.,]0{0,2}", re.ASCII)  # 123.000 may be a thousand times as much
_GROUPED = re.compile(r"[1-9]\d{0,2}([ ,.'\u2019\u00a0\u202f_])\d{3}(?:\1\d{3})+((?!\1)[.,]0*)?", re.ASCII)
# Wrappings that keep Excel from reading digits as a number, and quotation marks after a separator and a space.
_WRAPPED = re.compile(r'="([^"]*)"|"([^"]+)"')
_CELL_ERROR = re.compile(r"#[A-Z\d/_\u00c0-\u00de]+[!?]|#N/[A-Z]|#NV|#GETTING_DATA|#{3,}|Err:\d+")  # in any language
_FLOAT = re.compile(r"\d{3,}\.0", re.ASCII)
_KEY = r"[^\W\d_][\w.-]*"
_PAIRS = re.compile(rf"[,;|\n]\s*(?={_KEY}:)")  # between several external IDs


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row is not sent; ``error`` quotes cells of identifier columns only."""

    error: str
    hint: Hint


def named(kind: IdentifierKind, cell: str, key: str = "", *, only_key: bool = False) -> Identifier | Problem:
    """The driver that a cell identifies, or the problem with it.

    Args:
        kind: of the identifier.
        cell: not blank.
        key: for external IDs without a key.
        only_key: whether the column contains only external IDs with that key.
    """
    found = _value(kind, _trimmed(cell), key, only_key=only_key)
    return found if isinstance(found, Problem) else Identifier(kind, found)


def warning_about(kind: IdentifierKind, cell: str, sent: str) -> str:
    """A warning about a cell that is sent as ``sent``, one line; empty if there is none."""
    if kind is IdentifierKind.DRIVER_ID and cell.strip() != sent:
        return f"{shown(cell)} is sent as {sent}"
    if kind is IdentifierKind.DRIVER_ID and len(sent) > EXACT_DIGITS and not sent[EXACT_DIGITS:].strip("0"):
        return f"driver ID {sent} ends in zeros, Excel may have replaced its last digits; compare it with Samsara"
    if not cell.strip().isprintable() or _WRAPPED.fullmatch(cell.strip()):
        return f"{shown(cell)} is sent as {sent!r}"
    if kind is not IdentifierKind.DRIVER_ID and _FLOAT.fullmatch(sent.rpartition(":")[2]):
        return f"{shown(sent)} ends in .0, a spreadsheet may have added it; sent unchanged"
    if kind is IdentifierKind.USERNAME and (" " in sent or "@" in sent):
        what = "a space" if " " in sent else "an @"
        return f"username {shown(sent)} contains {what}, which Samsara does not allow; sent unchanged"
    if kind is IdentifierKind.USERNAME and len(sent) < LEAST_USERNAME:
        return f"username {shown(sent)} has fewer than {LEAST_USERNAME} characters; sent unchanged"
    return ""


def shown(cell: str) -> str:
    """A cell quoted for a one-line message: shortened, unprintable characters escaped."""
    return ascii(cell[:40])[:60] if not cell.isprintable() else repr(cell[:40])


def _trimmed(cell: str) -> str:
    """A cell without invisible characters at its ends, and without the formula that some programs wrap a text in."""
    cell = cell.strip()
    if not cell.isprintable():
        first, last = 0, len(cell)
        while first < last and _is_invisible(cell[first]):
            first += 1
        while first < last and _is_invisible(cell[last - 1]):
            last -= 1
        cell = cell[first:last]
    wrapped = _WRAPPED.fullmatch(cell)
    return (wrapped[1] or wrapped[2] or "").strip() if wrapped else cell


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def _value(kind: IdentifierKind, cell: str, key: str, *, only_key: bool) -> str | Problem:
    if not cell:
        return Problem(f"the {LABELS[kind]} has only invisible characters", Hint.CHARACTERS)
    if _CELL_ERROR.fullmatch(cell):
        return Problem(f"{shown(cell)} is a formula error", Hint.CELL_ERROR)
    match kind:
        case IdentifierKind.DRIVER_ID:
            return _driver_id(cell)
        case IdentifierKind.EXTERNAL_ID:
            return _external_id(cell, key, only_key=only_key)
        case IdentifierKind.USERNAME:
            return _username(cell)


def _driver_id(cell: str) -> str | Problem:
    digits = _digits(cell)
    if isinstance(digits, Problem):
        return digits
    if digits.startswith("0"):
        return Problem(f"{shown(cell)} is not a valid driver ID: it starts with a zero", Hint.DRIVER_ID)
    if len(digits) > len(str(MAX_INT64)) or int(digits) > MAX_INT64:
        return Problem(f"{shown(cell)} is not a valid driver ID: it is too large", Hint.DRIVER_ID)
    return digits


def _digits(cell: str) -> str | Problem:
    """The digits of a driver ID, from any form that loses none."""
    text = cell if cell.isascii() else "".join(str(unicodedata.decimal(char, char)) for char in cell)
    text = text.removeprefix("'").removeprefix("+")
    if re.fullmatch(r"[0-9]+", text):
        return text
    if found := _WITH_EXPONENT.fullmatch(text):
        whole, fraction, exponent = found[1], found[2] or "", int(found[3])
        if len(text) < 2 * EXACT_DIGITS and 0 <= exponent <= len(fraction) and int(whole) > 0:
            number = Decimal(f"{whole}.{fraction or '0'}").scaleb(exponent)
            if number == number.to_integral_value() and number < EXACT_FLOAT:
                return str(int(number))
        return Problem(f"driver ID {shown(cell)} lost digits in a spreadsheet", Hint.ROUNDED_DRIVER_ID)
    if found := _GROUPED.fullmatch(text):
        return re.sub(r"\D", "", text.removesuffix(found[2] or ""))
    if found := _WITH_DECIMALS.fullmatch(text):
        digits = found[1] or found[2]
        if len(digits) <= EXACT_DIGITS + 1 and int(digits) < EXACT_FLOAT:
            return digits
        return Problem(f"driver ID {shown(cell)} may have lost digits in a spreadsheet", Hint.ROUNDED_DRIVER_ID)
    return Problem(f"{shown(cell)} is not a valid driver ID", Hint.DRIVER_ID)


def _external_id(cell: str, key: str, *, only_key: bool) -> str | Problem:
    if (pairs := [pair.strip() for pair in _PAIRS.split(cell)])[1:]:
        wanted = [pair for pair in pairs if key and pair.startswith(f"{key}:")]
        if len(wanted) != 1:
            return Problem(f"{shown(cell)} contains several external IDs", Hint.SEVERAL_EXTERNAL_IDS)
        cell = wanted[0]
    if not cell.isprintable():
        return Problem(f"external ID {shown(cell)} contains control characters", Hint.CHARACTERS)
    before, colon, value = cell.partition(":")
    if _is_rounded(value if colon else cell):
        return Problem(f"external ID {shown(cell)} lost digits in a spreadsheet", Hint.ROUNDED_TEXT)
    if key and not colon:
        return f"{key}:{cell}"
    if not (colon and value.strip() and re.fullmatch(r"[^\"{}\[\]]*\S", before)):
        return Problem(f"{shown(cell)} is not a valid external ID", Hint.EXTERNAL_ID)
    if only_key and before != key:
        return Problem(f"external ID {shown(cell)} does not have its column's key, {key}", Hint.EXTERNAL_ID)
    return cell


def _username(cell: str) -> str | Problem:
    if not cell.isprintable():
        return Problem(f"username {shown(cell)} contains control characters", Hint.CHARACTERS)
    if _is_rounded(cell):
        return Problem(f"username {shown(cell)} lost digits in a spreadsheet", Hint.ROUNDED_TEXT)
    return cell


def _is_rounded(text: str) -> bool:
    """Whether it looks like a long number in a spreadsheet; without the plus sign it may be a name."""
    return "+" in text and bool(_WITH_EXPONENT.fullmatch(text))
