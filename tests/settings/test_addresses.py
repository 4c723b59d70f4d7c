"""An address that is not valid or could leak a secret is refused without being shown."""

from __future__ import annotations

import traceback
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.settings_files import HIDDEN, refusal, settings

from batch_issuer.errors import SettingsError
from batch_issuer.settings.addresses import REGIONS, is_loopback, is_remote, proxy_for
from batch_issuer.settings.secrets import Secret

PROXY = "http://127.0.0.1:3128"
API = "https://api.samsara.com"


def test_the_regions_are_the_documented_ones() -> None:
    assert REGIONS == {
        "us": "https://api.samsara.com",
        "eu": "https://api.eu.samsara.com",
        "ca": "https://api.ca.samsara.com",
    }


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
def test_a_base_url_is_kept_without_its_trailing_slash(text: str, kept: str) -> None:
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
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.hint


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
def test_an_invalid_base_url_is_refused(text: str) -> None:
    refusal(base_url=text)


@given(
    st.one_of(
        st.text(max_size=20),
        st.text("hpst:/[]@?#.1a \n\\%", max_size=12).map("https://a".__add__),
        st.text("lh0:1.[]@/\\ ?#", max_size=12).map("http://127.0.0.1".__add__),
    )
)
def test_a_path_can_be_appended_to_any_valid_base_url(text: str) -> None:
    """Otherwise the API token could be sent to another address or unencrypted."""
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
def test_loopback_hosts_are_recognized(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "0.0.0.0", "::", "128.0.0.1", "127.0.0.1.example", "127"])  # noqa: S104
def test_no_other_host_counts_as_loopback(host: str) -> None:
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
def test_settings_know_whether_requests_go_to_another_computer(text: str, remote: bool) -> None:
    """The tokens of a local test server are useless there."""
    assert is_remote(text) is remote
    assert settings(base_url=text).is_remote is remote


# --- who shares the quota


def test_the_runs_of_this_host_share_the_quota_by_default() -> None:
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
    """Given as a text or as a secret: it may contain a password."""
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
def test_an_invalid_quota_is_refused_without_being_shown(quota: str | Secret) -> None:
    error = refusal(quota=quota)
    assert HIDDEN not in "".join(traceback.format_exception(error)) + error.hint
    assert "redis://" in error.hint


# --- proxies


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://127.0.0.1:1"}, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "api.samsara.com"}, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "example.org, samsara.com"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": ".samsara.com"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.org,ara.com"}, PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "api.samsara.com.example"}, PROXY),
    ],
)
def test_the_proxy_of_the_environment_is_used_unless_excepted(environ: dict[str, str], expected: str | None) -> None:
    proxy = proxy_for(API, environ)
    assert (proxy.reveal() if proxy else None) == expected


def test_a_port_of_the_api_does_not_hide_it_from_no_proxy() -> None:
    assert proxy_for("https://gateway.example:8443", {"HTTPS_PROXY": PROXY, "NO_PROXY": "gateway.example"}) is None


def test_this_computer_is_reached_without_a_proxy() -> None:
    assert proxy_for("http://127.0.0.1:8080", {"HTTPS_PROXY": PROXY}) is None


@pytest.mark.parametrize(
    "proxy",
    [
        f"user:{HIDDEN}@127.0.0.1:3128",
        f"socks5://user:{HIDDEN}@127.0.0.1",
        f"//user:{HIDDEN}@127.0.0.1",
        f"http:///{HIDDEN}",
        f"http://user:{HIDDEN}@127.0.0.1:port",
        f"http://user:{HIDDEN}@[::1",
        f"http://user:{HIDDEN}@proxy host:3128",
    ],
)
def test_an_invalid_proxy_is_refused_without_being_shown(proxy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        proxy_for(API, {"HTTPS_PROXY": proxy})
    assert "HTTPS_PROXY" in caught.value.message
    assert HIDDEN not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
