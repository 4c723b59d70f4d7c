"""Which rosters are issued for, and where the results go.

::

    settings file ─┐
    roster ────────┼─► Planner ─► a Job for each results file, locked meanwhile
    results file ──┘

One roster gives one results file, in the roster's order. If a column of the roster names organizations, each row is
requested with the API token of its organization. An organization with a roster of its own has a results file of its
own.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from ..errors import BatchIssuerError, RosterError, SettingsError
from ..garbage import collection_paused
from ..results import Destination, Validity, read_results
from ..roster import Roster, organization_position, organizations_of, read_bytes, read_table
from ..settings.file import UNASSIGNED
from .outputs import Output, conflicts, organization_of_results, output_of, shared_output
from .records import Job, OrganizationJob

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    import pandas as pd

    from ..settings.layers import Layers
    from ..settings.roster_options import RosterOptions
    from ..settings.run_settings import Settings
    from ..settings.selection import Selection


class RosterData(NamedTuple):
    """A roster that is not a file: its bytes, and its name in messages."""

    data: bytes
    name: str


class Planner:
    """Makes jobs. Use it as a context: meanwhile their results files are locked, so that no other run writes there."""

    def __init__(
        self,
        selection: Selection,
        *,
        date: datetime | None = None,
        overwrite: bool = False,
        sandbox: bool = False,
    ) -> None:
        """Plan nothing yet.

        Args:
            selection: the organizations of the settings file.
            date: for ``{date}`` in the names of results, with its zone; now by default.
            overwrite: start over: replace earlier results, and set the journals of interrupted runs aside.
            sandbox: whether the local test server is used instead of the API.
        """
        self._selection, self._file = selection, selection.file
        self._date = date or datetime.now().astimezone()
        self._overwrite, self._sandbox = overwrite, sandbox
        self._settings: dict[str, Settings] = {}
        self._locked = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._locked.close()

    # --- issue

    def issue_all(self, names: Sequence[str] | None = None) -> list[Job]:
        """A job for each organization, from the roster of its section. A job that cannot be prepared has an error.

        Args:
            names: the organizations; None for all.

        Raises:
            SettingsError: the settings have no organizations, or none of such a name, or two with the same API token.
        """
        chosen = self.organizations(names)
        jobs = {name: Job([self._record(name)], name if len(chosen) > 1 else "") for name in chosen}
        outputs: dict[str, Output] = {}
        for name, job in jobs.items():
            with _error_of(job):
                layers = self._selection.layers(name)
                self._name_source(job, self.named_roster(layers))
                output = output_of(layers, job.source, self._date)
                self._find_settings(name)
                outputs[name] = output
        _check_api_tokens(self._settings)
        found = conflicts(outputs)
        for name, output in outputs.items():
            with _error_of(jobs[name]):
                if name in found:
                    raise found[name]
                self._begin(jobs[name], Path(jobs[name].source), name, output)
        return self._checked([*jobs.values()])

    def organizations(self, names: Sequence[str] | None = None) -> list[str]:
        """The organizations to issue for, each once; None for all.

        Raises:
            SettingsError: the settings have no organizations, or none of such a name.
        """
        if not self._file.organizations:
            raise SettingsError(
                "the settings have no organizations",
                "add [organizations.NAME] with a roster_file for each, or pass a ROSTER instead of --all",
            )
        return [*dict.fromkeys(self._file.organizations if names is None else map(self._selection.known, names))]

    def issue_named(self) -> list[Job]:
        """The job of the only organization, or of the one that was named, from the roster of its section.

        Raises:
            SettingsError: there are several, and none was named.
        """
        layers = self._selection.only_layers(hint="pass --org NAME for one of them, or --all")
        job = Job([self._record(layers.organization)])
        with _error_of(job):
            roster = self.named_roster(layers)
            self.check_settings(layers.organization)
            self._begin(job, roster, layers.organization)
        return self._checked([job])

    def issue_roster(self, roster: Path | RosterData) -> list[Job]:
        """The job of a roster, whether its rows belong to one organization or to several.

        Raises:
            SettingsError: the settings have no organization of the name that was given.
        """
        one = self._selection.one()
        job = Job([self._record(one or "")])
        with _error_of(job):
            self.check_settings(one)
            self._begin(job, roster, one)
        return self._checked([job])

    def named_roster(self, layers: Layers) -> Path:
        """The roster that the section of an organization names.

        Raises:
            SettingsError: it names none.
        """
        path = layers.roster_file()
        if path is None:
            section = f"[organizations.{layers.organization}] has no roster_file" if layers.organization else ""
            hint = "add one, or pass a ROSTER" if section else "pass one, such as depot.csv"
            raise SettingsError(section or "ROSTER is missing", hint)
        return path

    def check_settings(self, one: str | None) -> None:
        """Check settings before any file is read.

        Args:
            one: the only organization; None for several, of which those without rows may have invalid settings.

        Raises:
            SettingsError: there is an invalid setting, or one for each organization.
        """
        if one is not None:
            self._find_settings(one)
            return
        first_error: SettingsError | None = None
        for name in self._file.organizations:
            try:
                self._selection.layers(name).check(sandbox=self._sandbox)
            except SettingsError as error:
                first_error = first_error or error
            else:
                return
        if first_error is not None:
            raise first_error

    def _find_settings(self, name: str) -> None:
        """Find the settings of an organization, once, or only check them for the sandbox, which sets its own."""
        layers = self._selection.layers(name)
        if self._sandbox:
            layers.check(sandbox=True)
        elif name not in self._settings:
            self._settings[name] = layers.settings()

    def read(self, roster: Path | RosterData, one: str | None, *, only_check: bool = False) -> tuple[Roster, list[str]]:
        """A roster, and the names of the organizations whose rows will be requested.

        Args:
            roster: its file or its bytes.
            one: the only organization; None for all that its column names.
            only_check: whether nothing will be requested, so that the rows need not have an organization.

        Raises:
            RosterError: it cannot be used as a whole, or no row belongs to that organization.
            SettingsError: the settings have several organizations, and the roster has no column for them.
        """
        layers = self._selection.layers(one or "")
        options = layers.roster_options()
        if only_check:
            layers.check(sandbox=True)
        data, name = roster if isinstance(roster, RosterData) else (read_bytes(roster), roster.name)
        with collection_paused():
            frame, notes = read_table(data, name, options)
            if not self._names_organizations(frame, name, layers):
                if one is None and not only_check:
                    raise self._selection.several()
                return Roster(frame, name, options, notes=notes), [one or ""]
            found = Roster(frame, name, self._with_organizations(options, layers), notes=notes)
        return found, self._used(found.organizations, name, one)

    def _used(self, organizations: Sequence[str], name: str, one: str | None) -> list[str]:
        """The organizations that rows name, or only the one that was named, in the order of the settings.

        Raises:
            RosterError: no row belongs to that one.
        """
        used = set(organizations)
        if one and one not in used:
            raise RosterError(f"no row of {name} belongs to {one}", "check its column of organizations")
        return [each for each in self._file.organizations if each in used and one in (None, each)]

    def _with_organizations(self, options: RosterOptions, layers: Layers) -> RosterOptions:
        names = tuple(self._file.organizations)
        return replace(options, organization_column=layers.organization_column(), organizations=names)

    def _names_organizations(self, frame: pd.DataFrame, name: str, layers: Layers) -> bool:
        """Whether a column names the organization of at least one row."""
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

    def _begin(self, job: Job, roster: Path | RosterData, one: str | None, output: Output | None = None) -> None:
        """Read a roster, lock its results file, and find the rows to request."""
        self._name_source(job, roster)
        if self._selection.layers(one or "").output() is None:
            _check_names_results(roster)
        job.roster, names = self.read(roster, one)
        shared = bool(job.roster.options.organization_column)
        if output is None:
            source = job.source if isinstance(roster, Path) else None
            output = (
                shared_output(self._selection, names, source, self._date)
                if one is None
                else output_of(self._selection.layers(one), source, self._date)
            )
        self._ask(job, names, job.roster.organizations if shared else ())
        job.destination = self._locked.enter_context(
            Destination(output.path, roster=Path(job.source), creates_folder=output.creates_folder)
        )
        job.batch = job.destination.begin(job.roster, self._validity(job), overwrite=self._overwrite)
        if self._sandbox and job.destination.replaces_real_tokens:
            raise _only_sandbox_tokens(output.path, "choose another file with -o")

    def _ask(self, job: Job, names: Sequence[str], of_rows: Container[str]) -> None:
        """Make a record for each organization, and one for rows without an organization, unless one was named."""
        job.organizations = [self._record(name, job.source) for name in names]
        if "" in of_rows and self._selection.named is None:
            job.organizations.append(OrganizationJob(name=UNASSIGNED, roster=job.source))

    def _record(self, name: str, source: str = "") -> OrganizationJob:
        return OrganizationJob(name=name, layers=self._selection.layers(name), roster=source)

    # --- retry

    def retry(self, results: Path) -> list[Job]:
        """The job of a results file.

        Raises:
            BatchIssuerError: it cannot be prepared.
        """
        one = self._selection.one() if self._selection.named else organization_of_results(self._selection, results)
        self.check_settings(one)
        common = self._selection.layers(one or "")
        options = common.roster_options()
        job = Job([self._record(name) for name in (self._file.organizations if one is None else [one])])
        job.destination = self._locked.enter_context(Destination(results))
        if one is None or (one and self._has_organizations(job.destination, common)):
            options = self._with_organizations(options, common)
        job.batch = job.destination.reopen(self._validity(job), options, overwrite=self._overwrite)
        if of_rows := job.batch.organizations:
            self._ask(job, self._used(of_rows, results.name, one), of_rows)
        return self._checked([job])

    def _has_organizations(self, destination: Destination, layers: Layers) -> bool:
        path = destination.rows_path(overwrite=self._overwrite)
        return self._names_organizations(read_results(path).cells, path.name, layers)

    # --- both

    def _validity(self, job: Job) -> Validity:
        found = [one.layers for one in job.organizations if one.layers is not None]
        least = max((layers.min_validity() for layers in found), default=0.0)
        real = not self._sandbox and any(layers.is_remote() for layers in found)
        return Validity.at_least(least, real=real)

    def _checked(self, jobs: list[Job]) -> list[Job]:
        """Refuse what must not wait until the run, and find the settings of each organization.

        Raises:
            SettingsError: sandbox tokens would replace real ones, or two organizations have the same API token.
        """
        for job in jobs:
            if self._sandbox and job.destination and job.batch and job.batch.has_real_tokens:
                raise _only_sandbox_tokens(job.destination.path, "use a copy of the file")
        for job in jobs:
            self._set_settings(job)
        _check_api_tokens(self._settings)
        return jobs

    def _set_settings(self, job: Job) -> None:
        """Set the settings of each organization; the job fails only if all of them are invalid."""
        if job.error is not None:
            return
        for one in job.organizations:
            if one.layers is not None:
                try:
                    self._find_settings(one.name)
                    one.settings = self._settings.get(one.name)
                except SettingsError as error:
                    one.error = error
        requested = [one for one in job.organizations if one.layers is not None]
        if requested and all(one.error is not None for one in requested):
            job.error = requested[0].error


def _check_names_results(roster: Path | RosterData) -> None:
    """Refuse a roster that gives the results no name, before it is read."""
    if isinstance(roster, RosterData):
        raise SettingsError(f"a roster from {roster.name} needs a name for the results", "add -o depot.results.csv")
    if not roster.name:
        raise SettingsError(f"{roster} is not a file", "pass the roster's file, such as depot.csv")


def _only_sandbox_tokens(path: Path, instead: str) -> SettingsError:
    return SettingsError(
        f"{path} contains real login tokens, which sandbox tokens would replace", f"leave out --sandbox, or {instead}"
    )


@contextmanager
def _error_of(job: Job) -> Iterator[None]:
    """Makes an error the job's own."""
    try:
        yield
    except BatchIssuerError as error:
        job.error = error


def same_api_token(name: str, settings: Settings, owners: dict[tuple[str, str], str]) -> str:
    """Another organization with the same API token; blank for none.

    Args:
        name: an organization.
        settings: its settings.
        owners: the organizations so far, by address and API token; this one is added.
    """
    other = owners.setdefault((settings.base_url, settings.api_token.reveal()), name)
    return other if other != name else ""


def _check_api_tokens(found: Mapping[str, Settings]) -> None:
    owners: dict[tuple[str, str], str] = {}
    for name, settings in found.items():
        if other := same_api_token(name, settings, owners):
            raise SettingsError(
                f"the organizations {other!r} and {name!r} have the same API token",
                "give each its own (see batch-issuer config); depots that share one are one organization here",
            )
