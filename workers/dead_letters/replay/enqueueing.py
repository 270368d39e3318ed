"""Enqueues the jobs of dead letters, each once, however often and by whichever process that is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from saq import Job
from saq.utils import now

from storage.dead_letters.plans import ENQUEUED_ELSEWHERE, ReplayItem
from workers.engine import wire
from workers.engine.attempts import META, replay_origin
from workers.engine.enqueueing import EnqueueResult
from workers.engine.queue import JobQueue

_MAX_READ_JOBS = 10
"""Jobs whose records are read at once: each may have a megabyte."""


class Enqueued(NamedTuple):
    """The items of a batch that were not enqueued now: why not, by item id, and those enqueued before."""

    skipped: dict[int, str]
    already_enqueued: list[int]


class ReplayEnqueuer:
    """Writes each job and a token of its replay in one step.

    If the process dies before it has marked the letters, the next one finds the tokens used, and marks them.
    """

    def __init__(self, queues: Mapping[str, JobQueue]) -> None:
        self._queues = queues

    async def enqueue(self, items: Sequence[ReplayItem]) -> Enqueued:
        """Enqueue the jobs of ``items``.  Raises RedisError."""
        skipped = {item.id: reason for item in items if (reason := self._skip_reason(item))}
        duplicates: list[ReplayItem] = []
        by_queue: dict[str, list[ReplayItem]] = {}
        for item in items:
            if item.id not in skipped:
                by_queue.setdefault(item.queue_name, []).append(item)
        for name, of_queue in by_queue.items():
            queue = self._queues[name]
            jobs = [_job(item, queue.policy.function) for item in of_queue]
            tokens = [f"{item.uid}:{item.replay_count}" for item in of_queue]
            results = await queue.enqueue_many(jobs, tokens)
            for item, result in zip(of_queue, results, strict=True):
                if result is EnqueueResult.DUPLICATE:
                    skipped[item.id] = f"a job with the key {item.job_id} is queued already"
                elif result is EnqueueResult.ALREADY_USED:
                    duplicates.append(item)
        enqueued_by_others = await self._enqueued_elsewhere(duplicates)
        return Enqueued(skipped | enqueued_by_others, [item.id for item in duplicates])

    async def _enqueued_elsewhere(self, duplicates: Sequence[ReplayItem]) -> dict[int, str]:
        """Return items whose job was enqueued by another replay, which may not have marked the letter yet.

        The job's record names its replay.  A job that is gone has ended, and its end has marked the letter.
        """
        owners: dict[int, int] = {}
        for name in {item.queue_name for item in duplicates}:
            owners |= await self._owners(
                self._queues[name], [item for item in duplicates if item.queue_name == name]
            )
        return {item: ENQUEUED_ELSEWHERE for item, owner in owners.items() if owner != item}

    @staticmethod
    async def _owners(queue: JobQueue, items: Sequence[ReplayItem]) -> dict[int, int]:
        """Return by item of one queue the item that its job's record names, unless the job is gone."""
        keys = [queue.job_id(item.job_id) for item in items]
        bodies = [
            body
            for start in range(0, len(keys), _MAX_READ_JOBS)
            for body in await queue.redis.mget(keys[start : start + _MAX_READ_JOBS])
        ]
        return {item.id: _owner(body) for item, body in zip(items, bodies, strict=True) if body}

    def _skip_reason(self, item: ReplayItem) -> str:
        if item.uid is None:
            return "the letter is gone"
        if item.state != "dead":
            return f"it is {item.state} already"
        if "unreadable" in item.job_data and item.kwargs is None:
            return "it holds no job that could be read"
        if item.queue_name not in self._queues:
            return f"there is no queue {item.queue_name!r}"
        return ""


def _owner(body: bytes) -> int:
    """Return the plan's item that a job's record names, 0 if it names none."""
    try:
        origin = replay_origin(wire.load(body)["meta"][META])
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0
    return origin[1] if origin is not None else 0


def _job(item: ReplayItem, function: str) -> Job:
    """Return the letter's job with all its attempts left; with the queue's ``function`` if it had none."""
    data = item.job_data
    return Job(
        function=function if "unreadable" in data else data.get("function", item.function),
        kwargs=data.get("kwargs") if item.kwargs is None else item.kwargs,
        key=item.job_id,
        queued=now(),
        meta={**(data.get("meta") or {}), META: {"replay_of": item.letter_id, "replay": item.id}},
    )
