"""The smaller commands: what each does, says and returns. stdout carries what a pipe may want, all else goes to stderr.

Heavy modules are imported by the command that needs them, so that ``config`` and ``quota`` wait for no pandas.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import ResultsError, SettingsError
from ..reporting.exit_codes import EXIT_COMPLETE, EXIT_ROWS_WITHOUT_TOKEN
from ..settings.addresses import REGIONS
from ..settings.file import FILE_NAME
from ..settings.layers import API_TOKEN_VARIABLE
from ..wording import amount
from .loop import on_signal, run_async
from .messages import (
    as_json,
    columns_line,
    failure,
    organization_lines,
    out,
    remark_lines,
    say,
    sent_lines,
    setting_lines,
    status_lines,
    table,
    warn_of_secrets,
)
from .tasks import Preparation

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from ..sandbox import Sandbox
    from ..settings.run_settings import Settings


def check(options: Namespace, environ: Mapping[str, str]) -> int:
    """``check ROSTER``: look at a roster, send nothing."""
    from ..quota import estimate
    from ..wording import duration_text

    preparation = Preparation(options, environ)
    roster, choices = preparation.to_check()
    say(*roster.notes, columns_line(roster))
    to_send = len(roster) - len(roster.refused)
    plans = []
    for choice in choices:
        settings = choice.settings(sandbox=(REGIONS["us"], "none"))
        drivers = len(roster.of_organization(choice.organization)) if roster.options.organization_column else to_send
        plans.append(estimate(settings.rate, drivers, settings.burst or settings.rate.limit, settings.concurrency))
    at = f" at {choices[0].rate()}" if len(choices) == 1 else ""
    took = f"; issuing takes about {duration_text(max(plans))}{at}" if to_send else ""
    out(f"{amount(len(roster), 'row')}: {to_send} can be sent, {len(roster.refused)} cannot{took}.")
    out(*organization_lines(roster), *sent_lines(roster), *remark_lines(roster))
    if roster.refused:
        out(f"{amount(len(roster.refused), 'row')} that will not be sent:")
        out(*table([failure(outcome) for outcome in roster.refused]))
    return EXIT_ROWS_WITHOUT_TOKEN if roster.refused else EXIT_COMPLETE


def config(options: Namespace, environ: Mapping[str, str]) -> int:
    """``config``: which settings apply, and where each is from."""
    preparation = Preparation(options, environ)
    where = preparation.file.path or f"none ({FILE_NAME} is neither here nor in your folder for settings)"
    out(f"settings file: {where}")
    names = preparation.names()
    for name in names:
        choice = preparation.choice(name)
        out("", f"organization {name}" if name else "no organization is named", *setting_lines(choice.shown()))
    out("", "reports", *setting_lines(preparation.choice().shown_of_report()))
    return EXIT_COMPLETE


def status(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``status RESULTS``: what is in a results file, without showing a token."""
    from ..results import Destination, read_results

    named = Destination(options.results)
    try:
        unfinished = named.partial.exists()
        path = options.results if options.results.exists() or not unfinished else named.partial
    except OSError as error:
        raise ResultsError(
            f"{options.results} cannot be read: {error.strerror}", "check name and permissions"
        ) from None
    summary = read_results(path).summary(datetime.now(UTC))
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
    settings = Preparation(options, environ).only_choice().settings()
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
        raise SettingsError(f"port {port} cannot be used: {error.strerror}", "choose another --port") from None
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
