"""The log of a night: each event is one whole line that reads back, whatever happens to the file, and no secret."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.errors import SettingsError
from batch_issuer.locks import Lock
from batch_issuer.model import Identifier, IdentifierKind, Outcome, Status
from batch_issuer.pipeline.endings import Ending, EndingKind
from batch_issuer.pipeline.events import (
    ClockOff,
    Event,
    FirstToken,
    GateClosed,
    GateOpened,
    QuotaTrouble,
    Renewing,
    RowDone,
    RunStarted,
    Stopping,
)
from batch_issuer.reporting import log_file
from batch_issuer.reporting.event_log import COMMON, EVENTS, EventLog
from batch_issuer.reporting.log_file import KEPT
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Form = Literal["text", "json"]
FORMS: tuple[Form, ...] = get_args(Form)

NOW = datetime(2026, 11, 27, 3, 0, 1, 123999, timezone(timedelta(hours=1)))
NOW_SHOWN = "2026-11-27T02:00:01.123Z"

AWAY = Ending(EndingKind.GAVE_UP, "the server asks to wait", "wait")

SAMPLES: dict[str, tuple[Event, dict[str, Any]]] = {
    "run_started": (
        RunStarted(240, Rate(100, 60.0), 38, 7, lambda: 121.00049, 900.0),
        {"drivers": 240, "rate": "100/min", "others": 38, "others_waiting": 7, "seconds_left": 121.0},
    ),
    "row_done": (
        RowDone(Outcome(7, Status.FAILED, error="HTTP 404", hint="fix", http_status=404, request_id="r", attempts=2)),
        {
            "row": 7,
            "status": "failed",
            "http_status": 404,
            "request_id": "r",
            "attempts": 2,
            "error": "HTTP 404",
            "hint": "fix",
        },
    ),
    "gate_closed": (GateClosed(2.34567, AWAY, 600.0), {"seconds": 2.346, "reason": "the server asks to wait"}),
    "gate_opened": (GateOpened(), {}),
    "quota_trouble": (
        QuotaTrouble("away", "start it", 600.0),
        {"message": "away", "hint": "start it", "patience": 600.0},
    ),
    "first_token": (
        FirstToken(3600.0, NOW, 121.5, 6000),
        {"lifetime": 3600.0, "expires_at": NOW_SHOWN, "seconds_left": 121.5, "at_once": 6000},
    ),
    "clock_off": (ClockOff(-12.5), {"seconds": -12.5}),
    "renewing": (Renewing(3), {"drivers": 3}),
    "stopping": (
        Stopping(Ending(EndingKind.UNAUTHORIZED, "HTTP 401"), 2),
        {"ending": "API token refused", "message": "HTTP 401", "in_flight": 2},
    ),
}
ENDED: dict[str, Any] = {"ending": "finished", "message": "all done", "rows": 9, "issued": 8, "results": "a b.csv"}

BARE = re.compile(r'([a-z_]+)=([^ "=]+)(?: |$)')
QUOTED = re.compile(r'([a-z_]+)=(?=")')


def logfmt(line: str) -> dict[str, str]:
    """A reader of lines of text that knows nothing of the writer."""
    time, event, rest = (f"{line} " if line.count(" ") == 1 else line).split(" ", 2)
    fields = {"time": time, "event": event}
    at = 0
    while at < len(rest):
        if bare := BARE.match(rest, at):
            name, value, at = bare[1], bare[2], bare.end()
        else:
            quoted = QUOTED.match(rest, at)
            assert quoted, rest[at:]
            name = quoted[1]
            value, end = json.JSONDecoder().raw_decode(rest, quoted.end())
            assert rest[end : end + 1] in (" ", "")
            at = end + 1
        assert name not in fields
        fields[name] = value
    return fields


def parsed_line(form: Form, line: str) -> dict[str, Any]:
    if form == "text":
        return logfmt(line)

    def unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    found: dict[str, Any] = json.loads(line, object_pairs_hook=unambiguous, parse_constant=pytest.fail)
    return found


def as_read(form: Form, fields: dict[str, Any]) -> dict[str, Any]:
    """What a reader gets of the fields: only JSON knows numbers, and its texts are UTF-16."""

    def value(field: Any) -> Any:
        if isinstance(field, str):
            return field.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return json.dumps(field) if form == "text" else field

    return {name: value(field) for name, field in fields.items() if field is not None}


def never(line: str) -> None:
    pytest.fail(line)


def open_log(path: Path, form: Form = "text", on_trouble: Callable[[str], None] = never) -> EventLog:
    return EventLog(path, form, on_trouble=on_trouble, clock=lambda: NOW)


def log_lines(path: Path) -> list[str]:
    """The lines of a file, by whatever a reader takes for a line end."""
    text = path.read_bytes().decode()
    assert not text or text.endswith("\n")
    assert text.splitlines() == text.split("\n")[:-1]
    return text.splitlines()


def logged(form: Form, *events: Event, organization: str = "") -> list[str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "night.log"
        with open_log(path, form) as log:
            observe = log.observer(organization)
            for event in events:
                observe(event)
        return log_lines(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "night.log"


@pytest.fixture
def complaints() -> list[str]:
    return []


# --- the lines


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SAMPLES)
def test_each_event_writes_its_fields_and_no_others_in_their_order(name: str, form: Form) -> None:
    event, fields = SAMPLES[name]
    (line,) = logged(form, event, organization="north")
    found = parsed_line(form, line)
    assert tuple(found) == COMMON + EVENTS[name]
    common = {"time": NOW_SHOWN, "event": name, "organization": "north", "pid": os.getpid()}
    assert found == as_read(form, common | fields)


@pytest.mark.parametrize("form", FORMS)
def test_a_run_ends_with_its_exit_code_and_result(form: Form, path: Path) -> None:
    with open_log(path, form) as log:
        log.ended("north", exit_code=0, **ENDED)
        log.ended("", exit_code=2)
        with pytest.raises(TypeError, match="run_ended has no token"):
            log.ended("north", exit_code=0, token="text")  # noqa: S106 - none
    full, bare = (parsed_line(form, line) for line in log_lines(path))
    assert tuple(full) == COMMON + EVENTS["run_ended"]
    assert {name: full[name] for name in EVENTS["run_ended"]} == as_read(form, {"exit_code": 0} | ENDED)
    assert tuple(bare) == ("time", "event", "pid", "exit_code")


def test_every_event_of_a_run_has_a_name() -> None:
    assert {type(event) for event, _ in SAMPLES.values()} == set(get_args(Event))
    assert [*SAMPLES, "run_ended"] == [*EVENTS]


def test_the_forms_look_as_documented() -> None:
    done = RowDone(Outcome(7, Status.ISSUED, http_status=200, request_id="r-1", attempts=1, hint="Zürich = 1"))
    pid = os.getpid()
    (text,) = logged("text", done, organization="north")
    assert text == (
        f"{NOW_SHOWN} row_done organization=north pid={pid} row=7 status=issued http_status=200 request_id=r-1 "
        'attempts=1 error="" hint="Zürich = 1"'
    )
    assert logged("json", GateClosed(2.0, Ending(EndingKind.GAVE_UP, "Zürich"), 9.0)) == [
        f'{{"time": "{NOW_SHOWN}", "event": "gate_closed", "pid": {pid}, "seconds": 2.0, "reason": "Z\\u00fcrich"}}'
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_field_without_a_value_is_left_out(form: Form) -> None:
    """Also a time without end, for which JSON has no number."""
    trouble, token = (
        parsed_line(form, line)
        for line in logged(form, QuotaTrouble("m", "t", None), FirstToken(float("inf"), NOW, float("nan"), None))
    )
    assert tuple(trouble) == ("time", "event", "pid", "message", "hint")
    assert tuple(token) == ("time", "event", "pid", "expires_at")


def test_the_plan_is_asked_once_for_the_time_left() -> None:
    times = iter([5.0])
    (line,) = logged("json", RunStarted(1, Rate(1, 1.0), 0, 0, lambda: next(times)))
    assert json.loads(line)["seconds_left"] == 5.0


def test_the_time_is_the_real_time_by_default(path: Path) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with EventLog(path, "json", on_trouble=never) as log:
        log.observer()(GateOpened())
    (line,) = log_lines(path)
    assert before <= datetime.fromisoformat(json.loads(line)["time"]) <= datetime.now(UTC)


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from('a "\\=\n\r\t\0\x85\u2028\ud800\udc00')
)


@pytest.mark.parametrize("form", FORMS)
@given(texts=st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), row=st.integers(1), seconds=st.floats(0, 1e9))
def test_whatever_the_texts_an_event_is_one_line_that_reads_back(
    form: Form, texts: tuple[str, str, str], row: int, seconds: float
) -> None:
    """Line ends of all kinds, quotes, and what cannot even be encoded."""
    error, hint, organization = texts
    found = [
        parsed_line(form, line)
        for line in logged(
            form,
            RowDone(Outcome(row, Status.FAILED, error=error, hint=hint, request_id=organization)),
            GateClosed(seconds, Ending(EndingKind.GAVE_UP, error), 1.0),
            QuotaTrouble(error, hint, None),
            Stopping(Ending(EndingKind.DEADLINE, hint), 0),
            organization=organization,
        )
    ]
    common = {"organization": organization or None, "pid": os.getpid()}
    fields: list[dict[str, Any]] = [
        {"event": "row_done", "row": row, "status": "failed", "request_id": organization, "attempts": 0}
        | {"error": error, "hint": hint},
        {"event": "gate_closed", "seconds": round(seconds, 3), "reason": error},
        {"event": "quota_trouble", "message": error, "hint": hint},
        {"event": "stopping", "ending": "deadline", "message": hint, "in_flight": 0},
    ]
    assert found == [as_read(form, {"time": NOW_SHOWN} | common | each) for each in fields]


@pytest.mark.parametrize("form", FORMS)
@given(text=ANY_TEXT, status=st.sampled_from(Status), kind=st.sampled_from(IdentifierKind))
def test_neither_token_nor_code_nor_identifier_is_ever_written(
    form: Form, text: str, status: Status, kind: IdentifierKind
) -> None:
    """Each begins with a word that is nowhere else."""
    identifier = Identifier(kind, f"whois-{text}")
    outcome = Outcome(7, status, identifier, f"opensesame-{text}", f"knockknock-{text}", NOW, issued_at=NOW)
    (line,) = logged(form, RowDone(outcome))
    assert not re.search("whois|opensesame|knockknock", line)


# --- the file


def test_the_file_is_private_and_a_later_run_appends_to_it(path: Path) -> None:
    before = os.umask(0)
    try:
        for _ in range(2):
            with open_log(path) as log:
                log.observer()(GateOpened())
    finally:
        os.umask(before)
    assert len(log_lines(path)) == 2
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_line_is_written_at_once_and_none_after_the_end(path: Path) -> None:
    with open_log(path) as log:
        observe = log.observer()
        for count in range(1, 4):
            observe(GateOpened())
            assert len(log_lines(path)) == count
    log.close()
    observe(GateOpened())
    assert len(log_lines(path)) == 3


def test_runs_in_several_threads_share_it_and_each_has_its_name(path: Path) -> None:
    with open_log(path, "json") as log:

        def run(name: str) -> None:
            observe = log.observer(name)
            for row in range(100):
                observe(RowDone(Outcome(row, Status.ISSUED)))

        threads = [threading.Thread(target=run, args=[name]) for name in ("north", "south")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [json.loads(line) for line in log_lines(path)]
    rows = sorted((each["organization"], each["row"]) for each in found)
    assert rows == [(name, row) for name in ("north", "south") for row in range(100)]


@pytest.fixture(params=["no folder", "a folder", "no permission", "a link", "a dead link", "a pipe", "no name"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    path = tmp_path / "night.log"
    match request.param:
        case "no folder":
            yield tmp_path / "nowhere" / "night.log", "No such file or directory"
        case "a folder":
            yield tmp_path, "Is a directory" if os.name == "posix" else "Permission denied"
        case "no permission":
            if os.name != "posix" or os.geteuid() == 0:
                pytest.skip("nothing is forbidden here")
            path.touch(0o400)
            yield path, "Permission denied"
        case "a link" | "a dead link":
            if not hasattr(os, "O_NOFOLLOW"):
                pytest.skip("links are followed here")
            if request.param == "a link":
                (tmp_path / "other").touch()
            path.symlink_to(tmp_path / "other")
            yield path, "it is a symbolic link"
            assert [file.stat().st_size for file in tmp_path.glob("other")] == [0] * (request.param == "a link")
        case "a pipe":
            if not hasattr(os, "mkfifo"):
                pytest.skip("no pipes with a name here")
            os.mkfifo(path)
            yield path, "it is not a regular file"
        case _:
            yield tmp_path / "\0", "it is not a valid file name"


def test_a_file_that_cannot_be_opened_is_reported_before_anything_is_sent(unusable: tuple[Path, str]) -> None:
    path, reason = unusable
    with pytest.raises(SettingsError) as caught:
        open_log(path)
    assert caught.value.message.startswith(f"the log file {path} cannot be opened: {reason}")
    assert "--log-file" in caught.value.hint


@pytest.mark.parametrize("left", [b"", b"whole\n", b"ha"])
def test_a_torn_line_of_a_killed_run_corrupts_no_other(left: bytes, path: Path) -> None:
    path.write_bytes(left)
    with open_log(path) as log:
        log.observer()(GateOpened())
    *old, new = log_lines(path)
    assert old == left.decode().split()
    assert logfmt(new)["event"] == "gate_opened"


def test_a_line_that_another_run_is_writing_is_not_torn(path: Path) -> None:
    path.write_bytes(b"ha")
    with open_log(path) as log:
        with path.open("ab") as other:
            other.write(b"lf\n")
        log.observer()(GateOpened())
    half, new = log_lines(path)
    assert half == "half"
    assert logfmt(new)["event"] == "gate_opened"


# --- rotation


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """The size of a file that is full."""
    monkeypatch.setattr(log_file, "MOST_BYTES", 500)
    return 500


def row_numbers(path: Path) -> list[int]:
    return [json.loads(line)["row"] for line in log_lines(path)]


def log_rows(path: Path, count: int, first: int = 0, on_trouble: Callable[[str], None] = never) -> None:
    with open_log(path, "json", on_trouble) as log:
        observe = log.observer()
        for row in range(first, first + count):
            observe(RowDone(Outcome(row, Status.ISSUED)))


def older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def test_a_full_file_is_rotated_when_opened_and_a_few_old_ones_are_kept(path: Path, small: int) -> None:
    nights = KEPT + 3
    for night in range(nights):
        log_rows(path, 10, first=10 * night)
        assert path.stat().st_size > small
    files = [path, *(older(path, number) for number in range(1, KEPT + 1))]
    assert sorted(path.parent.iterdir()) == sorted(files)
    assert [row_numbers(file)[0] // 10 for file in files] == [*range(nights - 1, nights - 2 - KEPT, -1)]
    assert all(len(row_numbers(file)) == 10 for file in files)


@pytest.mark.parametrize("over", [-1, 0])
def test_a_file_is_full_from_the_size_that_is_documented(over: int, path: Path) -> None:
    path.write_bytes(b"x" * (10 * 1024 * 1024 + over - 1) + b"\n")
    log_rows(path, 1)
    assert older(path, 1).exists() == (over == 0)


@pytest.mark.usefixtures("small")
def test_a_run_that_has_the_file_open_never_rotates_it(path: Path) -> None:
    log_rows(path, 50)
    assert row_numbers(path) == [*range(50)]
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.usefixtures("small")
def test_while_another_process_rotates_lines_go_to_the_same_file(path: Path) -> None:
    log_rows(path, 10)
    lock = Lock(path.with_name("night.log.lock"))
    assert lock.acquire()
    log_rows(path, 10, first=10)
    lock.release()
    assert row_numbers(path) == [*range(20)]
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(os.name != "posix", reason="what another process has open is not renamed")
@pytest.mark.usefixtures("small")
def test_an_open_file_is_written_after_rotation_and_a_new_run_opens_the_current_one(path: Path) -> None:
    with open_log(path, "json") as first:
        observe = first.observer()
        for row in range(10):
            observe(RowDone(Outcome(row, Status.ISSUED)))
        with open_log(path, "json") as second:
            second.observer()(RowDone(Outcome(100, Status.ISSUED)))
            observe(RowDone(Outcome(10, Status.ISSUED)))
            second.observer()(RowDone(Outcome(101, Status.ISSUED)))
    assert row_numbers(path) == [100, 101]
    assert row_numbers(older(path, 1)) == [*range(11)]


@pytest.mark.skipif(os.name != "posix", reason="what another process has open is not deleted")
@pytest.mark.usefixtures("small")
def test_a_file_that_later_runs_rotated_away_is_no_longer_written(path: Path) -> None:
    """A run that outlives all kept files loses no line: it continues in the current one."""
    with open_log(path, "json") as log:
        observe = log.observer()
        for row in range(10):
            observe(RowDone(Outcome(row, Status.ISSUED)))
        for night in range(1, KEPT + 2):
            log_rows(path, 10, first=100 * night)
        observe(RowDone(Outcome(10, Status.ISSUED)))
    assert row_numbers(path)[-1] == 10


@pytest.mark.skipif(os.name != "posix", reason="an open file stays where it is")
def test_a_deleted_file_is_created_again(path: Path) -> None:
    with open_log(path) as log:
        observe = log.observer()
        observe(GateOpened())
        path.unlink()
        observe(Renewing(1))
    assert [logfmt(line)["event"] for line in log_lines(path)] == ["renewing"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


WRITER = """
import sys
from pathlib import Path
from batch_issuer.reporting import event_log, log_file
from batch_issuer.pipeline.events import RowDone
from batch_issuer.model import Outcome, Status

