"""Rows that the table renders by itself look as those that Textual renders."""

from __future__ import annotations

import pytest
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.strip import Strip
from textual.widgets import DataTable

from tui.widgets.keyed_table import KeyedTable

_COLUMNS = {"": 3, "name": 12, "figure": 8, "words": 20}
_ROWS = {
    "under the cursor": [Text("●"), Text("first"), Text("1"), Text("one")],
    "plain": [Text(""), Text("color"), Text("12".rjust(8)), Text("ValueError")],
    "styled": [
        Text("×3", "bold red"),
        Text("dim", "#888888 on blue"),
        Text("7", "reverse"),
        Text("x", "italic"),
    ],
    "spans": [
        Text("a").append("b", "bold"),
        Text.assemble(("x", "red"), "y"),
        Text("1"),
        Text("z", "link x"),
    ],
    "too long": [
        Text("abcdef"),
        Text("a" * 30, "bold"),
        Text("123456789"),
        Text("b" * 25).append("c", "red"),
    ],
    "wide": [Text("図"), Text("図" * 10), Text("é"), Text("👕" * 3, "bold")],
}


class _Tables(App[None]):
    def compose(self) -> ComposeResult:
        yield KeyedTable[str]()


def _cells(strip: Strip) -> list[tuple[str, Style]]:
    """Each character with its style, without where a click leads."""
    styled = [(text, (style or Style()).clear_meta_and_links()) for text, style, _ in strip]
    return [(char, style) for text, style in styled for char in text]


async def test_rows_look_as_those_of_the_base_class() -> None:
    app = _Tables()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(KeyedTable)
        table.set_rows(list(_ROWS), _COLUMNS, _ROWS)
        await pilot.pause()
        for row, name in enumerate(_ROWS):
            own, base = table.render_line(row + 1), DataTable.render_line(table, row + 1)
            assert own.text == base.text, name
            assert _cells(own) == _cells(base), name
        assert table.render_line(2).cell_length == table.size.width


async def test_a_click_moves_the_cursor_to_its_row() -> None:
    app = _Tables()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(KeyedTable)
        table.set_rows(list(_ROWS), _COLUMNS, _ROWS)
        await pilot.pause()
        await pilot.click(KeyedTable, offset=(20, 4))
        assert table.selected == "spans"


@pytest.mark.parametrize(
    ("newest_first", "row", "expected"),
    [(True, 0, "new"), (True, 1, "plain"), (False, 0, "under the cursor")],
)
async def test_a_cursor_on_the_newest_row_stays_on_the_newest_one(
    newest_first: bool, row: int, expected: str
) -> None:
    app = _Tables()
    async with app.run_test(size=(60, 12)) as pilot:
        table = app.query_one(KeyedTable)
        table.newest_first = newest_first
        table.set_rows(list(_ROWS), _COLUMNS, _ROWS)
        table.move_cursor(row=row)
        await pilot.pause()
        rows = {"new": _ROWS["plain"], **_ROWS}
        table.set_rows(list(rows), _COLUMNS, rows)
        await pilot.pause()
        assert table.selected == expected
