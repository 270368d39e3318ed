"""Questions, each typed by its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static


class Confirm(ModalScreen[bool]):
    """Yes or no, after a sentence that says what will happen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, title: str, consequence: str, verb: str) -> None:
        super().__init__()
        self._title = title
        self._consequence = consequence
        self._verb = verb

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="title", markup=False)
            yield Static(self._consequence, markup=False)
            with Horizontal(classes="buttons"):
                yield Button(f"{self._verb} (y)", id="yes", variant="primary")
                yield Button("Cancel (n)", id="no")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The mouse's answer, or enter's."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """The key's answer."""
        self.dismiss(yes)


class Ask(ModalScreen[str | None]):
    """A line of text; None where the operator changed their mind.

    ``problem`` says what is wrong with an answer, if anything: then the question stays.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(
        self,
        title: str,
        consequence: str,
        verb: str,
        *,
        value: str = "",
        placeholder: str = "",
        problem: Callable[[str], str] = lambda _: "",
    ) -> None:
        super().__init__()
        self._title = title
        self._consequence = consequence
        self._verb = verb
        self._value = value
        self._placeholder = placeholder
        self._problem = problem

    def compose(self) -> ComposeResult:
        """The question and a line to write on."""
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="title", markup=False)
            yield Static(self._consequence, markup=False)
            yield Input(self._value, placeholder=self._placeholder, max_length=200)
            yield Static("", classes="error", markup=False)
            yield Static(f"enter {self._verb}   esc cancel", classes="keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The answer, if it will do."""
        answer = event.value.strip()
        problem = self._problem(answer)
        if problem:
            self.query_one(".error", Static).update(f"▲ {problem}")
        else:
            self.dismiss(answer)

    def action_cancel(self) -> None:
        """No."""
        self.dismiss(None)


class Help(ModalScreen[None]):
    """The keys that work here, and what the signs mean."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "close", "Close")]

    def __init__(self, about: str, keys: list[tuple[str, str]], signs: Sequence[str]) -> None:
        super().__init__()
        self._about = about
        self._keys = keys
        self._signs = signs

    def compose(self) -> ComposeResult:
        """A text to scroll through."""
        lines = [f"  {key:<10} {what}" for key, what in self._keys]
        signs = [f"  {sign}" for sign in self._signs]
        with Vertical(classes="dialog help"):
            yield Static("Help", classes="title")
            with VerticalScroll():
                yield Static("\n".join([self._about, "", *lines, "", *signs]), markup=False)
            yield Static("esc close", classes="keys")

    def action_close(self) -> None:
        """Back to the screen."""
        self.dismiss(None)
