"""Runs checks, each within its time, so that none hides or holds up another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.doctor.results import Finding, Item, cause_of, unknown, wrong
from storage.asyncio_tools import consume_exception

OPENING_SECONDS = 5.0
"""What a server has for its first answer."""
CHECK_SECONDS = 4.0
"""What a check has."""
ALL_SECONDS = 6.0
"""What the checks of one group have together, after the opening."""
_TOGETHER = 4  # checks, and so connections, of one group at the same time

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check(Generic[S]):
    """A check by its name on the screen; ``look`` makes it on a server, or on whatever the group is about."""

    name: str
    look: Callable[[S], Awaitable[Finding]]


def in_thread(look: Callable[[S], Finding]) -> Callable[[S], Awaitable[Finding]]:
    """``look`` in a thread: a file system may hang."""

    async def looked(subject: S) -> Finding:
        return await asyncio.to_thread(look, subject)

    return looked


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """Its result.  Raises TimeoutError after ``seconds``, also where it takes its time to be cancelled."""
    task = asyncio.ensure_future(awaitable)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(consume_exception)
        task.cancel()
        raise TimeoutError
    return task.result()


async def examined(
    group: str, subject: S, checks: Sequence[Check[S]], *, together: int = _TOGETHER
) -> list[Item]:
    """An item a check, in their order; ``together`` of them run at the same time.

    Once one of them has had no answer, those that have not begun are not made.
    """
    until, silent = time.monotonic() + ALL_SECONDS, asyncio.Event()
    slots = asyncio.Semaphore(together)

    async def examine(check: Check[S]) -> Item:
        async with slots:
            left = min(CHECK_SECONDS, until - time.monotonic())
            if silent.is_set() or left <= 0:
                return Item(group, check.name, unknown("not checked: the answers stopped before it"))
            try:
                found = await _looked(check, subject, left)
            except (TimeoutError, RedisTimeoutError):
                silent.set()
                found = wrong(
                    f"no answer within {left:.1g} s",
                    "what the product asks in this way is not answered either",
                    "see whether the server is overloaded, or stopped",
                )
            return Item(group, check.name, found)

    return list(await asyncio.gather(*map(examine, checks)))


def unexamined(group: str, checks: Sequence[Check[S]], why: str) -> list[Item]:
    """The items of checks that cannot be made."""
    return [Item(group, check.name, unknown(f"not checked: {why}")) for check in checks]


async def _looked(check: Check[S], subject: S, seconds: float) -> Finding:
    """Raises TimeoutError.  Whatever else is raised is a finding too."""
    try:
        return await within(seconds, check.look(subject))
    except (TimeoutError, RedisTimeoutError):
        raise
    except RedisConnectionError as error:
        return wrong(
            f"the connection broke: {cause_of(error)}", "so do the product's", "see the server's log"
        )
    except Exception as error:  # a defect of one check, or a server that nobody has seen yet
        return unknown(f"cannot be found out: {cause_of(error)}")
