"""Jobs: list, show, and why one does not run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.convertors import Convertor, register_url_convertor

from app.http.dependencies import ActorOperations, State
from app.http.models import PathQueue, QueueName, Reveal, example
from app.http.problems import problem_responses
from app.http.routing import strict_router
from workers.engine.job_reader import JobState, WindowState
from workers.operations.jobs import MAX_JOBS, JobFilter
from workers.operations.why import Cause

router = strict_router("jobs", "/api/v1/jobs")

_MAX_KEY_CHARS = 1_000


def _check_key(key: str) -> str:
    if "\0" in key:
        raise ValueError("holds a NUL character")
    return key


JobKey = Annotated[
    str,
    Path(min_length=1, max_length=_MAX_KEY_CHARS, description="Of a job.", examples=["dress-17"]),
    AfterValidator(_check_key),
]
KeyText = Annotated[str, Field(min_length=1, max_length=_MAX_KEY_CHARS), AfterValidator(_check_key)]
"""The same in a body."""


_AFTER_KEY = ("why", "stack", "abort", "run-now", "duplicate", "remove")


class _JobConvertor(Convertor[str]):
    """The key of a job in a path, with slashes if it has some; the rest of the path is not part of it."""

    regex = ".+" + "".join(f"(?<!/{part})" for part in _AFTER_KEY)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("job", _JobConvertor())


ConditionText = Annotated[str, Field(min_length=1, max_length=_MAX_KEY_CHARS), AfterValidator(_check_key)]


class JobsQuery(BaseModel):
    """Selects a page of jobs."""

    queue: QueueName | None = Field(None, description="Of one queue; of all without it.")
    state: WindowState | None = Field(
        None, description="Without it those that have not ended: running, ready and scheduled."
    )
    function: ConditionText | None = Field(
        None, description="Contained in the function's name.", examples=["colors"]
    )
    worker: ConditionText | None = Field(
        None, description="Contained in host and pid, or in the id.", examples=["box-7:4001"]
    )
    text: ConditionText | None = Field(
        None, description="Contained in the key or the error.", examples=["dress"]
    )
    limit: int = Field(50, ge=1, le=MAX_JOBS, description="Most items of the page.")
    cursor: str | None = Field(None, description="`next` of the page before.")


_JOB: dict[str, Any] = {
    "queue": "color-extraction",
    "key": "dress-17",
    "state": "running",
    "version": "running:5f0c2b1e:812:1772366400250",
    "function": "extract_colors",
    "status": "active",
    "attempt": 1,
    "max_attempts": 4,
    "queued_at": "2026-03-01T11:59:59Z",
    "started_at": "2026-03-01T12:00:00.250Z",
    "ended_at": None,
    "due_at": None,
    "due_in": None,
    "position": None,
    "running_for": 31.2,
    "usual_run": 1.1,
    "deadline_in": 28.8,
    "worker": "5f0c2b1e",
    "worker_name": "box-2:4121",
    "progress": None,
    "aborting": False,
    "error": None,
    "problem": None,
}


class JobItem(BaseModel):
    """A job.  Durations are in seconds; null: not known, or without a meaning in its state."""

    model_config = example(**_JOB) | ConfigDict(from_attributes=True)

    queue: str
    key: str
    state: JobState
    version: str = Field(description="Changes whenever the job moves: a verb that gets it refuses then.")
    function: str | None
    status: str | None = Field(description="SAQ's: an aborted job is among the failed.")
    attempt: int = Field(description="The attempt that runs, else how many it has had.")
    max_attempts: int
    queued_at: datetime | None = Field(description="By its producer's clock.")
    started_at: datetime | None
    ended_at: datetime | None
    due_at: datetime | None
    due_in: float | None
    position: int | None = Field(description="Ready jobs before it; null if they are too many to be counted.")
    running_for: float | None
    usual_run: float | None = Field(description="The median of the queue's run times of the last hour.")
    deadline_in: float | None = Field(description="Until the queue's timeout ends it.")
    worker: str | None
    worker_name: str | None
    progress: float | None
    aborting: bool
    error: str | None = Field(description="The last line of its newest error.")
    problem: str | None = Field(description="Why it is not a job.")


class JobPage(BaseModel):
    """One page; a page of large jobs ends before its limit."""

    model_config = ConfigDict(from_attributes=True)

    items: list[JobItem]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class AttemptItem(BaseModel):
    """A failed attempt."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    at: datetime | None
    worker: str
    error_type: str
    message: str
    traceback: str | None
    run_seconds: float
    release: str | None
    log: list[str]


