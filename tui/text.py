"""Snapshots and letters as styled lines.  Pure: nothing here knows a widget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.text import Text

from tui.format import MISSING, bar, count, duration, percent, rate, safe, safe_lines, size, sparkline
from workers import thresholds
from workers.operations import DeadLetter
from workers.policy import WEATHER
from workers.snapshot import QueueSnapshot, Snapshot

WIDE = 112
"""Columns from which on the tables show everything."""
_SLOW_LOOP = 0.1  # s
BAD = "bold red"
WARN = "yellow"
GOOD = "green"
DIM = "dim"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the queue table: its heading and its width, which it keeps."""

    title: str
    width: int
    right: bool = True


_NARROW = (
    Column("  queue", 19, right=False),
    Column("depth  ", 8),
    Column("oldest", 7),
    Column("flight", 7),
    Column("wait95", 7),
    Column("run95", 7),
    Column("fail 5m  ", 10),
    Column("done/s", 7),
)
_FULL = (
    Column("  queue", 27, right=False),
    Column("depth  ", 8),
    Column("oldest", 8),
    Column("in flight", 17),
    Column("limit", 11),
    Column("wait p50", 9),
    Column("p95", 7),
    Column("run p50", 8),
    Column("p95", 7),
    Column("fail 5m  ", 10),
    Column("done/s", 7),
)


def columns(width: int) -> tuple[Column, ...]:
    """The columns that a terminal of ``width`` has room for."""
    return _FULL if width >= sum(column.width for column in _FULL) else _NARROW


def header(snapshot: Snapshot | None, width: int, problem: str | None) -> Text:
    """Who we are, and how the servers are."""
    left = Text.assemble((" CoutureCast", "bold"), "  ")
    if snapshot is None:
        return left + Text(problem or "reading the queues …", BAD if problem else DIM)
    workers = len(snapshot.workers)
    left.append(f"{safe(snapshot.environment)} · {workers} worker{'' if workers == 1 else 's'}")
    right = Text()
    if problem is not None:
        right.append(f"▲ {problem}  ", BAD)
    right.append_text(_redis(snapshot, gauge=width >= 100))
    right.append("  db ")
    right.append(*(("ok", GOOD) if snapshot.database.error is None else ("▲ away", BAD)))
    lag = snapshot.loop_lag
    if lag is not None and (lag > _SLOW_LOOP or width >= 100):
        right.append(f"  loop {duration(lag)}", WARN if lag > _SLOW_LOOP else "")
    right.append(f"  {datetime.fromtimestamp(snapshot.taken_at, UTC):%H:%M:%S} ")
    return _spread(left, right, width)


def _redis(snapshot: Snapshot, *, gauge: bool) -> Text:
    redis = snapshot.redis
    if redis.error is not None:
        return Text("redis ▲ away", BAD)
    text = Text(f"redis {size(redis.memory_used)}")
    if redis.memory_limit and redis.memory_used is not None:
        text.append(f" of {size(redis.memory_limit)}")
        if gauge:
            share = redis.memory_used / redis.memory_limit
            style = BAD if share > thresholds.REDIS_MEMORY else DIM
            text.append(f" ▕{bar(redis.memory_used, redis.memory_limit, 8)}▏", style)
    return text


def alert_line(snapshot: Snapshot | None, width: int) -> Text:
    """One line: all is well, or what is worst and how many more there are."""
    if snapshot is None:
        return Text()
    left, right = Text(" ● all well", GOOD), Text()
    if snapshot.alerts:
        worst, *more = snapshot.alerts
        where = f"{worst.queue}: " if worst.queue else ""
        left = Text(f" ▲ {where}{safe(worst.message)}", BAD)
        right = Text(f" {len(more)} more " if more else "", BAD)
    if snapshot.weather_provider == "offline" and columns(width) is _NARROW:
        right.append(" weather: offline ", DIM)
    return _spread(left, right, width)


