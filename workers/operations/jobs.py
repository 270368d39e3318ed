"""The operator's verbs on single jobs: list, show, ask why, abort, run now, duplicate, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, get_args

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.records import Page
from storage.errors import StorageError
from storage.redis.client import execute
from storage.redis.refusals import reason
from workers.engine.job_reader import FoundJob, JobCounts, JobReader, WindowState, count_jobs
from workers.engine.job_record import JobRecord
from workers.engine.placement import group_by_client
from workers.engine.policy import LARGE_BYTES, QueuePolicy
from workers.errors import ConflictError, NotFoundError
from workers.monitoring.snapshot import Snapshot
from workers.operations.alike import Finding, TakenSlots, find_alike
from workers.operations.audit import Audit
from workers.operations.dead_letters import DeadLetterOperations
from workers.operations.enqueueing import Enqueueing
from workers.operations.job_filter import ALL_JOBS, JobFilter
from workers.operations.job_pages import INCOMPLETE, FoundJobs, Position, parse_cursor, read_section, start
from workers.operations.job_stacks import JobStack, StackFrame, ask_for_stack, ask_for_stacks
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
from workers.operations.start_facts import Clock, JobFacts, utc_time
from workers.operations.why import Why, explain

__all__ = [
    "JOB_STATES",
    "MAX_JOBS",
    "MAX_KEYS",
    "ChangeOutcome",
    "Finding",
    "JobChange",
    "JobCounts",
    "JobDetail",
    "JobFilter",
    "JobOperations",
    "JobRef",
    "JobStack",
    "JobSummary",
    "StackFrame",
    "TakenSlots",
    "Verb",
    "Why",
    "WindowState",
]

JOB_STATES: tuple[WindowState, ...] = get_args(WindowState)
MAX_JOBS = 200
"""Jobs of one page."""
MAX_SEARCHED = 1_000
"""Jobs that are read for one page of a search."""
_PING_SECONDS = 1.0
"""Within which one of several Redises answers, or its queues are left out of a list of all."""
_LETTER_SECONDS = 2.0
"""Timeout of finding a job's dead letter: the rest of the job is shown without the database."""


