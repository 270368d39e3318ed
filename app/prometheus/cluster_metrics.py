"""The metrics of servers, processes and alerts, and those of the process that answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

from app.prometheus.definitions import Facts, MetricDefinition, Sample, Scope, Value, read_snapshot
from storage.dead_letters.plans import PlanState
from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_evaluation import evicts_jobs
from workers.monitoring.snapshot import Snapshot, WorkerState

BUILD_LABELS = ("version", "release")
_CACHE_OUTCOMES = {"hit": "hits", "miss": "misses", "stale": "stale", "error": "errors"}


def _gauge(
    name: str, text: str, read: Callable[[Snapshot], Value], scope: Scope = "cluster"
) -> MetricDefinition:
    return MetricDefinition(name, "gauge", scope, text, (), read_snapshot(read))


def _labelled_gauge(
    name: str, text: str, labels: Sequence[str], read: Callable[[Facts], Iterable[Sample]]
) -> MetricDefinition:
    return MetricDefinition(name, "gauge", "cluster", text, tuple(labels), read)


def _own_counter(name: str, text: str, read: Callable[[Facts], int]) -> MetricDefinition:
    return MetricDefinition(name, "counter", "process", text, (), lambda facts: [((), read(facts))])


def _takes_writes(facts: Facts) -> bool:
    snapshot = facts.snapshot
    return (
        snapshot is not None
        and facts.is_redis_up
        and all(alert.name != rules.REDIS for alert in snapshot.alerts)
    )


def _evicts(snapshot: Snapshot) -> int | None:
    policies = [redis.eviction_policy for redis in snapshot.redises if redis.eviction_policy is not None]
    return int(any(map(evicts_jobs, policies))) if policies else None


def _oldest_letter_age(snapshot: Snapshot) -> Value:
    if snapshot.is_old:
        return None
    return snapshot.letters_oldest_age if snapshot.letters_waiting else 0


def _workers(facts: Facts) -> Iterator[Sample]:
    if facts.snapshot is not None and facts.has_answer:
        yield (), sum(worker.alive for worker in facts.snapshot.workers)


def _processes(facts: Facts) -> Iterator[Sample]:
    if facts.snapshot is not None and facts.has_answer:
        states = Counter(worker.state for worker in facts.snapshot.workers)
        for state in get_args(WorkerState):
            yield (state,), states[state]


def _alerts(facts: Facts) -> Iterable[Sample]:
    alerts = () if facts.snapshot is None else facts.snapshot.alerts
    firing = {(alert.name, alert.queue or "", alert.severity): 1 for alert in alerts if alert.fires}
    return list(firing.items())


def _limits(read: Callable[[Facts, str, str | None], float]) -> Callable[[Facts], Iterator[Sample]]:
    def samples(facts: Facts) -> Iterator[Sample]:
        for rule in rules.RULES:
            if rule.limit is None:
                continue
            for queue in [queue.name for queue in facts.queues] if rule.of_queue else [None]:
                yield (rule.name, queue or ""), read(facts, rule.name, queue)

    return samples


def _cache_reads(facts: Facts) -> Iterator[Sample]:
    for outcome, name in _CACHE_OUTCOMES.items():
        yield (outcome,), facts.cache_counts.get(name, 0)


def _plans(facts: Facts) -> Iterator[Sample]:
    plans = None if facts.snapshot is None else facts.snapshot.plans
    if plans is not None:
        for state in (*get_args(PlanState), "interrupted"):
            yield (state,), plans.get(state, 0)


def _notifications(facts: Facts) -> Iterator[Sample]:
    for outcome, count in facts.notification_counts.items():
        yield (outcome,), count


CLUSTER_METRICS: tuple[MetricDefinition, ...] = (
    _labelled_gauge(
        "redis_up",
        "1 if Redis answers; of several, if all do.",
        (),
        lambda facts: [((), int(facts.is_redis_up))],
    ),
    _labelled_gauge(
        "redis_writable",
        "1 if Redis answers and takes writes; 0 if it, or one of several, is unavailable, read-only or full.",
        (),
        lambda facts: [((), int(_takes_writes(facts)))],
    ),
    _gauge(
        "redis_memory_used_bytes",
        "Memory that Redis uses; of several, the fullest.",
        lambda seen: seen.fullest_redis.memory_used,
    ),
    _gauge(
        "redis_memory_limit_bytes",
        "Memory that Redis may use; no line without a limit; of several, the fullest.",
        lambda seen: seen.fullest_redis.memory_limit,
    ),
    _gauge(
        "redis_evicts_jobs",
        "1 if Redis, by its maxmemory-policy, may evict jobs; no line if the policy cannot be read.",
        _evicts,
    ),
    _gauge("database_up", "1 if the database answers.", lambda seen: int(seen.database.error is None)),
    _gauge(
        "database_writable",
        "1 if the database answers and takes writes; 0 if it is unavailable, read-only or locked.",
        lambda seen: int(seen.database.problem is None),
    ),
    _gauge(
        "dead_letters",
        "Dead letters in the database, neither replayed nor discarded.",
        lambda seen: seen.dead_letters,
    ),
    _gauge(
        "letters_waiting",
        "Dead letters that wait in Redis for the database.",
        lambda seen: None if seen.is_old else seen.letters_waiting,
    ),
    _gauge(
        "letters_oldest_age_seconds",
        "How long the oldest of these has waited; 0 if none waits.",
        _oldest_letter_age,
    ),
    _labelled_gauge(
        "replay_plans",
        "Replay plans by state; interrupted: the process that ran it is gone.",
        ("state",),
        _plans,
    ),
    _labelled_gauge("workers", "Living worker processes, neither dead nor blocked.", (), _workers),
    _labelled_gauge(
        "processes",
        "Worker processes by state; dead: it is gone and still holds jobs.",
        ("state",),
        _processes,
    ),
    _labelled_gauge(
        "alert",
        "1 for each alert that fires here and is not silenced; queue is empty for an alert of the servers.",
        ("alert", "queue", "severity"),
        _alerts,
    ),
    _labelled_gauge(
        "alert_limit",
        "The figure above which an alert breaches, in the alert's unit.",
        ("alert", "queue"),
        _limits(lambda facts, name, queue: facts.thresholds.limit(name, queue)),
    ),
    _labelled_gauge(
        "alert_end_limit",
        "The figure at which an alert ends, in the alert's unit.",
        ("alert", "queue"),
        _limits(lambda facts, name, queue: facts.thresholds.ends_at(name, queue)),
    ),
)

PROCESS_METRICS: tuple[MetricDefinition, ...] = (
    MetricDefinition(
        "build_info",
        "gauge",
        "process",
        "Always 1; the labels say what runs here.",
        BUILD_LABELS,
        lambda facts: [(tuple(facts.build[name] for name in BUILD_LABELS), 1)],
    ),
    _gauge(
        "event_loop_lag_seconds",
        "How late the event loop of this process ran a timer, at worst since the last snapshot.",
        lambda seen: seen.loop_lag,
        "process",
    ),
    _gauge(
        "drain_deadline_seconds",
        "Time left for the jobs in flight here; no line unless this process drains.",
        lambda seen: seen.drain_deadline_in,
        "process",
    ),
    MetricDefinition(
        "cache_reads",
        "counter",
        "process",
        "Reads of the cache by this process, by how they ended.",
        ("outcome",),
        _cache_reads,
    ),
    _own_counter(
        "cache_loads",
        "Loads of what the cache of this process did not have.",
        lambda facts: facts.cache_counts.get("loads", 0),
    ),
    _own_counter(
        "cache_load_failures",
        "Loads of this process that failed.",
        lambda facts: facts.cache_counts.get("load_failures", 0),
    ),
    MetricDefinition(
        "notifications",
        "counter",
        "process",
        "Messages about alerts to a notification service by this process, by how they ended.",
        ("outcome",),
        _notifications,
    ),
    _own_counter(
        "log_lines_dropped",
        "Lines of the log that this process dropped, since no reader took them.",
        lambda facts: facts.dropped_log_lines,
    ),
)
