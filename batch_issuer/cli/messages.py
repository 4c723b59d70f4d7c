"""What the commands print: sentences and lists, in the order that a person reads them. Nothing here decides anything.

Imports nothing heavy, so that a mistyped flag is reported at once.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..settings.resume_command import resume_flags, resume_variables
from ..wording import amount, command_text, duration_text, local, utc_text
from .groups import group_lines, row_list, warning_lines
from .screen import CROSS, LABELS, TICK, out, say, say_table

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from ..errors import BatchIssuerError
    from ..jobs.records import Job, JobResult
    from ..model import IdentifierKind, Outcome
    from ..pipeline.endings import Ending
    from ..reporting.summary import OrganizationSummary
    from ..results import Batch, Destination, Failure, FileStatus
    from ..roster import Column, Roster
    from ..settings.run_settings import Rate

MOST_COMMANDS = 5
"""Commands to run next that are listed, of many organizations."""


# --- a roster


def identified_by(roster: Roster) -> str:
    """Which columns name the drivers of a roster."""
    from ..roster import LABELS, plain

    def described(kind: IdentifierKind, column: Column) -> str:
        what = f"{LABELS[kind]} {column.key}".strip()
        return repr(column.name) if plain(column.name) == plain(what) else f"{column.name!r} ({what})"

    first, *others = (described(kind, column) for kind, column in roster.named_by.sent.items())
    return f"Drivers are identified by column {first}{''.join(f', otherwise by {other}' for other in others)}."


def takes_text(seconds: float, rate: Rate | None = None) -> str:
    """``; issuing takes about 1 s at 100/min``, or nothing for no time."""
    return f"; issuing takes about {duration_text(seconds)}{f' at {rate}' if rate else ''}" if seconds else ""


def by_kind_lines(roster: Roster) -> Iterator[str]:
    """Which rows of a roster can be sent, by the kind of identifier."""
    from ..roster import LABELS

    for kind, rows in roster.rows_by_kind().items():
        if rows:
            yield f"  {len(rows)} by {LABELS[kind]}: {row_list(rows, {}, in_full=True)}"


def by_organization_lines(roster: Roster) -> Iterator[str]:
    """How many rows of a roster can be sent for which organization, if there are several."""
    if roster.options.organization_column:
        for name in roster.options.organizations:
            if drivers := roster.of_organization(name):
                yield f"  {len(drivers)} for {name}"


def warnings_of(roster: Roster, *, in_full: bool = False) -> Iterator[str]:
    """Rows of a roster that are sent although something about them looks wrong."""
    return warning_lines(roster.warnings, names_of(roster.frame, roster.warnings), in_full=in_full)


def refused_lines(roster: Roster) -> Iterator[str]:
    """Rows of a roster that cannot be sent, all of them."""
    rows = [_failure(outcome) for outcome in roster.refused]
    return group_lines(rows, names_of(roster.frame, [row.row for row in rows]), in_full=True)


def names_of(cells: pd.DataFrame, rows: Iterable[int]) -> dict[int, str]:
    """The drivers' names in some rows, by row number, as far as the table has any."""
    from ..roster import HEADER_ROW, driver_names

    wanted = [*rows]
    names = driver_names(cells.iloc[[row - HEADER_ROW - 1 for row in wanted]]) if wanted else None
    return {} if names is None else dict(zip(wanted, names, strict=True))


def _failure(outcome: Outcome) -> Failure:
    from ..results import Failure

    return Failure(outcome.row, outcome.status, str(outcome.identifier or ""), outcome.error, outcome.hint)


# --- before a run


def resumed_lines(batch: Batch, destination: Destination) -> Iterator[str]:
    """What earlier runs left of the rows, if there were any."""
    if destination.resumes:
        yield f"Resuming the run that left {destination.partial}."
    if not batch.drivers and not batch.changed:
        yield "Nothing to do."
        return
    if batch.kept:
        yield f"Keeping {amount(len(batch.kept), 'valid login token')}."
    if batch.lost:
        yield f"{amount(len(batch.lost), 'row')} may have lost a login token; requesting new ones."
    if batch.unclear:
        yield f"{amount(len(batch.unclear), 'row')} skipped: driver unclear (see auth_error)."


def about_roster(job: Job) -> list[str]:
    """What to know of a job's roster before it is issued for; of several, only what is unusual."""
    if (roster := job.roster) is None:
        return []
    lines = [*roster.notes, *([] if job.name else [identified_by(roster)]), *warnings_of(roster)]
    if refused := job.refused:
        lines.append(f"{amount(len(refused), 'row')} cannot be sent; listed at the end.")
    return lines


