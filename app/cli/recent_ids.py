"""Ids from the database, and keys of jobs from Redis, for the completion of a command line.

They create, migrate and print nothing: the operator has only pressed TAB.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from app.process.exit import exit_now
from app.servers.database_startup import existing_database
from app.servers.redis_startup import existing_redis_url
from app.settings import load
from storage.database.engine import Database
from storage.database.events import EventKind
from storage.dead_letters.filters import LetterFilter, LetterState
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from storage.repositories.events import EventFilter, EventRepository
from workers.engine.job_reader import JobReader, WindowState
from workers.engine.policy import QueuePolicy
from workers.operations.job_views import key_of

_MAX_IDS = 30
_MAX_IDS_OF_STATE = 10
_SERVER_SECONDS = 1.0
_FILE_SECONDS = 10.0
"""SQLite waits for other writers, but for no server."""

_ENDS: tuple[EventKind, ...] = ("worker-drained", "worker-lost")

Ids = list[tuple[str, str]]
"""Ids, each with a description."""


def letters(data_dir: Path | None, state: LetterState | None) -> Ids:
    """Return the newest letters in a state; None: in any."""

    async def query(database: Database) -> Ids:
        page = await DeadLetterRepository(database).page(LetterFilter(state=state), limit=_MAX_IDS)
        return [(str(letter.id), f"{letter.queue_name} {letter.error_type}") for letter in page.items]

    return _run(data_dir, query)


def workers(data_dir: Path | None) -> Ids:
    """Return the newest processes that have started, and of whose end there is no event."""

    async def query(database: Database) -> Ids:
        events = EventRepository(database)
        pages = [await events.page(EventFilter(kind=kind), limit=_MAX_IDS) for kind in _ENDS]
        gone = {event.subject for page in pages for event in page.items}
        started = (await events.page(EventFilter(kind="worker-started"), limit=_MAX_IDS)).items
        return [(str(event.subject), event.message) for event in started if event.subject not in gone]

    return _run(data_dir, query)


def plans(data_dir: Path | None) -> Ids:
    """Return the newest plans."""

    async def query(database: Database) -> Ids:
        newest = await PlanRepository(database).newest(_MAX_IDS)
        return [(str(plan.id), f"{plan.state}, {plan.total} letters") for plan in newest]

    return _run(data_dir, query)


def jobs(data_dir: Path | None, queue: str) -> Ids:
    """Return the jobs of a queue in every state, those that run first."""
    logging.disable(logging.CRITICAL)
    with suppress(Exception):
        settings, policies = load(data_dir=data_dir)
        url = policies[queue].redis_url or existing_redis_url(settings)
        if url is not None:
            return _run_in_time(lambda: _job_keys(url, policies[queue]), _SERVER_SECONDS)
    return []


async def _job_keys(url: str, policy: QueuePolicy) -> Ids:
    redis = make_client(url)
    ids: Ids = []
    try:
        reader = JobReader(redis, policy.name)
        for state in get_args(WindowState):
            window = await reader.window(state, _MAX_IDS_OF_STATE)
            ids += [(key_of(policy.name, job.id), state) for job in window.jobs]
    finally:
        await redis.aclose()
    return ids


def _run(data_dir: Path | None, query: Callable[[Database], Awaitable[Ids]]) -> Ids:
    """Return the result of a query; nothing if it fails.  Ends the process if it takes too long."""
    logging.disable(logging.CRITICAL)
    with suppress(Exception):
        settings, _ = load(data_dir=data_dir)
        database = existing_database(settings)
        if database is not None:
            seconds = _FILE_SECONDS if database.dialect == "sqlite" else _SERVER_SECONDS
            return _run_in_time(lambda: _query(database, query), seconds)
    return []


async def _query(database: Database, query: Callable[[Database], Awaitable[Ids]]) -> Ids:
    try:
        return await query(database)
    finally:
        await database.close()


def _run_in_time(fetch: Callable[[], Coroutine[Any, Any, Ids]], seconds: float) -> Ids:
    ids: Ids = []

    def run() -> None:
        with suppress(Exception):
            ids.extend(asyncio.run(fetch()))

    # A name server that does not answer blocks a thread, which the interpreter would wait for.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        exit_now(0)
    return ids
