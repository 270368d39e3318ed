"""Runs the checks of a group, each within its time, so that none hides or delays another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.doctor.results import CheckResult, Finding, describe_cause, unknown, wrong
from storage.asyncio_tools import consume_exception

OPENING_SECONDS = 5.0
"""Timeout of a server's first answer."""
CHECK_SECONDS = 4.0
"""Timeout of one check."""
GROUP_SECONDS = 6.0
"""Timeout of all checks of a group, after the opening."""
_MAX_CONCURRENT = 4
"""Checks, and so connections, of one group at the same time."""

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check(Generic[S]):
    """A check and its name on the screen; ``run`` checks a server, or what else the group is about."""

    name: str
    run: Callable[[S], Awaitable[Finding]]


def in_thread(check: Callable[[S], Finding]) -> Callable[[S], Awaitable[Finding]]:
    """Return ``check`` as one that runs in a thread: a file system may hang."""

    async def run(subject: S) -> Finding:
        return await asyncio.to_thread(check, subject)

    return run


async def run_with_timeout(seconds: float, awaitable: Awaitable[T]) -> T:
    """Return the result of ``awaitable``.

    Raises TimeoutError after ``seconds``, even if ``awaitable`` is slow to cancel.
    """
    task = asyncio.ensure_future(awaitable)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(consume_exception)
        task.cancel()
        raise TimeoutError
    return task.result()


async def run_group(
    group: str, subject: S, checks: Sequence[Check[S]], *, concurrency: int = _MAX_CONCURRENT
) -> list[CheckResult]:
    """Run ``concurrency`` checks at a time and return the results in the order of the checks.

    After the first timeout the checks that have not begun are skipped.
    """
    deadline, timed_out = time.monotonic() + GROUP_SECONDS, asyncio.Event()
    slots = asyncio.Semaphore(concurrency)

    async def run(check: Check[S]) -> CheckResult:
        async with slots:
            seconds = min(CHECK_SECONDS, deadline - time.monotonic())
            if timed_out.is_set() or seconds <= 0:
                finding = unknown("not checked: the answers stopped before it")
                return CheckResult(group, check.name, finding)
            try:
                finding = await _run_check(check, subject, seconds)
            except (TimeoutError, RedisTimeoutError):
                timed_out.set()
                finding = wrong(
                    f"no answer within {seconds:.1g} s",
                    "the product gets no answer to such requests either",
                    "see whether the server is overloaded, or stopped",
                )
            return CheckResult(group, check.name, finding)

    return list(await asyncio.gather(*map(run, checks)))


def skip_group(group: str, checks: Sequence[Check[S]], reason: str) -> list[CheckResult]:
    """Return the results of checks that are not possible."""
    return [CheckResult(group, check.name, unknown(f"not checked: {reason}")) for check in checks]


async def _run_check(check: Check[S], subject: S, seconds: float) -> Finding:
    """Return the finding of one check; any error but a timeout is a finding, too.  Raises TimeoutError."""
    try:
        return await run_with_timeout(seconds, check.run(subject))
    except (TimeoutError, RedisTimeoutError):
        raise
    except RedisConnectionError as error:
        return wrong(
            f"the connection broke: {describe_cause(error)}",
            "the product's connections break, too",
            "see the server's log",
        )
    except Exception as error:  # a defect of one check, or a server with unusual answers
        return unknown(f"the check failed: {describe_cause(error)}")
