"""Schedules: list, run, disable, enable."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Body, Path
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import ActorOperations
from app.http.models import Reason, RequestBody, example
from app.http.problems import problem_responses
from app.http.routing import strict_router

router = strict_router("schedules", "/api/v1/cron")

ScheduleName = Annotated[
    str, Path(min_length=1, max_length=100, description="Of a schedule.", examples=["weather"])
]


class ScheduleItem(BaseModel):
    """A schedule."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "weather",
                    "function": "ingest_weather",
                    "queue": "weather-ingestion",
                    "expression": "*/15 * * * *",
                    "interval_seconds": 900,
                    "enabled": True,
                    "next_at": "2026-03-01T12:15:00Z",
                    "last_at": "2026-03-01T12:00:00Z",
                    "missed": 0,
                    "run_at": None,
                    "disabled_by": None,
                    "disabled_at": None,
                    "disabled_reason": None,
                }
            ]
        },
    )

    name: str
    function: str
    queue: str
    expression: str = Field(description="A cron expression, in UTC.")
    interval_seconds: float
    enabled: bool
    next_at: datetime | None = Field(description="Null while it is disabled.")
    last_at: datetime | None = Field(description="The newest occurrence for which jobs were enqueued.")
    missed: int = Field(description="Occurrences since then that are late by more than half the interval.")
    run_at: datetime | None = Field(description="When an operator last ran it.")
    disabled_by: str | None
    disabled_at: datetime | None
    disabled_reason: str | None


class ScheduleList(BaseModel):
    """All schedules."""

    items: list[ScheduleItem]
    next: None = Field(None, description="There is one page.")


class ScheduleRequest(RequestBody):
    """Why a schedule is changed."""

    model_config = example(reason="the weather service is down")

    reason: Reason = ""


class RunSchedule(BaseModel):
    """A run."""

    model_config = example(schedule="weather", queue="weather-ingestion", jobs=12, enqueued=12) | ConfigDict(
        from_attributes=True
    )

    schedule: str
    queue: str
    jobs: int
    enqueued: int = Field(description="Without those whose keys were queued already.")


class ChangedSchedule(BaseModel):
    """Whether a schedule runs."""

    model_config = example(schedule="weather", enabled=False, changed=True)

    schedule: str
    enabled: bool
    changed: bool = Field(description="Whether this changed anything.")


_OptionalBody = Annotated[ScheduleRequest, Body(default_factory=ScheduleRequest)]


@router.get("", summary="Schedules", response_description="All schedules.")
async def list_schedules(operations: ActorOperations) -> ScheduleList:
    """With next, last and missed runs, by the clock of the Redis server."""
    items = [ScheduleItem.model_validate(view) for view in await operations.schedules.list()]
    return ScheduleList(items=items)


@router.post(
    "/{schedule}/run",
    summary="Run a schedule now",
    response_description="How many jobs were enqueued.",
    responses=problem_responses(404),
)
async def run_schedule(
    operations: ActorOperations, schedule: ScheduleName, body: _OptionalBody
) -> RunSchedule:
    """Also one that is disabled.  Its own runs come as before."""
    return RunSchedule.model_validate(await operations.schedules.run(schedule, body.reason))


@router.post(
    "/{schedule}/disable",
    summary="Disable a schedule",
    response_description="It enqueues nothing.",
    responses=problem_responses(404),
)
async def disable_schedule(
    operations: ActorOperations, schedule: ScheduleName, body: _OptionalBody
) -> ChangedSchedule:
    """In every process, until it is enabled.  One that is disabled already keeps who disabled it, and why."""
    changed = await operations.schedules.disable(schedule, body.reason)
    return ChangedSchedule(schedule=schedule, enabled=False, changed=changed)


@router.post(
    "/{schedule}/enable",
    summary="Enable a schedule",
    response_description="It runs from its next occurrence on.",
    responses=problem_responses(404),
)
async def enable_schedule(
    operations: ActorOperations, schedule: ScheduleName, body: _OptionalBody
) -> ChangedSchedule:
    """The occurrences that it left out are not made up for."""
    changed = await operations.schedules.enable(schedule, body.reason)
    return ChangedSchedule(schedule=schedule, enabled=True, changed=changed)
