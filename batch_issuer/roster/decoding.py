"""Bytes → the text of a CSV file, or the kind of file they are instead."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from contextlib import suppress

from ..errors import RosterError, SettingsError

MOST_BYTES = 512 * 2**20
"""Largest size of a file, unpacked: a roster of a million drivers takes a fifth of it."""

# No table is compressed more than this: a larger file that unpacks to more is a decompression bomb.
_MOST_EXPANSION = 200
_SMALL = 16 * 2**20

SAVE_AS_CSV = 'in the spreadsheet program, choose "Save as" and the type "CSV UTF-8"'

# Not encodings of a text file, or ones that take more than linear time.
_NO_ENCODINGS = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"}

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16 does, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_SAMPLE = 1000  # characters

# Files that are often mistaken for CSV, by how they begin.
_OTHERS = (
    (
        rb"\xd0\xcf\x11\xe0",
        "an old Excel workbook (.xls), or one with a password",
        "save it as .xlsx or CSV",
    ),
    (rb"PK\x03\x04", "a ZIP archive, or a workbook that is not .xlsx", "unpack it, or save it as .xlsx or CSV UTF-8"),
    (rb"%PDF", "a PDF document", "export the table itself, as CSV or .xlsx"),
    (rb"[\s\xef\xbb\xbf]*(?i:<!doctype|<html|<table|<\?xml|<workbook|<head)", "a web page or XML", SAVE_AS_CSV),
    (rb"[\s\xef\xbb\xbf]*(?:\{\s*\"|\[\s*\{)", "JSON", "export the table as CSV or .xlsx"),
)


def is_workbook(data: bytes) -> bool:
    """Whether it is an archive with sheets in XML, as .xlsx files are; other workbooks and archives are not."""
    return data.startswith(b"PK\x03\x04") and b"xl/worksheets/" in data and b"xl/workbook.bin" not in data


def unpacked(data: bytes, name: str) -> bytes:
    """The content of a gzip file; any other bytes as they are.

    Raises:
        RosterError: it is damaged, or unpacks to too much.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    room = room_for(data)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(room + 1)
    except (OSError, EOFError, zlib.error):
        raise RosterError(f"{name} is a damaged gzip file", "copy it again and check it with gzip -t") from None
    if len(content) > room:
        raise too_big(name)
    return content


def room_for(data: bytes) -> int:
    """Bytes that a packed file may unpack to."""
    return min(MOST_BYTES, max(_SMALL, _MOST_EXPANSION * len(data)))


def too_big(name: str) -> RosterError:
    """The error for a file that is, or unpacks to, more than a roster can be."""
    return RosterError(
        f"{name} is too large, or unpacks to too much", f"split it into rosters of less than {MOST_BYTES // 2**20} MiB"
    )


def decode(data: bytes, name: str, encoding: str | None = None, *, ours: bool = False) -> str:
    """A CSV file's text, without byte order marks.

    Args:
        data: the file's bytes.
        name: of the file, for messages.
        encoding: as Python names it; a byte order mark takes precedence. Without either it must be UTF-8.
        ours: whether this program wrote it, with one byte order mark and in no other encoding.

    Raises:
        RosterError: it is another kind of file, or in another encoding.
        SettingsError: there is no such encoding.
    """
    _refuse_others(data, name)
    by_mark = next((known for mark, known in _BOMS if data.startswith(mark)), None)
    codec = by_mark or (_known(encoding) if encoding else "utf-8")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        line = _line(data, error.start, codec)
        hint = SAVE_AS_CSV if by_mark or ours else _hint(data, error, codec)
        raise RosterError(f"{name}, line {line}: not {codec.upper()} text", hint) from None
    except UnicodeError:  # an error of the codec, not of these bytes
        raise RosterError(f"{name}: not {codec.upper()} text", SAVE_AS_CSV) from None
    text = text.removeprefix("\ufeff") if ours else text.lstrip("\ufeff")  # two programs may have added one each
    if by_mark:
        _refuse_others(text[:_SAMPLE].encode(errors="replace"), name)
    if "\0" in text:
        hint = "save it again as CSV UTF-8"
        if not (by_mark or encoding or ours) and len(data) // 3 < data.count(0):
            likely = "utf-16-be" if data.startswith(b"\0") else "utf-16-le"
            hint = f"add --encoding {likely}, or {hint}"
        raise RosterError(f"{name} contains NUL characters", hint)
    return text


def is_utf8(data: bytes) -> bool:
    """Whether bytes are valid UTF-8 and not ASCII alone."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return not data.isascii()


def _refuse_others(data: bytes, name: str) -> None:
    for beginning, kind, hint in _OTHERS:
        if re.match(beginning, data):
            raise RosterError(f"{name} is {kind}, not a CSV file", hint)


def _known(encoding: str) -> str:
    """The encoding's name as Python has it.

    Raises:
        SettingsError: there is none.
    """
    try:
        name = codecs.lookup(encoding).name
        with suppress(UnicodeError):
            b"a".decode(name)  # refuses codecs that are not of text
    except (LookupError, ValueError):
        name = "undefined"
    if name.replace("-", "_") in _NO_ENCODINGS:
        hint = "use one such as windows-1252, windows-1250, utf-16-le, mac-roman or gb18030"
        raise SettingsError(f"unknown encoding {encoding[:40]!a}", hint)
    return name


def _line(data: bytes, position: int, codec: str) -> int:
    """The number of the line that contains a byte."""
    before = data[:position].decode(codec, "ignore")
    return max(before.count("\n"), before.count("\r")) + 1


def _hint(data: bytes, error: UnicodeDecodeError, codec: str) -> str:
    """What to do about bytes that are not UTF-8: Windows programs and old Macs have encodings of their own."""
    if codec != "utf-8":
        return SAVE_AS_CSV
    guess = "mac-roman" if b"\r" in data and b"\n" not in data else "windows-1252"
    byte = data[error.start : error.start + 1]
    try:
        data.decode(guess)
    except UnicodeDecodeError:
        return SAVE_AS_CSV
    character = byte.decode(guess)
    shown = repr(character) if character.isprintable() else "a control character"
    return (
        f"if byte {byte.hex().upper()} should read {shown}, add --encoding {guess}; otherwise pass the right encoding, "
        f"or {SAVE_AS_CSV}"
    )
