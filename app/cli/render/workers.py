"""Worker processes as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.render.tables import table_text
from tui.text.format import MISSING, duration, escape
from tui.text.workers import cpu, drain_result, in_flight, memory, readiness, state_word

if TYPE_CHECKING:
    from workers.operations.worker_list import Worker
    from workers.operations.workers import DrainResult

_NUMBERS = ("queues", "in flight", "cpu", "memory", "loop p99", "beat", "up")
_SHORT_ID_CHARS = 8


def workers_text(workers: Sequence[Worker], *, width: int | None = None) -> str:
    """A row a process."""
    if not workers:
        return "no workers"
    rows = [
        (
            worker.id[:_SHORT_ID_CHARS],
            worker.name,
            state_word(worker),
            str(len(worker.queues)) if worker.queues else MISSING,
            in_flight(worker),
            cpu(worker),
            memory(worker),
            duration(worker.loop_p99),
            duration(worker.beat_age),
            duration(worker.up_for),
            worker.release or MISSING,
            readiness(worker),
        )
        for worker in workers
    ]
    head = ("id", "worker", "state", *_NUMBERS, "release", "ready")
    return table_text(head, rows, right=_NUMBERS, shrink=("release", "ready"), width=width)


def results_text(results: Sequence[DrainResult]) -> str:
    """A line a process."""
    return "\n".join(map(drain_result, results)) if results else "no worker runs"


def question_text(workers: Sequence[Worker]) -> str:
    """What a drain will do, to how many."""
    return "\n".join(
        f"drain {escape(worker.name)}: {in_flight(worker)} in flight; they finish, what does not end in time "
        "goes back to the head of its queue, nothing is deleted, and the process ends"
        for worker in workers
    )
