"""Attempts and dead letters: what is kept of a failure, from the job's own record to the table."""

from __future__ import annotations

import time
import traceback
import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from saq import Job

from storage.database.tables import MAX_ID
from storage.dead_letters.records import QueuedDeadLetter
from workers.engine import wire
from workers.engine.fingerprint import fingerprint, handler_frame
from workers.engine.recorded_names import error_type

META = "couturecast"
"""Our part of a job's ``meta``: ``attempts`` (the failed ones), ``replay_of`` and ``replay`` (the ids of a
dead letter and of a plan's item)."""

_APART = b"\n"
"""Between a letter and a job that follows it; JSON of ours has none."""
_NO_JOB = "?"
"""The function of something that is no job."""
_MAX_TRACEBACK = 8_000  # characters kept of each attempt's traceback: the end, where the error is
_MAX_MESSAGE = 2_000
_ATTEMPT: dict[str, Any] = {
    "attempt": int,
    "at": (int, float),
    "worker": str,
    "error_type": str,
    "message": str,
    "traceback": (str, type(None)),
    "frame": (str, type(None)),  # records of earlier versions have none
    "run_seconds": (int, float),
}
"""The fields of an attempt's record and their types."""


def failed_attempt(
    error: BaseException, *, number: int, at: float, worker: str, run_seconds: float
) -> dict[str, Any]:
    """The record of one failed attempt; ``at`` in Unix seconds."""
    trace = "".join(traceback.format_exception(error)) if error.__traceback__ else None
    return {
        "attempt": number,
        "at": at,
        "worker": worker,
        "error_type": error_type(error),
        "message": (str(error) or error_type(error))[:_MAX_MESSAGE],
        "traceback": trace
        if trace is None or len(trace) <= _MAX_TRACEBACK
        else "…" + trace[-_MAX_TRACEBACK:],
        "frame": handler_frame(error),
        "run_seconds": round(run_seconds, 6),
    }


def attempts_of(job: Job) -> list[dict[str, Any]]:
    """The failed attempts that the job's record holds; what others wrote in their place counts as none."""
    ours = job.meta.get(META) if isinstance(job.meta, dict) else None
    found = ours.get("attempts") if isinstance(ours, dict) else None
    if not isinstance(found, list) or not all(map(_is_attempt, found)):
        return []
    return [dict(attempt) for attempt in found]


def _is_attempt(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), kinds) for name, kinds in _ATTEMPT.items()
    )


def add_attempt(job: Job, attempt: dict[str, Any]) -> None:
    """Put one more failed attempt into the job's record."""
    meta = job.meta if isinstance(job.meta, dict) else {}
    ours = meta.get(META)
    job.meta = {
        **meta,
        META: {**(ours if isinstance(ours, dict) else {}), "attempts": [*attempts_of(job), attempt]},
    }


def forget_tracebacks(job: Job) -> bool:
    """Leave of each failed attempt in the record only what happened; False where there is no more."""
    attempts = attempts_of(job)
    if not any(attempt["traceback"] for attempt in attempts):
        return False
    job.meta[META]["attempts"] = [attempt | {"traceback": None} for attempt in attempts]
    job.error = f"{attempts[-1]['error_type']}: {attempts[-1]['message']}"
    return True


def make_letter(job: Job, attempts: list[dict[str, Any]]) -> QueuedDeadLetter:
    """The dead letter of a job that failed for good; the last of ``attempts`` is what it died of."""
    ours = job.meta.get(META) if isinstance(job.meta, dict) else None
    origin, item = replay_of(ours) or (None, 0)
    data = wire.job_dict(job)
    return _letter(
        queue=job.get_queue().name,
        job_id=job.key,
        function=job.function,
        data=_without_ours(data),
        attempts=attempts,
        enqueued_at=_instant(job.queued),
        replay_of=origin,
        replay_item=item,
    )


def replay_of(ours: Any) -> tuple[int, int] | None:
    """The letter and the plan's item that a job is a replay of; ``ours`` may be anyone's, and anything."""
    if not isinstance(ours, dict):
        return None
    origin, item = ours.get("replay_of"), ours.get("replay", 0)
    if type(origin) is not int or type(item) is not int or not (0 < origin <= MAX_ID and 0 <= item <= MAX_ID):
        return None
    return origin, item


def unreadable_letter(queue: str, job_id: str, body: bytes, attempt: dict[str, Any]) -> QueuedDeadLetter:
    """The dead letter of something on a queue that is no job; its bytes are kept as they came."""
    return _letter(
        queue=queue,
        job_id=job_id,
        function=_NO_JOB,
        data=_unread(body),
        attempts=[attempt],
        enqueued_at=None,
        replay_of=None,
    )


def _without_ours(data: dict[str, Any]) -> dict[str, Any]:
    """A job as its letter keeps it: our part of its meta, and its error, are the letter's own."""
    meta = data.pop("meta", None)
    rest = {key: value for key, value in meta.items() if key != META} if isinstance(meta, dict) else None
    data.pop("error", None)
    return data | {"meta": rest} if rest else data


def dump_letter(letter: QueuedDeadLetter, *, apart: bool = False) -> bytes:
    """A letter as it waits in Redis; ``apart`` from its job, whose bytes are to follow it."""
    said = {field.name: getattr(letter, field.name) for field in fields(letter)}
    said["enqueued_at"] = letter.enqueued_at and letter.enqueued_at.timestamp()
    said["failed_at"] = letter.failed_at.timestamp()
    if not apart:
        return wire.dump(said)
    del said["job_data"]
    return wire.dump(said) + _APART


def load_letter(body: bytes, uid: str) -> QueuedDeadLetter:
    """The letter that `dump_letter` wrote; what cannot be read (another version wrote it) is kept as text."""
    try:
        return _load_letter(body)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError) as error:
        attempt = failed_attempt(error, number=1, at=time.time(), worker="", run_seconds=0.0)
        return replace(unreadable_letter(_NO_JOB, _NO_JOB, body, attempt), uid=uid)


def _load_letter(body: bytes) -> QueuedDeadLetter:
    head, _, job = body.partition(_APART)
    said = wire.load(head)
    enqueued_at = said["enqueued_at"]
    said["enqueued_at"] = None if enqueued_at is None else datetime.fromtimestamp(enqueued_at, UTC)
    said["failed_at"] = datetime.fromtimestamp(said["failed_at"], UTC)
    if "job_data" not in said:
        said["job_data"] = _unread(job) if said["function"] == _NO_JOB else _job_data(job)
    return QueuedDeadLetter(**said)


def _job_data(job: bytes) -> dict[str, Any]:
    """The job that follows its letter, without how it ended, or that it waits for its next attempt."""
    try:
        data = wire.load(job)
        for name in ("status", "completed", "result", "scheduled"):
            data.pop(name, None)
        return _without_ours(data)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return _unread(job)


def _unread(body: bytes) -> dict[str, Any]:
    return {"unreadable": body.decode("utf-8", "backslashreplace")}


def apart(letter: bytes) -> bytes:
    """The letter of something that is no job, without its bytes."""
    said = wire.load(letter)
    said.pop("job_data", None)
    return wire.dump(said) + _APART


def record_of(body: bytes) -> bytes:
    """What is left of an ended job's record where it is too large: all but its arguments and its meta."""
    job = {key: value for key, value in wire.load(body).items() if key not in ("kwargs", "meta", "result")}
    return wire.dump(job | {"error": str(job.get("error") or "")[-_MAX_TRACEBACK:]})


def _instant(milliseconds: Any) -> datetime | None:
    """A producer's time, which may be anything."""
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
    )
