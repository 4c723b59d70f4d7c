"""The settings file is read strictly, flags win over environment over file, and ``config`` says so without secrets."""

from __future__ import annotations

import json
import os
import sys
import traceback
import unicodedata
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_issuer.cli import main
from batch_issuer.cli.parser import flags_of, make_parser
from batch_issuer.errors import SettingsError
from batch_issuer.model import IdentifierKind
from batch_issuer.settings.file import (
    FILE_NAME,
    SettingsFile,
    find_settings_file,
    read_settings_file,
)
from batch_issuer.settings.layers import Layers, ReportOptions, results_path
from batch_issuer.settings.options import Option, keys
from batch_issuer.settings.roster_options import RosterOptions
from batch_issuer.settings.run_settings import Rate
from batch_issuer.settings.secrets import Secret

HIDDEN = "hunter2hunter2"
DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions and shells")


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case dict():
            return f"{{{', '.join(f'{toml(key)} = {toml(each)}' for key, each in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return str(value)


def document(content: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in content.items())


def written(folder: Path, text: str | dict[str, Any], name: str = "b.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else document(text), encoding="utf-8")
    return path


def told(error: SettingsError) -> str:
    """What is said of an error: one line each, and nothing that is nobody's business."""
    assert error.tip
    assert error.message.isprintable()
    assert error.tip.isprintable()
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.tip
    return f"{error.message} {error.tip}"


def refused(folder: Path, text: str | dict[str, Any]) -> str:
    """What is said of a file that cannot be used; it always names the file."""
    path = written(folder, text)
    with pytest.raises(SettingsError) as caught:
        read_settings_file(path)
    assert str(path) in caught.value.message
    return told(caught.value)


def choice(
    file: Path | None, *flags: str, environ: dict[str, str] | None = None, org: str = "", command: str = "issue"
) -> Layers:
    options = make_parser().parse_args([command, *flags])
    return Layers(read_settings_file(file), org, flags=flags_of(options), environ=environ or {})


def shown(told_of: Layers) -> dict[str, tuple[str, str]]:
    """Of each setting what ``config`` says: value and source."""
    return {name: (value, source) for name, value, source in (*told_of.shown(), *told_of.shown_of_report())}


# --- what a file may say

DEFAULTS_KEYS, ORGANIZATION_KEYS = keys("run", "defaults"), keys("run", "organization")
ROSTER_KEYS, REPORT_KEYS = keys("roster"), keys("report")
SECTIONS: dict[tuple[str, ...], dict[str, Option]] = {
    ("defaults",): DEFAULTS_KEYS,
    ("roster",): ROSTER_KEYS,
    ("report",): REPORT_KEYS,
    ("organizations", "north"): ORGANIZATION_KEYS,
    ("organizations", "north", "roster"): ROSTER_KEYS,
}

RIGHT = {
    "region": "eu",
    "base_url": "https://gateway.example",
    "token_env": "KEY",
    "token_file": "key",
    "token_command": "pass show samsara",
    "rate": "5/s",
    "burst": 3,
    "quota": "process",
    "timeout": "10s",
    "concurrency": 4,
    "give_up_after": "5m",
    "min_validity": "2m",
    "deadline": "06:00",
    "output": "results/{organization}-{date}.csv",
    "organization_column": "Depot",
    "roster_file": "depot.csv",
    "map": {"driver_id": "Fahrer-Nr."},
    "external_key": "payrollId",
    "identify_by": "username",
    "encoding": "cp1252",
    "sheet": "North",
    "log_file": "run.log",
    "log_format": "json",
    "summary": "run.json",
    "notify_env": "HOOK",
    "notify_file": "hook",
    "notify_on": "always",
}

KINDS_OF_VALUES: dict[str, Any] = {
    "whole": 5,
    "float": 1.5,
    "infinite": float("inf"),
    "boolean": True,
    "text": "\u2603",
    "blank": " ",
    "list": ["x"],
    "list of numbers": [1],
    "empty list": [],
    "table": {"x": "y"},
    "table of numbers": {"driver_id": 5},
}

TIMES = ("timeout", "give_up_after", "min_validity")
ALLOWED: dict[str, set[str]] = {
    **{key: {"whole"} for key in ("burst", "concurrency")},
    **{key: {"whole", "float"} for key in TIMES},
    **{key: set() for key in ("region", "rate", "deadline", "log_format", "notify_on", "identify_by", "map")},
    "token_command": {"text", "list"},
}
"""Kinds of values that are right for a key; a text, where it says nothing."""

SAY_MORE = {
    "map": {"table": "'x' is no kind of identifier"},
    "identify_by": {"text": "is no kind of identifier"},
    "rate": {"text": "is not a rate"},
    "deadline": {"text": "is not a deadline"},
    **{key: {"text": "is not a time", "infinite": "is not a time"} for key in TIMES},
}
"""Of values that are of the right kind and wrong all the same."""


def nested(section: tuple[str, ...], values: Any) -> dict[str, Any]:
    for name in reversed(section):
        values = {name: values}
    return dict(values)


CASES = [
    pytest.param(section, key, id=f"{'.'.join(section)} {key}") for section, keys in SECTIONS.items() for key in keys
]


@pytest.mark.parametrize(("section", "key"), CASES)
def test_a_key_takes_values_of_its_kind_and_refuses_others_saying_what_it_must_be(
    section: tuple[str, ...], key: str, tmp_path: Path
) -> None:
    read_settings_file(written(tmp_path, nested(section, {key: RIGHT[key]})))
    for kind, value in KINDS_OF_VALUES.items():
        content = nested(section, {key: value})
        if kind in ALLOWED.get(key, {"text"}):
            read_settings_file(written(tmp_path, content))
            continue
        said = refused(tmp_path, content)
        assert f"{key} under [{'.'.join(section)}]" in said, kind
        if kind in SAY_MORE.get(key, {}):
            assert SAY_MORE[key][kind] in said, kind
        else:
            assert f"must be {SECTIONS[section][key].kind.expected}" in said, kind


def test_every_key_is_tested() -> None:
    assert {key for keys in SECTIONS.values() for key in keys} == set(RIGHT)


@pytest.mark.parametrize(
    "text",
    ["date = 2030-01-01", "deadline = 06:00:00", "rate = 100", 'burst = "5"', "timeout = true", "concurrency = 2.0"],
)
def test_what_only_looks_right_is_refused(text: str, tmp_path: Path) -> None:
    assert text.partition(" ")[0] in refused(tmp_path, f"[defaults]\n{text}\n")


@pytest.mark.parametrize(
    ("text", "name", "there_are"),
    [
        ("colour = 1", "'colour'", ["[defaults]", "[roster]", "[report]", "[organizations.NAME]"]),
        ("[default]", "'default'", ["[defaults]", "[roster]", "[report]", "[organizations.NAME]"]),
        ('[defaults]\ntokenfile = "x"', "'tokenfile' under [defaults]", list(DEFAULTS_KEYS)),
        ('[defaults]\nroster_file = "x"', "'roster_file' under [defaults]", list(DEFAULTS_KEYS)),
        ("[defaults]\nRate = 1", "'Rate' under [defaults]", list(DEFAULTS_KEYS)),
        ('[roster]\nrate = "5/s"', "'rate' under [roster]", list(ROSTER_KEYS)),
        ('[report]\nnotify = "https://x"', "'notify' under [report]", list(REPORT_KEYS)),
        ("[organizations.north]\nx = 1", "'x' under [organizations.north]", list(ORGANIZATION_KEYS)),
        (
            '[organizations.north]\norganization_column = "x"',
            "'organization_column' under [organizations.north]",
            list(ORGANIZATION_KEYS),
        ),
        ("[organizations.north.roster]\nx = 1", "'x' under [organizations.north.roster]", list(ROSTER_KEYS)),
        (f'[defaults]\n"{"x" * 5000}" = 1', "'xxxx", list(DEFAULTS_KEYS)),
        ('[defaults]\n"a\\nb" = 1', "'a\\nb'", list(DEFAULTS_KEYS)),
        (f'[defaults]\ntoken = "{HIDDEN}"', "'token' under [defaults]", ["token_env", "token_file"]),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(
    text: str, name: str, there_are: list[str], tmp_path: Path
) -> None:
    said = refused(tmp_path, text)
    assert f"there is no setting {name}" in said
    assert len(said) < 1000
    for each in there_are:
        assert each in said


@pytest.mark.parametrize("section", ["defaults", "roster", "report", "organizations", "organizations.north"])
@pytest.mark.parametrize("value", ["5", '"x"', "[]", "true", "[{}]"])
def test_a_section_has_to_be_one(section: str, value: str, tmp_path: Path) -> None:
    assert f"{section} is no section" in refused(tmp_path, f"{section} = {value}")


def test_the_roster_of_an_organization_has_to_be_a_section(tmp_path: Path) -> None:
    said = refused(tmp_path, '[organizations.north]\nroster = "depot.csv"\n')
    assert "organizations.north.roster is no section" in said


@pytest.mark.parametrize("section", ["defaults", "organizations.north"])
@pytest.mark.parametrize(
    "keys",
    [("region", "base_url"), ("token_env", "token_file"), ("token_env", "token_command"), ("token_file", "token_env")],
)
def test_a_section_says_a_thing_once(section: str, keys: tuple[str, str], tmp_path: Path) -> None:
    said = refused(tmp_path, f"[{section}]\n{document({key: RIGHT[key] for key in keys})}")
    assert f"[{section}]" in said
    for key in keys:
        assert key in said


def test_the_report_names_one_place_of_its_address(tmp_path: Path) -> None:
    said = refused(tmp_path, '[report]\nnotify_env = "HOOK"\nnotify_file = "hook"\n')
    assert "[report] has notify_env and notify_file" in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[defaults\n", "line 1"),
        (b"[defaults]\nregion = eu\n", "line 2"),
        (b'[defaults]\nregion = "eu"\nregion = "us"\n', "line 3"),
        (b"[defaults]\n[defaults]\n", "line 2"),
        ('[defaults]\noutput = "Fähren.csv"\n'.encode("cp1252"), "not UTF-8"),
        ('[defaults]\nregion = "eu"\n'.encode("utf-16"), "not UTF-8"),
        (b"\x00", "no settings file"),
        pytest.param(
            b"[defaults]\nburst = " + b"1" * 5000, "no settings file", id="more digits than a number may have"
        ),
    ],
)
def test_what_is_not_toml_is_refused_with_the_place(text: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        read_settings_file(tmp_path / "b.toml")
    said = told(caught.value)
    assert str(tmp_path / "b.toml") in said
    assert why in said


def test_a_file_that_is_nested_without_end_is_refused_and_not_for_its_encoding(tmp_path: Path) -> None:
    assert "UTF-8" not in refused(tmp_path, f"defaults = {'[' * 5000}{']' * 5000}\n")


@pytest.mark.parametrize("name", ["none.toml", "folder", "b.toml/below"])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    written(tmp_path, "")
    with pytest.raises(SettingsError) as caught:
        read_settings_file(tmp_path / name)
    assert f"{tmp_path / name} cannot be read" in told(caught.value)


def test_without_a_file_there_are_no_settings() -> None:
    assert read_settings_file(None) == SettingsFile()


# --- names of organizations


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 81, "x" * 5000, "a\nb", "a\x1bb", "\u200b", "unassigned", "Unassigned", " UNASSIGNED "]
)
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    said = refused(tmp_path, {"organizations": {name: {}}})
    assert len(said) < 400


@pytest.mark.parametrize(
    ("one", "other"),
    [("North", "north"), ("a/b", "a:b"), ("STRASSE", "straße"), ("north", " north "), ("Depot 1", "Depot-1")],
)
def test_two_names_that_give_the_same_file_names_are_refused(one: str, other: str, tmp_path: Path) -> None:
    said = refused(tmp_path, {"organizations": {one: {}, other: {}}})
    assert repr(one) in said
    assert repr(other) in said


@pytest.mark.parametrize("name", ["north", "North & Söhne", "a/b", "../../etc", "CON", "x" * 80, "北", "roster"])
def test_other_names_are_taken_as_they_are_and_in_their_order(name: str, tmp_path: Path) -> None:
    file = read_settings_file(written(tmp_path, {"organizations": {"zz": {}, name: {"burst": 3}, "aa": {}}}))
    assert list(file.organizations) == ["zz", name, "aa"]
    assert file.organizations[name][0].values == {"burst": 3}


# --- values


def test_paths_are_relative_to_the_folder_of_the_file_or_to_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the file was named; what flags name is relative to the working folder, as ever."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    absolute = str(tmp_path / "elsewhere" / "key")
    written(
        tmp_path / "etc",
        {
            "defaults": {"token_file": "keys/a", "output": "out/{date}.csv"},
            "report": {"log_file": "~/run.log", "summary": absolute, "notify_file": "../hook"},
            "organizations": {"north": {"token_file": absolute, "roster_file": "~/depot.csv", "output": "~/{roster}"}},
        },
    )
    monkeypatch.chdir(tmp_path)
    file = read_settings_file(Path("etc/b.toml"))
    assert file.defaults.values == {
        "token_file": tmp_path / "etc/keys/a",
        "output": str(tmp_path / "etc/out/{date}.csv"),
    }
    report = dict(file.report.values)
    assert report.pop("notify_file").resolve() == (tmp_path / "hook").resolve()
    assert report == {"log_file": tmp_path / "home/run.log", "summary": Path(absolute)}
    assert file.organizations["north"][0].values == {
        "token_file": Path(absolute),
        "roster_file": tmp_path / "home/depot.csv",
        "output": str(tmp_path / "home/{roster}"),
    }
    assert choice(Path("etc/b.toml"), "--output", "x.csv").output() == "x.csv"


@posix
@pytest.mark.parametrize("key", ["token_file", "output"])
def test_the_home_folder_of_a_user_who_does_not_exist_is_refused(key: str, tmp_path: Path) -> None:
    assert f"{key} under [defaults]" in refused(tmp_path, {"defaults": {key: "~no-such-user-here/x"}})


@pytest.mark.parametrize(
    ("text", "expected"), [("30", 30.0), ('"5m"', 300.0), ("1.5", 1.5), ('"250ms"', 0.25), ("0", 0.0), ('"30"', 30.0)]
)
def test_a_time_is_a_number_of_seconds_or_a_text(text: str, expected: float, tmp_path: Path) -> None:
    found = read_settings_file(written(tmp_path, f"[defaults]\ntimeout = {text}\n")).defaults.values
    assert found == {"timeout": pytest.approx(expected)}


@pytest.mark.parametrize("pattern", ["out/{date}.csv", "{organization}/{roster}-{date}.csv", "plain.csv", "{date"])
def test_the_placeholders_of_a_pattern_are_known_by_file_and_flag(pattern: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"defaults": {"output": pattern}})
    assert choice(file).output() == str(tmp_path / pattern)
    assert choice(file, "--output", pattern).output() == pattern


