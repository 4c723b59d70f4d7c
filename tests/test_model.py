"""The records that flow through a run: secrets stay out of every text, and identifiers are sent as the API wants."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from support.settings_files import HIDDEN

from batch_issuer.api.replies import utc_from_milliseconds
from batch_issuer.model import Identifier, IdentifierKind, Outcome, Reply, Status


@pytest.mark.parametrize(
    "record",
    [
        Outcome(2, Status.ISSUED, Identifier(IdentifierKind.USERNAME, "user.1"), token=HIDDEN, code=HIDDEN),
        Reply(200, token=HIDDEN),
    ],
    ids=lambda record: type(record).__name__,
)
def test_no_record_shows_a_secret(record: object) -> None:
    assert HIDDEN not in f"{record} {record!r} {[record]}"


@pytest.mark.parametrize(
    ("identifier", "sent"),
    [
        (Identifier(IdentifierKind.DRIVER_ID, "9223372036854775807"), '{"driverId": 9223372036854775807}'),
        (Identifier(IdentifierKind.EXTERNAL_ID, "payrollId:007"), '{"externalId": "payrollId:007"}'),
        (Identifier(IdentifierKind.USERNAME, "007"), '{"username": "007"}'),
    ],
)
def test_only_a_driver_id_is_sent_as_a_number(identifier: Identifier, sent: str) -> None:
    assert json.dumps(identifier.as_json()) == sent
    assert str(identifier) == f"{identifier.kind}={identifier.value}"


def test_milliseconds_are_read_as_utc() -> None:
    assert utc_from_milliseconds(1_710_000_000_000) == datetime(2024, 3, 9, 16, 0, tzinfo=UTC)
