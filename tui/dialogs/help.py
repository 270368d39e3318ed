"""The help: keys and signs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.keymap import with_keys
from tui.text.styles import ACCENT, MUTED

_WIDTH = 110
"""Columns of the dialog on a terminal that is wide enough."""
_KEY_CHARS = 10


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
        self._wrapped_at = self._text_width

    def compose(self) -> ComposeResult:
        """Compose a text to scroll through."""
        with Vertical(classes="dialog help"):
            yield Static("Help", classes="title")
            with VerticalScroll():
                yield Static(self._page(), id="help-page")
            yield Static(with_keys(self, "↑ ↓ scroll   {help.close} close"), classes="keys", markup=False)

    @property
    def _text_width(self) -> int:
        """Columns of the texts, as the styles have it, without the scrollbar."""
        return min(_WIDTH, self.app.size.width * 95 // 100) - 8

    def on_resize(self) -> None:
        """Wrap the sentences again, if the width has changed."""
        if self._text_width != self._wrapped_at:
            self.query_one("#help-page", Static).update(self._page())

    def _page(self) -> Text:
        """Return the purpose of the screen, its keys and its signs, as one text: that is laid out once."""
        width = self._wrapped_at = self._text_width
        page = Text("\n".join(textwrap.wrap(self._text, width)), no_wrap=True)
        for title, keys in self._sections:
            page.append(f"\n\n{title}\n\n").append_text(_key_table(keys, width))
        signs = [f"  {sign}" for sign in self._legend]
        return page.append("\n".join(["", "", "Signs", "", *signs]))

    def action_close(self) -> None:
        """Close the help."""
        self.dismiss(None)


def _key_table(keys: Sequence[tuple[str, str, str]], width: int) -> Text:
    """Return each key with a word and a sentence beside each other.

    A table of Rich would be laid out again for each of its lines that is painted.
    """
    key_width = max(_KEY_CHARS, *(len(key) + 4 for key, _, _ in keys))
    word_width = min(max(len(word) for _, word, _ in keys) + 2, (width - key_width) * 2 // 7)
    text = Text(no_wrap=True)
    for key, word, sentence in keys:
        words = textwrap.wrap(word, max(8, word_width - 2))
        sentences = textwrap.wrap(sentence, max(16, width - key_width - word_width))
        for line in range(max(len(words), len(sentences))):
            text.append(f"  {key if line == 0 else '':<{key_width - 2}}", ACCENT)
            text.append(f"{words[line] if line < len(words) else '':<{word_width}}")
            text.append(f"{sentences[line] if line < len(sentences) else ''}\n", MUTED)
    text.rstrip()
    return text
