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
"""Time for a password manager, which may have to query its server."""

MOST_BYTES = 64 * 1024
"""Most bytes read as a secret."""

# Where systemd and Docker keep a service's secrets. No other user can reach these folders, so it does not matter that
# the files have modes such as 0440 (with an ACL) or 0444.
_PROTECTED = (Path("/run/credentials"), Path("/run/secrets"))


_TRY_COMMAND = "run the command yourself to see what it prints"


class Secret:
    """A text that no repr, format or traceback shows; ``reveal()`` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
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
        raise TypeError("a Secret cannot be pickled: pass a Reference instead")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is kept.

    Attributes:
        kind: ``env``, ``file`` or ``command``.
        place: the variable, the path or the command.
        what: its name in messages, such as ``the API token``.
    """

    kind: Literal["env", "file", "command"]
    place: str | Sequence[str]
    what: str

    def __str__(self) -> str:
        """As messages show it: of a command only the program, because its arguments may be private."""
        if self.kind == "env":
            return f"the environment variable {self.place}"
        if self.kind == "file":
            return f"the file {self.place}"
        return f"the command {self._arguments()[0]}" if self._arguments() else "an empty command"

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Whether there is a secret, as far as can be seen without running a command."""
        if self.kind == "command":
            return bool(self._arguments())
        try:
            return bool(self.read(environ))
        except SettingsError:
            return False

    def read(self, environ: Mapping[str, str]) -> Secret:
        """The secret without surrounding blanks; of a command's output, the first line.

        Raises:
            SettingsError: it is missing or unreadable, other users can access it, or the command failed.
        """
        match self.kind:
            case "env":
                text = environ.get(str(self.place), "")
            case "file":
                text = self._read_file(environ)
            case _:
                text = self._run_command(environ)
        text = text.strip()
        if not text:
            raise self._missing()
        return Secret(text)

    def _missing(self) -> SettingsError:
        match self.kind:
            case "env":
                problem, hint = "is not set", f"set it to {self.what}"
            case "file":
                problem, hint = "is empty", f"write {self.what} to it"
            case _:
                problem, hint = "printed nothing", _TRY_COMMAND
        return SettingsError(f"{self.what} is missing: {self} {problem}", hint)

    def _read_file(self, environ: Mapping[str, str]) -> str:
        path = Path(str(self.place))
        try:
            path = path.expanduser()
            with path.open("rb") as file:
                others = os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
                if others and sys.platform != "win32" and not _is_protected(path, environ):
                    raise SettingsError(
                        f"other users of this computer can access {self.what} in {path}",
                        f"run chmod 600 {shlex.quote(str(path))}",
                    )
                return file.read(MOST_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SettingsError(f"{self.what} in {path} is not plain text", "save it as UTF-8 text") from None
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: unknown home folder; ValueError: a NUL
            why = error.strerror if isinstance(error, OSError) else "not a valid path"
            hint = "check the path and its permissions"
            raise SettingsError(f"{self.what} cannot be read from {str(path)!r}: {why}", hint) from None

    def _run_command(self, environ: Mapping[str, str]) -> str:
        arguments = self._arguments()
        if not arguments:
            raise SettingsError(
                f"the command for {self.what} is empty", "set it to a command such as pass show samsara"
            )
        try:
            # It shares our stderr, so its own error messages are seen; stdin may be a roster.
            process = subprocess.Popen(  # noqa: S603 - the user's own command, and no shell
                self.place if sys.platform == "win32" else arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=dict(environ),
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL
            why = error.strerror if isinstance(error, OSError) else "it contains a NUL character"
            raise SettingsError(f"{self} for {self.what} cannot be run: {why}", _TRY_COMMAND) from None
        with process:
            try:
                output, _ = process.communicate(timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                if process.stdout is not None:
                    process.stdout.close()  # a process it started may keep the pipe open for ever
                raise SettingsError(
                    f"{self} for {self.what} did not finish within {COMMAND_SECONDS:g} s",
                    f"unlock the password manager, or {_TRY_COMMAND}",
                ) from None
        if process.returncode:
            raise SettingsError(f"{self} for {self.what} failed with exit code {process.returncode}", _TRY_COMMAND)
        lines = output[:MOST_BYTES].decode(errors="replace").strip().splitlines()
        return lines[0] if lines else ""

    def _arguments(self) -> list[str]:
        if not isinstance(self.place, str):
            return list(self.place)
        try:
            return shlex.split(self.place, posix=sys.platform != "win32")
        except ValueError:
            raise SettingsError(
                f"the command for {self.what} has unmatched quotation marks", "correct the command"
            ) from None


def _is_protected(path: Path, environ: Mapping[str, str]) -> bool:
    folders = [*_PROTECTED, *(Path(folder) for folder in [environ.get("CREDENTIALS_DIRECTORY")] if folder)]
    real = path.resolve()
    return any(real.is_relative_to(folder.resolve()) for folder in folders)
