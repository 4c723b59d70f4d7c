"""Processes that issue at once for one organization: the server never counts more than the limit, and none starves.

All of it with the runs of a host and with those of several hosts, which share their quota through Redis.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from support.processes import PythonProcess, wait_until
from support.sandbox import live_sandbox
from support.shared_quota import Issuer, WrongClocks, issuers, redis_server, shares, throttled

from batch_issuer.quota.sqlite_database import state_file, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox

LATENCY = (0.02, 0.05)
HOUR = 3600.0


@pytest.fixture(params=["host", "redis"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The option that makes processes share their quota."""
    if request.param != "redis":
        yield ["--quota", request.param]
    else:
        with redis_server(tmp_path) as port:
            yield ["--quota", f"redis://127.0.0.1:{port}/0"]


HOST_NOW_REDIS_LATER = pytest.mark.parametrize(
    "sharing", ["host", pytest.param("redis", marks=pytest.mark.soak)], indirect=True
)


def rate(limit: int, period: float) -> list[str]:
    return ["--rate", f"{limit}/{period}s"]


def duration(processes: list[Issuer], sandbox: Sandbox) -> float:
    """Seconds from the first request to the last reply of these processes."""
    times = [entry.at for issuer in processes for entry in issuer.entries(sandbox)]
    return max(times) - min(times) + LATENCY[1]


def assert_all_issued(processes: list[Issuer], sandbox: Sandbox, patience: float = 60.0) -> None:
    for issuer in processes:
        assert issuer.process.end(patience) == 0, issuer.stderr
        assert issuer.has_all(sandbox)


def assert_promise(sandbox: Sandbox, limit: int) -> None:
    assert sandbox.peak() <= limit
    assert throttled(sandbox) == []


# --- four at once


def _time_of_four_processes(folder: Path, sharing: list[str], period: float) -> float:
    """Four processes with 63 drivers each; and for comparison one with all of them, for another organization.

    Returns:
        The time of the four, divided by that of the one.
    """
    folder.mkdir()
    with (
        live_sandbox(limit=100, per=period, latency=LATENCY, seed=1) as sandbox,
        live_sandbox(limit=100, per=period, latency=LATENCY, seed=1) as another,
        issuers(folder, another, [4 * 63], [*sharing, *rate(100, period)]) as alone,
        issuers(folder, sandbox, [63] * 4, [*sharing, *rate(100, period)]) as four,
    ):
        for issuer in [*four, *alone]:
            issuer.go()
        assert_all_issued(four, sandbox, 3 * period + 60.0)
        assert_all_issued(alone, another)
    assert_promise(sandbox, 100)
    assert sandbox.peak() == 100
    for first in (100, 200):
        fair = first / 4
        assert all(fair / 1.5 <= share <= fair * 1.5 for share in shares(four, sandbox, first))
    durations = [duration([issuer], sandbox) for issuer in four]
    assert max(durations) <= 1.5 * min(durations)
    return duration(four, sandbox) / duration(alone, another)


@pytest.mark.soak
def test_four_processes_take_no_longer_than_one_and_share_fairly(tmp_path: Path, sharing: list[str]) -> None:
    """The server never counts more than the limit, refuses nothing, and no process starves."""
    # What else the machine has to do makes four processes slower, never faster: the best of three counts.
    assert any(_time_of_four_processes(tmp_path / str(attempt), sharing, 3.0) <= 1.05 for attempt in range(3))


@pytest.mark.soak
def test_four_processes_at_the_true_rate(tmp_path: Path, sharing: list[str]) -> None:
    faulthandler.cancel_dump_traceback_later()  # it takes longer than a test that hangs
    assert _time_of_four_processes(tmp_path / "once", sharing, 60.0) <= 1.05


# --- death, and what looks like it


@HOST_NOW_REDIS_LATER
def test_one_process_is_killed_and_one_stopped_midway(tmp_path: Path, sharing: list[str]) -> None:
    """Their requests in flight stay counted; the others continue, and so does the one that was stopped."""
    limit, period = 40, 2.5
    with (
        live_sandbox(limit=limit, per=period, latency=LATENCY, seed=2) as sandbox,
        issuers(tmp_path, sandbox, [18] * 4, [*sharing, *rate(limit, period)]) as four,
    ):
        killed, stopped, *_ = four
        for issuer in four:
            issuer.go()
        wait_until(lambda: len(killed.entries(sandbox)) >= 5, "five requests of the one to be killed")
        killed.process.send_signal(signal.SIGKILL)
        wait_until(lambda: len(stopped.entries(sandbox)) >= 6, "six requests of the one to be stopped")
        stopped.process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped_at + 1.1 * period, "a period passes")
        stopped.process.send_signal(signal.SIGCONT)
        assert_all_issued(four[1:], sandbox)
        assert killed.process.end() == -signal.SIGKILL
        assert 5 <= len(killed.entries(sandbox)) < 18
    assert_promise(sandbox, limit)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_processes_killed_or_stopped_at_any_moment(tmp_path: Path, sharing: list[str], seed: int) -> None:
    limit, period = 60, 1.0
    rng = random.Random(seed)
    with (
        live_sandbox(limit=limit, per=period, latency=(0.0, 0.2), seed=seed) as sandbox,
        issuers(tmp_path, sandbox, [60] * 6, [*sharing, *rate(limit, period)]) as six,
    ):
        for issuer in six:
            issuer.go()
        killed, frozen = six[:3], six[3:5]
        for issuer in killed:
            time.sleep(rng.uniform(0.0, 0.7))
            issuer.process.kill()
        for issuer in frozen:
            issuer.process.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.0, 2.5))
            issuer.process.send_signal(signal.SIGCONT)
        assert_all_issued(six[3:], sandbox)
    assert_promise(sandbox, limit)


