"""The cache: how it does, and its entries, a page at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.screens.cache.actions import Evictions, one
from tui.screens.cache.entry import EntryView
from tui.text import cache as cache_text
from tui.text.format import clip, escape, utc_time
from tui.text.words import plural
from tui.widgets.cache_entry_table import EntryTable
from tui.widgets.filter_bar import FilterLine
from workers.monitoring.snapshot import Snapshot
from workers.operations.cache import glob_pattern, owner_of
from workers.operations.operations import OPERATION_ERRORS, CacheEntry, CacheOverview, CachePage

INTERVAL = 5.0
"""Seconds between readings of the figures while the view is shown: each takes a few billed commands."""
_ROWS = 100
_PROBLEM = 300
_WORDS = "part of a key, as anna or lisboa, or a pattern with * ? [ab]"
_EMPTY = """\
  nothing is cached

  The cache keeps what users are shown, by user, location and time block:
  fresh for a minute, and 15 minutes to be served where it cannot be loaded.
  It fills as payloads are read."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is shown: of which filter, as it was written, and by which windows one came here.

    Each has the cursor of a page and the row of it with which it begins.  Cursors lead forward only.
    """

    written: str = ""
    trail: tuple[tuple[str | None, int], ...] = ((None, 0),)

    @property
    def cursor(self) -> str | None:
        """Of the page."""
        return self.trail[-1][0]

    @property
    def first(self) -> int:
        """The row of the page with which it begins."""
        return self.trail[-1][1]

    def on(self, cursor: str | None, first: int) -> Window:
        """The window after it."""
        return replace(self, trail=(*self.trail, (cursor, first)))

    def back(self) -> Window:
        """The window before it."""
        return replace(self, trail=self.trail[:-1])


class CacheView(Evictions):
    """The figures come every few seconds; a page is read when it is asked for."""

    HELP = (
        "What the cache did in the last hour, and its entries, a page at a time, as they were when they were "
        "read (as of). A key is user:location:block. A filter without * ? [ finds keys that contain it, else "
        "it is a pattern for whole keys. x is about the marked entries, else the one under the cursor."
    )
    SIGNS = cache_text.LEGEND
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("u", "evict_user", "Evict the user of the entry, or one to be named", show=False),
        Binding("A", "evict_all", "Evict all that match", show=False),
        Binding("r", "reload", "Read again", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("escape", "back", "Clear the filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()
        self.reading: Window | None = None
        """What ``window`` will be when the page that is being read has arrived."""
        self.page: CachePage | None = None
        self._read_at = 0.0
        """When the page was read, by the dashboard's clock."""
        self._applied = False
        """Whether it is what was written on the filter line that is being read."""
        self._overview: CacheOverview | None = None
        self._overview_at = 0.0
        self._problem = ""
        """Why the figures are not of this moment."""
        self._due = 0.0
        self._page_due = 0.0

    def body(self) -> ComposeResult:
        """The figures, the filter and the entries."""
        yield Static("", id="cache-head", markup=False)
        yield FilterLine(read=str.strip, words=_WORDS, id="filter")
        yield Static("", id="entries-title", classes="rule", markup=False)
        yield EntryTable(id="entries")
        yield Static("  not read yet", id="no-entries", markup=False)

    def on_screen_resume(self) -> None:
        """The page that was shown, as it is now, unless it was read a moment ago."""
        super().on_screen_resume()
        if time.monotonic() >= self._page_due:
            self.read(self.going_to)

    def on_resize(self, event: events.Resize) -> None:
        """Columns and lines depend on the width."""
        self._paint_head()
        if self.page is not None:
            self._paint()

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """The clock of the figures: nothing is asked while another view is shown."""
        super().show(snapshot, problem)
        if self.is_current and time.monotonic() >= self._due:
            self._due = time.monotonic() + INTERVAL
            self.read_overview()

    def look_again(self) -> None:
        """Something was evicted."""
        self._due = 0.0
        self.read(self.going_to)

    # Reading

    @property
    def going_to(self) -> Window:
        """Where the keys that were pressed so far lead."""
        return self.reading or self.window

    @work(exclusive=True, group="overview")
    async def read_overview(self) -> None:
        """The figures; where they cannot be read the last ones stay, and it is said why."""
        try:
            self._overview = await self.cache.overview()
        except OPERATION_ERRORS as error:
            self._problem = clip(str(error), _PROBLEM)
        else:
            self._problem, self._overview_at = "", self.dashboard.now
        self._paint_head()

    def read(self, window: Window) -> None:
        """Go to ``window``; until its page has arrived all stays as it is."""
        self.reading = window
        self._page_due = time.monotonic() + INTERVAL
        self.read_page(window)

    @work(exclusive=True, group="entries")
    async def read_page(self, window: Window) -> None:
        """Read the page of ``window``, and show it."""
        try:
            page = await self._asked(window)
        finally:
            if self.reading is window:  # else another page is being read already
                self.reading = None
        if page is None:
            self._paint()
            return
        if window.written != self.window.written:
            self._changed_filter()
        self.page = replace(page, items=tuple(sorted(page.items, key=lambda each: each.key)))
        self._read_at = self.dashboard.now
        self._go(window)
        line = self.query_one(FilterLine)
        if not line.is_open or self._applied:
            self._applied = False
            line.close(window.written)
        self._paint()

    def _go(self, window: Window) -> None:
        """To the window, or one before it where the page has fewer rows by now."""
        assert self.page is not None  # noqa: S101 - it has been read
        while window.first and window.first >= len(self.page.items):
            window = window.back()
        self.window = window

    async def _asked(self, window: Window) -> CachePage | None:
        """The page, or None: the error is where the filter is being written, else a notice."""
        verb = self.cache.page(glob_pattern(window.written), cursor=window.cursor, limit=_ROWS)
        if not self._applied:
            return await self.dashboard.attempt(verb)
        try:
            return await verb
        except OPERATION_ERRORS as error:
            self._applied = False
            self.query_one(FilterLine).tell(str(error), wrong=True)
            return None

    def _changed_filter(self) -> None:
        """Nothing is acted on that is not shown."""
        table = self.query_one(EntryTable)
        if table.marks:
            number = len(table.marks)
            self.notify(f"{number:,} mark{'' if number == 1 else 's'} went with the filter")
            table.unmark()

    # Painting

    def _paint_head(self) -> None:
        head = cache_text.header(
            self._overview, self.size.width, problem=self._problem, read_at=self._overview_at
        )
        self.query_one("#cache-head", Static).update(head)

    def _rows(self) -> tuple[CacheEntry, ...]:
        items = self.page.items if self.page is not None else ()
        return items[self.window.first : self.window.first + _ROWS]

    def _paint(self) -> None:
        table, rows = self.query_one(EntryTable), self._rows()
        table.show(rows, self.size.width)
        table.display = bool(rows)
        empty = self.query_one("#no-entries", Static)
        empty.display = not rows
        empty.update(self._nothing())
        self.entitle()
        if not self.query_one(FilterLine).is_open:
            self.focus_table()

    def focus_table(self) -> None:
        """On the entries, where there are some."""
        table = self.query_one(EntryTable)
        if not table.display:
            self.set_focus(None)
        elif not table.has_focus:
            table.focus()

    def _nothing(self) -> str:
        if self.page is None:
            return "  not read: r reads it again"
        if self.page.next is not None:
            return "  nothing on this page, for jobs lie between: n looks on"
        if len(self.window.trail) > 1:
            return "  nothing more: b goes back"
        if self.window.written:
            return f"  no key fits {escape(glob_pattern(self.window.written))}"
        return _EMPTY

    def entitle(self) -> None:
        """What the table shows."""
        if self.page is None:
            self.query_one("#entries-title", Static).update("─ Entries ")
            return
        table, rows = self.query_one(EntryTable), self._rows()
        whole = self.page.next is None and len(self.window.trail) == 1 and len(rows) == len(self.page.items)
        parts = (
            plural(len(rows), "entry") if whole else f"{plural(len(rows), 'entry')} on this page",
            f"{len(table.marks):,} marked" if table.marks else "",
            "" if whole else f"page {len(self.window.trail)}",
            "n more" if self._following() is not None else "",
            "v marks to here" if table.range_from is not None else "",
            f"as of {utc_time(self._read_at)}, r reads again",
        )
        self.query_one("#entries-title", Static).update(f"─ {' · '.join(filter(None, parts))} ")

    def on_marking_marks_changed(self) -> None:
        """The title counts them."""
        self.entitle()

    # Where to look

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The filter is opened once."""
        return action != "filter" or not any(line.is_open for line in self.query(FilterLine))

    def action_reload(self) -> None:
        """The first page, as it is now, and the figures."""
        self._due = 0.0
        self.read(replace(self.window, trail=Window().trail))
        self.show(self.dashboard.snapshot, self.dashboard.problem)

    def action_page(self, by: int) -> None:
        """The next window, or the one before."""
        window = self._following() if by > 0 else self._preceding()
        if window is None:
            self.notify("this is the last page" if by > 0 else "this is the first page")
        elif window.cursor == self.window.cursor and self.reading is None:
            self.window = window
            self._paint()
        elif window != self.reading:  # a key that is held down must not begin the same page again and again
            self.read(window)

    def _following(self) -> Window | None:
        if self.page is None:
            return None
        first = self.window.first + _ROWS
        if first < len(self.page.items):
            return self.window.on(self.window.cursor, first)
        return self.window.on(self.page.next, 0) if self.page.next is not None else None

    def _preceding(self) -> Window | None:
        return self.window.back() if len(self.window.trail) > 1 else None

    def action_filter(self) -> None:
        """Write another filter."""
        self.query_one(FilterLine).edit(self.window.written)

    def action_back(self) -> None:
        """One step back: from a range, a filter."""
        table = self.query_one(EntryTable)
        if table.range_from is not None:
            table.range_from = None
            self.entitle()
        elif self.window.written:
            self.read(Window())

    def on_filter_line_wanted(self, message: FilterLine.Wanted) -> None:
        """Show what the new filter means."""
        self._applied = True
        self.read(Window(message.filter))

    def on_filter_line_left(self) -> None:
        """All stays as it is."""
        if self._applied:
            self._applied = False
            self.reading = None
            self.workers.cancel_group(self, "entries")
        self.query_one(FilterLine).close(self.window.written)
        self.focus_table()

    def on_entry_table_opened(self, message: EntryTable.Opened) -> None:
        """The value of one."""
        self.app.push_screen(EntryView(message.entry))

    # Acts

    def acted(self) -> None:
        """What was evicted is marked no longer."""
        self.query_one(EntryTable).unmark()
        self._page_due = 0.0
        super().acted()

    def action_evict(self) -> None:
        """The marked entries, or the one under the cursor."""
        table = self.query_one(EntryTable)
        if table.marks:
            keys = list(table.marks)
            self.act(self.evict_keys, keys, "The marked ones" if len(keys) > 1 else one(keys[0]))
        elif table.selected is not None:
            self.act(self.evict_keys, [table.selected.key], one(table.selected.key))

    def action_evict_all(self) -> None:
        """All that the filter means."""
        self.act(self.evict_matching, self.window.written)

    def action_evict_user(self) -> None:
        """The user of the row under the cursor; without a row it is asked which."""
        entry = self.query_one(EntryTable).selected
        if entry is not None:
            self.act(self.evict_user, owner_of(entry.key))
        else:
            self.act(self.evict_some_user)
