"""Puts the parts together, bottom up: servers, queues, cache, handlers, worker process, operations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from redis.asyncio import Redis

from app.custom_handlers import custom_handlers
from app.notify_urls import open_services
from app.process.exit import abort
from app.process.handlers import open_handlers, weather_schedule
from app.process.tracing import start_tracing
from app.servers.data_dir import prepare_data_dir
from app.servers.database_startup import DatabaseUse, open_database
from app.servers.redis_placement import RedisAddress, open_redises
from app.servers.redis_startup import RedisUse
from app.settings import Settings
from app.version import VERSION
from storage.asyncio_tools import cancel_and_wait
from storage.cache.cache import Cache
from storage.cache.change_listener import ChangeListener
from storage.cache.store import TIMEOUT_SECONDS, RedisCacheStore
from storage.cache.tags import ALL_TAG, InvalidateTags
from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.personalization import Payload, PersonalizationService
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.client import make_client
from storage.redis.pipeline import PipelineConnection
from storage.repositories.alert_history import AlertHistoryRepository
from storage.repositories.events import EventRepository
from storage.repositories.operator_actions import OperatorActionRepository
from storage.repositories.preferences import PreferenceRepository
from storage.repositories.weather import WeatherRepository
from workers.engine.policy import ECONOMICAL, PollIntervals, QueuePolicy
from workers.engine.queue import JobQueue
from workers.handlers.registry import PAYLOAD_MODELS
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.notifications.notifier import Notifier
from workers.operations.alerts import AlertOperations
from workers.operations.audit import Audit
from workers.operations.cache import CacheOperations
from workers.operations.dead_letters import DeadLetterOperations
from workers.operations.enqueueing import Enqueueing
from workers.operations.events import EventOperations
from workers.operations.jobs import JobOperations
from workers.operations.operations import Operations
from workers.operations.replays import ReplayOperations
from workers.operations.schedules import ScheduleOperations
from workers.operations.secrets import SecretMask
from workers.operations.workers import WorkerOperations
from workers.process.alert_keeper import AlertKeeper
from workers.process.event_log import EventLog
from workers.process.idle_checks import IdleChecks
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Appliance:
    """What a command works with.  ``process`` is None if the command runs no workers."""

    settings: Settings
    operations: Operations
    enqueueing: Enqueueing
    invalidate: InvalidateTags
    """Invalidates tags of the cache."""
    preferences: PreferenceRepository
    database: Database
    data_dir: Path
    process: WorkerProcess | None
    redises: Sequence[RedisAddress]
    """The main one first."""
    pace: PollIntervals
    """Of what reads all Redises."""

    @property
    def redis_url(self) -> str:
        """Of the main Redis."""
        return self.redises[0].url


@dataclass(frozen=True)
class _Connections:
    """What nearly every part is made of."""

    settings: Settings
    database: Database
    clients: Mapping[str, Redis] = field(repr=False)
    """By URL, that of the main Redis first."""
    queues: Mapping[str, JobQueue]
    events: EventLog

    @property
    def redis_url(self) -> str:
        """Of the main Redis."""
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


@asynccontextmanager
async def open_appliance(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    *,
    run: Iterable[str] = (),
    reload: bool = False,
    database: DatabaseUse = "required",
    redis: RedisUse = "required",
) -> AsyncIterator[Appliance]:
    """Start all parts in order and close them in reverse; with workers for the queues in ``run``.

    With ``reload`` handler processes are replaced when their code changes.

    Workers require both servers; ``database`` and ``redis`` are how much other commands need each.  The
    worker process takes no jobs before its ``start``.  Raises AppError.
    """
    own = {name: policies[name] for name in run}
    custom = custom_handlers(settings, policies)
    services = open_services(settings) if own else []
    async with AsyncExitStack() as stack:
        data_dir = prepare_data_dir(settings.data_dir)
        stop_tracing = start_tracing(os.environ, settings.release)
        if stop_tracing is not None:
            stack.push_async_callback(asyncio.to_thread, stop_tracing)
        redises = await open_redises(settings, policies, data_dir, stack, "works" if own else redis)
        opened = await open_database(settings, data_dir, stack, "required" if own else database)
        events = EventLog(EventRepository(opened))
        stack.push_async_callback(events.close)
        notifier = Notifier(AlertHistoryRepository(opened), services, settings.environment)
        stack.push_async_callback(notifier.close)  # once the process, which runs it, is closed
        clients, queues = _open_queues(redises, policies, events, stack)
        connections = _Connections(settings, opened, clients, queues, events)
        cache = _open_cache(connections, stack)
        schemas = {name: model for name, model in PAYLOAD_MODELS.items() if name not in custom}
        enqueueing = Enqueueing(queues, schemas)
        preferences = PreferenceRepository(opened, cache.invalidate)
        process = None
        if own:
            process = await _open_process(connections, own, custom, enqueueing, cache, stack, reload=reload)
        snapshots = _make_snapshots(connections, policies)
        if process is not None:
            process.accompany(_make_alert_keeper(connections, snapshots, process, notifier).run)
            process.accompany(notifier.run)
        operations = _make_operations(connections, enqueueing, cache, preferences, snapshots, process)
        operations.notification_counts = notifier.counts
        stack.push_async_callback(operations.close)
        if own:
            listening = asyncio.create_task(_listen_for_changes(opened, cache))
            stack.push_async_callback(cancel_and_wait, [listening])
        yield Appliance(
            settings,
            operations,
            enqueueing,
            cache.invalidate,
            preferences,
            opened,
            data_dir,
            process,
            redises,
            connections.pace,
        )


def _open_queues(
    redises: Sequence[RedisAddress],
    policies: Mapping[str, QueuePolicy],
    events: EventLog,
    stack: AsyncExitStack,
) -> tuple[dict[str, Redis], dict[str, JobQueue]]:
    """The client of each Redis by its URL, and the queues by name."""
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


def _open_cache(connections: _Connections, stack: AsyncExitStack) -> Cache[Payload]:
    """The cache, in its own Redis or, if there is none, in that of the queues."""
    connection = PipelineConnection(_cache_url(connections.settings) or connections.redis_url)
    stack.push_async_callback(connection.close)
    pipeline = AutoPipeline(partial(connection.round_trip, limit=TIMEOUT_SECONDS))
    cache = Cache(RedisCacheStore(pipeline), Payload)
    stack.push_async_callback(cache.close)
    return cache


def _cache_url(settings: Settings) -> str | None:
    return settings.cache_redis_url.get_secret_value() if settings.cache_redis_url else None


async def _open_process(
    connections: _Connections,
    policies: Mapping[str, QueuePolicy],
    custom: Mapping[str, str],
    enqueueing: Enqueueing,
    cache: Cache[Payload],
    stack: AsyncExitStack,
    *,
    reload: bool,
) -> WorkerProcess:
    """The worker process of these queues, with their handlers."""
    settings, database = connections.settings, connections.database
    functions = await open_handlers(
        policies,
        custom,
        settings,
        database,
        enqueue=enqueueing.enqueue,
        enqueue_job=enqueueing.enqueue_function,
        invalidate=cache.invalidate,
        stack=stack,
        reload=reload,
    )
    process = WorkerProcess(
        connections.redis_url,
        policies=list(policies.values()),
        functions=functions,
        letters=DeadLetterRepository(database),
        drain_seconds=settings.drain_seconds,
        paces={url: settings.pace_at(url) for url in connections.clients},
        schedules=[weather_schedule(WeatherRepository(database))],
        version=VERSION,
        release=settings.release,
        events=connections.events,
        give_up=abort,
    )
    stack.push_async_callback(process.close)
    return process


def _make_snapshots(connections: _Connections, policies: Mapping[str, QueuePolicy]) -> SnapshotReader:
    settings, database = connections.settings, connections.database
    return SnapshotReader(
        connections.redis,
        connections.redis_url,
        list(policies.values()),
        database,
        DeadLetterRepository(database),
        environment=settings.environment,
        clients=connections.clients,
        weather_provider="offline" if settings.openweather_api_key is None else "openweather",
        thresholds=settings.thresholds,
        history=AlertHistoryRepository(database),
        plans=PlanRepository(database),
        schedules=[weather_schedule(WeatherRepository(database))],
    )


def _make_alert_keeper(
    connections: _Connections, snapshots: SnapshotReader, process: WorkerProcess, notifier: Notifier
) -> AlertKeeper:
    pace = connections.pace
    return AlertKeeper(
        connections.redis,
        AlertHistoryRepository(connections.database),
        lambda: snapshots.snapshot(
            loop_lag=None,
            drain_deadline_in=process.drain_deadline_in,
            refused=process.redis_errors,
            keep_history=True,
        ),
        is_active=lambda: process.is_active() or snapshots.saw_alerts,
        idle=IdleChecks(
            connections.clients.values(),
            count_seconds=pace.count,
            plans=PlanRepository(connections.database),
            schedules={schedule: connections.queues[schedule.queue].redis for schedule in process.schedules},
        ),
        pace=pace,
        emit=connections.events.emit,
        notify=notifier.notify,
        notify_unrecorded=notifier.notify_unrecorded,
    )


def _make_operations(
    connections: _Connections,
    enqueueing: Enqueueing,
    cache: Cache[Payload],
    preferences: PreferenceRepository,
    snapshots: SnapshotReader,
    process: WorkerProcess | None,
) -> Operations:
    redis, database = connections.redis, connections.database
    weather = WeatherRepository(database)
    audit = Audit(OperatorActionRepository(database), read_only=connections.settings.read_only)
    mask = SecretMask(connections.settings.secret_fields)
    dead_letters, replays = _make_letter_operations(connections, enqueueing, audit, snapshots, mask)
    return Operations(
        redis,
        enqueueing,
        audit,
        dead_letters=dead_letters,
        replays=replays,
        cache=_make_cache_operations(connections, cache, audit, mask),
        alerts=AlertOperations(
            AlertHistoryRepository(database),
            audit,
            queues=enqueueing.queues,
            changed=snapshots.invalidate_decisions,
            take_snapshot=partial(snapshots.snapshot, loop_lag=None, drain_deadline_in=None),
            emit=connections.events.emit,
        ),
        events=EventOperations(connections.events.repository, queues=enqueueing.queues, mask=mask),
        jobs=JobOperations(
            enqueueing, audit, dead_letters=dead_letters, take_snapshot=snapshots.take, mask=mask
        ),
        schedules=ScheduleOperations(enqueueing, [weather_schedule(weather)], audit),
        workers=WorkerOperations(
            list(connections.clients.values()),
            audit,
            read_cluster=snapshots.cluster,
            process=process,
            mask=mask,
        ),
        personalization=PersonalizationService(cache, preferences, weather),
        snapshots=snapshots,
        process=process,
    )


def _make_letter_operations(
    connections: _Connections,
    enqueueing: Enqueueing,
    audit: Audit,
    snapshots: SnapshotReader,
    mask: SecretMask,
) -> tuple[DeadLetterOperations, ReplayOperations]:
    redis, changed = connections.redis, snapshots.invalidate_dead_letters
    letters, plans = DeadLetterRepository(connections.database), PlanRepository(connections.database)
    return (
        DeadLetterOperations(
            redis, letters, plans, queues=enqueueing.queues, audit=audit, changed=changed, mask=mask
        ),
        ReplayOperations(
            redis,
            letters,
            plans,
            enqueueing,
            audit=audit,
            changed=changed,
            mask=mask,
            emit=connections.events.emit,
        ),
    )


def _make_cache_operations(
    connections: _Connections, cache: Cache[Payload], audit: Audit, mask: SecretMask
) -> CacheOperations:
    cache_url = _cache_url(connections.settings)
    return CacheOperations(
        cache,
        cache_url or connections.redis_url,
        dedicated=cache_url is not None,
        audit=audit,
        thresholds=connections.settings.thresholds,
        mask=mask,
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
