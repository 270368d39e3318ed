"""The state of a queue in words: what is wrong or unusual with it, and whether that will pass by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tui.text.format import count, escape, long_duration, minute_time
from tui.text.styles import ACCENT, BREACH, MUTED, PAUSED, WATCH
from workers.monitoring import alert_rules as rules
from workers.monitoring.descriptions import (
    describe_broken_keys,
    full_and_stalled,
    held_by_blocked,
    held_by_dead,
    unable_to_run,
)
from workers.monitoring.snapshot import Alert, QueueSnapshot, WorkerSnapshot

Tone = Literal["fine", "watch", "breach", "paused", "unserved", "silenced"]
SIGNS: dict[Tone, str] = {
    "fine": "●", "watch": "◐", "breach": "▲", "paused": "‖", "unserved": "◌", "silenced": "▲",
}  # fmt: skip
"""A silenced alert has the sign of one that fires, muted, as in the list of alerts; words tell it apart."""
STYLES: dict[Tone, str] = {
    "fine": MUTED, "watch": WATCH, "breach": BREACH, "paused": PAUSED, "unserved": BREACH, "silenced": MUTED,
}  # fmt: skip
WORST_FIRST: tuple[Tone, ...] = ("breach", "unserved", "watch", "paused", "silenced", "fine")
CHART_STYLES: dict[Tone, str] = {**STYLES, "fine": ACCENT, "silenced": ACCENT}
"""A chart takes the colour of its queue's state; one that is fine takes the accent."""
_MIN_CLEARS_SECONDS = 5.0
"""A queue that will be empty sooner is not worth a word."""
_MAX_CLEARS_SECONDS = 86_400.0
_MIN_GROWTH_A_MINUTE = 1.0
_STEADY_SHARE = 0.02
"""A depth that changes by less than this share of itself a minute neither grows nor clears."""
_NEWEST_STEPS = 2
"""So many steps of ``recent_depths`` ago begin the newest seconds."""
_STOPPED_SECONDS = 20.0
"""After which without an end of a job nothing is foreseen."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``short`` is ``text`` for a narrow column; both are empty if all is well."""

    tone: Tone
    text: str = ""
    short: str = ""
    needs_text: bool = False
    """Whether ``short`` leaves out what an operator needs."""

    @property
    def sign(self) -> str:
        """The sign of its tone."""
        return SIGNS[self.tone]

    @property
    def style(self) -> str:
        """The style of its words."""
        return STYLES[self.tone]


def queue_verdict(
    queue: QueueSnapshot, alerts: Sequence[Alert], now: float, workers: Sequence[WorkerSnapshot] = ()
) -> Verdict:
    """Return the worst about a queue; ``alerts`` and ``workers`` are those of the whole snapshot."""
    if queue.redis_error is not None:
        words = f"its Redis does not answer: {escape(queue.redis_error)}"
        return Verdict("breach", words, "no Redis", needs_text=True)
    own = [alert for alert in alerts if alert.queue == queue.name and alert.severity != "information"]
    serving = [worker for worker in workers if queue.name in worker.queues]
    return next(_verdicts(queue, own, now, describe_drains(serving)))


def describe_drains(workers: Sequence[WorkerSnapshot]) -> str:
    """Return that nothing new starts, if all of these processes that live drain; else nothing."""
    living = [worker for worker in workers if worker.alive]
    if not living or any(worker.state != "draining" for worker in living):
        return ""
    who = "the only process drains" if len(living) == 1 else f"all {len(living)} processes drain"
    return f"{who}: nothing new starts"


def _verdicts(queue: QueueSnapshot, alerts: Sequence[Alert], now: float, drains: str) -> Iterator[Verdict]:
    """Yield them from the worst on; the last one is always there."""
    yield from _without_progress(queue, alerts)
    if queue.paused is not None:
        yield _paused_verdict(queue, now)
    outlook = prognosis(queue)
    trend = _trend(queue) if queue.depth else ""  # its rate limit has a column of its own
    draining = [Verdict("watch", drains, "draining")] if drains else []
    for alert in alerts:
        if alert.state == "pending":  # worse than any that may still pass
            yield from draining
        if not alert.is_silenced:
            tone: Tone = "watch" if alert.state == "pending" else "breach"
            words, short = escape(alert.message), alert.name
            if alert.name == rules.BACKLOG:
                words, short = outlook or words, trend or outlook
            elif alert.name == rules.SLOW and outlook:  # jobs that wait explain why, and whether it will pass
                words, short = f"{words}; {outlook}", f"slow, {trend or outlook}"
            yield Verdict(tone, words, short)
    yield from draining
    if silenced := _silenced_words(alerts, now):
        yield Verdict("silenced", ", ".join(filter(None, (silenced, outlook))), silenced)
    over = queue.depth > queue.depth_limit or fails_often(queue)
    yield Verdict("watch" if over else "fine", outlook, trend or outlook)


