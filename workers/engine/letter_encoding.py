"""Dead letters on their way from a job, through Redis, to the table."""

from __future__ import annotations

import time
import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from saq import Job

from storage.dead_letters.records import QueuedDeadLetter
from workers.engine import wire
from workers.engine.attempts import MAX_TRACEBACK_CHARS, META, failed_attempt, our_meta, replay_origin
from workers.engine.fingerprint import fingerprint

_SEPARATOR = b"\n"
"""Between a letter and the job that follows it; our JSON has none."""
_NO_JOB = "?"
"""The function of something that is not a job."""


def make_letter(job: Job, attempts: list[dict[str, Any]]) -> QueuedDeadLetter:
    """Return the dead letter of a job that failed for good.

    The last of ``attempts`` has the error it died of.
    """
    replay_of, item = replay_origin(our_meta(job)) or (None, 0)
    return _letter(
        queue=job.get_queue().name,
        job_id=job.key,
        function=job.function,
        data=_without_ours(wire.job_dict(job)),
        attempts=attempts,
        enqueued_at=_from_millis(job.queued),
        replay_of=replay_of,
        replay_item=item,
    )


def unreadable_letter(queue: str, job_id: str, body: bytes, attempt: dict[str, Any]) -> QueuedDeadLetter:
    """Return the dead letter of something on a queue that is not a job; its bytes are kept as they came."""
    return _letter(
        queue=queue,
        job_id=job_id,
        function=_NO_JOB,
        data=_unreadable_job(body),
        attempts=[attempt],
        enqueued_at=None,
        replay_of=None,
    )


def encode_letter(letter: QueuedDeadLetter, *, include_job: bool = True) -> bytes:
    """Return a letter as it waits in Redis; without its job if the bytes of that are to follow it."""
    values = {field.name: getattr(letter, field.name) for field in fields(letter)}
    del values["release"]  # the last attempt has it; earlier versions read no letter with another field
    values["enqueued_at"] = letter.enqueued_at and letter.enqueued_at.timestamp()
    values["failed_at"] = letter.failed_at.timestamp()
    if include_job:
        return wire.dump(values)
    del values["job_data"]
    return wire.dump(values) + _SEPARATOR


def without_job(letter: bytes) -> bytes:
    """Return the encoded letter of something that is not a job, without its bytes."""
    values = wire.load(letter)
    values.pop("job_data", None)
    return wire.dump(values) + _SEPARATOR


def minimal_record(body: bytes) -> bytes:
    """Return what is kept of an ended job's record that is too large: no arguments, meta and result."""
    job = {key: value for key, value in wire.load(body).items() if key not in ("kwargs", "meta", "result")}
    return wire.dump(job | {"error": str(job.get("error") or "")[-MAX_TRACEBACK_CHARS:]})


def decode_letter(body: bytes, uid: str) -> QueuedDeadLetter:
    """Return the letter that `encode_letter` wrote.

    A letter of another version that cannot be read is kept as text.
    """
    try:
        return _decode_letter(body)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError) as error:
        attempt = failed_attempt(error, number=1, failed_at=time.time(), worker="", run_seconds=0.0)
        return replace(unreadable_letter(_NO_JOB, _NO_JOB, body, attempt), uid=uid)


def _decode_letter(body: bytes) -> QueuedDeadLetter:
    head, _, job = body.partition(_SEPARATOR)
    values = wire.load(head)
    enqueued_at = values["enqueued_at"]
    values["enqueued_at"] = None if enqueued_at is None else datetime.fromtimestamp(enqueued_at, UTC)
    values["failed_at"] = datetime.fromtimestamp(values["failed_at"], UTC)
    if "job_data" not in values:
        values["job_data"] = _unreadable_job(job) if values["function"] == _NO_JOB else _job_data(job)
    values["release"] = _release(values["attempt_errors"])
    return QueuedDeadLetter(**values)


def _job_data(job: bytes) -> dict[str, Any]:
    """Return the job that follows its letter, without the fields about its end or when it is due."""
    try:
        data = wire.load(job)
        for name in ("status", "completed", "result", "scheduled"):
            data.pop(name, None)
        return _without_ours(data)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return _unreadable_job(job)


def _without_ours(data: dict[str, Any]) -> dict[str, Any]:
    """Return a job as its letter keeps it: our part of its meta, and its error, are fields of the letter."""
    meta = data.pop("meta", None)
    others = {key: value for key, value in meta.items() if key != META} if isinstance(meta, dict) else None
    data.pop("error", None)
    return data | {"meta": others} if others else data


def _unreadable_job(body: bytes) -> dict[str, Any]:
    return {"unreadable": body.decode("utf-8", "backslashreplace")}


def _from_millis(milliseconds: Any) -> datetime | None:
    """Return a producer's time, which may be anything; None if it is not a time."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _letter(
    *,
    queue: str,
    job_id: str,
    function: str,
    data: dict[str, Any],
    attempts: list[dict[str, Any]],
    enqueued_at: datetime | None,
    replay_of: int | None,
    replay_item: int = 0,
) -> QueuedDeadLetter:
    last = attempts[-1]
    return QueuedDeadLetter(
        uid=uuid.uuid4().hex,
        queue_name=queue,
        job_id=job_id,
        function=function,
        job_data=data,
        error_type=last["error_type"],
        error_message=last["message"],
        traceback=last["traceback"],
        fingerprint=fingerprint(queue, function, last["error_type"], last["message"], last.get("frame")),
        attempts=last["attempt"],
        attempt_errors=attempts,
        worker=last["worker"],
        enqueued_at=enqueued_at,
        failed_at=datetime.fromtimestamp(last["at"], UTC),
        replay_of=replay_of,
        replay_item=replay_item,
        release=_release(attempts),
    )


def _release(attempts: Any) -> str | None:
    """Return the release of the last attempt; None if another version, or another program, wrote none."""
    last = attempts[-1] if isinstance(attempts, list) and attempts else None
    release = last.get("release") if isinstance(last, dict) else None
    return release if isinstance(release, str) else None
