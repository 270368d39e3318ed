"""Overview: the queues, how that came about, groups of dead letters, and what happened."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll

from tui.navigation import OpenLetters
from tui.screens.dead_letters.actions import LetterActions
from tui.screens.events.actions import EventActions
from tui.screens.queues.charted import RANGE_KEYS, SIDE_BY_SIDE_WIDTH, ChartedScreen
from tui.screens.queues.details import MAX_GROUPS
from tui.text.charts import FIGURES, RANGES
from tui.text.groups import groups_title
from tui.text.queues import QUEUE_SORTING, Judged
from tui.text.sorting import Sorting
from tui.text.verdict import WORST_FIRST, queue_verdict
from tui.widgets.chart_grid import MIN_CHART_LINES, ChartGrid
from tui.widgets.event_list import EventList
from tui.widgets.group_list import GroupList
from tui.widgets.line import Line
from tui.widgets.queue_table import QueueTable
from tui.widgets.row_list import RowList
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.operations.operations import Event, FailureGroup, LetterFilter
from workers.words import plural

_CHARTS_MIN_HEIGHT = 30
"""Lines of a terminal from which there are charts; below it the rows have sparklines."""
_FRAME_LINES = 4
"""Header, tabs, verdict and footer."""
_TITLE_LINES, _COMPACT_TITLE_LINES = 2, 1
"""Lines of a section's title: with the empty line before it, which is left out if there are no charts."""
_MIN_ROW_LINES, _MAX_LIST_LINES = 2, 14
"""Rows below each title of the lists, at least; and the most of the lists with their titles."""


