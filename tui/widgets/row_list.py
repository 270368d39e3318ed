"""Rows of one or more lines of text, with a cursor; rows that have not changed are not painted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Row(Generic[ItemT]):
    """An item, what identifies it from one moment to the next, and its lines."""

    key: str
    item: ItemT
    lines: Sequence[Text]


class RowList(Widget, Generic[ItemT], can_focus=True):
    """The cursor stays on the row of its key, else on its line; beyond the ends the focus moves on."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"row-list--cursor"}
    DEFAULT_CSS = "RowList { height: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("home", "move(-1000)", "First", show=False),
        Binding("end", "move(1000)", "Last", show=False),
    ]
    cursor: reactive[int] = reactive(0)

    class Opened(Message):
        """The operator asked for all of the row under the cursor."""

        def __init__(self, rows: RowList[Any], item: Any) -> None:
            super().__init__()
            self.rows = rows
            self.item = item

        @property
        def control(self) -> RowList[Any]:
            """The list."""
            return self.rows

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: tuple[Row[ItemT], ...] = ()
        self._heading: tuple[Text, ...] = ()

    @property
    def selected(self) -> ItemT | None:
        """The item under the cursor."""
        return self.rows[self.cursor].item if 0 <= self.cursor < len(self.rows) else None

    @property
    def selected_key(self) -> str | None:
        """The key of the row under the cursor."""
        return self.rows[self.cursor].key if 0 <= self.cursor < len(self.rows) else None

    @property
    def lines(self) -> int:
        """The number of lines of the heading and the rows."""
        return _lines((self._heading, self.rows))

    def show_rows(self, rows: Sequence[Row[ItemT]], *, heading: Sequence[Text] = ()) -> None:
        """Show these rows below a heading."""
        before = (self._heading, self.rows)
        key = self.rows[self.cursor].key if 0 <= self.cursor < len(self.rows) else None
        self._heading, self.rows = tuple(heading), tuple(rows)
        keys = [row.key for row in rows]
        index = keys.index(key) if key in keys else min(self.cursor, len(keys) - 1)
        self.cursor = max(0, index)
        if _signature(before) != _signature((self._heading, self.rows)):
            self.refresh(layout=_lines(before) != _lines((self._heading, self.rows)))

    def render(self) -> Text:
        """Render the heading and the rows."""
        width = self.size.width
        lines = [line.copy() for line in self._heading]
        for index, row in enumerate(self.rows):
            own = [line.copy() for line in row.lines]
            if self.has_focus and index == self.cursor:
                cursor_style = self.get_component_rich_style("row-list--cursor", partial=True)
                for line in own:
                    line.pad_right(max(0, width - line.cell_len))
                    line.stylize(cursor_style)
            lines += own
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n", no_wrap=True, overflow="crop").join(lines)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """Return the number of lines."""
        return self.lines

    def action_move(self, step: int) -> None:
        """Move the cursor; beyond the ends focus the widget above or below, if there is one."""
        target = self.cursor + step
        if abs(step) == 1 and not 0 <= target < len(self.rows):
            if step > 0:
                self.screen.focus_next()
            else:
                self.screen.focus_previous()
            return
        self.cursor = max(0, min(target, len(self.rows) - 1))
        self._scroll_to_cursor()

    def action_open(self) -> None:
        """Open the row under the cursor."""
        item = self.selected
        if item is not None:
            self.post_message(self.Opened(self, item))

    async def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row that was clicked; a second click opens it, one on the heading sorts."""
        top = len(self._heading)
        if event.y < top:
            await self.run_action("screen.sort")
        for index, row in enumerate(self.rows):
            if top <= event.y < top + len(row.lines):
                if index == self.cursor and event.chain == 2:
                    self.action_open()
                self.cursor = index
            top += len(row.lines)

    def _scroll_to_cursor(self) -> None:
        if not isinstance(self.parent, Widget) or not self.rows:
            return
        top = len(self._heading) + sum(len(row.lines) for row in self.rows[: self.cursor])
        region = Region(0, top, self.size.width, len(self.rows[self.cursor].lines))
        self.parent.scroll_to_region(region, animate=False)


def _lines(content: tuple[tuple[Text, ...], tuple[Row[ItemT], ...]]) -> int:
    heading, rows = content
    return len(heading) + sum(len(row.lines) for row in rows)


def _signature(content: tuple[tuple[Text, ...], tuple[Row[ItemT], ...]]) -> object:
    heading, rows = content
    lines = [*heading, *(line for row in rows for line in row.lines)]
    return [(line.plain, line.spans, line.style) for line in lines]
