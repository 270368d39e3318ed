"""A job's record, as any producer may have written it, in values that can be shown.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from storage.sanitize import sanitize
from workers.engine import wire
from workers.engine.attempts import COPY_OF, META, SCHEDULE, checked_attempts, replay_origin

_AHEAD_SECONDS = 1.0
"""An instant that is further ahead of the server's clock than this was not written by that clock."""
_LARGE = ("kwargs", "result", "meta")
_MAX_ATTEMPTS = 1_000_000
_MAX_SHOWN_CHARS = 10_000
"""Characters that are shown of bytes that are not a job."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The fields of a record; None or empty if it has none that is valid.

    ``problem`` is why it is not a job.  ``queued`` is an instant by its producer's clock, ``started`` and
    ``completed`` by its worker's.  An instant ahead of the server's clock is left out.
    """

    problem: str | None = None
    unreadable: str | None = None
    """The bytes of what is not a job."""
    function: str | None = None
    status: str | None = None
    arguments: Any = None
    result: Any = None
    error: str | None = None
    attempts: int = 0
    progress: float | None = None
    worker: str | None = None
    queued: datetime | None = None
    started: datetime | None = None
    """When its newest attempt began."""
    completed: datetime | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Without our part of it."""
    failed_attempts: Sequence[Mapping[str, Any]] = ()
    replay_of: int | None = None
    """Id of the dead letter of which the job is a replay."""
    copy_of: str | None = None
    """Key of the job of which it is a duplicate."""
    schedule: str | None = None
    """Name of the schedule that enqueued it."""
    traced: bool = False
    """Whether one of our producers enqueued it: only those leave a trace."""


def read_record(
    body: bytes | None, record_type: str, key: str, now: float, *, whole: bool = True
) -> JobRecord:
    """Return the record of a job; ``record_type`` as in `FoundJob`, ``now`` in Unix seconds of the server.

    ``whole``: with arguments, result, meta and failed attempts, which may take long: a list does without.
    """
    if record_type == "foreign":
        return JobRecord("not a job: its id is none of this queue")
    if body is None:
        problem = "the job's data is gone from Redis"
        return JobRecord(problem if record_type == "none" else f"not a job: its key is a {record_type}")
    try:
        value = wire.load(body)
    except (ValueError, RecursionError):
        return JobRecord("not a job: not JSON", _text(body))
    if not isinstance(value, dict):
        return JobRecord("not a job: no JSON object", _text(body))
    if not whole:
        value = {name: item for name, item in value.items() if name not in _LARGE} | {
            "kwargs": {} if isinstance(value.get("kwargs"), dict | None) else 0
        }
    value = sanitize(value)
    return _record(value, _problem(value, key), now)


def _problem(value: Mapping[str, Any], key: str) -> str | None:
    if not isinstance(value.get("function"), str):
        return "not a job: no function"
    if value.get("key") != key:
        return "not a job: its key is another one than that of its id"
    if not isinstance(value.get("kwargs"), dict | None):
        return "not a job: kwargs is no object"
    return None


def _record(value: Mapping[str, Any], problem: str | None, now: float) -> JobRecord:
    meta = value.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    our_part = meta.get(META)
    origin = replay_origin(our_part)
    parts = our_part if isinstance(our_part, dict) else {}
    return JobRecord(
        problem=problem,
        function=_string(value.get("function")),
        status=_string(value.get("status")) or "new",
        arguments={} if value.get("kwargs") is None else value["kwargs"],
        result=value.get("result"),
        error=_string(value.get("error")),
        attempts=_count(value.get("attempts")),
        progress=_share(value.get("progress")),
        worker=_string(value.get("worker_id")),
        queued=_instant(value.get("queued"), now),
        started=_instant(value.get("started"), now),
        completed=_instant(value.get("completed"), now),
        meta={name: item for name, item in meta.items() if name != META},
        failed_attempts=checked_attempts(our_part),
        replay_of=None if origin is None else origin[0],
        copy_of=_string(parts.get(COPY_OF)),
        schedule=_string(parts.get(SCHEDULE)),
        traced="trace" in parts,
    )


def _text(body: bytes) -> str:
    text = body[: _MAX_SHOWN_CHARS + 1].decode("utf-8", "backslashreplace")
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 1]}…"


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _MAX_ATTEMPTS else 0


def _share(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 < value <= 1 else None


def _instant(milliseconds: Any, now: float) -> datetime | None:
    if type(milliseconds) not in (int, float) or not 0 < milliseconds <= (now + _AHEAD_SECONDS) * 1000:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
