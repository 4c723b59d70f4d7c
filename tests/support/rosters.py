"""Rosters, outcomes and results files for tests."""

from __future__ import annotations

import contextlib
import csv
import os
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from support.sandbox import tokens_of

from batch_issuer.hints import Hint
from batch_issuer.model import Driver, Outcome, Status
from batch_issuer.pipeline.attempts import Attempts
from batch_issuer.results import Batch, Destination, Journal, Published, Validity
from batch_issuer.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.sandbox import Tokens

    from batch_issuer.sandbox import Sandbox

BOM = b"\xef\xbb\xbf"
TOKEN = "ZmFrZS10b2tlbg"  # noqa: S105 - fake
CODE = "c0deC0deC0de"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FIVE_MINUTES = Validity(timedelta(minutes=5), AT)
"""At ``AT``, tokens are kept that stay valid for at least five minutes."""

DEPOT = "Depot,Driver ID\nNorth,11\nSouth,12\nEast,x\nWest,11\n"
"""Rows 2 and 3 are drivers, row 4 is invalid, row 5 a duplicate of row 2."""

# Any cell; characters that are special in CSV or spreadsheets are frequent.
CELLS = st.text(
    st.one_of(
        st.sampled_from("\",;\t|\n\r''==+-@0a\u200f\ufeff\U0001f69a"),
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    ),
    max_size=8,
)
# Column names without letters, which are neither identifiers nor passwords.
NAMES = st.text(st.sampled_from("\",;\t|\n\r'=+-@0 \u200f\U0001f69a"), max_size=14)


def roster(text: str = DEPOT) -> Roster:
    return Roster.from_bytes(text.encode(), "depot.csv")


def batch(text: str = DEPOT) -> Batch:
    return Batch.of_roster(roster(text))


def issued(
    driver: Driver, token: str = TOKEN, code: str = CODE, expires_at: datetime = AT + timedelta(minutes=15)
) -> Outcome:
    return Outcome(
        driver.row,
        Status.ISSUED,
        driver.identifier,
        token=token,
        code=code,
        expires_at=expires_at,
        http_status=200,
        attempts=1,
        issued_at=expires_at - timedelta(minutes=15),
    )


def failed(driver: Driver, error: str = "HTTP 404: no such driver", request_id: str = "r-1") -> Outcome:
    return Outcome(
        driver.row,
        Status.FAILED,
        driver.identifier,
        error=error,
        hint=str(Hint.UNKNOWN_DRIVER),
        http_status=404,
        request_id=request_id,
        attempts=1,
    )


def publish(place: Destination, rows: Batch, *outcomes: Outcome) -> Published:
    """Publish results with ``outcomes``; the other rows keep their outcome."""
    with place:
        return place.publish(rows, rows.outcomes | {outcome.row: outcome for outcome in outcomes})


def journal_of(place: Destination, rows: Batch, *outcomes: Outcome) -> Journal:
    """The closed journal of a run that was interrupted after ``outcomes``; ``place`` stays open."""
    journal = place.open_journal(rows)
    journal.record(*outcomes)
    journal.close()
    return journal


def interrupt(place: Destination, rows: Batch, *outcomes: Outcome) -> Path:
    """The journal of a run that was interrupted after ``outcomes``."""
    with place:
        journal_of(place, rows, *outcomes)
    return place.partial


def interrupted_run(place: Destination, roster: Roster, lifetime: timedelta = timedelta(minutes=15)) -> Outcome:
    """Leave the journal of a run that was killed after its first row was issued and its second was sent."""
    rows = Batch.of_roster(roster)
    first, second = rows.drivers[:2]
    kept = issued(first, expires_at=datetime.now(UTC).replace(microsecond=0) + lifetime)
    interrupt(place, rows, kept, Attempts(second).intent())
    return kept


def write_roster(folder: Path, count: int, name: str = "depot.csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("Driver,Driver ID\n" + "".join(f"Sample {n},{700000 + n}\n" for n in range(count)))
    return path


def table(path: Path, delimiter: str = ",") -> list[list[str]]:
    """A file's rows, the header first; strict CSV, read without the package."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter, strict=True))


def earlier_results(folder: Path, count: int, tokens: int, lifetime: timedelta = timedelta(minutes=15)) -> Destination:
    """Results of an earlier run with ``count`` rows, of which the first ``tokens`` have one."""
    rows = Batch.of_roster(Roster.from_path(write_roster(folder, count)))
    place = Destination(folder / "depot.results.csv")
    expires_at = datetime.now(UTC) + lifetime
    publish(place, rows, *(issued(one, f"token-{one.row}", expires_at=expires_at) for one in rows.drivers[:tokens]))
    return place


def lines(path: Path, delimiter: str = ",", bom: bytes = BOM) -> list[dict[str, str]]:
    """A file's lines by column; every line has as many cells as the header."""
    data = path.read_bytes()
    assert data.startswith(bom), path.name
    assert b"\0" not in data, path.name
    header, *body = table(path, delimiter)
    return [dict(zip(header, cells, strict=True)) for cells in body]


def tokens_in(path: Path) -> Tokens:
    return {(r["auth_identifier"], r["auth_code"], r["auth_token"]) for r in lines(path) if r["auth_token"]}


def assert_agrees(path: Path, sandbox: Sandbox) -> None:
    """The file contains exactly the tokens that the server issued, each with its driver and code."""
    assert tokens_in(path) == tokens_of(sandbox.ledger)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes; Python ignores SIGXFSZ."""
    resource = pytest.importorskip("resource", reason="file size limits as POSIX has them")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
