"""The payload of one dead letter, to be changed before its replay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static, TextArea

from tui.dialogs.common import Confirm
from tui.text.format import clip, escape
from workers.engine.json_input import parse_object
from workers.errors import InvalidJsonError
from workers.operations.operations import OPERATION_ERRORS, DeadLetter

if TYPE_CHECKING:
    from tui.app import Dashboard

_KEY = 40
_PROBLEM = 300
_UNSEEN = (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
_ESCAPES = {code: f"\\u{code:04x}" for code in _UNSEEN}
"""Characters that JSON may hold as they are, but that a terminal would obey."""


class Edit(ModalScreen[str | None]):
    """The key of the job that was enqueued; None where none was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "replay", "Replay", priority=True),
        Binding("escape", "leave", "Leave", priority=True),
    ]

    def __init__(self, letter: DeadLetter) -> None:
        super().__init__()
        self._letter = letter
        self._before = payload_text(letter)

    def compose(self) -> ComposeResult:
        """The payload, what is wrong with it, and two buttons."""
        title = f"Edit and replay letter {self._letter.id}: {clip(escape(self._letter.job_id), _KEY)}"
        with Vertical(classes="dialog wide"):
            yield Static(title, classes="title", markup=False)
            yield TextArea(self._before, id="payload", tab_behavior="focus")
            yield Static(self._hint(), id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Replay (ctrl+s)", id="replay", variant="primary")
                yield Button("Leave (esc)", id="leave")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The mouse's answer, or enter's."""
        if event.button.id == "replay":
            self.action_replay()
        else:
            self.action_leave()

    def on_text_area_changed(self) -> None:
        """What was wrong may be mended."""
        self._tell(self._hint())

    @work(exclusive=True, group="edit")
    async def action_replay(self) -> None:
        """Replay with what stands there, unless there is something wrong with it."""
        field = self.query_one(TextArea)
        try:
            kwargs = parse_object(field.text)
        except InvalidJsonError as error:
            self._tell(str(error), wrong=True)
            return
        if kwargs == self._letter.job_data.get("kwargs"):
            self._tell("unchanged: change it, or replay it as it is with R", wrong=True)
            return
        self.query_one("#replay", Button).disabled = True
        operations = cast("Dashboard", self.app).operations
        try:
            done = await operations.letters.replay(self._letter.id, kwargs)
        except OPERATION_ERRORS as error:
            self._tell(str(error), wrong=True)
        else:
            self.dismiss(done)
        finally:
            self.query_one("#replay", Button).disabled = False

    @work(exclusive=True, group="leave")
    async def action_leave(self) -> None:
        """Leave; ask where something was written."""
        if any(worker.group == "edit" and worker.is_running for worker in self.workers):
            return  # it is being replayed
        changed = self.query_one(TextArea).text != self._before
        question = Confirm("Leave without a replay?", "What you have written is lost.", "Leave")
        if not changed or await self.app.push_screen_wait(question):
            self.dismiss(None)

    def _hint(self) -> str:
        return f"{escape(self._letter.queue_name)} checks it before it is enqueued; the old payload is kept."

    def _tell(self, message: str, *, wrong: bool = False) -> None:
        line = self.query_one("#problem", Static)
        line.update(f"{'▲ ' if wrong else ''}{clip(escape(message), _PROBLEM)}")
        line.set_class(wrong, "-wrong")


def payload_text(letter: DeadLetter) -> str:
    """The arguments of the letter's job, as JSON that a terminal can show and that reads as the same."""
    kwargs = letter.job_data.get("kwargs")
    return json.dumps({} if kwargs is None else kwargs, indent=2, ensure_ascii=False).translate(_ESCAPES)