class JobOperations(JobVerbs):
    """Reads and changes jobs.  ``take_snapshot`` returns the state of the cluster.

    Every method raises RedisError, and UnknownQueueError for a queue that is not one of ours.
    """

    def __init__(
        self,
        enqueueing: Enqueueing,
        audit: Audit,
        *,
        dead_letters: DeadLetterOperations,
        take_snapshot: Callable[[], Awaitable[Snapshot]],
        mask: SecretMask = DEFAULT_MASK,
    ) -> None:
        self._mask = mask
        super().__init__(enqueueing, audit)
        self._dead_letters = dead_letters
        self._take_snapshot = take_snapshot

    async def counts(self) -> dict[str, JobCounts]:
        """Return the jobs of each queue by state, without those of a Redis that is down, unless all are."""
        names = await self._reachable_queues()
        groups = group_by_client(self._enqueueing.queues[name] for name in names).items()
        counting = (count_jobs(redis, [queue.name for queue in queues]) for redis, queues in groups)
        counts: dict[str, JobCounts] = {}
        for by_queue in await asyncio.gather(*counting):
            counts |= by_queue
        return {name: counts[name] for name in names}

    async def page(
        self,
        queue: str | None = None,
        state: WindowState | None = None,
        *,
        selected: JobFilter = ALL_JOBS,
        limit: int = 50,
        cursor: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> Page[JobSummary]:
        """Return the jobs of one queue or of all (None), in one state or in all that have not ended (None).

        Over all queues, running jobs are listed by their start, scheduled ones by their time, and ended ones
        the newest first.  Ready jobs are listed in the order of each queue.

        The jobs of a Redis that is down are left out of a list of all queues, unless all Redises are.

        A page of large jobs ends before its limit.  If ``selected`` has conditions beyond a queue, a page
        searches the next `MAX_SEARCHED` jobs and may be empty, though there is a next one.  The job whose key
        is the searched text is found wherever it is.  Raises InvalidCursorError, ValueError (the limit).
        """
        if not 1 <= limit <= MAX_JOBS:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_JOBS}")
        names, position = await self._begin_page(queue or selected.queue, state, cursor)
        if snapshot is None and (selected.worker is not None or state == "running"):
            snapshot = await self._take_snapshot()  # it names the workers
        items = await self._jobs_with_key(names, state, selected, snapshot) if cursor is None else []
        read, enough = 0, limit - limit // 10 if selected.searches else limit
        while position is not None and len(items) < enough and read < MAX_SEARCHED:
            rows, position, is_cut = await read_section(self._reader, position, limit - len(items))
            if snapshot is None and any(job.state == "running" for _, job, _ in rows):
                snapshot = await self._take_snapshot()
            items += self._select(rows, selected, snapshot)
            read += len(rows)
            if is_cut:
                break
        return Page(items, None if position is None else position.cursor())

    def _select(self, rows: FoundJobs, selected: JobFilter, snapshot: Snapshot | None) -> list[JobSummary]:
        """Return the selected ones of these jobs, without the one that `_jobs_with_key` finds."""
        jobs = [self._summary(name, job, now, snapshot) for name, job, now in rows]
        if not selected.searches:
            return jobs
        return [job for job in jobs if job.key != selected.text and selected.selects_job(job)]

    async def _begin_page(
        self, queue: str | None, state: WindowState | None, cursor: str | None
    ) -> tuple[list[str], Position | None]:
        """Return the queues of a list, and where its page begins; None if no queue is left."""
        names = list(self._enqueueing.queues) if queue is None else [self._enqueueing.queue(queue).name]
        position = start(names, state) if cursor is None else parse_cursor(cursor, names, state)
        if queue is not None:
            return names, position
        names = await self._reachable_queues()
        return names, position.restrict_to(names)

    async def _jobs_with_key(
        self,
        queues: Sequence[str],
        state: WindowState | None,
        selected: JobFilter,
        snapshot: Snapshot | None,
    ) -> list[JobSummary]:
        """Return the selected jobs whose key is the searched text, if they are in that state."""
        if selected.text is None:
            return []
        states = INCOMPLETE if state is None else (state,)
        jobs: list[JobSummary] = []
        for name in queues:
            job, now = await self._find(name, selected.text)
            if job.state != "gone":
                jobs.append(self._summary(name, job, now, snapshot))
        return [job for job in jobs if job.state in states and selected.selects_job(job)]

    async def get(
        self,
        queue: str,
        key: str,
        *,
        snapshot: Snapshot | None = None,
        reveal: bool = False,
        clock: Clock = utc_time,
    ) -> JobDetail:
        """Return a job with all that is known of it, and why it does not run; ``reveal``: with its secrets.

        ``clock`` writes the times in that sentence.

        Raises NotFoundError.
        """
        policy = self._policy(queue)
        job, now = await self._find(queue, key)
        if job.state == "gone":
            raise _not_found(queue, key)
        snapshot = snapshot or await self._take_snapshot()
        record = await _read_whole(policy, job, now)
        fields = summary_fields(policy, job, record, now, snapshot) | detail_fields(record)
        detail = JobDetail(**fields)
        if detail.state == "failed" and detail.status != "aborted":
            detail = replace(detail, letter=await self._letter_of(detail, record.completed))
        detail = detail if reveal else self._mask.job(detail)  # the sentence may have its error
        return replace(
            detail, why=explain(start_facts(policy, snapshot, job_facts(detail, now, snapshot)), clock)
        )

    async def why(
        self,
        queue: str,
        key: str | None = None,
        *,
        snapshot: Snapshot | None = None,
        clock: Clock = utc_time,
    ) -> Why:
        """Return why a job does not run, or (without ``key``) why the queue starts nothing more, if so.

        It answers while Redis is unavailable, too.
        """
        policy = self._policy(queue)
        snapshot = snapshot or await self._take_snapshot()
        if key is None or snapshot.redis_of(queue).error is not None:
            return explain(start_facts(policy, snapshot, None), clock)
        try:
            detail = await self.get(queue, key, snapshot=snapshot, clock=clock)
        except NotFoundError:
            return explain(start_facts(policy, snapshot, JobFacts(key, None)))
        except (RedisError, OSError) as error:  # since the snapshot
            return explain(replace(start_facts(policy, snapshot, None), redis_error=reason(error)))
        assert detail.why is not None  # noqa: S101
        return detail.why

    async def stack(self, queue: str, key: str) -> JobStack:
        """Return where a job stands that runs: in its coroutine, thread or process; and its newest log lines.

        Its process is asked and answers within two seconds.  Raises NotFoundError; ConflictError if the job
        does not run, or its process does not answer.
        """
        policy = self._policy(queue)
        job, now = await self._find(queue, key)
        if job.state == "gone":
            raise _not_found(queue, key)
        summary = _summary(policy, job, now, None)
        if summary.state != "running" or summary.worker is None:
            raise ConflictError(f"{key}: does not run, it is {summary.state}")
        return self._mask.stack(await ask_for_stack(self._redis(queue), summary.worker, queue, key))

    async def findings(self, *, snapshot: Snapshot | None = None) -> list[Finding]:
        """Return the lines at which two or more running jobs of the cluster stand, the fullest first.

        Every process that holds jobs is asked, and has two seconds; those that do not answer are left out.
        """
        snapshot = snapshot or await self._take_snapshot()
        running: list[JobSummary] = []
        for queue in await self._reachable_queues():
            running += (await self.page(queue, "running", limit=MAX_JOBS, snapshot=snapshot)).items
        holders = {job.worker: self._redis(job.queue) for job in running if job.worker is not None}
        requests = [ask_for_stacks(redis, worker) for worker, redis in holders.items()]
        stacks: dict[tuple[str, str], JobStack] = {}
        for answer in await asyncio.gather(*requests, return_exceptions=True):
            if isinstance(answer, dict):
                stacks |= answer
            elif not isinstance(answer, ConflictError):
                raise answer
        return find_alike(running, stacks, snapshot)

    async def alike(self, queue: str, key: str, *, snapshot: Snapshot | None = None) -> Finding | None:
        """Return the running jobs at the same line as this one, itself among them; None if none is."""
        findings = await self.findings(snapshot=snapshot)
        return next((finding for finding in findings if finding.has(queue, key)), None)

    def payload_schema(self, queue: str) -> dict[str, Any] | None:
        """Return the JSON schema of the queue's payload; None if a team's own handler takes any object."""
        self._enqueueing.queue(queue)
        model = self._enqueueing.schemas.get(queue)
        return None if model is None else model.model_json_schema()

    def payload_problems(self, queue: str, data: Mapping[str, Any]) -> dict[str, str]:
        """Return what is wrong with a payload, by the field; the name is empty for the payload as a whole."""
        return self._enqueueing.payload_problems(queue, data)

    async def _find(self, queue: str, key: str) -> tuple[FoundJob, float]:
        check_key(key)
        async for now, (job,) in self._reader(queue).find([key]):
            return job, now
        raise AssertionError("unreachable")

    async def _letter_of(self, job: JobDetail, completed: datetime | None) -> int | None:
        """Return the id of the dead letter that a job left; None while it waits for the database.

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

    def _summary(self, queue: str, job: FoundJob, now: float, snapshot: Snapshot | None) -> JobSummary:
        """Return a job as it is shown in a list."""
        return self._mask.job(_summary(self._policy(queue), job, now, snapshot))

    def _policy(self, queue: str) -> QueuePolicy:
        return self._enqueueing.queue(queue).policy

    def _reader(self, queue: str) -> JobReader:
        return JobReader(self._redis(queue), self._enqueueing.queue(queue).name)

    async def _reachable_queues(self) -> list[str]:
        """Return the queues whose Redis answers; one that all share is not asked.  Raises RedisError."""
        groups = group_by_client(self._enqueueing.queues.values())
        if len(groups) == 1:
            return list(self._enqueueing.queues)
        replies = await asyncio.gather(*map(_ping, groups), return_exceptions=True)
        if all(isinstance(reply, BaseException) for reply in replies):
            raise next(reply for reply in replies if isinstance(reply, BaseException))
        answering = {redis for redis, reply in zip(groups, replies, strict=True) if reply is None}
        return [name for name, queue in self._enqueueing.queues.items() if queue.redis in answering]

    def _redis(self, queue: str) -> Redis:
        """Return the server that holds a queue, and to which the processes that serve it are connected."""
        return self._enqueueing.queue(queue).redis


async def _ping(redis: Redis) -> None:
    async with asyncio.timeout(_PING_SECONDS):
        await execute(redis, "PING")


async def _read_whole(policy: QueuePolicy, job: FoundJob, now: float) -> JobRecord:
    """Return the record with all that it holds.

    A large one is read in a thread, since jobs share the event loop.
    """
    if len(job.record or b"") < LARGE_BYTES:
        return record_of(policy, job, now, whole=True)
    return await asyncio.to_thread(record_of, policy, job, now, whole=True)


def _not_found(queue: str, key: str) -> NotFoundError:
    return NotFoundError(f"{queue} has no job {key!r}", fix="list them with jobs list")


def _summary(policy: QueuePolicy, job: FoundJob, now: float, snapshot: Snapshot | None) -> JobSummary:
    return JobSummary(**summary_fields(policy, job, record_of(policy, job, now), now, snapshot))
