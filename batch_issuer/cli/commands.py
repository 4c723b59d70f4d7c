"""The smaller commands: what each does, prints and returns. What a pipe may want goes to stdout, all else to stderr.

Heavy modules are imported by the command that needs them, so that ``config`` and ``quota`` wait for no pandas.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ResultsError, SettingsError
from ..reporting.exit_codes import EXIT_COMPLETE, EXIT_NOTHING_SENT, EXIT_ROWS_WITHOUT_TOKEN, worst
from ..settings.display import report_lines, run_lines
from ..settings.file import FILE_NAME, find_settings_file, read_settings_file
from ..settings.layers import API_TOKEN_VARIABLE
from ..settings.selection import Selection
from ..wording import amount, command_text
from .loop import on_signal, run_async
from .messages import (
    as_json,
    by_kind_lines,
    by_organization_lines,
    identified_by,
    names_of,
    of_organization,
    print_error,
    refused_lines,
    say_command,
    status_lines,
    takes_text,
    warn_of_secrets,
    warnings_of,
)
from .parser import flags_of
from .screen import CROSS, TICK, out, out_table, say

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Mapping

    from ..jobs.checking import RosterCheck
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
    """``check [ROSTER]``: check a roster, or those that the settings name; send nothing."""
    from ..jobs.checking import check_all, check_named, check_roster

    selection = selection_of(options, environ)
    if not options.all:
        named = check_named(selection) if options.roster is None else check_roster(selection, roster_of(options))
        return _print_check(named)
    refuse_all_with(options)
    checks = check_all(selection)
    code = worst([_print_check(one) for one in checks])
    rows = sum(len(one.roster) for one in checks if one.roster is not None)
    to_send = sum(one.to_send for one in checks)
    takes = takes_text(max((one.seconds for one in checks), default=0.0))
    sign = CROSS if code else TICK
    out(f"{sign} {amount(len(checks), 'organization')}, {amount(rows, 'row')}: {to_send} can be sent{takes}.")
    return code


def refuse_all_with(options: Namespace) -> None:
    """Refuse ``--all`` together with a roster or an organization.

    Raises:
        SettingsError: there is one.
    """
    if options.roster or options.org:
        raise SettingsError("--all cannot be combined with ROSTER or --org", "leave out one of them")


def _print_check(check: RosterCheck) -> int:
    if check.roster is None:
        if check.error is not None:
            print_error(check.error, check.name)
        return EXIT_NOTHING_SENT
    if check.warning:
        say(of_organization(f"warning: {check.warning}", check.name))
    roster = check.roster
    say(*(of_organization(line, check.name) for line in (*roster.notes, identified_by(roster))))
    counts = f"{check.to_send} can be sent, {len(roster.refused)} cannot"
    of = f"{check.name}: " if check.name else ""
    sign = CROSS if roster.refused else TICK
    out(f"{sign} {of}{amount(len(roster), 'row')}: {counts}{takes_text(check.seconds, check.rate)}.")
    out(*by_organization_lines(roster), *by_kind_lines(roster), *warnings_of(roster, in_full=True))
    out(*refused_lines(roster))
    return EXIT_ROWS_WITHOUT_TOKEN if roster.refused else EXIT_COMPLETE


def config(options: Namespace, environ: Mapping[str, str]) -> int:
    """``config``: which settings apply, and where each is from; of each organization only what differs."""
    selection = selection_of(options, environ)
    where = selection.file.path or f"none (no {FILE_NAME} in this folder or in the user config directory)"
    organizations = [*filter(None, selection.names())]
    out(f"settings file: {where}")
    common = [*run_lines(selection.layers())]
    out("", "for all organizations" if selection.file.organizations else "settings")
    out_table([*_in_two_columns(common), *_in_two_columns(report_lines(selection.layers()))])
    values = {name: value for name, value, _ in common}
    for organization in organizations:
        lines = run_lines(selection.layers(organization))
        own = [line for line in lines if values.get(line[0]) != line[1] or line[2].startswith("[organizations")]
        out("", f"organization {organization}")
        out_table([*_in_two_columns(own)])
    return EXIT_COMPLETE


def _in_two_columns(lines: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """Name, then value and source, which wrap together: either may be long."""
    return ((f"  {name}", f"{value}  ({source})") for name, value, source in lines)


def status(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``status RESULTS``: what is in a results file, without showing a login token."""
    from ..results import Destination, has_only_sandbox_tokens, read_results, status_of

    named = Destination(options.results)
    try:
        unfinished = named.partial.exists()
        path = options.results if options.results.exists() or not unfinished else named.partial
    except OSError as error:
        raise ResultsError(
            f"{options.results} cannot be read: {error.strerror}", "check its name and permissions"
        ) from None
    results = read_results(path)
    summary = status_of(results, datetime.now(UTC))
    if options.json:
        document = {"results": str(options.results), "unfinished": unfinished, **as_json(summary)}
        out(json.dumps(document, indent=2), as_is=True)
    else:
        rows = [failure.row for group in summary.problems.values() for failure in group]
        out(*status_lines(summary, names_of(results.cells, rows)))
        flags = ["--sandbox"] if has_only_sandbox_tokens(results) else []
        command = command_text("batch-issuer", "retry", str(named.path), *flags)
        if unfinished:
            say(f"A run is in progress or was interrupted; its journal is {named.partial}.")
            say_command("To resume an interrupted run:", (command, ""))
        elif summary.valid < summary.rows:
            say_command("To request the missing login tokens:", (command, ""))
    return EXIT_COMPLETE if summary.valid == summary.rows else EXIT_ROWS_WITHOUT_TOKEN


