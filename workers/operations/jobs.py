"""The operator's verbs on single jobs: list, show, ask why, abort, run now, duplicate, remove."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, get_args

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.records import Page
from storage.errors import InvalidCursorError, StorageError
from storage.redis.refusals import reason
from workers.engine.job_reader import FoundJob, JobCounts, JobReader, WindowState, count_jobs
from workers.engine.job_record import JobRecord
from workers.engine.policy import LARGE_BYTES, QueuePolicy
from workers.errors import ConflictError, NotFoundError
from workers.monitoring.snapshot import Snapshot
from workers.operations.audit import Audit
from workers.operations.dead_letters import DeadLetterOperations
from workers.operations.enqueueing import Enqueueing
from workers.operations.job_stacks import JobStack, StackFrame, ask_for_stack
from workers.operations.job_verbs import MAX_KEYS, ChangeOutcome, JobChange, JobRef, JobVerbs, Verb, check_key
from workers.operations.job_views import (
    JobDetail,
    JobSummary,
    detail_fields,
    job_facts,
    record_of,
    start_facts,
    summary_fields,
)
from workers.operations.secrets import DEFAULT_MASK, SecretMask
from workers.operations.start_facts import JobFacts
from workers.operations.why import Why, explain

__all__ = [
    "JOB_STATES",
    "MAX_JOBS",
    "MAX_KEYS",
    "ChangeOutcome",
    "JobChange",
    "JobCounts",
    "JobDetail",
    "JobOperations",
    "JobRef",
    "JobStack",
    "JobSummary",
    "StackFrame",
    "Verb",
    "Why",
    "WindowState",
]

JOB_STATES: tuple[WindowState, ...] = get_args(WindowState)
MAX_JOBS = 200
"""Jobs of one page."""
_LETTER_SECONDS = 2.0
"""Timeout of finding a job's dead letter: the rest of the job is shown without the database."""
_INCOMPLETE: tuple[WindowState, ...] = ("running", "ready", "scheduled")
"""What a list has if no state is named."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page ended: in which queue and state, behind which job."""

    queue: str
    state: WindowState
    after: bytes = b""
    at: bytes = b""

    def cursor(self) -> str:
        """As `next` of a page."""
        parts = [self.queue, self.state, self.after.decode("latin-1"), self.at.decode("latin-1")]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, cursor: str) -> _Place:
        """Raises InvalidCursorError."""
        try:
            padded = cursor.encode() + b"=" * (-len(cursor) % 4)
            parts = json.loads(base64.b64decode(padded, b"-_", validate=True))
            queue, state, after, at = (part.encode("latin-1") for part in parts)
            if at:
                float(at)
            place = cls(queue.decode(), state.decode(), after, at)
        except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
            raise InvalidCursorError("is none of this list", field="cursor") from None
        if bool(after) != bool(at) or (place.state in ("running", "ready") and not (at or b"0").isdigit()):
            raise InvalidCursorError("is none of this list", field="cursor")
        return place


