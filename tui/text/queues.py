"""Turns queues into styled lines: the columns of their table, their rows and their last hour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from tui.text.format import (
    MISSING,
    clip,
    count,
    duration,
    escape,
    first_fitting,
    gauge,
    percent,
    rate,
    sparkline,
)
from tui.text.styles import ACCENT, BREACH, MUTED, OK, WATCH
from workers.engine.policy import WEATHER
from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_evaluation import descriptions
from workers.monitoring.snapshot import QueueSnapshot

_MAX_SPARKLINE_WIDTH = 60
_MIN_SPARKLINE_WIDTH = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the queue table: its heading, its width, and what makes its cells.

    A cell has at most one character less than the column is wide, so that no two cells touch.
    """

    title: str
    width: int
    cell: Callable[[QueueSnapshot, int], Text]


def columns(width: int) -> tuple[Column, ...]:
    """The columns for a terminal of this width."""
    return _COMPACT if is_compact(width) else _WIDE


def is_compact(width: int) -> bool:
    """Whether a terminal of this width shows fewer columns, and a sparkline behind them."""
    return width < sum(column.width for column in _WIDE)


def heading(width: int) -> Text:
    """The headings of the queue table."""
    name, *others = columns(width)
    cells = [name.title.ljust(name.width), *(column.title.rjust(column.width) for column in others)]
    left = width - sum(map(len, cells))
    tail = ("  last hour" if left >= 11 else "  hour")[:left] if is_compact(width) else ""
    return Text("".join(cells) + tail, MUTED, no_wrap=True, overflow="crop")


def rows(queue: QueueSnapshot, *, offline: bool, width: int, metric: str, now: float) -> list[Text]:
    """One line, and one more for each reason why its jobs make no progress, and for its pause."""
    lines = [_row(queue, offline=offline, width=width, metric=metric)]
    lines += [_reason(condition, BREACH) for condition in descriptions(queue)]
    if queue.paused:
        reason = f": {queue.paused.reason}" if queue.paused.reason else ""
        since = queue.paused.since
        how_long = f" for {duration(max(0.0, now - since))}" if since is not None else ""
        lines.append(_reason(f"paused{how_long} by {queue.paused.by}{reason}", WATCH))
    return lines


def _row(queue: QueueSnapshot, *, offline: bool, width: int, metric: str) -> Text:
    name_column, *others = columns(width)
    row = Text(no_wrap=True, overflow="crop")
    name = name_column.cell(queue, name_column.width)
    if offline and queue.name == WEATHER and not is_compact(width):
        name.append(" offline", MUTED)
    name.truncate(name_column.width, pad=True)
    row.append_text(name)
    for column in others:
        cell = column.cell(queue, column.width - 1)
        row.append(" " * (column.width - cell.cell_len))
        row.append_text(cell)
    left = width - row.cell_len - 2
    if is_compact(width) and left >= _MIN_SPARKLINE_WIDTH:
        row.append("  " + sparkline(history(queue, metric), min(left, _MAX_SPARKLINE_WIDTH)), ACCENT)
    return row


def _reason(text: str, style: str) -> Text:
    return Text(f"    {escape(text)}", style, no_wrap=True, overflow="ellipsis")


def history(queue: QueueSnapshot, metric: str) -> tuple[int | None, ...]:
    """The last hour of ``depth`` or ``throughput``, one value a minute."""
    return queue.depth_history if metric == "depth" else queue.throughput_history


def history_row(queue: QueueSnapshot, metric: str, width: int) -> Text:
    """The last hour of one queue, with its greatest and its present value."""
    values = history(queue, metric)
    known = [value for value in values if value is not None]
    now = queue.depth if metric == "depth" else (values[-1] or 0)
    tail = f"   max {count(max(known, default=None), 6):>6}   now {count(now, 6):>6} "
    left = min(_MAX_SPARKLINE_WIDTH, width - 22 - len(tail))
    row = Text(f"  {queue.name:<20}", no_wrap=True, overflow="crop")
    row.append(sparkline(values, max(_MIN_SPARKLINE_WIDTH, left)), ACCENT)
    row.append(tail)
    return row


def _is_breached(queue: QueueSnapshot) -> bool:
    """Whether it has an alert, by its limits."""
    wrong = not queue.workers or bool(descriptions(queue))
    return wrong or queue.depth > queue.depth_limit or _fails_often(queue)


