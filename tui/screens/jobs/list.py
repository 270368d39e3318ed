"""Jobs by state, a page at a time, the one under the cursor in more detail; and the schedules."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.keymap import with_keys
from tui.navigation import OpenJob
from tui.screens.jobs.actions import JobActions
from tui.screens.jobs.page import JobPage, Listed
from tui.screens.jobs.pane import JobPane
from tui.screens.paged import PAGE_ROWS, ListState, PagedScreen
from tui.session import READ_PAUSE_FACTOR, Session
from tui.text import jobs as job_text
from tui.text.completion import Values
from tui.text.format import count, escape, long_duration
from tui.text.sorting import Sorting
from tui.widgets.job_table import SCHEDULE_KEYS, JobTable, ScheduleTable
from tui.widgets.state_bar import StateBar
from workers.monitoring.snapshot import Snapshot
from workers.operations.job_filter import ALL_JOBS, PLACEHOLDER, JobFilter
from workers.operations.job_views import named_job
from workers.operations.jobs import JOB_STATES, MAX_JOBS, JobSummary, Verb, WindowState
from workers.operations.operations import Page
from workers.operations.schedules import ScheduleView
from workers.words import plural

_LAST_DONE = 10
"""Jobs that were done last, shown while none runs."""
_REMEMBERED_TAB = "jobs-tab"


class JobsScreen(PagedScreen[ListState[Listed], JobSummary], JobActions):
    """The page is read with each snapshot, while the view is shown and Redis answers."""

    REMEMBERED_AS = "jobs-filter"
    FILTER_PLACEHOLDER = PLACEHOLDER
    HELP = (
        "Jobs by state, {jobs.tab-previous} and {jobs.tab-next} change the list. {jobs.abort}, "
        "{jobs.run-now}, {jobs.duplicate} and {jobs.remove} apply to the marked jobs, else to the one under "
        "the cursor; all but {jobs.duplicate} ask once. A job that has moved since it was shown stays as it "
        "is. {jobs.run-now} and {jobs.toggle-schedule} also apply to schedules. The filter takes "
        "queue:, function:, worker:, and words of the key or the error; a whole key is found wherever it is. "
        "Schedules are in UTC, times in the zone of the terminal."
    )
    LEGEND = (
        "■  marked     ●  runs     ▲  runs far longer than usual, or is not a job",
        "↻  a retry    ✔  done     ✕  failed, or held by a dead worker     ‖  disabled",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "tab(-1)", "List before", show=False),
        Binding("right,l", "tab(1)", "Next list", show=False),
        Binding("enter", "open_job", "Open", show=False),
        Binding("x", "change('abort')", "Abort"),
        Binding("R", "run_now", "Run now"),
        Binding("c", "change('duplicate')", "Duplicate"),
        Binding("X", "change('remove')", "Remove"),
        Binding("e", "enqueue", "Enqueue"),
        Binding("o", "open_enqueued", "Open the job enqueued last", show=False),
        Binding("p", "toggle_schedule", "Disable or enable a schedule", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("r", "reload", "Read again", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("escape", "back", "Clear the filter", show=False),
    ]

    def __init__(self, session: Session) -> None:
        tab = session.state.get(_REMEMBERED_TAB)
        super().__init__(session, ListState(Listed(tab if tab in job_text.TABS else job_text.TABS[0])))
        self._schedule_count: int | None = None
        self._next_read = 0.0
        """When a sorted list is read again, by the monotonic clock."""
        self._read_at = 0.0
        """When the page was read, by the same clock."""

    def compose_body(self) -> ComposeResult:
        """Compose the states, the list, and the part about the row under the cursor."""
        yield StateBar(id="job-states")
        yield from super().compose_body()
        yield JobPane(self.session, id="job-section")

    def compose_tables(self) -> ComposeResult:
        """Compose the jobs and the schedules."""
        for table in (JobTable(id="jobs-table"), ScheduleTable(id="schedules-table")):
            table.add_class("figures")
            yield table

    # Reading

    def on_screen_resume(self) -> None:
        """Read what is shown."""
        super().on_screen_resume()
        self.request_again()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot, and read the page again, unless it is being read or Redis is unavailable."""
        super().update_snapshot(snapshot, error)
        self._show_states()
        readable = snapshot is not None and not self.session.figures_are_old
        if self.page is not None and not readable:
            self.update_tables()
        due = self.state.order is None or time.monotonic() >= self._next_read
        if self.is_current and readable and due and not self.is_waiting:
            self.request_again()

    def refresh_data(self) -> None:
        """Read the page again."""
        self.request_again()

    async def fetch_page(self, state: ListState[Listed]) -> JobPage:
        """Read the page of a state, and how many jobs there are in each."""
        job_filter = state.filter
        counts = await self.jobs.counts()
        if job_filter.tab == "schedules":
            schedules = await self.schedules.list()
            self._schedule_count = len(schedules)
            selected = [schedule for schedule in schedules if job_filter.selected.selects_schedule(schedule)]
            return JobPage((), None, counts, job_text.SCHEDULE_SORTING.sort(selected, state.order))
        if self._schedule_count is None:
            self._schedule_count = len(await self.schedules.list())
        listed = next(known for known in JOB_STATES if known == job_filter.tab)
        if state.order is not None:
            jobs, is_cut = await self._read_sorted(listed, state)
            return JobPage(jobs, None, counts, is_cut=is_cut)
        page = await self._read(listed, state, PAGE_ROWS, state.cursor)
        last_done: Sequence[JobSummary] = ()
        if listed == "running" and not page.items:
            last_done = (await self._read("done", state, _LAST_DONE, None)).items
        return JobPage(page.items, page.next, counts, last_done=last_done)

    async def _read(
        self, listed: WindowState, state: ListState[Listed], limit: int, cursor: str | None
    ) -> Page[JobSummary]:
        snapshot = self.session.snapshot
        page = await self.jobs.page(
            state=listed, selected=state.filter.selected, limit=limit, cursor=cursor, snapshot=snapshot
        )
        return replace(page, items=[named_job(job, snapshot) for job in page.items])

    async def _read_sorted(
        self, listed: WindowState, state: ListState[Listed]
    ) -> tuple[Sequence[JobSummary], bool]:
        """Return the jobs of a state by a column: all are read, up to a limit; rarely if that takes long.

        Also returns whether there are more.
        """
        began = time.monotonic()
        jobs: list[JobSummary] = []
        cursor: str | None = None
        for _ in range(job_text.MAX_SORTED // MAX_JOBS):
            page = await self._read(listed, state, MAX_JOBS, cursor)
            jobs += page.items
            cursor = page.next
            if cursor is None:
                break
        self._next_read = time.monotonic() + READ_PAUSE_FACTOR * (time.monotonic() - began)
        return job_text.JOB_SORTING[listed].sort(jobs, state.order), cursor is not None

    def sorting_of(self, state: ListState[Listed]) -> Sorting[Any]:
        """Return the columns of a tab."""
        tab = state.filter.tab
        return job_text.SCHEDULE_SORTING if tab == "schedules" else job_text.JOB_SORTING[tab]

    # Painting

    @property
    def table(self) -> JobTable:
        """The jobs."""
        return self.query_one(JobTable)

    @property
    def active_table(self) -> JobTable | ScheduleTable:
        """The jobs or the schedules."""
        return self.query_one(ScheduleTable) if self.lists_schedules else self.table

    @property
    def lists_schedules(self) -> bool:
        """Whether schedules are listed."""
        return self.state.filter.tab == "schedules"

    def fill_tables(self) -> None:
        """Show the jobs or the schedules, if there are some."""
        width, now = self.size.width, self.session.now
        jobs, schedules = self.table, self.query_one(ScheduleTable)
        page = self.page
        if self.lists_schedules:
            listed = page.schedules if isinstance(page, JobPage) else ()
            schedules.show_schedules(listed, width, now)
        else:
            jobs.show_jobs(self.rows, self.state.filter.tab, width, now, self._doubts)
        jobs.display = bool(jobs.items) and not self.lists_schedules
        schedules.display = bool(schedules.items) and self.lists_schedules
        self._show_states()
        self._show_selected()

    def empty_message(self) -> str:
        """Return why nothing is shown."""
        if self.page is None:
            return with_keys(self, "  not read: {list.reload} reads again")
        query = self.filter_text()
        shows_all = with_keys(self, "{list.back} shows all")
        searches_on = with_keys(self, "{list.page-next} searches on")
        of_filter = f" for {escape(query)}: {shows_all}" if query else ""
        if query and self.page.next is not None:
            of_filter = f" for {escape(query)} among those searched: {searches_on}, {shows_all}"
        nothing = f"  {job_text.EMPTY[self.state.filter.tab]}{of_filter}"
        last_done = self.page.last_done if isinstance(self.page, JobPage) else ()
        done = job_text.last_done_lines(last_done, self.session.now, self.size.width)
        return "\n".join([nothing, *self._why_nothing_starts(), *done])

    def _why_nothing_starts(self) -> list[str]:
        """Return a sentence for each queue, if the list is one from which or to which jobs start."""
        snapshot, job_filter = self.session.snapshot, self.state.filter
        if snapshot is None or job_filter.tab not in ("running", "ready"):
            return []
        selected = job_filter.selected.queue
        queues = [queue.name for queue in snapshot.queues if selected in (None, queue.name)]
        return ["", *job_text.start_sentences(snapshot, map(self.session.operations.queues.policy, queues))]

    def title_parts(self) -> list[str]:
        """Return how many rows, and which page."""
        age = f"read {long_duration(time.monotonic() - self._read_at)} ago" if self._doubts.is_old else ""
        if self.lists_schedules:
            schedules = plural(len(self.query_one(ScheduleTable).items), "schedule")
            return [schedules, age, *self.position_parts(numbered=False)]
        single = self.state.page_number == 1 and self._next_state() is None
        jobs = plural(len(self.rows), "job")
        as_started = self.state.filter.tab == "ready" and self.state.order is None
        is_cut = isinstance(self.page, JobPage) and self.page.is_cut
        dead = sum(map(self._doubts.is_held_by_dead, self.rows))
        return [
            jobs if single else f"{jobs} on this page",
            age,
            f"of the first {count(job_text.MAX_SORTED)}" if is_cut else "",
            "in the order of their queues" if as_started else "",
            f"{dead} held by a dead worker" if dead else "",
            *self.position_parts(numbered=not single),
        ]

    @property
    def _doubts(self) -> job_text.Doubts:
        return job_text.doubts(self.session.snapshot, is_old=self.session.figures_are_old)

    def _show_states(self) -> None:
        job_filter = self.state.filter
        counts: dict[str, int | None] = {"schedules": self._schedule_count}
        if isinstance(self.page, JobPage):
            queue = job_filter.selected.queue
            meant = [own for name, own in self.page.counts.items() if queue in (None, name)]
            counts |= {name: sum(getattr(own, name) for own in meant) for name in JOB_STATES}
        self.query_one(StateBar).show_states(job_filter.tab, counts, self.filter_text(), self.size.width)

    def _selected_job(self) -> JobSummary | None:
        return None if self.lists_schedules else self.table.selected

    def _selected_schedule(self) -> ScheduleView | None:
        return self.query_one(ScheduleTable).selected if self.lists_schedules else None

    def on_data_table_row_highlighted(self) -> None:
        """Show the row under the cursor."""
        self._show_selected()

    def _show_selected(self) -> None:
        """Show what is under the cursor."""
        pane, job, schedule = self.query_one(JobPane), self._selected_job(), self._selected_schedule()
        if schedule is not None:
            pane.show_schedule(schedule)
        elif job is not None:
            pane.show_job(job)
        else:
            pane.show_nothing()

    # Keys of the list

    def parse_filter(self, text: str) -> JobFilter:
        """Parse a filter.  Raises InvalidFilterError, UnknownQueueError."""
        selected = JobFilter.parse(text)
        if selected.queue is not None:
            self.session.operations.queues.policy(selected.queue)
        return selected

    def filter_values(self) -> Values:
        """Return the names of queues, functions and workers."""
        return job_text.filter_values(self.session.snapshot)

    def filter_text(self) -> str:
        """Return the filter, as it is written."""
        return self.state.filter.selected.to_query()

    def with_filter(self, filter_: JobFilter) -> ListState[Listed]:
        """Return the first page of what is selected, in the same state."""
        return ListState(replace(self.target_state.filter, selected=filter_))

    def state_before(self) -> ListState[Listed] | None:
        """Leave the filter."""
        return self.with_filter(ALL_JOBS) if self.state.filter.selected != ALL_JOBS else None

    def action_tab(self, step: int) -> None:
        """Show the next list, or the one before."""
        index = job_text.TABS.index(self.target_state.filter.tab)
        self._show_tab(job_text.TABS[(index + step) % len(job_text.TABS)])

    def on_state_bar_chosen(self, message: StateBar.Chosen) -> None:
        """Show the list that was clicked."""
        self._show_tab(message.name)

    def _show_tab(self, name: str) -> None:
        self.request(ListState(replace(self.target_state.filter, tab=name)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys of lists while the filter is edited."""
        if action == "tab" and not super().check_action("filter", ()):
            return False
        return super().check_action(action, parameters)

    def in_footer(self, binding: Binding) -> bool:
        """Show the keys that apply to what is listed: jobs or schedules."""
        if self.lists_schedules and binding.action.startswith("change("):
            return False
        return binding.show or (self.lists_schedules and binding.action == "toggle_schedule")

    def page_arrived(self, before: ListState[Listed]) -> None:
        """Remember which list is shown, and when it was read."""
        super().page_arrived(before)
        self._read_at = time.monotonic()
        self.session.state.set(_REMEMBERED_TAB, self.state.filter.tab)
        self.refresh_bindings()

    # Actions

    def jobs_changed(self) -> None:
        """Unmark: what was marked has changed."""
        self.table.unmark()
        super().jobs_changed()

    def on_job_table_opened(self, message: JobTable.Opened) -> None:
        """Show all of the job."""
        self.post_message(OpenJob(message.job))

    def action_open_job(self) -> None:
        """Notify the operator: there is no row to open."""
        self._targets("open")

    def action_change(self, verb: Verb) -> None:
        """Apply a verb to the marked jobs, or to the one under the cursor."""
        if jobs := self._targets(verb):
            self.run_exclusive(self.change_jobs, verb, jobs)

    def action_run_now(self) -> None:
        """Run jobs or a schedule now."""
        schedule = self._selected_schedule()
        if schedule is not None:
            self.run_exclusive(self.run_schedule, schedule)
        else:
            self.action_change("run-now")

    def action_enqueue(self) -> None:
        """Enqueue a job: of the queue of the filter, or of the row under the cursor."""
        row = self._selected_schedule() or self._selected_job()
        queue = self.state.filter.selected.queue or (row.queue if row is not None else None)
        queues = self.session.snapshot.queues if self.session.snapshot is not None else ()
        if queue is None and queues:
            queue = queues[0].name
        if queue is not None:
            self.run_exclusive(self.enqueue_job, queue)
        else:
            self.notify("the queues are not known yet: Redis has not answered")

    def action_open_enqueued(self) -> None:
        """Show the job that was enqueued last."""
        self.run_exclusive(self.open_enqueued)

    def action_toggle_schedule(self) -> None:
        """Disable or enable the schedule under the cursor."""
        schedule = self._selected_schedule()
        if schedule is not None:
            self.run_exclusive(self.toggle_schedule, schedule)
        else:
            self.notify(with_keys(self, "{jobs.toggle-schedule} disables a schedule: the last list has them"))

    def _targets(self, verb: str) -> list[JobSummary]:
        """Return the marked jobs, else the one under the cursor; without one, a message shows that."""
        if self._selected_schedule() is not None:
            self.notify(f"{verb} applies to jobs: of a schedule {with_keys(self, SCHEDULE_KEYS)}")
            return []
        jobs = list(self.table.marks.values())
        selected = self._selected_job()
        if not jobs and (selected is None or not self.table.display):
            self.notify("no job is listed: there is nothing to act on")
            return []
        return jobs or ([selected] if selected is not None else [])
