"""Spreadsheet → a pandas DataFrame of strings, strictly read, and checked drivers, before any request.

Strict means: every row has exactly as many cells as the header. pandas alone pads short rows and shifts long ones,
and a shifted ID column holds somebody else's IDs. So Python's csv module reads, and pandas holds what it read.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from .errors import RosterError
from .hints import Hint
from .model import Driver, Identifier, IdentifierKind, Outcome, Status

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

HEADER_ROW = 1
"""The header's row number, as a spreadsheet shows it; the first driver is on the next."""

MAX_INT64 = 2**63 - 1

MOST_COLUMNS_SHOWN = 8
"""Columns that a message lists."""

# Names as people write them, compared without regard to case, spaces and punctuation; most specific kind first.
COLUMN_NAMES = {
    IdentifierKind.DRIVER_ID: ("driverid", "samsaraid", "samsaradriverid", "id"),
    IdentifierKind.EXTERNAL_ID: ("externalid", "externalids", "driverexternalid"),
    IdentifierKind.USERNAME: ("username", "driverusername", "login", "loginname"),
}

_PASSWORD = re.compile(r"password|passwd|passwort|passcode|pwd|pincode")


def header_delimiter(text: str) -> str:
    """The separator that splits the header into most cells; a comma where none does."""
    header = re.match(r'(?:[^"\r\n]|"[^"]*")*', text)
    unquoted = re.sub(r'"[^"]*"', "", header[0] if header else "")
    return max(",;\t|", key=unquoted.count)


def read_table(data: bytes, name: str) -> pd.DataFrame:
    """A CSV file as strings: all cells as they are, no type guessed, no value taken for a missing one.

    UTF-8 or UTF-16, the latter with BOM; comma, semicolon, tab or pipe; any line ending; quotes as in RFC 4180.
    Blank lines are kept as blank rows, so that row numbers stay those of the spreadsheet, except at the very end.

    Args:
        data: the file's bytes.
        name: how messages call the file.

    Raises:
        RosterError: it cannot be read whole and unambiguously; says in which row and what to do.
    """
    text = decode(data, name)
    header, *body = read_rows(text, header_delimiter(text), name)
    for number, cells in enumerate(body, HEADER_ROW + 1):
        check_width(cells, header, number, name)
        if max(map(len, cells)) >= csv.field_size_limit():  # an apostrophe may have to be added
            raise RosterError(f"{name}, row {number}: a cell with {max(map(len, cells))} characters", "shorten it")
    return pd.DataFrame(body, columns=pd.Index(header, dtype=object), dtype=object)


def read_rows(text: str, delimiter: str, name: str) -> Iterator[list[str]]:
    """The rows of a CSV text, the header first; blank ones as wide as the header, none at the very end.

    Raises:
        RosterError: it is not valid CSV, or has no header.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    blank: list[list[str]] = []  # until something follows
    number = HEADER_ROW - 1
    try:
        for cells in rows:
            number += 1
            header = cells if header is None else header
            blank.append(cells or [""] * len(header))
            if any(cell.strip() for cell in cells):
                if not header:
                    raise RosterError(f"{name}: the first row is blank", "the first row must be the header")
                yield from blank
                blank.clear()
    except csv.Error as error:
        raise RosterError(
            f"{name}, row {number + 1}: not valid CSV ({error})",
            "look for a quotation mark that is opened and never closed, or save the file again as CSV UTF-8",
        ) from None
    if len(blank) == number:
        raise RosterError(f"{name} is empty", "it needs a header row and a row for each driver")


def check_width(cells: Sequence[str], header: Sequence[str], row: int, name: str) -> None:
    """Refuse a row with more or fewer cells than the header.

    Raises:
        RosterError: it has.
    """
    if len(cells) != len(header):
        raise RosterError(
            f"{name}, row {row}: {len(cells)} cells, but the header has {len(header)}",
            "look for a missing or extra separator, or for a cell with a separator and no quotation marks",
        )


def decode(data: bytes, name: str) -> str:
    """A CSV file's text.

    Raises:
        RosterError: it is another kind of file, or in another encoding.
    """
    tip = 'in the spreadsheet program choose "Save as" and the type "CSV UTF-8"'
    if data.startswith(b"PK\x03\x04"):
        raise RosterError(f"{name} is an Excel workbook, not a CSV file", tip)
    if data.startswith((b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"%PDF")):
        raise RosterError(f"{name} is not a CSV file", tip)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RosterError(f"{name}, line {line}: not {encoding.upper().removesuffix('-SIG')} text", tip) from None
    if "\0" in text:
        raise RosterError(f"{name} holds NUL characters", "save it again as CSV UTF-8")
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row is never sent; ``error`` names cell content of identifier columns only."""

    error: str
    hint: Hint


