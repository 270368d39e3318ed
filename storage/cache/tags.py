"""Tags of cache entries: an invalidation names tags, and ends every entry that has one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

ALL_TAG = "all"
"""The tag of every entry."""

InvalidateTags = Callable[..., Awaitable[object]]
"""Invalidates the entries that have one of the tags which it is called with."""


def user_tag(user_id: str) -> str:
    """Return the tag of a user's entries."""
    return f"user:{user_id}"


def location_tag(location_id: str) -> str:
    """Return the tag of the entries for a location."""
    return f"location:{location_id}"
