"""A queue's page: everything about one queue."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll

from tui.navigation import OpenLetters
from tui.screens.dead_letters.actions import LetterActions
from tui.screens.events.actions import EventActions
from tui.screens.jobs.actions import JobActions
from tui.screens.queues.charted import RANGE_KEYS, SIDE_BY_SIDE_WIDTH, ChartedScreen
from tui.screens.queues.details import MAX_GROUPS
from tui.session import Session
from tui.text import queue_page
from tui.text.charts import FIGURES, RANGES
from tui.text.groups import groups_title
from tui.widgets.chart_grid import ChartGrid
from tui.widgets.event_list import EventList
from tui.widgets.group_list import GroupList
from tui.widgets.line import Line
from tui.widgets.queue_table import QueueTable
from tui.widgets.row_list import RowList
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.operations.operations import Event, FailureGroup

_CHARTS_MIN_HEIGHT = 34
"""Lines of a terminal from which there are charts beside the rest."""

_KEYS = (("{queues.pause}", "pause"), ("{queues.enqueue}", "enqueue"), ("{app.back}", "back"))


class QueueScreen(ChartedScreen, LetterActions, JobActions, EventActions):
    """The row of the overview, why nothing starts, charts, settings, groups and events."""

    HELP = (
        "One queue: why nothing more starts, its figures over time, its settings, and what died of what. "
        "{queues.enqueue} enqueues a job in it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("p", "pause", "Pause"),
        Binding("e", "enqueue", "Enqueue"),
        Binding("o", "open_enqueued", "Open the job enqueued last", show=False),
    ]

    def __init__(self, session: Session, queue: str) -> None:
        super().__init__(session, queue)
        self._queue = queue

    @property
    def subject(self) -> str:
        """The name of what the screen is about."""
        return self._queue

    def compose_body(self) -> ComposeResult:
        """Compose the row, the sentence, charts and lists."""
        yield Rule(self._queue, keys=_KEYS, id="queue-title")
        row = QueueTable(id="queues", classes="figures")
        row.can_focus = False  # its keys are those of the page
        yield row
        yield Line("", id="why")
        with Vertical(id="charts-section"):
            yield Rule(id="charts-title", keys=(RANGE_KEYS,))
            yield ChartGrid(id="charts", classes="figures")
        with Container(id="lists"):
            with Vertical(id="facts-section"):
                yield Rule("Now and settings", id="facts-title")
                with VerticalScroll():
                    yield Line("", id="facts")
            with Vertical(id="letters-section"):
                yield Rule("Dead letters", id="list-title")
                with VerticalScroll(can_focus=False):
                    yield GroupList(id="groups")
                    yield Line("  not read yet", id="list-empty")
                yield Rule("Events", id="events-title")
                with VerticalScroll(can_focus=False):
                    yield EventList(id="events")

    def _find_queue(self, snapshot: Snapshot | None) -> QueueSnapshot | None:
        queues = snapshot.queues if snapshot is not None else ()
        return next((queue for queue in queues if queue.name == self._queue), None)

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot."""
        super().update_snapshot(snapshot, error)
        queue = self._find_queue(snapshot)
        if snapshot is None or queue is None:
            return
        self.query_one(QueueTable).show_queues(snapshot, self.size.width, only=self._queue)
        policy = self.session.operations.queues.policy(self._queue)
        self.query_one("#why", Line).show(queue_page.why(queue, snapshot, policy))
        self.query_one("#facts", Line).show(queue_page.facts(queue, snapshot, policy))
        if self.details.were_read:
            self.show_details(snapshot)

    def show_details(self, snapshot: Snapshot) -> None:
        """Show charts, groups and events."""
        queue = self._find_queue(snapshot)
        if queue is None:
            return
        charted = self.size.height >= _CHARTS_MIN_HEIGHT
        self.query_one("#charts-section").display = charted
        self.set_class(not charted, "-compact")
        self.query_one("#lists").set_class(self.size.width >= SIDE_BY_SIDE_WIDTH, "-side-by-side")
        self.query_one("#charts-title", Rule).show(f"Last {RANGES[self.range_seconds]}")
        grid = self.query_one(ChartGrid)
        if grid.layout_for(len(FIGURES)) != (0, 0):
            steps = grid.steps_for(len(FIGURES))
            grid.show_charts([self.chart(queue, figure, figure.title, steps) for figure in FIGURES])
        details, now = self.details, self.session.now
        groups, empty = self.query_one(GroupList), self.query_one("#list-empty", Line)
        groups.show_groups(details.groups, now, self.query_one("#letters-section").size.width)
        groups.display, empty.display = bool(details.groups), not details.groups
        if details.letters_read:
            empty.show("  nothing of this queue has died in 24 h")
            self.query_one("#list-title", Rule).show("Dead letters", groups_title(details.groups, MAX_GROUPS))
        self.query_one(EventList).show_events(details.events, now)

    def action_pause(self) -> None:
        """Ask for the reason, then pause; resume without a question."""
        queue = self._find_queue(self.session.snapshot)
        if queue is not None:
            self.run_exclusive(self.toggle_pause, queue)

    def action_enqueue(self) -> None:
        """Enqueue a job of this queue."""
        self.run_exclusive(self.enqueue_job, self._queue)

    def action_open_enqueued(self) -> None:
        """Show the job that was enqueued last."""
        self.run_exclusive(self.open_enqueued)

    def action_replay(self) -> None:
        """Replay the group under the cursor."""
        group = self.query_one(GroupList).selected
        if group is not None:
            letters = self.details.groups_filter.model_copy(update={"fingerprint": group.fingerprint})
            self.run_exclusive(self.replay_many, letters, "this group")

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        """Show the letters of a group, or what an event is about."""
        if isinstance(message.item, FailureGroup):
            fingerprint = message.item.fingerprint
            letters = self.details.groups_filter.model_copy(update={"fingerprint": fingerprint})
            self.post_message(OpenLetters(letters))
        elif isinstance(message.item, Event):
            self.run_exclusive(self.open_event, message.item)
