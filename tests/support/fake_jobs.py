"""Plays the operations on jobs and schedules, for screens that must always look the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from workers.engine.policy import DEFAULT_POLICIES
from workers.errors import NotFoundError
from workers.handlers.registry import PAYLOAD_MODELS
from workers.operations.enqueueing import Enqueueing
from workers.operations.job_filter import ALL_JOBS
from workers.operations.job_views import JobAttempt
from workers.operations.jobs import (
    Finding,
    JobChange,
    JobCounts,
    JobDetail,
    JobFilter,
    JobRef,
    JobStack,
    JobSummary,
    StackFrame,
    TakenSlots,
    Why,
)
from workers.operations.operations import Page
from workers.operations.schedules import ScheduleRun, ScheduleView

NOW = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC)
PAYLOAD = {"item_id": "dress-17", "image": "https://images.example.com/17.jpg"}


def job(key: str, state: str = "running", queue: str = "color-extraction", **others: Any) -> JobSummary:
    base: dict[str, Any] = {
        "function": DEFAULT_POLICIES[queue].function,
        "max_attempts": 4,
        "queued_at": NOW - timedelta(seconds=37),
    }
    match state:
        case "running":
            base |= {"attempt": 1, "started_at": NOW - timedelta(seconds=31), "running_for": 31.0}
            base |= {"usual_run": 1.1, "deadline_in": 29.0, "worker": "w2", "worker_name": "box-2:4121"}
        case "ready":
            base |= {"position": 0}
        case "scheduled":
            base |= {"attempt": 2, "due_at": NOW + timedelta(seconds=4), "due_in": 4.0, "error": "503"}
        case "done" | "failed":
            base |= {"attempt": 1, "started_at": NOW - timedelta(seconds=3), "ended_at": NOW, "worker": "w2"}
    if state == "failed":
        base |= {"error": "ValueError: too long"}
    return JobSummary(**(base | {"queue": queue, "key": key, "state": state, "version": f"v:{key}"} | others))


JOBS = (
    job("dress-17"),
    job("coat-4", running_for=0.4, deadline_in=59.6),
    job(
        "wx-lisboa-931", queue="weather-ingestion", attempt=3, running_for=0.2, usual_run=0.31, progress=0.62
    ),
    *(job(f"wx-porto-{number}", "ready", "weather-ingestion", position=number) for number in range(250)),
    job("wx-faro-7", "scheduled", "weather-ingestion"),
    job("dress-16", "done"),
    job("boots-9", "failed"),
)
SCHEDULES = (
    ScheduleView(
        "weather-hourly", "ingest_weather", "weather-ingestion", "0 * * * *", 3600.0, True,
        NOW + timedelta(minutes=28), NOW - timedelta(minutes=32), 0, None,
    ),
    ScheduleView(
        "colors-nightly", "extract_colors", "color-extraction", "0 3 * * *", 86400.0, False,
        None, NOW - timedelta(hours=11), 0, None, "ops@box-2", NOW - timedelta(hours=2), "model rollout",
    ),
)  # fmt: skip


class CannedJobs:
    """Keeps what it was asked to do in ``done``, and what was read in ``read``."""

    def __init__(self, done: list[tuple[Any, ...]]) -> None:
        self.done = done
        self.kept: list[JobSummary] = list(JOBS)
        self.read: list[tuple[Any, ...]] = []
        self.details = 0
        """How often one job was read."""
        self.payload: Any = PAYLOAD
        self.why_sentence = "has run on box-2:4121 for 31 s; the timeout of 60 s ends it at 14:32:36 UTC"
        self.error: Exception | None = None
        self.without_schema: set[str] = set()
        """Queues with a team's own handler."""
        self.refused: dict[str, str] = {}
        """By key."""
        self.door = asyncio.Event()
        """While it is not set, no page arrives."""
        self.door.set()

    def _fails(self) -> None:
        if self.error is not None:
            raise self.error

    async def counts(self) -> dict[str, JobCounts]:
        self._fails()
        states = [field.name for field in fields(JobCounts)]
        return {
            queue: JobCounts(
                **{
                    state: sum((one.queue, one.state) == (queue, state) for one in self.kept)
                    for state in states
                }
            )
            for queue in DEFAULT_POLICIES
        }

    async def page(
        self,
        queue: str | None = None,
        state: str | None = None,
        *,
        selected: JobFilter = ALL_JOBS,
        limit: int = 50,
        cursor: str | None = None,
        snapshot: Any = None,
    ) -> Page[JobSummary]:
        self.read.append((queue or selected.queue, state, cursor))
        await self.door.wait()
        self._fails()
        found = [one for one in self.kept if one.state == state and selected.selects_job(one)]
        start = int(cursor or 0)
        more = start + limit < len(found)
        return Page(found[start : start + limit], str(start + limit) if more else None)

    async def get(self, queue: str, key: str, *, snapshot: Any = None, clock: Any = None) -> JobDetail:
        self._fails()
        self.details += 1
        found = next((one for one in self.kept if (one.queue, one.key) == (queue, key)), None)
        if found is None:
            raise NotFoundError(f"{queue} has no job {key!r}")
        own = {field.name: getattr(found, field.name) for field in fields(JobSummary)}
        failed = [
            JobAttempt(
                number, NOW - timedelta(seconds=40), "w1", "HTTPStatusError", "503", "line 7", 0.3, None
            )
            for number in range(1, found.attempt)
        ]
        return JobDetail(
            **own,
            payload=self.payload,
            attempts=failed,
            producer="this program",
            letter=7 if found.state == "failed" else None,
            why=Why("running", self.why_sentence),
        )

    async def stack(self, queue: str, key: str) -> JobStack:
        self._fails()
        frames = [
            StackFrame("workers/handlers/color/handler.py", 88, "_download", own=True),
            StackFrame("httpx/_transports/default.py", 394, "handle_async_request"),
        ]
        return JobStack(frames, ["14:31:33 download https://images.example.com/17.jpg"])

    async def alike(self, queue: str, key: str, *, snapshot: Any = None) -> Finding | None:
        self._fails()
        jobs = tuple(one for one in self.kept if (one.queue, one.state) == (queue, "running"))
        if len(jobs) < 2:
            return None
        frame = StackFrame("workers/handlers/color/handler.py", 88, "_download", own=True)
        since = NOW - timedelta(seconds=31)
        slots = (TakenSlots(queue, len(jobs), DEFAULT_POLICIES[queue].concurrency),)
        return Finding(frame, jobs, ("box-2:4121",), ("7f3c2a1",), since, 31.0, 120.0, slots)

    def payload_schema(self, queue: str) -> dict[str, Any] | None:
        return None if queue in self.without_schema else PAYLOAD_MODELS[queue].model_json_schema()

    def payload_problems(self, queue: str, data: Mapping[str, Any]) -> dict[str, str]:
        schemas = {name: model for name, model in PAYLOAD_MODELS.items() if name not in self.without_schema}
        return Enqueueing(dict.fromkeys(PAYLOAD_MODELS), schemas).payload_problems(queue, data)  # type: ignore[arg-type]

    async def preview(self, verb: str, queue: str, jobs: Sequence[JobRef]) -> list[JobChange]:
        self._fails()
        return [self._change(verb, queue, ref) for ref in jobs]

    async def change(
        self, verb: str, queue: str, jobs: Sequence[JobRef], reason: str = ""
    ) -> list[JobChange]:
        self._fails()
        self.done.append((verb, queue, [tuple(ref) for ref in jobs]))
        return [self._change(verb, queue, ref) for ref in jobs]

    def _change(self, verb: str, queue: str, ref: JobRef) -> JobChange:
        if ref.key in self.refused:
            return JobChange(queue, ref.key, "refused", f"{ref.key}: {self.refused[ref.key]}")
        return JobChange(queue, ref.key, "done", f"{ref.key}: {verb} done", version=ref.version)


class CannedSchedules:
    """Keeps what it was asked to do in ``done``."""

    def __init__(self, done: list[tuple[Any, ...]]) -> None:
        self.done = done
        self.kept: list[ScheduleView] = list(SCHEDULES)

    async def list(self) -> Sequence[ScheduleView]:
        return self.kept

    async def run(self, name: str, reason: str = "") -> ScheduleRun:
        self.done.append(("run schedule", name))
        return ScheduleRun(name, "weather-ingestion", 3, 2)

    async def disable(self, name: str, reason: str = "") -> bool:
        self.done.append(("disable", name, reason))
        self._set(name, enabled=False)
        return True

    async def enable(self, name: str, reason: str = "") -> bool:
        self.done.append(("enable", name))
        self._set(name, enabled=True)
        return True

    def _set(self, name: str, **values: Any) -> None:
        self.kept = [replace(one, **values) if one.name == name else one for one in self.kept]
