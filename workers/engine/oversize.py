"""Shrinks a settlement that Redis refuses for its size."""

from __future__ import annotations

import structlog

from workers.engine import outcome, wire
from workers.engine.queue import JobQueue
from workers.engine.settlement import Settlement

log = structlog.get_logger(__name__)


def shrink_refused(
    queue: JobQueue, refused: Settlement, error: Exception, *, worker: str
) -> Settlement | None:
    """A smaller settlement in place of ``refused``; None if the job can do without it."""
    ends = refused.verb in ("complete", "retry")
    job = queue.deserialize(wire.load(refused.body)) if ends else None
    smaller = outcome.shrink(
        refused, job, str(error), policy=queue.policy, worker=worker, release=queue.release
    )
    log.warning(
        "Redis refuses a job's record for its size",
        queue=queue.name,
        job=refused.id,
        verb=refused.verb,
        bytes=refused.size(),
        instead=smaller.verb if smaller else None,
        error=str(error),
    )
    return smaller
