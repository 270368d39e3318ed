"""Worker processes in words: whether each takes jobs, and if not, why and until when."""

from __future__ import annotations

from tui.text.format import byte_size, duration, escape, percent
from tui.text.styles import BREACH, MUTED, OK, WATCH
from workers.monitoring.snapshot import WorkerState
from workers.operations.worker_list import Worker
from workers.operations.workers import DrainResult
from workers.words import plural, requeued_text

SIGNS: dict[WorkerState, str] = {
    "running": "●", "draining": "◐", "standby": "◌", "blocked": "▲", "dead": "✕",
}  # fmt: skip
STYLES: dict[WorkerState, str] = {
    "running": OK, "draining": WATCH, "standby": MUTED, "blocked": BREACH, "dead": BREACH,
}  # fmt: skip
_SLOW_LOOP_SECONDS = 0.1
_BUSY_CORES = 0.9


def state_word(worker: Worker) -> str:
    """Return ``runs``, ``draining``."""
    return "runs" if worker.state == "running" else worker.state


def readiness(worker: Worker, max_chars: int | None = None) -> str:
    """Return ``yes``, or briefly why it takes no jobs: ``22 s left``, ``its 2 jobs run again in 1 s``.

    ``max_chars``: the room beside the number of jobs that a dead one holds; the time is the last to be cut.
    """
    match worker.state:
        case "dead":
            subject, verb = _jobs_of_the_dead(worker)
            whole = f"{subject} {verb}"
            return whole if max_chars is None or len(whole) <= max_chars else verb
        case "blocked":
            if worker.blocked_where is None:
                return f"no answer{_for_duration(worker.blocked_for)}: it may be frozen"
            return f"blocked{_for_duration(worker.blocked_for)} by {escape(worker.blocked_where)}"
        case "draining":
            if worker.drain_deadline_in is None:
                return "draining"
            return f"{duration(worker.drain_deadline_in)} left"
        case "standby":
            return "stands by"
    return "; ".join(map(escape, worker.unready)) or "yes"


def _jobs_of_the_dead(worker: Worker) -> tuple[str, str]:
    """Return ``its 2 jobs``, and what becomes of them."""
    one = worker.in_flight == 1
    jobs = "its job" if one else f"its {plural(worker.in_flight, 'job')}"
    if worker.recover_in is None:
        return jobs, f"{'waits' if one else 'wait'} for a worker"
    return jobs, f"{'runs' if one else 'run'} again in {duration(worker.recover_in)}"


def _for_duration(seconds: float | None) -> str:
    return "" if seconds is None else f" for {duration(seconds)}"


def in_flight(worker: Worker) -> str:
    """Return ``3/45``; of a dead one ``2 held``."""
    return f"{worker.in_flight} held" if worker.state == "dead" else f"{worker.in_flight}/{worker.slots}"


def cpu(worker: Worker) -> str:
    """Return ``12 %`` of one core."""
    return percent(worker.cpu, 0)


def memory(worker: Worker) -> str:
    """Return ``96 MB``."""
    return byte_size(worker.memory)


def is_slow(worker: Worker) -> bool:
    """Return whether its event loop is late."""
    return worker.loop_p99 is not None and worker.loop_p99 > _SLOW_LOOP_SECONDS


def is_busy(worker: Worker) -> bool:
    """Return whether it uses all of a core, or more."""
    return worker.cpu is not None and worker.cpu > _BUSY_CORES


def drain_result(result: DrainResult) -> str:
    """Return one line: how far the drain of a process is."""
    name = escape(result.name)
    if result.problem:
        return f"{name}: {escape(result.problem)}"
    if result.state == "running":
        return f"{name} takes jobs"
    if result.state == "drained":
        return f"{name} has ended: {requeued_text(result.put_back)}"
    left = "" if result.deadline_in is None else f", {duration(result.deadline_in)} left"
    return f"{name} drains: {plural(result.in_flight, 'job')} in flight{left}"
