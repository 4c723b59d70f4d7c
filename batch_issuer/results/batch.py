"""The rows of a run: their cells, what each has come to so far, and who is still to be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError
from ..garbage import collecting_later
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
    """What each row has come to, by its number, in order; that of the many rows alike is made when it is asked for.

    Of 200,000 rows kept as objects nearly 100 MiB would be taken.
    """

    def __init__(self, rows: range, settled: list[Outcome | None], make: Callable[[int], Outcome]) -> None:
        """What is known at first.

        Args:
            rows: their numbers.
            settled: for each row its outcome, None for one that is to be made.
            make: makes one, without a token, by the row's number.
        """
        self._rows = rows
        self._settled = settled
        self._make = make

    def __getitem__(self, row: int) -> Outcome:
        if row not in self._rows:
            raise KeyError(row)
        return self._settled[row - self._rows.start] or self._make(row)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __or__(self, others: Mapping[int, Outcome]) -> Outcomes:
        return self.followed_by(others.values())

    def followed_by(self, later: Iterable[Outcome]) -> Outcomes:
        """These, but for rows that came to something else later."""
        settled = self._settled.copy()
        for outcome in later:
            settled[outcome.row - self._rows.start] = outcome
        return Outcomes(self._rows, settled, self._make)

    def tokens(self) -> list[str]:
        """For each row its token, blank for none."""
        return [one.token if one else "" for one in self._settled]


class Batch:
    """The rows of a run.

    Attributes:
        cells: all columns of the roster, unchanged and in order, every cell a string.
        header: the results file's columns, in order, those of `AUTH_COLUMNS` among them.
        delimiter: what separates them.
        outcomes: what each row has come to so far, by row number; every row has one.
        drivers: the rows to ask for, in order.
        organizations: for each row the organization it is of, blank if it names none; empty where all rows are of one.
        contested: numbers of rows that are left as they are because it is not certain whose they are.
        changed: whether ``outcomes`` differ from what the results file holds.
        unread: by token, cells of times that came with it and could not be read; they stay as long as it does.
        order: for each column of ``header`` its position among ``cells`` and then `AUTH_COLUMNS`.
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
        self.contested = plan.contested if plan else []
        self.unread = plan.unread if plan else {}
        count = iter(range(cells.shape[1]))
        auth = {column: cells.shape[1] + position for position, column in enumerate(AUTH_COLUMNS)}
        self.order = [auth[column] if column in auth else next(count) for column in self.header]

    @classmethod
    def of_roster(cls, roster: Roster) -> Batch:
        """All of a roster's rows, from the beginning."""
        to_send: list[Outcome | None] = [None] * len(roster)
        outcomes = Outcomes(roster.row_numbers(), to_send, lambda row: not_attempted(row, roster.identifier(row)))
        return cls(
            roster.frame,
            roster.named_by,
            [*map(str, roster.frame.columns), *AUTH_COLUMNS],
            roster.organizations if roster.options.organization_column else (),
            outcomes.followed_by(roster.refused),
            roster.drivers,
        )

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
        """The rows of a results file: those without a good token are to be asked for, or asked for again.

        Args:
            results: as read.
            name: how messages call the file.
            validity: which tokens are good.
            options: what a person says about the columns that name the drivers of rows that were never sent.
            unfinished: it is the journal of a run that did not finish.

        Raises:
            ResultsError: whose row is whose cannot be told for certain; says why.
            RosterError: two columns could name the drivers.
        """
        if results.rows != list(range(HEADER_ROW + 1, HEADER_ROW + 1 + len(results.rows))):
            raise ResultsError(f"{name} does not hold every row", "start over with --overwrite")
        with collecting_later():
            header = [str(column) for column in results.cells.columns]
            options = options or RosterOptions()
            columns = identifier_columns(header, name, options, required=False)
            whose = organizations_of(results.cells, options, name)
            plan = ResumePlan(results, columns, name, validity, whose)
            outcomes = Outcomes(row_numbers(results.cells), [*plan.outcomes], plan.outcomes.__getitem__)
            organizations = ["" if isinstance(one, Problem) else one for one in whose if options.organization_column]
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
        """The organization that a row is of, by the row's number; blank if it names none, or where all are of one."""
        return self.organizations[row - (HEADER_ROW + 1)] if self.organizations else ""

    @property
    def with_token(self) -> list[int]:
        """Numbers of rows that have one."""
        return [row for row, token in zip(self.row_numbers(), self.outcomes.tokens(), strict=True) if token]

    @property
    def kept(self) -> list[int]:
        """Numbers of rows with a token that is left alone."""
        left_alone = {driver.row for driver in self.drivers}.union(self.contested)
        return [row for row in self.with_token if row not in left_alone]

    @property
    def lost(self) -> list[int]:
        """Numbers of rows to ask for although a token may exist, which nobody knows."""
        return [driver.row for driver in self.drivers if driver.before and driver.before.maybe_issued]

    @property
    def holds_real_tokens(self) -> bool:
        """Whether any token that is not known to have expired is none of the sandbox's."""
        earlier = [*self.outcomes.tokens(), *(driver.before.token for driver in self.drivers if driver.before)]
        return any(token and not token.startswith(SANDBOX_TOKEN) for token in earlier)

    def whose(self) -> Iterator[Identifier | Problem]:
        """For each row, read afresh: the driver it belongs to, or why none."""
        rows = Rows(self.cells, self._columns)
        return (self._plan.whom(row, rows) for row in range(len(rows))) if self._plan else rows.who()

    def conflicts(self) -> Iterator[Identifier | None]:
        """For each row, the driver that its cell names where it is another than the one it was sent for, else None."""
        rows = Rows(self.cells, self._columns)
        return (self._plan.conflict(row, rows) if self._plan else None for row in range(len(rows)))

    def auth_cells(self, outcome: Outcome) -> tuple[str, ...]:
        """An outcome as the cells of `AUTH_COLUMNS`; times that could not be read stay beside their token."""
        cells = auth_cells(outcome)
        unread = self.unread.get(outcome.token)
        if not unread:
            return cells
        return tuple(unread.get(column) or cell for column, cell in zip(AUTH_COLUMNS, cells, strict=True))

    def difference(self, roster: Roster) -> str:
        """Where a roster is not the one these rows are from; empty if it is."""
        if list(map(str, roster.frame.columns)) != list(map(str, self.cells.columns)):
            return "its columns differ"
        if len(roster) != len(self):
            return f"{len(roster)} rows instead of {len(self)}"
        differs = (roster.frame.to_numpy() != self.cells.to_numpy()).any(axis=1)
        return f"row {self.row_numbers()[int(differs.argmax())]} differs" if differs.any() else ""

    def supersedes(self, other: Batch) -> bool:
        """Whether these are the rows of ``other``, of the same drivers, each with its good token or a newer one."""
        if not self.cells.equals(other.cells) or list(self.whose()) != list(other.whose()):
            return False
        pairs = ((self.outcomes[row], other.outcomes[row]) for row in self.row_numbers())
        return all(not old.token or old.token == new.token or _is_newer(new, old) for new, old in pairs)


def _is_newer(one: Outcome, other: Outcome) -> bool:
    return bool(one.token and one.issued_at and other.issued_at and one.issued_at > other.issued_at)


def composed(batch: Batch, outcomes: Mapping[int, Outcome]) -> Iterator[pd.DataFrame]:
    """The table as it is published, every cell a string, slice by slice.

    Raises:
        StorageError: an outcome names another driver than its row; a bug, never the user's fault.
    """
    whose, numbers = batch.whose(), batch.row_numbers()
    for part in slices(len(batch)):
        cells = batch.cells.iloc[part].set_axis(range(batch.cells.shape[1]), axis=1)
        auth = auth_frame(islice(whose, len(cells)), numbers[part], outcomes, batch.auth_cells)
        auth.columns = pd.RangeIndex(cells.shape[1], cells.shape[1] + len(AUTH_COLUMNS))
        auth.index = cells.index
        yield pd.concat([cells, auth], axis=1)[batch.order].set_axis(batch.header, axis=1)
