"""OUT itself: held by one run at a time, checked before the first request, published in one step after the last."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd

from ..errors import ResultsError, StorageError, UsageError
from ..locks import Lock
from . import xlsx_writer
from .atomic_file import Published, Replacement, free_name
from .auth_columns import PARTIAL
from .batch import Batch, composed
from .csv_writer import delimiter_of_name, finish, slices, write_csv
from .journal import Journal
from .private_files import exposure
from .reading import read_results

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from ..model import Outcome
    from ..roster import Roster
    from ..settings.roster_options import RosterOptions
    from .reading import Results
    from .validity import Validity

ROOM_PER_ROW = 600
"""Bytes reserved for what comes to a row besides its cells: a token, a code, times and, where need be, hints."""


class Destination:
    """Where the results go. Use it as a context: meanwhile no other run can write there, on this computer at least.

    Attributes:
        path: of the results.
        partial: of the journal, while a run goes on or after one that did not finish.
        aside: where the journal of an earlier run was kept, if this one began anew.
        warning: why others may get at what is written there, one sentence; empty if they cannot, or not yet entered.
    """

    def __init__(self, path: str | os.PathLike[str], *, roster: Path | None = None) -> None:
        """Name the place; nothing is touched yet.

        Args:
            path: of the results; that of their journal means the same.
            roster: the file the roster comes from, which is never replaced.

        Raises:
            ResultsError: no results can have this name, or it would be in the roster's way.
        """
        path = Path(path)
        self._elsewhere = "choose another name with -o" if roster is not None else "see to that, then try again"
        if path.name.endswith(PARTIAL) and path.name != PARTIAL:
            path = path.with_name(path.name.removesuffix(PARTIAL))
        if path.name in ("", PARTIAL):
            raise ResultsError(f"{path} is a folder", "name a file, such as depot.results.csv")
        if path.suffix.lower() in (".xls", ".xlsm", ".xlsb", ".ods", ".gz"):
            raise ResultsError(
                f"{path}: results are kept as .csv or {xlsx_writer.SUFFIX}, not as {path.suffix}",
                "give it a name that ends so; the spreadsheet program can save it as another kind",
            )
        self._replacement = Replacement(path)
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.warning = ""
        self.aside: Path | None = None
        self._roster = roster
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = Lock(self._lock_path)
        self._entered = self._restart = False
        ours = (self.partial, self._replacement.new, self._lock_path, Journal.temporary_path(self.partial))
        if roster is not None and roster.absolute() in [name.absolute() for name in ours]:
            raise ResultsError(f"the roster {roster} has a name that a run with these results uses", "rename it")

    def __enter__(self) -> Self:
        """Take the place for this run.

        Raises:
            ResultsError: another run has it, or nothing can be written there, or it is to be a workbook and the extra
                ``xlsx`` is not installed.
        """
        if self._replacement.is_workbook:
            xlsx_writer.check_available(self.path)
        if not self.path.parent.is_dir():
            raise ResultsError(f"there is no folder {self.path.parent}", "create it, or name another")
        now = datetime.now().astimezone()
        try:
            taken = self._lock.acquire(
                f"process {os.getpid()} on {platform.node() or 'this computer'}, since {now:%Y-%m-%d %H:%M:%S %Z}"
            )
        except OSError as error:
            raise self._unusable(error) from None
        if not taken:
            who = self._lock.holder()
            raise ResultsError(
                f"another run is writing {self.path} at this moment{f': {who}' if who else ''}",
                "wait until it has ended",
            )
        self._entered = True
        self.warning = exposure(self._lock_path)
        for left_over in (self._replacement.new, Journal.temporary_path(self.partial)):  # by a run that was killed
            with contextlib.suppress(OSError):
                left_over.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._replacement.give_up()
        self._entered = False
        self._lock.release()

    def begin(
        self,
        roster: Roster,
        validity: Validity,
        *,
        overwrite: bool = False,
        restart: bool = False,
    ) -> Batch:
        """The rows to issue for: a roster's, as an earlier run that did not finish left them.

        Args:
            roster: the rows.
            validity: which tokens of the earlier run are good.
            overwrite: whether results with tokens may be replaced.
            restart: keep aside what an earlier run left and begin anew.

        Raises:
            ResultsError: says what is in the way and what to do; nothing was changed.
        """
        self._check(restart=restart)
        if self.partial.exists() and not restart:
            batch = self._unfinished(validity, roster.options)
            difference = batch.difference(roster)
            if difference:
                raise ResultsError(
                    f"{self.partial} was left by a run that did not finish, and its roster was another: {difference}",
                    f"finish that one with batch-issuer retry {self.path}, which takes new rows, too, or add --restart "
                    "to keep it aside and begin anew",
                )
            return batch
        if self.path.exists():
            self._check_replaceable(overwrite=overwrite)
        return Batch.of_roster(roster, delimiter_of_name(self.path))

    def reopen(self, validity: Validity, options: RosterOptions | None = None, *, restart: bool = False) -> Batch:
        """The rows of the results, as the last run left them, finished or not.

        Args:
            validity: which of their tokens are good.
            options: what a person says about the columns that name the drivers of rows that were never sent.
            restart: keep aside what a run that did not finish left, and take the results as they were before.

        Raises:
            ResultsError: says why they cannot be used, and what to do; nothing was changed.
            RosterError: the file cannot be read.
        """
        self._check(restart=restart)
        if self.partial.exists() and not restart:
            return self._unfinished(validity, options)
        return Batch.of_results(self._read(), self.path.name, validity, options)

    def _check(self, *, restart: bool = False) -> None:
        """Refuse a place that cannot take the results, and remember what is there."""
        self._restart = restart
        try:
            self._replacement.remember()
            for path in (self.path, self.partial):
                if path.is_symlink():
                    raise ResultsError(f"{path} is a symbolic link", "name the real file")
            if not self.path.exists():
                return
            if not self.path.is_file():
                raise ResultsError(f"{self.path} is not a file", self._elsewhere)
            if self._roster is not None and self._roster.exists() and self.path.samefile(self._roster):
                raise ResultsError(f"{self.path} is the roster itself", self._elsewhere)
            os.close(os.open(self.path, os.O_RDWR))
        except PermissionError:
            raise ResultsError(
                f"{self.path} cannot be replaced: it is write-protected, or open in another program such as Excel",
                "close it there, then try again",
            ) from None
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> ResultsError:
        return ResultsError(f"{self.path} cannot be used: {error.strerror}", self._elsewhere)

    def _read(self) -> Results:
        """The results, as they are to be replaced."""
        results = read_results(self.path)
        self._check_no_other_sheets(results)
        return results

    def _check_no_other_sheets(self, results: Results) -> None:
        if results.others:
            raise ResultsError(
                f"{self.path} has other sheets, too, which would be lost: {', '.join(map(repr, results.others))}",
                "move them into a workbook of their own",
            )

    def _check_replaceable(self, *, overwrite: bool) -> None:
        """Only a results file is ever replaced, and without being told to only one that holds no token at all."""
        try:
            results = read_results(self.path)
        except UsageError as error:
            why = "it is not a results file" if isinstance(error, ResultsError) else error.message
            raise ResultsError(
                f"{self.path} exists and is never replaced: {why}",
                f"{self._elsewhere}, or remove the file yourself",
            ) from None
        self._check_no_other_sheets(results)
        if not overwrite and (results.frame["auth_token"] != "").any():
            raise ResultsError(
                f"{self.path} exists and holds tokens",
                f"batch-issuer retry {self.path} renews those that expired and leaves the rest; "
                "or add --overwrite to ask for new tokens for every row",
            )

    def _unfinished(self, validity: Validity, options: RosterOptions | None) -> Batch:
        """The rows of a journal that was left behind."""
        try:
            batch = Batch.of_results(read_results(self.partial), self.partial.name, validity, options, unfinished=True)
        except UsageError as error:
            raise ResultsError(error.message, f"{error.hint}; or add --restart to keep the file aside") from None
        if self.path.exists():
            results = self.path.stat()  # one that was copied or moved here keeps the time of its last change
            if max(results.st_mtime_ns, results.st_ctime_ns) > self.partial.stat().st_mtime_ns:
                self._check_unedited(batch, validity, options)
        return batch

    def _check_unedited(self, batch: Batch, validity: Validity, options: RosterOptions | None) -> None:
        """Refuse to replace results that somebody has worked on since the journal was left."""
        try:
            edited = not batch.supersedes(Batch.of_results(self._read(), self.path.name, validity, options))
        except UsageError:
            edited = True
        if edited:
            raise ResultsError(
                f"{self.path} was changed after the run that did not finish and left {self.partial}",
                f"add --restart to use {self.path.name} as it is and keep {self.partial.name} aside; or move "
                f"{self.path.name} away to finish that run",
            )

    def open_journal(self, batch: Batch) -> Journal:
        """Begin the journal, in place of one that was left behind; room for the results is reserved first.

        Where the rows are to begin anew, the one that was left behind is kept under a free name, `aside`.

        Raises:
            ResultsError: there is no room, or it cannot be created, or a workbook cannot hold the rows; what was left
                behind still is.
        """
        if not self._entered:
            raise RuntimeError("a Destination is used as a context: with Destination(path) as destination")
        if self._replacement.is_workbook:
            xlsx_writer.check_fits(batch.cells, len(batch.header) - batch.cells.shape[1])
        try:
            self._replacement.make_room(_room_for(batch))
            if self._restart and self.partial.exists():
                self.aside = self.partial.rename(free_name(self.partial, f"{self.partial.name}.{{}}"))
            return Journal(self.partial, batch)
        except OSError as error:
            self._replacement.give_up()
            raise ResultsError(
                f"the results cannot be written to {self.path.parent}: {error.strerror}",
                "make room there, or use another folder",
            ) from None

    def publish(self, batch: Batch, outcomes: Mapping[int, Outcome]) -> Published:
        """Write the finished file under another name, flush it, rename it to OUT, and remove the journal.

        Where OUT cannot be replaced, or was changed meanwhile, the results get a free name next to it.

        Args:
            batch: the rows.
            outcomes: what they came to, by row number.

        Raises:
            StorageError: the file could not be written; OUT is as it was and the journal is still there.
        """
        published = self._replacement.put(composed(batch, outcomes), batch.delimiter)
        with contextlib.suppress(OSError):  # the results are out; what is left of the journal is only in the way
            self.partial.unlink()
        return published

    def rescue(self, batch: Batch, outcomes: Mapping[int, Outcome]) -> Path | None:
        """Write the results into the system's folder of temporary files, as CSV; None if not even that is possible."""
        try:
            descriptor, name = tempfile.mkstemp(suffix=".csv", prefix="batch-issuer-")  # private from birth
            try:
                write_csv(descriptor, composed(batch, outcomes), batch.delimiter)
                finish(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return None
        return Path(name)

    def purge(self, now: datetime) -> tuple[int, int]:
        """Blank the tokens that have expired at ``now``, and their codes; no other cell changes.

        Returns:
            How many were blanked, and how many are left because their ``auth_expires_at`` cannot be read.

        Raises:
            ResultsError: this is no results file, or a run did not finish it.
            RosterError: the file cannot be read.
            StorageError: it could not be written; it is as it was.
        """
        self._check()
        if self.partial.exists():
            raise ResultsError(
                f"{self.partial} was left by a run that did not finish",
                f"finish that one first, with batch-issuer retry {self.path}",
            )
        results = self._read()
        expires = results.expires_at()
        expired = [at is not None and at <= now for at in expires]
        held = results.frame["auth_token"] != ""
        blanked = held & pd.Series(expired, index=held.index)
        if blanked.any():
            table = results.frame
            table.loc[blanked, ["auth_token", "auth_code"]] = ""
            path = self._replacement.put((table.iloc[part] for part in slices(len(table))), results.delimiter).path
            if path != self.path:
                with contextlib.suppress(OSError):
                    path.unlink()
                raise StorageError(
                    f"{self.path} was changed meanwhile, or another program has it open; nothing was blanked",
                    "close it there and purge again",
                )
        return int(blanked.sum()), sum(at is None for at, has in zip(expires, held, strict=True) if has)


def _room_for(batch: Batch) -> int:
    """Bytes that the results will take."""
    columns = (batch.cells.iloc[:, position] for position in range(batch.cells.shape[1]))
    return sum(len("".join(column).encode()) for column in columns) + len(batch) * ROOM_PER_ROW
