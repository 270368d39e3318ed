"""One cache entry: what it says of itself, and its value."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.screens.cache.actions import Evictions, one
from tui.text import cache as cache_text
from workers.errors import NotFoundError
from workers.operations.cache import owner_of
from workers.operations.operations import OPERATION_ERRORS, CacheEntry

_READING = "reading …"


class EntryView(Evictions):
    """Scrolls; ``x`` evicts it."""

    HELP = "One cache entry: how old it is, how long it stays, and its value as JSON."
    SIGNS = cache_text.LEGEND
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("x", "evict", "Evict"),
        Binding("u", "evict_user", "Evict its user"),
        Binding("r", "reload", "Read again"),
    ]

    def __init__(self, entry: CacheEntry) -> None:
        super().__init__()
        self._entry = entry

    def body(self) -> ComposeResult:
        """One long text."""
        yield Static("─ Cache entry ", classes="rule", markup=False)
        with VerticalScroll(id="detail"):
            yield Static(self._detail(None, _READING), id="entry", markup=False)

    def on_mount(self) -> None:
        """The value is read meanwhile."""
        self.read()

    def look_again(self) -> None:
        """The entry as it is now."""
        self.read()

    @work(exclusive=True, group="entries")
    async def read(self) -> None:
        """The entry as it is now, with its value."""
        value, gone = None, ""
        try:
            self._entry, value = await self.cache.get(self._entry.key)
        except NotFoundError:
            gone = "it has gone: its time was over, or it was evicted or invalidated"
        except OPERATION_ERRORS as error:
            gone = f"not read: {error}"
        self.query_one("#entry", Static).update(self._detail(value, gone))

    def action_reload(self) -> None:
        """The entry as it is now."""
        self.read()

    def action_evict(self) -> None:
        """Ask, then evict it."""
        self.act(self.evict_keys, [self._entry.key], one(self._entry.key))

    def action_evict_user(self) -> None:
        """Ask, then evict all of its user."""
        self.act(self.evict_user, owner_of(self._entry.key))

    def _detail(self, value: Any, gone: str) -> Text:
        return cache_text.detail(self._entry, value, read_at=self.dashboard.now, missing_reason=gone)
