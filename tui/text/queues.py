"""Turns queues into styled lines: the columns of their table, and their rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from tui.text import sorting
from tui.text.format import (
    MISSING,
    clip,
    count,
    duration,
    first_fitting,
    long_duration,
    percent,
    rate,
    sparkline,
)
from tui.text.sorting import Order, SortColumn, Sorting
from tui.text.styles import ACCENT, BREACH, MUTED, PAUSED, RULE, WATCH
from tui.text.verdict import CHART_STYLES, WORST_FIRST, Verdict, fails_often
from workers.engine.policy import WEATHER
from workers.monitoring import alert_rules as rules
from workers.monitoring.snapshot import Alert, QueueSnapshot

GAP_COLUMNS = 2
"""Spaces between two columns, which each column's width includes."""
_SPARKLINE_MINUTES = 24
_GAUGE_MIN_WIDTH = 12
"""Width of a column from which it shows a gauge."""
_COMPACT_WIDTH = 110
"""Columns of a terminal below which a queue has two lines, the second with its last minutes and its state."""
_MIN_STATE_WIDTH = 8

AlertStates = Mapping[str, str]
"""By name of an alert of the queue, or name and subject as ``slow:wait``: its state."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the queue table: its heading, its width with the gap before it, and its cells."""

    title: str
    width: int
    cell: Callable[[QueueSnapshot, int, AlertStates], Text]
    sorts: str = ""
    """The name of its column of QUEUE_SORTING, if that is another one."""


Judged = tuple[QueueSnapshot, Verdict]

QUEUE_SORTING: Sorting[Judged] = Sorting(
    "queues",
    (
        SortColumn("queue", lambda row: row[0].name),
        SortColumn("state", lambda row: WORST_FIRST.index(row[1].tone)),
        SortColumn("depth", lambda row: row[0].depth, descending=True),
        SortColumn("oldest", lambda row: row[0].oldest_age, descending=True),
        SortColumn("in flight", lambda row: row[0].in_flight, descending=True),
        SortColumn("wait p95", lambda row: row[0].wait.p95, descending=True),
        SortColumn("run p95", lambda row: row[0].run.p95, descending=True),
        SortColumn("fail 5m", lambda row: row[0].failure_rate, descending=True),
        SortColumn("done/s", lambda row: row[0].throughput, descending=True),
        SortColumn("last", lambda row: row[0].succeeded_age, descending=True),
    ),
)


def columns(width: int) -> tuple[Column, ...]:
    """Return the columns for a terminal of this width; what is left of it is for the state."""
    layout: tuple[Column, ...] = _FULL if width >= 190 else _WIDE if width >= 150 else _MIDDLE
    if is_compact(width):
        layout = _COMPACT
    fitting, used_width = [], 0
    for column in layout:
        used_width += column.width
        if used_width <= width:
            fitting.append(column)
    return tuple(fitting)


def is_compact(width: int) -> bool:
    """Return whether a terminal of this width shows fewer columns, and the state on a line of its own."""
    return width < _COMPACT_WIDTH


def heading(width: int, order: Order | None = None) -> Text:
    """Return the headings of the queue table, with an arrow at that of the column which sorts it."""
    text = heading_of(columns(width), order)
    if is_compact(width):
        return text
    return text.append(f"   {sorting.heading('state', order, _MIN_STATE_WIDTH)}")


def heading_of(columns: Sequence[Column], order: Order | None = None) -> Text:
    """Return the headings of these columns."""
    name, *others = columns
    cells = [f"   {sorting.heading(name.title, order, name.width - GAP_COLUMNS)}".ljust(name.width)]
    for column in others:
        sorts = order is not None and order.column == (column.sorts or column.title)
        own = replace(order, column=column.title) if order is not None and sorts else None
        title = sorting.heading(column.title, own, column.width - 1)
        # A gauge begins at the left of its column, so its heading does, too.
        gauged = column.title == "in flight" and column.width > _GAUGE_MIN_WIDTH
        cells.append(f"  {title}".ljust(column.width) if gauged else title.rjust(column.width))
    return Text("".join(cells), MUTED, no_wrap=True, overflow="crop")


def rows(
    queue: QueueSnapshot, verdict: Verdict, alerts: Sequence[Alert], *, offline: bool, width: int
) -> list[Text]:
    """Return the row of a queue, and a second line for words that have no room on it."""
    row = row_of(queue, verdict, alerts, columns(width))
    words = state_words(queue, verdict, offline=offline)
    if is_compact(width):
        return [row, _second_line(queue, verdict, words, width)]
    left = width - row.cell_len - 3
    if len(words) <= left:
        return [row.append("   ").append(words, verdict.style)]
    if left >= _MIN_STATE_WIDTH and not verdict.needs_text and len(verdict.short) <= left:
        return [row.append("   ").append(verdict.short or clip(words, left), verdict.style)]
    return [row, Text(f"   {words}", verdict.style, no_wrap=True, overflow="ellipsis")]