ALL_KINDS = pytest.mark.parametrize(
    "sharing", ["process", "host", pytest.param("redis", marks=pytest.mark.soak)], indirect=True
)


@ALL_KINDS
def test_a_process_stopped_for_longer_than_a_period_sends_no_burst_and_loses_no_token(
    tmp_path: Path, sharing: list[str]
) -> None:
    """SIGSTOP, then SIGCONT: timeouts are overdue then, but replies that arrived meanwhile are still read."""
    limit, period = 20, 1.0
    with (
        live_sandbox(limit=limit, per=period, latency=(0.1, 0.2), seed=5) as sandbox,
        issuers(tmp_path, sandbox, [35], [*sharing, *rate(limit, period), "--timeout", "800ms"]) as (issuer,),
    ):
        issuer.go()
        for requests in (8, 28):
            wait_until(lambda requests=requests: len(sandbox.ledger) >= requests, "requests")
            issuer.process.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            wait_until(lambda at=stopped_at: time.monotonic() > at + 1.2 * period, "more than a period passes")
            issuer.process.send_signal(signal.SIGCONT)
        assert_all_issued([issuer], sandbox)
    assert_promise(sandbox, limit)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
@ALL_KINDS
def test_a_wall_clock_that_jumps_by_an_hour_does_not_affect_the_rate(
    tmp_path: Path, sharing: list[str], jump: float
) -> None:
    limit, period = 20, 1.0
    jumps = [WrongClocks(wall=jump, after=period / 2)]
    with (
        live_sandbox(limit=limit, per=period, latency=LATENCY, seed=6) as sandbox,
        issuers(tmp_path, sandbox, [45], [*sharing, *rate(limit, period)], jumps) as (issuer,),
    ):
        issuer.go()
        wait_until(lambda: not issuer.process.is_running(), "it ends")
        assert issuer.has_all(sandbox)
    assert_promise(sandbox, limit)
    assert duration([issuer], sandbox) < 3 * period


# --- one after the other


def test_a_second_run_waits_for_the_quota_of_the_first_whatever_its_clocks_show(
    tmp_path: Path, sharing: list[str]
) -> None:
    """It reports so before it starts. On one host the wall clock is set back; two hosts share no clock."""
    limit, period = 30, 2.0
    on_one_host = sharing == ["--quota", "host"]
    wrong = WrongClocks(wall=-HOUR, after=period / 2) if on_one_host else WrongClocks(wall=HOUR, monotonic=-HOUR)
    with (
        live_sandbox(limit=limit, per=period, latency=LATENCY, seed=3) as sandbox,
        issuers(tmp_path, sandbox, [limit, 20], [*sharing, *rate(limit, period)], [WrongClocks(), wrong]) as two,
    ):
        first, second = two
        first.go()
        assert_all_issued([first], sandbox)
        time.sleep(period / 6)
        second.go()
        assert_all_issued([second], sandbox)
    assert_promise(sandbox, limit)
    assert "Requesting 20 login tokens at 30/2s: about " in second.stderr
    assert "Other runs have used 30 of 30 requests.\n" in second.stderr
    assert duration(two, sandbox) < 1.25 * period


# --- the file's lock


_STOPPED_IN_THE_MIDST = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
os.kill(os.getpid(), signal.SIGSTOP)
connection.execute("COMMIT")
"""


def test_a_process_stopped_inside_a_transaction_is_reported_and_waited_for(tmp_path: Path) -> None:
    limit, period = 10, 1.0
    with (
        live_sandbox(limit=limit, per=period, latency=LATENCY, seed=4) as sandbox,
        issuers(tmp_path, sandbox, [15], ["--quota", "host", *rate(limit, period)]) as (issuer,),
    ):
        issuer.go()
        wait_until(lambda: len(sandbox.ledger) >= 3, "a few requests")
        with PythonProcess("-c", _STOPPED_IN_THE_MIDST, state_file(state_folder())) as holder:
            wait_until(lambda: "another process has locked" in issuer.stderr, "the run to report what it waits for")
            sent = len(sandbox.ledger)
            assert issuer.process.is_running()
            holder.send_signal(signal.SIGCONT)
            assert holder.end() == 0
        assert sent < 15
        assert_all_issued([issuer], sandbox)
    assert issuer.stderr.count("another process has locked") == 1
    assert_promise(sandbox, limit)
