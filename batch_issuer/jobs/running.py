"""The runs of one job, one for each organization, all at once; every ending publishes what there is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..api.client import Client, Connections, open_client
from ..errors import BatchIssuerError, StorageError
from ..hints import Hint
from ..pipeline.endings import FINISHED, SEVERITY, StopSignal
from ..pipeline.run import Run
from ..quota import Quota, open_quota
from ..results import Destination, Published
from ..results.replaceable import retry_command
from ..settings.file import UNASSIGNED
from .records import JobResult, OrganizationJob, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..model import Driver, Outcome
    from ..pipeline.events import Observer
    from ..results import Batch, Journal
    from ..settings.run_settings import Settings


R = TypeVar("R", "Driver", "Outcome")


class _Door(NamedTuple):
    """What the requests of one organization go through."""

    organization: OrganizationJob
    settings: Settings
    client: Client
    quota: Quota


async def run_job(
    batch: Batch,
    destination: Destination,
    organizations: Sequence[OrganizationJob],
    *,
    connections: Connections | None = None,
    stop: StopSignal | None = None,
    observers: Mapping[str, Observer] | None = None,
) -> JobResult:
    """Issue for the rows of a batch, for all organizations at once; every ending publishes what there is.

    Each organization has its own run, stop rules and record. One without valid settings is skipped and has an
    ``error``.

    Args:
        batch: the rows.
        destination: where the batch came from; entered.
        organizations: those whose rows are to be requested.
        connections: those to use, if other jobs run at the same time.
        stop: ends all runs cleanly.
        observers: of the runs, by the organization's name.

    Raises:
        ResultsError: the results cannot be created; nothing was sent.
        StorageError: the results could not be published; the journal contains what was issued.
    """
    outcomes: Mapping[int, Outcome] = batch.outcomes
    asked = {one: one.settings for one in organizations if one.settings is not None and one.error is None}
    drivers = _by_organization(batch, batch.drivers, asked)
    if not (any(drivers.values()) or batch.changed or destination.partial.exists()):
        for one in asked:
            one.ending = FINISHED
        return _result(batch, outcomes, organizations, Published(destination.path, 0), destination)
    async with AsyncExitStack() as stack:
        doors = [
            door
            for one, settings in asked.items()
            if (door := await _open(stack, one, settings, connections)) is not None
        ]
        if not doors and (errors := [one.error for one in organizations if one.error is not None]):
            raise errors[0]
        journal = destination.open_journal(batch)
        runs: list[Run] = []
        try:
            runs += _runs(batch, doors, drivers, journal, stop, observers or {})
            await _all(runs)
        finally:  # cancelled or not: whatever was issued is published
            journal.close()
            for door, run in zip(doors, runs, strict=False):
                _note(door.organization, run)
            outcomes = batch.outcomes.followed_by(one for run in runs for one in run.finished)
            unkept = any(run.unkept for run in runs) or not journal.is_whole
            published = _publish(batch, outcomes, destination, unkept=unkept)
    return _result(batch, outcomes, organizations, published, destination)


async def _open(
    stack: AsyncExitStack, one: OrganizationJob, settings: Settings, connections: Connections | None
) -> _Door | None:
    try:
        client = await stack.enter_async_context(open_client(settings, connections))
        return _Door(one, settings, client, await stack.enter_async_context(open_quota(settings)))
    except BatchIssuerError as error:
        one.error = error
        return None


def _by_organization(
    batch: Batch, each: Sequence[R], organizations: Iterable[OrganizationJob]
) -> Mapping[str, Sequence[R]]:
    """Drivers or outcomes by the organization that their rows are of; all of them, where no row names one."""
    names = [one.name for one in organizations]
    if not batch.organizations:
        return dict.fromkeys(names, each)
    found: dict[str, list[R]] = {name: [] for name in names}
    for one in each:
        found.get(batch.organization_of(one.row) or UNASSIGNED, []).append(one)
    return found


def _runs(
    batch: Batch,
    doors: Sequence[_Door],
    drivers: Mapping[str, Sequence[Driver]],
    journal: Journal,
    stop: StopSignal | None,
    observers: Mapping[str, Observer],
) -> list[Run]:
    earlier = [batch.outcomes[row] for row in batch.with_token]
    kept = set(batch.kept)
    renewable = _by_organization(
        batch, [outcome for outcome in earlier if outcome.row in kept], [door.organization for door in doors]
    )
    return [
        Run(
            drivers[one.name],
            settings,
            client,
            quota,
            journal,
            stop=stop,
            observe=observers.get(one.name, lambda _: None),
            earlier=earlier,
            renewable=renewable[one.name],
        )
        for one, settings, client, quota in doors
    ]


def _note(one: OrganizationJob, run: Run) -> None:
    """Record the outcome of a run, even if the job fails."""
    one.ended_at, one.ending, one.usage = utc_now(), run.ending, run.usage
    renewed = len(run.finished) > len(run.drivers)  # then a row has several
    one.outcomes = list(run.outcomes.values()) if renewed else run.finished
    one.without_token = [outcome for outcome in one.outcomes if not outcome.token]


async def _all(runs: Sequence[Run]) -> None:
    """Until all are over; one that raises does not end the others, and is raised in the end."""
    if len(runs) == 1:
        await runs[0].run()
        return
    for result in await asyncio.gather(*(run.run() for run in runs), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _publish(batch: Batch, outcomes: Mapping[int, Outcome], destination: Destination, *, unkept: bool) -> Published:
    try:
        return destination.publish(batch, outcomes)
    except StorageError as error:
        if not unkept:
            command = retry_command(destination.path)
            hint = f"{error.hint}, then run {command}; all is kept in {destination.partial}"
            raise StorageError(error.message, hint) from None
        rescued = destination.rescue(batch, outcomes)
        if rescued is not None:
            raise StorageError(
                f"{error.message}; all results are in {rescued} instead",
                f"move that file to a safe place, then resume with batch-issuer retry; {destination.partial} "
                "does not contain the last tokens",
            ) from None
        lost = f"; tokens of this run that are not in {destination.partial} are lost"
        raise StorageError(f"{error.message}{lost}", error.hint) from None


def _result(
    batch: Batch,
    outcomes: Mapping[int, Outcome],
    organizations: Sequence[OrganizationJob],
    published: Published,
    destination: Destination,
) -> JobResult:
    before = {driver.row: driver.before for driver in batch.drivers if driver.before is not None}
    good, unclear = ("", str(Hint.NO_EXPIRY)), set(batch.unclear)

    def is_without_token(outcome: Outcome) -> bool:
        earlier = before.get(outcome.row)
        return (
            not outcome.token
            or outcome.hint not in good  # it had expired when it came, or it could not be renewed
            or outcome.row in unclear
            or (earlier is not None and outcome.token == earlier.token)
        )

    in_order = [outcomes[row] for row in batch.row_numbers()]
    all_of, without_token_of = (
        _by_organization(batch, each, organizations)
        for each in (in_order, [outcome for outcome in in_order if is_without_token(outcome)])
    )
    for one in organizations:
        one.ended_at, one.results, one.moved = utc_now(), published.path, published.path != destination.path
        one.outcomes, one.without_token = all_of[one.name], without_token_of[one.name]
    endings = [one.ending for one in organizations if one.ending is not None]
    worst = max(endings, key=lambda ending: SEVERITY.index(ending.kind), default=FINISHED)
    without_token = {outcome.row: outcome for each in without_token_of.values() for outcome in each}
    return JobResult(
        worst, in_order, [without_token[row] for row in sorted(without_token)], published.path, published.guarded_cells
    )
