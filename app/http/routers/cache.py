"""The cache: what a user is shown, read through it, and its invalidation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from app.http.dependencies import ActorOperations
from app.http.problems import validation_problem
from app.http.routing import strict_router
from storage.personalization import Payload

router = strict_router("cache", "/api/v1")

_MAX_ID_CHARS = 200
_ID_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _MAX_ID_CHARS, "pattern": "^[^\\x00]*$"}


def _parse_time(value: Any) -> Any:
    """Parse ISO 8601, without an offset as UTC; refuse numbers, which pydantic would take."""
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("use ISO 8601, for instance 2026-03-01T12:00:00Z") from None


async def _check_user_id(user_id: Annotated[Annotated[str, WithJsonSchema(_ID_SCHEMA)], Path()]) -> str:
    """A path that no user can have is a mistake (422), unlike the id of a user that we do not have."""
    if not 0 < len(user_id) <= _MAX_ID_CHARS or "\0" in user_id:
        raise validation_problem([("user_id", f"use 1 to {_MAX_ID_CHARS} characters without NUL")])
    return user_id


UserId = Annotated[str, Depends(_check_user_id)]
LocationId = Annotated[
    str, Query(min_length=1, max_length=_MAX_ID_CHARS, pattern=r"^[^\x00]*$", description="Id of a location.")
]
At = Annotated[
    Annotated[
        datetime, BeforeValidator(_parse_time), WithJsonSchema({"type": "string", "format": "date-time"})
    ]
    | None,
    Query(description="A time in the wanted block; the default is now."),
]


class InvalidatedUser(BaseModel):
    """A user whose entries were removed."""

    user_id: str
    removed: int = Field(description="Number of entries; an entry that is being loaded is not kept either.")


class Personalization(Payload):
    """All that a client needs to dress a user."""

    source: Literal["fresh", "loaded", "stale", "direct"] = Field(
        description="fresh: from the cache. loaded: built now. stale: from the cache and old, since it could "
        "not be built. direct: built without the cache, whose Redis does not answer."
    )
    age: float = Field(description="Seconds since it was built.")


@router.get(
    "/personalization/users/{user_id:path}",
    summary="What a user is shown",
    response_description="The payload, and where it came from.",
)
async def show_personalization(
    operations: ActorOperations, user_id: UserId, location: LocationId, response: Response, at: At = None
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
