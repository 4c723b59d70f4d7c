"""Python processes that exchange lines with a test, and the command in processes of its own.

`Commands` starts runs of the command without the time to load it. Run as a script, this file is a process that loads it
once and forks a child for each run.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from batch_issuer.sandbox import Sandbox

TESTS = Path(__file__).parents[1]

PATIENCE = 60.0
"""Seconds that a test waits for a condition."""


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    given_up_at = time.monotonic() + patience
    while not condition():
        if time.monotonic() > given_up_at:
            raise AssertionError(f"timed out: {what}")
        time.sleep(0.002)


class PythonProcess:
    """A Python process, and lines to and from it; it is killed at the end of a ``with``.

    arguments: of Python: a script, or ``-c`` and code, and its arguments.
    environ: further variables.
    stderr: where its stderr goes; by default that of this process.
    """

    def __init__(
        self, *arguments: object, environ: Mapping[str, str] | None = None, stderr: IO[str] | int | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **(environ or {})},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.communicate()

    def line(self) -> str:
        """The next line of output; empty if the process has ended."""
        assert self._process.stdout is not None
        assert self.prints_within(PATIENCE), "the process prints nothing"
        return self._process.stdout.readline().decode().strip()

    def prints_within(self, seconds: float) -> bool:
        """Whether it prints something or ends within ``seconds``."""
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code, or the negative number of the signal that killed it."""
        self._process.communicate(timeout=patience)
        return self._process.returncode


# --- the command


class Command:
    """One run of the command; what it writes to stdout and stderr is in the file ``output_file``."""

    def __init__(self, parent: PythonProcess, output_file: Path) -> None:
        self._parent, self._output_file = parent, output_file
        self.pid = int(parent.line())
        self._code: int | None = None

    def wait_for(self, sandbox: Sandbox, requests: int) -> None:
        """Until the server has seen so many."""
        wait_until(lambda: len(sandbox.ledger) >= requests, f"{requests} requests\n{self.output}")

    def ends_within(self, seconds: float) -> bool:
        return self._code is not None or self._parent.prints_within(seconds)

    def kill(self) -> None:
        """Kill it; harmless after its end, because its number stays reserved until the next run."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for its end; returns the exit code, or the negative number of the signal that killed it."""
        if self._code is None:
            self._code = int(self._parent.line())
        return self._code

    @property
    def output(self) -> str:
        return self._output_file.read_text()


class Commands:
    """Starts runs of the command, one at a time, at once because the program is already loaded.

    folder: for the output of the runs and for loading the program.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A process with threads is not forked.
        environ = {"OPENBLAS_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder)}
        self._parent = PythonProcess(__file__, folder, environ=environ)
        self._last: Command | None = None
        assert self._parent.line() == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None and not self._last.ends_within(0):
            self._last.kill()
        self._parent.end()

    def start(
        self,
        sandbox: Sandbox,
        *arguments: str | Path,
        environ: Mapping[str, str] | None = None,
        prepare: str = "",
        **details: Any,
    ) -> Command:
        """Run ``batch-issuer`` against a sandbox.

        Args:
            sandbox: the server.
            arguments: the command, then its other arguments.
            environ: further variables.
            prepare: ``module:function`` of the tests, which the process calls with ``details`` before the command.
            details: JSON.
        """
        descriptor, output_file = tempfile.mkstemp(dir=self._folder)
        os.close(descriptor)
        order = {
            "argv": [*map(str, arguments), "--base-url", sandbox.url],
            "environ": {**os.environ, "SAMSARA_API_TOKEN": sandbox.api_token, **(environ or {})},
            "output_file": output_file,
            "prepare": prepare,
            "details": details,
        }
        self._parent.send(json.dumps(order))
        self._last = Command(self._parent, Path(output_file))
        return self._last


def _serve(folder: Path) -> None:
    """Load the command by running it once, then fork for each line on stdin; print the child's pid and exit code."""
    from batch_issuer.cli import main  # noqa: PLC0415 - only this process needs it

    roster = folder / "depot.csv"
    roster.write_text("Driver ID\n700000\n")
    assert main(["issue", str(roster), "--sandbox", "--quiet"], {}) == 0
    print("ready", flush=True)  # noqa: T201 - the protocol
    child = 0
    for line in sys.stdin:
        if child:  # not earlier, so that its number stays reserved
            os.waitpid(child, 0)
        order = json.loads(line)
        module, _, function = order["prepare"].partition(":")
        prepare = getattr(importlib.import_module(module), function) if module else lambda: None
        child = os.fork()
        if not child:
            _become(order, prepare)
        print(child, flush=True)  # noqa: T201
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        print(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, flush=True)  # noqa: T201


def _become(order: dict[str, Any], prepare: Callable[..., None]) -> NoReturn:
    """Run the command of the order in this process."""
    from batch_issuer.cli import main  # noqa: PLC0415

    output_file = os.open(order["output_file"], os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output_file, stream)
    os.close(output_file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["environ"])
    tempfile.tempdir = None  # it may be cached
    prepare(**order["details"])
    code = main(order["argv"])
    sys.stdout.flush()
    os._exit(code)  # ending the interpreter takes far longer than a run


if __name__ == "__main__":
    sys.path[0] = str(TESTS)
    _serve(Path(sys.argv[1]))
