"""Tables of commands: as wide as the terminal at most, and as wide as needed if there is none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tui.text.format import escape

_NO_LIMIT = 1_000_000
"""Columns of a file or a pipe: nothing is cut there."""


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is, None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_text(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    shrink: Collection[str] = (),
    width: int | None = None,
) -> str:
    """Rows as lines of aligned columns, at most ``width`` wide, without an end of line after the last.

    ``right`` names the columns that are aligned to the right, ``shrink`` those that are cut first.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="", show_header=any(head))
    for name in head:
        table.add_column(Text(name), justify="right" if name in right else "left", no_wrap=name not in shrink)
    for row in rows:
        table.add_row(*(Text(escape(cell), no_wrap=True, overflow="ellipsis") for cell in row))
    lines = StringIO()
    Console(file=lines, width=width or _NO_LIMIT, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in lines.getvalue().splitlines())
