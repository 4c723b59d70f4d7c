"""Planning a run: the driver of each row, which rows are requested, kept or skipped; nothing is guessed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support import rosters
from support.rosters import AT as NOW
from support.rosters import CODE, DEPOT, TOKEN, roster
from support.rosters import FIVE_MINUTES as VALIDITY

from batch_issuer.errors import ResultsError, RosterError
from batch_issuer.hints import Hint
from batch_issuer.model import Driver, Identifier, IdentifierKind, Outcome, Status
from batch_issuer.pipeline.attempts import Attempts, new_code
from batch_issuer.results import AUTH_COLUMNS, Batch, Destination, Results, Validity, read_results, status_of
from batch_issuer.results.auth_columns import auth_cells
from batch_issuer.results.batch import Outcomes
from batch_issuer.roster import Problem, Roster

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

LEAST = VALIDITY.least
SECOND = timedelta(seconds=1)


def driver(number: int | str) -> Identifier:
    return Identifier(IdentifierKind.DRIVER_ID, str(number))


def username(name: str) -> Identifier:
    return Identifier(IdentifierKind.USERNAME, name)


def issued_to(identifier: Identifier, left: timedelta = timedelta(minutes=15)) -> Outcome:
    """A token of this driver alone, valid for ``left`` from `NOW`."""
    return rosters.issued(Driver(2, identifier), token=f"{TOKEN}-{identifier.value}", expires_at=NOW + left)


def without_token(status: Status, identifier: Identifier | None, attempts: int = 0) -> Outcome:
    return Outcome(2, status, identifier, error="why", hint="fix", attempts=attempts)


def batch_of(
    *rows: tuple[str | Sequence[str], Outcome | None],
    columns: Sequence[str] = ("Driver ID",),
    validity: Validity = VALIDITY,
) -> Batch:
    """The batch of a results file; each row is its cells and its outcome, None for blank auth cells."""
    body = [
        [*([cells] if isinstance(cells, str) else cells), *(auth_cells(outcome) if outcome else [""] * 11)]
        for cells, outcome in rows
    ]
    frame = pd.DataFrame(body, columns=[*columns, *AUTH_COLUMNS], dtype=object)
    return Batch.of_results(Results(frame, list(range(2, 2 + len(body)))), "depot.results.csv", validity)


def requested(planned: Batch) -> list[tuple[int, str]]:
    return [(one.row, str(one.identifier)) for one in planned.drivers]


# --- which tokens are kept


@pytest.mark.parametrize(
    ("left", "usable", "sufficient"),
    [
        (LEAST + SECOND, True, True),
        (LEAST, True, True),
        (LEAST - SECOND, True, False),
        (SECOND, True, False),
        (timedelta(0), False, False),
        (-SECOND, False, False),
    ],
)
def test_a_token_is_kept_down_to_the_least_validity_and_usable_until_its_expiry(
    left: timedelta, usable: bool, sufficient: bool
) -> None:
    token = issued_to(driver(11), left)
    assert (VALIDITY.is_usable(token), VALIDITY.is_sufficient(token)) == (usable, sufficient)


def test_without_a_least_validity_a_token_that_expires_now_is_not_kept() -> None:
    assert not Validity(timedelta(0), NOW).is_sufficient(issued_to(driver(11), timedelta(0)))


@given(left=st.timedeltas(-timedelta(days=9), timedelta(days=9)), least=st.timedeltas(timedelta(0), timedelta(days=9)))
def test_a_longer_validity_never_keeps_more_tokens_and_a_kept_one_is_usable(left: timedelta, least: timedelta) -> None:
    token = issued_to(driver(11), left)
    validity = Validity(least, NOW)
    assert validity.is_sufficient(token) == (left > timedelta(0) and left >= least)
    assert validity.is_usable(token) or not validity.is_sufficient(token)
    assert validity.is_usable(token) == VALIDITY.is_usable(token)


def test_at_least_counts_from_now() -> None:
    before = datetime.now(UTC)
    validity = Validity.at_least(90)
    assert before <= validity.now <= datetime.now(UTC)
    assert validity.least == timedelta(seconds=90)
    assert validity.real


CORRUPTED = {
    "token": ["", " ", "#NAME?", "#REF!", "#####", "Err:508", "Err:509", "1.2E+17", "1,2E+17", "1E+17", "-1.2e+17"],
    "code": ["", " ", "#NAME?", "Abc", "1bcdefghijklmnop", "Abcdefghijkl mnop", "Abcdefghijklmn\n", "Äbcdefghijklmno"],
}


@pytest.mark.parametrize(("field", "text"), [(field, text) for field, texts in CORRUPTED.items() for text in texts])
def test_a_token_or_code_that_a_spreadsheet_program_changed_is_not_kept(field: str, text: str) -> None:
    token = issued_to(driver(11))
    assert VALIDITY.is_sufficient(token)
    assert not VALIDITY.is_usable(replace(token, **{field: text}))


@pytest.mark.parametrize("changed", [{"identifier": None}, {"status": Status.FAILED}])
def test_a_token_that_cannot_be_redeemed_is_not_usable(changed: dict[str, object]) -> None:
    assert not VALIDITY.is_usable(replace(issued_to(driver(11)), **changed))


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_\-+/.=~]{20,80}", fullmatch=True))
@example("1.2E17-begins-like-a-number")
@example("-4bYt=+begins/as.formulas_do")
@settings(max_examples=50)
def test_any_token_that_a_server_may_issue_is_kept(token: str) -> None:
    """Base64, base64url and JSON web tokens, with a generated code."""
    assert VALIDITY.is_sufficient(replace(issued_to(driver(11)), token=token, code=new_code()))


def test_a_sandbox_token_counts_in_the_sandbox_only() -> None:
    token = replace(issued_to(driver(11)), token="sandbox-4711")  # noqa: S106 - fake
    assert not Validity(LEAST, NOW, real=True).is_usable(token)
    assert Validity(LEAST, NOW, real=False).is_sufficient(token)


# --- which rows are requested

REQUESTED = {"short", "expired", "corrupted", "failed", "unknown", "not_attempted", "new", "corrected", "damaged"}
KINDS = st.sampled_from(sorted(REQUESTED | {"good", "invalid", "twin", "other"}))
WITH_BEFORE = {"short", "failed", "unknown", "not_attempted", "damaged"}


def row_of_kind(kind: str, number: int) -> tuple[str, Outcome | None]:
    """A row's cell and its outcome; of a twin, both name driver 1."""
    identifier = driver(number)
    kinds: dict[str, tuple[str, Outcome | None]] = {
        "good": (identifier.value, issued_to(identifier, LEAST)),
        "short": (identifier.value, issued_to(identifier, LEAST - SECOND)),
        "expired": (identifier.value, issued_to(identifier, -SECOND)),
        "corrupted": (identifier.value, replace(issued_to(identifier), token="#NAME?")),  # noqa: S106 - no longer a token
        "failed": (identifier.value, without_token(Status.FAILED, identifier, attempts=2)),
        "unknown": (identifier.value, without_token(Status.UNKNOWN, identifier, attempts=2)),
        "not_attempted": (identifier.value, without_token(Status.NOT_ATTEMPTED, identifier)),
        "new": (identifier.value, None),
        "corrected": (identifier.value, without_token(Status.INVALID, None)),
        "invalid": ("nobody", without_token(Status.INVALID, None)),
        "twin": ("1", without_token(Status.DUPLICATE, driver(1))),
        "other": (f"9{identifier.value}", issued_to(identifier, LEAST)),
        "damaged": ("2.81E+14", without_token(Status.FAILED, identifier, attempts=1)),
    }
    return kinds[kind]


