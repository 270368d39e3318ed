"""Foreign producers and careless handlers: they cause a dead letter, never a dead process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from saq import Job, Status

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.integration.workers.engine.conftest import has_letters
from tests.support.engine import Bench, MakeBench
from tests.support.operations import build_operations
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import QueuePolicy
from workers.engine.runner import JobRunner, RunningJob
from workers.process.worker_process import WorkerProcess

RECORD: dict[str, Any] = {"function": "extract_colors", "queue": "color-extraction", "kwargs": {"number": 1}}


async def _push(bench: Bench, job_id: bytes, record: dict[str, Any]) -> None:
    await bench.redis.set(job_id, json.dumps(record))
    await bench.redis.zadd(bench.queue.keys.incomplete, {job_id: 0})
    await bench.redis.rpush(bench.queue.keys.queued, job_id)


@pytest.mark.parametrize("name", ["sqlite_url", "postgres_url"])
async def test_e7_e8_invalid_records_are_buried_and_the_next_job_runs(
    make_bench: MakeBench, request: pytest.FixtureRequest, name: str
) -> None:
    bench = make_bench()
    database = Database(request.getfixturevalue(name))
    await database.start()
    bench.letters = DeadLetterRepository(database)
    odd: list[dict[str, Any]] = [
        {"scheduled": "abc"},
        {"queued": 10**400},
        {"started": math.nan},
        {"attempts": None},
        {"attempts": 0.5},
        {"attempts": 2.0},
        {"attempts": -1},
        {"attempts": True},
        {"attempts": 2**40},
        {"key": {"a": 1}},
        {"key": 5},
        {"touched": [1]},
    ]
    for n, change in enumerate(odd):
        await _push(bench, b"saq:job:color-extraction:odd%d" % n, {"key": f"odd{n}", **RECORD, **change})
    await _push(bench, b"saq:job:color-extraction:\xff", {"key": "ff", **RECORD})

    async def work(ctx: dict[str, Any], number: int) -> str:
        return "done"

    process = await bench.start(work)
    await bench.stock.enqueue("extract_colors", key="good", number=2)
    await eventually(lambda: bench.total("completed"))
    await eventually(lambda: has_letters(bench, len(odd) + 1), what="a letter for each")
    assert all(letter.attempts == 1 for letter in (await bench.letters.page()).items)
    assert not process.draining
    assert await bench.empty()
    process.begin_drain()
    await process.wait_drained()
    await process.close()
    bench.processes.remove(process)
    await database.close()


async def test_e6_attempts_that_are_no_number_of_attempts_fill_no_slots(make_bench: MakeBench) -> None:
    bench = make_bench()
    for n in range(5):
        job_id = b"saq:job:color-extraction:half%d" % n
        await _push(bench, job_id, {"key": f"half{n}", **RECORD, "attempts": 0.5})

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise RuntimeError("told to fail")

    await bench.start(fail)
    await eventually(lambda: has_letters(bench, 5))
    assert await bench.empty()


async def test_e6_an_attempt_whose_end_cannot_be_written_ends(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(timeout=0.3)
    release = asyncio.Event()

    class MuteError(Exception):
        def __str__(self) -> str:
            raise self

        __repr__ = __str__

    async def work(ctx: dict[str, Any], number: int) -> None:
        if number == 0:
            raise MuteError
        while not release.is_set():  # deaf to its cancellation
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise TypeError("never")

    monkeypatch.setattr("workers.engine.outcome.settle_failure", refuse)
    await bench.start(work)
    await bench.send(2)
    await eventually(lambda: has_letters(bench, 2))
    assert await bench.empty()
    found = {letter.job_data["unreadable"] != "" for letter in (await bench.letters.page()).items}
    assert found == {True}
    release.set()


async def test_e6_a_job_whose_timeout_fails_does_not_keep_others_from_theirs(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(timeout=0.3, retry_delays=())
    cancel = JobRunner.cancel

    def odd(self: JobRunner, running: RunningJob, cause: str) -> None:
        if running.job.kwargs == {"number": 0}:
            raise TypeError("an odd job")
        cancel(self, running, cause)

    async def sleep(ctx: dict[str, Any], number: int) -> None:
        await asyncio.sleep(30)

    with monkeypatch.context() as patched:
        patched.setattr(JobRunner, "cancel", odd)
        await bench.start(sleep)
        await bench.send(3)
        await eventually(lambda: has_letters(bench, 2))


@pytest.mark.slow
async def test_e10_an_odd_record_that_a_dead_process_held_is_buried_by_the_next(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    await _push(bench, b"saq:job:color-extraction:\xfe", {"key": "fe", **RECORD, "queued": "x"})
    _, take = await bench.queue.take("dead-worker", 1, [])
    assert len(take.jobs) == 1
    await bench.redis.delete("couturecast:beats")

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    await eventually(bench.letters.count, within=25)
    assert await bench.empty()


@pytest.mark.slow
async def test_e10_a_job_whose_data_is_of_another_type_breaks_neither_recovery_nor_the_snapshot(
    make_bench: MakeBench, database: Database
) -> None:
    bench = make_bench()
    job_id = b"saq:job:color-extraction:list"
    await bench.redis.rpush(job_id, "no", "job")
    await bench.redis.rpush(bench.queue.keys.queued, job_id)
    operations = build_operations(
        bench.url, policies=[bench.policy], schemas={}, database=database, letters=bench.letters
    )
    snapshot = await operations.snapshot()
    assert (snapshot.redis.error, snapshot.queues[0].depth) == (None, 1)
    await operations.close()
    await bench.queue.take("dead-worker", 1, [])
    await bench.redis.delete("couturecast:beats")

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    await eventually(bench.letters.count, within=25)
    assert await bench.empty()


async def test_a_payload_that_is_not_finite_is_the_same_in_each_attempt(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(0.05,))
    seen: list[float] = []

    async def fail(ctx: dict[str, Any], number: float) -> None:
        seen.append(number)
        raise RuntimeError("once more")

    await bench.start(fail)
    await bench.stock.enqueue("extract_colors", number=math.inf)
    await eventually(bench.letters.count)
    assert seen == [math.inf, math.inf]


async def test_a_replay_keeps_the_meta_of_its_producer(make_bench: MakeBench, database: Database) -> None:
    bench = make_bench(retry_delays=())
    seen: list[dict[str, Any]] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        seen.append(ctx["job"].meta)
        if len(seen) == 1:
            raise RuntimeError("told to fail")

    await bench.start(work)
    await bench.stock.enqueue(Job("extract_colors", kwargs={"number": 1}, meta={"tenant": "t1"}))
    await eventually(bench.letters.count)
    (letter,) = (await bench.letters.page()).items
    operations = build_operations(
        bench.url, policies=[bench.policy], schemas={}, database=database, letters=bench.letters
    )
    await operations.replays.replay(letter.id)
    await eventually(lambda: len(seen) == 2)
    await operations.close()
    assert seen[1]["tenant"] == "t1"


async def test_what_a_foreign_extension_raises_is_the_error_of_the_attempt(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=())

    class Panic(BaseException):
        pass

    async def panic(ctx: dict[str, Any], number: int) -> None:
        raise Panic("index out of bounds")

    await bench.start(panic)
    await bench.send()
    await eventually(bench.letters.count)
    (letter,) = (await bench.letters.page()).items
    assert letter.error_message == "index out of bounds"
    assert await bench.empty()


async def test_e10_an_attempt_whose_job_came_back_to_its_own_process_is_ended(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    ended: list[str] = []
    started = 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal started
        started += 1
        try:
            await asyncio.sleep(60 if started == 1 else 0)
        except asyncio.CancelledError:
            ended.append("first")
            raise

    process = await bench.start(work)
    (key,) = await bench.send()
    await eventually(lambda: started == 1)
    job_id = bench.queue.job_id(key)
    leases = await bench.queue.leases()
    body = await bench.queue.body(job_id)
    from workers.engine import outcome
    from workers.engine.settlement import LeasedJob

    assert await bench.queue.settle([outcome.give_back(LeasedJob(job_id, leases[job_id], body))]) == [True]
    process.dispatchers[bench.policy.name].wake()
    await eventually(lambda: ended == ["first"])
    await eventually(lambda: bench.total("completed"))
    assert await bench.empty()


async def test_e1_an_abort_whose_word_was_missed_is_carried_out(make_bench: MakeBench) -> None:
    bench = make_bench()
    running = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        running.set()
        await asyncio.Event().wait()

    await bench.start(work)
    (key,) = await bench.send()
    await running.wait()
    job = await bench.stock.job(key)
    assert job is not None
    job.status, job.error = Status.ABORTING, "not needed"  # what SAQ's abort does besides its word
    pipeline = bench.redis.pipeline(
        transaction=True
    )  # in two steps our own record of the job may come between
    pipeline.zrem(bench.queue.keys.incomplete, job.id)
    pipeline.set(job.id, bench.stock.serialize(job))
    await pipeline.execute()

    async def aborted() -> bool:
        again = await bench.stock.job(key)
        return again is not None and again.status == Status.ABORTED

    await eventually(aborted)
    assert await bench.empty()


async def test_e9_a_drain_with_nothing_in_flight_is_quick_while_redis_is_down(
    tmp_path: Path, database: Database
) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()

    async def work(ctx: dict[str, Any]) -> None: ...

    policy = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)
    process = WorkerProcess(
        server.url,
        policies=[policy],
        functions={policy.name: work},
        letters=DeadLetterRepository(database),
        drain_seconds=600,
    )
    await process.start()
    redis = make_client(server.url)
    await eventually(lambda: redis.exists("couturecast:workers"))
    await redis.aclose()
    server.kill()
    await eventually(lambda: process.redis_error is not None, within=20)
    began = time.monotonic()
    process.begin_drain()
    assert await process.wait_drained() == 0
    await process.close()
    assert time.monotonic() - began < 60, "and not the 600 s that jobs in flight would have"
