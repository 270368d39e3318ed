"""Turns groups of dead letters into rows of two lines: how many of which error, and since when."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tui.text.format import clip, count, escape, long_duration, minute_time, sparkline
from tui.text.styles import MUTED, WATCH
from tui.text.words import error_line
from workers.operations.operations import FailureGroup
from workers.words import plural

_COUNT_CHARS = 6
_TREND_HOURS = 24
_TREND_CELLS = 12
_MAX_RELEASES = 2


def group_lines(group: FailureGroup, *, now: float, width: int) -> list[Text]:
    """Return count, function, error and trend; below it since when, the last one, and on which releases."""
    sample = group.sample
    error = error_line(sample.error_type, sample.error_message)
    trend = sparkline(pairs(group.trend), _TREND_CELLS)
    first = Text.assemble((f" {count(group.count, _COUNT_CHARS):>{_COUNT_CHARS}}  ", "bold"), no_wrap=True)
    left = width - first.cell_len - _TREND_CELLS - 3
    function = clip(escape(sample.function), 18)
    words = Text.assemble((f"{function}  ", MUTED), clip(escape(error), max(10, left - len(function) - 2)))
    words.truncate(max(10, left), overflow="ellipsis", pad=True)
    first.append_text(words).append("  ").append(trend, WATCH)
    since = clip(_times(group, now), max(10, width - _COUNT_CHARS - 5))
    return [first, Text(f"{'':{_COUNT_CHARS + 3}}{since}", MUTED, no_wrap=True)]


def _times(group: FailureGroup, now: float) -> str:
    first, last = group.first_at.timestamp(), group.last_at.timestamp()
    parts = [f"since {minute_time(first, now)}"]
    if last - first >= 60:
        parts[0] += f", {long_duration(last - first)}"
    parts.append(f"last {long_duration(max(0.0, now - last))} ago")
    if group.releases:
        releases = ", ".join(clip(escape(release), 12) for release in group.releases[:_MAX_RELEASES])
        others = len(group.releases) - _MAX_RELEASES
        more = f" and {others} more" if others > 0 else ""
        only_one = len(group.releases) == 1
        parts.append(f"only on release {releases}" if only_one else f"on releases {releases}{more}")
    return " · ".join(parts)


def pairs(hours: Sequence[int]) -> list[int]:
    """Sum two hours a cell."""
    newest = list(hours[-_TREND_HOURS:])
    return [sum(newest[start : start + 2]) for start in range(0, len(newest), 2)]


def groups_title(groups: Sequence[FailureGroup], max_groups: int) -> str:
    """Return how many letters died in a day, of how many errors."""
    letters = sum(group.count for group in groups)
    is_cut = len(groups) >= max_groups
    number = f"the {max_groups} largest of its groups" if is_cut else plural(len(groups), "group")
    return f"{count(letters)} in 24 h, {number}" if groups else "none in 24 h"
