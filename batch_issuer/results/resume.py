"""What the rows of a results file have come to, and which of them are to be asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ResultsError
from ..hints import Hint
from ..model import Driver, Identifier, IdentifierKind, Outcome, Status
from ..roster import Problem, Rows, duplicate, same_drivers
from .auth_columns import times_of
from .outcomes import Outcomes
from .recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..roster import Columns
    from .reading import Results
    from .validity import Validity


class Plan:
    """Whose the rows are and what is to be done, row by row only where a row is not plain (see `Recorded`).

    Rows are counted from 0 here, but for those in outcomes, drivers and messages.

    Attributes:
        outcomes, drivers, refused, unread: as those of `Batch`.
        changed: whether any outcome differs from what the results file holds.
    """

    def __init__(self, results: Results, columns: Columns, name: str, validity: Validity) -> None:
        """Read what is recorded.

        Raises:
            ResultsError: a row's status or identifier is none.
        """
        self._columns = columns
        self._name = name
        self._validity = validity
        self._rows = Rows(results.cells, columns)
        self._numbers = range(results.rows[0], results.rows[-1] + 1) if results.rows else range(0)
        self._recorded = Recorded(results.auth, self._rows, validity)
        doubtful = np.flatnonzero(~self._recorded.plain).tolist()
        try:
            self._doubtful = {row: self._recorded.outcome(row, self._numbers[row]) for row in doubtful}
        except ResultsError as error:
            raise ResultsError(f"{name}, {error.message}", error.tip) from None
        self._groups: list[str] = []
        self._nobodys: dict[int, Problem] = {}
        self.outcomes = Outcomes(self._numbers, self._plainly)
        self.drivers: list[Driver] = []
        self.refused: list[int] = []
        self.changed = False

    def _plainly(self, number: int) -> Outcome:
        """What a plain row has come to."""
        row = number - self._numbers.start
        who = self._rows.identifier(row)
        return not_attempted(number, who) if self._recorded.expired[row] else self._recorded.plainly(row, number, who)

    @cached_property
    def unread(self) -> Mapping[str, Mapping[str, str]]:
        """By token, the times beside it that could not be read; those of plain rows can."""
        return {
            before.token: {column: self._recorded.cells(row)[column] for column, at in times.items() if at is None}
            for row, before in self._doubtful.items()
            if before and before.token and None in (times := times_of(before)).values()
        }

    @cached_property
    def _sent(self) -> list[str]:
        """For each row the driver it was sent for, as a text; blank where that is not certain or it never was."""
        plain = self._recorded.plain.tolist()
        found = [name if sure else "" for name, sure in zip(self._recorded.names, plain, strict=True)]
        for row, before in self._doubtful.items():
            found[row] = str(before.identifier) if before and binds(before) else ""
        return found

    def settle(self, whose: Sequence[str | Problem]) -> None:
        """Settle for each row what it has come to, and whether it is to be asked for.

        Args:
            whose: for each row the organization it is of, or why it is of none.

        Raises:
            ResultsError: a row was copied.
        """
        # Rows of organizations that the settings do not know, or no more, are told apart by what their cells say.
        self._groups = [one.error if isinstance(one, Problem) else one for one in whose]
        self._nobodys = {row: one for row, one in enumerate(whose) if isinstance(one, Problem)}
        self._recorded.but_for(self._nobodys)
        more = {row: self._recorded.outcome(row, self._numbers[row]) for row in self._nobodys}
        self._doubtful = dict(sorted((self._doubtful | more).items()))
        self.outcomes = Outcomes(self._numbers, self._plainly, self._recorded.tokens())
        closely = self._closely() if self._doubtful else iter(())
        expired, good = self._recorded.expired.tolist(), self._recorded.good
        for row in np.flatnonzero(~good).tolist():
            if row in self._doubtful:
                next(closely)
                continue
            number, who = self._numbers[row], self._rows.identifier(row)
            if expired[row]:
                self.drivers.append(Driver(number, who))
                self.changed = True
            else:
                before = self._recorded.plainly(row, number, who)
                self.drivers.append(Driver(number, who, before))
                self.outcomes.settle(before)

    def _closely(self) -> Iterator[None]:
        """The same for the other rows, one at a time."""
        row_of = self._claims()
        tokens = Counter(one.token for one in self._doubtful.values() if one and one.token and binds(one))
        whose = self._certain()
        conflicts = {row: self.conflict(row, self._rows) for row in self._doubtful}
        same = self._same_drivers(whose, conflicts)
        validity = self._validity
        for row, before in self._doubtful.items():
            number, who = self._numbers[row], whose[row]
            if before is not None and (why := self._uncertain(before, who, conflicts[row])):
                self._refuse(before, why)
            elif isinstance(who, Problem):
                self._settle(Outcome(number, Status.INVALID, error=who.error, hint=str(who.hint)), before)
            elif row in same:
                first, there = same[row]
                self._settle(duplicate(number, who, self._numbers[first], there), before)
            elif (earlier := row_of.setdefault((self._groups[row], str(who)), number)) != number:
                self._settle(duplicate(number, who, earlier, who), before)
            elif before is None or not binds(before) or tokens[before.token] > 1:
                self._ask(Driver(number, who), not_attempted(number, who), before)
            elif validity.suffices(before):
                self._settle(replace(before, error="", hint="") if before.hint else before, before)
            elif validity.lives(before):
                self._ask(Driver(number, who, before), before, before)
            elif before.status is not Status.ISSUED:
                until_then = replace(before, token="", code="", expires_at=None)
                self._ask(Driver(number, who, until_then), until_then, before)
            else:
                self._ask(Driver(number, who), not_attempted(number, who), before)
            yield

    def whom(self, row: int, rows: Rows) -> Identifier | Problem:
        """The driver that a row belongs to, or why none; ``rows`` as read from the cells."""
        before, found = self._doubtful.get(row), rows.whom(row)
        recorded = before.identifier if before else None
        return recorded if recorded and (binds(before) or isinstance(found, Problem)) else found

    def conflict(self, row: int, rows: Rows) -> Identifier | None:
        """The driver that a row's cell names where it is another than the one it was sent for, else None."""
        before = self._doubtful.get(row)
        recorded = before.identifier if before else None
        if recorded is None or not binds(before):
            return None
        named = rows.named(row)
        # Another kind counts where the row's own cell was blanked, or if it names the driver of another row: then
        # the rows may have been mixed up.
        same_kind, blanked = named.get(recorded.kind), recorded.kind in self._columns.known
        others = (who for who in named.values() if blanked or (self._groups[row], str(who)) in self._owned)
        found = [same_kind] if same_kind else list(others)
        return next((who for who in found if isinstance(who, Identifier) and who != recorded), None)

    @cached_property
    def _owned(self) -> set[tuple[str, str]]:
        """The drivers that rows were sent for, each with its organization."""
        return set(zip(self._groups, self._sent, strict=True))

    def _certain(self) -> dict[int, Identifier | Problem]:
        """For each row the driver to ask for, or why none.

        One that was never sent goes by its cells, as long as the other rows were sent by the same columns.
        """
        plain = self._recorded.plain.tolist()
        # Whether any row was sent by what it would now be sent by.
        by_same = {kind: True for kind, sure in zip(self._rows.kinds, plain, strict=True) if sure and kind is not None}
        for row, before in self._doubtful.items():
            if before and binds(before) and isinstance(who := self._rows.whom(row), Identifier):
                by_same[who.kind] = by_same.get(who.kind, False) or who == before.identifier
        found: dict[int, Identifier | Problem] = {}
        for row, before in self._doubtful.items():
            who = self.whom(row, self._rows)
            if nobodys := self._nobodys.get(row):
                found[row] = nobodys
            elif isinstance(who, Problem) and not self._columns.sent and before:
                found[row] = Problem("no column is known to name drivers", Hint.ANOTHER_COLUMN)
            elif isinstance(who, Identifier) and not binds(before) and not by_same.get(who.kind, True):
                column = self._columns.known[who.kind].name if who.kind in self._columns.known else ""
                found[row] = Problem(f"no other row was sent by what stands in {column!r}", Hint.ANOTHER_COLUMN)
            else:
                found[row] = who
        return found

    def _same_drivers(
        self, whose: Mapping[int, Identifier | Problem], conflicts: Mapping[int, Identifier | None]
    ) -> dict[int, tuple[int, Identifier]]:
        """Rows never sent whose driver has another row: that row and its identifier."""
        if all(binds(before) for before in self._doubtful.values()):
            return {}
        texts = {kind: list(reading.texts) for kind, reading in self._rows.readings.items()}
        for kind in IdentifierKind:
            texts.setdefault(kind, [""] * len(self._numbers))
        usable = []
        for row in range(len(self._numbers)):
            if row not in self._doubtful:
                usable.append(row)
            elif isinstance(who := whose[row], Identifier) and conflicts[row] is None:
                usable.append(row)
                texts[who.kind][row] = who.value
        usable.sort(key=lambda row: not self._sent[row])  # a row that was sent stays what it is
        return {
            row: (first, there)
            for row, first in same_drivers(texts, usable, self._groups).first.items()
            if not self._sent[row] and isinstance(there := whose.get(first) or self._rows.whom(first), Identifier)
        }

    def _claims(self) -> dict[tuple[str, str], int]:
        """The number of the row that each driver of an organization has that was sent before."""
        claims = [
            ((group, who), number)
            for number, group, who in zip(self._numbers, self._groups, self._sent, strict=True)
            if who
        ]
        row_of: dict[tuple[str, str], int] = {}
        for claim, number in claims:
            if (first := row_of.setdefault(claim, number)) != number:
                raise ResultsError(
                    f"{self._name}: rows {first} and {number} are both the one of {claim[1]}, so a row was copied",
                    "delete one of the two; if one is a new driver, clear those of its cells that begin with auth_",
                )
        return row_of

    def _uncertain(self, before: Outcome, who: Identifier | Problem, other: Identifier | None) -> Problem | None:
        """Why a row that was sent is left as it is, if so."""
        if other is not None:
            said = f"the row is the one of {before.identifier}, but its cells now name {other}"
            return Problem(said, Hint.ANOTHER_DRIVER)
        return who if binds(before) and isinstance(who, Problem) and who.hint is Hint.NO_ORGANIZATION else None

    def _refuse(self, before: Outcome, why: Problem) -> None:
        self.refused.append(before.row)
        hint = f"{why.hint}; {Hint.MAYBE_ISSUED.cure}" if may_exist(before) else str(why.hint)
        self._settle(replace(before, error=why.error, hint=hint), before)

    def _ask(self, driver: Driver, until_then: Outcome, before: Outcome | None) -> None:
        self.drivers.append(driver)
        self._settle(until_then, before)

    def _settle(self, outcome: Outcome, before: Outcome | None) -> None:
        self.outcomes.settle(outcome)
        self.changed |= outcome != before


def binds(outcome: Outcome | None) -> bool:
    """Whether what is recorded as the row's driver is certain: not so where nothing was ever sent for a wrong cell."""
    if outcome is None or outcome.identifier is None:
        return False
    return outcome.attempts > 0 or outcome.status not in (Status.INVALID, Status.DUPLICATE)


def may_exist(before: Outcome | None) -> bool:
    """Whether a token may have been issued for a row that nobody knows."""
    return before is not None and (before.status is Status.UNKNOWN or before.hint.endswith(Hint.MAYBE_ISSUED.cure))


def not_attempted(row: int, who: Identifier) -> Outcome:
    """What a row has come to that is still to be asked for."""
    return Outcome(row, Status.NOT_ATTEMPTED, who, error="not yet attempted", hint=str(Hint.NOT_ATTEMPTED))
