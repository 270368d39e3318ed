"""Worker processes: those of the cluster, their drain, and their logs."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import ActorOperations, State
from app.http.models import QueueName, example
from app.http.problems import problem_responses
from app.http.routing import strict_router
from app.http.state import HttpState
from workers.monitoring.snapshot import WorkerState
from workers.operations.workers import MAX_LOG_LINES, DrainState

router = strict_router("workers", "/api/v1/admin")
cluster = strict_router("workers", "/api/v1/workers")

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

WorkerName = Annotated[
    str, Path(description="Its id, the beginning of that, or `host:pid`.", examples=["box-7:4001"])
]
Now = Annotated[
    bool, Query(description="Return its jobs to their queues at once, no attempt charged, unfinished.")
]


class DrainStatus(BaseModel):
    """How far the drain is.  No job is deleted: a job that does not end in time returns to its queue."""

    model_config = example(drained=False, in_flight=3, deadline_in=29.9, put_back=None)

    drained: bool
    in_flight: int = Field(description="Jobs that still run.")
    deadline_in: float | None = Field(description="Seconds left for them.")
    put_back: int | None = Field(description="Jobs that were requeued; null until it has ended.")


class LogLine(BaseModel):
    """One line of the log; the last four are null outside of a job's attempt."""

    model_config = example(
        at="2026-03-01T12:00:00Z",
        level="warning",
        text="slow: 2 s",
        queue="color-extraction",
        job="dress-17",
        attempt=1,
        worker="5f0c9a",
    )

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


class WorkerJobs(BaseModel):
    """The jobs of one queue that a process holds."""

    model_config = ConfigDict(from_attributes=True)

    queue: str
    count: int
    ages: list[float] = Field(description="Seconds that each has run, the longest first.")


class WorkerItem(BaseModel):
    """One process of the cluster; null means that it is not known."""

    model_config = example(
        id="5f0c9a",
        name="box-2:4121",
        host="box-2",
        pid=4121,
        release="2026.3",
        version="0.1.0",
        state="running",
        ready=True,
        queues=["color-extraction"],
        in_flight=3,
        slots=5,
        held=[{"queue": "color-extraction", "count": 3, "ages": [1.2, 0.4, 0.1]}],
        cpu=0.12,
        memory=100663296,
        loop_p99=0.002,
        beat_age=1.0,
        up_for=266400.0,
        drain_deadline_in=None,
        drain_seconds=30.0,
        drain_undoable=False,
        drained_by=None,
        recover_in=None,
        blocked_where=None,
        blocked_for=None,
        unready=[],
    ) | ConfigDict(from_attributes=True)

    id: str
    name: str = Field(description="host:pid")
    host: str
    pid: int
    release: str | None
    version: str
    state: WorkerState = Field(description="A dead one still holds jobs.")
    ready: bool = Field(description="Whether it takes jobs.")
    queues: list[str]
    in_flight: int
    slots: int = Field(description="Jobs that its queues may run at once, in the cluster.")
    held: list[WorkerJobs] = Field(description="Its jobs in flight by queue.")
    cpu: float | None = Field(description="Share of one core, with its handler processes.")
    memory: int | None = Field(description="Resident bytes, with its handler processes.")
    loop_p99: float | None = Field(description="Seconds by which its event loop was late.")
    beat_age: float | None = Field(description="Seconds since its last sign of life.")
    up_for: float | None = Field(description="Seconds since its start.")
    drain_deadline_in: float | None = Field(
        description="Seconds until its jobs are returned to their queues."
    )
    drain_seconds: float | None = Field(description="Seconds that a drain gives them in all.")
    drain_undoable: bool
    drained_by: str | None
    recover_in: float | None = Field(description="Of a dead one: seconds until its jobs run again.")
    blocked_where: str | None = Field(description="Where its event loop is blocked.")
    blocked_for: float | None
    unready: list[str] = Field(description="Why a queue makes no progress there.")


class WorkerList(BaseModel):
    """All processes, by host and pid."""

    items: list[WorkerItem]
    next: str | None = Field(None, description="Always null: the list is whole.")


