"""The part of the dashboard that opens screens and dialogs, as their messages ask for it."""

from __future__ import annotations

import gc

from textual.screen import ModalScreen

from tui.dialogs.plan import PlanDialog
from tui.dialogs.plan_letters import PlanLettersDialog
from tui.navigation import (
    OpenCacheEntry,
    OpenJob,
    OpenLetter,
    OpenLetters,
    OpenPlan,
    OpenPlanLetters,
    OpenQueue,
    OpenView,
    OpenWorker,
)
from tui.screens.cache.entry import CacheEntryScreen
from tui.screens.dead_letters.letter import LetterScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.jobs.job import JobScreen
from tui.screens.queues.queue import QueueScreen
from tui.screens.replays.plans import PlansScreen
from tui.screens.workers.worker import WorkerScreen
from tui.session import Session
from tui.state import RememberedState
from tui.themed_app import ThemedApp

_HOLD_SECONDS = 0.01
"""How long the old view stays while a new one is laid out."""
_FILL_SECONDS = 1.0
"""After which a view that was opened has what it shows."""


class OpeningApp(ThemedApp):
    """Only this module imports all screens and the dialogs that they open."""

    session: Session

    def __init__(self, state: RememberedState) -> None:
        super().__init__(state)
        self._opened_views: set[str] = set()

    def on_open_view(self, message: OpenView) -> None:
        """Show another view."""
        self.action_view(message.name)

    def on_open_queue(self, message: OpenQueue) -> None:
        """Show all of one queue."""
        self.push_screen(QueueScreen(self.session, message.queue))

    def on_open_worker(self, message: OpenWorker) -> None:
        """Show all of one worker process."""
        self.push_screen(WorkerScreen(self.session, message.worker_id))

    def on_open_job(self, message: OpenJob) -> None:
        """Show all of one job."""
        self.push_screen(JobScreen(self.session, message.job))

    def on_open_letters(self, message: OpenLetters) -> None:
        """Show the dead letters that match a filter, once their screen is there."""
        self.action_view("letters")
        screen = self.screen
        if isinstance(screen, DeadLettersScreen):
            screen.call_after_refresh(screen.show_letters, message.letter_filter)

    def on_open_letter(self, message: OpenLetter) -> None:
        """Show all of one dead letter."""
        self.push_screen(LetterScreen(self.session, message.letter))

    def on_open_plans(self) -> None:
        """Show the newest replay plans."""
        self.push_screen(PlansScreen(self.session))

    def on_open_plan(self, message: OpenPlan) -> None:
        """Show how a plan goes; afterwards fewer letters may be dead."""
        plan = PlanDialog(self.session, message.plan_id)
        self.push_screen(plan, lambda _: self.session.refresh(screens=True))

    def on_open_plan_letters(self, message: OpenPlanLetters) -> None:
        """Show the letters of a plan."""
        self.push_screen(PlanLettersDialog(self.session, message.plan_id))

    def on_open_cache_entry(self, message: OpenCacheEntry) -> None:
        """Show one cache entry."""
        self.push_screen(CacheEntryScreen(self.session, message.entry))

    def action_view(self, name: str) -> None:
        """Show another view; what lay over the present one is closed."""
        while len(self.screen_stack) > 1:
            top = self.screen_stack[-1]
            if isinstance(top, ModalScreen):
                top.dismiss()  # its caller gets None
            else:
                self.pop_screen()
        self.switch_mode(name)
        self.keep_view(name)
        self.session.state.set("view", name)
        if self.session.frozen:  # only what was shown was held
            self.session.refresh()

    def keep_view(self, name: str) -> None:
        """Exempt a view that was opened for the first time from garbage collection: it stays until the end.

        Each full collection walked over all views, and stopped keys and workers for 60 to 100 ms.
        """
        if name not in self._opened_views and not self.is_headless:
            self._opened_views.add(name)
            self.set_timer(_FILL_SECONDS, _freeze_what_lives)

    def delay_update(self, delay: float = _HOLD_SECONDS) -> None:
        """Hold paints while the view changes, for less than Textual's 50 ms: a key took 70."""
        super().delay_update(delay)


def _freeze_what_lives() -> None:
    gc.collect()
    gc.freeze()
