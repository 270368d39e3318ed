"""The doctor's conclusions from a Redis or a cache that has answered."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.doctor.checks import redis_state
from app.doctor.checks.cache import as_warning
from app.doctor.checks.cache import memory as cache_memory
from app.doctor.checks.redis_server import RedisServer, round_trip
from app.doctor.checks.redis_state import assess_clock, assess_eviction
from app.doctor.checks.redis_tls import assess_certificate, encryption
from app.doctor.results import CheckResult, Finding, warning, wrong
from app.servers.redis_eviction import is_same_server
from storage.redis.client import make_client
from storage.redis.info import ServerInfo
from tests.unit.app.doctor.conftest import ITEMS
from workers.engine.policy import ECONOMICAL, NORMAL
from workers.monitoring.alert_rules import Thresholds

NOW = 1_772_000_000.0


@pytest.mark.parametrize(
    ("policy", "shared", "state"),
    [
        ("volatile-lru", True, "ok"),
        ("volatile-ttl", True, "ok"),
        ("noeviction", False, "ok"),
        ("noeviction", True, "warning"),
        ("allkeys-lru", True, "wrong"),
        ("allkeys-random", True, "wrong"),
        ("allkeys-lfu", False, "warning"),
        ("optimistic-volatile", False, "wrong"),
    ],
)
def test_a_policy_that_may_evict_jobs_is_reported(policy: str, shared: bool, state: str) -> None:
    assert assess_eviction(policy, cache_is_shared=shared).state == state


@pytest.mark.parametrize(
    ("ahead", "state", "says"),
    [
        (0.2, "ok", "200 ms from"),
        (-0.9, "ok", "900 ms from"),
        (2.5, "warning", "2.5 s ahead of"),
        (-29, "warning", "29.0 s behind"),
        (-3600, "wrong", "3,600.0 s behind"),
    ],
)
def test_a_clock_that_is_off_is_reported(ahead: float, state: str, says: str) -> None:
    found = assess_clock(ahead, "the server's")
    assert found.state == state
    assert found.text.startswith(says)


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    def ends(days: float) -> Finding:
        at = time.gmtime(NOW + days * 86_400)
        return assess_certificate({"notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", at)}, NOW)

    assert ends(22).state == "ok"
    assert ends(20).state == "warning"
    assert ends(20).text == "TLS, the certificate ends in 20 days"
    assert assess_certificate({}, NOW).state == "ok"


def server(url: str = "redis://127.0.0.1:1/0", round_trip: float = 0.001, **about: object) -> RedisServer:
    """One that nobody asks anything."""
    return RedisServer(url, "REDIS_URL", make_client(url), ServerInfo.parse(about), round_trip)


@pytest.mark.parametrize(
    ("about", "state", "says"),
    [
        ({"redis_version": "6.0.16"}, "wrong", "Redis 6.0.16"),
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ({"redis_version": "10.1.0"}, "ok", "Redis 10.1.0"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok", "Valkey 9.1.2"),
        ({}, "unknown", "the server does not report its version"),
    ],
)
async def test_a_redis_below_6_2_is_wrong(about: dict[str, object], state: str, says: str) -> None:
    found = await redis_state.version(server(**about))
    assert (found.state, found.text) == (state, says)


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ({"role": "master", "redis_mode": "standalone"}, "ok"),
        ({"role": "slave"}, "wrong"),
        ({"role": "master", "redis_mode": "cluster"}, "wrong"),
        ({"redis_mode": "sentinel"}, "wrong"),
        ({}, "unknown"),
    ],
)
async def test_only_a_single_primary_is_ok(about: dict[str, object], state: str) -> None:
    assert (await redis_state.role(server(**about))).state == state


async def test_a_far_server_is_slow() -> None:
    found = await round_trip(server(round_trip=0.08))
    assert found.state == "warning"
    assert found.text.startswith("80.0 ms")
    assert (await round_trip(server(round_trip=0.04))).state == "ok"


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("redis://8.8.8.8:6379/0", "warning"),
        ("redis://10.0.0.1:6379/0", "ok"),
        ("unix:///tmp/redis.sock", "ok"),
        ("rediss://8.8.8.8:6379/0?ssl_cert_reqs=none", "warning"),
        ("rediss://8.8.8.8:6379/0?ssl_check_hostname=false", "warning"),
        ("rediss://8.8.8.8:6379/0?ssl_cert_reqs=optional&ssl_check_hostname=false", "warning"),
    ],
)
async def test_unencrypted_connections_to_public_hosts_are_warnings(url: str, state: str) -> None:
    assert (await encryption(server(url))).state == state


async def test_facts_that_upstash_does_not_report_are_unknown() -> None:
    there = server("rediss://:p@eu1-calm-fox-1.upstash.io:6379")
    assert there.is_upstash
    there.pace = ECONOMICAL
    assert (await redis_state.idle_cost(there)).state == "ok"
    there.pace = NORMAL
    assert (await redis_state.idle_cost(there)).state == "warning"
    assert (await redis_state.memory(there)).fix == "see docs/upstash.md"
    assert (await redis_state.persistence(there)).state == "unknown"


def test_two_urls_of_one_server_are_recognized() -> None:
    one, other = ("a", "redis://127.0.0.1:1/0"), ("a", "redis://localhost:1/1")
    assert is_same_server(one, other)
    assert not is_same_server(one, ("b", "redis://127.0.0.1:1/0"))
    assert is_same_server(("", "redis://127.0.0.1/0"), ("", "redis://127.0.0.1:6379/1"))
    assert not is_same_server(("", "redis://127.0.0.1:1"), ("", "redis://127.0.0.1:2"))


def test_problems_of_a_cache_are_warnings() -> None:
    result = CheckResult("cache", "server", wrong("does not answer", "no process starts", "see that it runs"))
    assert as_warning(result).finding == warning(
        "does not answer", "nothing is cached: every read goes to the database", "see that it runs"
    )
    assert as_warning(ITEMS[0]) == ITEMS[0]


@pytest.mark.parametrize(("policy", "state"), [("allkeys-lru", "ok"), ("noeviction", "warning")])
async def test_a_cache_that_evicts_may_be_full(policy: str, state: str) -> None:
    full = server(used_memory=99, maxmemory=100, maxmemory_policy=policy)
    full.cache_is_shared = False
    assert (await cache_memory(full)).state == state


async def test_the_memory_is_judged_by_the_limit_of_the_settings() -> None:
    there = server(used_memory=85, maxmemory=100)
    assert (await redis_state.memory(there)).state == "warning"
    there.thresholds = Thresholds({("redis_memory", None): 0.9})
    assert (await redis_state.memory(there)).state == "ok"


@pytest.mark.slow
async def test_the_clock_is_read_on_an_open_connection() -> None:
    calls: list[str] = []
    far = server()
    far.client = Slow(calls)  # type: ignore[assignment]
    assert (await redis_state.clock(far)).state == "ok"
    assert calls == ["PING", "TIME"]


class Slow:
    """A client whose first command takes 2.5 s more, as that which connects does."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def client(self) -> Slow:
        return self

    async def __aenter__(self) -> Slow:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def execute_command(self, name: str) -> tuple[int, int]:
        await asyncio.sleep(0 if self._calls else 2.5)
        self._calls.append(name)
        return divmod(int(time.time() * 1e6), 1_000_000)
