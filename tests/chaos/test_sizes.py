"""A server that refuses requests above a megabyte: every job ends, and keeps nobody waiting."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from saq import Job
from saq.queue.redis import RedisQueue

from storage.dead_letters.records import DeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.chaos.conftest import MakeLedger
from tests.chaos.ledger import Ledger
from tests.chaos.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.enqueueing import EnqueueResult
from workers.engine.keys import CRON, LETTERS
from workers.engine.policy import MAX_PAYLOAD_BYTES
from workers.engine.queue import JobQueue
from workers.process.worker_process import WorkerProcess

pytestmark = pytest.mark.slow

LIMIT = 1_048_576
LARGE = "x" * 900_000
LARGEST = "x" * (MAX_PAYLOAD_BYTES - 300)
"""So that the job as a whole is as large as a job may be, but for some bytes."""


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(valkey.port, largest=LIMIT)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def start(proxy: Proxy, letters: DeadLetterRepository) -> AsyncIterator[Any]:
    processes: list[WorkerProcess] = []

    async def start_process(ledger: Ledger, function: Any) -> WorkerProcess:
        policy = ledger.queue.policy
        process = WorkerProcess(
            proxy.url, policies=[policy], functions={policy.name: function}, letters=letters
        )
        processes.append(process)
        await process.start()
        return process

    yield start_process
    for process in processes:
        process.begin_drain()
        assert await process.wait_drained() == 0
        await process.close()


async def _rows(letters: DeadLetterRepository) -> dict[str, DeadLetter]:
    page = await letters.page(limit=100)
    found = [await letters.get(letter.id) for letter in page.items]
    return {letter.job_id: letter for letter in found if letter is not None}


async def test_large_jobs_complete_are_retried_and_die_in_requests_of_a_megabyte(
    proxy: Proxy, make_ledger: MakeLedger, letters: DeadLetterRepository, start: Any
) -> None:
    ledger = await make_ledger(concurrency=8, retry_delays=(0.05, 0.05, 0.05))
    starts: Counter[str] = Counter()

    async def work(ctx: dict[str, Any], text: str, fails: int, seconds: float = 0.0) -> None:
        starts[ctx["job"].key] += 1
        await asyncio.sleep(seconds)
        if ctx["job"].attempts <= fails:
            raise RuntimeError("told to fail " + "~" * 9_000)

    await start(ledger, work)
    async with ledger.watched():
        for fails in (0, 1, 3, 4):
            await ledger.send(2, text=LARGE, fails=fails, seconds=0.2)
            await ledger.send(2, text="small", fails=fails)
        rows = await ledger.balance()
    assert len(rows) == 4
    assert max(starts.values()) == 4
    assert proxy.refused == []
    assert proxy.most <= LIMIT
    found = await _rows(letters)
    texts = Counter(len(letter.job_data["kwargs"]["text"]) for letter in found.values())
    assert texts == {len(LARGE): 2, len("small"): 2}
    for letter in found.values():
        assert [one["attempt"] for one in letter.attempt_errors] == [1, 2, 3, 4]
        assert set(letter.job_data) & {"meta", "error", "status", "result", "completed"} <= {"status"}


@pytest.mark.parametrize("letter", ["~", "…"])
async def test_the_largest_job_that_is_allowed_dies_with_all_its_data(
    letter: str, proxy: Proxy, make_ledger: MakeLedger, letters: DeadLetterRepository, start: Any
) -> None:
    ledger = await make_ledger(retry_delays=(0.05, 0.05, 0.05))

    async def work(ctx: dict[str, Any], text: str = "") -> None:
        raise RuntimeError("told to fail " + letter * 9_000)

    process = await start(ledger, work)
    await ledger.send(text=LARGEST)
    await ledger.send(3)
    assert set(await ledger.balance()) == {"job-1", "job-2", "job-3", "job-4"}
    found = await _rows(letters)
    assert found["job-1"].job_data["kwargs"] == {"text": LARGEST}
    assert found["job-1"].attempts == 4
    assert process.redis_error is None
    job = await ledger.queue.job("job-1")
    assert job is not None
    assert (job.status, job.attempts) == ("failed", 4)


@pytest.mark.parametrize("others", [0, 5])
async def test_a_result_that_is_refused_is_a_dead_letter_and_holds_up_no_other(
    others: int, proxy: Proxy, make_ledger: MakeLedger, letters: DeadLetterRepository, start: Any
) -> None:
    ledger = await make_ledger(concurrency=10)
    all_started = asyncio.Event()
    runs: Counter[str] = Counter()

    async def work(ctx: dict[str, Any], size: int, text: str = "") -> str:
        runs[ctx["job"].key] += 1
        await all_started.wait()
        return os.urandom(size // 2).hex()

    process = await start(ledger, work)
    await ledger.send(size=400_000, text=LARGE)
    await ledger.send(size=2_000_000)
    await ledger.send(others, size=10)
    await eventually(lambda: len(runs) == others + 2)
    all_started.set()
    rows = await ledger.balance()
    assert rows == {"job-1": 1, "job-2": 1}
    assert proxy.refused
    assert process.redis_error is None
    found = await _rows(letters)
    assert found["job-1"].job_data["kwargs"]["text"] == LARGE
    for letter in found.values():
        assert letter.error_type == "RecordTooLargeError"
        assert "max request size exceeded" in letter.error_message
    assert runs["job-1"] == runs["job-2"] == 1


async def test_a_job_that_grew_too_large_for_a_retry_dies(
    make_ledger: MakeLedger, letters: DeadLetterRepository, start: Any
) -> None:
    ledger = await make_ledger()

    async def work(ctx: dict[str, Any], number: int) -> None:
        ctx["job"].meta["notes"] = "n" * 2_000_000
        raise RuntimeError("told to fail")

    await start(ledger, work)
    await ledger.send(number=7)
    assert await ledger.balance() == {"job-1": 1}
    (letter,) = (await _rows(letters)).values()
    assert letter.job_data["kwargs"] == {"number": 7}
    assert [attempt["error_type"] for attempt in letter.attempt_errors] == [
        "RuntimeError",
        "RecordTooLargeError",
    ]


async def test_what_is_no_job_and_too_large_dies_with_its_bytes(
    make_ledger: MakeLedger, valkey: ValkeyServer, redis: Redis, letters: DeadLetterRepository, start: Any
) -> None:
    ledger = await make_ledger()

    async def work(ctx: dict[str, Any]) -> None: ...

    await start(ledger, work)
    await ledger.queue.enqueue("extract_colors", key="odd", note="y" * 3_000_000)
    await ledger.send()
    await eventually(lambda: ledger.all_ended())
    (letter,) = (await _rows(letters)).values()
    assert (letter.job_id, letter.function) == ("odd", "?")
    assert letter.job_data["unreadable"].count("y") >= 3_000_000


async def test_large_jobs_that_are_returned_are_complete(
    make_ledger: MakeLedger, proxy: Proxy, letters: DeadLetterRepository
) -> None:
    ledger = await make_ledger()
    running = asyncio.Event()

    async def work(ctx: dict[str, Any], text: str) -> None:
        running.set()
        await asyncio.Event().wait()

    policy = ledger.queue.policy
    process = WorkerProcess(proxy.url, policies=[policy], functions={policy.name: work}, letters=letters)
    await process.start()
    await ledger.send(3, text=LARGEST)
    await running.wait()
    await eventually(lambda: process.in_flight == 3)
    process.drain_now()
    assert await process.wait_drained() == 3
    await process.close()
    assert await ledger.problems() == []
    for number in (1, 2, 3):
        job = await ledger.queue.job(f"job-{number}")
        assert job is not None
        assert (job.status, job.attempts, len(job.kwargs["text"])) == ("queued", 0, len(LARGEST))


async def test_our_producers_send_no_request_above_a_megabyte(proxy: Proxy, make_ledger: MakeLedger) -> None:
    ledger = await make_ledger()
    client = make_client(proxy.url)
    queue = JobQueue(client, ledger.queue.policy)
    sizes = [100, 950_000, 300_000, 300_000, 300_000, 300_000, 100, 999_000, 100] + [5_000] * 600

    def jobs() -> list[Job]:
        return [
            Job("extract_colors", kwargs={"text": "x" * size}, key=f"k{n}") for n, size in enumerate(sizes)
        ]

    assert set(await queue.enqueue_many(jobs())) == {EnqueueResult.ENQUEUED}
    assert await ledger.redis.lrange(queue.keys.queued, 0, -1) == [
        queue.job_id(f"k{n}").encode() for n in range(len(sizes))
    ]
    assert proxy.refused == []
    await ledger.redis.flushall()
    assert await queue.enqueue_occurrence("weather", 900, jobs()) == len(sizes)
    assert await queue.enqueue_occurrence("weather", 900, jobs()) == 0
    assert await ledger.redis.llen(queue.keys.queued) == len(sizes)
    assert await ledger.redis.keys(f"{CRON}:*") == []
    assert proxy.refused == []
    assert proxy.most <= LIMIT
    await client.aclose()


async def test_an_occurrence_that_broke_off_in_the_middle_is_made_up_for_once(
    proxy: Proxy, make_ledger: MakeLedger
) -> None:
    ledger = await make_ledger()
    client = make_client(proxy.url)
    queue = JobQueue(client, ledger.queue.policy)

    def jobs() -> list[Job]:
        return [Job("extract_colors", kwargs={"text": "x" * 500_000}, key=f"k{n}") for n in range(4)]

    broken = [*jobs()[:2], Job("extract_colors", kwargs={"text": "x" * 2_000_000}, key="k2"), jobs()[3]]
    with pytest.raises(ResponseError, match="max request size"):
        await queue.enqueue_occurrence("weather", 900, broken)
    assert await ledger.redis.hget(CRON, "weather") is None
    # The first of them ends before the occurrence is enqueued once more.
    await ledger.redis.delete(queue.keys.queued, queue.keys.incomplete)
    assert await queue.enqueue_occurrence("weather", 900, jobs()) == 2
    assert await ledger.redis.lrange(queue.keys.queued, 0, -1) == [
        queue.job_id(key).encode() for key in ("k2", "k3")
    ]
    assert await queue.enqueue_occurrence("weather", 800, jobs()) == 0
    await client.aclose()


async def test_replies_are_bounded_too(
    make_ledger: MakeLedger, proxy: Proxy, valkey: ValkeyServer, letters: DeadLetterRepository
) -> None:
    ledger = await make_ledger(concurrency=10)
    stock = RedisQueue.from_url(valkey.url, name=ledger.queue.policy.name)
    for number in range(6):
        await stock.enqueue("extract_colors", key=f"k{number}", text=LARGE)
    await stock.redis.aclose()
    client = make_client(proxy.url)
    queue = JobQueue(client, ledger.queue.policy)
    _, take = await queue.take("me", 10, [])
    assert [len(job.body) > len(LARGE) for job in take.jobs] == [True] * 6
    assert proxy.largest_reply <= LIMIT
    await ledger.redis.hset(queue.keys.looks, mapping={"since": 0, "last": int(take.now * 1000)})
    await ledger.redis.zadd("couturecast:beats", {"me": 1})
    lost = await queue.leases_of_dead_workers(8, 3_600)
    assert sorted(job.id for job in lost) == sorted(job.id for job in take.jobs)
    assert all(len(job.body) > len(LARGE) for job in lost)
    assert proxy.largest_reply <= LIMIT
    await client.aclose()


async def test_letters_are_read_a_megabyte_at_a_time(
    make_ledger: MakeLedger, proxy: Proxy, letters: DeadLetterRepository, start: Any
) -> None:
    ledger = await make_ledger(retry_delays=(), concurrency=5)

    async def work(ctx: dict[str, Any], text: str = "") -> None:
        raise RuntimeError("told to fail")

    await start(ledger, work)
    await ledger.send(10, text="x" * 600_000)
    await ledger.send(150)
    assert len(await ledger.balance()) == 160
    assert await ledger.redis.zcard(LETTERS) == 0
    assert proxy.largest_reply <= LIMIT
