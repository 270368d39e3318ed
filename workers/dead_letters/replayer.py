"""Carries replay plans out: so many now, wait, halt, done.  Decides without a server; then acts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Job
from saq.utils import now

from storage.dead_letters.plans import Ledger, Plan, PlanRepository, ReplayItem
from storage.dead_letters.repository import DeadLetterRepository, ReplayOutcome
from storage.errors import StorageError
from storage.redis.lock import ExpiringLock
from workers.engine import wire
from workers.engine.attempts import META, replay_origin
from workers.engine.enqueueing import EnqueueResult
from workers.engine.keys import LETTERS, OUTCOMES, PLAN
from workers.engine.queue import JobQueue
from workers.errors import ConflictError, NotFoundError

log = structlog.get_logger(__name__)

BATCH = 1_000
"""Letters of one step at the most."""
_FIRST_BATCH = 100
"""Letters of the first step, which shows how large they are."""
_BATCH_BYTES = 16_000_000
"""Of the payloads of one step, by the sizes in the step before: they are in memory all at once."""
_READ = 10
"""Jobs whose records are read in one go: each may have a megabyte."""
_ENOUGH = 5
"""Jobs that must have ended before their share of deaths says anything; fewer where the plan has fewer."""
_LOOK = 0.5
"""Seconds between two looks at the ledger, and so at a wish to pause or to cancel."""
_LOOK_FOR_GONE = 5.0
"""Seconds between two looks for jobs of a canary that left their queue without our knowing."""
_TICK = 0.05
"""Seconds between two steps of a plan with a rate."""
_BURST = 0.25
"""Seconds of the rate that may be sent at once."""
_PATIENCE = 60.0
"""Seconds for which servers may be away before a plan is left to be resumed."""
_BACKOFF = (0.25, 5.0)
"""Seconds between tries while a server is away: the first, and the longest."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is next with a plan: ``send`` up to ``most`` letters, ``wait``, ``halt`` or ``done``."""

    verb: Literal["send", "wait", "halt", "done"]
    most: int = 0
    why: str = ""
    look: bool = False
    """Whether the step after it depends on what becomes of this one."""


def next_step(plan: Plan, ledger: Ledger) -> Step:
    """What a running plan does next, by how its jobs ended so far."""
    if ledger.waiting == 0:
        return Step("done")
    canary = min(plan.canary, ledger.sent + ledger.waiting)
    share = ledger.died / ledger.ended if ledger.ended else 0.0
    if share > plan.halt and _says_enough(plan, ledger, canary):
        return Step("halt", why=f"{ledger.died} of {ledger.ended} died again, limit {plan.halt * 100:.0f} %")
    if ledger.sent < canary:
        return Step("send", min(canary - ledger.sent, BATCH), look=True)
    if ledger.ended < canary:
        return Step("wait")
    return Step("send", BATCH)


def _says_enough(plan: Plan, ledger: Ledger, canary: int) -> bool:
    if not canary or ledger.sent > canary:
        return ledger.ended >= min(_ENOUGH, plan.total - ledger.skipped)
    # The canary's verdict: all have ended, or so many died that the others cannot change it.
    return ledger.ended >= canary or ledger.died > plan.halt * canary


