"""An Excel workbook (.xlsx) → rows of strings, as its cells show them.

Read from the XML (ECMA-376 part 1, 18.3 to 18.8, transitional or strict), because reliable identifiers need what only
the XML has: digits as stored and shown, formulas without a result, hidden rows.
"""

from __future__ import annotations

import io
import lzma
import posixpath
import struct
import zipfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from xml.parsers import expat

from ...errors import RosterError
from ..csv_reader import empty
from ..decoding import room_for, too_big
from .numbers import shown_number
from .sheet import Attributes, DamagedError, EnoughError, SheetRows, Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_CHUNK = 2**16

_LONGEST_FORMAT = 255
"""Excel's limit for a number format, in characters."""

# Raised by the standard library for an invalid archive, compressed data or XML.
_READ_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, expat.ExpatError, EOFError, OSError, LookupError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sheet:
    """The content of a sheet.

    Attributes:
        name: of the sheet.
        rows: its cells as strings, the header first; every row as wide as the header, none blank at the end.
        hidden: numbers of the rows that are hidden, by hand or by a filter.
        others: names of the other sheets that are not blank, including hidden ones.
    """

    name: str
    rows: list[list[str]] = field(repr=False)
    hidden: list[int]
    others: list[str]


def read_workbook(data: bytes, name: str, fits: Callable[[Sequence[str]], bool], sheet: str | None = None) -> Sheet:
    """Read the sheet with this name, or with the required columns, or the only one that is not blank.

    Args:
        data: the file's bytes.
        name: of the file, for messages.
        fits: whether a header has the required columns.
        sheet: its name; None to find it.

    Raises:
        RosterError: the file is damaged, several sheets fit, or a cell cannot be read reliably.
    """
    with _as_roster_errors(name), zipfile.ZipFile(io.BytesIO(data)) as archive:
        book = _Book(archive, name, room_for(data))
        headers = {known: header for known in book.sheets if (header := book.header(known)) is not None}
        chosen = _chosen(book, headers, name, fits) if sheet is None else _named(book, name, sheet)
        rows, hidden = book.rows(chosen)
        return Sheet(chosen, rows, hidden, [known for known in headers if known != chosen])


def _named(book: _Book, name: str, sheet: str) -> str:
    """The sheet with a name; without an exact match, ignoring case."""
    found = [known for known in book.sheets if known == sheet]
    found += [known for known in book.sheets if known.casefold() == sheet.strip().casefold()]
    if not found:
        names = ", ".join(map(repr, book.sheets))
        raise RosterError(f"{name} has no sheet {sheet!r}", f"choose one of its sheets: {names}")
    return found[0]


def _chosen(book: _Book, headers: Mapping[str, Sequence[str]], name: str, fits: Callable[[Sequence[str]], bool]) -> str:
    """The visible sheet with the required columns, or the only one."""
    filled = [known for known in headers if known in book.visible]
    fitting = [known for known in filled if fits(headers[known])]
    if not filled:
        raise empty(name)
    if len(fitting) > 1 or (not fitting and len(filled) > 1):
        names = ", ".join(map(repr, fitting or filled))
        why = f"sheets {names} could all be the roster" if fitting else f"none of {names} has a column for drivers"
        raise RosterError(f"{name}: {why}", "choose one with --sheet")
    return (fitting or filled)[0]


@contextmanager
def _as_roster_errors(name: str) -> Iterator[None]:
    """Turn any error about a damaged file into a `RosterError`."""
    try:
        yield
    except (RuntimeError, NotImplementedError):
        raise RosterError(
            f"{name} is encrypted, or compressed in an unsupported way", "save it again as .xlsx without a password"
        ) from None
    except (*_READ_ERRORS, DamagedError) as error:
        why = f" ({error})" if isinstance(error, DamagedError) else ""
        raise RosterError(
            f"{name} is a damaged workbook{why}", "open it in the spreadsheet program and save it as .xlsx or CSV"
        ) from None


