"""Keeps the keys of one queue consistent, whatever other programs write to them.

A script repairs what shows at one moment.  Ids are compared page by page, since a queue may hold a million.
The pages are of different moments, so the step that repairs an id checks it again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.database.events import EventSink, NewEvent, ignore_event
from storage.redis.client import execute
from storage.redis.scripts import Argument, Script, ScriptCall, run_script
from workers.engine import wire
from workers.engine.attempts import META
from workers.engine.history import STEP_SECONDS
from workers.engine.keys import (
    BEATS,
    CRON,
    LETTER,
    LETTERS,
    OUTCOMES,
    TOKENS,
    WAKE_CHANNEL,
    WORKERS,
    QueueKeys,
)
from workers.engine.policy import QueuePolicy

RECONCILE_SCRIPT = Script.load(__name__, "reconcile")
RELIST_SCRIPT = Script.load(__name__, "relist")
PENDING_SCRIPT = Script.load(__name__, "pending")

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 60.0
"""Between two checks of a queue, by any process of the cluster, while the queue holds anything."""
_FORCED_INTERVAL_SECONDS = 1.0
"""Between two checks of this process after a script found a key that it cannot work on."""
_EVERYTHING_SECONDS = 3600.0
"""Between two searches of this process, through all keys of the server, for jobs whose ids are on no key."""
_FIRST_SEARCH_SECONDS = 30.0
"""From the first check to the first such search: a process that starts on a full queue has work to do."""
_MAX_PAGE_IDS = 1000
"""Ids in one command."""
_MAX_PAGE_BODIES = 20
"""Jobs' records in one round trip: each may have a megabyte."""
_MAX_COMPARED_JOBS = 1000
"""Ready jobs up to which ids are compared at each check, and not only when their numbers differ."""
MAX_UNIX_SECONDS = 253_402_300_799
"""Unix second at the end of the year 9999: no job is scheduled for later."""

REPAIRED = "repaired:"
"""Prefix of the fields of a queue's totals that count its repairs; the rest is the kind."""
REPAIR_KINDS = (
    "active",
    "duplicate",
    "late",
    "lease",
    "letter",
    "token",
    "ttl",
    "type",
    "unindexed",
    "unknown",
    "unlisted",
)

Finding = tuple[bytes, str, float]
"""An id, what is to be done with it as relist.lua names it, and the Unix second for which (0: now)."""


