"""Which organizations of the settings file are meant, and the settings that apply to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SettingsError
from .file import SettingsFile
from .layers import Layers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MOST_NAMES_SHOWN = 20
"""Organizations that a message lists."""


class Selection:
    """The organizations of a settings file, or the only one without a name where it names none.

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
            named: the only organization that is meant, by its name there; None for whichever there are.
            flags: settings that go before all others, by their names.
            environ: environment variables.
        """
        self.file = file or SettingsFile()
        self.named = named
        self._flags, self._environ = flags or {}, environ or {}

    def layers(self, organization: str = "") -> Layers:
        """The settings that apply to an organization; without a name, those that apply to all."""
        return Layers(self.file, organization, flags=self._flags, environ=self._environ)

    def names(self) -> list[str]:
        """The organization that was named, else all of them; a blank one where the settings name none.

        Raises:
            SettingsError: there is none of that name.
        """
        one = self.one()
        return list(self.file.organizations) if one is None else [one]

    def one(self) -> str | None:
        """The organization that was named, or the only one; blank where there are none; None for several.

        Raises:
            SettingsError: there is none of that name.
        """
        if self.named is not None:
            return self.known(self.named)
        names = self.file.organizations
        return next(iter(names)) if len(names) == 1 else None if names else ""

    def known(self, name: str) -> str:
        """The name, if there is such an organization.

        Raises:
            SettingsError: there is none.
        """
        if name not in self.file.organizations:
            there = f"there are {self._listed()}" if self.file.organizations else "it names none"
            where = self.file.path or "there is no settings file, so it"
            raise SettingsError(f"no organization {name!r}: {where}: {there}", "see batch-issuer config")
        return name

    def only_layers(self) -> Layers:
        """The settings that apply where only one organization can be meant.

        Raises:
            SettingsError: there are several, and none was named.
        """
        if (one := self.one()) is None:
            raise self.which()
        return self.layers(one)

    def which(self) -> SettingsError:
        """What to say where there are several organizations and none was named."""
        return SettingsError(
            f"the settings have {len(self.file.organizations)} organizations: {self._listed()}",
            "say which, as in --org NAME; or issue --all for all of them",
        )

    def _listed(self) -> str:
        return ", ".join(list(self.file.organizations)[:MOST_NAMES_SHOWN])
