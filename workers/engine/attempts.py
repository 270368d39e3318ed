"""Our part of a job's record: its failed attempts, and the dead letter that it is a replay of."""

from __future__ import annotations

import traceback
from typing import Any

from saq import Job

from storage.database.tables import MAX_ID
from workers.engine.fingerprint import handler_frame
from workers.engine.recorded_names import error_type
from workers.engine.remote_error import RemoteError

META = "couturecast"
"""Our part of a job's ``meta``: ``attempts`` (the failed ones), ``schedule``, ``replay_of`` (id of a dead
letter), ``replay`` (id of a plan's item), ``copy_of`` (key of the job that was duplicated)."""
COPY_OF, SCHEDULE = "copy_of", "schedule"

MAX_TRACEBACK_CHARS = 8_000
"""Kept of each attempt's traceback: its end, which has the error."""
_MAX_MESSAGE_CHARS = 2_000
_MAX_TYPE_CHARS = 200
_ATTEMPT_FIELDS: dict[str, Any] = {
    "attempt": int,
    "at": (int, float),
    "worker": str,
    "error_type": str,
    "message": str,
    "log": (list, type(None)),  # only if its handler logged something
    "traceback": (str, type(None)),
    "frame": (str, type(None)),  # records of earlier versions have none, and no release
    "run_seconds": (int, float),
    "release": (str, type(None)),
}
"""The types of the fields of an attempt's record."""


def failed_attempt(
    error: BaseException,
    *,
    number: int,
    failed_at: float,
    worker: str,
    run_seconds: float,
    release: str | None = None,
) -> dict[str, Any]:
    """Return the record of a failed attempt; ``failed_at`` in Unix seconds, ``release`` of its worker."""
    if isinstance(error, RemoteError):
        trace = error.traceback
    else:
        trace = "".join(traceback.format_exception(error)) if error.__traceback__ else None
    if trace is not None and len(trace) > MAX_TRACEBACK_CHARS:
        trace = "…" + trace[-MAX_TRACEBACK_CHARS:]
    return {
        "attempt": number,
        "at": failed_at,
        "worker": worker,
        "error_type": error_type(error)[:_MAX_TYPE_CHARS],
        "message": (str(error) or error_type(error))[:_MAX_MESSAGE_CHARS],
        "traceback": trace,
        "frame": handler_frame(error),
        "run_seconds": round(run_seconds, 6),
        "release": release,
    }


def our_meta(job: Job) -> Any:
    """Return our part of the job's meta, which other programs may have written; None if it has none."""
    return job.meta.get(META) if isinstance(job.meta, dict) else None


def attempts_of(job: Job) -> list[dict[str, Any]]:
    """Return the failed attempts in the job's record; none if another program wrote something else there."""
    return checked_attempts(our_meta(job))


def checked_attempts(our_part: Any) -> list[dict[str, Any]]:
    """Return the failed attempts in our part of a job's meta; ``ours`` may be anything: see `our_meta`."""
    attempts = our_part.get("attempts") if isinstance(our_part, dict) else None
    if not isinstance(attempts, list) or not all(map(_is_attempt, attempts)):
        return []
    return [dict(attempt) for attempt in attempts]


def _is_attempt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name), kinds) for name, kinds in _ATTEMPT_FIELDS.items())
        and all(isinstance(line, str) for line in value.get("log") or ())
    )


def add_attempt(job: Job, attempt: dict[str, Any]) -> None:
    """Add one more failed attempt to the job's record."""
    meta = job.meta if isinstance(job.meta, dict) else {}
    our_part = meta.get(META)
    job.meta = {
        **meta,
        META: {**(our_part if isinstance(our_part, dict) else {}), "attempts": [*attempts_of(job), attempt]},
    }


def drop_tracebacks(job: Job) -> bool:
    """Remove tracebacks and logs of the failed attempts from the record; False if it has none."""
    attempts = attempts_of(job)
    if not any(attempt["traceback"] or attempt.get("log") for attempt in attempts):
        return False
    job.meta[META]["attempts"] = [attempt | {"traceback": None, "log": None} for attempt in attempts]
    job.error = f"{attempts[-1]['error_type']}: {attempts[-1]['message']}"
    return True


def replay_origin(our_part: Any) -> tuple[int, int] | None:
    """Return the letter and the plan's item that a job is a replay of.

    ``ours`` may be anything: see `our_meta`.
    """
    if not isinstance(our_part, dict):
        return None
    letter, item = our_part.get("replay_of"), our_part.get("replay", 0)
    if type(letter) is not int or type(item) is not int or not (0 < letter <= MAX_ID and 0 <= item <= MAX_ID):
        return None
    return letter, item
