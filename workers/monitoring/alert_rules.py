"""The alerts, as one table, for screens, commands, HTTP, notifications, Prometheus' rules and the runbook.

A condition is an alert once it has lasted for ``for_seconds``.  One that compares a figure with ``limit``
ends at ``ends_at``, so that it does not come and go with every job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["critical", "warning", "information"]

BACKLOG = "backlog"
SLOW = "slow"
FAILING = "failing"
STALLED = "stalled"
NO_WORKER = "no_worker"
HELD_BY_DEAD = "held_by_dead"
BLOCKED = "event_loop_blocked"
BROKEN_KEYS = "broken_keys"
REDIS = "redis"
REDIS_MEMORY = "redis_memory"
REDIS_EVICTION = "redis_eviction"
DATABASE = "database"
LETTERS_WAITING = "letters_waiting"
SCHEDULE_MISSED = "schedule_missed"
PLAN_HALTED = "plan_halted"
PLAN_INTERRUPTED = "plan_interrupted"
NEW_ERROR = "new_error"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One kind of alert.  ``limit`` and ``ends_at`` are in ``unit``; None if no figure is compared."""

    name: str
    title: str
    severity: Severity
    breach: str
    """When it breaches, in words; with ``{limit}``, if any."""
    end: str
    for_seconds: float = 0.0
    limit: float | None = None
    ends_at: float | None = None
    minimum: int = 0
    """Jobs or attempts below which a rate or a percentile means nothing."""
    unit: str = ""
    of_queue: bool = True
    value_is_duration: bool = False
    """Whether its value, if known, is how long it has lasted; its message has that, too."""

    @property
    def setting(self) -> str:
        """The environment variable that changes its limit, empty if it has none."""
        return f"COUTURECAST_ALERT_{self.name.upper()}" if self.limit is not None else ""

    @property
    def for_setting(self) -> str:
        """The environment variable that changes ``for_seconds``, empty if the alert fires at once."""
        return f"COUTURECAST_ALERT_{self.name.upper()}_FOR" if self.for_seconds else ""


RULES: tuple[AlertRule, ...] = (
    AlertRule(
        REDIS,
        "Redis is unavailable",
        "critical",
        "Redis does not answer, is read-only or refuses writes",
        "it takes writes again",
        for_seconds=5,
        of_queue=False,
    ),
    AlertRule(
        DATABASE,
        "The database is unavailable",
        "critical",
        "the database does not answer, is read-only or refuses writes",
        "it takes writes again",
        for_seconds=5,
        of_queue=False,
    ),
    AlertRule(
        REDIS_EVICTION,
        "Redis may evict jobs",
        "critical",
        "Redis evicts keys without a TTL: its maxmemory-policy begins with allkeys",
        "the policy is volatile-lru or noeviction",
        of_queue=False,
    ),
    AlertRule(
        BLOCKED,
        "An event loop is blocked",
        "critical",
        "the event loop of a process has been blocked for more than 5 s",
        "it moves again, or the process has ended",
        of_queue=False,
        value_is_duration=True,
    ),
    AlertRule(
        NO_WORKER,
        "No worker serves the queue",
        "critical",
        "no living process serves the queue; with jobs waiting after 5 s",
        "a process serves it",
        for_seconds=15,
    ),
    AlertRule(
        HELD_BY_DEAD,
        "Jobs are held by a dead process",
        "critical",
        "jobs in flight belong to a process that is gone",
        "they run again",
        for_seconds=20,
    ),
    AlertRule(
        STALLED,
        "The queue is stalled",
        "critical",
        "all slots are taken and nothing has ended for 10 times the usual run time and {limit}, or jobs are"
        " ready, nothing forbids a start, and none has started for {limit}, or no process can start its"
        " handler",
        "a job ends or starts",
        limit=10,
        ends_at=10,
        unit="s",
        value_is_duration=True,
    ),
    AlertRule(
        BROKEN_KEYS,
        "A key has another type",
        "critical",
        "another program gave one of the queue's keys another type",
        "the reconciler has repaired it, within a minute",
    ),
    AlertRule(
        LETTERS_WAITING,
        "Dead letters wait for the database",
        "critical",
        "a dead letter has waited in Redis for more than {limit}",
        "it is written",
        limit=60,
        ends_at=60,
        unit="s",
        of_queue=False,
        value_is_duration=True,
    ),
    AlertRule(
        REDIS_MEMORY,
        "Redis is nearly full",
        "warning",
        "Redis uses more than {limit} of its memory limit",
        "it uses at most 75 %",
        for_seconds=60,
        limit=0.8,
        ends_at=0.75,
        unit="share",
        of_queue=False,
    ),
    AlertRule(
        FAILING,
        "Attempts fail",
        "warning",
        "more than {limit} of at least 20 attempts that ended in the last 5 minutes failed",
        "at most 4 % fail",
        for_seconds=60,
        limit=0.05,
        ends_at=0.04,
        minimum=20,
        unit="share",
    ),
    AlertRule(
        SLOW,
        "The queue is slow",
        "warning",
        "wait or run p95 of at least 20 jobs of the last 5 minutes is above {limit} times its baseline"
        " and 100 ms",
        "it is at most 1.5 times the baseline",
        for_seconds=120,
        limit=2.0,
        ends_at=1.5,
        minimum=20,
        unit="times",
    ),
    AlertRule(
        BACKLOG,
        "Jobs pile up",
        "warning",
        "more than {limit} jobs are ready",
        "at most 80 are",
        for_seconds=60,
        limit=100,
        ends_at=80,
        unit="jobs",
    ),
    AlertRule(
        SCHEDULE_MISSED,
        "A schedule was missed",
        "warning",
        "a schedule's run is late by more than half its interval",
        "it runs",
    ),
    AlertRule(
        PLAN_HALTED,
        "A replay has halted",
        "warning",
        "too many replayed jobs died again",
        "it is resumed or cancelled",
        of_queue=False,
    ),
    AlertRule(
        PLAN_INTERRUPTED,
        "A replay was interrupted",
        "warning",
        "the process that ran it is gone",
        "it is resumed or cancelled",
        of_queue=False,
    ),
    AlertRule(
        NEW_ERROR,
        "A new error",
        "information",
        "the first letter of a group that was not seen before",
        "-",
    ),
)
"""The worst first."""

