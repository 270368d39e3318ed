"""Turns snapshots into the lines that every screen has: header, verdict, banner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from tui.text.format import byte_size, clip, clock_time, duration, escape, local_time, long_duration, percent
from tui.text.queues import thin_gauge
from tui.text.styles import ACCENT, BREACH, MUTED, OK, WATCH
from tui.text.verdict import describe_drains, prognosis
from tui.text.words import KeyNames
from workers.monitoring import alert_rules as rules
from workers.monitoring.snapshot import Alert, DatabaseSnapshot, Snapshot
from workers.words import plural

_SLOW_LOOP_SECONDS = 0.1
_GAUGE_MIN_WIDTH = 120
"""Columns from which the header has the memory's gauge."""
_WORDS_MIN_WIDTH = 100
"""Columns from which it has the release, and the other workers in words."""
_WHOLE_DRAIN_MIN_WIDTH = 140
_ALERT_MIN_WIDTH = 30
"""Columns that an alert beside a drain needs to be of use."""
_NAME = Text.assemble((" CoutureCast", "bold"), "  ")
_MAX_ENVIRONMENT_CHARS = 20
_MAX_RELEASE_CHARS = 16
_WHERE = {
    rules.FAILING: "letters",
    rules.LETTERS_WAITING: "letters",
    rules.PLAN_HALTED: "letters",
    rules.PLAN_INTERRUPTED: "letters",
    rules.STALLED: "jobs",
    rules.HELD_BY_DEAD: "workers",
    rules.BLOCKED: "workers",
    rules.NO_WORKER: "workers",
}
"""The views that show what an alert is about; for others the overview does."""
_PASSES = {
    rules.REDIS: "reconnects by itself",
    rules.DATABASE: "reconnects by itself",
    rules.BROKEN_KEYS: "repairs itself",
    rules.LETTERS_WAITING: "written once the database is back",
}


def header(snapshot: Snapshot | None, width: int, error: str | None, *, read_only: bool = False) -> Text:
    """Return environment, release, workers and servers; ``error`` is why the snapshot is old."""
    if snapshot is None:
        return _NAME + Text(error or "reading the queues …", BREACH if error else MUTED)
    whole, right = _cluster(snapshot, width, read_only=read_only), _servers(snapshot, width)
    if whole.cell_len + right.cell_len >= width:  # the number of workers has room in any case
        right = _servers(snapshot, width, with_limit=False)
        shorter = (
            whole,
            *(
                _cluster(snapshot, width, chars, read_only=read_only)
                for chars in (_MAX_ENVIRONMENT_CHARS, 8, 3)
            ),
        )
        whole = next((left for left in shorter if left.cell_len + right.cell_len < width), shorter[-1])
    if whole.cell_len + right.cell_len >= width:
        right = Text(f" {local_time(snapshot.taken_at)} ", "bold")  # the line below has what is wrong
    if error is not None:
        whole.append(f"  ▲ {error}", BREACH)
    return _align_both_ends(whole, right, width)


def _cluster(
    snapshot: Snapshot, width: int, environment_chars: int | None = None, *, read_only: bool = False
) -> Text:
    """Return environment, release and workers; with ``environment_chars`` without the name of the program."""
    wide = width >= _WORDS_MIN_WIDTH
    left = Text(" ") if environment_chars else _NAME.copy()
    left.append(clip(escape(snapshot.environment), environment_chars or _MAX_ENVIRONMENT_CHARS), ACCENT)
    left.append(" read-only" if read_only else "", WATCH)
    left.append(f" · {releases(snapshot)}" if wide and releases(snapshot) else "", MUTED)
    live_count = living_workers(snapshot)
    wrong = len(snapshot.workers) - live_count
    others = other_workers(snapshot) if wide else f" ▲{wrong}" if wrong else ""
    left.append(" · ", MUTED)
    return left.append(f"{plural(live_count, 'worker')}{others}", BREACH if wrong else MUTED)


