"""One job: why it does not run, its payload, its attempts, and while it runs where it stands."""

from __future__ import annotations

import time
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui.keymap import key_name
from tui.screens.jobs.actions import JobActions
from tui.session import Session
from tui.text import job_page
from tui.text.format import clip, clock_time, escape, long_duration
from tui.text.styles import BREACH
from tui.widgets.line import Line
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Snapshot
from workers.operations.job_views import named_job
from workers.operations.jobs import JobDetail, JobStack, JobSummary, Verb

_REFRESH_SECONDS = 2.0
_MAX_KEY_CHARS = 80
_ONLY_RUNNING = (
    "job-stack-title",
    "job-stack",
    "job-alike-title",
    "job-alike",
    "job-log-title",
    "job-log",
)
"""Ids of widgets that are shown only while it runs."""


class JobScreen(JobActions):
    """Read again every two seconds while it is shown; a job that is gone stays as it was last read."""

    HELP = (
        "One job: why it does not run, its payload and its attempts; while it runs, the line at which its "
        "coroutine, thread or pool process stands, the innermost first, the other running jobs that stand "
        "there, and its newest log lines. {jobs.abort}, {jobs.run-now} and {jobs.remove} ask once."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("x", "change('abort')", "Abort"),
        Binding("R", "change('run-now')", "Run now"),
        Binding("c", "change('duplicate')", "Duplicate"),
        Binding("X", "change('remove')", "Remove"),
        Binding("r", "reload", "Read again", show=False),
    ]

    def __init__(self, session: Session, job: JobSummary) -> None:
        super().__init__(session)
        self._job = job
        self._stack: JobStack | None = None
        self._stack_problem: str | None = None
        self._reading = False
        self._next_read = 0.0
        self._read_at: float | None = None
        """When it was read last, by the monotonic clock."""

    @property
    def subject(self) -> str:
        """The name of what the screen is about."""
        return self._job.key

    def compose_body(self) -> ComposeResult:
        """Compose a text to scroll through."""
        yield Rule(
            clip(escape(self._job.key), _MAX_KEY_CHARS), keys=(("{app.back}", "back"),), id="job-title"
        )
        with VerticalScroll(id="detail"):
            yield Line(id="job-problem")
            yield Line("  reading …", id="job-facts", classes="figures")
            yield Rule("Where it is now", id="job-stack-title")
            yield Line(id="job-stack")
            yield Rule("Others like it", id="job-alike-title")
            yield Line(id="job-alike")
            yield Rule("Log, the newest lines", id="job-log-title")
            yield Line(id="job-log")
            yield Rule("Payload")
            yield Line(id="job-payload")
            yield Rule("Failed attempts")
            yield Line(id="job-attempts")

    def on_mount(self) -> None:
        """Let keys scroll, and read the job."""
        self.query_one("#detail").focus()
        self._show_parts(visible=False)
        if self.session.outage:
            self._show_problem(self.session.outage)
        else:
            self.query_one("#job-facts").display = True
        self._read()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Read the job again when that is due."""
        super().update_snapshot(snapshot, error)
        due = time.monotonic() >= self._next_read
        if due and self.is_current and not self.session.figures_are_old:
            self._read()

    def refresh_data(self) -> None:
        """Read it again."""
        self._read()

    def action_reload(self) -> None:
        """Read it again."""
        self._read()

    def _read(self) -> None:
        if not self._reading:
            self._reading = True
            self._next_read = time.monotonic() + _REFRESH_SECONDS
            self.read_job()

    @work
    async def read_job(self) -> None:
        """Show the job as it is now; if it cannot be read, why not."""
        try:
            problems: list[str] = []
            queue, key = self._job.queue, self._job.key
            detail = await self.session.run(
                self.jobs.get(queue, key, clock=clock_time), on_error=problems.append
            )
            if not self.is_running or not self.is_mounted:
                return
            title = self.query_one("#job-title", Rule)
            shown_key = clip(escape(key), _MAX_KEY_CHARS)
            if detail is None:
                self._show_problem("".join(problems))
                return
            self._job = detail = named_job(detail, self.session.snapshot)
            self._read_at = time.monotonic()
            self._show_parts(visible=True)
            title.show(shown_key, f"{queue} · {detail.state}")
            self._show(detail)
            await self._read_stack(detail)
        finally:
            self._reading = False

    def _show_problem(self, problem: str) -> None:
        """Show why it cannot be read; what was read before stays, with its age."""
        age = None if self._read_at is None else time.monotonic() - self._read_at
        read = f"read {long_duration(age)} ago" if age is not None else "not read"
        self.query_one("#job-title", Rule).show(clip(escape(self._job.key), _MAX_KEY_CHARS), read)
        line = self.query_one("#job-problem", Line)
        line.show(Text(f"  it cannot be read: {problem}", BREACH))
        self._show_parts(visible=age is not None)
        line.display = True

    def _show_parts(self, *, visible: bool) -> None:
        for part in self.query_one("#detail").children:
            if part.id not in _ONLY_RUNNING:
                part.display = visible and part.id != "job-problem"
            elif not visible:
                part.display = False

    async def _read_stack(self, detail: JobDetail) -> None:
        running = detail.state == "running"
        for name in _ONLY_RUNNING:
            self.query_one(f"#{name}").display = running
        if not running:
            return
        problems: list[str] = []
        stack = await self.session.run(self.jobs.stack(detail.queue, detail.key), on_error=problems.append)
        finding = await self.session.run(
            self.jobs.alike(detail.queue, detail.key, snapshot=self.session.snapshot),
            on_error=problems.append,
        )
        if self.is_running and self.is_mounted:
            self.query_one("#job-alike", Line).show(job_page.alike(finding, self.size.width))
            self._stack, self._stack_problem = stack, "".join(problems[:1])
            self.query_one("#job-stack", Line).show(job_page.stack(stack, self._stack_problem))
            self.query_one("#job-log", Line).show(job_page.log(stack))

    def _show(self, detail: JobDetail) -> None:
        self.query_one("#job-facts", Line).show(
            job_page.facts(detail, self.session.now, self.size.width, key_name(self, "app.view-letters"))
        )
        self.query_one("#job-payload", Line).show(job_page.payload(detail, whole=True))
        self.query_one("#job-attempts", Line).show(job_page.attempts(detail))

    def action_change(self, verb: Verb) -> None:
        """Apply a verb to the job."""
        self.run_exclusive(self.change_jobs, verb, [self._job])
