"""Runs replay plans: reads a batch, enqueues it, and marks it in the database while it reads the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.backoff import Backoff
from storage.dead_letters.plans import Plan, PlanRepository, ReplayItem
from storage.dead_letters.records import ReplayOutcome
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import StorageError
from storage.redis.lock import ExpiringLock
from workers.dead_letters.replay.enqueueing import ReplayEnqueuer
from workers.dead_letters.replay.steps import MAX_STEP_LETTERS, Step, next_step
from workers.dead_letters.replay.token_bucket import TokenBucket
from workers.engine import wire
from workers.engine.keys import LETTERS, OUTCOMES, PLAN
from workers.engine.queue import JobQueue
from workers.errors import ConflictError, NotFoundError

log = structlog.get_logger(__name__)

_FIRST_BATCH_LETTERS = 100
"""Letters of the first batch, which shows how large they are."""
_BATCH_BYTES = 16_000_000
"""Bytes of one batch's payloads, by the sizes in the one before: all are in memory at once."""
_REFRESH_SECONDS = 0.5
"""Between two reads of the plan, and so how late a pause or a cancellation may be noticed."""
_VANISHED_SECONDS = 5.0
"""Between two checks for jobs of a canary that another program removed from their queue."""
_RATE_POLL_SECONDS = 0.05
"""Until the next step of a plan whose rate allows no letter now."""
_MAX_OUTAGE_SECONDS = 60.0
"""How long servers may be down before a plan is left to be resumed."""
_BACKOFF_SECONDS = (0.25, 5.0)
"""Between tries while a server is down: the first, and the longest."""


class Replayer:
    """Runs plans.  Any process may; the lock of a plan makes sure that one does at a time.

    ``redis`` is the main Redis, which holds the locks.
    """

    def __init__(
        self,
        redis: Redis,
        queues: Mapping[str, JobQueue],
        plans: PlanRepository,
        letters: DeadLetterRepository,
    ) -> None:
        self._redis = redis
        self._letters = letters
        self._queues = queues
        self._plans = plans
        self._enqueuer = ReplayEnqueuer(queues)

    @asynccontextmanager
    async def hold_lock(self, plan_id: int) -> AsyncIterator[ExpiringLock]:
        """Hold the lock of a plan during a block.

        It is acquired before the plan is marked as running, so that no screen shows an interrupted plan.
        Raises RedisError, and ConflictError if another process runs the plan.
        """
        lock = ExpiringLock(self._redis, f"{PLAN}{plan_id}")
        if not await lock.wait_acquire():
            raise _runs_elsewhere(plan_id)
        try:
            yield lock
        finally:
            try:
                await lock.release()
            except (RedisError, OSError) as error:  # it expires by itself
                log.debug("the lock of a plan was not released", error=repr(error))

    async def active_ids(self, plan_ids: Sequence[int]) -> set[int]:
        """Return the ids of the plans that a process runs now.  Raises RedisError."""
        locks = await ExpiringLock.held_names(self._redis, [f"{PLAN}{plan_id}" for plan_id in plan_ids])
        return {plan_id for plan_id in plan_ids if f"{PLAN}{plan_id}" in locks}

    async def replay(self, plan_id: int, items: Sequence[ReplayItem]) -> dict[int, str]:
        """Enqueue the jobs of ``items`` and mark them; for those that were skipped the reason, by item id.

        Raises RedisError, StorageError; jobs that were enqueued before the error are not enqueued again.
        """
        return await self._plans.mark_enqueued(plan_id, items, *await self._enqueuer.enqueue(items))

    async def run(self, plan_id: int, lock: ExpiringLock) -> Plan:
        """Run a plan until all is enqueued, it halts, or it is paused or cancelled; ``lock``: of `hold_lock`.

        Raises NotFoundError; ConflictError if another process runs it; and after a minute without a server
        RedisError or StorageError: then the plan can be resumed.
        """
        run = _PlanRun(plan_id, self._plans, self._enqueuer)
        down_since, delays = None, Backoff(*_BACKOFF_SECONDS)
        try:
            while True:
                try:
                    plan = await self._step(run, lock)
                except (RedisError, OSError, StorageError) as error:
                    down_since = down_since or time.monotonic()
                    if time.monotonic() - down_since > _MAX_OUTAGE_SECONDS:
                        raise
                    delay = delays.next()
                    log.warning("a plan waits", plan=plan_id, error=str(error), retry_in=delay)
                    await asyncio.sleep(delay)
                    run.start_over()
                else:
                    if plan is not None:
                        return plan
                    down_since = None
                    delays.reset()
        finally:
            await run.finish_marking()

    async def _step(self, run: _PlanRun, lock: ExpiringLock) -> Plan | None:
        """Do one step; the plan if that was the last one."""
        if not await lock.wait_acquire():
            raise _runs_elsewhere(run.plan_id)
        clock = time.monotonic()
        plan = await run.current_plan(clock)
        if plan.state != "running":
            return plan
        step = next_step(plan, plan.ledger)
        if step.verb in ("halt", "done"):
            return await self._end(plan, step)
        if step.verb == "wait":
            if run.is_vanished_check_due(clock):
                await self._record_vanished_jobs(plan.id)
            await asyncio.sleep(_REFRESH_SECONDS)
            return None
        max_letters = step.max_letters
        if plan.rate is not None:
            max_letters = min(max_letters, run.tokens.available(plan.rate, clock))
        if max_letters > 0:
            await run.send(max_letters)
            if step.is_canary:
                run.refresh()
        else:
            await asyncio.sleep(_RATE_POLL_SECONDS)
        return None

    async def _record_vanished_jobs(self, plan_id: int) -> None:
        """Record as aborted the jobs that another program removed from their queue, by ``queue.abort`` say.

        While outcomes wait for the database, some of these may be among them: then it is checked again later.
        """
        by_queue: dict[str, list[ReplayItem]] = {}
        for item in await self._plans.next_items(plan_id, limit=MAX_STEP_LETTERS, state="enqueued"):
            if item.uid is not None:
                by_queue.setdefault(item.queue_name, []).append(item)
        for name, items in by_queue.items():
            queue = self._queues[name]
            pipeline = queue.redis.pipeline(transaction=True)
            ids = [queue.job_id(item.job_id) for item in items]
            pipeline.execute_command("ZMSCORE", queue.keys.incomplete, *ids)
            pipeline.zcard(LETTERS)
            pipeline.zcard(OUTCOMES)
            scores, letters, outcomes = await pipeline.execute()
            vanished = [item for item, score in zip(items, scores, strict=True) if score is None]
            if vanished and not letters and not outcomes:
                await self._letters.record_replay_outcomes(
                    [ReplayOutcome(item.letter_id, item.id, "aborted") for item in vanished]
                )

    async def _end(self, plan: Plan, step: Step) -> Plan:
        to: Literal["halted", "done"] = "halted" if step.verb == "halt" else "done"
        await self._plans.transition(plan.id, to, from_states=["running"], note=step.reason)
        return await self._plans.get(plan.id) or plan


