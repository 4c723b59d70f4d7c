"""Where the results of a roster go, and which organization a results file belongs to, by ``output`` in the settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ResultsError, SettingsError
from ..settings.file import in_file_name
from ..settings.kinds import without_dots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ..settings.layers import Layers
    from ..settings.selection import Selection


class Output(NamedTuple):
    """A place for results, and whether its folder is created if it is missing."""

    path: Path
    creates_folder: bool


def output_of(layers: Layers, source: str | None, now: datetime) -> Output:
    """Where the results of an organization go.

    Args:
        layers: its settings.
        source: the roster's path; None if it is not a file.
        now: local time, for ``{date}``.

    Raises:
        SettingsError: the pattern has an unknown placeholder or ending.
    """
    path = Path(source or "")
    pattern = layers.output()
    if pattern is None:
        return Output(_next_to(path), creates_folder=False)
    # A folder that is typed may be a typing error.
    creates_folder = not layers.output_is_flag() or "{" in str(Path(pattern).parent)
    return Output(results_path(pattern, organization=layers.organization, roster=_stem(path), now=now), creates_folder)


def _stem(roster: Path) -> str:
    """The name of a roster without its ending, or both of ``depot.csv.gz``."""
    return Path(roster.stem).stem if roster.suffix.lower() == ".gz" else roster.stem


def _next_to(roster: Path) -> Path:
    """Where the results of a roster go by default."""
    return roster.with_name(f"{_stem(roster)}.results.csv")


def shared_output(selection: Selection, names: Sequence[str], source: str | None, now: datetime) -> Output:
    """Where the results of a roster go that several organizations share.

    Raises:
        SettingsError: the settings want a file for each organization.
    """
    common = selection.layers()
    pattern = common.output()
    if "{organization}" in (pattern or "") or any(selection.layers(name).output() != pattern for name in names):
        roster = Path(source).name if source else "the roster"
        raise SettingsError(
            f"{roster} contains drivers of several organizations, so it has one results file, but output in the "
            "settings names one for each",
            "choose one with -o or output under [defaults]; for a file each, set a roster_file for each organization "
            "and run batch-issuer issue --all",
        )
    return output_of(common, source, now)


def conflicts(outputs: Mapping[str, Output]) -> dict[str, ResultsError]:
    """Why some organizations cannot have the results file that they would have: another one has the same.

    Args:
        outputs: by organization, where its results go.
    """
    by_path: dict[Path, list[str]] = {}
    for name, output in outputs.items():
        by_path.setdefault(output.path.absolute(), []).append(name)
    return {
        name: ResultsError(
            f"{first} and {name if name != first else second} have the same results file {path}",
            "add {organization} to output to give each its own",
        )
        for path, (first, *others) in by_path.items()
        for second in others[:1]
        for name in (first, *others)
    }


def results_path(pattern: str, *, organization: str, roster: str, now: datetime) -> Path:
    """The path of the results.

    Args:
        pattern: with `PLACEHOLDERS`.
        organization: blank for none.
        roster: the name of the roster's file without its ending.
        now: local time; ``{date}`` is its day.
    """
    for name, text in (("organization", organization), ("roster", roster), ("date", f"{now:%Y-%m-%d}")):
        pattern = pattern.replace(f"{{{name}}}", in_file_name(text) or f"no-{name}")
    return Path(pattern)


def organization_of_results(selection: Selection, path: Path) -> str | None:
    """The only organization whose results can have this path; `Selection.one` if there is none."""
    organizations, path = selection.file.organizations, without_dots(path.absolute())
    names = [name for name in organizations if _may_be_results(selection.layers(name), path)]
    return names[0] if len(names) == 1 else selection.one()


def _may_be_results(layers: Layers, path: Path) -> bool:
    pattern, roster = layers.output(), layers.roster_file()
    if pattern is None:
        return roster is not None and path == _next_to(roster).absolute()
    if "{organization}" not in pattern:
        return False
    wanted = (
        re.escape(str(Path(pattern).absolute()))
        .replace(r"\{date\}", r"\d{4}-\d\d-\d\d")
        .replace(r"\{roster\}", ".*")
        .replace(r"\{organization\}", re.escape(in_file_name(layers.organization)))
    )
    return re.fullmatch(f"{wanted}(?:{re.escape('.partial')})?", str(path)) is not None
