"""The processes of the cluster as lists show them, and the jobs that a drain will return.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from workers.errors import ConflictError, NotFoundError
from workers.monitoring.roster import number
from workers.monitoring.snapshot import HeldJobs, QueueSnapshot, WorkerSnapshot, WorkerState

_MIN_PREFIX_CHARS = 4
"""Characters of an id at least, so that a typing error names no process."""
_HANGS_FACTOR = 2.0
"""A job that has run for so many times the usual longest time is not expected to end."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of the cluster.  Durations are in seconds; None means that it is not known."""

    id: str
    name: str
    """``host:pid``."""
    host: str
    pid: int
    release: str | None
    version: str
    state: WorkerState
    ready: bool
    """Whether it takes jobs."""
    queues: tuple[str, ...]
    in_flight: int
    slots: int
    """Jobs that its queues may run at once, in the cluster."""
    held: tuple[HeldJobs, ...]
    cpu: float | None
    """Share of one core, with its handler processes."""
    memory: int | None
    """Resident bytes, with its handler processes."""
    loop_p99: float | None
    beat_age: float | None
    """Since its last sign of life."""
    up_for: float | None
    drain_deadline_in: float | None
    """Until the jobs that it holds are returned to their queues; None unless it drains."""
    drain_seconds: float | None
    """How long they have in all."""
    drain_undoable: bool
    drained_by: str | None
    recover_in: float | None
    """Seconds until the jobs of a dead one run again; None while no process serves their queues."""
    blocked_where: str | None
    blocked_for: float | None
    unready: tuple[str, ...]
    """Why a queue makes no progress there."""


WorkerT = TypeVar("WorkerT", Worker, WorkerSnapshot)


@dataclass(frozen=True, slots=True)
class DrainForecast:
    """The jobs of one queue that a draining process holds; ``requeued`` None: that cannot be foreseen."""

    queue: str
    in_flight: int
    longest: float | None
    usual: float | None
    requeued: int | None


def list_workers(workers: Iterable[WorkerSnapshot], queues: Sequence[QueueSnapshot]) -> list[Worker]:
    """Return the processes in the order of host and pid."""
    by_name = {queue.name: queue for queue in queues}
    return [_worker(worker, [by_name[name] for name in worker.queues if name in by_name], by_name)
            for worker in workers]  # fmt: skip


def _worker(
    worker: WorkerSnapshot, served: Sequence[QueueSnapshot], queues: dict[str, QueueSnapshot]
) -> Worker:
    drain = worker.drain
    dead = worker.state == "dead"
    return Worker(
        id=worker.id,
        name=worker.name,
        host=worker.host,
        pid=worker.pid,
        release=worker.release,
        version=worker.version,
        state=worker.state,
        ready=worker.state == "running" and not worker.unready,
        queues=worker.queues,
        in_flight=worker.in_flight,
        slots=sum(queue.concurrency for queue in served),
        held=worker.held,
        cpu=worker.cpu,
        memory=worker.memory,
        loop_p99=worker.loop_p99,
        beat_age=worker.last_beat_age,
        up_for=None if dead else worker.up_for,
        drain_deadline_in=drain.left if drain is not None else None,
        drain_seconds=drain.seconds if drain is not None else None,
        drain_undoable=drain is not None and drain.undoable,
        drained_by=drain.by if drain is not None else None,
        recover_in=_recover_in([queues[held.queue] for held in worker.held if held.queue in queues])
        if dead
        else None,
        blocked_where=worker.blocked_where,
        blocked_for=worker.blocked_for,
        unready=worker.unready,
    )


def _recover_in(queues: Sequence[QueueSnapshot]) -> float | None:
    waits = [queue.recover_in for queue in queues]
    return max((wait for wait in waits if wait is not None), default=None) if None not in waits else None


def find_worker(workers: Iterable[WorkerT], name: str) -> WorkerT:
    """Return the process with this id, beginning of an id, or ``host:pid``.

    Raises NotFoundError, ConflictError.
    """
    workers = list(workers)
    matches = [worker for worker in workers if name in (worker.id, worker.name)] or [
        worker for worker in workers if len(name) >= _MIN_PREFIX_CHARS and worker.id.startswith(name)
    ]
    if not matches:
        raise NotFoundError(
            f"no worker {name!r}: it has ended, or was never there",
            fix="couturecast-tui workers list shows all",
        )
    if len(matches) > 1:
        raise ConflictError(f"{name!r} names {len(matches)} workers", fix="give the whole id")
    return matches[0]


def foresee(worker: WorkerSnapshot, queues: Sequence[QueueSnapshot]) -> list[DrainForecast]:
    """Return what becomes of the jobs that a process holds, if it drains now."""
    by_name = {queue.name: queue for queue in queues}
    left = worker.drain.left if worker.drain is not None else None
    return [_forecast(held, by_name.get(held.queue), worker, left) for held in worker.held]


def _forecast(
    held: HeldJobs, queue: QueueSnapshot | None, worker: WorkerSnapshot, left: float | None
) -> DrainForecast:
    timeout = number(worker.settings.get(held.queue, {}).get("timeout"))
    longest_usual = queue.run.p95 if queue is not None else None
    requeued = None
    if left is not None and longest_usual is not None and len(held.ages) == held.count:
        requeued = sum(is_requeued(age, left, longest_usual, timeout) for age in held.ages)
    return DrainForecast(
        held.queue,
        held.count,
        max(held.ages, default=None),
        queue.usual_run if queue is not None else None,
        requeued,
    )


def is_requeued(age: float, left: float, longest_usual: float, timeout: float | None) -> bool:
    """Return whether a job of this age is likely to run still in ``left`` seconds.

    Its timeout may end it before.
    """
    if timeout is not None and timeout - age <= left:
        return False
    if age <= longest_usual:
        return longest_usual - age > left
    return age > _HANGS_FACTOR * longest_usual