def releases(snapshot: Snapshot) -> str:
    """Return ``release 7f3c2a1``, and how many others run while a deploy goes on."""
    counts = Counter(worker.release for worker in snapshot.workers if worker.alive and worker.release)
    if not counts:
        return ""
    newest = min(
        (worker for worker in snapshot.workers if worker.alive and worker.release),
        key=lambda worker: worker.up_for if worker.up_for is not None else 0.0,
    ).release
    others = f" and {plural(len(counts) - 1, 'other')}" if len(counts) > 1 else ""
    return f"release {clip(escape(newest or ''), _MAX_RELEASE_CHARS)}{others}"


def _servers(snapshot: Snapshot, width: int, *, with_limit: bool = True) -> Text:
    right = Text()
    right.append_text(_redis(snapshot, with_gauge=width >= _GAUGE_MIN_WIDTH, with_limit=with_limit))
    right.append("  db ", MUTED)
    right.append(*_database_word(snapshot.database))
    lag = snapshot.loop_lag
    if lag is not None and (lag > _SLOW_LOOP_SECONDS or width >= _WORDS_MIN_WIDTH):
        slow = lag > _SLOW_LOOP_SECONDS
        right.append("  loop ", MUTED).append(duration(lag), WATCH if slow else "")  # no threshold: no sign
    return right.append(f"  {local_time(snapshot.taken_at)} ", "bold")


def living_workers(snapshot: Snapshot) -> int:
    """Count worker processes that are neither blocked nor dead."""
    return sum(worker.alive for worker in snapshot.workers)


def other_workers(snapshot: Snapshot) -> str:
    """Return how many are blocked or dead, to be put behind that number: `` · 1 blocked · 1 dead``."""
    states = Counter(worker.state for worker in snapshot.workers)
    return "".join(f" · {states[state]} {state}" for state in ("blocked", "dead") if states[state])


def _redis(snapshot: Snapshot, *, with_gauge: bool, with_limit: bool) -> Text:
    redis = snapshot.fullest_redis
    text = Text.assemble(("redis ", MUTED))
    down = sum(redis.error is not None for redis in snapshot.redises)
    if down:
        of_all = f" {down} of {len(snapshot.redises)}" if snapshot.other_redises else ""
        return text.append(f"▲{of_all} down", BREACH)
    if any(redis.refuses_writes is not None for redis in snapshot.redises):
        return text.append("▲ no writes", BREACH)
    text.append(byte_size(redis.memory_used))
    if redis.memory_limit and redis.memory_used is not None:
        share = redis.memory_used / redis.memory_limit
        full = share > redis.nearly_full
        text.append(f" of {byte_size(redis.memory_limit)}" if with_limit else "", MUTED)
        if with_gauge:
            bar = thin_gauge(redis.memory_used, redis.memory_limit, 8, BREACH if full else OK)
            text.append(" ").append_text(bar)
            text.append(f" {'▲ ' if full else ''}{percent(share, 0)}", BREACH if full else MUTED)
        elif full:
            text.append(f" ▲ {percent(share, 0)}", BREACH)
    return text


def verdict_line(
    snapshot: Snapshot | None,
    width: int,
    error: str | None,
    *,
    key: KeyNames,
    well_for: float | None,
    age: float | None = None,
) -> Text:
    """Return one line: all is well, or the worst alert, for how long, and whether it will pass.

    With an ``error`` the snapshot is ``age`` seconds old, so nothing is called well.  ``well_for``: seconds,
    None if unknown.
    """
    if error is not None:
        old = f"{long_duration(age)} old" if age is not None else "old"
        words = error if snapshot is None else f"these figures are {old}: {error}"
        others = other_alerts([] if snapshot is None else _watched_alerts(snapshot))
        return _align_both_ends(
            Text(f" ▲ {words}", BREACH), others.append_text(_asides(snapshot, key, width)), width
        )
    if snapshot is None:
        return Text()
    left, others = verdict(snapshot, key)
    right = others.append_text(_asides(snapshot, key, width))
    if left.cell_len + right.cell_len > width:
        left, _ = verdict(snapshot, key, is_narrow=True)
    is_well = not _watched_alerts(snapshot) and not describe_drains(snapshot.workers)
    if well_for is not None and well_for >= 1 and is_well:
        left.append(f", for {long_duration(well_for)}", MUTED)
    return _align_both_ends(left, right, width)