@given(st.lists(KINDS, max_size=12), st.data())
@settings(max_examples=50)
def test_every_row_has_an_outcome_and_exactly_those_without_a_valid_token_are_requested(
    kinds: list[str], data: st.DataObject
) -> None:
    """For any mixture of rows in any order: once each, in order, for the recorded driver."""
    first = data.draw(st.integers(0, len(kinds)))
    numbered = [(kind, 100 + place) for place, kind in enumerate(kinds)]
    numbered.insert(first, ("good", 1))
    planned = batch_of(*(row_of_kind(kind, number) for kind, number in numbered))

    expected = [(row, f"driverId={n}") for row, (kind, n) in enumerate(numbered, 2) if kind in REQUESTED]
    assert requested(planned) == expected
    assert [one.before is not None for one in planned.drivers] == [
        k in WITH_BEFORE for k, _ in numbered if k in REQUESTED
    ]
    assert sorted(planned.outcomes) == list(planned.row_numbers())
    assert all(outcome.row == row for row, outcome in planned.outcomes.items())
    assert planned.unclear == [row for row, (kind, _) in enumerate(numbered, 2) if kind == "other"]
    assert planned.kept == [row for row, (kind, _) in enumerate(numbered, 2) if kind == "good"]
    assert planned.lost == [row for row, (kind, _) in enumerate(numbered, 2) if kind == "unknown"]
    statuses = Counter(outcome.status for outcome in planned.outcomes.values())
    assert sum(statuses.values()) == len(planned) == len(numbered)
    owners = list(planned.owners())
    assert all(owners[row - 2] == one.identifier for row, one in planned.outcomes.items() if one.identifier)
    assert all(one.identifier for one in planned.outcomes.values() if one.token)


