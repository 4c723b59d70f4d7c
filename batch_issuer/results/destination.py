"""OUT itself: checked before the first request, published in one step after the last."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import ResultsError, StorageError, UsageError
from .columns import AUTH_COLUMNS, GUARDED_COLUMNS, auth_frame, guard_cell
from .files import BOM, LINE_END, create_private, sync_folder
from .journal import Journal
from .reading import read_results

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..model import Outcome
    from ..roster import Roster

if sys.platform != "win32":  # there, a file that a run has open cannot be moved or removed by another one anyway
    import fcntl


class Destination:
    """Where the results go: checked before the first request, so that no token is issued that cannot be kept."""

    def __init__(self, path: Path) -> None:
        """Name the place; nothing is touched yet.

        Raises:
            ResultsError: no CSV file can have this name.
        """
        if not path.name:
            raise ResultsError(f"{path} is a folder", "name a file with -o, such as depot.results.csv")
        if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
            raise ResultsError(f"results are written as CSV, not as {path.suffix}", "name the file with -o and .csv")
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._publishing = path.with_name(path.name + ".publishing")

    def check(self, *, overwrite: bool, roster: Path | None = None) -> None:
        """Refuse a place that cannot take the results, or that holds something worth keeping.

        Args:
            overwrite: whether results with tokens may be replaced.
            roster: the file the roster came from, which is never replaced.

        Raises:
            ResultsError: says what is in the way and what to do.
        """
        try:
            self._check(overwrite=overwrite, roster=roster)
        except OSError as error:
            raise ResultsError(f"{self.path} cannot be used: {error.strerror}", "choose another name with -o") from None

    def _check(self, *, overwrite: bool, roster: Path | None) -> None:
        if not self.path.parent.is_dir():
            raise ResultsError(f"there is no folder {self.path.parent}", "create it, or choose another with -o")
        for path in (self.path, self.partial):
            if path.is_symlink():
                raise ResultsError(f"{path} is a symbolic link", "name the real file with -o")
        if self.path.exists():
            if not self.path.is_file():
                raise ResultsError(f"{self.path} is not a file", "choose another name with -o")
            if roster is not None and roster.exists() and self.path.samefile(roster):
                raise ResultsError(f"{self.path} is the roster itself", "choose another name with -o")
            self._check_replaceable(overwrite=overwrite)

    def _check_replaceable(self, *, overwrite: bool) -> None:
        """Only a results file is ever replaced, and without being told to only one that holds no token at all."""
        try:
            tokens = read_results(self.path).frame["auth_token"]
        except UsageError as error:
            why = "it is not a results file" if isinstance(error, ResultsError) else error.message
            raise ResultsError(
                f"{self.path} exists and is never replaced: {why}",
                "choose another name with -o, or remove the file yourself",
            ) from None
        if not overwrite and (tokens != "").any():
            raise ResultsError(
                f"{self.path} exists and holds tokens",
                "add --overwrite to ask for new tokens for every row, or choose another name with -o",
            )

    def set_aside(self) -> Path | None:
        """Move the journal that an interrupted run left to a free name next to it; returns that, or None without one.

        Raises:
            ResultsError: the run that writes it is still alive, or it cannot be moved.
        """
        if not self.partial.exists():
            return None
        self._refuse_if_in_use()
        number = 1
        while (aside := self.partial.with_name(f"{self.partial.name}.{number}")).exists():
            number += 1
        try:
            self.partial.rename(aside)
        except OSError as error:
            raise ResultsError(f"{self.partial} cannot be moved: {error.strerror}", "move it yourself") from None
        return aside

    def _refuse_if_in_use(self) -> None:
        if sys.platform == "win32":
            return
        try:
            descriptor = os.open(self.partial, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise ResultsError(f"{self.partial} cannot be read: {error.strerror}", "move it away yourself") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(
                f"another run is writing {self.path} at this moment", "wait for it, or choose another name with -o"
            ) from None
        finally:
            os.close(descriptor)

    def open_journal(self, roster: Roster) -> Journal:
        """Begin the journal.

        Raises:
            ResultsError: it cannot be created, or an earlier run left one.
        """
        try:
            descriptor = create_private(self.partial)
        except FileExistsError:
            self._refuse_if_in_use()
            raise ResultsError(
                f"{self.partial} was left by a run that did not finish; it may hold tokens",
                "look at it with batch-issuer status; add --overwrite to keep it aside and start anew",
            ) from None
        except OSError as error:
            raise ResultsError(
                f"{self.path.parent} cannot be written to: {error.strerror}", "choose another folder with -o"
            ) from None
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            return Journal(descriptor, self.partial, roster)
        except StorageError as error:
            os.close(descriptor)
            self.partial.unlink(missing_ok=True)
            raise ResultsError(error.message, error.tip) from None

    def publish(self, roster: Roster, outcomes: Iterable[Outcome]) -> int:
        """Write the finished file under a temporary name, flush it, rename it over OUT, and remove the journal.

        Returns:
            How many roster cells got an apostrophe, because a spreadsheet program would have run them.

        Raises:
            StorageError: the file could not be written; OUT is as it was and the journal is still there.
        """
        by_row = {outcome.row: outcome for outcome in (*roster.refused, *outcomes)}
        auth = auth_frame(roster, by_row)
        for column in GUARDED_COLUMNS:
            auth[column] = auth[column].map(guard_cell)
        frame = roster.frame.map(guard_cell).set_axis(range(roster.frame.shape[1]), axis=1)
        whole = pd.concat([frame, auth], axis=1)
        header = [*(guard_cell(str(column)) for column in roster.frame.columns), *AUTH_COLUMNS]
        try:
            self._publishing.unlink(missing_ok=True)  # of a run that was killed while publishing
            descriptor = create_private(self._publishing)
            with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - born with its mode
                file.write(BOM)
                whole.to_csv(file, header=header, index=False, lineterminator=LINE_END)
                file.flush()
                os.fsync(file.fileno())
            self._publishing.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._publishing.unlink(missing_ok=True)
            raise StorageError(
                f"{self.path} could not be written: {error.strerror}",
                f"make room or correct the permissions; everything issued is in {self.partial} "
                "(a CSV file; batch-issuer status shows what it holds)",
            ) from None
        with contextlib.suppress(OSError):  # the results are out; what is left of the journal is only in the way
            self.partial.unlink()
        changed = sum(cell != str(column) for cell, column in zip(header, roster.frame.columns, strict=False))
        return changed + int((frame.to_numpy() != roster.frame.to_numpy()).sum())
