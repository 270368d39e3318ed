"""Pages of jobs over several queues, each read as a window: never a whole list.

A page goes from section to section.  Jobs that run, wait for a time or have ended are one section over all
queues, in one order.  Ready jobs are a section for each queue, in the order of their start.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from storage.errors import InvalidCursorError
from workers.engine.job_reader import FoundJob, JobReader, WindowState

INCOMPLETE: tuple[WindowState, ...] = ("running", "ready", "scheduled")
"""The states of a list if none is named."""
_NEWEST_FIRST: tuple[WindowState, ...] = ("done", "failed")


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A queue of a section, and the job behind which its window begins: id and place; empty at its start."""

    queue: str
    after: bytes = b""
    at: bytes = b""

    @classmethod
    def parse(cls, queue: str, after: str, score: str, *, is_whole: bool) -> QueuePosition:
        """Parse what a cursor has; ``is_whole``: its place is a whole number.  Raises ValueError."""
        float(score or 0)
        if bool(after) != bool(score) or (is_whole and not (score or "0").isdecimal()):
            raise ValueError(score)
        return cls(queue, after.encode("latin-1"), score.encode("latin-1"))


@dataclass(frozen=True, slots=True)
class Position:
    """The beginning of a page: the rest of a section, and the sections after it."""

    state: WindowState
    queues: tuple[QueuePosition, ...]
    following: tuple[tuple[WindowState, tuple[str, ...]], ...] = ()

    def cursor(self) -> str:
        """Return its form as `next` of a page."""
        positions = [
            [position.queue, position.after.decode("latin-1"), position.at.decode("latin-1")]
            for position in self.queues
        ]
        text = json.dumps([self.state, positions])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def restrict_to(self, queues: Collection[str]) -> Position | None:
        """Return this position without other queues than these; None if nothing is left."""
        positions = tuple(position for position in self.queues if position.queue in queues)
        sections = (
            (state, tuple(name for name in names if name in queues)) for state, names in self.following
        )
        section = Position(self.state, positions, tuple((state, names) for state, names in sections if names))
        return section if positions else section.next_section()

    def next_section(self) -> Position | None:
        """Return the beginning of the section after this one."""
        if not self.following:
            return None
        (state, queues), *others = self.following
        return Position(state, tuple(map(QueuePosition, queues)), tuple(others))


def _sections(queues: Sequence[str], state: WindowState | None) -> list[tuple[WindowState, tuple[str, ...]]]:
    sections: list[tuple[WindowState, tuple[str, ...]]] = []
    for listed in INCOMPLETE if state is None else (state,):
        if listed == "ready":
            sections += [("ready", (queue,)) for queue in queues]
        else:
            sections.append((listed, tuple(queues)))
    return sections


def start(queues: Sequence[str], state: WindowState | None) -> Position:
    """Return the beginning of a list of these queues, in one state or in all that have not ended (None)."""
    (first, names), *others = _sections(queues, state)
    return Position(first, tuple(map(QueuePosition, names)), tuple(others))


def parse_cursor(cursor: str, queues: Sequence[str], state: WindowState | None) -> Position:
    """Return the position that a cursor of this list has.  Raises InvalidCursorError."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        listed, entries = json.loads(base64.b64decode(padded, b"-_", validate=True))
        positions = tuple(
            QueuePosition.parse(*entry, is_whole=listed in ("running", "ready")) for entry in entries
        )
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise InvalidCursorError("it is of another list", field="cursor") from None
    sections = _sections(queues, state)
    for index, (section, names) in enumerate(sections):
        if section == listed and positions and {position.queue for position in positions} <= set(names):
            return Position(section, positions, tuple(sections[index + 1 :]))
    raise InvalidCursorError("is that of another list", field="cursor")


FoundJobs = list[tuple[str, FoundJob, float]]
"""Queue, job, and the server's time."""


async def read_section(
    reader: Callable[[str], JobReader], position: Position, limit: int
) -> tuple[FoundJobs, Position | None, bool]:
    """Return the jobs from a position on, the next position, and whether the page ends since they are large.

    ``reader`` is that of a queue.  Raises RedisError.
    """
    windows = await asyncio.gather(
        *(
            reader(entry.queue).window(position.state, limit, after=entry.after, place=entry.at)
            for entry in position.queues
        )
    )
    rows = [
        (_order(position.state, job), index, job)
        for index, window in enumerate(windows)
        for job in window.jobs
    ]
    rows.sort(key=lambda row: row[:2])  # jobs of one window keep their order
    left = [len(window.jobs) for window in windows]
    ends = dict(enumerate(position.queues))
    jobs: FoundJobs = []
    is_cut = False
    for _, index, job in rows[:limit]:
        queue = position.queues[index].queue
        jobs.append((queue, job, windows[index].now))
        ends[index] = QueuePosition(queue, job.id, job.place)
        left[index] -= 1
        if not left[index] and windows[index].more:
            is_cut = len(jobs) < limit  # what follows there may come before what the others have
            break
    unread = tuple(ends[index] for index, window in enumerate(windows) if left[index] or window.more)
    following = replace(position, queues=unread) if unread else position.next_section()
    return jobs, following, is_cut


def _order(state: WindowState, job: FoundJob) -> float:
    """Return the value by which the windows of several queues are merged."""
    place = float(job.place or 0)
    return -place if state in _NEWEST_FIRST else place
