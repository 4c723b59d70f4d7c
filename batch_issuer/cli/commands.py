"""The commands: what each does, says and returns. stdout carries what a pipe may want, all else goes to stderr.

Heavy modules are imported by the command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..events import Ending, EndingKind
from ..model import Secret, Settings, Status
from ..settings import API_TOKEN_VARIABLE, QUOTA_VARIABLE, settings_from
from .parser import SANDBOX_LATENCY

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ..job import Report
    from ..model import Outcome
    from ..results import Destination, Failure
    from ..roster import Roster
    from ..runner import Run
    from ..sandbox import Sandbox

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_KEY_REFUSED = 3
EXIT_STOPPED_EARLY = 4
EXIT_SIGNAL = 128

MOST_PROBLEMS_SHOWN = 20
"""Rows without a token that ``issue`` lists; all of them are in the results file."""


def say(*lines: str) -> None:
    """Lines for a person, on stderr."""
    with suppress(OSError):  # whoever read stderr has left: that must not end a run
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def out(*lines: str) -> None:
    """Lines for a pipe, on stdout."""
    try:
        for line in lines:
            print(line, flush=True)
    except BrokenPipeError:  # whoever read it has left; what was done stays done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_roster(name: str) -> Roster:
    from ..roster import Roster

    if name == "-":
        return Roster.from_bytes(sys.stdin.buffer.read(), "stdin")
    return Roster.from_path(Path(name))


def _columns_line(roster: Roster) -> str:
    first, *others = (repr(column) for column in roster.columns.values())
    return f"Drivers are looked up by column {first}{''.join(f', else by {column}' for column in others)}."


def _counted(rows: int, counts: Iterable[tuple[str, int]]) -> str:
    by_status = ", ".join(f"{number} {status}" for status, number in counts)
    return f"{_amount(rows, 'row')}: {by_status or 'none'}."


def _failure(outcome: Outcome) -> Failure:
    return outcome.row, outcome.status, str(outcome.identifier or ""), outcome.error, outcome.hint


def _table(failures: Sequence[Failure], most: int | None = None) -> Iterator[str]:
    """Rows without a token, for a person to act on; the first ``most`` of them."""
    for row, status, identifier, error, hint in failures[:most]:
        yield f"  row {row}{f' ({identifier})' if identifier else ''}: {status}: {error}"
        yield f"      {hint}"
    if most is not None and len(failures) > most:
        yield f"  … and {len(failures) - most} more, all in the results file."


def check(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``check ROSTER``: look at a roster, send nothing."""
    from ..progress import duration_text
    from ..quota import plan

    settings = Settings(api_token=Secret("none"), rate=options.rate, burst=options.burst)
    roster = _read_roster(options.roster)
    say(*roster.notes, _columns_line(roster))
    burst = settings.burst or settings.rate.limit
    duration = plan(settings.rate, len(roster.drivers), burst, settings.concurrency)
    took = f"; issuing takes about {duration_text(duration)} at {settings.rate}" if roster.drivers else ""
    out(f"{_amount(len(roster), 'row')}: {len(roster.drivers)} can be sent, {len(roster.refused)} cannot{took}.")
    out(*_table([_failure(outcome) for outcome in roster.refused]))
    return EXIT_ROWS_WITHOUT_TOKEN if roster.refused else EXIT_COMPLETE


def issue(options: Namespace, environ: Mapping[str, str]) -> int:
    """``issue ROSTER``: the main job."""
    from ..results import Destination

    if options.output is None and options.roster == "-":
        raise SettingsError("a roster from stdin needs a name for the results", "add -o depot.results.csv")
    _warn_of_password(options)
    source = Path(options.roster)
    output = options.output
    if output is None:
        if not source.name:
            raise SettingsError(f"{options.roster or 'the empty name'} is not a file", "name the roster's file")
        output = source.with_name(f"{source.stem}.results.csv")
    destination = Destination(output)
    settings = None if options.sandbox else settings_from(options, environ)
    roster = _read_roster(options.roster)
    destination.check(overwrite=options.overwrite, roster=source)
    return asyncio.run(_issue_roster(options, environ, settings, roster, destination))


async def _issue_roster(
    options: Namespace,
    environ: Mapping[str, str],
    settings: Settings | None,
    roster: Roster,
    destination: Destination,
) -> int:
    from ..job import issue_file
    from ..progress import Progress
    from ..runner import Run
    from ..sandbox import Sandbox

    chat = (lambda *_: None) if options.quiet else say
    async with AsyncExitStack() as stack:
        if settings is None:
            rate = options.rate
            sandbox = await stack.enter_async_context(
                Sandbox(limit=rate.limit, per=rate.period, latency=SANDBOX_LATENCY)
            )
            settings = settings_from(options, environ, sandbox=(sandbox.url, sandbox.api_token))
        aside = destination.set_aside() if options.overwrite else None
        if aside is not None:
            say(f"The journal of an earlier, unfinished run is kept as {aside}; it may hold tokens.")
        chat(*roster.notes, _columns_line(roster))
        progress = stack.enter_context(Progress(sys.stderr, quiet=options.quiet))
        run = Run(roster.drivers, settings, observe=progress)
        with _signals(run, destination.partial):
            report = await issue_file(roster, settings, destination, run=run)
    _tell(report, destination, options)
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    match report.ending.kind:
        case EndingKind.FINISHED:
            return EXIT_COMPLETE if report.complete else EXIT_ROWS_WITHOUT_TOKEN
        case EndingKind.KEY_REFUSED:
            return EXIT_KEY_REFUSED
        case EndingKind.INTERRUPTED:
            return EXIT_SIGNAL + (report.ending.signal or signal.SIGINT)
        case _:
            return EXIT_STOPPED_EARLY


