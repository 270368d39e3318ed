"""A busy moment with everything on it: a backlog, a stall, a pause, groups of letters, and events."""

from __future__ import annotations

from dataclasses import replace

from tests.support.fake_letters import letter
from tests.support.fake_moments import HEALTHY, NASTY, NOW, queue
from tests.support.fake_operations import CannedOperations
from tests.support.fake_signals import event
from workers.engine.histogram import Percentiles
from workers.monitoring.snapshot import Alert, Pause

CLEARING = (*(int(n * 2.6) for n in range(57)), 185, 160, 132)
BUSY = replace(
    HEALTHY,
    dead_letters=312,
    queues=(
        queue(
            "weather-ingestion",
            depth=132,
            oldest_age=118.0,
            in_flight=10,
            rate_used=60,
            next_start_in=3.0,
            wait=Percentiles(41.0, 112.0, 118.0),
            run=Percentiles(0.31, 0.9, 1.4),
            throughput=1.0,
            succeeded_age=1.0,
            depth_history=CLEARING,
            recent_depths=(160, 155, 150, 145, 140, 136),
            wait_baseline=60.0,
        ),
        queue("alert-fanout", in_flight=3, throughput=34.2, succeeded_age=0.2, failure_rate=0.0),
        queue(
            "color-extraction",
            depth=12,
            oldest_age=31.0,
            in_flight=5,
            full_for=31.0,
            oldest_running=33.0,
            usual_run=1.1,
            wait=Percentiles(1.2, 2.9, 4.0),
            run=Percentiles(1.1, 1.9, 2.2),
            failure_rate=0.0,
            throughput=0.0,
            succeeded_age=31.0,
        ),
        queue(
            "moderation-review",
            depth=7,
            oldest_age=720.0,
            in_flight=0,
            failure_rate=None,
            recent_attempts=0,
            throughput=0.0,
            wait=Percentiles(),
            run=Percentiles(2.2, 5.0, 6.1),
            succeeded_age=720.0,
            paused=Pause("ops@box-2", "model rollout", NOW - 720),
        ),
    ),
    workers=tuple(
        replace(worker, release="7f3c2a1", up_for=270_000.0 - number)
        for number, worker in enumerate(HEALTHY.workers)
    ),
    alerts=(
        Alert(
            "color-extraction",
            "stalled",
            "stalled: 5 of 5 run for 31 s, usually 1.1 s",
            severity="critical",
            since=NOW - 31,
            value=31.0,
        ),
        Alert(
            "weather-ingestion",
            "backlog",
            "132 queued, limit 100",
            state="pending",
            since=NOW - 40,
            value=132,
            limit=100,
        ),
    ),
)
EVENTS = [
    event(1, "alert-fired", "The queue is stalled: 5 of 5 run for 31 s", queue="color-extraction"),
    event(3, "letters-replayed", f"ops@box-2 replayed 3 letters {NASTY}", actor="ops@box-2"),
    event(12, "queue-paused", "ops@box-2 paused moderation-review: model rollout", queue="moderation-review"),
    event(20, "worker-started", "box-2:4001 (w1) of release 7f3c2a1 takes jobs of all queues", subject="w1"),
    event(30, "new-group", "first letter of a new group: ingest_weather: 503", queue="weather-ingestion"),
    event(41, "new-release", "release 7f3c2a1 runs for the first time: box-1:992", subject="7f3c2a1"),
]


def busy() -> CannedOperations:
    """The moment, with letters of two groups."""
    operations = CannedOperations(BUSY, 30)
    operations.letters.kept = [
        letter(
            number,
            function="ingest_weather" if number % 5 else "review_content",
            queue_name="weather-ingestion" if number % 5 else "moderation-review",
            error_type="httpx.HTTPStatusError" if number % 5 else "pydantic.ValidationError",
            error_message="503 from the weather service" if number % 5 else "text: longer than 5000",
            fingerprint=("a" if number % 5 else "b") * 16,
        )
        for number in range(1, 31)
    ]
    operations.events.kept = list(EVENTS)
    return operations
