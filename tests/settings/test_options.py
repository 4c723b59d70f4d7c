"""One table describes each setting: an entry is a flag, a key and a variable, shown by ``config`` and resumed with."""

from __future__ import annotations

import shlex
from dataclasses import fields
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sandbox import live_sandbox
from support.settings_files import HIDDEN

from batch_issuer.cli import main
from batch_issuer.cli.messages import resume_command
from batch_issuer.cli.parser import flags_of, make_parser, subcommands
from batch_issuer.errors import SettingsError
from batch_issuer.model import IdentifierKind
from batch_issuer.results import Destination
from batch_issuer.settings.display import report_lines, run_lines
from batch_issuer.settings.file import read_settings_file
from batch_issuer.settings.kinds import WHOLE
from batch_issuer.settings.layers import Layers, Setting
from batch_issuer.settings.options import OPTIONS, Option
from batch_issuer.settings.resume_command import resume_flags, resume_variables
from batch_issuer.settings.run_settings import Rate, Settings

REDIS = f"redis://user:{HIDDEN}@127.0.0.1:6379/0"


def parsed(command: str, *arguments: str) -> dict[str, Any]:
    """The options that a command gets from these flags."""
    return flags_of(make_parser().parse_args([command, *arguments]))


# --- a new setting is one entry


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Option:
    option = Option("patience", WHOLE, "how long we wait", default="7", variable="BATCH_ISSUER_PATIENCE")
    monkeypatch.setitem(OPTIONS, option.name, option)
    return option


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize("command", ["issue", "retry", "config"])
def test_an_entry_is_a_flag_with_its_help(command: str) -> None:
    help_text = " ".join(subcommands(make_parser())[command].format_help().split())
    assert "--patience N how long we wait (default: 7)" in help_text
    assert parsed(command, *["x"][: command == "retry"], "--patience=3") == {"patience": 3}
    with pytest.raises(SettingsError, match="--patience: 'long' is not a whole number"):
        parsed(command, "--patience=long")


@pytest.mark.usefixtures("made_up")
def test_an_entry_is_a_key_of_the_settings_file_with_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    for section in ("defaults", "organizations.north"):
        path.write_text(f"[{section}]\npatience = 'long'\n")
        with pytest.raises(SettingsError) as caught:
            read_settings_file(path)
        assert f"[{section}] patience is not valid" in caught.value.message
        assert caught.value.hint == "use a whole number"
        path.write_text(f"[{section}]\npatients = 4\n")
        with pytest.raises(SettingsError) as caught:
            read_settings_file(path)
        assert "patience" in caught.value.hint
    path.write_text("[roster]\npatience = 4\n")
    with pytest.raises(SettingsError, match="has no setting 'patience'"):
        read_settings_file(path)


