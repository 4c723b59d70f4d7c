"""What a command is to issue for: a results file each, of one organization or several."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd

from ..errors import BatchIssuerError, ResultsError, RosterError, SettingsError
from ..results import Destination, Validity, read_results
from ..roster import Roster, organization_position, organizations_of, read_bytes, read_table
from ..settings.file import UNASSIGNED, find_settings_file, in_file_name, read_settings_file
from ..settings.layers import Layers, results_path
from ..wording import amount
from .messages import about_roster, say
from .parser import flags_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence

    from ..model import Driver
    from ..results import Batch
    from ..roster import Problem
    from ..settings.file import SettingsFile
    from ..settings.roster_options import RosterOptions
    from ..settings.run_settings import Settings


@dataclass(slots=True)
class Task:
    """One results file, and whose rows it holds.

    Attributes:
        choices: the organizations, each with its settings; one without a name where there are none.
        name: what messages call it; blank where there is only one.
        source: the roster's path; blank for a results file.
        notes: what to say of the roster.
        destination, batch: once it is prepared.
        error: why it could not be, or did not come to its end.
        left_out: organizations whose settings cannot be used, while others have rows here, too; why.
    """

    choices: Sequence[Layers]
    name: str = ""
    source: str = ""
    notes: list[str] = field(default_factory=list)
    destination: Destination | None = None
    batch: Batch | None = None
    error: BatchIssuerError | None = None
    left_out: dict[str, BatchIssuerError] = field(default_factory=dict)

    def drivers_of(self, choice: Layers) -> list[Driver]:
        """The rows to ask for that are of an organization."""
        batch = self.batch
        if batch is None:
            return []
        if not any(batch.organizations):
            return list(batch.drivers)
        return [driver for driver in batch.drivers if batch.organization_of(driver.row) == choice.organization]


class Preparation:
    """Makes the tasks of a command. Use it as a context: meanwhile their results files are held."""

    def __init__(self, options: Namespace, environ: Mapping[str, str]) -> None:
        """Read the settings file.

        Raises:
            SettingsError: it cannot be used.
        """
        self.options, self.environ = options, environ
        self.file: SettingsFile = read_settings_file(find_settings_file(options.config))
        self._held = ExitStack()
        self._outputs: set[Path] = set()
        self._now = datetime.now().astimezone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def choice(self, organization: str = "") -> Layers:
        """What applies to an organization."""
        return Layers(self.file, organization, flags=flags_of(self.options), environ=self.environ)

    def names(self) -> list[str]:
        """The organization that was named, else all of them; a blank one where there are none.

        Raises:
            SettingsError: there is none of that name.
        """
        one = self._one_organization()
        return list(self.file.organizations) if one is None else [one]

    def only_choice(self) -> Layers:
        """What applies where there is one organization, or none.

        Raises:
            SettingsError: there are several, and nobody says which.
        """
        if (one := self._one_organization()) is None:
            raise self._which()
        return self.choice(one)

    def _one_organization(self) -> str | None:
        """The one that was named, or that there is; blank where there are none; None for several."""
        names = list(self.file.organizations)
        if self.options.org is None:
            return names[0] if len(names) == 1 else None if names else ""
        if self.options.org not in names:
            there = f"there are {', '.join(names[:20])}" if names else "it names none"
            where = self.file.path or "there is no settings file, so it"
            raise SettingsError(f"no organization {self.options.org!r}: {where}: {there}", "see batch-issuer config")
        return str(self.options.org)

    def _which(self) -> SettingsError:
        names = ", ".join(list(self.file.organizations)[:20])
        return SettingsError(
            f"the settings have {len(self.file.organizations)} organizations: {names}",
            "say which, as in --org NAME; or issue --all for all of them",
        )

    # --- issue

    def to_issue(self) -> list[Task]:
        """The tasks of ``issue``.

        Raises:
            BatchIssuerError: there are none that could be prepared, and why.
        """
        if self.options.all:
            if self.options.roster or self.options.org:
                raise SettingsError("--all takes the rosters that the settings name", "leave out ROSTER and --org")
            if not self.file.organizations:
                raise SettingsError(
                    "there are no organizations in the settings",
                    "name them there, each with its roster_file; or leave out --all and name a ROSTER",
                )
            tasks = self._of_all()
        elif self.options.roster is None:
            tasks = [self._of_settings(self.only_choice())]
        else:
            tasks = self._of_roster(self.options.roster)
        return self._checked(tasks)

    def _of_all(self) -> list[Task]:
        """Every organization with its own roster; in one results file, if its name leaves out whose they are."""
        choices = [self.choice(name) for name in self.file.organizations]
        outputs = [choice.output() for choice in choices]
        shared = len(choices) > 1 and len(set(outputs)) == 1 and outputs[0] and "{organization}" not in outputs[0]
        return self._together(choices) if shared else [self._of_settings(choice) for choice in choices]

    def _together(self, choices: Sequence[Layers]) -> list[Task]:
        """The rosters below each other, with a column that says whose each row is."""
        common = self.choice()
        column = common.organization_column()
        frames: dict[str, pd.DataFrame] = {}
        failed: list[Task] = []

        def read(choice: Layers, task: Task) -> None:
            path = self._named_roster(choice)
            task.source = str(path)
            frame, notes = read_table(read_bytes(path), path.name, choice.roster_options())
            there = organization_position([str(title) for title in frame.columns], column, path.name)
            own = self._own_rows(frame, path.name, choice)
            if own is None and there is not None:
                raise SettingsError(
                    f"{path.name} has a column {frame.columns[there]!r} that names no organization of the settings",
                    "write {organization} into output, or name another organization_column",
                )
            together.notes += [f"{choice.organization}: {note}" for note in notes]
            if own is None:
                frame.insert(0, column, choice.organization)
            frames[choice.organization] = frame if own is None else own

        together = Task([])
        for choice in choices:
            task = Task([choice], choice.organization)
            self._prepared(task, partial(read, choice, task))
            failed += [task] if task.error is not None else []
        headers = {tuple(map(str, frame.columns)): name for name, frame in frames.items()}
        if len(headers) > 1:
            one, other, *_ = headers.values()
            raise SettingsError(
                f"the rosters of {one} and {other} have different columns, so one file cannot hold their results",
                "write {organization} into output, so that each has its own",
            )
        if not frames:
            return failed
        together.choices = [choice for choice in choices if choice.organization in frames]
        names = tuple(self.file.organizations)
        options = replace(common.roster_options(), organization_column=column, organizations=names)
        frame = pd.concat(list(frames.values()), ignore_index=True)
        return [
            self._prepared(together, lambda: self._begin(together, lambda: Roster(frame, "the rosters", options))),
            *failed,
        ]

    def _whose(self, frame: pd.DataFrame, name: str, choice: Layers) -> list[str | Problem] | None:
        """For each row its organization, by the column that says so; None if there is no such column."""
        column = choice.organization_column()
        if organization_position([str(title) for title in frame.columns], column, name) is None:
            return None
        names = tuple(self.file.organizations)
        options = replace(choice.roster_options(), organization_column=column, organizations=names)
        whose = organizations_of(frame, options, name)
        return whose if any(isinstance(one, str) for one in whose) or not len(frame) else None

    def _own_rows(self, frame: pd.DataFrame, name: str, choice: Layers) -> pd.DataFrame | None:
        """The rows of an organization's roster that are its own; None if no column says whose they are.

        Raises:
            RosterError: none is.
        """
        whose = self._whose(frame, name, choice)
        if whose is None:
            return None
        own = frame[[one == choice.organization for one in whose]]
        if not len(own):
            raise RosterError(f"no row of {name} is of {choice.organization}", "see to its column of organizations")
        nobodys = sum(not isinstance(one, str) for one in whose)
        if nobodys:
            say(
                f"Warning: {amount(nobodys, 'row')} of {name} left out: no organization of the settings is named there."
            )
        return own

    def _named_roster(self, choice: Layers) -> Path:
        path = choice.roster_file()
        if path is None:
            where = f"[organizations.{choice.organization}] names no roster_file" if choice.organization else ""
            raise SettingsError(where or "no roster is named", "add it; or name a ROSTER")
        return path

    def _of_settings(self, choice: Layers) -> Task:
        """An organization with the roster that its section names."""
        task = Task([choice], choice.organization if len(self.file.organizations) > 1 else "")

        def prepare() -> None:
            path = self._named_roster(choice)
            task.source = str(path)
            self._begin(task, lambda: self._read_own(path, choice))

        return self._prepared(task, prepare)

    def _read_own(self, path: Path, choice: Layers) -> Roster:
        if not self.file.organizations:
            return self._read(str(path), choice.roster_options())
        frame, notes = read_table(read_bytes(path), path.name, choice.roster_options())
        own = self._own_rows(frame, path.name, choice)
        return Roster(frame if own is None else own, path.name, choice.roster_options(), notes=notes)

    def _of_roster(self, source: str) -> list[Task]:
        """One roster, maybe of several organizations."""
        one = self._one_organization()
        if not self.file.organizations:
            choice = self.choice()
            task = Task([choice], source=source)
            return [
                self._prepared(task, lambda: self._begin(task, lambda: self._read(source, choice.roster_options())))
            ]
        return self._of_shared_roster(source, one)

    def _of_shared_roster(self, source: str, one: str | None) -> list[Task]:
        common = self.choice(one or "")
        column = common.organization_column()
        data, name = self._data(source)
        frame, notes = read_table(data, name, common.roster_options())
        if not len(frame):
            raise RosterError(f"{name} has a header but no rows", "add a row for each driver")
        found = self._whose(frame, name, common)
        if found is None:
            if one is None:
                raise self._which()
            task = Task([common], source=source)
            roster = Roster(frame, name, common.roster_options(), notes=notes)
            return [self._prepared(task, lambda: self._begin(task, lambda: roster))]
        names = tuple(self.file.organizations)
        options = replace(common.roster_options(), organization_column=column, organizations=names)
        patterns = {self.choice(each).output() for each in names}
        if self.options.org is None and len(patterns) == 1 and "{organization}" not in (patterns.pop() or ""):
            roster = Roster(frame, name, options, notes=notes)
            used = [organization for organization in names if organization in set(roster.organizations)]
            task = Task([self.choice(organization) for organization in used], source=source)
            return [self._prepared(task, lambda: self._begin(task, lambda: roster))]
        whose = [text if isinstance(text, str) else UNASSIGNED for text in found]
        if self.options.org and self.options.org not in whose:
            raise RosterError(f"no row of {name} is of {self.options.org}", "see to its column of organizations")
        wanted = [self.options.org] if self.options.org else [one for one in (*names, UNASSIGNED) if one in whose]
        return [self._of_part(source, name, frame[[who == each for who in whose]], each, options) for each in wanted]

    def _of_part(self, source: str, name: str, frame: pd.DataFrame, organization: str, options: RosterOptions) -> Task:
        """Those rows of a roster that are of one organization, in a results file of their own and numbered anew."""
        nobodys = organization == UNASSIGNED
        choices = [] if nobodys else [self.choice(organization)]
        task = Task(choices, "" if self.options.org else organization, source)

        def prepare() -> None:
            roster = Roster(frame, name, options if nobodys else choices[0].roster_options())
            self._begin(task, lambda: roster, organization)

        return self._prepared(task, prepare)

    def _data(self, source: str) -> tuple[bytes, str]:
        if source == "-":
            return sys.stdin.buffer.read(), "stdin"
        return read_bytes(Path(source)), Path(source).name

    def _read(self, source: str, roster_options: RosterOptions) -> Roster:
        if source != "-":
            return Roster.from_path(Path(source), roster_options)
        data, name = self._data(source)
        return Roster.from_bytes(data, name, roster_options)

    def _begin(self, task: Task, read: Callable[[], Roster], organization: str = "") -> None:
        """Hold the results file of a roster, and see what is to be asked for."""
        choice = task.choices[0] if len(task.choices) == 1 else self.choice()
        output = self._output(choice, task.source, organization or choice.organization)
        if output.absolute() in self._outputs:
            tip = "write {organization} into output, or name another roster_file"
            raise ResultsError(f"{output} is to hold the results of another organization, too", tip)
        self._outputs.add(output.absolute())
        roster = read()
        task.notes += about_roster(roster)
        task.destination = self._held.enter_context(Destination(output, roster=Path(task.source)))
        task.batch = task.destination.begin(
            roster, self._validity(task), overwrite=self.options.overwrite, restart=self.options.restart
        )

    def _output(self, choice: Layers, source: str, organization: str) -> Path:
        path = Path(source)
        stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
        pattern = choice.output()
        if pattern is not None:
            name = "" if source == "-" else stem
            output = results_path(pattern, organization=organization, roster=name, now=self._now)
            if "{" in str(Path(pattern).parent):  # nobody can have made tonight's folder
                try:
                    output.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                except OSError as error:
                    tip = "make room there, or choose another"
                    raise ResultsError(f"the folder {output.parent} cannot be made: {error.strerror}", tip) from None
            return output
        if source == "-":
            raise SettingsError("a roster from stdin needs a name for the results", "add -o depot.results.csv")
        if not path.name:
            raise SettingsError(f"{source or 'the empty name'} is not a file", "name the roster's file")
        return path.with_name(f"{stem}.results.csv")

    # --- check

    def to_check(self) -> tuple[Roster, Sequence[Layers]]:
        """The roster to look at, and the organizations that its rows are of.

        Raises:
            BatchIssuerError: it cannot be used as a whole.
        """
        one = self._one_organization()
        choice = self.choice(one or "")
        roster_options = choice.roster_options()
        if not self.file.organizations:
            return self._read(self.options.roster, roster_options), [choice]
        data, name = self._data(self.options.roster)
        frame, notes = read_table(data, name, roster_options)
        names = tuple(self.file.organizations)
        column = choice.organization_column()
        if self._whose(frame, name, choice) is not None:
            roster_options = replace(roster_options, organization_column=column, organizations=names)
            roster = Roster(frame, name, roster_options, notes=notes)
            return roster, [self.choice(each) for each in names if each in set(roster.organizations)] or [choice]
        return Roster(frame, name, roster_options, notes=notes), [choice]

    # --- retry

    def to_retry(self) -> list[Task]:
        """The task of ``retry``.

        Raises:
            BatchIssuerError: it cannot be prepared, and why.
        """
        one = self._one_organization() if self.options.org else self._whose_results(self.options.results)
        task = Task([self.choice(name) for name in ([one] if one is not None else self.file.organizations)])
        common = self.choice(one or "")
        roster_options = common.roster_options()
        task.destination = self._held.enter_context(Destination(self.options.results))
        if one is None or (one and self._has_organizations(task.destination, common)):
            roster_options = replace(
                roster_options,
                organization_column=common.organization_column(),
                organizations=tuple(self.file.organizations),
            )
        task.batch = task.destination.reopen(self._validity(task), roster_options, restart=self.options.restart)
        if one is None:
            used = set(task.batch.organizations)
            task.choices = [choice for choice in task.choices if choice.organization in used]
        return self._checked([task])

    def _whose_results(self, path: Path) -> str | None:
        """The one organization whose results have such a name by the settings; as `_one_organization` if none has."""
        names = [name for name in self.file.organizations if self._may_be_named(self.choice(name), path)]
        return names[0] if len(names) == 1 else self._one_organization()

    def _may_be_named(self, choice: Layers, path: Path) -> bool:
        pattern, roster = choice.output(), choice.roster_file()
        if pattern is None:
            return roster is not None and path.absolute() == roster.with_name(f"{roster.stem}.results.csv").absolute()
        if "{organization}" not in pattern:
            return False
        wanted = (
            re.escape(str(Path(pattern).absolute()))
            .replace(r"\{date\}", r"\d{4}-\d\d-\d\d")
            .replace(r"\{roster\}", ".*")
        )
        wanted = wanted.replace(r"\{organization\}", re.escape(in_file_name(choice.organization)))
        return re.fullmatch(f"{wanted}(?:{re.escape('.partial')})?", str(path.absolute())) is not None

    def _has_organizations(self, destination: Destination, choice: Layers) -> bool:
        path = destination.partial if destination.partial.exists() and not self.options.restart else destination.path
        return self._whose(read_results(path).cells, path.name, choice) is not None

    # --- both

    def _validity(self, task: Task) -> Validity:
        least = max((choice.min_validity() for choice in task.choices), default=0.0)
        real = not self.options.sandbox and any(choice.is_remote() for choice in task.choices)
        return Validity.until(least, real=real)

    def _prepared(self, task: Task, prepare: Callable[[], None]) -> Task:
        try:
            prepare()
        except BatchIssuerError as error:
            task.error = error
        return task

    def _checked(self, tasks: list[Task]) -> list[Task]:
        """Refuse what would hurt if it were only told in the end."""
        for task in tasks:
            if self.options.sandbox and task.batch is not None and task.batch.holds_real_tokens:
                raise SettingsError(
                    f"{task.destination.path if task.destination else ''} holds tokens of the real API, which those of "
                    "the sandbox would replace",
                    "leave out --sandbox, or try it with a copy",
                )
        return tasks

    def settings(self, tasks: Sequence[Task]) -> dict[str, Settings]:
        """The settings of each organization that has something to be asked for; with the sandbox, none.

        An organization whose settings cannot be used fails alone, if it is not the only one.

        Raises:
            SettingsError: two have the same API token.
        """
        found: dict[str, Settings] = {}
        for task in tasks:
            for choice in task.choices if task.error is None and not self.options.sandbox else ():
                try:
                    found[choice.organization] = choice.settings()
                except SettingsError as error:
                    task.left_out[choice.organization] = error
            if task.left_out and len(task.left_out) == len(task.choices):
                task.error = next(iter(task.left_out.values()))
            elif task.left_out:
                task.choices = [choice for choice in task.choices if choice.organization not in task.left_out]
        by_key: dict[tuple[str, str], str] = {}
        for name, settings in found.items():
            other = by_key.setdefault((settings.base_url, settings.api_token.reveal()), name)
            if other != name:
                raise SettingsError(
                    f"the organizations {other!r} and {name!r} have the same API token",
                    "give each its own (see batch-issuer config); depots of one organization are one organization here",
                )
        return found
