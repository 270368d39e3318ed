"""The dashboard's operations in each state in which an operator may meet them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from tests.support.fake_busy import BUSY, busy
from tests.support.fake_cache import entry
from tests.support.fake_letters import item, letter, plan
from tests.support.fake_moments import IDLE
from tests.support.fake_operations import CannedOperations
from tests.support.fake_workers import BLOCKED, DEAD, DRAINING, RUNNING
from workers.errors import ReadOnlyError, WorkersError
from workers.monitoring.snapshot import DatabaseSnapshot, RedisSnapshot

REFUSED = "connection refused"
_READS = {
    "count",
    "count_for_user",
    "counts",
    "get",
    "get_plan",
    "groups",
    "histories",
    "history",
    "keys_matching",
    "lineage",
    "list",
    "overview",
    "page",
    "plan_items",
    "plans",
    "preview",
    "stack",
}
_PARTS = ("dead_letters", "replays", "cache", "alerts", "events", "workers", "history", "jobs", "schedules")


class Refusing:
    """Stands before operations: each coroutine of them raises, or only those that change something."""

    def __init__(self, real: Any, error: Exception, *, reads: bool) -> None:
        self._real, self._error, self._reads = real, error, reads

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if name in _READS and not self._reads:
            return value
        if inspect.iscoroutinefunction(value):
            return self._refuse
        if inspect.isasyncgenfunction(value):
            return self._refuse_all
        return value

    async def _refuse(self, *_: Any, **__: Any) -> Any:
        raise self._error

    async def _refuse_all(self, *_: Any, **__: Any) -> AsyncIterator[str]:
        raise self._error
        yield ""


def full() -> CannedOperations:
    """Something of everything."""
    operations = busy()
    operations.now = replace(BUSY, workers=(RUNNING, DRAINING, BLOCKED, DEAD))
    operations.letters.kept[0] = letter(1, state="discarded")
    operations.letters.kept_plans = [plan(1)]
    operations.letters.items = [item(number) for number in range(1, 4)]
    operations.cache.kept = [entry(f"u{number}:lisboa:2026-03-01T12") for number in range(3)]
    return operations


def empty() -> CannedOperations:
    """A cluster on which nothing has happened yet, without workers of this process."""
    operations = CannedOperations(replace(IDLE, workers=()), letters=0)
    operations.jobs.kept, operations.schedules.kept, operations.cache.kept = [], [], []
    operations.has_workers = False
    operations.workers.own_id = None
    return operations


def redis_unavailable() -> CannedOperations:
    """Redis refuses connections; the database answers."""
    operations = full()
    error = WorkersError(f"Redis does not answer: {REFUSED}")
    operations.now = replace(operations.now, redis=RedisSnapshot("redis://box-1:6379/0", REFUSED))
    _refuse(operations, error, ("cache", "workers", "jobs", "schedules", "history"), reads=True)
    _refuse(operations, error, ("replays",), reads=False)
    _refuse_queue_verbs(operations, error)
    return operations


def database_unavailable() -> CannedOperations:
    """The database refuses connections; Redis answers."""
    operations = full()
    operations.now = replace(
        operations.now,
        database=DatabaseSnapshot("postgresql://box-1/couturecast", REFUSED),
        dead_letters=None,
    )
    error = WorkersError(f"the database does not answer: {REFUSED}")
    _refuse(operations, error, ("dead_letters", "replays", "events", "alerts"), reads=True)
    return operations


def read_only() -> CannedOperations:
    """Everything can be looked at, and nothing changed."""
    operations = full()
    error = ReadOnlyError("change anything")
    _refuse(operations, error, _PARTS, reads=False)
    _refuse_queue_verbs(operations, error)
    operations.read_only = True
    return operations


def draining() -> CannedOperations:
    """This process drains."""
    operations = full()
    operations.now = replace(operations.now, drain_deadline_in=22.0)
    operations.draining = True
    return operations


STATES: dict[str, Callable[[], CannedOperations]] = {
    "full": full,
    "empty": empty,
    "redis unavailable": redis_unavailable,
    "database unavailable": database_unavailable,
    "read-only": read_only,
    "draining": draining,
}


def _refuse(operations: CannedOperations, error: Exception, parts: tuple[str, ...], *, reads: bool) -> None:
    for part in parts:
        setattr(operations, part, Refusing(getattr(operations, part), error, reads=reads))


def _refuse_queue_verbs(operations: CannedOperations, error: Exception) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise error

    for name in ("pause", "resume", "drain"):
        setattr(operations, name, refuse)
