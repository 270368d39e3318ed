"""Snapshots as styled lines.  Pure: nothing here knows a widget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from tui.text.format import (
    MISSING,
    byte_size,
    clip,
    count,
    duration,
    escape,
    first_fitting,
    gauge,
    percent,
    rate,
    sparkline,
    utc_time,
)
from workers.engine.policy import WEATHER
from workers.monitoring import thresholds
from workers.monitoring.snapshot import QueueSnapshot, Snapshot

WIDE = 112
"""Columns from which on the tables show everything."""
_SLOW_LOOP = 0.1  # s
BAD = "bold red"
WARN = "yellow"
GOOD = "green"
DIM = "dim"


def columns(width: int) -> tuple[Column, ...]:
    """The columns that a terminal of ``width`` has room for."""
    return _FULL if width >= sum(column.width for column in _FULL) else _NARROW


def header(snapshot: Snapshot | None, width: int, problem: str | None) -> Text:
    """Who we are, and how the servers are."""
    left = Text.assemble((" CoutureCast", "bold"), "  ")
    if snapshot is None:
        return left + Text(problem or "reading the queues …", BAD if problem else DIM)
    living = living_workers(snapshot)
    wrong = len(snapshot.workers) - living
    left.append(f"{escape(snapshot.environment)} · ")
    others = other_workers(snapshot) if width >= 100 else f" ▲{wrong}" if wrong else ""
    left.append(f"{living} worker{'' if living == 1 else 's'}{others}", BAD if wrong else "")
    if problem is not None:
        left.append(f"  ▲ {problem}", BAD)
    right = Text()
    right.append_text(_redis(snapshot, with_gauge=width >= 100))
    right.append("  db ")
    right.append(*(("ok", GOOD) if snapshot.database.error is None else ("▲ away", BAD)))
    lag = snapshot.loop_lag
    if lag is not None and (lag > _SLOW_LOOP or width >= 100):
        right.append(f"  loop {duration(lag)}", WARN if lag > _SLOW_LOOP else "")
    right.append(f"  {utc_time(snapshot.taken_at)} ")
    return _spread(left, right, width)


def living_workers(snapshot: Snapshot) -> int:
    """Worker processes that are neither blocked nor dead."""
    return sum(worker.alive for worker in snapshot.workers)


def other_workers(snapshot: Snapshot) -> str:
    """How many are, to be put behind that number: `` · 1 blocked · 1 dead``."""
    states = Counter(worker.state for worker in snapshot.workers)
    return "".join(f" · {states[state]} {state}" for state in ("blocked", "dead") if states[state])


def _redis(snapshot: Snapshot, *, with_gauge: bool) -> Text:
    redis = snapshot.redis
    if redis.error is not None:
        return Text("redis ▲ away", BAD)
    text = Text(f"redis {byte_size(redis.memory_used)}")
    if redis.memory_limit and redis.memory_used is not None:
        text.append(f" of {byte_size(redis.memory_limit)}")
        if with_gauge:
            share = redis.memory_used / redis.memory_limit
            style = BAD if share > thresholds.REDIS_MEMORY else DIM
            text.append(f" ▕{gauge(redis.memory_used, redis.memory_limit, 8)}▏", style)
    return text


def alert_line(snapshot: Snapshot | None, width: int, problem: str | None) -> Text:
    """One line: all is well, or what is worst and how many more there are.

    Nothing is known to be well while there is a ``problem``: then the snapshot is an old one.
    """
    alerts = snapshot.alerts if snapshot is not None else ()
    wrong = [f"{f'{alert.queue}: ' if alert.queue else ''}{escape(alert.message)}" for alert in alerts]
    if problem is not None:
        wrong.insert(0, f"these figures are old: {problem}" if snapshot is not None else problem)
    if snapshot is None and not wrong:
        return Text()
    left, right = Text(" ● all well", GOOD), Text()
    if wrong:
        left = Text(f" ▲ {wrong[0]}", BAD)
        right = Text(f" {len(wrong) - 1} more " if len(wrong) > 1 else "", BAD)
    if snapshot is not None and snapshot.weather_provider == "offline" and columns(width) is _NARROW:
        right.append(" weather: offline ", DIM)
    return _spread(left, right, width)


def queue_heading(width: int) -> Text:
    """The headings of the queue table."""
    name, *others = columns(width)
    cells = [name.title.ljust(name.width), *(column.title.rjust(column.width) for column in others)]
    room = width - sum(map(len, cells))
    tail = ("  last hour" if room >= 11 else "  hour")[:room] if columns(width) is _NARROW else ""
    return Text("".join(cells) + tail, DIM, no_wrap=True, overflow="crop")


def queue_rows(queue: QueueSnapshot, *, offline: bool, width: int, metric: str, now: float) -> list[Text]:
    """One line, and one more for each reason why its jobs make no progress, and for its pause."""
    chosen = columns(width)
    row = Text(no_wrap=True, overflow="crop")
    name = chosen[0].cell(queue, chosen[0].width)
    if offline and queue.name == WEATHER and chosen is _FULL:
        name.append(" offline", DIM)
    name.truncate(chosen[0].width, pad=True)
    row.append_text(name)
    for column in chosen[1:]:
        cell = column.cell(queue, column.width - 1)
        row.append(" " * (column.width - cell.cell_len))
        row.append_text(cell)
    room = width - row.cell_len - 2
    if chosen is _NARROW and room >= 4:
        row.append("  " + sparkline(history(queue, metric), min(room, 60)), "cyan")
    rows = [row, *(_reason(words, BAD) for words in thresholds.conditions(queue))]
    if queue.paused:
        why = f": {escape(queue.paused.reason)}" if queue.paused.reason else ""
        since = queue.paused.since
        how_long = f" for {duration(max(0.0, now - since))}" if since is not None else ""
        rows.append(_reason(f"paused{how_long} by {escape(queue.paused.by)}{why}", WARN))
    return rows


def _reason(words: str, style: str) -> Text:
    return Text(f"    {escape(words)}", style, no_wrap=True, overflow="ellipsis")


def _breached(queue: QueueSnapshot) -> bool:
    """As `thresholds.alerts` sees it."""
    wrong = not queue.workers or bool(thresholds.conditions(queue))
    return wrong or queue.depth > thresholds.DEPTH or _fails(queue)


def _fails(queue: QueueSnapshot) -> bool:
    return (queue.failure_rate or 0) > thresholds.FAILURE_RATE


def _flagged(text: str, bad: bool) -> Text:
    return Text(f"{text} ▲", BAD) if bad else Text(f"{text}  ")


def _name(queue: QueueSnapshot, room: int) -> Text:
    mark, style = ("‖", WARN) if queue.paused else ("▲", BAD) if _breached(queue) else ("●", GOOD)
    return Text.assemble((f"{mark} ", style), clip(queue.name, room - 2))


def _depth(queue: QueueSnapshot, room: int) -> Text:
    return _flagged(first_fitting(room - 2, count(queue.depth, room - 2)), queue.depth > thresholds.DEPTH)


def _failures(queue: QueueSnapshot, room: int) -> Text:
    return _flagged(first_fitting(room - 2, percent(queue.failure_rate)), _fails(queue))


def _flight(queue: QueueSnapshot, room: int) -> Text:
    return Text(first_fitting(room, *_of(queue.in_flight, queue.concurrency), count(queue.in_flight, room)))


def _flight_bar(queue: QueueSnapshot, room: int) -> Text:
    exact, brief = _of(queue.in_flight, queue.concurrency)
    if len(exact) > 6:  # no room for both
        return Text(first_fitting(room, exact, brief))
    return Text.assemble((gauge(queue.in_flight, queue.concurrency, room - 6), "blue"), exact.rjust(6))


def _rate_limit(queue: QueueSnapshot, room: int) -> Text:
    if queue.rate_limit is None:
        return Text(MISSING)
    exact, rough = _of(queue.rate_used, queue.rate_limit.starts)
    if queue.next_start_in is None:
        return Text(first_fitting(room, exact, rough))
    wait = duration(queue.next_start_in)
    waits = (wait, wait.replace(" ", ""), wait.partition(" ")[0])
    texts = [f"{used} {after}" for used in (exact, rough) for after in waits]
    return Text(first_fitting(room, *texts, wait), WARN)


def _of(used: int, most: int) -> tuple[str, str]:
    return f"{used}/{most}", f"{count(used, 4)}/{count(most, 4)}"


def _done(queue: QueueSnapshot, room: int) -> Text:
    exact = rate(queue.throughput)
    return Text(first_fitting(room, exact, count(round(queue.throughput), room)))


def _duration(of: Callable[[QueueSnapshot], float | None]) -> Callable[[QueueSnapshot, int], Text]:
    return lambda queue, room: Text(duration(of(queue), room))


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the queue table: its heading, its width, and what stands in it.

    A cell has at most one character less than the column is wide, so that no two cells touch.
    """

    title: str
    width: int
    cell: Callable[[QueueSnapshot, int], Text]


