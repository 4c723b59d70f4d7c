"""What a person is told, and what a pipe gets: the words of the commands. Nothing here decides anything.

Whoever mistypes a flag is told so by this file, and need not wait for more than that takes.
"""

from __future__ import annotations

import shlex
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ..settings.options import resume_flags, resume_variables
from ..wording import amount, local, utc_text
from .screen import out, say, spans

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..errors import BatchIssuerError
    from ..jobs.records import JobResult
    from ..model import IdentifierKind, Outcome
    from ..pipeline.endings import Ending
    from ..reporting.summary import OrganizationSummary
    from ..results import Batch, Destination, Failure, FileStatus
    from ..roster import Column, Roster

MOST_ROWS_OF_A_HINT = 5
"""Rows that ``status`` shows for each hint; all of them are in its JSON."""

MOST_PROBLEMS_SHOWN = 20
"""Rows without a token that ``issue`` lists; all of them are in the results file."""


def columns_line(roster: Roster) -> str:
    """What names the drivers of a roster."""
    from ..roster import LABELS, plain

    def described(kind: IdentifierKind, column: Column) -> str:
        what = f"{LABELS[kind]} {column.key}".strip()
        return repr(column.name) if plain(column.name) == plain(what) else f"{column.name!r} ({what})"

    first, *others = (described(kind, column) for kind, column in roster.named_by.sent.items())
    return f"Drivers are looked up by column {first}{''.join(f', else by {other}' for other in others)}."


def sent_lines(roster: Roster) -> Iterator[str]:
    """Which rows of a roster will be sent, by the kind of identifier."""
    from ..roster import LABELS

    for kind, rows in roster.rows_by_kind().items():
        if rows:
            yield f"  {len(rows)} by {LABELS[kind]}: {'rows' if len(rows) > 1 else 'row'} {spans(rows)}"


def remark_lines(roster: Roster, most: int | None = None) -> Iterator[str]:
    """Rows that are sent all the same, but that a person should look at; the first ``most`` of them."""
    if not roster.warnings:
        return
    yield f"{amount(len(roster.warnings), 'row')} to look at, sent all the same:"
    for row, remark in list(roster.warnings.items())[:most]:
        yield f"  row {row}: {remark}"
    if most is not None and len(roster.warnings) > most:
        yield f"  … and {len(roster.warnings) - most} more; batch-issuer check lists all."


def refused_lines(roster: Roster, most: int) -> Iterator[str]:
    """Rows that will not be sent, without what to do about them, since that is told at the end."""
    if not roster.refused:
        return
    yield f"{amount(len(roster.refused), 'row')} that will not be sent:"
    for outcome in roster.refused[:most]:
        yield f"  row {outcome.row}: {outcome.status}: {outcome.error}"
    if len(roster.refused) > most:
        yield f"  … and {len(roster.refused) - most} more; batch-issuer check lists all."


def counted(rows: int, counts: Iterable[tuple[str, int]]) -> str:
    """How many rows there are, and how many of each status."""
    by_status = ", ".join(f"{number} {status}" for status, number in counts)
    return f"{amount(rows, 'row')}: {by_status or 'none'}."


def failure(outcome: Outcome) -> Failure:
    """An outcome as a row to look at."""
    from ..results import Failure

    return Failure(outcome.row, outcome.status, str(outcome.identifier or ""), outcome.error, outcome.hint)


def table(failures: Sequence[Failure], most: int | None = None) -> Iterator[str]:
    """Rows without a token, for a person to act on, the first ``most`` of them; what to do, once for rows in a row."""
    shown = failures[:most]
    for (row, status, identifier, error, hint), following in zip_longest(shown, shown[1:]):
        yield f"  row {row}{f' ({identifier})' if identifier else ''}: {status}: {error}"
        if following is None or following.hint != hint:
            yield f"      {hint}"
    if most is not None and len(failures) > most:
        yield f"  … and {len(failures) - most} more, all in the results file."


