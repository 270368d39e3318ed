"""Decides how a job is settled when an attempt has ended; touches no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from saq import Job, Status
from saq.utils import now

from couturecast_handlers import PermanentError
from storage.dead_letters.records import ReplayResult
from workers.engine import wire
from workers.engine.attempts import (
    add_attempt,
    attempts_of,
    drop_tracebacks,
    failed_attempt,
    our_meta,
    replay_origin,
)
from workers.engine.letter_encoding import (
    encode_letter,
    make_letter,
    minimal_record,
    unreadable_letter,
    without_job,
)
from workers.engine.policy import LARGE_BYTES, QueuePolicy
from workers.engine.remote_error import RemoteError
from workers.engine.settlement import LeasedJob, LetterPayload, Settlement
from workers.errors import RecordTooLargeError


def settle_success(leased: LeasedJob, job: Job, result: Any) -> Settlement:
    """Complete the job with ``result``.  Raises TypeError if the result cannot be written as JSON."""
    job.status, job.result, job.error = Status.COMPLETE, result, None
    job.completed = now()
    job.progress = 1.0
    body, outcome = wire.dump(wire.job_dict(job)), _replay_outcome(job, "completed")
    return Settlement(leased.id, leased.lease, "complete", body, replay_outcome=outcome)


def settle_failure(
    leased: LeasedJob,
    job: Job,
    error: BaseException,
    *,
    policy: QueuePolicy,
    worker: str,
    release: str | None = None,
    log: Sequence[str] = (),
) -> Settlement:
    """Settle a failed attempt: a retry if policy and ``error`` allow one, else a dead letter.

    ``job.attempts`` counts this attempt already.  ``release`` is that of the worker, None if it is unknown.
    ``log`` has the last lines that its handler logged.
    """
    ended_ms = now()
    run_seconds = (ended_ms - job.started) / 1000 if job.started else 0.0
    attempt = failed_attempt(
        error,
        number=job.attempts,
        failed_at=ended_ms / 1000,
        worker=worker,
        run_seconds=run_seconds,
        release=release,
    )
    permanent = isinstance(error, PermanentError) or (isinstance(error, RemoteError) and error.permanent)
    delay = None if permanent else policy.retry_delay(job.attempts)
    job.error = attempt["traceback"] or f"{attempt['error_type']}: {attempt['message']}"
    job.result = None
    if log:
        attempt["log"] = list(log)
    if delay is None:
        return _bury(leased, job, attempt, ended_ms)
    add_attempt(job, attempt)
    _reset_for_retry(job, ended_ms + round(delay * 1000))
    return Settlement(leased.id, leased.lease, "retry", wire.dump(wire.job_dict(job)), delay=delay)


def worker_died(
    leased: LeasedJob,
    job: Job,
    error: BaseException,
    *,
    policy: QueuePolicy,
    worker: str,
    release: str | None = None,
) -> Settlement:
    """Settle an attempt whose worker died: back to the head of the queue at once, the attempt is charged."""
    if job.status == Status.ABORTING:
        return settle_abort(leased, job)
    if job.status != Status.ACTIVE:  # an active record counts this attempt already
        job.attempts += 1
    settlement = settle_failure(leased, job, error, policy=policy, worker=worker, release=release)
    settlement.lost = True
    if settlement.verb == "retry":
        settlement.verb = "return"
    return settlement


def unreadable(
    leased: LeasedJob,
    queue: str,
    key: str,
    error: BaseException,
    *,
    worker: str,
    release: str | None = None,
) -> Settlement:
    """Bury something on the queue that is not a job: a dead letter keeps its bytes, and so does Redis."""
    attempt = failed_attempt(
        error, number=1, failed_at=now() / 1000, worker=worker, run_seconds=0.0, release=release
    )
    letter = unreadable_letter(queue, key, leased.body, attempt)
    return Settlement(
        leased.id, leased.lease, "bury", b"", letter_uid=letter.uid, letter=encode_letter(letter)
    )


def settle_abort(leased: LeasedJob, job: Job) -> Settlement:
    """Settle a job for which SAQ's ``queue.abort`` was called: neither a failure nor a dead letter."""
    job.status, job.result = Status.ABORTED, None
    job.completed = now()
    body, outcome = wire.dump(wire.job_dict(job)), _replay_outcome(job, "aborted")
    return Settlement(leased.id, leased.lease, "abort", body, abort_key=job.abort_id, replay_outcome=outcome)


