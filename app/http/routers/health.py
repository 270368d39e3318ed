"""The health of the queues, open to all."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Response
from pydantic import BaseModel, Field

from app.http.dependencies import State
from app.http.routing import open_router
from app.http.state import REDIS_REFUSES, REDIS_SILENT
from workers.engine.histogram import Percentiles
from workers.monitoring import alert_rules as rules
from workers.monitoring.snapshot import Alert, Pause, QueueSnapshot, Snapshot

router = open_router("health", "/api/v1/health")


class Thresholds(BaseModel):
    """The limits that alerts are about."""

    depth: int = Field(int(rules.DEFAULTS.limit(rules.BACKLOG)), description="Ready jobs.")
    failure_rate: float = Field(rules.DEFAULTS.limit(rules.FAILING), description="Share of attempts, 0 to 1.")
    redis_memory: float = Field(
        rules.DEFAULTS.limit(rules.REDIS_MEMORY), description="Share of the memory limit, 0 to 1."
    )
    letters_waiting: float = Field(
        rules.DEFAULTS.limit(rules.LETTERS_WAITING),
        description="Seconds that a dead letter may wait for the database.",
    )


class QueueHealth(BaseModel):
    """One queue, across the cluster.  Times are seconds; null is unknown, or nothing to measure."""

    name: str
    healthy: bool
    depth: int = Field(description="Jobs ready to run.")
    oldest_age: float | None = Field(description="How long the job at the head has been ready.")
    in_flight: int
    concurrency: int
    failure_rate: float | None = Field(
        description="Share of failed attempts among those that ended in the last five minutes, 0 to 1."
    )
    latency: Percentiles = Field(description="Of the time that jobs waited, over the last five minutes.")
    paused: Pause | None
    workers: int = Field(description="Live processes that serve it, neither dead nor blocked.")
    held_by_dead: int = Field(description="Of the jobs in flight, those whose process is gone.")
    held_by_blocked: int = Field(description="Of the jobs in flight, those whose event loop is blocked.")
    alerts: list[Alert]


class Health(BaseModel):
    """All queues, the limits, and the alerts."""

    healthy: bool = Field(description="Whether Redis answers and no queue has an alert.")
    queues: list[QueueHealth]
    thresholds: Thresholds
    alerts: list[Alert] = Field(description="Of the servers; those of a queue are in `queues`.")


@router.get(
    "/queues",
    summary="Depth, latency, failure rate and alerts of each queue",
    response_description="All queues are healthy.",
    responses={503: {"model": Health, "description": "A queue is unhealthy, or Redis does not answer."}},
)
async def queue_health(state: State, response: Response) -> Health:
    """With the limits that the alerts are about."""
    try:
        health = health_of(await state.snapshot())
    except TimeoutError:
        silent = Alert(None, rules.REDIS, REDIS_SILENT, "critical")
        health = Health(healthy=False, queues=[], thresholds=Thresholds(), alerts=[silent])
    response.status_code = 200 if health.healthy else 503
    return health


def health_of(snapshot: Snapshot) -> Health:
    """Return the health of all queues in a snapshot.  Pure."""
    queues = [_queue_health(queue, snapshot) for queue in snapshot.queues]
    return Health(
        healthy=snapshot.redis.error is None and all(queue.healthy for queue in queues),
        queues=queues,
        thresholds=Thresholds(),
        alerts=[_without_addresses(alert, snapshot) for alert in snapshot.alerts if alert.queue is None],
    )


def _without_addresses(alert: Alert, snapshot: Snapshot) -> Alert:
    """Return an alert without addresses, hosts and names of handlers: the health is open to all."""
    if alert.name == rules.REDIS:
        redis = snapshot.redis
        if redis.refusal is not None:
            return replace(alert, message=f"Redis {redis.refusal}")
        return replace(alert, message=REDIS_SILENT if redis.timed_out else REDIS_REFUSES)
    if alert.name == rules.DATABASE:
        return replace(alert, message="the database does not answer")
    if alert.name == rules.BLOCKED:
        return replace(alert, message="the event loop of a process is blocked")
    return alert


def _queue_health(queue: QueueSnapshot, snapshot: Snapshot) -> QueueHealth:
    alerts = [alert for alert in snapshot.alerts if alert.queue == queue.name]
    return QueueHealth(
        name=queue.name,
        healthy=not any(alert.fires for alert in alerts) and snapshot.redis.error is None,
        depth=queue.depth,
        oldest_age=queue.oldest_age,
        in_flight=queue.in_flight,
        concurrency=queue.concurrency,
        failure_rate=queue.failure_rate,
        latency=queue.wait,
        paused=queue.paused,
        workers=queue.workers,
        held_by_dead=queue.held_by_dead,
        held_by_blocked=queue.held_by_blocked,
        alerts=alerts,
    )