@given(st.lists(KINDS, min_size=1, max_size=8), st.randoms())
@settings(max_examples=25)
def test_sorting_the_rows_changes_nothing_for_any_of_them(kinds: list[str], random: Random) -> None:
    """Except for duplicates, where the order decides."""
    rows = [row_of_kind(kind, 100 + place) for place, kind in enumerate(kinds) if kind != "twin"]
    shuffled = list(rows)
    random.shuffle(shuffled)
    before, after = batch_of(*rows), batch_of(*shuffled)
    assert {identifier for _, identifier in requested(before)} == {identifier for _, identifier in requested(after)}
    assert sorted(one.token for one in before.outcomes.values()) == sorted(one.token for one in after.outcomes.values())


def test_a_token_on_two_rows_is_kept_on_neither() -> None:
    """As after a fill-down: it is unknown to which of them it belongs."""
    one = issued_to(driver(11))
    planned = batch_of(("11", one), ("12", replace(one, identifier=driver(12))), ("13", issued_to(driver(13))))
    assert requested(planned) == [(2, "driverId=11"), (3, "driverId=12")]
    assert all(one.before is None for one in planned.drivers)
    assert [planned.outcomes[row].token for row in (2, 3)] == ["", ""]
    assert planned.kept == [4]


def test_a_token_that_was_copied_with_its_row_stays_with_the_row_that_has_the_identifier() -> None:
    """As when a row is copied to add a driver, and auth_identifier of the copy is cleared."""
    one = issued_to(driver(11))
    planned = batch_of(("11", one), ("12", replace(one, identifier=None)))
    assert requested(planned) == [(3, "driverId=12")]
    assert planned.outcomes[2] == one


def test_rows_with_swapped_roster_cells_are_skipped_whatever_identifies_them() -> None:
    """One driver has a driver ID, the other a username; their cells were sorted, the auth_ columns were not."""
    rows = (["", "alice"], issued_to(driver(11))), (["11", ""], issued_to(username("alice")))
    planned = batch_of(*rows, columns=("Driver ID", "Username"))
    assert planned.unclear == [2, 3]
    assert planned.drivers == []
    assert "username=alice" in planned.outcomes[2].error
    assert "driverId=11" in planned.outcomes[3].error