class JobOperations(JobVerbs):
    """Reads and changes jobs.  ``take_snapshot`` returns the state of the cluster.

    Every method raises RedisError, and UnknownQueueError for a queue that is not one of ours.
    """

    def __init__(
        self,
        redis: Redis,
        enqueueing: Enqueueing,
        audit: Audit,
        *,
        dead_letters: DeadLetterOperations,
        take_snapshot: Callable[[], Awaitable[Snapshot]],
        mask: SecretMask = DEFAULT_MASK,
    ) -> None:
        self._mask = mask
        super().__init__(enqueueing, audit)
        self._redis = redis
        self._dead_letters = dead_letters
        self._take_snapshot = take_snapshot

    async def counts(self) -> dict[str, JobCounts]:
        """The jobs of each queue by state."""
        return await count_jobs(self._redis, list(self._enqueueing.queues))

    async def page(
        self,
        queue: str | None = None,
        state: WindowState | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> Page[JobSummary]:
        """Jobs of one queue or of all (None), in one state or in all that have not ended (None).

        A page of large jobs ends before its limit.  Raises InvalidCursorError, ValueError (the limit).
        """
        if not 1 <= limit <= MAX_JOBS:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_JOBS}")
        sections = self._sections(queue, state, cursor)
        items: list[JobSummary] = []
        for place in sections:
            window = await self._reader(place.queue).window(
                place.state, limit - len(items), after=place.after, place=place.at
            )
            if snapshot is None and place.state == "running" and window.jobs:
                snapshot = await self._take_snapshot()
            policy = self._policy(place.queue)
            items += [self._mask.job(_summary(policy, found, window.now, snapshot)) for found in window.jobs]
            if window.more:
                last = window.jobs[-1]
                return Page(items, _Place(place.queue, place.state, last.id, last.place).cursor())
            following = next(sections, None) if len(items) >= limit else None
            if following is not None:
                return Page(items, following.cursor())
        return Page(items, None)

    def _sections(self, queue: str | None, state: WindowState | None, cursor: str | None) -> Iterator[_Place]:
        """The windows of a list, the first of them at the cursor."""
        queues = list(self._enqueueing.queues) if queue is None else [self._enqueueing.queue(queue).name]
        states = _INCOMPLETE if state is None else (state,)
        places = [_Place(name, listed) for listed in states for name in queues]
        if cursor is None:
            return iter(places)
        first = _Place.parse(cursor)
        named = [(place.queue, place.state) for place in places]
        if (first.queue, first.state) not in named:
            raise InvalidCursorError("is that of another list", field="cursor")
        return iter([first, *places[named.index((first.queue, first.state)) + 1 :]])

    async def get(
        self, queue: str, key: str, *, snapshot: Snapshot | None = None, reveal: bool = False
    ) -> JobDetail:
        """A job with all that is known of it, and why it does not run; ``reveal``: with its secrets.

        Raises NotFoundError.
        """
        policy = self._policy(queue)
        found, now = await self._find(queue, key)
        if found.state == "gone":
            raise _not_found(queue, key)
        snapshot = snapshot or await self._take_snapshot()
        record = await _read_whole(policy, found, now)
        fields = summary_fields(policy, found, record, now, snapshot) | detail_fields(record)
        detail = JobDetail(**fields)
        if detail.state == "failed" and detail.status != "aborted":
            detail = replace(detail, letter=await self._letter_of(detail, record.completed))
        why = explain(start_facts(policy, snapshot, job_facts(detail, now, snapshot)))
        detail = replace(detail, why=why)
        return detail if reveal else self._mask.job(detail)

    async def why(self, queue: str, key: str | None = None, *, snapshot: Snapshot | None = None) -> Why:
        """Why a job does not run, or (without ``key``) why the queue starts nothing more, or that it does.

        It answers while Redis is unavailable, too.
        """
        policy = self._policy(queue)
        snapshot = snapshot or await self._take_snapshot()
        if key is None or snapshot.redis.error is not None:
            return explain(start_facts(policy, snapshot, None))
        try:
            detail = await self.get(queue, key, snapshot=snapshot)
        except NotFoundError:
            return explain(start_facts(policy, snapshot, JobFacts(key, None)))
        except (RedisError, OSError) as error:  # since the snapshot
            return explain(replace(start_facts(policy, snapshot, None), redis_error=reason(error)))
        assert detail.why is not None  # noqa: S101
        return detail.why

    async def stack(self, queue: str, key: str) -> JobStack:
        """Where a job that runs stands: the stack of its coroutine, and its newest log lines.

        Its process is asked and answers within two seconds.  Raises NotFoundError; ConflictError if the job
        does not run, or its process does not answer.
        """
        policy = self._policy(queue)
        found, now = await self._find(queue, key)
        if found.state == "gone":
            raise _not_found(queue, key)
        summary = _summary(policy, found, now, None)
        if summary.state != "running" or summary.worker is None:
            raise ConflictError(f"{key}: does not run, it is {summary.state}")
        return self._mask.stack(await ask_for_stack(self._redis, summary.worker, queue, key))

    def payload_schema(self, queue: str) -> dict[str, Any] | None:
        """The JSON schema of the queue's payload; None if a team's own handler takes any object."""
        self._enqueueing.queue(queue)
        model = self._enqueueing.schemas.get(queue)
        return None if model is None else model.model_json_schema()

    async def _find(self, queue: str, key: str) -> tuple[FoundJob, float]:
        check_key(key)
        async for now, (found,) in self._reader(queue).find([key]):
            return found, now
        raise AssertionError("unreachable")

    async def _letter_of(self, job: JobDetail, completed: datetime | None) -> int | None:
        """The id of the dead letter that a job left; None while it waits for the database.

        Letter and record have the same time of death.
        """
        if completed is None:
            return None
        until = completed + timedelta(milliseconds=1)
        died = LetterFilter(queue=job.queue, state=None, since=completed, until=until)
        try:
            async with asyncio.timeout(_LETTER_SECONDS):
                page = await self._dead_letters.page(died, limit=MAX_JOBS)
        except (StorageError, OSError):
            return None
        return next((letter.id for letter in page.items if letter.job_id == job.key), None)

    def _policy(self, queue: str) -> QueuePolicy:
        return self._enqueueing.queue(queue).policy

    def _reader(self, queue: str) -> JobReader:
        return JobReader(self._redis, self._enqueueing.queue(queue).name)


async def _read_whole(policy: QueuePolicy, found: FoundJob, now: float) -> JobRecord:
    """The record with all that it holds; a large one is read in a thread, since jobs share the event loop."""
    if len(found.record or b"") < LARGE_BYTES:
        return record_of(policy, found, now, whole=True)
    return await asyncio.to_thread(record_of, policy, found, now, whole=True)


def _not_found(queue: str, key: str) -> NotFoundError:
    return NotFoundError(f"{queue} has no job {key!r}", fix="list them with jobs list")


def _summary(policy: QueuePolicy, found: FoundJob, now: float, snapshot: Snapshot | None) -> JobSummary:
    return JobSummary(**summary_fields(policy, found, record_of(policy, found, now), now, snapshot))
