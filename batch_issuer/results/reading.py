"""Reading a results file, CSV or workbook, or the journal of an interrupted run."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError
from ..model import Status
from ..roster import (
    HEADER_ROW,
    check_lengths,
    decode,
    delimiter_of,
    is_workbook,
    read_bytes,
    read_columns,
    read_workbook,
    split_separator_line,
)
from .auth_columns import AUTH_COLUMNS, EXACT_COLUMNS, PARTIAL, ROW_COLUMN, utc_time
from .formulas import unguard_cell
from .private_files import BOM

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime


# These two columns next to each other show the separator, whatever else the header contains.
_OURS = re.compile(r'auth_status"?([,;\t|])"?auth_token')


@dataclass(frozen=True, slots=True)
class Results:
    """The content of a results file, or of the journal of an interrupted run.

    Attributes:
        frame: its cells as strings in its own column order, without guards; of a journal the last line of each row,
            without `ROW_COLUMN`.
        rows: the row numbers as the roster's spreadsheet shows them.
        delimiter: separates its columns.
        others: names of the other sheets of a workbook.
    """

    frame: pd.DataFrame = field(repr=False)
    rows: list[int] = field(repr=False)
    delimiter: str = ","
    others: list[str] = field(default_factory=list)

    @property
    def auth(self) -> pd.DataFrame:
        """The `AUTH_COLUMNS` alone."""
        return self.frame[list(AUTH_COLUMNS)]

    @property
    def cells(self) -> pd.DataFrame:
        """All other columns."""
        return self.frame.loc[:, ~self.frame.columns.isin(AUTH_COLUMNS)]

    def expires_at(self) -> list[datetime | None]:
        """When each row's token expires, UTC; None without a token or a readable expiry."""
        return [utc_time(text) for text in self.frame["auth_expires_at"]]


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read a results file, or a journal, even that of a run in progress.

    A torn last line, which a crash may leave in a journal, is skipped. Blank cells that Excel drops at the end of a row
    are restored.

    Raises:
        RosterError: it cannot be read.
        ResultsError: it is not a results file.
    """
    path = Path(path)
    data = read_bytes(path)
    if is_workbook(data):
        sheet = read_workbook(data, path.name, _is_header)
        header, *body = sheet.rows
        _check_header(header, path)
        return _results(header, _frame(body, header), others=sheet.others)
    if b"auth_token" not in data.replace(b"\0", b""):  # as in UTF-16
        raise _not_results(path)
    is_journal = re.match(rb'"?auth_row"?[,;\t|]', data.removeprefix(BOM.encode())) is not None
    if is_journal:
        data = _whole_lines(data)
    _, text = split_separator_line(decode(data, path.name, ours=True))
    del data
    found = _OURS.search(text)
    delimiter = found[1] if found else delimiter_of(text, _is_header, path.name)

    def lost_its_end(cells: list[str], header: list[str]) -> bool:
        """Whether only cells at the end are missing: a separator lost further left would shift the status column."""
        named = [unguard_cell(column) for column in header]
        _check_header(named, path)
        status = named.index("auth_status")
        return status < len(cells) < len(header) and cells[status] in tuple(Status)

    header, frame = read_columns(text, delimiter, path.name, lost_its_end)
    check_lengths(frame, path.name, csv.field_size_limit())
    header = [unguard_cell(column) for column in header]
    _check_header(header, path)
    rows = None
    if is_journal:
        rows, frame = _last_lines(frame, path.name)
        header = header[1:]
    _unguard(frame, header)
    return _results(header, frame, delimiter, rows=rows)


def _frame(body: Sequence[Sequence[str]], header: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(body, columns=range(len(header)), dtype=object)


def _not_results(path: Path) -> ResultsError:
    return ResultsError(f"{path} is not a results file", "pass a file that batch-issuer issue wrote")


def _is_header(header: Sequence[str]) -> bool:
    return "auth_token" in header


def _check_header(header: Sequence[str], path: Path) -> None:
    if not _is_header(header):
        raise _not_results(path)
    wrong = [column for column in AUTH_COLUMNS if header.count(column) != 1]
    if wrong:
        raise ResultsError(
            f"{path}: missing or repeated columns in the header: {', '.join(wrong)}",
            "copy the header from a file that batch-issuer issue wrote; it has each auth_ column once",
        )


def _results(
    header: Sequence[str],
    frame: pd.DataFrame,
    delimiter: str = ",",
    *,
    rows: list[int] | None = None,
    others: Sequence[str] = (),
) -> Results:
    frame.columns = pd.Index(list(header))
    rows = list(range(HEADER_ROW + 1, HEADER_ROW + 1 + len(frame))) if rows is None else rows
    return Results(frame, rows, delimiter, list(others))


def _whole_lines(data: bytes) -> bytes:
    """A journal without the line that a power cut interrupted; data after a NUL never reached the disk."""
    data = data.partition(b"\0")[0]
    end = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:  # this line end is inside a cell
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return data[:end]


def _unguard(frame: pd.DataFrame, header: Sequence[str]) -> None:
    for position, column in enumerate(header):
        cells = frame.iloc[:, position].tolist()
        if column not in EXACT_COLUMNS and "\n'" in "\n".join(["", *cells]):
            frame[frame.columns[position]] = pd.Series([unguard_cell(cell) for cell in cells], dtype=object)


def _last_lines(frame: pd.DataFrame, name: str) -> tuple[list[int], pd.DataFrame]:
    """The row numbers of a journal, in order, and the last line of each row."""
    try:
        latest = {int(row): line for line, row in enumerate(frame[frame.columns[0]])}
    except ValueError:
        raise ResultsError(
            f"{name}: column {ROW_COLUMN} does not contain row numbers", "restore the journal; it must not be edited"
        ) from None
    if PARTIAL not in name and len(frame) > len(latest):
        raise ResultsError(f"{name} is a renamed journal", f"restore its name, which ends with {PARTIAL}")
    rows = sorted(latest)
    return rows, frame.iloc[[latest[row] for row in rows], 1:].reset_index(drop=True)