def warn_of_secrets(options: Namespace) -> None:
    """Arguments are no place for a secret."""
    from ..settings.addresses import may_hold_password
    from ..settings.layers import QUOTA_VARIABLE

    if may_hold_password(options.quota or ""):
        say(
            "warning: other users of this computer can see the password in --quota",
            f"hint: set the environment variable {QUOTA_VARIABLE} instead",
        )


# --- after a run


def resume_command(
    flags: Mapping[str, Any], environ: Mapping[str, str], destination: Destination, organization: str = ""
) -> tuple[str, str]:
    """The command that finishes the results under the same conditions, and what to do before; blank for nothing."""
    if organization:
        flags = {"org": organization, **flags}
    command = command_text("batch-issuer", "retry", str(destination.path), *resume_flags(flags, environ))
    names = resume_variables(flags, environ)
    return command, f"set {' and '.join(names)} to the same secret" if names else ""


def say_command(why: str, *commands: tuple[str, str]) -> None:
    """A command to run next, on a line of its own to copy."""
    say(why)
    for command, before in commands:
        say(f"  {command}", as_is=True)
        if before:
            say(f"  (first {before})")


def print_error(error: BatchIssuerError, organization: str = "") -> None:
    """An error, and what to do about it."""
    say(of_organization(f"error: {error.message}", organization), *([f"hint: {error.hint}"] if error.hint else []))


def of_organization(line: str, name: str) -> str:
    """A line with the name of its organization, unless it contains that; an indented one belongs to the last."""
    if not name or line.startswith(" ") or re.search(rf" of {re.escape(name)}\b", line):
        return line
    label = next((f"{word}: " for word in LABELS if line.startswith(f"{word}: ")), "")
    return f"{label}{name}: {line.removeprefix(label)}"


def print_endings(endings: Mapping[str, Ending | None]) -> bool:
    """Why runs stopped early, each reason once; whether any did.

    Args:
        endings: by organization, None without a run; those that stopped for a reason are named unless all did.
    """
    from ..pipeline.endings import EndingKind

    early: dict[tuple[EndingKind, str, str], list[str]] = {}
    for name, ending in endings.items():
        if ending is not None and ending.kind is not EndingKind.FINISHED:
            early.setdefault((ending.kind, ending.message, ending.hint), []).append(name)
    for (kind, message, hint), names in early.items():
        if kind is EndingKind.INTERRUPTED:
            say(f"{message[:1].upper()}{message[1:]}.")
        else:
            say(of_organization(f"error: {message}", ", ".join(names) if len(names) < len(endings) else ""))
        if hint:
            say(f"hint: {hint}")
    return bool(early)


def print_rows_without_token(job: Job) -> None:
    """Rows of a finished job without a good token, except those that the runs' endings explain."""
    from ..hints import Hint
    from ..pipeline.endings import EndingKind

    if job.result is None or job.batch is None:
        return
    explained = {Hint.NOT_ATTEMPTED}
    if any(one.ending and one.ending.kind is EndingKind.UNAUTHORIZED for one in job.organizations):
        explained |= {Hint.API_TOKEN_INVALID, Hint.API_TOKEN_FORBIDDEN}
    still_valid = [one for one in job.result.without_token if one.token and not one.error]
    if still_valid:
        line = f"{amount(len(still_valid), 'earlier login token')} kept: still valid, but not renewed."
        say(of_organization(line, job.name))
    rows = [_failure(one) for one in job.result.without_token if one.error and one.hint not in map(str, explained)]
    if rows and job.name:
        say(f"{job.name}:")
    say(*group_lines(rows, names_of(job.batch.cells, [row.row for row in rows])))


def print_other_files(job: Job, *, quiet: bool) -> None:
    """Files besides the results that a person should know of."""
    destination, result = job.destination, job.result
    if destination is None or result is None:
        return
    if destination.aside is not None:
        say(f"The journal of the interrupted run is kept as {destination.aside}; it may contain login tokens.")
    if destination.partial.exists():
        say(
            f"warning: {destination.partial} could not be removed",
            "hint: delete it; it contains the same login tokens as the results",
        )
    if result.path != destination.path:
        say(
            f"warning: {destination.path} was changed during the run, or is open in another program; "
            f"the results are in {result.path}",
            f"hint: compare the two files, then rename {result.path.name} if the other one is not needed",
        )
    if result.guarded_cells and not quiet:
        cells = amount(result.guarded_cells, "roster cell")
        line = f"{cells} got a leading apostrophe, so that no spreadsheet program runs it as a formula."
        say(of_organization(line, job.name))


