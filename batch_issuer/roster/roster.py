"""A table of strings → checked drivers, and the outcomes of all rows that are not sent."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RosterError
from ..garbage import collection_paused
from ..model import Driver, Outcome, Status
from ..settings.roster_options import RosterOptions
from .columns import identifier_columns, is_password
from .duplicates import duplicate, same_drivers
from .frames import as_texts
from .identifiers import Problem
from .naming import Rows
from .organizations import organizations_of
from .reading import read_bytes, read_table, row_numbers

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from ..model import Identifier, IdentifierKind


class Roster:
    """A roster and its drivers, checked.

    Attributes:
        frame: all columns, unchanged and in order, every cell a string (columns with passwords are dropped).
        options: as passed.
        named_by: the columns that identify drivers, by kind of identifier.
        organizations: for each row its organization, spelled as in the options; blank if there is only one, or if the
            row has none.
        refused: the outcomes of all rows that are not sent, in order: ``invalid`` or ``duplicate``.
        warnings: by row number, the warning about a row that is sent nevertheless, one line.
        notes: about the roster as a whole, one sentence each.
    """

    def __init__(
        self, frame: pd.DataFrame, name: str, options: RosterOptions | None = None, *, notes: Sequence[str] = ()
    ) -> None:
        """Check a table of strings.

        Raises:
            RosterError: no rows, no identifier column, two columns of the same kind, or a results file.
        """
        header = [str(column) for column in frame.columns]
        if any(column.startswith("auth_") for column in header):
            raise RosterError(
                f"{name} is a results file, not a roster: it has columns that start with auth_",
                "finish or renew it with batch-issuer retry, or pass the roster that it was made from",
            )
        self.notes = list(notes)
        secret = [position for position, column in enumerate(header) if is_password(column)]
        if secret:
            names = ", ".join(repr(header[position]) for position in secret)
            self.notes.append(f"Password columns are not copied to the results: {names}.")
            kept = [position for position in range(len(header)) if position not in secret]
            frame = frame.iloc[:, kept]
            header = [header[position] for position in kept]
        frame = frame.reset_index(drop=True)
        if not len(frame):
            raise RosterError(f"{name} has a header but no rows", "add a row for each driver")
        self.frame = frame
        self.options = options or RosterOptions()
        self.named_by = identifier_columns(header, name, self.options)
        self._rows = Rows(frame, self.named_by)
        organizations = organizations_of(frame, self.options, name)
        self.organizations = ["" if isinstance(one, Problem) else one for one in organizations]
        self._rows.problems |= {row: one for row, one in enumerate(organizations) if isinstance(one, Problem)}
        self._check()

    @classmethod
    def from_bytes(cls, data: bytes, name: str, options: RosterOptions | None = None) -> Roster:
        """Read the content of a CSV file or a workbook (.xlsx), gzipped or not.

        Args:
            data: the file's bytes.
            name: of the file, for messages.
            options: how to read the file.

        Raises:
            RosterError: it cannot be used as a whole.
            SettingsError: ``options`` do not fit the file.
        """
        with collection_paused():
            frame, notes = read_table(data, name, options)
            return cls(frame, name, options, notes=notes)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], options: RosterOptions | None = None) -> Roster:
        """Read a CSV file or a workbook (.xlsx), gzipped or not.

        Raises:
            RosterError: the file cannot be read, or cannot be used as a whole.
            SettingsError: ``options`` do not fit the file.
        """
        path = Path(path)
        return cls.from_bytes(read_bytes(path), path.name, options)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, options: RosterOptions | None = None) -> Roster:
        """Use a DataFrame; its first row counts as row 2, as if under a header.

        Missing values become blank cells. Whole floats below 2**53 become integers, because pandas turns a column of
        integers with a gap into floats.

        Raises:
            RosterError: it cannot be used as a whole.
        """
        return cls(as_texts(frame), "the DataFrame", options)

    def __repr__(self) -> str:
        return f"<Roster of {len(self)} rows, {len(self) - len(self.refused)} to send>"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> dict[IdentifierKind, str]:
        """The names of the columns that identify drivers, the preferred one first."""
        return {kind: column.name for kind, column in self.named_by.sent.items()}

    def row_numbers(self) -> range:
        """The rows' numbers as a spreadsheet shows them."""
        return row_numbers(self.frame)

    def identifiers(self) -> Iterator[Identifier | Problem]:
        """For each row, read again from its cells: what would be sent, or why nothing is."""
        return Rows(self.frame, self.named_by).drivers()

    def identifier(self, row: int) -> Identifier:
        """The driver of a row to send, by the row's number."""
        return self._rows.identifier(row - self.row_numbers().start)

    def of_organization(self, name: str) -> list[Driver]:
        """The rows to send of an organization, in order."""
        first = self.row_numbers().start
        return [driver for driver in self.drivers if self.organizations[driver.row - first] == name]

    @cached_property
    def drivers(self) -> list[Driver]:
        """The rows to send, in order."""
        refused = {outcome.row for outcome in self.refused}
        named = zip(self.row_numbers(), self._rows.drivers(), strict=True)
        return [Driver(row, one) for row, one in named if row not in refused and not isinstance(one, Problem)]

    def rows_by_kind(self) -> dict[IdentifierKind, list[int]]:
        """The numbers of the rows to send, by the kind of identifier that is sent."""
        refused = {outcome.row for outcome in self.refused}
        found: dict[IdentifierKind, list[int]] = {kind: [] for kind in self.named_by.sent}
        for row, kind in zip(self.row_numbers(), self._rows.kinds, strict=True):
            if kind is not None and row not in refused:
                found[kind].append(row)
        return found

    def _check(self) -> None:
        rows, numbers = self._rows, self.row_numbers()
        usable: Sequence[int] = range(len(rows))
        if rows.problems:
            usable = [row for row in usable if row not in rows.problems]
        sameness = same_drivers(
            {kind: reading.texts for kind, reading in rows.readings.items()}, usable, self.organizations
        )
        outcomes = {
            row: Outcome(numbers[row], Status.INVALID, error=problem.error, hint=str(problem.hint))
            for row, problem in rows.problems.items()
        }
        for row, first in sameness.first.items():
            outcomes[row] = duplicate(numbers[row], rows.identifier(row), numbers[first], rows.identifier(first))
        self.refused = [outcomes[row] for row in sorted(outcomes)]
        warnings = {row: [warning] for row, warning in rows.warnings() if row not in outcomes}
        for row, (one, other) in sameness.contradicted.items():
            if row not in outcomes:
                warnings.setdefault(row, []).append(f"row {numbers[other]} has {one} with a different driver ID")
        self.warnings = {numbers[row]: "; ".join(warnings[row]) for row in sorted(warnings)}
