"""Checks the URL of a Redis, as the settings name it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from redis import Redis

from app.errors import InvalidValueError
from storage.errors import one_line


def check_redis_url(url: str) -> str:
    """Return ``url``.  Raises InvalidValueError, whose message does not quote it: it may have a password."""
    if not re.match(r"(rediss?|unix)://.", url):
        raise InvalidValueError(
            "is not the URL of a Redis", fix="use redis://host:port/0, rediss://… or unix:///path"
        )
    try:
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError:  # its message may quote a part of the password
        raise InvalidValueError(
            "the host or the port cannot be read",
            fix="in a password write %40 for @, %2F for / and %3A for :",
        ) from None
    try:
        Redis.from_url(url).connection_pool.make_connection()
    except (ValueError, TypeError) as error:
        raise InvalidValueError(
            f"one of its parameters, or the database number, cannot be used: {one_line(error)}"
        ) from error
    return url


def at_upstash(url: str) -> bool:
    """Return whether Upstash runs the server of a Redis URL."""
    return (urlsplit(url).hostname or "").endswith(".upstash.io")
