"""Flags and environment become settings, or a settings error that says what to do; never another exception."""

from __future__ import annotations

import traceback
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.errors import SettingsError
from batch_issuer.hints import SCOPE
from batch_issuer.settings.layers import API_TOKEN_VARIABLE, QUOTA_VARIABLE, Layers
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

HIDDEN = "hunter2hunter2"
PROXY = "http://127.0.0.1:3128"
API = "https://api.samsara.com"


class WithoutApiToken(dict[str, str]):
    """An environment in which nobody may look for the API token."""

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
def test_a_missing_api_token_is_told_with_the_variable_the_scope_and_a_way_to_try(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Layers(environ=environ).settings()
    assert "SAMSARA_API_TOKEN" in caught.value.message
    assert SCOPE == "Write Driver Auth Token"
    for told in ("SAMSARA_API_TOKEN", SCOPE, "--sandbox"):
        assert told in caught.value.tip


def test_blanks_around_the_api_token_do_not_matter() -> None:
    assert made({API_TOKEN_VARIABLE: f" {HIDDEN}\r\n"}).api_token.reveal() == HIDDEN


@pytest.mark.parametrize(
    "text", [f"{HIDDEN} {HIDDEN}", f"{HIDDEN}\n{HIDDEN}", f"Bearer {HIDDEN}", f"\u201c{HIDDEN}\u201d"]
)
def test_an_api_token_that_is_not_one_word_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        made({API_TOKEN_VARIABLE: text})
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.tip


def test_the_sandbox_never_looks_at_the_api_token_nor_uses_a_proxy() -> None:
    environ = WithoutApiToken({"SAMSARA_API_TOKEN": HIDDEN, "HTTPS_PROXY": PROXY})
    found = Layers(flags={"region": "eu"}, environ=environ).settings(sandbox=("http://127.0.0.1:8080", "sandbox-key"))
    assert found.base_url == "http://127.0.0.1:8080"
    assert found.api_token.reveal() == "sandbox-key"
    assert found.proxy is None


def test_without_the_sandbox_the_api_token_is_looked_at() -> None:
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
def test_the_quota_is_shared_as_the_flag_says_else_the_variable_else_with_this_host_and_not_by_the_sandbox(
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
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.tip
    assert "redis://" in caught.value.tip


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
