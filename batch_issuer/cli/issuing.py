"""``issue`` and ``retry``: run the jobs, show their progress, then report to people and monitors."""

from __future__ import annotations

import io
import re
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ..api.client import MOST_IN_FLIGHT
from ..errors import BatchIssuerError, SettingsError
from ..jobs.organizations import run_jobs
from ..jobs.planning import Planner
from ..pipeline.endings import StopSignal
from ..reporting.event_log import EventLog
from ..reporting.exit_codes import worst
from ..reporting.notification import notify
from ..reporting.progress import Progress
from ..reporting.summary import check_summary, summarize, summarize_failure, summary_document, write_summary
from ..settings.layers import Layers
from .commands import refuse_all_with, roster_of, selection_of
from .loop import raise_descriptor_limit, run_async, stopped_by_signals
from .messages import (
    MOST_COMMANDS,
    about_roster,
    of_organization,
    print_endings,
    print_error,
    print_next,
    print_organizations,
    print_other_files,
    print_results,
    print_rows_without_token,
    resume_command,
    resumed_lines,
    say_command,
    warn_of_secrets,
)
from .parser import SANDBOX_LATENCY, flags_of
from .screen import Screen, say

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from ..jobs.records import Job
    from ..pipeline.events import Event
    from ..reporting.summary import OrganizationSummary
    from ..settings.layers import ReportOptions
    from ..settings.selection import Selection

DESCRIPTORS_OF_A_JOB = 4
"""Files that a job has open: a lock, the journal, room for the results, and one to spare."""


def issue(options: Namespace, environ: Mapping[str, str]) -> int:
    """``issue ROSTER``: the main job."""

    def plan(planner: Planner) -> list[Job]:
        if options.all:
            refuse_all_with(options)
            return planner.issue_all()
        return planner.issue_named() if options.roster is None else planner.issue_roster(roster_of(options))

    return _Command(options, environ).run(plan)


def retry(options: Namespace, environ: Mapping[str, str]) -> int:
    """``retry RESULTS``: finish or renew a results file in place."""
    return _Command(options, environ).run(lambda planner: planner.retry(options.results))


