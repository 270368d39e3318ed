"""Waiting for a condition, which never takes longer than it must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, within: float = 30.0, what: str = ""
) -> Any:
    """Wait until ``condition()`` is true; its value.  Fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s: {what or condition}"
        await asyncio.sleep(0.01)


def until(condition: Callable[[], Any], *, within: float = 30.0) -> Any:
    """As `eventually`, for tests without an event loop."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {condition}"
        time.sleep(0.02)
    return value
