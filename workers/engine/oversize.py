"""Shrinks a settlement that Redis refuses for its size."""

from __future__ import annotations

import structlog

from workers.engine import outcome, wire
from workers.engine.queue import JobQueue
from workers.engine.settlement import Settlement

log = structlog.get_logger(__name__)


def shrink_refused(
    queue: JobQueue, settlement: Settlement, error: Exception, *, worker: str
) -> Settlement | None:
    """Return a smaller settlement in place of ``settlement``; None if the job can do without it."""
    ends = settlement.verb in ("complete", "retry")
    job = queue.deserialize(wire.load(settlement.body)) if ends else None
    smaller = outcome.shrink(
        settlement, job, str(error), policy=queue.policy, worker=worker, release=queue.release
    )
    log.warning(
        "Redis refuses a job's record for its size",
        queue=queue.name,
        job=settlement.id,
        verb=settlement.verb,
        bytes=settlement.size(),
        instead=smaller.verb if smaller else None,
        error=str(error),
    )
    return smaller
