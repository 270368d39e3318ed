"""Values of other programs under a queue's keys can be shown, and stay as they are."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from typing import Any

import pydantic_core
import pytest
from redis.asyncio import Redis
from saq import Job

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from workers.engine.keys import QueueKeys
from workers.errors import NotFoundError
from workers.operations.jobs import JOB_STATES, JobOperations, JobSummary

QUEUE = "color-extraction"
PREFIX = f"saq:job:{QUEUE}:".encode()
FIELDS = (*(field.name for field in fields(Job)), "couturecast")
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "\ud800",
    "\0",
    [],
    {},
    [[[]]],
    "complete",
    "failed",
)
CHANCE = random.Random(14)


def any_record(key: bytes) -> bytes:
    if CHANCE.random() < 0.2:
        return CHANCE.randbytes(CHANCE.randrange(60))
    names = CHANCE.sample(FIELDS, CHANCE.randrange(len(FIELDS)))
    record = {name: CHANCE.choice(VALUES) for name in names}
    if CHANCE.random() < 0.7:
        record |= {"function": "extract_colors", "key": key.decode("latin-1")}
    attempt = {name: CHANCE.choice(VALUES) for name in ("attempt", "at", "worker", "message")}
    record["meta"] = CHANCE.choice([*VALUES, {"couturecast": {"attempts": [attempt], "replay_of": 7}}])
    return json.dumps(record).encode()


async def write_anything(redis: Redis, keys: QueueKeys, number: int) -> None:
    key = CHANCE.choice([b"%d" % number, CHANCE.randbytes(5)])
    job_id = CHANCE.choice([PREFIX + key, PREFIX + key, key])
    pipeline = redis.pipeline(transaction=False)
    if CHANCE.random() < 0.9 and job_id.startswith(PREFIX):
        pipeline.set(job_id, any_record(key), ex=CHANCE.choice([None, 900]))
    match CHANCE.randrange(6):
        case 0:
            pipeline.hset(keys.leases, job_id, CHANCE.choice([b"", b"w", b"w:1:1", CHANCE.randbytes(9)]))
        case 1:
            pipeline.rpush(keys.queued, job_id, job_id)
        case 2:
            pipeline.zadd(keys.incomplete, {job_id: CHANCE.choice([-1, 0, 1, 2e9, 1e300, float("inf")])})
        case 3:
            pipeline.zadd(keys.completed, {job_id: CHANCE.choice([0, 1, 1e300])})
        case 4:
            pipeline.zadd(keys.failed, {job_id: CHANCE.choice([-1, 1, 2e12])})
    await pipeline.execute()


async def all_jobs(jobs: JobOperations, state: Any) -> list[JobSummary]:
    found: list[JobSummary] = []
    cursor = None
    while True:
        page = await jobs.page(QUEUE, state, limit=200, cursor=cursor)
        pydantic_core.to_json(page)  # as HTTP does
        found += page.items
        cursor = page.next
        if cursor is None:
            return found


@pytest.mark.slow
async def test_ten_thousand_fuzzed_jobs_and_ids_are_shown_and_left_as_they_are(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    for number in range(10_000):
        await write_anything(redis, bench.queue.keys, number)
    await jobs.why(QUEUE)  # a snapshot notes since when no worker serves the queue
    before = {key: await redis.dump(key) for key in await redis.keys()}
    shown = 0
    for state in JOB_STATES:
        found = await all_jobs(jobs, state)
        shown += len(found)
        for job in found[::20]:
            try:
                pydantic_core.to_json(await jobs.get(QUEUE, job.key))
            except NotFoundError:
                assert "\\x" in job.key, "bytes that are no text name no job"
    assert shown > 6_000
    assert {key: await redis.dump(key) for key in await redis.keys()} == before
