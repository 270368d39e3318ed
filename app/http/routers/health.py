"""The health of the queues, open to all."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import State
from app.http.models import example
from app.http.routing import open_router
from app.http.state import REFUSES_CONNECTION, SILENT
from workers.engine.histogram import Percentiles
from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_rules import BY_NAME, Severity, Thresholds
from workers.monitoring.snapshot import Alert, AlertState, Pause, QueueSnapshot, Snapshot

router = open_router("health", "/api/v1/health")

_PUBLIC_MESSAGES = frozenset(
    {
        rules.BACKLOG,
        rules.BROKEN_KEYS,
        rules.FAILING,
        rules.HELD_BY_DEAD,
        rules.LETTERS_WAITING,
        rules.NO_WORKER,
        rules.REDIS_EVICTION,
        rules.REDIS_MEMORY,
        rules.STALLED,
    }
)
"""Alerts whose message has figures only, unless they are about a process, which it names by its host."""


class ClusterThresholds(BaseModel):
    """The limits of the servers' alerts, and those of every queue that has none of its own."""

    depth: float = Field(description="Ready jobs.")
    failure_rate: float = Field(description="Share of attempts, 0 to 1.")
    redis_memory: float = Field(description="Share of the memory limit, 0 to 1.")
    letters_waiting: float = Field(description="Seconds that a dead letter may wait for the database.")


class QueueThresholds(BaseModel):
    """The limits of the queue's alerts."""

    depth: float = Field(description="Ready jobs.")
    failure_rate: float = Field(description="Share of attempts, 0 to 1.")
    slow: float = Field(description="Times the baseline of a 95th percentile.")
    stalled: float = Field(description="Seconds without progress.")


class Latency(BaseModel):
    """Percentiles of the last five minutes, in seconds, and what the 95th usually is."""

    p50: float | None
    p95: float | None
    p99: float | None
    baseline: float | None = Field(description="Null if it is not known yet.")


class HealthAlert(BaseModel):
    """A breached threshold."""

    model_config = example(
        queue="color-extraction",
        name="backlog",
        message="132 queued, limit 100",
        severity="warning",
        state="firing",
        since=1772366400.0,
        value=132,
        limit=100,
        silenced_until=None,
    ) | ConfigDict(from_attributes=True)

    queue: str | None
    name: str
    message: str
    severity: Severity
    state: AlertState
    since: float | None = Field(description="Unix second at which the breach began.")
    value: float | None = Field(description="In the unit of the limit.")
    limit: float | None
    silenced_until: float | None = Field(description="Unix second.")


class QueueHealth(BaseModel):
    """One queue, across the cluster.  Times are seconds; null is unknown, or nothing to measure."""

    name: str
    healthy: bool
    depth: int = Field(description="Jobs ready to run.")
    oldest_age: float | None = Field(description="How long the job at the head has been ready.")
    in_flight: int
    concurrency: int
    utilisation: float = Field(description="Share of the concurrency that is in flight, 0 to 1.")
    failure_rate: float | None = Field(
        description="Share of failed attempts among those that ended in the last five minutes, 0 to 1."
    )
    latency: Latency = Field(description="Of the time that jobs waited.")
    run: Latency = Field(description="Of the time that jobs ran.")
    thresholds: QueueThresholds
    paused: Pause | None
    workers: int = Field(description="Live processes that serve it, neither dead nor blocked.")
    held_by_dead: int = Field(description="Of the jobs in flight, those whose process is gone.")
    held_by_blocked: int = Field(description="Of the jobs in flight, those whose event loop is blocked.")
    alerts: list[HealthAlert]


class Health(BaseModel):
    """All queues, the limits, and the alerts."""

    healthy: bool = Field(
        description="Whether Redis answers and no alert fires but information and silenced ones."
    )
    queues: list[QueueHealth]
    thresholds: ClusterThresholds
    alerts: list[HealthAlert] = Field(description="Of the servers; those of a queue are in `queues`.")


