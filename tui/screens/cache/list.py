"""The cache: its figures, and the entries that match a filter, one page at a time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.keymap import with_keys
from tui.screens.cache.actions import CacheActions, describe_entry
from tui.screens.paged import PAGE_ROWS, ListState, Page, PagedScreen
from tui.session import Session
from tui.text import cache as cache_text
from tui.text.format import clock_time, escape
from tui.text.sorting import Sorting
from tui.widgets.cache_entry_table import CacheEntryTable
from workers.monitoring.snapshot import Snapshot
from workers.operations.cache import glob_pattern, owner_of
from workers.operations.operations import CacheEntry, CacheOverview
from workers.words import plural

REFRESH_SECONDS = 5.0
"""Between two fetches of the figures while they are shown: each costs a few billed commands."""
_NOTHING_CACHED = """\
  nothing is cached

  The cache keeps what users are shown, by user, location and time block:
  fresh for a minute, and for 15 minutes in case it cannot be loaded.
  It fills as payloads are read."""


class CacheScreen(PagedScreen[ListState[str], CacheEntry], CacheActions):
    """The figures are fetched every few seconds, a page when it is asked for."""

    REMEMBERED_AS = "cache_filter"
    FILTER_PLACEHOLDER = "part of a key, as anna or lisboa, or a pattern with * ? [ab]"
    HELP = (
        "The cache's last hour, and its entries, a page at a time, as they were when they were read (as of). "
        "A key is user:location:block. A filter without * ? [ finds keys that contain it, else it is a "
        "pattern for whole keys. {cache.evict} applies to the marked entries, else to the one under the "
        "cursor."
    )
    LEGEND = cache_text.LEGEND
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("u", "evict_user", "Evict the user of the entry, or one to be named", show=False),
        Binding("A", "evict_all", "Evict all that match", show=False),
        Binding("r", "reload", "Read again", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("escape", "back", "Clear the filter", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session, ListState(""))
        self._page_read_at = 0.0
        """When the page arrived, by the session's clock."""
        self._next_page_refresh = 0.0
        """From when on resuming the screen fetches the page again, by the monotonic clock."""
        self._overview: CacheOverview | None = None
        self._overview_read_at = 0.0
        self._overview_error = ""
        """Why the figures are old."""
        self._next_overview = 0.0

    # Fetching

    def on_screen_resume(self) -> None:
        """Fetch the page again that was shown, unless it was fetched a moment ago."""
        if time.monotonic() >= self._next_page_refresh:
            self.request_again()

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot, and fetch the figures when they are due; none while another screen is shown."""
        super().update_snapshot(snapshot, error)
        if self.is_current and time.monotonic() >= self._next_overview:
            self._next_overview = time.monotonic() + REFRESH_SECONDS
            self.fetch_overview()

    def refresh_data(self) -> None:
        """Fetch the page again, and the figures with the next snapshot."""
        self._next_overview = 0.0
        self.request_again()

    @work(exclusive=True, group="overview")
    async def fetch_overview(self) -> None:
        """Show the figures; if they cannot be fetched the last ones stay, with the error."""
        overview = await self.session.run(self.cache.overview(), on_error=self._keep_overview_error)
        if overview is not None:
            self._overview, self._overview_read_at = overview, self.session.now
            self._overview_error = ""
        self._update_figures()

    def _keep_overview_error(self, message: str) -> None:
        self._overview_error = message

    async def fetch_page(self, state: ListState[str]) -> Page[CacheEntry]:
        """Fetch the entries of a state, and sort them."""
        self._next_page_refresh = time.monotonic() + REFRESH_SECONDS
        page = await self.cache.page(glob_pattern(state.filter), cursor=state.cursor, limit=PAGE_ROWS)
        return replace(page, items=tuple(cache_text.CACHE_SORTING.sort(page.items, state.order)))

    def sorting_of(self, state: ListState[str]) -> Sorting[CacheEntry]:
        """Return the columns of the entries."""
        return cache_text.CACHE_SORTING

    def page_arrived(self, before: ListState[str]) -> None:
        """Note when."""
        super().page_arrived(before)
        self._page_read_at = self.session.now

    # Painting

    def compose_body(self) -> ComposeResult:
        """Compose the figures and the list."""
        yield Static("", id="cache-figures", markup=False)
        yield from super().compose_body()

    def compose_tables(self) -> ComposeResult:
        """Compose the entries."""
        yield CacheEntryTable(id="entries")

    def on_resize(self, event: events.Resize) -> None:
        """Fit the figures to the width."""
        self._update_figures()

    def _update_figures(self) -> None:
        text = cache_text.header(
            self._overview, self.size.width, problem=self._overview_error, read_at=self._overview_read_at
        )
        self.query_one("#cache-figures", Static).update(text)

    @property
    def table(self) -> CacheEntryTable:
        """The entries."""
        return self.query_one(CacheEntryTable)

    def fill_tables(self) -> None:
        """Show the entries, if there are some."""
        self.table.show_entries(self.rows, self.size.width)
        self.table.display = bool(self.rows)

    def empty_message(self) -> str:
        """Return why nothing is shown."""
        if self.page is None:
            return with_keys(self, "  not read: {list.reload} reads it again")
        if self.page.next is not None:
            return with_keys(self, "  only jobs on this page: {list.page-next} shows the next one")
        if self.state.page_number > 1:
            return with_keys(self, "  no more entries: {list.page-previous} goes back")
        if self.state.filter:
            return f"  no key matches {escape(glob_pattern(self.state.filter))}"
        return _NOTHING_CACHED

    def title_parts(self) -> list[str]:
        """Return how many entries, which page, and when they were read."""
        if self.page is None:
            return ["Entries"]
        entries = plural(len(self.rows), "entry")
        reads_again = with_keys(self, "{list.reload} reads again")
        only_page = self.state.page_number == 1 and self._next_state() is None
        return [
            entries if only_page else f"{entries} on this page",
            *self.position_parts(numbered=not only_page),
            f"as of {clock_time(self._page_read_at, self.session.now)}, {reads_again}",
        ]

    # Keys

    def parse_filter(self, text: str) -> str:
        """Strip the text."""
        return text.strip()

    def filter_text(self) -> str:
        """Return the filter, as it was written."""
        return self.state.filter

    def with_filter(self, filter_: str) -> ListState[str]:
        """Return the first page of another filter."""
        return ListState(filter_)

    def state_before(self) -> ListState[str] | None:
        """Leave the filter."""
        return ListState("") if self.state.filter else None

    def action_reload(self) -> None:
        """Fetch the first page and the figures."""
        super().action_reload()
        self._next_overview = 0.0
        self.update_snapshot(self.session.snapshot, self.session.snapshot_error)

    def entries_evicted(self) -> None:
        """Unmark the evicted entries."""
        self.table.unmark()
        self._next_page_refresh = 0.0
        super().entries_evicted()

    def action_evict(self) -> None:
        """Evict the marked entries, else the one under the cursor."""
        entry = self.table.selected
        keys = list(self.table.marks) or ([entry.key] if entry is not None else [])
        if keys:
            label = "The marked ones" if len(keys) > 1 else describe_entry(keys[0])
            self.run_exclusive(self.evict_keys, keys, label)

    def action_evict_all(self) -> None:
        """Evict all entries that match the filter."""
        self.run_exclusive(self.evict_matching, self.state.filter)

    def action_evict_user(self) -> None:
        """Evict the user of the entry under the cursor; without an entry ask for a user."""
        entry = self.table.selected
        if entry is not None:
            self.run_exclusive(self.evict_user, owner_of(entry.key))
        else:
            self.run_exclusive(self.prompt_evict_user)
