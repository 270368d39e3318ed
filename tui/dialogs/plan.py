"""A replay plan as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.dialogs.common import Ask, Confirm
from tui.text import plans as plan_text
from tui.text.format import clip, escape
from workers.operations.operations import OPERATION_ERRORS, DeadLetterOperations, Plan

if TYPE_CHECKING:
    from tui.app import Dashboard

_LOOK = 0.5
"""Seconds between two looks at a plan."""
_WIDTH = 84
"""Of the dialog, where the terminal has room for it."""
_PROBLEM = 300


class Progress(ModalScreen[None]):
    """A plan as it goes; leaving it leaves the plan running."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause, go on"),
        Binding("x", "cancel", "Cancel"),
        Binding("l", "ledger", "Ledger"),
        Binding("escape", "leave", "Leave it running"),
    ]

    def __init__(self, plan_id: int) -> None:
        super().__init__()
        self._plan_id = plan_id
        self._plan: Plan | None = None

    def compose(self) -> ComposeResult:
        """What it is about, the bars, the ledger, the state, the keys."""
        with Vertical(classes="dialog plan"):
            yield Static(f"Plan {self._plan_id}", id="plan-title", classes="title", markup=False)
            yield Static("reading …", id="frozen")
            yield Static("", id="bars")
            yield Static("", id="ledger")
            yield Static("", id="standing")
            yield Static("", id="keys", classes="keys")

    def on_mount(self) -> None:
        """Look twice a second while it is shown and something can still change."""
        self.set_interval(_LOOK, self._look_if_shown)
        self.look()

    @property
    def dashboard(self) -> Dashboard:
        """The app, as what it is."""
        return cast("Dashboard", self.app)

    @property
    def letters(self) -> DeadLetterOperations:
        """The verbs."""
        return self.dashboard.operations.letters

    def _look_if_shown(self) -> None:
        looks = any(worker.group == "plan" and worker.is_running for worker in self.workers)
        if self.is_active and not looks and (self._plan is None or not plan_text.has_ended(self._plan)):
            self.look()

    @work(exclusive=True, group="plan")
    async def look(self) -> None:
        """How it stands."""
        try:
            self._plan = plan = await self.letters.plan_now(self._plan_id)
        except OPERATION_ERRORS as error:
            self.query_one("#standing", Static).update(f"▲ {clip(escape(str(error)), _PROBLEM)}")
            return
        width = min(_WIDTH, self.app.size.width * 95 // 100) - 6  # as the styles say
        self.query_one("#plan-title", Static).update(plan_text.title(plan, width))
        self.query_one("#frozen", Static).update(plan_text.summary(plan))
        self.query_one("#bars", Static).update(plan_text.progress_bars(plan, width))
        self.query_one("#ledger", Static).update(plan_text.ledger_line(plan.ledger))
        self.query_one("#standing", Static).update(plan_text.state_line(plan))
        self.query_one("#keys", Static).update(plan_text.key_hints(plan))

    @work(exclusive=True, group="pause")
    async def action_pause(self) -> None:
        """Pause it, or go on with it; a halted one needs a higher limit."""
        plan = self._plan
        if plan is None or plan.state in ("done", "cancelled"):
            return
        if plan.state == "running" and plan.active:
            await self.dashboard.attempt(self.letters.pause(self._plan_id))
        elif plan.state != "halted":
            await self.dashboard.attempt(self.letters.start(self._plan_id))
        else:
            await self._go_on_with_more(plan)
        self.look()

    async def _go_on_with_more(self, plan: Plan) -> None:
        def problem(answer: str) -> str:
            try:
                share = plan_text.parse_percent(answer)
            except ValueError as error:
                return str(error)
            least = f"more than {plan.halt * 100:.0f} it must be, up to 100 (never)"
            return "" if plan.halt < share <= 1 else least

        question = Ask(
            "Go on with a higher limit?",
            f"It halted: {escape(plan.note)}. It halts again when more than so many % die again.",
            "go on",
            value=f"{plan.higher_limit * 100:.0f}",
            problem=problem,
        )
        answer = await self.app.push_screen_wait(question)
        if answer is not None:
            await self.dashboard.attempt(
                self.letters.start(self._plan_id, halt=plan_text.parse_percent(answer))
            )

    @work(exclusive=True, group="cancel")
    async def action_cancel(self) -> None:
        """Ask, then enqueue no more of it."""
        plan = self._plan
        if plan is None or plan.state in ("done", "cancelled"):
            return
        question = Confirm(
            f"Cancel plan {self._plan_id}?",
            f"{plan.ledger.waiting:,} of {plan.total:,} letters stay dead; jobs that were enqueued go on. "
            "A plan that was cancelled is not resumed.",
            "Cancel it",
        )
        if await self.app.push_screen_wait(question):
            await self.dashboard.attempt(self.letters.cancel(self._plan_id))
            self.look()

    def action_ledger(self) -> None:
        """The plan's letters, by state."""
        from tui.dialogs.plan_letters import LedgerList

        self.app.push_screen(LedgerList(self._plan_id))

    def action_leave(self) -> None:
        """The plan goes on."""
        self.dismiss(None)