def state_words(queue: QueueSnapshot, verdict: Verdict, *, offline: bool) -> str:
    """Return its state in words; empty if all is well.  ``offline``: the weather is made up."""
    offline_words = "offline weather" if offline and queue.name == WEATHER else ""
    return ", ".join(filter(None, (verdict.text, offline_words)))


def row_of(
    queue: QueueSnapshot, verdict: Verdict, alerts: Sequence[Alert], columns: Sequence[Column]
) -> Text:
    """Return the row of a queue in these columns."""
    states = _states(queue, alerts)
    name, *others = columns
    sign_style = "ok" if verdict.tone == "fine" else verdict.style
    row = Text.assemble((f" {verdict.sign} ", sign_style), (clip(queue.name, name.width - 3), "bold"))
    row.no_wrap, row.overflow = True, "crop"
    row.truncate(name.width, pad=True)
    for column in others:
        is_old = queue.redis_error is not None
        cell = Text(MISSING, MUTED) if is_old else column.cell(queue, column.width - GAP_COLUMNS, states)
        row.append(" " * (column.width - cell.cell_len))
        row.append_text(cell)
    return row


def _second_line(queue: QueueSnapshot, verdict: Verdict, words: str, width: int) -> Text:
    """Return the last minutes and the state; the state alone if there is no room for both."""
    line = Text("   ", no_wrap=True, overflow="ellipsis")
    if len(words) <= width - line.cell_len - _SPARKLINE_MINUTES - GAP_COLUMNS:
        line.append(sparkline(queue.depth_history, _SPARKLINE_MINUTES), CHART_STYLES[verdict.tone])
        line.append(" " * GAP_COLUMNS)
    return line.append(words, verdict.style)


def _states(queue: QueueSnapshot, alerts: Sequence[Alert]) -> AlertStates:
    states: dict[str, str] = {}
    for alert in alerts:
        if alert.queue == queue.name:
            states[f"{alert.name}:{alert.subject}" if alert.name == rules.SLOW else alert.name] = (
                "silenced" if alert.is_silenced else alert.state
            )
    return states


def _breach_style(states: AlertStates, name: str, *, over: bool = False) -> str:
    """Return the style of a figure: that of its alert, or ``watch`` over its limit without an alert."""
    state = states.get(name)
    if state is None or state == "silenced":
        return WATCH if over else ""
    return WATCH if state == "pending" else BREACH