class _Command:
    """One ``issue`` or ``retry``."""

    def __init__(self, options: Namespace, environ: Mapping[str, str]) -> None:
        self._options, self._environ = options, environ
        self._started_at = datetime.now(UTC)
        self._log: EventLog | None = None

    def run(self, plan: Callable[[Planner], list[Job]]) -> int:
        """Do it, and report to the monitors, whatever happens.

        Raises:
            BatchIssuerError: the only job could not be done, or no job could be planned.
        """
        options = self._options
        warn_of_secrets(options)
        with ExitStack() as stack:
            selection = self._selection()
            planner = stack.enter_context(
                Planner(
                    selection,
                    overwrite=options.overwrite,
                    sandbox=options.sandbox,
                )
            )
            if len(selection.file.organizations) > 1:
                raise_descriptor_limit()
            report_options = selection.layers().report_options()
            if report_options.no_notify:
                say(f"warning: nobody will be notified: {report_options.no_notify}")
            if report_options.summary is not None:
                check_summary(report_options.summary)
            self._open_log(report_options, stack)
            if selection.file.path and not options.config and not options.quiet:
                say(f"Settings: {selection.file.path}")
            jobs: list[Job] = []
            failure: BaseException | None = None
            try:
                jobs = plan(planner)
                self._work(jobs)
            except (Exception, KeyboardInterrupt) as error:
                failure = error
                raise
            finally:
                summaries = self._summaries(jobs, failure)
                self._report(summaries, report_options, selection.layers())
            return self._print(jobs, summaries)

    def _selection(self) -> Selection:
        """With the settings file; one that cannot be used is reported to the monitors that flags and variables name."""
        try:
            return selection_of(self._options, self._environ)
        except BatchIssuerError as error:
            layers = Layers(flags=flags_of(self._options), environ=self._environ)
            self._report([summarize_failure(error, self._started_at)], layers.report_options(), layers)
            raise

    def _open_log(self, report_options: ReportOptions, stack: ExitStack) -> None:
        if report_options.log_file is not None:
            _check_log(report_options.log_file)
            form: Literal["text", "json"] = "json" if report_options.log_format == "json" else "text"
            self._log = stack.enter_context(
                EventLog(report_options.log_file, form, on_trouble=lambda line: say(f"warning: {line}"))
            )

    def _work(self, jobs: Sequence[Job]) -> None:
        if len(jobs) == 1 and jobs[0].error is not None:
            raise jobs[0].error
        ready = [job for job in jobs if job.error is None]
        self._introduce(ready)
        number = sum(one.is_asked for job in ready for one in job.organizations)
        run_async(
            self._run(ready, number),
            descriptors=DESCRIPTORS_OF_A_JOB * len(ready) + (MOST_IN_FLIGHT if number > 1 else 0),
        )
        if len(jobs) == 1 and jobs[0].error is not None:
            raise jobs[0].error

    def _introduce(self, jobs: Iterable[Job]) -> None:
        """What to know of rosters and results files before anything is sent."""
        if self._options.quiet:
            return
        warned = {""}  # one folder is one warning, however many results go there
        for job in jobs:
            if job.destination is None or job.batch is None:
                continue
            if job.destination.warning not in warned:
                warned.add(job.destination.warning)
                say(f"warning: {job.destination.warning}")
            lines = [*about_roster(job), *resumed_lines(job.batch, job.destination)]
            say(*(of_organization(line, job.name) for line in lines))

    async def _run(self, jobs: Sequence[Job], number: int) -> None:
        options, stop = self._options, StopSignal()
        stream = sys.stderr or io.StringIO()
        screen = Screen(stream)
        destinations = [job.destination for job in jobs if job.destination is not None]
        resume = self._resume_command(jobs[0])[0] if len(destinations) == 1 else ""
        with (
            Progress(
                stream, quiet=options.quiet, runs=max(1, number), bar=screen.is_terminal, render=screen.render
            ) as progress,
            stopped_by_signals(stop, destinations, resume),
        ):
            await run_jobs(
                jobs,
                stop=stop,
                observers={
                    one.name: self._observer(progress if number == 1 else progress.of(one.name), one.name)
                    for job in jobs
                    for one in job.organizations
                },
                sandbox=SANDBOX_LATENCY if options.sandbox else None,
                ca_file=self._environ.get("SSL_CERT_FILE") or None,
            )

    def _resume_command(self, job: Job) -> tuple[str, str]:
        if job.destination is None:
            return "", ""
        return resume_command(flags_of(self._options), self._environ, job.destination, job.name)

    def _observer(self, shown: Callable[[Event], None], organization: str) -> Callable[[Event], None]:
        if self._log is None:
            return shown
        logged = self._log.observer(organization)

        def both(event: Event) -> None:
            logged(event)
            shown(event)

        return both

    # --- afterwards

    def _summaries(self, jobs: Sequence[Job], failure: BaseException | None) -> list[OrganizationSummary]:
        """The result of each organization."""
        if failure is not None and not any(job.error is failure for job in jobs):
            return [summarize_failure(failure, self._started_at)]
        return [summarize(one, job.error) for job in jobs for one in job.organizations]

    def _report(self, summaries: Sequence[OrganizationSummary], report_options: ReportOptions, layers: Layers) -> None:
        """Log, summary and notification: a failure of theirs is reported but does not affect the run."""
        if self._log is not None:
            for one in summaries:
                self._log.ended(
                    one.organization,
                    exit_code=one.exit_code,
                    ending=one.ending,
                    message=one.message,
                    rows=one.rows,
                    issued=one.tokens,
                    results=one.results or None,
                )
        document = summary_document(summaries, self._started_at, datetime.now(UTC))
        if report_options.summary is not None:
            try:
                write_summary(report_options.summary, document)
            except BatchIssuerError as error:
                say(f"warning: {error.message}", f"hint: {error.hint}")
        address, code = report_options.notify, document["exit_code"]
        if address is not None and (code or report_options.notify_on == "always"):
            try:
                proxy, ca_file = layers.way_to(address.reveal())
                problem = run_async(notify(address, summaries, document, proxy=proxy, ca_file=ca_file))
            except BatchIssuerError as error:
                problem = error.message
            if problem:
                say(f"warning: the notification failed: {problem}")

    def _print(self, jobs: Sequence[Job], summaries: Sequence[OrganizationSummary]) -> int:
        """The result, for a person; only what is wrong, if they asked for quiet."""
        code, quiet, sandbox = worst(one.exit_code for one in summaries), self._options.quiet, self._options.sandbox
        stopped = print_endings({one.name: one.ending for job in jobs for one in job.organizations})
        for job in jobs:
            self._print_problems(job)
        if quiet and not code:
            return code
        if len(summaries) > 1:
            print_organizations(summaries, quiet=quiet)
        done = [job for job in jobs if job.result is not None]
        incomplete = [job for job in done if job.result and not job.result.complete]
        if results := [job.result for job in (incomplete if quiet else done) if job.result]:
            seconds = (datetime.now(UTC) - self._started_at).total_seconds()
            print_results(results, seconds, quiet=quiet, sandbox=sandbox)
        if incomplete:
            missing = any(not outcome.token for job in incomplete if job.result for outcome in job.result.outcomes)
            what = "request the missing" if missing else "renew the remaining"
            why = "To resume" if stopped else f"To {what} login tokens"
            more = f", the first {MOST_COMMANDS} of {len(incomplete)}" if len(incomplete) > MOST_COMMANDS else ""
            say_command(f"{why}{more}:", *map(self._resume_command, incomplete[:MOST_COMMANDS]))
        elif len(done) == 1 and not quiet:
            print_next(self._resume_command(done[0]), sandbox=sandbox)
        return code

    def _print_problems(self, job: Job) -> None:
        """What went wrong with a job, apart from the reasons why its runs stopped."""
        for error, name in [(job.error, job.name), *((one.error, one.name) for one in job.organizations)]:
            if error is not None:
                print_error(error, name)
                if error is job.error:
                    return
        print_rows_without_token(job)
        print_other_files(job, quiet=self._options.quiet)


def _check_log(path: Path) -> None:
    """Refuse a file of another kind as the log.

    Raises:
        SettingsError: it would.
    """
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError:  # there is none, or opening it will tell
        return
    if start and not re.match(rb'\s*(?:\{"time": "|\d{4}-\d\d-\d\dT)', start):
        raise SettingsError(f"{path} exists and is not a log of batch-issuer", "choose another file for --log-file")
