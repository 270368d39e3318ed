"""A replay plan: what it would be about, and, once it is begun, how it goes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui import plan_text
from tui.format import clip, safe
from tui.screens.dialogs import Ask, Confirm
from tui.widgets.tick import Tick
from workers.operations import FAILURES, Filter, LetterOperations, Plan, Preview, ReplayOptions, Wanted

if TYPE_CHECKING:
    from tui.app import Dashboard

T = TypeVar("T")

_CANARY = 5
"""Letters that are tried first, unless something else is written."""
_LOOK = 0.5
"""Seconds between two looks at a plan."""
_PROBLEM = 300


class PlanForm(ModalScreen[int | None]):
    """Shows what would be replayed and asks how; the id of the plan that was begun, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("up", "app.focus_previous", "Previous field", show=False),
        Binding("down", "app.focus_next", "Next field", show=False),
    ]

    def __init__(self, wanted: Wanted, what: str) -> None:
        super().__init__()
        self._wanted = wanted
        self._what = what
        self._found: Preview | None = None
        self._counted_at = 0.0

    def compose(self) -> ComposeResult:
        """What was found, and the fields."""
        with Vertical(classes="dialog plan"):
            yield Static(f"Replay {self._what}", classes="title", markup=False)
            yield Static("counting …", id="found")
            with Horizontal(classes="fields"):
                yield Label("canary \\[")
                yield Input(str(_CANARY), id="canary", type="integer", compact=True)
                yield Label("]  rate \\[")
                yield Input(placeholder="no limit", id="rate", type="number", compact=True)
                yield Label("] a second  halt above \\[")
                yield Input("20", id="halt", type="number", compact=True)
                yield Label("]%")
            yield Tick("also those that died too often of the same error ×3", id="poison")
            yield Static("", id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Start (enter)", id="start", variant="primary", disabled=True)
                yield Button("Leave (esc)", id="leave")

    def on_mount(self) -> None:
        """Count."""
        self.query_one("#canary").focus()
        self.count()

    @property
    def _dashboard(self) -> Dashboard:
        return cast("Dashboard", self.app)

    @property
    def letters(self) -> LetterOperations:
        """The verbs."""
        return self._dashboard.operations.letters

    @work(exclusive=True, group="preview")
    async def count(self) -> None:
        """Read what would be replayed; a selection by filter is bounded by the first look at it."""
        poison = self.query_one("#poison", Tick).value
        self._found = None
        self.query_one("#start", Button).disabled = True
        self.query_one("#found", Static).update("counting …")
        found = await self._attempt(self.letters.preview(self._wanted, ReplayOptions(poison=poison)))
        if found is None:
            self.query_one("#found", Static).update("not counted")
            return
        if isinstance(found.wanted, Filter):
            self._wanted = found.wanted
        self._found, self._counted_at = found, self._dashboard.now
        self.query_one("#start", Button).disabled = found.total == 0
        self._show()

    def on_checkbox_changed(self) -> None:
        """With poison there are others."""
        self.count()

    def on_input_changed(self) -> None:
        """With another rate it takes longer."""
        self._tell("")
        self._show()

    def on_input_submitted(self) -> None:
        """Enter in a field starts it."""
        self._begin()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Start, or leave."""
        if event.button.id == "start":
            self._begin()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Nothing is replayed; what is being frozen is not left half-way."""
        if not any(worker.group == "begin" and worker.is_running for worker in self.workers):
            self.dismiss(None)

    def _begin(self) -> None:
        if not self.query_one("#start", Button).disabled:
            self.query_one("#start", Button).disabled = True
            self.begin()

    @work(exclusive=True, group="begin")
    async def begin(self) -> None:
        """Freeze exactly what was counted, and have it carried out."""
        found = self._found
        try:
            options = self._options()
        except (ValueError, *FAILURES) as error:
            self._tell(str(error))
            options = None
        if options is not None and found is not None:
            self._tell("freezing …", wrong=False)
            plan = await self._attempt(self.letters.plan(found.wanted, options))
            if plan is not None:
                await self._dashboard.attempt(self.letters.start(plan.id))
                self.dismiss(plan.id)
                return
        self.query_one("#start", Button).disabled = False

    def _options(self) -> ReplayOptions:
        """Raises ValueError or InvalidFilterError."""
        canary, rate, halt = (self.query_one(f"#{name}", Input).value for name in ("canary", "rate", "halt"))
        share = None
        if halt:
            share = _percent(halt)
        poison = self.query_one("#poison", Tick).value
        return ReplayOptions.of(canary=canary or None, rate=rate or None, halt=share, poison=poison)

    def _show(self) -> None:
        if self._found is None:
            return
        try:
            rate = self._options().rate
        except (ValueError, *FAILURES):
            rate = None
        self.query_one("#found", Static).update(
            plan_text.preview(self._found, rate, counted_at=self._counted_at)
        )

    def _tell(self, message: str, *, wrong: bool = True) -> None:
        line = self.query_one("#problem", Static)
        line.update(f"{'▲ ' if wrong and message else ''}{clip(safe(message), _PROBLEM)}")
        line.set_class(wrong, "-wrong")

    async def _attempt(self, verb: Awaitable[T]) -> T | None:
        """As the dashboard's, but the error stands in the dialog."""
        try:
            return await verb
        except FAILURES as error:
            self._tell(str(error))
            return None


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
    def letters(self) -> LetterOperations:
        """The verbs."""
        return self.dashboard.operations.letters

    def _look_if_shown(self) -> None:
        looks = any(worker.group == "plan" and worker.is_running for worker in self.workers)
        if self.is_active and not looks and (self._plan is None or not plan_text.ended(self._plan)):
            self.look()

    @work(exclusive=True, group="plan")
    async def look(self) -> None:
        """How it stands."""
        try:
            self._plan = plan = await self.letters.plan_now(self._plan_id)
        except FAILURES as error:
            self.query_one("#standing", Static).update(f"▲ {clip(safe(str(error)), _PROBLEM)}")
            return
        width = self.query_one("#bars").size.width
        self.query_one("#plan-title", Static).update(plan_text.title(plan, width))
        self.query_one("#frozen", Static).update(plan_text.frozen(plan))
        self.query_one("#bars", Static).update(plan_text.bars(plan, width))
        self.query_one("#ledger", Static).update(plan_text.ledger(plan.ledger))
        self.query_one("#standing", Static).update(plan_text.standing(plan))
        self.query_one("#keys", Static).update(plan_text.keys(plan))

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
                share = _percent(answer)
            except ValueError as error:
                return str(error)
            return (
                "" if plan.halt < share <= 1 else f"more than {plan.halt:.0%} it must be, up to 100 (never)"
            )

        question = Ask(
            "Go on with a higher limit?",
            f"It halted: {safe(plan.note)}. It halts again when more than so many % die again.",
            "go on",
            value=f"{plan_text.higher_limit(plan):.0f}",
            problem=problem,
        )
        answer = await self.app.push_screen_wait(question)
        if answer is not None:
            await self.dashboard.attempt(self.letters.start(self._plan_id, halt=_percent(answer)))

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
        from tui.screens.ledger import LedgerList

        self.app.push_screen(LedgerList(self._plan_id))

    def action_leave(self) -> None:
        """The plan goes on."""
        self.dismiss(None)


def _percent(text: str) -> float:
    """A share of ``text`` %.  Raises ValueError."""
    try:
        return float(text) / 100
    except ValueError:
        raise ValueError("halt: a number of % is needed") from None
