"""The part of the view of jobs about the row under the cursor."""

from __future__ import annotations

import time

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll

from tui.keymap import key_name
from tui.session import Session
from tui.text import job_page
from tui.text.format import clip, clock_time, escape
from tui.text.styles import MUTED
from tui.widgets.line import Line
from tui.widgets.rule import Rule
from workers.operations.job_views import named_job
from workers.operations.jobs import Finding, JobDetail, JobStack, JobSummary
from workers.operations.schedules import ScheduleView

_SIDE_BY_SIDE_WIDTH = 140
"""Columns of a terminal from which the two texts of a job are beside each other."""
_TALL_ROWS = 30
"""Lines of a terminal that fits the others like it."""
_MAX_KEY_CHARS = 60
_MAX_FRAMES = 6
_ASK_SECONDS = 2.0
"""Between two questions where a running job stands."""
_KEYS = (
    ("{list.open}", "whole"),
    ("{jobs.abort}", "abort"),
    ("{jobs.run-now}", "run now"),
    ("{jobs.duplicate}", "duplicate"),
    ("{jobs.remove}", "remove"),
)
_SCHEDULE_KEYS = (("{jobs.run-now}", "run now"), ("{jobs.toggle-schedule}", "disable, enable"))


class JobPane(Container):
    """Shows the list's facts of a job at once, and all of it as soon as it has been read."""

    def __init__(self, session: Session, *, id: str) -> None:
        super().__init__(id=id)
        self.session = session
        self._job: JobSummary | None = None
        """The one that is shown, as the list has it."""
        self._detail: JobDetail | None = None
        self._stack: JobStack | None = None
        self._stack_problem: str | None = None
        self._finding: Finding | None = None
        self._next_question = 0.0
        """When its process is asked again, by the monotonic clock."""
        self._reading = False

    def compose(self) -> ComposeResult:
        """Compose a title, two texts, and the others like it."""
        yield Rule(id="job-title", keys=_KEYS)
        with VerticalScroll(id="job-detail", can_focus=False):
            yield Line(id="job-facts", classes="figures")
            yield Line(id="job-payload")
        yield Rule("Others like it", id="job-alike-title")
        yield Line(id="job-alike")

    def show_nothing(self) -> None:
        """Hide it: no row is under the cursor."""
        self._job, self.display = None, False

    def show_schedule(self, schedule: ScheduleView) -> None:
        """Show a schedule, of which all is known."""
        self._job, self.display = None, True
        self._show_alike(visible=False)
        self.query_one("#job-title", Rule).show(escape(schedule.name), keys=_SCHEDULE_KEYS)
        enable = key_name(self, "jobs.toggle-schedule")
        self._show_texts(job_page.schedule_facts(schedule, self.session.now, self._width, enable), Text())

    def show_job(self, job: JobSummary) -> None:
        """Show a job, and read it unless all that will ever be known of it has been read."""
        self.display = True
        is_other = self._job is None or (self._job.queue, self._job.key) != (job.queue, job.key)
        self._job = job
        self.query_one("#job-title", Rule).show(clip(escape(job.key), _MAX_KEY_CHARS), job.queue, keys=_KEYS)
        if is_other:
            self._detail = self._stack = self._stack_problem = self._finding = None
            self._next_question = 0.0
            self._show_alike(visible=False)
            outage = self.session.outage
            self._show_texts(Text(f"  it cannot be read: {outage}" if outage else "  reading …"), Text())
        if _is_final(self._detail, job):
            self._show_detail()
        elif not self._reading and not self.session.figures_are_old:
            self._reading = True
            self.read_job()

    @work
    async def read_job(self) -> None:
        """Read the job, and again while the cursor moves on; one read at a time."""
        try:
            while (job := self._job) is not None:
                problems: list[str] = []
                detail = await self.session.run(
                    self.session.operations.jobs.get(
                        job.queue, job.key, snapshot=self.session.snapshot, clock=clock_time
                    ),
                    on_error=problems.append,
                )
                if not self.is_mounted or not self.screen.is_running:
                    return
                if self._is_shown(job):
                    self._detail = None if detail is None else named_job(detail, self.session.snapshot)
                    self._show_detail("".join(problems))
                    await self._fetch_stack(job)
                if self._is_shown(job):
                    return
        finally:
            self._reading = False

    def _is_shown(self, job: JobSummary) -> bool:
        return self._job is not None and (self._job.queue, self._job.key) == (job.queue, job.key)

    async def _fetch_stack(self, job: JobSummary) -> None:
        """Fetch the stack of a running job, and the jobs at the same line."""
        if self._detail is None or self._detail.state != "running" or time.monotonic() < self._next_question:
            return
        self._next_question = time.monotonic() + _ASK_SECONDS
        jobs, problems = self.session.operations.jobs, list[str]()
        stack = await self.session.run(jobs.stack(job.queue, job.key), on_error=problems.append)
        finding = await self.session.run(
            jobs.alike(job.queue, job.key, snapshot=self.session.snapshot), on_error=problems.append
        )
        if self._is_shown(job) and self.is_mounted:
            self._stack, self._stack_problem, self._finding = stack, "".join(problems[:1]), finding
            self._show_detail()

    # Painting

    @property
    def is_wide(self) -> bool:
        """Whether the two texts are beside each other."""
        return self.app.size.width >= _SIDE_BY_SIDE_WIDTH

    @property
    def _width(self) -> int:
        width = self.app.size.width
        return width // 2 if self.is_wide else width

    def _show_detail(self, problem: str = "") -> None:
        """Show what has been read; at the right where a running job stands, else the payload."""
        detail = self._detail
        if detail is None:
            if problem:
                self._show_texts(Text(f"  {problem}"), Text())
            return
        facts = job_page.facts(detail, self.session.now, self._width, key_name(self, "app.view-letters"))
        payload = job_page.payload(detail)
        if detail.state != "running":
            self._show_alike(visible=False)
            self._show_texts(facts, payload)
            return
        where = Text("  where it is now\n", MUTED).append_text(
            job_page.stack(self._stack, self._stack_problem, _MAX_FRAMES)
        )
        if self.is_wide:
            self._show_texts(
                facts.append("\n").append_text(payload), where.append_text(job_page.log(self._stack))
            )
        else:
            self._show_texts(facts, where.append_text(payload))
        self._show_alike(visible=self._finding is not None and self.app.size.height >= _TALL_ROWS)

    def _show_texts(self, first: Text, second: Text) -> None:
        self.set_class(self.is_wide, "-wide")
        self.query_one("#job-facts", Line).show(first)
        self.query_one("#job-payload", Line).show(second)

    def _show_alike(self, *, visible: bool) -> None:
        for name in ("#job-alike-title", "#job-alike"):
            self.query_one(name).display = visible
        if visible:
            self.query_one("#job-alike", Line).show(job_page.alike(self._finding, self.app.size.width))


def _is_final(detail: JobDetail | None, job: JobSummary) -> bool:
    """Return whether all that will ever be known of a job has been read."""
    return (
        detail is not None
        and detail.version == job.version
        and (job.state == "done" or (job.state == "failed" and detail.letter is not None))
    )