class OverviewScreen(ChartedScreen, LetterActions, EventActions):
    """Shows whether the queues are healthy, which is not, and why."""

    HELP = (
        "The queues at this moment, how that came about, the groups of dead letters of a day, and what "
        "happened. {list.open} opens the queue or the group under the cursor; tab goes from one list to "
        "the next."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("m", "figure", "Next figure", show=False)]

    def compose_body(self) -> ComposeResult:
        """Compose queues, charts, groups and events."""
        yield Rule("Queues", keys=(("{list.open}", "open"), ("{queues.pause}", "pause")), id="queues-title")
        yield QueueTable(id="queues", classes="figures")
        with Vertical(id="charts-section"):
            yield Rule(id="charts-title", keys=(("{queues.figure}", "next figure"), RANGE_KEYS))
            yield ChartGrid(id="charts", classes="figures")
        with Container(id="lists"):
            with Vertical(id="letters-section"):
                yield Rule("Dead letters", keys=(("{app.view-letters}", "all"),), id="list-title")
                with VerticalScroll(can_focus=False):
                    yield GroupList(id="groups")
                    yield Line("  not read yet", id="list-empty")
            with Vertical(id="events-section"):
                yield Rule("Events", id="events-title")
                with VerticalScroll(can_focus=False):
                    yield EventList(id="events")

    @property
    def sorting(self) -> Sorting[Judged]:
        """The columns of the queues."""
        return QUEUE_SORTING

    # Painting

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot."""
        super().update_snapshot(snapshot, error)
        if snapshot is None:
            return
        self.query_one(QueueTable).show_queues(snapshot, self.size.width, order=self.order)
        if self.details.were_read:
            self.show_details(snapshot)

    def show_details(self, snapshot: Snapshot) -> None:
        """Show charts, groups and events, as the size allows."""
        self._fit()
        figure = self.figure
        self.query_one("#charts-title", Rule).show(f"{figure.title}, last {RANGES[self.range_seconds]}")
        grid = self.query_one(ChartGrid)
        across, down = grid.layout_for(len(snapshot.queues))
        if across:
            steps = grid.steps_for(len(snapshot.queues))
            queues = self._charted_queues(snapshot, across * down)
            grid.show_charts([self.chart(queue, figure, queue.name, steps) for queue in queues])
        self._show_groups()
        self._show_events()
        self._show_letters_title(snapshot)

    def _charted_queues(self, snapshot: Snapshot, max_charts: int) -> list[QueueSnapshot]:
        """Return the queues with a chart, in the order of the rows: the worst if there is no room for all."""
        tones = {
            queue.name: queue_verdict(queue, snapshot.alerts, snapshot.taken_at, snapshot.workers).tone
            for queue in snapshot.queues
        }
        worst = sorted(snapshot.queues, key=lambda queue: WORST_FIRST.index(tones[queue.name]))[:max_charts]
        return [queue for queue in snapshot.queues if queue in worst]

    def _fit(self) -> None:
        """Choose what the size has room for."""
        width, height = self.size
        side_by_side = width >= SIDE_BY_SIDE_WIDTH
        stacked = 1 if side_by_side else 2
        room = height - _FRAME_LINES - self.query_one(QueueTable).lines
        list_room = room - 2 * _TITLE_LINES - MIN_CHART_LINES
        charted = height >= _CHARTS_MIN_HEIGHT and list_room >= stacked * (_TITLE_LINES + _MIN_ROW_LINES)
        self.set_class(not charted, "-compact")
        self.query_one("#charts-section").display = charted
        lists = self.query_one("#lists")
        lists.set_class(side_by_side, "-side-by-side")
        if charted:
            lists.styles.height = self._list_lines(list_room, stacked)
        else:
            lists.styles.height = "1fr"
            list_room = room - _COMPACT_TITLE_LINES
        shown = stacked if charted else list_room // (_COMPACT_TITLE_LINES + 1)
        letters_first = bool(self.details.groups) or not self.details.events
        self.query_one("#letters-section").display = shown >= stacked or (shown == 1 and letters_first)
        self.query_one("#events-section").display = shown >= stacked or (shown == 1 and not letters_first)

    def _list_lines(self, room: int, stacked: int) -> int:
        """Return how many of ``room`` lines the lists take with their titles: no more than they need."""
        rows = max(2 * len(self.details.groups), len(self.details.events or ()), _MIN_ROW_LINES)
        needed = stacked * (_TITLE_LINES + rows)
        least = stacked * (_TITLE_LINES + _MIN_ROW_LINES)
        return max(least, min(needed, _MAX_LIST_LINES, room, self.size.height // 4))

    def _show_groups(self) -> None:
        groups, empty = self.query_one(GroupList), self.query_one("#list-empty", Line)
        section = self.query_one("#letters-section")
        groups.show_groups(self.details.groups, self.session.now, section.size.width or self.size.width)
        groups.display, empty.display = bool(self.details.groups), not self.details.groups
        if self.details.letters_read:
            empty.show("  nothing has died in 24 h")

    def _show_events(self) -> None:
        self.query_one(EventList).show_events(self.details.events, self.session.now)

    def _show_letters_title(self, snapshot: Snapshot) -> None:
        parts = [groups_title(self.details.groups, MAX_GROUPS)] if self.details.letters_read else []
        if snapshot.letters_waiting:
            parts.append(f"{plural(snapshot.letters_waiting, 'letter')} wait for the database")
        if self.details.problem and snapshot.database.error is None:
            parts.append(f"▲ not read: {self.details.problem}")
        self.query_one("#list-title", Rule).show("Dead letters", " · ".join(parts))

    # Keys

    def action_figure(self) -> None:
        """Show another figure in the charts."""
        if self.is_without_charts():
            return
        following = FIGURES[(FIGURES.index(self.figure) + 1) % len(FIGURES)]
        self.session.state.set("chart_figure", following.name)
        if self.session.snapshot is not None:
            self.show_details(self.session.snapshot)

    def action_replay(self) -> None:
        """Replay the group under the cursor."""
        group = self.query_one(GroupList).selected
        if group is not None:
            self.run_exclusive(self.replay_many, self._filter_of(group), "this group")

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        """Show the letters of a group, or what an event is about."""
        if isinstance(message.item, FailureGroup):
            self.post_message(OpenLetters(self._filter_of(message.item)))
        elif isinstance(message.item, Event):
            self.run_exclusive(self.open_event, message.item)

    def on_queue_table_pause_requested(self, message: QueueTable.PauseRequested) -> None:
        """Ask for the reason, then pause; resume without a question."""
        self.run_exclusive(self.toggle_pause, message.queue)

    def _filter_of(self, group: FailureGroup) -> LetterFilter:
        """Return the letters that the group counts."""
        return self.details.groups_filter.model_copy(update={"fingerprint": group.fingerprint})
