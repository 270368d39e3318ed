"""Jump mode: a letter on each part of the screen; pressing it goes there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from tui.keymap import with_keys

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


@dataclass(frozen=True, slots=True)
class Target:
    """A place on the screen, and what goes there."""

    offset: Offset
    go: Callable[[], object]


class JumpDialog(ModalScreen[Target | None]):
    """Lets the screen below show through; returns the chosen target, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Leave")]

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        ordered = sorted(targets, key=lambda target: (target.offset.y, target.offset.x))
        self.targets = dict(zip(LETTERS, ordered, strict=False))
        """By letter, in the order in which one reads."""

    def compose(self) -> ComposeResult:
        """Compose the letters and a hint."""
        for letter, target in self.targets.items():
            label = Label(letter, classes="jump-letter")
            label.styles.offset = target.offset
            yield label
        yield Static(
            with_keys(self, "press a letter to go there   {jump.close} leave"), id="jump-hint", markup=False
        )

    def on_key(self, event: events.Key) -> None:
        """Return the target of the letter."""
        if event.key in self.targets:
            event.stop()
            self.dismiss(self.targets[event.key])
        elif event.is_printable:
            self.dismiss(None)

    def on_click(self) -> None:
        """Leave."""
        self.dismiss(None)

    def action_close(self) -> None:
        """Leave the screen as it is."""
        self.dismiss(None)
