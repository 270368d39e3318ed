"""The state of the whole cluster at one moment, as plain values.

Times are seconds (floats) unless a name says otherwise; instants are Unix seconds on the Redis
server's clock.  ``None`` means "not known" or "nothing to measure", never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workers.engine.histogram import Percentiles
from workers.engine.policy import RateLimit
from workers.monitoring.alert_rules import BACKLOG, DEFAULTS, FAILING, REDIS_MEMORY, STALLED, Severity


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a queue, why (may be empty) and since when (None if that cannot be read)."""

    by: str
    reason: str
    since: float | None


@dataclass(frozen=True, slots=True)
class Durations:
    """All durations since the first job: how many by bucket of `histogram`, and their sum in seconds."""

    counts: Mapping[int, int] = field(default_factory=dict)
    total_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """One queue.  Figures are cluster-wide."""

    name: str
    function: str
    depth: int
    """Jobs ready to run."""
    scheduled: int
    """Jobs that wait for a time: retries and delayed jobs."""
    oldest_age: float | None
    """Seconds for which the job at the head has been ready."""
    in_flight: int
    concurrency: int
    rate_limit: RateLimit | None
    rate_used: int
    """Starts that count against the rate limit now."""
    next_start_in: float | None
    """Seconds until the rate limit admits a start; None if it admits one now."""
    wait: Percentiles
    run: Percentiles
    failure_rate: float | None
    """Share of failed attempts among those that ended in the last five minutes, 0 to 1."""
    throughput: float
    """Jobs completed a second, over the last minute."""
    completed: int
    failed: int
    """Failed attempts; ``retried`` and ``dead_lettered`` are their outcomes."""
    retried: int
    dead_lettered: int
    depth_history: tuple[int | None, ...]
    """Depth at the end of each of the last 60 minutes, oldest first."""
    throughput_history: tuple[int | None, ...]
    """Jobs completed in each of the last 60 minutes, oldest first."""
    paused: Pause | None
    workers: int
    """Live processes that serve this queue: neither dead nor blocked."""
    held_by_dead: int = 0
    """Jobs in flight whose worker is dead."""
    dead_for: float | None = None
    """Seconds since the last sign of life of these workers, of the one that is silent for the longest."""
    recover_in: float | None = None
    """Seconds until their jobs can run again; None while no live process serves the queue."""
    held_by_blocked: int = 0
    """Jobs in flight whose worker's event loop is blocked."""
    blocked_where: str | None = None
    """Handler and line at which it is blocked."""
    handler_problem: str | None = None
    """Why none of the processes that serve it can start its handler; None if one can."""
    oldest_running: float | None = None
    """Seconds for which the oldest running job has run."""
    full_for: float | None = None
    """For how long all slots have been taken and nothing has ended; None while a slot is free."""
    usual_run: float | None = None
    """The median of the run times of the last hour."""
    wait_baseline: float | None = None
    """The usual 95th percentile of the waits; None if that is not known yet."""
    run_baseline: float | None = None
    repairs: Mapping[str, int] = field(default_factory=dict)
    """All repairs of the reconciler, by kind."""
    started: int = 0
    aborted: int = 0
    returned: int = 0
    """Jobs that were requeued, at the head, without being charged an attempt."""
    lost: int = 0
    """Attempts whose worker died."""
    ended_age: float | None = None
    """Since a job last ended, or its attempt failed; None if none has yet."""
    succeeded_age: float | None = None
    """Since a job last completed; None if none has yet."""
    waits: Durations = Durations()
    runs: Durations = Durations()
    broken_keys: tuple[str, ...] = ()
    """Keys that another program has given another type: nothing starts until they are repaired."""
    depth_limit: float = DEFAULTS.limit(BACKLOG)
    """Ready jobs above which the queue has a backlog."""
    recent_attempts: int = 0
    """Attempts of which ``failure_rate`` is the share."""
    redis_error: str | None = None
    """Why the Redis of its own does not answer: the figures are old.  None if all queues share one."""
    failure_limit: float = DEFAULTS.limit(FAILING)
    """Share of failed attempts above which too many fail, 0 to 1."""
    stalled_limit: float = DEFAULTS.limit(STALLED)
    recent_depths: tuple[int, ...] = ()
    """Depth 60, 50, ..., 10 s ago; empty if the history is shorter."""


