"""Derives alerts from what is known of the cluster.  Pure.

A condition is what is wrong now.  It becomes an alert when it has lasted for the time of its rule.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from storage.repositories.alert_history import AlertDecisions
from workers.engine.schedule_state import ScheduleState
from workers.engine.schedules import Schedule
from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_rules import BY_NAME, RANK, Thresholds
from workers.monitoring.conditions import Condition, QueueFacts
from workers.monitoring.descriptions import (
    describe_broken_keys,
    describe_limit,
    duration,
    full_and_stalled,
    held_by_dead,
    unable_to_run,
)
from workers.monitoring.history_conditions import backlog, failing
from workers.monitoring.roster import age, number
from workers.monitoring.snapshot import (
    Alert,
    DatabaseSnapshot,
    RedisOutage,
    RedisSnapshot,
    WorkerSnapshot,
)
from workers.percent import percent

_NOTICED_SECONDS = 5.0
"""A process makes a turn every two seconds while jobs are ready, so one that is late by this is noticed."""


_CLOCK_SECONDS = 1.0
"""How far a moment may be ahead: it is written after the state was read."""


def alerts(
    conditions: Iterable[Condition], now: float, limits: Thresholds = rules.DEFAULTS
) -> tuple[Alert, ...]:
    """Return the alerts of conditions that all have a ``since``: firing ones first, the worst first."""
    return sort_alerts(_alert(condition, now, limits) for condition in conditions)


def sort_alerts(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Sort alerts: those that fire first, and of these the worst."""
    return tuple(
        sorted(alerts, key=lambda alert: (alert.state != "firing", RANK[alert.name], -alert.doublings))
    )


def with_decisions(alerts: Iterable[Alert], decisions: AlertDecisions) -> tuple[Alert, ...]:
    """Return the alerts with what operators have decided about them; the silenced ones last."""
    decided = []
    for alert in alerts:
        queue = alert.queue or ""
        silence = next((item for item in decisions.silences if item.covers(alert.name, queue)), None)
        record = decisions.acknowledged.get((alert.name, queue, alert.subject))
        if silence is not None:
            decided.append(
                replace(
                    alert,
                    state="pending" if alert.state == "pending" else "silenced",
                    silenced_by=silence.by,
                    silenced_until=silence.until.timestamp(),
                    silence_reason=silence.reason,
                )
            )
        elif record is not None and alert.state != "pending":
            decided.append(
                replace(
                    alert,
                    state="acknowledged",
                    acknowledged_by=record.acknowledged_by or "?",
                    acknowledge_reason=record.acknowledge_reason,
                )
            )
        else:
            decided.append(alert)
    return tuple(sorted(decided, key=lambda alert: _STATE_ORDER.index(alert.state)))


_STATE_ORDER = ("firing", "acknowledged", "pending", "silenced")


def _alert(condition: Condition, now: float, limits: Thresholds) -> Alert:
    since = condition.since
    if since is None or since > now + _CLOCK_SECONDS:  # a time ahead does not count
        since = now
    lasts = limits.for_seconds(condition.name) if condition.for_seconds is None else condition.for_seconds
    return Alert(
        queue=condition.queue,
        name=condition.name,
        message=condition.message,
        severity=BY_NAME[condition.name].severity,
        state="firing" if max(0.0, now - since) >= lasts else "pending",
        since=since or None,
        value=condition.value,
        limit=condition.limit,
        subject=condition.subject,
    )


# Servers


