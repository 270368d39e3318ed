"""This worker process: its drain."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, Field

from app.http.dependencies import ActorOperations, State
from app.http.problems import problem_responses
from app.http.routing import strict_router
from app.http.state import HttpState

router = strict_router("workers", "/api/v1/admin")

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
