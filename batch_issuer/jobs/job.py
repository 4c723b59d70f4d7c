"""Whole jobs out of the parts: a roster in; outcomes, a DataFrame or a results file out.

The command and the library do the same, through these.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..api.client import Connections, open_client
from ..errors import StorageError
from ..hints import Hint
from ..model import Status
from ..pipeline.endings import FINISHED, SEVERITY
from ..pipeline.events import RowDone
from ..pipeline.run import Run
from ..quota import open_quota
from ..results import Destination, Published, Validity, auth_frame
from ..roster import Roster

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from ..model import Driver, Outcome
    from ..pipeline.endings import Ending, StopSignal
    from ..pipeline.events import Event
    from ..results import Batch, Journal
    from ..settings.run_settings import Settings


async def issue(roster: Roster, settings: Settings) -> AsyncGenerator[Outcome]:
    """Yield exactly one outcome for each row of a roster: first those never sent, then the others as they come.

    Trouble with a driver, the network or the API token is an outcome too, never an exception. Leaving the loop early
    cancels the requests in flight, and the tokens they would have brought are lost; wrap the call in
    `contextlib.aclosing` to do so at a known moment.

    Raises:
        SettingsError: the certificate file or the Redis server cannot be used.
    """
    for outcome in roster.refused:
        yield outcome
    outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()

    def observe(event: Event) -> None:
        if isinstance(event, RowDone):
            outcomes.put_nowait(event.outcome)

    async with open_client(settings) as client, open_quota(settings) as quota:
        running = asyncio.create_task(Run(roster.drivers, settings, client, quota, observe=observe).run())
        running.add_done_callback(lambda _: outcomes.put_nowait(None))
        try:
            while (latest := await outcomes.get()) is not None:
                yield latest
            await running
        finally:
            running.cancel()
            await asyncio.wait([running])


async def issue_frame(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The same rows, columns and index, with the `AUTH_COLUMNS` (strings) to the right of them.

    In a notebook: ``result = await issue_frame(frame, settings)``.

    Args:
        frame: a roster; its columns are recognized by name as those of a file are.
        settings: where to ask, with which key, how fast.

    Raises:
        RosterError: the frame has no rows or no column that names drivers.
        SettingsError: the certificate file or the Redis server cannot be used.
    """
    roster = Roster.from_frame(frame)
    outcomes = {outcome.row: outcome async for outcome in issue(roster, settings)}
    auth = auth_frame(roster.identifiers(), roster.row_numbers(), outcomes)
    return frame.assign(**{column: auth[column].to_numpy() for column in auth.columns})


@dataclass(frozen=True, slots=True)
class Report:
    """What a job came to.

    Attributes:
        ending: why it ended; of several organizations, the worst.
        outcomes: one for each row, in order.
        lacking: those without a good token: none at all, one that had expired when it came, an earlier one that could
            not be renewed, or one of a row that was left alone because it is not certain whose it is.
        path: where the results are; not where they were to be if another program kept that from being replaced.
        guarded_cells: roster cells that got an apostrophe in the results file, so that no spreadsheet runs them.
    """

    ending: Ending
    outcomes: list[Outcome] = field(repr=False)
    lacking: list[Outcome] = field(repr=False)
    path: Path
    guarded_cells: int

    def counts(self) -> dict[Status, int]:
        """Rows by status, those without rows left out; they add up to the number of rows."""
        found = [outcome.status for outcome in self.outcomes]
        return {status: found.count(status) for status in Status if status in found}

    @property
    def complete(self) -> bool:
        """Whether every row has a good token."""
        return not self.lacking


async def issue_file(
    roster: Roster,
    settings: Settings,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    restart: bool = False,
) -> Report:
    """Issue for a roster and write the results file, durable as it grows; every ending publishes what there is.

    A run that was cut off and left its journal is gone on with: rows that have a token valid for
    ``settings.min_validity`` are not asked for again.

    Args:
        roster: the rows.
        settings: where to ask, with which key, how fast.
        output: the results file.
        overwrite: whether earlier results with tokens may be replaced.
        restart: keep aside the journal of a run that was cut off, and begin anew.

    Raises:
        ResultsError: the results cannot be created; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal holds what was issued.
    """
    with Destination(output) as destination:
        batch = destination.begin(roster, _validity(settings), overwrite=overwrite, restart=restart)
        return await issue_batch(batch, settings, destination)


async def retry_file(results: str | os.PathLike[str], settings: Settings, *, restart: bool = False) -> Report:
    """Issue for every row of a results file that has no token valid for ``settings.min_validity``, and update it.

    Args:
        results: the file.
        settings: where to ask, with which key, how fast.
        restart: keep aside the journal of a run that was cut off, and go by the results as they were before.

    Raises:
        RosterError: the file cannot be read; nothing was sent.
        ResultsError: it is no results file, or its rows cannot be told apart; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal holds what was issued.
    """
    with Destination(results) as destination:
        batch = destination.reopen(_validity(settings), restart=restart)
        return await issue_batch(batch, settings, destination)


def _validity(settings: Settings) -> Validity:
    return Validity.until(settings.min_validity, real=settings.is_remote)


