"""Worker processes as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from app.cli.render.tables import plain, table
from tui.text.format import MISSING, duration, escape, local_time
from tui.text.styles import WIDE_COLUMNS
from tui.text.words import DATE_TIME
from tui.text.workers import SIGNS, STYLES, cpu, drain_result, in_flight, memory, readiness, state_word

if TYPE_CHECKING:
    from workers.engine.attempt_log import LogLine
    from workers.operations.worker_list import Worker
    from workers.operations.workers import DrainResult

_NUMBERS = ("queues", "in flight", "cpu", "memory", "loop p99", "beat", "up")
_ONLY_WIDE = ("queues", "loop p99", "beat", "release")
_SHORT_ID_CHARS = 8


def workers_text(workers: Sequence[Worker], *, width: int | None = None) -> str:
    """Return a row for each process."""
    return plain(workers_table(workers, width=width), width=width) if workers else "no workers"


def workers_table(workers: Sequence[Worker], *, width: int | None = None, ids: bool = True) -> Table:
    """Return a row for each process, on a narrow terminal without the less urgent columns."""
    narrow = width is not None and width < WIDE_COLUMNS
    hidden = {*(_ONLY_WIDE if narrow else ()), *(() if ids else ("id",))}
    rows = [{name: cell for name, cell in _cells(worker).items() if name not in hidden} for worker in workers]
    cells = [list(row.values()) for row in rows]
    return table(list(rows[0]), cells, right=_NUMBERS, shrink=("release", "ready"))


def _cells(worker: Worker) -> dict[str, str | Text]:
    return {
        "": Text(f" {SIGNS[worker.state]}", STYLES[worker.state]),
        "id": worker.id[:_SHORT_ID_CHARS],
        "worker": worker.name,
        "state": state_word(worker),
        "queues": str(len(worker.queues)) if worker.queues else MISSING,
        "in flight": in_flight(worker),
        "cpu": cpu(worker),
        "memory": memory(worker),
        "loop p99": duration(worker.loop_p99),
        "beat": duration(worker.beat_age),
        "up": duration(worker.up_for),
        "release": worker.release or MISSING,
        "ready": readiness(worker),
    }


def log_text(lines: Sequence[LogLine]) -> str:
    """Return a line of the log a line: when, how grave, of which job, and what."""
    if not lines:
        return "nothing was logged"
    rows = [
        (
            local_time(line.at, DATE_TIME),
            line.level,
            " ".join(filter(None, (line.queue, line.job))) or MISSING,
            line.text,
        )
        for line in lines
    ]
    return "\n".join("  ".join(map(escape, row)) for row in rows)


def results_text(results: Sequence[DrainResult]) -> str:
    """Return a line for each process."""
    return "\n".join(map(drain_result, results)) if results else "no worker runs"


def question_text(workers: Sequence[Worker], *, now: bool = False) -> str:
    """Return what a drain will do, to how many."""
    fate = (
        "they go back to the head of their queues, no attempt charged"
        if now
        else "they finish, what does not end in time goes back to the head of its queue"
    )
    return "\n".join(
        f"drain {escape(worker.name)}: {in_flight(worker)} in flight; {fate}, nothing is deleted, and the "
        "process ends"
        for worker in workers
    )
