"""The events of a worker process.  Pure."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from storage.database.events import SHORT_ID_CHARS, NewEvent
from workers.monitoring.snapshot import LostWorker
from workers.words import requeued_text


def started_events(worker: str, release: str, queues: Sequence[str]) -> list[NewEvent]:
    """Return the event that a process takes jobs; the first one of its release is an event of its own."""
    host, pid, name = socket.gethostname(), os.getpid(), _own_name(worker)
    detail = {"host": host, "pid": pid, "release": release, "queues": list(queues)}
    return [
        NewEvent(
            "new-release",
            f"release {release} runs for the first time: {name}",
            subject=release,
            detail=detail,
            dedupe=f"new-release:{release}",
        ),
        NewEvent(
            "worker-started",
            f"{name} of release {release} takes jobs of {', '.join(queues)}",
            subject=worker,
            detail=detail,
        ),
    ]


def drained_event(worker: str, release: str, requeued: int) -> NewEvent:
    """Return the event that a process has drained; ``requeued`` jobs did not end in time."""
    return NewEvent(
        "worker-drained",
        f"{_own_name(worker)} drained: {requeued_text(requeued)}",
        subject=worker,
        detail={"release": release, "requeued": requeued},
    )


def returned_event(worker: str, release: str) -> NewEvent:
    """Return the event that a process runs again that others had declared dead: it was frozen or cut off."""
    return NewEvent(
        "worker-returned",
        f"{_own_name(worker)} is back: it was frozen or cut off, and others have run its jobs",
        subject=worker,
        detail={"release": release},
    )


def lost_event(worker: LostWorker) -> NewEvent:
    """Return the event that a process without jobs ended without a word; written once for the cluster."""
    ending = "has given no sign of life: it may be frozen" if worker.connected else "ended without a drain"
    return NewEvent(
        "worker-lost",
        f"{_name(worker.id, worker.host, worker.pid)} {ending}; it held no jobs",
        subject=worker.id,
        detail={"release": worker.release, "silent_for": worker.silent_for},
        dedupe=f"worker-lost:{worker.id}",
    )


def _own_name(worker: str) -> str:
    return _name(worker, socket.gethostname(), os.getpid())


def _name(worker: str, host: str, pid: int) -> str:
    return f"worker {worker[:SHORT_ID_CHARS]} ({host}, pid {pid})"
