"""Replay plans: how they go on, and what stops them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.http.filters import PathId
from app.http.problems import ProblemError
from app.http.route import Call, Given, GivenBody, Reply
from storage.dead_letters.plans import PlanState
from workers.operations.operations import Ledger, Plan, PlanItem

PLANS = "/api/v1/admin/failed-jobs/plans"


class PlanPath(Given):
    """A plan, in the path."""

    id: PathId


class PlanNow(BaseModel):
    """How a plan stands, with its ledger."""

    model_config = ConfigDict(from_attributes=True)

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
        description="The state; of one that should run `interrupted` where nobody carries it out, and POST "
        "…/run goes on with it; `unknown` where Redis does not say so."
    )
    note: str = Field(description="Why it is in its state.")
    ended_at: datetime | None
    ledger: Ledger
    active: bool | None = Field(description="Whether a process carries it out; null is not known.")

    @classmethod
    def of(cls, plan: Plan) -> PlanNow:
        """The same for clients."""
        return cls.model_validate(plan)


class Plans(BaseModel):
    """The newest plans first."""

    items: list[PlanNow]
    next: None = None


class PlansQuery(Given):
    """How many."""

    limit: int = Field(50, ge=1, le=200)


class ItemsQuery(Given):
    """Some letters of a plan."""

    state: Literal["waiting", "enqueued", "completed", "same", "other", "aborted", "skipped"] | None = None
    limit: int = Field(100, ge=1, le=1_000)
    cursor: str = Field("0", pattern=r"^[0-9]{1,18}$", description="`next` of the page before.")


class Items(BaseModel):
    """Letters of a plan in their order, each with what became of it."""

    items: list[PlanItem]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Resumed(GivenBody):
    """How a plan goes on."""

    halt: float | None = Field(None, gt=0, le=1, description="Its new limit, which one that halted needs.")


async def plans(call: Call) -> Reply:
    """The newest ones."""
    found = await call.operations.replays.plans(call.query.limit)
    return Reply(Plans(items=[PlanNow.of(each) for each in found]))


async def show(call: Call) -> Reply:
    """One plan."""
    return Reply(PlanNow.of(await call.operations.replays.get_plan(call.path.id)))


async def items(call: Call) -> Reply:
    """The letters of one plan."""
    query: ItemsQuery = call.query
    found = await call.operations.replays.plan_items(
        call.path.id, state=query.state, limit=query.limit + 1, after=int(query.cursor)
    )
    found, more = found[: query.limit], len(found) > query.limit
    return Reply(Items(items=found, next=str(found[-1].id) if more else None))


async def run(call: Call) -> Reply:
    """Carry it out, or go on with it, behind the answer."""
    refuse_while_draining(call)
    return started(await call.operations.replays.start_plan(call.path.id, halt=call.body.halt))


async def pause(call: Call) -> Reply:
    """Enqueue no more of it for now."""
    return Reply(PlanNow.of(await call.operations.replays.pause_plan(call.path.id)))


async def cancel(call: Call) -> Reply:
    """Enqueue no more of it, ever."""
    return Reply(PlanNow.of(await call.operations.replays.cancel_plan(call.path.id)))


def refuse_while_draining(call: Call) -> None:
    """Raises ProblemError where this process ends before a plan would."""
    if call.operations.draining:
        raise ProblemError(409, "this process drains, and would leave the plan: ask another process")


def started(plan: Plan) -> Reply:
    """That a plan is carried out, and where to look how it goes on."""
    return Reply(PlanNow.of(plan), 202, headers={"Location": f"{PLANS}/{plan.id}"})
