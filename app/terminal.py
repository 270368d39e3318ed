"""Decides whether a terminal can show the dashboard, for the start and for the doctor."""

from __future__ import annotations

from collections.abc import Mapping

from app.errors import UsageError
from tui.text.format import SMALLEST_TERMINAL


def terminal_problem(variables: Mapping[str, str], size: tuple[int, int]) -> UsageError | None:
    """Return why a terminal of ``size`` columns and lines cannot show it; a size of 0 is unknown."""
    name = variables.get("TERM", "")
    if name in ("dumb", "unknown", ""):
        return UsageError(
            f"this terminal (TERM={name}) cannot show the dashboard",
            fix="set TERM, for instance to xterm-256color, or run with --no-ui",
        )
    columns, lines = size
    min_columns, min_lines = SMALLEST_TERMINAL
    if 0 < columns < min_columns or 0 < lines < min_lines:
        return UsageError(
            f"this terminal is {columns}x{lines}, the dashboard needs {min_columns}x{min_lines}",
            fix="make it larger, or run with --no-ui for workers",
        )
    return None
