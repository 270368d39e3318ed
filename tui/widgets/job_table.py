"""Tables of jobs and of schedules, whose figures change every second."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message

from tui.keymap import with_keys
from tui.text.jobs import NO_DOUBTS, RIGHT_ALIGNED, Doubts, columns_for, job_cells, mark_cell, schedule_cells
from tui.widgets.keyed_table import ItemT, KeyedTable
from tui.widgets.markable_table import MarkableTable
from workers.operations.jobs import JobSummary
from workers.operations.schedules import ScheduleView

SCHEDULE_KEYS = "{jobs.run-now} runs it now, {jobs.toggle-schedule} disables or enables it"
"""Verbs on a schedule."""
_TAB_KEYS: tuple[BindingType, ...] = (
    Binding("left,h", "screen.tab(-1)", "List before", show=False),
    Binding("right,l", "screen.tab(1)", "Next list", show=False),
)

_NEWEST_FIRST = ("done", "failed")
"""Lists whose own order is that in which jobs ended, the last one first."""


class LiveTable(KeyedTable[ItemT]):
    """Rows that stay keep their place: only cells that have changed are painted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: tuple[Mapping[str, int], Mapping[str, Sequence[Text]]] = ({}, {})

    def update_rows(
        self, items: Sequence[ItemT], columns: Mapping[str, int], rows: Mapping[str, Sequence[Text]]
    ) -> None:
        """Show these rows."""
        shown_columns, shown_rows = self._shown
        self._shown = (columns, rows)
        if (
            list(columns.items()) != list(shown_columns.items())
            or list(rows) != list(shown_rows)
            or self.order != self.shown_order
        ):
            top = self.scroll_offset.y
            self.set_rows(items, columns, rows, right_aligned=RIGHT_ALIGNED)
            self.scroll_to(y=top, animate=False)
            return
        self.items = tuple(items)
        for key, cells in rows.items():
            for name, cell, before in zip(columns, cells, shown_rows[key], strict=True):
                if (cell.plain, cell.spans, cell.style) != (before.plain, before.spans, before.style):
                    self.update_cell(key, name, cell)


class JobTable(LiveTable[JobSummary], MarkableTable[JobSummary]):
    """Jobs in one state."""

    BINDINGS: ClassVar[list[BindingType]] = [*_TAB_KEYS]

    class Opened(Message):
        """The operator asked for all of a job."""

        def __init__(self, job: JobSummary) -> None:
            super().__init__()
            self.job = job

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._doubts = NO_DOUBTS

    def id_of(self, item: JobSummary) -> Hashable:
        """Return its queue and key."""
        return item.queue, item.key

    def mark_cell(self, item: JobSummary) -> Text:
        """Return its mark and its sign."""
        return mark_cell(item, marked=self.is_marked(item), known_doubts=self._doubts)

    def open_item(self, item: JobSummary) -> None:
        """Ask for all of it."""
        self.post_message(self.Opened(item))

    def show_jobs(
        self, jobs: Sequence[JobSummary], tab: str, width: int, now: float, known_doubts: Doubts = NO_DOUBTS
    ) -> None:
        """Show the jobs of a state; on another page no range continues."""
        self._doubts = known_doubts
        if [self.id_of(job) for job in jobs] != [self.id_of(job) for job in self.items]:
            self.range_start = None
        self.newest_first = tab in _NEWEST_FIRST and self.order is None
        columns = columns_for(tab, width)
        rows = {
            f"{job.queue}\0{job.key}": job_cells(
                job, columns, now=now, marked=self.is_marked(job), known_doubts=known_doubts
            )
            for job in jobs
        }
        self.update_rows(list({self.id_of(job): job for job in jobs}.values()), columns, rows)


class ScheduleTable(LiveTable[ScheduleView]):
    """Schedules."""

    BINDINGS: ClassVar[list[BindingType]] = [*_TAB_KEYS]

    def open_item(self, item: ScheduleView) -> None:
        """Say that nothing more is known of a schedule."""
        self.app.notify(f"all of a schedule is shown: {with_keys(self, SCHEDULE_KEYS)}")

    def show_schedules(self, schedules: Sequence[ScheduleView], width: int, now: float) -> None:
        """Show all of them."""
        columns = columns_for("schedules", width)
        rows: dict[str, Any] = {
            schedule.name: schedule_cells(schedule, columns, now=now) for schedule in schedules
        }
        self.update_rows(schedules, columns, rows)
