"""The commands: what each does, says and returns. stdout carries what a pipe may want, all else goes to stderr.

Heavy modules are imported by the command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import signal
import sys
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ResultsError, SettingsError
from ..events import Ending, EndingKind
from ..hints import Hint
from ..model import Secret, Settings
from ..settings import API_TOKEN_VARIABLE, QUOTA_VARIABLE, settings_from
from .parser import SANDBOX_LATENCY

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

    from ..job import Report
    from ..model import Outcome
    from ..results import Batch, Destination, Failure, Summary, Validity
    from ..roster import Roster
    from ..runner import Run
    from ..sandbox import Sandbox

T = TypeVar("T")

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_KEY_REFUSED = 3
EXIT_STOPPED_EARLY = 4
EXIT_SIGNAL = 128

LEAST_DESCRIPTORS = 16
"""Files and sockets that a run needs: event loop, quota, journal, results, a few connections."""

MOST_ROWS_OF_A_HINT = 5
"""Rows that ``status`` shows for each hint; all of them are in its JSON."""

MOST_PROBLEMS_SHOWN = 20
"""Rows without a token that ``issue`` lists; all of them are in the results file."""


def say(*lines: str) -> None:
    """Lines for a person, on stderr."""
    if sys.stderr is not None:
        with suppress(OSError):  # whoever read it has left: that must not end a run
            for line in lines:
                print(line, file=sys.stderr, flush=True)


def out(*lines: str) -> None:
    """Lines for a pipe, on stdout."""
    try:
        for line in lines:
            print(line, flush=True)
    except OSError:  # whoever read it has left, or has no room for it; what was done stays done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unexpected(error: BaseException | None) -> str:
    """What may be told of an exception that nobody thought of: its text may hold a secret."""
    place = error.__traceback__ if error is not None else None
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place is not None else "?"
    return f"batch-issuer: an unexpected problem ({type(error).__name__} at {where}); this is a bug"


def _run_async(job: Coroutine[object, object, T]) -> T:
    """Run it in an event loop that shows no traceback.

    Raises:
        SettingsError: the process may open too few files.
    """

    async def quietly() -> T:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: say(unexpected(context.get("exception")), "What to do: report this line")
        )
        return await job

    try:
        _try_descriptors()
    except OSError as error:
        job.close()
        raise SettingsError(
            f"this process cannot open {LEAST_DESCRIPTORS} more files: {error.strerror}",
            "raise the limit of open files (ulimit -n 1024), or end other programs",
        ) from None
    return asyncio.run(quietly())


def _try_descriptors() -> None:
    with ExitStack() as stack:
        for _ in range(LEAST_DESCRIPTORS):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))


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
    from ..results import Failure

    return Failure(outcome.row, outcome.status, str(outcome.identifier or ""), outcome.error, outcome.hint)


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
    source = Path(options.roster)
    output = options.output
    if output is None:
        if not source.name:
            raise SettingsError(f"{options.roster or 'the empty name'} is not a file", "name the roster's file")
        output = source.with_name(f"{source.stem}.results.csv")
    settings = _settings(options, environ)
    roster = _read_roster(options.roster)
    with Destination(output, roster=source) as destination:
        validity = _validity(options, settings)
        batch = destination.begin(roster, validity, overwrite=options.overwrite, restart=options.restart)
        return _run(options, environ, settings, destination, batch, [*roster.notes, _columns_line(roster)])


def retry(options: Namespace, environ: Mapping[str, str]) -> int:
    """``retry RESULTS``: finish or refresh a results file in place."""
    from ..results import Destination

    settings = _settings(options, environ)
    with Destination(options.results) as destination:
        batch = destination.reopen(_validity(options, settings), restart=options.restart)
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
        say(*notes, *_found(batch, destination, restart=options.restart))
    report = _run_async(_issue_batch(options, environ, settings, destination, batch))
    _tell(report, destination, options)
    return _exit_code(report, destination)


def _found(batch: Batch, destination: Destination, *, restart: bool) -> Iterator[str]:
    """What earlier runs left of the rows, if there were any."""
    if destination.partial.exists() and not restart:
        yield f"Going on with {destination.partial}, which a run that did not finish has left."
    if batch.kept:
        yield f"{_amount(len(batch.kept), 'row')} of {len(batch)} with a token that is still good, left alone."
    if batch.lost:
        yield (
            f"{_amount(len(batch.lost), 'row')} of which nobody knows whether a token was issued: another is asked for."
        )
    if batch.refused:
        yield f"{_amount(len(batch.refused), 'row')} left alone: the cells name another driver than auth_identifier."
    if not batch.drivers and not batch.changed:
        yield "There is nothing to do."


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
        with _signals(run, destination, _go_on(options, destination)):
            return await issue_batch(batch, settings, destination, run=run)


def _go_on(options: Namespace, destination: Destination) -> str:
    """The command that finishes the results, for the same API."""
    flags = ["--region", options.region] if options.region else []
    flags += ["--base-url", options.base_url] if options.base_url else []
    flags += ["--sandbox"] if options.sandbox else []
    return shlex.join(["batch-issuer", "retry", str(destination.path), *flags])


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


def _tell_lacking(report: Report) -> None:
    """Rows without a good token, but for those that the ending explains."""
    explained = {Hint.NOT_ATTEMPTED, Hint.KEY} if report.ending.kind is EndingKind.KEY_REFUSED else {Hint.NOT_ATTEMPTED}
    still_valid = [one for one in report.lacking if one.token and not one.error]
    if still_valid:
        say(f"{_amount(len(still_valid), 'row')} with an earlier token that is still valid and was not renewed.")
    shown = [one for one in report.lacking if one.error and one.hint not in map(str, explained)]
    if shown:
        what = "without a good token" if any(outcome.token for outcome in shown) else "without a token"
        say(f"{_amount(len(shown), 'row')} {what}:", *_table([_failure(one) for one in shown], MOST_PROBLEMS_SHOWN))


def _tell_other_files(destination: Destination) -> None:
    if destination.aside is not None:
        say(f"What an earlier, unfinished run left is kept as {destination.aside}; it may hold tokens.")
    if destination.partial.exists():
        say(f"{destination.partial} could not be removed: it holds the same tokens, delete it.")


def _tell(report: Report, destination: Destination, options: Namespace) -> None:
    """What a person must know at the end; only what is wrong, if they asked for quiet."""
    if report.ending.kind is not EndingKind.FINISHED:
        say(f"Stopped: {report.ending.message}.", *([f"What to do: {report.ending.tip}."] if report.ending.tip else []))
        say(f"To go on: {_go_on(options, destination)}")
    _tell_lacking(report)
    _tell_other_files(destination)
    if report.path != destination.path:
        say(
            f"{destination.path} was changed meanwhile, or another program has it open: the results have another name.",
            f"What to do: look at both, and give the name to {report.path} if you can do without the other.",
        )
    elif options.quiet and report.complete:
        return
    say(_counted(len(report.outcomes), report.counts().items()))
    expiries = sorted(outcome.expires_at for outcome in report.outcomes if outcome.token and outcome.expires_at)
    if expiries:
        say(f"The first token expires at {_local(expiries[0])}.")
    if report.guarded_cells:
        say(f"{_amount(report.guarded_cells, 'roster cell')} got a leading apostrophe: a spreadsheet would run it.")
    holds_tokens = any(outcome.token for outcome in report.outcomes)
    if options.sandbox and holds_tokens:
        say("These are SANDBOX tokens: they log nobody in.")
    where = "Results (keep this file secret, it holds login tokens):" if holds_tokens else "Results (no token in it):"
    if options.quiet:
        say(f"{where} {report.path}")
    else:
        say(where)
        out(str(report.path))


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
        out(json.dumps({"results": str(options.results), "unfinished": unfinished, **_as_json(summary)}, indent=2))
    else:
        out(*_status_lines(summary))
        if summary.valid < summary.rows and not unfinished:
            out(f"To ask for the rest: {shlex.join(['batch-issuer', 'retry', str(named.path)])}")
        if unfinished:
            out(f"A run is at work or was cut off: it left {named.partial}. batch-issuer retry {named.path} goes on.")
    return EXIT_COMPLETE if summary.valid == summary.rows else EXIT_ROWS_WITHOUT_TOKEN


def _status_lines(summary: Summary) -> Iterator[str]:
    yield _counted(summary.rows, summary.counts.items())
    spoilt = f", {summary.spoilt} spoilt" if summary.spoilt else ""
    unknown = f", {summary.unknown_expiry} without a readable expiry" if summary.unknown_expiry else ""
    purged = f", {summary.purged} purged" if summary.purged else ""
    yield f"{_amount(summary.valid, 'token')} valid now, {summary.expired} expired{spoilt}{unknown}{purged}."
    if summary.next_expiry and summary.last_expiry:
        yield f"The next one expires at {_local(summary.next_expiry)}, the last one at {_local(summary.last_expiry)}."
    for hint, failures in summary.problems.items():
        yield f"{_amount(len(failures), 'row')}: {hint or 'no hint is given'}"
        for row, status, identifier, error, _ in failures[:MOST_ROWS_OF_A_HINT]:
            yield f"  row {row}{f' ({identifier})' if identifier else ''}: {status}: {error}"
        if len(failures) > MOST_ROWS_OF_A_HINT:
            yield f"  … and {len(failures) - MOST_ROWS_OF_A_HINT} more"


def _as_json(summary: Summary) -> dict[str, object]:
    """A `Summary` for scripts: times in ISO 8601, UTC."""

    def utc(at: datetime | None) -> str | None:
        return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None

    return {
        "rows": summary.rows,
        "counts": summary.counts,
        "tokens": {
            "valid": summary.valid,
            "expired": summary.expired,
            "unknown_expiry": summary.unknown_expiry,
            "spoilt": summary.spoilt,
            "purged": summary.purged,
        },
        "next_expiry": utc(summary.next_expiry),
        "last_expiry": utc(summary.last_expiry),
        "problems": [
            {"hint": hint, "rows": [{**failure._asdict(), "hint": hint} for failure in failures]}
            for hint, failures in summary.problems.items()
        ],
    }


def purge(options: Namespace, _environ: Mapping[str, str]) -> int:
    """``purge RESULTS``: blank the tokens that have expired, and their codes."""
    from ..results import Destination

    with Destination(options.results) as destination:
        blanked, unknown = destination.purge(datetime.now(UTC))
    out(f"{_amount(blanked, 'expired token')} blanked.")
    if unknown:
        say(f"{_amount(unknown, 'token')} left, for no expiry can be read of them.")
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
    out(*_run_async(_budget(settings)))
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
    _run_async(_serve(sandbox, options.port))
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
def _signals(run: Run, destination: Destination, go_on: str) -> Iterator[None]:
    """The first signal stops the run in good order, the second leaves at once."""
    signals = 0

    def handle(number: int) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            kept = f" What was issued is in {destination.partial}." if destination.partial.exists() else ""
            say("", f"Left at once.{kept}", f"To go on: {go_on}")
            os._exit(EXIT_SIGNAL + number)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        run.stop(Ending(EndingKind.INTERRUPTED, f"by {name}", signal=number))

    with _on_signal(handle):
        yield


@contextmanager
def _on_signal(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` from the event loop with the number of each SIGINT, SIGTERM or SIGHUP (a closed terminal)."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
            numbers.append(signal.SIGHUP)
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