def purge(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``purge RESULTS``: blank the login tokens that have expired, and their codes."""
    from ..results import Destination

    with Destination(options.results) as destination:
        blanked, unknown = destination.purge(datetime.now(UTC))
    out(f"{amount(blanked, 'expired login token')} blanked.")
    if unknown:
        say(f"{amount(unknown, 'login token')} kept: auth_expires_at cannot be read.")
    return EXIT_COMPLETE


def quota(options: Namespace, environ: Mapping[str, str]) -> int:
    """``quota``: how much of the organization's quota is used, without using any of it."""
    warn_of_secrets(options)
    settings = selection_of(options, environ).only_layers().settings()
    if settings.quota == "process":
        raise SettingsError("with --quota process, every run has a quota of its own", "leave out --quota process")
    out(*run_async(_budget(settings)))
    return EXIT_COMPLETE


async def _budget(settings: Settings) -> list[str]:
    from ..quota import open_quota
    from ..wording import duration_text

    async with open_quota(settings) as quota:
        budget = await quota.refresh()
    limit = settings.rate.limit
    if budget.in_use < limit:
        when = f"{limit - budget.in_use} possible now"
    elif budget.cooling:
        when = f"the next is possible in {duration_text(budget.cooling[0])}"
    else:
        when = "the next is possible after a reply"
    lines = [f"{budget.in_use} of {amount(limit, 'request')} used; {when}."]
    if budget.in_flight:
        lines.append(f"{amount(budget.in_flight, 'request')} in flight.")
    if budget.gate:
        lines.append(f"Samsara asked to wait: no run sends for another {duration_text(budget.gate)}.")
    if budget.waiting:
        requests = amount(sum(budget.waiting), "request")
        lines.append(f"{amount(len(budget.waiting), 'run')} in progress, with {requests} still to send.")
    return lines


def sandbox(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``sandbox``: run the local test server until a signal comes."""
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
        message, _, hint = str(error).partition("; ")
        raise SettingsError(message, hint or "see batch-issuer sandbox --help") from None
    run_async(_serve(sandbox, options.port))
    return EXIT_COMPLETE


async def _serve(sandbox: Sandbox, port: int) -> None:
    stopped = asyncio.Event()
    try:
        await sandbox.start()
    except OSError as error:
        # asyncio's own text differs between Python versions.
        why = os.strerror(error.errno) if error.errno else error.strerror
        raise SettingsError(f"port {port} cannot be used: {why}", "choose another port with --port") from None
    try:
        out(sandbox.url)
        say("A local test server for the API, reachable from this computer only; Ctrl-C stops it. In another terminal:")
        command = f"{API_TOKEN_VARIABLE}={sandbox.api_token} batch-issuer issue ROSTER --base-url {sandbox.url}"
        say(f"  {command}", as_is=True)
        with on_signal(lambda _: stopped.set()):
            await stopped.wait()
    finally:
        await sandbox.stop()
