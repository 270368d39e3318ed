"""A replay by a plan: how many letters, and with which options."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui.keymap import label_with_keys
from tui.session import Session, one_line
from tui.text import plans as plan_text
from tui.widgets.checkbox import PlainCheckbox
from tui.widgets.message_line import MessageLine
from tui.widgets.number_input import NumberInput
from workers.operations.operations import (
    OPERATION_ERRORS,
    LetterFilter,
    Plan,
    Preview,
    ReplayOptions,
    Selection,
)
from workers.operations.selection import DEFAULT_OPTIONS, parse_percent

_DEFAULT_CANARY_LETTERS = 5
"""Letters that are tried first unless the operator enters another number."""


class ReplayDialog(ModalScreen[int | None]):
    """Shows what would be replayed and asks for the options; returns the id of the started plan, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "Start", priority=True),
        Binding("escape", "leave", "Leave"),
        Binding("up", "app.focus_previous", "Previous field", show=False),
        Binding("down", "app.focus_next", "Next field", show=False),
    ]

    def __init__(self, session: Session, selection: Selection, label: str) -> None:
        super().__init__()
        self.session = session
        self._replays = session.operations.replays
        self._selection = selection
        self._label = label
        self._preview: Preview | None = None
        self._counted_at = 0.0

    def compose(self) -> ComposeResult:
        """Compose the preview and the fields."""
        with Vertical(classes="dialog plan"):
            yield Static(f"Replay {self._label}", classes="title", markup=False)
            yield Static("counting …", id="preview")
            with Horizontal(classes="fields"):
                yield Label("canary \\[")
                yield NumberInput(str(_DEFAULT_CANARY_LETTERS), id="canary")
                yield Label("]  rate \\[")
                yield NumberInput(placeholder="no limit", id="rate", fraction=True)
                yield Label("] a second  halt above \\[")
                yield NumberInput(f"{DEFAULT_OPTIONS.halt * 100:g}", id="halt", fraction=True)
                yield Label("] %")
            yield PlainCheckbox("also those that died too often of the same error ×3", id="poison")
            yield MessageLine(id="message")
            with Horizontal(classes="buttons"):
                yield Button(
                    label_with_keys(self, "Start ({replay-options.start})"),
                    id="start",
                    variant="primary",
                    disabled=True,
                )
                yield Button(label_with_keys(self, "Leave ({replay-options.leave})"), id="leave")

    def on_mount(self) -> None:
        """Count the letters."""
        self.query_one("#canary").focus()
        self.fetch_preview()

    @work(exclusive=True, group="preview")
    async def fetch_preview(self) -> None:
        """Count the letters; the first count bounds a filter, so that no later letter is replayed."""
        options = ReplayOptions(poison=self.query_one("#poison", PlainCheckbox).value)
        line, start = self.query_one("#preview", Static), self.query_one("#start", Button)
        self._preview = None
        start.disabled = True
        line.update("counting …")
        preview = await self.session.run(
            self._replays.preview(self._selection, options), on_error=self._message.show_error
        )
        if preview is None:
            line.update("not counted")
            return
        if isinstance(preview.selection, LetterFilter):
            self._selection = preview.selection
        self._preview, self._counted_at = preview, self.session.now
        start.disabled = preview.total == 0
        self._show_preview()

    def on_checkbox_changed(self) -> None:
        """Count again: poison adds letters."""
        self.fetch_preview()

    def on_input_changed(self) -> None:
        """Remove the error, and show how long it takes at this rate."""
        self._message.show("")
        self._show_preview()

    def on_input_submitted(self) -> None:
        """Go to the next field: enter in one."""
        self.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Start it, or leave."""
        if event.button.id == "start":
            self.action_start()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Close the dialog, unless the plan is being created."""
        if not any(worker.group == "create" and worker.is_running for worker in self.workers):
            self.dismiss(None)

    def action_start(self) -> None:
        """Freeze the letters that were counted, and start their plan."""
        start = self.query_one("#start", Button)
        if not start.disabled:
            start.disabled = True
            self.create_plan()
        elif self._preview is None:
            self._message.show_error("the letters are not counted yet: nothing was started")
        elif self._preview.total == 0:
            self._message.show_error("there is no letter to replay: nothing was started")

    @work(exclusive=True, group="create")
    async def create_plan(self) -> None:
        """Freeze exactly the letters that were counted, and start their plan."""
        plan = await self._freeze()
        if plan is None:
            self.query_one("#start", Button).disabled = False
            return
        await self.session.run(self._replays.start_plan(plan.id))
        self.dismiss(plan.id)

    async def _freeze(self) -> Plan | None:
        try:
            options = self._options()
        except OPERATION_ERRORS as error:
            self._message.show_error(one_line(str(error)))
            return None
        if self._preview is None:
            return None
        self._message.show("freezing …")
        return await self.session.run(
            self._replays.create_plan(self._preview.selection, options), on_error=self._message.show_error
        )

    def _options(self) -> ReplayOptions:
        """Parse the fields.  Raises InvalidFilterError."""
        canary, rate, halt = (self.query_one(f"#{name}", Input).value for name in ("canary", "rate", "halt"))
        share = parse_percent(halt) if halt else None
        poison = self.query_one("#poison", PlainCheckbox).value
        return ReplayOptions.from_values(canary=canary or None, rate=rate or None, halt=share, poison=poison)

    def _show_preview(self) -> None:
        if self._preview is None:
            return
        try:
            rate = self._options().rate
        except OPERATION_ERRORS:
            rate = None
        self.query_one("#preview", Static).update(
            plan_text.preview(self._preview, rate, counted_at=self._counted_at)
        )

    @property
    def _message(self) -> MessageLine:
        return self.query_one(MessageLine)
