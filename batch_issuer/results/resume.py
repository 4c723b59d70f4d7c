"""The outcomes of the rows of a results file, and which rows to request."""

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
    """The driver of each row and what to do about it. Rows are counted from 0, except in outcomes and messages.

    Attributes:
        outcomes: the outcome of each row so far, in order.
        drivers, unclear, unread: as in `Batch`.
        changed: whether any outcome differs from the results file.
    """

    def __init__(
        self, results: Results, columns: Columns, name: str, validity: Validity, organizations: Sequence[str | Problem]
    ) -> None:
        """Decide the outcome of each row, and whether to request it.

        Args:
            results: as read.
            columns: those that identify drivers.
            name: of the file, for messages.
            validity: decides which tokens are kept.
            organizations: for each row its organization, or why it has none.

        Raises:
            ResultsError: a row's status or identifier is invalid, or a row was copied.
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
        # Organizations that are not in the settings are distinguished by their problem, which quotes the cell.
        self._groups = [one.error if isinstance(one, Problem) else one for one in organizations]
        self._unassigned = {row: one for row, one in enumerate(organizations) if isinstance(one, Problem)}
        self.unread = _unread(results, self._before)
        self.outcomes: list[Outcome] = []
        self.drivers: list[Driver] = []
        self.unclear: list[int] = []
        self.changed = False
        self._decide()

    def _decide(self) -> None:
        row_of = self._rows_by_driver()
        tokens = Counter(before.token for before, sent in zip(self._before, self._sent, strict=True) if before and sent)
        drivers = self._certain_drivers()
        conflicts = {row: other for row in range(len(drivers)) if (other := self.conflict(row, self._rows))}
        same = self._same_drivers(drivers, conflicts)
        validity = self._validity
        for row, (before, driver) in enumerate(zip(self._before, drivers, strict=True)):
            number = HEADER_ROW + 1 + row
            if before is not None and (why := self._why_unclear(before, driver, conflicts.get(row))):
                self.unclear.append(number)
                hint = hint_text(str(why.hint), maybe_issued=before.maybe_issued)
                self._set_outcome(replace(before, error=why.error, hint=hint), before)
            elif isinstance(driver, Problem):
                self._set_outcome(Outcome(number, Status.INVALID, error=driver.error, hint=str(driver.hint)), before)
            elif row in same:
                first, first_identifier = same[row]
                self._set_outcome(duplicate(number, driver, HEADER_ROW + 1 + first, first_identifier), before)
            elif (earlier := row_of.setdefault((self._groups[row], driver), row)) != row:
                self._set_outcome(duplicate(number, driver, HEADER_ROW + 1 + earlier, driver), before)
            elif before is None or not self._sent[row] or (before.token and tokens[before.token] > 1):
                self._request(Driver(number, driver), not_attempted(number, driver), before)
            elif validity.is_sufficient(before):
                unchanged = not before.hint
                self._set_outcome(
                    before if unchanged else replace(before, error="", hint="", maybe_issued=False), before
                )
            elif validity.is_usable(before):
                self._request(Driver(number, driver, before), before, before)
            elif before.status is not Status.ISSUED:
                is_blank = not (before.token or before.code or before.expires_at)
                until_then = before if is_blank else replace(before, token="", code="", expires_at=None)
                self._request(Driver(number, driver, until_then), until_then, before)
            else:
                self._request(Driver(number, driver), not_attempted(number, driver), before)

    def driver_of(self, row: int, rows: Rows) -> Identifier | Problem:
        """The driver that a row belongs to, or why it has none; ``rows`` as read from the cells."""
        if sent := self._sent[row]:
            return sent
        before, found = self._before[row], rows.driver_of(row)
        return (before.identifier if before and isinstance(found, Problem) else None) or found

    def conflict(self, row: int, rows: Rows) -> Identifier | None:
        """The driver in a row's cells if that is not the one it was sent for, else None."""
        sent = self._sent[row]
        if sent is None or (sent.kind in rows.readings and rows.readings[sent.kind].texts[row] == sent.value):
            return None
        named = rows.named(row)
        # A cell of another kind counts if the cell that was sent was blanked, or if it identifies the driver of another
        # row: then the rows may have been mixed up.
        same_kind, blanked = named.get(sent.kind), sent.kind in self._columns.known
        others = (one for one in named.values() if blanked or (self._groups[row], one) in self._owned)
        found = [same_kind] if same_kind else list(others)
        return next((one for one in found if isinstance(one, Identifier) and one != sent), None)

    @cached_property
    def _owned(self) -> set[tuple[str, Identifier | Problem | None]]:
        """The drivers that rows were sent for, with their organizations."""
        return set(zip(self._groups, self._sent, strict=True))

    def _certain_drivers(self) -> list[Identifier | Problem]:
        """The driver to request for each row, or why there is none.

        The cells of a row that was never sent count only if the other rows were sent by the same columns.
        """
        by_same: dict[IdentifierKind, bool] = {}  # whether any row was sent by the identifier it would now be sent by
        for row, (sent, kind) in enumerate(zip(self._sent, self._rows.kinds, strict=True)):
            if sent and kind and not by_same.get(kind) and row not in self._rows.problems:
                by_same[kind] = self._rows.identifier(row) == sent
        found: list[Identifier | Problem] = []
        for row, (before, sent) in enumerate(zip(self._before, self._sent, strict=True)):
            driver = self.driver_of(row, self._rows)
            if unassigned := self._unassigned.get(row):
                found.append(unassigned)
            elif isinstance(driver, Problem) and not self._columns.sent and before:
                found.append(Problem("no column identifies drivers", Hint.ANOTHER_COLUMN))
            elif isinstance(driver, Identifier) and not sent and not by_same.get(driver.kind, True):
                column = self._columns.known[driver.kind].name if driver.kind in self._columns.known else ""
                found.append(Problem(f"other rows were not sent by column {column!r}", Hint.ANOTHER_COLUMN))
            else:
                found.append(driver)
        return found

    def _same_drivers(
        self, drivers: Sequence[Identifier | Problem], conflicts: Mapping[int, Identifier]
    ) -> dict[int, tuple[int, Identifier]]:
        """For rows that were never sent and duplicate another row: that row and its identifier."""
        if all(self._sent):
            return {}
        texts = {kind: list(reading.texts) for kind, reading in self._rows.readings.items()}
        for kind in IdentifierKind:
            texts.setdefault(kind, [""] * len(drivers))
        found = {row: one for row, one in enumerate(drivers) if isinstance(one, Identifier) and row not in conflicts}
        for row, identifier in found.items():
            texts[identifier.kind][row] = identifier.value
        in_order = sorted(found, key=lambda row: not self._sent[row])  # rows that were sent come first and are kept
        first = same_drivers(texts, in_order, self._groups).first
        return {row: (other, found[other]) for row, other in first.items() if not self._sent[row]}

    def _rows_by_driver(self) -> dict[tuple[str, Identifier], int]:
        """The row of each driver that was sent before, by organization and identifier."""
        row_of: dict[tuple[str, Identifier], int] = {}
        for row, (group, sent) in enumerate(zip(self._groups, self._sent, strict=True)):
            if sent and (first := row_of.setdefault((group, sent), row)) != row:
                both = f"rows {HEADER_ROW + 1 + first} and {HEADER_ROW + 1 + row}"
                raise ResultsError(
                    f"{self._name}: {both} were both sent as {sent}, so a row was copied",
                    "delete one of the two; if it is a new driver, clear its auth_ cells",
                )
        return row_of

    def _why_unclear(self, before: Outcome, driver: Identifier | Problem, other: Identifier | None) -> Problem | None:
        """Why a row that was sent is skipped; None if it is not."""
        if other is not None:
            error = f"sent as {before.identifier}, but the cells now name {other}"
            return Problem(error, Hint.ANOTHER_DRIVER)
        if isinstance(driver, Problem) and driver.hint is Hint.NO_ORGANIZATION and binds(before):
            return driver
        return None

    def _request(self, driver: Driver, until_then: Outcome, before: Outcome | None) -> None:
        self.drivers.append(driver)
        self._set_outcome(until_then, before)

    def _set_outcome(self, outcome: Outcome, before: Outcome | None) -> None:
        self.outcomes.append(outcome)
        self.changed |= outcome is not before and outcome != before


def _unread(results: Results, before: Sequence[Outcome | None]) -> dict[str, dict[str, str]]:
    """By token, its unreadable times."""
    columns = [results.auth[column].tolist() for column in ("auth_expires_at", "auth_issued_at")]
    return {
        one.token: {"auth_expires_at": "" if one.expires_at else expires, "auth_issued_at": "" if one.issued_at else at}
        for one, expires, at in zip(before, *columns, strict=True)
        if one and one.token and ((expires and not one.expires_at) or (at and not one.issued_at))
    }


def binds(outcome: Outcome) -> bool:
    """Whether the recorded identifier determines the row's driver: not if nothing was ever sent for the row."""
    never_sent = outcome.status in (Status.INVALID, Status.DUPLICATE) and not outcome.attempts
    return outcome.identifier is not None and not never_sent


def not_attempted(row: int, identifier: Identifier) -> Outcome:
    """The outcome of a row that is still to be requested."""
    return Outcome(row, Status.NOT_ATTEMPTED, identifier, error="not yet attempted", hint=str(Hint.NOT_ATTEMPTED))
