"""Why a run ended, and how a caller ends one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class EndingKind(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    UNAUTHORIZED = "API token refused"
    WRONG_ADDRESS = "wrong address"
    GAVE_UP = "gave up"
    DEADLINE = "deadline"
    STORAGE = "storage"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a run ended.

    Attributes:
        kind: what ended it.
        message: what happened, as in ``stopped: <message>``.
        hint: what to do.
        signal: the number of the signal, if there was one.
    """

    kind: EndingKind
    message: str = ""
    hint: str = ""
    signal: int | None = None


FINISHED = Ending(EndingKind.FINISHED)


SEVERITY = (
    EndingKind.FINISHED,
    EndingKind.DEADLINE,
    EndingKind.GAVE_UP,
    EndingKind.WRONG_ADDRESS,
    EndingKind.STORAGE,
    EndingKind.UNAUTHORIZED,
    EndingKind.INTERRUPTED,
)
"""The endings, from the least to the most severe."""


class StopSignal:
    """Stops all runs it was passed to, including those that start later. Used in the event loop's thread.

    Attributes:
        ending: why they stop; None until `stop` is called.
    """

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self._listeners: list[Callable[[Ending], None]] = []

    def stop(self, ending: Ending) -> None:
        """Send no further request, and wait for those in flight. Only the first call has an effect."""
        if self.ending is not None:
            return
        self.ending = ending
        for listener in [*self._listeners]:
            listener(ending)

    def add_listener(self, listener: Callable[[Ending], None]) -> None:
        """Call ``listener`` when stopped, or at once if already stopped."""
        self._listeners.append(listener)
        if self.ending is not None:
            listener(self.ending)

    def remove_listener(self, listener: Callable[[Ending], None]) -> None:
        """No longer call ``listener``."""
        self._listeners.remove(listener)
