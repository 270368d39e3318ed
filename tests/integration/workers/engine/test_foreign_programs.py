"""What other programs, a clock that jumps and missing rights do to a queue: it goes on, all else stays."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from saq import Job, Status

from storage.database.engine import Database
from storage.redis.client import execute, make_client
from tests.integration.workers.conftest import QUICK, Bench, MakeBench, eventually
from tests.support.operations import build_operations
from workers.engine import reconciler
from workers.engine.keys import BEATS, CRON, WAKE_CHANNEL
from workers.engine.policy import RateLimit
from workers.engine.schedules import Schedule, Scheduler
from workers.engine.settlement import Settlement
from workers.monitoring.descriptions import descriptions

OTHER_JOB = "saq:job:alert-fanout:waits"


async def succeed(ctx: dict[str, Any], number: int) -> None: ...


async def _next_job_runs(bench: Bench) -> None:
    done = await bench.total("completed")
    assert await bench.stock.enqueue("extract_colors", number=1) is not None
    await eventually(lambda: _completed(bench, done + 1), what="the next job")
    await eventually(bench.empty, what="nothing is held")


async def _completed(bench: Bench, count: int) -> bool:
    return await bench.total("completed") >= count


async def _letters(bench: Bench, count: int) -> bool:
    return await bench.letters.count() == count


@pytest.mark.parametrize("job_id", [b"", b"\xff\xfe", b"saq:job:", b"no id"])
async def test_e14_an_id_that_names_no_job_becomes_one_dead_letter(
    make_bench: MakeBench, job_id: bytes
) -> None:
    bench = make_bench()
    await bench.start(succeed)
    await bench.redis.rpush(bench.queue.keys.queued, job_id)
    await eventually(lambda: _letters(bench, 1))
    await _next_job_runs(bench)
    await bench.redis.rpush(bench.queue.keys.queued, job_id)
    await _next_job_runs(bench)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("precious", ("SET", "precious", "gold")),
        ("fleeting", ("SET", "fleeting", "gold", "PX", 3_600_000)),
        ("plain", ("RPUSH", "plain", "a", "b")),
        (
            OTHER_JOB,
            ("SET", OTHER_JOB, '{"function": "fan_out_alert", "key": "waits", "queue": "alert-fanout"}'),
        ),
        ("couturecast:alert-fanout:totals", ("HSET", "couturecast:alert-fanout:totals", "completed", 7)),
    ],
)
@pytest.mark.parametrize("taken_by", ["a living process", "a dead process"])
async def test_e14_a_key_that_a_foreign_id_names_never_changes(
    make_bench: MakeBench, name: str, words: tuple[Any, ...], taken_by: str
) -> None:
    bench = make_bench()
    await execute(bench.redis, *words)
    before = await execute(bench.redis, "DUMP", name), await execute(bench.redis, "PEXPIRETIME", name)
    await bench.redis.rpush(bench.queue.keys.queued, name)
    if taken_by == "a dead process":
        _, take = await bench.queue.take("dead-worker", 1, [])
        assert [job.body for job in take.jobs] == [b""]
        await bench.redis.delete(BEATS)
    await bench.start(succeed, timings=QUICK)
    await eventually(lambda: _letters(bench, 1))
    assert (await bench.letters.page()).items[0].job_id == name
    assert (
        await execute(bench.redis, "DUMP", name),
        await execute(bench.redis, "PEXPIRETIME", name),
    ) == before
    await _next_job_runs(bench)


async def test_e14_ids_that_fall_out_of_the_newest_keep_their_keys(make_bench: MakeBench) -> None:
    """A foreign program may write any id into the lists of the newest ended jobs."""
    bench = make_bench()
    await bench.redis.set("precious", "gold")
    for key in (bench.queue.keys.completed, bench.queue.keys.failed):
        await bench.redis.zadd(key, {f"junk-{number}": number for number in range(1100)} | {"precious": -1})
    await bench.start(succeed)
    await bench.send(3)
    await eventually(lambda: _completed(bench, 3))
    assert await bench.redis.zscore(bench.queue.keys.completed, "precious") is None
    assert await bench.redis.ttl("precious") == -1


async def test_e14_a_job_that_is_listed_twice_dies_once(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1, retry_delays=(0.05, 0.05, 0.05))
    runs: Counter[str] = Counter()

    async def fail(ctx: dict[str, Any], number: int) -> None:
        runs[ctx["job"].key] += 1
        raise RuntimeError("told to fail")

    job = await bench.stock.enqueue("extract_colors", key="twice", number=1)
    assert job is not None
    await bench.redis.rpush(bench.queue.keys.queued, job.id, job.id)
    await bench.start(fail)
    await eventually(lambda: _letters(bench, 1))
    await bench.redis.rpush(bench.queue.keys.queued, job.id)
    await eventually(bench.empty, what="the listing of a dead job is dropped")
    assert runs == {"twice": 4}
    assert await bench.letters.count() == 1
    assert await bench.total("repaired:duplicate") == 3


async def test_e14_a_listing_starts_no_retry_before_its_time(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(1.0,))
    started: list[float] = []

    async def fail(ctx: dict[str, Any], number: int) -> None:
        started.append(time.monotonic())
        raise RuntimeError("told to fail")

    await bench.start(fail)
    (key,) = await bench.send()
    await eventually(lambda: _scheduled(bench))
    await bench.redis.rpush(bench.queue.keys.queued, bench.queue.job_id(key))
    await eventually(lambda: _letters(bench, 1))
    assert len(started) == 2
    assert started[1] - started[0] >= 1.0


async def _scheduled(bench: Bench) -> bool:
    return bool(await bench.redis.zcount(bench.queue.keys.incomplete, 1, "+inf"))


@pytest.mark.parametrize("score", [0, -5, "-inf", "+inf"])
async def test_e14_an_id_without_a_job_frees_its_key(make_bench: MakeBench, score: Any) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    await execute(bench.redis, "ZADD", bench.queue.keys.incomplete, score, bench.queue.job_id("ghost"))
    await process._scheduled.check()  # what a process does every few seconds
    await eventually(lambda: _letters(bench, 1))
    await eventually(bench.empty)
    assert await bench.stock.enqueue("extract_colors", key="ghost", number=1) is not None
    await eventually(lambda: _completed(bench, 1))


@pytest.mark.parametrize("lost", ["queued", "incomplete", "leases", "active"])
@pytest.mark.parametrize("how", ["deleted", "of another type"])
async def test_e14_jobs_whose_list_is_gone_run(make_bench: MakeBench, lost: str, how: str) -> None:
    bench = make_bench(concurrency=2)
    runs: Counter[str] = Counter()

    async def work(ctx: dict[str, Any], number: int) -> None:
        runs[ctx["job"].key] += 1
        await asyncio.sleep(0.3)

    process = await bench.start(work)
    keys = await bench.send(6)
    await eventually(lambda: process.in_flight == 2)
    name = getattr(bench.queue.keys, lost)
    await bench.redis.delete(name)
    if how == "of another type":
        await bench.redis.set(name, "surprise")
    await eventually(lambda: _is_whole(bench, name))
    await eventually(lambda: _completed(bench, 6), within=20)
    await eventually(bench.empty)
    assert set(runs) == set(keys)
    assert process.dispatchers[bench.policy.name].settled["complete"] == 6
    if how == "of another type":
        (aside,) = await bench.redis.keys(f"{bench.queue.keys.aside}{lost}:*")
        assert await bench.redis.get(aside) == b"surprise"
        assert 0 < await bench.redis.ttl(aside) <= 7 * 86_400


async def _is_whole(bench: Bench, name: str) -> bool:
    await bench.queue.reconciler.reconcile(now=True)
    return await bench.redis.type(name) != b"string"


async def test_e14_a_producer_finds_a_list_of_another_type_repaired(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.redis.set(bench.queue.keys.queued, "surprise")
    await bench.queue.enqueue_many([Job("extract_colors", kwargs={"number": 1})])
    assert await bench.redis.llen(bench.queue.keys.queued) == 1


@pytest.mark.parametrize("lease", [b"", b":", b"nobody", b"nobody:x:y", b"\xff:1:1", b"ghost:1:1"])
async def test_e14_a_lease_without_a_holder_takes_no_slot_for_good(
    make_bench: MakeBench, lease: bytes
) -> None:
    bench = make_bench(concurrency=1)
    await bench.redis.hset(bench.queue.keys.leases, bench.queue.job_id("ghost"), lease)
    await bench.start(succeed, timings=QUICK)
    await bench.send(2)
    await eventually(lambda: _completed(bench, 2), within=20)
    await eventually(bench.empty)


async def test_e14_leases_that_name_this_process_by_mistake_are_given_back(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=1)
    process = await bench.start(succeed)
    await bench.redis.hset(bench.queue.keys.leases, bench.queue.job_id("ghost"), f"{process.id}:1:1")
    await _next_job_runs(bench)


async def test_e3_a_process_whose_leases_are_gone_stops_what_it_runs(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    started, at_once = 0, 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal started, at_once
        started += 1
        if started <= 2:
            at_once += 1
            try:
                await asyncio.Event().wait()
            finally:
                at_once -= 1

    process = await bench.start(work)
    await bench.send(2)
    await eventually(lambda: at_once == 2)
    await bench.redis.delete(bench.queue.keys.leases)
    process.dispatchers[bench.policy.name].wake()
    await eventually(lambda: at_once == 0)
    await eventually(lambda: _reconciled(bench))
    await eventually(lambda: _completed(bench, 2))
    await eventually(bench.empty)


async def _reconciled(bench: Bench) -> bool:
    await bench.queue.reconciler.reconcile(now=True)
    return True


async def test_e14_a_user_without_channels_finishes_jobs(make_bench: MakeBench, redis_url: str) -> None:
    """A script does not break off half way where PUBLISH is not allowed."""
    bench = make_bench(retry_delays=(0.05,))
    await execute(bench.redis, "ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
    bench.url = redis_url.replace("redis://", "redis://mute:secret@")
    runs: Counter[int] = Counter()

    async def work(ctx: dict[str, Any], number: int) -> None:
        runs[number] += 1
        if number and runs[number] == 1:
            raise RuntimeError("once more")

    try:
        await bench.start(work)
        await bench.send(2)
        await eventually(lambda: _completed(bench, 2))
        await eventually(bench.empty)
        assert runs == {0: 1, 1: 2}
        delayed = Job("extract_colors", kwargs={"number": 5}, scheduled=int(time.time()) + 3600)
        mute = make_client(bench.url)
        assert await type(bench.queue)(mute, bench.policy).enqueue_many([delayed]) == [True]
        await mute.aclose()
    finally:
        await execute(bench.redis, "ACL", "DELUSER", "mute")


HOUR = 3600.0


async def test_e14_starts_that_lie_ahead_block_no_longer_than_their_window(make_bench: MakeBench) -> None:
    """The server's clock was set back: the last starts are an hour ahead of it."""
    bench = make_bench(rate_limit=RateLimit(2, 0.5))
    now, _ = await bench.redis.time()
    for number in range(2):
        await bench.redis.zadd(bench.queue.keys.starts, {f"before-{number}": (now + HOUR) * 1e6})
    await bench.start(succeed)
    began = time.monotonic()
    await bench.send(2)
    await eventually(lambda: _completed(bench, 2))
    assert time.monotonic() - began >= 0.5, "they count as starts of this moment"


