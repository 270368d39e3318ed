"""Turns snapshots into the lines that every screen has: header, verdict, banner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from tui.text.format import byte_size, clip, clock_time, duration, escape, lasting, local_time
from tui.text.queues import thin_gauge
from tui.text.styles import ACCENT, BREACH, MUTED, OK, WATCH
from tui.text.verdict import prognosis
from tui.text.words import plural
from workers.monitoring import alert_rules as rules
from workers.monitoring.snapshot import Alert, Snapshot

_SLOW_LOOP_SECONDS = 0.1
_GAUGE_MIN_WIDTH = 120
"""Columns from which the header has the memory's gauge."""
_WORDS_MIN_WIDTH = 100
"""Columns from which it has the release, and the other workers in words."""
_MAX_ENVIRONMENT_CHARS = 20
_MAX_RELEASE_CHARS = 16
_WHERE = {
    rules.FAILING: "2",
    rules.LETTERS_WAITING: "2",
    rules.PLAN_HALTED: "2",
    rules.PLAN_INTERRUPTED: "2",
    rules.STALLED: "3",
    rules.HELD_BY_DEAD: "4",
    rules.BLOCKED: "4",
    rules.NO_WORKER: "4",
}
"""Keys of the views that show what an alert is about; for others the overview does."""
_PASSES = {
    rules.REDIS: "reconnects by itself",
    rules.DATABASE: "reconnects by itself",
    rules.BROKEN_KEYS: "repairs itself",
    rules.LETTERS_WAITING: "written once the database is back",
}


def header(snapshot: Snapshot | None, width: int, error: str | None) -> Text:
    """Environment, release, workers and servers; ``error`` is why the snapshot is old."""
    left = Text.assemble((" CoutureCast", "bold"), "  ")
    if snapshot is None:
        return left + Text(error or "reading the queues …", BREACH if error else MUTED)
    wide = width >= _WORDS_MIN_WIDTH
    left.append(clip(escape(snapshot.environment), _MAX_ENVIRONMENT_CHARS), ACCENT)
    left.append(f" · {releases(snapshot)}" if wide and releases(snapshot) else "", MUTED)
    living = living_workers(snapshot)
    wrong = len(snapshot.workers) - living
    others = other_workers(snapshot) if wide else f" ▲{wrong}" if wrong else ""
    left.append(" · ", MUTED)
    left.append(f"{plural(living, 'worker')}{others}", BREACH if wrong else MUTED)
    if error is not None:
        left.append(f"  ▲ {error}", BREACH)
    right = _servers(snapshot, width)
    if left.cell_len + right.cell_len >= width:
        right = _servers(snapshot, width, with_limit=False)
    return _align_both_ends(left, right, width)


def releases(snapshot: Snapshot) -> str:
    """``release 7f3c2a1``, and how many others run while a deploy goes on."""
    found = Counter(worker.release for worker in snapshot.workers if worker.alive and worker.release)
    if not found:
        return ""
    newest = min(
        (worker for worker in snapshot.workers if worker.alive and worker.release),
        key=lambda worker: worker.up_for if worker.up_for is not None else 0.0,
    ).release
    others = f" and {plural(len(found) - 1, 'other')}" if len(found) > 1 else ""
    return f"release {clip(escape(newest or ''), _MAX_RELEASE_CHARS)}{others}"


def _servers(snapshot: Snapshot, width: int, *, with_limit: bool = True) -> Text:
    right = Text()
    right.append_text(_redis(snapshot, with_gauge=width >= _GAUGE_MIN_WIDTH, with_limit=with_limit))
    right.append("  db ", MUTED)
    right.append(*(("ok", OK) if snapshot.database.error is None else ("▲ down", BREACH)))
    lag = snapshot.loop_lag
    if lag is not None and (lag > _SLOW_LOOP_SECONDS or width >= _WORDS_MIN_WIDTH):
        slow = lag > _SLOW_LOOP_SECONDS
        right.append("  loop ", MUTED).append(f"{'▲ ' if slow else ''}{duration(lag)}", WATCH if slow else "")
    return right.append(f"  {local_time(snapshot.taken_at)} ", "bold")


def living_workers(snapshot: Snapshot) -> int:
    """Worker processes that are neither blocked nor dead."""
    return sum(worker.alive for worker in snapshot.workers)


def other_workers(snapshot: Snapshot) -> str:
    """How many are blocked or dead, to be put behind that number: `` · 1 blocked · 1 dead``."""
    states = Counter(worker.state for worker in snapshot.workers)
    return "".join(f" · {states[state]} {state}" for state in ("blocked", "dead") if states[state])


def _redis(snapshot: Snapshot, *, with_gauge: bool, with_limit: bool) -> Text:
    redis = snapshot.redis
    text = Text.assemble(("redis ", MUTED))
    if redis.error is not None:
        return text.append("▲ down", BREACH)
    text.append(byte_size(redis.memory_used))
    if redis.memory_limit and redis.memory_used is not None:
        share = redis.memory_used / redis.memory_limit
        full = share > redis.nearly_full
        text.append(f" of {byte_size(redis.memory_limit)}" if with_limit else "", MUTED)
        if with_gauge:
            bar = thin_gauge(redis.memory_used, redis.memory_limit, 8, BREACH if full else OK)
            text.append(" ").append_text(bar)
            text.append(f" {share * 100:.0f} %", BREACH if full else MUTED)
        elif full:
            text.append(f" ▲ {share * 100:.0f} %", BREACH)
    return text


