"""Why a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EndingKind(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    KEY_REFUSED = "key refused"
    WRONG_ADDRESS = "wrong address"
    GAVE_UP = "gave up"
    DEADLINE = "deadline"
    STORAGE = "storage"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a run ended: ``message`` says what happened, ``tip`` what to do; ``signal`` is its number, if one did."""

    kind: EndingKind
    message: str = ""
    tip: str = ""
    signal: int | None = None


FINISHED = Ending(EndingKind.FINISHED)


SEVERITY = (
    EndingKind.FINISHED,
    EndingKind.DEADLINE,
    EndingKind.GAVE_UP,
    EndingKind.WRONG_ADDRESS,
    EndingKind.STORAGE,
    EndingKind.KEY_REFUSED,
    EndingKind.INTERRUPTED,
)
"""The endings, the worst one last."""