async def test_e14_a_beat_that_lies_ahead_does_not_keep_the_dead_alive(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.send()
    await bench.queue.take("dead-worker", 1, [])
    now, _ = await bench.redis.time()
    ahead = (now + HOUR) * 1000
    await bench.redis.zadd(BEATS, {"dead-worker": ahead})
    await bench.redis.hset(bench.queue.keys.looks, mapping={"since": ahead, "last": ahead, "told": ahead})
    await bench.start(succeed, timings=QUICK)
    await eventually(lambda: _completed(bench, 1))
    await eventually(bench.empty)


async def test_e14_retries_that_lie_ahead_are_brought_forward(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(0.3,))
    attempts = 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("once more")

    await bench.start(work)
    (key,) = await bench.send()
    later = Job(
        "extract_colors", key="tomorrow", kwargs={"number": 2}, scheduled=int(time.time() + 24 * HOUR)
    )
    await bench.queue.enqueue_many([later])
    await eventually(lambda: attempts == 1)
    now, _ = await bench.redis.time()
    ids = {bench.queue.job_id(key): now + HOUR}
    await execute(bench.redis, "ZADD", bench.queue.keys.incomplete, "XX", now + HOUR, *ids)
    await bench.redis.hset(bench.queue.keys.looks, "reconciled", (now + HOUR) * 1000)
    assert await bench.queue.reconciler.reconcile() == {"late": 1}
    await eventually(lambda: _completed(bench, 1))
    assert await bench.redis.zrange(bench.queue.keys.incomplete, 0, -1) == [
        bench.queue.job_id("tomorrow").encode()
    ]


@pytest.mark.parametrize("written", ["ahead", "junk"])
async def test_e14_a_schedule_goes_on_after_an_occurrence_that_lies_ahead(
    make_bench: MakeBench, written: str
) -> None:
    bench = make_bench()

    async def jobs() -> dict[str, dict[str, Any]]:
        return {"by-clock": {"number": 1}}

    schedule = Schedule("weather", "*/15 * * * *", bench.policy.name, jobs)
    now, _ = await bench.redis.time()
    value = (
        int(schedule.previous_occurrence(datetime.fromtimestamp(now + HOUR, UTC)).timestamp())
        if written == "ahead"
        else "soon"
    )
    await bench.redis.hset(CRON, "weather", value)
    await Scheduler(schedule, bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 1
    await Scheduler(schedule, bench.queue).run_due()
    assert await bench.redis.llen(bench.queue.keys.queued) == 1


async def test_e13_a_queue_that_is_checked_is_not_checked_again_within_a_minute(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    assert await bench.queue.reconciler.reconcile() == Counter()
    assert await bench.queue.reconciler.reconcile() is None


async def test_e14_a_job_whose_id_is_on_no_key_is_found_soon_after_the_first_check(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "_FIRST_SEARCH_SECONDS", 0.2)
    bench = make_bench()
    await bench.redis.set(bench.queue.job_id("lost"), b'{"status": "queued"}')
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()
    await asyncio.sleep(0.25)
    assert await bench.queue.reconciler.reconcile(now=True) == {"unknown": 1}
    assert await bench.redis.llen(bench.queue.keys.queued) == 1


@pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_e14_many_jobs_that_are_on_no_list_are_listed_again(make_bench: MakeBench, count: int) -> None:
    bench = make_bench()
    for start in range(0, count, 1000):
        ids = [bench.queue.job_id(str(number)) for number in range(start, start + 1000)]
        await bench.redis.mset(dict.fromkeys(ids, b"{}"))
        await bench.redis.zadd(bench.queue.keys.incomplete, dict.fromkeys(ids, 0))
        await bench.redis.rpush(bench.queue.keys.queued, *ids)
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()
    await bench.redis.ltrim(bench.queue.keys.queued, count // 2, -1)
    assert await bench.queue.reconciler.reconcile(now=True) == {"unlisted": count // 2}
    assert await bench.redis.llen(bench.queue.keys.queued) == count
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()


async def test_e15_a_broken_key_is_named_and_its_repair_is_counted(
    make_bench: MakeBench, database: Database
) -> None:
    bench = make_bench()
    await bench.send()
    name = bench.queue.keys.incomplete
    await bench.redis.set(name, "surprise")
    operations = build_operations(
        bench.url, policies=[bench.policy], schemas={}, database=database, letters=bench.letters
    )
    try:
        (queue,) = (await operations.snapshot()).queues
        assert (queue.depth, queue.broken_keys) == (1, (name,))
        assert any(name in words for words in descriptions(queue))
        await bench.queue.reconciler.reconcile(now=True)
        (queue,) = (await operations.snapshot()).queues
        assert (queue.depth, queue.broken_keys) == (1, ())
        assert queue.repairs | {"type": 1, "unindexed": 1} == queue.repairs
    finally:
        await operations.close()


async def test_e14_messages_that_are_not_text_wake_no_process_and_end_nothing(make_bench: MakeBench) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    await eventually(lambda: bench.redis.pubsub_numsub(WAKE_CHANNEL))
    for message in (b"\xff\xfe", b"", b"color-extraction \xff", b"nobody held"):
        await bench.redis.publish(WAKE_CHANNEL, message)
    later = Job("extract_colors", kwargs={"number": 1}, scheduled=int(time.time()) + 1)
    await bench.queue.enqueue_many([later])  # only a nudge says so in time
    await eventually(lambda: _completed(bench, 1), within=4)
    assert not process.draining


async def test_e14_a_turn_that_fails_by_a_defect_is_tried_again(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    dispatcher = process.dispatchers[bench.policy.name]
    await eventually(dispatcher.turned.is_set)
    with monkeypatch.context() as patched:
        patched.setattr(dispatcher, "_handle_take", _raise_defect)
        await bench.send(3)
        await eventually(lambda: dispatcher.overdue_seconds() > 0.3)
        assert not process.draining
    await eventually(lambda: _completed(bench, 3))
    await eventually(bench.empty)
    assert dispatcher.overdue_seconds() < 5


async def _raise_defect(take: object) -> None:
    raise LookupError("a defect")


async def test_e14_a_long_queue_that_moves_is_not_listed_twice(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(concurrency=50)
    count = 6_000
    jobs = [Job("extract_colors", kwargs={"number": number}) for number in range(count)]
    assert all(await bench.queue.enqueue_many(jobs))
    await bench.redis.lpush(bench.queue.keys.queued, jobs[-1].id)  # listed twice: the numbers differ
    read = bench.queue.reconciler._queued_ids

    async def read_while_jobs_are_taken() -> AsyncIterator[list[bytes]]:
        async for ids in read():
            yield ids
            _, take = await bench.queue.take("worker", 50, [])
            done = [Settlement(job.id, job.lease, "complete", job.body) for job in take.jobs]
            await bench.queue.settle(done)

    monkeypatch.setattr(bench.queue.reconciler, "_queued_ids", read_while_jobs_are_taken)
    assert await bench.queue.reconciler.reconcile(now=True) == Counter()
    left = count - await bench.total("completed")
    assert await bench.redis.llen(bench.queue.keys.queued) in (left, left + 1)


async def test_e14_a_living_process_whose_beat_was_removed_keeps_its_job(make_bench: MakeBench) -> None:
    bench = make_bench()
    await bench.send()
    await bench.queue.take("living", 1, [])
    seconds, _ = await bench.redis.time()
    looks = {"since": (seconds - 60) * 1000, "last": seconds * 1000}
    await bench.redis.hset(bench.queue.keys.looks, mapping=looks)
    await bench.redis.delete(BEATS)
    assert (await bench.queue.leases_of_dead_workers(8, 4)) == []
    await bench.redis.zadd(BEATS, {"living": 1})  # it did not beat again
    assert len(await bench.queue.leases_of_dead_workers(8, 4)) == 1


@pytest.mark.parametrize("verb", ["retry", "return"])
async def test_e1_an_abort_that_no_process_saw_holds_when_the_attempt_ends(
    make_bench: MakeBench, verb: str
) -> None:
    bench = make_bench()
    (key,) = await bench.send()
    _, take = await bench.queue.take("worker", 1, [])
    (taken,) = take.jobs
    job = await bench.stock.job(key)
    assert job is not None
    await bench.stock.abort(job, "not needed")
    await bench.redis.delete(job.abort_id)  # the wish lasts for five seconds
    settlement = Settlement(taken.id, taken.lease, verb, taken.body, delay=0.01)
    assert await bench.queue.settle([settlement]) == [True]
    assert await bench.empty()
    await job.refresh()
    assert (job.status, job.error) == (Status.ABORTED, "not needed")
    assert await bench.redis.ttl(job.id) > 0
