"""Failing disks, for tests that no token is lost.

`FailingDisk` makes calls in this process fail. `confined` runs the command in a process of its own, within limits that
the kernel enforces.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.rosters import lines, tokens_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest
    from support.processes import Command, Commands
    from support.sandbox import Tokens

    from batch_issuer.sandbox import Sandbox

NO_MOUNT = 75
"""Exit code of a process that is not allowed to mount."""

INTERRUPTED = b"the run was interrupted before a reply came"
"""The journal's text for a row with a request that is about to leave."""


def rescued(output: str) -> list[Path]:
    """The files in the system's temporary folder that the output names."""
    return [Path(name) for name in re.findall(r"all results are in (\S+\.csv)", output)]


def assert_valid(folder: Path) -> None:
    """All files there are CSV, except for an empty file if reserved space could not be freed."""
    for path in folder.iterdir():
        if path.suffix != ".lock" and not (path.suffix == ".writing" and not path.stat().st_size):
            lines(path)


def assert_kept(out: Path, output: str, wanted: Tokens) -> None:
    """Each token is where the user will find it: in OUT, in the journal, or in a file that the output names."""
    named = [path for path in out.parent.glob(f"{out.stem}.[0-9]*{out.suffix}") if str(path) in output]
    places = [out, out.with_name(f"{out.name}.partial"), *named, *rescued(output)]
    held = set[tuple[str, str, str]]().union(*(tokens_in(path) for path in places if path.exists()))
    assert wanted <= held, f"{len(wanted - held)} of {len(wanted)} tokens are lost\n{output}"


def assert_has_hint(output: str) -> None:
    """The output has a hint and nothing meant for programmers."""
    assert "Traceback" not in output, output
    assert "this is a bug" not in output, output
    assert "hint: " in output, output


# --- calls of this process that fail


class FailingDisk:
    """Makes calls for files in a folder fail.

    Args:
        folder: of the files.
        calls: functions of `os`, or ``file`` for writing through a file object.
        number: of the error.
        nth: the first of these calls that fails, counted from 1.
        lasting: whether all later calls fail, too.

    Attributes:
        hit: whether any call failed.
        intents: how many requests were recorded in the journal before the first failure, and how many after it.
    """

    def __init__(self, folder: Path, calls: Sequence[str], number: int, nth: int, *, lasting: bool) -> None:
        self.hit = False
        self.intents = [0, 0]
        self._folder = str(folder)
        self._calls = calls
        self._number = number
        self._nth = nth
        self._lasting = lasting
        self._count = 0

    @contextlib.contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            write = os.write
            patch.setattr(os, "write", self._announced(write))
            for call in self._calls:
                if call == "file":
                    patch.setattr("batch_issuer.results.csv_writer.open", self._open, raising=False)
                else:
                    patch.setattr(os, call, self._failing(getattr(os, call), write if call == "write" else None))
            yield

    def _failing(self, real: Callable[..., Any], half_way: Callable[..., Any] | None) -> Callable[..., Any]:
        def call(first: Any, *others: Any, **options: Any) -> Any:
            if self._is_there(first):
                try:
                    self._one_more()
                except OSError:
                    if half_way is not None and "ftruncate" not in self._calls:  # a full disk takes a part
                        half_way(first, others[0][: len(others[0]) // 2])
                    raise
            return real(first, *others, **options)

        return call

    def _announced(self, real: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
        def write(descriptor: int, data: bytes) -> int:
            self.intents[self.hit] += bytes(data).count(INTERRUPTED)
            return real(descriptor, data)

        return write

    def _open(self, descriptor: int, _mode: str, *, encoding: str, newline: str, closefd: bool) -> io.TextIOWrapper:
        disk, there = self, self._is_there(descriptor)

        class Raw(io.FileIO):
            def write(self, data: Any, /) -> int:
                if there:
                    disk._one_more()
                return super().write(data)

        raw = Raw(descriptor, "wb", closefd=closefd)
        return io.TextIOWrapper(io.BufferedWriter(raw, 512), encoding=encoding, newline=newline)

    def _is_there(self, what: Any) -> bool:
        path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else os.fspath(what)
        return str(path).startswith(self._folder)

    def _one_more(self) -> None:
        self._count += 1
        if self._count == self._nth or (self._lasting and self._count > self._nth):
            self.hit = True
            raise OSError(self._number, os.strerror(self._number))


# --- the command in a process of its own


def confined(
    commands: Commands,
    sandbox: Sandbox,
    *arguments: str | Path,
    limits: dict[int, int] | None = None,
    user: int | None = None,
    umask: int = 0o022,
    mount: tuple[Path, int] | None = None,
    environ: dict[str, str] | None = None,
) -> Command:
    """A run of the command within limits that the kernel keeps.

    Args:
        commands: start it.
        sandbox: the server.
        arguments: the command, then its other arguments.
        limits: of the process, by `resource.RLIMIT_…`.
        user: also the group.
        umask: of the process.
        mount: a folder to mount as a separate disk for this process, and its size in bytes.
        environ: additional variables.
    """
    return commands.start(
        sandbox,
        *arguments,
        environ=environ,
        prepare="support.disks:_confine",
        limits=list((limits or {}).items()),
        user=user,
        umask=umask,
        mount=mount and [str(mount[0]), mount[1]],
    )


def _confine(limits: list[tuple[int, int]], user: int | None, umask: int, mount: tuple[str, int] | None) -> None:
    import resource  # noqa: PLC0415 - POSIX only

    if mount:
        _mount(*mount)
    os.umask(umask)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    for limit, value in limits:
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


def _mount(folder: str, size: int) -> None:
    """Mount a disk for this process alone."""
    new_mounts, new_user, private = 0x00020000, 0x10000000, 0x00044000
    libc = ctypes.CDLL(None)
    user, group = os.getuid(), os.getgid()
    refused = libc.unshare(new_mounts | (new_user if user else 0))
    if user and not refused:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(text)
    refused = refused or libc.mount(b"none", b"/", None, private, None)
    if refused or libc.mount(b"none", folder.encode(), b"tmpfs", 0, f"size={size},mode=0700".encode()):
        os._exit(NO_MOUNT)
