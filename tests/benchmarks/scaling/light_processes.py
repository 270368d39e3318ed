"""Many worker processes in one: each with its own connections, presence, heartbeat and alert keeper.

``python -m tests.benchmarks.scaling.light_processes REDIS_URL COUNT`` prints ``{"ready": true}`` once all of
them take jobs, and runs until its standard input closes.  They share an event loop, a database and a handler,
which waits a moment: what the server sees of each is that of a real process with the four queues.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from typing import Any

import structlog
import uvloop

from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from storage.repositories.alert_history import AlertHistoryRepository
from tests.benchmarks.peers.protocol import say
from workers.engine.policy import DEFAULT_POLICIES, NORMAL
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.process.alert_keeper import AlertKeeper
from workers.process.idle_checks import IdleChecks
from workers.process.worker_process import WorkerProcess

JOB_SECONDS = 0.02
_STARTS_AT_ONCE = 5
_START_SECONDS = 60.0


async def _run(url: str, count: int) -> None:
    database = Database(f"sqlite:///{tempfile.mkdtemp()}/couturecast.db")
    await database.start()
    for first in range(0, count, _STARTS_AT_ONCE):
        await asyncio.gather(
            *(_start(url, database) for _ in range(first, min(count, first + _STARTS_AT_ONCE)))
        )
    say(ready=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


async def _start(url: str, database: Database) -> None:
    policies = list(DEFAULT_POLICIES.values())
    process = WorkerProcess(
        url,
        policies=policies,
        functions=dict.fromkeys(DEFAULT_POLICIES, _wait),
        letters=DeadLetterRepository(database),
    )
    process.accompany(_alert_keeper(url, database, process).run)
    await process.start()
    await process.wait_taking(_START_SECONDS)


async def _wait(_context: dict[str, Any], **_arguments: Any) -> None:
    await asyncio.sleep(JOB_SECONDS)


def _alert_keeper(url: str, database: Database, process: WorkerProcess) -> AlertKeeper:
    """As `app.process.composition` makes it, without notifications."""
    redis, plans, history = make_client(url), PlanRepository(database), AlertHistoryRepository(database)
    snapshots = make_snapshots(url, database)
    return AlertKeeper(
        redis,
        history,
        lambda: snapshots.snapshot(loop_lag=None, drain_deadline_in=None, keep_history=True),
        is_active=lambda: process.is_active() or snapshots.saw_alerts,
        idle=IdleChecks(redis, count_seconds=NORMAL.count, plans=plans),
        emit=lambda _event: None,
    )


def make_snapshots(url: str, database: Database) -> SnapshotReader:
    """What the dashboard takes its snapshots with."""
    return SnapshotReader(
        make_client(url),
        url,
        list(DEFAULT_POLICIES.values()),
        database,
        DeadLetterRepository(database),
        environment="benchmark",
        weather_provider="offline",
        history=AlertHistoryRepository(database),
        plans=PlanRepository(database),
    )


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    uvloop.run(_run(sys.argv[1], int(sys.argv[2])))
