"""The settings file is found, and read strictly: every mistake is named, with its key, and no secret is quoted."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.settings_files import HIDDEN, document, layers_of, told, written

from batch_issuer.cli import main
from batch_issuer.errors import SettingsError
from batch_issuer.settings.display import report_lines, run_lines
from batch_issuer.settings.file import FILE_NAME, SettingsFile, find_settings_file, read_settings_file
from batch_issuer.settings.layers import Layers
from batch_issuer.settings.options import Option, keys
from batch_issuer.settings.roster_options import RosterOptions

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions and shells")


def refusal_of_file(folder: Path, text: str | dict[str, Any]) -> str:
    """What is said of a file that cannot be used; it always names the file."""
    path = written(folder, text)
    with pytest.raises(SettingsError) as caught:
        read_settings_file(path)
    assert str(path) in caught.value.message
    return told(caught.value)


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
        said = refusal_of_file(tmp_path, content)
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
    assert text.partition(" ")[0] in refusal_of_file(tmp_path, f"[defaults]\n{text}\n")


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
    said = refusal_of_file(tmp_path, text)
    assert f"there is no setting {name}" in said
    assert len(said) < 1000
    for each in there_are:
        assert each in said


@pytest.mark.parametrize("section", ["defaults", "roster", "report", "organizations", "organizations.north"])
@pytest.mark.parametrize("value", ["5", '"x"', "[]", "true", "[{}]"])
def test_a_section_has_to_be_one(section: str, value: str, tmp_path: Path) -> None:
    assert f"{section} is no section" in refusal_of_file(tmp_path, f"{section} = {value}")


def test_the_roster_of_an_organization_has_to_be_a_section(tmp_path: Path) -> None:
    said = refusal_of_file(tmp_path, '[organizations.north]\nroster = "depot.csv"\n')
    assert "organizations.north.roster is no section" in said


@pytest.mark.parametrize("section", ["defaults", "organizations.north"])
@pytest.mark.parametrize(
    "keys",
    [("region", "base_url"), ("token_env", "token_file"), ("token_env", "token_command"), ("token_file", "token_env")],
)
def test_a_section_says_a_thing_once(section: str, keys: tuple[str, str], tmp_path: Path) -> None:
    said = refusal_of_file(tmp_path, f"[{section}]\n{document({key: RIGHT[key] for key in keys})}")
    assert f"[{section}]" in said
    for key in keys:
        assert key in said


def test_the_report_names_one_place_of_its_address(tmp_path: Path) -> None:
    said = refusal_of_file(tmp_path, '[report]\nnotify_env = "HOOK"\nnotify_file = "hook"\n')
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
    assert "UTF-8" not in refusal_of_file(tmp_path, f"defaults = {'[' * 5000}{']' * 5000}\n")


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
    said = refusal_of_file(tmp_path, {"organizations": {name: {}}})
    assert len(said) < 400


@pytest.mark.parametrize(
    ("one", "other"),
    [("North", "north"), ("a/b", "a:b"), ("STRASSE", "straße"), ("north", " north "), ("Depot 1", "Depot-1")],
)
def test_two_names_that_give_the_same_file_names_are_refused(one: str, other: str, tmp_path: Path) -> None:
    said = refusal_of_file(tmp_path, {"organizations": {one: {}, other: {}}})
    assert repr(one) in said
    assert repr(other) in said


@pytest.mark.parametrize("name", ["north", "North & Söhne", "a/b", "../../etc", "CON", "x" * 80, "北", "roster"])
def test_other_names_are_taken_as_they_are_and_in_their_order(name: str, tmp_path: Path) -> None:
    file = read_settings_file(written(tmp_path, {"organizations": {"zz": {}, name: {"burst": 3}, "aa": {}}}))
    assert list(file.organizations) == ["zz", name, "aa"]
    assert file.organizations[name][0].values == {"burst": 3}


def test_thousands_of_organizations_are_read_and_two_of_the_same_name_are_found_among_them(tmp_path: Path) -> None:
    """Comparing each with all others would take minutes; the benchmark has the figures."""
    names = [f"Fleet {number}" for number in range(5000)]
    text = "".join(f'[organizations."{name}"]\ntoken_env = "KEY"\n' for name in names)
    assert list(read_settings_file(written(tmp_path, text)).organizations) == names
    assert "'Fleet 17' and 'fleet-17' cannot be told apart" in refusal_of_file(
        tmp_path, f"{text}[organizations.fleet-17]\n"
    )


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
    assert layers_of(Path("etc/b.toml"), "--output", "x.csv").output() == "x.csv"


@posix
@pytest.mark.parametrize("key", ["token_file", "output"])
def test_the_home_folder_of_a_user_who_does_not_exist_is_refused(key: str, tmp_path: Path) -> None:
    assert f"{key} under [defaults]" in refusal_of_file(tmp_path, {"defaults": {key: "~no-such-user-here/x"}})


@pytest.mark.parametrize(
    ("text", "expected"), [("30", 30.0), ('"5m"', 300.0), ("1.5", 1.5), ('"250ms"', 0.25), ("0", 0.0), ('"30"', 30.0)]
)
def test_a_time_is_a_number_of_seconds_or_a_text(text: str, expected: float, tmp_path: Path) -> None:
    found = read_settings_file(written(tmp_path, f"[defaults]\ntimeout = {text}\n")).defaults.values
    assert found == {"timeout": pytest.approx(expected)}


@pytest.mark.parametrize("pattern", ["out/{date}.csv", "{organization}/{roster}-{date}.csv", "plain.csv", "{date"])
def test_the_placeholders_of_a_pattern_are_known_by_file_and_flag(pattern: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"defaults": {"output": pattern}})
    assert layers_of(file).output() == str(tmp_path / pattern)
    assert layers_of(file, "--output", pattern).output() == pattern


@pytest.mark.parametrize(
    "pattern", ["{}", "{org}.csv", "{DATE}", "{ date }", "{date:%Y}", "{0}", "{a\nb}", "{date}{x}"]
)
def test_other_placeholders_are_refused_with_those_there_are(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        layers_of(None, "--output", pattern).output()
    for said in (told(caught.value), refusal_of_file(tmp_path, {"defaults": {"output": pattern}})):
        assert "there are {organization}, {date}, {roster}" in said


def test_braces_in_the_folder_of_the_file_are_no_placeholders(tmp_path: Path) -> None:
    file = written(tmp_path / "{new}", {"defaults": {"output": "out.csv"}})
    assert layers_of(file).output() == str(tmp_path / "{new}" / "out.csv")


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
    said = refusal_of_file(tmp_path, f'[{section}]\nquota = "{quota}"\n')
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
        for look in (partial(run_lines, one), partial(report_lines, one), one.output, one.roster_options):
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
