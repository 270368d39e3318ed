"""The payload of one dead letter, to be changed before its replay."""

from __future__ import annotations

import json
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static, TextArea

from tui.dialogs.confirm import Confirm
from tui.dialogs.payload_diff import PayloadDiff
from tui.editor import EditorError, edit_text
from tui.keymap import label_with_keys, with_keys
from tui.session import Session, one_line
from tui.text.format import CONTROL_CHARACTERS, clip, escape
from tui.widgets.message_line import MessageLine
from workers.engine.json_input import parse_object
from workers.errors import InvalidJsonError
from workers.operations.operations import DeadLetter
from workers.operations.secrets import MASK

_MAX_KEY_CHARS = 40
_CONTROL = (*(code for code in CONTROL_CHARACTERS if code >= 0x7F), *range(0xD800, 0xE000))
_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROL}
"""Characters that JSON may hold as they are, but that a terminal would obey."""


class EditPayloadDialog(ModalScreen[str | None]):
    """Returns the key of the job that was enqueued, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "replay", "Replay", priority=True),
        Binding("ctrl+o", "open_editor", "Editor", priority=True),
        Binding("escape", "leave", "Leave", priority=True),
    ]

    def __init__(self, session: Session, letter: DeadLetter) -> None:
        super().__init__()
        self.session = session
        self._letter = letter
        self._original = payload_text(letter)

    def compose(self) -> ComposeResult:
        """Compose the payload, a message, and two buttons."""
        key = clip(escape(self._letter.job_id), _MAX_KEY_CHARS)
        with Vertical(classes="dialog wide"):
            yield Static(f"Edit and replay letter {self._letter.id}: {key}", classes="title", markup=False)
            yield TextArea(self._original, id="payload", tab_behavior="focus")
            yield MessageLine(self._hint(), id="message")
            with Horizontal(classes="buttons"):
                yield Button(
                    label_with_keys(self, "Replay ({edit-payload.replay})"), id="replay", variant="primary"
                )
                yield Button(label_with_keys(self, "Editor ({edit-payload.open-editor})"), id="editor")
                yield Button(label_with_keys(self, "Leave ({edit-payload.leave})"), id="leave")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Replay or leave, by mouse or enter."""
        if event.button.id == "replay":
            self.action_replay()
        elif event.button.id == "editor":
            self.action_open_editor()
        else:
            self.action_leave()

    def on_text_area_changed(self) -> None:
        """Remove the error, which may be fixed."""
        self._message.show(self._hint())

    @work(exclusive=True, group="edit")
    async def action_replay(self) -> None:
        """Show what was changed, then replay the letter with it, unless something is wrong."""
        text = self.query_one(TextArea).text
        try:
            kwargs = parse_object(text)
        except InvalidJsonError as error:
            self._message.show_error(one_line(str(error)))
            return
        if kwargs == self._letter.job_data.get("kwargs"):
            self._message.show_error(
                with_keys(self, "unchanged: change it, or leave, and {letters.replay} replays it as it is")
            )
            return
        diff = PayloadDiff(self._letter.id, self._letter.job_data.get("kwargs"), kwargs)
        if not await self.app.push_screen_wait(diff):
            return
        button = self.query_one("#replay", Button)
        button.disabled = True
        try:
            replays = self.session.operations.replays
            replay = await self.session.run(
                replays.replay(self._letter.id, kwargs), on_error=self._message.show_error
            )
            if replay is not None:
                self.dismiss(replay.job_id)
        finally:
            button.disabled = False

    @work(exclusive=True, group="editor")
    async def action_open_editor(self) -> None:
        """Edit the payload in the operator's editor; what was written stays if that fails."""
        field = self.query_one(TextArea)
        try:
            text = await edit_text(field.text, self.session.editor, self.app._driver)
        except EditorError as error:
            self._message.show_error(one_line(str(error)))
            return
        if text.rstrip("\n") != field.text.rstrip("\n"):
            field.text = text.rstrip("\n").translate(_ESCAPES)

    @work(exclusive=True, group="leave")
    async def action_leave(self) -> None:
        """Close the dialog; ask if the payload was changed."""
        if any(worker.group == "edit" and worker.is_running for worker in self.workers):
            return  # it is being replayed
        changed = self.query_one(TextArea).text != self._original
        question = Confirm("Leave without a replay?", "Your changes will be lost.", "Leave")
        if not changed or await self.app.push_screen_wait(question):
            self.dismiss(None)

    def _hint(self) -> str:
        return (
            f"{escape(self._letter.queue_name)} checks it before it is enqueued; the old payload is kept. "
            f"{MASK} stands for a secret, which stays as it is."
        )

    @property
    def _message(self) -> MessageLine:
        return self.query_one(MessageLine)


def payload_text(letter: DeadLetter) -> str:
    """Return the arguments of the letter's job, as JSON that a terminal can show and that reads the same."""
    kwargs = letter.job_data.get("kwargs")
    return json.dumps({} if kwargs is None else kwargs, indent=2, ensure_ascii=False).translate(_ESCAPES)