def test_an_error_is_removed_when_its_token_is_kept_again() -> None:
    """The error of a skipped row that was corrected, or of a failed renewal."""
    earlier = replace(issued_to(driver(11)), error="earlier token kept: HTTP 500", hint="Samsara: wait")
    planned = batch_of(("11", earlier))
    assert planned.outcomes[2] == replace(earlier, error="", hint="")
    assert planned.changed


def test_a_token_that_may_exist_in_addition_to_an_earlier_one_is_counted() -> None:
    soon = issued_to(driver(11), timedelta(minutes=1))
    intent = Attempts(Driver(2, driver(11), soon)).intent()
    assert intent.token == soon.token
    assert batch_of(("11", intent)).lost == [2]


@pytest.mark.parametrize("status", [Status.INVALID, Status.DUPLICATE])
def test_a_corrected_row_is_requested_with_its_new_cell(status: Status) -> None:
    planned = batch_of(("12", without_token(status, driver(11) if status is Status.DUPLICATE else None)))
    assert planned.drivers == [Driver(2, driver(12))]
    assert planned.outcomes[2].status is Status.NOT_ATTEMPTED
    assert planned.changed


@pytest.mark.parametrize("first", [True, False])
def test_a_row_corrected_to_the_driver_of_another_row_becomes_its_duplicate_in_any_order(first: bool) -> None:
    rows = [("11", without_token(Status.INVALID, None)), ("11", issued_to(driver(11)))]
    planned = batch_of(*(rows if first else reversed(rows)))
    corrected, other = (2, 3) if first else (3, 2)
    assert planned.drivers == []
    assert planned.outcomes[corrected].status is Status.DUPLICATE
    assert planned.outcomes[corrected].error == f"same driver as row {other}"
    assert planned.outcomes[other] == replace(issued_to(driver(11)), row=other)


def test_the_first_of_two_new_rows_for_a_driver_is_requested() -> None:
    planned = batch_of(("11", None), ("11", None))
    assert requested(planned) == [(2, "driverId=11")]
    assert planned.outcomes[3].status is Status.DUPLICATE


def test_a_duplicate_is_requested_after_the_other_row_was_deleted() -> None:
    assert requested(batch_of(("11", without_token(Status.DUPLICATE, driver(11))))) == [(2, "driverId=11")]


def test_unchanged_rows_leave_the_batch_unchanged() -> None:
    """So a file without anything to do is not even written."""
    rows = [
        ("11", issued_to(driver(11))),
        ("x", Outcome(3, Status.INVALID, error="'x' is not a valid driver ID", hint=str(Hint.DRIVER_ID))),
        (
            "11",
            Outcome(4, Status.DUPLICATE, driver(11), error="same driver as row 2", hint=str(Hint.DUPLICATE)),
        ),
    ]
    planned = batch_of(*rows)
    assert (planned.changed, planned.drivers) == (False, [])
    assert [planned.outcomes[row].error for row in (2, 3, 4)] == [outcome.error for _, outcome in rows]


# --- the driver of a row


@pytest.mark.parametrize("cell", ["", " ", "2.81E+14", "281,474", "1\x072", "#NAME?", "nobody"])
@pytest.mark.parametrize("status", [Status.FAILED, Status.UNKNOWN, Status.NOT_ATTEMPTED, Status.DUPLICATE])
def test_if_the_cell_is_damaged_the_identifier_decides(cell: str, status: Status) -> None:
    planned = batch_of((cell, without_token(status, driver(281474977000000))))
    assert requested(planned) == [(2, "driverId=281474977000000")]
    assert list(planned.owners()) == [driver(281474977000000)]
    assert list(planned.conflicts()) == [None]


