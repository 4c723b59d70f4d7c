"""The smaller commands: what each does, says and returns. stdout carries what a pipe may want, all else goes to stderr.

Heavy modules are imported by the command that needs them, so that ``config`` and ``quota`` wait for no pandas.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ResultsError, SettingsError
from ..reporting.exit_codes import EXIT_COMPLETE, EXIT_ROWS_WITHOUT_TOKEN
from ..settings.addresses import REGIONS
from ..settings.display import report_lines, run_lines
from ..settings.file import FILE_NAME, find_settings_file, read_settings_file
from ..settings.layers import API_TOKEN_VARIABLE
from ..settings.selection import Selection
from ..wording import amount
from .loop import on_signal, run_async
from .messages import (
    as_json,
    columns_line,
    failure,
    organization_lines,
    remark_lines,
    sent_lines,
    status_lines,
    table,
    warn_of_secrets,
)
from .parser import flags_of
from .screen import in_columns, out, say

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from ..jobs.planning import RosterData
    from ..sandbox import Sandbox
    from ..settings.run_settings import Settings


def selection_of(options: Namespace, environ: Mapping[str, str]) -> Selection:
    """The organizations of a command's settings file, and the one that was named.

    Raises:
        SettingsError: the file cannot be used.
    """
    file = read_settings_file(find_settings_file(options.config))
    return Selection(file, options.org, flags=flags_of(options), environ=environ)


def roster_of(options: Namespace) -> Path | RosterData:
    """The roster that was named: a file, or stdin."""
    from ..jobs.planning import RosterData

    return RosterData(sys.stdin.buffer.read(), "stdin") if options.roster == "-" else Path(options.roster)


def check(options: Namespace, environ: Mapping[str, str]) -> int:
    """``check ROSTER``: look at a roster, send nothing."""
    from ..jobs.planning import Planner
    from ..quota import estimate
    from ..wording import duration_text

    selection = selection_of(options, environ)
    roster, names = Planner(selection).read(roster_of(options), selection.one(), only_check=True)
    say(*roster.notes, columns_line(roster))
    to_send, plans, rates = 0, [], set()
    for name in names:
        settings = selection.layers(name).settings(sandbox=(REGIONS["us"], "none"))
        drivers = len(roster.of_organization(name) if roster.options.organization_column else roster.drivers)
        to_send += drivers
        plans.append(estimate(settings.rate, drivers, settings.burst or settings.rate.limit, settings.concurrency))
        rates.add(settings.rate)
    at = f" at {rates.pop()}" if len(names) == 1 else ""
    took = f"; issuing takes about {duration_text(max(plans))}{at}" if to_send else ""
    out(f"{amount(len(roster), 'row')}: {to_send} can be sent, {len(roster.refused)} cannot{took}.")
    out(*organization_lines(roster), *sent_lines(roster), *remark_lines(roster))
    if roster.refused:
        out(f"{amount(len(roster.refused), 'row')} that will not be sent:")
        out(*table([failure(outcome) for outcome in roster.refused]))
    return EXIT_ROWS_WITHOUT_TOKEN if roster.refused else EXIT_COMPLETE


def config(options: Namespace, environ: Mapping[str, str]) -> int:
    """``config``: which settings apply, and where each is from."""
    selection = selection_of(options, environ)
    where = selection.file.path or f"none ({FILE_NAME} is neither here nor in your folder for settings)"
    out(f"settings file: {where}")
    for name in selection.names():
        title = f"organization {name}" if name else "no organization is named"
        out("", title, *in_columns(run_lines(selection.layers(name))))
    out("", "reports", *in_columns(report_lines(selection.layers())))
    return EXIT_COMPLETE


def status(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``status RESULTS``: what is in a results file, without showing a token."""
    from ..results import Destination, read_results, status_of

    named = Destination(options.results)
    try:
        unfinished = named.partial.exists()
        path = options.results if options.results.exists() or not unfinished else named.partial
    except OSError as error:
        raise ResultsError(
            f"{options.results} cannot be read: {error.strerror}", "check name and permissions"
        ) from None
    summary = status_of(read_results(path), datetime.now(UTC))
    if options.json:
        out(json.dumps({"results": str(options.results), "unfinished": unfinished, **as_json(summary)}, indent=2))
    else:
        out(*status_lines(summary))
        if summary.valid < summary.rows and not unfinished:
            out(f"To ask for the rest: {shlex.join(['batch-issuer', 'retry', str(named.path)])}")
        if unfinished:
            out(f"A run is at work or was cut off: it left {named.partial}. batch-issuer retry {named.path} goes on.")
    return EXIT_COMPLETE if summary.valid == summary.rows else EXIT_ROWS_WITHOUT_TOKEN


