"""The help: keys and signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class Help(ModalScreen[None]):
    """Explains a screen, the keys that work on it, and its signs."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "close", "Close")]

    def __init__(self, text: str, keys: Sequence[tuple[str, str]], legend: Sequence[str]) -> None:
        super().__init__()
        self._text = text
        self._keys = keys
        self._legend = legend

    def compose(self) -> ComposeResult:
        """Compose a text to scroll through."""
        keys = [f"  {key:<10} {description}" for key, description in self._keys]
        signs = [f"  {sign}" for sign in self._legend]
        with Vertical(classes="dialog help"):
            yield Static("Help", classes="title")
            with VerticalScroll():
                yield Static("\n".join([self._text, "", *keys, "", *signs]), markup=False)
            yield Static("esc close", classes="keys")

    def action_close(self) -> None:
        """Close the help."""
        self.dismiss(None)
