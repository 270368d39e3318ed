"""SAQ's Redis queue with the moves that keep our promises: take, settle, look for the lost, enqueue many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import repeat
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from saq import Job, Status
from saq.queue.redis import RedisQueue

from storage.redis.batches import REQUEST_BYTES, batch_by_size
from storage.redis.client import PipelineConnection, execute, is_full, is_wrong_type
from storage.redis.scripts import Argument, Script, ScriptCall, run_script, run_scripts
from workers.engine import wire
from workers.engine.blocked import read_where
from workers.engine.keys import BEATS, CRON, LETTER, LETTERS, NUDGE, OUTCOMES, TOKENS, WORKERS, QueueKeys
from workers.engine.policy import (
    KEEP_COMPLETED,
    KEEP_ENDED_MS,
    KEEP_FAILED,
    KEEP_LARGE_MS,
    KEEP_READABLE_MS,
    LARGE_BYTES,
    MAX_PROCESSES,
    QueuePolicy,
)
from workers.engine.reconciler import Reconciler
from workers.errors import RedisFullError

LOST_SCRIPT = Script.load(__name__, "lost")
GONE_SCRIPT = Script.load(__name__, "gone")
ENQUEUE_SCRIPT = Script.load(__name__, "enqueue")
TAKE_SCRIPT = Script.load(__name__, "take")
SETTLE_SCRIPT = Script.load(__name__, "settle")

_RATE_GUARD_US = 250_000
"""Added to the rate window: a start is counted when it is granted, and the handler begins a moment later."""

_LEASE = "couturecast_lease"
"""Attribute of the Job that a handler was given, and of no other: SAQ does not write it down."""

_ENQUEUE_BATCH = 500
"""Jobs in one call of the enqueue script: a few milliseconds of the server's time at the most."""

_BELL_MARGIN = 10.0
"""Seconds that the answer to a blocking wait may be late."""

_TOKEN_SECONDS = 7 * 86_400


_Said = tuple[str, str, float, bytes, str]
"""One job in a call of the enqueue script: see its header."""


def _said_size(said: _Said) -> int:
    return len(said[0]) + len(said[1]) + len(said[3])


class EnqueueResult(IntEnum):
    """What became of one job that was to be enqueued."""

    REFUSED = 0
    """A job of its key is incomplete, or being aborted."""
    DONE = 1
    BEFORE = 2
    """Its token was used before: the job was enqueued then."""


class LeasedJob(NamedTuple):
    """One job as it was taken: its SAQ id, our lease on it, and its body ('' where its data is gone)."""

    id: str
    lease: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class TakeResult:
    """What a take found.

    ``state`` says why there are no (more) jobs: taken, empty, paused, busy, full, limited, standby or again.
    ``wait`` is the number of seconds until a scheduled job or a start of the rate limit is due, None where
    nothing is known.  ``foreign`` is the number of leases that other workers hold, ``own`` of those that this
    one held before, ``now`` the server's time.
    """

    state: str
    wait: float | None
    foreign: int
    own: int
    now: float
    depth: int
    jobs: list[LeasedJob]


@dataclass(slots=True)
class Settlement:
    """How one job in flight leaves it.

    ``verb``: complete, retry (after ``delay`` seconds), bury (with ``letter``), abort (SAQ's wish under
    ``abort_key``), return (to the head of the queue) or mark (stays in flight, ``body`` is stored).
    ``wait`` and ``run`` are histogram buckets.  Where a replayed job completes or is aborted, ``letter`` has
    its letter's id and that word.  ``after`` says what follows a letter that does not hold its job: the
    ``body``, or the job as it is ``stored``.
    """

    id: str
    lease: bytes
    verb: str
    body: bytes
    delay: float = 0.0
    letter_uid: str = ""
    letter: bytes = b""
    abort_key: str = ""
    after: Literal["", "body", "stored"] = ""
    wait: int | None = None
    run: int | None = None
    cut: bool = False
    """A drain broke it off: it is one of those that had to be put back."""
    repeated: bool = False
    """Sent before over a connection that broke: it may have been carried out already."""

    def size(self) -> int:
        """Bytes of it in a request, at least."""
        return len(self.id) + len(self.lease) + len(self.body) + len(self.letter)


