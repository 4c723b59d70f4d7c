"""A place is written by one run at a time, and a dead one is in nobody's way."""

from __future__ import annotations

import os
import platform
import re
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from support import turns
from support.processes import PythonProcess
from support.rosters import lines, tokens_in, write_roster
from support.sandbox import live_sandbox, tokens_of

from batch_issuer.cli import main
from batch_issuer.errors import ResultsError
from batch_issuer.locks import Lock
from batch_issuer.results import Destination

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.processes import Commands

pytest.importorskip("fcntl", reason="locks as POSIX has them")

ROUNDS = 200
PROCESSES = 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place.lock"


# --- the lock


def test_the_file_is_there_only_while_somebody_holds_it_and_is_private(path: Path) -> None:
    lock = Lock(path)
    for _ in range(2):
        before = os.umask(0)
        try:
            assert lock.acquire("somebody")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not Lock(path).acquire("another")
        assert Lock(path).holder() == "somebody"
        lock.release()
        assert not path.exists()


def test_where_a_file_system_has_no_locks_a_dead_holder_is_in_nobodys_way_either(tmp_path: Path) -> None:
    """The file itself is the lock then; it has to name its holder in the library's own words."""
    path = tmp_path / "place.lock"
    take = (
        "import errno, fcntl, os, sys; from pathlib import Path\n"
        "def flock(*_): raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "fcntl.flock = flock\n"
        "from batch_issuer.locks import Lock\n"
        "lock = Lock(Path(sys.argv[1])); print(lock.acquire('somebody'), flush=True); os._exit(0)\n"
    )
    for _ in range(2):
        taken = subprocess.run([sys.executable, "-c", take, path], capture_output=True, text=True, check=True)
        assert (taken.stdout, taken.stderr) == ("True\n", "")
        assert path.exists()


@pytest.mark.parametrize("left", [b"", b"\0\xff\xfe not text \xf0", b"x" * 100_000])
def test_what_a_dead_process_left_is_free_and_its_text_harmless(left: bytes, path: Path) -> None:
    path.write_bytes(left)
    lock = Lock(path)
    assert len(lock.holder()) <= 1000
    assert lock.acquire("me")
    assert Lock(path).holder() == "me"
    lock.release()


def test_a_holder_that_says_nothing_is_unknown(path: Path) -> None:
    assert Lock(path).holder() == ""
    lock = Lock(path)
    assert lock.acquire()
    assert Lock(path).holder() == ""
    lock.release()


def test_who_held_it_before_is_not_taken_for_the_holder(path: Path) -> None:
    """The text of a dead one, longer than the new one's, is gone."""
    path.write_bytes(b"\0the former holder, of whom there was much to say\n")
    lock = Lock(path)
    assert lock.acquire("me")
    assert Lock(path).holder() == "me"
    lock.release()


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_in_its_place_is_refused_and_not_followed(dangling: bool, path: Path) -> None:
    victim = path.with_name("victim")
    if not dangling:
        victim.write_text("\0precious")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        Lock(path).acquire("me")
    assert Lock(path).holder() == ""
    assert victim.read_text() == "\0precious" if not dangling else not victim.exists()
    assert path.is_symlink()


def replaced_by_hand(path: Path) -> None:
    path.unlink()


def moved_with_its_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name(f"{path.parent.name}-moved"))
    path.parent.mkdir()


@pytest.mark.parametrize("meanwhile", [replaced_by_hand, moved_with_its_folder])
def test_the_lock_of_another_is_never_removed(meanwhile: Callable[[Path], None], tmp_path: Path) -> None:
    """The first holder's file was taken away, a second holds a new one: the end of the first lets no third in."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "place.lock"
    first, second, third = Lock(path), Lock(path), Lock(path)
    assert first.acquire("first")
    meanwhile(path)
    assert second.acquire("second")
    first.release()
    assert not third.acquire("third")
    assert third.holder() == "second"
    second.release()
    assert not path.exists()


def test_it_is_released_wherever_its_folder_went(path: Path) -> None:
    lock = Lock(path)
    assert lock.acquire("me")
    path.parent.rename(path.parent.with_name(f"{path.parent.name}-moved"))
    lock.release()
    path.parent.mkdir()
    assert lock.acquire("me")
    lock.release()


def test_threads_never_hold_it_at_once(path: Path) -> None:
    path.with_name("counter").write_text("0")
    threads = [threading.Thread(target=turns.take_turns, args=(path, 20)) for _ in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert path.with_name("counter").read_text() == str(20 * PROCESSES)
    assert not path.exists()


def test_processes_never_hold_it_at_once(path: Path) -> None:
    path.with_name("counter").write_text("0")
    processes = [PythonProcess(turns.__file__, path, ROUNDS // PROCESSES) for _ in range(PROCESSES)]
    assert [process.end() for process in processes] == [0] * PROCESSES
    assert path.with_name("counter").read_text() == str(ROUNDS)
    assert not path.exists()


# --- two runs for one place


def test_a_second_run_is_refused_naming_the_first_and_sends_nothing_until_that_is_dead(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it issues, retries or purges; SIGKILL frees the place, and what the first had issued is gone on with."""
    source, out = write_roster(tmp_path / "roster", 10), tmp_path / "results" / "depot.results.csv"
    out.parent.mkdir()
    with live_sandbox(script="ok*4,hang,ok*") as sandbox:
        swift = ("--rate", "1000/s", "--quota", "process")
        first = commands.start(sandbox, "issue", source, "-o", out, *swift, "--concurrency", "1")
        first.wait_for(sandbox, 5)
        server = ("--base-url", sandbox.url, *swift)
        issue = ["issue", str(source), "-o", str(out), *server]
        retry = ["retry", str(out), *server]
        environ = {"SAMSARA_API_TOKEN": sandbox.api_token}
        before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
        for second in (issue, [*issue, "--overwrite"], retry, [*retry, "--overwrite"], ["purge", str(out)]):
            assert main(second, environ) == 2
            told = capsys.readouterr().err
            assert f"another run is writing {out}" in told
            assert re.search(
                rf": process {first.pid} on {re.escape(platform.node())}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", told
            )
            assert "hint: " in told
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before
        assert len(sandbox.ledger) == 5
        assert main(["status", str(out)], {}) == 1  # looking is no writing
        os.kill(first.pid, signal.SIGKILL)
        assert first.end() == -signal.SIGKILL
        assert out.with_name(f"{out.name}.lock").exists()
        answered = tokens_of(entry for entry in sandbox.ledger if entry.status)
        assert main(retry, environ) == 0, capsys.readouterr().err
        assert len(sandbox.ledger) == 5 + 6
    assert answered < tokens_in(out)
    assert len(lines(out)) == 10
    assert list(out.parent.iterdir()) == [out]


def test_a_place_is_free_again_after_any_ending(tmp_path: Path) -> None:
    """With an error as without; the name of the journal means the same place."""
    out = tmp_path / "depot.results.csv"

    def fail() -> None:
        with Destination(out):
            second = Destination(out.with_name(f"{out.name}.partial"))
            with pytest.raises(ResultsError, match=rf"process {os.getpid()} on "):
                second.__enter__()
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert list(tmp_path.iterdir()) == []


def test_runs_for_different_places_are_not_in_each_others_way(tmp_path: Path) -> None:
    with Destination(tmp_path / "one.csv"), Destination(tmp_path / "other.csv"):
        assert len(list(tmp_path.iterdir())) == 2
