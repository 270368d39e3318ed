"""The Redis that the program finds: refused where it may lose jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.app.conftest import OpenTerminal, Program
from tests.servers import ValkeyServer


@pytest.fixture
def evicting(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    yield server
    server.kill()


def test_workers_do_not_start_where_jobs_may_be_evicted(evicting: ValkeyServer, program: Program) -> None:
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
