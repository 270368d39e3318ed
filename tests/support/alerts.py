"""Conditions and alerts of made-up snapshots."""

from __future__ import annotations

from typing import Any

from workers.engine.history import History
from workers.monitoring.alert_evaluation import (
    alerts,
    queue_conditions,
    server_conditions,
    worker_conditions,
)
from workers.monitoring.alert_rules import DEFAULTS
from workers.monitoring.conditions import Condition, QueueFacts
from workers.monitoring.overview import OverviewReply
from workers.monitoring.snapshot import Alert, QueueSnapshot, Snapshot, WorkerSnapshot

NOW = 1_800_000_000.0


def overview(queue: QueueSnapshot, **fields: Any) -> OverviewReply:
    """The reply of which a snapshot of a queue could have been made."""
    reply = OverviewReply(
        now=NOW,
        depth=queue.depth,
        incomplete=queue.depth,
        leases=[b"id", b"lease"] * queue.in_flight,
        starts=0,
        oldest_start=b"",
        start_before=b"",
        head=b"",
        first_excess=b"",
        pause=[],
        totals={},
        turns={},
        checks=(None, None),
        resumed=None,
        broken_keys=queue.broken_keys,
        points={10: [], 60: [], 3600: []},
    )
    return reply._replace(**fields)


def facts(
    queue: QueueSnapshot,
    history: History | None = None,
    workers: tuple[WorkerSnapshot, ...] = (),
    **fields: Any,
) -> QueueFacts:
    """All that is known of a queue, by default without a history."""
    reply = overview(queue, **fields)
    return QueueFacts(queue, reply, history or History.build([], reply.point), workers)


def conditions_of(snapshot: Snapshot) -> list[Condition]:
    """All conditions of a snapshot."""
    conditions = [*server_conditions(snapshot.redis, snapshot.database, None, NOW)]
    conditions += worker_conditions(snapshot.workers, NOW)
    for queue in snapshot.queues:
        conditions += queue_conditions(facts(queue), DEFAULTS)
    return conditions


def alerts_of(snapshot: Snapshot) -> tuple[Alert, ...]:
    """All alerts of a snapshot."""
    return alerts(conditions_of(snapshot), NOW)
