"""A failing disk loses no token: the run stops, reports it, and can be finished once the problem is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.disks import NO_MOUNT, FailingDisk, assert_has_hint, assert_kept, assert_valid, confined, rescued
from support.rosters import lines, tokens_in, umask, write_roster
from support.sandbox import live_sandbox, tokens_of

from batch_issuer.cli import main
from batch_issuer.results.private_files import exposure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.processes import Commands
    from support.sandbox import Tokens

    from batch_issuer.sandbox import LedgerEntry, Sandbox

resource = pytest.importorskip("resource", reason="limits, modes and mounts as Linux has them")

SWIFT = ("--rate", "5000/s", "--quota", "process")
BRISK = ("--rate", "200/s", "--burst", "1", "--quota", "process")
STEADY = ("--rate", "50/s", "--burst", "1", "--quota", "process")
"""One request every 20 ms: there is time to do something meanwhile."""

LIMIT = 1_000_000
"""Requests that the server takes at once."""

ROWS = 40
NOBODY = 65534
IS_ROOT = os.geteuid() == 0


@dataclass
class ResultsFolder:
    """A folder for results, with earlier ones on request; a roster elsewhere, and a server."""

    folder: Path
    roster: Path
    sandbox: Sandbox
    capsys: pytest.CaptureFixture[str]
    output: str = ""
    before: int = field(init=False)
    old: bytes = b""

    def __post_init__(self) -> None:
        self.before = self.at_first = len(self.sandbox.ledger)

    @property
    def out(self) -> Path:
        return self.folder / "depot.results.csv"

    @property
    def partial(self) -> Path:
        return self.folder / "depot.results.csv.partial"

    def issue(self, *options: str) -> int:
        return self.run("issue", self.roster, "-o", self.out, "--overwrite", *options)

    def retry(self) -> int:
        return self.run("retry", self.out)

    def run(self, *arguments: str | Path) -> int:
        self.capsys.readouterr()
        self.before = len(self.sandbox.ledger)
        environ = {"SAMSARA_API_TOKEN": self.sandbox.api_token}
        command, *others = map(str, arguments)
        code = main([command, "--base-url", self.sandbox.url, *SWIFT, *others], environ)
        self.output = self.capsys.readouterr().err
        return code

    @property
    def ledger(self) -> list[LedgerEntry]:
        """The ledger of the last run."""
        return self.sandbox.ledger[self.before :]

    @property
    def sent(self) -> int:
        """Requests of all runs for these results."""
        return len(self.sandbox.ledger) - self.at_first

    def with_old_results(self) -> None:
        """Restore the results of an earlier run, and nothing else."""
        for path in (*self.folder.iterdir(), *rescued(self.output)):
            path.unlink()
        if not self.old:
            assert self.issue() == 0
            self.old = self.out.read_bytes()
        self.out.write_bytes(self.old)
        self.out.chmod(0o600)

    def assert_safe(self, code: int, hit: bool) -> None:
        """What must hold after any ending, whether or not the disk failed."""
        assert code in ((0, 2, 4) if hit else (0,)), self.output
        assert_valid(self.folder)
        assert_kept(self.out, self.output, tokens_of(self.ledger))
        if code == 2:
            assert self.ledger == []
            assert [path.name for path in self.folder.iterdir()] == [self.out.name]
        if code:
            assert_has_hint(self.output)
        if self.out.read_bytes() != self.old:
            assert code != 2
            assert len(lines(self.out)) == len(lines(self.roster, bom=b""))
            assert tokens_in(self.out) == tokens_of(self.ledger)

    def assert_can_be_finished(self, code: int) -> None:
        """Once the problem is gone, one more command gives each row a token, and no other file is left."""
        for path in self.folder.glob("depot.results.[0-9].csv"):  # complete, under the name that was free
            path.unlink()
        assert (self.issue() if code == 2 else self.retry()) == 0, self.output
        assert_complete(self.out, self.sandbox)


def soak(*values: object) -> Any:
    """A parameter that belongs to the longer tests."""
    return pytest.param(*values, marks=pytest.mark.soak)


def assert_complete(out: Path, sandbox: Sandbox) -> None:
    assert all(row["auth_status"] == "issued" for row in lines(out))
    assert tokens_in(out) <= tokens_of(sandbox.ledger)
    assert list(out.parent.iterdir()) == [out]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with live_sandbox(limit=LIMIT) as sandbox:
        yield sandbox


@pytest.fixture
def place(
    tmp_path: Path, server: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> ResultsFolder:
    (tmp_path / "results").mkdir(mode=0o700)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return ResultsFolder(tmp_path / "results", write_roster(tmp_path / "roster", 3), server, capsys)


# --- a call that fails: each one of a small run, in turn

FAULTS = [
    (("write",), errno.ENOSPC),
    (("write", "file"), errno.EDQUOT),
    (("file",), errno.ENOSPC),
    (("fsync",), errno.EIO),
    (("posix_fallocate",), errno.ENOSPC),
    (("replace", "rename"), errno.EACCES),
    (("open",), errno.EMFILE),
]
ALL_CALLS = [
    *(calls for calls, _ in FAULTS),
    ("write", "ftruncate"),
    ("ftruncate",),
    ("replace",),
    ("rename",),
    ("lseek",),
]
ALL_ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EMFILE]


def fail_each_call(place: ResultsFolder, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...], number: int) -> None:
    for lasting in (False, True):
        for nth in count(1):
            place.with_old_results()
            disk = FailingDisk(place.folder, calls, number, nth, lasting=lasting)
            with disk.failing(monkeypatch):
                code = place.issue()
            place.assert_safe(code, disk.hit)
            if "write" in calls and code != 0:
                assert disk.intents[1] == 0  # nothing is about to be sent any more
            assert len(place.ledger) <= sum(disk.intents)  # and nothing was sent unannounced
            if not disk.hit:
                break
            place.assert_can_be_finished(code)


@pytest.mark.parametrize(("calls", "number"), FAULTS)
def test_no_token_is_lost_whichever_call_fails_once_or_permanently(
    calls: tuple[str, ...], number: int, place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_each_call(place, monkeypatch, calls, number)


@pytest.mark.soak
@pytest.mark.parametrize("number", ALL_ERRORS)
@pytest.mark.parametrize("calls", ALL_CALLS)
def test_no_token_is_lost_whichever_call_fails_with_any_error(
    calls: tuple[str, ...], number: int, place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    if calls == ("posix_fallocate",) and number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        pytest.skip("such a file system cannot reserve space, which is accepted")
    fail_each_call(place, monkeypatch, calls, number)


def test_a_journal_that_continues_after_a_failed_line_has_no_gap(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it removed if publishing fails, too."""
    for nth in count(2):
        place.with_old_results()
        lines = FailingDisk(place.folder, ["write"], errno.ENOSPC, nth, lasting=False)
        results = FailingDisk(place.folder, ["file"], errno.ENOSPC, 1, lasting=True)
        with lines.failing(monkeypatch), results.failing(monkeypatch):
            code = place.issue()
        assert code == 4
        assert place.partial.exists()
        place.assert_safe(code, hit=True)
        place.assert_can_be_finished(code)
        if not lines.hit:
            break


