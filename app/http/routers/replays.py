"""Replays: retry one letter, or many by a plan; the plans: list, show, run, pause, cancel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.http.dependencies import ActorOperations
from app.http.filters import SelectionBody
from app.http.models import IntegralFloat, PathId, Reason, RequestBody, example
from app.http.problems import ProblemError, problem_responses
from app.http.routers.dead_letters import Group
from app.http.routing import strict_router
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.plans import PlanState
from workers.operations.operations import Ledger, Operations, PlanItem
from workers.operations.selection import Preview, ReplayOptions

FAILED_JOBS = "/api/v1/admin/failed-jobs"
PLANS = f"{FAILED_JOBS}/plans"

router = strict_router("replays", PLANS)
letter_router = strict_router("dead letters", FAILED_JOBS)

_PLAN: dict[str, Any] = {
    "id": 7,
    "created_at": "2026-03-01T12:00:00Z",
    "actor": "http:anna",
    "reason": "CDN is back",
    "selection": {"filter": {"queue": "color-extraction"}},
    "canary": 5,
    "rate": 10,
    "halt": 0.2,
    "total": 37,
    "state": "running",
    "standing": "running",
    "note": "",
    "ended_at": None,
    "ledger": {
        "waiting": 32,
        "enqueued": 5,
        "completed": 0,
        "same": 0,
        "other": 0,
        "aborted": 0,
        "skipped": 0,
    },
    "active": True,
}


class PlanDetail(BaseModel):
    """A plan, with its ledger."""

    model_config = example(**_PLAN) | ConfigDict(from_attributes=True)

    id: int
    created_at: datetime
    actor: str
    reason: str
    selection: dict[str, Any] = Field(description="What was selected, for people.")
    canary: int
    rate: float | None
    halt: float
    total: int
    state: PlanState
    standing: str = Field(
        description="The state; `interrupted` if it should run and no process runs it (POST …/run resumes "
        "it); `unknown` if Redis does not answer."
    )
    note: str = Field(description="Why it is in its state.")
    ended_at: datetime | None
    ledger: Ledger
    active: bool | None = Field(description="Whether a process runs it; null is unknown.")


class PlanList(BaseModel):
    """The newest plans first."""

    items: list[PlanDetail]
    next: None = None


class ItemsQuery(BaseModel):
    """Selects letters of a plan."""

    state: Literal["waiting", "enqueued", "completed", "same", "other", "aborted", "skipped"] | None = Field(
        None, description="As in the ledger; all without it."
    )
    limit: int = Field(100, ge=1, le=1_000, description="Most items of the page.")
    cursor: str = Field("0", pattern=r"^[0-9]{1,18}$", description="`next` of the page before.")


class PlanItems(BaseModel):
    """Letters of a plan in their order, each with the result of its replay."""

    model_config = example(
        items=[
            {
                "id": 1,
                "plan_id": 7,
                "letter_id": 512,
                "state": "completed",
                "note": None,
                "kwargs": None,
                "enqueued_at": "2026-03-01T12:00:00Z",
                "ended_at": "2026-03-01T12:00:00Z",
            }
        ],
        next=None,
    )

    items: list[PlanItem]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class ResumeRequest(RequestBody):
    """How a plan is resumed."""

    model_config = example(halt=0.5)

    halt: float | None = Field(None, gt=0, le=1, description="A higher limit, which a halted plan needs.")


class RetryRequest(RequestBody):
    """How one letter is retried."""

    model_config = example(reason="CDN is back")

    data: dict[str, Any] | None = Field(None, description="Arguments in place of those that failed.")
    reason: Reason = ""


class RetryResult(BaseModel):
    """A letter whose job was enqueued again."""

    model_config = example(id=512, key="dress-17")

    id: int
    key: str = Field(description="The key of its job, which it had before.")


class BulkRetryRequest(SelectionBody):
    """Which letters are retried, and how."""

    dry_run: bool = Field(False, description="Return what would be retried, and change nothing.")
    canary: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="Letters to enqueue first; the others follow once their jobs have ended.",
        ),
        IntegralFloat,
    ] = 0
    rate: float | None = Field(None, gt=0, le=100_000, description="Jobs a second.")
    halt: float = Field(
        0.2, gt=0, le=1, description="Halt when more than this share of the jobs that ended died again."
    )
    poison: bool = Field(False, description="Also letters that died too often of the same error.")


class ReplayPreview(BaseModel):
    """Letters that would be retried."""

    model_config = example(
        selection={"filter": {"queue": "color-extraction"}},
        total=37,
        poison=1,
        others=0,
        queues={"color-extraction": 37},
        groups=[],
        seconds=0.0,
    )

    selection: dict[str, Any] = Field(
        description="The ids or the filter: sent again, they select what was counted and nothing later."
    )
    total: int
    poison: int = Field(description="Letters that are excluded, since they died too often of the same error.")
    others: int = Field(description="Ids of letters that are not dead.")
    queues: dict[str, int]
    groups: list[Group]
    seconds: float = Field(description="How long it takes at least.")


@letter_router.post(
    "/retry",
    response_model=PlanDetail,
    status_code=202,
    summary="Retry dead letters by a plan",
    response_description="The plan, which runs from now on.",
    responses={
        200: {"model": ReplayPreview, "description": "A dry run: what would be retried."},
        **problem_responses(404, 409),
    },
)
async def retry_dead_letters(operations: ActorOperations, body: BulkRetryRequest, response: Response) -> Any:
    """The plan holds what is selected and dead at this moment; this process runs it in the background."""
    options = ReplayOptions(canary=body.canary, rate=body.rate, halt=body.halt, poison=body.poison)
    if body.dry_run:
        preview = _replay_preview(await operations.replays.preview(body.selection, options))
        return Response(preview.model_dump_json(), media_type="application/json")
    refuse_while_draining(operations)
    plan = await operations.replays.create_plan(body.selection, options, body.reason)
    return await start_plan(operations, plan.id, response)


@letter_router.post(
    "/{id:id}/retry",
    status_code=202,
    summary="Retry one dead letter",
    response_description="Enqueued.",
    responses=problem_responses(409),
)
async def retry_dead_letter(
    operations: ActorOperations, id: PathId, body: Annotated[RetryRequest, Body(default_factory=RetryRequest)]
) -> RetryResult:
    """Its job is enqueued again, under its own key."""
    replay = await operations.replays.replay(id, body.data, body.reason)
    return RetryResult(id=id, key=replay.job_id)


@router.get(
    "",
    summary="Replay plans, the newest first",
    response_description="The plans.",
)
async def list_plans(
    operations: ActorOperations,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items of the page.")] = 50,
) -> PlanList:
    """Each with its ledger."""
    plans = await operations.replays.plans(limit)
    return PlanList(items=[PlanDetail.model_validate(plan) for plan in plans])


@router.get(
    "/{id:id}",
    response_model=PlanDetail,
    summary="One plan",
    response_description="The plan with its ledger.",
)
async def show_plan(operations: ActorOperations, id: PathId) -> Any:
    """The ledger counts the results of the jobs."""
    return await operations.replays.get_plan(id)


@router.get(
    "/{id:id}/letters",
    summary="The letters of a plan",
    response_description="One page.",
)
async def list_plan_letters(
    operations: ActorOperations, id: PathId, query: Annotated[ItemsQuery, Query()]
) -> PlanItems:
    """Each with the result of its replay."""
    items = await operations.replays.plan_items(
        id, state=query.state, limit=query.limit + 1, after=int(query.cursor)
    )
    page, more = items[: query.limit], len(items) > query.limit
    return PlanItems(items=page, next=str(page[-1].id) if more else None)


@router.post(
    "/{id:id}/run",
    response_model=PlanDetail,
    status_code=202,
    summary="Run a plan, or resume it",
    response_description="It runs from now on.",
    responses=problem_responses(409),
)
async def run_plan(
    operations: ActorOperations,
    id: PathId,
    response: Response,
    body: Annotated[ResumeRequest, Body(default_factory=ResumeRequest)],
) -> Any:
    """In the background of this process, whichever process ran it before."""
    return await start_plan(operations, id, response, halt=body.halt)


@router.post(
    "/{id:id}/pause",
    response_model=PlanDetail,
    summary="Pause a plan",
    response_description="The plan.",
    responses=problem_responses(409),
)
async def pause_plan(operations: ActorOperations, id: PathId) -> Any:
    """Nothing more of it is enqueued until it is run again."""
    return await operations.replays.pause_plan(id)


@router.post(
    "/{id:id}/cancel",
    response_model=PlanDetail,
    summary="Cancel a plan",
    response_description="The plan.",
    responses=problem_responses(409),
)
async def cancel_plan(operations: ActorOperations, id: PathId) -> Any:
    """Nothing more of it is enqueued; jobs that were enqueued go on."""
    return await operations.replays.cancel_plan(id)


def refuse_while_draining(operations: Operations) -> None:
    """Raise ProblemError if this process would end before a plan."""
    if operations.draining:
        raise ProblemError(409, "this process drains and would not finish the plan: use another process")


async def start_plan(
    operations: Operations, plan_id: int, response: Response, *, halt: float | None = None
) -> Any:
    """Run a plan in the background, and name the place where its progress can be read."""
    refuse_while_draining(operations)
    plan = await operations.replays.start_plan(plan_id, halt=halt)
    response.headers["Location"] = f"{PLANS}/{plan.id}"
    return plan


def _replay_preview(preview: Preview) -> ReplayPreview:
    selection: dict[str, Any] = (
        {"filter": preview.selection.model_dump(mode="json", exclude_defaults=True, exclude={"state"})}
        if isinstance(preview.selection, LetterFilter)
        else {"ids": list(preview.selection)}
    )
    return ReplayPreview(
        selection=selection,
        total=preview.total,
        poison=preview.poison_excluded,
        others=preview.not_dead,
        queues=dict(preview.queues),
        groups=[Group.model_validate(group) for group in preview.groups],
        seconds=preview.min_seconds,
    )
