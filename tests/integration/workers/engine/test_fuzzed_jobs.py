"""Jobs and ids as any program may write them: each is run or buried, once, and nothing else changes."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.workers.engine.conftest import has_completed
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually

PREFIX = b"saq:job:color-extraction:"
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    0.5,
    2**31,
    2**63,
    2**64,
    10**400,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "x",
    "\x00",
    "\ud800",
    "\u202e",
    "9" * 5000,
    [],
    [[]],
    {},
    {"a": {}},
    ["abc"],
    {"number": "\x1b[31m"},
]
FIELDS = [
    "function",
    "kwargs",
    "queue",
    "key",
    "timeout",
    "heartbeat",
    "retries",
    "ttl",
    "retry_delay",
    "retry_backoff",
    "scheduled",
    "progress",
    "attempts",
    "completed",
    "queued",
    "started",
    "touched",
    "result",
    "error",
    "status",
    "priority",
    "group_key",
    "meta",
    "worker_id",
    "nonsense",
]


def fuzzed(chance: random.Random, number: int) -> tuple[bytes, bytes | None]:
    """An id, and the record that it names; None if it names none."""
    key = f"fuzz-{number}"
    record: dict[str, Any] = {
        "function": "extract_colors",
        "queue": "color-extraction",
        "key": key,
        "kwargs": {"number": number},
        "queued": 1_795_000_000_000,
    }
    job_id = PREFIX + key.encode()
    match chance.randrange(10):
        case 0:
            job_id = chance.randbytes(chance.randrange(40)) + str(number).encode()
        case 1:
            job_id = PREFIX + chance.randbytes(chance.randrange(20)) + str(number).encode()
        case 2:
            return job_id, None
        case 3:
            return job_id, chance.randbytes(chance.randrange(200))
        case 4:
            return job_id, b"[" * chance.randrange(100_000)
    for _ in range(chance.randrange(4)):
        record[chance.choice(FIELDS)] = copy.deepcopy(chance.choice(VALUES))
    for _ in range(chance.randrange(3)):
        record.pop(chance.choice(FIELDS), None)
    body = bytearray(json.dumps(record).encode())
    for _ in range(chance.choice([0, 0, 0, 1, 3])):
        body[chance.randrange(len(body))] = chance.randrange(256)
    return job_id, bytes(body)


async def _fuzz(make_bench: MakeBench, count: int, record: Callable[[str, object], None]) -> None:
    seed = int(os.environ.get("COUTURECAST_TEST_SEED", "20261128"))
    record("seed", seed)
    chance = random.Random(seed)
    bench = make_bench(concurrency=20, retry_delays=(0.01,), timeout=20)

    async def work(ctx: dict[str, Any], **arguments: Any) -> None:
        return None

    process = await bench.start(work)
    await bench.redis.set("precious", "gold")
    pushed: set[bytes] = set()
    while len(pushed) < count:
        pipeline = bench.redis.pipeline(transaction=True)
        for _ in range(100):
            job_id, body = fuzzed(chance, len(pushed))
            pushed.add(job_id)
            if body is not None and job_id.startswith(PREFIX):
                pipeline.set(job_id, body)
            if chance.random() < 0.8:
                pipeline.zadd(bench.queue.keys.incomplete, {job_id: 0})
            pipeline.rpush(bench.queue.keys.queued, job_id)
        await pipeline.execute()
    await eventually(bench.empty, within=100 + count / 50)
    await eventually(lambda: _ended(bench, len(pushed)), within=100 + count / 50)
    assert not process.draining
    assert await bench.redis.get("precious") == b"gold"
    assert await bench.redis.ttl("precious") == -1
    done = await bench.total("completed")
    await bench.stock.enqueue("extract_colors", number=1)
    await eventually(lambda: has_completed(bench, done + 1))


async def _ended(bench: Bench, count: int) -> bool:
    """Listings of jobs that have ended are dropped."""
    dropped = await bench.total("repaired:duplicate")
    return await bench.total("completed") + await bench.letters.count() + dropped >= count


async def test_e14_fuzzed_jobs_are_run_or_buried(
    make_bench: MakeBench, record_property: Callable[[str, object], None]
) -> None:
    await _fuzz(make_bench, 500, record_property)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_e14_ten_thousand_fuzzed_jobs_are_run_or_buried(
    make_bench: MakeBench, record_property: Callable[[str, object], None]
) -> None:
    await _fuzz(make_bench, 10_000, record_property)
