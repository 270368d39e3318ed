"""Enqueueing."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from app.http.problems import ProblemError
from app.http.route import Call, Given, GivenBody, QueueName, Reply
from workers.operations.operations import MAX_DELAY_SECONDS, NewJob

MOST_JOBS = 1_000
"""Of one request: they are checked and packed in one go, and the workers share the event loop."""


class QueuePath(Given):
    """A queue, in the path."""

    queue: QueueName


class Job(GivenBody):
    """A job to be enqueued."""

    data: dict[str, Any] = Field(description="Its arguments, as the queue's handler takes them.")
    key: str | None = Field(
        None, min_length=1, description="While a job of it is queued, no other is; one is made without it."
    )
    delay: float = Field(0.0, ge=0, le=MAX_DELAY_SECONDS, description="Seconds until it may start.")


class Accepted(BaseModel):
    """Jobs that were enqueued."""

    queue: str
    keys: list[str] = Field(description="The key of each job, in the order in which they were sent.")


async def enqueue(call: Call) -> Reply:
    """One job or many, after all of them have been found valid."""
    queue, sent = call.path.queue, call.body
    if isinstance(sent, list):
        jobs = [_new(each, f"[{number}]") for number, each in enumerate(sent)]
    else:
        jobs = [_new(sent)]
    keys = await call.operations.enqueue_many(queue, jobs, audited=False)
    refused = [str(job.key) for job, key in zip(jobs, keys, strict=True) if key is None]
    if refused:
        done = f"{len(keys) - len(refused)} of {len(keys)} jobs enqueued: " if len(keys) > 1 else ""
        raise ProblemError(409, f"{done}queued already: {', '.join(refused)}", keys=keys)
    return Reply(Accepted(queue=queue, keys=[key for key in keys if key is not None]), 202)


def _new(job: Job, source: str = "") -> NewJob:
    return NewJob(job.data, job.key, job.delay, source)
