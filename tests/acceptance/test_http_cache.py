"""The cache by HTTP: what a user is shown, and its invalidation."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from storage.cache.entries import ENTRY
from storage.database.engine import Database
from storage.repositories.preferences import PreferenceRepository
from storage.repositories.weather import Location, WeatherRepository
from tests.acceptance.served import Served, assert_problem, metrics, served
from tests.support.program import client as valkey

USERS = "/api/v1/personalization/users"
CACHE = "/api/v1/cache"
CACHED = f"{CACHE}/users"
ENTRIES = f"{CACHE}/entries"
SLOW_STEP_SECONDS = 10.0


@pytest.fixture(scope="module", autouse=True)
def anna(server: Served) -> None:
    asyncio.run(prefer(server, "anna", {"style": "street"}))


async def prefer(running: Served, user: str, preferences: dict[str, Any]) -> None:
    """As another process would, past the cache."""
    database = Database(f"sqlite:///{quote(str(running.program.data_dir))}/couturecast.db")
    await database.start()

    async def on_change(*_: str) -> None:
        pass

    await PreferenceRepository(database, on_change).put(user, preferences)
    await WeatherRepository(database).add_location(Location("lisboa", "Lisboa", 38.72, -9.14))
    await database.close()


def payload(client: httpx.Client, user: str, **query: str) -> dict[str, Any]:
    answer = client.get(f"{USERS}/{quote(user, safe='')}", params={"location": "lisboa", **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert int(answer.headers["age"]) <= found["age"] < int(answer.headers["age"]) + 1.01
    return found


def test_a_payload_has_its_source(client: httpx.Client) -> None:
    first, then = payload(client, "anna"), payload(client, "anna")
    assert (first["source"], first["age"], then["source"]) == ("loaded", 0, "fresh")
    assert then["age"] >= 0
    assert first["built_at"] == then["built_at"]
    for found in (first, then):
        assert (found["user_id"], found["location_id"], found["weather"]) == ("anna", "lisboa", None)
        assert found["preferences"] == {"style": "street"}


@pytest.mark.parametrize(
    ("at", "block"),
    [
        ("2026-03-01T14:59:59Z", "2026-03-01T12:00:00Z"),
        ("2026-03-01T14:59:59+02:00", "2026-03-01T12:00:00Z"),
        ("2026-03-01T11:00", "2026-03-01T09:00:00Z"),
        ("2026-03-01", "2026-03-01T00:00:00Z"),
    ],
)
def test_a_time_selects_its_block(client: httpx.Client, at: str, block: str) -> None:
    assert payload(client, "anna", at=at)["time_block"] == block


def test_an_invalidated_user_is_read_again_at_once(server: Served, client: httpx.Client) -> None:
    payload(client, "bruno")
    payload(client, "bruno", at="2026-03-01T12:00:00Z")
    asyncio.run(prefer(server, "bruno", {"style": "minimal"}))
    assert payload(client, "bruno")["preferences"] == {}
    answer = client.delete(f"{CACHED}/bruno", headers={"X-Operator": "anna"})
    assert (answer.status_code, answer.json()) == (200, {"user_id": "bruno", "removed": 2})
    assert payload(client, "bruno")["preferences"] == {"style": "minimal"}
    assert client.delete(f"{CACHED}/nobody").json() == {"user_id": "nobody", "removed": 0}
    with closing(sqlite3.connect(server.program.data_dir / "couturecast.db")) as database:
        rows = database.execute("SELECT actor, verb, affected FROM operator_actions").fetchall()
    assert ("http:anna", "cache evict-user", 2) in rows


@pytest.mark.parametrize("user", ["josé:x", "auth0|5f", "a/b", "a b", "%41", "*", "u" * 200])
def test_user_ids_may_have_any_characters(client: httpx.Client, user: str) -> None:
    assert payload(client, user)["user_id"] == user
    assert client.delete(f"{CACHED}/{quote(user, safe='')}").json() == {"user_id": user, "removed": 1}


@pytest.mark.parametrize("user", ["u" * 201, "a%00b", "%00", ""])
def test_an_impossible_user_id_is_a_problem(client: httpx.Client, user: str) -> None:
    for answer in (client.delete(f"{CACHED}/{user}"), client.get(f"{USERS}/{user}?location=lisboa")):
        problem = assert_problem(answer, 422)
        assert [error["field"] for error in problem["errors"]] == ["user_id"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "location"),
        ("location=", "location"),
        (f"location={'x' * 201}", "location"),
        ("location=a%00b", "location"),
        ("location=a&at=noon", "at"),
        ("location=a&at=1772366400", "at"),
        ("location=a&at=", "at"),
        ("location=a&at=0001-01-01T00:00:00%2B14:00", "at"),
        ("location=a&place=b", "place"),
    ],
)
def test_an_invalid_query_is_a_problem_of_its_parameter(client: httpx.Client, query: str, field: str) -> None:
    problem = assert_problem(client.get(f"{USERS}/anna?{query}"), 422)
    assert [error["field"] for error in problem["errors"]] == [field]


def test_the_ends_of_time(client: httpx.Client) -> None:
    for at in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert payload(client, "anna", at=at)["time_block"].startswith(at[:10])


def test_without_the_token_the_cache_is_closed(server: Served) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        assert_problem(stranger.delete(f"{CACHED}/anna"), 401)
        assert_problem(stranger.get(f"{USERS}/anna?location=lisboa"), 401)
        assert_problem(stranger.get(ENTRIES), 401)
        assert_problem(stranger.post(f"{CACHE}/evict", json={"pattern": "*"}), 401)


def entries(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(ENTRIES, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_entries_are_found_by_a_part_of_their_key_or_by_a_pattern(client: httpx.Client) -> None:
    payload(client, "elsa")
    payload(client, "elsa", at="2026-03-01T12:00:00Z")
    found = entries(client, pattern="elsa:lis")
    assert len(found) == 2
    assert {entry["state"] for entry in found} == {"fresh"}
    assert all(entry["key"].startswith("elsa:lisboa:") and entry["size"] > 0 for entry in found)
    assert {entry["key"] for entry in entries(client, pattern="els?:*")} == {entry["key"] for entry in found}
    assert not entries(client, pattern="els?")
    assert {entry["key"] for entry in found} <= {entry["key"] for entry in entries(client, limit=200)}


def test_pages_of_entries_follow_one_another(client: httpx.Client) -> None:
    for number in range(5):
        payload(client, f"paged {number}")
    seen: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        page = client.get(ENTRIES, params={"pattern": "paged ", "limit": 1, **cursor}).json()
        seen |= {entry["key"] for entry in page["items"]}
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == 5


@pytest.mark.parametrize("user", ["flora", "a/b", "josé:x", "%41"])
def test_one_entry_is_shown_and_evicted(client: httpx.Client, user: str) -> None:
    client.delete(f"{CACHED}/{quote(user, safe='')}")
    built = payload(client, user)
    (entry,) = entries(client, pattern=f"{quote(user)}:")
    path = f"{ENTRIES}/{quote(entry['key'], safe='')}"
    shown = client.get(path).json()
    assert (shown["key"], shown["state"], shown["size"]) == (entry["key"], "fresh", entry["size"])
    assert shown["value"]["user_id"] == user
    assert shown["value"]["built_at"] == built["built_at"]
    assert client.delete(path).json() == {"count": 1}
    assert client.delete(path).json() == {"count": 0}
    assert_problem(client.get(path), 404, "no cache entry")


def test_entries_are_evicted_by_pattern_after_a_dry_run(server: Served, client: httpx.Client) -> None:
    for user in ("gil 1", "gil 2", "gilda"):
        payload(client, user)
    evict = {"pattern": "gil ?:*"}
    assert client.post(f"{CACHE}/evict", json={**evict, "dry_run": True}).json() == {"count": 2}
    assert len(entries(client, pattern="gil")) == 3
    answer = client.post(f"{CACHE}/evict", json=evict, headers={"X-Operator": "anna"})
    assert (answer.status_code, answer.json()) == (200, {"count": 2})
    assert [entry["key"].partition(":")[0] for entry in entries(client, pattern="gil")] == ["gilda"]
    with closing(sqlite3.connect(server.program.data_dir / "couturecast.db")) as database:
        query = "SELECT actor, affected FROM operator_actions WHERE verb = 'cache evict' AND actor != ?"
        assert database.execute(query, ("http:127.0.0.1",)).fetchall() == [("http:anna", 2)]


@pytest.mark.parametrize("body", [{}, {"pattern": ""}, {"pattern": None}, {"pattern": "a", "dry_run": "no"}])
def test_an_eviction_names_what_it_evicts(client: httpx.Client, body: dict[str, Any]) -> None:
    assert_problem(client.post(f"{CACHE}/evict", json=body), 422)


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=201", "limit"), ("cursor=x", "cursor"), (f"cursor={2**64}", "cursor")],
)
def test_an_invalid_page_is_a_problem_of_its_parameter(client: httpx.Client, query: str, field: str) -> None:
    problem = assert_problem(client.get(f"{ENTRIES}?{query}"), 422)
    assert [error["field"] for error in problem["errors"]] == [field]


def test_statistics_count_the_reads_of_the_last_hour(client: httpx.Client) -> None:
    before = client.get(f"{CACHE}/stats").json()
    payload(client, "hanna")
    payload(client, "hanna")
    after = client.get(f"{CACHE}/stats").json()
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (1, 1)
    assert 0 < after["hit_rate"] < 1
    assert len(after["minutes"]) == 60
    assert after["memory_used"] > 0
    assert after["own"] is False


def test_other_methods_answer_which_to_use(client: httpx.Client) -> None:
    assert assert_problem(client.get(f"{CACHED}/anna"), 405)["detail"] == "use DELETE"
    assert assert_problem(client.delete(f"{USERS}/anna"), 405)["detail"] == "use GET, HEAD"
    refused = client.post(f"{ENTRIES}/anna:lisboa:x", json={})
    assert assert_problem(refused, 405)["detail"] == "use DELETE, GET, HEAD"
    assert refused.headers["allow"] == "DELETE, GET, HEAD"
    assert_problem(client.request("DELETE", f"{CACHED}/anna", json={}), 422)


def test_metrics_count_the_reads_of_this_process(client: httpx.Client) -> None:
    payload(client, "counted")
    before = client.get("/metrics").text
    payload(client, "counted")
    payload(client, "counted twice")
    after = client.get("/metrics").text
    names = ('cache_reads_total{outcome="hit"}', 'cache_reads_total{outcome="miss"}', "cache_loads_total")
    for name in names:
        assert value(after, name) == value(before, name) + 1
    assert value(after, 'cache_reads_total{outcome="stale"}') == 0
    assert value(after, "cache_load_failures_total") == 0


def value(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"couturecast_{name} ")]
    return float(line.split()[-1])


def test_read_only_mode_reads_and_refuses_to_evict(tmp_path: Any) -> None:
    with served(tmp_path, COUTURECAST_READ_ONLY="1") as running, running.client() as client:
        assert payload(client, "anna")["source"] == "loaded"
        (entry,) = entries(client)
        assert_problem(client.delete(f"{CACHED}/anna"), 403, "read-only")
        assert_problem(client.delete(f"{ENTRIES}/{quote(entry['key'])}"), 403, "read-only")
        assert_problem(client.post(f"{CACHE}/evict", json={"pattern": "*"}), 403, "read-only")
        assert client.post(f"{CACHE}/evict", json={"pattern": "*", "dry_run": True}).json() == {"count": 1}
        assert payload(client, "anna")["source"] == "fresh"


def test_without_the_caches_redis_payloads_are_built_directly(tmp_path: Any) -> None:
    with served(tmp_path, CACHE_REDIS_URL="redis://127.0.0.1:1/0") as running, running.client() as client:
        assert payload(client, "anna")["source"] == "direct"
        answer = client.delete(f"{CACHED}/anna")
        assert_problem(answer, 503, "this process retries until it does")
        assert answer.headers["retry-after"] == "5"
        for path in (ENTRIES, f"{ENTRIES}/anna:lisboa:x", f"{CACHE}/stats"):
            assert_problem(client.get(path), 503, "the cache's Redis")
        assert value(client.get("/metrics").text, 'cache_reads_total{outcome="error"}') >= 1
        assert metrics(client)["couturecast_redis_up", ""] == 1


def test_a_payload_that_cannot_be_built_is_served_stale(server: Served, client: httpx.Client) -> None:
    """The table is taken away, so that no load can succeed; the entry is made older than fresh."""
    payload(client, "dalia")
    with valkey(server.program.data_dir) as redis:
        (key,) = list(redis.scan_iter(f"{ENTRY}dalia:*"))
        redis.pexpire(key, 900_000 - 61_000)
    file = server.program.data_dir / "couturecast.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("ALTER TABLE user_preferences RENAME TO away")
        try:
            stale = payload(client, "dalia")
        finally:
            database.execute("ALTER TABLE away RENAME TO user_preferences")
    assert stale["source"] == "stale"
    assert 61 <= stale["age"] < 61 + SLOW_STEP_SECONDS
    assert value(client.get("/metrics").text, 'cache_reads_total{outcome="stale"}') == 1
