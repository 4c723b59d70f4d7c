"""The result of a run of one organization or many, for a monitor: the summary, its exit code, and one sentence.

``summary.schema.json`` in the same folder describes the summary (JSON Schema, draft 2020-12).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import BatchIssuerError, SettingsError, StorageError
from ..model import Status
from ..pipeline.endings import FINISHED, EndingKind
from ..wording import unexpected, utc_text
from .exit_codes import exit_code_of, exit_code_of_ending, severity, worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..jobs.records import OrganizationJob
    from ..settings.run_settings import Rate

SCHEMA = Path(__file__).with_name("summary.schema.json")

MOST_IN_TEXT = 5
"""Organizations that the sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationSummary:
    """The result for one organization's rows; contains no secret.

    Attributes:
        organization: its name in the settings; blank without one.
        exit_code: for this organization alone.
        ending: the kind of its `Ending`, or ``not started``.
        message, hint: what went wrong, and what to do; blank if nothing did.
        roster, results: paths; blank if there is no such file.
        rows: of the roster.
        tokens: rows with a login token.
        counts: number of rows by `Status`.
        without_token: rows without a valid login token.
        started_at, ended_at: with their time zone.
        rate: its quota; None if nothing was sent.
        requests: number of requests sent.
        peak: the most requests within any period of the rate.
        throttled: requests that were answered with HTTP 429.
        first_expiry, last_expiry: of its tokens; None without one.
    """

    organization: str
    exit_code: int
    ending: str
    message: str = ""
    hint: str = ""
    roster: str = ""
    results: str = ""
    rows: int = 0
    tokens: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    without_token: int = 0
    started_at: datetime
    ended_at: datetime
    rate: Rate | None = None
    requests: int = 0
    peak: int = 0
    throttled: int = 0
    first_expiry: datetime | None = None
    last_expiry: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """As an entry of the summary; see the schema."""
        return {
            "organization": self.organization or None,
            "exit_code": self.exit_code,
            "ending": self.ending,
            "message": self.message,
            "hint": self.hint,
            "roster": self.roster or None,
            "results": self.results or None,
            "rows": self.rows,
            "counts": {str(status): self.counts.get(status, 0) for status in Status},
            "without_token": self.without_token,
            "started_at": utc_text(self.started_at),
            "ended_at": utc_text(self.ended_at),
            "seconds": round((self.ended_at - self.started_at).total_seconds(), 3),
            "rate": {"limit": self.rate.limit, "period_seconds": self.rate.period} if self.rate else None,
            "requests": self.requests,
            "most_requests_in_a_period": self.peak,
            "throttled": self.throttled,
            "first_expiry": utc_text(self.first_expiry) or None,
            "last_expiry": utc_text(self.last_expiry) or None,
        }


def summarize(one: OrganizationJob, error: BaseException | None = None) -> OrganizationSummary:
    """The summary of an organization.

    Args:
        one: its record.
        error: what made its job fail, if anything did.
    """
    error = one.error or error
    ending = one.ending or FINISHED
    expiries = sorted(outcome.expires_at for outcome in one.outcomes if outcome.token and outcome.expires_at)
    if error is not None:
        code, kind, message, hint = _failure(error)
    else:
        code = exit_code_of_ending(ending, complete=not one.without_token, moved=one.moved)
        kind, message, hint = str(ending.kind), ending.message, ending.hint
    return OrganizationSummary(
        organization=one.name,
        exit_code=code,
        ending=kind,
        message=message,
        hint=hint,
        roster=one.roster,
        results=str(one.results or "") if error is None else "",
        rows=len(one.outcomes),
        tokens=sum(bool(outcome.token) for outcome in one.outcomes),
        counts=Counter(str(outcome.status) for outcome in one.outcomes),
        without_token=len(one.without_token),
        started_at=one.started_at,
        ended_at=one.ended_at or datetime.now(UTC),
        rate=one.settings.rate if one.settings else None,
        requests=one.usage.requests if one.usage else 0,
        peak=one.usage.peak if one.usage else 0,
        throttled=one.usage.throttled if one.usage else 0,
        first_expiry=expiries[0] if expiries else None,
        last_expiry=expiries[-1] if expiries else None,
    )


