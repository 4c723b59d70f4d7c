"""The organizations that a command is about, and the settings of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SettingsError
from .file import SettingsFile
from .layers import Layers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MOST_NAMES_SHOWN = 20
"""Organizations listed in a message."""


class Selection:
    """The organizations of a settings file; one with a blank name if it has none.

    Attributes:
        file: the settings file.
        named: the organization that was named; None for none.
    """

    def __init__(
        self,
        file: SettingsFile | None = None,
        named: str | None = None,
        *,
        flags: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Select.

        Args:
            file: the settings file; None for none.
            named: the name of the only organization to use; None for all.
            flags: settings that override all others, by name.
            environ: environment variables.
        """
        self.file = file or SettingsFile()
        self.named = named
        self._flags, self._environ = flags or {}, environ or {}

    def layers(self, organization: str = "") -> Layers:
        """The settings of an organization; without a name, those for all."""
        return Layers(self.file, organization, flags=self._flags, environ=self._environ)

    def names(self) -> list[str]:
        """The organization that was named, else all; a blank name if the file has none.

        Raises:
            SettingsError: the file has no such organization.
        """
        one = self.one()
        return list(self.file.organizations) if one is None else [one]

    def one(self) -> str | None:
        """The organization that was named, or the only one; blank if the file has none, None for several.

        Raises:
            SettingsError: the file has no such organization.
        """
        if self.named is not None:
            return self.known(self.named)
        names = self.file.organizations
        return next(iter(names)) if len(names) == 1 else None if names else ""

    def known(self, name: str) -> str:
        """The name, if the file has such an organization.

        Raises:
            SettingsError: it has none.
        """
        if name in self.file.organizations:
            return name
        if self.file.path is None and not self.file.organizations:
            raise SettingsError(
                f"no organization {name!r}: no settings file found",
                "create batch-issuer.toml here, or name a settings file with --config",
            )
        hint = f"choose {self._listed()}" if self.file.organizations else f"add a section [organizations.{name}]"
        raise SettingsError(f"no organization {name!r}{f' in {self.file.path}' if self.file.path else ''}", hint)

    def only_layers(self, *, hint: str = "pass --org NAME") -> Layers:
        """The settings of the only organization.

        Args:
            hint: what to do if there are several.

        Raises:
            SettingsError: there are several, and none was named.
        """
        if (one := self.one()) is None:
            raise self.several(hint)
        return self.layers(one)

    def several(self, hint: str = "pass --org NAME") -> SettingsError:
        """The error for a command that needs one organization where there are several."""
        return SettingsError(f"the settings have {len(self.file.organizations)} organizations: {self._listed()}", hint)

    def _listed(self) -> str:
        return ", ".join(list(self.file.organizations)[:MOST_NAMES_SHOWN])
