"""Snapshots and dead letters as plain text, for the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tui.format import MISSING, duration, instant, number, percent, rate, safe
from workers.operations import DeadLetter
from workers.snapshot import QueueSnapshot, Snapshot


def status_text(snapshot: Snapshot) -> str:
    """The overview in lines: alerts first, then a row a queue, then the servers."""
    lines = [f"! {f'{alert.queue}: ' if alert.queue else ''}{alert.message}" for alert in snapshot.alerts]
    head = ("queue", "depth", "oldest", "in flight", "wait p95", "run p95", "fail 5m", "done/s", "")
    rows = [head, *(_row(queue) for queue in snapshot.queues)]
    lines += table(rows, right=range(1, 8))
    redis, database = snapshot.redis, snapshot.database
    lines += [
        "",
        f"workers {len(snapshot.workers)} · redis {redis.error or 'ok'} · "
        f"database {database.error or 'ok'} · "
        f"dead letters {MISSING if snapshot.dead_letters is None else snapshot.dead_letters}"
        + (f" · {snapshot.letters_waiting} wait for the database" if snapshot.letters_waiting else ""),
    ]
    return "\n".join(lines)


def _row(queue: QueueSnapshot) -> tuple[str, ...]:
    paused = queue.paused
    return (
        queue.name,
        str(queue.depth),
        duration(queue.oldest_age),
        f"{queue.in_flight}/{queue.concurrency}",
        duration(queue.wait.p95),
        duration(queue.run.p95),
        percent(queue.failure_rate),
        rate(queue.throughput),
        safe(f"paused by {paused.by}{f': {paused.reason}' if paused.reason else ''}") if paused else "",
    )


def letters_text(letters: Sequence[DeadLetter]) -> str:
    """A row a letter."""
    if not letters:
        return "no dead letters"
    rows = [("id", "failed at", "queue", "job", "att", "error")]
    rows += [
        (
            str(each.id),
            instant(each.failed_at, "%Y-%m-%d %H:%M:%S"),
            each.queue_name,
            safe(each.job_id[:36]),
            str(each.attempts),
            safe(f"{each.error_type}: {each.error_message}"[:100]),
        )
        for each in letters
    ]
    return "\n".join(table(rows, right=(0, 4)))


def letter_text(letter: DeadLetter) -> str:
    """All of one letter."""
    lines = [
        f"{letter.id}  {letter.queue_name}  {safe(letter.function)}  job {safe(letter.job_id)}",
        f"state {letter.state} · {letter.attempts} attempts · "
        f"failed at {instant(letter.failed_at, '%Y-%m-%d %H:%M:%S UTC')}",
        f"{letter.error_type}: {letter.error_message}",
        "",
        "payload",
        json.dumps(letter.job_data.get("kwargs", letter.job_data), indent=2, ensure_ascii=False),
    ]
    for attempt in letter.attempt_errors:
        at, took = instant(attempt.get("at")), duration(number(attempt.get("run_seconds")))
        which, worker = (attempt.get(name, MISSING) for name in ("attempt", "worker"))
        lines += ["", f"attempt {which} at {at} on {worker}, ran {took}"]
        lines.append(str(attempt.get("traceback") or attempt.get("message") or MISSING).rstrip())
    return "\n".join(lines)


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