def summarize_failure(error: BaseException, started_at: datetime) -> OrganizationSummary:
    """The summary of a command that failed before its organizations were known."""
    code, kind, message, hint = _failure(error)
    now = datetime.now(UTC)
    return OrganizationSummary(
        organization="", exit_code=code, ending=kind, message=message, hint=hint, started_at=started_at, ended_at=now
    )


def _failure(error: BaseException) -> tuple[int, str, str, str]:
    """The exit code of an error, its kind of ending, its message and its hint."""
    kind = str(EndingKind.STORAGE) if isinstance(error, StorageError) else "not started"
    if isinstance(error, BatchIssuerError):
        return exit_code_of(error), kind, error.message, error.hint
    if isinstance(error, KeyboardInterrupt):
        return exit_code_of(error), kind, "interrupted", ""
    return exit_code_of(error), kind, unexpected(error), "report this line"


def summary_document(
    summaries: Sequence[OrganizationSummary], started_at: datetime, ended_at: datetime
) -> dict[str, Any]:
    """The summary of a command as a JSON object; see the schema. Contains no secret."""
    return {
        "version": __version__,
        "started_at": utc_text(started_at),
        "ended_at": utc_text(ended_at),
        "exit_code": worst(one.exit_code for one in summaries),
        "organizations": [one.as_json() for one in summaries],
    }


def sentence(summaries: Sequence[OrganizationSummary]) -> str:
    """The result in a sentence, for a chat or a pager."""
    tokens, rows = sum(one.tokens for one in summaries), sum(one.rows for one in summaries)
    of = f" for {len(summaries)} organizations" if len(summaries) > 1 else ""
    failed = sorted((one for one in summaries if one.exit_code), key=lambda one: severity(one.exit_code))
    if not failed:
        expiries = sorted(one.first_expiry for one in summaries if one.first_expiry)
        until = f"; the first one expires at {utc_text(expiries[0])}" if expiries else ""
        return f"batch-issuer: all {rows} rows have a login token{of}{until}."
    problems = "; ".join(_problem(one) for one in failed[:MOST_IN_TEXT])
    more = f"; and {len(failed) - MOST_IN_TEXT} more" if len(failed) > MOST_IN_TEXT else ""
    which = f"{len(failed)} of {len(summaries)} organizations failed: " if len(summaries) > 1 else ""
    return f"batch-issuer: {which}{problems}{more}. {tokens} of {rows} rows have a login token."


def _problem(one: OrganizationSummary) -> str:
    name = f"{one.organization}: " if one.organization else ""
    what = one.message or f"{one.without_token} of {one.rows} rows without a valid login token"
    return f"{name}{what} (exit code {one.exit_code})"


def check_summary(path: Path) -> None:
    """Refuse to replace a file that is not a summary.

    Raises:
        SettingsError: it is another kind of file.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
        document = json.loads(content or b"{}")
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict) or (document and not {"version", "organizations"} <= document.keys()):
        raise SettingsError(f"{path} exists and is not a summary of batch-issuer", "choose another file for --summary")


def write_summary(path: Path, document: dict[str, Any]) -> None:
    """Replace the file in one step, so that a monitor never reads half of it.

    Raises:
        StorageError: it cannot be written, or would replace another kind of file.
    """
    try:
        check_summary(path)
    except SettingsError as error:
        raise StorageError(error.message, error.hint) from None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)  # it contains no secret, and a monitor is another user
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a valid file name"
        raise StorageError(
            f"the summary cannot be written to {path}: {why}",
            "check its folder and the free space, or choose another file for --summary",
        ) from None