class Roster:
    """A roster as it was given, and what it comes to.

    Attributes:
        frame: all columns, unchanged and in order, every cell a string (columns of passwords are left out).
        columns: which column names drivers by which kind of identifier, the most specific first.
        positions: the same columns, by position.
        drivers: the rows worth sending, in order.
        refused: the outcomes of all other rows, in order: ``invalid`` or ``duplicate``.
        notes: what a person should know about it, one line each.
    """

    def __init__(self, frame: pd.DataFrame, name: str) -> None:
        """Check a table of strings.

        Raises:
            RosterError: no rows, no identifier column, two that could be the same, or this is a results file.
        """
        header = [str(column) for column in frame.columns]
        if any(column.startswith("auth_") for column in header):
            raise RosterError(
                f"{name} has columns that begin with auth_: it is a results file, not a roster",
                "finish or refresh it with batch-issuer retry, or give the roster it was made from",
            )
        self.notes: list[str] = []
        secret = [position for position, column in enumerate(header) if _is_password(column)]
        if secret:
            names = ", ".join(repr(header[position]) for position in secret)
            self.notes.append(f"Column {names} looks like passwords: it is not copied to the results.")
            kept = [position for position in range(len(header)) if position not in secret]
            frame = frame.iloc[:, kept]
            header = [header[position] for position in kept]
        frame = frame.reset_index(drop=True)
        if not len(frame):
            raise RosterError(f"{name} has a header but no rows", "add a row for each driver")
        self.frame = frame
        self.positions = identifier_columns(header, name)
        self.columns = {kind: header[position] for kind, position in self.positions.items()}
        self.drivers: list[Driver] = []
        self.refused: list[Outcome] = []
        self._check()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Roster:
        """A CSV file's content as a roster.

        Raises:
            RosterError: it cannot be used as a whole; says why and what to do.
        """
        return cls(read_table(data, name), name)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Roster:
        """A CSV file as a roster.

        Raises:
            RosterError: the file cannot be read, or cannot be used as a whole.
        """
        return cls.from_bytes(read_bytes(Path(path)), Path(path).name)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Roster:
        """A DataFrame as a roster; its first row counts as row 2, as if under a header.

        Missing values become blank cells. Whole floats below 2**53 become integers, because pandas turns a column of
        integers with a gap into floats.

        Raises:
            RosterError: it cannot be used as a whole.
        """
        cells = {position: _texts(frame.iloc[:, position]) for position in range(frame.shape[1])}
        for column, texts in zip(frame.columns, cells.values(), strict=True):
            for row, text in enumerate((str(column), *texts), HEADER_ROW):
                if not _fits_csv(text):
                    raise RosterError(
                        f"the DataFrame, row {row}, column {str(column)[:40]!a}: no CSV file can hold this cell",
                        "take out NUL characters, lone surrogates and endless texts",
                    )
        return cls(pd.DataFrame(cells, dtype=object).set_axis(frame.columns, axis=1), "the DataFrame")

    def __repr__(self) -> str:
        return f"<Roster of {len(self)} rows, {len(self.drivers)} to send>"

    def __len__(self) -> int:
        return len(self.frame)

    def row_numbers(self) -> range:
        """The rows' numbers as a spreadsheet shows them."""
        return range(HEADER_ROW + 1, HEADER_ROW + 1 + len(self))

    def identifiers(self) -> Iterator[Identifier | Problem]:
        """For each row, read afresh from its cells: what would be sent, or why nothing is."""
        for named in names(self.frame, self.positions):
            yield next(iter(named.values()), Problem("no identifier in this row", Hint.NO_IDENTIFIER))

    def _check(self) -> None:
        first_row: dict[Identifier, int] = {}
        for row, found in zip(self.row_numbers(), self.identifiers(), strict=True):
            if isinstance(found, Problem):
                self.refused.append(Outcome(row, Status.INVALID, error=found.error, hint=str(found.hint)))
            elif found in first_row:
                error = f"the same driver as in row {first_row[found]}"
                self.refused.append(Outcome(row, Status.DUPLICATE, found, error=error, hint=str(Hint.DUPLICATE)))
            else:
                first_row[found] = row
                self.drivers.append(Driver(row, found))


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        RosterError: it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RosterError(f"there is no file {path.name} in {path.parent.resolve()}", "check name and folder") from None
    except IsADirectoryError:
        raise RosterError(f"{path} is a folder", "name the file itself") from None
    except OSError as error:
        raise RosterError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None


def _fits_csv(text: str) -> bool:
    """Whether a results file with this cell can be written and read back."""
    return "\0" not in text and len(text) < csv.field_size_limit() and not re.search("[\ud800-\udfff]", text)


