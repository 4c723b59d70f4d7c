"""``issue`` and ``retry`` at work: all tasks at once, watched, then told to people and monitors."""

from __future__ import annotations

import io
import re
import signal
import sys
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from ..errors import BatchIssuerError, SettingsError, StorageError
from ..pipeline.endings import FINISHED, EndingKind
from ..reporting.exit_codes import EXIT_SIGNAL, EXIT_STOPPED_EARLY, exit_code_of, exit_code_of_ending
from ..reporting.notification import notify
from ..settings.file import UNASSIGNED
from ..settings.layers import Choice
from .loop import raise_descriptor_limit, run_async, stopped_by_signals
from .messages import found_lines, go_on, say, say_error, tell, tell_all, unexpected, warn_of_secrets
from .parser import SANDBOX_LATENCY
from .tasks import Preparation, Task

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ..api.client import Connections
    from ..jobs.job import Report, Share
    from ..model import Outcome
    from ..pipeline.events import Event
    from ..pipeline.run import Run
    from ..reporting.event_log import EventLog
    from ..reporting.progress import Progress
    from ..reporting.summary import Entry
    from ..settings.layers import ReportOptions
    from ..settings.run_settings import Settings

MOST_IN_FLIGHT = 400
"""Requests of all organizations together, so that neither sockets nor memory run out."""

DESCRIPTORS_OF_A_TASK = 4
"""Files that one holds: a lock, the journal, room for the results, and one to spare."""


def issue(options: Namespace, environ: Mapping[str, str]) -> int:
    """``issue ROSTER``: the main job."""
    return _Command(options, environ).run(Preparation.to_issue)


def retry(options: Namespace, environ: Mapping[str, str]) -> int:
    """``retry RESULTS``: finish or refresh a results file in place."""
    return _Command(options, environ).run(Preparation.to_retry)


@dataclass(slots=True)
class _Running:
    """A task that is at work: the share of each organization, and in the end the report."""

    task: Task
    shares: dict[str, Share]
    report: Report | None = None

    def run_of(self, name: str) -> Run | None:
        """The run of an organization, if there was one."""
        share = self.shares.get(name)
        return share.run if share is not None else None