class Replayer:
    """Carries out plans.  Any process may: each job is enqueued once, whoever enqueues it, and how often.

    The job and a token of the act are written in one step; then the letters are marked.  Whoever comes after
    a crash between the two finds the token, and marks them.
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

    @asynccontextmanager
    async def holding(self, plan_id: int) -> AsyncIterator[ExpiringLock]:
        """The place of who carries a plan out, for the length of a block: before the plan is running, so that
        it is never seen running with nobody who does so.

        Raises RedisError, ConflictError where another process carries it out.
        """
        place = ExpiringLock(self._redis, f"{PLAN}{plan_id}")
        if not await place.outwait():
            raise _carried_out_elsewhere(plan_id)
        try:
            yield place
        finally:
            await self._leave(place)

    async def run(self, plan_id: int, place: ExpiringLock) -> Plan:
        """Until all are enqueued, it halts, or somebody pauses or cancels it; ``place`` is of `holding`.

        Raises NotFoundError, ConflictError where another process carries it out, and after a minute without
        a server RedisError or StorageError: then the plan can be resumed.
        """
        run = _Run()
        away_since, backoff = None, _BACKOFF[0]
        try:
            while True:
                try:
                    plan = await self._advance(plan_id, run, place)
                except (RedisError, OSError, StorageError) as error:
                    away_since = away_since or time.monotonic()
                    if time.monotonic() - away_since > _PATIENCE:
                        raise
                    log.warning("a plan waits", plan=plan_id, error=str(error), retry_in=backoff)
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, _BACKOFF[1])
                    run.after = 0
                else:
                    if plan is not None:
                        return plan
                    away_since, backoff = None, _BACKOFF[0]
        finally:
            if run.marking is not None:  # broken off: what was enqueued is marked all the same
                await asyncio.wait({run.marking})

    async def held(self, plan_ids: Sequence[int]) -> set[int]:
        """Those of the plans that a process carries out at this moment.  Raises RedisError."""
        held = await ExpiringLock.held(self._redis, [f"{PLAN}{plan_id}" for plan_id in plan_ids])
        return {plan_id for plan_id in plan_ids if f"{PLAN}{plan_id}" in held}

    async def replay(self, plan_id: int, batch: Sequence[ReplayItem]) -> dict[int, str]:
        """Enqueue the jobs of ``batch``; why not, by item id, for those that were not.

        Raises RedisError, StorageError; what was enqueued before is not enqueued again by another call.
        """
        return await self._plans.sent(plan_id, batch, *await self._enqueue(batch))

    async def _enqueue(self, batch: Sequence[ReplayItem]) -> tuple[dict[int, str], list[int]]:
        """Which items were skipped, and why; which had been enqueued before."""
        skipped = {each.id: why for each in batch if (why := self._why_not(each))}
        before: list[ReplayItem] = []
        by_queue: dict[str, list[ReplayItem]] = {}
        for each in batch:
            if each.id not in skipped:
                by_queue.setdefault(each.queue_name, []).append(each)
        for name, chosen in by_queue.items():
            tokens = [f"{each.uid}:{each.replay_count}" for each in chosen]
            queue = self._queues[name]
            done = await queue.enqueue_many([_job(each, queue.policy.function) for each in chosen], tokens)
            for each, became in zip(chosen, done, strict=True):
                if became is EnqueueResult.DUPLICATE:
                    skipped[each.id] = f"a job with the key {each.job_id} is queued already"
                elif became is EnqueueResult.ALREADY_USED:
                    before.append(each)
        others = await self._of_others(before)
        return skipped | others, [each.id for each in before]

    async def _of_others(self, before: Sequence[ReplayItem]) -> dict[int, str]:
        """Those that another act has enqueued, which may not have marked the letter yet: their jobs say so.

        A job that is gone has ended, and its end has marked the letter.
        """
        if not before:
            return {}
        keys = [self._queues[each.queue_name].job_id(each.job_id) for each in before]
        bodies = [
            body
            for start in range(0, len(keys), _READ)
            for body in await self._redis.mget(keys[start : start + _READ])
        ]
        found = {each.id: _replay_item(body) for each, body in zip(before, bodies, strict=True) if body}
        return {item: "its job was enqueued by another act" for item, of in found.items() if of != item}

    async def _advance(self, plan_id: int, run: _Run, place: ExpiringLock) -> Plan | None:
        """One step; the plan where that was the last one."""
        if not await place.outwait():
            raise _carried_out_elsewhere(plan_id)
        clock = time.monotonic()
        if run.plan is None or clock >= run.look_at:
            await run.marked()
            run.plan, run.look_at = await self._plans.get(plan_id), clock + _LOOK
        plan = run.plan
        if plan is None:
            raise NotFoundError(f"no plan has the id {plan_id}: list them with failed-jobs plans")
        if plan.state != "running":
            return plan
        step = next_step(plan, plan.ledger)
        if step.verb in ("halt", "done"):
            return await self._end(plan, step)
        if step.verb == "wait":
            if clock >= run.look_for_gone_at:
                run.look_for_gone_at = clock + _LOOK_FOR_GONE
                await self._end_gone(plan_id)
            await asyncio.sleep(_LOOK)
        elif (most := min(step.most, run.allowed(plan.rate, clock))) > 0:
            await self._send(plan, run, most)
            if step.look:
                run.look_at = 0.0
        else:
            await asyncio.sleep(_TICK)
        return None

    async def _send(self, plan: Plan, run: _Run, most: int) -> None:
        most = min(most, run.most)
        batch = await self._plans.batch(plan.id, limit=most, after=run.after)
        if batch:
            run.most = _most(batch)
            done = await self._enqueue(batch)
            await run.marked()
            run.marking = asyncio.create_task(self._plans.sent(plan.id, batch, *done))
            run.after = batch[-1].id
            run.spend(len(batch))
        if len(batch) < most:  # the last of them: the ledger says whether all are done
            run.look_at, run.after = 0.0, 0

    async def _end_gone(self, plan_id: int) -> None:
        """Jobs that left their queue without our knowing, by SAQ's ``queue.abort`` say, were aborted.

        Those whose end waits for the database are known: then it is looked again later.
        """
        by_queue: dict[str, list[ReplayItem]] = {}
        for each in await self._plans.batch(plan_id, limit=BATCH, state="enqueued"):
            if each.uid is not None:
                by_queue.setdefault(each.queue_name, []).append(each)
        for name, chosen in by_queue.items():
            queue = self._queues[name]
            pipeline = self._redis.pipeline(transaction=True)
            ids = [queue.job_id(each.job_id) for each in chosen]
            pipeline.execute_command("ZMSCORE", queue.keys.incomplete, *ids)
            pipeline.zcard(LETTERS)
            pipeline.zcard(OUTCOMES)
            scores, letters, outcomes = await pipeline.execute()
            gone = [each for each, score in zip(chosen, scores, strict=True) if score is None]
            if gone and not letters and not outcomes:
                await self._letters.ended(
                    [ReplayOutcome(each.letter_id, each.id, "aborted") for each in gone]
                )

    async def _end(self, plan: Plan, step: Step) -> Plan:
        to: Literal["halted", "done"] = "halted" if step.verb == "halt" else "done"
        await self._plans.set_state(plan.id, to, of=["running"], note=step.why)
        ended = await self._plans.get(plan.id)
        return ended or plan

    async def _leave(self, place: ExpiringLock) -> None:
        try:
            await place.leave()
        except (RedisError, OSError) as error:  # it is free by itself after a while
            log.debug("a place was not left", error=repr(error))

    def _why_not(self, each: ReplayItem) -> str:
        if each.uid is None:
            return "the letter is gone"
        if each.state != "dead":
            return f"it is {each.state} already"
        if "unreadable" in each.job_data and each.kwargs is None:
            return "it holds no job that could be read"
        if each.queue_name not in self._queues:
            return f"there is no queue {each.queue_name!r}"
        return ""


def _carried_out_elsewhere(plan_id: int) -> ConflictError:
    return ConflictError(f"plan {plan_id} is carried out by another process: pause it first")


def _most(batch: Sequence[ReplayItem]) -> int:
    """Letters of the next step, where they are as large as these, of which some are measured."""
    some = batch[:: max(1, len(batch) // _FIRST_BATCH)]
    size = sum(len(wire.dump(each.job_data if each.kwargs is None else each.kwargs)) for each in some)
    return max(1, min(BATCH, _BATCH_BYTES * len(some) // max(1, size)))


def _replay_item(body: bytes) -> int:
    """The plan's item whose job this is, 0 where it is none's."""
    try:
        found = replay_origin(wire.load(body)["meta"][META])
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0
    return found[1] if found is not None else 0


class _Run:
    """One process' carrying out of one plan."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.look_at = 0.0
        self.look_for_gone_at = 0.0
        self.after = 0
        """The last item that was read."""
        self.marking: asyncio.Task[dict[int, str]] | None = None
        """Marks the letters of the batch before, while the next one is read and enqueued."""
        self.most = _FIRST_BATCH
        """Letters that may be read in one go."""
        self._credit = 1.0
        self._credited_at: float | None = None

    def allowed(self, rate: float | None, clock: float) -> int:
        """Letters that ``rate`` a second allows now; what was not used for long is not made up for."""
        if rate is None:
            return BATCH
        passed = 0.0 if self._credited_at is None else clock - self._credited_at
        self._credit = min(self._credit + passed * rate, max(1.0, rate * _BURST))
        self._credited_at = clock
        return int(self._credit)

    async def marked(self) -> None:
        """The letters of all batches are marked.  Raises StorageError."""
        marking, self.marking = self.marking, None
        if marking is not None:
            await marking

    def spend(self, letters: int) -> None:
        """So many were sent."""
        self._credit -= letters


def _job(each: ReplayItem, function: str) -> Job:
    """The letter's job, with all its attempts ahead; of the queue's ``function`` where it had none."""
    return Job(
        function=function if "unreadable" in each.job_data else each.job_data.get("function", each.function),
        kwargs=each.job_data.get("kwargs") if each.kwargs is None else each.kwargs,
        key=each.job_id,
        queued=now(),
        meta={**(each.job_data.get("meta") or {}), META: {"replay_of": each.letter_id, "replay": each.id}},
    )
