"""Dead letters as rows that the databases accept."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from storage.database.tables import MAX_ID
from storage.dead_letters.records import NewDeadLetter, QueuedDeadLetter
from storage.sanitize import sanitize

_MAX_ATTEMPTS = 2**31 - 1
_INDEXED = ("queue_name", "function", "fingerprint", "error_type")
_MAX_INDEXED_CHARS = 200
"""Characters of each of these, also in the migrations: on Postgres an index entry has 2,700 bytes."""
_MAX_SANITIZED_CHARS = {
    "job_id": 2_000,
    "error_message": 2_000,
    "traceback": 8_000,
    "worker": 200,
    "release": 200,
}
_MAX_SANITIZED_JOB_CHARS = 100_000
_NULLABLE = ("traceback", "worker", "release")


def to_row(letter: NewDeadLetter) -> dict[str, Any]:
    """Return the columns of a letter, and its ``replay_item``.

    Indexed names are shortened; the job keeps them whole.
    """
    row = sanitize({field.name: getattr(letter, field.name) for field in fields(NewDeadLetter)})
    replay_of = row["replay_of"]
    if type(replay_of) is not int or abs(replay_of) > MAX_ID:  # any program can write a job's meta
        row["replay_of"] = None
    attempts = letter.attempts if isinstance(letter.attempts, int) else 0
    row["replay_item"] = letter.replay_item if isinstance(letter, QueuedDeadLetter) else 0
    row["attempts"] = max(-_MAX_ATTEMPTS, min(attempts, _MAX_ATTEMPTS))
    for name in (*_INDEXED, "release"):
        row[name] = _shorten(row[name]) if isinstance(row[name], str) else row[name]
    if isinstance(row["uid"], str) and len(row["uid"]) > _MAX_INDEXED_CHARS:
        row["uid"] = _digest(row["uid"])
    return row


def sanitized_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that every database accepts, for one that was refused: short texts of ASCII alone."""
    texts: dict[str, str | None] = {name: _shorten(_ascii(row[name]), mark="...") for name in _INDEXED}
    for name, max_chars in _MAX_SANITIZED_CHARS.items():
        is_null = row[name] is None and name in _NULLABLE
        texts[name] = None if is_null else _shorten(_ascii(row[name]), max_chars, mark="...")
    uid = str(row["uid"])
    failed_at = row["failed_at"] if isinstance(row["failed_at"], datetime) else datetime.now(UTC)
    return (
        row
        | texts
        | {
            "uid": uid if uid.isascii() and uid.isprintable() else _digest(uid),
            "job_data": {"unreadable": _ascii(repr(row["job_data"]))[:_MAX_SANITIZED_JOB_CHARS]},
            "attempt_errors": [],
            "enqueued_at": None,
            "failed_at": failed_at if failed_at.tzinfo is not None else failed_at.replace(tzinfo=UTC),
        }
    )


def _shorten(text: str, max_chars: int = _MAX_INDEXED_CHARS, mark: str = "…") -> str:
    return text if len(text) <= max_chars else text[: max_chars - len(mark)] + mark


def _ascii(value: Any) -> str:
    return sanitize(str(value)).encode("ascii", "backslashreplace").decode()


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode("utf-8", "backslashreplace")).hexdigest()
