"""Flags win over environment over settings file; ``config`` says so without secrets; what cannot work is an error."""

from __future__ import annotations

import os
import sys
import traceback
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.settings_files import HIDDEN, layers_of, shown, text_of, written

from batch_issuer.cli import main
from batch_issuer.errors import SettingsError
from batch_issuer.hints import SCOPE
from batch_issuer.model import IdentifierKind
from batch_issuer.settings.layers import API_TOKEN_VARIABLE, QUOTA_VARIABLE, Layers, ReportOptions
from batch_issuer.settings.roster_options import RosterOptions
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from pathlib import Path

PROXY = "http://127.0.0.1:3128"
DRIVER_ID, EXTERNAL_ID, USERNAME = IdentifierKind.DRIVER_ID, IdentifierKind.EXTERNAL_ID, IdentifierKind.USERNAME

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions and shells")


class WithoutApiToken(dict[str, str]):
    """An environment in which the API token must not be read."""

    def __getitem__(self, name: str) -> str:
        assert name != API_TOKEN_VARIABLE
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        assert name != API_TOKEN_VARIABLE
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        assert name != API_TOKEN_VARIABLE
        return super().__contains__(name)


def made(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    return Layers(flags=flags, environ={API_TOKEN_VARIABLE: "key", **(environ or {})}).settings()


# --- the API token


@pytest.mark.parametrize("environ", [{}, {API_TOKEN_VARIABLE: ""}, {API_TOKEN_VARIABLE: " \t\n"}])
def test_the_error_for_a_missing_api_token_names_the_variable_the_scope_and_the_sandbox(
    environ: dict[str, str],
) -> None:
    with pytest.raises(SettingsError) as caught:
        Layers(environ=environ).settings()
    assert "SAMSARA_API_TOKEN" in caught.value.message
    assert SCOPE == "Write Driver Auth Token"
    for word in ("SAMSARA_API_TOKEN", SCOPE, "--sandbox"):
        assert word in caught.value.hint


def test_blanks_around_the_api_token_do_not_matter() -> None:
    assert made({API_TOKEN_VARIABLE: f" {HIDDEN}\r\n"}).api_token.reveal() == HIDDEN


@pytest.mark.parametrize(
    "text", [f"{HIDDEN} {HIDDEN}", f"{HIDDEN}\n{HIDDEN}", f"Bearer {HIDDEN}", f"\u201c{HIDDEN}\u201d"]
)
def test_an_api_token_that_is_not_one_word_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        made({API_TOKEN_VARIABLE: text})
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_the_sandbox_never_reads_the_api_token_nor_uses_a_proxy() -> None:
    environ = WithoutApiToken({"SAMSARA_API_TOKEN": HIDDEN, "HTTPS_PROXY": PROXY})
    found = Layers(flags={"region": "eu"}, environ=environ).settings(sandbox=("http://127.0.0.1:8080", "sandbox-key"))
    assert found.base_url == "http://127.0.0.1:8080"
    assert found.api_token.reveal() == "sandbox-key"
    assert found.proxy is None


def test_without_the_sandbox_the_api_token_is_read() -> None:
    """The mapping of the test before can fail."""
    with pytest.raises(AssertionError):
        Layers(environ=WithoutApiToken({"SAMSARA_API_TOKEN": HIDDEN})).settings()


# --- where to


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://api.samsara.com"),
        ({"region": "us"}, "https://api.samsara.com"),
        ({"region": "eu"}, "https://api.eu.samsara.com"),
        ({"region": "ca"}, "https://api.ca.samsara.com"),
        ({"base_url": "https://gateway.example/"}, "https://gateway.example"),
    ],
)
def test_region_and_base_url_say_where_to(changes: dict[str, str], url: str) -> None:
    assert made(**changes).base_url == url


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://[api.samsara.com]", "https://api.samsara.com:x", "http://192.0.2.1"]
)
def test_a_bad_base_url_is_a_settings_error_with_and_without_a_proxy(url: str) -> None:
    for environ in ({}, {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.org"}):
        with pytest.raises(SettingsError):
            made(environ, base_url=url)


@given(
    st.one_of(st.text(max_size=20), st.text("ap:/[]@?#.1 \n\\%", max_size=12).map("https://".__add__)),
    st.one_of(st.just(""), st.text(max_size=20), st.text("ap:/[]@?#.1 \n\\%", max_size=12).map("http://".__add__)),
    st.text("ap:/[]@?#.1, *", max_size=12),
)
def test_any_base_url_and_proxy_are_taken_or_a_settings_error(url: str, proxy: str, skipped: str) -> None:
    try:
        found = made({"HTTPS_PROXY": proxy, "NO_PROXY": skipped}, base_url=url)
    except SettingsError:
        return
    assert urlsplit(found.base_url).hostname
    if found.proxy:
        parts = urlsplit(found.proxy.reveal())
        assert parts.hostname
        assert parts.port is None or 0 <= parts.port < 65536


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("burst", 0),
        ("burst", 101),
        ("timeout", 0.0),
        ("concurrency", 0),
        ("give_up_after", -1.0),
        ("min_validity", -1.0),
    ],
)
def test_a_number_that_cannot_work_is_a_settings_error(name: str, value: float) -> None:
    with pytest.raises(SettingsError):
        made(**{name: value})