log_file.MOST_BYTES, log_file.KEPT = 2000, 200
path, form, name, count = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, int(count), 10):
    with event_log.EventLog(Path(path), form, on_trouble=sys.exit) as log:
        observe = log.observer(name)
        for row in range(start, start + 10):
            observe(RowDone(Outcome(row, Status.ISSUED, error="x" * (row % 50))))
"""


@pytest.mark.skipif(os.name != "posix", reason="what another process has open is not renamed")
@pytest.mark.parametrize("form", FORMS)
def test_overlapping_runs_lose_and_tear_no_line(form: Form, path: Path) -> None:
    """Four processes, twenty runs each, and many rotations: each line is there once and whole, no old file is small."""
    names, count = ("north", "south", "east", "west"), 200
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, form, name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [(*writer.communicate(timeout=60), writer.returncode) for writer in writers] == [("", "", 0)] * 4
    files = [*path.parent.iterdir()]
    found = [parsed_line(form, line) for file in files for line in log_lines(file)]
    assert sorted((each["organization"], int(each["row"])) for each in found) == sorted(
        (name, row) for name in names for row in range(count)
    )
    assert len(files) > 10
    assert sorted(files) == sorted([path, *(older(path, number) for number in range(1, len(files)))])
    assert all(file.stat().st_size >= 2000 for file in files if file != path)


# --- trouble


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("in_the_way", [f"night.log.{KEPT}", "night.log.lock"])
def test_a_file_that_cannot_be_rotated_keeps_growing_and_is_reported_once_a_run(
    in_the_way: str, path: Path, complaints: list[str]
) -> None:
    """The older ones stay where they are."""
    log_rows(path, 10)
    path.with_name(in_the_way).mkdir()
    for number in range(1, KEPT):
        older(path, number).write_text(f"{number}\n")
    for first in (10, 20):
        log_rows(path, 10, first, on_trouble=complaints.append)
    assert len(complaints) == 2
    for line in complaints:
        assert line.startswith(f"the log file {path} cannot be rotated: ")
        assert line.endswith("; it keeps growing")
    assert row_numbers(path) == [*range(30)]
    assert [log_lines(older(path, number)) for number in range(1, KEPT)] == [[str(number)] for number in range(1, KEPT)]


@pytest.mark.usefixtures("small")
def test_repeated_rotation_attempts_lose_no_older_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where the others can be renamed, but not the one that another run has open."""
    log_rows(path, 10)
    for number in range(1, KEPT + 1):
        older(path, number).write_text(f"{number}\n")
    replace = Path.replace

    def in_use(self: Path, target: Path) -> Path:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", in_use)
    for _ in range(3):
        log_rows(path, 1, on_trouble=lambda _: None)
    left = {number: log_lines(older(path, number)) for number in range(1, KEPT + 1) if older(path, number).exists()}
    assert left == {number: [str(number - 1)] for number in range(2, KEPT + 1)}


