"""Snapshots as plain text, for the command line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.cli.render.alerts import alert_line
from app.cli.render.tables import table_text
from tui.text.format import MISSING, duration, percent, rate
from tui.text.snapshot import living_workers, other_workers
from workers.monitoring.descriptions import descriptions
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.operations.alerts import current_alerts

_NUMBERS = ("depth", "oldest", "in flight", "wait p95", "run p95", "fail 5m", "done/s")


def status_document(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot for ``--json``, without what only screens need of Redis."""
    document = asdict(snapshot)
    for name in ("refusal", "timed_out", "refuses_writes", "nearly_full"):
        del document["redis"][name]
    return document


def status_text(snapshot: Snapshot, *, width: int | None = None) -> str:
    """The overview in lines: alerts first, then a row a queue, then the servers."""
    lines = [alert_line(alert) for alert in current_alerts(snapshot)]
    rows = [_row(queue) for queue in snapshot.queues]
    lines.append(table_text(("queue", *_NUMBERS, ""), rows, right=_NUMBERS, shrink=("",), width=width))
    redis, database = snapshot.redis, snapshot.database
    lines += [
        "",
        f"workers {living_workers(snapshot)}{other_workers(snapshot)} · "
        f"redis {redis.error or redis.refuses_writes or 'ok'} · database {database.error or 'ok'} · "
        f"dead letters {MISSING if snapshot.dead_letters is None else snapshot.dead_letters}"
        + (f" · {snapshot.letters_waiting} wait for the database" if snapshot.letters_waiting else ""),
    ]
    return "\n".join(lines)


def _row(queue: QueueSnapshot) -> tuple[str, ...]:
    paused = queue.paused
    conditions = [*descriptions(queue), *([] if queue.workers else ["no worker"])]
    if paused:
        conditions.append(f"paused by {paused.by}{f': {paused.reason}' if paused.reason else ''}")
    return (
        queue.name,
        str(queue.depth),
        duration(queue.oldest_age),
        f"{queue.in_flight}/{queue.concurrency}",
        duration(queue.wait.p95),
        duration(queue.run.p95),
        percent(queue.failure_rate),
        rate(queue.throughput),
        " · ".join(conditions),
    )
