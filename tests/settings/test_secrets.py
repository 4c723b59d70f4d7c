"""A secret is read where no other user can access it; no error, repr or traceback shows it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shlex
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from support.settings_files import HIDDEN

from batch_issuer.errors import SettingsError
from batch_issuer.settings import secrets
from batch_issuer.settings.secrets import Reference, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WHAT = "the API token"

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions and shells")


def read(
    kind: Literal["env", "file", "command"], place: str | Path | Sequence[str], environ: Mapping[str, str] | None = None
) -> str:
    where = Reference(kind, str(place) if isinstance(place, Path) else place, WHAT)
    assert HIDDEN not in f"{where} {where!r}"
    return where.read({} if environ is None else environ).reveal()


def refusal_of_reference(
    kind: Literal["env", "file", "command"], place: Any, environ: Mapping[str, str] | None = None
) -> str:
    """The error about it: what it is and what to do, and never the secret itself."""
    with pytest.raises(SettingsError) as caught:
        read(kind, place, environ)
    assert WHAT in caught.value.message
    assert caught.value.hint
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return f"{caught.value.message} {caught.value.hint}"


def kept(folder: Path, content: str | bytes = HIDDEN, mode: int = 0o600, name: str = "key") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


# --- variables


@pytest.mark.parametrize("content", [HIDDEN, f" {HIDDEN}\r\n"])
def test_a_variable_is_read_without_blanks_from_the_given_environment(
    content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "of-this-process")
    assert read("env", "KEY", {"KEY": content}) == HIDDEN


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": " \t\n"}])
def test_a_variable_that_is_not_set_is_named(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", HIDDEN)
    assert "the environment variable KEY is not set" in refusal_of_reference("env", "KEY", environ)
    assert not Reference("env", "KEY", WHAT).is_set(environ)


# --- files


@pytest.mark.parametrize(
    "content", [HIDDEN, f"{HIDDEN}\n", f" \t{HIDDEN} \r\n\n", f"\ufeff{HIDDEN}\r\n", f"\ufeff \n{HIDDEN}"]
)
def test_a_file_is_read_without_blanks_and_byte_order_mark(content: str, tmp_path: Path) -> None:
    path = kept(tmp_path, content)
    assert read("file", path) == HIDDEN
    assert Reference("file", str(path), WHAT).is_set({})


def test_the_path_of_a_file_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    kept(tmp_path)
    assert read("file", "~/key") == HIDDEN


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_that_only_the_user_can_access_is_read(mode: int, tmp_path: Path) -> None:
    assert read("file", kept(tmp_path, mode=mode)) == HIDDEN


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660, 0o644, 0o444, 0o440, 0o666, 0o777])
def test_a_file_that_others_can_access_is_refused_with_the_fix(mode: int, tmp_path: Path) -> None:
    path = kept(tmp_path, mode=mode, name="its key")
    message = refusal_of_reference("file", path)
    assert f"chmod 600 {shlex.quote(str(path))}" in message
    assert not Reference("file", str(path), WHAT).is_set({})
    path.chmod(0o600)
    assert read("file", path) == HIDDEN


@posix
def test_a_link_is_checked_by_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(kept(tmp_path, mode=0o644))
    refusal_of_reference("file", tmp_path / "link")
    (tmp_path / "key").chmod(0o600)
    assert read("file", tmp_path / "link") == HIDDEN


@posix
@pytest.mark.parametrize("mode", [0o440, 0o444])
@pytest.mark.parametrize("by", ["variable", "place", "link to file", "link to folder"])
def test_a_file_in_a_folder_for_the_secrets_of_services_may_have_any_mode(
    mode: int, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kept(tmp_path / "safe", mode=mode)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "safe")}
    if by == "place":
        monkeypatch.setattr(secrets, "_PROTECTED", (tmp_path / "safe",))
        environ = {}
    elif by == "link to file":
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    elif by == "link to folder":
        (tmp_path / "link").symlink_to(tmp_path / "safe")
        environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "link")}
    assert read("file", path, environ) == HIDDEN


@posix
def test_the_folders_for_the_secrets_of_services_are_those_of_systemd_and_docker() -> None:
    assert (Path("/run/credentials"), Path("/run/secrets")) == secrets._PROTECTED


@posix
@pytest.mark.parametrize("place", ["safe/../key", "safe/link", "safer/key", "key"])
@pytest.mark.parametrize("by", ["variable", "place"])
def test_a_file_outside_such_a_folder_may_not(
    place: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kept(tmp_path, mode=0o644)
    kept(tmp_path / "safer", mode=0o644)
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "link").symlink_to(path)
    if by == "place":
        monkeypatch.setattr(secrets, "_PROTECTED", (tmp_path / "safe",))
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "safe")} if by == "variable" else {}
    refusal_of_reference("file", f"{tmp_path}/{place}", environ)


@posix
def test_only_the_given_environment_names_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = kept(tmp_path, mode=0o444)
    refusal_of_reference("file", path)
    refusal_of_reference("file", path, {"CREDENTIALS_DIRECTORY": ""})


@posix
def test_the_output_of_another_program_is_read_from_a_pipe() -> None:
    """As with a shell's ``--token-file <(pass show samsara)``."""
    reading, writing = os.pipe()
    os.write(writing, f"{HIDDEN}\n".encode())
    os.close(writing)
    try:
        assert read("file", f"/dev/fd/{reading}") == HIDDEN
    finally:
        os.close(reading)