def found_lines(batch: Batch, destination: Destination, *, restart: bool) -> Iterator[str]:
    """What earlier runs left of the rows, if there were any."""
    if destination.partial.exists() and not restart:
        yield f"Going on with {destination.partial}, which a run that did not finish has left."
    if batch.kept:
        yield f"{amount(len(batch.kept), 'row')} of {len(batch)} with a token that is still good, left alone."
    if batch.lost:
        yield (
            f"{amount(len(batch.lost), 'row')} of which nobody knows whether a token was issued: another is asked for."
        )
    if batch.unclear:
        rows = amount(len(batch.unclear), "row")
        yield f"{rows} left alone: it is not certain whose they are; auth_error says why."
    if not batch.drivers and not batch.changed:
        yield "There is nothing to do."


def how_to_resume(
    flags: Mapping[str, Any], environ: Mapping[str, str], destination: Destination, organization: str = ""
) -> str:
    """The command that finishes the results under the same conditions, and what it needs besides on a second line."""
    if organization:
        flags = {"org": organization, **flags}
    command = shlex.join(["batch-issuer", "retry", str(destination.path), *resume_flags(flags, environ)])
    variables = resume_variables(flags, environ)
    notes = (f"First set {name} to the same value; it is not shown here, since it is a secret." for name in variables)
    return "\n".join([command, *notes])


def _tell_early(endings: Mapping[str, Ending]) -> bool:
    """Runs that ended before their time; whether there are any."""
    from ..pipeline.endings import EndingKind

    early = {whose: ending for whose, ending in endings.items() if ending.kind is not EndingKind.FINISHED}
    for whose, ending in early.items():
        say(f"Stopped{f', {whose}' if len(endings) > 1 else ''}: {ending.message}.")
        if ending.hint:
            say(f"hint: {ending.hint}.")
    return bool(early)


def _tell_lacking(report: JobResult, endings: Iterable[Ending]) -> None:
    """Rows without a good token, but for those that the endings explain."""
    from ..hints import Hint
    from ..pipeline.endings import EndingKind

    explained = {Hint.NOT_ATTEMPTED}
    if any(ending.kind is EndingKind.UNAUTHORIZED for ending in endings):
        explained |= {Hint.API_TOKEN_INVALID, Hint.API_TOKEN_FORBIDDEN}
    still_valid = [one for one in report.without_token if one.token and not one.error]
    if still_valid:
        say(f"{amount(len(still_valid), 'row')} with an earlier token that is still valid and was not renewed.")
    shown = [one for one in report.without_token if one.error and one.hint not in map(str, explained)]
    if shown:
        what = "without a good token" if any(outcome.token for outcome in shown) else "without a token"
        say(f"{amount(len(shown), 'row')} {what}:", *table([failure(one) for one in shown], MOST_PROBLEMS_SHOWN))


def _tell_other_files(destination: Destination) -> None:
    if destination.aside is not None:
        say(f"What an earlier, unfinished run left is kept as {destination.aside}; it may hold tokens.")
    if destination.partial.exists():
        say(f"{destination.partial} could not be removed: it holds the same tokens, delete it.")


def tell(
    report: JobResult,
    destination: Destination,
    options: Namespace,
    name: str,
    endings: Mapping[str, Ending],
    resume: str,
) -> None:
    """What a person must know at the end; only what is wrong, if they asked for quiet.

    Args:
        report: what the rows came to.
        destination: where they were to be.
        options: the flags.
        name: of the organization, where there are others with results of their own; else blank.
        endings: why the run of each organization ended.
        resume: how to resume it.
    """
    if name and not (options.quiet and report.complete and report.path == destination.path):
        say(f"--- {name}")
    if _tell_early(endings):
        say(f"To go on: {resume}")
    _tell_lacking(report, endings.values())
    _tell_other_files(destination)
    if report.path != destination.path:
        say(
            f"{destination.path} was changed meanwhile, or another program has it open: the results have another name.",
            f"hint: look at both, and give the name to {report.path} if you can do without the other.",
        )
    elif options.quiet and report.complete:
        return
    say(counted(len(report.outcomes), report.counts().items()))
    expiries = sorted(outcome.expires_at for outcome in report.outcomes if outcome.token and outcome.expires_at)
    if expiries:
        say(f"The first token expires at {local(expiries[0])}.")
    if report.guarded_cells:
        say(f"{amount(report.guarded_cells, 'roster cell')} got a leading apostrophe: a spreadsheet would run it.")
    holds_tokens = any(outcome.token for outcome in report.outcomes)
    if options.sandbox and holds_tokens:
        say("These are SANDBOX tokens: they log nobody in.")
    where = "Results (keep this file secret, it holds login tokens):" if holds_tokens else "Results (no token in it):"
    if options.quiet:
        say(f"{where} {report.path}")
    else:
        say(where)
        out(str(report.path))


