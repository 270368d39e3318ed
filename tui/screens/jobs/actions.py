"""Actions on jobs and on schedules, for every screen that shows some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tui.dialogs.confirm import Confirm
from tui.dialogs.enqueue import EnqueueDialog
from tui.dialogs.prompt import Prompt
from tui.keymap import key_name, with_keys
from tui.navigation import OpenJob
from tui.screens.base import DashboardScreen
from tui.session import one_line
from tui.text.format import count
from tui.text.job_page import names
from workers.operations.jobs import JobChange, JobOperations, JobRef, JobSummary, Verb
from workers.operations.schedules import ScheduleOperations, ScheduleView
from workers.words import plural


@dataclass(frozen=True, slots=True)
class _Words:
    """How a verb is asked for, and what it does; ``asks_for_one``: it asks even for a single job."""

    asks: str
    consequence: str
    done: str
    asks_for_one: bool = True


_WORDS: dict[Verb, _Words] = {
    "abort": _Words(
        "Abort",
        "Those that wait end as aborted; the workers of those that run are asked to cancel them. "
        "They are not retried, and leave no dead letter.",
        "aborted",
    ),
    "run-now": _Words("Run now", "They go to the head of their queue, before all others.", "run next"),
    "duplicate": _Words(
        "Duplicate",
        "Each is enqueued once more under a new key, with the same payload, ready at once.",
        "duplicated",
        asks_for_one=False,
    ),
    "remove": _Words(
        "Remove", "Their records are deleted, for good, and they do not run; dead letters stay.", "removed"
    ),
}


class JobActions(DashboardScreen):
    """Each verb is tried first, so that the question has the number of jobs to which it applies.

    A job that has moved since it was shown stays as it is.
    """

    @property
    def jobs(self) -> JobOperations:
        """The operations on jobs."""
        return self.session.operations.jobs

    @property
    def schedules(self) -> ScheduleOperations:
        """The operations on schedules."""
        return self.session.operations.schedules

    def jobs_changed(self) -> None:
        """Show that an action has changed jobs."""
        self.session.refresh(screens=True)

    async def change_jobs(self, verb: Verb, jobs: Sequence[JobSummary]) -> None:
        """Ask if the verb needs that, then apply it to these jobs."""
        if not self.session.may_change():
            return
        words = _WORDS[verb]
        refs = [(job.queue, JobRef(job.key, job.version)) for job in jobs]
        foreseen = await self._each_queue(verb, refs, preview=True)
        if foreseen is None:
            return
        possible = [change for change in foreseen if change.outcome == "done"]
        refused = [change for change in foreseen if change.outcome != "done"]
        if not possible:
            self.notify(_refusals(refused), severity="warning", markup=False)
            return
        asks = words.asks_for_one or len(jobs) > 1
        if asks and not await self.app.push_screen_wait(_question(words, possible, refused)):
            return
        refs = [(change.queue, JobRef(change.key, change.version)) for change in possible]
        with self.busy_with(f"changing {plural(len(refs), 'job')}"):
            changes = await self._each_queue(verb, refs, preview=False)
        if changes is not None:
            self._show_changes(words, changes, refused)
            self.jobs_changed()

    async def _each_queue(
        self, verb: Verb, refs: Sequence[tuple[str, JobRef]], *, preview: bool
    ) -> list[JobChange] | None:
        """Return what became of the jobs, queue by queue; None if that failed, which has been shown."""
        operation = self.jobs.preview if preview else self.jobs.change
        changes: list[JobChange] = []
        for queue in dict.fromkeys(name for name, _ in refs):
            own = [ref for name, ref in refs if name == queue]
            result = await self.session.run(operation(verb, queue, own))
            if result is None:
                return changes if changes and not preview else None
            changes += result
        return changes

    def _show_changes(
        self, words: _Words, changes: Sequence[JobChange], refused: Sequence[JobChange]
    ) -> None:
        done = [change for change in changes if change.outcome == "done"]
        others = [*(change for change in changes if change.outcome != "done"), *refused]
        if len(done) == 1:
            result = done[0].message
        else:
            result = f"{plural(len(done), 'job')} {words.done}" if done else ""
        parts = [result, _refusals(others) if others else ""]
        words_shown = one_line(" · ".join(filter(None, parts)))
        self.notify(words_shown, severity="warning" if others else "information", markup=False)

    async def enqueue_job(self, queue: str) -> None:
        """Ask for a new job, of this queue unless another one is chosen; show its key, or all of it."""
        if not self.session.may_change():
            return
        snapshot = self.session.snapshot
        queues = [known.name for known in snapshot.queues] if snapshot is not None else []
        dialog = EnqueueDialog(self.session, list(dict.fromkeys([*queues, queue])), queue)
        new = await self.app.push_screen_wait(dialog)
        if new is None:
            return
        self.session.last_enqueued = (new.queue, new.key)
        self.notify(
            one_line(f"enqueued {new.key} in {new.queue}: {key_name(self, 'jobs.open-enqueued')} opens it"),
            markup=False,
        )
        self.jobs_changed()
        if new.opens:
            await self.open_enqueued()

    async def open_enqueued(self) -> None:
        """Show all of the job that was enqueued last."""
        if self.session.last_enqueued is None:
            self.notify(with_keys(self, "no job was enqueued from here: {jobs.enqueue} enqueues one"))
            return
        job = await self.session.run(self.jobs.get(*self.session.last_enqueued))
        if job is not None:
            self.post_message(OpenJob(job))

    # Schedules

    async def run_schedule(self, schedule: ScheduleView) -> None:
        """Ask, then enqueue its jobs now."""
        if not self.session.may_change():
            return
        question = Confirm(
            one_line(f"Run schedule {schedule.name} now?"),
            f"Its jobs are enqueued in {schedule.queue} at once; its own times stay. "
            "A job that is still queued is not enqueued again.",
            "Run now",
        )
        if not await self.app.push_screen_wait(question):
            return
        run = await self.session.run(self.schedules.run(schedule.name))
        if run is not None:
            words = f"{schedule.name}: {count(run.enqueued)} of {plural(run.jobs, 'job')} enqueued"
            self.notify(one_line(words), markup=False)
            self.jobs_changed()

    async def toggle_schedule(self, schedule: ScheduleView) -> None:
        """Disable a schedule after asking for the reason; enable one without a question."""
        if not self.session.may_change():
            return
        if not schedule.enabled:
            if await self.session.run(self.schedules.enable(schedule.name)) is None:
                return
            self.notify(one_line(f"{schedule.name} is enabled"), markup=False)
        else:
            question = Prompt(
                one_line(f"Disable schedule {schedule.name}?"),
                "None of its jobs is enqueued, by any process, until it is enabled.",
                "disable",
                placeholder="reason, shown to all operators; may be empty",
            )
            reason = await self.app.push_screen_wait(question)
            if (
                reason is None
                or await self.session.run(self.schedules.disable(schedule.name, reason)) is None
            ):
                return
            self.notify(one_line(f"{schedule.name} is disabled"), markup=False)
        self.jobs_changed()


def _question(words: _Words, possible: Sequence[JobChange], refused: Sequence[JobChange]) -> Confirm:
    keys = names([change.key for change in possible])
    left_out = f" Left as they are: {_refusals(refused)}." if refused else ""
    return Confirm(
        f"{words.asks} {plural(len(possible), 'job')}?", f"{keys}. {words.consequence}{left_out}", words.asks
    )


def _refusals(changes: Sequence[JobChange]) -> str:
    """Return why the first of them stays as it is, and how many others do."""
    more = f" · and {count(len(changes) - 1)} more" if len(changes) > 1 else ""
    return one_line(f"{changes[0].message}{more}")
