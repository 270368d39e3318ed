"""What cache entries depend on, by the names that an invalidation uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

ALL_TAG = "all"
"""The subject that every entry depends on."""

InvalidateTags = Callable[..., Awaitable[object]]
"""Is told subjects that have changed."""


def user_tag(user_id: str) -> str:
    """The subject that a user is."""
    return f"user:{user_id}"


def location_tag(location_id: str) -> str:
    """The subject that a location is."""
    return f"location:{location_id}"
