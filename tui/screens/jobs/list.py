"""Jobs by state, a page at a time, the one under the cursor in more detail; and the schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll

from tui.navigation import OpenJob
from tui.screens.jobs.actions import JobActions
from tui.screens.paged import PAGE_ROWS, ListState, PagedScreen
from tui.session import Session
from tui.text import job_page
from tui.text.format import clip, escape
from tui.text.jobs import TABS
from tui.text.words import plural
from tui.widgets.job_table import JobTable, ScheduleTable
from tui.widgets.line import Line
from tui.widgets.rule import Rule
from tui.widgets.state_bar import StateBar
from workers.engine.policy import DEFAULT_POLICIES
from workers.errors import UnknownQueueError
from workers.monitoring.snapshot import Snapshot
from workers.operations.job_views import start_facts
from workers.operations.jobs import JOB_STATES, JobCounts, JobDetail, JobSummary, Verb
from workers.operations.schedules import ScheduleView
from workers.operations.why import explain

_SIDE_BY_SIDE_WIDTH = 140
"""Columns of a terminal from which facts and payload of a job are beside each other."""
_MAX_KEY_CHARS = 60
_REMEMBERED_TAB = "jobs-tab"
_KEYS = (("enter", "whole"), ("x", "abort"), ("R", "run now"), ("c", "duplicate"), ("X", "remove"))
_SCHEDULE_KEYS = (("R", "run now"), ("p", "disable, enable"))
_EMPTY = {
    "running": "no job runs",
    "ready": "no job is ready",
    "scheduled": "no job waits for its time",
    "done": "no job that has completed is kept",
    "failed": "no job that has failed is kept; view 2 has the dead letters",
    "schedules": "there is no schedule",
}


@dataclass(frozen=True, slots=True)
class JobFilter:
    """A state, or the schedules; of one queue, or of all (None)."""

    tab: str = TABS[0]
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """What was read together.  ``schedules`` only if they are listed."""

    items: Sequence[JobSummary]
    next: str | None
    counts: dict[str, JobCounts]
    schedules: Sequence[ScheduleView]


class JobsScreen(PagedScreen[ListState[JobFilter], JobSummary], JobActions):
    """The page is read with each snapshot, while the view is shown and Redis answers."""

    REMEMBERED_AS = "jobs-filter"
    FILTER_PLACEHOLDER = "queue:color-extraction"
    HELP = (
        "Jobs by state, left and right change the list. x, R, c and X apply to the marked jobs, else to the "
        "one under the cursor; x, R and X ask once. A job that has moved since it was shown stays as it is. "
        "R and p also apply to schedules. Times are in UTC."
    )
    LEGEND = (
        "■  marked     ●  runs     ▲  runs far longer than usual, or is not a job",
        "↻  a retry    ✔  done     ✕  failed     ‖  disabled",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "tab(-1)", "List before", show=False),
        Binding("right", "tab(1)", "Next list", show=False),
        Binding("enter", "open_job", "Open", show=False),
        Binding("x", "change('abort')", "Abort"),
        Binding("R", "run_now", "Run now"),
        Binding("c", "change('duplicate')", "Duplicate"),
        Binding("X", "change('remove')", "Remove"),
        Binding("p", "toggle_schedule", "Disable or enable a schedule", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("r", "reload", "Read again", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("escape", "back", "Clear the filter", show=False),
    ]

    def __init__(self, session: Session) -> None:
        tab = session.state.get(_REMEMBERED_TAB)
        super().__init__(session, ListState(JobFilter(tab if tab in TABS else TABS[0])))
        self._schedule_count: int | None = None
        self._detail: JobDetail | None = None
        self._detail_of: tuple[str, str] | None = None
        """Queue and key of the job that is shown in detail, or is being read for that."""
        self._reading_detail = False

    def compose_body(self) -> ComposeResult:
        """Compose the states, the list, and the part about the row under the cursor."""
        yield StateBar(id="job-states")
        yield from super().compose_body()
        with Container(id="job-section"):
            yield Rule(id="job-title", keys=_KEYS)
            with VerticalScroll(id="job-detail", can_focus=False):
                yield Line(id="job-facts", classes="figures")
                yield Line(id="job-payload")

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
        if self.is_current and readable and not self.is_waiting:
            self.request_again()

    def refresh_data(self) -> None:
        """Read the page again."""
        self.request_again()

    async def fetch_page(self, state: ListState[JobFilter]) -> JobPage:
        """Read the page of a state, and how many jobs there are in each."""
        wanted = state.filter
        counts = await self.jobs.counts()
        if wanted.tab == "schedules":
            schedules = await self.schedules.list()
            self._schedule_count = len(schedules)
            found = [one for one in schedules if wanted.queue in (None, one.queue)]
            return JobPage((), None, counts, found)
        if self._schedule_count is None:
            self._schedule_count = len(await self.schedules.list())
        listed = next(known for known in JOB_STATES if known == wanted.tab)
        page = await self.jobs.page(
            wanted.queue, listed, limit=PAGE_ROWS, cursor=state.cursor, snapshot=self.session.snapshot
        )
        return JobPage([self.named(job) for job in page.items], page.next, counts, ())

    @work
    async def read_detail(self) -> None:
        """Read the job under the cursor, and again while the cursor moves on; one read at a time."""
        try:
            while (job := self._selected()) is not None:
                problems: list[str] = []
                detail = await self.session.run(
                    self.jobs.get(job.queue, job.key, snapshot=self.session.snapshot),
                    on_error=problems.append,
                )
                if not self.is_running:
                    return
                if self._detail_of == (job.queue, job.key):
                    self._detail = None if detail is None else self.named(detail)
                    self._show_detail("".join(problems))
                    return
        finally:
            self._reading_detail = False

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
            found = page.schedules if isinstance(page, JobPage) else ()
            schedules.show_schedules(found, width, now)
        else:
            jobs.show_jobs(self.rows, self.state.filter.tab, width, now)
        jobs.display = bool(jobs.items) and not self.lists_schedules
        schedules.display = bool(schedules.items) and self.lists_schedules
        self._show_states()
        self._show_selected()

    def empty_message(self) -> str:
        """Why nothing is shown."""
        if self.page is None:
            return "  not read: r reads again"
        queue = self.state.filter.queue
        of_queue = f" of {queue}: escape shows all queues" if queue is not None else ""
        nothing = f"  {_EMPTY[self.state.filter.tab]}{of_queue}"
        return "\n".join([nothing, *self._why_nothing_starts()])

    def _why_nothing_starts(self) -> list[str]:
        """A sentence for each queue, if the list is one from which or to which jobs start."""
        snapshot, wanted = self.session.snapshot, self.state.filter
        if snapshot is None or wanted.tab not in ("running", "ready"):
            return []
        queues = [queue.name for queue in snapshot.queues if wanted.queue in (None, queue.name)]
        policies = map(self.session.operations.policy, queues)
        sentences = [explain(start_facts(policy, snapshot, None)).sentence for policy in policies]
        return ["", *(f"  {escape(sentence)}" for sentence in sentences)]

    def title_parts(self) -> list[str]:
        """How many rows, and which page."""
        if self.lists_schedules:
            return [plural(len(self.query_one(ScheduleTable).items), "schedule")]
        single = self.state.page_number == 1 and (self.page is None or self.page.next is None)
        jobs = plural(len(self.rows), "job")
        return [jobs if single else f"{jobs} on this page", *self.position_parts(numbered=not single)]

    def _show_states(self) -> None:
        wanted = self.state.filter
        counts: dict[str, int | None] = {"schedules": self._schedule_count}
        if isinstance(self.page, JobPage):
            meant = [own for queue, own in self.page.counts.items() if wanted.queue in (None, queue)]
            counts |= {name: sum(getattr(own, name) for own in meant) for name in JOB_STATES}
        self.query_one(StateBar).show_states(wanted.tab, counts, wanted.queue, self.size.width)

    def _selected(self) -> JobSummary | None:
        return None if self.lists_schedules else self.table.selected

    def _selected_schedule(self) -> ScheduleView | None:
        return self.query_one(ScheduleTable).selected if self.lists_schedules else None

    def on_data_table_row_highlighted(self) -> None:
        """Show the row under the cursor."""
        self._show_selected()

    def _show_selected(self) -> None:
        """Show what is under the cursor; of a job what is known, until all of it has been read."""
        job, schedule = self._selected(), self._selected_schedule()
        self.query_one("#job-section").display = job is not None or schedule is not None
        self.set_class(self.size.width >= _SIDE_BY_SIDE_WIDTH, "-wide")
        if schedule is not None:
            self._detail_of = None
            self.query_one("#job-title", Rule).show(escape(schedule.name), keys=_SCHEDULE_KEYS)
            self.query_one("#job-facts", Line).show(
                job_page.schedule_facts(schedule, self.session.now, self._facts_width)
            )
            self.query_one("#job-payload", Line).show("")
        elif job is not None:
            self._show_job(job)

    @property
    def _facts_width(self) -> int:
        width = self.size.width
        return width // 2 if width >= _SIDE_BY_SIDE_WIDTH else width

    def _show_job(self, job: JobSummary) -> None:
        self.query_one("#job-title", Rule).show(clip(escape(job.key), _MAX_KEY_CHARS), job.queue, keys=_KEYS)
        if self._detail_of != (job.queue, job.key):
            self._detail_of, self._detail = (job.queue, job.key), None
            self.query_one("#job-facts", Line).show("  reading …")
            self.query_one("#job-payload", Line).show("")
        if _is_final(self._detail, job):
            self._show_detail("")
        elif not self._reading_detail and not self.session.figures_are_old:
            self._reading_detail = True
            self.read_detail()

    def _show_detail(self, problem: str) -> None:
        detail = self._detail
        text = (
            f"  {problem}" if detail is None else job_page.facts(detail, self.session.now, self._facts_width)
        )
        self.query_one("#job-facts", Line).show(text)
        self.query_one("#job-payload", Line).show("" if detail is None else job_page.payload(detail))

    # Keys of the list

    def parse_filter(self, text: str) -> str | None:
        """Parse ``queue:NAME``, or only the name.  Raises UnknownQueueError."""
        name = text.strip().removeprefix("queue:").strip()
        if name and name not in DEFAULT_POLICIES:
            raise UnknownQueueError(name, tuple(DEFAULT_POLICIES))
        return name or None

    def filter_text(self) -> str:
        """The filter, as it is written."""
        return f"queue:{self.state.filter.queue}" if self.state.filter.queue is not None else ""

    def with_filter(self, filter_: str | None) -> ListState[JobFilter]:
        """The first page of another queue, in the same state."""
        return ListState(replace(self.target_state.filter, queue=filter_))

    def state_before(self) -> ListState[JobFilter] | None:
        """Leave the filter."""
        return self.with_filter(None) if self.state.filter.queue is not None else None

    def action_tab(self, step: int) -> None:
        """Show the next list, or the one before."""
        index = TABS.index(self.target_state.filter.tab)
        self._show_tab(TABS[(index + step) % len(TABS)])

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

    def page_arrived(self, before: ListState[JobFilter]) -> None:
        """Remember which list is shown."""
        super().page_arrived(before)
        self.session.state.set(_REMEMBERED_TAB, self.state.filter.tab)

    # Actions

    def jobs_changed(self) -> None:
        """Unmark: what was marked has changed."""
        self.table.unmark()
        super().jobs_changed()

    def on_job_table_opened(self, message: JobTable.Opened) -> None:
        """Show all of the job."""
        self.post_message(OpenJob(message.job))

    def action_open_job(self) -> None:
        """Without a row: say so."""
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

    def action_toggle_schedule(self) -> None:
        """Disable or enable the schedule under the cursor."""
        schedule = self._selected_schedule()
        if schedule is not None:
            self.run_exclusive(self.toggle_schedule, schedule)
        else:
            self.notify("p disables a schedule: the last list has them")

    def _targets(self, verb: str) -> list[JobSummary]:
        """The marked jobs, else the one under the cursor; without one say so."""
        if self._selected_schedule() is not None:
            self.notify(f"{verb} applies to jobs: of a schedule R runs it now, p disables or enables it")
            return []
        jobs = list(self.table.marks.values())
        selected = self._selected()
        if not jobs and (selected is None or not self.table.display):
            self.notify("no job is listed: there is nothing to act on")
            return []
        return jobs or ([selected] if selected is not None else [])


def _is_final(detail: JobDetail | None, job: JobSummary) -> bool:
    """Whether all that will ever be known of a job has been read."""
    return (
        detail is not None
        and detail.version == job.version
        and (job.state == "done" or (job.state == "failed" and detail.letter is not None))
    )