class _PlanRun:
    """One run of one plan by this process."""

    def __init__(self, plan_id: int, plans: PlanRepository, enqueuer: ReplayEnqueuer) -> None:
        self.plan_id = plan_id
        self.tokens = TokenBucket()
        self._plans = plans
        self._enqueuer = enqueuer
        self._plan: Plan | None = None
        self._refresh_at = 0.0
        self._check_vanished_at = 0.0
        self._after = 0
        """The last item that was read."""
        self._batch_size = _FIRST_BATCH_LETTERS
        self._mark_task: asyncio.Task[dict[int, str]] | None = None
        """Marks the letters of a batch while the next one is read and enqueued."""

    async def current_plan(self, clock: float) -> Plan:
        """Return the plan, read again twice a second.  Raises NotFoundError, StorageError."""
        if self._plan is None or clock >= self._refresh_at:
            await self._wait_marked()
            self._plan, self._refresh_at = await self._plans.get(self.plan_id), clock + _REFRESH_SECONDS
        if self._plan is None:
            raise NotFoundError(f"no plan has the id {self.plan_id}", fix="list them with failed-jobs plans")
        return self._plan

    def refresh(self) -> None:
        """Read the plan again before the next step."""
        self._refresh_at = 0.0

    def start_over(self) -> None:
        """Read the waiting letters from the first one again, after an error."""
        self._after = 0

    def is_vanished_check_due(self, clock: float) -> bool:
        """Return whether it is time to check for vanished jobs; then the next check is due later."""
        if clock < self._check_vanished_at:
            return False
        self._check_vanished_at = clock + _VANISHED_SECONDS
        return True

    async def send(self, max_letters: int) -> None:
        """Enqueue up to ``max_letters``, marked in the background.  Raises RedisError, StorageError."""
        max_letters = min(max_letters, self._batch_size)
        items = await self._plans.next_items(self.plan_id, limit=max_letters, after=self._after)
        if items:
            self._batch_size = _next_batch_size(items)
            enqueued = await self._enqueuer.enqueue(items)
            await self._wait_marked()
            self._mark_task = asyncio.create_task(self._plans.mark_enqueued(self.plan_id, items, *enqueued))
            self._after = items[-1].id
            self.tokens.take(len(items))
        if len(items) < max_letters:  # the last batch: the ledger shows whether all are done
            self.refresh()
            self.start_over()

    async def finish_marking(self) -> None:
        """Wait until the last batch is marked, also if the run was interrupted; errors are ignored."""
        if self._mark_task is not None:
            await asyncio.wait({self._mark_task})

    async def _wait_marked(self) -> None:
        task, self._mark_task = self._mark_task, None
        if task is not None:
            await task


def _next_batch_size(items: Sequence[ReplayItem]) -> int:
    """Return the letters of the next batch if they are as large as these, of which a sample is measured."""
    sample = items[:: max(1, len(items) // _FIRST_BATCH_LETTERS)]
    size = sum(len(wire.dump(item.job_data if item.kwargs is None else item.kwargs)) for item in sample)
    return max(1, min(MAX_STEP_LETTERS, _BATCH_BYTES * len(sample) // max(1, size)))


def _runs_elsewhere(plan_id: int) -> ConflictError:
    return ConflictError(f"plan {plan_id} is run by another process", fix="pause it first")
