"""Reads single jobs of a queue, and windows of its jobs by state: never a whole list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis

from storage.redis.batches import REQUEST_BYTES
from storage.redis.scripts import Argument, Script, read_script, run_script
from workers.engine.keys import QueueKeys
from workers.engine.reconciler import MAX_UNIX_SECONDS
from workers.engine.wire import encode_id

JOB_STATE = read_script(__name__, "job_state")
"""The Lua functions that find where a job is."""
JOB_SCRIPT = Script.load(__name__, "job", functions=JOB_STATE)
JOBS_SCRIPT = Script.load(__name__, "jobs", functions=JOB_STATE)

WindowState = Literal["running", "ready", "scheduled", "done", "failed"]
"""States of which windows are read; ``failed`` has the aborted jobs, too."""
JobState = Literal["running", "ready", "scheduled", "done", "failed", "unlisted"]
"""``unlisted``: its record has not ended, and no list has it; the reconciler lists it again."""

MAX_SEARCHED_POSITIONS = 200_000
"""Ready jobs from the head among which a position is searched: some milliseconds of the server's time."""


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job as Redis has it.

    ``mark`` changes whenever it moves: its lease, its time, or when it ended.  ``place`` is its position if
    it is ready, when it was taken (ms) if it runs, else as ``mark``.  ``record_type`` is ``string``,
    ``none``, another type of Redis, or ``foreign`` for an id of another queue or of no queue, whose key is
    not read.
    """

    id: bytes
    state: JobState | Literal["ended", "gone"]
    mark: bytes
    place: bytes
    record: bytes | None
    record_type: str
    aborting: bool = False
    where: str = ""
    """The state of a job by its keys: ``state`` alone counts an id that is ready by its list only."""


@dataclass(frozen=True, slots=True)
class Window:
    """Jobs in one state at ``now``, Unix seconds of the server; ``more`` if others follow."""

    now: float
    jobs: Sequence[FoundJob]
    more: bool


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Jobs of one queue by state.  ``done`` and ``failed`` count those that Redis still lists."""

    running: int
    ready: int
    scheduled: int
    done: int
    failed: int


class JobReader:
    """Reads the jobs of one queue.  Every method raises RedisError."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self._redis = redis
        self._queue = queue
        self._keys = QueueKeys.of(queue)

    async def window(
        self, state: WindowState, limit: int, *, after: bytes = b"", place: bytes = b""
    ) -> Window:
        """Return the jobs in a state that follow the one with the id ``after``, which was at ``place``."""
        args: list[Argument] = [self._queue, MAX_UNIX_SECONDS, state, limit, REQUEST_BYTES, after, place]
        now_us, more, *flat = await run_script(self._redis, JOBS_SCRIPT.call(self.script_keys, args))
        jobs = [
            FoundJob(id_, state, mark, at if isinstance(at, bytes) else b"%d" % at, record, kind.decode())
            for id_, mark, at, record, kind in _rows(flat, 5)
        ]
        return Window(int(now_us) / 1e6, jobs, bool(more))

    async def find(self, keys: Sequence[str]) -> AsyncIterator[tuple[float, list[FoundJob]]]:
        """Yield the jobs with these keys, in order, some at a time, each time with the server's time."""
        remaining = list(keys)
        while remaining:
            args: list[Argument] = [self._queue, MAX_UNIX_SECONDS, MAX_SEARCHED_POSITIONS, REQUEST_BYTES]
            call = JOB_SCRIPT.call(self.script_keys, [*args, *map(encode_id, remaining)])
            now_us, *flat = await run_script(self._redis, call)
            jobs = [_found_job(*row) for row in _rows(flat, 7)]
            yield int(now_us) / 1e6, jobs
            del remaining[: len(jobs)]

    @property
    def script_keys(self) -> list[str]:
        """The keys by which a script finds out where a job is."""
        keys = self._keys
        return [keys.queued, keys.incomplete, keys.leases, keys.completed, keys.failed]


async def count_jobs(redis: Redis, queues: Sequence[str]) -> dict[str, JobCounts]:
    """Return the jobs of each queue by state, in one round trip.  Raises RedisError."""
    pipeline = redis.pipeline(transaction=False)
    for queue in queues:
        keys = QueueKeys.of(queue)
        pipeline.hlen(keys.leases)
        pipeline.llen(keys.queued)
        pipeline.zcount(keys.incomplete, "(0", f"({MAX_UNIX_SECONDS}")
        pipeline.zcard(keys.completed)
        pipeline.zcard(keys.failed)
    replies = await pipeline.execute(raise_on_error=False)
    numbers = [reply if isinstance(reply, int) else 0 for reply in replies]  # of a key of another type
    return {queue: JobCounts(*numbers[5 * index : 5 * index + 5]) for index, queue in enumerate(queues)}


def _found_job(
    id_: bytes, where: bytes, mark: bytes, position: int, record: bytes | None, kind: bytes, aborting: int
) -> FoundJob:
    name = where.decode()
    state: Any = "ready" if position >= 0 else name
    place = b"%d" % position if position >= 0 else b""
    return FoundJob(id_, state, mark, place, record, kind.decode(), bool(aborting), name)


def _rows(flat: Sequence[Any], width: int) -> Iterator[Sequence[Any]]:
    return (flat[start : start + width] for start in range(0, len(flat), width))