class Reconciler:
    """Checks one queue.  `run` is a task of each process; one of them checks when a check is due."""

    def __init__(self, redis: Redis, policy: QueuePolicy, emit: EventSink = ignore_event) -> None:
        self._redis = redis
        self._emit = emit
        self._policy = policy
        self._keys = QueueKeys.of(policy.name)
        self._holds_ids = asyncio.Event()
        self._is_broken = asyncio.Event()
        self._next_search: float | None = None
        """Loop time at which all keys of the server are searched; None until the first check."""

    def request(self, *, now: bool = False) -> None:
        """Check the queue when a check is due: it holds something.  ``now``: one of its keys is broken."""
        self._holds_ids.set()
        if now:
            self._is_broken.set()

    async def run(self) -> None:
        """Check whenever that was requested, until cancelled."""
        while True:
            await self._holds_ids.wait()
            self._holds_ids.clear()
            now = self._is_broken.is_set()
            self._is_broken.clear()
            try:
                await self.reconcile(now=now)
            except (RedisError, OSError) as error:
                log.debug("a queue was not reconciled", queue=self._policy.name, error=str(error))
            await asyncio.sleep(_FORCED_INTERVAL_SECONDS)
            try:
                async with asyncio.timeout(INTERVAL_SECONDS - _FORCED_INTERVAL_SECONDS):
                    await self._is_broken.wait()
            except TimeoutError:
                pass

    async def reconcile(self, *, now: bool = False, everything: bool = False) -> Counter[str] | None:
        """Check the queue, unless that was done within the last minute and ``now`` is false.

        ``everything``: search for jobs whose ids are on no key, too, as is done once an hour, and when a key
        that had ids is gone.  Returns the number of repairs by kind, None if no check was due.  Raises
        RedisError.
        """
        reply = await run_script(self._redis, self._reconcile_call(now=now))
        if not reply:
            return None
        set_back, listed, leases, ready, flat = reply
        repairs = _counter(flat)
        is_emptied = ready == 0 and listed + leases > 0
        if listed + leases != ready or listed <= _MAX_COMPARED_JOBS or repairs:
            repairs += await self._relist(self._misplaced_ids())
        loop_time = asyncio.get_running_loop().time()
        if self._next_search is None:
            self._next_search = loop_time + _FIRST_SEARCH_SECONDS
        if everything or is_emptied or "type" in repairs or loop_time >= self._next_search:
            self._next_search = loop_time + _EVERYTHING_SECONDS
            repairs += await self._relist(self._unknown_jobs())
        if set_back:
            repairs += await self._relist(self._late_retries())
        if repairs:
            log.warning("keys of a queue were repaired", queue=self._policy.name, repairs=dict(repairs))
            self._emit(_repaired_event(self._policy.name, repairs))
        return repairs

    def _reconcile_call(self, *, now: bool) -> ScriptCall:
        keys, saq = self._keys, f"saq:{self._policy.name}:"
        first = {
            keys.looks: "hash",
            keys.queued: "list",
            keys.active: "list",
            keys.incomplete: "zset",
            keys.leases: "hash",
            keys.token: "string",
            keys.totals: "hash",
            LETTERS: "zset",
            LETTER: "hash",
        }
        others = {
            keys.turns: "hash",
            keys.starts: "zset",
            keys.pause: "hash",
            keys.completed: "zset",
            keys.failed: "zset",
            BEATS: "zset",
            WORKERS: "hash",
            OUTCOMES: "zset",
            CRON: "hash",
            TOKENS: "zset",
            f"{saq}stats": "zset",
            **{f"{keys.history}{seconds}": "zset" for seconds in STEP_SECONDS},
        }
        limits = [round(INTERVAL_SECONDS * 1000), int(now), MAX_UNIX_SECONDS]
        return RECONCILE_SCRIPT.call(
            [*first, keys.aside, *others], [*limits, *first.values(), *others.values()]
        )

    async def _relist(self, findings: AsyncIterator[Finding]) -> Counter[str]:
        """Put ids where they belong; how many, by what was wrong with them."""
        repairs: Counter[str] = Counter()
        page: list[Argument] = []
        async for finding in findings:
            page += finding
            if len(page) >= 3 * _MAX_PAGE_IDS:
                repairs += _counter(await run_script(self._redis, self._relist_call(page)))
                page = []
        if page:
            repairs += _counter(await run_script(self._redis, self._relist_call(page)))
        return repairs

    def _relist_call(self, findings: Sequence[Argument]) -> ScriptCall:
        keys = self._keys
        return RELIST_SCRIPT.call(
            [keys.queued, keys.incomplete, keys.leases, keys.totals],
            [self._policy.name, MAX_UNIX_SECONDS, WAKE_CHANNEL, *findings],
        )

    async def _misplaced_ids(self) -> AsyncIterator[Finding]:
        """Yield ids that are on one of the keys and not on the other where they belong, too.

        A job moves from incomplete to queued to leases, so they are read in this order.  The hashes of a
        million ids take 60 MB, the ids themselves twice that.
        """
        unlisted: set[int] = set()
        async for ids in self._ready_ids():
            unlisted.update(map(hash, ids))
        async for ids in self._queued_ids():
            unlisted.difference_update(map(hash, ids))
            for id_ in await self._not_incomplete(ids):
                yield id_, "unindexed", 0.0
        leased = await execute(self._redis, "HKEYS", self._keys.leases)
        unlisted.difference_update(map(hash, leased))
        async for id_, body in self._bodies(await self._not_incomplete(leased)):
            record = _record(body)
            if record is not None and record.get("status") != "aborting":
                yield id_, "unindexed", 0.0  # an aborted job has been taken off incomplete by SAQ
        if unlisted:
            async for ids in self._ready_ids():
                for id_ in ids:
                    if hash(id_) in unlisted:
                        yield id_, "unlisted", 0.0

    async def _ready_ids(self) -> AsyncIterator[list[bytes]]:
        """Yield ids on incomplete that are ready, or have a time at which nothing can be scheduled."""
        async for ids in self._incomplete_ids("-inf", 0):
            yield ids
        async for ids in self._incomplete_ids(MAX_UNIX_SECONDS, "+inf"):
            yield ids

    async def _queued_ids(self) -> AsyncIterator[list[bytes]]:
        """Yield them from the tail: a take shifts nothing, and what arrives shows some ids twice."""
        end = -1
        while ids := await execute(self._redis, "LRANGE", self._keys.queued, end - _MAX_PAGE_IDS + 1, end):
            yield ids
            end -= _MAX_PAGE_IDS

    async def _incomplete_ids(self, low: float | str, high: float | str) -> AsyncIterator[list[bytes]]:
        start, key = 0, self._keys.incomplete
        while ids := await execute(
            self._redis, "ZRANGEBYSCORE", key, low, high, "LIMIT", start, _MAX_PAGE_IDS
        ):
            yield ids
            start += _MAX_PAGE_IDS

    async def _not_incomplete(self, ids: Sequence[bytes]) -> list[bytes]:
        scores = await execute(self._redis, "ZMSCORE", self._keys.incomplete, *ids) if ids else []
        return [id_ for id_, score in zip(ids, scores, strict=True) if score is None]

    async def _unknown_jobs(self) -> AsyncIterator[Finding]:
        """Yield jobs that wait by their records, though incomplete does not have their ids."""
        now = float((await self._redis.time())[0])
        pattern = f"saq:job:{self._policy.name}:*"
        cursor: Any = 0
        while True:
            cursor, ids = await self._redis.scan(cursor, match=pattern, count=_MAX_PAGE_IDS, _type="string")
            pending = await run_script(self._redis, PENDING_SCRIPT.call([self._keys.incomplete], ids))
            async for id_, body in self._bodies(pending):
                due = _due_second(body, now)
                if due is not None:
                    yield id_, "unknown", due
            if not cursor:
                return

    async def _late_retries(self) -> AsyncIterator[Finding]:
        """Yield retries that wait for longer than any delay, since the server's clock was set back."""
        now = float((await self._redis.time())[0])
        longest = max(self._policy.retry_delays, default=0.0)
        async for ids in self._incomplete_ids(now + longest + 1, MAX_UNIX_SECONDS):
            async for id_, body in self._bodies(ids):
                attempts = _attempts(body)
                if attempts:
                    yield id_, "late", now + (self._policy.retry_delay(attempts) or 0.0)

    async def _bodies(self, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes | None]]:
        """Yield the record of each job; None if its id names none, or a key of another type."""
        for start in range(0, len(ids), _MAX_PAGE_BODIES):
            page = ids[start : start + _MAX_PAGE_BODIES]
            pipeline = self._redis.pipeline(transaction=False)
            for id_ in page:
                pipeline.get(id_)
            for id_, body in zip(page, await pipeline.execute(raise_on_error=False), strict=True):
                yield id_, body if isinstance(body, bytes) else None


