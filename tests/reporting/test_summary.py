"""What monitors get of a night: log, summary, notification; whatever the result, and never a secret."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.raw_server import http, live_raw_server
from support.rosters import write_roster
from support.sandbox import QUICK, live_sandbox

from batch_issuer import __version__
from batch_issuer.cli import main
from batch_issuer.errors import StorageError
from batch_issuer.jobs.records import OrganizationJob
from batch_issuer.model import Outcome, Status
from batch_issuer.pipeline.endings import EndingKind
from batch_issuer.reporting.event_log import EVENTS
from batch_issuer.reporting.exit_codes import WORST_FIRST
from batch_issuer.reporting.summary import (
    SCHEMA,
    OrganizationSummary,
    sentence,
    summarize,
    summary_document,
    write_summary,
)
from batch_issuer.settings.run_settings import Rate

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.sandbox import Sandbox

NOW = datetime(2030, 1, 1, 2, 0, 0, tzinfo=UTC)
SECRET_PATH = "/services/T0hunter2/B1hunter2"  # noqa: S105 - what a chat's address ends with


VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def check_schema(document: object) -> None:
    VALIDATOR.validate(document)


def test_the_schema_is_valid_and_refuses_other_documents() -> None:
    VALIDATOR.check_schema(VALIDATOR.schema)
    document = summary_document(
        [OrganizationSummary(organization="a", exit_code=0, ending="finished", started_at=NOW, ended_at=NOW)], NOW, NOW
    )
    check_schema(document)
    document["organizations"][0]["auth_token"] = "secret"  # noqa: S105
    assert not VALIDATOR.is_valid(document)


class Night:
    """One run, and what is left of it for monitors."""

    def __init__(
        self,
        folder: Path,
        sandbox: Sandbox,
        *flags: str,
        source: str | None = None,
        notify: str = "",
        notify_on: str = "failure",
    ) -> None:
        self.folder = folder
        settings = folder / "night.toml"
        settings.write_text(f'[report]\nnotify_on = "{notify_on}"\n')
        path = source or str(write_roster(folder, 3))
        reports = ["--summary", str(folder / "s.json"), "--log-file", str(folder / "run.log"), "--log-format", "json"]
        where = ["--base-url", sandbox.url, *QUICK]
        environ = {"SAMSARA_API_TOKEN": sandbox.api_token, "BATCH_ISSUER_NOTIFY": notify}
        self.code = main(["issue", path, "--config", str(settings), *where, *reports, *flags], environ)

    @property
    def summary(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "s.json").read_text(encoding="utf-8"))
        check_schema(document)
        return document

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "run.log").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("script", "code", "ending", "counts"),
    [
        ("", 0, "finished", {"issued": 3}),
        ("ok,404,ok", 1, "finished", {"issued": 2, "failed": 1}),
        ("ok,401*", 3, "API token refused", {"issued": 1, "failed": 1, "not_attempted": 1}),
        ("html*", 4, "wrong address", {}),
    ],
)
def test_the_summary_has_the_result_of_the_run(
    tmp_path: Path, script: str, code: int, ending: str, counts: dict[str, int]
) -> None:
    with live_sandbox(limiter="none", script=script) as sandbox:
        night = Night(tmp_path, sandbox, "--concurrency", "1")
    (entry,) = night.summary["organizations"]
    assert night.code == night.summary["exit_code"] == entry["exit_code"] == code
    assert entry["ending"] == ending
    assert counts.items() <= entry["counts"].items()
    assert sum(entry["counts"].values()) == entry["rows"] == 3
    assert entry["requests"] == len(sandbox.ledger)
    assert entry["results"].endswith("depot.results.csv")
    assert night.summary["version"] == __version__
    assert (entry["first_expiry"] is None) == (entry["counts"]["issued"] == 0)
    assert night.events[-1]["event"] == "run_ended"
    assert night.events[-1]["exit_code"] == code


def test_a_run_without_its_roster_is_one_line_a_summary_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_sandbox() as sandbox:
        night = Night(tmp_path, sandbox, "--quiet", source=str(tmp_path / "missing.csv"))
    assert night.code == 2
    assert capsys.readouterr().err.splitlines()[0].startswith("error: no file")
    (entry,) = night.summary["organizations"]
    assert (entry["exit_code"], entry["ending"], entry["rows"]) == (2, "not started", 0)
    assert "missing.csv" in entry["message"]
    assert [event["event"] for event in night.events] == ["run_ended"]


def test_429s_and_the_rate_reached_are_counted(tmp_path: Path) -> None:
    with live_sandbox(limiter="none", script="ok,429,ok") as sandbox:
        night = Night(tmp_path, sandbox)
    (entry,) = night.summary["organizations"]
    assert (entry["requests"], entry["throttled"]) == (4, 1)
    assert 1 <= entry["most_requests_in_a_period"] <= 4


def test_the_log_has_a_line_for_each_row_and_nothing_secret(tmp_path: Path) -> None:
    with live_sandbox(limiter="none", script="ok,404,ok") as sandbox:
        night = Night(tmp_path, sandbox)
    rows = [event for event in night.events if event["event"] == "row_done"]
    assert sorted(event["row"] for event in rows) == [2, 3, 4]
    assert any(event["request_id"] for event in rows if event["status"] == "failed")
    assert {event["event"] for event in night.events} <= EVENTS.keys()
    shown = (tmp_path / "run.log").read_text() + (tmp_path / "s.json").read_text()
    for entry in sandbox.ledger:
        assert not entry.token or entry.token not in shown
        assert entry.code not in shown
    assert sandbox.api_token not in shown


@pytest.mark.parametrize(
    ("script", "notify_on", "notified"),
    [
        ("404", "failure", True),
        ("", "failure", False),
        ("", "always", True),
        ("401*", "failure", True),
    ],
)
def test_a_notification_is_one_post_with_a_sentence_and_the_summary(
    tmp_path: Path, script: str, notify_on: str, notified: bool
) -> None:
    with live_sandbox(limiter="none", script=script) as sandbox, live_raw_server(http(200)) as chat:
        night = Night(tmp_path, sandbox, notify=chat.url + SECRET_PATH + "/{exit_code}", notify_on=notify_on)
    assert len(chat.requests) == notified
    for request in chat.requests:
        assert request.line.split()[:2] == ["POST", f"{SECRET_PATH}/{night.code}"]
        assert request.headers["content-type"] == "application/json"
        body = json.loads(request.body)
        assert body.keys() == {"text", "summary"}
        check_schema(body["summary"])
        assert body["text"].startswith("batch-issuer: ")
        assert sandbox.api_token.encode() not in request.raw
        assert not any(entry.token and entry.token.encode() in request.raw for entry in sandbox.ledger)


@pytest.mark.parametrize("answer", [http(500), http(302, b"", "Location: http://127.0.0.1:1/"), b"nonsense", b""])
def test_a_failed_notification_changes_nothing_and_its_address_stays_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    with live_sandbox(limiter="none") as sandbox, live_raw_server(answer) as chat:
        night = Night(tmp_path, sandbox, notify=chat.url + SECRET_PATH, notify_on="always")
    assert night.code == 0
    output = capsys.readouterr()
    assert "warning: the notification failed: " in output.err
    for shown in (output.err, output.out, (tmp_path / "run.log").read_text(), (tmp_path / "s.json").read_text()):
        assert "hunter2" not in shown


def test_a_notification_to_a_closed_port_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox(limiter="none") as sandbox:
        night = Night(tmp_path, sandbox, notify=f"http://127.0.0.1:1{SECRET_PATH}", notify_on="always")
    assert night.code == 0
    assert "warning: the notification failed: no connection (Connection refused)\n" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["http://chat.example/hunter2", "ftp://hunter2", "hunter2", "https://a b/hunter2"])
def test_an_invalid_address_is_refused_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    with live_sandbox(limiter="none") as sandbox:
        assert (
            main(
                ["issue", str(write_roster(tmp_path, 3)), "--base-url", sandbox.url],
                {"SAMSARA_API_TOKEN": sandbox.api_token, "BATCH_ISSUER_NOTIFY": address},
            )
            == 2
        )
    assert not sandbox.ledger
    assert "hunter2" not in capsys.readouterr().err


def test_a_summary_that_cannot_be_written_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live_sandbox(limiter="none") as sandbox:
        night = Night(tmp_path, sandbox, "--summary", str(tmp_path / "none" / "s.json"))
    assert night.code == 0
    assert "the summary cannot be written to" in capsys.readouterr().err


def test_a_summary_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text("{}")
    with pytest.raises(TypeError):
        write_summary(path, {"cannot": object()})
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageError):
        write_summary(tmp_path, {})


TEXTS = st.text(max_size=20)
OUTCOMES = st.builds(
    Outcome,
    row=st.integers(2, 99),
    status=st.sampled_from(list(Status)),
    token=st.sampled_from(["", "secret-token"]),
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(
    st.lists(
        st.builds(
            OrganizationSummary,
            organization=TEXTS,
            exit_code=st.sampled_from(WORST_FIRST),
            ending=st.sampled_from([*map(str, EndingKind), "not started"]),
            message=TEXTS,
            hint=TEXTS,
            roster=TEXTS,
            results=TEXTS,
            rows=st.integers(0, 9),
            tokens=st.integers(0, 9),
            counts=st.dictionaries(st.sampled_from(list(map(str, Status))), st.integers(0, 9)),
            without_token=st.integers(0, 4),
            started_at=st.just(NOW),
            ended_at=st.just(NOW + timedelta(seconds=1.5)),
            rate=st.none() | st.just(Rate(100, 60.0)),
            requests=st.integers(0, 9),
            peak=st.integers(0, 9),
            throttled=st.integers(0, 9),
            first_expiry=st.none() | st.datetimes(timezones=st.just(UTC)),
        ),
        max_size=8,
    )
)
def test_every_summary_matches_the_schema_and_has_one_sentence(summaries: list[OrganizationSummary]) -> None:
    check_schema(summary_document(summaries, NOW, NOW))
    assert "\n" not in sentence([replace(one, message="") for one in summaries if not one.organization])


@given(st.lists(OUTCOMES, max_size=4), st.booleans())
def test_a_record_is_summed_up_without_its_secrets(outcomes: list[Outcome], failed: bool) -> None:
    """Neither the record's repr nor its summary shows a token; the figures add up."""
    one = OrganizationJob(name="north", outcomes=outcomes, without_token=[each for each in outcomes if not each.token])
    one.error = StorageError("no room") if failed else None
    found = summarize(one)
    document = summary_document([found], NOW, NOW)
    check_schema(document)
    assert "secret-token" not in json.dumps(document) + sentence([found]) + repr(found) + repr(one)
    assert sum(found.counts.values()) == found.rows == len(outcomes)
    assert found.tokens + found.without_token == found.rows
    assert found.exit_code == (4 if failed else bool(found.without_token))


