"""Probes, and the health of the queues."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, Field

from app.http.context import REFUSES, SILENT
from app.http.route import Call, Reply
from workers.engine.histogram import Percentiles
from workers.monitoring import thresholds
from workers.monitoring.snapshot import Alert, Pause, QueueSnapshot, Snapshot


class Alive(BaseModel):
    """The process answers, and its dispatchers make progress."""

    alive: bool = True
    reasons: list[str] = Field(default=[], description="Why a supervisor should start it again.")


class Ready(BaseModel):
    """Whether the process takes jobs; without workers: whether Redis answers."""

    ready: bool
    reasons: list[str] = Field(description="Why it is not ready.")


class Thresholds(BaseModel):
    """The limits that alerts speak of."""

    depth: int = Field(thresholds.DEPTH, description="Ready jobs.")
    failure_rate: float = Field(thresholds.FAILURE_RATE, description="Share of attempts, 0 to 1.")
    redis_memory: float = Field(thresholds.REDIS_MEMORY, description="Share of the memory limit, 0 to 1.")
    letters_waiting: float = Field(
        thresholds.LETTERS_WAITING, description="Seconds that a dead letter may wait for the database."
    )


class QueueHealth(BaseModel):
    """One queue, across the cluster.  Times are seconds; null is not known, or nothing to measure."""

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
    held_by_blocked: int = Field(description="Of the jobs in flight, those whose event loop stands still.")
    alerts: list[Alert]


class Health(BaseModel):
    """The queues, the limits, and what is wrong."""

    healthy: bool = Field(description="Whether Redis answers and no queue has an alert.")
    queues: list[QueueHealth]
    thresholds: Thresholds
    alerts: list[Alert] = Field(description="Of the servers; those of a queue stand at the queue.")


async def livez(call: Call) -> Reply:
    """The event loop runs, or there would be no answer; no server is asked unless a dispatcher stands."""
    process = call.context.process
    reasons = process.standing() if process is not None else []
    if reasons and await call.context.redis_error() is not None:
        reasons = []  # Redis is to blame, and another start would change nothing
    return Reply(Alive(alive=not reasons, reasons=reasons), 503 if reasons else 200)


async def readyz(call: Call) -> Reply:
    """Whether a load balancer or a deployment may count on this process."""
    reasons = []
    process = call.context.process
    error = await call.context.redis_error()
    if error is not None:
        reasons.append(error)
    if process is not None:
        reasons += [*process.unready(), *process.standing()]
    return Reply(Ready(ready=not reasons, reasons=reasons), 503 if reasons else 200)


async def queues(call: Call) -> Reply:
    """503 where a queue is unhealthy, or nothing is known of any."""
    try:
        health = health_of(await call.context.snapshot())
    except TimeoutError:
        silent = Alert(None, "redis", SILENT)
        health = Health(healthy=False, queues=[], thresholds=Thresholds(), alerts=[silent])
    return Reply(health, 200 if health.healthy else 503)


def health_of(snapshot: Snapshot) -> Health:
    """What a snapshot says of the queues.  Pure."""
    found = [_queue(queue, snapshot) for queue in snapshot.queues]
    return Health(
        healthy=snapshot.redis.error is None and all(queue.healthy for queue in found),
        queues=found,
        thresholds=Thresholds(),
        alerts=[_public(alert, snapshot) for alert in snapshot.alerts if alert.queue is None],
    )


def _public(alert: Alert, snapshot: Snapshot) -> Alert:
    """Without addresses, hosts and the names of handlers: anybody may ask for the health."""
    if alert.metric == "redis":
        error = snapshot.redis.error or ""
        if error.startswith("Redis "):  # a refusal: see storage.redis.refusals
            return replace(alert, message=error.partition(" (")[0])
        silent = error.startswith("Timeout")
        return replace(alert, message=SILENT if silent else REFUSES)
    if alert.metric == "database":
        return replace(alert, message="the database does not answer")
    if alert.metric == "blocked":
        return replace(alert, message="the event loop of a process is blocked")
    return alert


def _queue(queue: QueueSnapshot, snapshot: Snapshot) -> QueueHealth:
    alerts = [alert for alert in snapshot.alerts if alert.queue == queue.name]
    return QueueHealth(
        name=queue.name,
        healthy=not alerts and snapshot.redis.error is None,
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
