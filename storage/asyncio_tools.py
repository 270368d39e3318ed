"""The end of asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


async def cancel_and_wait(tasks: Sequence[asyncio.Future[T]], *, retry_seconds: float = 0.1) -> None:
    """Cancel ``tasks`` and wait until they have ended; those that have not are cancelled again after so
    many seconds: longer than what they do at their end takes.

    Again and again: Python 3.11's ``asyncio.wait_for``, through which redis-py writes, loses a cancellation
    that comes as the write ends (https://github.com/python/cpython/issues/86296).
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=retry_seconds)
