"""The records of a job, from its request to its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..model import Status
from ..settings.file import UNASSIGNED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..errors import BatchIssuerError
    from ..model import Outcome
    from ..pipeline.endings import Ending
    from ..pipeline.usage import Usage
    from ..results import Batch, Destination
    from ..roster import Roster
    from ..settings.layers import Layers
    from ..settings.run_settings import Settings


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True, eq=False)
class OrganizationJob:
    """One organization's rows of a roster or results file, from the request to the result.

    Attributes:
        name: as in the settings; blank for none.
        settings: where to send the requests, with which API token, how fast; None where no request can be sent.
        layers: what the settings are made from; None if the caller made them.
        roster: the path of the roster; blank for a results file.
        started_at: UTC.
        ended_at: UTC; None while it is running.
        error: why nothing was requested, or why the job failed.
        ending: why its run ended; None if it had none, or while it is running.
        usage: what its run sent; None if it had none.
        outcomes: of its rows, in order.
        without_token: those of them without a good token; see `JobResult`.
        results: where they are; None without any.
        moved: whether that is not the name that they were to have.
    """

    name: str = ""
    settings: Settings | None = None
    layers: Layers | None = field(default=None, repr=False)
    roster: str = ""
    started_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None
    error: BatchIssuerError | None = None
    ending: Ending | None = None
    usage: Usage | None = None
    outcomes: Sequence[Outcome] = field(default=(), repr=False)
    without_token: Sequence[Outcome] = field(default=(), repr=False)
    results: Path | None = None
    moved: bool = False

    @property
    def is_asked(self) -> bool:
        """Whether tokens are requested for it: not so for rows of no organization, or where its settings fail."""
        return self.layers is not None and self.error is None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        ending: why it ended; of several organizations, the worst.
        outcomes: one for each row, in order.
        without_token: those without a good token: none at all, one that had expired when it came, an
            earlier one that could not be renewed, or one of a row whose driver is unclear.
        path: where the results are; another name than intended if another program kept that from being replaced.
        guarded_cells: roster cells that got an apostrophe in the results file, so that no spreadsheet runs them.
    """

    ending: Ending
    outcomes: Sequence[Outcome] = field(repr=False)
    without_token: Sequence[Outcome] = field(repr=False)
    path: Path
    guarded_cells: int

    def counts(self) -> dict[Status, int]:
        """Rows by status, those without rows left out; they add up to the number of rows."""
        found = [outcome.status for outcome in self.outcomes]
        return {status: found.count(status) for status in Status if status in found}

    @property
    def complete(self) -> bool:
        """Whether every row has a good token."""
        return not self.without_token


@dataclass(slots=True, eq=False)
class Job:
    """One results file, and the organizations whose rows are to be requested.

    Attributes:
        organizations: their records.
        name: how messages call it; blank where there is only one.
        source: the roster's path, or how messages call it; blank for a results file.
        roster: what is known of the roster; None for a results file.
        destination, batch: once it is prepared.
        error: why it could not be prepared, or why it failed.
        result: after its end.
    """

    organizations: list[OrganizationJob]
    name: str = ""
    source: str = ""
    roster: Roster | None = None
    destination: Destination | None = None
    batch: Batch | None = None
    error: BatchIssuerError | None = None
    result: JobResult | None = None

    @property
    def refused(self) -> list[Outcome]:
        """Rows of the roster that cannot be sent, as far as they are of these organizations."""
        if self.roster is None or self.batch is None:
            return []
        names = {one.name for one in self.organizations}
        of_row = self.batch.organization_of if self.batch.organizations else None
        return [one for one in self.roster.refused if of_row is None or (of_row(one.row) or UNASSIGNED) in names]