@router.get(
    "/queues",
    summary="Depth, latency, failure rate and alerts of each queue",
    response_description="No alert fires.",
    responses={503: {"model": Health, "description": "An alert fires, or Redis does not answer."}},
)
async def queue_health(state: State, response: Response) -> Health:
    """With the limits that the alerts are about.  Information and silenced alerts do not count."""
    try:
        health = health_of(await state.snapshot(), state.operations.thresholds)
    except TimeoutError:
        silent = Alert(None, rules.REDIS, f"Redis {SILENT}", "critical")
        health = Health(
            healthy=False,
            queues=[],
            thresholds=_cluster_thresholds(state.operations.thresholds),
            alerts=[HealthAlert.model_validate(silent)],
        )
    response.status_code = 200 if health.healthy else 503
    return health


def health_of(snapshot: Snapshot, thresholds: Thresholds = rules.DEFAULTS) -> Health:
    """Return the health of all queues in a snapshot.  Pure."""
    is_up = all(redis.error is None for redis in snapshot.redises)
    return Health(
        healthy=is_up and not any(alert.fires for alert in snapshot.alerts),
        queues=[_queue_health(queue, snapshot, thresholds) for queue in snapshot.queues],
        thresholds=_cluster_thresholds(thresholds),
        alerts=_public(snapshot, None),
    )


def _queue_health(queue: QueueSnapshot, snapshot: Snapshot, thresholds: Thresholds) -> QueueHealth:
    fires = any(alert.fires for alert in snapshot.alerts if alert.queue == queue.name)
    return QueueHealth(
        name=queue.name,
        healthy=not fires and snapshot.redis_of(queue.name).error is None,
        depth=queue.depth,
        oldest_age=queue.oldest_age,
        in_flight=queue.in_flight,
        concurrency=queue.concurrency,
        utilisation=queue.in_flight / queue.concurrency,
        failure_rate=queue.failure_rate,
        latency=_latency(queue.wait, queue.wait_baseline),
        run=_latency(queue.run, queue.run_baseline),
        thresholds=QueueThresholds(
            depth=thresholds.limit(rules.BACKLOG, queue.name),
            failure_rate=thresholds.limit(rules.FAILING, queue.name),
            slow=thresholds.limit(rules.SLOW, queue.name),
            stalled=thresholds.limit(rules.STALLED, queue.name),
        ),
        paused=queue.paused,
        workers=queue.workers,
        held_by_dead=queue.held_by_dead,
        held_by_blocked=queue.held_by_blocked,
        alerts=_public(snapshot, queue.name),
    )


def _latency(measured: Percentiles, baseline: float | None) -> Latency:
    return Latency(p50=measured.p50, p95=measured.p95, p99=measured.p99, baseline=baseline)


def _cluster_thresholds(thresholds: Thresholds) -> ClusterThresholds:
    return ClusterThresholds(
        depth=thresholds.limit(rules.BACKLOG),
        failure_rate=thresholds.limit(rules.FAILING),
        redis_memory=thresholds.limit(rules.REDIS_MEMORY),
        letters_waiting=thresholds.limit(rules.LETTERS_WAITING),
    )


def _public(snapshot: Snapshot, queue: str | None) -> list[HealthAlert]:
    """Return alerts of a queue or the servers, without addresses, hosts and names of handlers and people."""
    return [
        HealthAlert.model_validate(replace(alert, message=_public_message(alert, snapshot)))
        for alert in snapshot.alerts
        if alert.queue == queue
    ]


def _public_message(alert: Alert, snapshot: Snapshot) -> str:
    if alert.name == rules.REDIS:
        by_subject = {redis.subject: redis for redis in snapshot.redises}
        redis = by_subject.get(alert.subject, snapshot.redis)
        if redis.refusal is not None:
            return f"{redis.name} {redis.refusal}"
        if redis.error is None and redis.refuses_writes is not None:
            return f"{redis.name} takes no writes"
        return f"{redis.name} {SILENT if redis.timed_out else REFUSES_CONNECTION}"
    if alert.name == rules.DATABASE:
        is_up = snapshot.database.error is None
        return f"the database {'refuses writes' if is_up else 'does not answer'}"
    if alert.name == rules.BLOCKED:
        return "the event loop of a process is blocked"
    if alert.name == rules.SLOW or (alert.name in _PUBLIC_MESSAGES and not alert.subject):
        return alert.message
    return BY_NAME[alert.name].title