def _fails_often(queue: QueueSnapshot) -> bool:
    """Whether that is an alert: a share of few attempts is none."""
    few = queue.recent_attempts < rules.BY_NAME[rules.FAILING].minimum
    return not few and (queue.failure_rate or 0) > queue.failure_limit


def _with_breach_sign(text: str, breached: bool) -> Text:
    return Text(f"{text} ▲", BREACH) if breached else Text(f"{text}  ")


def _name(queue: QueueSnapshot, width: int) -> Text:
    sign, style = ("‖", WATCH) if queue.paused else ("▲", BREACH) if _is_breached(queue) else ("●", OK)
    return Text.assemble((f"{sign} ", style), clip(queue.name, width - 2))


def _depth(queue: QueueSnapshot, width: int) -> Text:
    depth = first_fitting(width - 2, count(queue.depth, width - 2))
    return _with_breach_sign(depth, queue.depth > queue.depth_limit)


def _failures(queue: QueueSnapshot, width: int) -> Text:
    return _with_breach_sign(first_fitting(width - 2, percent(queue.failure_rate)), _fails_often(queue))


def _in_flight(queue: QueueSnapshot, width: int) -> Text:
    used_of_limit = _used_of_limit(queue.in_flight, queue.concurrency)
    return Text(first_fitting(width, *used_of_limit, count(queue.in_flight, width)))


def _in_flight_gauge(queue: QueueSnapshot, width: int) -> Text:
    exact, rough = _used_of_limit(queue.in_flight, queue.concurrency)
    if len(exact) > 6:  # too long to have the gauge beside it
        return Text(first_fitting(width, exact, rough))
    return Text.assemble((gauge(queue.in_flight, queue.concurrency, width - 6), ACCENT), exact.rjust(6))


def _rate_limit(queue: QueueSnapshot, width: int) -> Text:
    if queue.rate_limit is None:
        return Text(MISSING)
    exact, rough = _used_of_limit(queue.rate_used, queue.rate_limit.starts)
    if queue.next_start_in is None:
        return Text(first_fitting(width, exact, rough))
    wait = duration(queue.next_start_in)
    waits = (wait, wait.replace(" ", ""), wait.partition(" ")[0])
    texts = [f"{used} {after}" for used in (exact, rough) for after in waits]
    return Text(first_fitting(width, *texts, wait), WATCH)


def _used_of_limit(used: int, limit: int) -> tuple[str, str]:
    """Exactly, and rounded."""
    return f"{used}/{limit}", f"{count(used, 4)}/{count(limit, 4)}"


def _done(queue: QueueSnapshot, width: int) -> Text:
    return Text(first_fitting(width, rate(queue.throughput), count(round(queue.throughput), width)))


def _duration(value: Callable[[QueueSnapshot], float | None]) -> Callable[[QueueSnapshot, int], Text]:
    return lambda queue, width: Text(duration(value(queue), width))


_OLDEST = _duration(lambda queue: queue.oldest_age)
_WAIT_P50, _WAIT_P95 = _duration(lambda queue: queue.wait.p50), _duration(lambda queue: queue.wait.p95)
_RUN_P50, _RUN_P95 = _duration(lambda queue: queue.run.p50), _duration(lambda queue: queue.run.p95)
_COMPACT = (
    Column("  queue", 19, _name),
    Column("depth  ", 8, _depth),
    Column("oldest", 7, _OLDEST),
    Column("flight", 7, _in_flight),
    Column("wait95", 7, _WAIT_P95),
    Column("run95", 7, _RUN_P95),
    Column("fail 5m  ", 10, _failures),
    Column("done/s", 7, _done),
)
_WIDE = (
    Column("  queue", 27, _name),
    Column("depth  ", 8, _depth),
    Column("oldest", 8, _OLDEST),
    Column("in flight", 17, _in_flight_gauge),
    Column("limit", 11, _rate_limit),
    Column("wait p50", 9, _WAIT_P50),
    Column("p95", 7, _WAIT_P95),
    Column("run p50", 8, _RUN_P50),
    Column("p95", 7, _RUN_P95),
    Column("fail 5m  ", 10, _failures),
    Column("done/s", 7, _done),
)
