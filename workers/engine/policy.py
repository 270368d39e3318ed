"""The four queues and their policy.  Pure: decides, touches nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

KEEP_COMPLETED_JOBS = 100
"""Completed jobs that stay readable in Redis, per queue."""
KEEP_FAILED_JOBS = 1_000
"""Failed jobs that stay readable in Redis, per queue."""
KEEP_READABLE_MS = 10_000
"""A finished job stays readable at least this long, so that a waiting producer gets its result."""
KEEP_ENDED_MS = 30 * 86_400_000
"""A finished job stays no longer than this; what has a TTL is evicted before a job that waits."""
LARGE_BYTES = 64 * 1024
"""The size of a record from which it stays only for `KEEP_LARGE_MS` once its job has finished."""
KEEP_LARGE_MS = 3_600_000
"""A thousand failed jobs of a megabyte each would fill the memory that the next jobs need."""
MAX_PROCESSES = 5
"""Worker processes that may hold jobs of one queue at the same time; a further one is a standby."""
MAX_PAYLOAD_BYTES = 1_000_000
"""The largest serialised job; anything larger becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class PollIntervals:
    """Poll intervals of an idle process, in seconds; longer ones send fewer commands, which Upstash bills."""

    scheduled: float
    """Between checks for jobs that a foreign producer scheduled for later."""
    ready_wait: float
    """Duration of one blocking wait for a ready job."""
    presence: float
    """Between publications of a process's presence."""
    aborts: float
    """Between checks, while jobs run, whether one is to be aborted; SAQ keeps an abort request for 5 s."""

    snapshot: float = 1.0
    """Between the snapshots of a dashboard without input: each is some forty commands."""
    alerts: float = 5.0
    """Between two checks of the alerts while jobs wait or run, or an alert is there: each is a snapshot."""
    count: float = 10.0
    """Between two counts of the processes while nothing happens: one that was killed is missed then."""

    @property
    def presence_ttl(self) -> float:
        """Seconds after which a process that has not published its presence is off the list."""
        return 2 * self.presence + 5


NORMAL = PollIntervals(scheduled=5, ready_wait=40, presence=30, aborts=1)
ECONOMICAL = PollIntervals(
    scheduled=75, ready_wait=300, presence=240, aborts=4, snapshot=15, alerts=30, count=240
)


@dataclass(frozen=True, slots=True)
class Timings:
    """Times until a dead, blocked or cut-off process is noticed, the same in every process of a cluster.

    They are not settings: the promises rest on the defaults.  Tests have shorter ones.
    """

    heartbeat_seconds: float = 2.0
    """Between two heartbeats of a process that holds jobs."""
    dead_after_seconds: float = 8.0
    """Time without a heartbeat after which a worker is dead."""
    max_check_gap_seconds: float = 4.0
    """Between two checks for dead workers, by any process, after which silence proves nothing: a living
    worker may have missed two heartbeats, and this time."""
    recovery_check_seconds: float = 2.5
    """Between two checks for dead workers, while other workers hold leases."""
    full_poll_seconds: float = 0.5
    """Between two turns of a dispatcher while its queue is full, or its leases are uncertain."""
    standby_poll_seconds: float = 2.0
    """Between two turns of a dispatcher while other processes fill the queue's slots."""
    retry_seconds: tuple[float, float] = (0.1, 5.0)
    """Between two tries while Redis does not answer: the first, and the longest."""
    loop_check_seconds: float = 1.0
    """Between two checks of the event loop by the heartbeat's thread."""
    loop_count_seconds: float = 0.5
    """Between two counts of the event loop, which show that thread that it moves."""
    blocked_after_seconds: float = 5.0
    """Time without a count after which an event loop is blocked."""

    @property
    def max_silence_seconds(self) -> float:
        """Time since the last confirmed heartbeat after which a process doubts its own leases."""
        return self.dead_after_seconds - self.heartbeat_seconds / 2


TIMINGS = Timings()
"""Those of the program."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``starts`` job starts in any window of ``seconds``."""

    starts: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.starts}/{self.seconds:g}"


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How one queue runs, cluster-wide.  It belongs to the queue: producers cannot change it.

    ``timeout`` and ``retry_delays`` are in seconds; there is one retry for each delay.
    """

    name: str
    function: str
    concurrency: int
    timeout: float
    rate_limit: RateLimit | None = None
    retry_delays: tuple[float, ...] = (1.0, 5.0, 25.0)
    run: Literal["process", "inline"] = "process"
    """A custom handler runs in processes of its own, or inline in our event loop."""
    redis_url: str = field(default="", repr=False)
    """URL of the Redis that holds the queue; empty: the main one, which holds the cluster's locks, too."""

    @property
    def max_attempts(self) -> int:
        """The first attempt and the retries."""
        return 1 + len(self.retry_delays)

    def settings(self) -> dict[str, object]:
        """Return what a process publishes of it, so that others find where it differs."""
        server = urlsplit(self.redis_url)  # without user and password
        own_redis = {"redis": f"{server.netloc.rpartition('@')[2]}{server.path}"} if self.redis_url else {}
        return {
            **own_redis,
            "run": self.run,
            "concurrency": self.concurrency,
            "rate": str(self.rate_limit) if self.rate_limit else "none",
            "timeout": self.timeout,
            "retries": ",".join(f"{delay:g}" for delay in self.retry_delays) or "none",
        }

    def retry_delay(self, attempts: int) -> float | None:
        """Return the seconds until the next attempt after ``attempts`` failed ones; None if none is left."""
        if attempts >= self.max_attempts:
            return None
        return self.retry_delays[max(attempts, 1) - 1]


WEATHER = "weather-ingestion"
ALERT = "alert-fanout"
COLOR = "color-extraction"
MODERATION = "moderation-review"

DEFAULT_POLICIES: dict[str, QueuePolicy] = {
    policy.name: policy
    for policy in (
        QueuePolicy(WEATHER, "ingest_weather", concurrency=10, timeout=30, rate_limit=RateLimit(60, 60)),
        QueuePolicy(ALERT, "fan_out_alert", concurrency=20, timeout=10),
        QueuePolicy(COLOR, "extract_colors", concurrency=5, timeout=60),
        QueuePolicy(MODERATION, "review_content", concurrency=10, timeout=120),
    )
}
"""By queue name, in the order in which the screens show them."""