@pytest.mark.parametrize(
    "pattern", ["{}", "{org}.csv", "{DATE}", "{ date }", "{date:%Y}", "{0}", "{a\nb}", "{date}{x}"]
)
def test_other_placeholders_are_refused_with_those_there_are(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        choice(None, "--output", pattern).output()
    for said in (told(caught.value), refused(tmp_path, {"defaults": {"output": pattern}})):
        assert "there are {organization}, {date}, {roster}" in said


def test_braces_in_the_folder_of_the_file_are_no_placeholders(tmp_path: Path) -> None:
    file = written(tmp_path / "{new}", {"defaults": {"output": "out.csv"}})
    assert choice(file).output() == str(tmp_path / "{new}" / "out.csv")


@pytest.mark.parametrize(
    "quota",
    [
        f"redis://user:{HIDDEN}@quota.example/0",
        f"rediss://:{HIDDEN}@quota.example/0",
        f"redis://{HIDDEN}@quota.example",
        f"redis://quota.example/0?password={HIDDEN}",
    ],
)
@pytest.mark.parametrize("section", ["defaults", "organizations.north"])
def test_a_password_in_the_quota_is_refused_without_being_shown(quota: str, section: str, tmp_path: Path) -> None:
    said = refused(tmp_path, f'[{section}]\nquota = "{quota}"\n')
    assert f"quota under [{section}]" in said
    assert "BATCH_ISSUER_QUOTA" in said


# --- whatever it says

NAMES = st.one_of(
    st.sampled_from(["defaults", "roster", "report", "organizations", "north", "unassigned", *RIGHT]),
    st.text(max_size=6),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["us", "host", "100/min", "0/s", "06:00", "99:99", "5m", "999999999h", "~", "~/x", "~x", "~\0", "{date}", "{",
         "{x}", "redis://", "https://[::1", "pass 'x", "username", "username,username", "json", "always", "\0"]
    ),
    st.text(max_size=8),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        TEXTS, st.integers(), st.integers(-2, 100), st.just(10**300), st.floats(), st.booleans(), st.dates().map(str)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


def valued(keys: dict[str, Option]) -> st.SearchStrategy[dict[str, Any]]:
    """Some keys of a section, often with values that it takes."""
    pairs = st.sampled_from(list(keys)).flatmap(
        lambda key: st.tuples(st.just(key), st.one_of(st.just(RIGHT[key]), VALUES))
    )
    return st.lists(pairs, max_size=4).map(dict)


ORGANIZATIONS = st.dictionaries(
    NAMES,
    st.tuples(valued(ORGANIZATION_KEYS), st.one_of(st.just({}), st.fixed_dictionaries({"roster": valued(ROSTER_KEYS)})))
    .map(lambda parts: parts[0] | parts[1]),
    max_size=3,
)  # fmt: skip
DOCUMENTS = st.one_of(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "defaults": valued(DEFAULTS_KEYS),
            "roster": valued(ROSTER_KEYS),
            "report": valued(REPORT_KEYS),
            "organizations": ORGANIZATIONS,
        },
    ),
)