@pytest.mark.parametrize(
    ("column", "cell", "identifier", "other"),
    [
        ("Driver ID", "12", driver(11), driver(12)),
        ("External ID", "payrollId:2", Identifier(IdentifierKind.EXTERNAL_ID, "payrollId:1"), None),
        ("Username", "bob", username("alice"), username("bob")),
        ("Username", "Alice", username("alice"), username("Alice")),
    ],
)
def test_a_row_is_skipped_if_the_cell_that_was_sent_names_another_driver(
    column: str, cell: str, identifier: Identifier, other: Identifier | None
) -> None:
    other = other or Identifier(identifier.kind, cell)
    held = issued_to(identifier)
    planned = batch_of((cell, held), columns=[column])
    assert (planned.drivers, planned.unclear) == ([], [2])
    assert list(planned.conflicts()) == [other]
    refused = planned.outcomes[2]
    assert str(identifier) in refused.error
    assert str(other) in refused.error
    assert refused == replace(held, error=refused.error, hint=str(Hint.ANOTHER_DRIVER))


def test_a_skipped_row_is_skipped_again_with_the_same_outcome() -> None:
    once = batch_of(("12", issued_to(driver(11), LEAST)))
    again = batch_of(("12", once.outcomes[2]))
    assert again.outcomes == once.outcomes
    assert (once.changed, again.changed) == (True, False)
    assert again.unclear == [2]


def test_a_corrected_row_no_longer_reports_that_its_cells_name_another_driver() -> None:
    refused = batch_of(("12", issued_to(driver(11)))).outcomes[2]
    corrected = batch_of(("11", refused))
    assert corrected.unclear == []
    assert corrected.outcomes[2].token == refused.token
    assert "driverId=12" not in corrected.outcomes[2].error
    assert corrected.outcomes[2].hint == ""


def test_columns_of_other_kinds_do_not_matter() -> None:
    """Neither their content, nor that a preferred one was added."""
    columns = ("Driver ID", "External ID", "Username")
    rows = [(("12", "payrollId:2", "alice"), without_token(Status.FAILED, username("alice")))]
    rows += [(("11", "payrollId:1", ""), without_token(Status.FAILED, driver(11)))]
    planned = batch_of(*rows, columns=columns)
    assert requested(planned) == [(2, "username=alice"), (3, "driverId=11")]
    assert planned.unclear == []


def test_a_row_is_skipped_if_its_cell_was_blanked_and_another_kind_identifies_a_driver() -> None:
    """The row may belong to another driver now; a damaged cell does not count."""
    columns = ("Driver ID", "Username")
    rows = [(("", "alice"), issued_to(driver(11))), (("2.81E+14", "bob"), without_token(Status.FAILED, driver(12)))]
    planned = batch_of(*rows, columns=columns)
    assert planned.unclear == [2]
    assert requested(planned) == [(3, "driverId=12")]


def test_without_the_identifier_the_cell_decides() -> None:
    """So a user resolves a contradiction; the token of the other driver is dropped."""
    planned = batch_of(("12", replace(issued_to(driver(11)), identifier=None)))
    assert planned.drivers == [Driver(2, driver(12))]
    assert planned.outcomes[2].token == ""


def test_without_any_column_of_the_roster_the_identifiers_suffice() -> None:
    planned = batch_of(((), without_token(Status.FAILED, driver(11))), ((), issued_to(driver(12))), columns=())
    assert requested(planned) == [(2, "driverId=11")]
    assert planned.kept == [3]


def test_a_skipped_row_keeps_its_driver_so_that_no_other_row_gets_it() -> None:
    planned = batch_of(
        ("12", issued_to(driver(11))), ("11", None), ("12", None), ("13", without_token(Status.FAILED, driver(13)))
    )
    assert requested(planned) == [(4, "driverId=12"), (5, "driverId=13")]
    assert planned.outcomes[3].status is Status.DUPLICATE


def test_a_row_without_an_identifier_is_a_problem() -> None:
    (problem,) = batch_of(("", None)).owners()
    assert problem == Problem("no identifier in the row", Hint.NO_IDENTIFIER)