_OLDEST = _duration(lambda queue: queue.oldest_age)
_WAIT_P50, _WAIT_P95 = _duration(lambda queue: queue.wait.p50), _duration(lambda queue: queue.wait.p95)
_RUN_P50, _RUN_P95 = _duration(lambda queue: queue.run.p50), _duration(lambda queue: queue.run.p95)
_NARROW = (
    Column("  queue", 19, _name),
    Column("depth  ", 8, _depth),
    Column("oldest", 7, _OLDEST),
    Column("flight", 7, _flight),
    Column("wait95", 7, _WAIT_P95),
    Column("run95", 7, _RUN_P95),
    Column("fail 5m  ", 10, _failures),
    Column("done/s", 7, _done),
)
_FULL = (
    Column("  queue", 27, _name),
    Column("depth  ", 8, _depth),
    Column("oldest", 8, _OLDEST),
    Column("in flight", 17, _flight_bar),
    Column("limit", 11, _rate_limit),
    Column("wait p50", 9, _WAIT_P50),
    Column("p95", 7, _WAIT_P95),
    Column("run p50", 8, _RUN_P50),
    Column("p95", 7, _RUN_P95),
    Column("fail 5m  ", 10, _failures),
    Column("done/s", 7, _done),
)


def history(queue: QueueSnapshot, metric: str) -> tuple[int | None, ...]:
    """The last hour of ``depth`` or ``throughput``, one value a minute."""
    return queue.depth_history if metric == "depth" else queue.throughput_history