def test_every_flag_reaches_its_setting() -> None:
    found = made(
        {"SSL_CERT_FILE": "company.pem"},
        rate=Rate(5, 1.0),
        burst=4,
        timeout=3.0,
        concurrency=2,
        give_up_after=7.0,
        min_validity=8.0,
        deadline=timedelta(minutes=9),
    )
    assert found.deadline == timedelta(minutes=9)
    assert (found.rate, found.burst, found.timeout, found.concurrency) == (Rate(5, 1.0), 4, 3.0, 2)
    assert (found.give_up_after, found.min_validity, found.ca_file) == (7.0, 8.0, "company.pem")
    assert made({"SSL_CERT_FILE": ""}).ca_file is None


# --- the deadline


def test_a_time_of_day_reaches_the_settings_as_a_moment_in_the_future() -> None:
    found = made(deadline=time(6, 0)).deadline
    assert isinstance(found, datetime)
    assert timedelta(0) < found - datetime.now().astimezone() <= timedelta(hours=25)


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(seconds=-1), datetime.combine(date(2030, 1, 1), time(6, 0))])
def test_a_deadline_that_leaves_no_time_or_has_no_zone_is_a_settings_error(wrong: datetime | timedelta) -> None:
    with pytest.raises(SettingsError, match="deadline"):
        made(deadline=wrong)


# --- with whom the quota is shared

REDIS = f"redis://user:{HIDDEN}@127.0.0.1:6379/0"
SANDBOX = ("http://127.0.0.1:8080", "sandbox-key")


@pytest.mark.parametrize(
    ("flag", "variable", "sandbox", "expected"),
    [
        (None, None, None, "host"),
        (None, "", None, "host"),
        (None, "process", None, "process"),
        (None, REDIS, None, Secret(REDIS)),
        ("host", REDIS, None, "host"),
        ("process", "host", None, "process"),
        (REDIS, None, None, Secret(REDIS)),
        (REDIS, "host", None, Secret(REDIS)),
        (None, None, SANDBOX, "process"),
        (None, REDIS, SANDBOX, "process"),
        (None, "nonsense", SANDBOX, "process"),
        ("host", None, SANDBOX, "host"),
    ],
)
def test_the_quota_is_set_by_flag_else_variable_else_shared_on_this_host_and_not_by_the_sandbox(
    flag: str | None, variable: str | None, sandbox: tuple[str, str] | None, expected: str | Secret
) -> None:
    environ = {API_TOKEN_VARIABLE: "key"} if variable is None else {API_TOKEN_VARIABLE: "key", QUOTA_VARIABLE: variable}
    assert Layers(flags={"quota": flag}, environ=environ).settings(sandbox=sandbox).quota == expected


