"""One incident per alert: provoked, seen on every surface, mended, seen to end on every surface."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # has no stubs
import pytest

from tests.acceptance.incidents import (
    COLOR,
    FANOUT,
    HISTORY,
    LISTED,
    MODERATION,
    STATUS,
    WEATHER,
    WEBHOOK,
    Cluster,
    cluster,
    kill,
)
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually
from workers.engine.keys import CRON, QueueKeys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "COUTURECAST_TEST_INCIDENTS" not in os.environ, reason="they take minutes: make incidents"
    ),
]
REST = (WEATHER, FANOUT, MODERATION)
REDIS, DATABASE, LETTERS = ("redis", ""), ("database", ""), ("letters_waiting", "")


async def test_a_process_that_blocks_then_stalls_then_is_killed(tmp_path: Path) -> None:
    blocked, stalled = ("event_loop_blocked", ""), ("stalled", COLOR)
    held, unserved = ("held_by_dead", COLOR), ("no_worker", COLOR)
    async with cluster(tmp_path, COUTURECAST_COLOR_EXTRACTION_TIMEOUT="600") as made:
        await made.start(*REST)
        victim = await made.start(COLOR)
        await made.enqueue(COLOR, blocks=True)
        await made.fires(blocked)
        made.release()
        await made.ended(blocked, unserved, except_for={unserved: {HISTORY, WEBHOOK}})

        (made.directory / "released").unlink()
        await made.enqueue(COLOR, 20, hangs=True)
        await made.fires(stalled)
        made.release()
        await made.ended(stalled)

        (made.directory / "released").unlink()
        await made.enqueue(COLOR, 3, hangs=True)
        await asyncio.sleep(2)  # they run
        kill(victim)
        await made.fires(held, unserved)
        made.release()
        await made.start(COLOR)
        await made.ended(held, unserved)


async def test_redis_stops_then_is_a_read_only_replica(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.start()
        made.redis.stop()
        await made.fires(REDIS, except_for={REDIS: {STATUS, LISTED}})
        for command in (("status",), ("alerts", "list")):  # they refuse, and say that it is Redis
            done = await made.run(*command)
            assert (done.code, done.out) == (1, "")
            assert f"{made.redis.url} does not answer" in done.errors[0]
        made.redis.start()
        await made.ended(REDIS)
        await asyncio.sleep(40)  # nothing happens, and nothing is wrong
        with made.valkey() as valkey:
            valkey.replicaof("127.0.0.1", "1")
            await made.fires(REDIS)
            await asyncio.sleep(70)  # meanwhile no process can publish its presence, and it expires
            alerts = (await made.run("status", "--json")).json["alerts"]
            assert [alert["name"] for alert in alerts] == ["redis"]
            valkey.replicaof("NO", "ONE")
        await made.ended(REDIS)


async def test_the_database_stops_and_letters_wait_for_it(tmp_path: Path) -> None:
    postgres = PostgresServer()
    postgres.start()
    # Without the database nothing is recorded, and messages are about the database only: it is the cause.
    # Its outage is recorded when it is over.
    letters_row = {LETTERS: {HISTORY, WEBHOOK}}
    no_row = {DATABASE: {HISTORY}, **letters_row}
    try:
        limit = {"COUTURECAST_ALERT_LETTERS_WAITING": "5"}
        async with cluster(tmp_path, DATABASE_URL=postgres.url(), **limit) as made:
            await made.start()
            await asyncio.sleep(30)  # nothing happens
            postgres.stop()
            await made.fires(DATABASE, except_for=no_row)
            await made.enqueue(COLOR, fails=True)
            await made.fires(DATABASE, LETTERS, except_for=no_row)
            postgres.start()
            await made.ended(DATABASE, LETTERS, except_for=letters_row)
            await set_read_only(postgres, "on")  # as a managed one whose disk is full
            await made.fires(DATABASE, except_for=no_row)
            await set_read_only(postgres, "off")
            await made.ended(DATABASE)
    finally:
        postgres.remove()


async def test_a_frozen_process_leaves_its_queue_without_a_worker_and_a_broken_key(tmp_path: Path) -> None:
    broken, unserved = ("broken_keys", COLOR), ("no_worker", COLOR)
    async with cluster(tmp_path) as made:
        await made.start(*REST)
        victim = await made.start(COLOR)
        await made.keep_active()
        victim.process.send_signal(signal.SIGSTOP)  # else it would repair the key at once
        with made.valkey() as valkey:
            valkey.set(QueueKeys.of(COLOR).leases, "of another program")
        # It holds no job and its connections stay: it is asked for a sign of life, and does not answer.
        await made.fires(broken, unserved)
        victim.process.send_signal(signal.SIGCONT)
        await made.enqueue(COLOR)
        await made.ended(broken, unserved)


async def test_of_two_processes_one_freezes_while_the_other_drains_the_queue(tmp_path: Path) -> None:
    blocked = ("event_loop_blocked", "")
    async with cluster(tmp_path, COUTURECAST_ALERT_BACKLOG="2000") as made:
        await made.start()
        frozen = await made.start(COLOR)
        await made.keep_active()
        await made.enqueue(COLOR, 20)  # both have made turns
        await asyncio.sleep(3)
        frozen.process.send_signal(signal.SIGSTOP)
        await made.enqueue(COLOR, 700, seconds=1)
        await made.fires(blocked)
        alerts = (await made.run("status", "--json")).json["alerts"]
        (alert,) = [alert for alert in alerts if alert["name"] == "event_loop_blocked"]
        assert f":{frozen.process.pid} has not answered for " in alert["message"]
        (queue,) = [
            queue for queue in (await made.run("status", "--json")).json["queues"] if queue["name"] == COLOR
        ]
        assert queue["completed"] > 20  # the other one works
        assert queue["depth"] > 0
        frozen.process.send_signal(signal.SIGCONT)
        await made.ended(blocked)


async def test_redis_is_nearly_full_and_may_evict(tmp_path: Path) -> None:
    memory, eviction = ("redis_memory", ""), ("redis_eviction", "")
    async with cluster(tmp_path) as made:
        await made.start()
        await made.keep_active()
        with made.valkey() as valkey:
            valkey.setrange("ballast", 20_000_000, "x")
            valkey.config_set("maxmemory", int(valkey.info("memory")["used_memory"] / 0.88))
            valkey.config_set("maxmemory-policy", "allkeys-lru")
            await made.fires(memory, eviction)
            valkey.config_set("maxmemory", 0)
            valkey.config_set("maxmemory-policy", "noeviction")
        await made.ended(memory, eviction)


async def test_attempts_fail_and_jobs_are_slow(tmp_path: Path) -> None:
    failing, slow = ("failing", MODERATION), ("slow", COLOR)
    baselines = {
        "COUTURECAST_COLOR_EXTRACTION_BASELINE_RUN": "0.05",
        "COUTURECAST_COLOR_EXTRACTION_BASELINE_WAIT": "60",
    }
    async with cluster(tmp_path, **baselines) as made:
        await made.start()
        await made.keep_active()
        await made.enqueue(COLOR, 25, seconds=0.3)
        await made.enqueue(MODERATION, 40, fails=True)
        await made.fires(failing, slow)
        (group,) = (await made.run("events", "--kind", "new-group", "--json")).json["items"]
        assert group["message"].endswith("ValueError: the CDN is down")  # it is information: no message
        for queue in (MODERATION, MODERATION, COLOR):
            await made.enqueue(queue, 1000)
        await made.ended(failing, slow)


async def test_a_replay_is_killed_and_another_halts(tmp_path: Path) -> None:
    interrupted, halted = ("plan_interrupted", ""), ("plan_halted", "")
    async with cluster(tmp_path) as made:
        await made.start()
        await made.enqueue(COLOR, 40, fails=True)
        await until_letters(made, 40)
        with (made.directory / "replay").open("wb") as log:
            replay, out = made.program.spawn(
                "failed-jobs", "replay", "--all", "--yes", "--rate", "1", "--halt", "100", log=log
            )
        with out:
            await asyncio.sleep(5)
            replay.kill()
            replay.wait()
        await made.fires(interrupted)
        assert (await made.run("failed-jobs", "cancel", "1")).code == 0
        await made.ended(interrupted)

        assert (await made.run("failed-jobs", "replay", "--all", "--yes", "--canary", "4")).code == 1
        await made.fires(halted)
        assert (await made.run("failed-jobs", "cancel", "2")).code == 0
        await made.ended(halted)


async def test_a_schedule_is_missed_and_jobs_pile_up(tmp_path: Path) -> None:
    missed, backlog = ("schedule_missed", WEATHER), ("backlog", COLOR)
    async with cluster(tmp_path) as made:
        await made.start()
        await made.keep_active()
        assert (await made.run("pause", COLOR, "--reason", "model rollout")).code == 0
        await made.enqueue(COLOR, 120)
        with made.valkey() as valkey:
            ran = int(valkey.hget(CRON, "weather") or 0)
            assert ran
            valkey.hset(CRON, "weather", ran - 4 * 900)
            await made.fires(missed, backlog)
            valkey.hset(CRON, "weather", ran)
        assert (await made.run("resume", COLOR)).code == 0
        await made.ended(missed, backlog)


async def set_read_only(postgres: PostgresServer, value: str) -> None:
    connection = await asyncpg.connect(postgres.url())
    await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def until_letters(made: Cluster, count: int) -> None:
    async def listed() -> bool:
        found = (await made.run("failed-jobs", "list", "--json", "--limit", str(count))).json["items"]
        return len(found) == count

    await eventually(listed, within=60, what="the letters are written")