@pytest.mark.usefixtures("made_up")
def test_an_entry_has_its_place_in_the_order_of_precedence(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text("[defaults]\npatience = 4\n[organizations.north]\npatience = 5\n[organizations.south]\n")
    file = read_settings_file(path)
    environ = {"BATCH_ISSUER_PATIENCE": "6"}
    for layers, value, source in (
        (Layers(file, "north", flags={"patience": 3}, environ=environ), 3, "--patience"),
        (Layers(file, "north", environ=environ), 6, "BATCH_ISSUER_PATIENCE"),
        (Layers(file, "north", environ={"BATCH_ISSUER_PATIENCE": " "}), 5, "[organizations.north] patience"),
        (Layers(file, "south"), 4, "[defaults] patience"),
        (Layers(), 7, "default"),
    ):
        assert layers.find("patience") == Setting("patience", value, source)
        assert ("patience", str(value), source) in run_lines(layers)
    with pytest.raises(SettingsError, match="BATCH_ISSUER_PATIENCE: 'long' is not a whole number"):
        Layers(environ={"BATCH_ISSUER_PATIENCE": "long"}).find("patience")


@pytest.mark.usefixtures("made_up")
def test_an_entry_is_shown_by_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.toml").write_text("")
    assert main(["config", f"--config={tmp_path / 'b.toml'}", "--patience=3"], {}) == 0
    assert ["patience", "3", "(--patience)"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("made_up")
def test_an_entry_is_resumed_with() -> None:
    assert resume_flags({"patience": 3}, {}) == ["--patience", "3"]
    assert resume_flags({}, {"BATCH_ISSUER_PATIENCE": "6"}) == ["--patience", "6"]
    assert resume_flags({}, {}) == []


# --- the table


def test_config_takes_exactly_the_settings_that_it_shows() -> None:
    """Except the two flags that choose the file and the organization."""
    shown = {name.partition(" ")[0] for name, *_ in (*run_lines(Layers()), *report_lines(Layers()))}
    together = {"region": "base_url", "token_file": "API", "token_command": "API"}
    takes = {option.name for option in OPTIONS.values() if "config" in option.commands} - {"config", "org"}
    without_flag = {"organization_column", "proxy", "certificates", "notify", "notify_on"}
    assert {together.get(name, name) for name in takes} == shown - without_flag
    settings = {option.name for option in OPTIONS.values() if option.section and option.help}
    assert takes == settings


def test_the_defaults_of_the_library_are_those_of_the_command() -> None:
    found = Layers(environ={"SAMSARA_API_TOKEN": "key"}).settings()
    for field in fields(Settings):
        if field.name not in ("api_token", "ca_file"):
            assert getattr(found, field.name) == field.default, field.name


def test_rivals_name_each_other() -> None:
    for option in OPTIONS.values():
        assert option.name in option.rivals
        assert all(OPTIONS[rival].rivals == option.rivals for rival in option.rivals)


@pytest.mark.parametrize("command", ["issue", "retry", "config", "quota"])
@pytest.mark.parametrize("pair", [("--region=eu", "--base-url=https://a"), ("--token-file=a", "--token-command=b")])
def test_rivals_are_not_given_at_once(command: str, pair: tuple[str, str]) -> None:
    first, second = (flag.partition("=")[0] for flag in pair)
    with pytest.raises(SettingsError, match=f"^{first} and {second} cannot be used together$"):
        parsed(command, *["x"][: command == "retry"], *pair)


def test_a_flag_that_is_not_given_is_none_of_the_flags() -> None:
    assert parsed("issue", "depot.csv") == {}
    assert parsed("issue", "depot.csv", "--burst=0", "--external-key=", "--quiet") == {
        "burst": 0,
        "external_key": "",
        "quiet": True,
    }
    assert parsed("check", "depot.csv", "--map=username=a", "--map=driver_id=b", "--map=username=c")["map"] == {
        IdentifierKind.USERNAME: "c",
        IdentifierKind.DRIVER_ID: "b",
    }


# --- the command that resumes a run

GIVEN: dict[str, Any] = {
    "encoding": "cp1252",
    "sheet": "North",
    "all": True,
    "output": "out.csv",
    "overwrite": True,
    "map": {IdentifierKind.DRIVER_ID: "Fahrer-Nr.", IdentifierKind.USERNAME: ""},
    "external_key": "payrollId",
    "identify_by": (IdentifierKind.USERNAME, IdentifierKind.DRIVER_ID),
    "config": Path("b.toml"),
    "org": "Süd & Söhne",
    "min_validity": 90.0,
    "region": "eu",
    "base_url": "https://gateway.example",
    "token_file": Path("keys/north"),
    "token_command": "pass show 'a b'",
    "sandbox": True,
    "rate": Rate(100, 6.0),
    "burst": 3,
    "quota": "redis://quota.example.com/0",
    "timeout": 0.25,
    "concurrency": 4,
    "give_up_after": 7200.0,
    "deadline": timedelta(minutes=45),
    "quiet": True,
    "log_file": Path("night.log"),
    "log_format": "json",
    "summary": Path("night.json"),
}
"""For every option of a run a value other than its default."""


@pytest.mark.parametrize("name", [option.name for option in OPTIONS.values() if "issue" in option.commands])
def test_every_option_of_a_run_is_resumed_with_or_there_is_a_reason(name: str) -> None:
    option, value = OPTIONS[name], GIVEN[name]
    found = resume_flags({name: value}, {})
    if option.not_resumed or option.kind.hides(value):
        assert found == []
        assert option.not_resumed or resume_variables({name: value}, {}) == [option.variable]
        return
    assert found[0] == option.flag
    assert parsed("retry", "depot.results.csv", *found) == {name: value}


def test_what_retry_does_not_take_is_not_resumed_with() -> None:
    for option in OPTIONS.values():
        if "issue" in option.commands and "retry" not in option.commands:
            assert option.not_resumed, option.name


SECONDS = st.one_of(
    st.integers(0, 10**9 - 1).map(float),
    st.integers(0, 10**6).map(lambda thousandths: thousandths / 1000),
    st.integers(1, 10**9 - 1).map(lambda hours: hours * 3600.0),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
KINDS = st.sampled_from(IdentifierKind)
PATHS = WORDS.filter(bool).map(Path)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "map": st.dictionaries(KINDS, WORDS.map(str.strip), min_size=1),
    "external_key": WORDS,
    "identify_by": st.lists(KINDS, min_size=1, max_size=3).map(tuple),
    "config": PATHS,
    "org": WORDS,
    "min_validity": SECONDS,
    "token_file": PATHS,
    "rate": st.builds(Rate, st.integers(1, 10**9 - 1), st.integers(1, 99_999).map(lambda tenths: tenths / 10)),
    "burst": st.integers(-(10**9), 10**9),
    "quota": st.sampled_from(["process", "host", "redis://quota.example.com/0", "rediss://h:1/2?ssl_cert_reqs=none"]),
    "timeout": SECONDS,
    "concurrency": st.integers(),
    "give_up_after": SECONDS,
    "deadline": st.one_of(
        st.times().map(lambda at: time(at.hour, at.minute)), st.integers(0, 10**8).map(lambda n: timedelta(seconds=n))
    ),
    "log_file": PATHS,
    "log_format": st.sampled_from(["text", "json"]),
    "summary": PATHS,
    "quiet": st.just(True),
}
WHERE = st.sampled_from([{}, {"region": "ca"}, {"base_url": "http://127.0.0.1:8080"}, {"sandbox": True}])
KEYS = st.one_of(
    PATHS.map(lambda path: {"token_file": path}), WORDS.map(lambda text: {"token_command": text}), st.just({})
)
GIVEN_FLAGS = st.builds(
    lambda *parts: {name: value for part in parts for name, value in part.items()},
    st.fixed_dictionaries({}, optional={name: each for name, each in VALUES.items() if name != "token_file"}),
    WHERE,
    KEYS,
)


def test_every_option_that_can_be_resumed_with_is_among_the_random_ones() -> None:
    resumed = {option.name for option in OPTIONS.values() if option.help and not option.not_resumed}
    assert resumed == {*VALUES, "region", "base_url", "sandbox", "token_command"}


@given(GIVEN_FLAGS)
def test_the_suggested_command_is_read_as_the_same_flags(flags: dict[str, Any]) -> None:
    """As a shell hands them on."""
    program, *arguments = shlex.split(resume_command(flags, {}, Destination(Path("depot.results.csv")))[0])
    assert program == "batch-issuer"
    options = make_parser().parse_args(arguments)
    assert (options.command, options.results) == ("retry", Path("depot.results.csv"))
    assert flags_of(options) == flags


def test_a_run_on_the_sandbox_is_resumed_there_and_at_its_rate() -> None:
    """Without the rate, its sandbox would get 100 a minute, and be asked that often."""
    assert resume_flags({"rate": Rate(100, 6.0), "sandbox": True}, {}) == ["--sandbox", "--rate", "100/6s"]


def test_a_time_from_the_start_counts_from_the_new_start_and_a_time_of_day_stays() -> None:
    assert resume_flags({"deadline": timedelta(minutes=45)}, {}) == ["--deadline", "45m"]
    assert resume_flags({"deadline": time(6)}, {}) == ["--deadline", "06:00"]


@pytest.mark.parametrize(
    ("flags", "environ", "found", "variables"),
    [
        ({"quota": REDIS}, {}, [], ["BATCH_ISSUER_QUOTA"]),
        ({}, {"BATCH_ISSUER_QUOTA": REDIS}, [], ["BATCH_ISSUER_QUOTA"]),
        ({}, {"BATCH_ISSUER_QUOTA": "redis://q/0"}, ["--quota", "redis://q/0"], []),
        ({"quota": "host"}, {"BATCH_ISSUER_QUOTA": REDIS}, ["--quota", "host"], []),
        ({"sandbox": True}, {"BATCH_ISSUER_QUOTA": REDIS}, ["--sandbox"], []),
        ({"sandbox": True}, {"BATCH_ISSUER_QUOTA": "redis://q/0"}, ["--sandbox"], []),
        ({}, {"BATCH_ISSUER_NOTIFY": f"https://h.example/{HIDDEN}"}, [], []),
        ({"base_url": f"https://user:{HIDDEN}@gateway.example"}, {}, [], []),
        ({}, {"SAMSARA_API_TOKEN": HIDDEN}, [], []),
    ],
)
def test_a_secret_is_not_printed_but_the_variable_that_has_to_hold_it(
    flags: dict[str, Any], environ: dict[str, str], found: list[str], variables: list[str]
) -> None:
    assert resume_flags(flags, environ) == found
    assert resume_variables(flags, environ) == variables
    command, first = resume_command(flags, environ, Destination(Path("out.csv")))
    assert HIDDEN not in command + first
    assert command == shlex.join(["batch-issuer", "retry", "out.csv", *found])
    assert first == (f"set {' and '.join(variables)} to the same secret" if variables else "")


def test_an_organization_that_was_not_named_is(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out.csv")
    assert resume_command({}, {}, destination, "north")[0].endswith(" --org north")
    assert resume_command({"org": "south"}, {}, destination, "north")[0].endswith(" --org south")


def test_a_stopped_run_suggests_how_to_resume_with_its_rate_and_quota(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "depot.csv").write_text("Driver ID\n" + "".join(f"{n}\n" for n in range(1, 20)))
    with live_sandbox(script="ok*2,429*") as sandbox:
        flags = ["--base-url", sandbox.url, "--rate", "50/6s", "--quota", "process", "--give-up-after", "300ms"]
        environ = {"SAMSARA_API_TOKEN": sandbox.api_token}
        assert main(["issue", str(tmp_path / "depot.csv"), *flags], environ) == 4
    why, line = capsys.readouterr().err.splitlines()[-2:]
    assert why == "To resume:"
    _, *command = shlex.split(line)
    options = make_parser().parse_args(command)
    assert options.results == tmp_path / "depot.results.csv"
    assert flags_of(options) == {
        "base_url": sandbox.url,
        "rate": Rate(50, 6.0),
        "quota": "process",
        "give_up_after": pytest.approx(0.3),
    }
