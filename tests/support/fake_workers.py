"""Plays the operations on worker processes, for screens that must always look the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.support.fake_moments import NASTY
from workers.engine.attempt_log import LogLine
from workers.monitoring.snapshot import DrainSnapshot, HeldJobs, WorkerSnapshot
from workers.operations.workers import DrainResult

NOW = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC).timestamp()
_QUEUES = ("weather-ingestion", "alert-fanout", "color-extraction", "moderation-review")


def process(number: int, **fields: Any) -> WorkerSnapshot:
    """One process of many, on a host of its own."""
    base: dict[str, Any] = {
        "id": f"{number}f0c2d9e4b7a4c118e6d{number:012d}",
        "host": f"box-{number}",
        "pid": 990 + number,
        "version": "0.1.0",
        "release": "7f3c2a1",
        "queues": _QUEUES,
        "in_flight": 3,
        "held": (HeldJobs("weather-ingestion", 2, (4.0, 0.2)), HeldJobs("color-extraction", 1, (1.2,))),
        "last_beat_age": 1.0,
        "draining": False,
        "up_for": 266_400.0,
        "cpu": 0.12,
        "memory": 96 * 2**20,
        "loop_p99": 0.002,
        "settings": {"color-extraction": {"concurrency": 5, "timeout": 60.0}},
    }
    return WorkerSnapshot(**(base | fields))


RUNNING = process(1)
DRAINING = process(
    2,
    state="draining",
    draining=True,
    drain=DrainSnapshot(22.0, undoable=True, by="ops@box-9", seconds=30.0),
    in_flight=8,
    held=(
        HeldJobs("weather-ingestion", 2, (0.1, 0.1)),
        HeldJobs("color-extraction", 5, (31.0, 0.3, 0.2, 0.2, 0.1)),
        HeldJobs("moderation-review", 1, (0.2,)),
    ),
    cpu=0.98,
    memory=210 * 2**20,
    loop_p99=0.41,
    last_beat_age=0.2,
    settings={"color-extraction": {"concurrency": 3, "timeout": 60.0}},
)
BLOCKED = process(
    3, state="blocked", blocked_where="handler shop:f, shop.py:3 in f \x1b[31m[red]", blocked_for=12.0
)
DEAD = process(
    4,
    state="dead",
    in_flight=2,
    held=(HeldJobs("color-extraction", 2, (20.0, 19.0)),),
    last_beat_age=14.0,
    cpu=None,
    memory=None,
    loop_p99=None,
    release="61b00d4",
)
STANDBY = process(5, state="standby", in_flight=0, held=())


class CannedWorkers:
    """Keeps what it was asked to do in ``done``."""

    def __init__(self, done: list[tuple[Any, ...]]) -> None:
        self.done = done
        self.own_id: str | None = RUNNING.id
        self.problem = ""
        self.error: Exception | None = None

    async def log(self, worker_id: str) -> list[LogLine]:
        if self.error is not None:
            raise self.error
        if worker_id == self.own_id:
            text = f"slow: 2 s {NASTY}"
            return [LogLine(NOW - 5, "warning", text, "color-extraction", "dress-17", 1, worker_id)]
        return [LogLine(NOW - 7, "info", "a line of another process", None, None, None, worker_id)]

    async def drain(self, worker: str, *, now: bool = False) -> DrainResult:
        self._note_change("drain worker", worker, now)
        return DrainResult(worker, "box-1:991", "draining", 3, deadline_in=30.0, problem=self.problem)

    async def drain_all(self) -> list[DrainResult]:
        self._note_change("drain all workers")
        return [
            DrainResult(RUNNING.id, "box-1:991", "draining", 3, deadline_in=30.0),
            DrainResult(DRAINING.id, "box-2:992", "requested", 8, problem=self.problem),
        ]

    async def undo_drain(self, worker: str) -> DrainResult:
        self._note_change("undo drain", worker)
        return DrainResult(worker, "box-1:991", "running", 3)

    def _note_change(self, *what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.done.append(what)
