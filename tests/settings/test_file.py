"""The settings file is found and checked strictly. A message names the key and quotes no secret."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.settings_files import HIDDEN, document, layers_of, text_of, written

from batch_issuer.cli import main
from batch_issuer.errors import SettingsError
from batch_issuer.settings.display import report_lines, run_lines
from batch_issuer.settings.file import FILE_NAME, SettingsFile, find_settings_file, read_settings_file
from batch_issuer.settings.layers import Layers
from batch_issuer.settings.options import Option, keys
from batch_issuer.settings.roster_options import RosterOptions

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions and shells")


def refusal_of_file(folder: Path, text: str | dict[str, Any]) -> str:
    """The message about a file that cannot be used; it always names the file."""
    path = written(folder, text)
    with pytest.raises(SettingsError) as caught:
        read_settings_file(path)
    assert str(path) in caught.value.message
    return text_of(caught.value)


# --- what a file may contain

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
    **{key: set() for key in ("region", "rate", "deadline", "log_format", "notify_on", "identify_by", "map", "output")},
    "token_command": {"text", "list"},
}
"""Kinds of values that a key accepts; text if not listed."""

SPECIFIC_MESSAGES = {
    "map": {"table": "'x' is not a kind of identifier"},
    "identify_by": {"text": "is not a kind of identifier"},
    "output": {"text": "has no ending"},
    "rate": {"text": "is not a valid rate"},
    "deadline": {"text": "is not a valid deadline"},
    **{key: {"text": "is not a valid duration", "infinite": "is not a valid duration"} for key in TIMES},
}
"""Messages about values of the right kind that are still not valid."""


def nested(section: tuple[str, ...], values: Any) -> dict[str, Any]:
    for name in reversed(section):
        values = {name: values}
    return dict(values)


CASES = [
    pytest.param(section, key, id=f"{'.'.join(section)} {key}") for section, keys in SECTIONS.items() for key in keys
]


@pytest.mark.parametrize(("section", "key"), CASES)
def test_a_key_accepts_values_of_its_kind_and_the_error_for_others_names_that_kind(
    section: tuple[str, ...], key: str, tmp_path: Path
) -> None:
    read_settings_file(written(tmp_path, nested(section, {key: RIGHT[key]})))
    for kind, value in KINDS_OF_VALUES.items():
        content = nested(section, {key: value})
        if kind in ALLOWED.get(key, {"text"}):
            read_settings_file(written(tmp_path, content))
            continue
        message = refusal_of_file(tmp_path, content)
        assert f"[{'.'.join(section)}] {key}" in message, kind
        if kind in SPECIFIC_MESSAGES.get(key, {}):
            assert SPECIFIC_MESSAGES[key][kind] in message, kind
        else:
            assert f"{key} is not valid use {SECTIONS[section][key].kind.expected}" in message, kind


def test_every_key_is_tested() -> None:
    assert {key for keys in SECTIONS.values() for key in keys} == set(RIGHT)


@pytest.mark.parametrize(
    "text",
    ["date = 2030-01-01", "deadline = 06:00:00", "rate = 100", 'burst = "5"', "timeout = true", "concurrency = 2.0"],
)
def test_a_value_that_only_looks_valid_is_refused(text: str, tmp_path: Path) -> None:
    assert text.partition(" ")[0] in refusal_of_file(tmp_path, f"[defaults]\n{text}\n")


@pytest.mark.parametrize(
    ("text", "problem", "hints"),
    [
        ("colour = 1", "there is no section 'colour'", ["[defaults]", "[roster]", "[report]", "[organizations.NAME]"]),
        ("[default]", "there is no section 'default'", ["did you mean [defaults]?"]),
        ("[organization.north]", "there is no section 'organization'", ["did you mean [organizations.NAME]?"]),
        ('rate = "5/s"', "the setting rate is not in a section", ["move it to [defaults]"]),
        ('[defaults]\ntokenfile = "x"', "[defaults] has no setting 'tokenfile'", ["did you mean 'token_file'?"]),
        (
            '[defaults]\nroster_file = "x"',
            "[defaults] has no setting 'roster_file'",
            ["move it to [organizations.NAME]"],
        ),
        ("[defaults]\nRate = 1", "[defaults] has no setting 'Rate'", ["did you mean 'rate'?"]),
        ("[defaults]\ncolour = 1", "[defaults] has no setting 'colour'", list(DEFAULTS_KEYS)),
        ('[roster]\nrate = "5/s"', "[roster] has no setting 'rate'", ["move it to [defaults]"]),
        ("[roster]\ncolour = 1", "[roster] has no setting 'colour'", list(ROSTER_KEYS)),
        ('[report]\nnotify = "https://x"', "[report] has no setting 'notify'", ["notify_"]),
        ("[report]\ncolour = 1", "[report] has no setting 'colour'", list(REPORT_KEYS)),
        ("[organizations.north]\nx = 1", "[organizations.north] has no setting 'x'", list(ORGANIZATION_KEYS)),
        (
            '[organizations.north]\norganization_column = "x"',
            "[organizations.north] has no setting 'organization_column'",
            ["move it to [defaults]"],
        ),
        (
            "[organizations.north.roster]\nx = 1",
            "[organizations.north.roster] has no setting 'x'",
            list(ROSTER_KEYS),
        ),
        (f'[defaults]\n"{"x" * 5000}" = 1', "[defaults] has no setting 'xxxx", list(DEFAULTS_KEYS)),
        ('[defaults]\n"a\\nb" = 1', "[defaults] has no setting 'a\\nb'", list(DEFAULTS_KEYS)),
        (f'[defaults]\ntoken = "{HIDDEN}"', "[defaults] has no setting 'token'", ["did you mean 'token_env'?"]),
    ],
)
def test_an_unknown_section_or_key_is_refused_with_a_suggestion(
    text: str, problem: str, hints: list[str], tmp_path: Path
) -> None:
    message = refusal_of_file(tmp_path, text)
    assert f": {problem}" in message
    assert len(message) < 1000
    for hint in hints:
        assert hint in message


@pytest.mark.parametrize("section", ["defaults", "roster", "report", "organizations", "organizations.north"])
@pytest.mark.parametrize("value", ["5", '"x"', "[]", "true", "[{}]"])
def test_a_section_must_be_a_table(section: str, value: str, tmp_path: Path) -> None:
    assert f"{section} is not a section" in refusal_of_file(tmp_path, f"{section} = {value}")


def test_the_roster_of_an_organization_must_be_a_table(tmp_path: Path) -> None:
    message = refusal_of_file(tmp_path, '[organizations.north]\nroster = "depot.csv"\n')
    assert "organizations.north.roster is not a section" in message


@pytest.mark.parametrize("section", ["defaults", "organizations.north"])
@pytest.mark.parametrize(
    "keys",
    [("region", "base_url"), ("token_env", "token_file"), ("token_env", "token_command"), ("token_file", "token_env")],
)
def test_settings_that_exclude_each_other_are_refused(section: str, keys: tuple[str, str], tmp_path: Path) -> None:
    message = refusal_of_file(tmp_path, f"[{section}]\n{document({key: RIGHT[key] for key in keys})}")
    assert f"[{section}]" in message
    for key in keys:
        assert key in message


def test_a_report_has_one_notification_address(tmp_path: Path) -> None:
    message = refusal_of_file(tmp_path, '[report]\nnotify_env = "HOOK"\nnotify_file = "hook"\n')
    assert "[report] sets notify_env and notify_file" in message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[defaults\n", "line 1"),
        (b"[defaults]\nregion = eu\n", "line 2"),
        (b'[defaults]\nregion = "eu"\nregion = "us"\n', "line 3"),
        (b"[defaults]\n[defaults]\n", "line 2"),
        ('[defaults]\noutput = "Fähren.csv"\n'.encode("cp1252"), "not UTF-8"),
        ('[defaults]\nregion = "eu"\n'.encode("utf-16"), "not UTF-8"),
        (b"\x00", "not valid TOML"),
        pytest.param(b"[defaults]\nburst = " + b"1" * 5000, "not valid TOML", id="more digits than a number may have"),
    ],
)
def test_invalid_toml_is_refused_with_the_line(text: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        read_settings_file(tmp_path / "b.toml")
    message = text_of(caught.value)
    assert str(tmp_path / "b.toml") in message
    assert why in message


def test_deep_nesting_is_refused_and_not_reported_as_an_encoding_error(tmp_path: Path) -> None:
    assert "UTF-8" not in refusal_of_file(tmp_path, f"defaults = {'[' * 5000}{']' * 5000}\n")


@pytest.mark.parametrize("name", ["none.toml", "folder", "b.toml/below"])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    written(tmp_path, "")
    with pytest.raises(SettingsError) as caught:
        read_settings_file(tmp_path / name)
    assert f"{tmp_path / name} cannot be read" in text_of(caught.value)


def test_without_a_file_there_are_no_settings() -> None:
    assert read_settings_file(None) == SettingsFile()


# --- names of organizations


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 81, "x" * 5000, "a\nb", "a\x1bb", "\u200b", "unassigned", "Unassigned", " UNASSIGNED "]
)
def test_an_invalid_organization_name_is_refused(name: str, tmp_path: Path) -> None:
    message = refusal_of_file(tmp_path, {"organizations": {name: {}}})
    assert len(message) < 400


@pytest.mark.parametrize(
    ("one", "other"),
    [("North", "north"), ("a/b", "a:b"), ("STRASSE", "straße"), ("north", " north "), ("Depot 1", "Depot-1")],
)
def test_two_names_that_give_the_same_file_names_are_refused(one: str, other: str, tmp_path: Path) -> None:
    message = refusal_of_file(tmp_path, {"organizations": {one: {}, other: {}}})
    assert repr(one) in message
    assert repr(other) in message


@pytest.mark.parametrize("name", ["north", "North & Söhne", "a/b", "../../etc", "CON", "x" * 80, "北", "roster"])
def test_other_names_are_accepted_unchanged_and_keep_their_order(name: str, tmp_path: Path) -> None:
    file = read_settings_file(written(tmp_path, {"organizations": {"zz": {}, name: {"burst": 3}, "aa": {}}}))
    assert list(file.organizations) == ["zz", name, "aa"]
    assert file.organizations[name][0].values == {"burst": 3}


def test_thousands_of_organizations_are_read_and_similar_names_are_found_among_them(tmp_path: Path) -> None:
    """Comparing each name with all others would take minutes; the benchmark has the figures."""
    names = [f"Fleet {number}" for number in range(5000)]
    text = "".join(f'[organizations."{name}"]\ntoken_env = "KEY"\n' for name in names)
    assert list(read_settings_file(written(tmp_path, text)).organizations) == names
    assert "'Fleet 17' and 'fleet-17' are too similar" in refusal_of_file(tmp_path, f"{text}[organizations.fleet-17]\n")


# --- values


def test_paths_are_relative_to_the_folder_of_the_file_or_to_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No matter how the file is named. Paths in flags are relative to the working folder."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    absolute = str(tmp_path / "elsewhere" / "key")
    written(
        tmp_path / "etc",
        {
            "defaults": {"token_file": "keys/a", "output": "out/{date}.csv"},
            "report": {"log_file": "~/run.log", "summary": absolute, "notify_file": "../hook"},
            "organizations": {
                "north": {"token_file": absolute, "roster_file": "~/depot.csv", "output": "~/{roster}.csv"}
            },
        },
    )
    monkeypatch.chdir(tmp_path)
    file = read_settings_file(Path("etc/b.toml"))
    assert file.defaults.values == {
        "token_file": tmp_path / "etc/keys/a",
        "output": str(tmp_path / "etc/out/{date}.csv"),
    }
    assert file.report.values == {
        "log_file": tmp_path / "home/run.log",
        "summary": Path(absolute),
        "notify_file": tmp_path / "hook",
    }
    assert file.organizations["north"][0].values == {
        "token_file": Path(absolute),
        "roster_file": tmp_path / "home/depot.csv",
        "output": str(tmp_path / "home/{roster}.csv"),
    }
    assert layers_of(Path("etc/b.toml"), "--output", "x.csv").output() == "x.csv"


def test_paths_are_resolved_without_dots_however_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc" / "settings"
    written(
        folder,
        {
            "defaults": {"output": "../../results/{organization}-{date}.csv"},
            "organizations": {"north": {"roster_file": "../rosters/north.csv", "token_file": "./token"}},
        },
    )
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    for named in (Path("../b.toml"), folder / "b.toml", folder / "below" / ".." / "b.toml"):
        file = read_settings_file(named)
        assert file.defaults.values == {"output": str(tmp_path / "results/{organization}-{date}.csv")}
        assert file.organizations["north"][0].values == {
            "roster_file": tmp_path / "etc/rosters/north.csv",
            "token_file": folder / "token",
        }


@posix
def test_symbolic_links_are_followed_before_dots_but_not_at_the_end_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "real" / "folder").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "link").symlink_to(tmp_path / "real" / "folder")
    (tmp_path / "real" / "out.csv").symlink_to(tmp_path / "elsewhere.csv")
    file = written(tmp_path / "etc", {"defaults": {"output": "link/../out.csv"}})
    assert layers_of(file).output() == str(tmp_path / "real" / "out.csv")


@posix
@pytest.mark.parametrize("key", ["token_file", "output"])
def test_the_home_folder_of_a_user_who_does_not_exist_is_refused(key: str, tmp_path: Path) -> None:
    assert f"[defaults] {key} is not valid" in refusal_of_file(
        tmp_path, {"defaults": {key: "~no-such-user-here/x.csv"}}
    )


@pytest.mark.parametrize(
    ("text", "expected"), [("30", 30.0), ('"5m"', 300.0), ("1.5", 1.5), ('"250ms"', 0.25), ("0", 0.0), ('"30"', 30.0)]
)
def test_a_duration_is_a_number_of_seconds_or_a_text(text: str, expected: float, tmp_path: Path) -> None:
    found = read_settings_file(written(tmp_path, f"[defaults]\ntimeout = {text}\n")).defaults.values
    assert found == {"timeout": pytest.approx(expected)}


@pytest.mark.parametrize("pattern", ["out/{date}.csv", "{organization}/{roster}-{date}.csv", "plain.csv", "{date.csv"])
def test_a_pattern_may_contain_placeholders_in_the_file_and_in_a_flag(pattern: str, tmp_path: Path) -> None:
    file = written(tmp_path, {"defaults": {"output": pattern}})
    assert layers_of(file).output() == str(tmp_path / pattern)
    assert layers_of(file, "--output", pattern).output() == pattern


@pytest.mark.parametrize(
    "pattern", ["{}", "{org}.csv", "{DATE}", "{ date }", "{date:%Y}", "{0}", "{a\nb}", "{date}{x}"]
)
def test_other_placeholders_are_refused_with_the_valid_ones(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        layers_of(None, "--output", pattern).output()
    for message in (text_of(caught.value), refusal_of_file(tmp_path, {"defaults": {"output": pattern}})):
        assert "use {organization}, {date} or {roster}" in message


def test_braces_in_the_folder_of_the_file_are_not_placeholders(tmp_path: Path) -> None:
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
    message = refusal_of_file(tmp_path, f'[{section}]\nquota = "{quota}"\n')
    assert f"[{section}] quota" in message
    assert "BATCH_ISSUER_QUOTA" in message


# --- any document

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
    """Some keys of a section, often with valid values."""
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


@example(content={"roster": {"map": {}}})  # a map of nothing
@given(DOCUMENTS)
@example({"defaults": {"token_file": "~no-such-user-here"}})
@example({"defaults": {"burst": 10**300, "timeout": 10**300}})
def test_any_document_and_its_settings_are_read_or_raise_a_settings_error(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, "any.toml")
    try:
        file = read_settings_file(path)
    except SettingsError as error:
        text_of(error)
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
                text_of(error)


# --- which file


def user_folder() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "batch-issuer"


xdg = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the user config directory is elsewhere")


@xdg
def test_a_named_file_wins_over_the_working_folder_over_the_user_config_directory(
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
        out = capsys.readouterr().out
        assert out.splitlines()[0].startswith(f"settings file: {files[there] or 'none'}")
        assert (
            any(line.split() == ["burst", str(there), "([defaults]", "burst)"] for line in out.splitlines())
            or not there
        )


@xdg
def test_files_are_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(user_folder(), "[defaults]\nburst = 1\n", FILE_NAME)
    written(tmp_path, "[defaults]\nconcurrency = 2\n", FILE_NAME)
    assert read_settings_file(find_settings_file(None)).defaults.values == {"concurrency": 2}


def test_a_named_file_that_is_missing_is_an_error_even_if_there_are_others(
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
    "expose",
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
@pytest.mark.parametrize("where", ["working folder", "user config directory"])
def test_a_file_that_other_users_can_change_is_read_only_if_it_is_named(
    expose: Any, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can name commands to run and the server that gets the API token."""
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path if where == "working folder" else user_folder(), "[defaults]\nburst = 3\n", FILE_NAME)
    assert find_settings_file(None) == file
    expose(file)
    with pytest.raises(SettingsError) as caught:
        find_settings_file(None)
    message = text_of(caught.value)
    assert str(file) in message
    assert "--config" in message
    assert read_settings_file(find_settings_file(file)).defaults.values == {"burst": 3}


@pytest.mark.parametrize(
    ("section", "key", "use"),
    [
        ("report", "notify", "notify_env or notify_file"),
        ("defaults", "api_token", "token_env, token_file or token_command"),
    ],
)
def test_a_secret_in_the_file_is_refused_with_the_settings_that_refer_to_it(
    section: str, key: str, use: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings_file(written(tmp_path, f'[{section}]\n{key} = "s3cr3t"\n'))
    assert caught.value.hint == f"it is a secret: use {use}"
    assert "s3cr3t" not in caught.value.message