def queue_heading(width: int) -> Text:
    """The headings of the queue table."""
    cells = [
        column.title.rjust(column.width) if column.right else column.title.ljust(column.width)
        for column in columns(width)
    ]
    room = width - sum(map(len, cells))
    tail = ("  last hour" if room >= 11 else "  hour")[:room] if columns(width) is _NARROW else ""
    return Text("".join(cells) + tail, DIM, no_wrap=True, overflow="crop")


def queue_rows(queue: QueueSnapshot, *, offline: bool, width: int, metric: str, now: float) -> list[Text]:
    """One line, and a second one for a paused queue that says by whom, since when and why."""
    chosen = columns(width)
    cells = _full_cells(queue) if chosen is _FULL else _narrow_cells(queue)
    row = Text(no_wrap=True, overflow="crop")
    mark, style = ("‖", WARN) if queue.paused else ("▲", BAD) if _breached(queue) else ("●", GOOD)
    if not queue.workers and not queue.paused:
        mark, style = "▲", BAD
    name = Text.assemble((f"{mark} ", style), queue.name)
    if offline and queue.name == WEATHER and chosen is _FULL:
        name.append(" offline", DIM)
    name.truncate(chosen[0].width, pad=True)
    row.append_text(name)
    for column, cell in zip(chosen[1:], cells, strict=True):
        row.append(" " * max(0, column.width - cell.cell_len))
        row.append_text(cell)
    room = width - row.cell_len - 2
    if chosen is _NARROW and room >= 4:
        row.append("  " + sparkline(history(queue, metric), min(room, 60)), "cyan")
    rows = [row]
    if queue.paused:
        why = f": {safe(queue.paused.reason)}" if queue.paused.reason else ""
        since = queue.paused.since
        how_long = f" for {duration(max(0.0, now - since))}" if since is not None else ""
        rows.append(
            Text(
                f"    paused{how_long} by {safe(queue.paused.by)}{why}",
                WARN,
                no_wrap=True,
                overflow="ellipsis",
            )
        )
    return rows


def _breached(queue: QueueSnapshot) -> bool:
    return queue.depth > thresholds.DEPTH or (queue.failure_rate or 0) > thresholds.FAILURE_RATE


def _flagged(text: str, bad: bool) -> Text:
    return Text(f"{text} ▲", BAD) if bad else Text(f"{text}  ")


def _narrow_cells(queue: QueueSnapshot) -> list[Text]:
    return [
        _flagged(count(queue.depth), queue.depth > thresholds.DEPTH),
        Text(duration(queue.oldest_age)),
        Text(f"{queue.in_flight}/{queue.concurrency}"),
        Text(duration(queue.wait.p95)),
        Text(duration(queue.run.p95)),
        _flagged(percent(queue.failure_rate), (queue.failure_rate or 0) > thresholds.FAILURE_RATE),
        Text(rate(queue.throughput)),
    ]


def _full_cells(queue: QueueSnapshot) -> list[Text]:
    depth, oldest, _, wait95, run95, failures, done = _narrow_cells(queue)
    flight = Text.assemble(
        (bar(queue.in_flight, queue.concurrency, 10), "blue"),
        f"{queue.in_flight}/{queue.concurrency}".rjust(6),
    )
    return [
        depth,
        oldest,
        flight,
        _rate_limit(queue),
        Text(duration(queue.wait.p50)),
        wait95,
        Text(duration(queue.run.p50)),
        run95,
        failures,
        done,
    ]


def _rate_limit(queue: QueueSnapshot) -> Text:
    if queue.rate_limit is None:
        return Text(MISSING)
    used = f"{queue.rate_used}/{queue.rate_limit.starts}"
    if queue.next_start_in is None:
        return Text(used)
    return Text(f"{used} {duration(queue.next_start_in)}", WARN)


def history(queue: QueueSnapshot, metric: str) -> tuple[int | None, ...]:
    """The last hour of ``depth`` or ``throughput``, one value a minute."""
    return queue.depth_history if metric == "depth" else queue.throughput_history


