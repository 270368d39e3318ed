"""The base of list screens: pages of a filter's items, marks, a title, and the requests that change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from textual import events, work
from textual.app import ComposeResult
from textual.widgets import Static

from tui.keymap import with_keys
from tui.screens.base import DashboardScreen
from tui.session import Session
from tui.text.completion import Values
from tui.text.sorting import Order, Sorting
from tui.widgets.filter_bar import FilterBar
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.markable_table import MarkableTable
from tui.widgets.rule import Rule
from workers.operations.operations import OPERATION_ERRORS
from workers.words import plural

FilterT = TypeVar("FilterT")
ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)

PAGE_ROWS = 100


class Page(Protocol[ItemT_co]):
    """Items that were fetched, and the cursor of those after them."""

    @property
    def items(self) -> Sequence[ItemT_co]:
        """In the order of the rows; there may be more than `PAGE_ROWS`."""

    @property
    def next(self) -> str | None:
        """None if there are no more."""


@dataclass(frozen=True)
class ListState(Generic[FilterT]):
    """The shown part of a list: a filter, and one of its pages.

    ``history`` has the starts of the pages from the first to this one, since cursors lead forward only.  A
    start is the cursor of a fetch, and the item of that fetch with which the page begins.
    """

    filter: FilterT
    history: tuple[tuple[str | None, int], ...] = ((None, 0),)
    order: Order | None = None
    """The order of its pages; a first page gets the one that was chosen last."""

    @property
    def cursor(self) -> str | None:
        """The cursor of the page's fetch."""
        return self.history[-1][0]

    @property
    def first_item(self) -> int:
        """The item of its fetch with which the page begins."""
        return self.history[-1][1]

    @property
    def page_number(self) -> int:
        """From 1."""
        return len(self.history)

    def first(self) -> Self:
        """Return the first page."""
        return replace(self, history=self.history[:1])

    def next(self, cursor: str | None, first_item: int) -> Self:
        """Return the page after this one."""
        return replace(self, history=(*self.history, (cursor, first_item)))

    def previous(self) -> Self:
        """Return the page before this one."""
        return replace(self, history=self.history[:-1])


StateT = TypeVar("StateT", bound=ListState[Any])


@dataclass(frozen=True, eq=False)
class Request(Generic[StateT]):
    """A page that was asked for.  ``from_filter_bar``: its error belongs there, since the bar is open.

    ``is_repeated``: nobody pressed a key for it, so an outage that the banner has needs no notice.
    """

    state: StateT
    from_filter_bar: bool = False
    is_repeated: bool = False