@pytest.mark.parametrize("content", ["", " \r\n\t", "\ufeff", "\ufeff\n"])
def test_an_empty_file_is_named(content: str, tmp_path: Path) -> None:
    path = kept(tmp_path, content)
    assert f"the file {path} is empty" in refusal_of_reference("file", path)
    assert not Reference("file", str(path), WHAT).is_set({})


@pytest.mark.parametrize("content", [f"{HIDDEN}\n".encode("utf-16"), b"\x00\xff\xfe\x80" + HIDDEN.encode()])
def test_a_file_that_is_not_text_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "is not plain text" in refusal_of_reference("file", kept(tmp_path, content))


@pytest.mark.parametrize(
    "place",
    [
        "none",
        ".",
        "key/below",
        "a" * 300,
        pytest.param("a\0b", id="NUL"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(place: str, tmp_path: Path) -> None:
    kept(tmp_path)
    refusal_of_reference("file", f"{tmp_path}/{place}")
    assert not Reference("file", f"{tmp_path}/{place}", WHAT).is_set({})


@posix
def test_the_home_folder_of_a_user_who_does_not_exist_is_refused() -> None:
    refusal_of_reference("file", "~no-such-user-here/key")


# --- commands


@pytest.mark.parametrize("form", ["text", "list"])
def test_a_command_is_a_text_with_quotes_or_a_list_and_runs_without_a_shell(form: str) -> None:
    arguments = [*python("import sys; print('|'.join(sys.argv[1:]))"), "two words", "$HOME;*", "it's"]
    assert read("command", shlex.join(arguments) if form == "text" else arguments) == "two words|$HOME;*|it's"


@pytest.mark.parametrize(
    "printed", [f"{HIDDEN}", f"{HIDDEN}\\n", f"  {HIDDEN} \\r\\n", f"{HIDDEN}\\nuser: x\\n", f"\\n\\n{HIDDEN}\\nx"]
)
def test_the_first_line_that_a_command_prints_counts(printed: str) -> None:
    code = f"import sys; sys.stdout.write('{printed}')"
    assert Reference("command", python(code), WHAT).read({}).reveal() == HIDDEN


PRINT_KEY = "print(__import__('os').environ['KEY'])"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (python(f"{PRINT_KEY}; raise SystemExit(7)"), "exit code 7"),
        (python(""), "printed nothing"),
        (python("print(' ')"), "printed nothing"),
        (["no-such-command-here", "show"], "cannot be run"),
        ("no-such-command-here show", "cannot be run"),
        ("", "is empty"),
        ("  ", "is empty"),
        ([], "is empty"),
        pytest.param("pass 'show", "quotation marks", marks=posix),
        pytest.param('pass "show', "quotation marks", marks=posix),
        pytest.param("pass show\\", "quotation marks", marks=posix),
    ],
)
def test_a_command_without_a_secret_is_refused(command: str | list[str], message: str) -> None:
    assert message in refusal_of_reference("command", command, {**os.environ, "KEY": HIDDEN})


@posix
@pytest.mark.parametrize("command", ["folder", "plain"])
def test_a_command_that_is_not_a_program_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("")
    assert "cannot be run" in refusal_of_reference("command", [str(tmp_path / command)])


@pytest.mark.parametrize("command", [[*python("print(1)"), "a\0b"], "pass a\0b"])
def test_a_command_with_a_nul_character_is_refused(command: str | list[str]) -> None:
    refusal_of_reference("command", command)


def test_the_arguments_of_a_command_are_not_shown(tmp_path: Path) -> None:
    """They may be private: the name of an entry in a password manager, or worse."""
    for command in ([str(tmp_path / "none"), HIDDEN], shlex.join([str(tmp_path / "none"), HIDDEN])):
        where = Reference("command", command, WHAT)
        assert HIDDEN not in str(where)
        with pytest.raises(SettingsError) as caught:
            where.read({})
        assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


@contextmanager
def stdin_of(content: bytes) -> Iterator[None]:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    before = os.dup(0)
    os.dup2(reading, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reading)


def test_a_command_gets_an_empty_stdin() -> None:
    with stdin_of(b"a roster\n"):
        assert read("command", python("import sys; print(sys.stdin.read() or 'nothing')")) == "nothing"
        assert os.read(0, 100) == b"a roster\n"


@posix
def test_a_command_gets_only_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THIS_PROCESS", "x")
    code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE', '__CF_USER_TEXT_ENCODING'}), os.environ['ONE'])"
    assert read("command", python(code), {"ONE": "1", "TWO": "2"}) == "['ONE', 'TWO'] 1"


@posix
def test_a_command_is_found_by_the_path_of_the_given_environment(tmp_path: Path) -> None:
    kept(tmp_path, f"#!/bin/sh\necho {HIDDEN}\n", 0o700, "my-pass")
    assert read("command", "my-pass", {"PATH": str(tmp_path)}) == HIDDEN


def test_a_person_sees_the_error_message_of_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    refusal_of_reference("command", python("import sys; print('locked', file=sys.stderr); sys.exit(1)"))
    assert capfd.readouterr().err.strip() == "locked"


def test_whether_a_secret_is_set_is_known_without_running_a_command(tmp_path: Path) -> None:
    touch = python(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert Reference("command", touch, WHAT).is_set({})
    assert not Reference("command", "", WHAT).is_set({})
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that references start, with a short time limit."""
    found: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        found.append(popen(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.2)
    return found


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(python("import time; time.sleep(60)"), id="silent"),
        pytest.param(python(f"import time; {PRINT_KEY}; time.sleep(60)"), id="printed only a part"),
        pytest.param(["sh", "-c", "trap '' TERM INT; while :; do sleep 1; done"], marks=posix, id="stubborn"),
        pytest.param(["sh", "-c", "sleep 4 & exec sleep 60"], marks=posix, id="grandchild keeps stdout open"),
        pytest.param(["sh", "-c", 'sleep 4 & echo "$KEY"'], marks=posix, id="only a grandchild is left"),
    ],
)
def test_a_command_that_takes_too_long_is_ended(command: list[str], started: list[subprocess.Popen[bytes]]) -> None:
    begin = time.monotonic()
    message = refusal_of_reference("command", command, {**os.environ, "KEY": HIDDEN})
    assert time.monotonic() - begin < 3
    assert "did not finish within 0.2 s" in message
    (process,) = started
    assert process.returncode is not None
    assert process.stdout is not None
    assert process.stdout.closed
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_a_command_has_half_a_minute() -> None:
    assert secrets.COMMAND_SECONDS == 30


# --- a secret that was read


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        ascii,
        format,
        lambda secret: f"{secret}{secret!r}{secret!s}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way is one of the ways
        lambda secret: "{} {!r}".format(secret, secret),  # noqa: UP032
        lambda secret: str([secret]) + str({secret: secret}),
    ],
)
def test_no_text_shows_a_secret(shown: Any) -> None:
    assert HIDDEN not in shown(Secret(HIDDEN))
    assert "***" in shown(Secret(HIDDEN))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps(Secret(HIDDEN), protocol)
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("copied", [json.dumps, vars, list])
def test_inspecting_a_secret_does_not_reveal_it(copied: Any) -> None:
    with pytest.raises(TypeError) as caught:
        copied(Secret(HIDDEN))
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_secret_is_masked_too(copied: Any) -> None:
    assert HIDDEN not in repr(copied({"key": Secret(HIDDEN)}))


def test_a_secret_reveals_its_text_and_compares_by_it() -> None:
    assert Secret(HIDDEN).reveal() == HIDDEN
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")
