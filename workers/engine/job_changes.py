"""Changes single jobs of a queue: abort, run now, remove; each in one step, unless it has moved since."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError
from saq import Status
from saq.job import ABORT_ID_PREFIX
from saq.utils import now

from storage.redis.batches import batch_by_size
from storage.redis.client import execute, is_wrong_type
from storage.redis.scripts import Argument, Script, ScriptCall, run_script
from workers.engine import wire
from workers.engine.attempts import META, replay_origin
from workers.engine.history import KEEP_POINT
from workers.engine.job_reader import JOB_STATE, FoundJob, JobReader
from workers.engine.keys import OUTCOMES, WAKE_CHANNEL
from workers.engine.policy import (
    KEEP_ENDED_MS,
    KEEP_FAILED_JOBS,
    KEEP_LARGE_MS,
    KEEP_READABLE_MS,
    LARGE_BYTES,
)
from workers.engine.queue import JobQueue
from workers.engine.reconciler import MAX_UNIX_SECONDS

ABORT_SCRIPT = Script.load(__name__, "abort", functions=KEEP_POINT + JOB_STATE)
RUN_NOW_SCRIPT = Script.load(__name__, "run_now", functions=JOB_STATE)
REMOVE_SCRIPT = Script.load(__name__, "remove", functions=JOB_STATE)

_MAX_BATCH = 100
_MAX_SCANNED_IDS = 1_000_000
"""Ids of the ready list that one call searches, for each job: some ten milliseconds."""
_ABORT_MS = 5_000
"""How long SAQ keeps a request to abort a job."""

_Arguments = tuple[Argument, ...]


class JobChanges:
    """Every method returns for each job whether it was changed; it was not if it has moved since it was read.

    Raises RedisError: then some may have been changed.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._keys = queue.keys
        self._state_keys = JobReader(queue.redis, queue.name).script_keys

    async def abort(self, jobs: Sequence[FoundJob], reason: str) -> list[bool]:
        """End jobs that wait as aborted, and request it for those that run; each has the record of a job."""
        keys = self._keys
        names = [*self._state_keys, keys.looks, OUTCOMES, keys.totals, keys.history]
        limits = [KEEP_FAILED_JOBS, KEEP_READABLE_MS, KEEP_ENDED_MS, LARGE_BYTES, KEEP_LARGE_MS]
        head: list[Argument] = [self._queue.name, MAX_UNIX_SECONDS, *limits, reason, _ABORT_MS]
        rows = [self._abort_row(job, reason) for job in jobs]
        return await self._run(rows, lambda args: ABORT_SCRIPT.call(names, [*head, *args]))

    async def run_now(self, jobs: Sequence[FoundJob]) -> list[bool]:
        """Put jobs that wait at the head of their queue, the first of them first."""
        names = [*self._state_keys, self._keys.looks]
        head: list[Argument] = [self._queue.name, MAX_UNIX_SECONDS, WAKE_CHANNEL]
        rows: list[_Arguments] = [(job.id, job.where, job.mark) for job in reversed(jobs)]
        changed = await self._run(rows, lambda args: RUN_NOW_SCRIPT.call(names, [*head, *args]))
        return changed[::-1]

    async def remove(self, jobs: Sequence[FoundJob]) -> list[bool]:
        """Remove jobs that wait or have ended, with their records."""
        names = [*self._state_keys, self._keys.looks, OUTCOMES]
        head: list[Argument] = [self._queue.name, MAX_UNIX_SECONDS]
        rows: list[_Arguments] = [
            (job.id, job.where, job.mark, _digest(job.record), _outcome(job)) for job in jobs
        ]
        return await self._run(rows, lambda args: REMOVE_SCRIPT.call(names, [*head, *args]))

    def _abort_row(self, job: FoundJob, reason: str) -> _Arguments:
        record = wire.load(job.record or b"")
        running = job.where == "running"
        if running:
            record |= {"status": Status.ABORTING, "error": reason}
        else:
            record |= {"status": Status.ABORTED, "error": reason, "completed": now()}
            record.pop("result", None)
        key = job.id.decode().removeprefix(self._queue.id_prefix)
        outcome = b"" if running else _outcome(job)
        body = wire.dump(record)
        return (
            job.id, job.where, job.mark, _digest(job.record), body, f"{ABORT_ID_PREFIX}{key}", outcome,
        )  # fmt: skip

    async def _run(
        self, rows: Sequence[_Arguments], call: Callable[[list[Argument]], ScriptCall]
    ) -> list[bool]:
        batch_size = 1
        if len(rows) > 1:
            batch_size = max(1, min(_MAX_BATCH, _MAX_SCANNED_IDS // max(1, await self._depth())))
        changed: list[bool] = []
        for batch in batch_by_size(rows, _size, batch_size):
            args = [argument for row in batch for argument in row]
            changed += map(bool, await self._send(call(args)))
        return changed

    async def _depth(self) -> int:
        try:
            return int(await execute(self._queue.redis, "LLEN", self._keys.queued))
        except ResponseError:  # of another type: the script finds out, too
            return 0

    async def _send(self, call: ScriptCall) -> list[int]:
        """Run a call; a key that another program has given another type is repaired first."""
        try:
            replies: list[int] = await run_script(self._queue.redis, call)
        except ResponseError as error:
            if not is_wrong_type(error) or not await self._queue.reconciler.reconcile(now=True):
                raise
            replies = await run_script(self._queue.redis, call)
        return replies


def _size(row: _Arguments) -> int:
    return sum(len(argument) for argument in row if isinstance(argument, bytes))


def _digest(record: bytes | None) -> str:
    """Return the digest by which the scripts compare records; empty without a record."""
    return "" if record is None else hashlib.sha1(record, usedforsecurity=False).hexdigest()


def _outcome(job: FoundJob) -> bytes:
    """Return a replay's entry in its ledger if its job does not run; empty if it is none, or has ended."""
    if job.where in ("done", "failed", "ended"):
        return b""
    origin = replay_origin(_our_meta(job.record))
    return b"" if origin is None else f"{origin[0]}:{origin[1]}:aborted".encode()


def _our_meta(record: bytes | None) -> Any:
    try:
        return wire.load(record or b"")["meta"][META]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
