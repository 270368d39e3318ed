"""The connections that nearly every part is made of: Redis, database, queues."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from app.process.tracing import start_tracing
from app.servers.data_dir import prepare_data_dir
from app.servers.database_startup import DatabaseUse, open_database
from app.servers.redis_placement import RedisAddress, open_redises
from app.servers.redis_startup import RedisUse
from app.settings import Settings
from storage.database.engine import Database
from storage.redis.client import make_client
from storage.redis.pipeline import PipelineConnection
from storage.repositories.events import EventRepository
from workers.engine.policy import ECONOMICAL, PollIntervals, QueuePolicy
from workers.engine.queue import JobQueue
from workers.process.event_log import EventLog


@dataclass(frozen=True)
class Connections:
    """The connections from which nearly every part is made."""

    settings: Settings
    data_dir: Path
    database: Database
    redises: Sequence[RedisAddress]
    """The main one first."""
    clients: Mapping[str, Redis] = field(repr=False)
    """By URL, that of the main Redis first."""
    queues: Mapping[str, JobQueue]
    events: EventLog

    @property
    def redis_url(self) -> str:
        """The URL of the main Redis."""
        return next(iter(self.clients))

    @property
    def redis(self) -> Redis:
        """The client of the main Redis, which holds what belongs to the cluster as a whole."""
        return self.clients[self.redis_url]

    @property
    def pace(self) -> PollIntervals:
        """Poll intervals of what reads all Redises: economical if one of them is."""
        paces = [self.settings.pace_at(url) for url in self.clients]
        return ECONOMICAL if ECONOMICAL in paces else paces[0]


async def open_connections(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    stack: AsyncExitStack,
    *,
    database: DatabaseUse,
    redis: RedisUse,
) -> Connections:
    """Start what is embedded, and open the servers in order: Redis, database, queues."""
    data_dir = prepare_data_dir(settings.data_dir)
    stop_tracing = start_tracing(os.environ, settings.release)
    if stop_tracing is not None:
        stack.push_async_callback(asyncio.to_thread, stop_tracing)
    redises = await open_redises(settings, policies, data_dir, stack, redis)
    opened_database = await open_database(settings, data_dir, stack, database)
    events = EventLog(EventRepository(opened_database))
    stack.push_async_callback(events.close)
    clients, queues = _open_queues(redises, policies, events, stack)
    return Connections(settings, data_dir, opened_database, redises, clients, queues, events)


def _open_queues(
    redises: Sequence[RedisAddress],
    policies: Mapping[str, QueuePolicy],
    events: EventLog,
    stack: AsyncExitStack,
) -> tuple[dict[str, Redis], dict[str, JobQueue]]:
    """Return the client of each Redis by its URL, and the queues by name."""
    clients: dict[str, Redis] = {}
    queues: dict[str, JobQueue] = {}
    for address in redises:
        redis, pipeline = make_client(address.url), PipelineConnection(address.url)
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(pipeline.close)
        clients[address.url] = redis
        for name in address.queues:
            queues[name] = JobQueue(redis, policies[name], pipeline, emit=events.emit)
    return clients, {name: queues[name] for name in policies}