def _texts(column: pd.Series) -> list[str]:
    """A column's cells as strings; whole floats as integers, as far as this kind of float counts exactly."""
    significant_bits = {2: 11, 4: 24}.get(getattr(column.dtype, "itemsize", 8), 53) if column.dtype.kind == "f" else 53
    exact = 2.0**significant_bits
    return [_text(cell, exact) for cell in column]


def _text(cell: object, exact: float) -> str:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return ""
    if isinstance(cell, float):
        if cell != cell:  # noqa: PLR0124 - not a number: pandas' missing value
            return ""
        if cell.is_integer() and abs(cell) < exact:
            return str(int(cell))
    return str(cell)


def _plain(name: str) -> str:
    """A column name without regard to case, spaces and punctuation."""
    return "".join(character for character in unicodedata.normalize("NFKC", name).casefold() if character.isalnum())


def _is_password(name: str) -> bool:
    return bool(_PASSWORD.search(_plain(name)) or re.search(r"(?<![^\W_])pin(?![^\W_])", name, re.IGNORECASE))


def identifier_columns(header: Sequence[str], name: str, *, required: bool = True) -> dict[IdentifierKind, int]:
    """Which column, by position, holds which kind of identifier; most specific kind first.

    Raises:
        RosterError: none does although that is required, or two could hold the same.
    """
    plain = [_plain(column) for column in header]
    found: dict[IdentifierKind, int] = {}
    for kind, known in COLUMN_NAMES.items():
        positions = [position for position, column in enumerate(plain) if column in known]
        if len(positions) > 1:
            both = " and ".join(repr(header[position]) for position in positions)
            raise RosterError(f"{name}: columns {both} could both be the {kind}", "rename or delete one of them")
        if positions:
            found[kind] = positions[0]
    if required and not found:
        shown = [" ".join(column[:40].split()) or "(blank)" for column in header[:MOST_COLUMNS_SHOWN]]
        if any(column.startswith(tuple(f"{kind}=" for kind in IdentifierKind)) for column in header):
            shown = ["(not shown: they look like a row of results)"]
        seen = ", ".join(shown) + (", …" if len(header) > MOST_COLUMNS_SHOWN else "")
        raise RosterError(
            f"{name} has no column that names drivers; its columns are: {seen}",
            "call one of them Driver ID, External ID or Username (the first row must be the header)",
        )
    return found


def names(
    frame: pd.DataFrame, columns: Mapping[IdentifierKind, int]
) -> Iterator[dict[IdentifierKind, Identifier | Problem]]:
    """For each row, what its cells that are not blank say, by kind; most specific kind first."""
    cells = [frame.iloc[:, position].tolist() for position in columns.values()]
    for row in zip(*cells, strict=True) if cells else [()] * len(frame):
        yield {kind: named(kind, cell) for kind, cell in zip(columns, row, strict=True) if cell.strip()}


def named(kind: IdentifierKind, cell: str) -> Identifier | Problem:
    """The driver that a cell names, or why it names none."""
    return _CHECKS[kind](cell.strip())


def _checked_driver_id(cell: str) -> Identifier | Problem:
    if re.fullmatch(r"[1-9][0-9]{0,18}", cell) and int(cell) <= MAX_INT64:
        return Identifier(IdentifierKind.DRIVER_ID, cell)
    if re.fullmatch(r"[+-]?\d+([.,]\d*)?[eE][+-]?\d+", cell):
        return Problem(f"driver ID {cell[:40]} lost its digits in a spreadsheet program", Hint.RUINED_DRIVER_ID)
    return Problem(f"{_shown(cell)} is not a driver ID", Hint.DRIVER_ID)


def _checked_external_id(cell: str) -> Identifier | Problem:
    if not cell.isprintable():
        return Problem(f"external ID {_shown(cell)} holds control characters", Hint.CHARACTERS)
    key, colon, value = cell.partition(":")
    if key.strip() and colon and value.strip():
        return Identifier(IdentifierKind.EXTERNAL_ID, cell)
    return Problem(f"{_shown(cell)} is not an external ID", Hint.EXTERNAL_ID)


def _checked_username(cell: str) -> Identifier | Problem:
    if not cell.isprintable():
        return Problem(f"username {_shown(cell)} holds control characters", Hint.CHARACTERS)
    return Identifier(IdentifierKind.USERNAME, cell)


_CHECKS = {
    IdentifierKind.DRIVER_ID: _checked_driver_id,
    IdentifierKind.EXTERNAL_ID: _checked_external_id,
    IdentifierKind.USERNAME: _checked_username,
}


def _shown(cell: str) -> str:
    """A cell for a one-line message: control characters escaped, not too long."""
    return ascii(cell[:40])[:60] if not cell.isprintable() else repr(cell[:40])
