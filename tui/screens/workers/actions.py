"""Actions on worker processes, for every screen that shows some."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from typing import Any

from rich.text import Text
from textual import work

from tui.dialogs.confirm import Confirm
from tui.keymap import key_name, with_keys
from tui.screens.base import DashboardScreen
from tui.session import one_line
from tui.text import worker_page
from tui.text.workers import drain_result
from workers.engine.attempt_log import LogLine
from workers.operations.worker_list import DrainForecast, Worker, foresee
from workers.operations.workers import DrainResult, WorkerOperations
from workers.words import plural

_MAX_LINES = 100
_LOG_SECONDS = 5.0
"""Between two questions for the log of another process."""
_OWN_LOG_SECONDS = 0.5
"""Between two readings of the log of this process, which costs no question."""


class WorkerActions(DashboardScreen):
    """A verb that destroys asks once, with the number of jobs; an undo does not ask."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log_of: str | None = None
        """The process whose log was read last."""
        self._log: Sequence[LogLine] | None = None
        self._log_problem = ""
        self._next_log = 0.0

    @property
    def worker_operations(self) -> WorkerOperations:
        """The operations on processes."""
        return self.session.operations.workers

    def log_text(self, worker_id: str, max_lines: int = _MAX_LINES) -> Text:
        """Return the newest lines of a process' log as they were read last, and read them again in time."""
        if self._log_of != worker_id:
            self._log_of, self._log, self._log_problem, self._next_log = worker_id, None, "", 0.0
        is_own = self._is_own_id(worker_id)
        if time.monotonic() >= self._next_log and (is_own or not self.session.figures_are_old):
            self._next_log = time.monotonic() + (_OWN_LOG_SECONDS if is_own else _LOG_SECONDS)
            self.read_log(worker_id)
        return worker_page.log_lines(self._log and self._log[-max_lines:], self._log_problem)

    @work(exclusive=True, group="log")
    async def read_log(self, worker_id: str) -> None:
        """Read the log of a process; the first answer is shown at once, others with a snapshot."""
        problems: list[str] = []
        lines = await self.session.run(self.worker_operations.log(worker_id), on_error=problems.append)
        if self._log_of == worker_id and self.is_mounted:
            is_first = self._log is None
            self._log, self._log_problem = lines, "".join(problems)
            if is_first:
                self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def settings_text(self, worker_id: str) -> Text:
        """Return the settings in which it differs from the others."""
        workers = self.session.snapshot.workers if self.session.snapshot is not None else ()
        own = next((worker for worker in workers if worker.id == worker_id), None)
        others = [worker for worker in workers if worker.id != worker_id]
        return Text() if own is None else worker_page.settings(own, others)

    def forecasts(self, worker: Worker) -> list[DrainForecast]:
        """Return what becomes of the jobs that a process holds."""
        snapshot = self.session.snapshot
        if snapshot is None:
            return []
        current = next((process for process in snapshot.workers if process.id == worker.id), None)
        return [] if current is None else foresee(current, snapshot.queues)

    async def drain_worker(self, worker: Worker) -> None:
        """Ask, then drain a process; if it cannot be, show why."""
        if not self.session.may_change():
            return
        if worker.state == "dead":
            self.notify(f"{worker.name} is dead: there is nothing to drain", severity="warning", markup=False)
            return
        if worker.state == "draining":
            keys = with_keys(
                self, "{workers.undo-drain} undoes it, {workers.put-back-worker} requeues its jobs"
            )
            self.notify(f"{worker.name} drains already: {keys}", markup=False)
            return
        jobs = plural(worker.in_flight, "job")
        ends = "this process, and its dashboard, end" if self._is_own(worker) else "the process ends"
        question = Confirm(
            one_line(f"Drain {worker.name}? {jobs} in flight"),
            "Graceful drain: what runs there may finish, and nothing is deleted. No new job starts there, "
            f"what has not ended in time returns to the head of its queue, and {ends}.",
            "Drain",
        )
        if await self.app.push_screen_wait(question):
            await self._show_result(self.worker_operations.drain(worker.id))

    async def drain_all(self) -> None:
        """Ask, then drain every process of the cluster, this one too."""
        if not self.session.may_change():
            return
        snapshot = self.session.snapshot
        living = [] if snapshot is None else [one for one in snapshot.workers if one.state != "dead"]
        if not living:
            self.notify("no process lives: there is nothing to drain", severity="warning")
            return
        jobs = plural(sum(worker.in_flight for worker in living), "job")
        question = Confirm(
            f"Drain {plural(len(living), 'process')}? {jobs} in flight",
            "Graceful drain of the whole cluster: what runs may finish, and nothing is deleted. No new job "
            "starts anywhere, what has not ended in time returns to the head of its queue, and all end.",
            "Drain all",
        )
        if not await self.app.push_screen_wait(question):
            return
        results = await self.session.run(self.worker_operations.drain_all())
        for result in results or ():
            if result.problem:
                self.notify(one_line(drain_result(result)), severity="warning", markup=False)
        if results is not None:
            self.notify(f"the drain of {plural(len(results), 'process')} was requested")
        self.session.refresh()

    async def undo_drain(self, worker: Worker) -> None:
        """Let a draining process take jobs again."""
        if not self.session.may_change():
            return
        if worker.state != "draining":
            self.notify(f"{worker.name} does not drain: there is nothing to undo", markup=False)
            return
        await self._show_result(self.worker_operations.undo_drain(worker.id))

    async def requeue(self, worker: Worker) -> None:
        """Ask, then have a draining process requeue its jobs, and end."""
        if not self.session.may_change():
            return
        if worker.state != "draining":
            key = key_name(self, "workers.drain-worker")
            self.notify(f"{worker.name} does not drain: {key} drains it", markup=False)
            return
        question = Confirm(
            one_line(f"Requeue {plural(worker.in_flight, 'job')} of {worker.name} now?"),
            "Jobs in flight return to the head of their queues, uncharged, and the process ends.",
            "Requeue",
        )
        if await self.app.push_screen_wait(question):
            await self._show_result(self.worker_operations.drain(worker.id, now=True))

    async def _show_result(self, verb: Awaitable[DrainResult]) -> None:
        result = await self.session.run(verb)
        if result is not None:
            words = one_line(drain_result(result))
            self.notify(words, severity="warning" if result.problem else "information", markup=False)
        self.session.refresh()

    def _is_own(self, worker: Worker) -> bool:
        return self._is_own_id(worker.id)

    def _is_own_id(self, worker_id: str) -> bool:
        return worker_id == self.worker_operations.own_id
