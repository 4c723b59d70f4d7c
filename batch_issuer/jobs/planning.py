"""What to issue for, and in which results files.

::

    settings file ─┐
    roster ────────┼─► Planner ─► a Job for each results file, which it holds meanwhile
    results file ──┘

One roster gives one results file, in the roster's order. The rows of a roster whose column names organizations are
requested each with the API token of its own organization; an organization with a roster of its own has a results file
of its own.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from ..errors import BatchIssuerError, ResultsError, RosterError, SettingsError
from ..garbage import collection_paused
from ..results import Destination, Validity, read_results
from ..roster import Roster, organization_position, organizations_of, read_bytes, read_table
from ..settings.file import UNASSIGNED, in_file_name
from ..settings.layers import results_path
from .records import Job, OrganizationJob

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    import pandas as pd

    from ..settings.layers import Layers
    from ..settings.roster_options import RosterOptions
    from ..settings.selection import Selection


class RosterData(NamedTuple):
    """A roster that is not in a file: its bytes, and how messages call it."""

    data: bytes
    name: str


class Planner:
    """Makes jobs. Use it as a context: meanwhile their results files are held, so that no other run writes there."""

    def __init__(
        self,
        selection: Selection,
        *,
        date: datetime | None = None,
        overwrite: bool = False,
        restart: bool = False,
        sandbox: bool = False,
    ) -> None:
        """Plan nothing yet.

        Args:
            selection: the organizations of the settings file, and which of them is meant.
            date: for ``{date}`` in the names of results, with its zone; now by default.
            overwrite: whether earlier results with tokens may be replaced.
            restart: keep the journal of an interrupted run aside, and start over.
            sandbox: whether the local test server stands in for the API.
        """
        self._selection, self._file = selection, selection.file
        self._date = date or datetime.now().astimezone()
        self._overwrite, self._restart, self._sandbox = overwrite, restart, sandbox
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    # --- issue

    def issue_all(self, names: Sequence[str] | None = None) -> list[Job]:
        """A job for each organization, from the roster that its section names; what is wrong with one is its error.

        Args:
            names: the organizations; None for all.

        Raises:
            SettingsError: there are no organizations, or none of such a name, or two have the same API token.
        """
        if not self._file.organizations:
            raise SettingsError(
                "there are no organizations in the settings",
                "name them there, each with its roster_file; or leave out --all and name a ROSTER",
            )
        chosen = dict.fromkeys(self._file.organizations if names is None else map(self._selection.known, names))
        jobs = {name: Job([self._record(name)], name if len(chosen) > 1 else "") for name in chosen}
        outputs: dict[Path, list[str]] = {}
        for name, job in jobs.items():
            with _error_of(job):
                layers = self._selection.layers(name)
                self._name_source(job, self._named_roster(layers))
                outputs.setdefault(self._output(layers, job.source).absolute(), []).append(name)
        for output, sharing in outputs.items():
            for name in sharing if len(sharing) > 1 else ():
                jobs[name].error = ResultsError(
                    f"{output} is to hold the results of {sharing[0]} and of {sharing[1]}",
                    "write {organization} into output, so that each has a file of its own",
                )
        for output, (name, *_) in outputs.items():
            if jobs[name].error is None:
                with _error_of(jobs[name]):
                    self._begin(jobs[name], Path(jobs[name].source), name, output)
        return self._checked([*jobs.values()])

    def issue_named(self) -> list[Job]:
        """The job of the only organization, or of the one that was named, from the roster that its section names.

        Raises:
            SettingsError: there are several, and none was named.
        """
        layers = self._selection.only_layers()
        job = Job([self._record(layers.organization)])
        with _error_of(job):
            self._begin(job, self._named_roster(layers), layers.organization)
        return self._checked([job])

    def issue_roster(self, roster: Path | RosterData) -> list[Job]:
        """The job of a roster, be its rows of one organization or of several.

        Raises:
            SettingsError: there is no organization of the name that was given.
        """
        one = self._selection.one()
        job = Job([self._record(one or "")])
        with _error_of(job):
            self._begin(job, roster, one)
        return self._checked([job])

    def _named_roster(self, layers: Layers) -> Path:
        path = layers.roster_file()
        if path is None:
            where = f"[organizations.{layers.organization}] names no roster_file" if layers.organization else ""
            raise SettingsError(where or "no roster is named", "add it; or name a ROSTER")
        return path

    def read(self, roster: Path | RosterData, one: str | None, *, only_check: bool = False) -> tuple[Roster, list[str]]:
        """A roster, and the names of the organizations whose rows are to be requested.

        Args:
            roster: its file or its bytes.
            one: the only organization; None for all that its column names.
            only_check: whether nothing will be requested, so that it may stay open which organization the rows are of.

        Raises:
            RosterError: it cannot be used as a whole, or no row is of that organization.
            SettingsError: the settings have several organizations, and nothing says which.
        """
        layers = self._selection.layers(one or "")
        options = layers.roster_options()
        data, name = roster if isinstance(roster, RosterData) else (read_bytes(roster), roster.name)
        with collection_paused():
            frame, notes = read_table(data, name, options)
            if not self._names_organizations(frame, name, layers):
                if one is None and not only_check:
                    raise self._selection.which()
                return Roster(frame, name, options, notes=notes), [one or ""]
            found = Roster(frame, name, self._with_organizations(options, layers), notes=notes)
        return found, self._used(found.organizations, name, one)

    def _used(self, organizations: Sequence[str], name: str, one: str | None) -> list[str]:
        """The organizations that rows name, or the one of them that was named, in the order of the settings.

        Raises:
            RosterError: no row is of that one.
        """
        used = set(organizations)
        if one and one not in used:
            raise RosterError(f"no row of {name} is of {one}", "see to its column of organizations")
        return [each for each in self._file.organizations if each in used and one in (None, each)]

    def _with_organizations(self, options: RosterOptions, layers: Layers) -> RosterOptions:
        names = tuple(self._file.organizations)
        return replace(options, organization_column=layers.organization_column(), organizations=names)

    def _names_organizations(self, frame: pd.DataFrame, name: str, layers: Layers) -> bool:
        """Whether a column says which organization each row is of, at least for one row."""
        column = layers.organization_column()
        header = [str(title) for title in frame.columns]
        if not self._file.organizations or organization_position(header, column, name) is None:
            return False
        options = self._with_organizations(layers.roster_options(), layers)
        return not len(frame) or any(isinstance(one, str) for one in organizations_of(frame, options, name))

    def _name_source(self, job: Job, roster: Path | RosterData) -> None:
        job.source = str(roster) if isinstance(roster, Path) else roster.name
        for one in job.organizations:
            one.roster = job.source

    def _begin(self, job: Job, roster: Path | RosterData, one: str | None, output: Path | None = None) -> None:
        """Read a roster, hold its results file, and find out what is to be requested."""
        self._name_source(job, roster)
        if self._selection.layers(one or "").output() is None:
            _check_names_results(roster)
        job.roster, names = self.read(roster, one)
        shared = bool(job.roster.options.organization_column)
        if output is None:
            source = job.source if isinstance(roster, Path) else None
            output = (
                self._output_of_several(names, source)
                if one is None
                else self._output(self._selection.layers(one), source)
            )
        self._ask(job, names, job.roster.organizations if shared else ())
        job.destination = self._held.enter_context(Destination(output, roster=Path(job.source)))
        job.batch = job.destination.begin(
            job.roster, self._validity(job), overwrite=self._overwrite, restart=self._restart
        )

    def _ask(self, job: Job, names: Sequence[str], of_rows: Container[str]) -> None:
        """Make a record for each organization, and one for the rows that name none, unless one was named."""
        job.organizations = [self._record(name, job.source) for name in names]
        if "" in of_rows and self._selection.named is None:
            job.organizations.append(OrganizationJob(name=UNASSIGNED, roster=job.source))

    def _record(self, name: str, source: str = "") -> OrganizationJob:
        return OrganizationJob(name=name, layers=self._selection.layers(name), roster=source)

    def _output_of_several(self, names: Sequence[str], source: str | None) -> Path:
        """The one results file of a roster that several organizations share.

        Raises:
            SettingsError: the settings want one for each.
        """
        common = self._selection.layers()
        pattern = common.output()
        if "{organization}" in (pattern or "") or any(
            self._selection.layers(name).output() != pattern for name in names
        ):
            name = Path(source).name if source else "the roster"
            raise SettingsError(
                f"{name} holds drivers of several organizations, so its results are one file; "
                "output in the settings names one for each",
                "choose one with -o, or as output under [defaults]; for a file each, give each organization a roster "
                "of its own (roster_file) and issue --all",
            )
        return self._output(common, source)

    def _output(self, layers: Layers, source: str | None) -> Path:
        path = Path(source or "")
        stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
        pattern = layers.output()
        if pattern is None:
            return path.with_name(f"{stem}.results.csv")
        output = results_path(pattern, organization=layers.organization, roster=stem, now=self._date)
        if "{" in str(Path(pattern).parent):  # nobody can have made tonight's folder
            try:
                output.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                hint = "make room there, or choose another"
                raise ResultsError(f"the folder {output.parent} cannot be made: {error.strerror}", hint) from None
        return output

    # --- retry

    def retry(self, results: Path) -> list[Job]:
        """The job of a results file.

        Raises:
            BatchIssuerError: it cannot be prepared.
        """
        one = self._selection.one() if self._selection.named else self._named_after(results)
        common = self._selection.layers(one or "")
        options = common.roster_options()
        job = Job([self._record(name) for name in (self._file.organizations if one is None else [one])])
        job.destination = self._held.enter_context(Destination(results))
        if one is None or (one and self._has_organizations(job.destination, common)):
            options = self._with_organizations(options, common)
        job.batch = job.destination.reopen(self._validity(job), options, restart=self._restart)
        if of_rows := job.batch.organizations:
            self._ask(job, self._used(of_rows, results.name, one), of_rows)
        return self._checked([job])

    def _named_after(self, path: Path) -> str | None:
        """The one organization whose results have such a name by the settings; as `Selection.one` if none has."""
        names = [name for name in self._file.organizations if self._may_be_named(self._selection.layers(name), path)]
        return names[0] if len(names) == 1 else self._selection.one()

    def _may_be_named(self, layers: Layers, path: Path) -> bool:
        pattern, roster = layers.output(), layers.roster_file()
        if pattern is None:
            return roster is not None and path.absolute() == roster.with_name(f"{roster.stem}.results.csv").absolute()
        if "{organization}" not in pattern:
            return False
        wanted = (
            re.escape(str(Path(pattern).absolute()))
            .replace(r"\{date\}", r"\d{4}-\d\d-\d\d")
            .replace(r"\{roster\}", ".*")
            .replace(r"\{organization\}", re.escape(in_file_name(layers.organization)))
        )
        return re.fullmatch(f"{wanted}(?:{re.escape('.partial')})?", str(path.absolute())) is not None

    def _has_organizations(self, destination: Destination, layers: Layers) -> bool:
        path = destination.partial if destination.partial.exists() and not self._restart else destination.path
        return self._names_organizations(read_results(path).cells, path.name, layers)

    # --- both

    def _validity(self, job: Job) -> Validity:
        found = [one.layers for one in job.organizations if one.layers is not None]
        least = max((layers.min_validity() for layers in found), default=0.0)
        real = not self._sandbox and any(layers.is_remote() for layers in found)
        return Validity.at_least(least, real=real)

    def _checked(self, jobs: list[Job]) -> list[Job]:
        """Refuse what would hurt if it were only reported in the end, and find the settings of each organization.

        Raises:
            SettingsError: tokens of the sandbox would replace others, or two organizations have the same API token.
        """
        for job in jobs:
            if self._sandbox and job.batch is not None and job.batch.has_real_tokens:
                raise SettingsError(
                    f"{job.destination.path if job.destination else ''} holds tokens of the real API, which those of "
                    "the sandbox would replace",
                    "leave out --sandbox, or try it with a copy",
                )
        if not self._sandbox:
            for job in jobs:
                _find_settings(job)
            _check_api_tokens([one for job in jobs for one in job.organizations])
        return jobs


def _check_names_results(roster: Path | RosterData) -> None:
    """Refuse a roster from which no name for the results follows, before it is read."""
    if isinstance(roster, RosterData):
        raise SettingsError(f"a roster from {roster.name} needs a name for the results", "add -o depot.results.csv")
    if not roster.name:
        raise SettingsError(f"{roster} is not a file", "name the roster's file")


@contextmanager
def _error_of(job: Job) -> Iterator[None]:
    """What goes wrong is the job's own error."""
    try:
        yield
    except BatchIssuerError as error:
        job.error = error


def _find_settings(job: Job) -> None:
    """The settings of each organization; one whose settings cannot be used fails alone, if it is not the only one."""
    if job.error is not None:
        return
    for one in job.organizations:
        try:
            one.settings = one.layers.settings() if one.layers is not None else None
        except SettingsError as error:
            one.error = error
    asked = [one for one in job.organizations if one.layers is not None]
    if asked and all(one.error is not None for one in asked):
        job.error = asked[0].error


def _check_api_tokens(organizations: Sequence[OrganizationJob]) -> None:
    by_key: dict[tuple[str, str], str] = {}
    for one in organizations:
        if one.settings is None:
            continue
        other = by_key.setdefault((one.settings.base_url, one.settings.api_token.reveal()), one.name)
        if other != one.name:
            raise SettingsError(
                f"the organizations {other!r} and {one.name!r} have the same API token",
                "give each its own (see batch-issuer config); depots of one organization are one organization here",
            )