def server_conditions(
    redis: RedisSnapshot,
    database: DatabaseSnapshot | None,
    letters_since: float | None,
    now: float,
    limits: Thresholds = rules.DEFAULTS,
    observed: Container[str] = (),
    outage: RedisOutage | None = None,
) -> Iterable[Condition]:
    """Return what is wrong with a Redis, the database and the way of letters from one to the other.

    ``database`` is None if another Redis reports it.
    ``observed`` has the keys of the conditions that were there before: these end at a lower figure.
    ``outage``: that Redis fails for the engine of this process; it may answer to others.
    """
    problem, since = redis.problem, None
    if outage is not None:
        problem = problem or f"this process cannot use {redis.name}: {outage.error}"
        since = now - outage.seconds
    if problem is not None:
        yield Condition(rules.REDIS, None, problem, since, subject=redis.subject)
    if database is not None and database.problem is not None:
        yield Condition(rules.DATABASE, None, database.problem)
    if redis.memory_limit and redis.memory_used is not None:
        share, limit = redis.memory_used / redis.memory_limit, limits.limit(rules.REDIS_MEMORY)
        breached = f"{rules.REDIS_MEMORY}||{redis.subject}" in observed
        ends_at = limits.ends_at(rules.REDIS_MEMORY)
        if share > (ends_at if breached else limit):
            words = describe_limit(share, limit, ends_at, "share")
            message = f"{_memory_of(redis)} {percent(share, 0)} full, {words}"
            yield Condition(
                rules.REDIS_MEMORY, None, message, value=share, limit=limit, subject=redis.subject
            )
    if evicts_jobs(redis.eviction_policy):
        message = f"{redis.name} evicts by {redis.eviction_policy}: jobs may be evicted"
        yield Condition(rules.REDIS_EVICTION, None, message, subject=redis.subject)
    waiting = limits.limit(rules.LETTERS_WAITING)
    if letters_since is not None and now - letters_since > waiting:
        message = f"dead letters wait for the database for {now - letters_since:.0f} s"
        since = letters_since + waiting
        waited_seconds = now - letters_since
        yield Condition(rules.LETTERS_WAITING, None, message, since, waited_seconds, waiting, redis.subject)


def _memory_of(redis: RedisSnapshot) -> str:
    return f"{redis.name} memory" if redis.name == "Redis" else f"memory of {redis.name}"


def evicts_jobs(policy: str | None) -> bool:
    """Return whether Redis, by its ``maxmemory-policy``, may evict keys without a TTL: jobs have none."""
    return policy is not None and policy.startswith("allkeys-")


def worker_conditions(workers: Iterable[WorkerSnapshot], now: float) -> Iterable[Condition]:
    """Yield the processes whose event loop is blocked."""
    for worker in workers:
        if worker.state == "blocked":
            how_long = "" if worker.blocked_for is None else f" for {duration(worker.blocked_for)}"
            message = f"{worker.name} blocked{how_long}: {worker.blocked_where}"
            if worker.blocked_where is None:
                message = f"{worker.name} has not answered{how_long}: it may be frozen"
            since = None if worker.blocked_for is None else now - worker.blocked_for
            yield Condition(rules.BLOCKED, None, message, since, worker.blocked_for, subject=worker.id)


def schedule_conditions(
    schedules: Iterable[Schedule], fields: Mapping[bytes, bytes], now: float
) -> Iterable[Condition]:
    """Yield the schedules whose next run is late by more than half their interval.

    ``fields``: the hash of schedules in Redis.  A schedule that has never run is new; a disabled one misses
    nothing.
    """
    for schedule in schedules:
        state = ScheduleState.read(fields, schedule.name, int(now))
        newest = state.done_until
        if newest is None or state.disabled is not None:
            continue
        due = schedule.next_occurrence(datetime.fromtimestamp(newest, UTC))
        interval = (schedule.next_occurrence(due) - due).total_seconds()
        late = now - due.timestamp() - interval / 2
        if late > 0:
            last_run = f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC"
            message = f"schedule {schedule.name} has not run since {last_run}"
            yield Condition(rules.SCHEDULE_MISSED, schedule.queue, message, now - late, subject=schedule.name)


# One queue


