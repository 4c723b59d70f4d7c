"""One roster or results file: its rows in; outcomes, a DataFrame or a results file out.

::

    issue ────────► outcomes, as they come
    issue_frame ──► a DataFrame
    issue_file ───► a results file
    retry_file ───► the same results file, finished or renewed
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..api.client import Connections, open_client
from ..pipeline.events import RowDone
from ..pipeline.run import Run
from ..quota import open_quota
from ..results import Destination, Validity, auth_frame
from ..roster import Roster
from .records import JobResult, OrganizationJob
from .running import run_job

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator

    import pandas as pd

    from ..model import Outcome
    from ..pipeline.endings import StopSignal
    from ..pipeline.events import Event, Observer
    from ..results import Batch
    from ..settings.run_settings import Settings


async def issue(
    roster: Roster, settings: Settings, *, connections: Connections | None = None, stop: StopSignal | None = None
) -> AsyncGenerator[Outcome]:
    """Yield exactly one outcome for each row of a roster: first those never sent, then the others as they come.

    Trouble with a driver, the network or the API token is an outcome too, never an exception. Leaving the loop early
    cancels the requests in flight, and the tokens they would have brought are lost; wrap the call in
    `contextlib.aclosing` to do so at a known moment.

    Args:
        roster: the rows.
        settings: where to send the requests, with which API token, how fast.
        connections: those to use, if other jobs run at the same time.
        stop: ends the run cleanly; the remaining rows come as ``not_attempted``.

    Raises:
        SettingsError: the certificate file or the Redis server cannot be used.
    """
    for outcome in roster.refused:
        yield outcome
    done: asyncio.Queue[Outcome | None] = asyncio.Queue()

    def observe(event: Event) -> None:
        if isinstance(event, RowDone):
            done.put_nowait(event.outcome)

    async with open_client(settings, connections) as client, open_quota(settings) as quota:
        task = asyncio.create_task(Run(roster.drivers, settings, client, quota, stop=stop, observe=observe).run())
        task.add_done_callback(lambda _: done.put_nowait(None))
        try:
            while (one := await done.get()) is not None:
                yield one
            await task  # raises what it raised
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # it is raised above, or the caller has left


async def issue_frame(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The same rows, columns and index, with the `AUTH_COLUMNS` (strings) to the right of them.

    In a notebook: ``result = await issue_frame(frame, settings)``.

    Args:
        frame: a roster; its columns are recognized by name as those of a file are.
        settings: where to send the requests, with which API token, how fast.

    Raises:
        RosterError: the frame has no rows or no column that names drivers.
        SettingsError: the certificate file or the Redis server cannot be used.
    """
    roster = Roster.from_frame(frame)
    outcomes = {outcome.row: outcome async for outcome in issue(roster, settings)}
    auth = auth_frame(roster.identifiers(), roster.row_numbers(), outcomes)
    return frame.assign(**{column: auth[column].to_numpy() for column in auth.columns})


async def issue_file(
    roster: Roster,
    settings: Settings,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    connections: Connections | None = None,
    stop: StopSignal | None = None,
    observe: Observer | None = None,
) -> JobResult:
    """Issue for a roster and write the results file, durable as it grows; every ending publishes what there is.

    An interrupted run that left its journal is resumed: rows that have a token valid for ``settings.min_validity``
    are not requested again.

    Args:
        roster: the rows.
        settings: where to send the requests, with which API token, how fast.
        output: the results file.
        overwrite: start over: replace earlier results, and set the journal of an interrupted run aside.
        connections: those to use, if other jobs run at the same time.
        stop: ends the run cleanly.
        observe: receives the events of the run.

    Raises:
        ResultsError: the results cannot be created; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal contains what was issued.
    """
    with Destination(output) as destination:
        batch = destination.begin(roster, _validity(settings), overwrite=overwrite)
        return await _alone(batch, destination, settings, connections, stop, observe)


async def retry_file(
    results: str | os.PathLike[str],
    settings: Settings,
    *,
    overwrite: bool = False,
    connections: Connections | None = None,
    stop: StopSignal | None = None,
    observe: Observer | None = None,
) -> JobResult:
    """Issue for every row of a results file that has no token valid for ``settings.min_validity``, and update it.

    Args:
        results: the file.
        settings: where to send the requests, with which API token, how fast.
        overwrite: use the results as they are, and set the journal of an interrupted run aside.
        connections: those to use, if other jobs run at the same time.
        stop: ends the run cleanly.
        observe: receives the events of the run.

    Raises:
        RosterError: the file cannot be read; nothing was sent.
        ResultsError: it is not a results file, or it is unclear which row belongs to which driver; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal contains what was issued.
    """
    with Destination(results) as destination:
        batch = destination.reopen(_validity(settings), overwrite=overwrite)
        return await _alone(batch, destination, settings, connections, stop, observe)


def _validity(settings: Settings) -> Validity:
    return Validity.at_least(settings.min_validity, real=settings.is_remote)


async def _alone(
    batch: Batch,
    destination: Destination,
    settings: Settings,
    connections: Connections | None,
    stop: StopSignal | None,
    observe: Observer | None,
) -> JobResult:
    """Run a job of one organization and raise its error."""
    one = OrganizationJob(settings=settings)
    observers = {"": observe} if observe is not None else {}
    result = await run_job(batch, destination, [one], connections=connections, stop=stop, observers=observers)
    if one.error is not None:
        raise one.error
    return result