@given(DOCUMENTS)
@example({"defaults": {"token_file": "~no-such-user-here"}})
@example({"defaults": {"burst": 10**300, "timeout": 10**300}})
def test_any_document_is_read_or_a_settings_error_and_so_is_what_applies_then(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, "any.toml")
    try:
        file = read_settings_file(path)
    except SettingsError as error:
        told(error)
        return
    assert file.path == path
    for name in ("", *file.organizations):
        one = Layers(file, name, environ={"SAMSARA_API_TOKEN": "key"})
        for look in (one.shown, one.shown_of_report, one.output, one.roster_options):
            try:
                found = look()
                if not isinstance(found, str | RosterOptions | None):
                    assert all(isinstance(text, str) for setting in found for text in setting)
            except SettingsError as error:
                told(error)


# --- which file


def user_folder() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "batch-issuer"


xdg = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the user's folder for settings is elsewhere")


@xdg
def test_a_file_that_is_named_wins_over_one_in_the_working_folder_over_one_in_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FILE_NAME == "batch-issuer.toml"
    files = [
        None,
        written(user_folder(), "[defaults]\nburst = 1\n", FILE_NAME),
        written(tmp_path, "[defaults]\nburst = 2\n", FILE_NAME),
        written(tmp_path, "[defaults]\nburst = 3\n", "other.toml"),
    ]
    for there in range(4):
        for file in files[1:]:
            assert file is not None
            file.unlink(missing_ok=True)
        for burst, file in enumerate(files[: there + 1]):
            if file is not None:
                file.write_text(f"[defaults]\nburst = {burst}\n")
        named = files[3] if there == 3 else None
        assert find_settings_file(named) == files[there]
        assert main(["config", *([f"--config={named}"] if named else [])], {}) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[0].startswith(f"settings file: {files[there] or 'none'}")
        assert (
            any(line.split() == ["burst", str(there), "[defaults]", "burst"] for line in said.splitlines()) or not there
        )