@pytest.mark.parametrize(
    "quota",
    [
        "everybody",
        "HOST",
        f"http://user:{HIDDEN}@127.0.0.1",
        f"redis:user:{HIDDEN}@127.0.0.1",
        f"redis//user:{HIDDEN}@127.0.0.1",
        f"user:{HIDDEN}@127.0.0.1:6379",
        f"redis://user:{HIDDEN}@",
        f"redis://user:{HIDDEN}@127.0.0.1:port/0",
        f"redis://user:{HIDDEN}@127.0.0.1/quota",
        f"redis://user:{HIDDEN}@[::1",
        f"redis://user:{HIDDEN} {HIDDEN}@127.0.0.1/0",
    ],
)
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_quota_that_cannot_be_shared_that_way_is_refused_without_being_shown(quota: str, by: str) -> None:
    with pytest.raises(SettingsError) as caught:
        made(quota=quota) if by == "flag" else made({QUOTA_VARIABLE: quota})
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "redis://" in caught.value.hint


def test_settings_do_not_show_the_password_of_the_quota() -> None:
    found = made(quota=REDIS)
    assert isinstance(found.quota, Secret)
    assert HIDDEN in found.quota.reveal()
    assert HIDDEN not in f"{found} {found!r}"


@given(st.one_of(st.text(max_size=20), st.text("ap:/[]@?#.10 \n\\%", max_size=14).map("redis://".__add__)))
def test_any_quota_is_taken_or_a_settings_error(text: str) -> None:
    try:
        found = made(quota=text).quota
    except SettingsError:
        return
    if isinstance(found, Secret):
        assert urlsplit(found.reveal()).hostname
        assert urlsplit(found.reveal()).scheme in ("redis", "rediss")
    else:
        assert found in ("process", "host")


def test_settings_do_not_show_the_password_of_the_proxy_or_the_api_token() -> None:
    found = made({API_TOKEN_VARIABLE: HIDDEN, "HTTPS_PROXY": f"http://user:{HIDDEN}@127.0.0.1:3128"})
    assert found.proxy is not None
    assert HIDDEN in found.proxy.reveal()
    assert HIDDEN not in f"{found} {found!r}"


# --- what wins


