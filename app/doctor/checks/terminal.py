"""Checks whether the dashboard can be shown here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from app.doctor.checks.settings import LoadedSettings
from app.doctor.results import Finding, ok, warning
from app.terminal import terminal_problem
from tui.text.glyphs import is_utf8, terminal_encoding

_COMFORTABLE_SIZE = (80, 24)


async def terminal(config: LoadedSettings) -> Finding:
    """Check standard input and error; the output may go to a file."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return warning("no terminal", "workers run headless only", "use --no-ui, or a terminal (ssh -t)")
    size = os.get_terminal_size(sys.stderr.fileno())
    return assess_terminal(os.environ, (size.columns, size.lines), terminal_encoding(sys.stderr))


def assess_terminal(variables: Mapping[str, str], size: tuple[int, int], encoding: str) -> Finding:
    """Judge a terminal of ``size`` columns and lines; a size of 0 is unknown."""
    problem = terminal_problem(variables, size)
    if problem is not None:
        return warning(problem.problem, "workers run headless only", problem.fix)
    name = variables["TERM"]
    text = f"{name}, {size[0]}x{size[1]}, {_colours(name, variables)}, {encoding}"
    if not is_utf8(encoding):
        return warning(text, "lines and bars are drawn in ASCII", "set LANG=C.UTF-8")
    if 0 < size[0] < _COMFORTABLE_SIZE[0] or 0 < size[1] < _COMFORTABLE_SIZE[1]:
        return warning(text, "columns are left out", "make it 80x24 or larger")
    return ok(text)


def _colours(name: str, variables: Mapping[str, str]) -> str:
    if variables.get("NO_COLOR"):
        return "no colours (NO_COLOR)"
    if variables.get("COLORTERM", "") in ("truecolor", "24bit"):
        return "all colours"
    return "256 colours" if "256" in name else "16 colours"
