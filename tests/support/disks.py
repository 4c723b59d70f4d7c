"""Disks that fail, for tests of what becomes of the tokens then.

`FailingDisk` makes calls of this process fail. `Commands` runs the command in processes of their own, within limits
that the kernel keeps: run as a script this file loads the command once and forks a process for each run.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1]))  # it is also run by its name
from support.shared_quota import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pytest

    from batch_issuer.sandbox import LedgerEntry, Sandbox

BOM = b"\xef\xbb\xbf"
NO_MOUNT = 75
"""Exit code of a process that may not mount anything."""

CUT_OFF = b"the run was cut off before the answer came"
"""What the journal says of a row whose request is about to leave."""

Tokens = set[tuple[str, str, str]]
"""Identifier, code and token of rows."""


def roster(folder: Path, count: int, name: str = "depot.csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("Driver,Driver ID\n" + "".join(f"Sample {n},{700000 + n}\n" for n in range(count)))
    return path


def rows(path: Path, bom: bytes = BOM) -> list[dict[str, str]]:
    """A file's lines by column, read without the package: strict CSV, every line as wide as the header."""
    data = path.read_bytes()
    assert data.startswith(bom), path.name
    assert b"\0" not in data, path.name
    header, *body = csv.reader(io.StringIO(data[len(bom) :].decode(), newline=""), strict=True)
    return [dict(zip(header, cells, strict=True)) for cells in body]


def tokens(path: Path) -> Tokens:
    return {(r["auth_identifier"], r["auth_code"], r["auth_token"]) for r in rows(path) if r["auth_token"]}


def issued(entries: Iterable[LedgerEntry]) -> Tokens:
    return {(entry.identifier, entry.code, entry.token) for entry in entries if entry.token}


def rescued(told: str) -> list[Path]:
    """The files in the system's temporary folder that a message names."""
    return [Path(name) for name in re.findall(r"all results are in (\S+\.csv)", told)]


def assert_valid(folder: Path) -> None:
    """Whatever lies there is CSV; room that was reserved and could not be removed may be left as an empty file."""
    for path in folder.iterdir():
        if path.suffix != ".lock" and not (path.suffix == ".writing" and not path.stat().st_size):
            rows(path)


def assert_kept(out: Path, told: str, wanted: Tokens) -> None:
    """Each token is where the user will find it: in OUT, in the journal, or in a file that the message names."""
    named = [path for path in out.parent.glob(f"{out.stem}.[0-9]*{out.suffix}") if str(path) in told]
    places = [out, out.with_name(f"{out.name}.partial"), *named, *rescued(told)]
    held = set[tuple[str, str, str]]().union(*(tokens(path) for path in places if path.exists()))
    assert wanted <= held, f"{len(wanted - held)} of {len(wanted)} tokens are lost\n{told}"


def assert_told(told: str) -> None:
    """One who reads the messages knows what happened and what to do, and sees nothing that is for programmers."""
    assert "Traceback" not in told, told
    assert "this is a bug" not in told, told
    assert "What to do: " in told, told


# --- calls of this process that fail


class FailingDisk:
    """Lets calls that concern a folder fail.

    Args:
        folder: where.
        calls: functions of `os`, or ``file`` for what is written through a file object.
        number: the error.
        nth: the first call of all these that fails, counted from 1.
        lasting: whether all further ones do.

    Attributes:
        hit: whether any call failed.
        intents: how many requests were announced in the journal before the first failure, and how many after it.
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
    def spoilt(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
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
            self.intents[self.hit] += bytes(data).count(CUT_OFF)
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


class Command:
    """One run of the command."""

    def __init__(self, commands: Commands, told_in: Path) -> None:
        self._commands = commands
        self._told_in = told_in
        self.pid = int(commands.line())
        self._code: int | None = None

    def wait_for(self, sandbox: Sandbox, requests: int) -> None:
        """Until the server has seen so many."""
        wait_until(lambda: len(sandbox.ledger) >= requests, f"{requests} requests\n{self.told}")

    def end(self) -> int:
        """Its exit code, once it has ended; negative for the signal that killed it."""
        if self._code is None:
            self._code = int(self._commands.line())
        return self._code

    @property
    def told(self) -> str:
        """What it wrote to stderr and stdout."""
        return self._told_in.read_text()


class Commands:
    """Starts runs of the command, one at a time; each is there at once, for the program has been loaded before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.line() == "ready\n"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def start(
        self,
        sandbox: Sandbox,
        *arguments: str | Path,
        limits: dict[int, int] | None = None,
        user: int | None = None,
        umask: int = 0o022,
        mount: tuple[Path, int] | None = None,
        environ: dict[str, str] | None = None,
    ) -> Command:
        """Run ``batch-issuer`` against a sandbox.

        Args:
            sandbox: the server.
            arguments: the command, then its other arguments.
            limits: of the process, by `resource.RLIMIT_…`.
            user: and group.
            umask: of the process.
            mount: a folder that is a disk of its own for this process, and its size in bytes.
            environ: further variables.
        """
        command, *others = map(str, arguments)
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        os.close(descriptor)
        request = {
            "argv": [command, *others, "--base-url", sandbox.url],
            "environ": {**os.environ, "SAMSARA_API_TOKEN": sandbox.api_token, **(environ or {})},
            "told_in": name,
            "limits": list((limits or {}).items()),
            "user": user,
            "umask": umask,
            "mount": mount and [str(mount[0]), mount[1]],
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Command(self, Path(name))

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


def _serve(folder: str) -> None:
    """Load the command by running it once, then fork for each line on stdin; tell the process id and its exit code."""
    from batch_issuer.cli import main  # noqa: PLC0415 - only the process that is forked needs it

    assert main(["issue", str(roster(Path(folder), 1)), "--sandbox", "--quiet"], {}) == 0
    print("ready", flush=True)  # noqa: T201 - the protocol
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        print(pid, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201


def _become(request: dict[str, Any]) -> None:
    """Be the command that was asked for."""
    import resource  # noqa: PLC0415 - POSIX only

    from batch_issuer.cli import main  # noqa: PLC0415

    told_in = os.open(request["told_in"], os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(told_in, stream)
    os.close(told_in)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environ"])
    tempfile.tempdir = None  # it may have been looked up already
    if request["mount"]:
        _mount(*request["mount"])
    os.umask(request["umask"])
    if request["user"] is not None:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    for limit, value in request["limits"]:
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    code = main(request["argv"])
    sys.stdout.flush()
    os._exit(code)  # taking the interpreter down would take far longer than a run


def _mount(folder: str, size: int) -> None:
    """Give this process alone a disk of its own there."""
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


def take_turns(path: Path, rounds: int) -> None:
    """Add to a counter beside a lock while holding that; two holders at once would be seen."""
    from batch_issuer.locks import Lock  # noqa: PLC0415 - the other processes load it when they are told to

    counter, inside = path.with_name("counter"), path.with_name("inside")
    for _ in range(rounds):
        lock = Lock(path)
        while not lock.acquire(f"process {os.getpid()}"):
            time.sleep(0.0002)  # nothing tells when it is free
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        counter.write_text(str(int(counter.read_text()) + 1))
        inside.unlink()
        lock.release()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        take_turns(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        _serve(sys.argv[1])
