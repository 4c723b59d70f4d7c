"""What a person watches: a bar on a terminal, lines elsewhere, and a time that comes from the quota's plan."""

from __future__ import annotations

import asyncio
import io
import os
import random
import re
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support import clock as virtual_clock
from support.model_server import ModelServer, TroubledLeases, drivers

from batch_issuer.errors import QuotaBrokenError, QuotaError
from batch_issuer.model import Outcome, Reply, Status
from batch_issuer.pipeline.endings import Ending, EndingKind
from batch_issuer.pipeline.events import GateClosed, RowDone, RunStarted, Stopping
from batch_issuer.pipeline.run import Run
from batch_issuer.quota import MemoryLeases, Quota
from batch_issuer.quota.leases import End
from batch_issuer.quota.memory_leases import Guard
from batch_issuer.reporting.progress import Progress
from batch_issuer.sandbox import Gcra, SlidingLog, Unlimited
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret
from batch_issuer.wording import duration_text

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.sandbox import Limiter

RATE = Rate(100, 60.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watch(
    stream: io.StringIO,
    count: int,
    limiter: Limiter,
    *,
    quiet: bool = False,
    used: int = 0,
    trouble: Callable[[float], QuotaError | None] | None = None,
) -> str:
    """What is shown of a run of ``count`` drivers on the virtual clock, with requests that overtake one another.

    used: slots that another run has used just before.
    trouble: of leases that are shared with other processes.
    """
    rng = random.Random(1)

    def latency() -> tuple[float, float]:
        return rng.uniform(0.01, 0.1), rng.uniform(0.01, 0.1)

    async def main() -> None:
        guard = Guard()
        other = MemoryLeases(RATE, guard)
        for _ in range(used):
            lease = (await other.acquire(1)).lease
            assert lease is not None
            other.release(lease, End.ANSWERED)
        if trouble is None:
            quota = Quota(MemoryLeases(RATE, guard))
        else:
            quota = Quota(MemoryLeases(RATE), TroubledLeases(RATE, trouble, guard))
        with Progress(stream, quiet=quiet) as progress:
            run = Run(
                drivers(count),
                Settings(api_token=Secret("key"), rate=RATE),
                ModelServer(limiter, latency),
                quota,
                observe=progress,
            )
            await run.run()

    virtual_clock.run(main())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1 s"), (59.4, "59 s"), (60.0, "1 min"), (130.2, "2 min 10 s"), (3600.0, "1 h"), (3900.0, "1 h 5 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_during_an_outage_no_time_is_estimated() -> None:
    """An outage of five minutes: shown once with its reason and once as waiting; then times again."""
    down = [Reply(503, message="HTTP 503: busy")] * 20
    stream = io.StringIO()

    async def main() -> None:
        with Progress(stream) as progress:
            server, quota = ModelServer(SlidingLog(100, 60.0), script=[*[None] * 50, *down]), Quota(MemoryLeases(RATE))
            settings = Settings(api_token=Secret("key"), rate=RATE)
            await Run(drivers(300), settings, server, quota, observe=progress, uniform=max).run()

    virtual_clock.run(main())
    lines = stream.getvalue().splitlines()
    (waiting,) = [line for line in lines if line.startswith("Waiting")]
    assert "the server has a problem (HTTP 503: busy). Trying for up to 10 min; Ctrl-C stops the run." in waiting
    assert [line for line in lines if line.endswith("waiting.")] == ["50 of 300 drivers, waiting."]
    assert lines[-1].startswith("2")
    assert "left." in lines[-1]


@pytest.mark.parametrize(("deadline", "is_announced"), [(90, True), (200, False), (None, False)])
def test_a_deadline_that_comes_first_is_announced(deadline: float | None, *, is_announced: bool) -> None:
    stream = io.StringIO()

    async def main() -> None:
        with Progress(stream) as progress:
            progress(RunStarted(240, RATE, 0, 0, lambda: 121.0, deadline))

    virtual_clock.run(main())
    assert (
        "The deadline comes first, in 1 min 30 s; batch-issuer retry resumes after it.\n" in stream.getvalue()
    ) == is_announced


def seconds_of(text: str) -> int:
    """A duration in text, in seconds."""
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", text))


def test_without_a_terminal_a_line_every_ten_seconds_shows_the_plan() -> None:
    """100 go out at once; then every ten seconds a line counts down the wait, which no average rate would know."""
    first, *lines = watch(io.StringIO(), 150, SlidingLog(100, 60.0)).splitlines()
    assert first.startswith("Requesting 150 login tokens at 100/min: about 1 min")
    lefts = [re.fullmatch(r"100 of 150 drivers, about (.+) left\.", line) for line in lines]
    assert [seconds_of(left[1]) for left in lefts if left] == pytest.approx([51, 41, 31, 21, 11, 1], abs=2)


@pytest.mark.parametrize(
    ("count", "used", "tokens", "seconds"),
    [
        (1, 0, "1 login token", 1),
        (100, 0, "100 login tokens", 2),
        (240, 0, "240 login tokens", 121),
        (40, 38, "40 login tokens", 1),
        (90, 38, "90 login tokens", 61),
        (240, 38, "240 login tokens", 121),
        (9, 100, "9 login tokens", 61),
    ],
)
def test_a_run_starts_with_the_time_it_will_take_and_why(count: int, used: int, tokens: str, seconds: int) -> None:
    first, *others = watch(io.StringIO(), count, Unlimited(), used=used).splitlines()
    request, _, time = first.rpartition(": about ")
    assert request == f"Requesting {tokens} at 100/min"
    assert ([*others, ""][0] == f"Other runs have used {used} of 100 requests.") == bool(used)
    assert seconds_of(time) == pytest.approx(seconds, abs=2)


def test_nothing_to_send_is_not_announced() -> None:
    assert watch(io.StringIO(), 0, Unlimited()) == ""
    stream = io.StringIO()
    Progress(stream, quiet=True)(RunStarted(9, RATE, 38, 0, lambda: 1.0))
    assert stream.getvalue() == ""


def test_a_terminal_has_a_bar_that_is_removed_at_the_end() -> None:
    shown = watch(Terminal(), 150, SlidingLog(100, 60.0))
    assert "100 of 150 drivers, about" in shown
    assert re.search(r"about 3\d s left", shown)
    assert "150 of 150 drivers" in shown
    assert "150 of 150 drivers, done |##########|" in shown
    *_, last, end = shown.split("\r")
    assert last.isspace()
    assert end == ""


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_quiet_shows_nothing(stream: io.StringIO) -> None:
    assert watch(stream, 150, SlidingLog(100, 60.0), quiet=True) == ""


def test_a_long_wait_is_shown_once_with_its_reason_and_a_short_one_is_not() -> None:
    shown = watch(io.StringIO(), 12, Gcra(10, 60.0, 5))
    assert shown.count(": the server is limiting requests") >= 1
    assert "Trying for up to 10 min; Ctrl-C stops the run." in shown
    assert "Waiting" not in watch(io.StringIO(), 12, Gcra(100, 60.0, 5))


def test_the_same_reason_is_shown_again_only_after_a_driver_got_a_token() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    offline = GateClosed(5.0, Ending(EndingKind.GAVE_UP, "no connection"), 600.0)
    for event in (offline, offline, RowDone(Outcome(2, Status.ISSUED)), offline):
        progress(event)
    assert stream.getvalue() == "Waiting 5 s: no connection. Trying for up to 10 min; Ctrl-C stops the run.\n" * 2


AWAY = QuotaError("the server of the quota is away", "start it")
BROKEN = QuotaBrokenError("the file of the quota is broken", "delete it")
WARNING = "warning: the file of the quota is broken; this run uses a quota of its own\nhint: delete it\n"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "file"])
def test_an_unavailable_quota_is_shown_once_with_how_long_the_run_waits(
    stream: type[io.StringIO], subtests: pytest.Subtests
) -> None:
    """Each time it goes away; under ``--quiet`` not at all, because the run continues automatically."""
    waiting = "Waiting: the server of the quota is away. Trying for up to 10 min; Ctrl-C stops the run.\n"
    for times, trouble in (
        (1, lambda now: AWAY if 0.3 < now < 30.0 else None),
        (2, lambda now: AWAY if 0.3 < now < 30.0 or 60.5 < now < 70.0 else None),
    ):
        with subtests.test(times=times):
            assert watch(stream(), 150, Unlimited(), trouble=trouble).count(waiting) == times
            assert watch(stream(), 150, Unlimited(), trouble=trouble, quiet=True) == ""