@xdg
def test_files_are_not_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(user_folder(), "[defaults]\nburst = 1\n", FILE_NAME)
    written(tmp_path, "[defaults]\nconcurrency = 2\n", FILE_NAME)
    assert read_settings_file(find_settings_file(None)).defaults.values == {"concurrency": 2}


def test_a_file_that_is_named_and_missing_is_an_error_whatever_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "", FILE_NAME)
    assert main(["config", "--config=none.toml"], {}) == 2
    assert "none.toml cannot be read" in capsys.readouterr().err


def make_world_writable(path: Path) -> None:
    path.chmod(0o666)


def give_away(path: Path) -> None:
    os.chown(path, 12345, -1)


@posix
@xdg
@pytest.mark.parametrize(
    "spoil",
    [
        make_world_writable,
        pytest.param(
            give_away,
            marks=pytest.mark.skipif(
                sys.platform == "win32" or os.geteuid() != 0, reason="only root can give a file away"
            ),
        ),
    ],
)
@pytest.mark.parametrize("where", ["working folder", "user's folder"])
def test_a_file_that_could_be_another_users_doing_is_taken_only_if_it_is_named(
    spoil: Any, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may name commands, and where the API token is sent."""
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path if where == "working folder" else user_folder(), "[defaults]\nburst = 3\n", FILE_NAME)
    assert find_settings_file(None) == file
    spoil(file)
    with pytest.raises(SettingsError) as caught:
        find_settings_file(None)
    said = told(caught.value)
    assert str(file) in said
    assert "--config" in said
    assert read_settings_file(find_settings_file(file)).defaults.values == {"burst": 3}


# --- what wins


@pytest.mark.parametrize(
    ("name", "flag", "own", "default", "values"),
    [
        ("rate", "--rate=1/s", "2/s", "3/s", ("1/s", "2/s", "3/s", "100/min")),
        ("burst", "--burst=1", 2, 3, ("1", "2", "3", "100")),
        ("timeout", "--timeout=1", 2, "3s", ("1 s", "2 s", "3 s", "30 s")),
        ("concurrency", "--concurrency=1", 2, 3, ("1", "2", "3", "16")),
        ("give_up_after", "--give-up-after=1m", "2m", 3.5, ("60 s", "120 s", "3.5 s", "600 s")),
        ("min_validity", "--min-validity=0", "2m", "3m", ("0 s", "120 s", "180 s", "300 s")),
        ("deadline", "--deadline=1:00", "2m", "03:00", ("01:00", "120 s from the start", "03:00", "none")),
        ("quota", "--quota=process", "redis://b/0", "redis://c/0", ("process", "redis://b/0", "redis://c/0", "host")),
        ("output", "--output=a", "b", "c", ("a", "{}/b", "{}/c", "beside the roster")),
    ],
)
def test_a_flag_wins_over_the_organization_over_the_defaults(
    name: str, flag: str, own: object, default: object, values: tuple[str, ...], tmp_path: Path
) -> None:
    levels = [
        ({"organizations": {"north": {name: own}}, "defaults": {name: default}}, [flag], f"--{name.replace('_', '-')}"),
        ({"organizations": {"north": {name: own}}, "defaults": {name: default}}, [], f"[organizations.north] {name}"),
        ({"organizations": {"north": {}, "south": {name: own}}, "defaults": {name: default}}, [], f"[defaults] {name}"),
        ({"organizations": {"north": {}, "south": {name: own}}}, [], "default"),
    ]
    for value, (content, flags, source) in zip(values, levels, strict=True):
        one = choice(written(tmp_path, content), *flags, org="north")
        assert shown(one)[name] == (value.replace("{}", str(tmp_path)), source)


def test_what_a_file_says_reaches_the_settings_of_the_organization(tmp_path: Path) -> None:
    values = {key: RIGHT[key] for key in ("base_url", "rate", "burst", "quota", "timeout", "concurrency")}
    values |= {key: RIGHT[key] for key in ("give_up_after", "min_validity")}
    for content in ({"organizations": {"north": values}}, {"organizations": {"north": {}}, "defaults": values}):
        one = choice(written(tmp_path, content), environ={"SAMSARA_API_TOKEN": HIDDEN}, org="north")
        found = one.settings()
        assert found.api_token == Secret(HIDDEN)
        assert (found.base_url, found.organization) == ("https://gateway.example", "north")
        assert (found.rate, found.burst, found.quota, found.concurrency) == (Rate(5, 1.0), 3, "process", 4)
        assert (found.timeout, found.give_up_after, found.min_validity) == (10.0, 300.0, 120.0)
        assert (one.rate(), one.min_validity()) == (Rate(5, 1.0), 120.0)


@pytest.mark.parametrize(("text", "expected"), [("06:00", time(6)), ("45m", timedelta(minutes=45))])
def test_the_deadline_of_a_file_reaches_the_settings(text: str, expected: time | timedelta, tmp_path: Path) -> None:
    one = choice(written(tmp_path, {"defaults": {"deadline": text}}), environ={"SAMSARA_API_TOKEN": "key"})
    found = one.settings().deadline
    assert (found.timetz().replace(tzinfo=None) if isinstance(found, datetime) else found) == expected


@pytest.mark.parametrize(
    ("flags", "environ", "value", "source"),
    [
        (["--quota=host"], {"BATCH_ISSUER_QUOTA": "redis://env/0"}, "host", "--quota"),
        ([], {"BATCH_ISSUER_QUOTA": "redis://env/0"}, "redis://env/0", "BATCH_ISSUER_QUOTA"),
        ([], {"BATCH_ISSUER_QUOTA": ""}, "process", "[organizations.north] quota"),
    ],
)
def test_the_quota_of_the_environment_stands_between_flag_and_file(
    flags: list[str], environ: dict[str, str], value: str, source: str, tmp_path: Path
) -> None:
    file = written(tmp_path, '[organizations.north]\nquota = "process"\n[defaults]\nquota = "host"\n')
    assert shown(choice(file, *flags, environ=environ, org="north"))["quota"] == (value, source)


OTHER = "https://other.example"


@pytest.mark.parametrize(
    ("flags", "own", "defaults", "url", "source"),
    [
        (["--region=ca"], {"base_url": OTHER}, {"base_url": OTHER}, "https://api.ca.samsara.com", "--region"),
        (["--base-url=https://a"], {"region": "eu"}, {"region": "ca"}, "https://a", "--base-url"),
        ([], {"region": "eu"}, {"base_url": OTHER}, "https://api.eu.samsara.com", "[organizations.north] region"),
        ([], {"base_url": OTHER}, {"region": "ca"}, OTHER, "[organizations.north] base_url"),
        ([], {}, {"region": "ca"}, "https://api.ca.samsara.com", "[defaults] region"),
        ([], {}, {"base_url": OTHER}, OTHER, "[defaults] base_url"),
        ([], {}, {}, "https://api.samsara.com", "default"),
    ],
)
def test_region_and_base_url_say_the_same_so_the_higher_one_wins(
    flags: list[str], own: dict[str, str], defaults: dict[str, str], url: str, source: str, tmp_path: Path
) -> None:
    file = written(tmp_path, {"organizations": {"north": own}, "defaults": defaults})
    one = choice(file, *flags, environ={"SAMSARA_API_TOKEN": "key"}, org="north")
    assert shown(one)["base_url"] == (url, source)
    assert one.settings().base_url == url


ENVIRON = {"SAMSARA_API_TOKEN": "variable", "OWN": "own-env", "COMMON": "common-env"}


def says(text: str) -> list[str]:
    return [sys.executable, "-S", "-c", f"print({text!r})"]


@pytest.mark.parametrize(
    ("flags", "own", "defaults", "environ", "token", "source"),
    [
        (["--token-file={}/flag"], {"token_env": "OWN"}, {}, ENVIRON, "flag-file", "--token-file"),
        (["--token-file={}/flag"], {"token_command": says("x")}, {}, ENVIRON, "flag-file", "--token-file"),
        (["--token-file={}/flag"], {}, {"token_env": "COMMON"}, ENVIRON, "flag-file", "--token-file"),
        (["--token-file={}/flag"], {}, {}, ENVIRON, "flag-file", "--token-file"),
        (["--token-command=echo flag"], {"token_file": "own"}, {}, ENVIRON, "flag", "--token-command"),
        (["--token-command=echo flag"], {}, {}, ENVIRON, "flag", "--token-command"),
        ([], {"token_env": "OWN"}, {"token_file": "common"}, ENVIRON, "own-env", "[organizations.north] token_env"),
        ([], {"token_file": "own"}, {"token_env": "COMMON"}, ENVIRON, "own-file", "[organizations.north] token_file"),
        ([], {"token_command": says("own")}, {}, ENVIRON, "own", "[organizations.north] token_command"),
        ([], {}, {"token_file": "common"}, ENVIRON, "variable", "SAMSARA_API_TOKEN"),
        ([], {}, {"token_command": says("x")}, ENVIRON, "variable", "SAMSARA_API_TOKEN"),
        ([], {}, {}, ENVIRON, "variable", "SAMSARA_API_TOKEN"),
        ([], {}, {"token_file": "common"}, {}, "common-file", "[defaults] token_file"),
        ([], {}, {"token_file": "common"}, {"SAMSARA_API_TOKEN": " "}, "common-file", "[defaults] token_file"),
        ([], {}, {"token_env": "COMMON"}, {"COMMON": "common-env"}, "common-env", "[defaults] token_env"),
        ([], {}, {"token_command": says("common")}, {}, "common", "[defaults] token_command"),
    ],
)
def test_the_api_token_is_the_flags_else_the_organizations_own_else_the_variables_else_the_defaults(
    flags: list[str],
    own: dict[str, Any],
    defaults: dict[str, Any],
    environ: dict[str, str],
    token: str,
    source: str,
    tmp_path: Path,
) -> None:
    """The variable does not say whose token it holds, so an organization that has its own never gets that."""
    for name in ("flag", "own", "common"):
        (tmp_path / name).write_text(f"{name}-file")
        (tmp_path / name).chmod(0o600)
    file = written(tmp_path, {"organizations": {"north": own}, "defaults": defaults})
    environ = environ | {"PATH": os.environ["PATH"]}
    one = choice(file, *(flag.replace("{}", str(tmp_path)) for flag in flags), environ=environ, org="north")
    assert one.settings().api_token == Secret(token)
    value, where = shown(one)["API token"]
    assert value == "set"
    assert where.startswith(f"{source}: ")


@pytest.mark.parametrize(
    "own", [{"token_env": "NONE"}, {"token_file": "none"}, {"token_command": [*says("x")[:-1], "pass"]}]
)
def test_an_own_token_that_is_missing_is_an_error_and_not_anothers_token(own: dict[str, Any], tmp_path: Path) -> None:
    file = written(tmp_path, {"organizations": {"north": own}, "defaults": {"token_env": "COMMON"}})
    with pytest.raises(SettingsError) as caught:
        choice(file, environ=ENVIRON, org="north").settings()
    assert "the API token of north" in told(caught.value)


def test_a_token_that_nobody_names_is_missed_with_where_it_could_stand(tmp_path: Path) -> None:
    file = written(tmp_path, "[organizations.north]\n")
    with pytest.raises(SettingsError) as caught:
        choice(file, org="north").settings()
    said = told(caught.value)
    for each in ("north", "token_env", "token_file", "token_command", "SAMSARA_API_TOKEN", "--token-file"):
        assert each in said
    with pytest.raises(SettingsError) as caught:
        choice(None).settings()
    assert "organizations" not in caught.value.message


ROSTERS = {
    "organizations": {
        "north": {
            "roster_file": "north.csv",
            "roster": {"map": {"driver_id": "own id", "username": "own name"}, "external_key": "own", "sheet": "own"},
        },
        "south": {},
    },
    "roster": {
        "map": {"driver_id": "id", "username": "name", "external_id": "key"},
        "external_key": "common",
        "identify_by": "username,driver_id",
        "encoding": "cp1252",
        "sheet": "common",
    },
}


def test_how_a_roster_is_read_is_said_by_flags_then_the_organization_then_all_and_maps_are_merged(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, ROSTERS)
    order = (USERNAME, DRIVER_ID)
    south = {DRIVER_ID: "id", USERNAME: "name", EXTERNAL_ID: "key"}
    north = {DRIVER_ID: "own id", USERNAME: "own name", EXTERNAL_ID: "key"}
    common = {"identify_by": order, "encoding": "cp1252"}
    assert choice(file, org="south").roster_options() == RosterOptions(
        columns=south, external_key="common", sheet="common", **common
    )
    assert choice(file, org="north").roster_options() == RosterOptions(
        columns=north, external_key="own", sheet="own", **common
    )
    flags = ["--map=driver_id=flag", "--map=username=", "--external-key=", "--identify-by=driver_id", "--sheet=flag"]
    assert choice(file, *flags, "--encoding=utf-16", org="north").roster_options() == RosterOptions(
        columns={DRIVER_ID: "flag", USERNAME: "", EXTERNAL_ID: "key"},
        identify_by=(DRIVER_ID,),
        sheet="flag",
        encoding="utf-16",
    )
    found = shown(choice(file, "--map=driver_id=flag", "--encoding=utf-16", org="north"))
    assert found["map driver_id"] == ("'flag'", "--map")
    assert found["map username"] == ("'own name'", "[organizations.north.roster] map")
    assert found["map external_id"] == ("'key'", "[roster] map")
    assert found["external_key"] == ("own", "[organizations.north.roster] external_key")
    assert found["identify_by"] == ("username,driver_id", "[roster] identify_by")
    assert found["encoding"] == ("utf-16", "--encoding")
    assert found["roster_file"] == (str(tmp_path / "north.csv"), "[organizations.north] roster_file")
    assert choice(file, org="north").roster_file() == tmp_path / "north.csv"
    assert choice(file, org="south").roster_file() is None


@pytest.mark.parametrize(
    ("name", "flag", "content", "values"),
    [
        ("log_file", "--log-file=a", "b", ("a", "{}/b", "none")),
        ("log_format", "--log-format=text", "json", ("text", "json", "text")),
        ("summary", "--summary=a", "b", ("a", "{}/b", "none")),
        ("notify_on", "--notify-on=failure", "always", ("failure", "always", "failure")),
    ],
)
def test_how_a_run_reports_is_said_by_flags_else_the_file(
    name: str, flag: str, content: str, values: tuple[str, str, str], tmp_path: Path
) -> None:
    file = written(tmp_path, {"report": {name: content}})
    ways = [
        (file, [flag], f"--{name.replace('_', '-')}"),
        (file, [], f"[report] {name}"),
        (written(tmp_path, "", "blank.toml"), [], "default"),
    ]
    for value, (path, flags, source) in zip(values, ways, strict=True):
        one = choice(path, *flags)
        expected = value.replace("{}", str(tmp_path))
        assert shown(one)[name] == (expected, source)
        assert str(getattr(one.report_options(), name)).lower() == expected


# --- whom to notify

HOOK = "https://hooks.example/services/"


def notified(file: Path | None, *flags: str, environ: dict[str, str] | None = None) -> str | None:
    found = choice(file, *flags, environ=environ).report_options()
    assert HIDDEN not in f"{found} {found!r}"
    return found.notify.reveal() if found.notify is not None else None


def test_the_address_to_notify_is_the_flags_else_the_variables_else_the_one_the_file_refers_to(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(f"{HOOK}file\n")
    (tmp_path / "hook").chmod(0o600)
    by_env = written(tmp_path, '[report]\nnotify_env = "HOOK"\n')
    by_file = written(tmp_path, '[report]\nnotify_file = "hook"\n', "c.toml")
    environ = {"BATCH_ISSUER_NOTIFY": f" {HOOK}variable\n", "HOOK": f"{HOOK}env"}
    for flags, variables, value, source in (
        ([f"--notify={HOOK}flag"], environ, f"{HOOK}flag", "--notify"),
        ([], environ, f"{HOOK}variable", "BATCH_ISSUER_NOTIFY"),
        ([], {**environ, "BATCH_ISSUER_NOTIFY": " "}, f"{HOOK}env", "[report] notify_env"),
    ):
        assert notified(by_env, *flags, environ=variables) == value
        assert shown(choice(by_env, *flags, environ=variables))["notify"] == ("set", source)
    assert notified(by_file) == f"{HOOK}file"
    assert shown(choice(by_file))["notify"] == ("set", "[report] notify_file")
    assert notified(None) is None
    assert shown(choice(None))["notify"] == ("not set", "default")
    assert choice(None).report_options() == ReportOptions()


@pytest.mark.parametrize("text", ['notify_env = "HOOK"', 'notify_file = "none"'])
def test_an_address_to_notify_that_is_missing_is_told_and_no_reason_to_issue_nothing(text: str, tmp_path: Path) -> None:
    chosen = choice(written(tmp_path, f"[report]\n{text}\n"))
    found = chosen.report_options()
    assert found.notify is None
    assert "the address to notify" in found.no_notify
    assert shown(chosen)["notify"][0] == "not set"


@posix
def test_an_address_to_notify_that_others_can_read_is_told_with_the_cure_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(f"{HOOK}{HIDDEN}")
    (tmp_path / "hook").chmod(0o644)
    found = choice(written(tmp_path, '[report]\nnotify_file = "hook"\n')).report_options()
    assert found.notify is None
    assert "chmod 600" in found.no_notify
    assert HIDDEN not in found.no_notify


@pytest.mark.parametrize(
    "address",
    [f"{HOOK}x", "https://user:pw@hooks.example/", "http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]/x"],
)
def test_an_address_to_notify_is_https_or_on_this_computer(address: str) -> None:
    for flags, environ in (([f"--notify={address}"], {}), ([], {"BATCH_ISSUER_NOTIFY": address})):
        assert notified(None, *flags, environ=environ) == address


@pytest.mark.parametrize(
    "address",
    [
        HIDDEN,
        f"http://hooks.example/{HIDDEN}",
        f"http://localhost.example/{HIDDEN}",
        f"ftp://127.0.0.1/{HIDDEN}",
        f"file:///{HIDDEN}",
        f"https:///{HIDDEN}",
        f"https://[::1/{HIDDEN}",
        f"https://hooks.example:port/{HIDDEN}",
        f"https://hooks.example/{HIDDEN} {HIDDEN}",
        f"https://hooks.example/\n{HIDDEN}",
        f"hooks.example/{HIDDEN}",
    ],
)
@pytest.mark.parametrize("by", ["flag", "variable", "notify_env", "notify_file"])
def test_another_address_to_notify_is_refused_without_being_quoted(address: str, by: str, tmp_path: Path) -> None:
    file = None
    if by.startswith("notify_"):
        (tmp_path / "hook").write_text(address)
        (tmp_path / "hook").chmod(0o600)
        file = written(tmp_path, {"report": {by: "hook"}})
    flags = [f"--notify={address}"] if by == "flag" else []
    with pytest.raises(SettingsError) as caught:
        notified(file, *flags, environ={"BATCH_ISSUER_NOTIFY" if by == "variable" else "hook": address})
    assert "the address to notify" in told(caught.value)


# --- batch-issuer config


def config(
    capsys: pytest.CaptureFixture[str], file: Path, *flags: str, environ: dict[str, str] | None = None, code: int = 0
) -> str:
    """What is said, which never holds a secret."""
    assert main(["config", f"--config={file}", *flags], environ or {}) == code
    said = capsys.readouterr()
    assert HIDDEN not in said.out + said.err
    return said.out + said.err


def rows(said: str) -> dict[str, tuple[str, ...]]:
    """Of the lines of one organization: by the setting's name its value and source."""
    split = [[part for part in line.split("  ") if part] for line in said.splitlines() if line.startswith("  ")]
    return {parts[0].strip(): tuple(part.strip() for part in parts[1:]) for parts in split}


def test_config_shows_what_applies_and_from_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path,
        {
            "defaults": {"region": "eu", "timeout": "10s", "burst": 5},
            "roster": {"map": {"driver_id": "Fahrer-Nr."}},
            "report": {"summary": "run.json"},
            "organizations": {"north": {"token_env": "NORTH", "burst": 7, "output": "{organization}.csv"}},
        },
    )
    environ = {"NORTH": HIDDEN, "BATCH_ISSUER_QUOTA": "process", "HTTPS_PROXY": "http://127.0.0.1:1"}
    said = config(capsys, file, "--rate=50/s", environ=environ)
    assert said.splitlines()[0] == f"settings file: {file}"
    assert "organization north" in said.splitlines()
    assert rows(said) == {
        "API token": ("set", "[organizations.north] token_env: the environment variable NORTH"),
        "base_url": ("https://api.eu.samsara.com", "[defaults] region"),
        "rate": ("50/s", "--rate"),
        "burst": ("7", "[organizations.north] burst"),
        "timeout": ("10 s", "[defaults] timeout"),
        "concurrency": ("16", "default"),
        "give_up_after": ("600 s", "default"),
        "min_validity": ("300 s", "default"),
        "deadline": ("none", "default"),
        "quota": ("process", "BATCH_ISSUER_QUOTA"),
        "proxy": ("set", "HTTPS_PROXY, NO_PROXY"),
        "certificates": ("the system's", "default"),
        "roster_file": ("none", "default"),
        "organization_column": ("organization", "default"),
        "output": (str(tmp_path / "{organization}.csv"), "[organizations.north] output"),
        "map driver_id": ("'Fahrer-Nr.'", "[roster] map"),
        "external_key": ("none", "default"),
        "identify_by": ("none", "default"),
        "encoding": ("none", "default"),
        "sheet": ("none", "default"),
        "log_file": ("none", "default"),
        "log_format": ("text", "default"),
        "summary": (str(tmp_path / "run.json"), "[report] summary"),
        "notify": ("not set", "default"),
        "notify_on": ("failure", "default"),
    }


