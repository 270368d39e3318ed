"""A replay plan while it runs."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.dialogs.confirm import Confirm
from tui.dialogs.prompt import Prompt
from tui.keymap import key_name
from tui.navigation import OpenPlanLetters
from tui.session import Session
from tui.text import plans as plan_text
from tui.text.format import escape
from workers.operations.operations import OPERATION_ERRORS, Plan
from workers.operations.selection import parse_percent

_POLL_SECONDS = 0.5
_WIDTH = 84
"""Columns of the dialog on a terminal that is wide enough, as the styles have it."""
_FINISHED = ("done", "cancelled")


class PlanDialog(ModalScreen[None]):
    """Shows how a plan goes; closing it leaves the plan running."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause, resume"),
        Binding("x", "cancel", "Cancel"),
        Binding("l", "letters", "Letters"),
        Binding("escape", "leave", "Leave it running"),
    ]

    def __init__(self, session: Session, plan_id: int) -> None:
        super().__init__()
        self.session = session
        self._replays = session.operations.replays
        self._plan_id = plan_id
        self._plan: Plan | None = None
        self._key = partial(key_name, self)

    def compose(self) -> ComposeResult:
        """Compose the summary, the bars, the ledger, the state and the keys."""
        with Vertical(classes="dialog plan"):
            yield Static(f"Plan {self._plan_id}", id="plan-title", classes="title", markup=False)
            yield Static("reading …", id="summary")
            yield Static("", id="bars")
            yield Static("", id="ledger")
            yield Static("", id="plan-state")
            yield Static("", id="keys", classes="keys")

    def on_mount(self) -> None:
        """Poll the plan."""
        self.set_interval(_POLL_SECONDS, self._poll)
        self.refresh_plan()

    def _poll(self) -> None:
        """Fetch the plan if it is shown and may still change."""
        fetching = any(worker.group == "plan" and worker.is_running for worker in self.workers)
        has_ended = self._plan is not None and plan_text.has_ended(self._plan)
        if self.is_active and not fetching and not has_ended:
            self.refresh_plan()

    @work(exclusive=True, group="plan")
    async def refresh_plan(self) -> None:
        """Show the plan as it is now."""
        plan = await self.session.run(self._replays.get_plan(self._plan_id), on_error=self._show_error)
        if plan is None:
            return
        self._plan = plan
        width = min(_WIDTH, self.app.size.width * 95 // 100) - 6  # as the styles have it
        self.query_one("#plan-title", Static).update(plan_text.title(plan, width))
        self.query_one("#summary", Static).update(plan_text.summary(plan))
        self.query_one("#bars", Static).update(plan_text.progress_bars(plan, width))
        self.query_one("#ledger", Static).update(
            plan_text.ledger_line(plan.ledger, cancelled=plan.state == "cancelled")
        )
        self.query_one("#plan-state", Static).update(plan_text.state_line(plan, self._key))
        self.query_one("#keys", Static).update(plan_text.key_hints(plan, self._key))

    def _show_error(self, message: str) -> None:
        self.query_one("#plan-state", Static).update(f"▲ {message}")

    def _unfinished_plan(self) -> Plan | None:
        """Return the plan if it can still be changed; else a message shows why not."""
        if self._plan is None:
            self.notify("the plan was not read: there is nothing to change")
        elif self._plan.state in _FINISHED:
            self.notify(f"the plan is {self._plan.state}: there is nothing to change")
        else:
            return self._plan
        return None

    @work(exclusive=True, group="pause")
    async def action_pause(self) -> None:
        """Pause the plan, or resume it; a halted one needs a higher limit."""
        plan = self._unfinished_plan()
        if plan is None or not self.session.may_change():
            return
        if plan.state == "running" and plan.active:
            await self.session.run(self._replays.pause_plan(self._plan_id))
        elif plan.state != "halted":
            await self.session.run(self._replays.start_plan(self._plan_id))
        else:
            await self._resume_with_higher_limit(plan)
        self.refresh_plan()

    async def _resume_with_higher_limit(self, plan: Plan) -> None:
        def check(answer: str) -> str:
            try:
                share = parse_percent(answer)
            except OPERATION_ERRORS as error:
                return str(error)
            problem = f"use more than {plan.halt * 100:.0f}, up to 100 (never)"
            return "" if plan.can_resume(share) else problem

        question = Prompt(
            "Resume with a higher limit?",
            f"It halted: {escape(plan.note)}. It halts again when more than this percentage dies again.",
            "resume",
            value=f"{plan.suggested_limit * 100:.0f}",
            check=check,
        )
        answer = await self.app.push_screen_wait(question)
        if answer is not None:
            halt = parse_percent(answer)
            await self.session.run(self._replays.start_plan(self._plan_id, halt=halt))

    @work(exclusive=True, group="cancel")
    async def action_cancel(self) -> None:
        """Ask, then cancel the plan."""
        plan = self._unfinished_plan()
        if plan is None or not self.session.may_change():
            return
        at_most = "at most " if plan.standing == "running" else ""  # it goes on during the question
        question = Confirm(
            f"Cancel plan {self._plan_id}?",
            f"Of {plan.total:,} letters {at_most}{plan.ledger.waiting:,} stay dead; jobs that were enqueued "
            "go on. A cancelled plan cannot be resumed.",
            "Cancel it",
            no="Keep it",
        )
        if await self.app.push_screen_wait(question):
            await self.session.run(self._replays.cancel_plan(self._plan_id))
            self.refresh_plan()

    def action_letters(self) -> None:
        """Show the plan's letters."""
        self.post_message(OpenPlanLetters(self._plan_id))

    def action_leave(self) -> None:
        """Close the dialog; the plan continues."""
        self.dismiss(None)