class WorkerDrain(BaseModel):
    """How far the drain of a process is."""

    model_config = example(
        id="5f0c9a",
        name="box-2:4121",
        state="draining",
        in_flight=3,
        deadline_in=29.9,
        put_back=None,
        problem="",
        undoable=True,
    ) | ConfigDict(from_attributes=True)

    id: str
    name: str
    state: DrainState = Field(description="requested: it has not confirmed; drained: it has ended.")
    in_flight: int
    deadline_in: float | None
    put_back: int | None = Field(description="Jobs that were requeued; null if not known.")
    problem: str = Field(description="Why it has not confirmed; empty if it has.")
    undoable: bool


@cluster.get("", summary="The processes of the cluster", response_description="All of them.")
async def list_workers(operations: ActorOperations) -> WorkerList:
    """Dead processes are listed while they hold jobs."""
    workers = await operations.workers.list()
    return WorkerList(items=[WorkerItem.model_validate(worker) for worker in workers], next=None)


class WorkerDrains(BaseModel):
    """How far the drains of all processes are."""

    items: list[WorkerDrain]
    next: str | None = Field(None, description="Always null: the list is whole.")


@cluster.post(
    "/drain",
    summary="Drain every process of the cluster",
    response_description="All have ended.",
    responses={202: {"model": WorkerDrains, "description": "One drains, or has not confirmed yet."}},
)
async def drain_all_workers(
    operations: ActorOperations, response: Response, wait: WaitSeconds = 0.0
) -> WorkerDrains:
    """As each alone.  One that cannot be drained has the reason as its `problem`."""
    results = await operations.workers.drain_all()
    if wait and results:
        results = await operations.workers.wait(results, wait)
    if any(result.state != "drained" for result in results):
        response.status_code = 202
    return WorkerDrains(items=[WorkerDrain.model_validate(result) for result in results], next=None)


@cluster.post(
    "/{worker}/drain",
    summary="Drain a process of the cluster",
    response_description="It has ended.",
    responses={
        202: {"model": WorkerDrain, "description": "It drains, or has not confirmed yet."},
        **problem_responses(409),
    },
)
async def drain_worker(
    operations: ActorOperations,
    worker: WorkerName,
    response: Response,
    wait: WaitSeconds = 0.0,
    now: Now = False,
) -> WorkerDrain:
    """Running jobs may end, nothing new starts, no job is deleted.  Then the process exits."""
    result = await operations.workers.drain(worker, now=now)
    if wait and result.state != "drained":
        (result,) = await operations.workers.wait([result], wait)
    if result.state != "drained":
        response.status_code = 202
    return WorkerDrain.model_validate(result)


@cluster.post(
    "/{worker}/undo-drain",
    summary="Let a draining process take jobs again",
    response_description="It takes jobs.",
    responses={
        202: {"model": WorkerDrain, "description": "It has not confirmed yet."},
        **problem_responses(409),
    },
)
async def undo_drain(operations: ActorOperations, worker: WorkerName, response: Response) -> WorkerDrain:
    """Until it has ended, and unless a supervisor ends it."""
    result = await operations.workers.undo_drain(worker)
    if result.problem:
        response.status_code = 202
    return WorkerDrain.model_validate(result)


@cluster.get(
    "/{worker}/logs",
    summary="The newest lines of a process' log",
    response_description="Lines of the process, of a queue, or of a job.",
    responses=problem_responses(404, 409),
)
async def read_logs(
    operations: ActorOperations,
    worker: WorkerName,
    queue: Annotated[QueueName | None, Query(description="Lines of its jobs.")] = None,
    job: Annotated[str | None, Query(description="Key of a job.", examples=["dress-17"])] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_LINES, description="Most lines.")] = 50,
) -> LogLines:
    """Another process is asked: 409 if no answer comes within two seconds."""
    lines = await operations.workers.log(worker, queue=queue, job=job)
    return LogLines(items=[LogLine(**line.to_fields()) for line in lines[-limit:]])


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
    has_ended = drained is not None and drained.done() and not drained.cancelled()
    put_back = drained.result() if drained is not None and has_ended and drained.exception() is None else None
    return DrainStatus(
        drained=has_ended,
        in_flight=state.operations.in_flight,
        deadline_in=process.drain_deadline_in if process is not None and not has_ended else None,
        put_back=put_back,
    )
