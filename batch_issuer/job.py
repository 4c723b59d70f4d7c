"""Whole jobs out of the parts: a roster in; outcomes, a DataFrame or a results file out.

The command and the library do the same, through these.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .client import open_client
from .errors import StorageError
from .events import FINISHED
from .model import Status
from .quota import open_quota
from .results import auth_frame
from .roster import Roster
from .runner import Run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pandas as pd

    from .events import Ending
    from .model import Outcome, Settings
    from .results import Destination


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
    async with open_client(settings) as client, open_quota(settings) as quota:
        run = Run(roster.drivers, settings)
        async with aclosing(run.outcomes(client, quota)) as outcomes:
            async for outcome in outcomes:
                yield outcome


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
    auth = auth_frame(roster, outcomes)
    return frame.assign(**{column: auth[column].to_numpy() for column in auth.columns})


@dataclass(frozen=True, slots=True)
class Report:
    """What a job came to.

    Attributes:
        ending: why it ended.
        outcomes: one for each row, in roster order.
        guarded_cells: roster cells that got an apostrophe in the results file, so that no spreadsheet runs them.
    """

    ending: Ending
    outcomes: list[Outcome]
    guarded_cells: int

    def counts(self) -> dict[Status, int]:
        """Rows by status, those without rows left out; they add up to the number of rows."""
        found = [outcome.status for outcome in self.outcomes]
        return {status: found.count(status) for status in Status if status in found}

    @property
    def complete(self) -> bool:
        """Whether every row has a token."""
        return all(outcome.status is Status.ISSUED for outcome in self.outcomes)


async def issue_file(roster: Roster, settings: Settings, destination: Destination, *, run: Run | None = None) -> Report:
    """Issue for a roster and write the results file, durable as it grows; every ending publishes what there is.

    Args:
        roster: the rows.
        settings: where to ask, with which key, how fast.
        destination: where the results go; call its ``check`` first.
        run: made for ``roster.drivers`` by a caller who wants to stop it or to watch its events.

    Raises:
        ResultsError: the results cannot be created; nothing was sent.
        SettingsError: the certificate file or the Redis server cannot be used; nothing was sent.
        StorageError: the results could not be published; the journal holds what was issued.
        ValueError: ``run`` was made for other drivers, or has run already.
    """
    run = run or Run(roster.drivers, settings)
    if run.drivers != roster.drivers or run.started:
        raise ValueError("this Run was made for another roster, or has run already")
    async with open_client(settings) as client, open_quota(settings) as quota:
        journal = destination.open_journal(roster)
        try:
            async with aclosing(run.outcomes(client, quota, journal)) as outcomes:
                async for _ in outcomes:
                    pass
        finally:  # cancelled or not: whatever was issued is published
            journal.close()
            guarded_cells = _publish(run, roster, destination)
    outcomes_in_order = sorted((*roster.refused, *run.finished), key=lambda outcome: outcome.row)
    return Report(run.ending or FINISHED, outcomes_in_order, guarded_cells)


def _publish(run: Run, roster: Roster, destination: Destination) -> int:
    try:
        return destination.publish(roster, run.finished)
    except StorageError as error:
        if run.unkept:
            raise StorageError(f"{error.message}, and {run.unkept} tokens issued last are lost", error.tip) from None
        raise
