"""Which rows of a roster can be sent, and how long issuing takes. Sends nothing and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import BatchIssuerError, SettingsError
from ..quota.estimate import estimate
from .outputs import conflicts, output_of
from .planning import Planner, same_api_token

if TYPE_CHECKING:
    from pathlib import Path

    from ..roster import Roster
    from ..settings.run_settings import Rate
    from ..settings.selection import Selection
    from .outputs import Output
    from .planning import RosterData


@dataclass(slots=True, kw_only=True)
class RosterCheck:
    """What a run would do with a roster.

    Attributes:
        name: the organization that it belongs to; blank if it is the only roster.
        roster: the roster; None if it cannot be used.
        to_send: number of drivers that can be sent.
        seconds: that issuing takes by estimate; of several organizations, the longest.
        rate: the quota; None for several.
        warning: what would keep a run from issuing although the roster is fine; blank for nothing.
        error: why the roster cannot be used.
    """

    name: str = ""
    roster: Roster | None = field(default=None, repr=False)
    to_send: int = 0
    seconds: float = 0.0
    rate: Rate | None = None
    warning: str = ""
    error: BatchIssuerError | None = None


def check_roster(selection: Selection, roster: Path | RosterData) -> RosterCheck:
    """Check a roster, whether its rows belong to one organization or to several.

    Raises:
        RosterError: it cannot be used as a whole.
        SettingsError: a setting is invalid.
    """
    return _check(selection, Planner(selection), roster, selection.one())


def check_named(selection: Selection) -> RosterCheck:
    """Check the roster that the section of the only organization names, or of the one that was named.

    Raises:
        RosterError: it cannot be used as a whole.
        SettingsError: there are several organizations, or a setting is invalid.
    """
    layers = selection.only_layers(hint="pass a ROSTER, --org NAME or --all")
    planner = Planner(selection)
    found = _check(selection, planner, planner.named_roster(layers), layers.organization)
    found.warning = _token_warning(selection, layers.organization, {})
    return found


def check_all(selection: Selection) -> list[RosterCheck]:
    """Check the roster of each organization; one that would not be issued for has an error.

    Raises:
        SettingsError: the settings have no organizations.
    """
    planner, now = Planner(selection), datetime.now().astimezone()
    found: list[RosterCheck] = []
    outputs: dict[str, Output] = {}
    owners: dict[tuple[str, str], str] = {}
    for name in planner.organizations():
        layers = selection.layers(name)
        try:
            source = planner.named_roster(layers)
            one = _check(selection, planner, source, name)
            one.warning = _token_warning(selection, name, owners)
            outputs[name] = output_of(layers, str(source), now)
        except BatchIssuerError as error:
            one = RosterCheck(error=error)
        one.name = name
        found.append(one)
    errors = conflicts(outputs)
    return [RosterCheck(name=one.name, error=errors[one.name]) if one.name in errors else one for one in found]


def _check(selection: Selection, planner: Planner, source: Path | RosterData, one: str | None) -> RosterCheck:
    roster, names = planner.read(source, one, only_check=True)
    found = RosterCheck(roster=roster)
    for name in names:
        settings = selection.layers(name).check(sandbox=True)
        drivers = len(roster.of_organization(name) if roster.options.organization_column else roster.drivers)
        burst = settings.burst or settings.rate.limit
        found.to_send += drivers
        found.seconds = max(found.seconds, estimate(settings.rate, drivers, burst, settings.concurrency))
        found.rate = settings.rate if len(names) == 1 else None
    return found


def _token_warning(selection: Selection, name: str, owners: dict[tuple[str, str], str]) -> str:
    """What is wrong with the API token, as far as that is known without running a command; blank for nothing.

    Args:
        selection: the organizations.
        name: one of them.
        owners: the organizations by address and API token; this one is added.
    """
    layers = selection.layers(name)
    try:
        reference, _ = layers.api_token_reference()
        if reference is not None and reference.kind == "command":
            layers.check()
            return ""
        other = same_api_token(name, layers.settings(), owners)
    except SettingsError as error:
        return error.message
    return f"{other} has the same API token" if other else ""
