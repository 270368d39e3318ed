"""One cache entry: its fields and its value."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.screens.cache.actions import CacheActions, describe_entry
from tui.session import Session
from tui.text import cache as cache_text
from tui.widgets.rule import Rule
from workers.errors import NotFoundError
from workers.operations.cache import owner_of
from workers.operations.operations import OPERATION_ERRORS, CacheEntry

_READING = "reading …"


class CacheEntryScreen(CacheActions):
    """A text to scroll through, with the actions on the entry."""

    HELP = "One cache entry: its age, how long it stays, and its value as JSON."
    LEGEND = cache_text.LEGEND
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "Back"),
        Binding("x", "evict", "Evict"),
        Binding("u", "evict_user", "Evict its user"),
        Binding("r", "reload", "Read again"),
    ]

    def __init__(self, session: Session, entry: CacheEntry) -> None:
        super().__init__(session)
        self._entry = entry

    @property
    def subject(self) -> str:
        """The name of what the screen is about."""
        return self._entry.key

    def compose_body(self) -> ComposeResult:
        """Compose the text."""
        yield Rule("Cache entry")
        with VerticalScroll(id="detail"):
            yield Static(self._detail(None, _READING), id="entry", markup=False)

    def on_mount(self) -> None:
        """Fetch the value."""
        self.fetch_entry()

    def refresh_data(self) -> None:
        """Fetch the entry as it is now."""
        self.fetch_entry()

    @work(exclusive=True, group="entry")
    async def fetch_entry(self) -> None:
        """Show the entry as it is now, with its value."""
        value, missing_reason = None, ""
        try:
            self._entry, value = await self.cache.get(self._entry.key)
        except NotFoundError:
            missing_reason = "it has gone: it expired, or was evicted or invalidated"
        except OPERATION_ERRORS as error:
            missing_reason = f"not read: {error}"
        self.query_one("#entry", Static).update(self._detail(value, missing_reason))

    def action_reload(self) -> None:
        """Fetch the entry as it is now."""
        self.fetch_entry()

    def action_evict(self) -> None:
        """Ask, then evict it."""
        self.run_exclusive(self.evict_keys, [self._entry.key], describe_entry(self._entry.key))

    def action_evict_user(self) -> None:
        """Ask, then evict all entries of its user."""
        self.run_exclusive(self.evict_user, owner_of(self._entry.key))

    def _detail(self, value: Any, missing_reason: str) -> Text:
        return cache_text.detail(self._entry, value, read_at=self.session.now, missing_reason=missing_reason)