class _Command:
    """One ``issue`` or ``retry``."""

    def __init__(self, options: Namespace, environ: Mapping[str, str]) -> None:
        self._options, self._environ = options, environ
        self._begun_at = datetime.now(UTC)
        self._running: list[_Running] = []
        self._log: EventLog | None = None
        self._warned: list[str] = []  # one folder is one warning, however many results go there

    def run(self, tasks_of: Callable[[Preparation], list[Task]]) -> int:
        """Do it; whatever happens, the monitors are told.

        Raises:
            BatchIssuerError: there is only one task and it could not be done, or none at all.
        """
        from ..reporting.summary import check_summary

        options = self._options
        warn_of_secrets(options)
        with ExitStack() as stack:
            preparation = stack.enter_context(self._prepare())
            if len(preparation.file.organizations) > 1:
                raise_descriptor_limit()
            report_options = preparation.choice().report_options()
            if report_options.no_notify:
                say(f"Warning: nobody will be notified: {report_options.no_notify}.")
            if report_options.summary is not None:
                check_summary(report_options.summary)
            self._open_log(report_options, stack)
            if preparation.file.path and not options.config and not options.quiet:
                say(f"Settings: {preparation.file.path}")
            tasks: list[Task] = []
            failure: BaseException | None = None
            try:
                tasks = tasks_of(preparation)
                self._work(tasks, preparation)
            except (Exception, KeyboardInterrupt) as error:
                failure = error
                raise
            finally:
                entries = self._entries(tasks, failure)
                self._hand_out(entries, report_options, preparation.choice())
            return self._tell(tasks, entries)

    def _prepare(self) -> Preparation:
        """With the settings file; that it cannot be used is told to those whom flags and environment name."""
        try:
            return Preparation(self._options, self._environ)
        except BatchIssuerError as error:
            choice = Choice(self._options, self._environ)
            self._hand_out([self._failed(None, "", error, datetime.now(UTC))], choice.report_options(), choice)
            raise

    def _open_log(self, report_options: ReportOptions, stack: ExitStack) -> None:
        if report_options.log_file is not None:
            from ..reporting.event_log import EventLog

            _check_log(report_options.log_file)
            form: Literal["text", "json"] = "json" if report_options.log_format == "json" else "text"
            self._log = stack.enter_context(
                EventLog(report_options.log_file, form, on_trouble=lambda line: say(f"Warning: {line}."))
            )

    def _work(self, tasks: Sequence[Task], preparation: Preparation) -> None:
        settings = preparation.settings(tasks)
        if len(tasks) == 1 and tasks[0].error is not None:
            raise tasks[0].error
        ready = [task for task in tasks if task.error is None]
        for task in ready:
            self._introduce(task)
        run_async(
            self._issue(ready, settings),
            descriptors=DESCRIPTORS_OF_A_TASK * len(ready) + (MOST_IN_FLIGHT if len(ready) > 1 else 0),
        )
        if len(tasks) == 1 and tasks[0].error is not None:
            raise tasks[0].error

    def _introduce(self, task: Task) -> None:
        """What is to be known of a roster and a results file beforehand."""
        if self._options.quiet or task.destination is None or task.batch is None:
            return
        if task.destination.warning not in ("", *self._warned):
            self._warned.append(task.destination.warning)
            say(f"Warning: {task.destination.warning}.")
        lines = [*task.notes, *found_lines(task.batch, task.destination, restart=self._options.restart)]
        say(*(f"{task.name}: {line}" if task.name and line[:1] != " " else line for line in lines))

    async def _issue(self, tasks: Sequence[Task], settings: dict[str, Settings]) -> None:
        import asyncio

        from ..api.client import open_connections
        from ..jobs.job import Share
        from ..pipeline.endings import StopSignal
        from ..reporting.progress import Progress

        async with AsyncExitStack() as stack:
            if self._options.sandbox:
                settings = {
                    choice.organization: await self._sandbox(choice, stack) for task in tasks for choice in task.choices
                }
            connections: Connections | None = None
            number = sum(len(task.choices) for task in tasks)
            if number > 1:
                ca_file = self._environ.get("SSL_CERT_FILE") or None
                connections = await stack.enter_async_context(open_connections(ca_file, MOST_IN_FLIGHT))
            stream = sys.stderr or io.StringIO()
            progress = stack.enter_context(Progress(stream, quiet=self._options.quiet, runs=max(1, number)))
            stop = StopSignal()
            for task in tasks:
                shares = {
                    choice.organization: Share(
                        settings[choice.organization],
                        task.drivers_of(choice),
                        stop,
                        self._observer(progress, choice.organization, alone=number == 1),
                    )
                    for choice in task.choices
                }
                self._running.append(_Running(task, shares))
            with stopped_by_signals(
                stop,
                [task.destination for task in tasks if task.destination is not None],
                go_on(self._options, tasks[0].destination, tasks[0].name)
                if len(tasks) == 1 and tasks[0].destination
                else "",
            ):
                await asyncio.gather(*(self._one(running, connections) for running in self._running))

    async def _sandbox(self, choice: Choice, stack: AsyncExitStack) -> Settings:
        from ..sandbox import Sandbox

        rate = choice.rate()
        sandbox = await stack.enter_async_context(Sandbox(limit=rate.limit, per=rate.period, latency=SANDBOX_LATENCY))
        return choice.settings(sandbox=(sandbox.url, sandbox.api_token))

    def _observer(self, progress: Progress, organization: str, *, alone: bool) -> Callable[[Event], None]:
        shown: Callable[[Event], None] = progress if alone else progress.of(organization)
        if self._log is None:
            return shown
        logged = self._log.observer(organization)

        def both(event: Event) -> None:
            logged(event)
            shown(event)

        return both

    async def _one(self, running: _Running, connections: Connections | None) -> None:
        """One task to its end; what goes wrong leaves the others alone."""
        from ..jobs.job import issue_shares

        task = running.task
        if task.batch is None or task.destination is None:
            return
        shares = [*running.shares.values()]
        try:
            running.report = await issue_shares(task.batch, shares, task.destination, connections=connections)
        except BatchIssuerError as error:
            task.error = error
        except Exception as error:
            if len(self._running) == 1:
                raise
            task.error = StorageError(unexpected(error).removeprefix("batch-issuer: "), "report this line")

    # --- afterwards

    def _entries(self, tasks: Sequence[Task], failure: BaseException | None) -> list[Entry]:
        """What became of each organization."""
        now = datetime.now(UTC)
        running = {id(one.task): one for one in self._running}
        entries = [entry for task in tasks for entry in self._entries_of(task, running.get(id(task)), now)]
        told = any(task.error is failure for task in tasks)
        if failure is not None and not told:
            entries = [self._failed(None, "", failure, now)]
        return entries

    def _entries_of(self, task: Task, running: _Running | None, now: datetime) -> list[Entry]:
        from ..reporting.summary import Entry

        if running is None or running.report is None:
            names = [choice.organization for choice in task.choices] or [UNASSIGNED]
            return [self._failed(task, name, task.error, now, running) for name in names]
        report, moved = running.report, task.destination is not None and running.report.path != task.destination.path
        found = []
        for name in self._names(task):
            run = running.run_of(name)
            outcomes, lacking = self._part(task, report, name)
            ending = (run.ending if run is not None else None) or FINISHED
            if why := task.left_out.get(name):
                found.append(replace(self._failed(task, name, why, now), outcomes=outcomes, lacking=len(lacking)))
                continue
            found.append(
                Entry(
                    organization=name,
                    exit_code=exit_code_of_ending(ending, complete=not lacking, moved=moved),
                    ending=str(ending.kind),
                    message=ending.message,
                    tip=ending.tip,
                    roster=task.source,
                    results=str(report.path),
                    outcomes=outcomes,
                    lacking=len(lacking),
                    started_at=self._begun_at,
                    ended_at=now,
                    rate=running.shares[name].settings.rate if name in running.shares else None,
                    tally=run.usage if run is not None else None,
                )
            )
        return found

    def _names(self, task: Task) -> list[str]:
        """The organizations with rows in a task, one for the rows of none included."""
        names = [*(choice.organization for choice in task.choices), *task.left_out]
        batch = task.batch
        nobodys = batch is not None and any(batch.organizations) and "" in batch.organizations
        if not names or (nobodys and not self._options.org):
            names.append(UNASSIGNED)
        return names

    def _part(self, task: Task, report: Report, name: str) -> tuple[list[Outcome], list[Outcome]]:
        """The outcomes of an organization's rows, and those of them that lack a token."""
        batch = task.batch
        if batch is None or not any(batch.organizations):
            return report.outcomes, report.lacking
        whose = "" if name == UNASSIGNED else name
        return (
            [one for one in report.outcomes if batch.organization_of(one.row) == whose],
            [one for one in report.lacking if batch.organization_of(one.row) == whose],
        )

    def _failed(
        self, task: Task | None, name: str, error: BaseException | None, now: datetime, running: _Running | None = None
    ) -> Entry:
        """What became of one that did not come to its end."""
        from ..reporting.summary import Entry

        if isinstance(error, BatchIssuerError):
            code, message, tip = exit_code_of(error), error.message, error.tip
        elif isinstance(error, KeyboardInterrupt) or error is None:
            code, message, tip = EXIT_SIGNAL + signal.SIGINT, "it was interrupted", ""
        else:
            code, message, tip = (
                EXIT_STOPPED_EARLY,
                unexpected(error).removeprefix("batch-issuer: "),
                "report this line",
            )
        run = running.run_of(name) if running is not None else None
        outcomes = list(run.outcomes.values()) if run is not None else []
        return Entry(
            organization=name,
            exit_code=code,
            ending=str(EndingKind.STORAGE) if isinstance(error, StorageError) else "not started",
            message=message,
            tip=tip,
            roster=task.source if task is not None else "",
            started_at=self._begun_at,
            ended_at=now,
            outcomes=outcomes,
            lacking=sum(not outcome.token for outcome in outcomes),
            tally=run.usage if run is not None else None,
        )

    def _hand_out(self, entries: Sequence[Entry], report_options: ReportOptions, choice: Choice) -> None:
        """Log, summary and notification: trouble with them is told, and changes nothing."""
        from ..reporting.summary import summary, worst, write_summary

        if self._log is not None:
            for entry in entries:
                self._log.ended(
                    entry.organization,
                    exit_code=entry.exit_code,
                    ending=entry.ending,
                    message=entry.message,
                    rows=len(entry.outcomes),
                    issued=sum(bool(outcome.token) for outcome in entry.outcomes),
                    results=entry.results or None,
                )
        document = summary(entries, self._begun_at, datetime.now(UTC))
        if report_options.summary is not None:
            try:
                write_summary(report_options.summary, document)
            except BatchIssuerError as error:
                say(f"Warning: {error.message}. What to do: {error.tip}.")
        code = worst(entry.exit_code for entry in entries)
        if report_options.notify is not None and (code or report_options.notify_on == "always"):
            problem = run_async(notify(report_options.notify, choice, entries, document))
            if problem:
                say(f"Warning: nobody could be notified: {problem}.")

    def _tell(self, tasks: Sequence[Task], entries: Sequence[Entry]) -> int:
        from ..reporting.summary import worst

        code = worst(entry.exit_code for entry in entries)
        running = {id(one.task): one for one in self._running}
        for task in tasks:
            one = running.get(id(task))
            if task.error is not None:
                say_error(task.error, task.name)
                continue
            for name, error in task.left_out.items():
                say_error(error, name)
            if one is not None and one.report is not None and task.destination is not None:
                endings = {
                    name: share.run.ending for name, share in one.shares.items() if share.run and share.run.ending
                }
                tell(one.report, task.destination, self._options, task.name, endings)
        if len(entries) > 1 and (code or not self._options.quiet):
            tell_all(entries)
        return code


def _check_log(path: Path) -> None:
    """See that no other kind of file would get the lines of a log.

    Raises:
        SettingsError: it would.
    """
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError:  # there is none, or it will be told
        return
    if start and not re.match(rb'\s*(?:\{"time": "|\d{4}-\d\d-\d\dT)', start):
        raise SettingsError(f"{path} is no log of this program", "name another file for --log-file")