def verdict(snapshot: Snapshot, key: KeyNames | None = None, *, is_narrow: bool = False) -> tuple[Text, Text]:
    """Return that all is well, or the worst alert; and how many others there are.  ``key``: of a screen.

    A drain stands before an alert, which it may explain and keep from passing by itself.
    """
    watched, drains = _watched_alerts(snapshot), describe_drains(snapshot.workers)
    if drains and not any(alert.fires for alert in watched):
        return Text.assemble((f" ◐ {drains}", WATCH)), other_alerts(watched)
    if watched:
        left = Text.assemble((f" ◐ {'draining' if is_narrow else drains} ", WATCH) if drains else "")
        worst = _worst(watched[0], snapshot, key, is_narrow=is_narrow)
        return left.append_text(worst), other_alerts(watched[1:])
    silenced = sum(alert.is_silenced for alert in snapshot.alerts)
    words = f" {silenced} silenced" if silenced else ""
    return Text.assemble((" ✔ all well", OK)), Text.assemble((words, MUTED))


def _watched_alerts(snapshot: Snapshot) -> list[Alert]:
    """Return the alerts that fire; without any those that are pending: not all is well then."""
    urgent = [alert for alert in snapshot.alerts if alert.severity != "information"]
    pending = [alert for alert in urgent if alert.state == "pending" and not alert.is_silenced]
    return [alert for alert in snapshot.alerts if alert.fires] or pending


def other_alerts(others: Sequence[Alert]) -> Text:
    """Return how many others there are; all of them are pending, or none is."""
    style = WATCH if any(alert.state == "pending" for alert in others) else BREACH
    return Text.assemble((f" {len(others)} more" if others else "", style))


def _worst(alert: Alert, snapshot: Snapshot, key: KeyNames | None, *, is_narrow: bool = False) -> Text:
    """Return an alert, for how long it lasts, and whether it will pass.

    If there is no room for all, the duration comes first: the message is in the row of the queue, too.
    """
    pending = alert.state == "pending"
    style = WATCH if pending else BREACH
    text = Text.assemble((" ◐ pending: " if pending else " ▲ ", style))
    if alert.queue:
        text.append(f"{escape(alert.queue)}  ", "bold")
    lasts = 0.0 if alert.since is None else snapshot.taken_at - alert.since
    has_duration = lasts >= 1 and not rules.states_duration(alert.name, alert.value)
    if has_duration and is_narrow:
        text.append(f"for {long_duration(lasts)}  ", MUTED)
    text.append(escape(alert.message), style)
    if has_duration and not is_narrow:
        text.append(f", for {long_duration(lasts)}", MUTED)
    if passes := will_pass(alert, snapshot):
        text.append(f" · {passes}", MUTED)
    if alert.acknowledged_by:
        text.append(f" · acknowledged by {escape(alert.acknowledged_by)}", MUTED)
    if key is not None and alert.name in _WHERE:
        text.append("  ").append(key(f"app.view-{_WHERE[alert.name]}"), ACCENT).append(" shows it", MUTED)
    return text


def will_pass(alert: Alert, snapshot: Snapshot) -> str:
    """Return whether an alert will end by itself, as far as that can be foreseen."""
    if alert.name == rules.BACKLOG:
        return next(
            (prognosis(queue) for queue in snapshot.queues if queue.name == alert.queue),
            "",
        )
    return _PASSES.get(alert.name, "")


def _asides(snapshot: Snapshot | None, key: KeyNames, width: int) -> Text:
    """Return that the weather is made up, and the key that lists the alerts.

    An alert on a narrow screen needs the room, and the row of the queue names the weather, too.
    """
    offline = snapshot is not None and snapshot.weather_provider == "offline"
    if snapshot is not None and _watched_alerts(snapshot) and width < _WORDS_MIN_WIDTH:
        offline = False
    text = Text.assemble(("  weather: offline" if offline else "", MUTED))
    return text.append(f"  {key('app.alerts')}", ACCENT).append(" alerts ", MUTED)


