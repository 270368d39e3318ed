"""Dead letters on a view: a page, its count and its groups, each read without the others' waiting."""

from __future__ import annotations

from dataclasses import dataclass, replace

from textual import events, work
from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.dead_letters.actions import Acts
from tui.text.format import utc_time
from tui.text.words import plural
from tui.widgets.filter_bar import FilterLine
from tui.widgets.group_table import GroupTable
from tui.widgets.letter_table import MarkedTable
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import ALL_DEAD, OPERATION_ERRORS, DeadLetter, LetterFilter, Page

_PAGE = 100
_MOST = 10_000
"""Letters that are counted; where there are more the title says so."""
_GROUPS = 200
_COUNTING = "counting …"


@dataclass(frozen=True, slots=True)
class Place:
    """What is shown.  ``cursors`` are those of the pages from the first to this one.

    ``outer`` is the filter of the groups from which one was opened, and to which escape goes back.
    """

    wanted: LetterFilter = ALL_DEAD
    cursors: tuple[str | None, ...] = (None,)
    grouped: bool = False
    outer: LetterFilter | None = None


class Pages(Acts):
    """Goes to a `Place`; nothing that is asked for later is replaced by an earlier answer."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.reading: Place | None = None
        """What ``_place`` will be when the page that is being read has arrived."""
        self.applied = False
        """Whether it is what was written on the filter line that is being read."""
        self.page: Page[DeadLetter] | None = None
        self._count: int | str = _COUNTING
        """How many letters the filter means, or why that is not known."""
        self._groups_at: float | None = None
        """When the groups were read; None: they have not been, for this filter."""
        self._grouping: LetterFilter | None = None
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
        self.read(self.going_to)
        self.read_count(self.place.wanted)

    def on_resize(self, event: events.Resize) -> None:
        """Columns depend on the width."""
        if self.page is not None:
            self._paint()

    def show(self, snapshot: Snapshot | None, problem: str | None) -> None:
        """The title of a whole has the snapshot's total where it was not counted to the end."""
        super().show(snapshot, problem)
        self.entitle()

    def look_again(self) -> None:
        """Read anew what is shown."""
        self.read(self.going_to)
        self.read_count(self.place.wanted)
        self.refresh_groups()

    # Reading

    @property
    def going_to(self) -> Place:
        """Where the keys that were pressed so far lead."""
        return self.reading or self.place

    def read(self, place: Place) -> None:
        """Go to ``place``; until its page has arrived all stays as it is."""
        self.reading = place
        self.read_page(place)

    @work(exclusive=True, group="letters")
    async def read_page(self, place: Place) -> None:
        """Read the page of ``place``, and show it."""
        try:
            page = await self._asked(place)
        finally:
            if self.reading is place:  # else another page is being read already
                self.reading = None
        if page is None:
            return
        if not page.items and len(place.cursors) > 1:  # all of it was replayed
            self.read(replace(place, cursors=place.cursors[:-1]))
            return
        before, self.place, self.page = self.place, place, page
        if place.wanted != before.wanted:
            self._changed_filter()
        if place.grouped != before.grouped:
            self.refresh_bindings()
        line = self.query_one(FilterLine)
        if not line.is_open or place.wanted != before.wanted or self.applied:
            self.applied = False
            line.close("" if place.wanted == ALL_DEAD else place.wanted.line())
        if place.grouped and self._groups_at is None and self._grouping != place.wanted:
            self._group(place.wanted)
        self._paint()

    async def _asked(self, place: Place) -> Page[DeadLetter] | None:
        """The page of ``place``, or None: the error is where the filter is being written, else a notice."""
        verb = self.letters.page(place.wanted, limit=_PAGE, cursor=place.cursors[-1])
        if not self.applied:
            return await self.dashboard.attempt(verb)
        try:
            return await verb
        except OPERATION_ERRORS as error:
            self.applied = False
            self.query_one(FilterLine).tell(str(error), wrong=True)
            return None

    @work(exclusive=True, group="count")
    async def read_count(self, wanted: LetterFilter) -> None:
        """How many there are; nothing waits for it."""
        number = await self.dashboard.attempt(self.letters.count(wanted, most=_MOST))
        if wanted == self.place.wanted:
            self._count = number if number is not None else "not counted"
            self.entitle()

    def refresh_groups(self) -> None:
        """The groups are others: read them where they are shown, else when they will be."""
        self._groups_at = None
        if self.place.grouped:
            self._group(self.place.wanted)

    def _group(self, wanted: LetterFilter) -> None:
        self._grouping = wanted
        self.read_groups(wanted)

    @work(exclusive=True, group="groups")
    async def read_groups(self, wanted: LetterFilter) -> None:
        """The groups; nothing waits for them."""
        try:
            groups = await self.dashboard.attempt(self.letters.groups(wanted, limit=_GROUPS))
        finally:
            if self._grouping is wanted:  # else those of another filter are being read
                self._grouping = None
        if wanted != self.place.wanted:
            return
        if groups is not None:
            self._groups_at = self.dashboard.now
            self.query_one(GroupTable).show(groups, self.dashboard.now, self.size.width)
        self._paint()

    def _changed_filter(self) -> None:
        """What belonged to the filter before goes: nothing is acted on that is not shown."""
        table = self.query_one(MarkedTable)
        if table.marks:
            self.notify(f"{plural(len(table.marks), 'mark')} went with the filter")
            table.unmark()
        self._count = _COUNTING
        self._groups_at = None
        self.query_one(GroupTable).show((), 0.0, self.size.width)
        self.read_count(self.place.wanted)

    # Painting

    def _paint(self) -> None:
        letters, groups = self.query_one(MarkedTable), self.query_one(GroupTable)
        grouped, width = self.place.grouped, self.size.width
        items = self.page.items if self.page else []
        letters.show(items, self.dashboard.now, width, state=self.place.wanted.state != "dead")
        letters.display = bool(items) and not grouped
        groups.display = bool(groups.groups) and grouped
        empty = self.query_one("#no-letters", Static)
        empty.display = not (letters.display or groups.display)
        empty.update(self._nothing())
        self.entitle()
        if not self.query_one(FilterLine).is_open:
            self.focus_table()

    def focus_table(self) -> None:
        table = self.query_one(GroupTable if self.place.grouped else MarkedTable)
        if not table.display:
            self.set_focus(None)
        elif not table.has_focus:
            table.focus()

    def _nothing(self) -> str:
        if self.place.grouped and self._groups_at is None:
            return (
                "  reading the groups …" if self._grouping is not None else "  not read: r reads them again"
            )
        return (
            "  nothing has died" if self.place.wanted == ALL_DEAD else "  no letter is meant by this filter"
        )

    def entitle(self) -> None:
        parts = [self._grouped_title() if self.place.grouped else self._letters_title(), *self._parts()]
        self.query_one("#letters-title", Static).update(f"─ {' · '.join(filter(None, parts))} ")

    def _letters_title(self) -> str:
        state = self.place.wanted.state
        return "All letters" if state is None else f"{state.capitalize()} letters"

    def _grouped_title(self) -> str:
        groups = self.query_one(GroupTable).groups
        if self._groups_at is None:
            return "Groups"
        number = f"the {_GROUPS} largest" if len(groups) == _GROUPS else plural(len(groups), "group")
        return f"Groups · {number} as of {utc_time(self._groups_at)}"

    def _parts(self) -> list[str]:
        if self.place.grouped:
            return [self._total()]
        table = self.query_one(MarkedTable)
        return [
            self._total(),
            f"{len(table.marks):,} marked" if table.marks else "",
            f"page {len(self.place.cursors)}",
            "n more" if self.page and self.page.next else "",
            "v marks to here" if table.range_from is not None else "",
        ]

    def _total(self) -> str:
        if isinstance(self._count, str):
            return self._count
        if self._count <= _MOST:
            return plural(self._count, "letter")
        snapshot = self.dashboard.snapshot
        whole = snapshot.dead_letters if snapshot is not None and self.place.wanted == ALL_DEAD else None
        return plural(whole, "letter") if whole is not None and whole > _MOST else f"{_MOST:,}+ letters"

    def on_marking_marks_changed(self) -> None:
        """The title counts them."""
        self.entitle()
