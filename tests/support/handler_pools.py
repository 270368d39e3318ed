"""Pools of handler processes, and jobs for them as the engine would run them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from saq import Job

from workers.engine.remote_error import RemoteError
from workers.errors import HandlerInterruptedError, HandlerProcessDiedError
from workers.handlers.processes.launch import HandlerSource
from workers.handlers.processes.pool import HandlerPool
from workers.handlers.processes.recycle import NEVER, Recycle

ROOT = Path(__file__).parents[2]
ODD = "tests.support.odd_handlers"

OpenPool = Callable[..., Awaitable[HandlerPool]]


@pytest.fixture
async def open_pool() -> AsyncIterator[OpenPool]:
    """Starts the processes of a handler ``module:function``."""
    pools: list[HandlerPool] = []

    async def nothing_to_enqueue(*_: object) -> None:
        raise AssertionError("nobody enqueues")

    async def start(
        name: str,
        *folders: Path,
        enqueue: Any = nothing_to_enqueue,
        recycle: Recycle = NEVER,
        python: str = sys.executable,
    ) -> HandlerPool:
        source = HandlerSource("color-extraction", name, python, (*map(str, folders), str(ROOT)))
        pool = HandlerPool(source, enqueue, recycle)
        pools.append(pool)
        await pool.start()
        return pool

    yield start
    await asyncio.gather(*(pool.close() for pool in pools))
    assert [pool.processes for pool in pools] == [[]] * len(pools)


def make_job(key: str = "job") -> Job:
    """A job of a queue that nobody asks anything but its name."""
    queue: Any = SimpleNamespace(
        name="color-extraction", job_id=lambda key: f"saq:job:color-extraction:{key}"
    )
    return Job(function="extract_colors", key=key, queue=queue)


async def run(pool: HandlerPool, key: str = "job", **kwargs: Any) -> Any:
    """One attempt at a job."""
    return await pool.as_function()({"job": make_job(key)}, **kwargs)


async def run_as_the_engine(pool: HandlerPool, timeout: float, key: str, **kwargs: Any) -> tuple[str, Any]:
    """How a job ends after it was requeued as often as others interrupted it."""
    while True:
        try:
            async with asyncio.timeout(timeout):
                return "done", await run(pool, key, **kwargs)
        except HandlerInterruptedError:
            continue
        except TimeoutError:
            return "timeout", None
        except asyncio.CancelledError:
            return "cancelled", None
        except HandlerProcessDiedError as error:
            return "died", str(error)
        except RemoteError as error:
            return "failed", error.error_type