# --- what is never guessed


def test_two_rows_that_were_sent_as_one_driver_are_refused() -> None:
    """A row was copied: it is unclear which of the two is the original."""
    with pytest.raises(ResultsError, match=r"rows 2 and 4 were both sent as driverId=11") as caught:
        batch_of(("11", issued_to(driver(11))), ("12", None), ("13", without_token(Status.FAILED, driver(11))))
    assert TOKEN not in caught.value.message


def test_two_columns_for_one_kind_are_refused() -> None:
    with pytest.raises(RosterError, match="'Driver ID' and 'ID' could both be"):
        batch_of((("11", "12"), issued_to(driver(11))), columns=("Driver ID", "ID"))


def test_a_journal_that_lost_a_row_is_refused() -> None:
    frame = pd.DataFrame([["11", *[""] * 11]] * 2, columns=["Driver ID", *AUTH_COLUMNS], dtype=object)
    with pytest.raises(ResultsError, match="does not contain all rows"):
        Batch.of_results(Results(frame, [2, 4]), "depot.results.csv.partial", VALIDITY)


@given(by=st.integers(-13, 13).filter(bool), place=st.integers(0, 12), status=st.sampled_from(["issued", "failed"]))
@settings(max_examples=40)
def test_a_shifted_row_is_refused_without_showing_a_token_or_code(by: int, place: int, status: str) -> None:
    """As after a cell was deleted or inserted: a token may be in the status column then."""
    cells = ["North", *auth_cells(replace(issued_to(driver(11)), status=Status(status), error="why", request_id="r-1"))]
    header = ["Depot", *AUTH_COLUMNS]
    cells.insert(place, "11")
    header.insert(place, "Driver ID")
    shifted = [*[""] * by, *cells][: len(cells)] if by > 0 else [*cells[-by:], *[""] * -by]
    frame = pd.DataFrame([shifted], columns=header, dtype=object)
    try:
        planned = Batch.of_results(Results(frame, [2]), "depot.results.csv", VALIDITY)
        shown = f"{planned.outcomes} {planned.drivers}"  # nothing of it was left in the auth_ columns
        assert planned.kept == []
    except ResultsError as error:
        shown = f"{error.message} {error.hint}"
    assert TOKEN not in shown
    assert CODE not in shown


# --- the roster's own batch, and whether a roster is the one of a batch


def test_every_row_of_a_roster_has_an_outcome_from_the_start() -> None:
    planned = Batch.of_roster(roster())
    assert requested(planned) == [(2, "driverId=11"), (3, "driverId=12")]
    assert [planned.outcomes[row].status for row in planned.row_numbers()] == [
        Status.NOT_ATTEMPTED,
        Status.NOT_ATTEMPTED,
        Status.INVALID,
        Status.DUPLICATE,
    ]
    assert planned.header == ["Depot", "Driver ID", *AUTH_COLUMNS]
    assert (planned.kept, planned.lost, planned.unclear, planned.changed) == ([], [], [], True)
    assert list(planned.owners()) == list(roster().identifiers())
    assert list(planned.conflicts()) == [None] * 4


@pytest.mark.parametrize(
    ("text", "difference"),
    [
        (DEPOT, ""),
        (DEPOT.replace(",", ";").replace("\n", "\r\n"), ""),
        (DEPOT.replace("South", "south"), "row 3 differs"),
        (DEPOT.replace("West,11", "West, 11"), "row 5 differs"),
        (DEPOT.replace("North,11", "N,11").replace("East", "E"), "row 2 differs"),
        (DEPOT.replace("Depot", "depot"), "its columns differ"),
        ("Driver ID,Depot\n11,North\n12,South\nx,East\n11,West\n", "its columns differ"),
        (DEPOT + "Hill,13\n", "5 rows instead of 4"),
        ("Depot,Driver ID\nNorth,11\n", "1 rows instead of 4"),
        (DEPOT.replace("North,11\nSouth,12", "South,12\nNorth,11"), "row 2 differs"),
    ],
)
def test_difference_reports_where_a_roster_differs(text: str, difference: str) -> None:
    assert Batch.of_roster(roster()).difference(roster(text)) == difference


