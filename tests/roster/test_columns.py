"""Columns that identify drivers, found by name or chosen by the user; ambiguous ones are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batch_issuer.errors import BatchIssuerError, RosterError, SettingsError
from batch_issuer.model import IdentifierKind
from batch_issuer.roster import Roster, identifier_columns
from batch_issuer.settings.roster_options import RosterOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME


def columns(header: Sequence[str], **options: Any) -> dict[IdentifierKind, str]:
    """The columns to send, the preferred one first."""
    found = identifier_columns(header, "depot.csv", RosterOptions(**options))
    return {kind: column.name for kind, column in found.sent.items()}


def key(*header: str, **options: Any) -> tuple[str, bool]:
    """The key for external IDs without one, and whether it is the only key."""
    column = identifier_columns(header, "depot.csv", RosterOptions(**options)).sent[EXTERNAL_ID]
    return column.key, column.only_key


def refusal_of(header: Sequence[str], **options: Any) -> BatchIssuerError:
    with pytest.raises((RosterError, SettingsError)) as caught:
        columns(header, **options)
    return caught.value


# --- chosen by the user


@pytest.mark.parametrize("name", ["Fahrer-Nr.", "fahrer nr", "FAHRERNR", " Fahrer-Nr. "])
def test_a_column_is_chosen_in_any_spelling(name: str) -> None:
    assert columns(["Name", "Fahrer-Nr."], columns={DRIVER_ID: name}) == {DRIVER_ID: "Fahrer-Nr."}


def test_the_exact_spelling_goes_before_a_similar_one() -> None:
    assert columns(["id", "ID"], columns={DRIVER_ID: "ID"}) == {DRIVER_ID: "ID"}


def test_a_named_column_goes_before_one_with_a_known_name() -> None:
    assert columns(["ID", "Samsara"], columns={DRIVER_ID: "Samsara"}) == {DRIVER_ID: "Samsara"}


def test_a_kind_mapped_to_no_column_is_ignored() -> None:
    assert columns(["ID", "Username"], columns={DRIVER_ID: ""}) == {USERNAME: "Username"}


def test_a_named_column_that_is_missing_is_refused_with_those_that_are_there() -> None:
    error = refusal_of(["Name", "Depot"], columns={DRIVER_ID: "Fahrer-Nr."})
    assert "no column 'Fahrer-Nr.' for the driver ID" in error.message
    assert "Name, Depot" in error.hint


def test_one_column_cannot_be_mapped_to_two_kinds() -> None:
    assert "two kinds" in refusal_of(["Nr"], columns={DRIVER_ID: "Nr", USERNAME: "nr"}).message


def test_a_password_column_is_never_used_as_an_identifier() -> None:
    with pytest.raises(RosterError) as caught:
        Roster.from_bytes(b"Name,Password\na,hunter2\n", "x.csv", RosterOptions(columns={USERNAME: "Password"}))
    assert "passwords are never read" in caught.value.hint
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("header", "flag"),
    [
        (["ID", "Samsara ID"], '--map driver_id="ID"'),
        (["Username", "x", "Login"], '--map username="Username"'),
        (["External ID", "payrollId"], '--map external_id="External ID"'),
        (["External ID (a)", "External ID (b)"], '--map external_id="External ID (a)"'),
    ],
)
def test_two_columns_that_could_be_the_same_are_named_with_the_flag_that_decides(header: list[str], flag: str) -> None:
    error = refusal_of(header)
    assert f"{header[0]!r} and {header[-1]!r} could both be" in error.message
    assert flag in error.hint
    kind = IdentifierKind[flag.split("=", maxsplit=1)[0].removeprefix("--map ").upper()]
    assert columns(header, columns={kind: header[-1]}) == {kind: header[-1]}


# --- external IDs and their keys


@pytest.mark.parametrize(
    ("header", "options", "expected"),
    [
        ("External ID", {}, ("", False)),
        ("External ID", {"external_key": "k"}, ("k", False)),
        ("payrollId", {}, ("payrollId", True)),
        ("PAYROLL_ID", {}, ("payrollId", True)),
        ("Maintenance ID", {}, ("maintenanceId", True)),
        ("externalIds.payrollId", {}, ("payrollId", True)),
        ("External ID (crewNo)", {}, ("crewNo", True)),
        ("External ID: crewNo", {}, ("crewNo", True)),
        ("External ID (crewNo)", {"external_key": "other"}, ("crewNo", True)),
        ("Crew No", {"external_key": "crewNo"}, ("crewNo", True)),
        ("Staff", {"external_key": "crewNo", "columns": {EXTERNAL_ID: "staff"}}, ("crewNo", True)),
        ("payrollId", {"external_key": "payroll", "columns": {EXTERNAL_ID: "payrollId"}}, ("payroll", True)),
    ],
)
def test_the_key_comes_from_the_name_of_the_column_or_from_the_flag(
    header: str, options: dict[str, Any], expected: tuple[str, bool]
) -> None:
    assert key("Depot", header, **options) == expected


def test_a_payroll_id_counts_next_to_other_identifiers_only_in_samsaras_spelling() -> None:
    """Most companies have payroll numbers, but few have entered them in Samsara."""
    assert list(columns(["Username", "Payroll ID"])) == [USERNAME]
    assert list(columns(["Username", "payrollId"])) == [EXTERNAL_ID, USERNAME]
    assert list(columns(["Username", "Payroll ID"], external_key="payrollId")) == [EXTERNAL_ID, USERNAME]


@pytest.mark.parametrize("wrong", ["a:b", "a b", "{a}"])
def test_an_invalid_key_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="not a valid external ID key"):
        RosterOptions(external_key=wrong)


# --- by which to go


def test_identify_by_sets_the_preferred_identifiers() -> None:
    header = ["Username", "ID", "External ID"]
    assert list(columns(header)) == [DRIVER_ID, EXTERNAL_ID, USERNAME]
    assert list(columns(header, identify_by=(USERNAME, DRIVER_ID))) == [USERNAME, DRIVER_ID]
    assert list(columns(header, identify_by=(USERNAME,))) == [USERNAME]


def test_identify_by_a_kind_without_a_column_is_refused() -> None:
    assert "identifies drivers by username" in refusal_of(["ID", "Name"], identify_by=(USERNAME,)).message


def test_the_other_identifiers_still_reveal_duplicates() -> None:
    text = b"ID,Username\n5,ann\n5,\n,bob\n"
    found = Roster.from_bytes(text, "x.csv", RosterOptions(identify_by=(USERNAME,)))
    assert [driver.identifier.value for driver in found.drivers] == ["ann", "bob"]
    assert [outcome.row for outcome in found.refused] == [3]


def test_a_kind_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="twice"):
        RosterOptions(identify_by=(USERNAME, USERNAME))


# --- messages


@pytest.mark.parametrize("header", [["281474977075805", "ann", "hunter2"], ["x", "+15550100001", "hunter2"]])
def test_a_first_row_with_a_driver_is_not_shown(header: list[str]) -> None:
    error = refusal_of(header)
    assert "hunter2" not in error.message
    assert "looks like a driver, not a header" in error.message


def test_a_header_that_is_a_row_of_results_is_not_shown() -> None:
    assert "token" not in refusal_of(["driverId=5", "token"]).message