def tell_all(summaries: Sequence[OrganizationSummary]) -> None:
    """A line for each organization, those with trouble first."""
    from ..model import Status

    say("--- all organizations")
    for one in sorted(summaries, key=lambda each: not each.exit_code):
        counts = ", ".join(f"{one.counts[status]} {status}" for status in map(str, Status) if one.counts.get(status))
        rows = f"{amount(one.rows, 'row')}: {counts or 'none'}" if one.rows else "nothing was sent"
        why = f"; {one.message}" if one.message else ""
        say(f"{'ok' if not one.exit_code else f'exit code {one.exit_code}'}  {one.organization}: {rows}{why}")


def say_error(error: BatchIssuerError, name: str = "") -> None:
    """An error, and what to do about it."""
    of = f"{name}: " if name else ""
    say(f"error: {of}{error.message}", *([f"hint: {error.hint}"] if error.hint else []))


def warn_of_secrets(options: Namespace) -> None:
    """Arguments are no place for a secret."""
    from ..settings.addresses import may_hold_password
    from ..settings.layers import NOTIFY_VARIABLE, QUOTA_VARIABLE

    if may_hold_password(options.quota or ""):
        say(
            "warning: every user of this computer can see the password in --quota.",
            f"hint: put the address into the environment variable {QUOTA_VARIABLE} instead.",
        )
    if getattr(options, "notify", None) and not options.quiet:
        say(
            "warning: every user of this computer can see the address in --notify.",
            f"hint: put it into the environment variable {NOTIFY_VARIABLE} instead.",
        )


def about_roster(roster: Roster) -> list[str]:
    """What a person should know of a roster before it is issued for."""
    return [
        *roster.notes,
        columns_line(roster),
        *remark_lines(roster, MOST_PROBLEMS_SHOWN),
        *refused_lines(roster, MOST_PROBLEMS_SHOWN),
    ]


def organization_lines(roster: Roster) -> Iterator[str]:
    """How many rows of a roster are of which organization, if there are several."""
    if roster.options.organization_column:
        for name in roster.options.organizations:
            if drivers := roster.of_organization(name):
                yield f"  {len(drivers)} of {name}"


def status_lines(summary: FileStatus) -> Iterator[str]:
    """A `FileStatus` for a person."""
    yield counted(summary.rows, summary.counts.items())
    corrupted = f", {summary.corrupted} corrupted" if summary.corrupted else ""
    unknown = f", {summary.unknown_expiry} without a readable expiry" if summary.unknown_expiry else ""
    purged = f", {summary.purged} purged" if summary.purged else ""
    yield f"{amount(summary.valid, 'token')} valid now, {summary.expired} expired{corrupted}{unknown}{purged}."
    if summary.next_expiry and summary.last_expiry:
        yield f"The next one expires at {local(summary.next_expiry)}, the last one at {local(summary.last_expiry)}."
    for hint, failures in summary.problems.items():
        yield f"{amount(len(failures), 'row')}: {hint or 'no hint is given'}"
        for row, status, identifier, error, _ in failures[:MOST_ROWS_OF_A_HINT]:
            yield f"  row {row}{f' ({identifier})' if identifier else ''}: {status}: {error}"
        if len(failures) > MOST_ROWS_OF_A_HINT:
            yield f"  … and {len(failures) - MOST_ROWS_OF_A_HINT} more"


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