def _silenced_words(alerts: Sequence[Alert], now: float) -> str:
    """Return ``failing, silenced until 21:00``; empty if nothing is silenced."""
    silenced = [alert for alert in alerts if alert.state == "silenced"]
    names = ", ".join(dict.fromkeys(alert.name for alert in silenced))
    ends = [alert.silenced_until for alert in silenced if alert.silenced_until is not None]
    until = f" until {minute_time(min(ends), now)}" if ends else ""
    return f"{names}, silenced{until}" if silenced else ""


def fails_often(queue: QueueSnapshot) -> bool:
    """Return whether too many fail: a share of few attempts is not."""
    few = queue.recent_attempts < rules.BY_NAME[rules.FAILING].minimum
    return not few and (queue.failure_rate or 0) > queue.failure_limit


def _without_progress(queue: QueueSnapshot, alerts: Sequence[Alert]) -> Iterator[Verdict]:
    """Return why its jobs make no progress: known before an alert fires."""
    held, dead = held_by_dead(queue), _tone(alerts, rules.HELD_BY_DEAD)
    unserved = "" if queue.workers else "; ".join(filter(None, ("no worker serves it", held)))
    causes: list[tuple[Tone, str, str]] = [
        (_tone(alerts, rules.BROKEN_KEYS), escape(describe_broken_keys(queue)), "a key of another type"),
        ("unserved", unserved, "no worker"),
        (dead, held, f"{queue.held_by_dead} held by the dead"),
        ("breach", escape(held_by_blocked(queue)), f"{queue.held_by_blocked} held by a blocked worker"),
        ("breach", escape(unable_to_run(queue)), "its handler cannot run"),
        ("breach", full_and_stalled(queue), f"stalled, {long_duration(queue.full_for)}"),
    ]
    for tone, words, short in causes:
        if words:
            yield Verdict(tone, words, short, needs_text=True)


def _tone(alerts: Sequence[Alert], name: str) -> Tone:
    """Return ``watch`` while its alert is only pending or silenced."""
    states = {alert.state for alert in alerts if alert.name == name}
    return "watch" if states and states <= {"pending", "silenced"} else "breach"


def _paused_verdict(queue: QueueSnapshot, now: float) -> Verdict:
    pause = queue.paused
    if pause is None:
        raise ValueError(f"{queue.name} is not paused")
    ago = f" {long_duration(max(0.0, now - pause.since))} ago" if pause.since is not None else ""
    reason = f": {escape(pause.reason)}" if pause.reason else ""
    by = escape(pause.by)
    return Verdict("paused", f"paused{ago} by {by}{reason}", f"paused by {by}", needs_text=True)


def prognosis(queue: QueueSnapshot) -> str:
    """Return ``clears in 4 min`` or ``growing by 12 a minute`` for waiting jobs; empty if unknown."""
    if queue.depth == 0:
        return ""
    limited = "waits for its rate limit" if _waits_for_rate(queue) else ""
    return ", ".join(filter(None, (limited, _trend(queue))))


def _waits_for_rate(queue: QueueSnapshot) -> bool:
    """Return whether its rate limit holds its jobs back.

    A slot that has just become free is taken a moment later: in between, the jobs wait for the limit, too.
    """
    limit = queue.rate_limit
    if queue.next_start_in is not None or limit is None or queue.in_flight >= queue.concurrency:
        return queue.next_start_in is not None
    return limit.starts > 1 and queue.rate_used >= limit.starts - 1


def _trend(queue: QueueSnapshot) -> str:
    """Return where the last minute leads, as far as the newest seconds do; empty if they lead elsewhere."""
    if not queue.recent_depths:
        return ""
    a_minute = queue.depth - queue.recent_depths[0]
    newest = queue.depth - queue.recent_depths[-_NEWEST_STEPS]
    steps = len(queue.recent_depths) / min(_NEWEST_STEPS, len(queue.recent_depths))
    if abs(newest) * steps < abs(a_minute) / 2:  # after a burst only what goes on counts
        a_minute = round(newest * steps) if newest * a_minute > 0 else 0
    if abs(a_minute) < max(_MIN_GROWTH_A_MINUTE, _STEADY_SHARE * queue.depth) or a_minute * newest <= 0:
        return ""
    if a_minute > 0:
        return f"growing by {count(a_minute)} a minute" if queue.depth > queue.concurrency else ""
    clears_in = queue.depth / -a_minute * 60
    if _has_stopped(queue) or not _MIN_CLEARS_SECONDS <= clears_in <= _MAX_CLEARS_SECONDS:
        return ""
    if clears_in <= (queue.next_start_in or 0.0):  # many started at once, and none does before that
        return ""
    return f"clears in {long_duration(clears_in)}"


def _has_stopped(queue: QueueSnapshot) -> bool:
    """Return whether nothing ends: jobs that were taken and hang make a queue no shorter for long."""
    return max(queue.ended_age or 0.0, queue.full_for or 0.0) > _STOPPED_SECONDS
