"""Verbs that change jobs: abort, run now, duplicate, remove; for one job and for many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import ActorOperations
from app.http.models import PathQueue, QueueName, Reason, RequestBody, example
from app.http.problems import problem_responses
from app.http.routers.jobs import JobKey, KeyText
from app.http.routing import strict_router
from workers.operations.jobs import MAX_KEYS, ChangeOutcome, JobRef, Verb

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
    """The result for one job."""

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
    """The result for each job, in their order."""

    items: list[ChangedJob]
    count: int = Field(description="Those that were changed.")
    next: None = None


_OptionalBody = Annotated[JobRequest, Body(default_factory=JobRequest)]


class _Words(NamedTuple):
    """The texts of a verb's description."""

    name: str
    effect: str
    """The effect on jobs."""
    result: str
    """The description of the answer about one job."""


_WORDS: Mapping[Verb, _Words] = {
    "abort": _Words(
        "Abort",
        "A job that waits ends as aborted; the worker of one that runs cancels it.",
        "It is aborted, or its worker is asked to.",
    ),
    "run-now": _Words(
        "Run now",
        "A job that waits for its turn or for its time comes to the head of its queue.",
        "It is at the head of its queue.",
    ),
    "duplicate": _Words(
        "Duplicate",
        "The same function and payload are enqueued under a new key.",
        "The key of the new job.",
    ),
    "remove": _Words(
        "Remove",
        "A job that waits or has ended is removed for good; one that runs never is.",
        "It is removed.",
    ),
}


def _add_routes(verb: Verb, words: _Words) -> None:
    """Add the route of a verb for many jobs and for one."""

    async def change_jobs(operations: ActorOperations, body: JobsRequest) -> ChangedJobs:
        refs = [JobRef(job.key, job.version) for job in body.jobs]
        changes = await operations.jobs.change(verb, body.queue, refs, body.reason)
        items = [ChangedJob.model_validate(change) for change in changes]
        return ChangedJobs(items=items, count=sum(item.outcome == "done" for item in items))

    async def change_job(
        operations: ActorOperations, queue: PathQueue, key: JobKey, body: _OptionalBody
    ) -> ChangedJob:
        (change,) = await operations.jobs.change(verb, queue, [JobRef(key, body.version)], body.reason)
        return ChangedJob.model_validate(change.check())

    name = verb.replace("-", "_")
    router.post(
        f"/{verb}",
        name=f"{name}_jobs",
        summary=f"{words.name}: many jobs",
        description=words.effect,
        response_description="What became of each.",
    )(change_jobs)
    router.post(
        f"/{{queue}}/{{key:path}}/{verb}",
        name=f"{name}_job",
        summary=f"{words.name}: one job",
        description=words.effect,
        response_description=words.result,
        responses=problem_responses(404, 409),
    )(change_job)


for _verb, _words in _WORDS.items():
    _add_routes(_verb, _words)