BY_NAME: Mapping[str, AlertRule] = {rule.name: rule for rule in RULES}


def states_duration(name: str, value: float | None) -> bool:
    """Return whether the message of an alert with this value has how long it has lasted."""
    rule = BY_NAME.get(name)
    return value is not None and rule is not None and rule.value_is_duration


RANK: Mapping[str, int] = {rule.name: rank for rank, rule in enumerate(RULES)}

NO_WORKER_WITH_JOBS_SHARE = 1 / 3
"""Share of its duration after which it fires if jobs wait: 5 s of 15."""
STALLED_TIMES = 10.0
"""All slots are taken for so many usual run times, at least."""
SLOW_FLOOR_SECONDS = 0.1
"""A percentile below this is fast, whatever the baseline."""
BASELINE_FLOOR_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits in force: those of the table, unless the settings have others.

    ``limits`` are by name and queue (None: every queue).  ``baselines`` pin the baseline of *slow*: seconds
    by ``queue:wait`` and ``queue:run``; ``durations`` are the seconds by name for which a breach has to last.
    """

    limits: Mapping[tuple[str, str | None], float] = field(default_factory=dict)
    baselines: Mapping[str, float] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)

    def limit(self, name: str, queue: str | None = None) -> float:
        """Return the figure above which ``name`` breaches.  Raises KeyError for a rule without a figure."""
        default = BY_NAME[name].limit
        if default is None:
            raise KeyError(name)
        return self.limits.get((name, queue), self.limits.get((name, None), default))

    def ends_at(self, name: str, queue: str | None = None) -> float:
        """Return the figure at which it ends, as far below the limit as in the table."""
        rule = BY_NAME[name]
        return self.limit(name, queue) * (rule.ends_at or 0.0) / (rule.limit or 1.0)

    def for_seconds(self, name: str) -> float:
        """Return the seconds for which ``name`` has to breach until it fires."""
        return self.durations.get(name, BY_NAME[name].for_seconds)

    def settings(self, queue: str) -> dict[str, object]:
        """Return the figures of a queue that a process publishes: those that differ from the table."""
        figures = {rule.name: self.limit(rule.name, queue) for rule in RULES if rule.of_queue and rule.limit}
        limits = {f"{name} alert": limit for name, limit in figures.items() if limit != BY_NAME[name].limit}
        durations = {
            f"{name} alert after": seconds
            for name, seconds in self.durations.items()
            if BY_NAME[name].of_queue and seconds != BY_NAME[name].for_seconds
        }
        pinned = {key.removeprefix(f"{queue}:"): value for key, value in self.baselines.items()}
        baselines = {f"{kind} baseline": pinned[kind] for kind in ("wait", "run") if kind in pinned}
        return {**limits, **durations, **baselines}


DEFAULTS = Thresholds()
