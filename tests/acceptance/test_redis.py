"""The Redis that the program finds: one that may lose jobs, one that is full, one that grants few rights."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.acceptance.served import QUEUE, Served, served
from tests.support.program import OpenTerminal, Program
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually


@pytest.fixture
def evicting(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(
        tmp_path / "valkey", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"
    ) as server:
        yield server


def test_workers_do_not_start_if_jobs_may_be_evicted(evicting: ValkeyServer, program: Program) -> None:
    done = program.run("--no-ui", REDIS_URL=evicting.url)
    assert (done.code, done.out, len(done.errors)) == (2, "", 1), done.err
    assert "CONFIG SET maxmemory-policy volatile-lru" in done.errors[0]
    with redis.Redis.from_url(evicting.url) as client:
        assert not client.keys("*")
    assert program.run("status", REDIS_URL=evicting.url).code == 0


async def test_nor_does_a_dashboard(evicting: ValkeyServer, terminal: OpenTerminal) -> None:
    screen = terminal("--no-workers", REDIS_URL=evicting.url)
    assert await screen.code() == 2
    assert "CONFIG SET maxmemory-policy volatile-lru" in " ".join(screen.text.split())


@pytest.fixture
def full(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey", "--maxmemory-policy", "volatile-lru")
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("filler", "x" * 4_000_000)
        client.config_set("maxmemory", 3_000_000)
    yield server
    server.kill()


def _is_told(text: str) -> bool:
    return (
        text.startswith("Redis is full (")
        and " of 2.9 MB used): nothing was enqueued; " in text
        and text.endswith("raise its maxmemory")
    )


def test_a_full_redis_fails_a_producer_on_the_command_line_and_over_http(
    full: ValkeyServer, tmp_path: Path
) -> None:
    with served(tmp_path, REDIS_URL=full.url) as running, running.client() as client:
        answer = client.post(f"/api/v1/queues/{QUEUE}/jobs", json={"data": {"item_id": "x"}})
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        assert _is_told(answer.json()["detail"]), answer.text
        data = '{"item_id": "x", "image": "x.jpg"}'
        done = running.program.run("enqueue", QUEUE, "--data", data, REDIS_URL=full.url)
        assert (done.code, done.out) == (1, "")
        (error,) = done.errors
        assert _is_told(error.removeprefix("error: ")), error
        with redis.Redis.from_url(full.url) as valkey:
            assert not valkey.exists(f"saq:{QUEUE}:queued", f"saq:{QUEUE}:incomplete")
            valkey.delete("filler")
        answer = client.post(f"/api/v1/queues/{QUEUE}/jobs", json={"data": {"item_id": "x"}})
        assert answer.status_code == 202


RIGHTS = "+@all -@admin -@dangerous -config -info -script -client -debug -keys -flushall -flushdb -acl"


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[str]:
    """URL of a Redis as managed services give it, with a user who may do little."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">s3cret", "~*", "&*", *RIGHTS.split())
    yield server.url.replace("://", "://app:s3cret@")
    server.kill()


async def test_a_user_with_few_rights_runs_all_of_it(
    managed: str, program: Program, terminal: OpenTerminal
) -> None:
    program.environment["REDIS_URL"] = managed
    headless = await program.start()
    text = '{"content_id": "c1", "text": "a fine day"}'
    assert program.run("enqueue", "moderation-review", "--data", text).code == 0
    await eventually(lambda: _completed(program) == 1, within=30)
    shown = program.run("status")
    assert shown.code == 0
    assert "redis ok" in shown.out
    found = program.run("status", "--json").json
    assert (found["redis"]["error"], found["redis"]["memory_used"]) == (None, None)
    assert [alert for alert in found["alerts"] if alert["name"].startswith("redis")] == []
    screen = terminal("--no-workers", size=(160, 48))
    await screen.shows("redis –")
    screen.press("q")
    assert await screen.code() == 0
    assert await headless.stop() == 0
    assert "s3cret" not in headless.err + shown.out + shown.err + screen.text
    assert "does not answer" not in headless.err + screen.text


def _completed(program: Program) -> int:
    queues = program.run("status", "--json").json["queues"]
    return sum(queue["completed"] for queue in queues)


AT_REST, AT_MOST = 14, 32
"""Connections of a process with all four queues: docs/queues.md says so too."""


@pytest.mark.slow
async def test_a_process_takes_few_connections_under_many_requests(
    tmp_path: Path, terminal: OpenTerminal
) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    with served(tmp_path, REDIS_URL=server.url) as running, redis.Redis.from_url(server.url) as valkey:

        def taken() -> int:
            return len(valkey.client_list()) - 1

        assert taken() <= AT_REST
        most = await _under_requests(running, taken)
        assert most <= AT_MOST
        sys.stdout.write(f"\nconnections: {most} at the most under 50 requests at once, {taken()} after\n")
        before = taken()
        screen = terminal("--no-workers", REDIS_URL=server.url)
        await screen.shows("color-extraction")
        assert taken() - before <= 6
    server.kill()


async def _under_requests(running: Served, taken: Callable[[], int]) -> int:
    """The most connections while 50 clients ask as fast as they can, for 3 s."""
    over = time.monotonic() + 3
    paths = ("/metrics", "/api/v1/health/queues", "/readyz", "/api/v1/admin/failed-jobs")
    headers = {"Authorization": f"Bearer {running.token}"}
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30, limits=limits) as client:

        async def ask(number: int) -> None:
            while time.monotonic() < over:
                job = {"data": {"item_id": "x"}}
                await client.post(f"/api/v1/queues/{QUEUE}/jobs", json=[job] * 20)
                answer = await client.get(paths[number % len(paths)])
                assert answer.status_code == 200 or paths[number % len(paths)].endswith("queues")

        def watch() -> int:
            most = 0
            while time.monotonic() < over:
                most = max(most, taken())
            return most

        watching = asyncio.create_task(asyncio.to_thread(watch))
        await asyncio.gather(*map(ask, range(50)))
        return await watching