WorkerState = Literal["running", "draining", "standby", "blocked", "dead"]
"""``standby``: for all of its queues.  ``dead``: it has ended, and still holds jobs."""


@dataclass(frozen=True, slots=True)
class HeldJobs:
    """The jobs of one queue that a process holds; ``ages``: how long each has run, the longest first."""

    queue: str
    count: int
    ages: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DrainSnapshot:
    """A drain that is under way; ``left``: seconds for the jobs in flight, None if that cannot be read."""

    left: float | None
    undoable: bool
    by: str | None
    """The operator who began it; None if a supervisor did, or that is not known."""
    seconds: float | None = None
    """Seconds that the jobs in flight have in all."""


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One worker process of the cluster; those that have ended and hold nothing are not listed."""

    id: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    in_flight: int
    """Jobs that are leased to it."""
    last_beat_age: float | None
    """Since its last sign of life; None if that cannot be read or lies ahead of the server's clock."""
    draining: bool
    state: WorkerState = "running"
    blocked_where: str | None = None
    """The place at which its event loop is blocked, by its last sign of life: handler, line, job.  None if
    all that is known of a blocked one is that it does not answer: it may be frozen."""
    blocked_for: float | None = None
    asked_for: float | None = None
    """Since it was asked for a sign of life that has not come; None if none is missing."""
    up_for: float | None = None
    """Since it started; None if that is not known."""
    release: str | None = None
    """Release of its code; None for a process of a version without releases."""
    standby: tuple[str, ...] = ()
    """Its queues whose slots other processes fill."""
    held: tuple[HeldJobs, ...] = ()
    """Its jobs in flight by queue."""
    drain: DrainSnapshot | None = None
    cpu: float | None = None
    """Share of one core, with its handler processes; 1.5 is one core and a half."""
    memory: int | None = None
    """Resident bytes, with its handler processes."""
    loop_p99: float | None = None
    """Seconds by which its event loop was late, the 99th percentile of the last minute."""
    unready: tuple[str, ...] = ()
    """The queues that make no progress there, each with the reason."""
    handler_problems: Mapping[str, str] = field(default_factory=dict)
    """Why the handlers of some queues cannot be started there, by queue."""
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """The policies of its queues, by queue and name."""

    @property
    def name(self) -> str:
        """``host:pid``, as screens and commands name it."""
        return f"{self.host}:{self.pid}"

    @property
    def alive(self) -> bool:
        """Whether it can take or finish jobs."""
        return self.state not in ("blocked", "dead")


@dataclass(frozen=True, slots=True)
class LostWorker:
    """A process that is gone, and has not taken itself off the list; ``silent_for``: seconds."""

    id: str
    host: str
    pid: int
    release: str | None
    silent_for: float | None
    connected: bool
    """Whether its connection is open all the same: it is frozen, or its host has vanished."""


@dataclass(frozen=True, slots=True)
class RedisSnapshot:
    """``error`` is None while Redis answers.  ``url`` is without its password."""

    url: str
    error: str | None
    version: str | None = None
    memory_used: int | None = None
    memory_limit: int | None = None
    """Bytes; None if there is no limit or it cannot be read."""
    eviction_policy: str | None = None
    """Its ``maxmemory-policy``; None if it cannot be read."""
    refusal: str | None = None
    """If it answers and refuses: why, without an address, to follow its name (``is full``)."""
    refusal_detail: str | None = None
    """The same with its code and its fix: ``is full (OOM): raise its maxmemory``."""
    timed_out: bool = False
    """Whether the error is that it was silent."""
    refuses_writes: str | None = None
    """Why it takes no writes although it answers, to follow its name; without an address, in one line."""
    nearly_full: float = DEFAULTS.limit(REDIS_MEMORY)
    """Share of the memory limit above which it is nearly full, 0 to 1."""
    name: str = "Redis"
    """Name in messages; if there are several, with its queues: ``Redis of color-extraction``."""
    queues: tuple[str, ...] = ()
    """The queues that it holds; empty if it is the only one."""
    subject: str = ""
    """Distinguishes its alerts from those of the main one, whose subject is empty."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, by its name; None while it answers and takes writes."""
        refusal = self.refuses_writes if self.error is None else self.refusal_detail
        if refusal is not None:
            return f"{self.name} {refusal}"
        return None if self.error is None else f"{self.name} does not answer: {self.error}"