def banner(
    snapshot: Snapshot | None,
    width: int,
    figures_age: float | None = None,
    *,
    frozen_for: float | None = None,
    key: KeyNames = str,
) -> Text | None:
    """Return in place of the verdict that this process drains, or which server is unavailable.

    ``figures_age``: seconds since Redis was last read, None if it was not.  ``frozen_for``: seconds before
    ``snapshot`` at which what is shown was frozen, None if it is not.
    """
    if snapshot is None:
        return None
    if snapshot.drain_deadline_in is not None:
        return _drain_banner(snapshot, width, key)
    if frozen_for is not None:
        return _frozen_banner(snapshot, frozen_for, key)
    down = _unavailable(snapshot)
    if not down:
        return None
    how_old = (
        f"figures are {long_duration(figures_age)} old · "
        if figures_age is not None and figures_age >= 1
        else ""
    )
    return _align_both_ends(Text(f" ▲ {' · '.join(down)}"), Text(f" {how_old}reconnecting "), width)


def _frozen_banner(snapshot: Snapshot, frozen_for: float, key: KeyNames) -> Text:
    """Return since when what is shown is frozen, and the worst alert of now."""
    at = clock_time(snapshot.taken_at - frozen_for)
    ago = f", {long_duration(frozen_for)} ago" if frozen_for >= 1 else ""
    text = Text(f" ‖ frozen at {at}{ago}: {key('app.freeze')} goes on", no_wrap=True, overflow="ellipsis")
    if _watched_alerts(snapshot):
        text.append("  ").append_text(verdict(snapshot)[0])
    return text


def _unavailable(snapshot: Snapshot) -> list[str]:
    """Return which servers do not answer, each with the reason if it is not only silent."""
    since = {(alert.name, alert.subject): alert.since for alert in snapshot.alerts}
    servers = [
        (redis.name, redis.error, since.get((rules.REDIS, redis.subject))) for redis in snapshot.redises
    ]
    servers.append(("the database", snapshot.database.error, since.get((rules.DATABASE, ""))))
    return [
        _silence(name, problem, at, snapshot.taken_at) for name, problem, at in servers if problem is not None
    ]


def _silence(name: str, problem: str, since: float | None, now: float) -> str:
    reason = "" if problem.startswith("no answer") else f": {escape(problem)}"
    if since is None:
        return f"{name} does not answer{reason}"
    return f"{name} has not answered since {clock_time(since, now)}{reason}"


def _database_word(database: DatabaseSnapshot) -> tuple[str, str]:
    if database.problem is None:
        return "ok", OK
    return ("▲ down" if database.error is not None else "▲ read-only"), BREACH


def _drain_banner(snapshot: Snapshot, width: int, key: KeyNames) -> Text:
    in_flight = sum(queue.in_flight for queue in snapshot.queues)
    alerts = _watched_alerts(snapshot)
    left = Text.assemble(
        (" Graceful drain", "bold"),
        " · finishes what runs, deletes nothing" if width >= _GAUGE_MIN_WIDTH and not alerts else "",
        f" · {duration(snapshot.drain_deadline_in)} left · {in_flight} in flight",
        " in the cluster" if width >= _WHOLE_DRAIN_MIN_WIDTH else "",
    )
    undoable = any(worker.drain is not None and worker.drain.undoable for worker in snapshot.workers)
    undo = f" {key('events.undo-drain')} undoes it in {key('app.view-events')} ·" if undoable else ""
    right = Text(f"{undo} {key('app.put-back')} requeues now ")
    if alerts and width - left.cell_len - right.cell_len >= _ALERT_MIN_WIDTH:  # else the tabs count them
        left.append(" ").append_text(_worst(alerts[0], snapshot, None)).append_text(other_alerts(alerts[1:]))
    return _align_both_ends(left, right, width)


def _align_both_ends(left: Text, right: Text, width: int) -> Text:
    max_width = max(0, width - right.cell_len)
    left.truncate(max(0, max_width - 1), overflow="ellipsis")
    left.pad_right(max(0, max_width - left.cell_len))
    return Text(no_wrap=True, overflow="crop").append_text(left).append_text(right)
