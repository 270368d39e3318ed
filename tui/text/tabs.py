"""The tabs: the views by key, each with a count or a sign of what is to be seen there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from tui.text.format import count
from tui.text.snapshot import living_workers
from tui.text.styles import ACCENT, BREACH, MUTED
from workers.monitoring.snapshot import Snapshot

_MAX_COUNT_CHARS = 6
_MIN_TITLE_CHARS = 2


def no_count(snapshot: Snapshot) -> str:
    """Return the count of a view without one."""
    return ""


def count_alerts(snapshot: Snapshot) -> str:
    """Return ``▲2`` while two alerts fire."""
    firing = sum(alert.fires for alert in snapshot.alerts)
    return f"▲{firing}" if firing else ""


def count_letters(snapshot: Snapshot) -> str:
    """Return how many letters are dead; nothing while that is unknown."""
    return "" if snapshot.dead_letters is None else count(snapshot.dead_letters, _MAX_COUNT_CHARS)


def count_jobs(snapshot: Snapshot) -> str:
    """Return how many jobs run, are ready, or wait for their time."""
    return count(
        sum(queue.in_flight + queue.depth + queue.scheduled for queue in snapshot.queues), _MAX_COUNT_CHARS
    )


def count_workers(snapshot: Snapshot) -> str:
    """Return how many processes can take jobs, and ``▲1`` for one that cannot."""
    live_count = living_workers(snapshot)
    wrong = len(snapshot.workers) - live_count
    return f"{live_count} ▲{wrong}" if wrong else str(live_count)


def count_drains(snapshot: Snapshot) -> str:
    """Return ``▼1`` while a process drains."""
    draining = sum(worker.state == "draining" for worker in snapshot.workers)
    return f"▼{draining}" if draining else ""


@dataclass(frozen=True, slots=True)
class Tab:
    """One view: its key, its name for `OpenView`, its title, and what its count is."""

    key: str
    name: str
    title: str
    count: Callable[[Snapshot], str] = no_count


def tab_line(
    tabs: Sequence[Tab], current: str, snapshot: Snapshot | None, width: int
) -> tuple[Text, dict[str, range]]:
    """Return the line of tabs, and the columns of each.

    If ``width`` is too small, gaps are left out, then the ends of titles, but for that of the open view, and
    at last whole titles.
    """
    titles = {tab.name: tab.title for tab in tabs}
    text, columns = _line(tabs, current, snapshot, titles, gap=" ")
    while text.cell_len > width:
        text, columns = _line(tabs, current, snapshot, titles, gap="")
        others = {name: title for name, title in titles.items() if name != current and title}
        if not others or text.cell_len <= width:
            break
        longest = max(others, key=lambda name: len(others[name]))
        titles[longest] = _shorten(titles[longest])
    return text, columns


def _shorten(title: str) -> str:
    """Return its first word, then a letter less, at last nothing."""
    first, _, rest = title.partition(" ")
    shorter = first if rest else title[:-1]
    return shorter if len(shorter) >= _MIN_TITLE_CHARS else ""


def _line(
    tabs: Sequence[Tab], current: str, snapshot: Snapshot | None, titles: Mapping[str, str], *, gap: str
) -> tuple[Text, dict[str, range]]:
    text = Text(no_wrap=True, overflow="crop")
    columns = {}
    for tab in tabs:
        start = text.cell_len
        number = "" if snapshot is None else tab.count(snapshot)
        words = " ".join(filter(None, (titles[tab.name], number)))
        if tab.name == current:
            label = Text(f" {tab.key} {words} ")
            label.stylize(ACCENT)
            label.stylize("bold reverse")
        else:
            label = Text.assemble((f" {tab.key}", ACCENT), (f" {words} ", MUTED))
            if "▲" in number:
                sign = label.plain.index("▲")
                label.stylize(BREACH, sign, len(label.plain.rstrip()))
        text.append_text(label)
        columns[tab.name] = range(start, text.cell_len)
        text.append(gap)
    return text, columns