def test_the_sentence_names_the_worst_first_and_only_a_few() -> None:
    def entry(name: str, code: int) -> OrganizationSummary:
        message = "" if code < 2 else "it failed"
        return OrganizationSummary(
            organization=name,
            exit_code=code,
            ending="finished",
            message=message,
            started_at=NOW,
            ended_at=NOW,
            without_token=code,
        )

    many = [entry(f"org{number}", 1) for number in range(7)] + [entry("bad", 3), entry("good", 0)]
    text = sentence(many)
    assert text.startswith("batch-issuer: 8 of 9 organizations failed: bad: it failed (exit code 3); org0: 1 of 0")
    assert "and 3 more" in text
    assert "good:" not in text
    assert sentence([entry("good", 0)]) == "batch-issuer: all 0 rows have a login token."


@pytest.mark.parametrize(("seconds", "output"), [(-3600, True), (3600, True), (0, False)])
def test_a_wrong_clock_is_noticed_by_the_date_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: int, output: bool
) -> None:
    servers = datetime.now(UTC) + timedelta(seconds=seconds)
    expiry = int((servers + timedelta(minutes=15)).timestamp() * 1000)
    answer = http(
        200,
        {"data": {"token": "a-token-of-some-length", "expirationTime": expiry}},
        f"Date: {servers:%a, %d %b %Y %H:%M:%S} GMT",
        "Connection: close",
    )
    with live_raw_server(answer) as api:
        code = main(
            ["issue", str(write_roster(tmp_path, 1)), "--base-url", api.url, *QUICK], {"SAMSARA_API_TOKEN": "key"}
        )
    assert code == 0
    shown = capsys.readouterr().err
    assert ("this computer's clock is " in shown) == output
    assert "login tokens are valid for" not in shown.lower()
    assert len(api.requests) == 1
