"""Dead letters: look, retry, discard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.http.filters import GroupsQuery, ListQuery, PathId, SelectionBody
from app.http.route import WHOLE, Call, Given, GivenBody, Reply
from app.http.routers.replays import refuse_while_draining, started
from storage.dead_letters.filters import LetterFilter
from workers.operations.operations import DeadLetter, FailureGroup, Selection
from workers.operations.selection import Preview, ReplayOptions

_MOST_BYTES = 4_000_000
"""Of a page: one that has more ends there, and `next` leads on."""
_FIRST, _READ = 5, 20
"""Letters that are read, and made into JSON, at a time: payloads may be large, and jobs share the loop."""


class LetterPath(Given):
    """A letter, in the path."""

    id: PathId


class Letter(RootModel[DeadLetter]):
    """A dead letter: the columns of its row."""


class Letters(BaseModel):
    """One page, the newest first; one whose letters are large ends before its limit."""

    items: list[DeadLetter]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Sample(BaseModel):
    """The newest letter of a group, without payload and tracebacks."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    queue_name: str
    function: str
    job_id: str
    error_type: str
    error_message: str
    attempts: int
    failed_at: datetime
    state: str
    deaths: int


class SampledGroup(BaseModel):
    """Letters of the same failure."""

    model_config = ConfigDict(from_attributes=True)

    fingerprint: str
    count: int
    first_at: datetime
    last_at: datetime
    trend: tuple[int, ...] = Field(description="Deaths in each of the last 24 hours, the oldest first.")
    sample: Sample

    @classmethod
    def all_of(cls, groups: Sequence[FailureGroup]) -> list[SampledGroup]:
        """The same without what is large."""
        return [cls.model_validate(each) for each in groups]


class Groups(BaseModel):
    """Letters of the same failure, the largest groups first."""

    items: list[SampledGroup]
    next: None = None


class Edited(GivenBody):
    """What may be said of a retry."""

    data: dict[str, Any] | None = Field(None, description="Arguments in place of those that failed.")
    reason: str = Field("", max_length=500, description="Why, for the record.")


class Retried(BaseModel):
    """A letter whose job was enqueued again."""

    id: int
    key: str = Field(description="The key of its job, which is the one that it had.")


class Retry(SelectionBody):
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
    groups: list[SampledGroup]
    seconds: float = Field(description="How long it takes at least.")


class Moved(BaseModel):
    """How many letters were changed."""

    count: int
    others: int = Field(description="Ids of letters that were left out: they are not in a state for it.")

    @classmethod
    def of(cls, wanted: Selection, count: int) -> Moved:
        """What came of an act on ``wanted``."""
        return cls(count=count, others=0 if isinstance(wanted, LetterFilter) else len(set(wanted)) - count)


async def page(call: Call) -> Reply:
    """One page."""
    query: ListQuery = call.query
    wanted, cursor = query.filter(), query.cursor
    packed: list[bytes] = []
    size, room = 0, _FIRST
    while True:
        limit = min(room, _READ, query.limit - len(packed))
        found = await call.operations.dead_letters.page(wanted, limit=limit, cursor=cursor)
        packed += await asyncio.to_thread(_packed, found.items)
        size, cursor = sum(map(len, packed)), found.next
        if cursor is None or len(packed) >= query.limit or size >= _MOST_BYTES:
            break
        room = max(1, (_MOST_BYTES - size) * len(packed) // size)  # as large as those before
    return Reply(b'{"items":[%b],"next":%b}' % (b",".join(packed), json.dumps(cursor).encode()))


def _packed(letters: Sequence[DeadLetter]) -> list[bytes]:
    return [Letter(each).model_dump_json().encode() for each in letters]


async def groups(call: Call) -> Reply:
    """The largest groups."""
    query: GroupsQuery = call.query
    found = await call.operations.dead_letters.groups(query.filter(), limit=query.limit)
    return Reply(Groups(items=SampledGroup.all_of(found)))


async def show(call: Call) -> Reply:
    """One letter, whatever its state."""
    return Reply(Letter(await call.operations.dead_letters.get(call.path.id)))


async def retry_one(call: Call) -> Reply:
    """One letter, under its own key."""
    sent: Edited = call.body
    key = await call.operations.replays.replay(call.path.id, sent.data, sent.reason)
    return Reply(Retried(id=call.path.id, key=key), 202)


async def retry(call: Call) -> Reply:
    """Freeze a plan of what is meant now, and carry it out behind the answer; or only say what is meant."""
    sent: Retry = call.body
    replays = call.operations.replays
    options = ReplayOptions(canary=sent.canary, rate=sent.rate, halt=sent.halt, poison=sent.poison)
    if sent.dry_run:
        return Reply(_previewed(await replays.preview(sent.wanted, options)))
    refuse_while_draining(call)
    plan = await replays.create_plan(sent.wanted, options, sent.reason)
    return started(await replays.start_plan(plan.id))


async def discard(call: Call) -> Reply:
    """Hide dead letters."""
    sent: SelectionBody = call.body
    wanted = sent.wanted
    return Reply(Moved.of(wanted, await call.operations.dead_letters.discard(wanted, sent.reason)))


async def restore(call: Call) -> Reply:
    """Undo a discard."""
    sent: SelectionBody = call.body
    wanted = sent.wanted
    return Reply(Moved.of(wanted, await call.operations.dead_letters.restore(wanted, sent.reason)))


def _previewed(preview: Preview) -> Previewed:
    wanted = preview.selection
    selection: dict[str, Any] = (
        {"filter": wanted.model_dump(mode="json", exclude_defaults=True, exclude={"state"})}
        if isinstance(wanted, LetterFilter)
        else {"ids": list(wanted)}
    )
    return Previewed(
        selection=selection,
        total=preview.total,
        poison=preview.poison_excluded,
        others=preview.not_dead,
        queues=dict(preview.queues),
        groups=SampledGroup.all_of(preview.groups),
        seconds=preview.min_seconds,
    )
