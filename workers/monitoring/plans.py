"""The conditions of replay plans: one has halted, or the process that ran it is gone."""

from __future__ import annotations

from datetime import UTC, datetime

from redis.asyncio import Redis

from storage.dead_letters.plans import PlanRepository
from storage.redis.lock import ExpiringLock
from workers.engine.keys import PLAN
from workers.monitoring.alert_evaluation import Condition
from workers.monitoring.alert_rules import PLAN_HALTED, PLAN_INTERRUPTED

_STARTING_SECONDS = 10.0
"""How long a new plan may be marked as running before the process that runs it has its lock."""


async def plan_conditions(redis: Redis, plans: PlanRepository) -> list[Condition]:
    """What is wrong with the plans that have not ended.  Raises RedisError, StorageError."""
    unfinished = await plans.unfinished()
    now = datetime.now(UTC)
    names = {plan.id: f"{PLAN}{plan.id}" for plan in unfinished if plan.state == "running"}
    held = await ExpiringLock.held_names(redis, list(names.values()))
    conditions = []
    for plan in unfinished:
        resume = f"failed-jobs resume {plan.id}"
        if plan.state == "halted":
            message = f"plan {plan.id} has halted: {plan.note or 'too many died again'}; {resume}"
            conditions.append(Condition(PLAN_HALTED, None, message, subject=str(plan.id)))
        elif (now - plan.created_at).total_seconds() > _STARTING_SECONDS and names[plan.id] not in held:
            message = f"plan {plan.id} was interrupted: its process is gone; {resume}"
            conditions.append(Condition(PLAN_INTERRUPTED, None, message, subject=str(plan.id)))
    return conditions
