"""Events, the newest first, a page at a time; and in the upper part the drain that is under way."""

from __future__ import annotations

import time
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.keymap import key_name, with_keys
from tui.screens.events.actions import EventActions
from tui.screens.paged import PAGE_ROWS, ListState, Page, PagedScreen
from tui.screens.workers.actions import WorkerActions
from tui.session import Session
from tui.text import worker_page
from tui.text.completion import TIMES, Values
from tui.text.format import clock_time
from tui.widgets.event_table import EventTable
from tui.widgets.line import Line
from workers.monitoring.snapshot import Snapshot
from workers.operations.event_filters import EVENT_KINDS, PLACEHOLDER, filter_text, parse_filter
from workers.operations.operations import ALL_EVENTS, Event, EventFilter
from workers.operations.worker_list import Worker, list_workers
from workers.words import plural

_REFRESH_SECONDS = 10.0
"""Between two reads of the first page while it is shown."""
_NOTHING = """\
  nothing has happened yet

  Deploys, drains, pauses, replays, alerts, new groups of dead letters and lost workers are events.
  They are kept for 30 days."""


class EventsScreen(PagedScreen[ListState[EventFilter], Event], EventActions, WorkerActions):
    """The first page is read again now and then; other pages stay as they were read."""

    FILTER_PLACEHOLDER = PLACEHOLDER
    REMEMBERED_AS = "events-filter"
    NOT_SORTED = "events have one order only: the newest first"
    HELP = (
        "Events, the newest first, times in the zone of the terminal. {list.open} opens what one is about: "
        "a queue, a worker, a plan, letters, alerts. While a process drains, {events.undo-drain} and "
        "{events.put-back-worker} act on that one."
    )
    LEGEND = (
        "▲  alert fired, plan halted     ✔  over, or acknowledged",
        "✕  new error, lost worker       ‖  paused",
        "◆  deploy     ▼  drain          ↻  replay, repair",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("u", "undo_drain", "Undo a drain", show=False),
        Binding("exclamation_mark", "requeue_worker", "Requeue now", show=False, key_display="!"),
        Binding("r", "reload", "Read again", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("escape", "back", "Clear the filter", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session, ListState(ALL_EVENTS))
        self._next_read = 0.0
        """When the first page was read, by the monotonic clock."""
        self._read_at = 0.0
        self._draining: tuple[Worker, ...] = ()

    def compose_body(self) -> ComposeResult:
        """Compose the panel and the list."""
        yield Line(id="drain-panel", classes="figures")
        yield from super().compose_body()

    def compose_tables(self) -> ComposeResult:
        """Compose the events."""
        yield EventTable(id="events-table")

    # Reading

    def on_screen_resume(self) -> None:
        """Read the page, unless it was read a moment ago."""
        super().on_screen_resume()
        self._read_if_due()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot, and read the first page again when that is due."""
        super().update_snapshot(snapshot, error)
        if snapshot is not None:
            self._show_drains(snapshot)
        if self.is_current and self.state.page_number == 1:
            self._read_if_due()

    def _read_if_due(self) -> None:
        if time.monotonic() >= self._next_read and not self.is_waiting:
            self.request_again()

    def refresh_data(self) -> None:
        """Read the page again."""
        self.request_again()

    async def fetch_page(self, state: ListState[EventFilter]) -> Page[Event]:
        """Read the page of a state."""
        self._next_read = time.monotonic() + _REFRESH_SECONDS
        return await self.session.operations.events.page(state.filter, limit=PAGE_ROWS, cursor=state.cursor)

    def page_arrived(self, before: ListState[EventFilter]) -> None:
        """Note when."""
        super().page_arrived(before)
        self._read_at = self.session.now

    # Painting

    @property
    def table(self) -> EventTable:
        """The events."""
        return self.query_one(EventTable)

    def fill_tables(self) -> None:
        """Show the events, if there are some."""
        self.table.show_events(self.rows, self.size.width, self.session.now)
        self.table.display = bool(self.rows)

    def empty_message(self) -> str:
        """Return why nothing is shown."""
        if self.page is None:
            return with_keys(self, "  not read: {list.reload} reads again")
        if self.state.filter != ALL_EVENTS:
            shows_all = with_keys(self, "{list.back} shows all")
            return f"  no event matches {filter_text(self.state.filter)}: {shows_all}"
        return _NOTHING

    def title_parts(self) -> list[str]:
        """Return how many events, which page, and when they were read."""
        if self.page is None:
            return ["Events"]
        single = self.state.page_number == 1 and self.page.next is None
        events = plural(len(self.rows), "event")
        return [
            events if single else f"{events} on this page",
            *self.position_parts(numbered=not single),
            f"as of {clock_time(self._read_at, self.session.now)}",
        ]

    def _show_drains(self, snapshot: Snapshot) -> None:
        workers = list_workers(snapshot.workers, snapshot.queues)
        self._draining = tuple(worker for worker in workers if worker.state == "draining")
        panel = self.query_one("#drain-panel", Line)
        panel.display = bool(self._draining)
        if not self._draining:
            return
        first = min(self._draining, key=lambda worker: worker.drain_deadline_in or 0.0)
        more = len(self._draining) - 1
        key, width = partial(key_name, self), self.size.width
        panel.show(worker_page.drain_panel(first, self.forecasts(first), key, more=more, width=width))

    # Keys

    def parse_filter(self, text: str) -> EventFilter:
        """Parse ``kind:… queue:… since:…``."""
        return parse_filter(text)

    def filter_values(self) -> Values:
        """Return the kinds of events, the queues, and some ages."""
        snapshot = self.session.snapshot
        queues = () if snapshot is None else snapshot.queues
        names = [queue.name for queue in queues]
        return {"kind:": EVENT_KINDS, "queue:": names, "since:": TIMES, "until:": TIMES}

    def filter_text(self) -> str:
        """Return the filter as it is written."""
        return filter_text(self.state.filter)

    def with_filter(self, filter_: EventFilter) -> ListState[EventFilter]:
        """Return the first page of another filter."""
        return ListState(filter_)

    def state_before(self) -> ListState[EventFilter] | None:
        """Leave the filter."""
        return ListState(ALL_EVENTS) if self.state.filter != ALL_EVENTS else None

    def on_event_table_opened(self, message: EventTable.Opened) -> None:
        """Open what the event is about."""
        self.run_exclusive(self.open_event, message.event)

    def _draining_one(self) -> Worker | None:
        """Return the only process that drains; else a message shows how many there are."""
        if len(self._draining) == 1:
            return self._draining[0]
        if self._draining:
            self.notify(f"{len(self._draining)} processes drain: choose one of them in view 4")
        else:
            self.notify("no process drains: there is nothing to undo, nor to requeue")
        return None

    def action_undo_drain(self) -> None:
        """Let the draining process take jobs again."""
        if (worker := self._draining_one()) is not None:
            self.run_exclusive(self.undo_drain, worker)

    def action_requeue_worker(self) -> None:
        """Requeue the jobs of the draining process now."""
        if (worker := self._draining_one()) is not None:
            self.run_exclusive(self.requeue, worker)
