"""Processes that are dead, frozen, killed or not there: what a request tells of them."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.workers.operations.conftest import Operate
from tests.integration.workers.operations.workers.conftest import Gate, Life, subscribed, the_worker
from tests.support.engine import QUICK, MakeBench
from tests.support.processes import Journal, Spawner
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, DRAINED, WORKERS
from workers.errors import ConflictError, NotFoundError, ReadOnlyError
from workers.monitoring.alert_rules import BLOCKED
from workers.operations import workers as module
from workers.operations.workers import DrainResult


@pytest.mark.slow
async def test_a_process_that_is_not_there_and_a_dead_one_are_refused_in_one_line(
    spawn: Spawner, make_bench: MakeBench, operate: Operate, journal: Journal
) -> None:
    bench = make_bench()
    operations = await operate(bench)
    with pytest.raises(NotFoundError, match="no worker 'nobody'"):
        await operations.workers.drain("nobody")
    with pytest.raises(NotFoundError):
        await operations.workers.undo_drain("")
    spawned = await spawn()
    await bench.stock.enqueue(bench.policy.function, seconds=60)
    await eventually(lambda: journal.events("start"))
    spawned.kill()
    await spawned.wait()
    worker = await the_worker(operations, "dead")
    (listed,) = await operations.workers.list()
    assert (listed.in_flight, listed.ready, listed.up_for, listed.cpu) == (1, False, None, None)
    assert listed.recover_in is None, "no process lives that could run its job"
    with pytest.raises(ConflictError, match="is dead and cannot drain"):
        await operations.workers.drain(worker)
    with pytest.raises(ConflictError, match="is dead"):
        await operations.workers.undo_drain(worker)
    assert await operations.workers.drain_all() == []


@pytest.mark.slow
async def test_a_frozen_process_is_named_and_drains_when_it_continues(
    spawn: Spawner, make_bench: MakeBench, operate: Operate, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONFIRM_SECONDS", 0.5)
    operations = await operate(make_bench())
    spawned = await spawn()
    worker = await the_worker(operations)
    await eventually(lambda: subscribed(redis, worker))
    spawned.send_signal(signal.SIGSTOP)
    result = await operations.workers.drain(worker)
    assert result.state == "requested"
    assert result.problem.startswith("it does not answer, and may be frozen")
    (still,) = await operations.workers.wait([result], 0)
    assert still == result
    spawned.send_signal(signal.SIGCONT)
    (ended,) = await operations.workers.wait([result], 20)
    assert (ended.state, ended.put_back) == ("drained", 0)
    assert await spawned.wait() == 0


@pytest.mark.slow
async def test_a_frozen_process_without_jobs_is_not_listed_as_ready_until_it_continues(
    spawn: Spawner, make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    operations = await operate(make_bench())
    spawned = await spawn()
    worker = await the_worker(operations)
    await eventually(lambda: subscribed(redis, worker))
    spawned.send_signal(signal.SIGSTOP)
    await redis.hincrby(WORKERS, f"at:{worker}", -10_000)  # as if its last sign of life were so old
    (listed,) = await operations.workers.list()
    assert (listed.ready, listed.state, listed.blocked_where) == (False, "blocked", None)
    snapshot = await operations.snapshot()
    (blocked,) = (alert for alert in snapshot.alerts if alert.name == BLOCKED)
    assert blocked.message.endswith("it may be frozen")
    assert snapshot.queues[0].workers == 0
    spawned.send_signal(signal.SIGCONT)

    async def is_ready() -> bool:
        (found,) = await operations.workers.list()
        return found.ready

    await eventually(is_ready)
    await redis.hincrby(WORKERS, f"at:{worker}", -10_000)
    await redis.hdel(WORKERS, f"asked:{worker}")
    await redis.delete(BEATS)
    assert await is_ready(), "one that lives answers at once"
    assert await redis.zscore(BEATS, worker) is not None


async def test_read_only_refuses_before_it_reads(make_bench: MakeBench, operate: Operate) -> None:
    operations = await operate(make_bench(), read_only=True)
    for refused in (operations.workers.drain("x"), operations.workers.undo_drain("x")):
        with pytest.raises(ReadOnlyError):
            await refused
    with pytest.raises(ReadOnlyError):
        await operations.workers.drain_all()


@pytest.mark.slow
async def test_the_jobs_of_a_process_that_is_killed_while_it_drains_are_unknown(
    spawn: Spawner, make_bench: MakeBench, operate: Operate, journal: Journal
) -> None:
    bench = make_bench()
    operations = await operate(bench)
    spawned = await spawn()
    await bench.stock.enqueue(bench.policy.function, seconds=60)
    await eventually(lambda: journal.events("start"))
    result = await operations.workers.drain(await the_worker(operations))
    assert result.state == "draining"
    spawned.kill()
    await spawned.wait()
    await spawn(timings={"dead_after_seconds": QUICK.dead_after_seconds})
    (ended,) = await operations.workers.wait([result], 30)
    assert (ended.state, ended.put_back) == ("drained", None)


@pytest.mark.slow
async def test_presence_and_heartbeats_carry_the_figures_of_a_process(
    spawn: Spawner, make_bench: MakeBench, operate: Operate, journal: Journal
) -> None:
    bench = make_bench()
    operations = await operate(bench)
    await spawn()
    await bench.stock.enqueue(bench.policy.function, seconds=60)
    await eventually(lambda: journal.events("start"))

    async def measured() -> Any:
        (worker,) = await operations.workers.list()
        return worker if None not in (worker.cpu, worker.loop_p99) else None

    worker = await eventually(measured)
    assert 0 <= worker.cpu < 3
    assert 20_000_000 < worker.memory < 2_000_000_000
    assert 0 <= worker.loop_p99 < 10
    assert (worker.in_flight, worker.slots, worker.held[0].count) == (1, 5, 1)
    assert worker.up_for is not None


async def test_a_result_is_kept_for_ten_minutes(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    operations = await operate(bench)
    life = Life(await bench.start(Gate()))
    result = await operations.workers.drain(life.process.id)
    assert await life.ended == 0
    assert isinstance(result, DrainResult)
    assert 500 < await redis.ttl(f"{DRAINED}{life.process.id}") <= 600
