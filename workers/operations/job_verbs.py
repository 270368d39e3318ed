"""The verbs that change single jobs, for one and for many; each call is recorded as an operator's action."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from saq import Job
from saq.utils import now

from workers.engine import wire
from workers.engine.attempts import COPY_OF, META
from workers.engine.enqueueing import EnqueueResult, new_job_key
from workers.engine.job_changes import JobChanges
from workers.engine.job_reader import FoundJob, JobReader, JobState
from workers.engine.queue import JobQueue
from workers.errors import ConflictError, InvalidJobError, NotFoundError
from workers.operations.audit import Audit
from workers.operations.enqueueing import Enqueueing
from workers.operations.job_views import record_of, state_of, version_of

MAX_KEYS = 1_000
"""Jobs that one call may name."""
_MAX_TRIES = 5
"""Tries for a job that moves while it is read and changed."""
_MAX_RECORDED_KEYS = 100

Verb = Literal["abort", "run-now", "duplicate", "remove"]
ChangeOutcome = Literal["done", "moved", "gone", "refused"]


class JobRef(NamedTuple):
    """A job to be changed; with the ``version`` that was shown, one that has moved since stays."""

    key: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class JobChange:
    """The result, or in a preview the expected result, of a verb on one job; ``message`` is for people."""

    queue: str
    key: str
    outcome: ChangeOutcome
    message: str
    new_key: str | None = None
    """Key of its duplicate."""
    version: str = ""
    """Version of the job as it was read; in a preview it is for the verb."""

    def check(self) -> JobChange:
        """Return it if it is done.  Raises NotFoundError, ConflictError."""
        if self.outcome == "done":
            return self
        raise (NotFoundError if self.outcome == "gone" else ConflictError)(self.message)


class _Effect(NamedTuple):
    """The effect of a verb on a job, for people; ``new_key`` is that of a duplicate."""

    message: str
    new_key: str | None = None


_Apply = Callable[[Sequence[FoundJob]], Awaitable[list[_Effect | None]]]
"""Changes jobs and returns the effect on each; None if it has moved since it was read."""


@dataclass(frozen=True, slots=True)
class _Rule:
    states: frozenset[JobState]
    refusals: Mapping[JobState, str]
    """Why a job in another state is refused."""
    needs_job: bool
    """Whether its record has to be that of a job."""


_HAS_ENDED: Mapping[JobState, str] = {"done": "has completed", "failed": "has ended"}
_RULES: Mapping[Verb, _Rule] = {
    "abort": _Rule(frozenset({"running", "ready", "scheduled", "unlisted"}), _HAS_ENDED, True),
    "run-now": _Rule(
        frozenset({"ready", "scheduled", "unlisted"}), {**_HAS_ENDED, "running": "runs already"}, True
    ),
    "duplicate": _Rule(frozenset({"running", "ready", "scheduled", "unlisted", "done", "failed"}), {}, True),
    "remove": _Rule(
        frozenset({"ready", "scheduled", "unlisted", "done", "failed"}),
        {"running": "runs: a job that runs is not removed, abort it"},
        False,
    ),
}


class JobVerbs:
    """Every verb returns what became of each job, in order.

    Raises UnknownQueueError, InvalidJobError (too many jobs), ReadOnlyError, RedisError.
    """

    def __init__(self, enqueueing: Enqueueing, audit: Audit) -> None:
        self._enqueueing = enqueueing
        self._audit = audit

    async def change(
        self, verb: Verb, queue: str, jobs: Sequence[JobRef], reason: str = ""
    ) -> list[JobChange]:
        """Apply one of the verbs below by its name."""
        verbs = {
            "abort": self.abort,
            "run-now": self.run_now,
            "duplicate": self.duplicate,
            "remove": self.remove,
        }
        return await verbs[verb](queue, jobs, reason)

    async def preview(self, verb: Verb, queue: str, jobs: Sequence[JobRef]) -> list[JobChange]:
        """Return what a verb would do; nothing is changed."""

        async def apply(batch: Sequence[FoundJob]) -> list[_Effect | None]:
            return [_Effect(str(job.state)) for job in batch]

        changes = await _Attempt(verb, self._enqueueing.queue(queue), apply).run(_distinct(jobs))
        return [changes[key] for key in dict.fromkeys(job.key for job in jobs)]

    async def abort(self, queue: str, jobs: Sequence[JobRef], reason: str = "") -> list[JobChange]:
        """End jobs that wait as aborted; ask the workers of those that run to cancel them."""
        target = self._enqueueing.queue(queue)
        cause = f"aborted by {self._audit.actor}{f': {reason}' if reason else ''}"

        async def apply(batch: Sequence[FoundJob]) -> list[_Effect | None]:
            done = await JobChanges(target).abort(batch, cause)
            messages = [
                "its worker is asked to abort it" if job.where == "running" else "aborted" for job in batch
            ]
            return [
                _Effect(message) if is_done else None for message, is_done in zip(messages, done, strict=True)
            ]

        return await self._change("abort", target, jobs, apply, reason)

    async def run_now(self, queue: str, jobs: Sequence[JobRef], reason: str = "") -> list[JobChange]:
        """Put jobs that wait, for their turn or for their time, at the head of their queue."""
        target = self._enqueueing.queue(queue)

        async def apply(batch: Sequence[FoundJob]) -> list[_Effect | None]:
            done = await JobChanges(target).run_now(batch)
            return [_Effect("at the head of its queue") if is_done else None for is_done in done]

        return await self._change("run-now", target, jobs, apply, reason)

    async def remove(self, queue: str, jobs: Sequence[JobRef], reason: str = "") -> list[JobChange]:
        """Remove jobs that wait or have ended, for good; their dead letters stay."""
        target = self._enqueueing.queue(queue)

        async def apply(batch: Sequence[FoundJob]) -> list[_Effect | None]:
            done = await JobChanges(target).remove(batch)
            return [_Effect("removed") if is_done else None for is_done in done]

        return await self._change("remove", target, jobs, apply, reason)

    async def duplicate(self, queue: str, jobs: Sequence[JobRef], reason: str = "") -> list[JobChange]:
        """Enqueue the same function with the same payload under a new key, ready at once."""
        target = self._enqueueing.queue(queue)

        async def apply(batch: Sequence[FoundJob]) -> list[_Effect | None]:
            copies = [_copy(target, job) for job in batch]
            results = await target.enqueue_many(copies)
            return [
                _Effect(f"enqueued once more as {copy.key}", copy.key)
                if result is EnqueueResult.ENQUEUED
                else None
                for copy, result in zip(copies, results, strict=True)
            ]

        return await self._change("duplicate", target, jobs, apply, reason)

    async def _change(
        self, verb: Verb, queue: JobQueue, jobs: Sequence[JobRef], apply: _Apply, reason: str
    ) -> list[JobChange]:
        refs = {job.key: job for job in _distinct(jobs)}
        keys = list(refs)
        arguments = {"queue": queue.name, "keys": keys[:_MAX_RECORDED_KEYS], "count": len(keys)}
        async with self._audit.record(verb, arguments, reason) as action:
            action.subject = keys[0] if len(keys) == 1 else None
            attempt = _Attempt(verb, queue, apply, action.count)
            changes: dict[str, JobChange] = {}
            for _ in range(_MAX_TRIES):
                changes |= await attempt.run(
                    [ref for key, ref in refs.items() if not _is_settled(changes.get(key))]
                )
                if all(map(_is_settled, changes.values())):
                    break
            changes |= {
                key: _with_moving_message(change)
                for key, change in changes.items()
                if not _is_settled(change)
            }
            action.affected = sum(change.outcome == "done" for change in changes.values())
            action.outcome = _summary(list(changes.values()))
            return [changes[key] for key in refs]


class _Attempt:
    """One reading of jobs, and the change of those that may be changed."""

    def __init__(
        self, verb: Verb, queue: JobQueue, apply: _Apply, count: Callable[[int], None] = lambda number: None
    ) -> None:
        self._verb = verb
        self._queue = queue
        self._apply = apply
        self._count = count

    async def run(self, refs: Sequence[JobRef]) -> dict[str, JobChange]:
        """Return what became of each job; one that moved since has no message, and may be tried again."""
        changes: dict[str, JobChange] = {}
        remaining = list(refs)
        reader = JobReader(self._queue.redis, self._queue.name)
        async for time, jobs in reader.find([ref.key for ref in refs]):
            batch, remaining = remaining[: len(jobs)], remaining[len(jobs) :]
            pairs = list(zip(batch, jobs, strict=True))
            refused = {ref.key: self._refusal(ref, job, time) for ref, job in pairs}
            changes |= {key: change for key, change in refused.items() if change is not None}
            allowed = [(ref.key, job) for ref, job in pairs if refused[ref.key] is None]
            effects = await self._apply([job for _, job in allowed]) if allowed else []
            for (key, job), effect in zip(allowed, effects, strict=True):
                changes[key] = self._result(key, effect, job)
            self._count(sum(effect is not None for effect in effects))
        return changes

    def _result(self, key: str, effect: _Effect | None, job: FoundJob) -> JobChange:
        name = self._queue.name
        if effect is None:
            return JobChange(name, key, "moved", "")
        return JobChange(name, key, "done", f"{key}: {effect.message}", effect.new_key, version_of(job))

    def _refusal(self, ref: JobRef, job: FoundJob, now: float) -> JobChange | None:
        """Return why a job is left as it is; None if it may be changed."""
        name, key = self._queue.name, ref.key
        rule = _RULES[self._verb]
        record = record_of(self._queue.policy, job, now)
        state = state_of(job, record)
        if job.state == "gone":
            return JobChange(name, key, "gone", f"{name} has no job {key!r}")
        if ref.version and ref.version != version_of(job):
            return JobChange(name, key, "moved", f"{key}: has moved since it was shown, and is {state} now")
        if state not in rule.states:
            return JobChange(name, key, "refused", f"{key}: {rule.refusals[state]}")
        if job.record_type not in ("string", "none") or (rule.needs_job and record.problem is not None):
            return JobChange(name, key, "refused", f"{key}: {record.problem}")
        return None


def _distinct(jobs: Sequence[JobRef]) -> list[JobRef]:
    """Return the jobs, each once.  Raises InvalidJobError."""
    named = {job.key: job for job in jobs}
    if len(named) > MAX_KEYS:
        raise InvalidJobError(f"keys: {len(named):,} jobs are more than {MAX_KEYS:,}")
    for key in named:
        check_key(key)
    return list(named.values())


def check_key(key: str) -> None:
    """Raises InvalidJobError for a key that no job can have."""
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidJobError("key: is not valid UTF-8") from None


def _is_settled(change: JobChange | None) -> bool:
    return change is not None and bool(change.message)


def _with_moving_message(change: JobChange) -> JobChange:
    return replace(change, message=f"{change.key}: moves from state to state: try it again")


def _summary(changes: Sequence[JobChange]) -> str:
    counts = {outcome: sum(change.outcome == outcome for change in changes) for outcome in _OUTCOMES}
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


_OUTCOMES: tuple[ChangeOutcome, ...] = ("done", "moved", "gone", "refused")


def _copy(queue: JobQueue, original: FoundJob) -> Job:
    """Return a new job with the function, the payload and the meta of another one, without its attempts."""
    record: dict[str, Any] = wire.load(original.record or b"")
    meta = record.get("meta")
    others = meta if isinstance(meta, dict) else {}
    return Job(
        function=record["function"],
        kwargs=record.get("kwargs"),
        key=new_job_key(),
        queue=queue,
        queued=now(),
        meta={**others, META: {COPY_OF: record["key"]}},
    )
