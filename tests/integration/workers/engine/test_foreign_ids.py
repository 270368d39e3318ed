"""Ids that other programs write become dead letters or jobs, and the keys of others never change."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from storage.redis.client import execute
from tests.integration.workers.engine.conftest import has_completed, has_letters, run_next_job, succeed
from tests.support.engine import QUICK, Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import BEATS

OTHER_JOB = "saq:job:alert-fanout:waits"


@pytest.mark.parametrize("job_id", [b"", b"\xff\xfe", b"saq:job:", b"no id"])
async def test_e14_an_id_that_names_no_job_becomes_one_dead_letter(
    make_bench: MakeBench, job_id: bytes
) -> None:
    bench = make_bench()
    await bench.start(succeed)
    await bench.redis.rpush(bench.queue.keys.queued, job_id)
    await eventually(lambda: has_letters(bench, 1))
    await run_next_job(bench)
    await bench.redis.rpush(bench.queue.keys.queued, job_id)
    await run_next_job(bench)


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
    await eventually(lambda: has_letters(bench, 1))
    assert (await bench.letters.page()).items[0].job_id == name
    assert (
        await execute(bench.redis, "DUMP", name),
        await execute(bench.redis, "PEXPIRETIME", name),
    ) == before
    await run_next_job(bench)


async def test_e14_ids_that_fall_out_of_the_newest_keep_their_keys(make_bench: MakeBench) -> None:
    """A foreign program may write any id into the lists of the newest ended jobs."""
    bench = make_bench()
    await bench.redis.set("precious", "gold")
    for key in (bench.queue.keys.completed, bench.queue.keys.failed):
        await bench.redis.zadd(key, {f"junk-{number}": number for number in range(1100)} | {"precious": -1})
    await bench.start(succeed)
    await bench.send(3)
    await eventually(lambda: has_completed(bench, 3))
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
    await eventually(lambda: has_letters(bench, 1))
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
    await eventually(lambda: has_letters(bench, 1))
    assert len(started) == 2
    assert started[1] - started[0] >= 1.0


async def _scheduled(bench: Bench) -> bool:
    return bool(await bench.redis.zcount(bench.queue.keys.incomplete, 1, "+inf"))


@pytest.mark.parametrize("score", [0, -5, "-inf", "+inf"])
async def test_e14_an_id_without_a_job_frees_its_key(make_bench: MakeBench, score: Any) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    await execute(bench.redis, "ZADD", bench.queue.keys.incomplete, score, bench.queue.job_id("ghost"))
    await process.links[0].scheduled.check()  # what a process does every few seconds
    await eventually(lambda: has_letters(bench, 1))
    await eventually(bench.empty)
    assert await bench.stock.enqueue("extract_colors", key="ghost", number=1) is not None
    await eventually(lambda: has_completed(bench, 1))
