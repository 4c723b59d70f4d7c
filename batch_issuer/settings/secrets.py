"""Secrets: masked in every repr, and read by reference from an environment variable, a file or a command."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND_SECONDS = 30.0
"""For a password manager to answer, which may have to ask its server."""

MOST_BYTES = 64 * 1024
"""Of what is read as a secret."""

# Where systemd and Docker keep the secrets of a service: nobody else gets there, so the modes of the files, 0440 (with
# an ACL) and 0444, say nothing.
_KEPT_SAFE = (Path("/run/credentials"), Path("/run/secrets"))


class Secret:
    """A text that no repr, format or traceback shows. ``reveal()`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that must send it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled: pass a reference to where it is kept")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is kept.

    Attributes:
        kind: ``env``, ``file`` or ``command``.
        place: the variable, the path or the command.
        what: what it is, for messages, such as ``the API token``.
    """

    kind: Literal["env", "file", "command"]
    place: str | Sequence[str]
    what: str

    def __str__(self) -> str:
        """For a person; a command is not shown whole, since its arguments may be nobody's business."""
        if self.kind == "env":
            return f"the environment variable {self.place}"
        if self.kind == "file":
            return f"the file {self.place}"
        return f"the command {self._arguments()[0]}" if self._arguments() else "an empty command"

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Whether there is something, as far as can be told without running a command."""
        if self.kind == "command":
            return bool(self._arguments())
        try:
            return bool(self.read(environ))
        except SettingsError:
            return False

    def read(self, environ: Mapping[str, str]) -> Secret:
        """The secret, without blanks around it; of what a command says, the first line.

        Raises:
            SettingsError: there is none, or it is kept where others can read it, or the command failed.
        """
        match self.kind:
            case "env":
                text = environ.get(str(self.place), "")
            case "file":
                text = self._read_file(environ)
            case _:
                text = self._ask_command(environ)
        text = text.strip()
        if not text:
            raise SettingsError(f"{self.what} is missing: {self} holds nothing", "put it there")
        return Secret(text)

    def _read_file(self, environ: Mapping[str, str]) -> str:
        path = Path(str(self.place))
        try:
            path = path.expanduser()
            with path.open("rb") as file:
                others = os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
                if others and sys.platform != "win32" and not _is_kept_safe(path, environ):
                    raise SettingsError(
                        f"other users of this computer can get at {self.what} in {path}",
                        f"make it yours alone: chmod 600 {shlex.quote(str(path))}",
                    )
                return file.read(MOST_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SettingsError(f"{self.what} in {path} is no text", "write it there as plain text") from None
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: nobody's home; ValueError: a NUL
            why = error.strerror if isinstance(error, OSError) else "there is no such path"
            hint = "check name and permissions"
            raise SettingsError(f"{self.what} cannot be read from {str(path)!r}: {why}", hint) from None

    def _ask_command(self, environ: Mapping[str, str]) -> str:
        arguments = self._arguments()
        hint = "run the command yourself to see what it says"
        if not arguments:
            raise SettingsError(f"the command for {self.what} is empty", "name a password manager's command")
        try:
            # Its own messages go to our stderr: they tell best what is wrong. A roster on stdin is not for it.
            process = subprocess.Popen(  # noqa: S603 - the user's own command, and no shell
                self.place if sys.platform == "win32" else arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=dict(environ),
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL
            why = error.strerror if isinstance(error, OSError) else "it holds a NUL"
            raise SettingsError(f"{self} for {self.what} cannot be run: {why}", hint) from None
        with process:
            try:
                output, _ = process.communicate(timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                if process.stdout is not None:
                    process.stdout.close()  # what it has started itself may hold it open for ever
                raise SettingsError(
                    f"{self} for {self.what} did not end within {COMMAND_SECONDS:g} s", f"{hint}; is it locked?"
                ) from None
        if process.returncode:
            raise SettingsError(f"{self} for {self.what} failed with exit code {process.returncode}", hint)
        lines = output[:MOST_BYTES].decode(errors="replace").strip().splitlines()
        return lines[0] if lines else ""

    def _arguments(self) -> list[str]:
        if not isinstance(self.place, str):
            return list(self.place)
        try:
            return shlex.split(self.place, posix=sys.platform != "win32")
        except ValueError:
            raise SettingsError(
                f"the quotation marks of the command for {self.what} do not match", "correct them"
            ) from None


def _is_kept_safe(path: Path, environ: Mapping[str, str]) -> bool:
    safe = [*_KEPT_SAFE, *(Path(folder) for folder in [environ.get("CREDENTIALS_DIRECTORY")] if folder)]
    real = path.resolve()
    return any(real.is_relative_to(folder.resolve()) for folder in safe)
