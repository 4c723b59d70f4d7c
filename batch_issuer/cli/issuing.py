"""``issue`` and ``retry``: the jobs, watched, then reported to people and monitors."""

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
from .commands import roster_of, selection_of
from .loop import raise_descriptor_limit, run_async, stopped_by_signals
from .messages import about_roster, found_lines, how_to_resume, say_error, tell, tell_all, warn_of_secrets
from .parser import SANDBOX_LATENCY, flags_of
from .screen import say

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
"""Files that one holds: a lock, the journal, room for the results, and one to spare."""


def issue(options: Namespace, environ: Mapping[str, str]) -> int:
    """``issue ROSTER``: the main job."""

    def plan(planner: Planner) -> list[Job]:
        if options.all:
            if options.roster or options.org:
                raise SettingsError("--all takes the rosters that the settings name", "leave out ROSTER and --org")
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
        """Do it; whatever happens, the monitors are told.

        Raises:
            BatchIssuerError: there is only one job and it could not be done, or none at all.
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
                say(f"warning: nobody will be notified: {report_options.no_notify}.")
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
            return self._tell(jobs, summaries)

    def _selection(self) -> Selection:
        """With the settings file; that it cannot be used is reported to those whom flags and environment name."""
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
                EventLog(report_options.log_file, form, on_trouble=lambda line: say(f"warning: {line}."))
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
        """What should be known of rosters and results files in advance."""
        if self._options.quiet:
            return
        warned = {""}  # one folder is one warning, however many results go there
        for job in jobs:
            if job.destination is None or job.batch is None:
                continue
            if job.destination.warning not in warned:
                warned.add(job.destination.warning)
                say(f"warning: {job.destination.warning}.")
            lines = about_roster(job.roster) if job.roster is not None else []
            lines += found_lines(job.batch, job.destination)
            say(*(f"{job.name}: {line}" if job.name and line[:1] != " " else line for line in lines))

    async def _run(self, jobs: Sequence[Job], number: int) -> None:
        options, stop = self._options, StopSignal()
        destinations = [job.destination for job in jobs if job.destination is not None]
        resume = self._how_to_resume(jobs[0]) if len(destinations) == 1 else ""
        with (
            Progress(sys.stderr or io.StringIO(), quiet=options.quiet, runs=max(1, number)) as progress,
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

    def _how_to_resume(self, job: Job) -> str:
        if job.destination is None:
            return ""
        return how_to_resume(flags_of(self._options), self._environ, job.destination, job.name)

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
        """What became of each organization."""
        if failure is not None and not any(job.error is failure for job in jobs):
            return [summarize_failure(failure, self._started_at)]
        return [summarize(one, job.error) for job in jobs for one in job.organizations]

    def _report(self, summaries: Sequence[OrganizationSummary], report_options: ReportOptions, layers: Layers) -> None:
        """Log, summary and notification: trouble with them is reported, and changes nothing."""
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
                say(f"warning: {error.message}. hint: {error.hint}.")
        address, code = report_options.notify, document["exit_code"]
        if address is not None and (code or report_options.notify_on == "always"):
            try:
                proxy, ca_file = layers.way_to(address.reveal())
                problem = run_async(notify(address, summaries, document, proxy=proxy, ca_file=ca_file))
            except BatchIssuerError as error:
                problem = error.message
            if problem:
                say(f"warning: nobody could be notified: {problem}.")

    def _tell(self, jobs: Sequence[Job], summaries: Sequence[OrganizationSummary]) -> int:
        code = worst(one.exit_code for one in summaries)
        for job in jobs:
            if job.error is not None:
                say_error(job.error, job.name)
                continue
            for one in job.organizations:
                if one.error is not None:
                    say_error(one.error, one.name)
            if job.result is not None and job.destination is not None:
                endings = {one.name: one.ending for one in job.organizations if one.ending is not None}
                tell(job.result, job.destination, self._options, job.name, endings, self._how_to_resume(job))
        if len(summaries) > 1 and (code or not self._options.quiet):
            tell_all(summaries)
        return code


def _check_log(path: Path) -> None:
    """See that no other kind of file would get the lines of a log.

    Raises:
        SettingsError: it would.
    """
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError:  # there is none, or opening it will tell
        return
    if start and not re.match(rb'\s*(?:\{"time": "|\d{4}-\d\d-\d\dT)', start):
        raise SettingsError(f"{path} is no log of this program", "name another file for --log-file")
