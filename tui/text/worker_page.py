"""One worker process: what it holds, its settings and its log; and the panel of a drain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.text import Text

from tui.text.format import MISSING, clip, clock_time, duration, escape, gauge
from tui.text.styles import BREACH, MUTED, WATCH
from tui.text.words import KeyNames
from tui.text.workers import cpu, in_flight, memory, readiness, state_word
from workers.engine.attempt_log import LogLine
from workers.monitoring.snapshot import WorkerSnapshot
from workers.operations.worker_list import DrainForecast, Worker
from workers.words import plural

_QUEUE_CHARS = 20
_BAR_CHARS = 20
_WORDS_MIN_WIDTH = 110
"""Columns from which a drain has a sentence beside its bar."""
_MAX_LINE_CHARS = 500
_LEVELS = {"warning": WATCH, "error": BREACH, "critical": BREACH}
_HEAD = ("in flight", "longest", "usually")


def facts(worker: Worker, undo: str) -> Text:
    """Return what is known of the process, in a few lines; ``undo`` is the key that undoes its drain."""
    lines = (
        "takes jobs" if worker.ready else f"{state_word(worker)} · {readiness(worker)}",
        f"id {escape(worker.id)} · host {escape(worker.host)} · pid {worker.pid}",
        f"release {escape(worker.release or MISSING)} · version {escape(worker.version)} · "
        f"up {duration(worker.up_for)} · last sign of life {duration(worker.beat_age)} ago",
        f"{in_flight(worker)} in flight · cpu {cpu(worker)} of a core · memory {memory(worker)} · "
        f"loop p99 {duration(worker.loop_p99)}",
        f"serves {escape(', '.join(worker.queues)) or MISSING}",
    )
    text = Text("\n").join([Text(f"  {line}") for line in lines])
    if worker.drained_by:
        text.append(f"\n  drained by {escape(worker.drained_by)}", WATCH)
        text.append(f", {undo} undoes it" if worker.drain_undoable else ", which cannot be undone", MUTED)
    return text


def jobs(worker: Worker, forecasts: Sequence[DrainForecast]) -> Text:
    """Return the jobs that it holds, by queue."""
    if not worker.held:
        return Text("  it holds no jobs", MUTED)
    if worker.state == "dead":
        jobs_held = ", ".join(f"{held.count} of {escape(held.queue)}" for held in worker.held)
        return Text(f"  {jobs_held}: {readiness(worker)}, the attempt charged", BREACH)
    return forecast_table(forecasts, draining=worker.state == "draining")


def forecast_table(forecasts: Sequence[DrainForecast], *, draining: bool) -> Text:
    """Return a line for each queue; while the process drains also what is likely to be requeued."""
    titles = "".join(f"  {title:>9}" for title in _HEAD) + ("   at the deadline" if draining else "")
    text = Text.assemble((f"   {'queue'.ljust(_QUEUE_CHARS)}{titles}", MUTED), no_wrap=True)
    for forecast in forecasts:
        text.append("\n   " + clip(escape(forecast.queue), _QUEUE_CHARS).ljust(_QUEUE_CHARS))
        text.append(f"  {forecast.in_flight:>9}  {duration(forecast.longest, 9):>9}")
        text.append(f"  {duration(forecast.usual, 9):>9}   ")
        if draining and forecast.requeued:
            text.append(f"likely requeued: {forecast.requeued}", WATCH)
        elif draining:
            text.append(MISSING if forecast.requeued is None else "all done", MUTED)
    return text


def drain_panel(
    worker: Worker, forecasts: Sequence[DrainForecast], key: KeyNames, *, more: int, width: int
) -> Text:
    """Return the drain of a process: its countdown, and what becomes of its jobs.

    ``more``: others that drain.
    """
    left, total = worker.drain_deadline_in, worker.drain_seconds
    text = Text.assemble((" Graceful drain of ", "bold"), no_wrap=True, overflow="ellipsis")
    text.append(escape(worker.name))
    text.append(" · finishes what runs, deletes nothing" if width >= _WORDS_MIN_WIDTH else "", MUTED)
    text.append(f"   {duration(left)} left ", WATCH)
    if left is not None and total:
        bar = gauge(round(left * 100), round(total * 100), _BAR_CHARS)
        text.append(f"▕{bar}▏", WATCH)
    text.append("\n")
    if forecasts:
        text.append_text(forecast_table(forecasts, draining=True))
    else:
        text.append("   nothing is in flight: it ends now", MUTED)
    by = f" Begun by {escape(worker.drained_by)}." if worker.drained_by else ""
    undo = f"{key('events.undo-drain')} undo" if worker.drain_undoable else "it cannot be undone"
    text.append(
        f"\n No new job starts there.{by} {undo} · {key('events.put-back-worker')} requeue now", MUTED
    )
    if more:
        workers = key("app.view-workers")
        drain = f"drains, too: {workers} shows it" if more == 1 else f"drain, too: {workers} shows them"
        text.append(f"\n {plural(more, 'other process')} {drain}", WATCH)
    return text


def settings(worker: WorkerSnapshot, others: Sequence[WorkerSnapshot]) -> Text:
    """Return the settings in which it differs from most others, by queue."""
    lines = []
    for queue, own in worker.settings.items():
        for name, value in own.items():
            usual = _most_common(queue, name, others)
            if usual is not None and usual != str(value):
                words = f"{name} {value}, usually {usual}"
                lines.append(f"  {escape(queue)}: {escape(words)}")
    if not worker.settings:
        return Text("  not known: it is of another version, or dead", MUTED)
    if not others:
        return Text("  no other process to compare with", MUTED)
    return Text("\n".join(lines), WATCH) if lines else Text("  the same as those of the others", MUTED)


def _most_common(queue: str, name: str, workers: Sequence[WorkerSnapshot]) -> str | None:
    values = Counter(
        str(_setting(worker.settings, queue, name)) for worker in workers if queue in worker.settings
    )
    return values.most_common(1)[0][0] if values else None


def _setting(settings: Mapping[str, Mapping[str, object]], queue: str, name: str) -> object:
    return settings[queue].get(name, "the default")


def log_lines(lines: Sequence[LogLine] | None, problem: str) -> Text:
    """Return its newest log lines, newest first; None: they were not read (``problem``: why not)."""
    if lines is None:
        return Text(f"  {problem or 'asked for …'}", MUTED)
    if not lines:
        return Text("  nothing was logged", MUTED)
    text = Text(no_wrap=False)
    for number, line in enumerate(reversed(lines)):
        text.append("\n" if number else "")
        text.append(f"  {clock_time(line.at)}  ", MUTED)
        text.append(f"{escape(line.level):<8}", _LEVELS.get(line.level, MUTED))
        context = " ".join(escape(part) for part in (line.queue, line.job) if part)
        text.append(f"{context}  " if context else "", "bold")
        text.append(clip(escape(line.text), _MAX_LINE_CHARS))
    return text
