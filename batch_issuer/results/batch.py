"""The rows of a run: their cells, their outcomes so far, and the drivers to request."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError
from ..garbage import collection_paused
from ..model import Outcome
from ..roster import HEADER_ROW, Problem, Rows, identifier_columns, organizations_of, row_numbers
from ..settings.roster_options import RosterOptions
from .auth_columns import AUTH_COLUMNS, auth_cells, auth_frame
from .csv_writer import slices
from .resume import ResumePlan, not_attempted
from .validity import SANDBOX_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..model import Driver, Identifier
    from ..roster import Columns, Roster
    from .reading import Results
    from .validity import Validity


class Outcomes(Mapping[int, Outcome]):
    """The outcome of each row, by its number, in order. Default outcomes are created on access.

    As objects, those of 200,000 rows would take nearly 100 MiB.
    """

    def __init__(self, rows: range, known: list[Outcome | None], make: Callable[[int], Outcome]) -> None:
        """Set the known outcomes.

        Args:
            rows: their numbers.
            known: for each row its outcome, None for the default.
            make: creates the default outcome, without a token, of a row number.
        """
        self._rows = rows
        self._known = known
        self._make = make

    def __getitem__(self, row: int) -> Outcome:
        if row not in self._rows:
            raise KeyError(row)
        return self._known[row - self._rows.start] or self._make(row)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __or__(self, others: Mapping[int, Outcome]) -> Outcomes:
        return self.followed_by(others.values())

    def followed_by(self, later: Iterable[Outcome]) -> Outcomes:
        """A copy with later outcomes in place of earlier ones."""
        known = self._known.copy()
        for outcome in later:
            known[outcome.row - self._rows.start] = outcome
        return Outcomes(self._rows, known, self._make)

    def tokens(self) -> list[str]:
        """For each row its token, blank for none."""
        return [one.token if one else "" for one in self._known]


class Batch:
    """The rows of a run.

    Attributes:
        cells: all columns of the roster, unchanged and in order, every cell a string.
        header: the columns of the results file, in order, including `AUTH_COLUMNS`.
        delimiter: separates the columns.
        outcomes: the outcome of each row so far, by row number.
        drivers: the rows to request, in order.
        organizations: for each row its organization, blank if it has none; empty if there is only one organization.
        unclear: numbers of rows that are skipped because it is unclear which driver they belong to.
        changed: whether ``outcomes`` differ from the results file.
        unread: by token, its unreadable cells of times; they are kept as long as the token is.
        order: for each column of ``header`` its position in ``cells`` followed by `AUTH_COLUMNS`.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        columns: Columns,
        header: Sequence[str],
        organizations: Sequence[str],
        outcomes: Outcomes,
        drivers: list[Driver],
        plan: ResumePlan | None = None,
    ) -> None:
        self.cells = cells
        self.header = list(header)
        self.organizations = organizations
        self.delimiter = ","
        self.changed = True
        self._columns = columns
        self._plan = plan
        self.outcomes = outcomes
        self.drivers = drivers
        self.unclear = plan.unclear if plan else []
        self.unread = plan.unread if plan else {}
        count = iter(range(cells.shape[1]))
        auth = {column: cells.shape[1] + position for position, column in enumerate(AUTH_COLUMNS)}
        self.order = [auth[column] if column in auth else next(count) for column in self.header]

    @classmethod
    def of_roster(cls, roster: Roster, delimiter: str = ",") -> Batch:
        """All rows of a roster, for a new results file with this separator of columns."""
        to_send: list[Outcome | None] = [None] * len(roster)
        outcomes = Outcomes(roster.row_numbers(), to_send, lambda row: not_attempted(row, roster.identifier(row)))
        batch = cls(
            roster.frame,
            roster.named_by,
            [*map(str, roster.frame.columns), *AUTH_COLUMNS],
            roster.organizations if roster.options.organization_column else (),
            outcomes.followed_by(roster.refused),
            roster.drivers,
        )
        batch.delimiter = delimiter
        return batch

    @classmethod
    def of_results(
        cls,
        results: Results,
        name: str,
        validity: Validity,
        options: RosterOptions | None = None,
        *,
        unfinished: bool = False,
    ) -> Batch:
        """All rows of a results file; those without a sufficiently valid token are requested.

        Args:
            results: as read.
            name: of the file, for messages.
            validity: decides which tokens are kept.
            options: the columns that identify the drivers of rows that were never sent.
            unfinished: whether this is the journal of an interrupted run.

        Raises:
            ResultsError: it is unclear which row belongs to which driver.
            RosterError: two columns could identify the drivers.
        """
        if results.rows != list(range(HEADER_ROW + 1, HEADER_ROW + 1 + len(results.rows))):
            raise ResultsError(f"{name} does not contain all rows", "start over with --overwrite")
        with collection_paused():
            header = [str(column) for column in results.cells.columns]
            options = options or RosterOptions()
            columns = identifier_columns(header, name, options, required=False)
            found = organizations_of(results.cells, options, name)
            plan = ResumePlan(results, columns, name, validity, found)
            outcomes = Outcomes(row_numbers(results.cells), [*plan.outcomes], plan.outcomes.__getitem__)
            organizations = ["" if isinstance(one, Problem) else one for one in found if options.organization_column]
            header = [str(column) for column in results.frame.columns]
            batch = cls(results.cells, columns, header, organizations, outcomes, plan.drivers, plan)
            batch.delimiter = results.delimiter
            batch.changed = plan.changed or unfinished
        return batch

    def __len__(self) -> int:
        return len(self.cells)

    def row_numbers(self) -> range:
        """The rows' numbers as a spreadsheet shows them."""
        return row_numbers(self.cells)

    def organization_of(self, row: int) -> str:
        """The organization of a row, by the row's number; blank if it has none, or if there is only one."""
        return self.organizations[row - (HEADER_ROW + 1)] if self.organizations else ""

    @property
    def with_token(self) -> list[int]:
        """Numbers of the rows with a token."""
        return [row for row, token in zip(self.row_numbers(), self.outcomes.tokens(), strict=True) if token]

    @property
    def kept(self) -> list[int]:
        """Numbers of the rows that keep their token."""
        others = {driver.row for driver in self.drivers}.union(self.unclear)
        return [row for row in self.with_token if row not in others]

    @property
    def lost(self) -> list[int]:
        """Numbers of the rows to request although an unknown token may exist."""
        return [driver.row for driver in self.drivers if driver.before and driver.before.maybe_issued]

    @property
    def has_real_tokens(self) -> bool:
        """Whether any token that may still be valid is not from the sandbox."""
        earlier = [*self.outcomes.tokens(), *(driver.before.token for driver in self.drivers if driver.before)]
        return any(token and not token.startswith(SANDBOX_TOKEN) for token in earlier)

    def owners(self) -> Iterator[Identifier | Problem]:
        """For each row, read again from its cells: the driver it belongs to, or why it has none."""
        rows = Rows(self.cells, self._columns)
        return (self._plan.driver_of(row, rows) for row in range(len(rows))) if self._plan else rows.drivers()

    def conflicts(self) -> Iterator[Identifier | None]:
        """For each row, the driver in its cells if that is not the one it was sent for, else None."""
        rows = Rows(self.cells, self._columns)
        return (self._plan.conflict(row, rows) if self._plan else None for row in range(len(rows)))

    def auth_cells(self, outcome: Outcome) -> tuple[str, ...]:
        """An outcome as the cells of `AUTH_COLUMNS`, with the unreadable times of its token."""
        cells = auth_cells(outcome)
        unread = self.unread.get(outcome.token)
        if not unread:
            return cells
        return tuple(unread.get(column) or cell for column, cell in zip(AUTH_COLUMNS, cells, strict=True))

    def difference(self, roster: Roster) -> str:
        """How a roster differs from the one these rows come from; empty if it is the same."""
        if list(map(str, roster.frame.columns)) != list(map(str, self.cells.columns)):
            return "its columns differ"
        if len(roster) != len(self):
            return f"{len(roster)} rows instead of {len(self)}"
        differs = (roster.frame.to_numpy() != self.cells.to_numpy()).any(axis=1)
        return f"row {self.row_numbers()[int(differs.argmax())]} differs" if differs.any() else ""

    def supersedes(self, other: Batch) -> bool:
        """Whether these rows are those of ``other``, with the same drivers, each with its token or a newer one."""
        if not self.cells.equals(other.cells) or list(self.owners()) != list(other.owners()):
            return False
        pairs = ((self.outcomes[row], other.outcomes[row]) for row in self.row_numbers())
        return all(not old.token or old.token == new.token or _is_newer(new, old) for new, old in pairs)


def _is_newer(one: Outcome, other: Outcome) -> bool:
    return bool(one.token and one.issued_at and other.issued_at and one.issued_at > other.issued_at)


def composed(batch: Batch, outcomes: Mapping[int, Outcome]) -> Iterator[pd.DataFrame]:
    """The table to publish, every cell a string, slice by slice.

    Raises:
        StorageError: an outcome belongs to another driver than its row; a bug, never the user's fault.
    """
    owners, numbers = batch.owners(), batch.row_numbers()
    for part in slices(len(batch)):
        cells = batch.cells.iloc[part].set_axis(range(batch.cells.shape[1]), axis=1)
        auth = auth_frame(islice(owners, len(cells)), numbers[part], outcomes, batch.auth_cells)
        auth.columns = pd.RangeIndex(cells.shape[1], cells.shape[1] + len(AUTH_COLUMNS))
        auth.index = cells.index
        yield pd.concat([cells, auth], axis=1)[batch.order].set_axis(batch.header, axis=1)
