"""One worker process: its jobs, the settings in which it differs, and the newest lines of its log."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui.screens.workers.actions import WorkerActions
from tui.session import Session
from tui.text import worker_page
from tui.text.format import escape
from tui.widgets.line import Line
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Snapshot
from workers.operations.worker_list import Worker, list_workers


class WorkerScreen(WorkerActions):
    """Follows the snapshots; once the process has ended the last figures stay, and the page says so."""

    HELP = "One process: what it holds and what becomes of that, its settings, and its log if it is this one."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("D", "drain_worker", "Drain it"),
        Binding("u", "undo_drain", "Undo"),
        Binding("exclamation_mark", "put_back_worker", "Put back", key_display="!"),
    ]

    def __init__(self, session: Session, worker_id: str) -> None:
        super().__init__(session)
        self._worker_id = worker_id
        self._worker: Worker | None = None
        self._ended = False

    @property
    def about(self) -> str:
        """The name of what the screen is about."""
        return self._worker.name if self._worker is not None else ""

    def compose_body(self) -> ComposeResult:
        """Compose a text to scroll through."""
        yield Rule("Worker", id="worker-title", keys=(("esc", "back"),))
        with VerticalScroll(id="detail"):
            yield Line("  not read yet", id="worker-facts", classes="figures")
            yield Rule("Jobs in flight")
            yield Line(id="worker-jobs", classes="figures")
            yield Rule("Settings that differ")
            yield Line(id="worker-settings")
            yield Rule("Log, the newest lines")
            yield Line(id="worker-log")

    def on_mount(self) -> None:
        """Let keys scroll."""
        self.query_one("#detail").focus()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot."""
        super().update_snapshot(snapshot, error)
        if snapshot is None:
            return
        listed = list_workers(snapshot.workers, snapshot.queues)
        found = next((worker for worker in listed if worker.id == self._worker_id), None)
        self._ended = found is None
        self._worker = found or self._worker
        self._show()

    def _show(self) -> None:
        worker = self._worker
        title, facts = self.query_one("#worker-title", Rule), self.query_one("#worker-facts", Line)
        if worker is None:
            title.show("Worker", escape(self._worker_id))
            facts.show("  it has ended, and holds no jobs: 6 shows its events")
            return
        own = "this process" if self._is_own(worker) else ""
        title.show(escape(worker.name), "has ended: these are its last figures" if self._ended else own)
        facts.show(worker_page.facts(worker))
        self.query_one("#worker-jobs", Line).show(worker_page.jobs(worker, self.forecasts(worker)))
        if not self._ended:
            self.query_one("#worker-settings", Line).show(self.settings_text(worker.id))
        lines = self.newest_lines(worker.id)
        self.query_one("#worker-log", Line).show(worker_page.log_lines(lines, worker.id))

    def _living(self) -> Worker | None:
        if self._worker is None or self._ended:
            self.notify("the process has ended: there is nothing to act on")
            return None
        return self._worker

    def action_drain_worker(self) -> None:
        """Drain the process."""
        if (worker := self._living()) is not None:
            self.run_exclusive(self.drain_worker, worker)

    def action_undo_drain(self) -> None:
        """Let it take jobs again."""
        if (worker := self._living()) is not None:
            self.run_exclusive(self.undo_drain, worker)

    def action_put_back_worker(self) -> None:
        """Return its jobs now."""
        if (worker := self._living()) is not None:
            self.run_exclusive(self.put_back, worker)
