"""The verbs on single jobs change nothing that was not shown, and nothing that is not ours."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.job_verbs import PREFIX, QUEUE, VERBS, act, later, refs
from tests.support.waiting import eventually
from workers.engine.job_changes import JobChanges
from workers.engine.job_reader import JobReader
from workers.errors import ConflictError
from workers.operations.jobs import JobChange, JobRef


@pytest.mark.parametrize("verb", VERBS)
async def test_a_job_that_has_moved_since_it_was_shown_is_left_as_it_is(
    make_bench: MakeBench, operate: Operate, redis: Redis, verb: str
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await later(bench, "later")
    (shown,) = (await jobs.page(QUEUE, "scheduled")).items
    await redis.zadd(bench.queue.keys.incomplete, {f"{PREFIX}later": time.time() + 60})
    before = {key: await redis.dump(key) for key in await redis.keys()}
    (change,) = await act(jobs, verb, JobRef("later", shown.version))
    assert (change.outcome, change.message) == (
        "moved",
        "later: has moved since it was shown, and is scheduled now",
    )
    assert {key: await redis.dump(key) for key in await redis.keys()} == before
    with pytest.raises(ConflictError):
        change.check()
    (shown,) = (await jobs.page(QUEUE, "scheduled")).items
    (change,) = await act(jobs, verb, JobRef("later", shown.version))
    assert change.outcome == "done"


@pytest.mark.parametrize("verb", VERBS)
async def test_what_is_not_ours_never_changes(
    make_bench: MakeBench, operate: Operate, redis: Redis, verb: str
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await redis.set("somebody:key", "precious", ex=900)
    await redis.hset(f"{PREFIX}hash", "a", "b")
    await redis.rpush(bench.queue.keys.queued, "somebody:key", f"{PREFIX}hash", "saq:job:other:1")
    before = {key: await redis.dump(key) for key in await redis.keys()}
    changes = await act(jobs, verb, *refs("somebody:key", "hash", "saq:job:other:1"))
    assert [change.outcome for change in changes] == ["refused"] * 3
    assert all("not a job" in change.message for change in changes)
    assert {key: await redis.dump(key) for key in await redis.keys()} == before
    assert await redis.ttl("somebody:key") > 800


async def test_rubbish_of_the_queue_is_removed_and_neither_aborted_nor_duplicated(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await redis.set(f"{PREFIX}text", b"\xff")
    await redis.rpush(bench.queue.keys.queued, f"{PREFIX}text", f"{PREFIX}missing")
    for verb in ("abort", "run_now", "duplicate"):
        changes = await act(jobs, verb, *refs("text", "missing"))
        assert [change.outcome for change in changes] == ["refused"] * 2, verb
    assert [change.outcome for change in await jobs.remove(QUEUE, refs("text", "missing"))] == ["done"] * 2
    assert await redis.llen(bench.queue.keys.queued) == 0
    assert not await redis.exists(f"{PREFIX}text")


async def test_a_key_of_another_type_is_repaired_before_the_act(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    sent = await bench.send(2)
    await redis.delete(bench.queue.keys.failed)
    await redis.set(bench.queue.keys.failed, "x")
    (change,) = await jobs.abort(QUEUE, refs(sent[0]))
    assert change.outcome == "done"
    assert await redis.zcard(bench.queue.keys.failed) == 1


@pytest.mark.slow
async def test_acts_on_jobs_that_move_all_the_time_lose_none(make_bench: MakeBench, operate: Operate) -> None:
    """While two processes work, operators abort, hurry, duplicate and remove: each job ends exactly once."""
    bench = make_bench(concurrency=4, retry_delays=(0.02, 0.02))
    jobs = (await operate(bench)).jobs
    ended: list[str] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        await asyncio.sleep(0.001 * (number % 7))
        if number % 5 == 0 and ctx["job"].attempts == 1:
            raise RuntimeError("told to fail")
        ended.append(ctx["job"].key)

    for _ in range(2):
        await bench.start(work)
    sent = await bench.send(600)
    outcomes: dict[str, list[JobChange]] = {verb: [] for verb in VERBS}
    for start in range(0, 600, 20):
        for offset, verb in enumerate(VERBS):
            outcomes[verb] += await act(jobs, verb, *refs(*sent[start + offset : start + 20 : 4]))
    await eventually(bench.empty, within=60)
    removed = {change.key for change in outcomes["remove"] if change.outcome == "done"}
    copies = [change.new_key for change in outcomes["duplicate"] if change.outcome == "done"]
    counts = {name: await bench.total(name) for name in ("completed", "aborted")}
    ran = set(ended)
    assert len(ended) == len(ran) == counts["completed"]
    assert set(copies) <= ran
    lost = set(sent) - ran - removed
    for key in lost:
        assert json.loads(await bench.redis.get(PREFIX + key))["status"] == "aborted", key
    assert len(lost) == counts["aborted"]


@pytest.mark.parametrize("verb", ["abort", "run_now", "remove"])
async def test_a_job_that_moves_between_its_reading_and_its_change_is_left_as_it_is(
    make_bench: MakeBench, redis: Redis, verb: str
) -> None:
    bench = make_bench()
    await later(bench, "later")

    async def change() -> bool:
        changes = JobChanges(bench.queue)
        arguments = ("told",) if verb == "abort" else ()
        (done,) = await getattr(changes, verb)([found], *arguments)
        return bool(done)

    (found,) = [job async for _, jobs in JobReader(redis, QUEUE).find(["later"]) for job in jobs]
    await redis.zadd(bench.queue.keys.incomplete, {f"{PREFIX}later": time.time() + 60})
    assert not await change()
    await redis.zadd(bench.queue.keys.incomplete, {f"{PREFIX}later": float(found.mark)})
    if verb != "run_now":
        await redis.append(f"{PREFIX}later", " ")
        assert not await change()
        await redis.set(f"{PREFIX}later", found.record or b"")
    await redis.hset(bench.queue.keys.leases, f"{PREFIX}later", "w:1:1")
    assert not await change()
    await redis.hdel(bench.queue.keys.leases, f"{PREFIX}later")
    assert await change()


async def test_a_job_that_is_listed_twice_is_removed_from_both_places(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    sent = await bench.send(2)
    await redis.rpush(bench.queue.keys.queued, PREFIX + sent[0])
    await jobs.remove(QUEUE, refs(*sent))
    assert await redis.llen(bench.queue.keys.queued) == 0

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    await bench.start(work)
    await bench.send(1)
    await eventually(bench.empty)
    assert await bench.letters.count() == 0


@pytest.mark.parametrize("verb", ["abort", "run_now", "remove"])
async def test_a_ready_list_of_another_type_is_repaired_before_an_act_on_many(
    make_bench: MakeBench, operate: Operate, redis: Redis, verb: str
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await later(bench, "one", "two")
    await redis.set(bench.queue.keys.queued, "x")
    assert [change.outcome for change in await act(jobs, verb, *refs("one", "two"))] == ["done", "done"]


async def test_a_job_that_ran_and_waits_again_is_no_longer_what_was_shown(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await bench.send(1)
    (shown,) = (await jobs.page(QUEUE, "ready")).items
    record = json.loads(await redis.get(PREFIX + shown.key))
    await redis.set(PREFIX + shown.key, json.dumps(record | {"attempts": 1}))
    (change,) = await jobs.abort(QUEUE, [JobRef(shown.key, shown.version)])
    assert (change.outcome, change.message) == (
        "moved",
        f"{shown.key}: has moved since it was shown, and is ready now",
    )
    assert (await jobs.get(QUEUE, shown.key)).version != shown.version