def history_row(queue: QueueSnapshot, metric: str, width: int) -> Text:
    """The last hour of one queue, with its greatest value and the present one."""
    values = history(queue, metric)
    known = [value for value in values if value is not None]
    now = queue.depth if metric == "depth" else (values[-1] or 0)
    tail = f"   max {count(max(known, default=None), 6):>6}   now {count(now, 6):>6} "
    room = min(60, width - 22 - len(tail))
    row = Text(f"  {queue.name:<20}", no_wrap=True, overflow="crop")
    row.append(sparkline(values, max(4, room)), "cyan")
    row.append(tail)
    return row


def banner(snapshot: Snapshot | None) -> Text | None:
    """While this process drains: how long still, and that nothing is deleted."""
    if snapshot is None or snapshot.drain_deadline_in is None:
        return None
    flying = sum(queue.in_flight for queue in snapshot.queues)
    return Text.assemble(
        (" Graceful drain", "bold"),
        " · finishes what runs, deletes nothing · ",
        f"{duration(snapshot.drain_deadline_in)} left · {flying} in flight in the cluster",
    )


def _spread(left: Text, right: Text, width: int) -> Text:
    room = width - right.cell_len
    left.truncate(max(0, room), overflow="ellipsis", pad=True)
    return Text(no_wrap=True, overflow="crop").append_text(left).append_text(right)
