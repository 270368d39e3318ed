"""The replay plans of the cluster: how many are in each state, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from storage.dead_letters.plans import PlanRepository, UnfinishedPlan, is_new
from storage.redis.lock import ExpiringLock
from workers.engine.keys import PLAN
from workers.monitoring.alert_rules import PLAN_HALTED, PLAN_INTERRUPTED
from workers.monitoring.conditions import Condition


@dataclass(frozen=True, slots=True)
class PlanOverview:
    """``counts`` has the plans by state; one that is marked as running and has no process is interrupted.

    ``interrupted`` and ``halted`` are the plans that go on only if an operator resumes them.
    """

    counts: Mapping[str, int]
    interrupted: Sequence[UnfinishedPlan] = ()
    halted: Sequence[UnfinishedPlan] = ()

    @property
    def conditions(self) -> list[Condition]:
        """Return the problems of plans."""
        return [*map(_halted_condition, self.halted), *map(_interrupted_condition, self.interrupted)]


async def read_plans(redis: Redis, plans: PlanRepository) -> PlanOverview:
    """Return the plans as they are now.  Raises RedisError, StorageError."""
    counts, unfinished = await _read_unfinished(plans)
    running = [plan for plan in unfinished if plan.state == "running" and not is_new(plan.created_at)]
    held_ids = await _held_ids(redis, running)
    without_process = {plan.id for plan in running} - held_ids
    if without_process:  # one that has ended between the two replies is not running either
        counts, unfinished = await _read_unfinished(plans)
    interrupted = [plan for plan in unfinished if plan.state == "running" and plan.id in without_process]
    counts.update(running=-len(interrupted), interrupted=len(interrupted))
    return PlanOverview(dict(counts), interrupted, [plan for plan in unfinished if plan.state == "halted"])


async def without_resumed(redis: Redis, overview: PlanOverview) -> PlanOverview:
    """Return an overview that is some seconds old, with plans that a process runs by now as running.

    Raises RedisError.
    """
    resumed = await _held_ids(redis, [*overview.interrupted, *overview.halted])
    interrupted = [plan for plan in overview.interrupted if plan.id not in resumed]
    halted = [plan for plan in overview.halted if plan.id not in resumed]
    counts = Counter(overview.counts)
    counts.update(
        running=len(resumed),
        interrupted=len(interrupted) - len(overview.interrupted),
        halted=len(halted) - len(overview.halted),
    )
    return PlanOverview(dict(counts), interrupted, halted)


async def _read_unfinished(plans: PlanRepository) -> tuple[Counter[str], Sequence[UnfinishedPlan]]:
    counts = Counter(await plans.counts())
    return counts, (await plans.unfinished_plans() if counts["running"] or counts["halted"] else [])


async def _held_ids(redis: Redis, plans: Sequence[UnfinishedPlan]) -> set[int]:
    """Return the ids of the plans that a process runs."""
    names = {plan.id: f"{PLAN}{plan.id}" for plan in plans}
    held_names = await ExpiringLock.held_names(redis, list(names.values()))
    return {plan_id for plan_id, name in names.items() if name in held_names}


def _halted_condition(plan: UnfinishedPlan) -> Condition:
    message = f"plan {plan.id} has halted: {plan.note or 'too many died again'}; failed-jobs resume {plan.id}"
    return Condition(PLAN_HALTED, None, message, subject=str(plan.id))


def _interrupted_condition(plan: UnfinishedPlan) -> Condition:
    message = f"plan {plan.id} was interrupted: its process is gone; failed-jobs resume {plan.id}"
    return Condition(PLAN_INTERRUPTED, None, message, subject=str(plan.id))