@dataclass(frozen=True, slots=True)
class RedisOutage:
    """A Redis that fails for the engine of a process: why, and for how many seconds."""

    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DatabaseSnapshot:
    """``error`` is None while the database answers.  ``url`` is without its password."""

    url: str
    error: str | None
    refuses_writes: str | None = None
    """Why it takes no writes although it answers, in one line; None if it takes them."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be used; None while it answers and takes writes."""
        if self.error is not None:
            return f"the database does not answer: {self.error}"
        return f"the database refuses writes: {self.refuses_writes}" if self.refuses_writes else None


AlertState = Literal["pending", "firing", "acknowledged", "silenced"]
"""``pending``: breached, not for long enough yet.  The last two are what an operator has decided."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One breached threshold.  ``subject`` distinguishes several of one name and queue: a process, a plan."""

    queue: str | None
    name: str
    """The severity of its rule in `alert_rules`."""
    message: str
    """One line, for people: ``132 queued, limit 100``."""
    severity: Severity = "warning"
    state: AlertState = "firing"
    since: float | None = None
    """Unix second of the server at which the breach began; None if that was not seen."""
    value: float | None = None
    limit: float | None = None
    """Both in the unit of its rule."""
    subject: str = ""
    acknowledged_by: str | None = None
    acknowledge_reason: str | None = None
    silenced_by: str | None = None
    silenced_until: float | None = None
    """Unix second."""
    silence_reason: str | None = None

    @property
    def fires(self) -> bool:
        """Whether something is wrong, and not silenced: information is not."""
        return self.state in ("firing", "acknowledged") and self.severity != "information"

    @property
    def is_silenced(self) -> bool:
        """Whether it is not counted, nor will be if it is pending and fires."""
        return self.state == "silenced" or self.silenced_until is not None

    @property
    def doublings(self) -> int:
        """How often its limit doubles until it exceeds the figure; 0 without figures.

        In whole steps: two queues that are about equally bad do not change places each second.
        """
        if self.value is None or self.limit is None or min(self.value, self.limit) <= 0:
            return 0
        return math.floor(math.log2(self.value / self.limit))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the cluster."""

    taken_at: float
    environment: str
    queues: tuple[QueueSnapshot, ...]
    workers: tuple[WorkerSnapshot, ...]
    redis: RedisSnapshot
    """The main one, which has the locks of the cluster, and the queues without a Redis of their own."""
    database: DatabaseSnapshot
    dead_letters: int | None
    """Letters in state ``dead``; None while the database is down."""
    letters_waiting: int
    """Dead letters that wait in Redis for the database."""
    letters_oldest_age: float | None
    loop_lag: float | None
    """Lag of this process's event loop, its worst in the last second."""
    weather_provider: str
    """``openweather`` or ``offline``."""
    alerts: tuple[Alert, ...] = field(default=())
    """Firing ones first, and of these the worst."""
    plans: Mapping[str, int] | None = None
    """Replay plans by state, ``interrupted`` among them; None while the database is down."""
    drain_deadline_in: float | None = None
    """Seconds left for the jobs in flight here, while this process drains."""
    lost: tuple[LostWorker, ...] = ()
    """Processes of the last day that ended without a drain, and held no jobs."""
    other_redises: tuple[RedisSnapshot, ...] = ()
    """The Redises that hold queues, besides the main one, ``redis``."""

    @property
    def redises(self) -> tuple[RedisSnapshot, ...]:
        """All servers, the main one first."""
        return (self.redis, *self.other_redises)

    @property
    def is_old(self) -> bool:
        """Whether no Redis answers: all figures are those of a snapshot before."""
        return all(redis.error is not None for redis in self.redises)

    @property
    def fullest_redis(self) -> RedisSnapshot:
        """The server with the largest share of its memory in use."""
        return max(
            self.redises, key=lambda redis: (redis.memory_used or 0) / (redis.memory_limit or math.inf)
        )

    def redis_of(self, queue: str) -> RedisSnapshot:
        """Return the server that holds a queue."""
        return next((redis for redis in self.other_redises if queue in redis.queues), self.redis)
