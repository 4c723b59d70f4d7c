"""The rows of a run: their cells, what each has come to so far, and who is still to be asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ResultsError
from ..hints import Hint
from ..model import Driver, Identifier, IdentifierKind, Outcome, Status
from ..roster import HEADER_ROW, Problem, Rows, duplicate, identifier_columns, organizations_of, same_drivers
from ..roster_options import RosterOptions
from .columns import AUTH_COLUMNS, auth_cells, outcome_of, times_of
from .validity import SANDBOX_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from ..roster import Columns, Roster
    from .reading import Results
    from .validity import Validity


class Batch:
    """The rows of a run.

    Attributes:
        cells: all columns of the roster, unchanged and in order, every cell a string.
        header: the results file's columns, in order, those of `AUTH_COLUMNS` among them.
        delimiter: what separates them.
        outcomes: what each row has come to so far, by row number; every row has one.
        drivers: the rows to ask for, in order.
        organizations: for each row the organization it is of; blank where there is only one, or the row names none.
        refused: numbers of rows that are left as they are because it is not certain whose they are.
        changed: whether ``outcomes`` differ from what the results file holds.
        unread: by token, cells of times that came with it and could not be read; they stay as long as it does.
        order: for each column of ``header`` its position among ``cells`` and then `AUTH_COLUMNS`.
    """

    def __init__(  # noqa: PLR0913 - all by name
        self,
        *,
        cells: pd.DataFrame,
        columns: Columns,
        recorded: Sequence[Outcome | None],
        header: Sequence[str],
        delimiter: str = ",",
        changed: bool = True,
        unread: Mapping[str, Mapping[str, str]] | None = None,
        whose: Sequence[str | Problem] = (),
    ) -> None:
        self.cells = cells
        self.header = list(header)
        self.delimiter = delimiter
        self.outcomes: dict[int, Outcome] = {}
        self.drivers: list[Driver] = []
        self.refused: list[int] = []
        self.changed = changed
        self.organizations = ["" if isinstance(one, Problem) else one for one in whose] or [""] * len(cells)
        # Rows of organizations that the settings do not know, or no more, are told apart by what their cells say.
        self._groups = [one.error if isinstance(one, Problem) else one for one in whose] or [""] * len(cells)
        self._nobodys = {row: one for row, one in enumerate(whose) if isinstance(one, Problem)}
        self._columns = columns
        self.unread = dict(unread or {})
        self._recorded = recorded
        count = iter(range(cells.shape[1]))
        auth = {column: cells.shape[1] + position for position, column in enumerate(AUTH_COLUMNS)}
        self.order = [auth[column] if column in auth else next(count) for column in self.header]

    @classmethod
    def of_roster(cls, roster: Roster) -> Batch:
        """All of a roster's rows, from the beginning."""
        batch = cls(
            cells=roster.frame,
            columns=roster.named_by,
            recorded=[None] * len(roster),
            header=[*map(str, roster.frame.columns), *AUTH_COLUMNS],
            whose=roster.organizations,
        )
        batch.drivers = list(roster.drivers)
        untouched = (_not_attempted(driver.row, driver.identifier) for driver in roster.drivers)
        batch.outcomes = {outcome.row: outcome for outcome in (*roster.refused, *untouched)}
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
            raise ResultsError(f"{name} does not hold every row", "begin anew with --restart")
        cells = results.cells
        header = [str(column) for column in cells.columns]
        options = options or RosterOptions()
        columns = identifier_columns(header, name, options, required=False)
        auth = [dict(zip(AUTH_COLUMNS, cells, strict=True)) for cells in results.auth.to_numpy()]
        try:
            recorded = [
                outcome_of(row, told) if any(cell.strip() for cell in told.values()) else None
                for row, told in zip(results.rows, auth, strict=True)
            ]
        except ResultsError as error:
            raise ResultsError(f"{name}, {error.message}", error.tip) from None
        unread = {
            outcome.token: {column: told[column] for column, at in times.items() if at is None}
            for told, outcome in zip(auth, recorded, strict=True)
            if outcome and outcome.token and None in (times := times_of(outcome)).values()
        }
        batch = cls(
            cells=cells,
            columns=columns,
            recorded=recorded,
            header=[str(column) for column in results.frame.columns],
            delimiter=results.delimiter,
            changed=unfinished,
            unread=unread,
            whose=organizations_of(cells, options, name),
        )
        batch._plan(name, validity)
        return batch

    def __len__(self) -> int:
        return len(self.cells)

    def row_numbers(self) -> range:
        """The rows' numbers as a spreadsheet shows them."""
        return range(HEADER_ROW + 1, HEADER_ROW + 1 + len(self))

    def organization_of(self, row: int) -> str:
        """The organization that a row is of, by the row's number."""
        return self.organizations[row - (HEADER_ROW + 1)]

    def _group_of(self, row: int) -> str:
        return self._groups[row - (HEADER_ROW + 1)]

    @property
    def kept(self) -> list[int]:
        """Numbers of rows with a token that is left alone."""
        asked = {driver.row for driver in self.drivers}
        left_alone = asked.union(self.refused)
        return [row for row, outcome in self.outcomes.items() if outcome.token and row not in left_alone]

    @property
    def lost(self) -> list[int]:
        """Numbers of rows to ask for although a token may exist, which nobody knows."""
        return [row for row, before in ((driver.row, driver.before) for driver in self.drivers) if _may_exist(before)]

    @property
    def holds_real_tokens(self) -> bool:
        """Whether any token that is not known to have expired is none of the sandbox's."""
        earlier = [*self.outcomes.values(), *(driver.before for driver in self.drivers if driver.before)]
        return any(outcome.token and not outcome.token.startswith(SANDBOX_TOKEN) for outcome in earlier)

    def whose(self) -> Iterator[Identifier | Problem]:
        """For each row, read afresh: the driver it belongs to, or why none."""
        for before, found in zip(self._recorded, Rows(self.cells, self._columns).who(), strict=True):
            recorded = before.identifier if before else None
            yield recorded if recorded and (_binds(before) or isinstance(found, Problem)) else found

    def conflicts(self) -> Iterator[Identifier | None]:
        """For each row, the driver that its cell names where it is another than the one it was sent for, else None."""
        recorded_of = list(zip(self._groups, self._recorded, strict=True))
        owned = {(whose, before.identifier) for whose, before in recorded_of if before and _binds(before)}
        named_by_rows = Rows(self.cells, self._columns).all_named()
        for (whose, before), named in zip(recorded_of, named_by_rows, strict=True):
            recorded = before.identifier if before else None
            if recorded is None or not _binds(before):
                yield None
                continue
            # Another kind counts where the row's own cell was blanked, or if it names the driver of another row: then
            # the rows may have been mixed up.
            same_kind, blanked = named.get(recorded.kind), recorded.kind in self._columns.known
            others = (who for who in named.values() if blanked or (whose, who) in owned)
            found = [same_kind] if same_kind else list(others)
            yield next((who for who in found if isinstance(who, Identifier) and who != recorded), None)

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

    def _plan(self, name: str, validity: Validity) -> None:
        """Settle for each row what it has come to, and whether it is to be asked for."""
        row_of = self._claims(name)
        tokens = Counter(before.token for before in self._recorded if before and before.token and _binds(before))
        whose, conflicts = self._certain(), list(self.conflicts())
        same = self._same_drivers(whose, conflicts)
        for row, before, who, other in zip(self.row_numbers(), self._recorded, whose, conflicts, strict=True):
            if before is not None and (why := self._uncertain(before, who, other)):
                self._refuse(before, why)
            elif isinstance(who, Problem):
                self._settle(Outcome(row, Status.INVALID, error=who.error, hint=str(who.hint)), before)
            elif row in same:
                self._settle(duplicate(row, who, *same[row]), before)
            elif (first := row_of.setdefault((self._group_of(row), who), row)) != row:
                self._settle(duplicate(row, who, first, who), before)
            elif before is None or not _binds(before) or tokens[before.token] > 1:
                self._ask(Driver(row, who), _not_attempted(row, who), before)
            elif validity.suffices(before):
                self._settle(replace(before, error="", hint="") if before.hint else before, before)
            elif validity.lives(before):
                self._ask(Driver(row, who, before), before, before)
            elif before.status is not Status.ISSUED:
                until_then = replace(before, token="", code="", expires_at=None)
                self._ask(Driver(row, who, until_then), until_then, before)
            else:
                self._ask(Driver(row, who), _not_attempted(row, who), before)

    def _certain(self) -> list[Identifier | Problem]:
        """For each row the driver to ask for, or why none.

        One that was never sent goes by its cells, as long as the other rows were sent by the same columns.
        """
        by_same: dict[IdentifierKind, bool] = {}  # whether any row was sent by what it would now be sent by
        for before, who in zip(self._recorded, Rows(self.cells, self._columns).who(), strict=True):
            if before and _binds(before) and isinstance(who, Identifier):
                by_same[who.kind] = by_same.get(who.kind, False) or who == before.identifier
        found: list[Identifier | Problem] = []
        for row, (before, who) in enumerate(zip(self._recorded, self.whose(), strict=True)):
            if nobodys := self._nobodys.get(row):
                found.append(nobodys)
            elif isinstance(who, Problem) and not self._columns.sent and before:
                found.append(Problem("no column is known to name drivers", Hint.ANOTHER_COLUMN))
            elif isinstance(who, Identifier) and not _binds(before) and not by_same.get(who.kind, True):
                column = self._columns.known[who.kind].name if who.kind in self._columns.known else ""
                found.append(Problem(f"no other row was sent by what stands in {column!r}", Hint.ANOTHER_COLUMN))
            else:
                found.append(who)
        return found

    def _same_drivers(
        self, whose: Sequence[Identifier | Problem], conflicts: Sequence[Identifier | None]
    ) -> dict[int, tuple[int, Identifier]]:
        """Rows never sent whose driver has another row, by number: that row's number and identifier."""
        rows = Rows(self.cells, self._columns)
        texts = {kind: list(reading.texts) for kind, reading in rows.readings.items()}
        for kind in IdentifierKind:
            texts.setdefault(kind, [""] * len(self))
        usable = []
        for index, (who, other) in enumerate(zip(whose, conflicts, strict=True)):
            if isinstance(who, Identifier) and other is None:
                usable.append(index)
                texts[who.kind][index] = who.value
        usable.sort(key=lambda index: not _binds(self._recorded[index]))  # a row that was sent stays what it is
        numbers = self.row_numbers()
        return {
            numbers[index]: (numbers[first], there)
            for index, first in same_drivers(texts, usable, self._groups).first.items()
            if not _binds(self._recorded[index]) and isinstance(there := whose[first], Identifier)
        }

    def _claims(self, name: str) -> dict[tuple[str, Identifier], int]:
        """Which row each driver of an organization has that was sent before."""
        row_of: dict[tuple[str, Identifier], int] = {}
        for row, before in zip(self.row_numbers(), self._recorded, strict=True):
            who = before.identifier if before else None
            if who is None or not _binds(before):
                continue
            first = row_of.setdefault((self._group_of(row), who), row)
            if first != row:
                raise ResultsError(
                    f"{name}: rows {first} and {row} are both the one of {who}, so a row was copied",
                    "delete one of the two; if one is a new driver, clear those of its cells that begin with auth_",
                )
        return row_of

    def _uncertain(self, before: Outcome, who: Identifier | Problem, other: Identifier | None) -> Problem | None:
        """Why a row that was sent is left as it is, if so."""
        if other is not None:
            said = f"the row is the one of {before.identifier}, but its cells now name {other}"
            return Problem(said, Hint.ANOTHER_DRIVER)
        return who if _binds(before) and isinstance(who, Problem) and who.hint is Hint.NO_ORGANIZATION else None

    def _refuse(self, before: Outcome, why: Problem) -> None:
        self.refused.append(before.row)
        hint = f"{why.hint}; {Hint.MAYBE_ISSUED.cure}" if _may_exist(before) else str(why.hint)
        self._settle(replace(before, error=why.error, hint=hint), before)

    def _ask(self, driver: Driver, until_then: Outcome, before: Outcome | None) -> None:
        self.drivers.append(driver)
        self._settle(until_then, before)

    def _settle(self, outcome: Outcome, before: Outcome | None) -> None:
        self.outcomes[outcome.row] = outcome
        self.changed |= outcome != before


def _binds(outcome: Outcome | None) -> bool:
    """Whether what is recorded as the row's driver is certain: not so where nothing was ever sent for a wrong cell."""
    if outcome is None or outcome.identifier is None:
        return False
    return outcome.attempts > 0 or outcome.status not in (Status.INVALID, Status.DUPLICATE)


def _is_newer(one: Outcome, other: Outcome) -> bool:
    return bool(one.token and one.issued_at and other.issued_at and one.issued_at > other.issued_at)


def _may_exist(before: Outcome | None) -> bool:
    """Whether a token may have been issued for a row that nobody knows."""
    return before is not None and (before.status is Status.UNKNOWN or before.hint.endswith(Hint.MAYBE_ISSUED.cure))


def _not_attempted(row: int, who: Identifier) -> Outcome:
    return Outcome(row, Status.NOT_ATTEMPTED, who, error="not yet attempted", hint=str(Hint.NOT_ATTEMPTED))
