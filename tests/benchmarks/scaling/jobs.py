"""What a job costs the server: processor, commands, bytes on the wire, and bytes that it holds."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from saq import Job

from couturecast_handlers import PermanentError
from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from storage.redis.pipeline import PipelineConnection
from storage.repositories.events import EventRepository
from tests.benchmarks.peer import OURS
from tests.benchmarks.peers.protocol import QUEUE
from tests.benchmarks.scaling.meter import Usage, empty, read, usage_since
from tests.benchmarks.table import table
from workers.engine.keys import LETTER, LETTERS, QueueKeys
from workers.engine.policy import DEFAULT_POLICIES
from workers.engine.queue import JobQueue
from workers.process.worker_process import WorkerProcess

_POLICY = DEFAULT_POLICIES[QUEUE]
_KEYS = QueueKeys.of(QUEUE)
_RUNS = 3
_LETTERS = 3_000
_EVENTS = 5_000
_HISTORY_POINTS = (390, 1_500, 193)
"""As many as `workers.engine.history` keeps of each key."""
_POLL_SECONDS = 0.05
_MAX_SECONDS = 60.0
_NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
"""Where nothing listens: letters wait in Redis."""


def cost_of_jobs(url: str, client: Any, jobs: int) -> str:
    """Processor time, commands and bytes of a job that does nothing: of the cheapest of some runs."""
    rows = []
    for title, verb, options in (
        ("enqueued in bulk", "enqueue", {}),
        ("run at concurrency 10", "work", {"concurrency": 10}),
        ("run at concurrency 100", "work", {"concurrency": 100}),
    ):
        runs = [_run(url, client, jobs, verb, options) for _ in range(_RUNS)]
        used, seconds = min(runs, key=lambda run: run[0].cpu_seconds)
        microseconds = 1e6 * used.cpu_seconds / jobs
        rows.append(
            (
                title,
                f"{microseconds:.1f}",
                f"{1e6 / microseconds:,.0f}",
                f"{jobs / seconds:,.0f}",
                f"{used.commands / jobs:.1f}",
                f"{used.input_bytes / jobs:.0f} / {used.output_bytes / jobs:.0f}",
            )
        )
    head = ("a job", "µs of its core", "jobs/s at 100 %", "jobs/s seen", "commands", "bytes in / out")
    return table(head, rows)


def _run(url: str, client: Any, jobs: int, verb: str, options: dict[str, Any]) -> tuple[Usage, float]:
    """What the server did, and the seconds that it took."""
    empty(client)
    if verb == "work":
        OURS.run("enqueue", url, jobs=jobs)
    before = read(client)
    seconds = float(OURS.run(verb, url, jobs=jobs, **options)["seconds"])
    return usage_since(client, before), seconds


def sizes(url: str, client: Any, jobs: int) -> str:
    """Bytes that the server, or the database, holds for one of each."""
    return asyncio.run(_sizes(url, client, jobs))


async def _sizes(url: str, client: Any, jobs: int) -> str:
    empty(client)
    waiting = await _enqueued_bytes(url, client, jobs, scheduled=False)
    body = client.strlen(client.lindex(_KEYS.queued, 0))
    empty(client)
    scheduled = await _enqueued_bytes(url, client, jobs, scheduled=True)
    ended = await _ended_bytes(url, client)
    waits = await _waiting_letter_bytes(url, client)
    letter, event = await _row_bytes(url, client)
    rows = [
        (f"a job that is ready (its record has {body} bytes)", f"{waiting:,.0f}"),
        ("a job that is scheduled", f"{scheduled:,.0f}"),
        *ended,
        ("a dead letter that waits in Redis for the database", f"{waits:,.0f}"),
        ("a dead letter in SQLite, with its indexes", f"{letter:,.0f}"),
        ("an event in SQLite, with its indexes", f"{event:,.0f}"),
    ]
    return table(("one of", "bytes"), rows)


def _jobs(number: int, *, delay: float = 0.0) -> list[Job]:
    made = []
    for item in range(number):
        image = f"https://example.com/images/dress-{item}.jpg"
        job = Job(function=_POLICY.function, kwargs={"item_id": f"dress-{item}", "image": image})
        if delay:
            job.scheduled = time.time() + delay  # type: ignore[assignment]  # SAQ's type is int
        made.append(job)
    return made


async def _enqueue(url: str, jobs: Sequence[Job]) -> None:
    redis, pipeline = make_client(url), PipelineConnection(url)
    await JobQueue(redis, _POLICY, pipeline).enqueue_many(jobs)
    await pipeline.close()
    await redis.aclose()


async def _enqueued_bytes(url: str, client: Any, jobs: int, *, scheduled: bool) -> float:
    before = read(client)
    await _enqueue(url, _jobs(jobs, delay=3_600 if scheduled else 0))
    return usage_since(client, before).memory / jobs


async def _ended_bytes(url: str, client: Any) -> list[tuple[str, str]]:
    """Of a completed and of a failed job; and of the history, made of as many points as it may have."""
    empty(client)
    with tempfile.TemporaryDirectory() as folder:
        database = await _database(folder)
        await _enqueue(url, _jobs(_LETTERS))
        await _run_all(url, client, database, _succeed)
        completed = _mean_bytes(client, _KEYS.completed)
        history = _history_bytes(client)
        empty(client)
        await _enqueue(url, _jobs(_LETTERS))
        await _run_all(url, client, database, _fail)
        failed = _mean_bytes(client, _KEYS.failed)
        await database.close()
    return [
        ("a completed job, kept 10 s, and the newest 100", f"{completed:,.0f}"),
        ("a failed job with one traceback, kept 10 s, and the newest 1,000", f"{failed:,.0f}"),
        ("the history of a queue, once it is full", f"{history:,.0f}"),
    ]


def _history_bytes(client: Any) -> float:
    """Of points as history.lua keeps them, with the counters of this moment."""
    counters = client.hgetall(_KEYS.totals)
    flat = [part for name, value in counters.items() for part in (name.decode(), int(value))]
    key, size = f"{_KEYS.history}full", 0
    for points in _HISTORY_POINTS:
        client.zadd(key, {json.dumps([at, 0, 0, *flat], separators=(",", ":")): at for at in range(points)})
        size += _key_bytes(client, key)
        client.delete(key)
    return size


async def _waiting_letter_bytes(url: str, client: Any) -> float:
    empty(client)
    await _enqueue(url, _jobs(_LETTERS))
    await _run_all(url, client, Database(_NO_DATABASE), _fail)
    held = _key_bytes(client, LETTER) + _key_bytes(client, LETTERS)
    return held / float(client.zcard(LETTERS))


async def _row_bytes(url: str, client: Any) -> tuple[float, float]:
    """Of a letter and of an event in the file of a database."""
    empty(client)
    with tempfile.TemporaryDirectory() as folder:
        database = await _database(folder)
        without = await _file_bytes(database)
        await _enqueue(url, _jobs(_LETTERS))
        await _run_all(url, client, database, _fail)
        with_letters = await _file_bytes(database)
        events = EventRepository(database)
        for first in range(0, _EVENTS, 500):
            await events.record([_event(first + number) for number in range(500)])
        with_events = await _file_bytes(database)
        await database.close()
    return (with_letters - without) / _LETTERS, (with_events - with_letters) / _EVENTS


def _event(number: int) -> NewEvent:
    detail = {"alert": "backlog", "subject": "", "value": 132 + number}
    message = f"backlog: {132 + number} queued, limit 100"
    return NewEvent("alert-fired", message, queue=QUEUE, subject="backlog", detail=detail, dedupe=str(number))


async def _database(folder: str) -> Database:
    database = Database(f"sqlite:///{folder}/couturecast.db")
    await database.start()
    return database


async def _file_bytes(database: Database) -> int:
    async with database.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        size = (await connection.exec_driver_sql("PRAGMA page_size")).scalar_one()
    return int(pages) * int(size)


async def _run_all(url: str, client: Any, database: Database, handler: Any) -> None:
    """Run a worker until no job is left; letters are recorded if the database answers."""
    process = WorkerProcess(
        url,
        policies=[replace(_POLICY, concurrency=50)],
        functions={QUEUE: handler},
        letters=DeadLetterRepository(database),
    )
    await process.start()
    deadline = time.monotonic() + _MAX_SECONDS
    recorded = not database.safe_url.startswith(_NO_DATABASE[:13])
    while client.zcard(_KEYS.incomplete) or (recorded and client.zcard(LETTERS)):
        await asyncio.sleep(_POLL_SECONDS)
        assert time.monotonic() < deadline
    process.begin_drain()
    await process.wait_drained()
    await process.close()


async def _succeed(_context: dict[str, Any], **_arguments: Any) -> dict[str, Any]:
    await asyncio.sleep(random.random() / 20)
    return {"palette": ["#334455", "#aabbcc"]}


async def _fail(_context: dict[str, Any], item_id: str, **_arguments: Any) -> None:
    raise PermanentError(f"{item_id} has no picture")


def _mean_bytes(client: Any, listing: str) -> float:
    """Of the records that ``listing`` names, and its own share for each."""
    ids = client.zrange(listing, 0, -1)
    records = [size for job in ids if (size := client.memory_usage(job, samples=0)) is not None]
    return sum(records) / len(records) + _key_bytes(client, listing) / len(ids)


def _key_bytes(client: Any, key: str) -> int:
    return int(client.memory_usage(key, samples=0) or 0)