@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "file"])
@pytest.mark.parametrize("quiet", [False, True], ids=["", "quiet"])
@pytest.mark.parametrize("since", [0.0, 0.3, 60.5])
def test_a_broken_quota_is_one_warning_even_with_quiet(stream: type[io.StringIO], since: float, *, quiet: bool) -> None:
    shown = watch(stream(), 150, Unlimited(), trouble=lambda now: BROKEN if now >= since else None, quiet=quiet)
    assert shown.count(WARNING) == 1
    assert (shown == WARNING) == quiet


def test_a_closed_stream_ends_the_display_never_the_run() -> None:
    class Gone(Terminal):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    assert watch(Gone(), 150, SlidingLog(100, 60.0)) == ""


def test_no_secret_is_shown() -> None:
    for trouble in (None, AWAY, BROKEN):
        shown = watch(
            Terminal(),
            30,
            SlidingLog(100, 60.0),
            used=9,
            trouble=lambda now, one=trouble: one if now < 5.0 else None,
        )
        assert "Requesting 30 login tokens at 100/min" in shown
        assert "token-" not in shown
        assert "key" not in shown


def test_stopping_shows_how_many_requests_are_in_flight() -> None:
    stream = io.StringIO()
    Progress(stream)(Stopping(Ending(EndingKind.INTERRUPTED), in_flight=3))
    assert stream.getvalue() == "Stopping; waiting for 3 requests in flight.\n"


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
    with suppress(OSError):  # Linux reports so that the other end is closed
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
    assert "Interrupted by Ctrl-C.\r\n" in shown


def test_ticking_ends_with_the_run() -> None:
    async def main() -> int:
        with Progress(io.StringIO()) as progress:
            server, quota = ModelServer(SlidingLog(100, 60.0)), Quota(MemoryLeases(RATE))
            await Run(drivers(1), Settings(api_token=Secret("key")), server, quota, observe=progress).run()
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(100)
        return int(asyncio.get_running_loop().time() - before)

    assert virtual_clock.run(main()) == 100
