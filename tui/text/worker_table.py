"""The table of worker processes: a line each, in columns that fit the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from tui.text.format import MISSING, clip, clip_middle, duration, escape
from tui.text.sorting import Order, SortColumn, Sorting, heading
from tui.text.styles import ACCENT, BREACH, MUTED, WATCH, WIDE_COLUMNS
from tui.text.workers import (
    SIGNS,
    STYLES,
    cpu,
    in_flight,
    is_busy,
    is_slow,
    memory,
    readiness,
    state_word,
)
from workers.operations.worker_list import Worker

_MAX_RELEASE_CHARS = 12
_WORST_FIRST = ("dead", "blocked", "draining", "standby", "running")


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    width: int
    cell: Callable[[Worker], Text]
    right: bool = True


def _loud(text: str, style: str, when: Callable[[Worker], bool], worker: Worker) -> Text:
    """Return a figure; with a sign beside its colour if something is wrong with it."""
    return Text(text, style) if when(worker) else Text(text)


_COLUMNS = (
    _Column("state", 9, lambda worker: Text(state_word(worker), STYLES[worker.state]), right=False),
    _Column("queues", 6, lambda worker: Text(str(len(worker.queues) or MISSING))),
    _Column("in flight", 9, lambda worker: Text(in_flight(worker))),
    _Column("cpu", 6, lambda worker: _loud(cpu(worker), WATCH, is_busy, worker)),
    _Column("memory", 7, lambda worker: Text(memory(worker))),
    _Column("loop p99", 8, lambda worker: _loud(duration(worker.loop_p99), WATCH, is_slow, worker)),
    _Column("beat", 7, lambda worker: Text(duration(worker.beat_age, 7))),
    _Column("up", 8, lambda worker: Text(duration(worker.up_for, 8))),
    _Column(
        "release",
        _MAX_RELEASE_CHARS,
        lambda worker: Text(clip(escape(worker.release or MISSING), _MAX_RELEASE_CHARS)),
        right=False,
    ),
)
_LEFT_OUT_FIRST = ("queues", "beat", "release", "loop p99", "up", "memory", "cpu")
"""Columns that a narrow terminal has no room for, in this order."""
_SIGN_CHARS, _GAP_CHARS = 3, 2
_NAME_CHARS, _WIDE_NAME_CHARS = 14, 24
_READY_CHARS, _WIDE_READY_CHARS = 20, 27
"""Room for ``ready`` at least; the second has it for ``its 2 jobs run again in 9 s``."""
WORKER_SORTING: Sorting[Worker] = Sorting(
    "workers",
    (
        SortColumn("worker", lambda worker: (worker.host, worker.pid)),
        SortColumn("state", lambda worker: _WORST_FIRST.index(worker.state)),
        SortColumn("queues", lambda worker: len(worker.queues), descending=True),
        SortColumn("in flight", lambda worker: worker.in_flight, descending=True),
        SortColumn("cpu", lambda worker: worker.cpu, descending=True),
        SortColumn("memory", lambda worker: worker.memory, descending=True),
        SortColumn("loop p99", lambda worker: worker.loop_p99, descending=True),
        SortColumn("beat", lambda worker: worker.beat_age, descending=True),
        SortColumn("up", lambda worker: worker.up_for, descending=True),
        SortColumn("release", lambda worker: worker.release),
        SortColumn("ready", lambda worker: worker.ready),
    ),
)


def worker_heading(width: int, order: Order | None = None) -> Text:
    """Return the titles of the columns, with an arrow at the one that sorts them."""
    name_chars, columns = _layout(width)
    text = Text("   " + heading("worker", order, name_chars).ljust(name_chars), MUTED, no_wrap=True)
    for column in columns:
        title = heading(column.title, order, column.width)
        text.append(f"  {title.rjust(column.width) if column.right else title.ljust(column.width)}")
    return text.append(f"  {heading('ready', order, _MAX_RELEASE_CHARS)}")


def worker_line(worker: Worker, width: int, *, own: bool) -> Text:
    """Return one process; ``own``: it is this one."""
    name_chars, columns = _layout(width)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" {SIGNS[worker.state]} ", STYLES[worker.state])
    name = clip_middle(escape(worker.name), name_chars)
    text.append(name.ljust(name_chars), ACCENT if own else "")
    for column in columns:
        cell = column.cell(worker)
        cell.truncate(column.width, overflow="ellipsis")
        padding = " " * (column.width - cell.cell_len)
        text.append("  ")
        text.append_text(Text(padding) + cell if column.right else cell + Text(padding))
    words = readiness(worker, width - text.cell_len - _GAP_CHARS)
    style = MUTED if words == "yes" else BREACH if worker.state in ("dead", "blocked") else WATCH
    return text.append("  ").append(words, style)


def _layout(width: int) -> tuple[int, Sequence[_Column]]:
    """Return the characters of a name, and the columns that leave room for it and for ``ready``."""
    ready_chars = _WIDE_READY_CHARS if width >= WIDE_COLUMNS else _READY_CHARS
    columns = list(_COLUMNS)
    for title in _LEFT_OUT_FIRST:
        if _room(width, columns) >= _NAME_CHARS + ready_chars:
            break
        columns = [column for column in columns if column.title != title]
    return max(_NAME_CHARS, min(_WIDE_NAME_CHARS, _room(width, columns) - _WIDE_READY_CHARS)), columns


def _room(width: int, columns: Sequence[_Column]) -> int:
    """Return the characters that these columns leave for a name and ``ready``."""
    return width - _SIGN_CHARS - _GAP_CHARS - sum(_GAP_CHARS + column.width for column in columns)
