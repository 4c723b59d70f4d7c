"""The results file: locked by one run at a time, checked before the first request, published in one step."""

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
from ..settings.kinds import results_name_problem
from . import xlsx_writer
from .atomic_file import Published, Replacement, free_name
from .auth_columns import PARTIAL
from .batch import Batch, composed
from .csv_writer import delimiter_of_name, finish, slices, write_csv
from .journal import Journal
from .private_files import exposure
from .reading import read_results
from .replaceable import check_no_other_sheets, check_replaceable, is_worthless, retry_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from ..model import Outcome
    from ..roster import Roster
    from ..settings.roster_options import RosterOptions
    from .reading import Results
    from .validity import Validity

ROOM_PER_ROW = 600
"""Bytes reserved for the ``auth_`` cells of a row: token, code, times and perhaps a hint."""


class Destination:
    """Where the results go. Use it as a context: meanwhile no other run on this computer can write there.

    Attributes:
        path: of the results.
        partial: of the journal, during a run and after an interrupted one.
        resumes: whether the rows come from the journal of an interrupted run.
        aside: where the journal of an interrupted run was moved, if this one started over.
        replaces_real_tokens: whether the earlier results that a new run replaces contain tokens of the real API.
        warning: why others may be able to read the results, one sentence; empty if they cannot, or before entering.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, roster: Path | None = None, creates_folder: bool = False
    ) -> None:
        """Name the place; touches nothing.

        Args:
            path: of the results, or of their journal.
            roster: the file of the roster, which is never replaced.
            creates_folder: whether a missing folder is created on entering, readable only by its owner.

        Raises:
            ResultsError: results cannot have this name, or the run needs the roster's name for a file of its own.
        """
        path = Path(path)
        self._elsewhere = "choose another name with -o" if roster is not None else "fix that, then try again"
        if path.name.endswith(PARTIAL) and path.name != PARTIAL:
            path = path.with_name(path.name.removesuffix(PARTIAL))
        if path.name in ("", PARTIAL):
            raise ResultsError(f"{path} is a folder", "name a file, such as depot.results.csv")
        if path.suffix.lower() in (".xls", ".xlsm", ".xlsb", ".ods", ".gz"):
            raise ResultsError(
                f"results cannot be written as {path.suffix}",
                f"save {path.name} as .csv or {xlsx_writer.SUFFIX} first",
            )
        self._replacement = Replacement(path)
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.warning = ""
        self.aside: Path | None = None
        self._roster, self._creates_folder = roster, creates_folder
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = Lock(self._lock_path)
        self._entered = self.resumes = self._sets_aside = self.replaces_real_tokens = False
        ours = (self.partial, self._replacement.new, self._lock_path, Journal.temporary_path(self.partial))
        if roster is not None and roster.absolute() in [name.absolute() for name in ours]:
            raise ResultsError(f"the run needs the name of the roster {roster} for a file of its own", "rename it")

    def __enter__(self) -> Self:
        """Lock the place for this run.

        Raises:
            ResultsError: another run has locked it, nothing can be written there, or it is a workbook and the extra
                ``xlsx`` is not installed.
        """
        if self._replacement.is_workbook:
            xlsx_writer.check_available(self.path)
        if self._creates_folder:
            self._create_folder()
        if not self.path.parent.is_dir():
            raise ResultsError(f"no folder {self.path.parent}", "create it, or name another")
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
                f"another run is writing {self.path}{f': {who}' if who else ''}",
                "wait until it ends",
            )
        self._entered = True
        self.warning = exposure(self._lock_path)
        for left_over in (self._replacement.new, Journal.temporary_path(self.partial)):  # by a run that was killed
            with contextlib.suppress(OSError):
                left_over.unlink()
        return self

    def _create_folder(self) -> None:
        folder = self.path.parent
        try:
            missing = [each for each in (folder, *folder.parents) if not each.exists()]
            for each in reversed(missing):
                each.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ResultsError(f"the folder {folder} cannot be created: {error.strerror}", "choose another") from None

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
    ) -> Batch:
        """The rows to issue for: a roster's, as an interrupted run left them.

        Args:
            roster: the rows.
            validity: which tokens of the interrupted run are good.
            overwrite: start over: earlier results are replaced, and the journal of an interrupted run is set aside.

        Raises:
            ResultsError: something is in the way; nothing was changed.
        """
        if problem := results_name_problem(self.path.name):
            raise ResultsError(*problem)
        self._check(overwrite=overwrite)
        journal = self._read_journal(self._start_over) if self.resumes else None
        if journal is not None and not is_worthless(journal, validity):
            batch = self._unfinished(journal, validity, roster.options, self._start_over)
            difference = batch.difference(roster)
            if difference:
                raise ResultsError(
                    f"the interrupted run that left {self.partial} had another roster: {difference}",
                    f"finish it with {retry_command(self.path)}, or {self._start_over()}",
                )
            return batch
        self.resumes = False
        if self.path.exists():
            self.replaces_real_tokens = check_replaceable(
                self.path, validity, overwrite=overwrite, elsewhere=self._elsewhere
            )
        return Batch.of_roster(roster, delimiter_of_name(self.path))

    def reopen(self, validity: Validity, options: RosterOptions | None = None, *, overwrite: bool = False) -> Batch:
        """The rows of the results, as the last run left them, finished or not.

        Args:
            validity: which of their tokens are good.
            options: which columns name the drivers of rows that were never sent.
            overwrite: use the results as they are, and set the journal of an interrupted run aside.

        Raises:
            ResultsError: they cannot be used; nothing was changed.
            RosterError: the file cannot be read.
        """
        self._check(overwrite=overwrite)
        if self.resumes:
            journal = self._read_journal(self._leave_journal)
            return self._unfinished(journal, validity, options, self._leave_journal)
        self.rows_path(overwrite=overwrite)
        return Batch.of_results(self._read(), self.path.name, validity, options)

    def rows_path(self, *, overwrite: bool) -> Path:
        """The file that `reopen` reads: the journal of an interrupted run, or the results.

        Raises:
            ResultsError: there is only a journal, and ``overwrite`` leaves it aside.
        """
        if not self.partial.exists() or (overwrite and self.path.exists()):
            return self.path
        if overwrite:
            raise ResultsError(
                f"there is no {self.path} yet, only the journal of an interrupted run",
                f"finish that run with {retry_command(self.path)}, without --overwrite",
            )
        return self.partial

    def _check(self, *, overwrite: bool = False) -> None:
        """Refuse a place that cannot take the results, and remember what is there."""
        try:
            is_interrupted = self.partial.exists()
            self.resumes, self._sets_aside = is_interrupted and not overwrite, is_interrupted and overwrite
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
        """The results that will be replaced."""
        results = read_results(self.path)
        check_no_other_sheets(results, self.path)
        return results

    def _start_over(self) -> str:
        """What to do to start over from the roster; it replaces earlier results as well."""
        replaces = f"{self.path.name} is replaced, and " if self.path.exists() else ""
        return f"add --overwrite to start over: {replaces}the journal is kept as {self._free_journal_name().name}"

    def _leave_journal(self) -> str:
        """What to do to use the results without the journal."""
        if self.path.exists():
            kept = f"the journal is kept as {self._free_journal_name().name}"
            return f"add --overwrite to use {self.path.name} as it is: {kept}"
        return f"move {self.partial.name} away and start over with batch-issuer issue"

    def _free_journal_name(self) -> Path:
        return free_name(self.partial, f"{self.partial.name}.{{}}")

    def _read_journal(self, otherwise: Callable[[], str]) -> Results:
        """The journal of an interrupted run."""
        with _or(otherwise):
            return read_results(self.partial)

    def _unfinished(
        self, journal: Results, validity: Validity, options: RosterOptions | None, otherwise: Callable[[], str]
    ) -> Batch:
        """The rows of an interrupted run."""
        with _or(otherwise):
            batch = Batch.of_results(journal, self.partial.name, validity, options, unfinished=True)
        if self.path.exists():
            results = self.path.stat()  # one that was copied or moved here keeps the time of its last change
            if max(results.st_mtime_ns, results.st_ctime_ns) > self.partial.stat().st_mtime_ns:
                self._check_unedited(batch, validity, options)
        return batch

    def _check_unedited(self, batch: Batch, validity: Validity, options: RosterOptions | None) -> None:
        """Refuse to replace results that somebody has edited since the run was interrupted."""
        try:
            edited = not batch.supersedes(Batch.of_results(self._read(), self.path.name, validity, options))
        except UsageError:
            edited = True
        if edited:
            raise ResultsError(
                f"{self.path} was changed after the interrupted run that left {self.partial}",
                f"to finish that run, move {self.path.name} away; to use {self.path.name} as it is and set the journal "
                f"aside, run {retry_command(self.path)} --overwrite",
            )

    def open_journal(self, batch: Batch) -> Journal:
        """Start the journal, in place of an interrupted run's; room for the results is reserved first.

        If the run starts over, the old journal is moved to a free name, `aside`.

        Raises:
            ResultsError: there is no room, it cannot be created, or the rows do not fit into a workbook; the old
                journal stays.
        """
        if not self._entered:
            raise RuntimeError("a Destination is used as a context: with Destination(path) as destination")
        if self._replacement.is_workbook:
            xlsx_writer.check_fits(batch.cells, len(batch.header) - batch.cells.shape[1])
        try:
            self._replacement.make_room(_room_for(batch))
            if self._sets_aside:
                self.aside = self.partial.rename(self._free_journal_name())
            return Journal(self.partial, batch)
        except OSError as error:
            self._replacement.give_up()
            raise ResultsError(
                f"the results cannot be written to {self.path.parent}: {error.strerror}",
                "free some space there, or use another folder",
            ) from None

    def publish(self, batch: Batch, outcomes: Mapping[int, Outcome]) -> Published:
        """Write the finished file under another name, flush it, rename it to OUT, and remove the journal.

        If OUT cannot be replaced, or was changed meanwhile, the results get a free name next to it.

        Args:
            batch: the rows.
            outcomes: their outcomes, by row number.

        Raises:
            StorageError: the file could not be written; OUT and the journal are unchanged.
        """
        published = self._replacement.put(composed(batch, outcomes), batch.delimiter)
        with contextlib.suppress(OSError):  # the results are published; the journal is no longer needed
            self.partial.unlink()
        return published

    def rescue(self, batch: Batch, outcomes: Mapping[int, Outcome]) -> Path | None:
        """Write the results to the system's folder for temporary files, as CSV; None if that fails, too."""
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
            ResultsError: it is not a results file, or its run was interrupted.
            RosterError: the file cannot be read.
            StorageError: it could not be written and is unchanged.
        """
        self._check()
        if self.partial.exists():
            raise ResultsError(
                f"an interrupted run left {self.partial}",
                f"finish it first with {retry_command(self.path)}",
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
                    f"{self.path} was changed meanwhile, or is open in another program; nothing was blanked",
                    "close it there, then purge again",
                )
        return int(blanked.sum()), sum(at is None for at, has in zip(expires, held, strict=True) if has)


@contextlib.contextmanager
def _or(otherwise: Callable[[], str]) -> Iterator[None]:
    """Adds another way out to the hint of an error."""
    try:
        yield
    except UsageError as error:
        raise ResultsError(error.message, f"{error.hint}, or {otherwise()}") from None


def _room_for(batch: Batch) -> int:
    """Bytes that the results will take."""
    columns = (batch.cells.iloc[:, position] for position in range(batch.cells.shape[1]))
    return sum(len("".join(column).encode()) for column in columns) + len(batch) * ROOM_PER_ROW