def history_row(queue: QueueSnapshot, metric: str, width: int) -> Text:
    """The last hour of one queue, with its greatest value and the present one."""
    values = history(queue, metric)
    known = [value for value in values if value is not None]
    now = queue.depth if metric == "depth" else (values[-1] or 0)
    tail = f"   max {count(max(known, default=None)):>6}   now {count(now):>6} "
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


def letter_columns(width: int) -> dict[str, int]:
    """The columns of the letter table and their widths; the error has what the others leave."""
    chosen = {"when": 11, "queue": 17, "job": 22, "function": 14, "att": 3} if width >= WIDE else {}
    chosen = chosen or {"when": 11, "queue": 17, "att": 3}
    taken = sum(chosen.values()) + 2 * (len(chosen) + 1) + 2  # a space on each side, and the scroll bar
    return chosen | {"error": max(20, width - taken)}


def letter_cells(letter: DeadLetter, columns: dict[str, int], *, now: float) -> list[Text]:
    """A row of the letter table, with the cells that ``columns`` name."""
    at = letter.failed_at.astimezone(UTC)
    same_day = datetime.fromtimestamp(now, UTC).date() == at.date()
    cells = {
        "when": f"{at:%H:%M:%S}" if same_day else f"{at:%m-%d %H:%M}",
        "queue": letter.queue_name,
        "job": safe(letter.job_id),
        "function": safe(letter.function),
        "att": str(letter.attempts).rjust(3),
        "error": safe(f"{letter.error_type.rpartition('.')[2]}: {letter.error_message}"),
    }
    return [Text(_short(cells[name], width)) for name, width in columns.items()]


def letter_detail(letter: DeadLetter) -> Text:
    """All of a letter: what, when, payload, and every attempt with its traceback."""
    text = Text()
    rows = (
        ("queue", letter.queue_name),
        ("job", letter.job_id),
        ("function", letter.function),
        ("state", letter.state + (f", replayed {letter.replay_count} times" if letter.replay_count else "")),
        ("attempts", str(letter.attempts)),
        ("enqueued", f"{letter.enqueued_at:%Y-%m-%d %H:%M:%S} UTC" if letter.enqueued_at else MISSING),
        ("failed", f"{letter.failed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("worker", letter.worker or MISSING),
    )
    for name, value in rows:
        text.append(f"  {name:<10}", DIM)
        text.append(f"{safe(value)}\n")
    text.append(f"\n  {safe(letter.error_type)}: ", BAD)
    text.append(f"{safe(letter.error_message)}\n", "bold")
    text.append("\n  Payload\n", "bold underline")
    payload = json.dumps(letter.job_data.get("kwargs", letter.job_data), indent=2, ensure_ascii=False)
    text.append(_indented(payload))
    for attempt in letter.attempt_errors:
        at = datetime.fromtimestamp(attempt["at"], UTC)
        text.append(f"\n  Attempt {attempt['attempt']}", "bold underline")
        text.append(f"  at {at:%H:%M:%S}, ran {duration(attempt['run_seconds'])}\n", DIM)
        text.append(_indented(attempt["traceback"] or attempt["message"]))
    return text


def _indented(block: str) -> str:
    return "".join(f"    {line}\n" for line in safe_lines(block.rstrip()).split("\n"))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _spread(left: Text, right: Text, width: int) -> Text:
    room = width - right.cell_len
    left.truncate(max(0, room), overflow="ellipsis", pad=True)
    return Text(no_wrap=True, overflow="crop").append_text(left).append_text(right)


def newest_first_title(snapshot: Snapshot | None, letters: Sequence[DeadLetter]) -> str:
    """The title above the newest dead letters."""
    if snapshot is None:
        return "Dead letters"
    waiting = (
        f" · {count(snapshot.letters_waiting)} wait for the database" if snapshot.letters_waiting else ""
    )
    total = count(snapshot.dead_letters) if letters or snapshot.dead_letters else "none"
    return f"Dead letters · {total}{waiting}"
