"""Who holds a job, and who no longer does: lost replies, attempts that were given up, records that break."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from redis.exceptions import ResponseError
from saq import Job, Status

from storage.asyncio_tools import cancel_and_wait
from storage.redis.client import make_sync_client
from tests.support.engine import QUICK, MakeBench
from tests.support.servers import free_port
from tests.support.waiting import eventually
from workers.engine import outcome
from workers.engine.enqueueing import EnqueueResult
from workers.engine.keys import BEATS
from workers.engine.settlement import Settlement
from workers.errors import WorkerLostError
from workers.process.heartbeat import Heartbeat


async def test_e2_a_job_taken_again_behind_the_same_lost_reply_is_returned(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    done: list[str] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        done.append(ctx["job"].key)

    await bench.send(1)
    _, first = await bench.queue.take("dead", 1, [])
    job = first.jobs[0]
    process = await bench.start(work)
    dispatcher = process.dispatchers[bench.policy.name]
    await eventually(lambda: dispatcher.state == "empty")
    back = Settlement(job.id, job.lease, "return", job.body)
    await bench.queue.settle([Settlement("none", b"", "update", b"")])  # so that the server knows the script
    # In one round trip, whose reply never arrives: requeued for its dead holder, and taken by this process.
    _, take = await bench.queue.take(process.id, 1, [back])
    assert [again.id for again in take.jobs] == [job.id]
    back.resent = True
    dispatcher._settlements.append(back)
    dispatcher.request_lease_check()
    await eventually(lambda: done)
    await eventually(bench.empty)
    assert len(done) == 1


async def test_e2_a_take_that_is_carried_out_long_after_its_reply_was_given_up_loses_nothing(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(concurrency=2)
    done: list[str] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        done.append(ctx["job"].key)

    process = await bench.start(work, timings=QUICK)
    await eventually(lambda: process.dispatchers[bench.policy.name].state == "empty")
    job = Job("extract_colors", kwargs={"number": 1}, queue=bench.queue, queued=1)
    # Due, and seen by no doorbell: nobody takes it before that late take in the process's name does.
    await bench.redis.set(job.id, bench.queue.serialize(job))
    await bench.redis.zadd(bench.queue.keys.incomplete, {job.id: 1})
    _, take = await bench.queue.take(process.id, 1, [])
    assert len(take.jobs) == 1
    await eventually(lambda: done, within=15)
    await eventually(bench.empty)
    assert len(done) == 1


async def test_e8_a_job_that_is_settled_twice_in_one_call_is_settled_once(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.send(2)
    _, take = await bench.queue.take("dead", 2, [])
    error = WorkerLostError("worker dead died during the attempt")
    settlements = []
    for job, attempts in ((take.jobs[0], 0), (take.jobs[1], 3)) * 2:
        read = bench.queue.deserialize(job.body)
        assert read is not None
        read.attempts = attempts
        settlements.append(outcome.worker_died(job, read, error, policy=bench.policy, worker="dead"))
    assert [settlement.verb for settlement in settlements] == ["return", "bury"] * 2
    assert await bench.queue.settle(settlements) == [True, True, False, False]
    assert await bench.redis.zcard("couturecast:letters") == 1
    assert await bench.lists() == {"queued": 1, "active": 0, "incomplete": 1, "leases": 0}


async def test_e10_a_worker_is_dead_only_after_checks_without_a_gap(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.send()
    await bench.queue.take("silent", 1, [])
    await bench.redis.zadd(BEATS, {"silent": 1})
    looks = bench.queue.keys.looks
    assert (await bench.queue.leases_of_dead_workers(8, 4)) == [], "nobody had looked before"
    seconds, _ = await bench.redis.time()
    await bench.redis.hset(looks, mapping={"since": (seconds - 9) * 1000, "last": (seconds - 1) * 1000})
    assert len(await bench.queue.leases_of_dead_workers(8, 4)) == 1
    await bench.redis.hset(looks, mapping={"since": (seconds - 60) * 1000, "last": (seconds - 9) * 1000})
    assert (await bench.queue.leases_of_dead_workers(8, 4)) == [], "nobody looked for a while"
    await bench.redis.zadd(BEATS, {"silent": seconds * 1000})
    await bench.redis.hset(looks, mapping={"since": (seconds - 60) * 1000, "last": seconds * 1000})
    assert (await bench.queue.leases_of_dead_workers(8, 4)) == [], "it beats"


async def test_e10_a_process_that_just_started_continues_the_checks_of_others(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    again = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        again.set()

    await bench.send()
    await bench.queue.take("silent", 1, [])
    seconds, _ = await bench.redis.time()
    await bench.redis.zadd(BEATS, {"silent": (seconds - 60) * 1000})
    looks = {"since": (seconds - 60) * 1000, "last": seconds * 1000}
    await bench.redis.hset(bench.queue.keys.looks, mapping=looks)

    async def look_as_others_do() -> None:
        while True:
            await bench.queue.leases_of_dead_workers(8, 4)
            await asyncio.sleep(0.5)

    others = asyncio.create_task(look_as_others_do())
    await bench.start(work)
    await asyncio.wait_for(again.wait(), 6)  # by itself it would have to watch for eight seconds
    await cancel_and_wait([others])


@pytest.mark.slow
async def test_e10_a_process_whose_beats_do_not_arrive_doubts_its_leases() -> None:
    doubts = threading.Event()
    nowhere = make_sync_client(f"redis://127.0.0.1:{free_port()}/0")
    heartbeat = Heartbeat(nowhere, "worker", count_jobs=lambda: 1, on_silence=doubts.set)
    heartbeat.start()
    await eventually(doubts.is_set, within=20)
    await asyncio.to_thread(heartbeat.stop)


async def test_e10_an_attempt_that_lost_its_job_does_not_overwrite_its_record(make_bench: MakeBench) -> None:
    bench = make_bench(timeout=1.0, retry_delays=(0.05, 0.05))
    go_on, updated, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        job: Job = ctx["job"]
        if job.attempts > 1:
            await release.wait()
            return
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        await job.update(progress=0.9)
        updated.set()

    await bench.start(work)
    (key,) = await bench.send()

    async def record() -> tuple[int, float]:
        job = await bench.stock.job(key)
        assert job is not None
        return job.attempts, job.progress

    async def second_runs() -> bool:
        return (await record())[0] > 1

    await eventually(second_runs)
    go_on.set()
    await asyncio.wait_for(updated.wait(), 10)
    attempts, progress = await record()
    assert attempts > 1
    assert progress == 0
    release.set()
    await eventually(bench.empty)


async def test_e2_what_a_handler_leaves_in_its_job_or_error_cannot_keep_it_in_flight(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(concurrency=1, retry_delays=())

    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    async def work(ctx: dict[str, Any], number: int) -> None:
        if number == 0:
            ctx["job"].meta["left"] = object()
            raise RuntimeError("and failed")
        raise MuteError

    await bench.start(work)
    await bench.send(2)
    await eventually(bench.empty)
    await eventually(lambda: _two(bench))
    messages = " | ".join(letter.error_message for letter in (await bench.letters.page()).items)
    assert "RuntimeError, and the job cannot be written: TypeError" in messages
    assert "MuteError, and the job cannot be written: ValueError('no words')" in messages


async def _two(bench: Any) -> bool:
    return bool(await bench.letters.count() == 2)


async def test_e2_a_take_of_thousands_takes_them_in_portions(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=20_000)
    jobs = [Job("extract_colors", kwargs={"number": n}) for n in range(9_000)]
    assert all(await bench.queue.enqueue_many(jobs))
    taken = 0
    while taken < len(jobs):
        _, take = await bench.queue.take("one", 20_000, [])
        assert take.jobs
        taken += len(take.jobs)
    assert await bench.lists() == {
        "queued": 0,
        "active": 9_000,
        "incomplete": 9_000,
        "leases": 9_000,
    }


@pytest.mark.parametrize("scheduled", [float("nan"), float("inf"), ""])
async def test_e2_a_call_with_a_job_without_a_valid_time_enqueues_no_job(
    make_bench: MakeBench, scheduled: Any
) -> None:
    bench = make_bench()
    jobs = [Job("extract_colors", kwargs={"number": n}) for n in range(3)]
    jobs[1].scheduled = scheduled
    with pytest.raises(ResponseError, match="which is no time"):
        await bench.queue.enqueue_many(jobs)
    assert await bench.empty()


async def test_e1_an_aborted_running_job_ends_as_aborted_and_its_key_is_free(make_bench: MakeBench) -> None:
    bench = make_bench()
    cancelled = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    process = await bench.start(work)
    (key,) = await bench.send()
    await eventually(lambda: process.in_flight)
    job = await bench.stock.job(key)
    assert job is not None
    await bench.stock.abort(job, "not wanted")
    await eventually(cancelled.is_set)
    await eventually(bench.empty)
    await job.refresh()
    assert (job.status, job.error) == (Status.ABORTED, "not wanted")
    assert await bench.letters.count() == 0
    assert await bench.stock.enqueue("extract_colors", key=key, number=1) is not None


async def test_e10_a_lease_that_was_given_to_another_ends_the_attempt(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    cancelled = asyncio.Event()

    async def work(ctx: dict[str, Any], number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    process = await bench.start(work)
    await bench.send()
    await eventually(lambda: process.in_flight)
    ((job_id, lease),) = (await bench.queue.leases()).items()
    body = await bench.redis.get(job_id)
    await bench.queue.take("other", 1, [Settlement(job_id, lease, "return", body)])
    process.dispatchers[bench.policy.name].request_lease_check()
    await asyncio.wait_for(cancelled.wait(), 10)
    ((job_id, new),) = (await bench.queue.leases()).items()
    assert new.startswith(b"other:")
    assert await bench.queue.settle([Settlement(job_id, lease, "complete", body)]) == [False]
    assert await bench.queue.settle([Settlement(job_id, new, "complete", body)]) == [True]
    assert await bench.empty()
    assert await bench.total("completed") == 1


async def test_a_key_whose_aborted_job_still_runs_is_not_enqueued_again(make_bench: MakeBench) -> None:
    bench = make_bench()

    def twin() -> Job:
        return Job("extract_colors", kwargs={"number": 1}, key="twin")

    assert await bench.queue.enqueue_many([twin()]) == [EnqueueResult.ENQUEUED]
    _, take = await bench.queue.take("worker", 1, [])
    (leased,) = take.jobs
    job = await bench.stock.job("twin")
    assert job is not None
    await bench.stock.abort(job, "changed my mind")
    await bench.redis.delete(job.abort_id)  # SAQ's request expires, perhaps before the handler has ended
    others = [twin(), Job("extract_colors", kwargs={"number": 2}, key="other")]
    assert await bench.queue.enqueue_many(others) == [EnqueueResult.DUPLICATE, EnqueueResult.ENQUEUED]
    assert await bench.queue.settle([outcome.settle_abort(leased, job)]) == [True]
    assert await bench.queue.enqueue_many([twin()]) == [EnqueueResult.ENQUEUED]
