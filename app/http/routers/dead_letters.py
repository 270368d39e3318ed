"""Dead letters: list, show, discard, restore, archive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel

from app.http.dependencies import ActorOperations
from app.http.filters import GroupsQuery, ListQuery, SelectionBody
from app.http.models import IntegralFloat, PathId, RequestBody, Reveal, example
from app.http.problems import problem_responses
from app.http.routing import strict_router
from storage.dead_letters.filters import MAX_AGE_DAYS, LetterFilter
from workers.operations.operations import DeadLetter, PlanItem, Selection

router = strict_router("dead letters", "/api/v1/admin/failed-jobs")

_MAX_PAGE_BYTES = 4_000_000
"""A page that has more ends there, and `next` leads on."""
_FIRST_LETTERS, _MAX_LETTERS = 5, 20
"""Letters that are read and made into JSON at a time: payloads may be large, and jobs share the loop."""

_TIME = "2026-03-01T12:00:00Z"
_SAMPLE: dict[str, Any] = {
    "id": 512,
    "queue_name": "color-extraction",
    "function": "extract_colors",
    "job_id": "dress-17",
    "error_type": "DownloadError",
    "error_message": "503 from cdn.example.com",
    "attempts": 4,
    "failed_at": _TIME,
    "state": "dead",
    "deaths": 1,
    "release": "2026.3",
}
_LETTER = _SAMPLE | {
    "uid": "6f1c0a92b3d4",
    "job_data": {"function": "extract_colors", "kwargs": {"item_id": "dress-17"}},
    "traceback": None,
    "fingerprint": "9f2c41d07b3a8e65",
    "attempt_errors": [],
    "worker": "5f0c9a",
    "enqueued_at": _TIME,
    "replay_of": None,
    "replay_count": 0,
    "replayed_at": None,
    "root_id": None,
    "archived": False,
}


class Letter(RootModel[DeadLetter]):
    """A dead letter: the columns of its row."""

    model_config = example(**_LETTER)


class LetterPage(BaseModel):
    """One page, the newest first; a page of large letters ends before its limit."""

    model_config = example(items=[_LETTER], next=None)

    items: list[DeadLetter]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class GroupSample(BaseModel):
    """The newest letter of a group, without payload and tracebacks."""

    model_config = example(**_SAMPLE) | ConfigDict(from_attributes=True)

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
    release: str | None


class Group(BaseModel):
    """Letters of the same failure."""

    model_config = example(
        fingerprint="9f2c41d07b3a8e65",
        count=37,
        first_at=_TIME,
        last_at=_TIME,
        trend=[0] * 23 + [37],
        releases=["2026.3"],
        sample=_SAMPLE,
    ) | ConfigDict(from_attributes=True)

    fingerprint: str
    count: int
    first_at: datetime
    last_at: datetime
    trend: tuple[int, ...] = Field(description="Deaths in each of the last 24 hours, the oldest first.")
    releases: tuple[str, ...] = Field(description="Those in which they died, the newest first; at most 20.")
    sample: GroupSample


class GroupList(BaseModel):
    """Letters of the same failure, the largest groups first."""

    items: list[Group]
    next: None = None


class LineageLetter(BaseModel):
    """A letter of a lineage, without payload and tracebacks, and its replays."""

    model_config = example(
        id=512,
        job_id="dress-17",
        failed_at=_TIME,
        state="dead",
        error_type="DownloadError",
        error_message="503 from cdn.example.com",
        replay_of=498,
        replays=[],
    ) | ConfigDict(from_attributes=True)

    id: int
    job_id: str
    failed_at: datetime
    state: str
    error_type: str
    error_message: str
    replay_of: int | None
    replays: list[PlanItem] = []


class Lineage(BaseModel):
    """The letters that replays of one job left, the oldest first."""

    items: list[LineageLetter]
    next: None = None


class ChangedCount(BaseModel):
    """How many letters were changed."""

    model_config = example(count=37, others=1)

    count: int
    others: int = Field(description="Ids of letters that were left out: their state does not allow it.")


class ArchiveRequest(RequestBody):
    """Which letters are archived."""

    model_config = example(days=30, dry_run=True)

    days: Annotated[
        int,
        Field(ge=0, le=MAX_AGE_DAYS, description="Letters that died this many days ago or earlier."),
        IntegralFloat,
    ] = 30
    dry_run: bool = Field(False, description="Count what would be archived, and change nothing.")


class ArchivedCount(BaseModel):
    """How many letters were archived."""

    model_config = example(count=1200)

    count: int


@router.get(
    "",
    response_model=LetterPage,
    summary="Dead letters, the newest first",
    response_description="One page.",
)
async def list_dead_letters(operations: ActorOperations, query: Annotated[ListQuery, Query()]) -> Response:
    """Give `next` as `cursor` to get the following page."""
    letter_filter, cursor = query.to_filter(), query.cursor
    letters: list[bytes] = []
    size, count = 0, _FIRST_LETTERS
    while True:
        limit = min(count, _MAX_LETTERS, query.limit - len(letters))
        page = await operations.dead_letters.page(letter_filter, limit=limit, cursor=cursor)
        letters += await asyncio.to_thread(_to_json, page.items)
        size, cursor = sum(map(len, letters)), page.next
        if cursor is None or len(letters) >= query.limit or size >= _MAX_PAGE_BYTES:
            break
        count = max(1, (_MAX_PAGE_BYTES - size) * len(letters) // size)  # as large as those before
    document = b'{"items":[%b],"next":%b}' % (b",".join(letters), json.dumps(cursor).encode())
    return Response(document, media_type="application/json")


def _to_json(letters: Sequence[DeadLetter]) -> list[bytes]:
    return [Letter(letter).model_dump_json().encode() for letter in letters]


@router.get(
    "/groups",
    summary="Dead letters by failure, the largest groups first",
    response_description="The groups.",
)
async def list_groups(operations: ActorOperations, query: Annotated[GroupsQuery, Query()]) -> GroupList:
    """Each with its count, the deaths of each of the last 24 hours, and its newest letter."""
    groups = await operations.dead_letters.groups(query.to_filter(), limit=query.limit)
    return GroupList(items=[Group.model_validate(group) for group in groups])


@router.post(
    "/discard",
    summary="Hide dead letters",
    response_description="How many were hidden.",
    responses=problem_responses(404),
)
async def discard_dead_letters(operations: ActorOperations, body: SelectionBody) -> ChangedCount:
    """They are not shown and not retried until they are restored."""
    selection = body.selection
    return _changed_count(selection, await operations.dead_letters.discard(selection, body.reason))


@router.post(
    "/restore",
    summary="Undo a discard",
    response_description="How many are dead letters again.",
    responses=problem_responses(404),
)
async def restore_dead_letters(operations: ActorOperations, body: SelectionBody) -> ChangedCount:
    """Letters that were not discarded are left out."""
    selection = body.selection
    return _changed_count(selection, await operations.dead_letters.restore(selection, body.reason))


@router.post(
    "/archive",
    summary="Move old dead letters into the archive",
    response_description="How many letters.",
    responses=problem_responses(409),
)
async def archive_dead_letters(
    operations: ActorOperations, body: Annotated[ArchiveRequest, Body(default_factory=ArchiveRequest)]
) -> ArchivedCount:
    """The same is done daily; the archive can be read and retried from."""
    count = await operations.dead_letters.archive(days=body.days, dry_run=body.dry_run)
    return ArchivedCount(count=count)


@router.get(
    "/{id:id}",
    response_model=Letter,
    summary="A dead letter",
    response_description="The letter, whatever its state.",
)
async def show_dead_letter(operations: ActorOperations, id: PathId, reveal: Reveal = False) -> Response:
    """With its payload and the errors of all its attempts."""
    letter = await operations.dead_letters.get(id, reveal=reveal)
    (document,) = await asyncio.to_thread(_to_json, [letter])
    return Response(document, media_type="application/json")


@router.get(
    "/{id:id}/lineage",
    summary="The lineage of a dead letter",
    response_description="The letters, the oldest first.",
)
async def show_lineage(operations: ActorOperations, id: PathId) -> Lineage:
    """The first letter of a job and those that its replays left, each with its replays."""
    lineage = await operations.dead_letters.lineage(id)
    return Lineage(
        items=[
            LineageLetter.model_validate(letter).model_copy(update={"replays": replays})
            for letter, replays in lineage
        ]
    )


def _changed_count(selection: Selection, count: int) -> ChangedCount:
    others = 0 if isinstance(selection, LetterFilter) else len(set(selection)) - count
    return ChangedCount(count=count, others=others)
