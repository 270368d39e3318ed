"""Dead letters: those that a filter means, a page at a time, the newest first, or by group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from tui.format import instant
from tui.letter_text import counted
from tui.screens.acts import Acts, ids_of
from tui.screens.plans import Plans
from tui.widgets.filter_line import FilterLine
from tui.widgets.groups import GroupTable
from tui.widgets.letters import MarkedTable
from workers.operations import DEAD, FAILURES, STATES, DeadLetter, Filter, Page, Wanted
from workers.snapshot import Snapshot

_PAGE = 100
_MOST = 10_000
"""Letters that are counted; where there are more the title says so."""
_GROUPS = 200
_CYCLE = (*STATES, None)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is shown.  ``cursors`` are those of the pages from the first to this one.

    ``outer`` is the filter of the groups from which one was opened, and to which escape goes back.
    """

    wanted: Filter = DEAD
    cursors: tuple[str | None, ...] = (None,)
    grouped: bool = False
    outer: Filter | None = None


class Letters(Acts):
    """One window of rows, or the groups."""

    HELP = (
        "Dead letters, the newest first, a page at a time, or by group. R, d and E are about the marked "
        "letters, else the one under the cursor (E: all that are shown); with groups about the group."
    )
    SIGNS = (
        "●  marked",
        "×3 poison: died so often in a row of the same error; a plan leaves it out",
        "–  nothing is known",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("g", "groups", "Groups"),
        Binding("d", "discard", "Discard"),
        Binding("A", "replay_all", "Replay all that match", show=False),
        Binding("u", "restore", "Undo a discard, restore", show=False),
        Binding("e", "edit", "Edit the payload and replay", show=False),
        Binding("E", "export", "Export", show=False),
        Binding("P", "plans", "Plans", show=False),
        Binding("s", "state", "Next state: dead, replayed, discarded, all", show=False),
        Binding("escape", "back", "Clear the filter, leave the groups", show=False),
        Binding("n", "page(1)", "Next page", show=False),
        Binding("b", "page(-1)", "Page before", show=False),
        Binding("r", "reload", "Reload", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._place = _Place()
        self._reading: _Place | None = None
        """What ``_place`` will be when the page that is being read has arrived."""
        self._applied = False
        """Whether it is what was written on the filter line that is being read."""
        self._page: Page[DeadLetter] | None = None
        self._count: int | None = None
        self._groups_at: float | None = None
        """When the groups were read; None: they have not been, for this filter."""
        self._grouping: Filter | None = None
        """Whose groups are being read."""

    def body(self) -> ComposeResult:
        """The filter, a title and the tables."""
        yield FilterLine(id="filter")
        yield Static("", id="letters-title", classes="rule", markup=False)
        yield MarkedTable(id="letters")
        yield GroupTable(id="groups")
        yield Static("  not read yet", id="no-letters")

    def on_screen_resume(self) -> None:
        """The page that was shown, as it is now."""
        super().on_screen_resume()
        self.read(self._going_to)
        self.read_count(self._place.wanted)

    def on_resize(self, event: events.Resize) -> None:
        """Columns depend on the width."""
        if self._page is not None:
            self._paint()

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """The title of a whole has the snapshot's total where it was not counted to the end."""
        super().show(snapshot, problem)
        self._entitle()

    def look_again(self) -> None:
        """Read anew what is shown."""
        self.read(self._going_to)
        self.read_count(self._place.wanted)
        self.refresh_groups()

    # Reading

    @property
    def _going_to(self) -> _Place:
        """Where the keys that were pressed so far lead."""
        return self._reading or self._place

    def read(self, place: _Place) -> None:
        """Go to ``place``; until its page has arrived all stays as it is."""
        self._reading = place
        self.read_page(place)

    @work(exclusive=True, group="letters")
    async def read_page(self, place: _Place) -> None:
        """Read the page of ``place``, and show it."""
        try:
            page = await self._asked(place)
        finally:
            if self._reading is place:  # else another page is being read already
                self._reading = None
        if page is None:
            return
        if not page.items and len(place.cursors) > 1:  # all of it was replayed
            self.read(replace(place, cursors=place.cursors[:-1]))
            return
        before, self._place, self._page = self._place, place, page
        if place.wanted != before.wanted:
            self._changed_filter()
        if place.grouped != before.grouped:
            self.refresh_bindings()
        line = self.query_one(FilterLine)
        if not line.is_open or place.wanted != before.wanted or self._applied:
            self._applied = False
            line.close("" if place.wanted == DEAD else place.wanted.line())
        if place.grouped and self._groups_at is None and self._grouping != place.wanted:
            self.read_groups(place.wanted)
        self._paint()

    async def _asked(self, place: _Place) -> Page[DeadLetter] | None:
        """The page of ``place``, or None: the error is where the filter is being written, else a notice."""
        verb = self.letters.page(place.wanted, limit=_PAGE, cursor=place.cursors[-1])
        if not self._applied:
            return await self.dashboard.attempt(verb)
        try:
            return await verb
        except FAILURES as error:
            self._applied = False
            self.query_one(FilterLine).tell(str(error), wrong=True)
            return None

    @work(exclusive=True, group="count")
    async def read_count(self, wanted: Filter) -> None:
        """How many there are; nothing waits for it."""
        number = await self.dashboard.attempt(self.letters.count(wanted, most=_MOST))
        if number is not None and wanted == self._place.wanted:
            self._count = number
            self._entitle()

    def refresh_groups(self) -> None:
        """The groups are others: read them where they are shown, else when they will be."""
        self._groups_at = None
        if self._place.grouped:
            self.read_groups(self._place.wanted)

    @work(exclusive=True, group="groups")
    async def read_groups(self, wanted: Filter) -> None:
        """The groups; nothing waits for them."""
        self._grouping = wanted
        try:
            groups = await self.dashboard.attempt(self.letters.groups(wanted, limit=_GROUPS))
        finally:
            if self._grouping is wanted:  # else those of another filter are being read
                self._grouping = None
        if groups is None or wanted != self._place.wanted:
            return
        self._groups_at = self.dashboard.now
        self.query_one(GroupTable).show(groups, self.dashboard.now, self.size.width)
        self._paint()

    def _changed_filter(self) -> None:
        """What belonged to the filter before goes: nothing is acted on that is not shown."""
        table = self.query_one(MarkedTable)
        if table.marks:
            self.notify(f"{counted(len(table.marks), 'mark')} went with the filter")
            table.unmark()
        self._count = None
        self._groups_at = None
        self.query_one(GroupTable).show((), 0.0, self.size.width)
        self.read_count(self._place.wanted)

    # Painting

    def _paint(self) -> None:
        letters, groups = self.query_one(MarkedTable), self.query_one(GroupTable)
        grouped, width = self._place.grouped, self.size.width
        items = self._page.items if self._page else []
        letters.show(items, self.dashboard.now, width, state=self._place.wanted.state != "dead")
        letters.display = bool(items) and not grouped
        groups.display = bool(groups.groups) and grouped
        empty = self.query_one("#no-letters", Static)
        empty.display = not (letters.display or groups.display)
        empty.update(self._nothing())
        self._entitle()
        if not self.query_one(FilterLine).is_open:
            self._focus_table()

    def _focus_table(self) -> None:
        table = self.query_one(GroupTable if self._place.grouped else MarkedTable)
        if not table.display:
            self.set_focus(None)
        elif not table.has_focus:
            table.focus()

    def _nothing(self) -> str:
        if self._place.grouped and self._groups_at is None:
            return "  reading the groups …"
        return "  nothing has died" if self._place.wanted == DEAD else "  no letter is meant by this filter"

    def _entitle(self) -> None:
        parts = [self._grouped_title() if self._place.grouped else self._letters_title(), *self._parts()]
        self.query_one("#letters-title", Static).update(f"─ {' · '.join(filter(None, parts))} ")

    def _letters_title(self) -> str:
        state = self._place.wanted.state
        return "All letters" if state is None else f"{state.capitalize()} letters"

    def _grouped_title(self) -> str:
        groups = self.query_one(GroupTable).groups
        if self._groups_at is None:
            return "Groups · reading …"
        number = f"the {_GROUPS} largest" if len(groups) == _GROUPS else counted(len(groups), "group")
        return f"Groups · {number} as of {instant(self._groups_at)}"

    def _parts(self) -> list[str]:
        if self._place.grouped:
            return [self._total()]
        table = self.query_one(MarkedTable)
        return [
            self._total(),
            f"{len(table.marks):,} marked" if table.marks else "",
            f"page {len(self._place.cursors)}",
            "n more" if self._page and self._page.next else "",
            "v marks to here" if table.range_from is not None else "",
        ]

    def _total(self) -> str:
        if self._count is None:
            return "counting …"
        if self._count <= _MOST:
            return counted(self._count)
        snapshot = self.dashboard.snapshot
        whole = snapshot.dead_letters if snapshot is not None and self._place.wanted == DEAD else None
        return counted(whole) if whole is not None and whole > _MOST else f"{_MOST:,}+ letters"

    def on_marked_table_marks_changed(self) -> None:
        """The title counts them."""
        self._entitle()

    # Where to look

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Groups have no pages, and nothing to be edited; the filter is opened once."""
        if action == "filter":
            return not any(line.is_open for line in self.query(FilterLine))
        return not (action in ("page", "edit") and self._place.grouped)

    def action_reload(self) -> None:
        """The first page, as it is now."""
        self.read(replace(self._place, cursors=(None,)))
        self.read_count(self._place.wanted)
        self.refresh_groups()

    def action_page(self, by: int) -> None:
        """The next page, or the one before."""
        following = self._page.next if self._page else None
        if by > 0 and following is not None:
            cursors = (*self._place.cursors, following)
        elif by < 0 and len(self._place.cursors) > 1:
            cursors = self._place.cursors[:-1]
        else:
            self.notify("this is the last page" if by > 0 else "this is the first page")
            return
        place = replace(self._place, cursors=cursors)
        if place != self._reading:  # a key that is held down must not begin the same page again and again
            self.read(place)

    def action_groups(self) -> None:
        """Groups in place of letters, or letters in place of groups."""
        place = self._going_to
        self.read(replace(place, grouped=not place.grouped))

    def action_state(self) -> None:
        """Letters of the next state."""
        place = self._going_to
        state = _CYCLE[(_CYCLE.index(place.wanted.state) + 1) % len(_CYCLE)]
        self.read(replace(place, wanted=place.wanted.model_copy(update={"state": state}), cursors=(None,)))

    def action_filter(self) -> None:
        """Write another filter."""
        self.query_one(FilterLine).edit(self._place.wanted.line())

    def action_back(self) -> None:
        """One step back: from a range, a group, a filter, the groups."""
        table = self.query_one(MarkedTable)
        if table.range_from is not None:
            table.range_from = None
            self._entitle()
        elif self._place.outer is not None:
            self.read(_Place(self._place.outer, grouped=True))
        elif self._place.wanted != DEAD:
            self.read(_Place(grouped=self._place.grouped))
        elif self._place.grouped:
            self.action_groups()

    def on_filter_line_wanted(self, message: FilterLine.Wanted) -> None:
        """Show what the new filter means, if it can be read."""
        self._applied = True
        self.read(_Place(message.filter, grouped=self._place.grouped))

    def on_filter_line_left(self) -> None:
        """All stays as it is."""
        if self._applied:
            self._applied = False
            self._reading = None
            self.workers.cancel_group(self, "letters")
        self.query_one(FilterLine).close("" if self._place.wanted == DEAD else self._place.wanted.line())
        self._focus_table()

    def on_group_table_opened(self, message: GroupTable.Opened) -> None:
        """The letters of one group."""
        wanted = self._of_group(message.group.fingerprint)
        self.read(_Place(wanted, outer=self._place.wanted))

    # Acts

    def acted(self, wanted: Wanted) -> None:
        """What was acted on is marked no longer."""
        self.query_one(MarkedTable).unmark(None if isinstance(wanted, Filter) else wanted)
        super().acted(wanted)

    def action_replay(self) -> None:
        """The marked letters, the one under the cursor, or the group."""
        chosen = self._chosen()
        if len(chosen) == 1:
            self.act(self.replay_one(chosen[0]))
        elif (selected := self._selected()) is not None:
            self.act(self.replay_many(*selected))

    def action_replay_all(self) -> None:
        """All that the filter means."""
        self.act(self.replay_many(self._place.wanted, self._all()))

    def action_discard(self) -> None:
        """The marked letters, the one under the cursor, or the group."""
        if (selected := self._selected()) is not None:
            self.act(self.discard(*selected))

    def action_restore(self) -> None:
        """Where discarded letters are shown, those that are marked, else what was discarded last."""
        hidden = [letter for letter in self._chosen() if letter.state == "discarded"]
        if hidden:
            self.act(self.restore(ids_of(hidden)))
        elif self._place.grouped and self._place.wanted.state == "discarded" and self._selected():
            group = self.query_one(GroupTable).selected
            if group is not None:
                self.act(self.restore(self._of_group(group.fingerprint)))
        else:
            self.act(self.restore_last())

    def action_edit(self) -> None:
        """The payload of the letter under the cursor."""
        letter = self.query_one(MarkedTable).selected
        if letter is not None:
            self.act(self.edit(letter))

    def action_export(self) -> None:
        """The marked letters, the group, or all that the filter means."""
        selected = self._selected() if self._place.grouped or self.query_one(MarkedTable).marks else None
        self.act(self.export(*(selected or (self._place.wanted, self._all()))))

    def action_plans(self) -> None:
        """The newest plans."""
        self.app.push_screen(Plans())

    def _chosen(self) -> list[DeadLetter]:
        """The marked letters, else the one under the cursor; none where groups are shown."""
        table = self.query_one(MarkedTable)
        if self._place.grouped:
            return []
        return list(table.marks.values()) or ([table.selected] if table.selected else [])

    def _selected(self) -> tuple[Wanted, str] | None:
        """What an act is about, and what that is called."""
        if self._place.grouped:
            group = self.query_one(GroupTable).selected
            return (self._of_group(group.fingerprint), "this group") if group is not None else None
        chosen = self._chosen()
        if not chosen:
            return None
        marked = counted(len(chosen), "marked letter") if self.query_one(MarkedTable).marks else ""
        return ids_of(chosen), marked or f"letter {chosen[0].id}"

    def _all(self) -> str:
        return "all dead letters" if self._place.wanted == DEAD else "all that the filter means"

    def _of_group(self, fingerprint: str) -> Filter:
        return self._place.wanted.model_copy(update={"fingerprint": fingerprint})
