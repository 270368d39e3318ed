"""Dead letters and what is returned about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")
MAX_RELEASES = 20
"""Releases that a group names."""
ReplayResult = Literal["completed", "same", "other", "aborted"]
"""Result of a replayed job: it completed, died of the same error or of another, or was aborted."""


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A job that has failed for good, as it is recorded.

    ``uid`` makes recording idempotent.  ``job_id`` is SAQ's job key, ``job_data`` the job as SAQ writes it.
    ``attempt_errors`` has for each attempt: attempt, at (Unix seconds), worker, error_type, message,
    traceback, run_seconds, frame, release; and log, a list of lines, if it logged any.  ``replay_of`` is the
    id of the letter whose replay this job was.  ``release`` is that of the process that made the last
    attempt, None if it is unknown.
    """

    uid: str
    queue_name: str
    job_id: str
    function: str
    job_data: dict[str, Any]
    error_type: str
    error_message: str
    traceback: str | None
    fingerprint: str
    attempts: int
    attempt_errors: list[dict[str, Any]]
    worker: str | None
    enqueued_at: datetime | None
    failed_at: datetime
    replay_of: int | None
    release: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class QueuedDeadLetter(NewDeadLetter):
    """A letter that waits in Redis; ``replay_item`` is the item of the plan that ends with it, 0 for none."""

    replay_item: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter(NewDeadLetter):
    """A recorded letter.  ``state`` is ``dead``, ``replayed`` or ``discarded``.

    ``root_id`` is the first letter of its lineage, None if this is the first.  ``deaths`` counts how often in
    a row the lineage has died of this error.
    """

    id: int
    state: str
    replay_count: int
    replayed_at: datetime | None
    root_id: int | None
    deaths: int
    archived: bool = False


class LetterSummary(NamedTuple):
    """The columns of a letter that decide whether an operation may include it."""

    id: int
    state: str
    queue_name: str
    deaths: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """All letters of a filter that share a fingerprint.

    ``first_at`` is the first death of the fingerprint, also of a letter that was replayed since; if
    the filter names a time, the first within that.
    ``trend`` is the number of deaths in each of the last 24 hours, the oldest first; ``sample`` is the newest
    letter.  ``releases`` are those in which any letter of the fingerprint died, the newest letter's first; at
    most `MAX_RELEASES`.
    """

    fingerprint: str
    count: int
    first_at: datetime
    last_at: datetime
    trend: tuple[int, ...]
    sample: DeadLetter
    releases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; ``next`` is the cursor of the following page, None at the end."""

    items: list[T]
    next: str | None


class ReplayOutcome(NamedTuple):
    """How the job of a replayed letter ended; ``item_id`` is the item of the plan."""

    letter_id: int
    item_id: int
    ending: ReplayResult
