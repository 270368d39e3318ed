"""Builds operations with clients of their own, as `app.process.composition` does for the program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from storage.cache.cache import Cache
from storage.cache.store import TIMEOUT_SECONDS, RedisCacheStore
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
from workers.engine.placement import group_by_url
from workers.engine.policy import QueuePolicy
from workers.engine.queue import JobQueue
from workers.engine.schedules import Schedule
from workers.monitoring.snapshot_reader import SnapshotReader
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
from workers.operations.workers import WorkerOperations
from workers.process.event_log import EventLog
from workers.process.worker_process import WorkerProcess


class BuiltOperations(Operations):
    """Operations that close their clients, too."""

    enqueueing: Enqueueing
    preferences: PreferenceRepository
    closers: Sequence[Callable[[], Awaitable[Any]]] = ()

    async def close(self) -> None:
        await super().close()
        for close in self.closers:
            await close()


def _make_snapshots(*servers: Any, **repositories: Any) -> SnapshotReader:
    return SnapshotReader(*servers, environment="local", weather_provider="offline", **repositories)


def build_operations(
    redis_url: str,
    *,
    policies: Sequence[QueuePolicy],
    schemas: Mapping[str, type[BaseModel]],
    database: Database,
    letters: DeadLetterRepository,
    process: WorkerProcess | None = None,
    actor: str | None = None,
    read_only: bool = False,
    cache_url: str | None = None,
    schedules: Sequence[Schedule] = (),
) -> BuiltOperations:
    """Operations on these servers; ``close`` closes all that they opened."""
    groups = group_by_url(policies, redis_url)
    clients = {url: make_client(url) for url in groups}
    pipelines = {url: PipelineConnection(url) for url in groups}
    redis = clients[redis_url]
    cache_pipeline = PipelineConnection(cache_url or redis_url)
    store = RedisCacheStore(AutoPipeline(partial(cache_pipeline.round_trip, limit=TIMEOUT_SECONDS)))
    cache = Cache(store, Payload)
    urls = {policy.name: policy.redis_url or redis_url for policy in policies}
    queues = {
        policy.name: JobQueue(clients[urls[policy.name]], policy, pipelines[urls[policy.name]])
        for policy in policies
    }
    events = EventLog(EventRepository(database))
    enqueueing, plans = Enqueueing(queues, schemas), PlanRepository(database)
    audit = Audit(OperatorActionRepository(database), actor=actor, read_only=read_only)
    preferences = PreferenceRepository(database, cache.invalidate)
    alerts = AlertHistoryRepository(database)
    snapshots = _make_snapshots(
        redis, redis_url, policies, database, letters, history=alerts, plans=plans, clients=clients
    )
    changed = snapshots.invalidate_dead_letters
    dead_letters = DeadLetterOperations(redis, letters, plans, queues=queues, audit=audit, changed=changed)
    operations = BuiltOperations(
        redis,
        enqueueing,
        audit,
        dead_letters=dead_letters,
        replays=ReplayOperations(
            redis, letters, plans, enqueueing, audit=audit, changed=changed, emit=events.emit
        ),
        cache=CacheOperations(cache, cache_url or redis_url, dedicated=cache_url is not None, audit=audit),
        alerts=AlertOperations(
            alerts,
            audit,
            queues=queues,
            changed=snapshots.invalidate_decisions,
            take_snapshot=partial(snapshots.snapshot, loop_lag=None, drain_deadline_in=None),
            emit=events.emit,
        ),
        events=EventOperations(events.repository, queues=queues),
        jobs=JobOperations(enqueueing, audit, dead_letters=dead_letters, take_snapshot=snapshots.take),
        schedules=ScheduleOperations(enqueueing, schedules, audit),
        workers=WorkerOperations(
            list(clients.values()), audit, read_cluster=snapshots.cluster, process=process
        ),
        personalization=PersonalizationService(cache, preferences, WeatherRepository(database)),
        snapshots=snapshots,
        process=process,
    )
    operations.enqueueing, operations.preferences = enqueueing, preferences
    operations.closers = (
        *(events.close, cache.close, cache_pipeline.close),
        *(pipeline.close for pipeline in pipelines.values()),
        *(client.aclose for client in clients.values()),
    )
    return operations
