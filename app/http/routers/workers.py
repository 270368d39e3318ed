"""This worker process: its drain, and its log."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from app.http.dependencies import ActorOperations, State
from app.http.models import QueueName
from app.http.problems import problem_responses
from app.http.routing import strict_router
from app.http.state import HttpState
from workers.operations.operations import MAX_LOG_LINES

router = strict_router("workers", "/api/v1/admin")
logs = strict_router("workers", "/api/v1/workers")

_MAX_WAIT_SECONDS = 86_400

WaitSeconds = Annotated[
    float,
    Query(
        ge=0,
        le=_MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="Seconds that the answer may wait for the end of the drain.",
    ),
]


class DrainStatus(BaseModel):
    """How far the drain is.  No job is deleted: a job that does not end in time returns to its queue."""

    drained: bool
    in_flight: int = Field(description="Jobs that still run.")
    deadline_in: float | None = Field(description="Seconds left for them.")
    put_back: int | None = Field(description="Jobs that returned to their queues; null until it has ended.")


class LogLine(BaseModel):
    """One line of the log; the last four are null outside of a job's attempt."""

    at: datetime
    level: str
    text: str
    queue: str | None
    job: str | None
    attempt: int | None
    worker: str | None


class LogLines(BaseModel):
    """The newest lines, the oldest of them first."""

    items: list[LogLine]


@logs.get(
    "/{worker}/logs",
    summary="The newest lines of this process' log",
    response_description="Lines of this process, of a queue, or of a job.",
)
async def read_logs(
    operations: ActorOperations,
    worker: str,
    queue: QueueName | None = None,
    job: Annotated[str | None, Query(description="Key of a job.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_LINES)] = 50,
) -> LogLines:
    """Each process keeps the newest lines of its own: ask the process of that worker."""
    lines = operations.logs(worker, queue=queue, job=job, limit=limit)
    return LogLines(
        items=[LogLine(**asdict(line) | {"at": datetime.fromtimestamp(line.at, UTC)}) for line in lines]
    )


@router.post(
    "/drain",
    summary="Drain this process",
    response_description="How far the drain is after the wait.",
    responses={
        202: {"model": DrainStatus, "description": "The drain has begun."},
        **problem_responses(409),
    },
)
async def drain_process(
    operations: ActorOperations, state: State, response: Response, wait: WaitSeconds = 0.0
) -> DrainStatus:
    """Running jobs may end, nothing new starts, no job is deleted.  Then the process exits."""
    await operations.drain()
    if state.drained is None or not wait:
        response.status_code = 202
    else:
        await asyncio.wait({state.drained}, timeout=wait)
    return _status(state)


def _status(state: HttpState) -> DrainStatus:
    drained, process = state.drained, state.process
    ended = drained is not None and drained.done() and not drained.cancelled()
    put_back = drained.result() if drained is not None and ended and drained.exception() is None else None
    return DrainStatus(
        drained=ended,
        in_flight=state.operations.in_flight,
        deadline_in=process.drain_deadline_in if process is not None and not ended else None,
        put_back=put_back,
    )