def _depth(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    style = _breach_style(states, rules.BACKLOG, over=queue.depth > queue.depth_limit)
    return Text(first_fitting(width, count(queue.depth, width)), style or ("" if queue.depth else MUTED))


def _failures(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    style = _breach_style(states, rules.FAILING, over=fails_often(queue))
    return _figure(first_fitting(width, percent(queue.failure_rate)), style)


def _in_flight(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    used_of_limit = _used_of_limit(queue.in_flight, queue.concurrency)
    words = first_fitting(width, *used_of_limit, count(queue.in_flight, width))
    return Text(words, _breach_style(states, rules.STALLED))


def _in_flight_gauge(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    exact, rough = _used_of_limit(queue.in_flight, queue.concurrency)
    if len(exact) > 6:  # too long for a gauge on the same line
        return Text(first_fitting(width, exact, rough))
    style = _breach_style(states, rules.STALLED)
    bar = thin_gauge(
        queue.in_flight, queue.concurrency, width - 6, style or (PAUSED if queue.paused else ACCENT)
    )
    return bar.append(exact.rjust(6), style)


def thin_gauge(used: float, limit: float, width: int, style: str) -> Text:
    """Return a thin bar: the part that is used has ``style``."""
    full = 0 if limit <= 0 else min(width, math.ceil(used * width / limit))
    return Text.assemble(("━" * full, style), ("─" * (width - full), RULE))


def _rate_limit(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    if queue.rate_limit is None:
        return _figure(MISSING)
    exact, rough = _used_of_limit(queue.rate_used, queue.rate_limit.starts)
    if queue.next_start_in is None:
        return Text(first_fitting(width, exact, rough))
    wait = max(1.0, queue.next_start_in)  # in whole seconds, as a column that does not jump
    waits = [long_duration(wait)] if wait < 59.5 else [duration(wait, chars) for chars in (6, 5, 3)]
    texts = [f"{used} {after}" for used in (exact, rough) for after in waits]
    return Text(first_fitting(width, *texts, waits[-1]), WATCH if queue.depth else "")


def _used_of_limit(used: int, limit: int) -> tuple[str, str]:
    """Return the numbers exactly, and rounded."""
    return f"{used}/{limit}", f"{count(used, 4)}/{count(limit, 4)}"


def _throughput(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    return Text(first_fitting(width, rate(queue.throughput), count(round(queue.throughput), width)))


def _figure(text: str, style: str = "") -> Text:
    return Text(text, style or (MUTED if text == MISSING else ""))


def _duration(
    value: Callable[[QueueSnapshot], float | None], alerts: Collection[str] = ()
) -> Callable[[QueueSnapshot, int, AlertStates], Text]:
    def cell(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
        styles = [_breach_style(states, name) for name in alerts]
        return _figure(duration(value(queue), width), next(filter(None, styles), ""))

    return cell


_SLOW_WAIT, _SLOW_RUN = (f"{rules.SLOW}:wait",), (f"{rules.SLOW}:run",)
_OLDEST = _duration(lambda queue: queue.oldest_age)
_WAIT_P50 = _duration(lambda queue: queue.wait.p50)
_WAIT_P95 = _duration(lambda queue: queue.wait.p95, _SLOW_WAIT)
_WAIT_P99 = _duration(lambda queue: queue.wait.p99)
_RUN_P50 = _duration(lambda queue: queue.run.p50)
_RUN_P95 = _duration(lambda queue: queue.run.p95, _SLOW_RUN)
_RUN_P99 = _duration(lambda queue: queue.run.p99)


def _last(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    """Return since when no job has completed, in whole seconds."""
    age = queue.succeeded_age
    if age is None or age >= 59.5:
        return _figure(duration(age, width))
    return _figure(f"{max(1, round(age))} s")


def _name(queue: QueueSnapshot, width: int, states: AlertStates) -> Text:
    return Text(clip(queue.name, width))


_QUEUE_20, _QUEUE = Column("queue", 20, _name), Column("queue", 21, _name)
_DEPTH_COLUMN = Column("depth", 7, _depth)
_OLDEST_COLUMN = Column("oldest", 8, _OLDEST)
_FLIGHT = Column("flight", 8, _in_flight, "in flight")
_LIMIT = Column("limit", 12, _rate_limit)
_RATES = (Column("fail 5m", 9, _failures), Column("done/s", 8, _throughput))
_LAST = Column("last", 8, _last)
_WAIT_95, _RUN_95 = Column("p95", 8, _WAIT_P95, "wait p95"), Column("p95", 8, _RUN_P95, "run p95")
_WAIT_99, _RUN_99 = Column("p99", 8, _WAIT_P99), Column("p99", 8, _RUN_P99)

_COMPACT = (
    *(_QUEUE_20, _DEPTH_COLUMN, Column("oldest", 9, _OLDEST), _FLIGHT),
    *(Column("wait95", 9, _WAIT_P95, "wait p95"), Column("run95", 9, _RUN_P95, "run p95"), *_RATES),
)
_MIDDLE = (
    *(_QUEUE, _DEPTH_COLUMN, _OLDEST_COLUMN, _FLIGHT, _LIMIT),
    *(Column("wait95", 8, _WAIT_P95, "wait p95"), Column("run95", 8, _RUN_P95, "run p95"), *_RATES),
)
_WIDE = (
    *(_QUEUE, _DEPTH_COLUMN, _OLDEST_COLUMN, Column("in flight", 16, _in_flight_gauge), _LIMIT),
    *(Column("wait p50", 10, _WAIT_P50), _WAIT_95, Column("run p50", 9, _RUN_P50), _RUN_95, *_RATES, _LAST),
)
STATE_COLUMNS = (
    *(_QUEUE_20, _DEPTH_COLUMN, _OLDEST_COLUMN, _FLIGHT),
    *(Column("limit", 11, _rate_limit), *_RATES, _LAST),
)
TIMES_COLUMNS = (
    *(_QUEUE_20, Column("wait p50", 10, _WAIT_P50), _WAIT_95, _WAIT_99),
    *(Column("run p50", 10, _RUN_P50), _RUN_95, _RUN_99),
)
"""Two tables for 80 columns that together have all figures."""
_FULL = (*_WIDE[:7], _WAIT_99, *_WIDE[7:9], _RUN_99, *_WIDE[9:])