def test_a_full_disk_is_reported_once_and_lines_resume_when_there_is_room(path: Path, complaints: list[str]) -> None:
    """By a limit that the kernel keeps: the line that hits it is cut short, and corrupts none that comes later."""
    resource = pytest.importorskip("resource", reason="limits as POSIX has them")
    with open_log(path, on_trouble=complaints.append) as log:
        observe = log.observer()
        observe(GateOpened())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        try:
            for drivers in range(3):
                observe(Renewing(drivers))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        observe(Renewing(3))
    assert complaints == [
        f"the log file {path} cannot be written: {os.strerror(errno.EFBIG)}; the run continues without it",
    ]
    whole, cut, last = log_lines(path)
    assert logfmt(whole)["event"] == "gate_opened"
    assert cut == NOW_SHOWN[:10]
    assert logfmt(last)["drivers"] == "3"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_space_left_is_reported_with_the_text_of_the_system(
    path: Path, complaints: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with open_log(path, on_trouble=complaints.append) as log:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, log._file._descriptor)
        os.close(full)
        for _ in range(3):
            log.observer()(GateOpened())
    assert complaints == [
        f"the log file {path} cannot be written: No space left on device; the run continues without it"
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix", reason="a folder with an open file stays where it is")
def test_a_deleted_folder_is_reported_once_and_the_run_continues(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "logs" / "night.log"
    path.parent.mkdir()
    with open_log(path, on_trouble=complaints.append) as log:
        path.unlink()
        path.parent.rmdir()
        for _ in range(3):
            log.observer()(GateOpened())
        path.parent.mkdir()
        log.observer()(Renewing(1))
    assert complaints == [
        f"the log file {path} cannot be written: No such file or directory; the run continues without it"
    ]
    assert len(log_lines(path)) == 1


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here")
def test_a_link_that_appears_later_is_not_followed_either(path: Path, complaints: list[str]) -> None:
    with open_log(path, on_trouble=complaints.append) as log:
        path.unlink()
        path.symlink_to(path.with_name("other"))
        log.observer()(GateOpened())
    assert complaints == [f"the log file {path} cannot be written: it is a symbolic link; the run continues without it"]
    assert not path.with_name("other").exists()