class JobQueue(RedisQueue):
    """A SAQ queue, to SAQ's producers and screens like any other, with a policy of its own.

    Every move of a job is one Lua call: there is no moment at which a job is on no list.  ``line``, where
    there is one, carries what a dispatcher says at every turn.
    """

    def __init__(self, redis: Redis, policy: QueuePolicy, line: PipelineConnection | None = None) -> None:
        super().__init__(redis, name=policy.name, dump=wire.dump, load=wire.load)
        self.policy = policy
        self._via = line or redis
        self.keys = QueueKeys.of(policy.name)
        self.id_prefix = self.job_id("")
        """What the ids of its jobs begin with; the key follows."""
        self.reconciler = Reconciler(redis, policy)

    def job_key_from_id(self, job_id: str) -> str:
        """The key of a job of this queue; an id that is none of it stands for itself."""
        return job_id.removeprefix(self.id_prefix)

    def serialize(self, job: Job) -> bytes:
        """The job as it goes over the wire."""
        return wire.dump(wire.job_dict(job))

    async def take(
        self, worker_id: str, n: int, settlements: Sequence[Settlement]
    ) -> tuple[list[bool], TakeResult | Exception]:
        """Carry out ``settlements``, then take up to ``n`` jobs, in one round trip.

        Returns, for each settlement, whether its lease still stood, and the take, or why Redis refused it.
        Raises RedisError: a ResponseError says that nothing was settled, and jobs may have been taken; after
        any other both may have happened.
        """
        calls = [self.settle_call(settlements)] if settlements else []
        replies = await run_scripts(self._via, [*calls, self._take_call(worker_id, n)])
        settled = replies[0] if settlements else []
        if isinstance(settled, Exception):
            raise settled
        stood, take = list(map(bool, settled)), replies[-1]
        if isinstance(take, Exception):
            return stood, take
        try:
            return stood, await self._take_of(take)
        except RedisError as error:  # of a large body that is fetched by itself: what was settled stays so
            return stood, error

    async def _take_of(self, reply: list[Any]) -> TakeResult:
        state, wait, foreign, own, now_ms, depth, *rest = reply
        lease, *jobs = rest or [b""]
        taken = [
            LeasedJob(_text(job_id), lease, await self._late(job_id) if body is None else body)
            for job_id, body in _in_twos(jobs)
        ]
        due = wait / 1000 if wait >= 0 else None
        return TakeResult(state.decode(), due, foreign, own, now_ms / 1000, depth, taken)

    async def _late(self, job_id: bytes) -> bytes:
        """The body of a job that would have made its reply too large."""
        return await self.body(_text(job_id))

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Carry out ``settlements``; for each, whether its lease still stood.  Raises RedisError."""
        if not settlements:
            return []
        return [bool(done) for done in await run_script(self._via, self.settle_call(settlements))]

    async def leases(self) -> dict[str, bytes]:
        """All leases of the queue, by SAQ job id."""
        found = await execute(self.redis, "HGETALL", self.keys.leases)
        return {_text(key): lease for key, lease in found.items()}

    async def wishes_to_abort(self, jobs: Sequence[tuple[str, Job]]) -> list[str | None]:
        """For each job that runs (SAQ id, job), why it is to be aborted; None where nobody wishes that.

        Raises RedisError.  SAQ's wish lasts for 5 seconds; that it took the job off incomplete, and what it
        wrote to the job's record, stay.
        """
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.mget([job.abort_id for _, job in jobs])
        pipeline.execute_command("ZMSCORE", self.keys.incomplete, *(job_id for job_id, _ in jobs))
        wishes, scores = await pipeline.execute()
        return [
            wish.decode("utf-8", "replace")
            if wish is not None
            else await self._abort_on_record(job_id)
            if score is None
            else None
            for (job_id, _), wish, score in zip(jobs, wishes, scores, strict=True)
        ]

    async def _abort_on_record(self, job_id: str) -> str | None:
        """Why a job is to be aborted by its record; None if another program took it off incomplete."""
        try:
            record = wire.load(await self.body(job_id))
            return str(record.get("error") or "aborted") if record["status"] == Status.ABORTING else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    async def body(self, job_id: str) -> bytes:
        """The job's data, '' where it is gone.  Raises RedisError."""
        return await execute(self.redis, "GET", _raw(job_id)) or b""

    async def lost(self, dead_after: float, gap: float) -> tuple[int, list[LeasedJob]]:
        """Number of all leases, and those whose worker has not been heard of for ``dead_after`` seconds.

        There are none of these until somebody has called this for ``dead_after`` seconds with no more than
        ``gap`` seconds in between.  Raises RedisError.
        """
        limits: list[Argument] = [round(dead_after * 1000), round(gap * 1000), REQUEST_BYTES, self.name]
        reply = await run_script(
            self.redis, LOST_SCRIPT.call([self.keys.leases, BEATS, self.keys.looks], limits)
        )
        lost = zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
        return reply[0], [
            LeasedJob(_text(job_id), lease, await self._late(job_id) if body is None else body)
            for job_id, lease, body in lost
        ]

    async def declare_dead(self, worker: str, dead_after: float) -> str | None:
        """Have every screen show that a lost worker is gone; where its event loop stood, if that is known.

        A worker that has beaten in the last ``dead_after`` seconds stays as it is.  Raises RedisError.
        """
        call = GONE_SCRIPT.call([WORKERS, BEATS], [_raw(worker), round(dead_after * 1000)])
        note = await run_script(self.redis, call)
        return None if note is None else read_where(note)

    async def enqueue_many(
        self,
        jobs: Sequence[Job],
        tokens: Sequence[str] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[EnqueueResult]:
        """Enqueue ``jobs``, in order; what became of each.

        A token, one a job, makes the act one that happens once: it is remembered in the same step for a week.
        ``job.scheduled`` may have a fraction of a second.  Raises RedisError, of which RedisFullError says
        how to mend it; the batches (of 500, or a megabyte) before the one that failed are enqueued then.
        """
        done: list[EnqueueResult] = []
        for batch in self._batches(jobs, tokens):
            replies = await self._send(self._enqueue_call(batch), len(done), len(jobs))
            done += map(EnqueueResult, replies)
            if on_progress is not None:
                on_progress(len(done))
        return done

    async def _send(self, call: ScriptCall, done: int, jobs: int) -> list[int]:
        """Carry out one of the calls that enqueue ``jobs``, of which ``done`` are enqueued."""
        try:
            replies: list[int] = await run_script(self._via, call)
        except ResponseError as error:
            if is_full(error):
                raise await self._full(done, jobs) from None
            if not is_wrong_type(error) or not await self.reconciler.reconcile(now=True):
                raise
            return await self._send(call, done, jobs)
        return replies

    async def _full(self, done: int, jobs: int) -> RedisFullError:
        """What a producer is told that had ``done`` of ``jobs`` enqueued."""
        what = f"{done} of {jobs} jobs were enqueued" if done else "nothing was enqueued"
        mend = "wait until the workers have freed memory, or raise its maxmemory"
        return RedisFullError(f"Redis is full{await self._used()}: {what}; {mend}")

    async def _used(self) -> str:
        """How much of its memory Redis uses, where it says that."""
        try:
            about = await self.redis.info("memory")
            used, limit = (int(about[name]) / 2**20 for name in ("used_memory", "maxmemory"))
        except (RedisError, OSError, LookupError, ValueError):
            return ""
        return f" ({used:.1f} of {limit:.1f} MB used)" if limit else ""

    async def enqueue_occurrence(self, schedule: str, occurrence: int, jobs: Sequence[Job]) -> int:
        """Enqueue the jobs of one occurrence (a Unix second), each once; how many were enqueued.

        Nothing happens where that occurrence, or a later one, was enqueued before.  Raises RedisError; the
        occurrence counts as enqueued with its last job, and another call enqueues those that are missing.
        """
        tokens = [f"{occurrence}:{job.key}" for job in jobs]
        requests = list(self._batches(jobs, tokens)) or [[]]
        enqueued = 0
        for batch in requests:
            more = batch is not requests[-1]
            call = self._enqueue_call(batch, schedule=schedule, occurrence=occurrence, more=more)
            enqueued += (await self._send(call, enqueued, len(jobs))).count(EnqueueResult.DONE)
        return enqueued

    def _batches(self, jobs: Sequence[Job], tokens: Sequence[str] | None) -> Iterator[list[_Said]]:
        """The arguments that say each job, by request."""
        said = map(self._said, jobs, tokens or repeat(""))
        return batch_by_size(said, _said_size, _ENQUEUE_BATCH)

    def _said(self, job: Job, token: str) -> _Said:
        job.queue = self
        job.status = Status.QUEUED
        return job.id, job.abort_id, job.scheduled, self.serialize(job), token

    def _enqueue_call(
        self,
        batch: Sequence[_Said],
        *,
        schedule: str = "",
        occurrence: int = 0,
        more: bool = False,
    ) -> ScriptCall:
        tokens = f"{CRON}:{schedule}" if schedule else TOKENS
        args: list[Argument] = [NUDGE, self.name, schedule, occurrence, _TOKEN_SECONDS, int(more)]
        for job in batch:
            args += job
        keys = [self.keys.queued, self.keys.incomplete, CRON, tokens]
        return ENQUEUE_SCRIPT.call(keys, args)

    async def _enqueue(self, job: Job) -> Job | None:
        (done,) = await self.enqueue_many([job])
        return job if done is EnqueueResult.DONE else None

    async def _update(self, job: Job, status: Status | None = None, **kwargs: Any) -> None:
        """A handler's job.update(): stored only while the lease of its attempt stands."""
        lease = getattr(job, _LEASE, None)
        if lease is None:
            await super()._update(job, status, **kwargs)
            return
        job.status = status or Status.ACTIVE
        if (await self.settle([Settlement(job.id, lease, "mark", wire.dump(wire.job_dict(job)))]))[0]:
            await self.notify(job)

    @staticmethod
    def hold(job: Job, lease: bytes) -> None:
        """``job`` is handed to a handler: what this object says counts as long as ``lease`` stands."""
        setattr(job, _LEASE, lease)

    def copy(self, job: Job) -> Job:
        """SAQ's job.update() works on a copy, which stands for the same attempt."""
        copy: Job = super().copy(job)
        lease = getattr(job, _LEASE, None)
        if lease is not None:
            self.hold(copy, lease)
        return copy

    async def wait_for_job(self, line: PipelineConnection, timeout: float) -> bool:
        """True as soon as the queue has a ready job, False after ``timeout`` seconds; changes nothing.

        The move from a list's head to the same list's head blocks until there is one, so any producer's push
        ends the wait, and no job is in hand when the wait is broken off.
        """
        keys = self.keys
        words = ("BLMOVE", keys.queued, keys.queued, "LEFT", "LEFT", timeout)
        (moved,) = await line.round_trip([words], limit=timeout + _BELL_MARGIN)
        if isinstance(moved, Exception):
            raise moved
        return moved is not None

    def _take_call(self, worker_id: str, n: int) -> ScriptCall:
        keys, policy, rate = self.keys, self.policy, self.policy.rate_limit
        window = round(rate.seconds * 1e6) + _RATE_GUARD_US if rate else 0
        names = [keys.queued, keys.active, keys.incomplete, keys.leases, keys.looks]
        names += [keys.starts, keys.pause, BEATS, keys.token, keys.failed, keys.totals]
        starts = rate.starts if rate else 0
        limits: list[Argument] = [worker_id, n, policy.concurrency, MAX_PROCESSES, starts, window]
        return TAKE_SCRIPT.call(names, [*limits, NUDGE, self.name, REQUEST_BYTES])

    def settle_call(self, settlements: Sequence[Settlement]) -> ScriptCall:
        """The call that carries out ``settlements``."""
        keys = self.keys
        args: list[Argument] = [
            KEEP_COMPLETED,
            KEEP_FAILED,
            KEEP_READABLE_MS,
            MAX_PROCESSES,
            NUDGE,
            self.name,
            KEEP_ENDED_MS,
            LARGE_BYTES,
            KEEP_LARGE_MS,
        ]
        for s in settlements:
            args += [
                _raw(s.id),
                s.lease,
                s.verb,
                s.body,
                s.after if s.verb == "bury" else round(s.delay * 1000),
                s.letter_uid or s.abort_key,
                s.letter,
            ]
            args += ["" if s.wait is None else s.wait, "" if s.run is None else s.run]
        names = [keys.queued, keys.active, keys.incomplete, keys.leases, keys.looks, keys.completed]
        names += [keys.failed, LETTERS, LETTER, keys.totals, keys.minute, OUTCOMES]
        return SETTLE_SCRIPT.call(names, args)


def _text(raw: bytes) -> str:
    """A job id, which a foreign producer may make of any bytes."""
    return raw.decode(errors="surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _in_twos(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
