"""The help: keys and signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.keymap import with_keys
from tui.text.styles import ACCENT, MUTED

_KEY_CHARS = 8


class Help(ModalScreen[None]):
    """Explains a screen, the keys that work on it, and its signs."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "close", "Close")]

    def __init__(
        self, text: str, sections: Sequence[tuple[str, Sequence[tuple[str, str, str]]]], legend: Sequence[str]
    ) -> None:
        """``sections``: titles, and of each key its name, a word and a sentence."""
        super().__init__()
        self._text = text
        self._sections = sections
        self._legend = legend

    def compose(self) -> ComposeResult:
        """Compose a text to scroll through."""
        with Vertical(classes="dialog help"):
            yield Static("Help", classes="title")
            with VerticalScroll():
                yield Static(self._text, markup=False)
                for title, keys in self._sections:
                    yield Static(f"\n{title}\n", markup=False)
                    yield Static(_key_table(keys))
                signs = [f"  {sign}" for sign in self._legend]
                yield Static("\n".join(["", "Signs", "", *signs]), markup=False)
            yield Static(with_keys(self, "↑ ↓ scroll   {help.close} close"), classes="keys", markup=False)

    def action_close(self) -> None:
        """Close the help."""
        self.dismiss(None)


def _key_table(keys: Sequence[tuple[str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=_KEY_CHARS, no_wrap=True)
    table.add_column(ratio=2)
    table.add_column(ratio=5)
    for key, word, sentence in keys:
        table.add_row(Text(f"  {key}", ACCENT), Text(word), Text(sentence, MUTED))
    return table
