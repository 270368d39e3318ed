"""The cache: what a user is shown, read through it; its entries, statistics and evictions."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from app.http.dependencies import ActorOperations
from app.http.models import RequestBody, Reveal, example
from app.http.problems import validation_problem
from app.http.routing import strict_router
from storage.cache.entries import CacheEntry
from storage.personalization import Payload
from workers.operations.cache import MAX_USER_ID_CHARS, glob_pattern, user_id_problem

router = strict_router("cache", "/api/v1")

_MAX_LOCATION_CHARS = 200
_MAX_PATTERN_CHARS = 500
_PART_OR_PATTERN = "A part of a key, or with `*`, `?` or `[` a pattern for whole keys."
_ID_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_USER_ID_CHARS,
    "pattern": "^[^\\x00]*$",
    "examples": ["anna"],
}
_RawUserId = Annotated[Annotated[str, WithJsonSchema(_ID_SCHEMA)], Path(description="Id of a user.")]


def _parse_time(value: Any) -> Any:
    """Parse ISO 8601, without an offset as UTC; refuse numbers, which pydantic would take."""
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("use ISO 8601, for instance 2026-03-01T12:00:00Z") from None


async def _check_user_id(
    user_id: _RawUserId,
) -> str:
    """Refuse a path that no user can have: a mistake (422), unlike the id of a user that we do not have."""
    problem = user_id_problem(user_id)
    if problem:
        raise validation_problem([("user_id", problem)])
    return user_id


UserId = Annotated[str, Depends(_check_user_id)]
LocationId = Annotated[
    str,
    Query(
        min_length=1,
        max_length=_MAX_LOCATION_CHARS,
        pattern=r"^[^\x00]*$",
        description="Id of a location.",
        examples=["berlin"],
    ),
]
Moment = Annotated[
    Annotated[
        datetime, BeforeValidator(_parse_time), WithJsonSchema({"type": "string", "format": "date-time"})
    ]
    | None,
    Query(description="A time in the block; the default is now.", examples=["2026-03-01T12:00:00Z"]),
]


EntryKey = Annotated[
    str,
    Path(
        min_length=1,
        description="As the list has it: `user:location:block`.",
        examples=["anna:berlin:2026-03-01T12"],
    ),
]


class InvalidatedUser(BaseModel):
    """A user whose entries were removed."""

    model_config = example(user_id="anna", removed=3)

    user_id: str
    removed: int = Field(description="Number of entries; an entry that is being loaded is not kept either.")


class Personalization(Payload):
    """All that a client needs to dress a user."""

    model_config = example(
        user_id="anna",
        location_id="berlin",
        time_block="2026-03-01T12:00:00Z",
        preferences={"colors": ["navy"]},
        weather=None,
        built_at="2026-03-01T12:00:00Z",
        source="fresh",
        age=12.5,
    )

    source: Literal["fresh", "loaded", "stale", "direct"] = Field(
        description="fresh: from the cache. loaded: built now. stale: from the cache and old, since it could "
        "not be built. direct: built without the cache, whose Redis does not answer."
    )
    age: float = Field(description="Seconds since it was built.")


class EntriesQuery(BaseModel):
    """Selects a page of entries."""

    pattern: str = Field("", max_length=_MAX_PATTERN_CHARS, description=_PART_OR_PATTERN, examples=["anna:*"])
    limit: int = Field(50, ge=1, le=200, description="A page may have some more, or fewer.")
    cursor: str | None = Field(None, description="`next` of the page before.")


class EntryPage(BaseModel):
    """One page, in no order."""

    model_config = example(
        items=[
            {"key": "anna:berlin:2026-03-01T12", "state": "fresh", "age": 12.5, "ttl": 887.5, "size": 2048}
        ],
        next=None,
    )

    items: list[CacheEntry]
    next: str | None = Field(description="The cursor of the next page; null at the end.")


class Entry(BaseModel):
    """A cached entry with its value."""

    model_config = example(
        key="anna:berlin:2026-03-01T12",
        state="fresh",
        age=12.5,
        ttl=887.5,
        size=2048,
        value={"user_id": "anna"},
    )

    key: str
    state: str = Field(description="fresh, stale, outdated (invalidated) or corrupt.")
    age: float | None = Field(description="Seconds since it was stored.")
    ttl: float = Field(description="Seconds until it expires.")
    size: int = Field(description="Bytes of the entry.")
    value: Any = Field(description="As text if it is not JSON.")


class EvictRequest(RequestBody):
    """Which entries are evicted."""

    model_config = example(pattern="anna:*", dry_run=True)

    pattern: str = Field(
        min_length=1, max_length=_MAX_PATTERN_CHARS, description=f"{_PART_OR_PATTERN} `*` is all."
    )
    dry_run: bool = Field(False, description="Count what would be evicted, and change nothing.")


class EvictedCount(BaseModel):
    """How many entries were evicted."""

    model_config = example(count=3)

    count: int


class CacheFigures(BaseModel):
    """How reads of the last hour ended in all processes, and the memory of the cache's Redis."""

    model_config = example(
        url="redis://cache:6379/0",
        own=True,
        memory_used=1048576,
        memory_limit=None,
        evicted=0,
        policy="allkeys-lru",
        hit_rate=0.94,
        hits=94,
        misses=6,
        stale=0,
        errors=0,
        minutes=[0.94],
    )

    url: str = Field(description="Of its Redis, without the password.")
    own: bool = Field(description="Whether that Redis holds the cache only.")
    memory_used: int | None = Field(description="Bytes.")
    memory_limit: int | None = Field(description="Bytes; null without a limit.")
    evicted: int | None = Field(description="Keys that the server has evicted since it started.")
    policy: str | None
    hit_rate: float | None = Field(description="Share of reads that the cache answered.")
    hits: int
    misses: int
    stale: int
    errors: int = Field(description="Reads while its Redis was unavailable.")
    minutes: list[float | None] = Field(
        description="The hit rate of each of the last 60 minutes, the oldest first."
    )


