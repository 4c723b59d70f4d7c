"""The commands: what each does, says and returns. stdout carries what a pipe may want, all else goes to stderr.

Heavy modules are imported by the command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ResultsError, SettingsError
from ..events import EndingKind
from ..model import Secret, Settings
from ..settings import API_TOKEN_VARIABLE, QUOTA_VARIABLE, roster_options_from, settings_from
from .loop import EXIT_SIGNAL, on_signal, run_async, stopped_by_signals
from .parser import SANDBOX_LATENCY
from .telling import (
    MOST_PROBLEMS_SHOWN,
    amount,
    as_json,
    columns_line,
    failure,
    found_lines,
    go_on,
    out,
    refused_lines,
    remark_lines,
    say,
    sent_lines,
    status_lines,
    table,
    tell,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from ..job import Report
    from ..results import Batch, Destination, Validity
    from ..roster import Roster
    from ..sandbox import Sandbox

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_KEY_REFUSED = 3
EXIT_STOPPED_EARLY = 4


def _read_roster(options: Namespace) -> Roster:
    from ..roster import Roster

    roster_options = roster_options_from(options)
    if options.roster == "-":
        return Roster.from_bytes(sys.stdin.buffer.read(), "stdin", roster_options)
    return Roster.from_path(Path(options.roster), roster_options)


def check(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``check ROSTER``: look at a roster, send nothing."""
    from ..progress import duration_text
    from ..quota import plan

    settings = Settings(api_token=Secret("none"), rate=options.rate, burst=options.burst)
    roster = _read_roster(options)
    say(*roster.notes, columns_line(roster))
    to_send = len(roster) - len(roster.refused)
    burst = settings.burst or settings.rate.limit
    duration = plan(settings.rate, to_send, burst, settings.concurrency)
    took = f"; issuing takes about {duration_text(duration)} at {settings.rate}" if to_send else ""
    out(f"{amount(len(roster), 'row')}: {to_send} can be sent, {len(roster.refused)} cannot{took}.")
    out(*sent_lines(roster), *remark_lines(roster))
    if roster.refused:
        out(f"{amount(len(roster.refused), 'row')} that will not be sent:")
        out(*table([failure(outcome) for outcome in roster.refused]))
    return EXIT_ROWS_WITHOUT_TOKEN if roster.refused else EXIT_COMPLETE


def issue(options: Namespace, environ: Mapping[str, str]) -> int:
    """``issue ROSTER``: the main job."""
    from ..results import Destination

    if options.output is None and options.roster == "-":
        raise SettingsError("a roster from stdin needs a name for the results", "add -o depot.results.csv")
    source = Path(options.roster)
    output = options.output
    if output is None:
        if not source.name:
            raise SettingsError(f"{options.roster or 'the empty name'} is not a file", "name the roster's file")
        stem = Path(source.stem).stem if source.suffix.lower() == ".gz" else source.stem
        output = source.with_name(f"{stem}.results.csv")
    settings = _settings(options, environ)
    roster = _read_roster(options)
    with Destination(output, roster=source) as destination:
        validity = _validity(options, settings)
        batch = destination.begin(roster, validity, overwrite=options.overwrite, restart=options.restart)
        notes = [
            *roster.notes,
            columns_line(roster),
            *remark_lines(roster, MOST_PROBLEMS_SHOWN),
            *refused_lines(roster, MOST_PROBLEMS_SHOWN),
        ]
        return _run(options, environ, settings, destination, batch, notes)


def retry(options: Namespace, environ: Mapping[str, str]) -> int:
    """``retry RESULTS``: finish or refresh a results file in place."""
    from ..results import Destination

    settings = _settings(options, environ)
    roster_options = roster_options_from(options)
    with Destination(options.results) as destination:
        batch = destination.reopen(_validity(options, settings), roster_options, restart=options.restart)
        return _run(options, environ, settings, destination, batch, [])


def _settings(options: Namespace, environ: Mapping[str, str]) -> Settings | None:
    """None with ``--sandbox``: it has to be started first."""
    _warn_of_password(options)
    return None if options.sandbox else settings_from(options, environ)


def _validity(options: Namespace, settings: Settings | None) -> Validity:
    from ..results import Validity

    return Validity.until(options.min_validity, real=settings is not None and settings.is_remote)


def _run(
    options: Namespace,
    environ: Mapping[str, str],
    settings: Settings | None,
    destination: Destination,
    batch: Batch,
    notes: Sequence[str],
) -> int:
    """Issue for a batch, and tell what it came to."""
    if options.sandbox and batch.holds_real_tokens:
        raise SettingsError(
            f"{destination.path} holds tokens of the real API, which those of the sandbox would replace",
            "leave out --sandbox, or try it with a copy",
        )
    if destination.warning and not options.quiet:
        say(f"Warning: {destination.warning}.")
    if not options.quiet:
        say(*notes, *found_lines(batch, destination, restart=options.restart))
    report = run_async(_issue_batch(options, environ, settings, destination, batch))
    tell(report, destination, options)
    return _exit_code(report, destination)


async def _issue_batch(
    options: Namespace,
    environ: Mapping[str, str],
    settings: Settings | None,
    destination: Destination,
    batch: Batch,
) -> Report:
    from ..job import issue_batch
    from ..progress import Progress
    from ..runner import Run
    from ..sandbox import Sandbox

    async with AsyncExitStack() as stack:
        if settings is None:
            rate = options.rate
            sandbox = await stack.enter_async_context(
                Sandbox(limit=rate.limit, per=rate.period, latency=SANDBOX_LATENCY)
            )
            settings = settings_from(options, environ, sandbox=(sandbox.url, sandbox.api_token))
        progress = stack.enter_context(Progress(sys.stderr or io.StringIO(), quiet=options.quiet))
        run = Run(batch.drivers, settings, observe=progress)
        with stopped_by_signals(run, destination, go_on(options, destination)):
            return await issue_batch(batch, settings, destination, run=run)


def _exit_code(report: Report, destination: Destination) -> int:
    match report.ending.kind:
        case EndingKind.FINISHED if report.path != destination.path:
            return EXIT_STOPPED_EARLY
        case EndingKind.FINISHED:
            return EXIT_COMPLETE if report.complete else EXIT_ROWS_WITHOUT_TOKEN
        case EndingKind.KEY_REFUSED:
            return EXIT_KEY_REFUSED
        case EndingKind.INTERRUPTED:
            return EXIT_SIGNAL + (report.ending.signal or signal.SIGINT)
        case _:
            return EXIT_STOPPED_EARLY


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


def _warn_of_password(options: Namespace) -> None:
    if re.search(r"://[^/]*:.*@|password=", options.quota or ""):
        say(
            "Warning: every user of this computer can see the password in --quota.",
            f"What to do: put the address into the environment variable {QUOTA_VARIABLE} instead.",
        )


def quota(options: Namespace, environ: Mapping[str, str]) -> int:
    """``quota``: how much of the organization's budget is in use, without using any of it."""
    _warn_of_password(options)
    settings = settings_from(options, environ)
    if settings.quota == "process":
        raise SettingsError("with --quota process every run has a budget of its own", "leave out --quota process")
    out(*run_async(_budget(settings)))
    return EXIT_COMPLETE


async def _budget(settings: Settings) -> list[str]:
    from ..progress import duration_text
    from ..quota import open_quota

    async with open_quota(settings) as quota:
        budget = await quota.look()
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
