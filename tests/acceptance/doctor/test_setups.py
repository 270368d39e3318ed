"""The doctor on whole setups: a good one, one before its first start, one that runs."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.acceptance.doctor.conftest import StartValkey, doctor
from tests.support.program import Program, server_pid


@pytest.mark.slow
def test_a_good_setup_has_no_problem(program: Program, valkey: StartValkey, postgres_url: str) -> None:
    server = valkey("--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
    environment = {"REDIS_URL": server.url, "DATABASE_URL": postgres_url}
    assert program.run("status", **environment).code == 0
    found = doctor(program, **environment)
    assert found.code == 0
    assert found.named("wrong") == []
    assert found.named("unknown") == []
    assert found.named("warning") == ["machine terminal"]
    assert len(found.items) > 30
    assert found.says("Redis eviction") == ("ok", "volatile-lru")
    assert found.says("database notifications") == ("ok", "a NOTIFY arrives")
    assert found["database migrations"]["finding"].startswith("the tables are up to date")


def test_without_servers_it_reports_what_the_next_start_makes(program: Program) -> None:
    found = doctor(program)
    assert found.code == 0
    assert "the next start starts one in" in found["Redis server"]["finding"]
    assert "the next start makes it" in found["database file"]["finding"]
    assert "the next start makes them" in found["database migrations"]["finding"]
    assert not program.data_dir.exists()
    assert server_pid(program.data_dir) is None


async def test_a_running_embedded_server_is_checked(program: Program) -> None:
    started = await program.start()
    found = await asyncio.to_thread(doctor, program)
    assert found.code == 0
    assert found["Redis server"]["finding"].endswith("(embedded)")
    assert found.says("Redis persistence") == ("ok", "append-only file")
    assert found["database migrations"]["finding"].startswith("the tables are up to date")
    assert await started.stop() == 0, started.err


@pytest.mark.slow
async def test_an_embedded_server_that_hangs_is_wrong(program: Program) -> None:
    started = await program.start("--queues", "alert-fanout")
    server = server_pid(program.data_dir)
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    try:
        found = await asyncio.to_thread(doctor, program)
    finally:
        os.kill(server, signal.SIGCONT)
    assert found.named("wrong") == ["Redis server"]
    assert "runs and does not answer" in found["Redis server"]["finding"]
    assert await started.stop() == 0, started.err


async def test_processes_of_the_cluster_count_for_the_connections(
    program: Program, redis_url: str, postgres_url: str
) -> None:
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url}
    started = await program.start(**environment)
    found = await asyncio.to_thread(doctor, program, **environment, COUTURECAST_DB_POOL_SIZE="60")
    assert found["database connections"]["state"] == "wrong"
    assert "pool size 60 × (1 workers + 1) + 2 = 122" in found["database connections"]["finding"]
    assert await started.stop() == 0, started.err
