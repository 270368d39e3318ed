"""A process drains on a request from another one, whatever happens to the message or to Redis."""

from __future__ import annotations

import asyncio
import os

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.integration.workers.operations.conftest import Operate
from tests.integration.workers.operations.workers.conftest import Gate, Life, subscribed
from tests.support.engine import MakeBench
from tests.support.processes import Spawner
from tests.support.waiting import eventually
from workers.engine.keys import PROCESS, WORKERS
from workers.operations import workers as module
from workers.process.drain import CHECK_MESSAGE, DrainRequest


async def test_a_process_drains_on_request_and_its_jobs_finish(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    life = Life(await bench.start(gate))
    await bench.send(2)
    await eventually(lambda: gate.running == 2)
    await eventually(lambda: subscribed(redis, life.process.id))
    result = await operations.workers.drain(life.process.id)
    assert (result.state, result.in_flight, result.problem) == ("draining", 2, "")
    assert result.deadline_in is not None
    assert 0 < result.deadline_in <= 30
    (listed,) = await operations.workers.list()
    assert (listed.state, listed.ready, listed.drain_undoable) == ("draining", False, True)
    assert listed.drained_by == operations.actor
    assert listed.drain_deadline_in is not None
    gate.opened.set()
    (ended,) = await operations.workers.wait([result], 20)
    assert (ended.state, ended.put_back) == ("drained", 0)
    assert await life.ended == 0
    assert await bench.total("completed") == 2
    assert await bench.empty()
    assert await operations.workers.list() == []


async def test_jobs_that_do_not_end_in_time_are_requeued_and_counted(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    life = Life(await bench.start(gate, drain_seconds=0.5))
    await bench.send(3)
    await eventually(lambda: gate.running == 3)
    result = await operations.workers.drain(life.process.id[:8])
    (ended,) = await operations.workers.wait([result], 20)
    assert (ended.state, ended.put_back) == ("drained", 3)
    assert (await bench.lists())["queued"] == 3


async def test_requeue_now_waits_for_nothing(make_bench: MakeBench, operate: Operate) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    life = Life(await bench.start(gate))
    await bench.send(1)
    await eventually(lambda: gate.running == 1)
    result = await operations.workers.drain(f"{os.uname().nodename}:{os.getpid()}", now=True)
    (ended,) = await operations.workers.wait([result], 20)
    assert (ended.state, ended.put_back) == ("drained", 1)
    assert await life.ended == 1


async def test_a_request_whose_message_is_lost_is_carried_out_with_the_next_presence(
    make_bench: MakeBench, operate: Operate, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    process = await bench.start(gate)
    await eventually(lambda: subscribed(redis, process.id))
    monkeypatch.setattr(module, "PROCESS", "couturecast:nobody:")
    monkeypatch.setattr(module, "_CONFIRM_SECONDS", 0.3)
    result = await operations.workers.drain(process.id)
    assert result.state == "requested"
    assert result.problem.startswith("it is not connected to Redis: it drains if it continues within 10 min")
    assert not process.draining
    await redis.client_kill_filter(_type="pubsub")
    await eventually(lambda: process.draining, what="it subscribes again, and reads the request")


async def test_a_request_that_is_too_old_is_ignored(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    process = await bench.start(Gate())
    body = DrainRequest("1", "drain", "anna").body()
    await redis.hset(WORKERS, f"drain:{process.id}", b"1000 " + body)
    await process.links[0].presence.publish()
    assert not process.draining
    seconds, _ = await redis.time()
    await redis.hset(WORKERS, f"drain:{process.id}", b"%d " % ((seconds + 60) * 1000) + body)
    await process.links[0].presence.publish()
    assert process.draining


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"id":1,"verb":"explode","actor":"x"}',
        b'{"verb":"drain"}',
        b"[" * 5000,
    ],
)
async def test_foreign_bytes_on_the_channel_and_in_the_request_change_nothing(
    make_bench: MakeBench, redis: Redis, request_: bytes
) -> None:
    bench, gate = make_bench(), Gate()
    gate.opened.set()
    process = await bench.start(gate)
    await eventually(lambda: subscribed(redis, process.id))
    await redis.hset(WORKERS, f"drain:{process.id}", b"9999999999999 " + request_)
    for message in (b"", b"\xff" * 100, b"drain now", b"x" * 100_000, request_, CHECK_MESSAGE):
        await redis.publish(f"{PROCESS}{process.id}", message)
    await process.links[0].presence.publish()
    await bench.send(3)
    await eventually(bench.empty)
    assert not process.draining


@pytest.mark.slow
async def test_all_living_processes_drain(make_bench: MakeBench, operate: Operate, spawn: Spawner) -> None:
    operations = await operate(make_bench())
    await asyncio.gather(spawn(), spawn())

    async def both() -> bool:
        return len(await operations.workers.list()) == 2

    await eventually(both)
    results = await operations.workers.drain_all()
    assert [result.problem for result in results] == ["", ""]
    ended = await operations.workers.wait(results, 20)
    assert [(result.state, result.put_back) for result in ended] == [("drained", 0)] * 2
    assert [await process.wait() for process in spawn.processes] == [0, 0]


async def test_a_redis_that_takes_no_writes_refuses_the_request_and_this_process_drains_all_the_same(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench, gate = make_bench(), Gate()
    process = await bench.start(gate)
    other = await bench.start(gate)
    operations = await operate(bench, process=process)
    await redis.config_set("min-replicas-to-write", 5)  # as a primary that has lost its replicas
    try:
        with pytest.raises(RedisError):
            await operations.workers.drain(other.id)
        assert (await operations.workers.drain(process.id)).state == "draining"
        assert (await operations.workers.undo_drain(process.id)).state == "running"
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    assert not other.draining


async def test_reading_requests_costs_an_idle_process_no_command(make_bench: MakeBench, redis: Redis) -> None:
    """Each is billed, also those inside a script: eight for one queue, as many as without requests."""
    process = await make_bench().start(Gate())
    await eventually(lambda: subscribed(redis, process.id))

    async def commands() -> int:
        before = await redis.info("stats")
        await process.links[0].presence.publish()
        after = await redis.info("stats")
        return int(after["total_commands_processed"]) - int(before["total_commands_processed"]) - 1

    assert min([await commands() for _ in range(10)]) == 8
