"""Tables of commands: as wide as the terminal at most, and as wide as needed without one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence
from io import StringIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from tui.text.format import escape
from tui.text.styles import ACCENT, BREACH, MUTED, OK, PAUSED, RULE, WATCH

_NO_LIMIT = 1_000_000
"""Columns of a file or a pipe: nothing is cut there."""
STYLES = Theme(
    {
        OK: "green", WATCH: "yellow", BREACH: "bold red", PAUSED: "magenta", ACCENT: "cyan",
        MUTED: "dim", RULE: "dim",
    }
)  # fmt: skip
"""Commands print on the operator's own background, which may be light: so by the terminal's own colours."""


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is, None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    shrink: Collection[str] = (),
) -> Table:
    """Align rows in columns; cells that are plain are escaped.

    ``right`` names the columns that are aligned to the right, ``shrink`` those that are cut first.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=MUTED, show_header=any(head))
    for name in head:
        made.add_column(Text(name), justify="right" if name in right else "left", no_wrap=name not in shrink)
    for row in rows:
        made.add_row(*(_cell(cell) for cell in row))
    return made


def _cell(cell: str | Text) -> Text:
    text = Text(escape(cell)) if isinstance(cell, str) else cell
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def table_text(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    shrink: Collection[str] = (),
    width: int | None = None,
) -> str:
    """Render rows as aligned lines, at most ``width`` wide, without an end of line after the last."""
    return plain(table(head, rows, right=right, shrink=shrink), width=width)


def plain(*renderables: RenderableType, width: int | None = None) -> str:
    """Render lines without colours, at most ``width`` wide, without an end of line after the last."""
    lines = StringIO()
    console = Console(
        file=lines, width=width or _NO_LIMIT, color_system=None, legacy_windows=False, theme=STYLES
    )
    for part in renderables:
        console.print(part)
    return "\n".join(line.rstrip() for line in lines.getvalue().splitlines())
