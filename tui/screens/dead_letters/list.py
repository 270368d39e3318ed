"""The groups of the dead letters that match a filter, or the letters, one page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from tui.keymap import with_keys
from tui.navigation import OpenPlans
from tui.screens.dead_letters.actions import LetterActions, ids_of
from tui.screens.dead_letters.list_state import LetterListState
from tui.screens.paged import PAGE_ROWS, Page, PagedScreen, Request
from tui.session import Session
from tui.text import dead_letters as letter_text
from tui.text.completion import Values
from tui.text.format import clock_time
from tui.text.sorting import Sorting
from tui.text.styles import MARK
from tui.widgets.group_table import GroupTable
from tui.widgets.letter_preview import LetterPreview
from tui.widgets.letter_table import MarkableLetterTable
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import ALL_DEAD, STATES, DeadLetter, FailureGroup, LetterFilter, Selection
from workers.words import plural

_MAX_COUNT = 10_000
"""Letters that are counted at most; if there are more the title shows it."""
_MAX_GROUPS = 200
_COUNTING = "counting …"
_PREVIEW_MIN_WIDTH, _PREVIEW_SHARE = 140, 0.42
"""Columns of a terminal from which the letter or group under the cursor is shown beside the list."""
_REMEMBERED_GROUPS = "letters-grouped"
_NOTHING = "nothing is listed: there is nothing to act on"
_STATE_CYCLE = (*STATES, None)


class DeadLettersScreen(PagedScreen[LetterListState, DeadLetter], LetterActions):
    """The page, its count and its groups are fetched without waiting for each other."""

    REMEMBERED_AS = "letters_filter"
    FILTER_PLACEHOLDER = (
        "queue: function: state:dead|replayed|discarded|all since:2h arg.NAME: poison:yes, words"
    )
    HELP = (
        "Groups of dead letters, or with {letters.groups} the letters, a page at a time. {letters.replay}, "
        "{letters.discard} and {letters.export} apply to the group, or to the marked letters, else to the "
        "one under the cursor ({letters.export}: to all that match)."
    )
    LEGEND = (f"{MARK}  marked", letter_text.POISON_LEGEND, "–  unknown")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("g", "groups", "Groups, letters"),
        Binding("d", "discard", "Discard"),
        Binding("A", "replay_all", "Replay all that match", show=False),
        Binding("u", "restore", "Undo a discard, restore", show=False),
        Binding("e", "edit", "Edit the payload and replay", show=False),
        Binding("E", "export", "Export", show=False),
        Binding("P", "plans", "Plans", show=False),
        Binding("t", "state", "Next state: dead, replayed, discarded, all", show=False),
        Binding("escape", "back", "Clear the filter, back to the groups", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("r", "reload", "Reload", show=False),
    ]

    def __init__(self, session: Session) -> None:
        grouped = session.state.get(_REMEMBERED_GROUPS) != "no"
        super().__init__(session, LetterListState(grouped=grouped))
        self._count: int | str = _COUNTING
        """How many letters match, or why that is unknown."""
        self._groups: Sequence[FailureGroup] = ()
        self._groups_loaded_at: float | None = None
        """When the groups of this filter were fetched; None if they were not."""
        self._loading_groups_for: LetterFilter | None = None

    # Fetching

    def on_screen_resume(self) -> None:
        """Fetch again what was shown."""
        self.request_again()
        self.fetch_count(self.state.filter)
        if self.state.grouped:
            self._load_groups()

    def show_letters(self, letter_filter: LetterFilter) -> None:
        """Show the letters that match a filter, from another screen."""
        self.request(LetterListState(letter_filter))

    def refresh_data(self) -> None:
        """Fetch again what is shown."""
        self.request_again()
        self.fetch_count(self.state.filter)
        self._refresh_groups()

    async def fetch_page(self, state: LetterListState) -> Page[DeadLetter]:
        """Fetch the page of a state; one letter of it if groups are shown, which tells if it can be read."""
        limit, order = (1, None) if state.grouped else (PAGE_ROWS, state.order)
        return await self.letters.page(
            state.filter, limit=limit, cursor=state.cursor, order=letter_text.letter_order(order)
        )

    def apply(self, request: Request[LetterListState], page: Page[DeadLetter]) -> None:
        """Show a page; if all of its letters were replayed, fetch the one before."""
        if not page.items and request.state.page_number > 1:
            self.request(request.state.previous())
        else:
            super().apply(request, page)

    def page_arrived(self, before: LetterListState) -> None:
        """Fetch the count and the groups that belong to the page's filter."""
        super().page_arrived(before)
        if self.state.filter != before.filter:
            self._count = _COUNTING
            self._groups, self._groups_loaded_at = (), None
            self.fetch_count(self.state.filter)
        self.session.state.set(_REMEMBERED_GROUPS, "" if self.state.grouped else "no")
        if self.state.grouped != before.grouped:
            self.refresh_bindings()
        loading = self._loading_groups_for == self.state.filter
        if self.state.grouped and self._groups_loaded_at is None and not loading:
            self._load_groups()

    @work(exclusive=True, group="count")
    async def fetch_count(self, letter_filter: LetterFilter) -> None:
        """Count the letters; nothing waits for it."""
        number = await self.session.read(self.letters.count(letter_filter, limit=_MAX_COUNT))
        if letter_filter == self.state.filter:
            self._count = number if number is not None else "not counted"
            self.update_title()

    def _refresh_groups(self) -> None:
        """Fetch the groups again: now if they are shown, else when they will be."""
        self._groups_loaded_at = None
        if self.state.grouped:
            self._load_groups()

    def _load_groups(self) -> None:
        self._loading_groups_for = self.state.filter
        self.fetch_groups(self.state.filter)

    @work(exclusive=True, group="groups")
    async def fetch_groups(self, letter_filter: LetterFilter) -> None:
        """Fetch the groups; nothing waits for them."""
        try:
            groups = await self.session.read(self.letters.groups(letter_filter, limit=_MAX_GROUPS))
        finally:
            if self._loading_groups_for is letter_filter:  # else those of another filter are being fetched
                self._loading_groups_for = None
        if letter_filter != self.state.filter:
            return
        if groups is not None:
            self._groups, self._groups_loaded_at = groups, self.session.now
        self.update_tables()

    # Painting

    def compose_body(self) -> ComposeResult:
        """Compose the list, and beside it what is under the cursor."""
        with Horizontal(id="letters-body"):
            with Vertical():
                yield from super().compose_body()
            yield LetterPreview(id="preview-pane")

    def compose_tables(self) -> ComposeResult:
        """Compose the letters and the groups."""
        yield MarkableLetterTable(id="letters")
        yield GroupTable(id="groups")

    @property
    def table(self) -> MarkableLetterTable:
        """The letters."""
        return self.query_one(MarkableLetterTable)

    @property
    def active_table(self) -> MarkableLetterTable | GroupTable:
        """The groups or the letters."""
        return self.query_one(GroupTable) if self.state.grouped else self.table

    def fill_tables(self) -> None:
        """Show the letters or the groups, if there are some."""
        letters, groups = self.table, self.query_one(GroupTable)
        now, width = self.session.now, self._fit()
        if self.state.grouped:
            groups.show_groups(letter_text.GROUP_SORTING.sort(self._groups, self.state.order), now, width)
        else:
            letters.show_letters(self.rows, now, width, state=self.state.filter.state != "dead")
        letters.display = bool(letters.items) and not self.state.grouped
        groups.display = bool(groups.items) and self.state.grouped
        self._show_preview()

    def _fit(self) -> int:
        """Show the preview if there is room for it; return the columns that the list has."""
        width, preview = self.size.width, self.query_one(LetterPreview)
        preview.display = width >= _PREVIEW_MIN_WIDTH
        columns = int(width * _PREVIEW_SHARE) if preview.display else 0
        preview.styles.width = columns
        return width - columns

    def on_data_table_row_highlighted(self) -> None:
        """Preview the row under the cursor."""
        self._show_preview()

    def _show_preview(self) -> None:
        preview = self.query_one(LetterPreview)
        if preview.display:
            table = self.active_table
            item = table.selected if table.display else None
            preview.show(item, self.session.now, self.session.snapshot)

    def sorting_of(self, state: LetterListState) -> Sorting[Any]:
        """Return the columns of the groups, or those of the letters that have an index."""
        return letter_text.GROUP_SORTING if state.grouped else letter_text.letter_sorting(state.filter)

    def empty_message(self) -> str:
        """Return why nothing is shown."""
        if self.state.grouped and self._groups_loaded_at is None:
            loading = self._loading_groups_for is not None
            return (
                "  reading the groups …"
                if loading
                else with_keys(self, "  not read: {list.reload} reads them again")
            )
        if self.page is None:
            return with_keys(self, "  not read: {list.reload} reads it again")
        return "  nothing has died" if self.state.filter == ALL_DEAD else "  no letter matches this filter"

    def update_snapshot(self, snapshot: Snapshot | None, error: str | None) -> None:
        """Show a snapshot; its total stands in the title if the letters were not counted to the end."""
        super().update_snapshot(snapshot, error)
        self.update_title()
        self._show_preview()

    def title_parts(self) -> list[str]:
        """Return letters or groups, how many, which page."""
        if self.state.grouped:
            return [*self._group_parts(), self._total()]
        state = self.state.filter.state
        label = "All letters" if state is None else f"{state.capitalize()} letters"
        return [label, self._total(), *self.position_parts()]

    def _group_parts(self) -> Iterator[str]:
        yield "Groups"
        if self._groups_loaded_at is not None:
            number = len(self.query_one(GroupTable).items)
            label = f"the {_MAX_GROUPS} largest" if number == _MAX_GROUPS else plural(number, "group")
            yield f"{label} as of {clock_time(self._groups_loaded_at, self.session.now)}"

    def _total(self) -> str:
        if isinstance(self._count, str):
            return self._count
        if self._count <= _MAX_COUNT:
            return plural(self._count, "letter")
        snapshot = self.session.snapshot
        total = snapshot.dead_letters if snapshot is not None and self.state.filter == ALL_DEAD else None
        if total is None or total <= _MAX_COUNT:
            return f"{_MAX_COUNT:,}+ letters"
        return plural(total, "letter")

    # Keys of the list

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable paging and editing for groups."""
        if self.state.grouped and action in ("page", "edit"):
            return False
        return super().check_action(action, parameters)

    def parse_filter(self, text: str) -> LetterFilter:
        """Parse a filter.  Raises InvalidFilterError."""
        return LetterFilter.parse(text)

    def filter_values(self) -> Values:
        """Return the fields of letters, with the queues, functions, groups and arguments that are known."""
        snapshot = self.session.snapshot
        letters = [*(group.sample for group in self._groups), *self.rows]
        return letter_text.filter_values(snapshot.queues if snapshot is not None else (), letters)

    def filter_text(self) -> str:
        """Return the filter, as it is written."""
        return self.state.filter.to_query()

    def with_filter(self, filter_: LetterFilter) -> LetterListState:
        """Return the first page of another filter, or its groups."""
        return LetterListState(filter_, grouped=self.state.grouped)

    def state_before(self) -> LetterListState | None:
        """Leave a group, then the filter, then the groups."""
        if self.state.parent_filter is not None:
            return LetterListState(self.state.parent_filter, grouped=True)
        if self.state.filter != ALL_DEAD:
            return LetterListState(grouped=self.state.grouped)
        return None if self.state.grouped else self._toggled_state()

    def action_reload(self) -> None:
        """Fetch the first page, the count and the groups."""
        super().action_reload()
        self.fetch_count(self.state.filter)
        self._refresh_groups()

    def action_groups(self) -> None:
        """Show groups instead of letters, or letters instead of groups."""
        self.request(self._toggled_state())

    def _toggled_state(self) -> LetterListState:
        return replace(self.target_state, grouped=not self.target_state.grouped)

    def action_state(self) -> None:
        """Show the letters of the next state."""
        target = self.target_state
        index = _STATE_CYCLE.index(target.filter.state)
        state = _STATE_CYCLE[(index + 1) % len(_STATE_CYCLE)]
        self.request(replace(target.first(), filter=target.filter.model_copy(update={"state": state})))

    def on_group_table_opened(self, message: GroupTable.Opened) -> None:
        """Show the letters of one group."""
        self.request(LetterListState(self._filter_of(message.group), parent_filter=self.state.filter))

    # Actions

    def letters_changed(self, selection: Selection) -> None:
        """Unmark the letters of an action."""
        self.table.unmark(None if isinstance(selection, LetterFilter) else selection)
        super().letters_changed(selection)

    def action_replay(self) -> None:
        """Replay the marked letters, the one under the cursor, or the group."""
        letters = self._target_letters()
        if len(letters) == 1:
            self.run_exclusive(self.replay_one, letters[0])
        elif (selection := self._selection()) is not None:
            self.run_exclusive(self.replay_many, *selection)

    def action_replay_all(self) -> None:
        """Replay all letters that match the filter."""
        self.run_exclusive(self.replay_many, self.state.filter, self._all_label())

    def action_discard(self) -> None:
        """Discard the marked letters, the one under the cursor, or the group."""
        if (selection := self._selection()) is not None:
            self.run_exclusive(self.discard, *selection)

    def action_restore(self) -> None:
        """Restore the marked discarded letters, or the group of them; else undo the last discard."""
        discarded = [letter for letter in self._target_letters() if letter.state == "discarded"]
        group = self.query_one(GroupTable).selected if self.state.grouped else None
        if discarded:
            self.run_exclusive(self.restore, ids_of(discarded))
        elif group is not None and self.state.filter.state == "discarded":
            self.run_exclusive(self.restore, self._filter_of(group))
        else:
            self.run_exclusive(self.undo_discard)

    def action_edit(self) -> None:
        """Edit the payload of the letter under the cursor and replay it."""
        letter = self.table.selected
        if letter is not None:
            self.run_exclusive(self.edit, letter)
        else:
            self.notify(_NOTHING)

    def action_export(self) -> None:
        """Export the marked letters, the group, or all that match the filter."""
        selection = self._selection() if self.state.grouped or self.table.marks else None
        self.run_exclusive(self.export, *(selection or (self.state.filter, self._all_label())))

    def action_plans(self) -> None:
        """Show the newest plans."""
        self.post_message(OpenPlans())

    def _target_letters(self) -> list[DeadLetter]:
        """Return the marked letters, else the one under the cursor; none if groups are shown."""
        if self.state.grouped:
            return []
        table = self.table
        return list(table.marks.values()) or ([table.selected] if table.selected else [])

    def _selection(self) -> tuple[Selection, str] | None:
        """Return the letters to which an action applies, and their label."""
        if self.state.grouped:
            group = self.query_one(GroupTable).selected
            if group is not None:
                return self._filter_of(group), "this group"
        letters = self._target_letters()
        if not letters:
            self.notify(_NOTHING)
            return None
        label = plural(len(letters), "marked letter") if self.table.marks else ""
        return ids_of(letters), label or f"letter {letters[0].id}"

    def _all_label(self) -> str:
        return "all dead letters" if self.state.filter == ALL_DEAD else "all that match the filter"

    def _filter_of(self, group: FailureGroup) -> LetterFilter:
        return self.state.filter.model_copy(update={"fingerprint": group.fingerprint})
