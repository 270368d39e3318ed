"""The cache: what a user is shown, read through it, and its invalidation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from app.http.problems import ProblemError, invalid
from app.http.route import Call, Given, Reply
from storage.errors import CacheUnavailableError
from storage.personalization import Payload

_LONGEST = 200
"""Characters of an id."""
_AGAIN_IN = "5"  # s


def _instant(value: Any) -> Any:
    """A time as ISO 8601 has it; without an offset it is UTC.  Text that is a number is none."""
    if not isinstance(value, str):
        return value
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no time: use ISO 8601, for instance 2026-03-01T12:00:00Z") from None


Id = Annotated[str, Field(min_length=1, max_length=_LONGEST, pattern=r"^[^\x00]*$")]
UserId = Annotated[
    str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _LONGEST, "pattern": "^[^\\x00]*$"})
]
"""Checked by `_user`: a path that no user can have is wrong, where others only lead nowhere."""
At = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]


class UserPath(Given):
    """A user, in the path."""

    user_id: UserId


class Removed(BaseModel):
    """Entries that went."""

    user_id: str
    removed: int = Field(description="How many there were; one that is being loaded now is not kept, too.")


class PayloadQuery(Given):
    """For which place and time."""

    location: Id = Field(description="Id of a location.")
    at: At | None = Field(None, description="A time, for the block that holds it; now without it.")


class Personalized(Payload):
    """All that a client needs to dress a user."""

    source: Literal["fresh", "loaded", "stale", "direct"] = Field(
        description="fresh: from the cache. loaded: built now. stale: older than it should be, since it "
        "could not be built. direct: built past the cache, whose Redis does not answer."
    )
    age: float = Field(description="Seconds since it was built.")


async def invalidate(call: Call) -> Reply:
    """Nothing of the user is served from the cache any longer."""
    user = _user(call)
    try:
        removed = await call.operations.cache.evict_user(user)
    except CacheUnavailableError as error:
        raise ProblemError(503, str(error), headers={"Retry-After": _AGAIN_IN}) from None
    return Reply(Removed(user_id=user, removed=removed))


async def payload(call: Call) -> Reply:
    """What a user is shown."""
    query: PayloadQuery = call.query
    try:
        found = await call.operations.personalization.payload(_user(call), query.location, query.at)
    except OverflowError:
        raise invalid([("at", "is beyond all time")]) from None
    answer = Personalized(**found.value.model_dump(), source=found.source, age=round(found.age, 3))
    return Reply(answer, headers={"Age": str(int(found.age))})


def _user(call: Call) -> str:
    """Raises ProblemError."""
    user: str = call.path.user_id
    if not 0 < len(user) <= _LONGEST or "\0" in user:
        raise invalid([("user_id", f"is no id of 1 to {_LONGEST} characters without NUL")])
    return user
