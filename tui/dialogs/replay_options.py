"""What a replay would be about, and how it is to be carried out."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui.text import plans as plan_text
from tui.text.format import clip, escape
from tui.widgets.checkbox import Tick
from workers.operations.operations import (
    OPERATION_ERRORS,
    DeadLetterOperations,
    LetterFilter,
    Preview,
    ReplayOptions,
    Selection,
)

if TYPE_CHECKING:
    from tui.app import Dashboard

T = TypeVar("T")

_CANARY = 5
"""Letters that are tried first, unless something else is written."""
_PROBLEM = 300


class PlanForm(ModalScreen[int | None]):
    """Shows what would be replayed and asks how; the id of the plan that was begun, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("up", "app.focus_previous", "Previous field", show=False),
        Binding("down", "app.focus_next", "Next field", show=False),
    ]

    def __init__(self, wanted: Selection, what: str) -> None:
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
    def letters(self) -> DeadLetterOperations:
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
        if isinstance(found.wanted, LetterFilter):
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
        except (ValueError, *OPERATION_ERRORS) as error:
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
            share = plan_text.parse_percent(halt)
        poison = self.query_one("#poison", Tick).value
        return ReplayOptions.of(canary=canary or None, rate=rate or None, halt=share, poison=poison)

    def _show(self) -> None:
        if self._found is None:
            return
        try:
            rate = self._options().rate
        except (ValueError, *OPERATION_ERRORS):
            rate = None
        self.query_one("#found", Static).update(
            plan_text.preview(self._found, rate, counted_at=self._counted_at)
        )

    def _tell(self, message: str, *, wrong: bool = True) -> None:
        line = self.query_one("#problem", Static)
        line.update(f"{'▲ ' if wrong and message else ''}{clip(escape(message), _PROBLEM)}")
        line.set_class(wrong, "-wrong")

    async def _attempt(self, verb: Awaitable[T]) -> T | None:
        """As the dashboard's, but the error stands in the dialog."""
        try:
            return await verb
        except OPERATION_ERRORS as error:
            self._tell(str(error))
            return None
