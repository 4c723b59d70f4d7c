"""The quota in Redis: the same rules as in memory, by the server's clock, even if the server or runs fail."""

from __future__ import annotations

import asyncio
import time
import uuid
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
import redis
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.processes import wait_until
from support.shared_quota import free_port, redis_server, trust

from batch_issuer.errors import QuotaError, SettingsError
from batch_issuer.quota import MemoryLeases, open_quota, redis_leases
from batch_issuer.quota.leases import LOST_GRACE, End, cooling_time
from batch_issuer.quota.memory_leases import Guard
from batch_issuer.quota.redis_leases import DEAD_AFTER, RedisLeases
from batch_issuer.settings.run_settings import Rate, Settings
from batch_issuer.settings.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = Rate(5, 10.0)
PASSWORD = "right-secret"  # noqa: S105 - of a server that lives for a test

RULE = "local clock = redis.call('TIME')\n"
TEST_CLOCK = "local clock = { redis.call('GET', 'clock'), 0 }\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def server(port: int) -> str:
    trust(port)
    return f"redis://127.0.0.1:{port}/0"


class Clocked:
    """Runs of one organization in Redis on a clock that the test sets, and the same runs in memory."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.redis.flushall()
        self.run_id = self.redis.info("server")["run_id"]
        self.redis.hset("server", mapping={"run_id": self.run_id, "generation": "first", "born": "0", "lost_at": "0"})
        self.now = 0.0
        self.guard = Guard()
        self.leases: list[str] = []
        self.numbers = count()
        script = (redis_leases.files("batch_issuer.quota") / "redis_leases.lua").read_text("utf-8")
        assert RULE in script
        self._script = self.redis.register_script(script.replace(RULE, TEST_CLOCK))

    def ask(self, what: str, run: int, *more: str | float, generation: str = "") -> dict[str, Any]:
        self.redis.set("clock", repr(1_700_000_000 + self.now))
        rules = [RATE.limit, cooling_time(RATE), LOST_GRACE, 3.0, DEAD_AFTER]
        answer = self._script(
            keys=["slots", "runs", "state", "server"],
            args=[what, f"{run:032}", generation, uuid.uuid4().hex, *rules, *more],
        )
        found: dict[str, Any] = redis_leases.json.loads(answer)
        return found

    def close(self) -> None:
        self.redis.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 8)),
        st.tuples(st.just("end"), st.integers(0, 30), st.sampled_from(End)),
        st.tuples(st.just("gate"), st.integers(0, 2), st.sampled_from([0.5, 2.0, 7.5])),
        st.tuples(st.just("pass"), st.sampled_from([0.125, 1.0, 2.5, 4.0, 9.875]), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_the_rules_in_redis_are_those_in_memory(server: str, steps: list[tuple[Any, ...]]) -> None:
    """For any sequence of requests: the same grants, gates and slots in use."""
    both = Clocked(server)
    try:
        _compare(both, steps)
    finally:
        both.close()


def _compare(both: Clocked, steps: list[tuple[Any, ...]]) -> None:
    cooled = cooling_time(RATE)
    seconds = {End.ANSWERED: cooled, End.LOST: cooled + LOST_GRACE, End.UNSENT: 0.0}
    for what, first, second in steps:
        for run in range(3):  # all of them are alive
            both.ask("heartbeat", run)
        if what == "take":
            lease = f"{first:032}-{next(both.numbers)}"
            granted, _, gate, runs = both.guard.acquire(lease, str(first), RATE.limit, second, both.now)
            answer = both.ask("take", first, lease, second)
            assert (answer["granted"], answer["runs"]) == (granted, runs)
            assert answer["gate"] == pytest.approx(gate, abs=1e-4)
            if granted:
                both.leases.append(lease)
        elif what == "end" and first < len(both.leases):
            lease = both.leases.pop(first)
            both.guard.release(lease, seconds[second], both.now)
            both.ask("end", int(lease[:32]), lease, seconds[second])
        elif what == "gate":
            both.guard.close_gate(second, both.now)
            both.ask("gate", first, second)
        elif what == "pass":
            both.now += first
        seen = both.ask("snapshot", 9)
        expected = both.guard.snapshot("9", both.now, mine=False)
        assert seen["in_flight"] == expected.in_flight
        assert sorted(seen["releases"] or ()) == pytest.approx(expected.cooling, abs=1e-4)
        assert sorted(seen["waiting"] or ()) == sorted(expected.waiting)


def test_only_a_run_without_heartbeats_is_dead(server: str) -> None:
    """Then its unanswered lease lapses; that of a run with heartbeats never does."""
    both = Clocked(server)
    both.ask("take", 1, f"{1:032}-1", 1)
    both.ask("take", 2, f"{2:032}-1", 1)
    for _ in range(20):
        both.now += 5.0
        both.ask("heartbeat", 2)
    seen = both.ask("snapshot", 9)
    assert (seen["in_flight"], len(seen["releases"] or ())) == (1, 0)  # that of the dead run lapsed long ago
    assert both.redis.zscore("slots", f"{2:032}-1") == inf
    both.close()


def test_a_dead_run_holds_its_slots_until_the_grace_is_over(server: str) -> None:
    both = Clocked(server)
    for number in range(RATE.limit):
        assert both.ask("take", 1, f"{1:032}-{number}", 10)["granted"]
    both.now = DEAD_AFTER + 1
    assert not both.ask("take", 2, f"{2:032}-0", 1)["granted"]  # the death is noticed here
    both.now += cooling_time(RATE) + LOST_GRACE - 0.01
    assert not both.ask("take", 2, f"{2:032}-0", 1)["granted"]
    both.now += 0.02
    assert both.ask("take", 2, f"{2:032}-0", 1)["granted"]
    both.close()


@pytest.mark.parametrize("asks_first", [1, 2])
def test_after_a_restart_of_the_server_all_slots_count_as_in_use(server: str, asks_first: int) -> None:
    """Whether it kept its slots or loaded old ones from disk; the gate is closed for new runs, too."""
    both = Clocked(server)
    both.ask("take", 1, f"{1:032}-0", 10)
    both.redis.hset("server", "run_id", "of the one before")
    both.now += 5.0
    answer = both.ask("take", asks_first, f"{asks_first:032}-1", 10)
    assert not answer["granted"]
    assert answer["gate"] == pytest.approx(cooling_time(RATE) + LOST_GRACE, abs=1e-3)
    both.now += 1.0
    answer = both.ask("take", 3, f"{3:032}-1", 10, generation="first")  # a run that notices it later changes nothing
    assert answer["gate"] == pytest.approx(cooling_time(RATE) + LOST_GRACE - 1.0, abs=1e-3)
    both.close()


def test_a_server_that_has_just_started_may_have_lost_slots(server: str) -> None:
    """No run gets a slot until earlier requests no longer count; a server that runs for long is trusted."""
    both = Clocked(server)
    both.redis.delete("server")
    uptime = int(both.redis.info("server")["uptime_in_seconds"])
    gate = both.ask("take", 1, f"{1:032}-0", 10)["gate"]
    assert gate == pytest.approx(cooling_time(RATE) + LOST_GRACE - uptime, abs=1.1)
    both.now += gate + 0.01
    assert both.ask("take", 1, f"{1:032}-0", 10)["granted"]
    both.close()


def test_a_run_notices_that_the_memory_was_wiped(server: str) -> None:
    both = Clocked(server)
    wiped = {"run_id": both.run_id, "generation": "next", "born": "1700000003", "lost_at": "0"}
    both.redis.hset("server", mapping=wiped)
    both.now = 4.0
    answer = both.ask("take", 1, f"{1:032}-1", 10, generation="first")
    assert answer["gate"] == pytest.approx(cooling_time(RATE) + LOST_GRACE - 1.0, abs=1e-3)
    both.close()


def test_a_run_with_a_shorter_period_frees_no_slots_of_others(server: str) -> None:
    """Nor does a snapshot."""
    both = Clocked(server)
    hour = 3600.0
    both.redis.hset("state", "longest", str(hour))
    for number in range(RATE.limit):
        both.ask("take", 1, f"{1:032}-{number}", 10)
        both.ask("end", 1, f"{1:032}-{number}", hour)
    both.ask("snapshot", 2)
    both.now = hour - 1.0
    assert not both.ask("take", 2, f"{2:032}-0", 1)["granted"]
    both.close()


def test_if_the_servers_clock_is_set_back_slots_are_kept_no_longer_than_new_ones(server: str) -> None:
    both = Clocked(server)
    both.now = 3600.0
    for number in range(RATE.limit):
        both.ask("take", 1, f"{1:032}-{number}", 10)
        both.ask("end", 1, f"{1:032}-{number}", cooling_time(RATE))
    both.now = 0.0
    assert not both.ask("take", 2, f"{2:032}-0", 1)["granted"]
    both.now = cooling_time(RATE) + LOST_GRACE + 0.01
    assert both.ask("take", 2, f"{2:032}-0", 1)["granted"]
    both.close()


# --- the leases


def _cools(server: redis.Redis, lease: str) -> bool:
    free_at = server.zscore("{batch-issuer}:away:slots", lease)
    return isinstance(free_at, float) and free_at < inf


def test_a_run_with_clocks_an_hour_off_shares_the_quota(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease depends on a host's clocks."""

    async def main() -> list[bool]:
        url = Secret(server)
        one = await RedisLeases.connected(url, "clocks", RATE)
        monkeypatch.setattr(redis_leases, "_clocks", lambda: (time.monotonic() + 3600, time.time() - 3600))
        two = await RedisLeases.connected(url, "clocks", RATE)
        granted = []
        for _ in range(RATE.limit):
            granted += [(await leases.acquire(1)).lease is not None for leases in (one, two)]
        await one.close()
        await two.close()
        return granted

    assert sum(asyncio.run(main())) == RATE.limit