def verdict_line(
    snapshot: Snapshot | None,
    width: int,
    error: str | None,
    *,
    well_for: float | None,
    age: float | None = None,
    views: Sequence[str] = (),
) -> Text:
    """One line: all is well, or the worst alert, for how long, and whether it will pass.

    With an ``error`` the snapshot is ``age`` seconds old, so nothing is called well.  ``well_for``: seconds,
    None if unknown.
    ``views`` are the keys of the views that exist.
    """
    if error is not None:
        old = f"{lasting(age)} old" if age is not None else "old"
        words = error if snapshot is None else f"these figures are {old}: {error}"
        return _align_both_ends(Text(f" ▲ {words}", BREACH), _more(snapshot, 0), width)
    if snapshot is None:
        return Text()
    firing = [alert for alert in snapshot.alerts if alert.fires]
    if not firing:
        left = Text.assemble((" ✔ all well", OK))
        left.append(f", for {lasting(well_for)}" if well_for is not None else "", MUTED)
        return _align_both_ends(left, _asides(snapshot), width)
    return _align_both_ends(worst(firing[0], snapshot, views), _more(snapshot, 1), width)


def worst(alert: Alert, snapshot: Snapshot, views: Sequence[str] = ()) -> Text:
    """An alert, for how long it fires, and whether it will pass."""
    text = Text.assemble((" ▲ ", BREACH))
    if alert.queue:
        text.append(f"{escape(alert.queue)}  ", "bold")
    text.append(escape(alert.message), BREACH)
    if alert.since is not None and " for " not in alert.message:
        text.append(f", for {lasting(max(0.0, snapshot.taken_at - alert.since))}", MUTED)
    if passes := will_pass(alert, snapshot):
        text.append(f" · {passes}", MUTED)
    if alert.acknowledged_by:
        text.append(f" · acknowledged by {escape(alert.acknowledged_by)}", MUTED)
    if (key := _WHERE.get(alert.name, "")) in views:
        text.append("  ").append(key, ACCENT).append(" shows it", MUTED)
    return text


def will_pass(alert: Alert, snapshot: Snapshot) -> str:
    """Whether an alert will end by itself, as far as that can be foreseen."""
    if alert.name == rules.BACKLOG:
        return next(
            (prognosis(queue, snapshot.taken_at) for queue in snapshot.queues if queue.name == alert.queue),
            "",
        )
    return _PASSES.get(alert.name, "")


def _more(snapshot: Snapshot | None, shown: int) -> Text:
    """How many other alerts there are, and the key that lists them."""
    alerts = () if snapshot is None else snapshot.alerts
    firing = sum(alert.fires for alert in alerts) - shown
    text = Text.assemble((f" {firing} more" if firing > 0 else "", BREACH))
    return text.append_text(_offline(snapshot)).append("  a", ACCENT).append(" alerts ", MUTED)


def _offline(snapshot: Snapshot | None) -> Text:
    """That the weather is made up, which every screen shows."""
    offline = snapshot is not None and snapshot.weather_provider == "offline"
    return Text("  weather: offline" if offline else "", MUTED)


def _asides(snapshot: Snapshot) -> Text:
    """What is no alert: those that are pending or silenced."""
    states = Counter(alert.state for alert in snapshot.alerts)
    parts = []
    if states["pending"]:
        parts.append(f"◐ {states['pending']} pending")
    if states["silenced"]:
        parts.append(f"{states['silenced']} silenced")
    text = Text.assemble((" · ".join(parts), WATCH if states["pending"] else MUTED))
    return text.append_text(_offline(snapshot)).append("  a", ACCENT).append(" alerts ", MUTED)


def banner(
    snapshot: Snapshot | None, width: int, figures_age: float | None = None, *, frozen: bool = False
) -> Text | None:
    """In place of the verdict: that this process drains, or which server is unavailable.

    ``figures_age``: seconds since Redis was last read, None if it was not.
    """
    if snapshot is None:
        return None
    if snapshot.drain_deadline_in is not None:
        return _drain_banner(snapshot)
    if frozen:
        return Text(f" ‖ frozen at {clock_time(snapshot.taken_at)}: space goes on")
    down = [
        f"{name} is unavailable: {escape(problem)}"
        for name, problem in (("Redis", snapshot.redis.error), ("the database", snapshot.database.error))
        if problem is not None
    ]
    if not down:
        return None
    how_old = (
        f"figures are {lasting(figures_age)} old · " if figures_age is not None and figures_age >= 1 else ""
    )
    return _align_both_ends(Text(f" ▲ {' · '.join(down)}"), Text(f" {how_old}reconnecting "), width)


def _drain_banner(snapshot: Snapshot) -> Text:
    in_flight = sum(queue.in_flight for queue in snapshot.queues)
    return Text.assemble(
        (" Graceful drain", "bold"),
        " · finishes what runs, deletes nothing · ",
        f"{duration(snapshot.drain_deadline_in)} left · {in_flight} in flight in the cluster",
    )


def _align_both_ends(left: Text, right: Text, width: int) -> Text:
    room = max(0, width - right.cell_len)
    left.truncate(max(0, room - 1), overflow="ellipsis")
    left.pad_right(max(0, room - left.cell_len))
    return Text(no_wrap=True, overflow="crop").append_text(left).append_text(right)
