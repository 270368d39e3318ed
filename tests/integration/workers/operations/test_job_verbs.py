"""The verbs on single jobs, on a real server: nothing is lost, and nothing is changed that was not shown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from saq import Job
from saq.utils import now

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.job_verbs import PREFIX, QUEUE, VERBS, act, later, refs
from tests.support.waiting import eventually
from workers.engine.attempts import META
from workers.engine.keys import OUTCOMES
from workers.errors import InvalidJobError, NotFoundError, ReadOnlyError
from workers.operations.jobs import JobOperations, JobRef


async def keys_of(jobs: JobOperations, state: Any) -> list[str]:
    return [job.key for job in (await jobs.page(QUEUE, state, limit=200)).items]


async def test_a_job_that_waits_is_aborted_and_stays_readable(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    sent = await bench.send(3)
    await later(bench, "later")
    changes = await jobs.abort(QUEUE, refs(sent[1], "later"), "wrong import, token=opensesame")
    assert [change.outcome for change in changes] == ["done", "done"]
    assert await keys_of(jobs, "ready") == [sent[0], sent[2]]
    assert await keys_of(jobs, "scheduled") == []
    for key in (sent[1], "later"):
        job = await jobs.get(QUEUE, key)
        assert (job.state, job.status) == ("failed", "aborted")
        assert job.error == "aborted by ops@box-2: wrong import, token=***"
        assert job.why is not None
        assert job.why.cause == "aborted"
        assert job.why.sentence.endswith(": aborted by ops@box-2: wrong import, token=***")
        assert "opensesame" not in str(job)
        assert await bench.redis.ttl(PREFIX + key) > 0
    assert await bench.total("aborted") == 2
    stock = await bench.stock.job(sent[1])
    assert stock is not None
    assert stock.status == "aborted"


async def test_a_producer_that_waits_for_a_job_gets_to_know_that_it_was_aborted(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    job = await bench.stock.enqueue("extract_colors", key="dress-17", number=1)
    assert job is not None
    waiting = asyncio.create_task(job.refresh(until_complete=30))
    await asyncio.sleep(0.2)
    await jobs.abort(QUEUE, refs("dress-17"))
    await waiting
    assert job.status == "aborted"


async def test_a_job_that_runs_is_cancelled_by_its_worker(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(ctx: dict[str, Any], number: int) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await bench.start(wait)
    (key,) = await bench.send()
    await began.wait()
    (change,) = await jobs.abort(QUEUE, refs(key))
    assert change.outcome == "done"
    lists = await bench.lists()
    assert cancelled.is_set() or (lists["leases"], lists["active"]) == (1, 1), (
        "it is held until it is settled"
    )
    await eventually(cancelled.is_set)

    async def aborted() -> bool:
        return (await jobs.get(QUEUE, key)).status == "aborted"

    await eventually(aborted)
    await eventually(bench.empty)
    assert await bench.letters.count() == 0
    assert await bench.stock.enqueue("extract_colors", key=key, number=1), "its key is free again"


async def test_a_scheduled_job_a_retry_and_a_ready_one_come_to_the_head(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=(600.0,), concurrency=1)
    jobs = (await operate(bench)).jobs
    ran: list[int] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        ran.append(number)
        if number == 100 and len(ran) == 1:
            raise RuntimeError("told to fail")

    await bench.start(work)
    await bench.stock.enqueue("extract_colors", key="retry", number=100)

    async def waits_for_retry() -> bool:
        return await keys_of(jobs, "scheduled") == ["retry"]

    await eventually(waits_for_retry)
    job = await jobs.get(QUEUE, "retry")
    assert job.why is not None
    assert (job.why.cause, job.why.sentence[:12]) == ("scheduled", "retry 1 of 1")
    operations = await operate(bench)
    await operations.queues.pause(QUEUE)
    sent = await bench.send(5)
    await later(bench, "later")
    changes = await jobs.run_now(QUEUE, refs("retry", "later", sent[4]))
    assert [change.outcome for change in changes] == ["done"] * 3
    assert await keys_of(jobs, "ready") == ["retry", "later", sent[4], *sent[:4]]
    await operations.queues.resume(QUEUE)
    await eventually(bench.empty)
    assert sorted(ran) == [0, 0, 1, 2, 3, 4, 100, 100]
    assert ran[1] == 100


async def test_a_scheduled_job_that_is_hurried_starts_at_once(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    ran = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        ran.set()

    await later(bench, "later")
    await bench.start(work)
    await jobs.run_now(QUEUE, refs("later"))
    await asyncio.wait_for(ran.wait(), 20)


async def test_a_duplicate_has_the_payload_and_a_key_of_its_own(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    jobs = (await operate(bench)).jobs
    seen: list[dict[str, Any]] = []

    async def work(ctx: dict[str, Any], **arguments: Any) -> None:
        seen.append(arguments)
        raise RuntimeError("told to fail")

    await bench.start(work)
    payload = {"empty": [], "large": 2**70, "text": "ä\\"}
    await bench.stock.enqueue("extract_colors", key="dress-17", meta={"tenant": "shop"}, **payload)
    await eventually(bench.letters.count)
    (change,) = await jobs.duplicate(QUEUE, refs("dress-17"))
    assert change.new_key not in (None, "dress-17")
    await eventually(lambda: len(seen) == 2)
    assert seen == [payload, payload]

    async def both() -> bool:
        return await bench.letters.count() == 2

    await eventually(both)
    copy = await jobs.get(QUEUE, str(change.new_key))
    assert (copy.attempt, copy.meta) == (1, {"tenant": "shop"})
    assert (copy.producer, copy.replay_of) == ("a duplicate of dress-17", None)


async def test_jobs_that_wait_or_have_ended_are_removed_and_one_that_runs_is_not(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(concurrency=1)
    jobs = (await operate(bench)).jobs
    release = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        if number == 0:
            await release.wait()

    await bench.start(work)
    sent = await bench.send(3)
    await later(bench, "later")

    async def runs() -> bool:
        return await keys_of(jobs, "running") == sent[:1]

    await eventually(runs)
    changes = await jobs.remove(QUEUE, refs(*sent[:2], "later", "nothing"))
    assert [change.outcome for change in changes] == ["refused", "done", "done", "gone"]
    assert changes[0].message == f"{sent[0]}: runs: a job that runs is not removed, abort it"
    release.set()
    await eventually(bench.empty)
    assert await keys_of(jobs, "done") == [sent[2], sent[0]]
    assert [change.outcome for change in await jobs.remove(QUEUE, refs(sent[0]))] == ["done"]
    assert await keys_of(jobs, "done") == [sent[2]]
    assert not await bench.redis.exists(PREFIX + sent[0], PREFIX + sent[1], f"{PREFIX}later")


async def test_a_replay_that_is_aborted_or_removed_ends_in_its_ledger(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    meta = {META: {"replay_of": 7, "replay": 3}}
    for key in ("a", "b"):
        await bench.queue.enqueue(Job(function="extract_colors", key=key, queued=now(), meta=meta))
    await jobs.abort(QUEUE, refs("a"))
    assert await redis.zrange(OUTCOMES, 0, -1) == [b"7:3:aborted"]
    await redis.delete(OUTCOMES)
    await jobs.remove(QUEUE, refs("b"))
    assert await redis.zrange(OUTCOMES, 0, -1) == [b"7:3:aborted"]
    await jobs.remove(QUEUE, refs("a"))
    assert await redis.zcard(OUTCOMES) == 1


async def test_each_act_is_one_row_and_one_event_whatever_the_number(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    operations = await operate(bench)
    sent = await bench.send(3)
    await operations.jobs.abort(QUEUE, refs(*sent, "nothing"), "wrong import")
    (action,) = await operations.recent_actions()
    assert (action.verb, action.affected, action.reason) == ("abort", 3, "wrong import")
    assert (action.arguments["queue"], action.arguments["count"]) == (QUEUE, 4)
    assert action.outcome == "3 done, 1 gone"
    (event,) = (await operations.events.page()).items
    assert (event.kind, event.queue) == ("jobs-aborted", QUEUE)
    assert event.message == f"ops@box-2 aborted 3 jobs of {QUEUE}: wrong import"
    await operations.jobs.remove(QUEUE, refs(sent[0]))
    (event, _) = (await operations.events.page()).items
    assert (event.kind, event.subject) == ("jobs-removed", sent[0])


async def test_read_only_mode_refuses_every_verb(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench, read_only=True)).jobs
    sent = await bench.send(1)
    for verb in VERBS:
        with pytest.raises(ReadOnlyError):
            await act(jobs, verb, JobRef(sent[0]))
    assert await keys_of(jobs, "ready") == sent


async def test_too_many_jobs_and_unknown_ones_are_refused(make_bench: MakeBench, operate: Operate) -> None:
    jobs = (await operate(make_bench())).jobs
    with pytest.raises(InvalidJobError, match="1,001 jobs are more than 1,000"):
        await jobs.abort(QUEUE, refs(*map(str, range(1_001))))
    (change,) = await jobs.abort(QUEUE, refs("nothing"))
    with pytest.raises(NotFoundError):
        change.check()
