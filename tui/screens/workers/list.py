"""The processes of the cluster, each with what it does; and the one under the cursor in more detail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll

from tui.keymap import key_name
from tui.navigation import OpenWorker
from tui.screens.workers.actions import WorkerActions
from tui.session import Session
from tui.text import worker_page
from tui.text.events import event_lines
from tui.text.format import escape
from tui.text.sorting import Sorting
from tui.text.styles import MUTED
from tui.text.worker_table import WORKER_SORTING, worker_heading, worker_line
from tui.widgets.line import Line
from tui.widgets.row_list import Row, RowList
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import OPERATION_ERRORS, Event
from workers.operations.worker_list import Worker, list_workers
from workers.words import plural

_TALL_ROWS = 40
"""Lines of a terminal that shows all of the process under the cursor."""
_MAX_LINES = 20
_EVENTS_SECONDS = 15.0
_MAX_EVENTS = 200
"""Among so many of the newest events those of processes are found."""
_KINDS = ("worker-", "new-release")


class WorkersScreen(WorkerActions):
    """All is in the snapshot, but for the events that a tall terminal has room for: they are read rarely."""

    HELP = (
        "Every process of the cluster. cpu is the share of one core and memory the resident one, both with "
        "the handler processes; loop p99 is how late the event loop was in the last minute; beat is the age "
        "of the last sign of life."
    )
    LEGEND = (
        "●  takes jobs   ◐  draining   ◌  standby: others fill its queues",
        "▲  its event loop is blocked   ✕  dead, and still holds jobs",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open_worker", "Open"),
        Binding("D", "drain_worker", "Drain it"),
        Binding("u", "undo_drain", "Undo"),
        Binding("exclamation_mark", "requeue_worker", "Requeue", key_display="!"),
    ]

    def compose_body(self) -> ComposeResult:
        """Compose the list, and the part about the row under the cursor."""
        yield Rule("Workers", id="workers-title")
        with VerticalScroll(id="workers-list", can_focus=False):
            yield RowList[Worker](id="workers", classes="figures")
            yield Line("  not read yet", id="workers-empty")
        yield Rule(id="worker-title", keys=(("{workers.open-worker}", "open"),))
        with VerticalScroll(id="worker-detail", can_focus=False):
            yield Line(id="worker-facts", classes="figures")
        with Vertical(id="worker-events-section"):
            yield Rule("Processes that came and went", keys=(("{app.view-events}", "all events"),))
            yield Line("  not read yet", id="worker-events")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._events: list[Event] | None = None
        self._next_events = 0.0
        """When they are read again, by the monotonic clock."""

    def on_mount(self) -> None:
        """Let keys move the cursor."""
        self._list.focus()
        self.watch(self._list, "cursor", self._show_selected, init=False)

    @property
    def _list(self) -> RowList[Worker]:
        return self.query_one("#workers", RowList)

    @property
    def sorting(self) -> Sorting[Worker]:
        """The columns of the processes."""
        return WORKER_SORTING

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot."""
        super().update_snapshot(snapshot, error)
        if snapshot is None:
            return
        workers = WORKER_SORTING.sort(list_workers(snapshot.workers, snapshot.queues), self.order)
        width, own = self.size.width, self.worker_operations.own_id
        rows = [
            Row(worker.id, worker, [worker_line(worker, width, own=worker.id == own)]) for worker in workers
        ]
        self._list.show_rows(rows, heading=[worker_heading(width, self.order)])
        self._list.display = bool(workers)
        empty = self.query_one("#workers-empty", Line)
        empty.show("  no process works on the queues: couturecast-tui --no-ui starts one")
        empty.display = not workers
        self.query_one("#workers-title", Rule).show("Workers", _summary(workers))
        self._show_selected()
        tall = self.size.height >= _TALL_ROWS
        self.set_class(tall, "-tall")
        due = time.monotonic() >= self._next_events and not self.session.frozen
        if tall and due and self.is_current:
            self._next_events = time.monotonic() + _EVENTS_SECONDS
            self.fetch_events()

    @work(exclusive=True, group="events")
    async def fetch_events(self) -> None:
        """Show the newest events of processes; if they cannot be read, those that were read stay."""
        with suppress(*OPERATION_ERRORS):
            page = await self.session.operations.events.page(limit=_MAX_EVENTS)
            self._events = [event for event in page.items if event.kind.startswith(_KINDS)]
        self.query_one("#worker-events", Line).show(event_lines(self._events, self.session.now))

    def _show_selected(self) -> None:
        worker = self._list.selected
        title, detail = self.query_one("#worker-title", Rule), self.query_one("#worker-facts", Line)
        title.display = detail.display = worker is not None
        if worker is None:
            return
        own = " · this process" if self._is_own(worker) else ""
        title.show(escape(worker.name), f"{escape(worker.id)}{own}")
        text = worker_page.facts(worker, key_name(self, "workers.undo-drain")).append("\n\n")
        text.append_text(worker_page.jobs(worker, self.forecasts(worker)))
        if self.size.height >= _TALL_ROWS:
            text.append("\n\n settings that differ\n", MUTED).append_text(self.settings_text(worker.id))
            text.append("\n\n log, the newest line first\n", MUTED)
            text.append_text(self.log_text(worker.id, _MAX_LINES))
        detail.show(text)

    def on_resize(self, event: events.Resize) -> None:
        """Fit the columns."""
        self.call_after_refresh(self._show_selected)

    def _selected_worker(self) -> Worker | None:
        """Return the process under the cursor; without one, a message shows that."""
        worker = self._list.selected
        if worker is None:
            self.notify("no process is listed: there is nothing to act on")
        return worker

    def action_open_worker(self) -> None:
        """Show all of the process."""
        if (worker := self._selected_worker()) is not None:
            self.post_message(OpenWorker(worker.id))

    def on_row_list_opened(self) -> None:
        """Show all of the process that was clicked twice."""
        self.action_open_worker()

    def action_drain_worker(self) -> None:
        """Drain the process."""
        if (worker := self._selected_worker()) is not None:
            self.run_exclusive(self.drain_worker, worker)

    def action_undo_drain(self) -> None:
        """Let it take jobs again."""
        if (worker := self._selected_worker()) is not None:
            self.run_exclusive(self.undo_drain, worker)

    def action_requeue_worker(self) -> None:
        """Requeue its jobs now."""
        if (worker := self._selected_worker()) is not None:
            self.run_exclusive(self.requeue, worker)


def _summary(workers: Sequence[Worker]) -> str:
    states = {state: sum(worker.state == state for worker in workers) for state in
              ("draining", "standby", "blocked", "dead")}  # fmt: skip
    ready = sum(worker.ready for worker in workers)
    others = [f"{number} {state}" for state, number in states.items() if number]
    in_flight = sum(worker.in_flight for worker in workers)
    jobs = plural(in_flight, "job")
    return " · ".join([f"{ready} of {len(workers)} take jobs", *others, f"{jobs} in flight"])