def test_a_run_that_cannot_flush_its_journal_stops_early(place: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO from the first fsync after a request: exit 4, and tokens received until then are kept."""
    place.roster = write_roster(place.roster.parent, 1000)
    disk = FailingDisk(place.folder, ["fsync"], errno.EIO, 3, lasting=False)
    with disk.failing(monkeypatch):
        code = place.issue("--rate", "200/s", "--burst", "1")
    assert code == 4
    assert "Input/output error" in place.output
    assert 0 < len(place.ledger) < 500
    place.assert_safe(code, hit=True)


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_a_failed_renewal_leaves_the_results_unchanged(
    command: str, place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are never a mix of old and new."""
    place.with_old_results()
    expired = place.old.replace(b",20", b",19")  # the years
    for nth in count(1):
        place.out.write_bytes(expired)
        disk = FailingDisk(place.folder, ["file", "fsync", "replace", "rename"], errno.EIO, nth, lasting=True)
        with disk.failing(monkeypatch):
            code = place.retry() if command == "retry" else main(["purge", str(place.out)], {})
        if not disk.hit:
            assert code == 0
            break
        assert code in (0, 2, 4)
        if code:
            assert place.out.read_bytes() == expired
        assert_valid(place.folder)
        if command == "retry":
            assert_kept(place.out, place.output, tokens_of(place.ledger))
        place.partial.unlink(missing_ok=True)


# --- room


def test_disk_space_is_reserved_before_the_first_request_and_the_rest_freed(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved = spy_on_room(place, monkeypatch)
    assert place.issue() == 0
    ((size, sent),) = reserved
    data = place.out.read_bytes()
    assert sent == 0
    assert size > len(data)
    assert place.out.stat().st_blocks * 512 < len(data) + 8192
    assert data.endswith(b"\r\n")
    assert b"\0" not in data


@pytest.mark.parametrize("cell", ["x" * 900, "\u8eca" * 300, '"' * 300, "\U0001f69a\n" * 200, "'=" * 200])
def test_the_reserved_space_is_enough_for_any_roster(
    cell: str, place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted = cell.replace('"', '""')
    lines = "".join(f'{700000 + n},"{quoted}"\n' for n in range(20))
    place.roster.write_text(f"Driver ID,Remark\n{lines}", encoding="utf-8", newline="")
    reserved = spy_on_room(place, monkeypatch)
    assert place.issue() == 0
    assert reserved[0][0] >= len(place.out.read_bytes())


def spy_on_room(place: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Bytes reserved, and requests sent before that."""
    reserved: list[tuple[int, int]] = []
    real = os.posix_fallocate

    def spy(descriptor: int, offset: int, size: int) -> None:
        reserved.append((size, place.sent))
        real(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", spy)
    return reserved


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_reserve_space_is_accepted(
    number: int, place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FailingDisk(place.folder, ["posix_fallocate"], number, 1, lasting=True).failing(monkeypatch):
        assert place.issue() == 0
    assert_complete(place.out, place.sandbox)


# --- Windows, as far as it can be played


def test_results_that_are_open_in_excel_are_refused_before_the_first_request(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.with_old_results()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing(os.open, place.out, "opened"))
        codes = [place.issue(), place.retry(), main(["purge", str(place.out)], {})]
    assert codes == [2, 2, 2]
    assert "open in another program such as Excel" in place.output
    assert place.sent == len(lines(place.out))  # by the earlier run
    assert place.out.read_bytes() == place.old
    assert list(place.folder.iterdir()) == [place.out]


def test_results_opened_in_excel_during_the_run_get_a_free_name_in_the_folder(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4, both names are reported; the names count up, and nothing is ever overwritten."""
    place.with_old_results()
    (place.folder / "depot.results.1.csv").write_bytes(b"precious")
    (place.folder / "depot.results.3.csv").symlink_to("nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refusing(os.replace, place.out, "replaced"))
        for number in (2, 4, 5):
            free = place.folder / f"depot.results.{number}.csv"
            assert place.issue() == 4
            assert str(place.out) in place.output
            assert str(free) in place.output
            assert tokens_in(free) == tokens_of(place.ledger)
            assert len(lines(free)) == 3
            assert stat.S_IMODE(free.stat().st_mode) == 0o600
            assert not place.partial.exists()
    assert place.out.read_bytes() == place.old
    assert (place.folder / "depot.results.1.csv").read_bytes() == b"precious"
    assert not (place.folder / "nowhere").exists()


def test_no_open_file_is_renamed_which_windows_refuses(place: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, a file that Python has open cannot be renamed or deleted, not even by the same process."""

    def as_on_windows(real: Callable[..., Any]) -> Callable[..., Any]:
        def rename(source: Any, target: Any) -> None:
            for path in (source, target):
                if str(path) in open_files():
                    raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
            real(source, target)

        return rename

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, as_on_windows(getattr(os, name)))
    assert place.issue() == 0, place.output
    assert place.issue() == 0, place.output


def open_files() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return found


def refusing(real: Callable[..., Any], path: Path, _what: str) -> Callable[..., Any]:
    """A function of `os` that fails for a path, whichever argument it is."""

    def call(*arguments: Any, **options: Any) -> Any:
        if path in arguments or str(path) in arguments:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(*arguments, **options)

    return call


# --- the kernel's own refusals, met by the real command


@dataclass
class Scene:
    """The folders of one run of the command, accessible to all users, and its server."""

    base: Path
    sandbox: Sandbox
    user: int | None

    def __post_init__(self) -> None:
        self.base.chmod(0o755)
        self.folder, self.temporary = self.base / "results", self.base / "temporary"
        for folder in (self.folder, self.temporary):
            folder.mkdir(mode=0o700)
            if self.user is not None:
                os.chown(folder, self.user, self.user)
        self.roster = wide_roster(self.base / "roster")

    @property
    def out(self) -> Path:
        return self.folder / "depot.results.csv"

    @property
    def issue(self) -> tuple[str | Path, ...]:
        return ("issue", self.roster, "-o", self.out, *STEADY)

    @property
    def issued(self) -> Tokens:
        return tokens_of(self.sandbox.ledger)

    def environ(self) -> dict[str, Any]:
        return {"environ": {"TMPDIR": str(self.temporary)}, "user": self.user}


def wide_roster(folder: Path) -> Path:
    """With long cells, so that the journal, which repeats them, becomes larger than the results."""
    path = write_roster(folder, 0)
    lines = "".join(f"{'x' * 300},{700000 + n}\n" for n in range(ROWS))
    path.write_text(f"Remark,Driver ID\n{lines}")
    return path


def scene_of(user: int | None, **sandbox: Any) -> Any:
    @contextlib.contextmanager
    def scene() -> Iterator[Scene]:
        with tempfile.TemporaryDirectory() as base, live_sandbox(limit=LIMIT, **sandbox) as server:
            yield Scene(Path(base), server, user)

    return scene()


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of(None) as found:
        yield found


@pytest.fixture
def unprivileged_scene() -> Iterator[Scene]:
    """Not as root, for whom modes do not count."""
    with scene_of(NOBODY if IS_ROOT else None) as found:
        yield found


def assert_stopped_in_time(scene: Scene, code: int, output: str, out: Path | None = None) -> None:
    assert code == 4, output
    assert_has_hint(output)
    assert 0 < len(scene.sandbox.ledger) < ROWS
    assert_kept(out or scene.out, output, scene.issued)


def finish(scene: Scene, commands: Commands, results: Path | None = None) -> None:
    """Once the problem is gone, ``retry`` completes the results."""
    run = confined(commands, scene.sandbox, "retry", results or scene.out, *SWIFT, **scene.environ())
    assert run.end() == 0, run.output
    assert_complete(results or scene.out, scene.sandbox)
    assert len(lines(results or scene.out)) == ROWS


@pytest.mark.parametrize("limit", [soak(100), 20_000])
def test_a_file_size_limit_below_the_results_is_detected_before_the_first_request(
    limit: int, scene: Scene, commands: Commands
) -> None:
    run = confined(commands, scene.sandbox, *scene.issue, limits={resource.RLIMIT_FSIZE: limit})
    assert run.end() == 2, run.output
    assert scene.sandbox.ledger == []
    assert list(scene.folder.iterdir()) == []


@pytest.mark.parametrize("quota", [soak("process"), "host"])
def test_a_file_size_limit_hit_by_the_journal_stops_the_run_and_the_tokens_are_published(
    quota: str, scene: Scene, commands: Commands
) -> None:
    limits = {resource.RLIMIT_FSIZE: ROWS * 950}
    run = confined(commands, scene.sandbox, *scene.issue, *BRISK, "--quota", quota, limits=limits)
    assert_stopped_in_time(scene, run.end(), run.output)
    assert "File too large" in run.output
    assert tokens_in(scene.out) == scene.issued
    assert len(lines(scene.out)) == ROWS
    finish(scene, commands)


@pytest.mark.parametrize("limit", [soak(4), 5, soak(6), soak(7), soak(8), 9, 10])
def test_without_file_descriptors_at_the_start_nothing_is_sent(limit: int, scene: Scene, commands: Commands) -> None:
    """Wherever the limit is hit, the command reports it with a hint."""
    limits = {resource.RLIMIT_NOFILE: limit}
    run = confined(commands, scene.sandbox, *scene.issue, "--give-up-after", "0.1s", limits=limits)
    code = run.end()
    assert scene.sandbox.ledger == []
    assert code in (2, 4), run.output
    assert_has_hint(run.output)
    if code == 4:  # it waited for connections, so there are results with an error
        assert {row["auth_status"] for row in lines(scene.out)} == {"not_attempted"}


def test_running_out_of_file_descriptors_ends_the_run_and_keeps_all_tokens(commands: Commands) -> None:
    """No new connection can be opened after the server has closed the only one."""
    with scene_of(None, script=f"{'ok*5,reset,' * 7}ok*") as scene:
        run = confined(
            commands, scene.sandbox, *scene.issue, "--concurrency", "1", "--give-up-after", "0.1s", **scene.environ()
        )
        run.wait_for(scene.sandbox, 3)
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (3, resource.prlimit(run.pid, resource.RLIMIT_NOFILE)[1]))
        assert_stopped_in_time(scene, run.end(), run.output)
        assert "Too many open files" in run.output
        finish(scene, commands)


def test_a_folder_removed_during_the_run_ends_it_and_the_tokens_are_rescued(scene: Scene, commands: Commands) -> None:
    run = confined(commands, scene.sandbox, *scene.issue, **scene.environ())
    run.wait_for(scene.sandbox, 5)
    shutil.rmtree(scene.folder)
    assert_stopped_in_time(scene, run.end(), run.output)
    (found,) = rescued(run.output)
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    finish(scene, commands, found)


def test_a_folder_renamed_during_the_run_ends_it_and_the_tokens_are_rescued(scene: Scene, commands: Commands) -> None:
    """The file in the renamed folder is CSV and can be resumed, too."""
    run = confined(commands, scene.sandbox, *scene.issue, **scene.environ())
    run.wait_for(scene.sandbox, 5)
    moved = scene.base / "moved"
    scene.folder.rename(moved)
    assert_stopped_in_time(scene, run.end(), run.output)
    (found,) = rescued(run.output)
    assert tokens_in(found) == scene.issued
    assert not scene.folder.exists()
    assert_valid(moved)
    finish(scene, commands, moved / scene.out.name)


@pytest.mark.parametrize("taken", [0o500, 0o000])
def test_permissions_removed_during_the_run_lose_no_token(
    taken: int, unprivileged_scene: Scene, commands: Commands
) -> None:
    """With 0500 the journal can still be written, with 0 not even found; the results cannot be renamed into place."""
    scene = unprivileged_scene
    run = confined(commands, scene.sandbox, *scene.issue, **scene.environ())
    run.wait_for(scene.sandbox, 5)
    scene.folder.chmod(taken)
    code = run.end()
    scene.folder.chmod(0o700)
    assert code == 4
    assert_has_hint(run.output)
    assert_kept(scene.out, run.output, scene.issued)
    assert_valid(scene.folder)
    finish(scene, commands)


def test_a_write_protected_folder_is_refused_before_the_first_request(
    unprivileged_scene: Scene, commands: Commands
) -> None:
    scene = unprivileged_scene
    earlier = confined(commands, scene.sandbox, *scene.issue, *SWIFT, **scene.environ())
    assert earlier.end() == 0, earlier.output
    before = scene.out.read_bytes()
    for path, mode in ((scene.out, 0o444), (scene.folder, 0o555)):
        path.chmod(mode)
        for command in ((*scene.issue, "--overwrite"), ("retry", scene.out, "--min-validity", "1h", *SWIFT)):
            run = confined(commands, scene.sandbox, *command, **scene.environ())
            assert run.end() == 2, run.output
            assert_has_hint(run.output)
        path.chmod(0o700)
    assert len(scene.sandbox.ledger) == ROWS
    assert scene.out.read_bytes() == before
    assert list(scene.folder.iterdir()) == [scene.out]


# --- a tiny disk of its own


def start_on_disk(scene: Scene, commands: Commands, size: int) -> Any:
    return confined(commands, scene.sandbox, *scene.issue, mount=(scene.folder, size), **scene.environ())


def end_on_disk(run: Any) -> int:
    code: int = run.end()
    if code == NO_MOUNT:
        pytest.skip("this kernel does not allow mounting")
    return code


@pytest.mark.parametrize("size", [soak(4096), 16_384, 45_000])
def test_a_full_disk_is_detected_before_the_first_request(size: int, scene: Scene, commands: Commands) -> None:
    """Full after the lock, the reserved space, or the journal's first lines."""
    run = start_on_disk(scene, commands, size)
    assert end_on_disk(run) == 2, run.output
    assert "No space left on device" in run.output
    assert_has_hint(run.output)
    assert scene.sandbox.ledger == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into the process through /proc")
@pytest.mark.parametrize("way", ["journal", "another file"])
def test_a_disk_that_fills_up_stops_the_run_and_the_tokens_are_published(
    way: str, scene: Scene, commands: Commands
) -> None:
    """Filled by the journal or by another program. Once there is space, `retry` finishes the results there."""
    run = start_on_disk(scene, commands, 80_000 if way == "journal" else 500_000)
    with the_disk_of(run, scene) as disk:
        if way != "journal":
            fill(disk / "another file")
        assert_stopped_in_time(scene, end_on_disk(run), run.output, disk / scene.out.name)
        assert "No space left on device" in run.output
        with contextlib.suppress(FileNotFoundError):
            (disk / "another file").unlink()
        assert [path.name for path in disk.iterdir()] == [scene.out.name]
        shutil.copytree(disk, scene.folder, dirs_exist_ok=True)
    assert tokens_in(scene.out) == scene.issued
    assert len(lines(scene.out)) == ROWS
    finish(scene, commands)


@contextlib.contextmanager
def the_disk_of(run: Any, scene: Scene) -> Iterator[Path]:
    """The path to the disk of another process, even after it has ended."""
    try:
        run.wait_for(scene.sandbox, 3)
        descriptor = os.open(f"/proc/{run.pid}/root{scene.folder}", os.O_RDONLY)
    except (AssertionError, OSError):
        end_on_disk(run)
        raise
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def fill(path: Path) -> None:
    """Fill a disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


# --- private from birth, and no symbolic link followed


@dataclass
class Births:
    """Files created by `os.open` in a folder, with their flags and initial mode."""

    below: Path
    found: dict[str, tuple[int, int]] = field(default_factory=dict)

    def spied(self, real: Callable[..., int]) -> Callable[..., int]:
        def spy(path: Any, flags: int, *others: Any, **options: Any) -> int:
            is_new = flags & os.O_CREAT and str(path).startswith(str(self.below)) and not os.path.lexists(path)
            descriptor = real(path, flags, *others, **options)
            if is_new:
                self.found[Path(path).name] = (flags, stat.S_IMODE(os.fstat(descriptor).st_mode))
            self.look()
            return descriptor

        return spy

    def look(self) -> None:
        """No file there is ever accessible to others; this also finds files that SQLite creates."""
        for folder, _, names in os.walk(self.below):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    assert not Path(folder, name).lstat().st_mode & 0o177, name


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_files_are_created_private_whatever_the_umask(
    mask: int, place: ResultsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, journal, lock, rescued file, journal kept aside, and the quota's state."""
    place.roster.chmod(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    births = Births(tmp_path)
    disk = FailingDisk(place.folder, ["write", "file"], errno.ENOSPC, 3, lasting=True)
    with umask(mask), monkeypatch.context() as patch:
        patch.setattr(os, "open", births.spied(os.open))
        with disk.failing(monkeypatch):
            assert place.issue("--quota", "host") == 4
        assert place.partial.exists()
        assert place.issue("--quota", "host") == 0
        births.look()
    assert stat.S_IMODE(place.out.stat().st_mode) == 0o600
    (aside,) = place.folder.glob("*.partial.*")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    kinds = {f"depot.results.csv{suffix}" for suffix in (".lock", ".writing", ".partial.writing")}
    kinds |= {path.name for path in (tmp_path / "temporary").iterdir()}
    kinds |= {path.name for path in (tmp_path / "state" / "batch-issuer").glob("*.sqlite3")}
    assert len(kinds) == 5
    assert kinds <= set(births.found)
    made_once = {name: flags for name, (flags, _) in births.found.items() if not name.endswith(".lock")}
    assert all(flags & os.O_EXCL for flags in made_once.values())  # a lock is there for others to open
    assert not any(mode & 0o177 for _, mode in births.found.values())


def planted(place: ResultsFolder, name: str, *, dangling: bool) -> Path:
    """A symbolic link to a file that must stay untouched."""
    victim = place.roster.parent / "victim.csv"
    if not dangling:
        victim.write_bytes(b"precious")
    (place.folder / name).symlink_to(victim)
    return victim


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("suffix", ["", ".partial", ".lock"])
def test_a_symbolic_link_in_place_of_a_file_is_refused_and_not_followed(
    suffix: str, dangling: bool, place: ResultsFolder
) -> None:
    victim = planted(place, f"{place.out.name}{suffix}", dangling=dangling)
    assert place.run("issue", place.roster, "-o", place.out) == 2
    assert_has_hint(place.output)
    assert place.issue() == 2
    assert place.retry() == 2
    assert main(["purge", str(place.out)], {}) == 2
    assert place.sent == 0
    assert victim.read_bytes() == b"precious" if not dangling else not victim.exists()
    assert [path.name for path in place.folder.iterdir()] == [f"{place.out.name}{suffix}"]


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("suffix", [".writing", ".partial.writing"])
def test_a_symbolic_link_in_place_of_a_temporary_file_is_removed_and_not_followed(
    suffix: str, dangling: bool, place: ResultsFolder
) -> None:
    victim = planted(place, f"{place.out.name}{suffix}", dangling=dangling)
    assert place.issue() == 0
    assert_complete(place.out, place.sandbox)
    assert victim.read_bytes() == b"precious" if not dangling else not victim.exists()


def test_temporary_files_left_by_a_killed_run_do_not_block(place: ResultsFolder) -> None:
    for suffix in (".writing", ".partial.writing", ".lock"):
        (place.folder / f"{place.out.name}{suffix}").write_bytes(bytes(5000))
    assert place.issue() == 0
    assert_complete(place.out, place.sandbox)


def test_a_symbolic_link_created_during_the_run_is_replaced_and_not_followed(
    place: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last moment: just before the finished file is renamed."""
    victim = place.roster.parent / "victim.csv"
    victim.write_bytes(b"precious")
    real = os.replace

    def late(source: Any, target: Any) -> None:
        if Path(target) == place.out:
            place.out.symlink_to(victim)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", late)
        assert place.issue() == 0
    assert not place.out.is_symlink()
    assert_complete(place.out, place.sandbox)
    assert victim.read_bytes() == b"precious"


# --- access by other users


ALL_USERS = "all users can add and remove files in"


@pytest.fixture
def accessible_folder() -> Iterator[Path]:
    """A folder that all users can reach."""
    with tempfile.TemporaryDirectory() as folder:
        if not all(above.stat().st_mode & stat.S_IXOTH for above in Path(folder).parents):
            pytest.skip("the system's temporary folder is private")
        yield Path(folder)


@pytest.mark.parametrize(
    ("modes", "warning"),
    [
        ((0o755, 0o700, 0o600), ""),
        ((0o755, 0o750, 0o600), ""),
        ((0o755, 0o711, 0o600), ""),
        ((0o700, 0o777, 0o600), ""),  # the parent folder is private
        ((0o755, 0o755, 0o600), ""),
        ((0o755, 0o777, 0o600), ALL_USERS),
        ((0o755, 0o1777, 0o600), ""),
        ((0o700, 0o700, 0o644), "has no permissions"),
        ((0o700, 0o700, 0o640), "has no permissions"),
    ],
)
def test_a_warning_reports_access_by_other_users(
    modes: tuple[int, int, int], warning: str, accessible_folder: Path
) -> None:
    """From the modes of the parent folder, of the folder, and of a file in it."""
    file = accessible_folder / "folder" / "file"
    file.parent.mkdir()
    file.touch()
    for path, mode in zip((accessible_folder, file.parent, file), modes, strict=True):
        path.chmod(mode)
    found = exposure(file)
    assert warning in found
    assert bool(found) == bool(warning)


def test_the_warning_is_printed_unless_quiet(accessible_folder: Path, place: ResultsFolder) -> None:
    place.folder = accessible_folder / "results"
    place.folder.mkdir()
    accessible_folder.chmod(0o755)
    place.folder.chmod(0o777)
    assert place.issue() == 0
    assert f"warning: {ALL_USERS} {place.folder}" in place.output
    assert place.retry() == 0
    assert "warning: " in place.output
    assert place.issue("--quiet") == 0
    assert place.output == ""
    place.folder.chmod(0o700)
    assert place.issue() == 0
    assert "warning" not in place.output
