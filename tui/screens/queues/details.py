"""Fetches what the snapshot lacks, rarely and one at a time: histories, groups and events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tui.session import READ_PAUSE_FACTOR, Session
from workers.monitoring.snapshot import Snapshot
from workers.operations.history import History, Series, series
from workers.operations.operations import ALL_EVENTS, Event, EventFilter, FailureGroup, LetterFilter

_REFRESH_SECONDS = 10.0
"""After which they are fetched again, although nothing has changed by the snapshot."""
_DAY_SECONDS = 86_400.0
MAX_GROUPS = 20
_MAX_EVENTS = 60
_MAX_MARKS = 30
_MARK_KINDS = ("new-release", "queue-paused", "queue-resumed", "worker-draining", "plan-started")


@dataclass
class Details:
    """The details of one queue, or of all if ``queue`` is None; empty until they are fetched."""

    session: Session
    queue: str | None = None
    histories: Mapping[str, History] = field(default_factory=dict)
    groups: Sequence[FailureGroup] = ()
    groups_filter: LetterFilter = field(default_factory=LetterFilter)
    """The filter that selected the letters of the groups."""
    events: Sequence[Event] | None = None
    """The newest; None until they were read."""
    marks: Sequence[Event] = ()
    """The events that charts show."""
    letters_read: bool = False
    """Whether the groups were read at least once."""
    were_read: bool = False
    """Whether a fetch has ended."""
    problem: str = ""
    """Why the groups and events are old."""
    _series: dict[tuple[str, str, float, int], Series] = field(default_factory=dict)
    """Those of these histories, by queue, figure, range and steps: charts are drawn each second."""
    _next: float = 0.0
    _next_of_change: float = 0.0
    """The monotonic time before which a change does not make them due: a slow server has a rest."""
    _state: object = None
    """The state of their subjects when they were fetched, by the snapshot."""
    _fetching: bool = False

    def begin_if_due(self, snapshot: Snapshot) -> bool:
        """Return whether they should be fetched now; two snapshots in the same moment begin one fetch.

        They are due after a while, and at once if the snapshot shows more than they do.
        """
        state, now = _state_of(snapshot), time.monotonic()
        has_changed = state != self._state and now >= self._next_of_change
        due = not self._fetching and (now >= self._next or has_changed)
        if due:
            self._fetching, self._state = True, state
        return due

    def series(self, queue: str, figure: str, seconds: float, steps: int) -> Series | None:
        """Return a figure of a queue in so many steps; None while its history was not read."""
        key = (queue, figure, seconds, steps)
        if key not in self._series and queue in self.histories:
            self._series[key] = series(self.histories[queue], figure, seconds, steps)
        return self._series.get(key)

    def invalidate(self) -> None:
        """Fetch them with the next snapshot."""
        self._next = 0.0

    async def fetch(self, range_seconds: float) -> None:
        """Fetch all; what cannot be fetched stays as it was."""
        began = time.monotonic()
        self._fetching, self._next = True, began + _REFRESH_SECONDS
        try:
            await self.fetch_histories(range_seconds)
            self.problem = ""
            snapshot = self.session.snapshot
            if snapshot is not None and snapshot.database.error is None:
                await self._fetch_letters()
                await self._fetch_events(range_seconds)
        finally:
            self._fetching, self.were_read = False, True
            rest = READ_PAUSE_FACTOR * (time.monotonic() - began)
            self._next_of_change = time.monotonic() + rest
            if self._next:  # not invalidated in the meantime
                self._next = time.monotonic() + max(_REFRESH_SECONDS, rest)

    async def fetch_histories(self, range_seconds: float) -> None:
        """Fetch the histories: those of up to three hours are in memory."""
        snapshot = self.session.snapshot
        names = [queue.name for queue in snapshot.queues] if snapshot is not None else []
        queues = [name for name in names if self.queue in (None, name)]
        verb = self.session.operations.history.histories(queues, range_seconds)
        histories = await self.session.run(verb, on_error=_ignore)
        if histories is not None:
            self.histories = histories
            self._series = {}

    async def _fetch_letters(self) -> None:
        since = datetime.fromtimestamp(self.session.now - _DAY_SECONDS, UTC).replace(second=0, microsecond=0)
        letter_filter = LetterFilter(since=since, queue=self.queue)
        verb = self.session.operations.dead_letters.groups(letter_filter, limit=MAX_GROUPS)
        groups = await self.session.run(verb, on_error=self._keep_problem)
        if groups is not None:
            self.groups, self.groups_filter, self.letters_read = groups, letter_filter, True

    async def _fetch_events(self, range_seconds: float) -> None:
        events = self.session.operations.events
        newest = EventFilter(queue=self.queue) if self.queue is not None else ALL_EVENTS
        page = await self.session.run(events.page(newest, limit=_MAX_EVENTS), on_error=self._keep_problem)
        if page is None:
            return
        self.events = page.items
        since = datetime.fromtimestamp(self.session.now - range_seconds, UTC)
        marks: list[Event] = []
        for kind in _MARK_KINDS:
            verb = events.page(EventFilter.from_options(kind=kind, since=since), limit=_MAX_MARKS)
            of_kind = await self.session.run(verb, on_error=self._keep_problem)
            marks += of_kind.items if of_kind is not None else []
        self.marks = sorted(marks, key=lambda event: event.at, reverse=True)

    def _keep_problem(self, message: str) -> None:
        self.problem = message


def _state_of(snapshot: Snapshot) -> object:
    """Return all of a snapshot that becomes an event, and how many letters there are."""
    return (
        snapshot.dead_letters,
        snapshot.plans,
        [queue.paused for queue in snapshot.queues],
        {(worker.id, worker.state) for worker in snapshot.workers},
        {(alert.name, alert.queue, alert.subject) for alert in snapshot.alerts if alert.fires},
    )


def _ignore(message: str) -> None:
    """Ignore the error: the banner shows that Redis is unavailable."""
