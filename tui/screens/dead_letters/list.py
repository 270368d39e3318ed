"""Dead letters: those that a filter means, a page at a time, the newest first, or by group."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.screens.dead_letters.actions import ids_of
from tui.screens.paged import Pages, Place
from tui.screens.replays.plans import Plans
from tui.text.dead_letters import counted
from tui.widgets.filter_bar import FilterLine
from tui.widgets.group_table import GroupTable
from tui.widgets.letter_table import MarkedTable
from workers.operations.operations import ALL_DEAD, STATES, DeadLetter, LetterFilter, Selection

_CYCLE = (*STATES, None)


class Letters(Pages):
    """Where the keys lead, and what they are about."""

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

    # Where to look

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Groups have no pages, and nothing to be edited; the filter is opened once."""
        if action == "filter":
            return not any(line.is_open for line in self.query(FilterLine))
        return not (action in ("page", "edit") and self.place.grouped)

    def action_reload(self) -> None:
        """The first page, as it is now."""
        self.read(replace(self.place, cursors=(None,)))
        self.read_count(self.place.wanted)
        self.refresh_groups()

    def action_page(self, by: int) -> None:
        """The next page, or the one before."""
        following = self.page.next if self.page else None
        if by > 0 and following is not None:
            cursors = (*self.place.cursors, following)
        elif by < 0 and len(self.place.cursors) > 1:
            cursors = self.place.cursors[:-1]
        else:
            self.notify("this is the last page" if by > 0 else "this is the first page")
            return
        place = replace(self.place, cursors=cursors)
        if place != self.reading:  # a key that is held down must not begin the same page again and again
            self.read(place)

    def action_groups(self) -> None:
        """Groups in place of letters, or letters in place of groups."""
        place = self.going_to
        self.read(replace(place, grouped=not place.grouped))

    def action_state(self) -> None:
        """Letters of the next state."""
        place = self.going_to
        state = _CYCLE[(_CYCLE.index(place.wanted.state) + 1) % len(_CYCLE)]
        self.read(replace(place, wanted=place.wanted.model_copy(update={"state": state}), cursors=(None,)))

    def action_filter(self) -> None:
        """Write another filter."""
        self.query_one(FilterLine).edit(self.place.wanted.line())

    def action_back(self) -> None:
        """One step back: from a range, a group, a filter, the groups."""
        table = self.query_one(MarkedTable)
        if table.range_from is not None:
            table.range_from = None
            self.entitle()
        elif self.place.outer is not None:
            self.read(Place(self.place.outer, grouped=True))
        elif self.place.wanted != ALL_DEAD:
            self.read(Place(grouped=self.place.grouped))
        elif self.place.grouped:
            self.action_groups()

    def on_filter_line_wanted(self, message: FilterLine.Wanted) -> None:
        """Show what the new filter means, if it can be read."""
        self.applied = True
        self.read(Place(message.filter, grouped=self.place.grouped))

    def on_filter_line_left(self) -> None:
        """All stays as it is."""
        if self.applied:
            self.applied = False
            self.reading = None
            self.workers.cancel_group(self, "letters")
        self.query_one(FilterLine).close("" if self.place.wanted == ALL_DEAD else self.place.wanted.line())
        self.focus_table()

    def on_group_table_opened(self, message: GroupTable.Opened) -> None:
        """The letters of one group."""
        wanted = self._of_group(message.group.fingerprint)
        self.read(Place(wanted, outer=self.place.wanted))

    # Acts

    def acted(self, wanted: Selection) -> None:
        """What was acted on is marked no longer."""
        self.query_one(MarkedTable).unmark(None if isinstance(wanted, LetterFilter) else wanted)
        super().acted(wanted)

    def action_replay(self) -> None:
        """The marked letters, the one under the cursor, or the group."""
        chosen = self._chosen()
        if len(chosen) == 1:
            self.act(self.replay_one, chosen[0])
        elif (selected := self._selected()) is not None:
            self.act(self.replay_many, *selected)

    def action_replay_all(self) -> None:
        """All that the filter means."""
        self.act(self.replay_many, self.place.wanted, self._all())

    def action_discard(self) -> None:
        """The marked letters, the one under the cursor, or the group."""
        if (selected := self._selected()) is not None:
            self.act(self.discard, *selected)

    def action_restore(self) -> None:
        """Where discarded letters are shown, those that are marked, else what was discarded last."""
        hidden = [letter for letter in self._chosen() if letter.state == "discarded"]
        if hidden:
            self.act(self.restore, ids_of(hidden))
        elif self.place.grouped and self.place.wanted.state == "discarded" and self._selected():
            group = self.query_one(GroupTable).selected
            if group is not None:
                self.act(self.restore, self._of_group(group.fingerprint))
        else:
            self.act(self.restore_last)

    def action_edit(self) -> None:
        """The payload of the letter under the cursor."""
        letter = self.query_one(MarkedTable).selected
        if letter is not None:
            self.act(self.edit, letter)

    def action_export(self) -> None:
        """The marked letters, the group, or all that the filter means."""
        selected = self._selected() if self.place.grouped or self.query_one(MarkedTable).marks else None
        self.act(self.export, *(selected or (self.place.wanted, self._all())))

    def action_plans(self) -> None:
        """The newest plans."""
        self.app.push_screen(Plans())

    def _chosen(self) -> list[DeadLetter]:
        """The marked letters, else the one under the cursor; none where groups are shown."""
        table = self.query_one(MarkedTable)
        if self.place.grouped:
            return []
        return list(table.marks.values()) or ([table.selected] if table.selected else [])

    def _selected(self) -> tuple[Selection, str] | None:
        """What an act is about, and what that is called."""
        if self.place.grouped:
            group = self.query_one(GroupTable).selected
            return (self._of_group(group.fingerprint), "this group") if group is not None else None
        chosen = self._chosen()
        if not chosen:
            return None
        marked = counted(len(chosen), "marked letter") if self.query_one(MarkedTable).marks else ""
        return ids_of(chosen), marked or f"letter {chosen[0].id}"

    def _all(self) -> str:
        return "all dead letters" if self.place.wanted == ALL_DEAD else "all that the filter means"

    def _of_group(self, fingerprint: str) -> LetterFilter:
        return self.place.wanted.model_copy(update={"fingerprint": fingerprint})
