"""The verbs on single jobs, called by name, and jobs for them."""

from __future__ import annotations

import time

from tests.support.engine import Bench
from workers.operations.jobs import JobChange, JobOperations, JobRef

QUEUE = "color-extraction"
PREFIX = f"saq:job:{QUEUE}:"
"""Prefix of the keys of jobs in Redis."""
VERBS = ("abort", "run_now", "duplicate", "remove")


def refs(*keys: str) -> list[JobRef]:
    return [JobRef(key) for key in keys]


async def act(jobs: JobOperations, verb: str, *named: JobRef) -> list[JobChange]:
    changes: list[JobChange] = await getattr(jobs, verb)(QUEUE, named)
    return changes


async def later(bench: Bench, *keys: str) -> None:
    for number, key in enumerate(keys):
        await bench.stock.enqueue("extract_colors", key=key, number=number, scheduled=int(time.time()) + 600)