class PagedScreen(DashboardScreen, Generic[StateT, ItemT]):
    """Shows the page of ``state`` until that of a request has arrived; only the last request counts.

    A subclass defines how a page is fetched and how its rows are shown.
    """

    FILTER_PLACEHOLDER: ClassVar[str] = ""
    """Shown on the empty filter bar: how a filter is written."""
    REMEMBERED_AS: ClassVar[str] = ""
    """The name under which its filter is remembered between runs."""

    def __init__(self, session: Session, state: StateT) -> None:
        super().__init__(session)
        self.state = state
        self.page: Page[ItemT] | None = None
        self._request: Request[StateT] | None = None
        """The last request, until its page has arrived."""

    # For subclasses

    def compose_tables(self) -> ComposeResult:
        """Compose the tables: one of them is shown."""
        raise NotImplementedError

    @property
    def table(self) -> MarkableTable[ItemT]:
        """The table of the items."""
        raise NotImplementedError

    @property
    def active_table(self) -> KeyedTable[Any]:
        """The table that is shown if it has rows."""
        return self.table

    def parse_filter(self, text: str) -> Any:
        """Parse what was written on the filter bar.  Raises one of OPERATION_ERRORS."""
        raise NotImplementedError

    def filter_values(self) -> Values:
        """Return the names of the filter's fields, with what is known of their values, for completion."""
        return {}

    def filter_text(self) -> str:
        """Return the shown filter, as it is written on the filter bar; empty if it is the default."""
        raise NotImplementedError

    def with_filter(self, filter_: Any) -> StateT:
        """Return the first page of another filter."""
        raise NotImplementedError

    def state_before(self) -> StateT | None:
        """Return the state to which escape leads; None if there is nothing to leave."""
        raise NotImplementedError

    async def fetch_page(self, state: StateT) -> Page[ItemT]:
        """Fetch the page of a state.  Raises OPERATION_ERRORS."""
        raise NotImplementedError

    def fill_tables(self) -> None:
        """Show the rows, and each table that has some and is the active one."""
        raise NotImplementedError

    def empty_message(self) -> str:
        """Return why there are no rows."""
        raise NotImplementedError

    def title_parts(self) -> list[str]:
        """Return the parts of the title; empty ones are left out."""
        raise NotImplementedError

    def sorting_of(self, state: StateT) -> Sorting[Any] | None:
        """Return the columns by which the rows of a state can be sorted; None if they have one order only."""
        return None

    # Requests

    @property
    def sorting(self) -> Sorting[Any] | None:
        """The columns by which the rows can be sorted."""
        return self.sorting_of(self.target_state)

    @property
    def order(self) -> Order | None:
        """The order of the rows to which the keys that were pressed so far lead."""
        return self.target_state.order

    def order_changed(self) -> None:
        """Fetch the first page in the order that was chosen."""
        self.request(self.target_state.first())

    @property
    def target_state(self) -> StateT:
        """The state to which the keys that were pressed so far lead."""
        return self._request.state if self._request is not None else self.state

    @property
    def is_waiting(self) -> bool:
        """Whether a page was asked for that has not arrived."""
        return self._request is not None

    def request(self, state: StateT, *, from_filter_bar: bool = False, is_repeated: bool = False) -> None:
        """Go to ``state``; until its page has arrived everything stays as it is."""
        if state.page_number == 1:  # a cursor belongs to the order with which it was made
            sorting = self.sorting_of(state)
            state = replace(state, order=None if sorting is None else self.remembered_order(sorting))
        self._request = Request(state, from_filter_bar, is_repeated)
        self._fetch(self._request)

    def request_again(self) -> None:
        """Fetch the page again that is shown, or that was asked for last."""
        from_filter_bar = self._request is not None and self._request.from_filter_bar
        self.request(self.target_state, from_filter_bar=from_filter_bar, is_repeated=True)

    @work(exclusive=True, group="page")
    async def _fetch(self, request: Request[StateT]) -> None:
        on_error = self.query_one(FilterBar).show_error if request.from_filter_bar else None
        try:
            verb = self.fetch_page(request.state)
            quiet = request.is_repeated and on_error is None
            page = await (self.session.read(verb) if quiet else self.session.run(verb, on_error=on_error))
        finally:
            if self._request is request:  # else a later request has cancelled this one
                self._request = None
        if page is not None:
            self.apply(request, page)
        elif self.is_running:
            self.update_tables()

    def apply(self, request: Request[StateT], page: Page[ItemT]) -> None:
        """Show a page that has arrived, or the one before it if it has lost its rows."""
        state, before = request.state, self.state
        while state.first_item and state.first_item >= len(page.items):
            state = state.previous()
        self.state, self.page = state, page
        bar = self.query_one(FilterBar)
        if not bar.is_open or request.from_filter_bar or state.filter != before.filter:
            bar.close(self.filter_text())
        self.page_arrived(before)
        self.update_tables()

    def on_mount(self) -> None:
        """Go to the filter of the run before; one that cannot be read any more is ignored."""
        remembered = self.session.state.get(self.REMEMBERED_AS)
        if remembered is not None and self._request is None:
            try:
                self.state = self.with_filter(self.parse_filter(remembered))
            except OPERATION_ERRORS:
                self.session.state.set(self.REMEMBERED_AS, "")

    def page_arrived(self, before: StateT) -> None:
        """Drop what belonged to another filter, so that no action applies to rows that are not shown."""
        if self.state.filter != before.filter:
            self.session.state.set(self.REMEMBERED_AS, self.filter_text())
        if self.state.filter != before.filter and self.table.marks:
            self.notify(f"the filter changed: {plural(len(self.table.marks), 'mark')} removed")
            self.table.unmark()

    # Painting

    def compose_body(self) -> ComposeResult:
        """Compose the filter, the title and the tables."""
        yield FilterBar(
            parse=self.parse_filter,
            placeholder=self.FILTER_PLACEHOLDER,
            values=self.filter_values,
            id="filter",
        )
        yield Rule(id="list-title")
        yield from self.compose_tables()
        yield Static("  not read yet", id="list-empty", markup=False)

    def on_resize(self, event: events.Resize) -> None:
        """Fit the columns to the width."""
        if self.page is not None:
            self.update_tables()

    @property
    def rows(self) -> Sequence[ItemT]:
        """The items of the page that is shown."""
        items = self.page.items if self.page is not None else ()
        return items[self.state.first_item : self.state.first_item + PAGE_ROWS]

    def update_tables(self) -> None:
        """Show the page, or why there are no rows."""
        self.active_table.order = self.state.order
        self.fill_tables()
        empty = self.query_one("#list-empty", Static)
        empty.display = not self.active_table.display
        empty.update(self.empty_message())
        self.update_title()
        if not self.query_one(FilterBar).is_open:
            self.focus_table()

    def focus_table(self) -> None:
        """Focus the table if it is shown."""
        table = self.active_table
        if not table.display:
            self.set_focus(None)
        elif not table.has_focus:
            table.focus()

    def update_title(self) -> None:
        """Show what the table has."""
        title, *others = filter(None, self.title_parts())
        self.query_one("#list-title", Rule).show(title, " · ".join(others))

    def position_parts(self, *, numbered: bool = True) -> list[str]:
        """Return the parts of the title about marks and pages."""
        sorting = self.sorting_of(self.state)
        sorted_by = self.state.order if sorting is not None and self.state.order != sorting.default else None
        return [
            with_keys(self, "{list.range} marks to here") if self.table.range_start is not None else "",
            f"by {sorted_by}" if sorted_by is not None else "",
            f"{len(self.table.marks):,} marked" if self.table.marks else "",
            f"page {self.state.page_number}" if numbered else "",
            with_keys(self, "{list.page-next} more") if self._next_state() is not None else "",
        ]

    def on_markable_table_marks_changed(self) -> None:
        """Count the marks in the title."""
        self.update_title()

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the filter's key while the bar is open, and escape if there is nothing to leave."""
        if action == "back":
            in_range = any(table.range_start is not None for table in self.query(MarkableTable))
            return in_range or self.state_before() is not None
        return action != "filter" or not any(bar.is_open for bar in self.query(FilterBar))

    def action_reload(self) -> None:
        """Fetch the first page."""
        self.request(self.state.first())

    def action_page(self, step: int) -> None:
        """Show the next page, or the one before."""
        state = self._next_state() if step > 0 else self._previous_state()
        if self.page is None:
            self.notify("the first page is not read yet")
        elif state is None:
            self.notify("this is the last page" if step > 0 else "this is the first page")
        elif state.cursor == self.state.cursor and not self.is_waiting:  # it has been fetched
            self.state = state
            self.update_tables()
        elif not self.is_waiting or state != self.target_state:  # a held-down key asks once for a page
            self.request(state)

    def _next_state(self) -> StateT | None:
        if self.page is None:
            return None
        first_item = self.state.first_item + PAGE_ROWS
        if first_item < len(self.page.items):
            return self.state.next(self.state.cursor, first_item)
        return self.state.next(self.page.next, 0) if self.page.next is not None else None

    def _previous_state(self) -> StateT | None:
        return self.state.previous() if self.state.page_number > 1 else None

    def action_filter(self) -> None:
        """Edit the filter."""
        self.query_one(FilterBar).open(self.filter_text())

    def action_back(self) -> None:
        """Leave the range that was begun, or else the filter."""
        if self.table.range_start is not None:
            self.table.range_start = None
            self.update_title()
        elif (state := self.state_before()) is not None:
            self.request(state)

    def on_filter_bar_submitted(self, message: FilterBar.Submitted) -> None:
        """Go to the first page of the new filter."""
        self.request(self.with_filter(message.filter), from_filter_bar=True)

    def on_filter_bar_cancelled(self) -> None:
        """Keep the filter, also if the page of another one was asked for."""
        if self._request is not None and self._request.from_filter_bar:
            self._request = None
            self.workers.cancel_group(self, "page")
        self.query_one(FilterBar).close(self.filter_text())
        self.focus_table()
