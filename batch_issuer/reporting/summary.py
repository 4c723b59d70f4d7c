"""What became of a run of one organization or many, for a monitor: the summary, its worst exit code, its one sentence.

``summary.schema.json`` beside this file describes the summary (JSON Schema, draft 2020-12).
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
"""Organizations that the one sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationSummary:
    """What became of one organization's rows; holds no secret.

    Attributes:
        organization: its name in the settings; blank without one.
        exit_code: as if it had been alone.
        ending: the kind of its `Ending`, or ``not started``.
        message, hint: why it ended, what to do; blank where all is well.
        roster, results: the files; blank where there is none.
        rows: how many there are.
        tokens: how many of them have a token.
        counts: how many have which `Status`.
        without_token: how many have no good token.
        started_at, ended_at: local or UTC, with their zone.
        rate: its quota; None if it never got so far.
        requests: how many were sent.
        peak: most of them within any period of the rate.
        throttled: how many were answered 429.
        first_expiry, last_expiry: of its tokens; None without any.
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
        """As the summary has it; see the schema."""
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
        error: what ended the job that it was part of, if anything did.
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
    """The summary of a command that ended before it was known which organizations it was for."""
    code, kind, message, hint = _failure(error)
    now = datetime.now(UTC)
    return OrganizationSummary(
        organization="", exit_code=code, ending=kind, message=message, hint=hint, started_at=started_at, ended_at=now
    )


def _failure(error: BaseException) -> tuple[int, str, str, str]:
    """The exit code of an error, the ending that it was, and what to say of it."""
    kind = str(EndingKind.STORAGE) if isinstance(error, StorageError) else "not started"
    if isinstance(error, BatchIssuerError):
        return exit_code_of(error), kind, error.message, error.hint
    if isinstance(error, KeyboardInterrupt):
        return exit_code_of(error), kind, "it was interrupted", ""
    return exit_code_of(error), kind, unexpected(error), "report this line"


def summary_document(
    summaries: Sequence[OrganizationSummary], started_at: datetime, ended_at: datetime
) -> dict[str, Any]:
    """The summary of a command as JSON has it; see the schema. Holds no secret."""
    return {
        "version": __version__,
        "started_at": utc_text(started_at),
        "ended_at": utc_text(ended_at),
        "exit_code": worst(one.exit_code for one in summaries),
        "organizations": [one.as_json() for one in summaries],
    }


def sentence(summaries: Sequence[OrganizationSummary]) -> str:
    """What happened, at a glance: for a chat or a pager."""
    tokens, rows = sum(one.tokens for one in summaries), sum(one.rows for one in summaries)
    of = f" for {len(summaries)} organizations" if len(summaries) > 1 else ""
    failed = sorted((one for one in summaries if one.exit_code), key=lambda one: severity(one.exit_code))
    if not failed:
        expiries = sorted(one.first_expiry for one in summaries if one.first_expiry)
        until = f"; the first one expires at {utc_text(expiries[0])}" if expiries else ""
        return f"batch-issuer: all {rows} rows have a token{of}{until}."
    said = "; ".join(_said(one) for one in failed[:MOST_IN_TEXT])
    more = f"; and {len(failed) - MOST_IN_TEXT} more" if len(failed) > MOST_IN_TEXT else ""
    which = f"{len(failed)} of {len(summaries)} organizations need a look: " if len(summaries) > 1 else ""
    return f"batch-issuer: {which}{said}{more}. {tokens} of {rows} rows have a token."


def _said(one: OrganizationSummary) -> str:
    name = f"{one.organization}: " if one.organization else ""
    what = one.message or f"{one.without_token} of {one.rows} rows without a good token"
    return f"{name}{what} (exit code {one.exit_code})"


def check_summary(path: Path) -> None:
    """See that nothing else would be replaced by a summary.

    Raises:
        SettingsError: there is another kind of file.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
        document = json.loads(content or b"{}")
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict) or (document and not {"version", "organizations"} <= document.keys()):
        raise SettingsError(f"{path} is no summary, and would be replaced by one", "name another file for --summary")


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
            Path(name).chmod(0o644)  # it holds no secret, and a monitor has its own user
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name of a file"
        raise StorageError(
            f"the summary cannot be written to {path}: {why}", "make room there, or name another file"
        ) from None
