"""The part of the dashboard that screens and dialogs use, so that none of them imports it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from textual.app import App

from tui.state import RememberedState
from tui.text.format import clip, escape
from tui.text.tabs import Tab
from workers.monitoring import alert_rules as rules
from workers.monitoring.snapshot import Alert, Snapshot
from workers.operations.operations import OPERATION_ERRORS, Operations, Selection, explain_error

T = TypeVar("T")

READ_PAUSE_FACTOR = 20.0
"""A screen pauses for as many times as long as the last read took, so that a slow server is not kept busy."""
_SNAPSHOT_TIMEOUT_SECONDS = 5.0
_MAX_RECENT_ALERTS = 50
"""Alerts among which the one that was resolved last is found; they are ordered by their beginning."""
_MAX_ERROR_CHARS = 300
"""An error's text may hold a job's key, which may have thousands."""
READ_ONLY = "read-only: that would change something; COUTURECAST_READ_ONLY=0 allows it"


@dataclass(frozen=True, slots=True)
class Discard:
    """A discard, and how many letters it hid."""

    selection: Selection
    number: int


class Session:
    """The operations, the newest snapshot, and a way to run a verb whose error is shown."""

    def __init__(
        self,
        operations: Operations,
        app: App[Any],
        refresh: Callable[[bool], None],
        *,
        tabs: Sequence[Tab] = (),
        state: RememberedState | None = None,
        remote: bool = False,
        editor: str | None = None,
    ) -> None:
        """``refresh`` takes a snapshot, and if it is given True the open screens fetch their data again."""
        self.operations = operations
        self.editor = editor
        """The command of the operator's editor."""
        self.tabs = tabs
        """The views that exist."""
        self.remote = remote
        """Whether the operator has no account on this machine, as in a browser: no file, no editor."""
        self.state = state or RememberedState(None)
        self.snapshot: Snapshot | None = None
        """The one that is shown."""
        self.newest: Snapshot | None = None
        """The last one that was taken: while what is shown is frozen, it tells of new alerts."""
        self.figures_at: float | None = None
        """Unix second at which Redis was last read."""
        self._snapshot_at = 0.0
        """When the newest snapshot arrived, by the monotonic clock."""
        self.well_since: float | None = None
        """Unix second since which no alert fires; None if one does, or that is unknown."""
        self.snapshot_error: str | None = None
        """Why the newest snapshot is old; None if it is not."""
        self.frozen = False
        """Whether the operator holds what is shown, until something is done."""
        self.last_discard: Discard | None = None
        self.last_enqueued: tuple[str, str] | None = None
        """Queue and key of the job that the operator enqueued last."""
        self._looked_for_well_since = False
        self._announced: set[tuple[str, str | None, str]] | None = None
        """The alerts that fired in the last snapshot; None before the first one."""
        self._app = app
        self._refresh = refresh

    @property
    def now(self) -> float:
        """Unix seconds of the newest snapshot: the time in the header."""
        return self.snapshot.taken_at if self.snapshot is not None else time.time()

    @property
    def well_for(self) -> float | None:
        """Seconds since which all is well."""
        return None if self.well_since is None else max(0.0, self.now - self.well_since)

    @property
    def figures_age(self) -> float | None:
        """Seconds since Redis was last read."""
        if self.figures_at is None or self.newest is None:
            return None
        since_snapshot = time.monotonic() - self._snapshot_at if self.figures_are_old else 0.0
        return max(0.0, self.newest.taken_at - self.figures_at) + since_snapshot

    @property
    def frozen_for(self) -> float:
        """The age of what is shown, in seconds; 0 unless it is frozen."""
        if not self.frozen or self.newest is None or self.snapshot is None:
            return 0.0
        return max(0.0, self.newest.taken_at - self.snapshot.taken_at)

    @property
    def figures_are_old(self) -> bool:
        """Whether the figures are those of a snapshot before."""
        down = self.newest is not None and self.newest.is_old
        return down or self.snapshot_error is not None

    @property
    def outage(self) -> str:
        """Why the figures are old; empty if they are not."""
        redises = () if self.snapshot is None else self.snapshot.redises
        errors = [redis.error for redis in redises if redis.error is not None]
        return (self.snapshot_error or "".join(errors[:1])) if self.figures_are_old else ""

    def refresh(self, *, screens: bool = False) -> None:
        """Take a snapshot now; with ``screens`` the open screens also fetch their own data again."""
        self.frozen = False
        self._refresh(screens)

    async def take_snapshot(self) -> None:
        """Replace the newest snapshot, or note why it is missing."""
        try:
            async with asyncio.timeout(_SNAPSHOT_TIMEOUT_SECONDS):
                snapshot = await self.operations.snapshot()
        except TimeoutError:
            error = f"no answer for {_SNAPSHOT_TIMEOUT_SECONDS:g} s"
            if self.newest is None:
                self.snapshot_error = f"Redis does not answer: {error}"
                return
            # The database, and one of several Redises, have timeouts of their own.
            snapshot = _unanswered(self.newest, error, time.monotonic() - self._snapshot_at)
        except OPERATION_ERRORS as error:
            self.snapshot_error = one_line(f"{type(error).__name__}: {error}")
            return
        self._keep(snapshot)

    def _keep(self, snapshot: Snapshot) -> None:
        before, self.newest = self.newest, snapshot
        if not self.frozen or self.snapshot is None:
            self.snapshot = snapshot
        if not _is_well(snapshot):
            self.well_since = None
        elif before is not None and not _is_well(before):
            self.well_since = snapshot.taken_at
        self.snapshot_error, self._snapshot_at = None, time.monotonic()
        if not snapshot.is_old:
            self.figures_at = snapshot.taken_at

    def new_alerts(self) -> list[Alert]:
        """Return the alerts that have begun to fire since the last call: each is announced once.

        Those of the first snapshot are not new.
        """
        if self.newest is None or self.snapshot_error is not None:
            return []
        firing = {
            (alert.name, alert.queue, alert.subject): alert for alert in self.newest.alerts if alert.fires
        }
        announced, self._announced = self._announced, set(firing)
        return [] if announced is None else [alert for key, alert in firing.items() if key not in announced]

    async def find_well_since(self) -> None:
        """Find out once, after the first snapshot, since when all is well.

        It began when the last alert was resolved, or the oldest worker started, whichever is later.
        """
        snapshot = self.snapshot
        if self._looked_for_well_since or snapshot is None or not _is_well(snapshot):
            return
        self._looked_for_well_since = True
        started = [snapshot.taken_at - worker.up_for for worker in snapshot.workers if worker.up_for]
        try:
            page = await self.operations.alerts.history(limit=_MAX_RECENT_ALERTS)
        except OPERATION_ERRORS:
            return  # the line then names no time
        resolved = [record.resolved_at.timestamp() for record in page.items if record.resolved_at is not None]
        if self.snapshot is not None and _is_well(self.snapshot) and self.well_since is None:
            self.well_since = max([*resolved, *([min(started)] if started else [])], default=None)

    async def run(self, verb: Awaitable[T], *, on_error: Callable[[str], None] | None = None) -> T | None:
        """Return the verb's result; if it fails, show its error on one line, or call ``on_error``.

        None also if the dashboard has ended in the meantime: there is no screen to show it on.
        """
        try:
            result = await verb
        except OPERATION_ERRORS as error:
            (on_error or self._show_error)(one_line(explain_error(error)))
            return None
        return result if self._app.is_running else None

    async def read(self, verb: Awaitable[T]) -> T | None:
        """Return what the verb reads, as `run` does; an outage that the banner has needs no notice."""
        return await self.run(verb, on_error=self._show_unless_unavailable)

    def may_change(self) -> bool:
        """Return whether anything may be changed from here; else a notice says why not."""
        if self.operations.read_only:
            self._app.notify(READ_ONLY, severity="warning")
        return not self.operations.read_only

    def _show_unless_unavailable(self, message: str) -> None:
        if not self._has_outage:
            self._show_error(message)

    @property
    def _has_outage(self) -> bool:
        """Whether the newest snapshot says that a server is unavailable, or there was none in time."""
        if self.snapshot is None or self.snapshot_error is not None:
            return self.snapshot_error is not None
        down = [redis.error is not None for redis in self.snapshot.redises]
        return any(down) or self.snapshot.database.error is not None

    def _show_error(self, message: str) -> None:
        self._app.notify(message, severity="error", markup=False)


def _unanswered(before: Snapshot, error: str, seconds: float) -> Snapshot:
    """Return the snapshot of so many seconds ago, with the error and an alert for each Redis."""
    main, *others = (replace(redis, error=error, timed_out=True) for redis in before.redises)
    known = {alert.subject for alert in before.alerts if alert.name == rules.REDIS}
    alerts = [
        Alert(
            None,
            rules.REDIS,
            escape(redis.problem or ""),
            severity=rules.BY_NAME[rules.REDIS].severity,
            since=before.taken_at,
            subject=redis.subject,
        )
        for redis in (main, *others)
        if redis.subject not in known
    ]
    return replace(
        before,
        taken_at=before.taken_at + seconds,
        redis=main,
        other_redises=tuple(others),
        alerts=(*alerts, *before.alerts),
    )


def _is_well(snapshot: Snapshot) -> bool:
    return not any(alert.fires for alert in snapshot.alerts)


def one_line(text: str) -> str:
    """Return an error's text on one line of limited length, without control characters."""
    return clip(escape(text), _MAX_ERROR_CHARS)