def _tell(report: Report, destination: Destination, options: Namespace) -> None:
    """What a person must know at the end; only what is wrong, if they asked for quiet."""
    lacking = [outcome for outcome in report.outcomes if outcome.status is not Status.ISSUED]
    if report.ending.kind is not EndingKind.FINISHED:
        say(f"Stopped: {report.ending.message}.", *([f"What to do: {report.ending.tip}."] if report.ending.tip else []))
    shown = [outcome for outcome in lacking if outcome.status is not Status.NOT_ATTEMPTED]
    if shown and report.ending.kind is not EndingKind.KEY_REFUSED:
        failures = [_failure(outcome) for outcome in shown]
        say(f"{_amount(len(failures), 'row')} without a token:", *_table(failures, MOST_PROBLEMS_SHOWN))
    if options.quiet and not lacking:
        return
    say(_counted(len(report.outcomes), report.counts().items()))
    expiries = sorted(outcome.expires_at for outcome in report.outcomes if outcome.expires_at)
    if expiries:
        say(f"The first token expires at {_local(expiries[0])}.")
    if report.guarded_cells:
        say(f"{_amount(report.guarded_cells, 'roster cell')} got a leading apostrophe: a spreadsheet would run it.")
    holds_tokens = any(outcome.token for outcome in report.outcomes)
    if options.sandbox and holds_tokens:
        say("These are SANDBOX tokens: they log nobody in.")
    where = "Results (keep this file secret, it holds login tokens):" if holds_tokens else "Results (no token in it):"
    if options.quiet:
        say(f"{where} {destination.path}")
    else:
        say(where)
        out(str(destination.path))


def status(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``status RESULTS``: what is in a results file, without showing a token."""
    from datetime import UTC, datetime

    from ..results import read_results

    results = read_results(options.results)
    now = datetime.now(UTC)
    expiries = results.expiries()
    valid = [at for at in expiries if at > now]
    out(_counted(len(results.frame), results.counts().items()))
    out(f"{_amount(len(valid), 'token')} valid now, {len(expiries) - len(valid)} expired.")
    if valid:
        out(f"The next one expires at {_local(valid[0])}, the last one at {_local(valid[-1])}.")
    failures = results.failures()
    out(*_table([failure for failure in failures if failure[1] != Status.NOT_ATTEMPTED], MOST_PROBLEMS_SHOWN))
    skipped = [failure for failure in failures if failure[1] == Status.NOT_ATTEMPTED]
    if skipped:
        out(f"  {_amount(len(skipped), 'row')} not attempted, the first is row {skipped[0][0]}: {skipped[0][3]}")
    return EXIT_COMPLETE if len(valid) == len(results.frame) else EXIT_ROWS_WITHOUT_TOKEN


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
    out(*asyncio.run(_budget(settings)))
    return EXIT_COMPLETE


async def _budget(settings: Settings) -> list[str]:
    from ..progress import duration_text
    from ..quota import open_quota

    async with open_quota(settings) as quota:
        budget = await quota.look()
    lines = [f"{budget.in_use} of {settings.rate.limit} slots in use."]
    if budget.in_flight:
        lines.append(f"{_amount(budget.in_flight, 'request')} under way.")
    if budget.cooling:
        first, last = duration_text(budget.cooling[0]), duration_text(budget.cooling[-1])
        lines.append(
            f"{_amount(len(budget.cooling), 'slot')} cooling down: the first is free in {first}, all in {last}."
        )
    if budget.gate:
        lines.append(f"Every run has to wait, for {duration_text(budget.gate)} more.")
    if budget.waiting:
        requests = _amount(sum(budget.waiting), "request")
        lines.append(f"{_amount(len(budget.waiting), 'run')} at work, with {requests} yet to be sent.")
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
    asyncio.run(_serve(sandbox, options.port))
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
        with _on_signal(lambda _: stopped.set()):
            await stopped.wait()
    finally:
        await sandbox.stop()


@contextmanager
def _signals(run: Run, partial: Path) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops the run in good order, the second leaves at once."""
    signals = 0

    def handle(number: int) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            kept = f" What was issued is in {partial}; batch-issuer status shows it." if partial.exists() else ""
            say("", f"Left at once.{kept}")
            os._exit(EXIT_SIGNAL + number)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        tip = "use the tokens there are, or issue again with --overwrite for new ones"
        run.stop(Ending(EndingKind.INTERRUPTED, f"by {name}", tip, signal=number))

    with _on_signal(handle):
        yield


@contextmanager
def _on_signal(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` from the event loop with the number of each SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    if sys.platform != "win32":
        for number in numbers:
            loop.add_signal_handler(number, handle, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
    else:  # the Windows event loop has no add_signal_handler
        before = [signal.signal(number, lambda n, _: loop.call_soon_threadsafe(handle, n)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _amount(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _local(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