@router.get(
    "/personalization/users/{user_id:path}",
    summary="What a user is shown",
    response_description="The payload, and where it came from.",
)
async def show_personalization(
    operations: ActorOperations,
    user_id: UserId,
    location: LocationId,
    response: Response,
    at: Moment = None,
) -> Personalization:
    """For a place, and the block of three hours that holds a time; read through the cache."""
    try:
        cached = await operations.personalization.payload(user_id, location, at)
    except OverflowError:
        raise validation_problem([("at", "is outside of the calendar")]) from None
    response.headers["Age"] = str(int(cached.age))
    return Personalization(**cached.value.model_dump(), source=cached.source, age=round(cached.age, 3))


@router.delete(
    "/cache/users/{user_id:path}",
    summary="Invalidate all cached entries of a user",
    response_description="The number of entries.",
)
async def invalidate_user(operations: ActorOperations, user_id: UserId) -> InvalidatedUser:
    """In all processes.  For programs that change data without this program."""
    return InvalidatedUser(user_id=user_id, removed=await operations.cache.evict_user(user_id))


@router.get("/cache/stats", summary="Statistics of the cache", response_description="The figures.")
async def show_cache_stats(operations: ActorOperations) -> CacheFigures:
    """A figure that the server does not report is null."""
    return CacheFigures(**(await operations.cache.overview()).to_fields())


@router.get("/cache/entries", summary="Cached entries", response_description="One page.")
async def list_cache_entries(
    operations: ActorOperations, query: Annotated[EntriesQuery, Query()]
) -> EntryPage:
    """Give `next` as `cursor` to get the following page; an empty page may have one, too."""
    page = await operations.cache.page(glob_pattern(query.pattern), cursor=query.cursor, limit=query.limit)
    return EntryPage(items=list(page.items), next=page.next)


@router.get("/cache/entries/{key:path}", summary="A cached entry", response_description="The entry.")
async def show_cache_entry(operations: ActorOperations, key: EntryKey, reveal: Reveal = False) -> Entry:
    """With its value."""
    entry, value = await operations.cache.get(key, reveal=reveal)
    return Entry(**asdict(entry), value=value)


@router.delete(
    "/cache/entries/{key:path}",
    summary="Evict a cached entry",
    response_description="1, or 0 if it does not exist.",
)
async def evict_cache_entry(operations: ActorOperations, key: EntryKey) -> EvictedCount:
    """It is loaded again when it is read."""
    return EvictedCount(count=await operations.cache.evict([key]))


@router.post(
    "/cache/evict", summary="Evict cached entries by pattern", response_description="How many entries."
)
async def evict_cache_entries(operations: ActorOperations, body: EvictRequest) -> EvictedCount:
    """Those that match when the request is served."""
    count = await operations.cache.evict_matching(glob_pattern(body.pattern), dry_run=body.dry_run)
    return EvictedCount(count=count)
