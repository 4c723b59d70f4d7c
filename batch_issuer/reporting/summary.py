"""What became of a run of one organization or many, for a monitor: the summary, its worst exit code, its one sentence.

``summary.schema.json`` beside this file describes the summary (JSON Schema, draft 2020-12).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import SettingsError, StorageError
from ..model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from ..model import Outcome
    from ..pipeline.usage import Usage
    from ..settings.run_settings import Rate

SCHEMA = Path(__file__).with_name("summary.schema.json")

WORST_FIRST = (143, 130, 129, 3, 2, 4, 1, 0)
"""Exit codes: stopped by a signal; what a person has to mend; what goes on by itself; rows; nothing."""

MOST_IN_TEXT = 5
"""Organizations that the one sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What became of one organization's rows.

    Attributes:
        organization: its name in the settings; blank without one.
        exit_code: as if it had been alone.
        ending: the kind of its `Ending`, or ``not started``.
        message, tip: why it ended, what to do; blank where all is well.
        roster, results: the files; blank where there is none.
        outcomes: of its rows.
        lacking: how many of them have no good token.
        started_at, ended_at: local or UTC, with their zone.
        rate: its quota; None if it never got so far.
        tally: what was sent; None if it never got so far.
    """

    organization: str
    exit_code: int
    ending: str
    message: str = ""
    tip: str = ""
    roster: str = ""
    results: str = ""
    outcomes: Sequence[Outcome] = field(default=(), repr=False)
    lacking: int = 0
    started_at: datetime
    ended_at: datetime
    rate: Rate | None = None
    tally: Usage | None = None

    def counts(self) -> dict[str, int]:
        """Rows by every status, those without rows included."""
        found = [outcome.status for outcome in self.outcomes]
        return {str(status): found.count(status) for status in Status}

    def expiries(self) -> list[datetime]:
        """When the tokens expire, in order."""
        return sorted(one.expires_at for one in self.outcomes if one.token and one.expires_at)


def worst(codes: Iterable[int]) -> int:
    """The exit code of several organizations."""
    return min(codes, key=lambda code: WORST_FIRST.index(code) if code in WORST_FIRST else 0, default=0)


def summary(entries: Sequence[Entry], started_at: datetime, ended_at: datetime) -> dict[str, Any]:
    """The summary as JSON has it; see the schema. Holds no secret."""
    return {
        "version": __version__,
        "started_at": _utc(started_at),
        "ended_at": _utc(ended_at),
        "exit_code": worst(entry.exit_code for entry in entries),
        "organizations": [_of(entry) for entry in entries],
    }


def _of(entry: Entry) -> dict[str, Any]:
    expiries = entry.expiries()
    tally, rate = entry.tally, entry.rate
    return {
        "organization": entry.organization or None,
        "exit_code": entry.exit_code,
        "ending": entry.ending,
        "message": entry.message,
        "tip": entry.tip,
        "roster": entry.roster or None,
        "results": entry.results or None,
        "rows": len(entry.outcomes),
        "counts": entry.counts(),
        "without_token": entry.lacking,
        "started_at": _utc(entry.started_at),
        "ended_at": _utc(entry.ended_at),
        "seconds": round((entry.ended_at - entry.started_at).total_seconds(), 3),
        "rate": {"limit": rate.limit, "period_seconds": rate.period} if rate else None,
        "requests": tally.requests if tally else 0,
        "most_requests_in_a_period": tally.peak if tally else 0,
        "throttled": tally.throttled if tally else 0,
        "first_expiry": _utc(expiries[0]) if expiries else None,
        "last_expiry": _utc(expiries[-1]) if expiries else None,
    }


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def sentence(entries: Sequence[Entry]) -> str:
    """What happened, at a glance: for a chat or a pager."""
    tokens = sum(bool(outcome.token) for entry in entries for outcome in entry.outcomes)
    rows = sum(len(entry.outcomes) for entry in entries)
    of = f" for {len(entries)} organizations" if len(entries) > 1 else ""
    failed = sorted(
        (entry for entry in entries if entry.exit_code), key=lambda entry: WORST_FIRST.index(worst([entry.exit_code]))
    )
    if not failed:
        expiries = sorted(entry.expiries()[0] for entry in entries if entry.expiries())
        until = f"; the first one expires at {_utc(expiries[0])}" if expiries else ""
        return f"batch-issuer: all {rows} rows have a token{of}{until}."
    said = "; ".join(_said(entry) for entry in failed[:MOST_IN_TEXT])
    more = f"; and {len(failed) - MOST_IN_TEXT} more" if len(failed) > MOST_IN_TEXT else ""
    which = f"{len(failed)} of {len(entries)} organizations need a look: " if len(entries) > 1 else ""
    return f"batch-issuer: {which}{said}{more}. {tokens} of {rows} rows have a token."


def _said(entry: Entry) -> str:
    name = f"{entry.organization}: " if entry.organization else ""
    what = entry.message or f"{entry.lacking} of {len(entry.outcomes)} rows without a good token"
    return f"{name}{what} (exit code {entry.exit_code})"


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
        raise StorageError(error.message, error.tip) from None
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
