"""The records: secrets stay out of every text, and settings that cannot work are refused."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.api.replies import utc_from_milliseconds
from batch_issuer.errors import SettingsError
from batch_issuer.model import Identifier, IdentifierKind, Outcome, Reply, Status
from batch_issuer.settings.addresses import REGIONS, is_loopback
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

HIDDEN = "hunter2hunter2"


def settings(**changes: Any) -> Settings:
    return Settings(**{"api_token": Secret("key"), **changes})


def refusal(**changes: Any) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        settings(**changes)
    assert caught.value.tip
    return caught.value


# --- secrets


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
def test_a_secret_shows_in_no_text(shown: Any) -> None:
    assert HIDDEN not in shown(Secret(HIDDEN))
    assert "***" in shown(Secret(HIDDEN))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps(Secret(HIDDEN), protocol)
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("copied", [json.dumps, vars, list])
def test_what_takes_an_object_apart_does_not_get_at_a_secret(copied: Any) -> None:
    with pytest.raises(TypeError) as caught:
        copied(Secret(HIDDEN))
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_secret_is_as_secret(copied: Any) -> None:
    assert HIDDEN not in repr(copied({"key": Secret(HIDDEN)}))


def test_a_secret_reveals_its_text_and_compares_by_it() -> None:
    assert Secret(HIDDEN).reveal() == HIDDEN
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")


@pytest.mark.parametrize(
    "record",
    [
        Settings(api_token=Secret(HIDDEN), proxy=Secret(f"http://user:{HIDDEN}@127.0.0.1:3128")),
        Settings(api_token=Secret(HIDDEN), quota=f"redis://user:{HIDDEN}@127.0.0.1/0"),
        Outcome(2, Status.ISSUED, Identifier(IdentifierKind.USERNAME, "user.1"), token=HIDDEN, code=HIDDEN),
        Reply(200, token=HIDDEN),
    ],
    ids=lambda record: type(record).__name__,
)
def test_no_record_shows_a_secret(record: object) -> None:
    assert HIDDEN not in f"{record} {record!r} {[record]}"


# --- the API token


@pytest.mark.parametrize(
    "text", ["", " ", "\t\n", f"{HIDDEN} x", f"{HIDDEN}\n", f"\r{HIDDEN}", f"{HIDDEN}\u00e9", f"{HIDDEN}\0"]
)
def test_an_api_token_that_is_no_single_ascii_word_is_refused_without_being_shown(text: str) -> None:
    error = refusal(api_token=Secret(text))
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.tip


def test_an_api_token_in_the_open_is_refused_without_being_shown() -> None:
    error = refusal(api_token=HIDDEN)
    assert HIDDEN not in error.message + error.tip


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_every_word_of_visible_ascii_is_taken_as_an_api_token(text: str) -> None:
    assert settings(api_token=Secret(text)).api_token.reveal() == text


# --- the base URL


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        *((url, url) for url in REGIONS.values()),
        ("https://api.samsara.com/", "https://api.samsara.com"),
        ("https://api.samsara.com//", "https://api.samsara.com"),
        (" https://api.samsara.com \n", "https://api.samsara.com"),
        ("https://gateway.example/samsara/v1/", "https://gateway.example/samsara/v1"),
        ("https://gateway.example:8443", "https://gateway.example:8443"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_base_url_is_taken_without_its_trailing_slash(text: str, kept: str) -> None:
    assert settings(base_url=text).base_url == kept


@pytest.mark.parametrize(
    "text",
    [
        "http://api.samsara.com",
        "http://192.0.2.1",
        "http://0.0.0.0",
        "http://[2001:db8::1]",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://sub.localhost.example",
    ],
)
def test_plain_http_to_another_computer_is_refused(text: str) -> None:
    assert "unencrypted" in refusal(base_url=text).message


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{HIDDEN}@api.samsara.com",
        f"https://{HIDDEN}@api.samsara.com",
        f"http://user:{HIDDEN}@127.0.0.1",
        f"https://user:{HIDDEN}@[::1",
        f"https://user:{HIDDEN}@api.samsara.com:99999",
        f"https:/user:{HIDDEN}@api.samsara.com",
        f"user:{HIDDEN}@api.samsara.com",
        f"https:\\\\user:{HIDDEN}@api.samsara.com",
    ],
)
def test_credentials_in_a_base_url_are_refused_without_being_shown(text: str) -> None:
    error = refusal(base_url=text)
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.tip


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "api.samsara.com",
        "//api.samsara.com",
        "ftp://api.samsara.com",
        "file:///etc",
        "https://",
        "https:///fleet",
        "https://api.samsara.com?region=eu",
        "https://api.samsara.com/#top",
        "https://api.samsara.com?",
        "https://api.samsara.com#",
        "https://api.samsara.com:port",
        "https://api.samsara.com:-1",
        "https://api.samsara.com:65536",
        "https://api.samsara.com:\uff18\uff10",
        "https://[::1",
        "https://[api.samsara.com]",
        "https://api samsara.com",
        "https://api.sam\nsara.com",
        "https://api.samsara.com/fle\tet",
        "https://api.samsara.com/a b",
    ],
)
def test_what_is_no_plain_web_address_is_refused(text: str) -> None:
    refusal(base_url=text)


@given(
    st.one_of(
        st.text(max_size=20),
        st.text("hpst:/[]@?#.1a \n\\%", max_size=12).map("https://a".__add__),
        st.text("lh0:1.[]@/\\ ?#", max_size=12).map("http://127.0.0.1".__add__),
    )
)
def test_to_any_base_url_that_is_taken_a_path_can_be_added(text: str) -> None:
    """Else the API token would travel to an address that nobody has written, or not be sent safely."""
    try:
        url = settings(base_url=text).base_url
    except SettingsError:
        return
    before, after = urlsplit(url), urlsplit(url + "/fleet/x")
    assert after.path == before.path + "/fleet/x"
    assert after.netloc == before.netloc
    assert (after.query, after.fragment) == ("", "")
    assert "@" not in after.netloc
    assert not any(character.isspace() for character in url)
    assert after.scheme == "https" or is_loopback(after.hostname or "")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.255.254", "::1"])
def test_loopback_hosts_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "0.0.0.0", "::", "128.0.0.1", "127.0.0.1.example", "127"])  # noqa: S104
def test_no_other_host_is_taken_for_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        *((text, True) for text in REGIONS.values()),
        ("https://localhost.example/127.0.0.1", True),
        ("https://192.0.2.1", True),
        ("http://127.0.0.1:8080", False),
        ("http://LOCALHOST:8080/api", False),
        ("https://[::1]", False),
    ],
)
def test_settings_know_whether_another_computer_is_asked(text: str, remote: bool) -> None:
    """Tokens of a stand-in on this one are worth nothing there."""
    assert settings(base_url=text).is_remote is remote


# --- with whom the quota is shared


def test_the_quota_is_shared_with_the_runs_of_this_host_unless_told_otherwise() -> None:
    assert settings().quota == "host"
    assert settings(quota="process").quota == "process"


@pytest.mark.parametrize(
    "address",
    [
        "redis://quota.example.com",
        "redis://quota.example.com/",
        "redis://quota.example.com/0",
        "redis://quota.example.com:6380/15",
        "rediss://quota.example.com:6380/0?ssl_cert_reqs=required",
        f"redis://user:{HIDDEN}@127.0.0.1:6379/0",
        f"redis://:{HIDDEN}@[::1]:6379",
    ],
)
def test_the_address_of_a_redis_server_is_kept_as_a_secret(address: str) -> None:
    """Given as a text or as a secret: it may hold a password."""
    for given_as in (address, Secret(address)):
        assert settings(quota=given_as).quota == Secret(address)


@pytest.mark.parametrize(
    "quota",
    [
        "",
        "Host",
        "localhost",
        "redis:",
        "redis://",
        "redis:///0",
        "redis://:6379/0",
        "redis://quota.example.com/zero",
        "redis://quota.example.com/0/1",
        "redis://quota.example.com:port/0",
        "redis://quota example.com/0",
        "https://quota.example.com",
        "unix:///run/redis.sock",
        f"memcached://user:{HIDDEN}@127.0.0.1",
        f"redis://user:{HIDDEN}@127.0.0.1:99999/0",
        Secret("process or not"),
        Secret(f"redis://user:{HIDDEN}@[::1"),
    ],
)
def test_what_the_quota_cannot_be_shared_with_is_refused_without_being_shown(quota: str | Secret) -> None:
    error = refusal(quota=quota)
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.tip
    assert "redis://" in error.tip


# --- rate, burst and the other numbers


@pytest.mark.parametrize(
    ("text", "limit", "period"),
    [
        ("100/min", 100, 60),
        ("100/m", 100, 60),
        ("100/6s", 100, 6),
        ("5/s", 5, 1),
        ("5/sec", 5, 1),
        ("1/h", 1, 3600),
        ("100/2min", 100, 120),
        ("1/0.5s", 1, 0.5),
        (" 100 / 1.5 min ", 100, 90),
    ],
)
def test_a_rate_is_read(text: str, limit: int, period: float) -> None:
    assert Rate.parse(text) == Rate(limit, period)


@pytest.mark.parametrize(
    "text",
    [
        "", "100", "/min", "100/", "min", "0/min", "-1/min", "+1/min", "1.5/min", "100/0s", "100/-1s", "100/1e3s",
        "100/day", "100/MIN", "100/min/min", "100 per min", "1e2/min", "\uff11/min", "\u0661/s", "100/.5s", "100/5.s",
        "inf/s", "nan/s", "100/infs", "1000000000000/s", "100\\min", "100/ms",
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Rate.parse(text)
    assert caught.value.tip


@given(st.text(max_size=15))
def test_any_text_is_a_rate_or_a_settings_error(text: str) -> None:
    try:
        rate = Rate.parse(text)
    except SettingsError:
        return
    assert rate.limit >= 1
    assert rate.period > 0


@given(
    st.integers(1, 10**9 - 1),
    st.one_of(st.integers(1, 999_999), st.integers(1, 99_999).map(lambda tenths: tenths / 10)),
)
def test_a_rate_is_written_as_it_can_be_typed(limit: int, period: float) -> None:
    assert Rate.parse(str(Rate(limit, period))) == Rate(limit, period)


@pytest.mark.parametrize("rate", [(0, 60), (-1, 60), (1, 0), (1, -1), (1, float("inf")), (1, float("nan"))])
def test_an_impossible_rate_is_refused(rate: tuple[int, float]) -> None:
    with pytest.raises(SettingsError):
        Rate(*rate)


@pytest.mark.parametrize("burst", [None, 1, 50, 100])
def test_a_burst_up_to_the_limit_of_the_rate_is_taken(burst: int | None) -> None:
    assert settings(rate=Rate(100, 60), burst=burst).burst == burst


@pytest.mark.parametrize("burst", [-1, 0, 101])
def test_a_burst_that_does_not_fit_the_rate_is_refused(burst: int) -> None:
    assert "1 to 100" in refusal(rate=Rate(100, 60), burst=burst).tip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, least in (
            ("timeout", 0.0),
            ("concurrency", 0),
            ("attempts", 0),
            ("give_up_after", -0.001),
            ("min_validity", -0.001),
        )
        for value in (least, -1, float("inf"), float("nan"))
    ],
)
def test_a_number_that_cannot_work_is_refused_by_its_name(name: str, value: float) -> None:
    assert name in refusal(**{name: value}).message


def test_settings_stay_checked_when_one_is_replaced() -> None:
    with pytest.raises(SettingsError):
        replace(settings(), burst=101)


# --- identifiers and times


@pytest.mark.parametrize(
    ("identifier", "sent"),
    [
        (Identifier(IdentifierKind.DRIVER_ID, "9223372036854775807"), '{"driverId": 9223372036854775807}'),
        (Identifier(IdentifierKind.EXTERNAL_ID, "payrollId:007"), '{"externalId": "payrollId:007"}'),
        (Identifier(IdentifierKind.USERNAME, "007"), '{"username": "007"}'),
    ],
)
def test_only_a_driver_id_is_sent_as_a_number(identifier: Identifier, sent: str) -> None:
    assert json.dumps(identifier.as_json()) == sent
    assert str(identifier) == f"{identifier.kind}={identifier.value}"


def test_milliseconds_are_read_as_utc() -> None:
    assert utc_from_milliseconds(1_710_000_000_000) == datetime(2024, 3, 9, 16, 0, tzinfo=UTC)