@given(st.integers(0, 3), st.integers(0, 1), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3))
@settings(max_examples=40)
def test_difference_sees_any_cell_that_changed(row: int, column: int, cell: str) -> None:
    frame = roster().frame
    assume(frame.iloc[row, column] != cell)
    frame.iloc[row, column] = cell
    assert Batch.of_roster(roster()).difference(Roster.from_frame(frame)) == f"row {row + 2} differs"


# --- numbers that add up


def any_outcome(row: int, identifier: Identifier, status: Status) -> Outcome:
    outcome = issued_to(identifier) if status is Status.ISSUED else without_token(status, identifier, attempts=1)
    return replace(outcome, row=row)


@given(
    rows=st.lists(st.sampled_from(["driver", "invalid", "twin"]), min_size=1, max_size=8),
    drawn=st.lists(st.sampled_from([Status.ISSUED, Status.FAILED, Status.UNKNOWN, Status.NOT_ATTEMPTED, None])),
)
@settings(max_examples=25, deadline=None)
def test_statuses_add_up_to_the_roster_whatever_they_are(
    rows: list[str], drawn: list[Status | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In a real journal, a resumed one, and the published file; None: no line was written."""
    cells = {"driver": "{}", "invalid": "x{}", "twin": "100"}
    text = "Driver ID\n100\n" + "".join(cells[kind].format(200 + n) + "\n" for n, kind in enumerate(rows))
    given_roster = roster(text)
    path: Path = tmp_path_factory.mktemp("sums") / "depot.results.csv"
    with Destination(path) as place:
        planned = place.begin(given_roster, VALIDITY)
        journal = place.open_journal(planned)
        recorded = [any_outcome(d.row, d.identifier, s) for d, s in zip(planned.drivers, drawn, strict=False) if s]
        journal.record(*recorded)
        journal.close()
    outcomes = planned.outcomes | {one.row: one for one in recorded}
    expected = Counter(one.status for one in outcomes.values())
    with Destination(path) as place:
        found = place.begin(given_roster, VALIDITY)
        assert Counter(one.status for one in found.outcomes.values()) == expected
        assert len(found.kept) == expected[Status.ISSUED]
        assert len(found.lost) == expected[Status.UNKNOWN]
        place.publish(found, found.outcomes)
    summary = status_of(read_results(path), NOW)
    assert summary.counts == {str(status): count for status, count in expected.items()}
    assert sum(summary.counts.values()) == summary.rows == len(given_roster)
    assert summary.valid == expected[Status.ISSUED]


# --- outcomes


def test_default_outcomes_are_created_on_access() -> None:
    made: list[int] = []

    def make(row: int) -> Outcome:
        made.append(row)
        return Outcome(row, Status.NOT_ATTEMPTED)

    outcomes = Outcomes(range(2, 5), [None] * 3, make)
    other = Outcome(3, Status.ISSUED, token=TOKEN)
    later = outcomes | {3: other}
    assert made == []
    assert [later[row] for row in later] == [Outcome(2, Status.NOT_ATTEMPTED), other, Outcome(4, Status.NOT_ATTEMPTED)]
    assert made == [2, 4]
    assert outcomes[3] == Outcome(3, Status.NOT_ATTEMPTED)
    assert (later.tokens(), outcomes.tokens()) == (["", TOKEN, ""], [""] * 3)
    assert TOKEN not in repr(later)
    assert (1 in later, 5 in later, len(later)) == (False, False, 3)
    assert dict(later) == later
    with pytest.raises(KeyError):
        later[5]
