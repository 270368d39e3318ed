"""Queues: enqueue jobs, pause and resume."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Body, Query, Request
from pydantic import BaseModel, Field, PlainValidator, TypeAdapter

from app.http.dependencies import ActorOperations, State
from app.http.job_lines import JobLines
from app.http.models import MAX_ID, PathQueue, RequestBody, example
from app.http.problems import ProblemError, problem_responses
from app.http.routing import JSON_LINES, LinesRoute, strict_router
from workers.operations.operations import MAX_DELAY_SECONDS, NewJob

producers = strict_router("queues", "/api/v1/queues")
router = strict_router("queues", "/api/v1/admin/queues")

MAX_JOBS = 1_000
"""Jobs of one request: they are checked and packed in one go, and the workers share the event loop."""


class Job(RequestBody):
    """A job to be enqueued."""

    model_config = example(
        data={"item_id": "dress-17", "image": "https://example.com/17.jpg"}, key="dress-17", delay=5
    )

    data: dict[str, Any] = Field(description="Its arguments, as the queue's handler takes them.")
    key: str | None = Field(
        None,
        min_length=1,
        description="While a job of this key is queued, no other is enqueued; the default is a new key.",
    )
    delay: float = Field(0.0, ge=0, le=MAX_DELAY_SECONDS, description="Seconds until it may start.")


_JOB: TypeAdapter[Job] = TypeAdapter(Job)
_JOBS: TypeAdapter[list[Job]] = TypeAdapter(list[Job])


def _validate_jobs(value: Any) -> Job | list[Job]:
    """Validate as one of the two, so that errors name fields of that one only."""
    if not isinstance(value, list):
        return _JOB.validate_python(value)
    if not 0 < len(value) <= MAX_JOBS:
        raise ValueError(f"a list has 1 to {MAX_JOBS} items, not {len(value)}: send more to …/jobs/bulk")
    return _JOBS.validate_python(value)


JobOrJobs = Annotated[
    Job | list[Job],
    PlainValidator(
        _validate_jobs,
        json_schema_input_type=Job | Annotated[list[Job], Field(min_length=1, max_length=MAX_JOBS)],
    ),
]


class EnqueuedJobs(BaseModel):
    """Jobs that were enqueued."""

    model_config = example(queue="color-extraction", keys=["dress-17"])

    queue: str
    keys: list[str] = Field(description="The key of each job, in the order in which they were sent.")


class EnqueuedLines(BaseModel):
    """Jobs that were enqueued from a body of one a line."""

    model_config = example(queue="color-extraction", enqueued=300_000)

    queue: str
    enqueued: int


_LINES_BODY = {
    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}},
    "example": [{"data": {"item_id": "dress-17"}}, {"data": {"item_id": "dress-18"}, "key": "dress-18"}],
}
"""A media type of one item a line has the schema of a list of all (OpenAPI 3.2)."""


class PauseRequest(RequestBody):
    """Why a queue is paused."""

    model_config = example(reason="CDN is down")

    reason: str = Field("", max_length=500, description="Shown on every screen of the queue.")


class PausedQueue(BaseModel):
    """A queue of which nothing starts."""

    model_config = example(
        queue="color-extraction",
        paused=True,
        by="http:anna",
        reason="CDN is down",
        since="2026-03-01T12:00:00Z",
    )

    queue: str
    paused: bool = True
    by: str
    reason: str
    since: datetime | None


class ResumedQueue(BaseModel):
    """A queue that runs."""

    model_config = example(queue="color-extraction", paused=False, was_paused=True)

    queue: str
    paused: bool = False
    was_paused: bool = Field(description="Whether this changed anything.")


@producers.post(
    "/{queue}/jobs",
    status_code=202,
    summary="Enqueue one job, or a list of jobs",
    response_description="Enqueued.",
    responses=problem_responses(409),
)
async def enqueue_jobs(
    operations: ActorOperations, queue: PathQueue, body: Annotated[JobOrJobs, Body()]
) -> EnqueuedJobs:
    """All jobs are checked first: if one of them is not valid, none is enqueued."""
    if isinstance(body, list):
        jobs = [NewJob(job.data, job.key, job.delay, f"[{number}]") for number, job in enumerate(body)]
    else:
        jobs = [NewJob(body.data, body.key, body.delay)]
    keys = await operations.enqueue_many(queue, jobs, audited=False)
    refused = [str(job.key) for job, key in zip(jobs, keys, strict=True) if key is None]
    if refused:
        summary = f"{len(keys) - len(refused)} of {len(keys)} jobs enqueued: " if len(keys) > 1 else ""
        raise ProblemError(409, f"{summary}queued already: {', '.join(refused)}", keys=keys)
    return EnqueuedJobs(queue=queue, keys=[key for key in keys if key is not None])


def _job_of_line(value: Any) -> NewJob:
    job = _JOB.validate_python(value)
    return NewJob(job.data, job.key, job.delay)


async def enqueue_lines(
    request: Request,
    operations: ActorOperations,
    state: State,
    queue: PathQueue,
    from_line: Annotated[int, Query(ge=1, le=MAX_ID, description="Lines before it are skipped.")] = 1,
) -> EnqueuedLines:
    """Jobs of any number are enqueued while the body is read, up to the first line that is wrong.

    Each line has one job, as JSON without line ends in it.  A problem has the jobs that were `enqueued`
    before it, and `next_line`, with which another request goes on.
    """
    lines = JobLines(request, _job_of_line, state.closing, from_line)
    await lines.enqueue(operations, queue)
    if lines.duplicates:
        problem = f"{lines.enqueued} of {lines.enqueued + lines.duplicates} jobs enqueued: queued already"
        raise ProblemError(409, f"{problem}: line {lines.duplicate_lines}", enqueued=lines.enqueued)
    return EnqueuedLines(queue=queue, enqueued=lines.enqueued)


producers.add_api_route(
    "/{queue}/jobs/bulk",
    enqueue_lines,
    methods=["POST"],
    status_code=202,
    summary="Enqueue jobs of any number, one a line",
    response_description="Enqueued.",
    responses=problem_responses(409),
    openapi_extra={"requestBody": {"required": True, "content": {JSON_LINES[0]: _LINES_BODY}}},
    route_class_override=LinesRoute,
)


@router.post(
    "/{queue}/pause",
    summary="Pause a queue",
    response_description="It is paused: by whom, why and since when.",
)
async def pause_queue(
    operations: ActorOperations,
    queue: PathQueue,
    body: Annotated[PauseRequest, Body(default_factory=PauseRequest)],
) -> PausedQueue:
    """No process starts jobs of it until it is resumed.  A paused queue gets the new reason."""
    pause = await operations.pause(queue, body.reason)
    since = None if pause.since is None else datetime.fromtimestamp(pause.since, UTC)
    return PausedQueue(queue=queue, by=pause.by, reason=pause.reason, since=since)


@router.post(
    "/{queue}/resume",
    summary="Resume a queue",
    response_description="It runs.",
)
async def resume_queue(operations: ActorOperations, queue: PathQueue) -> ResumedQueue:
    """Let a paused queue start jobs again."""
    return ResumedQueue(queue=queue, was_paused=await operations.resume(queue))
