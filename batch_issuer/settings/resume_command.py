"""The flags and variables with which ``batch-issuer retry RESULTS`` continues a run under the same conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .kinds import SWITCH, arguments
from .options import OPTIONS, given

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .options import Option


def resume_flags(flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """The flags of the command.

    What the environment sets becomes a flag where there is one, so that the command is complete. A secret does not:
    `resume_variables` names the variables that the command needs.

    Args:
        flags: options by name, as they were given.
        environ: environment variables.
    """
    found = []
    for option, value in _resumed(flags, environ):
        if option.kind is SWITCH:
            found.append(option.flag)
        elif not option.kind.hides(value):
            for text in arguments(value):
                found += [f"{option.flag}={text}"] if text.startswith("-") else [option.flag, text]
    return found


def resume_variables(flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """The environment variables that the command needs, because their values must not be shown."""
    hidden = [option for option, value in _resumed(flags, environ) if option.kind.hides(value)]
    return [option.variable for option in hidden if option.variable]


def _resumed(flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[tuple[Option, Any]]:
    """The options that the command needs, with their values. A sandbox run has a quota of its own."""
    flags = given(flags)
    environ = {} if "sandbox" in flags else environ
    options = [option for option in OPTIONS.values() if option.help and not option.not_resumed]
    values = [(option, flags.get(option.name, option.of_variable(environ))) for option in options]
    return [(option, value) for option, value in values if value is not None]
