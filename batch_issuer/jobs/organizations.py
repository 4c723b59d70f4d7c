"""The organizations of a settings file, all at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ..api.client import open_connections
from ..errors import BatchIssuerError, StorageError
from ..settings.options import typed
from ..settings.selection import Selection
from ..wording import unexpected
from .planning import Planner
from .running import run_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from ..api.client import Connections
    from ..pipeline.endings import StopSignal
    from ..pipeline.events import Observer
    from ..settings.file import SettingsFile
    from ..settings.layers import Layers
    from ..settings.run_settings import Settings
    from .records import Job, OrganizationJob


async def run_jobs(
    jobs: Sequence[Job],
    *,
    connections: Connections | None = None,
    stop: StopSignal | None = None,
    observers: Mapping[str, Observer] | None = None,
    sandbox: tuple[float, float] | None = None,
    ca_file: str | None = None,
) -> None:
    """Issue for all jobs at once; what goes wrong with one is its ``error``, and does not end the others.

    Args:
        jobs: from a `Planner` that is still entered, so that their results files are locked.
        connections: those to use; by default those of each job's own, or shared ones where there are several.
        stop: ends all runs cleanly.
        observers: of the runs, by the organization's name.
        sandbox: the latency, in seconds from and to, of the local test server to use instead of the API; None
            for the API.
        ca_file: certificates to trust instead of the system's.

    Raises:
        SettingsError: the certificate file cannot be used.
    """
    ready = [job for job in jobs if job.error is None and job.batch is not None]
    async with AsyncExitStack() as stack:
        if sandbox is not None:
            for one in (one for job in ready for one in job.organizations):
                one.settings = await _sandbox(one.layers, sandbox, stack)
        if connections is None and sum(one.is_asked for job in ready for one in job.organizations) > 1:
            connections = await stack.enter_async_context(open_connections(ca_file))
        alone = len(ready) == 1
        await asyncio.gather(*(_run(job, connections, stop, observers, alone=alone) for job in ready))


async def _sandbox(layers: Layers | None, latency: tuple[float, float], stack: AsyncExitStack) -> Settings | None:
    if layers is None:
        return None
    from ..sandbox import Sandbox  # noqa: PLC0415 - its server takes as long to load as the client

    rate = layers.rate()
    sandbox = await stack.enter_async_context(Sandbox(limit=rate.limit, per=rate.period, latency=latency))
    return layers.settings(sandbox=(sandbox.url, sandbox.api_token))


async def _run(
    job: Job,
    connections: Connections | None,
    stop: StopSignal | None,
    observers: Mapping[str, Observer] | None,
    *,
    alone: bool,
) -> None:
    if job.batch is None or job.destination is None:
        return
    try:
        job.result = await run_job(
            job.batch, job.destination, job.organizations, connections=connections, stop=stop, observers=observers
        )
    except BatchIssuerError as error:
        job.error = error
    except Exception as error:
        if alone:
            raise
        job.error = StorageError(unexpected(error), "report this line")


async def issue_organizations(  # noqa: PLR0913 - all but two by name
    file: SettingsFile,
    names: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    date: datetime | None = None,
    overwrite: bool = False,
    connections: Connections | None = None,
    stop: StopSignal | None = None,
    observers: Mapping[str, Observer] | None = None,
) -> list[OrganizationJob]:
    """Issue for organizations of a settings file, each from its own roster into its own results file, all at once.

    Args:
        file: as `read_settings_file` read it.
        names: the organizations; None for all.
        environ: environment variables, which the settings may refer to.
        flags: settings that go before all others, named and written as in the settings file.
        date: for ``{date}`` in the names of results, with its zone; now by default.
        overwrite: start over: replace earlier results, and set the journals of interrupted runs aside.
        connections: those to use, if other jobs run at the same time.
        stop: ends all runs cleanly.
        observers: of the runs, by the organization's name.

    Returns:
        A record for each organization, in the order of the names. What went wrong with one is its ``error`` or its
        ``ending``, and does not end the others.

    Raises:
        SettingsError: an organization is not in the file, two of them have the same API token, or a flag is none.
    """
    environ = environ or {}
    selection = Selection(file, flags=typed(flags or {}), environ=environ)
    with Planner(selection, date=date, overwrite=overwrite) as planner:
        jobs = planner.issue_all(names)
        ca_file = environ.get("SSL_CERT_FILE") or None
        await run_jobs(jobs, connections=connections, stop=stop, observers=observers, ca_file=ca_file)
    for job in jobs:
        for one in job.organizations:
            one.error = one.error or job.error
    return [one for job in jobs for one in job.organizations]