def _repaired_event(queue: str, repairs: Counter[str]) -> NewEvent:
    """Return one event a minute: another program may break a key again and again.

    The totals count each repair.
    """
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(repairs.items()))
    return NewEvent(
        "keys-repaired",
        f"keys of {queue} that another program had changed were repaired: {kinds}",
        queue=queue,
        detail=dict(repairs),
        dedupe=f"keys-repaired:{queue}:{int(time.time() // INTERVAL_SECONDS)}",
    )


def _counter(flat: Sequence[Any]) -> Counter[str]:
    return Counter({kind.decode(): count for kind, count in zip(flat[::2], flat[1::2], strict=True)})


def _record(body: bytes | None) -> dict[str, Any] | None:
    try:
        value = wire.load(body) if body else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _due_second(body: bytes | None, now: float) -> float | None:
    """Return the Unix second from which a record's job may run, 0: now; None if it does not wait.

    A record that cannot be read is ready: the worker that takes it buries it with its bytes.
    """
    if not body:
        return None
    record = _record(body)
    if record is None:
        return 0.0
    if record.get("status", "new") not in ("new", "queued", "active"):
        return None
    scheduled, touched = record.get("scheduled", 0), record.get("touched", 0)
    times = [at for at in (scheduled, touched / 1000 if _is_time(touched) else 0) if _is_time(at)]
    due = max(times, default=0.0)
    return float(due) if now < due < MAX_UNIX_SECONDS else 0.0


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e15


def _attempts(body: bytes | None) -> int:
    """Return the failed attempts of a job that waits for its next one, 0 if the record is of another job."""
    record = _record(body) or {}
    attempts, meta = record.get("attempts", 0), record.get("meta")
    is_retry = isinstance(meta, dict) and META in meta and record.get("status") == "queued"
    return attempts if is_retry and type(attempts) is int and attempts > 0 else 0
