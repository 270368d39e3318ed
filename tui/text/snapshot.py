"""Turns snapshots into the lines that every screen has: header, alerts, drain banner."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from tui.text.format import byte_size, duration, escape, gauge, utc_time
from tui.text.queues import is_compact
from tui.text.styles import BAD, DIM, GOOD, WARN
from tui.text.words import plural
from workers.monitoring.descriptions import duration as lasting
from workers.monitoring.snapshot import Snapshot

_SLOW_LOOP_SECONDS = 0.1
_GAUGE_MIN_WIDTH = 100
"""Columns from which the header has the memory's gauge and the other workers in words."""


def header(snapshot: Snapshot | None, width: int, error: str | None) -> Text:
    """Environment, workers and servers; ``error`` is why the snapshot is old."""
    left = Text.assemble((" CoutureCast", "bold"), "  ")
    if snapshot is None:
        return left + Text(error or "reading the queues …", BAD if error else DIM)
    wide = width >= _GAUGE_MIN_WIDTH
    living = living_workers(snapshot)
    wrong = len(snapshot.workers) - living
    left.append(f"{escape(snapshot.environment)} · ")
    others = other_workers(snapshot) if wide else f" ▲{wrong}" if wrong else ""
    left.append(f"{plural(living, 'worker')}{others}", BAD if wrong else "")
    if error is not None:
        left.append(f"  ▲ {error}", BAD)
    right = Text()
    right.append_text(_redis(snapshot, with_gauge=wide))
    right.append("  db ")
    right.append(*(("ok", GOOD) if snapshot.database.error is None else ("▲ down", BAD)))
    lag = snapshot.loop_lag
    if lag is not None and (lag > _SLOW_LOOP_SECONDS or wide):
        right.append(f"  loop {duration(lag)}", WARN if lag > _SLOW_LOOP_SECONDS else "")
    right.append(f"  {utc_time(snapshot.taken_at)} ")
    return _align_both_ends(left, right, width)


def living_workers(snapshot: Snapshot) -> int:
    """Worker processes that are neither blocked nor dead."""
    return sum(worker.alive for worker in snapshot.workers)


def other_workers(snapshot: Snapshot) -> str:
    """How many are blocked or dead, to be put behind that number: `` · 1 blocked · 1 dead``."""
    states = Counter(worker.state for worker in snapshot.workers)
    return "".join(f" · {states[state]} {state}" for state in ("blocked", "dead") if states[state])


def _redis(snapshot: Snapshot, *, with_gauge: bool) -> Text:
    redis = snapshot.redis
    if redis.error is not None:
        return Text("redis ▲ down", BAD)
    text = Text(f"redis {byte_size(redis.memory_used)}")
    if redis.memory_limit and redis.memory_used is not None:
        text.append(f" of {byte_size(redis.memory_limit)}")
        if with_gauge:
            share = redis.memory_used / redis.memory_limit
            style = BAD if share > redis.nearly_full else DIM
            text.append(f" ▕{gauge(redis.memory_used, redis.memory_limit, 8)}▏", style)
    return text


def alert_line(snapshot: Snapshot | None, width: int, error: str | None) -> Text:
    """One line: all is well, or the worst alert and how many more there are.

    With an ``error`` the snapshot is old, so nothing is called well.
    """
    problems = [] if snapshot is None else _firing(snapshot)
    if error is not None:
        problems.insert(0, f"these figures are old: {error}" if snapshot is not None else error)
    if snapshot is None and not problems:
        return Text()
    left, right = Text(" ● all well", GOOD), Text()
    if problems:
        left = Text(f" ▲ {problems[0]}", BAD)
        right = Text(f" {len(problems) - 1} more " if len(problems) > 1 else "", BAD)
    if snapshot is not None and snapshot.weather_provider == "offline" and is_compact(width):
        right.append(" weather: offline ", DIM)
    return _align_both_ends(left, right, width)


def _firing(snapshot: Snapshot) -> list[str]:
    """The alerts that fire, in the snapshot's order: those that nobody has acknowledged first."""
    texts = []
    for alert in snapshot.alerts:
        if alert.fires:
            subject = f"{alert.queue}: " if alert.queue else ""
            since = alert.since
            how_long = "" if since is None else f" · for {lasting(max(0.0, snapshot.taken_at - since))}"
            texts.append(f"{subject}{escape(alert.message)}{how_long}")
    return texts


def drain_banner(snapshot: Snapshot | None) -> Text | None:
    """While this process drains: how long it still may, and that nothing is deleted."""
    if snapshot is None or snapshot.drain_deadline_in is None:
        return None
    in_flight = sum(queue.in_flight for queue in snapshot.queues)
    return Text.assemble(
        (" Graceful drain", "bold"),
        " · finishes what runs, deletes nothing · ",
        f"{duration(snapshot.drain_deadline_in)} left · {in_flight} in flight in the cluster",
    )


def _align_both_ends(left: Text, right: Text, width: int) -> Text:
    left.truncate(max(0, width - right.cell_len), overflow="ellipsis", pad=True)
    return Text(no_wrap=True, overflow="crop").append_text(left).append_text(right)