class WhyItem(BaseModel):
    """Why a job does not run, or why a queue starts nothing more."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "cause": "full",
                    "sentence": "color-extraction is full: 5 of 5, the oldest for 31 s, usually 1.1 s",
                    "also": ["rate_limit"],
                    "details": {"in_flight": 5, "concurrency": 5, "oldest_running": 31.2, "before": 131},
                }
            ]
        },
    )

    cause: Cause
    sentence: str
    also: list[Cause] = Field(description="Other causes that hold, too.")
    details: Mapping[str, Any] = Field(description="The figures of the sentence.")


class StackItem(BaseModel):
    """A line at which a coroutine is suspended, or a thread or a process works."""

    model_config = example(
        file="workers/handlers/color/handler.py", line=88, function="ColorHandler.run", own=True
    ) | ConfigDict(from_attributes=True)

    file: str
    line: int
    function: str
    own: bool = Field(description="Whether it is a line of the handler's code.")


class JobStack(BaseModel):
    """The stack of a coroutine, and of the thread or process that works for it, the outermost frame first."""

    items: list[StackItem]
    log: list[str] = Field(description="The newest lines that the job has logged.")
    place: str = Field(description="The thread or process; empty: its coroutine waits.")
    problem: str = Field(description="Why the frames of that thread or process are missing.")
    next: None = None


class NamedJobItem(BaseModel):
    """A job of a finding."""

    model_config = ConfigDict(from_attributes=True)

    queue: str
    key: str
    worker_name: str | None
    running_for: float | None


class SlotsItem(BaseModel):
    """Slots of a queue that the jobs of a finding take."""

    model_config = ConfigDict(from_attributes=True)

    queue: str
    taken: int
    concurrency: int | None


class FindingItem(BaseModel):
    """Running jobs that stand at the same line."""

    model_config = ConfigDict(from_attributes=True)

    frame: StackItem
    jobs: list[NamedJobItem] = Field(description="The one that has run the longest first.")
    workers: list[str] = Field(description="Host and pid of the processes that run them.")
    releases: list[str]
    since: datetime | None = Field(description="When the first of them started.")
    running_for: float | None = Field(description="Seconds since then.")
    release_age: float | None = Field(
        description="Seconds between the start of the first process of their release and then."
    )
    slots: list[SlotsItem]


class FindingList(BaseModel):
    """All findings, the one with the most jobs first."""

    items: list[FindingItem]
    next: None = None


class JobDetailItem(JobItem):
    """A job with all that Redis holds of it."""

    model_config = example(
        **_JOB,
        payload={"item_id": "dress-17"},
        result=None,
        meta={},
        traceback=None,
        attempts=[],
        producer=None,
        replay_of=None,
        letter=None,
        unreadable=None,
        why=None,
    )

    payload: Any = Field(description="Its arguments.")
    result: Any
    meta: Mapping[str, Any]
    traceback: str | None = Field(description="Its newest error, as SAQ keeps it.")
    attempts: list[AttemptItem] = Field(description="Those that failed.")
    producer: str | None
    replay_of: int | None = Field(description="The dead letter of which it is a replay.")
    letter: int | None = Field(description="The dead letter that it left.")
    unreadable: str | None = Field(description="The bytes of what is not a job.")
    why: WhyItem | None


@router.get("", summary="Jobs by state", response_description="One page.")
async def list_jobs(
    operations: ActorOperations, state: State, query: Annotated[JobsQuery, Query()]
) -> JobPage:
    """Give `next` as `cursor` to get the following page.

    With `function`, `worker` or `text` a page searches 1,000 jobs, and may be empty and have a `next`.
    """
    selected = JobFilter(function=query.function, worker=query.worker, text=query.text)
    page = await operations.jobs.page(
        query.queue,
        query.state,
        selected=selected,
        limit=query.limit,
        cursor=query.cursor,
        snapshot=await state.snapshot() if query.state in (None, "running") else None,
    )
    return JobPage.model_validate(page)


@router.get(
    "/alike", summary="Running jobs that stand at the same line", response_description="All such lines."
)
async def list_findings(operations: ActorOperations, state: State) -> FindingList:
    """Every process that holds jobs is asked; those that do not answer within two seconds are left out."""
    findings = await operations.jobs.findings(snapshot=await state.snapshot())
    return FindingList(items=[FindingItem.model_validate(finding) for finding in findings])


@router.get("/{queue}/why", summary="Why a queue starts nothing more", response_description="One sentence.")
async def why_queue(operations: ActorOperations, state: State, queue: PathQueue) -> WhyItem:
    """Or that it does: the cause is `starts` then."""
    return WhyItem.model_validate(await operations.jobs.why(queue, snapshot=await state.snapshot()))


@router.get("/{queue}/{key:path}/why", summary="Why a job does not run", response_description="One sentence.")
async def why_job(operations: ActorOperations, state: State, queue: PathQueue, key: JobKey) -> WhyItem:
    """If there is no such job, the cause is `unknown`; while Redis is unavailable `redis_unavailable`."""
    return WhyItem.model_validate(await operations.jobs.why(queue, key, snapshot=await state.snapshot()))


@router.get(
    "/{queue}/{key:path}/stack",
    summary="Where a job stands that runs",
    response_description="The stack of its coroutine, thread or process, the outermost frame first.",
    responses=problem_responses(404, 409),
)
async def show_stack(operations: ActorOperations, queue: PathQueue, key: JobKey) -> JobStack:
    """Its process is asked.  409 if the job does not run, or no answer comes within two seconds."""
    stack = await operations.jobs.stack(queue, key)
    items = [StackItem.model_validate(frame) for frame in stack.frames]
    return JobStack(items=items, log=list(stack.log), place=stack.place, problem=stack.problem)


@router.get(
    "/{queue}/{key:job}",
    summary="A job",
    response_description="The job.",
    responses=problem_responses(404),
)
async def show_job(
    operations: ActorOperations, state: State, queue: PathQueue, key: JobKey, reveal: Reveal = False
) -> JobDetailItem:
    """Its payload, result and errors, and why it does not run."""
    job = await operations.jobs.get(queue, key, snapshot=await state.snapshot(), reveal=reveal)
    return JobDetailItem.model_validate(job)
