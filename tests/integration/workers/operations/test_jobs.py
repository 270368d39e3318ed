"""Jobs as operators see them, on a real server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.errors import InvalidCursorError, InvalidFilterError
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.job_reader import JobCounts
from workers.engine.keys import QueueKeys
from workers.engine.policy import DEFAULT_POLICIES
from workers.engine.queue import JobQueue
from workers.errors import NotFoundError, UnknownQueueError
from workers.handlers.registry import PAYLOAD_MODELS
from workers.operations.jobs import JOB_STATES, JobFilter, JobOperations, JobSummary

QUEUE = "color-extraction"


async def keys_of(jobs: JobOperations, state: Any, *, limit: int = 50) -> list[str]:
    """The keys of all jobs in a state, page by page."""
    keys: list[str] = []
    cursor = None
    while True:
        page = await jobs.page(QUEUE, state, limit=limit, cursor=cursor)
        keys += [job.key for job in page.items]
        cursor = page.next
        if cursor is None:
            return keys


async def running_job(bench: Bench, jobs: JobOperations) -> asyncio.Event:
    """A job that runs until the event is set."""
    release = asyncio.Event()

    async def wait(ctx: dict[str, Any], number: int) -> dict[str, int]:
        await release.wait()
        return {"number": number}

    await bench.start(wait)
    await bench.stock.enqueue("extract_colors", key="dress-17", number=17)

    async def runs() -> bool:
        return (await jobs.counts())[QUEUE].running == 1

    await eventually(runs)
    return release


async def test_a_running_job_is_shown_with_its_attempt_worker_and_deadline(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    release = await running_job(bench, jobs)
    (job,) = (await jobs.page(QUEUE, "running")).items
    assert (job.key, job.state, job.function) == ("dress-17", "running", "extract_colors")
    assert (job.attempt, job.max_attempts) == (1, 4)
    assert job.worker == bench.processes[0].id
    assert job.running_for is not None
    assert job.deadline_in is not None
    assert 0 < job.deadline_in <= 60
    assert job.started_at is not None
    detail = await jobs.get(QUEUE, "dress-17")
    assert detail.payload == {"number": 17}
    assert detail.why is not None
    assert detail.why.cause == "running"
    release.set()

    async def done() -> list[str]:
        return await keys_of(jobs, "done")

    assert await eventually(done) == ["dress-17"]
    detail = await jobs.get(QUEUE, "dress-17")
    assert (detail.state, detail.status, detail.result) == ("done", "complete", {"number": 17})
    assert detail.queued_at is not None
    assert detail.started_at is not None
    assert detail.ended_at is not None
    assert detail.queued_at <= detail.started_at <= detail.ended_at


async def test_ready_jobs_are_shown_in_their_order_with_their_position(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    sent = await bench.send(25)
    page = await jobs.page(QUEUE, "ready", limit=10)
    assert [job.key for job in page.items] == sent[:10]
    assert [job.position for job in page.items] == list(range(10))
    assert await keys_of(jobs, "ready", limit=10) == sent
    assert (await jobs.get(QUEUE, sent[20])).position == 20


async def test_a_window_goes_on_behind_its_last_job_wherever_that_is(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    sent = await bench.send(40)
    page = await jobs.page(QUEUE, "ready", limit=20)
    await redis.lpop(bench.queue.keys.queued, 5)  # as a take does
    following = await jobs.page(QUEUE, "ready", cursor=page.next)
    assert [job.key for job in following.items] == sent[20:]
    await redis.lpush(bench.queue.keys.queued, *(f"saq:job:{QUEUE}:returned-{n}" for n in range(3)))
    following = await jobs.page(QUEUE, "ready", cursor=page.next)
    assert [job.key for job in following.items] == sent[20:]


async def test_scheduled_jobs_are_shown_by_their_time(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    at = int(time.time()) + 600
    for number in range(12):
        await bench.stock.enqueue(
            "extract_colors", key=f"j{number}", number=number, scheduled=at - number // 4
        )
    await bench.send(3)
    keys = await keys_of(jobs, "scheduled", limit=5)
    assert sorted(keys) == sorted(f"j{number}" for number in range(12))
    assert keys[:4] == ["j10", "j11", "j8", "j9"]
    job = await jobs.get(QUEUE, "j0")
    assert job.due_in is not None
    assert 500 < job.due_in <= 600
    assert job.why is not None
    assert job.why.cause == "no_worker"


async def test_counts_are_by_state(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    await bench.send(3)
    await bench.stock.enqueue("extract_colors", number=1, scheduled=int(time.time()) + 600)
    assert await jobs.counts() == {QUEUE: JobCounts(running=0, ready=3, scheduled=1, done=0, failed=0)}


async def test_a_failed_job_leads_to_its_dead_letter(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=(0.05,))
    jobs = (await operate(bench)).jobs

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise ValueError(f"no picture {number}")

    await bench.start(fail)
    (key,) = await bench.send()
    await eventually(bench.letters.count)
    job = await jobs.get(QUEUE, key)
    assert (job.state, job.status, job.attempt) == ("failed", "failed", 2)
    assert job.error == "ValueError: no picture 0"
    (letter,) = (await bench.letters.page()).items
    assert job.letter == letter.id
    assert job.why is not None
    assert (job.why.cause, job.why.details["letter"]) == ("dead_letter", letter.id)
    assert [attempt.attempt for attempt in job.attempts] == [1]


async def test_all_queues_and_states_are_one_list(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    sent = await bench.send(4)
    await bench.stock.enqueue("extract_colors", key="later", number=1, scheduled=int(time.time()) + 600)
    first = await jobs.page(limit=4)
    assert [job.key for job in first.items] == sent
    second = await jobs.page(limit=4, cursor=first.next)
    assert [(job.key, job.state) for job in second.items] == [("later", "scheduled")]
    assert second.next is None


@pytest.mark.parametrize("state", JOB_STATES)
async def test_what_is_not_a_job_is_shown_as_such_and_left_as_it_is(
    make_bench: MakeBench, operate: Operate, redis: Redis, state: str
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    keys, prefix = bench.queue.keys, f"saq:job:{QUEUE}:"
    bodies = {"text": b"\xff\x00", "list": b"[1]", "other": b'{"function": "f", "key": "x"}', "number": b"7"}
    ids: list[str | bytes] = [f"{prefix}{name}" for name in bodies]
    for name, body in bodies.items():
        await redis.set(prefix + name, body)
    await redis.hset(f"{prefix}hash", "a", "b")
    await redis.set("somebody:key", "precious")
    ids += [f"{prefix}hash", f"{prefix}missing", b"", b"\xff\xfe", "somebody:key", "saq:job:other:1"]
    for number, job_id in enumerate(ids, 1):
        match state:
            case "running":
                await redis.hset(keys.leases, job_id, f"w{number}")
            case "ready":
                await redis.rpush(keys.queued, job_id)
            case "scheduled":
                await redis.zadd(keys.incomplete, {job_id: 2e9})
            case "done":
                await redis.zadd(keys.completed, {job_id: 1e18 * number})
            case _:
                await redis.zadd(keys.failed, {job_id: -float(number)})
    await jobs.why(QUEUE)  # a snapshot notes since when no worker serves the queue
    before = {key: await redis.dump(key) for key in await redis.keys()}
    page = await jobs.page(QUEUE, state, limit=50)  # type: ignore[arg-type]
    assert len(page.items) == len(ids)
    assert all(job.problem is not None for job in page.items)
    assert len(await keys_of(jobs, state, limit=3)) == len(ids)
    for job in page.items:
        if "\\x" not in job.key:  # bytes that are no text name no job
            detail = await jobs.get(QUEUE, job.key)
            assert (detail.state, detail.problem) == (state, job.problem)
    assert {key: await redis.dump(key) for key in await redis.keys()} == before


async def test_an_instant_ahead_of_the_servers_clock_does_not_count(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    ahead_ms = int(time.time() + 9_000) * 1000
    record = {"function": "extract_colors", "key": "early", "queued": ahead_ms, "completed": ahead_ms}
    await redis.set(f"saq:job:{QUEUE}:early", json.dumps(record))
    await redis.hset(
        bench.queue.keys.leases, f"saq:job:{QUEUE}:early", f"w:1:{int(time.time() + 900) * 1000}"
    )
    (job,) = (await jobs.page(QUEUE, "running")).items
    assert (job.queued_at, job.started_at, job.running_for, job.deadline_in) == (None, None, None, None)


async def test_wrong_queues_keys_and_cursors_are_refused(make_bench: MakeBench, operate: Operate) -> None:
    jobs = (await operate(make_bench())).jobs
    with pytest.raises(UnknownQueueError):
        await jobs.page("nowhere")
    with pytest.raises(NotFoundError):
        await jobs.get(QUEUE, "nothing")
    for cursor in ("x", "", "W10", "bm9uZQ"):
        with pytest.raises(InvalidCursorError):
            await jobs.page(QUEUE, "ready", cursor=cursor)
    with pytest.raises(ValueError, match="limit"):
        await jobs.page(limit=0)


async def test_keys_of_another_type_count_as_empty(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    keys = bench.queue.keys
    for key in (keys.queued, keys.incomplete, keys.leases, keys.completed, keys.failed):
        await redis.set(key, "x")
    for state in JOB_STATES:
        assert (await jobs.page(QUEUE, state)).items == []
    assert await jobs.counts() == {QUEUE: JobCounts(0, 0, 0, 0, 0)}
    assert (await jobs.why(QUEUE)).cause == "broken_keys"


async def test_the_schema_of_a_payload_is_that_of_the_built_in_handler(
    make_bench: MakeBench, operate: Operate
) -> None:
    jobs = (await operate(make_bench())).jobs
    assert jobs.payload_schema(QUEUE) is None, "a team's own handler takes any object"
    jobs._enqueueing.schemas = PAYLOAD_MODELS
    schema = jobs.payload_schema(QUEUE)
    assert schema is not None
    assert set(schema["required"]) == {"item_id", "image"}
    with pytest.raises(UnknownQueueError):
        jobs.payload_schema("nowhere")


async def test_a_page_of_large_jobs_ends_before_its_limit(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    for number in range(5):
        await bench.stock.enqueue("extract_colors", key=f"large-{number}", text="x" * 400_000)
    page = await jobs.page(QUEUE, "ready", limit=5)
    assert [job.key for job in page.items] == ["large-0", "large-1"]
    assert await keys_of(jobs, "ready", limit=5) == [f"large-{number}" for number in range(5)]
    assert (await jobs.get(QUEUE, "large-4")).payload == {"text": "x" * 400_000}


@pytest.mark.parametrize("limit", [3, 7, 50])
async def test_jobs_of_all_queues_that_have_ended_are_one_list_the_newest_first(
    make_bench: MakeBench, operate: Operate, redis: Redis, limit: int
) -> None:
    jobs, names = (await operate(make_bench())).jobs, [QUEUE, "alert-fanout", "moderation-review"]
    queues = dict.fromkeys(names)
    for number in range(20):
        name = names[number % 3 if number < 12 else 0]
        record = {"function": "f", "key": f"j{number}", "status": "complete", "completed": number}
        await redis.set(f"saq:job:{name}:j{number}", json.dumps(record))
        await redis.zadd(QueueKeys.of(name).completed, {f"saq:job:{name}:j{number}": 1000 * (number // 2)})
    for name in queues:
        jobs._enqueueing.queues = {**jobs._enqueueing.queues, name: JobQueue(redis, DEFAULT_POLICIES[name])}
    found: list[JobSummary] = []
    cursor = None
    while True:
        page = await jobs.page(None, "done", limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    assert {job.key for job in found} == {f"j{number}" for number in range(20)}
    assert len(found) == 20
    ended = [job.ended_at for job in found]
    assert ended == sorted(ended, key=lambda at: -at.timestamp() if at else 0)
    with pytest.raises(InvalidCursorError):
        await jobs.page(QUEUE, "failed", cursor=(await jobs.page(None, "done", limit=3)).next)


async def test_a_search_reads_some_jobs_a_page_and_finds_a_key_wherever_it_is(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.operations.jobs.MAX_SEARCHED", 20)
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    for number in range(60):
        await bench.stock.enqueue("extract_colors", key=f"{'coat' if number % 10 else 'dress'}-{number}")
    found: list[str] = []
    pages, cursor = 0, None
    while True:
        page = await jobs.page(state="ready", selected=JobFilter.parse("DRESS"), limit=10, cursor=cursor)
        found += [job.key for job in page.items]
        pages, cursor = pages + 1, page.next
        if cursor is None:
            break
    assert found == [f"dress-{number}" for number in range(0, 60, 10)]
    assert pages >= 3
    page = await jobs.page(state="ready", selected=JobFilter.parse("coat-59"), limit=10)
    assert [job.key for job in page.items] == ["coat-59"]
    assert (await jobs.page(state="scheduled", selected=JobFilter.parse("coat-59"))).items == []
    nothing = JobFilter.parse("function:review queue:color-extraction")
    assert (await jobs.page(state="ready", selected=nothing, limit=200)).items == []


@pytest.mark.parametrize("query", ["queue:a function:b worker:c d", "'two words'", "dress-17", ""])
def test_a_filter_of_jobs_is_what_was_written(query: str) -> None:
    assert JobFilter.parse(query).to_query() == query


@pytest.mark.parametrize("query", ["queue:", "queue:a queue:b", "'open"])
def test_invalid_filters_of_jobs_give_one_line_errors(query: str) -> None:
    with pytest.raises(InvalidFilterError) as error:
        JobFilter.parse(query)
    assert "\n" not in str(error.value)