class _Book:
    """The parts of a workbook and their relations.

    Attributes:
        sheets: the path of each, by name, in order.
        visible: names of those that are not hidden.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str, room: int) -> None:
        self._archive = archive
        self._name = name
        self._members = {member.filename: member for member in archive.infolist()}
        if sum(member.file_size for member in self._members.values()) > room:
            raise too_big(name)
        book = next((path for kind, path in self._related("").values() if kind == "officeDocument"), "xl/workbook.xml")
        related = self._related(book)
        self.sheets: dict[str, str] = {}
        self.visible: list[str] = []
        self._computed = True
        self._headers: dict[str, list[str] | None] = {}  # by path, because several sheets may share one
        self._epoch = datetime(1899, 12, 30)  # noqa: DTZ001 - times in sheets have no zone; day 60 never existed

        def start(tag: str, attributes: Attributes) -> None:
            if tag == "workbookPr" and attributes.get("date1904") in ("1", "true"):
                self._epoch = datetime(1904, 1, 1)  # noqa: DTZ001
            if tag == "calcPr":
                self._computed = attributes.get("fullCalcOnLoad") not in ("1", "true")
            if tag == "sheet":
                kind, path = related.get(_local(attributes, "id"), ("", ""))
                if kind == "worksheet":
                    self.sheets[attributes.get("name", "")] = path
                    if attributes.get("state", "visible") == "visible":
                        self.visible.append(attributes.get("name", ""))

        self._parse(book, start)
        by_kind = {kind: path for kind, path in related.values() if kind in ("sharedStrings", "styles")}
        self._shared = self._shared_strings(by_kind.get("sharedStrings"))
        self._formats = self._number_formats(by_kind.get("styles"))

    def _related(self, path: str) -> dict[str, tuple[str, str]]:
        """The parts that a part refers to: kind and path, by id."""
        folder, file = posixpath.split(path)
        found: dict[str, tuple[str, str]] = {}

        def start(tag: str, attributes: Attributes) -> None:
            if tag == "Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", ""))).lstrip("/")
                found[attributes.get("Id", "")] = (attributes.get("Type", "").rpartition("/")[2], target)

        relations = posixpath.join(folder, "_rels", f"{file}.rels")
        if relations in self._members:
            self._parse(relations, start)
        return found

    def _parse(
        self,
        path: str,
        start: Callable[[str, Attributes], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        """Parse a part, passing on the names of its elements without namespaces.

        Raises:
            DamagedError: it is missing, or has a document type, as only malicious files have.
        """
        if path not in self._members:
            raise DamagedError(f"no {path[:60]!a}")
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True

        def refuse(*_: object) -> None:
            raise DamagedError("a document type in its XML")

        parser.StartDoctypeDeclHandler = refuse
        parser.StartElementHandler = lambda tag, attributes: start(tag.rpartition(" ")[2], attributes)
        if end is not None:
            parser.EndElementHandler = lambda tag: end(tag.rpartition(" ")[2])
        if text is not None:
            parser.CharacterDataHandler = text
        with self._archive.open(self._members[path]) as part:
            while chunk := part.read(_CHUNK):
                parser.Parse(chunk, False)
        parser.Parse(b"", True)

    def _shared_strings(self, path: str | None) -> list[str]:
        found: list[str] = []
        if path is None:
            return found
        reader = Texts()

        def end(tag: str) -> None:
            reader.end(tag)
            if tag == "si":
                found.append(reader.take())

        self._parse(path, reader.start, end, reader.text)
        return found

    def _number_formats(self, path: str | None) -> dict[str, str]:
        """By style number, the number format; of a built-in format, its number."""
        own: dict[str, str] = {}
        found: list[str] = []
        inside = ""
        if path is None:
            return {}

        def start(tag: str, attributes: Attributes) -> None:
            nonlocal inside
            if tag in ("cellXfs", "cellStyleXfs"):
                inside = tag
            if tag == "numFmt" and len(attributes.get("formatCode", "")) <= _LONGEST_FORMAT:
                own[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
            if tag == "xf" and inside == "cellXfs":
                found.append(attributes.get("numFmtId", "0"))

        self._parse(path, start)
        return {str(style): own.get(number, number) for style, number in enumerate(found)}

    def header(self, sheet: str) -> list[str] | None:
        """The first row of a sheet, empty if it is blank; None if the whole sheet is blank."""
        path = self.sheets[sheet]
        if path not in self._headers:
            try:
                reader = self._reader(sheet, only_header=True)
                self._headers[path] = reader.rows[0] if reader.rows else None
            except RosterError:  # raised again if this is the sheet to read
                self._headers[path] = []
        return self._headers[path]

    def rows(self, sheet: str) -> tuple[list[list[str]], list[int]]:
        """All rows of a sheet, and the numbers of hidden ones."""
        reader = self._reader(sheet)
        if not reader.rows:
            raise empty(self._name)
        if not reader.rows[0]:
            raise RosterError(f"{self._name}: the first row is blank", "the first row must be the header")
        return reader.rows, reader.hidden

    def _reader(self, sheet: str, *, only_header: bool = False) -> SheetRows:
        reader = SheetRows(
            self._name, sheet, self._shared, self._shown, computed=self._computed, only_header=only_header
        )
        with suppress(EnoughError):
            self._parse(self.sheets[sheet], reader.start, reader.end, reader.text)
        return reader

    def _shown(self, number: str, style: str) -> str:
        return shown_number(number, self._formats.get(style, "0"), self._epoch)


def _local(attributes: Mapping[str, str], name: str) -> str:
    """An attribute, ignoring its namespace."""
    return next((value for key, value in attributes.items() if key.rpartition(" ")[2] == name), "")
