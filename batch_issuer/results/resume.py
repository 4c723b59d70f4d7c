"""What the rows of a results file have come to, and which of them are to be asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import ResultsError
from ..hints import Hint, hint_text
from ..model import Driver, Identifier, IdentifierKind, Outcome, Status
from ..roster import HEADER_ROW, Problem, Rows, duplicate, same_drivers
from .auth_columns import outcomes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..roster import Columns
    from .reading import Results
    from .validity import Validity


class ResumePlan:
    """Whose the rows are and what is to be done. Rows are counted from 0, but for those in outcomes and messages.

    Attributes:
        outcomes: what each row has come to so far, in order.
        drivers, contested, unread: as those of `Batch`.
        changed: whether any outcome differs from what the results file holds.
    """

    def __init__(
        self, results: Results, columns: Columns, name: str, validity: Validity, whose: Sequence[str | Problem]
    ) -> None:
        """Settle for each row what it has come to, and whether it is to be asked for.

        Args:
            results: as read.
            columns: which of them name drivers.
            name: how messages call the file.
            validity: which tokens are good.
            whose: for each row the organization it is of, or why it is of none.

        Raises:
            ResultsError: a row's status or identifier is none, or a row was copied.
        """
        self._columns = columns
        self._name = name
        self._validity = validity
        self._rows = Rows(results.cells, columns)
        try:
            self._before = outcomes_of(results.auth, HEADER_ROW + 1)
        except ResultsError as error:
            raise ResultsError(f"{name}, {error.message}", error.hint) from None
        self._sent = [before.identifier if before and binds(before) else None for before in self._before]
        # Rows of organizations that the settings do not know, or no more, are told apart by what their cells say.
        self._groups = [one.error if isinstance(one, Problem) else one for one in whose]
        self._nobodys = {row: one for row, one in enumerate(whose) if isinstance(one, Problem)}
        self.unread = _unread(results, self._before)
        self.outcomes: list[Outcome] = []
        self.drivers: list[Driver] = []
        self.contested: list[int] = []
        self.changed = False
        self._settle_all()

    def _settle_all(self) -> None:
        row_of = self._claims()
        tokens = Counter(before.token for before, who in zip(self._before, self._sent, strict=True) if before and who)
        whose = self._certain()
        conflicts = {row: other for row in range(len(whose)) if (other := self.conflict(row, self._rows))}
        same = self._same_drivers(whose, conflicts)
        validity = self._validity
        for row, (before, who) in enumerate(zip(self._before, whose, strict=True)):
            number = HEADER_ROW + 1 + row
            if before is not None and (why := self._uncertain(before, who, conflicts.get(row))):
                self.contested.append(number)
                hint = hint_text(str(why.hint), maybe_issued=before.maybe_issued)
                self._settle(replace(before, error=why.error, hint=hint), before)
            elif isinstance(who, Problem):
                self._settle(Outcome(number, Status.INVALID, error=who.error, hint=str(who.hint)), before)
            elif row in same:
                first, there = same[row]
                self._settle(duplicate(number, who, HEADER_ROW + 1 + first, there), before)
            elif (earlier := row_of.setdefault((self._groups[row], who), row)) != row:
                self._settle(duplicate(number, who, HEADER_ROW + 1 + earlier, who), before)
            elif before is None or not self._sent[row] or (before.token and tokens[before.token] > 1):
                self._ask(Driver(number, who), not_attempted(number, who), before)
            elif validity.suffices(before):
                is_as_it_was = not before.hint
                self._settle(before if is_as_it_was else replace(before, error="", hint="", maybe_issued=False), before)
            elif validity.lives(before):
                self._ask(Driver(number, who, before), before, before)
            elif before.status is not Status.ISSUED:
                is_blank = not (before.token or before.code or before.expires_at)
                until_then = before if is_blank else replace(before, token="", code="", expires_at=None)
                self._ask(Driver(number, who, until_then), until_then, before)
            else:
                self._ask(Driver(number, who), not_attempted(number, who), before)

    def whom(self, row: int, rows: Rows) -> Identifier | Problem:
        """The driver that a row belongs to, or why none; ``rows`` as read from the cells."""
        if sent := self._sent[row]:
            return sent
        before, found = self._before[row], rows.whom(row)
        return (before.identifier if before and isinstance(found, Problem) else None) or found

    def conflict(self, row: int, rows: Rows) -> Identifier | None:
        """The driver that a row's cell names where it is another than the one it was sent for, else None."""
        sent = self._sent[row]
        if sent is None or (sent.kind in rows.readings and rows.readings[sent.kind].texts[row] == sent.value):
            return None
        named = rows.named(row)
        # Another kind counts where the row's own cell was blanked, or if it names the driver of another row: then
        # the rows may have been mixed up.
        same_kind, blanked = named.get(sent.kind), sent.kind in self._columns.known
        others = (who for who in named.values() if blanked or (self._groups[row], who) in self._owned)
        found = [same_kind] if same_kind else list(others)
        return next((who for who in found if isinstance(who, Identifier) and who != sent), None)

    @cached_property
    def _owned(self) -> set[tuple[str, Identifier | Problem | None]]:
        """The drivers that rows were sent for, each with its organization."""
        return set(zip(self._groups, self._sent, strict=True))

    def _certain(self) -> list[Identifier | Problem]:
        """For each row the driver to ask for, or why none.

        One that was never sent goes by its cells, as long as the other rows were sent by the same columns.
        """
        by_same: dict[IdentifierKind, bool] = {}  # whether any row was sent by what it would now be sent by
        for row, (sent, kind) in enumerate(zip(self._sent, self._rows.kinds, strict=True)):
            if sent and kind and not by_same.get(kind) and row not in self._rows.problems:
                by_same[kind] = self._rows.identifier(row) == sent
        found: list[Identifier | Problem] = []
        for row, (before, sent) in enumerate(zip(self._before, self._sent, strict=True)):
            who = self.whom(row, self._rows)
            if nobodys := self._nobodys.get(row):
                found.append(nobodys)
            elif isinstance(who, Problem) and not self._columns.sent and before:
                found.append(Problem("no column is known to name drivers", Hint.ANOTHER_COLUMN))
            elif isinstance(who, Identifier) and not sent and not by_same.get(who.kind, True):
                column = self._columns.known[who.kind].name if who.kind in self._columns.known else ""
                found.append(Problem(f"no other row was sent by what stands in {column!r}", Hint.ANOTHER_COLUMN))
            else:
                found.append(who)
        return found

    def _same_drivers(
        self, whose: Sequence[Identifier | Problem], conflicts: Mapping[int, Identifier]
    ) -> dict[int, tuple[int, Identifier]]:
        """Rows never sent whose driver has another row: that row and its identifier."""
        if all(self._sent):
            return {}
        texts = {kind: list(reading.texts) for kind, reading in self._rows.readings.items()}
        for kind in IdentifierKind:
            texts.setdefault(kind, [""] * len(whose))
        drivers = {row: who for row, who in enumerate(whose) if isinstance(who, Identifier) and row not in conflicts}
        for row, who in drivers.items():
            texts[who.kind][row] = who.value
        in_order = sorted(drivers, key=lambda row: not self._sent[row])  # a row that was sent stays what it is
        first = same_drivers(texts, in_order, self._groups).first
        return {row: (there, drivers[there]) for row, there in first.items() if not self._sent[row]}

    def _claims(self) -> dict[tuple[str, Identifier], int]:
        """The row that each driver of an organization has that was sent before."""
        row_of: dict[tuple[str, Identifier], int] = {}
        for row, (group, who) in enumerate(zip(self._groups, self._sent, strict=True)):
            if who and (first := row_of.setdefault((group, who), row)) != row:
                both = f"rows {HEADER_ROW + 1 + first} and {HEADER_ROW + 1 + row}"
                raise ResultsError(
                    f"{self._name}: {both} are both the one of {who}, so a row was copied",
                    "delete one of the two; if one is a new driver, clear those of its cells that begin with auth_",
                )
        return row_of

    def _uncertain(self, before: Outcome, who: Identifier | Problem, other: Identifier | None) -> Problem | None:
        """Why a row that was sent is left as it is, if so."""
        if other is not None:
            said = f"the row is the one of {before.identifier}, but its cells now name {other}"
            return Problem(said, Hint.ANOTHER_DRIVER)
        return who if binds(before) and isinstance(who, Problem) and who.hint is Hint.NO_ORGANIZATION else None

    def _ask(self, driver: Driver, until_then: Outcome, before: Outcome | None) -> None:
        self.drivers.append(driver)
        self._settle(until_then, before)

    def _settle(self, outcome: Outcome, before: Outcome | None) -> None:
        self.outcomes.append(outcome)
        self.changed |= outcome is not before and outcome != before


def _unread(results: Results, before: Sequence[Outcome | None]) -> dict[str, dict[str, str]]:
    """By token, the times beside it that could not be read."""
    columns = [results.auth[column].tolist() for column in ("auth_expires_at", "auth_issued_at")]
    return {
        one.token: {"auth_expires_at": "" if one.expires_at else expires, "auth_issued_at": "" if one.issued_at else at}
        for one, expires, at in zip(before, *columns, strict=True)
        if one and one.token and ((expires and not one.expires_at) or (at and not one.issued_at))
    }


def binds(outcome: Outcome) -> bool:
    """Whether what is recorded as the row's driver is certain: not so where nothing was ever sent for a wrong cell."""
    never_sent = outcome.status in (Status.INVALID, Status.DUPLICATE) and not outcome.attempts
    return outcome.identifier is not None and not never_sent


def not_attempted(row: int, who: Identifier) -> Outcome:
    """What a row has come to that is still to be asked for."""
    return Outcome(row, Status.NOT_ATTEMPTED, who, error="not yet attempted", hint=str(Hint.NOT_ATTEMPTED))
