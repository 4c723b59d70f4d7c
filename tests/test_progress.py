"""What a person watches: a bar on a terminal, lines elsewhere, and a time that comes from the quota's plan."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import virtual_clock
from model_server import ModelServer, drivers

from batch_issuer.events import Ending, EndingKind, GateClosed, RowDone, Stopping
from batch_issuer.model import Outcome, Rate, Secret, Settings, Status
from batch_issuer.progress import Progress, duration_text
from batch_issuer.quota import Quota, WindowGuard
from batch_issuer.runner import Run
from batch_issuer.sandbox import Gcra, SlidingLog

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.sandbox import Limiter

RATE = Rate(100, 60.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watch(stream: io.StringIO, count: int, limiter: Limiter, *, quiet: bool = False) -> str:
    """What is shown of a run of ``count`` drivers on the virtual clock."""

    async def main() -> None:
        with Progress(stream, quiet=quiet) as progress:
            run = Run(drivers(count), Settings(api_token=Secret("key"), rate=RATE), observe=progress)
            async for _ in run.outcomes(ModelServer(limiter), Quota(WindowGuard(RATE))):
                pass

    virtual_clock.run(main())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1 s"), (59.4, "59 s"), (60.0, "1 min"), (130.2, "2 min 10 s"), (3600.0, "1 h"), (3900.0, "1 h 5 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_elsewhere_a_line_now_and_then_tells_the_plan() -> None:
    """100 go out at once; then every ten seconds a line counts down the wait, which no average rate would know."""
    lines = watch(io.StringIO(), 150, SlidingLog(100, 60.0)).splitlines()
    assert lines == [f"100 of 150 drivers, about {51 - 10 * n} s left." for n in range(6)]


def test_a_terminal_has_a_bar_that_is_taken_down() -> None:
    shown = watch(Terminal(), 150, SlidingLog(100, 60.0))
    assert "100 of 150 drivers, about" in shown
    assert re.search(r"about 3\d s left", shown)
    assert "150 of 150 drivers" in shown
    assert "150 of 150 drivers, done |##########|" in shown
    assert shown.endswith("\n")


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_quiet_shows_nothing(stream: io.StringIO) -> None:
    assert watch(stream, 150, SlidingLog(100, 60.0), quiet=True) == ""


def test_a_long_wait_is_told_once_with_its_reason_and_a_short_one_is_not() -> None:
    shown = watch(io.StringIO(), 12, Gcra(10, 60.0, 5))
    assert shown.count(": the server asks to wait") >= 1
    assert "Trying for up to 10 min; Ctrl-C stops." in shown
    assert "Waiting" not in watch(io.StringIO(), 12, Gcra(100, 60.0, 5))


def test_the_same_reason_is_told_again_only_after_a_driver_got_a_token() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    offline = GateClosed(5.0, Ending(EndingKind.GAVE_UP, "no connection"), 600.0)
    for event in (offline, offline, RowDone(Outcome(2, Status.ISSUED)), offline):
        progress(event)
    assert stream.getvalue() == "Waiting 5 s: no connection. Trying for up to 10 min; Ctrl-C stops.\n" * 2


def test_a_stream_that_is_gone_stops_the_showing_never_the_run() -> None:
    class Gone(Terminal):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    assert watch(Gone(), 150, SlidingLog(100, 60.0)) == ""


def test_no_secret_is_shown() -> None:
    shown = watch(Terminal(), 30, SlidingLog(100, 60.0))
    assert "token-" not in shown
    assert "key" not in shown


def test_stopping_tells_how_many_are_waited_for() -> None:
    stream = io.StringIO()
    Progress(stream)(Stopping(Ending(EndingKind.INTERRUPTED), in_flight=3))
    assert stream.getvalue() == "Stopping, after the 3 requests under way.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals like this")
def test_on_a_real_terminal_the_command_shows_its_bar_and_survives_ctrl_c(tmp_path: Path) -> None:
    """Through a pseudo-terminal, as a person sees it; Ctrl-C typed there ends it in good order."""
    roster = tmp_path / "depot.csv"
    roster.write_text("Driver ID\n" + "".join(f"{7000 + n}\n" for n in range(60)))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # lines, columns
    command = [sys.executable, "-m", "batch_issuer", "issue", str(roster), "--sandbox", "--rate", "30/min"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown, interrupted = "", False
    with suppress(OSError):  # Linux's way of saying that the other end is closed
        while data := os.read(ours, 4096):
            shown += data.decode(errors="replace")
            if "30 of 60 drivers" in shown and not interrupted:
                process.send_signal(signal.SIGINT)
                interrupted = True
    os.close(ours)
    assert process.wait(10) == 130
    assert re.search(r"30 of 60 drivers, about [^\r|]+ left \|█[^|]*\|", shown)
    assert "Traceback" not in shown
    assert "30 of 60 drivers, stopped |" in shown
    assert "Stopped: by Ctrl-C." in shown


def test_ticking_ends_with_the_run() -> None:
    async def main() -> int:
        with Progress(io.StringIO()) as progress:
            run = Run(drivers(1), Settings(api_token=Secret("key")), observe=progress)
            async for _ in run.outcomes(ModelServer(SlidingLog(100, 60.0)), Quota(WindowGuard(RATE))):
                pass
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(100)
        return int(asyncio.get_running_loop().time() - before)

    assert virtual_clock.run(main()) == 100
