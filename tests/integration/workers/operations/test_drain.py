"""Draining a process from another one: requests, confirmations, lost messages, undo, and who cannot drain."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.integration.workers.conftest import QUICK, MakeBench, eventually
from tests.integration.workers.operations.test_operations import Operate, operate
from tests.support.processes import Journal, Spawner
from workers.engine.keys import DRAINED, PROCESS, WORKERS
from workers.errors import ConflictError, NotFoundError, ReadOnlyError
from workers.operations import workers as module
from workers.operations.operations import Operations
from workers.operations.workers import DrainResult
from workers.process.drain import CHECK_MESSAGE, DrainRequest
from workers.process.worker_process import WorkerProcess

__all__ = ["operate"]


class Gate:
    """A handler that runs until it is let through."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.running = 0

    async def __call__(self, ctx: dict[str, Any], number: int = 0) -> None:
        self.running += 1
        await self.opened.wait()


class Life:
    """A process that ends once it has drained, as the program does."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.ended = asyncio.create_task(self._live())

    async def _live(self) -> int:
        returned = await self.process.drained()
        await self.process.close()
        return returned


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
async def spawn(redis_url: str, sqlite_url: str, journal: Journal) -> AsyncIterator[Spawner]:
    spawner = Spawner(redis=redis_url, database=sqlite_url, journal=str(journal.path))
    yield spawner
    await spawner.end()


async def subscribed(redis: Redis, worker: str) -> bool:
    return bool((await redis.pubsub_numsub(f"{PROCESS}{worker}"))[0][1])


async def the_worker(operations: Operations, state: str = "running") -> str:
    """The id of the only process, once it is connected and in this state."""

    async def found() -> str | None:
        workers = [worker for worker in await operations.workers.list() if worker.state == state]
        return workers[0].id if workers else None

    worker: str = await eventually(found)
    return worker


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


async def test_jobs_that_do_not_end_in_time_are_put_back_and_counted(
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


async def test_put_back_now_waits_for_nothing(make_bench: MakeBench, operate: Operate) -> None:
    bench, gate = make_bench(), Gate()
    operations = await operate(bench)
    life = Life(await bench.start(gate))
    await bench.send(1)
    await eventually(lambda: gate.running == 1)
    result = await operations.workers.drain(f"{os.uname().nodename}:{os.getpid()}", now=True)
    (ended,) = await operations.workers.wait([result], 20)
    assert (ended.state, ended.put_back) == ("drained", 1)
    assert await life.ended == 1


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
    assert process.standing() == []
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
    await process._presence.publish()
    assert not process.draining
    seconds, _ = await redis.time()
    await redis.hset(WORKERS, f"drain:{process.id}", b"%d " % ((seconds + 60) * 1000) + body)
    await process._presence.publish()
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
    await process._presence.publish()
    await bench.send(3)
    await eventually(bench.empty)
    assert not process.draining


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


async def test_read_only_refuses_before_it_looks(make_bench: MakeBench, operate: Operate) -> None:
    operations = await operate(make_bench(), read_only=True)
    for refused in (operations.workers.drain("x"), operations.workers.undo_drain("x")):
        with pytest.raises(ReadOnlyError):
            await refused
    with pytest.raises(ReadOnlyError):
        await operations.workers.drain_all()


async def test_a_process_that_is_killed_while_it_drains_tells_nothing_of_its_jobs(
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


async def test_reading_requests_costs_an_idle_process_no_command(make_bench: MakeBench, redis: Redis) -> None:
    """Each is billed, also those inside a script: nine for one queue, as many as without requests."""
    process = await make_bench().start(Gate())
    await eventually(lambda: subscribed(redis, process.id))

    async def commands() -> int:
        before = await redis.info("stats")
        await process._presence.publish()
        after = await redis.info("stats")
        return int(after["total_commands_processed"]) - int(before["total_commands_processed"]) - 1

    assert min([await commands() for _ in range(10)]) == 9