@dataclass(slots=True)
class Share:
    """What one organization has in a batch.

    Attributes:
        settings: where to ask, with which key, how fast.
        drivers: of the batch, all of that organization.
        stop: ends its run early.
        observe: gets its events.
        run: its run, once there is one.
    """

    settings: Settings
    drivers: Sequence[Driver]
    stop: StopSignal | None = None
    observe: Callable[[Event], None] = lambda _: None
    run: Run | None = None


async def issue_batch(
    batch: Batch,
    settings: Settings,
    destination: Destination,
    *,
    stop: StopSignal | None = None,
    observe: Callable[[Event], None] = lambda _: None,
) -> Report:
    """Issue for the rows of a batch that are to be asked for; every ending publishes what there is.

    Args:
        batch: the rows.
        settings: where to ask, with which key, how fast.
        destination: where the batch came from; entered.
        stop: ends the run early.
        observe: gets its events; see `Run`.

    Raises:
        ResultsError: the results cannot be created; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal holds what was issued.
    """
    return await issue_shares(batch, [Share(settings, batch.drivers, stop, observe)], destination)


async def issue_shares(
    batch: Batch, shares: Sequence[Share], destination: Destination, *, connections: Connections | None = None
) -> Report:
    """The same for the rows of several organizations, all at once; each has its own stop rules.

    Args:
        batch: the rows.
        shares: one for each organization.
        destination: where the batch came from; entered.
        connections: those to use, if other jobs run at the same time.

    Raises:
        ResultsError: the results cannot be created; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal holds what was issued.
    """
    to_write = any(share.drivers for share in shares) or batch.changed or destination.partial.exists()
    if not to_write:
        return _report([], batch, batch.outcomes, Published(destination.path, 0))
    async with AsyncExitStack() as stack:
        doors = [
            (
                await stack.enter_async_context(open_client(share.settings, connections)),
                await stack.enter_async_context(open_quota(share.settings)),
            )
            for share in shares
        ]
        journal = destination.open_journal(batch)
        earlier = [batch.outcomes[row] for row in batch.with_token]
        left_alone = set(batch.kept)
        kept = [one for one in earlier if one.row in left_alone]
        for share, (client, quota) in zip(shares, doors, strict=True):
            whose = {batch.organization_of(driver.row) for driver in share.drivers}
            share.run = Run(
                share.drivers,
                share.settings,
                client,
                quota,
                journal,
                stop=share.stop,
                observe=share.observe,
                earlier=earlier,
                renewable=(one for one in kept if batch.organization_of(one.row) in whose),
            )
        del earlier, kept
        runs = [share.run for share in shares if share.run is not None]
        try:
            await _all([run.run() for run in runs])
        finally:  # cancelled or not: whatever was issued is published
            journal.close()
            in_the_end = batch.outcomes.followed_by(outcome for run in runs for outcome in run.outcomes.values())
            published = _publish(runs, batch, in_the_end, destination, journal)
    return _report(runs, batch, in_the_end, published)


async def _all(jobs: Sequence[Coroutine[object, object, None]]) -> None:
    """Until all are over; one that raises leaves the others alone, and is told in the end."""
    if len(jobs) == 1:
        await jobs[0]
        return
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _publish(
    runs: Sequence[Run], batch: Batch, outcomes: Mapping[int, Outcome], destination: Destination, journal: Journal
) -> Published:
    try:
        return destination.publish(batch, outcomes)
    except StorageError as error:
        if not any(run.unkept for run in runs) and journal.is_whole:
            tip = f"{error.tip}, then batch-issuer retry {destination.path} goes on; all is in {destination.partial}"
            raise StorageError(error.message, tip) from None
        rescued = destination.rescue(batch, outcomes)
        if rescued is not None:
            raise StorageError(
                f"{error.message}; all results are in {rescued} instead",
                f"move that file to a safe place; batch-issuer retry goes on from it. {destination.partial}, "
                "if it is still there, lacks the last tokens",
            ) from None
        lost = f"; tokens of this run that are not in {destination.partial} are lost"
        raise StorageError(f"{error.message}{lost}", error.tip) from None


def _report(runs: Sequence[Run], batch: Batch, outcomes: Mapping[int, Outcome], published: Published) -> Report:
    ending = max((run.ending or FINISHED for run in runs), key=lambda one: SEVERITY.index(one.kind), default=FINISHED)
    before = {driver.row: driver.before for driver in batch.drivers if driver.before is not None}
    good, refused = ("", str(Hint.NO_EXPIRY)), set(batch.refused)
    in_order = [outcomes[row] for row in batch.row_numbers()]
    lacking = [
        outcome
        for outcome in in_order
        if not outcome.token
        or outcome.hint not in good  # it had expired when it came, or it could not be renewed
        or outcome.row in refused
        or _same_token(outcome, before.get(outcome.row))
    ]
    return Report(ending, in_order, lacking, published.path, published.guarded_cells)


def _same_token(outcome: Outcome, before: Outcome | None) -> bool:
    return before is not None and outcome.token == before.token
