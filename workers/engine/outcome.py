"""What becomes of a job when an attempt has ended.  Decides; touches no server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from saq import Job, Status
from saq.utils import now

from couturecast_handlers import PermanentError
from storage.dead_letters.records import ReplayResult
from workers.engine import wire
from workers.engine.letter_encoding import (
    META,
    add_attempt,
    apart,
    attempts_of,
    dump_letter,
    failed_attempt,
    forget_tracebacks,
    make_letter,
    record_of,
    replay_of,
    unreadable_letter,
)
from workers.engine.policy import LARGE_BYTES, QueuePolicy
from workers.engine.queue import LeasedJob, Settlement
from workers.errors import RecordTooLargeError


def succeeded(taken: LeasedJob, job: Job, result: Any) -> Settlement:
    """The job completed with ``result``.  Raises TypeError where the result cannot be written as JSON."""
    job.status, job.result, job.error = Status.COMPLETE, result, None
    job.completed = now()
    job.progress = 1.0
    body = wire.dump(wire.job_dict(job))
    return Settlement(taken.id, taken.lease, "complete", body, letter=_replay_ended(job, "completed"))


def failed(
    taken: LeasedJob, job: Job, error: BaseException, *, policy: QueuePolicy, worker: str
) -> Settlement:
    """The attempt failed: a retry where the policy leaves one and ``error`` allows it, else a dead letter.

    ``job.attempts`` counts this attempt already.
    """
    ended = now()
    run_seconds = (ended - job.started) / 1000 if job.started else 0.0
    attempt = failed_attempt(
        error, number=job.attempts, at=ended / 1000, worker=worker, run_seconds=run_seconds
    )
    delay = None if isinstance(error, PermanentError) else policy.retry_delay(job.attempts)
    job.error = attempt["traceback"] or f"{attempt['error_type']}: {attempt['message']}"
    job.result = None
    if delay is None:
        letter = make_letter(job, [*attempts_of(job), attempt])
        job.status = Status.FAILED
        job.completed = ended
        body = wire.dump(wire.job_dict(job))
        large = len(body) >= LARGE_BYTES  # such a job is sent once, not a second time in its letter
        said = dump_letter(letter, apart=large)
        after: Literal["", "body"] = "body" if large else ""
        return Settlement(
            taken.id, taken.lease, "bury", body, letter_uid=letter.uid, letter=said, after=after
        )
    add_attempt(job, attempt)
    _make_ready(job, ended + round(delay * 1000))
    return Settlement(taken.id, taken.lease, "retry", wire.dump(wire.job_dict(job)), delay=delay)


def crashed(
    taken: LeasedJob, job: Job, error: BaseException, *, policy: QueuePolicy, worker: str
) -> Settlement:
    """The worker died during the attempt: back to the head of the queue at once, the attempt is charged."""
    if job.status == Status.ABORTING:
        return aborted(taken, job)
    if job.status != Status.ACTIVE:  # a record that says active counts this attempt already
        job.attempts += 1
    settlement = failed(taken, job, error, policy=policy, worker=worker)
    if settlement.verb == "retry":
        settlement.verb = "return"
    return settlement


def unreadable(taken: LeasedJob, queue: str, key: str, error: BaseException, *, worker: str) -> Settlement:
    """What was on the queue is no job: a dead letter keeps its bytes, which stay in Redis as they are."""
    attempt = failed_attempt(error, number=1, at=now() / 1000, worker=worker, run_seconds=0.0)
    letter = unreadable_letter(queue, key, taken.body, attempt)
    return Settlement(taken.id, taken.lease, "bury", b"", letter_uid=letter.uid, letter=dump_letter(letter))


def aborted(taken: LeasedJob, job: Job) -> Settlement:
    """Somebody wished the job to end, by SAQ's ``queue.abort``: neither a failure nor a dead letter."""
    job.status, job.result = Status.ABORTED, None
    job.completed = now()
    body, ended = wire.dump(wire.job_dict(job)), _replay_ended(job, "aborted")
    return Settlement(taken.id, taken.lease, "abort", body, abort_key=job.abort_id, letter=ended)


def put_back(taken: LeasedJob, *, cut: bool = False) -> Settlement:
    """To the head of its queue, as it was before it was taken: no attempt is charged.

    ``cut`` says that it ran and was broken off, and not only that it was not started any more.
    """
    return Settlement(taken.id, taken.lease, "return", taken.body, cut=cut)


def smaller(
    refused: Settlement, job: Job | None, why: str, *, policy: QueuePolicy, worker: str
) -> Settlement | None:
    """What to say in the place of a settlement that Redis refuses for its size, None for nothing.

    ``job`` is what a completed or retried one holds: it becomes a dead letter, where it is not our tracebacks
    that make it too large.  No job's data is lost: what is too large to be sent with its letter is taken from
    where the server stores it.
    """
    match refused.verb:
        case "return" if refused.body:
            return replace(refused, body=b"")
        case "abort" if (record := record_of(refused.body)) != refused.body:
            return replace(refused, body=record)
        case "bury" if refused.after != "stored":
            letter = refused.letter if refused.after else apart(refused.letter)
            record = record_of(refused.body) if refused.body else b""
            return replace(refused, body=record, letter=letter, after="stored")
        case "retry" if job is not None and forget_tracebacks(job):
            return replace(refused, body=wire.dump(wire.job_dict(job)))
        case "complete" | "retry" if job is not None:
            taken = LeasedJob(refused.id, refused.lease, b"")
            error = RecordTooLargeError(
                f"its record has {len(refused.body):,} bytes, which Redis refuses: {why}"
            )
            buried = failed(taken, job, error, policy=policy, worker=worker)
            return replace(buried, wait=refused.wait, run=refused.run, repeated=refused.repeated)
    return None


def running(taken: LeasedJob, job: Job) -> Settlement:
    """The job's record while it runs, for those who look."""
    return Settlement(taken.id, taken.lease, "mark", wire.dump(wire.job_dict(job)))


def _replay_ended(job: Job, how: ReplayResult) -> bytes:
    """What is noted where the job is a replay of a dead letter; a letter that it leaves says so itself."""
    ours = job.meta.get(META) if isinstance(job.meta, dict) else None
    origin = replay_of(ours)
    return b"" if origin is None else f"{origin[0]}:{origin[1]}:{how}".encode()


def _make_ready(job: Job, touched: int) -> None:
    job.status = Status.QUEUED
    job.completed = job.started = 0
    job.progress = 0.0
    job.worker_id = None
    job.touched = touched