def test_a_lease_from_before_a_long_silence_is_not_valid(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped may count as dead, so it must not use its leases; a new one is valid."""

    async def main() -> None:
        leases = await RedisLeases.connected(Secret(server), "silence", RATE)
        before = (await leases.acquire(2)).lease
        assert before is not None
        assert leases.is_valid(before)
        ahead = DEAD_AFTER / 2 + 1
        monkeypatch.setattr(
            redis_leases, "_clocks", lambda: (time.monotonic(), time.time() + ahead)
        )  # the computer slept
        assert not leases.is_valid(before)
        leases.release(before, End.UNSENT)
        after = (await leases.acquire(2)).lease
        assert after is not None
        assert leases.is_valid(after)
        await leases.close()

    asyncio.run(main())


def test_a_run_that_counted_as_dead_does_not_use_earlier_leases(server: str) -> None:
    async def main() -> None:
        leases = await RedisLeases.connected(Secret(server), "dead", RATE)
        before = (await leases.acquire(2)).lease
        assert before is not None
        with redis.Redis.from_url(server) as other:
            other.delete("{batch-issuer}:dead:runs")  # as a run that notices the silence does
        await leases.acquire(1)
        assert not leases.is_valid(before)
        await leases.close()

    asyncio.run(main())


def test_pending_updates_are_written_when_the_server_is_back(tmp_path: Path) -> None:
    """Ends of requests reported meanwhile are not lost, and the run leaves only cooling slots."""

    async def main() -> None:
        with redis_server(tmp_path) as port:
            url = f"redis://127.0.0.1:{port}/0"
            leases = await RedisLeases.connected(Secret(url), "away", RATE)
            lease = (await leases.acquire(1)).lease
            assert lease is not None
        leases.release(lease, End.ANSWERED)
        with pytest.raises(QuotaError):
            await leases.acquire(1)
        with redis_server(tmp_path, port=port), redis.Redis.from_url(url, decode_responses=True) as other:
            await asyncio.to_thread(wait_until, lambda: _cools(other, lease.id), "the verdict in Redis")
            await leases.close()
            assert other.hgetall("{batch-issuer}:away:runs") == {}

    asyncio.run(main())


def test_a_cancelled_request_for_a_slot_gives_it_back(server: str) -> None:
    async def main() -> None:
        leases = await RedisLeases.connected(Secret(server), "cancelled", RATE)
        task = asyncio.create_task(leases.acquire(1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await leases.close()
        with redis.Redis.from_url(server) as other:
            assert other.zcard("{batch-issuer}:cancelled:slots") == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("redis://:top-secret@127.0.0.1:{port}/0", "cannot be reached"),
        ("redis://127.0.0.1:{port}/0?x=1", "option"),
        ("redis://127.0.0.1:{port}/0?retry=3", "option"),
        ("redis://127.0.0.1:{port}/0?encoding=no", "option"),
    ],
)
def test_an_unusable_server_is_an_error_before_anything_is_sent(address: str, message: str) -> None:
    """The error names the server without the password."""

    async def main() -> None:
        settings_ = Settings(api_token=Secret("key"), quota=address.format(port=free_port()))
        async with open_quota(settings_):
            pass

    with pytest.raises(SettingsError, match=message) as caught:
        asyncio.run(main())
    assert "top-secret" not in f"{caught.value!r} {caught.value.hint}"


def test_a_wrong_password_is_reported_without_showing_it(tmp_path: Path) -> None:
    with redis_server(tmp_path, password=PASSWORD) as port:
        wrong = Secret(f"redis://:wrong-secret@127.0.0.1:{port}/0")
        with pytest.raises(SettingsError, match="password") as caught:
            asyncio.run(RedisLeases.connected(wrong, "password", RATE))
    assert "secret" not in f"{caught.value!r} {caught.value.hint}"


async def one_slot(url: str) -> bool:
    leases = await RedisLeases.connected(Secret(url), "door", RATE)
    granted = (await leases.acquire(1)).lease is not None
    await leases.close()
    return granted


def test_the_right_password_gives_access(tmp_path: Path) -> None:
    with redis_server(tmp_path, password=PASSWORD) as port:
        assert asyncio.run(one_slot(f"redis://:right-secret@127.0.0.1:{port}/0"))


def test_a_server_with_tls_is_used_only_if_its_certificate_is_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    secure = free_port()
    options = ["--tls-port", str(secure), "--tls-auth-clients", "no"]
    for kind in ("cert", "key"):
        options += [f"--tls-{kind}-file", str(tmp_path / "server.pem")]
    options += ["--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    with redis_server(tmp_path, *options):
        address = f"rediss://127.0.0.1:{secure}/0"
        assert asyncio.run(one_slot(f"{address}?ssl_ca_certs={tmp_path / 'ca.pem'}"))
        with pytest.raises(SettingsError, match="is not trusted") as caught:
            asyncio.run(one_slot(address))
        assert "ssl_ca_certs" in caught.value.hint


def test_memory_and_redis_leases_have_the_same_methods() -> None:
    """Both implement the protocol that `Quota` uses."""
    names = {name for name in vars(MemoryLeases) if not name.startswith("_")} - {"hold", "mine"}
    assert names <= {*vars(RedisLeases), "rate"}
