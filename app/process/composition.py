"""Puts the parts together, bottom up: servers, queues, cache, handlers, worker process, operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from app.custom_handlers import custom_handlers
from app.notify_urls import open_services
from app.process.connections import Connections, open_connections
from app.process.exit import abort
from app.process.handlers import open_handlers, weather_schedule
from app.servers.database_startup import DatabaseUse
from app.servers.redis_placement import RedisAddress
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
from storage.redis.pipeline import PipelineConnection
from storage.repositories.alert_history import AlertHistoryRepository
from storage.repositories.operator_actions import OperatorActionRepository
from storage.repositories.preferences import PreferenceRepository
from storage.repositories.weather import WeatherRepository
from workers.dead_letters.retention import ALERT_DAYS, RETENTION_DAYS, Expiring, Retention
from workers.engine.policy import PollIntervals, QueuePolicy
from workers.handlers.registry import PAYLOAD_MODELS
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.notifications.notifier import Notifier
from workers.notifications.services import NotificationService
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
from workers.process.idle_checks import IdleChecks
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Appliance:
    """The parts that a command works with.  ``process`` is None if the command runs no workers."""

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
    """The poll intervals of what reads all Redises."""

    @property
    def redis_url(self) -> str:
        """The URL of the main Redis."""
        return self.redises[0].url


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

    Workers require both servers; ``database`` and ``redis`` are how much other commands need each.  The
    worker process takes no jobs before its ``start``.  With ``reload`` handler processes are replaced when
    their code changes.  Raises AppError.
    """
    own = {name: policies[name] for name in run}
    custom = custom_handlers(settings, policies)
    services = open_services(settings) if own else []
    if own:
        redis, database = "works", "required"
    async with AsyncExitStack() as stack:
        connections = await open_connections(settings, policies, stack, database=database, redis=redis)
        notifier = _make_notifier(connections, services)
        stack.push_async_callback(notifier.close)  # once the process, which runs it, is closed
        cache = _open_cache(connections, stack)
        schemas = {name: model for name, model in PAYLOAD_MODELS.items() if name not in custom}
        enqueueing = Enqueueing(connections.queues, schemas)
        preferences = PreferenceRepository(connections.database, cache.invalidate)
        snapshots = _make_snapshots(connections, policies)
        process = None
        if own:
            process = await _open_process(connections, own, custom, enqueueing, cache, stack, reload=reload)
            process.accompany(_make_alert_keeper(connections, snapshots, process, notifier).run)
            process.accompany(notifier.run)
            process.accompany(_make_retention(connections).run)
            listening = asyncio.create_task(_listen_for_changes(connections.database, cache))
            stack.push_async_callback(cancel_and_wait, [listening])
        operations = _make_operations(connections, enqueueing, cache, preferences, snapshots, process)
        operations.notification_counts = notifier.counts
        stack.push_async_callback(operations.close)
        yield Appliance(
            settings,
            operations,
            enqueueing,
            cache.invalidate,
            preferences,
            connections.database,
            connections.data_dir,
            process,
            connections.redises,
            connections.pace,
        )


def _open_cache(connections: Connections, stack: AsyncExitStack) -> Cache[Payload]:
    """Return the cache, in its own Redis if it has one, else in that of the queues."""
    connection = PipelineConnection(_cache_url(connections.settings) or connections.redis_url)
    stack.push_async_callback(connection.close)
    pipeline = AutoPipeline(partial(connection.round_trip, limit=TIMEOUT_SECONDS))
    cache = Cache(RedisCacheStore(pipeline), Payload)
    stack.push_async_callback(cache.close)
    return cache


def _cache_url(settings: Settings) -> str | None:
    return settings.cache_redis_url.get_secret_value() if settings.cache_redis_url else None


async def _open_process(
    connections: Connections,
    policies: Mapping[str, QueuePolicy],
    custom: Mapping[str, str],
    enqueueing: Enqueueing,
    cache: Cache[Payload],
    stack: AsyncExitStack,
    *,
    reload: bool,
) -> WorkerProcess:
    """Return the worker process of these queues, with their handlers."""
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
        thresholds=settings.thresholds,
        give_up=abort,
    )
    stack.push_async_callback(process.close)
    return process


def _make_snapshots(connections: Connections, policies: Mapping[str, QueuePolicy]) -> SnapshotReader:
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


def _make_retention(connections: Connections) -> Retention:
    database = connections.database
    expiring = (
        Expiring(connections.events.repository.delete, RETENTION_DAYS),
        Expiring(AlertHistoryRepository(database).delete, ALERT_DAYS),
    )
    return Retention(connections.redis, DeadLetterRepository(database), expiring)


def _make_notifier(connections: Connections, services: Sequence[NotificationService]) -> Notifier:
    settings = connections.settings
    return Notifier(
        AlertHistoryRepository(connections.database),
        services,
        settings.environment,
        thresholds=settings.thresholds,
    )


def _make_alert_keeper(
    connections: Connections, snapshots: SnapshotReader, process: WorkerProcess, notifier: Notifier
) -> AlertKeeper:
    pace = connections.pace
    return AlertKeeper(
        connections.redis,
        AlertHistoryRepository(connections.database),
        lambda: snapshots.snapshot(
            loop_lag=None,
            drain_deadline_in=process.drain_deadline_in,
            outages=process.redis_outages,
            keep_history=True,
        ),
        is_active=lambda: process.is_active() or snapshots.saw_alerts,
        idle=IdleChecks(
            connections.clients.values(),
            count_seconds=pace.count,
            plans=PlanRepository(connections.database),
            check_writes=connections.database.check_writes,
            schedules={schedule: connections.queues[schedule.queue].redis for schedule in process.schedules},
        ),
        pace=pace,
        emit=connections.events.emit,
        notify=notifier.notify,
        notify_unrecorded=notifier.notify_unrecorded,
    )


def _make_operations(
    connections: Connections,
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
    connections: Connections,
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
    connections: Connections, cache: Cache[Payload], audit: Audit, mask: SecretMask
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