def queue_conditions(facts: QueueFacts, limits: Thresholds) -> Iterable[Condition]:
    """Return what is wrong with a queue."""
    queue, now = facts.queue, facts.overview.now
    if queue.broken_keys:
        yield Condition(rules.BROKEN_KEYS, queue.name, describe_broken_keys(queue))
    if queue.held_by_dead:
        since = now - (queue.dead_for or 0.0)
        yield Condition(rules.HELD_BY_DEAD, queue.name, held_by_dead(queue), since, queue.held_by_dead)
    if queue.workers == 0:
        waits = limits.for_seconds(rules.NO_WORKER)
        if queue.depth:
            waits *= rules.NO_WORKER_WITH_JOBS_SHARE
        yield Condition(rules.NO_WORKER, queue.name, "no worker", for_seconds=waits)
    yield from _stalls(facts, limits)
    yield from failing(facts, limits)
    yield from backlog(facts, limits)


def _stalls(facts: QueueFacts, limits: Thresholds) -> Iterable[Condition]:
    queue, now = facts.queue, facts.overview.now
    after = limits.limit(rules.STALLED, queue.name)
    if (queue.depth or queue.in_flight) and (message := unable_to_run(queue)):
        # Its jobs start and go back all the time, so only the handler's own state shows it.
        yield Condition(rules.STALLED, queue.name, message, limit=after, for_seconds=after)
        return
    if message := full_and_stalled(queue):
        began = now - (queue.full_for or 0.0)
        yield Condition(rules.STALLED, queue.name, message, began, queue.full_for, for_seconds=0.0)
        return
    # The times of ready jobs are by their producers' clocks, so these two count from their first observation.
    since = _startable_since(facts)
    if since is not None and now - since > _NOTICED_SECONDS:
        message = f"stalled: {queue.depth} ready, nothing forbids a start, none for {duration(now - since)}"
        yield Condition(rules.STALLED, queue.name, message, value=now - since, limit=after, for_seconds=after)
        return
    for worker, idle_since in _idle_workers(facts):
        idle = now - idle_since
        if idle > _NOTICED_SECONDS:
            message = f"{worker.host}:{worker.pid} takes nothing for {duration(idle)}, {queue.depth} ready"
            yield Condition(rules.STALLED, queue.name, message, None, idle, after, worker.id, after)


def _startable_since(facts: QueueFacts) -> float | None:
    """Return since when a job could have been started and none was; None if a start is forbidden."""
    queue, overview = facts.queue, facts.overview
    taking = [worker for worker in facts.workers if worker.state == "running"]
    ready_since = _ready_since(facts)
    if ready_since is None or not taking or queue.in_flight >= queue.concurrency:
        return None
    if queue.next_start_in is not None or queue.held_by_blocked:
        return None
    counters = overview.totals
    moments = [
        ready_since,
        *(_moment(counters.get(name), overview.now) for name in ("started_at", "ended_at")),
    ]
    if queue.rate_limit is not None and (before := number(overview.start_before)) is not None:
        moments.append(before / 1e6 + queue.rate_limit.seconds)  # the slot of that start is free since then
    moments.append(min(overview.now - (worker.up_for or 0.0) for worker in taking))
    return max(moments)


def _ready_since(facts: QueueFacts) -> float | None:
    """Return since when a job is ready and the queue is neither paused nor broken."""
    queue, overview = facts.queue, facts.overview
    if not queue.depth or queue.paused is not None or queue.broken_keys or queue.oldest_age is None:
        return None
    return max(overview.now - queue.oldest_age, _moment(number(overview.resumed), overview.now))


def _idle_workers(facts: QueueFacts) -> Iterable[tuple[WorkerSnapshot, float]]:
    """Yield the processes that could take jobs, and since when they have not tried.

    While jobs are ready a process makes a turn every two seconds, also if others take them all.  One that
    waits for a rate limit sleeps until the next slot.
    """
    overview, ready_since = facts.overview, _ready_since(facts)
    if ready_since is None or facts.queue.rate_limit is not None:
        return
    for worker in facts.workers:
        if worker.state in ("running", "standby"):
            turn = _moment(overview.turns.get(worker.id.encode()), overview.now)
            yield worker, max(ready_since, turn, overview.now - (worker.up_for or 0.0))


def _moment(instant_ms: float | None, now: float) -> float:
    """Return a Unix second; 0 if it is unknown, or lies ahead."""
    passed = age(instant_ms, now)
    return 0.0 if passed is None else now - passed
