"""SAQ's Redis queue with the moves that keep our promises: take, settle, recover, enqueue many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from saq import Job, Status
from saq.queue.redis import RedisQueue

from storage.asyncio_tools import cancel_and_wait
from storage.database.events import EventSink, ignore_event
from storage.redis.batches import REQUEST_BYTES
from storage.redis.client import execute, is_full, is_wrong_type
from storage.redis.pipeline import PipelineConnection
from storage.redis.scripts import Argument, Script, ScriptCall, run_script, run_scripts
from workers.engine import wire
from workers.engine.blocked import read_where
from workers.engine.enqueueing import (
    EnqueueArgs,
    EnqueueResult,
    enqueue_batches,
    enqueue_call,
    redis_full_error,
)
from workers.engine.history import KEEP_POINT
from workers.engine.keys import BEATS, LETTER, LETTERS, OUTCOMES, WAKE_CHANNEL, WORKERS, QueueKeys
from workers.engine.policy import (
    KEEP_COMPLETED_JOBS,
    KEEP_ENDED_MS,
    KEEP_FAILED_JOBS,
    KEEP_LARGE_MS,
    KEEP_READABLE_MS,
    LARGE_BYTES,
    MAX_PROCESSES,
    QueuePolicy,
)
from workers.engine.reconciler import Reconciler
from workers.engine.settlement import LeasedJob, Settlement, TakeResult
from workers.engine.wire import decode_id, encode_id

LOST_SCRIPT = Script.load(__name__, "lost")
DECLARE_DEAD_SCRIPT = Script.load(__name__, "gone")
TAKE_SCRIPT = Script.load(__name__, "take")
SETTLE_SCRIPT = Script.load(__name__, "settle", functions=KEEP_POINT)

_RATE_GUARD_US = 250_000
"""Added to the rate window: a start is counted when it is granted, and the handler begins a moment later."""

_LEASE = "couturecast_lease"
"""Attribute of the Job that a handler was given, and of no other: SAQ does not write it down."""

_WAIT_MARGIN_SECONDS = 10.0
"""How late the reply to a blocking wait may be."""


class JobQueue(RedisQueue):
    """A SAQ queue, to SAQ's producers and screens like any other, with a policy of its own.

    Every move of a job is one Lua call, so a job is on a list at every moment.  ``pipeline``, if
    given, carries what a dispatcher sends at every turn.  ``release`` is that of this process, and
    ``emit`` takes events.
    """

    def __init__(
        self,
        redis: Redis,
        policy: QueuePolicy,
        pipeline: PipelineConnection | None = None,
        *,
        release: str | None = None,
        emit: EventSink = ignore_event,
    ) -> None:
        super().__init__(redis, name=policy.name, dump=wire.dump, load=wire.load)
        self.policy = policy
        self.release = release
        self.emit = emit
        self._via = pipeline or redis
        self.keys = QueueKeys.of(policy.name)
        self.id_prefix = self.job_id("")
        """The beginning of its jobs' ids; the key follows."""
        self.reconciler = Reconciler(redis, policy, emit)
        keys = self.keys
        moved = (keys.queued, keys.active, keys.incomplete, keys.leases, keys.looks)
        self._settle_keys = (
            *moved,
            *(keys.completed, keys.failed, LETTERS, LETTER, keys.totals, keys.history, OUTCOMES),
        )
        self._settle_head: tuple[Argument, ...] = (
            *(KEEP_COMPLETED_JOBS, KEEP_FAILED_JOBS, KEEP_READABLE_MS, MAX_PROCESSES),
            *(WAKE_CHANNEL, self.name, KEEP_ENDED_MS, LARGE_BYTES, KEEP_LARGE_MS),
        )
        self._take_keys = (
            *moved,
            *(keys.starts, keys.pause, BEATS, keys.token, keys.failed, keys.totals, keys.turns),
        )
        rate = policy.rate_limit
        self._take_limits: tuple[Argument, ...] = (
            *(policy.concurrency, MAX_PROCESSES, rate.starts if rate else 0),
            round(rate.seconds * 1e6) + _RATE_GUARD_US if rate else 0,
            *(WAKE_CHANNEL, self.name, REQUEST_BYTES),
        )

    def job_key_from_id(self, job_id: str) -> str:
        """Return the key of a job of this queue; any other id is returned unchanged."""
        return job_id.removeprefix(self.id_prefix)

    def serialize(self, job: Job) -> bytes:
        """Return the job as it goes over the wire."""
        return wire.dump(wire.job_dict(job))

    # Taking and settling

    async def take(
        self, worker_id: str, n: int, settlements: Sequence[Settlement]
    ) -> tuple[list[bool], TakeResult | Exception]:
        """Carry out ``settlements``, then take up to ``n`` jobs, in one round trip.

        Returns, for each settlement, whether its lease still stood, and the take, or why Redis refused it.
        Raises RedisError: after a ResponseError nothing was settled, and jobs may have been taken; after any
        other both may have happened.
        """
        calls = self.turn_calls(worker_id, n, settlements)
        stood, take = await self.turn_result(settlements, await run_scripts(self._via, calls))
        assert take is not None  # noqa: S101 - for the type checker
        return stood, take

    def turn_calls(
        self, worker_id: str, n: int | None, settlements: Sequence[Settlement], *, noted: bool = True
    ) -> list[ScriptCall]:
        """Return the calls that settle ``settlements``, if any, and take up to ``n`` jobs; None: no take.

        ``noted``: the turn, and a heartbeat, are noted for those who watch this worker.
        """
        calls = [self.settle_call(settlements)] if settlements else []
        return calls if n is None else [*calls, self._take_call(worker_id, n, noted=noted)]

    async def turn_result(
        self, settlements: Sequence[Settlement], replies: Sequence[Any]
    ) -> tuple[list[bool], TakeResult | Exception | None]:
        """Parse the ``replies`` to `turn_calls`, as `take` returns them; None if there was no take.

        Raises RedisError.
        """
        settled = replies[0] if settlements else []
        if isinstance(settled, Exception):
            raise settled
        stood = list(map(bool, settled))
        takes = replies[1:] if settlements else replies
        if not takes or isinstance(takes[0], Exception):
            return stood, takes[0] if takes else None
        try:
            return stood, await self._take_result(takes[0])
        except RedisError as error:  # of a large body that is fetched by itself: the settlements stand
            return stood, error

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Carry out ``settlements``; for each, whether its lease still stood.  Raises RedisError."""
        if not settlements:
            return []
        return [bool(stands) for stands in await run_script(self._via, self.settle_call(settlements))]

    def settle_call(self, settlements: Sequence[Settlement]) -> ScriptCall:
        """Return the call that carries out ``settlements``."""
        args = [*self._settle_head]
        for settlement in settlements:
            args += settlement.to_argv()
        return SETTLE_SCRIPT.call(self._settle_keys, args)

    def _take_call(self, worker_id: str, n: int, *, noted: bool) -> ScriptCall:
        args: list[Argument] = [worker_id, n, *self._take_limits, "1" if noted else ""]
        return TAKE_SCRIPT.call(self._take_keys, args)

    async def _take_result(self, reply: list[Any]) -> TakeResult:
        state, wait, others_leases, own_leases, now_ms, depth, *rest = reply
        lease, *jobs = rest or [b""]
        jobs = [
            LeasedJob(decode_id(job_id), lease, await self._fetch_body(job_id) if body is None else body)
            for job_id, body in _pairs(jobs)
        ]
        due = wait / 1000 if wait >= 0 else None
        return TakeResult(state.decode(), due, others_leases, own_leases, now_ms / 1000, depth, jobs)

    async def _fetch_body(self, job_id: bytes) -> bytes:
        """Return the body of a job that would have made its reply too large."""
        return await self.body(decode_id(job_id))

    async def body(self, job_id: str) -> bytes:
        """Return the job's data, empty if it is gone.  Raises RedisError."""
        return await execute(self.redis, "GET", encode_id(job_id)) or b""

    async def wait_for_job(self, connection: PipelineConnection, timeout: float) -> bool:
        """Return True as soon as the queue has a ready job, False after ``timeout`` seconds; changes nothing.

        Moving a list's head to the same list's head blocks until there is one, so any producer's push ends
        the wait.  No job is in hand if the wait is interrupted.
        """
        queued = self.keys.queued
        command = ("BLMOVE", queued, queued, "LEFT", "LEFT", timeout)
        (moved,) = await connection.round_trip([command], limit=timeout + _WAIT_MARGIN_SECONDS)
        if isinstance(moved, Exception):
            raise moved
        return moved is not None

    # Leases

    async def leases(self) -> dict[str, bytes]:
        """Return all leases of the queue, by SAQ job id."""
        leases = await execute(self.redis, "HGETALL", self.keys.leases)
        return {decode_id(job_id): lease for job_id, lease in leases.items()}

    async def leases_of_dead_workers(self, dead_after: float, gap: float) -> list[LeasedJob]:
        """Return the jobs whose worker has sent no heartbeat for ``dead_after`` seconds.

        There are none until processes have called this for ``dead_after`` seconds with no more than ``gap``
        seconds in between.  Raises RedisError.
        """
        limits: list[Argument] = [round(dead_after * 1000), round(gap * 1000), REQUEST_BYTES, self.name]
        reply = await run_script(
            self.redis, LOST_SCRIPT.call([self.keys.leases, BEATS, self.keys.looks], limits)
        )
        return [
            LeasedJob(decode_id(job_id), lease, await self._fetch_body(job_id) if body is None else body)
            for job_id, lease, body in zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
        ]

    async def declare_dead(self, worker: str, dead_after: float) -> str | None:
        """Have every screen show that a worker is dead; returns where its event loop was blocked, if known.

        A worker with a heartbeat in the last ``dead_after`` seconds stays alive.  Raises RedisError.
        """
        call = DECLARE_DEAD_SCRIPT.call([WORKERS, BEATS], [encode_id(worker), round(dead_after * 1000)])
        note = await run_script(self.redis, call)
        return None if note is None else read_where(note)

    async def presence_of(self, worker: str) -> dict[str, Any]:
        """Return the presence that a worker has published; empty if it cannot be read.  Raises RedisError."""
        body = await execute(self.redis, "HGET", WORKERS, encode_id(worker))
        try:
            presence = wire.load(body or b"{}")
        except (ValueError, RecursionError):
            return {}
        return presence if isinstance(presence, dict) else {}

    async def abort_requests(self, jobs: Sequence[tuple[str, Job]]) -> list[str | None]:
        """Return for each running job (SAQ id, job) the reason why it is to be aborted; None if it is not.

        Raises RedisError.  SAQ's request expires after 5 seconds; that it took the job off incomplete, and
        what it wrote to the job's record, stay.
        """
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.mget([job.abort_id for _, job in jobs])
        pipeline.execute_command("ZMSCORE", self.keys.incomplete, *(job_id for job_id, _ in jobs))
        requests, scores = await pipeline.execute()
        return [
            request.decode("utf-8", "replace")
            if request is not None
            else await self._recorded_abort(job_id)
            if score is None
            else None
            for (job_id, _), request, score in zip(jobs, requests, scores, strict=True)
        ]

    async def _recorded_abort(self, job_id: str) -> str | None:
        """Return why a job is to be aborted by its record; None if another program took it off incomplete."""
        try:
            record = wire.load(await self.body(job_id))
            return str(record.get("error") or "aborted") if record["status"] == Status.ABORTING else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    @staticmethod
    def attach_lease(job: Job, lease: bytes) -> None:
        """Mark ``job`` as handed to a handler: its updates are stored as long as ``lease`` stands."""
        setattr(job, _LEASE, lease)

    def copy(self, job: Job) -> Job:
        """Copy the job for SAQ's job.update(), which works on a copy that stands for the same attempt."""
        copy: Job = super().copy(job)
        lease = getattr(job, _LEASE, None)
        if lease is not None:
            self.attach_lease(copy, lease)
        return copy

    async def _update(self, job: Job, status: Status | None = None, **kwargs: Any) -> None:
        """Store a handler's job.update(), only while the lease of its attempt stands."""
        lease = getattr(job, _LEASE, None)
        if lease is None:
            await super()._update(job, status, **kwargs)
            return
        job.status = status or Status.ACTIVE
        if (await self.settle([Settlement(job.id, lease, "update", self.serialize(job))]))[0]:
            await self.notify(job)

    # Enqueueing

    async def enqueue_many(
        self,
        jobs: Sequence[Job],
        tokens: Sequence[str] | None = None,
    ) -> list[EnqueueResult]:
        """Enqueue ``jobs`` in order; the result of each.

        A token, one a job, makes sure that it is enqueued once: it is remembered in the same step for a week.
        ``job.scheduled`` may have a fraction of a second.  Raises RedisError, of which RedisFullError has the
        fix; the batches (of 500, or a megabyte) before the one that failed are enqueued then.
        """
        if len(jobs) == 1:  # without the task that lets batches overlap: a quarter less processor time
            (token,) = tokens or ("",)
            call = enqueue_call(self.keys, self.name, [self._enqueue_args(jobs[0], token)])
            return [EnqueueResult(result) for result in await self._send(call, 0, 1)]
        results: list[EnqueueResult] = []
        pairs = zip(jobs, tokens or repeat(""), strict=False)
        async for batch in self.enqueue_stream(pairs, total=len(jobs)):
            results += batch
        return results

    async def enqueue_stream(
        self, jobs: Iterable[tuple[Job, str]], *, total: int | None = None
    ) -> AsyncGenerator[list[EnqueueResult]]:
        """Enqueue jobs, each with its token or "", as they are read; yields the results of each batch.

        A batch is read while the server carries out the one before.  ``total`` is for the error of a full
        Redis.  Raises RedisError as `enqueue_many`: the batches whose results were yielded are enqueued.
        """
        enqueued = 0
        sending: asyncio.Task[list[int]] | None = None
        try:
            for batch in enqueue_batches(self._enqueue_args(job, token) for job, token in jobs):
                if sending is not None:
                    results = await sending
                    enqueued += len(results)
                    yield [EnqueueResult(result) for result in results]
                call = enqueue_call(self.keys, self.name, batch)
                sending = asyncio.create_task(self._send(call, enqueued, total))
                await asyncio.sleep(0)  # it is sent before the next batch is read
            if sending is not None:
                yield [EnqueueResult(result) for result in await sending]
        finally:
            if sending is not None and not sending.done():
                await cancel_and_wait([sending])

    async def enqueue_occurrence(self, schedule: str, occurrence: int, jobs: Sequence[Job]) -> int:
        """Enqueue the jobs of one occurrence (a Unix second), each once; how many were enqueued.

        Does nothing if that occurrence, or a later one, was enqueued before.  Raises RedisError; the
        occurrence counts as enqueued with its last job, and another call enqueues the missing ones.
        """
        tokens = [f"{occurrence}:{job.key}" for job in jobs]
        batches = list(enqueue_batches(map(self._enqueue_args, jobs, tokens))) or [[]]
        enqueued = 0
        for batch in batches:
            more = batch is not batches[-1]
            call = enqueue_call(
                self.keys, self.name, batch, schedule=schedule, occurrence=occurrence, more=more
            )
            enqueued += (await self._send(call, enqueued, len(jobs))).count(EnqueueResult.ENQUEUED)
        return enqueued

    def _enqueue_args(self, job: Job, token: str) -> EnqueueArgs:
        job.queue = self
        job.status = Status.QUEUED
        return job.id, job.abort_id, job.scheduled, self.serialize(job), token

    async def _send(self, call: ScriptCall, enqueued: int, jobs: int | None) -> list[int]:
        """Run one of the calls that enqueue ``jobs``, of which ``enqueued`` are done."""
        try:
            replies: list[int] = await run_script(self._via, call)
        except ResponseError as error:
            if is_full(error):
                raise await redis_full_error(self.redis, enqueued, jobs) from None
            if not is_wrong_type(error) or not await self.reconciler.reconcile(now=True):
                raise
            return await self._send(call, enqueued, jobs)
        return replies

    async def _enqueue(self, job: Job) -> Job | None:
        (result,) = await self.enqueue_many([job])
        return job if result is EnqueueResult.ENQUEUED else None


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
