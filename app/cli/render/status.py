"""Snapshots as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tui.text.format import MISSING, duration, escape, percent, rate
from tui.text.snapshot import living_workers, other_workers
from workers.monitoring import thresholds
from workers.monitoring.snapshot import QueueSnapshot, Snapshot


def status_text(snapshot: Snapshot) -> str:
    """The overview in lines: alerts first, then a row a queue, then the servers."""
    lines = [
        f"! {f'{alert.queue}: ' if alert.queue else ''}{escape(alert.message)}" for alert in snapshot.alerts
    ]
    head = ("queue", "depth", "oldest", "in flight", "wait p95", "run p95", "fail 5m", "done/s", "")
    rows = [head, *(_row(queue) for queue in snapshot.queues)]
    lines += table(rows, right=range(1, 8))
    redis, database = snapshot.redis, snapshot.database
    lines += [
        "",
        f"workers {living_workers(snapshot)}{other_workers(snapshot)} · redis {redis.error or 'ok'} · "
        f"database {database.error or 'ok'} · "
        f"dead letters {MISSING if snapshot.dead_letters is None else snapshot.dead_letters}"
        + (f" · {snapshot.letters_waiting} wait for the database" if snapshot.letters_waiting else ""),
    ]
    return "\n".join(lines)


def _row(queue: QueueSnapshot) -> tuple[str, ...]:
    paused = queue.paused
    words = [*thresholds.conditions(queue), *([] if queue.workers else ["no worker"])]
    if paused:
        words.append(f"paused by {paused.by}{f': {paused.reason}' if paused.reason else ''}")
    return (
        queue.name,
        str(queue.depth),
        duration(queue.oldest_age),
        f"{queue.in_flight}/{queue.concurrency}",
        duration(queue.wait.p95),
        duration(queue.run.p95),
        percent(queue.failure_rate),
        rate(queue.throughput),
        escape(" · ".join(words)),
    )


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines of aligned columns, those in ``right`` to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]
