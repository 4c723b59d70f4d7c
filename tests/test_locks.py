"""Only one run at a time writes a results file, and a dead run does not block others."""

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


def test_the_file_exists_only_while_the_lock_is_held_and_is_private(path: Path) -> None:
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


def test_a_dead_holder_does_not_block_on_a_file_system_without_locks(tmp_path: Path) -> None:
    """The file itself is the lock then, with the library's own text about the holder."""
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
def test_a_file_left_by_a_dead_process_is_free_and_its_text_harmless(left: bytes, path: Path) -> None:
    path.write_bytes(left)
    lock = Lock(path)
    assert len(lock.holder()) <= 1000
    assert lock.acquire("me")
    assert Lock(path).holder() == "me"
    lock.release()


def test_a_holder_without_a_description_is_unknown(path: Path) -> None:
    assert Lock(path).holder() == ""
    lock = Lock(path)
    assert lock.acquire()
    assert Lock(path).holder() == ""
    lock.release()


def test_the_previous_holder_is_not_reported_as_the_holder(path: Path) -> None:
    """The longer text of a dead holder is replaced completely."""
    path.write_bytes(b"\0the previous holder, with quite a long description\n")
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
def test_another_holders_lock_is_never_removed(meanwhile: Callable[[Path], None], tmp_path: Path) -> None:
    """The first holder's file was removed and a second holds a new one: when the first ends, no third gets in."""
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


def test_it_is_released_even_if_its_folder_was_moved(path: Path) -> None:
    lock = Lock(path)
    assert lock.acquire("me")
    path.parent.rename(path.parent.with_name(f"{path.parent.name}-moved"))
    lock.release()
    path.parent.mkdir()
    assert lock.acquire("me")
    lock.release()


def test_only_one_thread_holds_it_at_a_time(path: Path) -> None:
    path.with_name("counter").write_text("0")
    threads = [threading.Thread(target=turns.take_turns, args=(path, 20)) for _ in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert path.with_name("counter").read_text() == str(20 * PROCESSES)
    assert not path.exists()


def test_only_one_process_holds_it_at_a_time(path: Path) -> None:
    path.with_name("counter").write_text("0")
    processes = [PythonProcess(turns.__file__, path, ROUNDS // PROCESSES) for _ in range(PROCESSES)]
    assert [process.end() for process in processes] == [0] * PROCESSES
    assert path.with_name("counter").read_text() == str(ROUNDS)
    assert not path.exists()


# --- two runs for one place


def test_a_second_run_is_refused_and_sends_nothing_until_the_first_is_dead(
    tmp_path: Path, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it issues, retries or purges; SIGKILL frees the lock, and the first run's tokens are kept."""
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
            output = capsys.readouterr().err
            assert f"another run is writing {out}" in output
            assert re.search(
                rf": process {first.pid} on {re.escape(platform.node())}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", output
            )
            assert "hint: " in output
        assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before
        assert len(sandbox.ledger) == 5
        assert main(["status", str(out)], {}) == 1  # reading is allowed
        os.kill(first.pid, signal.SIGKILL)
        assert first.end() == -signal.SIGKILL
        assert out.with_name(f"{out.name}.lock").exists()
        answered = tokens_of(entry for entry in sandbox.ledger if entry.status)
        assert main(retry, environ) == 0, capsys.readouterr().err
        assert len(sandbox.ledger) == 5 + 6
    assert answered < tokens_in(out)
    assert len(lines(out)) == 10
    assert list(out.parent.iterdir()) == [out]


def test_the_lock_is_free_after_any_ending(tmp_path: Path) -> None:
    """With or without an error; the name of the journal stands for the same results."""
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


def test_runs_with_different_outputs_do_not_block_each_other(tmp_path: Path) -> None:
    with Destination(tmp_path / "one.csv"), Destination(tmp_path / "other.csv"):
        assert len(list(tmp_path.iterdir())) == 2