def give_back(leased: LeasedJob, *, interrupted: bool = False) -> Settlement:
    """Return the job to the head of its queue as it was before it was taken: no attempt is charged.

    ``interrupted``: its attempt had begun.
    """
    return Settlement(leased.id, leased.lease, "return", leased.body, interrupted=interrupted)


def progress_update(leased: LeasedJob, job: Job) -> Settlement:
    """Store the job's record while it runs, for screens and producers that read it."""
    return Settlement(leased.id, leased.lease, "update", wire.dump(wire.job_dict(job)))


def shrink(
    settlement: Settlement,
    job: Job | None,
    error: str,
    *,
    policy: QueuePolicy,
    worker: str,
    release: str | None,
) -> Settlement | None:
    """Return the next smaller form of a settlement that Redis refuses for its size, or None.

    No job's data is lost: what is too large to be sent is taken from where the server stores it.

    ===================  ====================================================================
    refused              sent again
    ===================  ====================================================================
    return               without the body: the stored record stays as it is
    abort                with the minimal record
    bury                 with the minimal record; the letter's job AS_STORED
    retry                without the tracebacks of the failed attempts
    retry, complete      buried, since the record itself is too large: RecordTooLargeError
    ===================  ====================================================================

    ``job`` is the job of a completed or retried one.
    """
    match settlement.verb:
        case "return" if settlement.body:
            return replace(settlement, body=b"")
        case "abort" if (record := minimal_record(settlement.body)) != settlement.body:
            return replace(settlement, body=record)
        case "bury" if settlement.letter_payload is not LetterPayload.AS_STORED:
            is_inline = settlement.letter_payload is LetterPayload.INLINE
            letter = without_job(settlement.letter) if is_inline else settlement.letter
            record = minimal_record(settlement.body) if settlement.body else b""
            return replace(settlement, body=record, letter=letter, letter_payload=LetterPayload.AS_STORED)
        case "retry" if job is not None and drop_tracebacks(job):
            return replace(settlement, body=wire.dump(wire.job_dict(job)))
        case "complete" | "retry" if job is not None:
            return _bury_refused(settlement, job, error, policy=policy, worker=worker, release=release)
    return None


def _bury_refused(
    settlement: Settlement, job: Job, reason: str, *, policy: QueuePolicy, worker: str, release: str | None
) -> Settlement:
    size = len(settlement.body)
    error = RecordTooLargeError(f"its record has {size:,} bytes, which Redis refuses: {reason}")
    leased = LeasedJob(settlement.id, settlement.lease, b"")
    buried = settle_failure(leased, job, error, policy=policy, worker=worker, release=release)
    return replace(
        buried,
        wait_seconds=settlement.wait_seconds,
        run_seconds=settlement.run_seconds,
        resent=settlement.resent,
    )


def _bury(leased: LeasedJob, job: Job, attempt: dict[str, Any], ended_ms: int) -> Settlement:
    letter = make_letter(job, [*attempts_of(job), attempt])
    job.status = Status.FAILED
    job.completed = ended_ms
    body = wire.dump(wire.job_dict(job))
    is_large = len(body) >= LARGE_BYTES  # such a job is sent once, not a second time in its letter
    return Settlement(
        leased.id,
        leased.lease,
        "bury",
        body,
        letter_uid=letter.uid,
        letter=encode_letter(letter, include_job=not is_large),
        letter_payload=LetterPayload.BODY_FOLLOWS if is_large else LetterPayload.INLINE,
    )


def _replay_outcome(job: Job, result: ReplayResult) -> bytes:
    """Return the outcome of a job that is a replay, else empty: a job that died has its letter."""
    origin = replay_origin(our_meta(job))
    return b"" if origin is None else f"{origin[0]}:{origin[1]}:{result}".encode()


def _reset_for_retry(job: Job, touched: int) -> None:
    job.status = Status.QUEUED
    job.completed = job.started = 0
    job.progress = 0.0
    job.worker_id = None
    job.touched = touched