def purge(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``purge RESULTS``: blank the tokens that have expired, and their codes."""
    from ..results import Destination

    with Destination(options.results) as destination:
        blanked, unknown = destination.purge(datetime.now(UTC))
    out(f"{amount(blanked, 'expired token')} blanked.")
    if unknown:
        say(f"{amount(unknown, 'token')} left, for no expiry can be read of them.")
    return EXIT_COMPLETE


def quota(options: Namespace, environ: Mapping[str, str]) -> int:
    """``quota``: how much of the organization's budget is in use, without using any of it."""
    warn_of_secrets(options)
    settings = selection_of(options, environ).only_layers().settings()
    if settings.quota == "process":
        raise SettingsError("with --quota process every run has a budget of its own", "leave out --quota process")
    out(*run_async(_budget(settings)))
    return EXIT_COMPLETE


async def _budget(settings: Settings) -> list[str]:
    from ..quota import open_quota
    from ..wording import duration_text

    async with open_quota(settings) as quota:
        budget = await quota.refresh()
    lines = [f"{budget.in_use} of {settings.rate.limit} slots in use."]
    if budget.in_flight:
        lines.append(f"{amount(budget.in_flight, 'request')} under way.")
    if budget.cooling:
        first, last = duration_text(budget.cooling[0]), duration_text(budget.cooling[-1])
        lines.append(
            f"{amount(len(budget.cooling), 'slot')} cooling down: the first is free in {first}, all in {last}."
        )
    if budget.gate:
        lines.append(f"Every run has to wait, for {duration_text(budget.gate)} more.")
    if budget.waiting:
        requests = amount(sum(budget.waiting), "request")
        lines.append(f"{amount(len(budget.waiting), 'run')} at work, with {requests} yet to be sent.")
    return lines


def sandbox(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``sandbox``: run the stand-in for the API until a signal comes."""
    from ..sandbox import Sandbox

    try:
        sandbox = Sandbox(
            limiter=options.limiter,
            limit=options.limit,
            per=options.per,
            burst=options.burst,
            retry_after=options.retry_after,
            latency=options.latency,
            token_lifetime=options.token_lifetime,
            faults=dict(options.fault),
            script=options.script,
            port=options.port,
            seed=options.seed,
        )
    except ValueError as error:
        raise SettingsError(str(error), "see batch-issuer sandbox --help") from None
    run_async(_serve(sandbox, options.port))
    return EXIT_COMPLETE


async def _serve(sandbox: Sandbox, port: int) -> None:
    stopped = asyncio.Event()
    try:
        await sandbox.start()
    except OSError as error:
        # asyncio has words of its own, which differ from Python to Python.
        why = os.strerror(error.errno) if error.errno else error.strerror
        raise SettingsError(f"port {port} cannot be used: {why}", "choose another --port") from None
    try:
        out(sandbox.url)
        say(
            "A stand-in for the API, on this computer only. In another terminal:",
            f"  {API_TOKEN_VARIABLE}={sandbox.api_token} batch-issuer issue ROSTER --base-url {sandbox.url}",
            "Ctrl-C ends it.",
        )
        with on_signal(lambda _: stopped.set()):
            await stopped.wait()
    finally:
        await sandbox.stop()
