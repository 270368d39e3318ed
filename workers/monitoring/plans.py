"""The replay plans of the cluster: how many are in each state, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.asyncio import Redis

from storage.dead_letters.plans import PlanRepository, UnfinishedPlan
from storage.redis.lock import ExpiringLock
from workers.engine.keys import PLAN
from workers.monitoring.alert_evaluation import Condition
from workers.monitoring.alert_rules import PLAN_HALTED, PLAN_INTERRUPTED

_STARTING_SECONDS = 10.0
"""How long a new plan may be marked as running before the process that runs it has its lock."""


@dataclass(frozen=True, slots=True)
class PlanOverview:
    """``counts`` has the plans by state; one that is marked as running and has no process is interrupted."""

    counts: Mapping[str, int]
    conditions: Sequence[Condition]


async def read_plans(redis: Redis, plans: PlanRepository) -> PlanOverview:
    """Return the plans as they are now.  Raises RedisError, StorageError."""
    counts = Counter(await plans.counts())
    unfinished = await plans.unfinished_plans() if counts["running"] or counts["halted"] else []
    names = {plan.id: f"{PLAN}{plan.id}" for plan in unfinished if plan.state == "running"}
    held_names = await ExpiringLock.held_names(redis, list(names.values()))
    now = datetime.now(UTC)
    interrupted = [
        plan.id
        for plan in unfinished
        if plan.id in names
        and names[plan.id] not in held_names
        and (now - plan.created_at).total_seconds() > _STARTING_SECONDS
    ]
    counts.update(running=-len(interrupted), interrupted=len(interrupted))
    halted = [plan for plan in unfinished if plan.state == "halted"]
    return PlanOverview(
        dict(counts), [*map(_halted_condition, halted), *map(_interrupted_condition, interrupted)]
    )


def _halted_condition(plan: UnfinishedPlan) -> Condition:
    message = f"plan {plan.id} has halted: {plan.note or 'too many died again'}; failed-jobs resume {plan.id}"
    return Condition(PLAN_HALTED, None, message, subject=str(plan.id))


def _interrupted_condition(plan_id: int) -> Condition:
    message = f"plan {plan_id} was interrupted: its process is gone; failed-jobs resume {plan_id}"
    return Condition(PLAN_INTERRUPTED, None, message, subject=str(plan_id))
