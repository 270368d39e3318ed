"""The facts of a queue, and of one of its jobs, from which `why` explains why nothing starts.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from workers.engine.job_reader import JobState
from workers.engine.policy import RateLimit
from workers.monitoring.snapshot import Pause, WorkerState

Clock = Callable[[float], str]
"""Writes a Unix second: a screen in the zone of its terminal, everything else in UTC."""


def utc_time(second: float) -> str:
    """Return ``2026-03-01 12:00:00 UTC``."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job.  Durations are in seconds, instants Unix seconds; None: not known, or without a meaning."""

    key: str
    state: JobState | None
    """None: there is no such job."""
    status: str | None = None
    attempt: int = 0
    """The number of a running job's attempt, else how many attempts a job has had."""
    max_attempts: int = 1
    position: int | None = None
    """Ready jobs before it; None if they are too many to be counted."""
    due_in: float | None = None
    worker: str | None = None
    """``host:pid``, or its id."""
    worker_state: WorkerState | None = None
    running_for: float | None = None
    ends_at: float | None = None
    """When the timeout ends it."""
    ended_at: float | None = None
    aborting: bool = False
    error: str | None = None
    letter: int | None = None
    """Id of its dead letter."""
    problem: str | None = None
    """Why it is not a job."""


@dataclass(frozen=True, slots=True)
class StartFacts:
    """A queue, and the job in question; without ``job`` the question is about the queue."""

    queue: str
    job: JobFacts | None = None
    redis_error: str | None = None
    broken_keys: tuple[str, ...] = ()
    taking: int = 1
    """Live workers that may take its jobs; of the others, so many only stand by or drain."""
    standby: int = 0
    draining: int = 0
    pause: Pause | None = None
    depth: int = 0
    scheduled: int = 0
    in_flight: int = 0
    concurrency: int = 1
    timeout: float = 60.0
    oldest_running: float | None = None
    usual_run: float | None = None
    held_by_dead: int = 0
    recover_in: float | None = None
    held_by_blocked: int = 0
    blocked_where: str | None = None
    rate_limit: RateLimit | None = None
    next_start_in: float | None = None
    handler_problem: str | None = None
    """Why no process can start its handler; None if one can."""
    stalled: str | None = None
    """The alert's message if nothing forbids a start and none happens."""
    clock: Clock = utc_time

    @property
    def waits(self) -> bool:
        """Whether the question is about what is not running: a job that waits, or the queue."""
        return self.job is None or self.job.state in ("ready", "scheduled", "unlisted")

    @property
    def is_full(self) -> bool:
        """Whether all slots are taken."""
        return self.in_flight >= self.concurrency

    @property
    def waits_for_time(self) -> bool:
        """Whether the job's time has not come."""
        job = self.job
        return job is not None and job.state == "scheduled" and (job.due_in is None or job.due_in > 0)