def print_results(results: Sequence[JobResult], seconds: float, *, quiet: bool, sandbox: bool) -> None:
    """How many rows have a login token, from when on they expire, and the files with them.

    Args:
        results: of one roster or several.
        seconds: since the command began.
        quiet: whether the files go to stderr, too.
        sandbox: whether the tokens are from the sandbox.
    """
    from ..model import Status

    outcomes = [outcome for result in results for outcome in result.outcomes]
    tokens = sum(bool(outcome.token) for outcome in outcomes)
    complete = all(result.complete for result in results)
    counts = Counter(outcome.status for outcome in outcomes)
    by_status = "" if complete else f": {counts_text((status, counts[status]) for status in Status)}"
    have = "has" if len(outcomes) == 1 else "have"
    sign = TICK if complete else CROSS
    say(f"{sign} {tokens} of {amount(len(outcomes), 'row')} {have} a login token{by_status} ({_took(seconds)}).")
    expiries = [outcome.expires_at for outcome in outcomes if outcome.token and outcome.expires_at]
    if expiries:
        say(f"The first one expires at {local(min(expiries))}.")
    if not tokens:
        say("Results (no login token in them):")
    elif sandbox:
        say("Results (sandbox login tokens, which cannot be used to log in):")
    else:
        say("Results (they contain login tokens: keep them secret):")
    for result in results:
        (say if quiet else out)(str(result.path), as_is=True)


def print_next(renewal: tuple[str, str], *, sandbox: bool) -> None:
    """What to do after a run that left nothing to do.

    Args:
        renewal: the command that renews the tokens, and what to do before.
        sandbox: whether the tokens are from the sandbox.
    """
    if sandbox:
        say("For real login tokens, run the same command with an API token and without --sandbox.")
    else:
        say_command("To renew login tokens that have expired:", renewal)


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration_text(seconds)  # noqa: PLR2004 - as people say it


def counts_text(counts: Iterable[tuple[str, int]]) -> str:
    """``50 issued, 10 failed``."""
    return ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts if number) or "none"


def print_organizations(summaries: Sequence[OrganizationSummary], *, quiet: bool) -> None:
    """A line for each organization, those with trouble last; only those if ``quiet``."""
    rows = [
        (
            f"{CROSS if one.exit_code else TICK} {one.organization}",
            f"{one.tokens} of {one.rows}" if one.rows else "-",
            local(one.first_expiry) if one.first_expiry else "",
            _result(one),
        )
        for one in sorted(summaries, key=lambda each: bool(each.exit_code))
        if one.exit_code or not quiet
    ]
    say_table([("  organization", "login tokens", "first expiry", "result"), *rows])


def _result(one: OrganizationSummary) -> str:
    from ..model import Status

    code = f" (exit {one.exit_code})" if one.exit_code else ""
    if one.ending != "finished":
        return f"{'nothing sent' if one.ending == 'not started' else one.ending}{code}"
    without = [(status, one.counts.get(status, 0)) for status in map(str, Status) if status != Status.ISSUED]
    return f"{counts_text(without)}{code}" if any(number for _, number in without) else f"complete{code}"


# --- a results file


def status_lines(summary: FileStatus, names: Mapping[int, str]) -> Iterator[str]:
    """A `FileStatus` for a person."""
    sign = TICK if summary.valid == summary.rows else CROSS
    yield f"{sign} {amount(summary.rows, 'row')}: {counts_text(summary.counts.items())}."
    corrupted = f", {summary.corrupted} corrupted" if summary.corrupted else ""
    unknown = f", {summary.unknown_expiry} without a readable expiry" if summary.unknown_expiry else ""
    purged = f", {summary.purged} purged" if summary.purged else ""
    yield f"{amount(summary.valid, 'login token')} valid now, {summary.expired} expired{corrupted}{unknown}{purged}."
    if summary.next_expiry and summary.last_expiry:
        last = f", the last one at {local(summary.last_expiry)}" if summary.last_expiry != summary.next_expiry else ""
        yield f"The next one expires at {local(summary.next_expiry)}{last}."
    yield from group_lines((failure for group in summary.problems.values() for failure in group), names)


def as_json(summary: FileStatus) -> dict[str, object]:
    """A `FileStatus` for scripts: times in ISO 8601, UTC."""
    return {
        "rows": summary.rows,
        "counts": summary.counts,
        "tokens": {
            "valid": summary.valid,
            "expired": summary.expired,
            "unknown_expiry": summary.unknown_expiry,
            "corrupted": summary.corrupted,
            "purged": summary.purged,
        },
        "next_expiry": utc_text(summary.next_expiry) or None,
        "last_expiry": utc_text(summary.last_expiry) or None,
        "problems": [
            {"hint": hint, "rows": [{**failure._asdict(), "hint": hint} for failure in failures]}
            for hint, failures in summary.problems.items()
        ],
    }
