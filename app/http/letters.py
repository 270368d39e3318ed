"""Dead letters: look, retry, discard."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, RootModel

from app.http.filters import GroupsQuery, LetterId, ListQuery, Selection
from app.http.plans import started
from app.http.route import WHOLE, Call, Given, GivenBody, Reply
from storage.filters import Filter
from workers.letter_operations import Preview, ReplayOptions
from workers.operations import DeadLetter, Group


class LetterPath(Given):
    """A letter, in the path."""

    id: LetterId


class Letter(RootModel[DeadLetter]):
    """A dead letter: the columns of its row."""


class Letters(BaseModel):
    """One page, the newest first."""

    items: list[DeadLetter]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Groups(BaseModel):
    """Letters of the same failure, the largest groups first."""

    items: list[Group]
    next: None = None


class Edited(GivenBody):
    """What may be said of a retry."""

    data: dict[str, Any] | None = Field(None, description="Arguments in place of those that failed.")
    reason: str = Field("", max_length=500, description="Why, for the record.")


class Retried(BaseModel):
    """A letter whose job was enqueued again."""

    id: int
    key: str = Field(description="The key of its job, which is the one that it had.")


class Retry(Selection):
    """What is retried, and how."""

    dry_run: bool = Field(False, description="Say what would be retried, and change nothing.")
    canary: Annotated[
        int, Field(ge=0, le=100_000, description="So many first, until their jobs have ended."), WHOLE
    ] = 0
    rate: float | None = Field(None, gt=0, le=100_000, description="Jobs a second.")
    halt: float = Field(
        0.2, gt=0, le=1, description="Halt where more than this share of the jobs that ended died again."
    )
    poison: bool = Field(False, description="Also those that died too often of one error.")


class Previewed(BaseModel):
    """What would be retried."""

    selection: dict[str, Any] = Field(
        description="The ids or the filter: sent again, they mean what was counted and nothing later."
    )
    total: int
    poison: int = Field(description="Letters left out, since they died too often of one error.")
    others: int = Field(description="Ids of letters that are not dead.")
    queues: dict[str, int]
    groups: list[Group]
    seconds: float = Field(description="How long it takes at least.")


class Moved(BaseModel):
    """How many letters were changed."""

    count: int


async def page(call: Call) -> Reply:
    """One page."""
    query: ListQuery = call.query
    found = await call.operations.letters.page(query.filter(), limit=query.limit, cursor=query.cursor)
    return Reply(Letters(items=found.items, next=found.next))


async def groups(call: Call) -> Reply:
    """The largest groups."""
    query: GroupsQuery = call.query
    return Reply(Groups(items=await call.operations.letters.groups(query.filter(), limit=query.limit)))


async def show(call: Call) -> Reply:
    """One letter, whatever its state."""
    return Reply(Letter(await call.operations.letters.get(call.path.id)))


async def retry_one(call: Call) -> Reply:
    """One letter, under its own key."""
    sent: Edited = call.body
    key = await call.operations.letters.replay(call.path.id, sent.data, sent.reason)
    return Reply(Retried(id=call.path.id, key=key), 202)


async def retry(call: Call) -> Reply:
    """Freeze a plan of what is meant now, and carry it out behind the answer; or only say what is meant."""
    sent: Retry = call.body
    letters = call.operations.letters
    options = ReplayOptions(canary=sent.canary, rate=sent.rate, halt=sent.halt, poison=sent.poison)
    if sent.dry_run:
        return Reply(_previewed(await letters.preview(sent.wanted, options)))
    plan = await letters.plan(sent.wanted, options, sent.reason)
    return started(await letters.start(plan.id))


async def discard(call: Call) -> Reply:
    """Hide dead letters."""
    sent: Selection = call.body
    return Reply(Moved(count=await call.operations.letters.discard(sent.wanted, sent.reason)))


async def restore(call: Call) -> Reply:
    """Undo a discard."""
    sent: Selection = call.body
    return Reply(Moved(count=await call.operations.letters.restore(sent.wanted, sent.reason)))


def _previewed(preview: Preview) -> Previewed:
    wanted = preview.wanted
    selection: dict[str, Any] = (
        {"filter": wanted.model_dump(mode="json", exclude_defaults=True, exclude={"state"})}
        if isinstance(wanted, Filter)
        else {"ids": list(wanted)}
    )
    return Previewed(
        selection=selection,
        total=preview.total,
        poison=preview.poison,
        others=preview.others,
        queues=dict(preview.queues),
        groups=list(preview.groups),
        seconds=preview.seconds,
    )
