"""An undo has the process take jobs again, or comes too late."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.workers.operations.conftest import Operate
from tests.integration.workers.operations.workers.conftest import Gate, Life, subscribed, the_worker
from tests.support.engine import MakeBench
from tests.support.processes import Spawner
from tests.support.waiting import eventually
from workers.errors import ConflictError
from workers.operations import workers as module


async def test_undo_has_it_take_jobs_again(make_bench: MakeBench, operate: Operate, redis: Redis) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    life = Life(await bench.start(gate))
    await bench.send(1)
    await eventually(lambda: gate.running == 1)
    for _ in range(2):
        assert (await operations.workers.drain(life.process.id)).state == "draining"
        await bench.send(1)
        undone = await operations.workers.undo_drain(life.process.id)
        assert (undone.state, undone.problem) == ("running", "")
    assert await the_worker(operations) == life.process.id
    gate.opened.set()
    await eventually(bench.empty)
    assert await bench.total("completed") == 3
    assert not life.ended.done()
    kinds = [event.kind for event in (await operations.events.page()).items]
    assert kinds.count("worker-draining") == kinds.count("worker-resumed") == 2


async def test_an_undo_that_comes_when_its_dispatchers_have_ended_starts_them_again(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()

    async def work(ctx: dict[str, Any], number: int = 0) -> None: ...

    process = await bench.start(work)
    process.begin_drain(undoable=True, by="anna")
    (task,) = process._running
    await eventually(task.done)
    assert process.undo_drain()
    life = Life(process)
    await bench.send(2)
    await eventually(bench.empty)
    assert process.stalled_queues() == []
    process.begin_drain()
    assert await life.ended == 0


async def test_an_undo_at_any_moment_either_holds_or_comes_too_late(
    make_bench: MakeBench, operate: Operate
) -> None:
    """It never leaves a process that neither ends nor takes jobs."""
    bench = make_bench()

    async def work(ctx: dict[str, Any], number: int = 0) -> None: ...

    for moment in range(12):
        process = await bench.start(work)
        life = Life(process)
        process.begin_drain(undoable=True, by="anna")
        for _ in range(moment * 3):
            await asyncio.sleep(0)
        undone = process.undo_drain()
        if undone:
            await bench.send(1)
            await eventually(bench.empty)
            assert not life.ended.done()
            process.begin_drain()
        assert await asyncio.wait_for(life.ended, 20) == 0


async def test_a_drain_that_a_supervisor_requests_cannot_be_undone(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    process = await bench.start(gate)
    await bench.send(1)
    await eventually(lambda: gate.running == 1)
    await operations.workers.drain(process.id)
    process.begin_drain()  # SIGTERM
    with pytest.raises(ConflictError, match="cannot be undone"):
        await operations.workers.undo_drain(process.id)
    assert process.draining


@pytest.mark.slow
async def test_an_undo_withdraws_the_request_that_a_frozen_process_has_not_read(
    spawn: Spawner, make_bench: MakeBench, operate: Operate, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONFIRM_SECONDS", 0.5)
    bench = make_bench()
    operations = await operate(bench)
    spawned = await spawn()
    worker = await the_worker(operations)
    await eventually(lambda: subscribed(redis, worker))  # a process that never connected is not listed long
    spawned.send_signal(signal.SIGSTOP)
    assert (await operations.workers.drain(worker)).state == "requested"
    assert (await operations.workers.undo_drain(worker)).state == "running"
    spawned.send_signal(signal.SIGCONT)
    await bench.stock.enqueue(bench.policy.function)
    await eventually(bench.empty)
    assert await the_worker(operations) == worker
