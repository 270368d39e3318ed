"""Puts the parts together, bottom up: servers, queues, cache, handlers, worker process, operations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from redis.asyncio import Redis

from app.errors import AppError
from app.process.exit import abort
from app.process.handlers import custom_handlers, open_handlers, weather_schedule
from app.process.tracing import start_tracing
from app.servers.data_dir import prepare_data_dir
from app.servers.database_startup import DatabaseUse, open_database
from app.servers.embedded_valkey import EmbeddedServer
from app.servers.redis_startup import wait_for_redis
from app.settings import Settings
from app.version import VERSION
from storage.asyncio_tools import cancel_and_wait
from storage.cache.cache import Cache
from storage.cache.change_listener import ChangeListener
from storage.cache.store import TIMEOUT_SECONDS, RedisCacheStore
from storage.cache.tags import ALL_TAG
from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.personalization import Payload, PersonalizationService
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.client import PipelineConnection, make_client
from storage.repositories.operator_actions import OperatorActionRepository
from storage.repositories.preferences import PreferenceRepository
from storage.repositories.weather import WeatherRepository
from workers.engine.policy import QueuePolicy
from workers.engine.queue import JobQueue
from workers.engine.runner import SaqFunction
from workers.handlers.registry import PAYLOAD_MODELS
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.operations.audit import Audit
from workers.operations.cache import CacheOperations
from workers.operations.dead_letters import DeadLetterOperations
from workers.operations.enqueueing import Enqueueing
from workers.operations.operations import Operations
from workers.operations.replays import ReplayOperations
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)

_SUPERVISE_SECONDS = 1.0


@dataclass(frozen=True)
class Appliance:
    """What a command works with.  ``process`` is None if the command runs no workers."""

    settings: Settings
    operations: Operations
    enqueueing: Enqueueing
    preferences: PreferenceRepository
    database: Database
    data_dir: Path
    process: WorkerProcess | None
    redis_url: str = field(repr=False)


@asynccontextmanager
async def open_appliance(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    *,
    run: Iterable[str] = (),
    database: DatabaseUse = "required",
) -> AsyncIterator[Appliance]:
    """Start all parts in order and close them in reverse; with workers for the queues in ``run``.

    Workers require the database; ``database`` is how much other commands need it.  The worker process takes
    no jobs before its ``start``.  Raises AppError.
    """
    run = tuple(run)
    custom = custom_handlers(settings, policies)
    async with AsyncExitStack() as stack:
        data_dir = prepare_data_dir(settings.data_dir)
        stop_tracing = start_tracing(os.environ, VERSION)
        if stop_tracing is not None:
            stack.push_async_callback(asyncio.to_thread, stop_tracing)
        redis_url = await _open_redis(settings, data_dir, stack, works=bool(run))
        opened = await open_database(settings, data_dir, stack, "required" if run else database)
        redis, queues = _open_queues(redis_url, policies, stack)
        cache = _open_cache(settings, redis_url, stack)
        schemas = {name: model for name, model in PAYLOAD_MODELS.items() if name not in custom}
        enqueueing = Enqueueing(queues, schemas)
        preferences = PreferenceRepository(opened, cache.invalidate)
        process = None
        if run:
            own = {name: policies[name] for name in run}
            process = _open_process(settings, redis_url, own, custom, opened, enqueueing, cache, stack)
        operations = _make_operations(
            settings, redis_url, redis, enqueueing, cache, preferences, opened, process
        )
        stack.push_async_callback(operations.close)
        if run:
            listening = asyncio.create_task(_listen_for_changes(opened, cache))
            stack.push_async_callback(cancel_and_wait, [listening])
        yield Appliance(settings, operations, enqueueing, preferences, opened, data_dir, process, redis_url)


def _open_queues(
    redis_url: str, policies: Mapping[str, QueuePolicy], stack: AsyncExitStack
) -> tuple[Redis, dict[str, JobQueue]]:
    redis, pipeline = make_client(redis_url), PipelineConnection(redis_url)
    stack.push_async_callback(redis.aclose)
    stack.push_async_callback(pipeline.close)
    return redis, {name: JobQueue(redis, policy, pipeline) for name, policy in policies.items()}


def _open_cache(settings: Settings, redis_url: str, stack: AsyncExitStack) -> Cache[Payload]:
    """The cache, in its own Redis or, if there is none, in that of the queues."""
    connection = PipelineConnection(_cache_url(settings) or redis_url)
    stack.push_async_callback(connection.close)
    pipeline = AutoPipeline(partial(connection.round_trip, limit=TIMEOUT_SECONDS))
    cache = Cache(RedisCacheStore(pipeline), Payload)
    stack.push_async_callback(cache.close)
    return cache


def _cache_url(settings: Settings) -> str | None:
    return settings.cache_redis_url.get_secret_value() if settings.cache_redis_url else None


def _open_process(
    settings: Settings,
    redis_url: str,
    policies: Mapping[str, QueuePolicy],
    custom: Mapping[str, SaqFunction],
    database: Database,
    enqueueing: Enqueueing,
    cache: Cache[Payload],
    stack: AsyncExitStack,
) -> WorkerProcess:
    """The worker process of these queues, with their handlers."""
    functions = open_handlers(
        policies,
        custom,
        settings,
        database,
        enqueue=enqueueing.enqueue,
        invalidate=cache.invalidate,
        stack=stack,
    )
    process = WorkerProcess(
        redis_url,
        policies=list(policies.values()),
        functions=functions,
        letters=DeadLetterRepository(database),
        drain_seconds=settings.drain_seconds,
        pace=settings.pace,
        schedules=[weather_schedule(WeatherRepository(database))],
        version=VERSION,
        give_up=abort,
    )
    stack.push_async_callback(process.close)
    return process


def _make_operations(
    settings: Settings,
    redis_url: str,
    redis: Redis,
    enqueueing: Enqueueing,
    cache: Cache[Payload],
    preferences: PreferenceRepository,
    database: Database,
    process: WorkerProcess | None,
) -> Operations:
    letters, plans = DeadLetterRepository(database), PlanRepository(database)
    audit = Audit(OperatorActionRepository(database), read_only=settings.read_only)
    cache_url = _cache_url(settings)
    snapshots = SnapshotReader(
        redis,
        redis_url,
        [queue.policy for queue in enqueueing.queues.values()],
        database,
        letters,
        environment=settings.environment,
        weather_provider="offline" if settings.openweather_api_key is None else "openweather",
    )
    changed = snapshots.invalidate_dead_letters
    return Operations(
        redis,
        enqueueing,
        audit,
        dead_letters=DeadLetterOperations(
            redis, letters, plans, queues=enqueueing.queues, audit=audit, changed=changed
        ),
        replays=ReplayOperations(redis, letters, plans, enqueueing, audit=audit, changed=changed),
        cache=CacheOperations(cache, cache_url or redis_url, dedicated=cache_url is not None, audit=audit),
        personalization=PersonalizationService(cache, preferences, WeatherRepository(database)),
        snapshots=snapshots,
        process=process,
    )


async def _listen_for_changes(database: Database, cache: Cache[Payload]) -> None:
    """Invalidate in the cache what other programs change in the database; everything after a gap."""

    async def invalidate(*tags: str) -> None:
        await cache.invalidate(*tags)

    try:
        await ChangeListener(database, on_change=invalidate, on_resync=lambda: invalidate(ALL_TAG)).run()
    except Exception:
        log.exception("changes by other programs are no longer noticed")
        raise


async def _open_redis(settings: Settings, data_dir: Path, stack: AsyncExitStack, *, works: bool) -> str:
    """The URL of a Redis that answers: the configured one, or the embedded server."""
    if settings.redis_url is None:
        server = EmbeddedServer(data_dir)
        joining = asyncio.create_task(asyncio.to_thread(server.acquire))
        stack.push_async_callback(_stop_embedded, server, joining)
        await asyncio.shield(joining)
        supervisor = asyncio.create_task(_supervise_embedded(server))
        stack.callback(supervisor.cancel)
        return server.url
    url = settings.redis_url.get_secret_value()
    await wait_for_redis(url, settings.start_patience, works=works)
    return url


async def _stop_embedded(server: EmbeddedServer, joining: asyncio.Task[None]) -> None:
    """Stop the server; an interrupted start continues in its thread, so wait for that first."""
    await asyncio.wait({joining})
    await asyncio.to_thread(server.release)


async def _supervise_embedded(server: EmbeddedServer) -> None:
    """Restart the embedded server when it dies; its append-only file holds all that was acknowledged."""
    while True:
        await asyncio.sleep(_SUPERVISE_SECONDS)
        try:
            if await asyncio.to_thread(server.restart_if_dead):
                log.warning("the embedded Valkey had died and was started again")
        except (AppError, OSError) as error:  # for instance no free descriptor: the next try may succeed
            log.warning("the embedded Valkey cannot be started again", error=str(error))
