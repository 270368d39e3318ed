"""Verbs that change jobs: abort, run now, duplicate, remove; for one job and for many."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import ActorOperations
from app.http.models import QueueName, Reason, RequestBody, example
from app.http.problems import problem_responses
from app.http.routers.jobs import JobKey, KeyText
from app.http.routing import strict_router
from workers.operations.jobs import MAX_KEYS, ChangeOutcome, JobRef, Verb
from workers.operations.operations import Operations

router = strict_router("jobs", "/api/v1/jobs")

_VERSION = "That was shown: a job that has moved since is left as it is."


class JobRequest(RequestBody):
    """Which state of a job is meant, and why."""

    model_config = example(version="scheduled:1772366425.25:6f1c0a92b3d4", reason="wrong import")

    version: str = Field("", max_length=500, description=_VERSION)
    reason: Reason = ""


class NamedJob(RequestBody):
    """A job."""

    key: KeyText
    version: str = Field("", max_length=500, description=_VERSION)


class JobsRequest(RequestBody):
    """Which jobs are changed, and why."""

    model_config = example(
        queue="color-extraction", jobs=[{"key": "dress-17"}, {"key": "dress-18"}], reason="wrong import"
    )

    queue: QueueName
    jobs: list[NamedJob] = Field(min_length=1, max_length=MAX_KEYS)
    reason: Reason = ""


class ChangedJob(BaseModel):
    """What became of a job."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "queue": "color-extraction",
                    "key": "dress-17",
                    "outcome": "done",
                    "message": "dress-17: aborted",
                    "new_key": None,
                }
            ]
        },
    )

    queue: str
    key: str
    outcome: ChangeOutcome = Field(description="`moved`: it is no longer what was shown.")
    message: str
    new_key: str | None = Field(description="Of its duplicate.")


class ChangedJobs(BaseModel):
    """What became of each job, in their order."""

    items: list[ChangedJob]
    count: int = Field(description="Those that were changed.")
    next: None = None


_OptionalBody = Annotated[JobRequest, Body(default_factory=JobRequest)]


async def _change_one(
    operations: Operations, verb: Verb, queue: str, key: str, body: JobRequest
) -> ChangedJob:
    (change,) = await operations.jobs.change(verb, queue, [JobRef(key, body.version)], body.reason)
    return ChangedJob.model_validate(change.check())


async def _change_many(operations: Operations, verb: Verb, body: JobsRequest) -> ChangedJobs:
    refs = [JobRef(job.key, job.version) for job in body.jobs]
    changes = await operations.jobs.change(verb, body.queue, refs, body.reason)
    items = [ChangedJob.model_validate(change) for change in changes]
    return ChangedJobs(items=items, count=sum(item.outcome == "done" for item in items))


@router.post(
    "/abort",
    summary="Abort: many jobs",
    response_description="What became of each.",
)
async def abort_jobs(operations: ActorOperations, body: JobsRequest) -> ChangedJobs:
    """A job that waits ends as aborted; the worker of one that runs cancels it."""
    return await _change_many(operations, "abort", body)


@router.post(
    "/{queue}/{key:path}/abort",
    summary="Abort: one job",
    response_description="It is aborted, or its worker is asked to.",
    responses=problem_responses(404, 409),
)
async def abort_job(
    operations: ActorOperations, queue: QueueName, key: JobKey, body: _OptionalBody
) -> ChangedJob:
    """A job that waits ends as aborted; the worker of one that runs cancels it."""
    return await _change_one(operations, "abort", queue, key, body)


@router.post(
    "/run-now",
    summary="Run now: many jobs",
    response_description="What became of each.",
)
async def run_now_jobs(operations: ActorOperations, body: JobsRequest) -> ChangedJobs:
    """A job that waits for its turn or for its time comes to the head of its queue."""
    return await _change_many(operations, "run-now", body)


@router.post(
    "/{queue}/{key:path}/run-now",
    summary="Run now: one job",
    response_description="It is at the head of its queue.",
    responses=problem_responses(404, 409),
)
async def run_now_job(
    operations: ActorOperations, queue: QueueName, key: JobKey, body: _OptionalBody
) -> ChangedJob:
    """A job that waits for its turn or for its time comes to the head of its queue."""
    return await _change_one(operations, "run-now", queue, key, body)


@router.post(
    "/duplicate",
    summary="Duplicate: many jobs",
    response_description="What became of each.",
)
async def duplicate_jobs(operations: ActorOperations, body: JobsRequest) -> ChangedJobs:
    """The same function and payload are enqueued under a new key."""
    return await _change_many(operations, "duplicate", body)


@router.post(
    "/{queue}/{key:path}/duplicate",
    summary="Duplicate: one job",
    response_description="The key of the new job.",
    responses=problem_responses(404, 409),
)
async def duplicate_job(
    operations: ActorOperations, queue: QueueName, key: JobKey, body: _OptionalBody
) -> ChangedJob:
    """The same function and payload are enqueued under a new key."""
    return await _change_one(operations, "duplicate", queue, key, body)


@router.post(
    "/remove",
    summary="Remove: many jobs",
    response_description="What became of each.",
)
async def remove_jobs(operations: ActorOperations, body: JobsRequest) -> ChangedJobs:
    """A job that waits or has ended is removed for good; one that runs never is."""
    return await _change_many(operations, "remove", body)


@router.post(
    "/{queue}/{key:path}/remove",
    summary="Remove: one job",
    response_description="It is removed.",
    responses=problem_responses(404, 409),
)
async def remove_job(
    operations: ActorOperations, queue: QueueName, key: JobKey, body: _OptionalBody
) -> ChangedJob:
    """A job that waits or has ended is removed for good; one that runs never is."""
    return await _change_one(operations, "remove", queue, key, body)