def test_config_shows_every_organization_or_the_one_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "[organizations.north]\nburst = 71\n[organizations.south]\nburst = 72\n")
    said = config(capsys, file).replace(str(tmp_path), "")  # whose number may be one of these
    assert said.index("organization north") < said.index("71") < said.index("organization south") < said.index("72")
    said = config(capsys, file, "--org=south").replace(str(tmp_path), "")
    assert "72" in said
    assert "north" not in said
    assert "no organization is named" in config(capsys, written(tmp_path, "", "blank.toml"))


def test_config_refuses_an_organization_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = config(capsys, written(tmp_path, "[organizations.north]\n"), "--org=nroth", code=2)
    assert "no organization 'nroth'" in said
    assert "north" in said


def test_config_says_whether_secrets_are_set_and_nothing_else_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("key", "hook"):
        (tmp_path / name).write_text(f"https://{HIDDEN}.example/{HIDDEN}")
        (tmp_path / name).chmod(0o600)
    file = written(
        tmp_path,
        {
            "report": {"notify_file": "hook"},
            "organizations": {
                "a": {"token_env": "KEY"},
                "b": {"token_file": "key"},
                "c": {"token_command": f"pass show {HIDDEN}"},
                "d": {},
            },
        },
    )
    environ = {
        "KEY": HIDDEN,
        "SAMSARA_API_TOKEN": HIDDEN,
        "BATCH_ISSUER_QUOTA": f"redis://user:{HIDDEN}@127.0.0.1/0",
        "HTTPS_PROXY": f"http://user:{HIDDEN}@127.0.0.1:3128",
    }
    said = config(capsys, file, environ=environ)
    assert [line.split()[2] for line in said.splitlines() if line.startswith("  API token")] == ["set"] * 4
    assert rows(said)["notify"] == ("set", "[report] notify_file")
    assert rows(said)["quota"] == ("redis://***@127.0.0.1/0", "BATCH_ISSUER_QUOTA")
    assert rows(said)["proxy"][0] == "set"
    said = config(capsys, file, f"--notify={HOOK}{HIDDEN}", f"--token-command=pass {HIDDEN}", environ=environ)
    assert rows(said)["notify"] == ("set", "--notify")
    said = config(capsys, file, environ={**environ, "BATCH_ISSUER_NOTIFY": f"{HOOK}{HIDDEN}"})
    assert rows(said)["notify"] == ("set", "BATCH_ISSUER_NOTIFY")
    said = config(capsys, file, "--org=a")
    assert rows(said)["API token"][0] == "not set"