@pytest.mark.parametrize(
    ("name", "flag", "own", "default", "values"),
    [
        ("rate", "--rate=1/s", "2/s", "3/s", ("1/s", "2/s", "3/s", "100/min")),
        ("burst", "--burst=1", 2, 3, ("1", "2", "3", "100")),
        ("timeout", "--timeout=1", 2, "3s", ("1s", "2s", "3s", "30s")),
        ("concurrency", "--concurrency=1", 2, 3, ("1", "2", "3", "16")),
        ("give_up_after", "--give-up-after=1m", "2m", 3.5, ("1m", "2m", "3.5s", "10m")),
        ("min_validity", "--min-validity=0", "2m", "3m", ("0s", "2m", "3m", "5m")),
        ("deadline", "--deadline=1:00", "2m", "03:00", ("01:00", "2m from the start", "03:00", "none")),
        ("quota", "--quota=process", "redis://b/0", "redis://c/0", ("process", "redis://b/0", "redis://c/0", "host")),
        ("output", "--output=a.csv", "b.csv", "c.csv", ("a.csv", "{}/b.csv", "{}/c.csv", "next to the roster")),
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
        one = layers_of(written(tmp_path, content), *flags, org="north")
        assert shown(one)[name] == (value.replace("{}", str(tmp_path)), source)


def test_values_of_a_file_reach_the_settings_of_the_organization(tmp_path: Path) -> None:
    values = {"base_url": "https://gateway.example", "rate": "5/s", "burst": 3, "quota": "process", "timeout": "10s"}
    values |= {"concurrency": 4, "give_up_after": "5m", "min_validity": "2m"}
    for content in ({"organizations": {"north": values}}, {"organizations": {"north": {}}, "defaults": values}):
        one = layers_of(written(tmp_path, content), environ={"SAMSARA_API_TOKEN": HIDDEN}, org="north")
        found = one.settings()
        assert found.api_token == Secret(HIDDEN)
        assert (found.base_url, found.organization) == ("https://gateway.example", "north")
        assert (found.rate, found.burst, found.quota, found.concurrency) == (Rate(5, 1.0), 3, "process", 4)
        assert (found.timeout, found.give_up_after, found.min_validity) == (10.0, 300.0, 120.0)
        assert (one.rate(), one.min_validity()) == (Rate(5, 1.0), 120.0)


@pytest.mark.parametrize(("text", "expected"), [("06:00", time(6)), ("45m", timedelta(minutes=45))])
def test_the_deadline_of_a_file_reaches_the_settings(text: str, expected: time | timedelta, tmp_path: Path) -> None:
    one = layers_of(written(tmp_path, {"defaults": {"deadline": text}}), environ={"SAMSARA_API_TOKEN": "key"})
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
    assert shown(layers_of(file, *flags, environ=environ, org="north"))["quota"] == (value, source)


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
    one = layers_of(file, *flags, environ={"SAMSARA_API_TOKEN": "key"}, org="north")
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
    one = layers_of(file, *(flag.replace("{}", str(tmp_path)) for flag in flags), environ=environ, org="north")
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
        layers_of(file, environ=ENVIRON, org="north").settings()
    assert "the API token of north" in text_of(caught.value)


def test_the_error_for_a_missing_token_of_an_organization_names_the_places_for_it(tmp_path: Path) -> None:
    file = written(tmp_path, "[organizations.north]\n")
    with pytest.raises(SettingsError) as caught:
        layers_of(file, org="north").settings()
    said = text_of(caught.value)
    for each in ("north", "token_env", "token_file", "token_command", "SAMSARA_API_TOKEN", "--token-file"):
        assert each in said
    with pytest.raises(SettingsError) as caught:
        layers_of(None).settings()
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


def test_roster_options_come_from_flags_then_the_organization_then_all_and_maps_are_merged(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, ROSTERS)
    order = (USERNAME, DRIVER_ID)
    south = {DRIVER_ID: "id", USERNAME: "name", EXTERNAL_ID: "key"}
    north = {DRIVER_ID: "own id", USERNAME: "own name", EXTERNAL_ID: "key"}
    common = {"identify_by": order, "encoding": "cp1252"}
    assert layers_of(file, org="south").roster_options() == RosterOptions(
        columns=south, external_key="common", sheet="common", **common
    )
    assert layers_of(file, org="north").roster_options() == RosterOptions(
        columns=north, external_key="own", sheet="own", **common
    )
    flags = ["--map=driver_id=flag", "--map=username=", "--external-key=", "--identify-by=driver_id", "--sheet=flag"]
    assert layers_of(file, *flags, "--encoding=utf-16", org="north").roster_options() == RosterOptions(
        columns={DRIVER_ID: "flag", USERNAME: "", EXTERNAL_ID: "key"},
        identify_by=(DRIVER_ID,),
        sheet="flag",
        encoding="utf-16",
    )
    found = shown(layers_of(file, "--map=driver_id=flag", "--encoding=utf-16", org="north"))
    assert found["map driver_id"] == ("'flag'", "--map")
    assert found["map username"] == ("'own name'", "[organizations.north.roster] map")
    assert found["map external_id"] == ("'key'", "[roster] map")
    assert found["external_key"] == ("own", "[organizations.north.roster] external_key")
    assert found["identify_by"] == ("username,driver_id", "[roster] identify_by")
    assert found["encoding"] == ("utf-16", "--encoding")
    assert found["roster_file"] == (str(tmp_path / "north.csv"), "[organizations.north] roster_file")
    assert layers_of(file, org="north").roster_file() == tmp_path / "north.csv"
    assert layers_of(file, org="south").roster_file() is None


@pytest.mark.parametrize(
    ("name", "flag", "content", "values"),
    [
        ("log_file", "--log-file=a", "b", ("a", "{}/b", "none")),
        ("log_format", "--log-format=text", "json", ("text", "json", "text")),
        ("summary", "--summary=a", "b", ("a", "{}/b", "none")),
    ],
)
def test_report_options_come_from_flags_else_the_file(
    name: str, flag: str, content: str, values: tuple[str, str, str], tmp_path: Path
) -> None:
    file = written(tmp_path, {"report": {name: content}})
    ways = [
        (file, [flag], f"--{name.replace('_', '-')}"),
        (file, [], f"[report] {name}"),
        (written(tmp_path, "", "blank.toml"), [], "default"),
    ]
    for value, (path, flags, source) in zip(values, ways, strict=True):
        one = layers_of(path, *flags)
        expected = value.replace("{}", str(tmp_path))
        assert shown(one)[name] == (expected, source)
        assert str(getattr(one.report_options(), name)).lower() == expected


# --- whom to notify

HOOK = "https://hooks.example/services/"


def notified(file: Path | None, environ: dict[str, str] | None = None) -> str | None:
    found = layers_of(file, environ=environ).report_options()
    assert HIDDEN not in f"{found} {found!r}"
    return found.notify.reveal() if found.notify is not None else None


def test_notify_on_is_set_by_the_file(tmp_path: Path) -> None:
    one = layers_of(written(tmp_path, {"report": {"notify_on": "always"}}))
    assert one.report_options().notify_on == "always"
    assert shown(one)["notify_on"] == ("always", "[report] notify_on")
    assert shown(layers_of(None))["notify_on"] == ("failure", "default")


def test_the_address_to_notify_comes_from_the_variable_else_from_the_reference_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(f"{HOOK}file\n")
    (tmp_path / "hook").chmod(0o600)
    by_env = written(tmp_path, '[report]\nnotify_env = "HOOK"\n')
    by_file = written(tmp_path, '[report]\nnotify_file = "hook"\n', "c.toml")
    environ = {"BATCH_ISSUER_NOTIFY": f" {HOOK}variable\n", "HOOK": f"{HOOK}env"}
    for variables, value, source in (
        (environ, f"{HOOK}variable", "BATCH_ISSUER_NOTIFY"),
        ({**environ, "BATCH_ISSUER_NOTIFY": " "}, f"{HOOK}env", "[report] notify_env"),
    ):
        assert notified(by_env, environ=variables) == value
        assert shown(layers_of(by_env, environ=variables))["notify"] == ("set", source)
    assert notified(by_file) == f"{HOOK}file"
    assert shown(layers_of(by_file))["notify"] == ("set", "[report] notify_file")
    assert notified(None) is None
    assert shown(layers_of(None))["notify"] == ("not set", "default")
    assert layers_of(None).report_options() == ReportOptions()


@pytest.mark.parametrize("text", ['notify_env = "HOOK"', 'notify_file = "none"'])
def test_a_missing_notification_address_is_reported_and_does_not_stop_the_run(text: str, tmp_path: Path) -> None:
    chosen = layers_of(written(tmp_path, f"[report]\n{text}\n"))
    found = chosen.report_options()
    assert found.notify is None
    assert "the notification address" in found.no_notify
    assert shown(chosen)["notify"][0] == "not set"


@posix
def test_a_notification_address_that_others_can_read_is_reported_with_the_fix_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(f"{HOOK}{HIDDEN}")
    (tmp_path / "hook").chmod(0o644)
    found = layers_of(written(tmp_path, '[report]\nnotify_file = "hook"\n')).report_options()
    assert found.notify is None
    assert "chmod 600" in found.no_notify
    assert HIDDEN not in found.no_notify


@pytest.mark.parametrize(
    "address",
    [f"{HOOK}x", "https://user:pw@hooks.example/", "http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]/x"],
)
def test_an_address_to_notify_is_https_or_on_this_computer(address: str) -> None:
    assert notified(None, environ={"BATCH_ISSUER_NOTIFY": address}) == address


@pytest.mark.parametrize("flag", ["--notify", "--notify-on"])
def test_no_flag_sets_the_address_to_notify(flag: str) -> None:
    """It is a secret, and other users can see arguments."""
    with pytest.raises(SettingsError, match=f"issue has no flag {flag}$") as caught:
        layers_of(None, f"{flag}={HOOK}{HIDDEN}")
    assert HIDDEN not in text_of(caught.value)


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
@pytest.mark.parametrize("by", ["variable", "notify_env", "notify_file"])
def test_another_address_to_notify_is_refused_without_being_quoted(address: str, by: str, tmp_path: Path) -> None:
    file = None
    if by.startswith("notify_"):
        (tmp_path / "hook").write_text(address)
        (tmp_path / "hook").chmod(0o600)
        file = written(tmp_path, {"report": {by: "hook"}})
    with pytest.raises(SettingsError) as caught:
        notified(file, environ={"BATCH_ISSUER_NOTIFY" if by == "variable" else "hook": address})
    assert "the notification address" in text_of(caught.value)


# --- batch-issuer config


def config(
    capsys: pytest.CaptureFixture[str], file: Path, *flags: str, environ: dict[str, str] | None = None, code: int = 0
) -> str:
    """The whole output, which never contains a secret."""
    assert main(["config", f"--config={file}", *flags], environ or {}) == code
    output = capsys.readouterr()
    assert HIDDEN not in output.out + output.err
    return output.out + output.err


def settings_shown(output: str) -> dict[str, tuple[str, ...]]:
    """By the setting's name its value and source; a line of an organization replaces that for all."""
    split = [[part for part in line.split("  ") if part] for line in output.splitlines() if line.startswith("  ")]
    return {name: (value.strip(), source.strip()[1:-1]) for name, value, source in split}


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
    output = config(capsys, file, "--rate=50/s", environ=environ)
    assert output.splitlines()[0] == f"settings file: {file}"
    assert "organization north" in output.splitlines()
    assert settings_shown(output) == {
        "API token": ("set", "[organizations.north] token_env: the environment variable NORTH"),
        "base_url": ("https://api.eu.samsara.com", "[defaults] region"),
        "rate": ("50/s", "--rate"),
        "burst": ("7", "[organizations.north] burst"),
        "timeout": ("10s", "[defaults] timeout"),
        "concurrency": ("16", "default"),
        "give_up_after": ("10m", "default"),
        "min_validity": ("5m", "default"),
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
    output = config(capsys, file).replace(str(tmp_path), "")  # whose number may be one of these
    places = [output.index(text) for text in ("organization north", "71", "organization south", "72")]
    assert places == sorted(places)
    output = config(capsys, file, "--org=south").replace(str(tmp_path), "")
    assert "72" in output
    assert "north" not in output
    assert "\n\nsettings\n" in config(capsys, written(tmp_path, "", "blank.toml"))


def test_config_refuses_an_organization_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = config(capsys, written(tmp_path, "[organizations.north]\n"), "--org=nroth", code=2)
    assert "no organization 'nroth'" in output
    assert "north" in output


def test_config_shows_only_whether_secrets_are_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    output = config(capsys, file, environ=environ)
    assert [line.split()[2] for line in output.splitlines() if line.startswith("  API token")] == ["set"] * 4
    assert settings_shown(output)["notify"] == ("set", "[report] notify_file")
    assert settings_shown(output)["quota"] == ("redis://***@127.0.0.1/0", "BATCH_ISSUER_QUOTA")
    assert settings_shown(output)["proxy"][0] == "set"
    config(capsys, file, f"--token-command=pass {HIDDEN}", environ=environ)
    output = config(capsys, file, environ={**environ, "BATCH_ISSUER_NOTIFY": f"{HOOK}{HIDDEN}"})
    assert settings_shown(output)["notify"] == ("set", "BATCH_ISSUER_NOTIFY")
    output = config(capsys, file, "--org=a")
    assert settings_shown(output)["API token"][0] == "not set"


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
    output = capsys.readouterr()
    assert HIDDEN not in output.out + output.err


@pytest.mark.parametrize("by", ["flag", "file"])
def test_config_shows_no_password_of_a_base_url(by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run refuses such an address, but does not quote it either."""
    url = f"https://user:{HIDDEN}@gateway.example"
    file = written(tmp_path, {"defaults": {"base_url": url}} if by == "file" else "")
    main(["config", f"--config={file}", *([f"--base-url={url}"] if by == "flag" else [])], {})
    output = capsys.readouterr()
    assert HIDDEN not in output.out + output.err


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
    output = config(capsys, file, *flags)
    assert settings_shown(output)["API token"][0] == "set"
    assert sys.executable in settings_shown(output)["API token"][1]
    assert not (tmp_path / "ran").exists()
    org = "north" if by == "organization" else ""
    assert layers_of(file, *flags, environ=dict(os.environ), org=org).settings().api_token == Secret("key")
    assert (tmp_path / "ran").exists()  # it could have


@pytest.mark.parametrize("url", ["https://[::1", "https://[x]/", "https://gateway.example:port", "nonsense"])
def test_config_survives_a_base_url_that_is_none(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", f"--config={written(tmp_path, '')}", f"--base-url={url}"], {}) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err


def test_config_survives_a_number_of_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, f"[defaults]\nburst = 0x{'f' * 5000}\n")
    assert main(["config", f"--config={file}"], {}) in (0, 2)
    assert "unexpected" not in capsys.readouterr().err
