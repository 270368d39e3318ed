"""Bulk replay of dead letters, beside the bulk enqueue of as many jobs, on both databases."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from storage.database.engine import Database
from storage.dead_letters.records import NewDeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from tests.benchmarks.errors import BenchmarkError
from tests.benchmarks.measurement import Bench, Figure, Measurement
from tests.benchmarks.peer import OURS, Peer
from tests.benchmarks.peers.protocol import QUEUE
from tests.support.operations import build_operations
from tests.support.servers import PostgresServer
from workers.engine.policy import DEFAULT_POLICIES
from workers.operations.operations import ALL_DEAD, Operations

_POLICY = DEFAULT_POLICIES[QUEUE]


def _replay(databases: Callable[[], Iterator[str]]) -> Callable[[Bench, Peer], tuple[float, ...]]:
    """Letters a second, and that as a share of the jobs a second of a bulk enqueue just before."""
    database = contextmanager(databases)

    def take(bench: Bench, peer: Peer) -> tuple[float, ...]:
        enqueued = bench.jobs / float(peer.run("enqueue", bench.url, jobs=bench.jobs)["seconds"])
        bench.client.flushall()
        with database() as url:
            replayed = bench.jobs / uvloop.run(_seconds(bench, url))
        return replayed, 100 * replayed / enqueued

    return take


async def _seconds(bench: Bench, url: str) -> float:
    """Of a plan without a rate, from its start until its letters are marked."""
    async with _operations(bench, url) as operations:
        plan = await operations.replays.create_plan(ALL_DEAD)
        began = time.perf_counter()
        done = await operations.replays.run_plan(plan.id)
        seconds = time.perf_counter() - began
        if done.ledger.sent != bench.jobs:
            raise BenchmarkError(f"{done.ledger} of {bench.jobs} letters")
        return seconds


@asynccontextmanager
async def _operations(bench: Bench, url: str) -> AsyncIterator[Operations]:
    database = Database(url)
    await database.start()
    letters = DeadLetterRepository(database)
    await letters.record([_letter(number) for number in range(bench.jobs)])
    operations = build_operations(
        bench.url, policies=[_POLICY], schemas={}, database=database, letters=letters
    )
    try:
        yield operations
    finally:
        await operations.close()
        await database.close()


def _letter(number: int) -> NewDeadLetter:
    at = datetime.now(UTC) - timedelta(seconds=number)
    return NewDeadLetter(
        uid=f"u{number}",
        queue_name=QUEUE,
        job_id=f"job-{number}",
        function=_POLICY.function,
        job_data={"function": _POLICY.function, "kwargs": {"ms": 0, "sent": number}},
        error_type="RuntimeError",
        error_message=f"503 from host {number}",
        traceback=None,
        fingerprint="f" * 16,
        attempts=4,
        attempt_errors=[],
        worker=None,
        enqueued_at=at,
        failed_at=at,
        replay_of=None,
    )


def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder)}/couturecast.db"


def _postgres() -> Iterator[str]:
    server = PostgresServer()
    server.start()
    try:
        yield server.create("letters")
    finally:
        server.remove()


MEASUREMENTS = tuple(
    Measurement(
        f"replay-{name}",
        (
            Figure(f"bulk replay, letters/s, {title}"),
            Figure(f"… of a bulk enqueue just before, %, {title}", "50"),
        ),
        _replay(databases),
        (OURS,),
    )
    for name, title, databases in (("sqlite", "SQLite", _sqlite), ("postgres", "Postgres", _postgres))
)
"""In the order of the report."""
