"""Runs the coroutines that accompany the dispatchers of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 5.0
"""Until a periodic check that failed is made again, at most."""
_RESTART_SECONDS = 5.0
"""Until a background task that failed by a defect is started again."""


async def run_every(seconds: float, check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call ``check`` every ``seconds``, and sooner after it failed: once Redis is back, it is overdue."""
    pause = seconds
    while True:
        await asyncio.sleep(pause)
        pause = seconds
        try:
            await check()
        except (RedisError, OSError) as error:
            pause = min(seconds, _RETRY_SECONDS)
            log.debug("a periodic check failed", check=check.__name__, error=repr(error))


async def ignore_outage(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call ``check`` once; an outage of Redis is not an error."""
    with suppress(RedisError, OSError):
        await check()


async def restart_after_defects(task: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a background task until it is cancelled; a defect that ends it is logged, and it starts again."""
    while True:
        try:
            await task()
        except Exception:
            log.exception("a background task of the process failed, and is started again")
        await asyncio.sleep(_RESTART_SECONDS)


async def wait_for_first(
    future: asyncio.Future[Any], event: Coroutine[Any, Any, Any], timeout: float | None = None
) -> None:
    """Wait until ``future`` is done, ``event`` has come, or ``timeout`` seconds have passed."""
    waiter = asyncio.ensure_future(event)
    await asyncio.wait({future, waiter}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