@pytest.mark.parametrize(
    "quota",
    [
        f"redis://user:{HIDDEN}@127.0.0.1:6379/0",
        f"rediss://:{HIDDEN}@127.0.0.1",
        f"redis://user:{HIDDEN}/x@127.0.0.1/0",
        f"redis://user:x@{HIDDEN}@127.0.0.1/0",
        f"redis://127.0.0.1/0?password={HIDDEN}",
        f"redis://127.0.0.1/0?db=1&password={HIDDEN}&x=y",
        f"redis://user:{HIDDEN} {HIDDEN}@127.0.0.1/0",
        f"redis:user:{HIDDEN}@127.0.0.1",
        f"redis//user:{HIDDEN}@127.0.0.1",
        f"user:{HIDDEN}@127.0.0.1:6379",
    ],
)
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_config_shows_no_password_of_a_quota_that_can_be_shared_that_way_or_not(
    quota: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, environ = ([f"--quota={quota}"], {}) if by == "flag" else ([], {"BATCH_ISSUER_QUOTA": quota})
    main(["config", f"--config={written(tmp_path, '')}", *flags], environ)
    said = capsys.readouterr()
    assert HIDDEN not in said.out + said.err


@pytest.mark.parametrize("by", ["flag", "file"])
def test_config_shows_no_password_of_a_base_url(by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run refuses such an address, but does not quote it either."""
    url = f"https://user:{HIDDEN}@gateway.example"
    file = written(tmp_path, {"defaults": {"base_url": url}} if by == "file" else "")
    main(["config", f"--config={file}", *([f"--base-url={url}"] if by == "flag" else [])], {})
    said = capsys.readouterr()
    assert HIDDEN not in said.out + said.err


@pytest.mark.parametrize("proxy", [f"user:{HIDDEN}@127.0.0.1:3128", f"socks5://user:{HIDDEN}@127.0.0.1", HIDDEN])
def test_config_shows_nothing_of_a_proxy_that_cannot_be_one(
    proxy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config(capsys, written(tmp_path, ""), environ={"HTTPS_PROXY": proxy}, code=2)


@pytest.mark.parametrize("by", ["flag", "defaults", "organization"])
def test_config_does_not_run_a_command(by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"open({(tmp_path / 'ran').as_posix()!r}, 'w').close(); print('key')"
    command = [sys.executable, "-S", "-c", code]
    content = {"organizations": {"north": {"token_command": command}}}
    if by == "flag":
        content = {}
    elif by == "defaults":
        content = {"defaults": {"token_command": command}}
    file = written(tmp_path, content)
    flags = [f'--token-command="{sys.executable}" -S -c "{code}"'] if by == "flag" else []
    said = config(capsys, file, *flags)
    assert rows(said)["API token"][0] == "set"
    assert sys.executable in rows(said)["API token"][1]
    assert not (tmp_path / "ran").exists()
    org = "north" if by == "organization" else ""
    assert choice(file, *flags, environ=dict(os.environ), org=org).settings().api_token == Secret("key")
    assert (tmp_path / "ran").exists()  # it could have


@pytest.mark.parametrize("url", ["https://[::1", "https://[x]/", "https://gateway.example:port", "nonsense"])
def test_config_survives_a_base_url_that_is_none(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", f"--config={written(tmp_path, '')}", f"--base-url={url}"], {}) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err


def test_config_survives_a_number_of_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, f"[defaults]\nburst = 0x{'f' * 5000}\n")
    assert main(["config", f"--config={file}"], {}) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err


# --- the names of results

NOW = datetime.fromisoformat("2030-01-02T23:59:00+00:00")


@pytest.mark.parametrize(
    ("pattern", "organization", "roster", "expected"),
    [
        ("results/{organization}-{date}.csv", "north", "depot", "results/north-2030-01-02.csv"),
        ("{organization}/{roster}.csv", "North & Söhne", "depot 1", "North & Söhne/depot 1.csv"),
        ("{roster}{roster}.csv", "north", "depot", "depotdepot.csv"),
        ("plain.csv", "north", "depot", "plain.csv"),
        ("{date}/{organization}.csv", "", "depot", "2030-01-02/no-organization.csv"),
        ("{roster}.csv", "north", "", "no-roster.csv"),
        ("out/{organization}.csv", "../../etc/passwd", "", "out/__.._etc_passwd.csv"),
        ("out/{organization}.csv", "..", "", "out/_.csv"),
        ("out/{organization}.csv", "a/b\\c:d", "", "out/a_b_c_d.csv"),
        ("out/{organization}.csv", "{roster}", "depot", "out/_roster_.csv"),
        ("out/{organization}.csv", "a\0b\x1bc\nd", "", "out/a_b_c_d.csv"),
        ("out/{organization}.csv", "CON", "", "out/CON.csv"),
    ],
)
def test_the_name_of_the_results_is_the_pattern_with_organization_date_and_roster(
    pattern: str, organization: str, roster: str, expected: str
) -> None:
    assert results_path(pattern, organization=organization, roster=roster, now=NOW) == Path(expected)


HOSTILE = st.one_of(
    st.sampled_from(
        ["", " ", ".", "..", "...", "../../etc", "/etc", "\\\\host\\share", "C:\\", "a/b", "CON", "~", "\0"]
    ),
    st.text("./\\ ~:\0\n{}ax\u2028\x85", max_size=12),
    st.text(max_size=12),
)


@given(
    st.sampled_from(
        [
            "out/{organization}/{roster}-{date}.csv",
            "{organization}/x.csv",
            "{roster}/x.csv",
            "{roster}.csv",
            "/out/{roster}",
        ]
    ),
    HOSTILE,
    HOSTILE,
)
@example("{roster}/x.csv", "", " ")
def test_no_name_leads_out_of_the_folder_of_the_pattern(pattern: str, organization: str, roster: str) -> None:
    path = results_path(pattern, organization=organization, roster=roster, now=NOW)
    wanted = Path(pattern)
    assert path.is_absolute() == wanted.is_absolute()
    assert len(path.parts) == len(wanted.parts)
    for part, before in zip(path.parts, wanted.parts, strict=True):
        assert part == before or "{" in before
        assert part not in ("", ".", "..")
        assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in part)
