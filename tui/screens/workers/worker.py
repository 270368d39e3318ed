"""One worker process: its jobs, the settings in which it differs, and the newest lines of its log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui.keymap import key_name
from tui.navigation import OpenJob
from tui.screens.jobs.actions import JobActions
from tui.screens.workers.actions import WorkerActions
from tui.session import Session
from tui.text import worker_page
from tui.text.format import escape
from tui.text.jobs import JOB_SORTING, doubts
from tui.text.sorting import Sorting
from tui.widgets.job_table import JobTable
from tui.widgets.line import Line
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Snapshot
from workers.operations.job_filter import JobFilter
from workers.operations.job_views import named_job
from workers.operations.jobs import MAX_JOBS, JobSummary, Verb
from workers.operations.worker_list import Worker, list_workers

_KEYS = (("{list.open}", "open"), ("{workers.abort}", "abort"), ("{workers.duplicate}", "duplicate"))


class WorkerScreen(WorkerActions, JobActions):
    """Follows the snapshots; once the process has ended, the last figures stay, and the title shows it."""

    HELP = (
        "One process: the jobs that it runs, what becomes of them, the settings in which it differs, and its "
        "newest log lines. {workers.drain-worker}, {workers.undo-drain} and {workers.put-back-worker} are "
        "about the process, {workers.abort}, {workers.run-now}, {workers.duplicate} and {workers.remove} "
        "about its jobs: the marked ones, else the one under the cursor."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("D", "drain_worker", "Drain it"),
        Binding("u", "undo_drain", "Undo"),
        Binding("exclamation_mark", "requeue_worker", "Requeue", key_display="!"),
        Binding("enter", "open_job", "Open", show=False),
        Binding("x", "change('abort')", "Abort"),
        Binding("R", "change('run-now')", "Run now", show=False),
        Binding("c", "change('duplicate')", "Duplicate"),
        Binding("X", "change('remove')", "Remove", show=False),
        Binding("r", "reload", "Read again", show=False),
    ]

    def __init__(self, session: Session, worker_id: str) -> None:
        super().__init__(session)
        self._worker_id = worker_id
        self._worker: Worker | None = None
        self._ended = False
        self._is_reading = False

    @property
    def subject(self) -> str:
        """The name of what the screen is about."""
        return self._worker.name if self._worker is not None else ""

    def compose_body(self) -> ComposeResult:
        """Compose the facts, the jobs, and a text to scroll through."""
        yield Rule("Worker", id="worker-title", keys=(("{app.back}", "back"),))
        yield Line("  not read yet", id="worker-facts", classes="figures")
        yield Rule("Jobs in flight", keys=_KEYS, id="worker-jobs-title")
        yield Line(id="worker-jobs", classes="figures")
        yield JobTable(id="jobs-table")
        with VerticalScroll(id="detail"):
            yield Rule("Settings that differ")
            yield Line(id="worker-settings")
            yield Rule("Log, the newest line first")
            yield Line(id="worker-log")

    def on_mount(self) -> None:
        """Let keys scroll until there are jobs."""
        self.query_one("#detail").focus()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot, and read the jobs again."""
        super().update_snapshot(snapshot, error)
        if snapshot is None:
            return
        listed = list_workers(snapshot.workers, snapshot.queues)
        worker = next((worker for worker in listed if worker.id == self._worker_id), None)
        self._ended = worker is None
        self._worker = worker or self._worker
        self._show()
        if self.is_current and not self._is_reading and not self.session.figures_are_old:
            self._is_reading = True
            self.read_jobs()

    def refresh_data(self) -> None:
        """Read the jobs with the next snapshot."""

    def action_reload(self) -> None:
        """Take a snapshot now."""
        self.session.refresh()

    @work
    async def read_jobs(self) -> None:
        """Show the jobs that it runs; while they cannot be read, those that were read stay."""
        try:
            snapshot = self.session.snapshot
            own = JobFilter(worker=self._worker_id)
            page = await self.session.run(
                self.jobs.page(state="running", selected=own, limit=MAX_JOBS, snapshot=snapshot),
                on_error=lambda _: None,
            )
            if page is not None and self.is_mounted:
                self._show_jobs([named_job(job, snapshot) for job in page.items])
        finally:
            self._is_reading = False

    @property
    def table(self) -> JobTable:
        """Its jobs."""
        return self.query_one(JobTable)

    @property
    def sorting(self) -> Sorting[JobSummary]:
        """The columns of its jobs."""
        return JOB_SORTING["running"]

    def order_changed(self) -> None:
        """Show the jobs in the order that was chosen."""
        self._show_jobs(self.table.items)

    def _show_jobs(self, jobs: Sequence[JobSummary]) -> None:
        table = self.table
        table.order = self.order
        known_doubts = doubts(self.session.snapshot, is_old=self.session.figures_are_old)
        rows = self.sorting.sort(jobs, self.order)
        table.show_jobs(rows, "running", self.size.width, self.session.now, known_doubts)
        if table.display != bool(jobs):
            table.display = bool(jobs)
            (table if jobs else self.query_one("#detail")).focus()
        parts = [f"by {self.order}" if self.order is not None else ""]
        parts.append(f"{len(table.marks):,} marked" if table.marks else "")
        self.query_one("#worker-jobs-title", Rule).show("Jobs in flight", " · ".join(filter(None, parts)))
        if self._worker is not None:
            self._show_forecast(self._worker)

    def _show(self) -> None:
        worker = self._worker
        title, facts = self.query_one("#worker-title", Rule), self.query_one("#worker-facts", Line)
        if worker is None:
            title.show("Worker", escape(self._worker_id))
            facts.show("  it has ended, and holds no jobs: 6 shows its events")
            return
        own = "this process" if self._is_own(worker) else ""
        title.show(escape(worker.name), "has ended: these are its last figures" if self._ended else own)
        facts.show(worker_page.facts(worker, key_name(self, "workers.undo-drain")))
        self._show_forecast(worker)
        if not self._ended:
            self.query_one("#worker-settings", Line).show(self.settings_text(worker.id))
            self.query_one("#worker-log", Line).show(self.log_text(worker.id))

    def _show_forecast(self, worker: Worker) -> None:
        """Show what becomes of its jobs; that it holds none only if none is listed: one may be newer."""
        forecast = self.query_one("#worker-jobs", Line)
        forecast.show(worker_page.jobs(worker, self.forecasts(worker)))
        is_listed = bool(self.table.items)
        is_ending = bool(worker.held) and worker.state in ("draining", "dead")
        forecast.display = is_ending or not (worker.held or is_listed)

    def on_markable_table_marks_changed(self) -> None:
        """Count the marks in the title."""
        self._show_jobs(self.table.items)

    # Jobs

    def jobs_changed(self) -> None:
        """Unmark: what was marked has changed."""
        self.table.unmark()
        super().jobs_changed()

    def on_job_table_opened(self, message: JobTable.Opened) -> None:
        """Show all of the job."""
        self.post_message(OpenJob(message.job))

    def action_open_job(self) -> None:
        """Show all of the job under the cursor."""
        if jobs := self._targets():
            self.post_message(OpenJob(jobs[0]))

    def action_change(self, verb: Verb) -> None:
        """Apply a verb to the marked jobs, or to the one under the cursor."""
        if jobs := self._targets():
            self.run_exclusive(self.change_jobs, verb, jobs)

    def _targets(self) -> list[JobSummary]:
        """Return the marked jobs, else the one under the cursor; without one, a message shows that."""
        table = self.table
        selected = table.selected if table.display else None
        jobs = list(table.marks.values()) or ([selected] if selected is not None else [])
        if not jobs:
            self.notify("it runs no job: there is nothing to act on")
        return jobs

    # The process

    def _live_worker(self) -> Worker | None:
        if self._worker is None or self._ended:
            self.notify("the process has ended: there is nothing to act on")
            return None
        return self._worker

    def action_drain_worker(self) -> None:
        """Drain the process."""
        if (worker := self._live_worker()) is not None:
            self.run_exclusive(self.drain_worker, worker)

    def action_undo_drain(self) -> None:
        """Let it take jobs again."""
        if (worker := self._live_worker()) is not None:
            self.run_exclusive(self.undo_drain, worker)

    def action_requeue_worker(self) -> None:
        """Requeue its jobs now."""
        if (worker := self._live_worker()) is not None:
            self.run_exclusive(self.requeue, worker)
