"""The operator's verbs that replay dead letters: previews, plans, and the replay of a single letter."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.asyncio_tools import cancel_and_wait
from storage.database.engine import Database
from storage.database.tables import POISON_DEATHS
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.plans import NewPlan, Plan, PlanItem, PlanRepository, PlanState
from storage.dead_letters.repository import DeadLetter, DeadLetterRepository, LetterSummary
from storage.errors import StorageError
from workers.dead_letters.replayer import Replayer
from workers.engine import wire
from workers.engine.payload_limits import check_payload
from workers.engine.queue import JobQueue
from workers.errors import ConflictError, NotFoundError
from workers.handlers.base import validate_payload
from workers.operations.audit import Audit
from workers.operations.selection import (
    DEFAULT_OPTIONS,
    WITH_POISON,
    Preview,
    ReplayOptions,
    Selection,
    check_dead,
    describe,
    existing_letters,
)

log = structlog.get_logger(__name__)

_MAX_GROUPS = 1_000
"""Groups that a preview counts one by one."""
_SHOWN_GROUPS = 10
"""Groups that a preview names."""
_REDIS_SECONDS = 2.0
"""Timeout of the question which process carries a plan out."""
_NEW_SECONDS = 3.0
CLOSE_GRACE_SECONDS = 3.0
"""Seconds that an interrupted plan gets to write down how far it is."""
_UNENDED: tuple[PlanState, ...] = ("frozen", "running", "paused", "halted")


class ReplayOperations:
    """Everything raises redis.exceptions.RedisError or storage.errors.StorageError where a server is away.

    ``changed`` is called when the number of dead letters is another.
    """

    def __init__(
        self,
        redis: Redis,
        database: Database,
        letters: DeadLetterRepository,
        *,
        queues: Mapping[str, JobQueue],
        schemas: Mapping[str, type[BaseModel]],
        audit: Audit,
        changed: Callable[[], None],
    ) -> None:
        self._letters = letters
        self._plans = PlanRepository(database)
        self._replayer = Replayer(redis, queues, self._plans, letters)
        self._queues = queues
        self._schemas = schemas
        self._audit = audit
        self._changed = changed
        self._running: dict[int, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Break off the plans that this process carries out: they can be resumed."""
        await cancel_and_wait(list(self._running.values()), again=CLOSE_GRACE_SECONDS)

    async def preview(self, selection: Selection, options: ReplayOptions = WITH_POISON) -> Preview:
        """What an act on the dead ones of ``selection`` would change.  Changes nothing."""
        if isinstance(selection, LetterFilter):
            return await self._preview_filter(selection, options)
        found = await existing_letters(self._letters, selection)
        dead = [letter for letter in found.values() if letter.state == "dead"]
        chosen = [letter for letter in dead if self._includes(letter, selection, options)]
        return Preview(
            tuple(letter.id for letter in chosen),
            len(chosen),
            len(dead) - len(chosen),
            len(found) - len(dead),
            (queues := Counter(letter.queue_name for letter in chosen)),
            (),
            self._seconds(queues, len(chosen), options),
        )

    async def create_plan(
        self, selection: Selection, options: ReplayOptions = DEFAULT_OPTIONS, reason: str = ""
    ) -> Plan:
        """Freeze the selection: what is replayed later is what is dead now.

        Raises ConflictError where there is nothing to replay.
        """
        poison = options.poison or (not isinstance(selection, LetterFilter) and len(set(selection)) == 1)
        arguments = {"selection": describe(selection), **options.model_dump()}
        async with self._audit.record("plan", arguments, reason) as act:
            if isinstance(selection, LetterFilter):
                check_dead(selection, self._queues)
            else:
                selection = list(await existing_letters(self._letters, selection))
            new = NewPlan(
                self._audit.actor, reason, describe(selection), options.canary, options.rate, options.halt
            )
            plan_id = await self._plans.freeze(new, selection, poison=poison)
            plan = await self._plan(plan_id)
            act.affected, act.outcome = plan.total, f"plan {plan_id}"
            if plan.total == 0:
                await self._plans.forget(plan_id)
                raise ConflictError("no dead letter is meant by that: there is nothing to replay")
            return plan

    async def run_plan(self, plan_id: int, *, halt: float | None = None) -> Plan:
        """Carry a plan out, or go on with it, until all its jobs are enqueued, it halts, or is stopped.

        ``halt`` is a new limit, which a plan that has halted needs.  Raises NotFoundError, ConflictError.
        """
        return await self._run(plan_id, halt, asyncio.get_running_loop().create_future())

    async def start_plan(self, plan_id: int, *, halt: float | None = None) -> Plan:
        """As `run_plan`, in the background of this process; how it goes on is in `get_plan`."""
        self._audit.check_writable("run-plan")
        started = asyncio.get_running_loop().create_future()
        plan, before = await self._plan(plan_id), self._running.get(plan_id)
        if before is not None and plan.state != "running":  # it has halted, for instance: the end is near
            await asyncio.wait({before})
        if plan.active or plan_id in self._running:
            raise ConflictError(f"plan {plan_id} is carried out already")
        task = asyncio.create_task(self._run_in_background(plan_id, halt, started), name=f"plan {plan_id}")
        self._running[plan_id] = task
        task.add_done_callback(self._forget_task)
        await started
        return await self._plan(plan_id)

    async def get_plan(self, plan_id: int) -> Plan:
        """How a plan stands.  Raises NotFoundError."""
        return await self._plan(plan_id)

    async def plans(self, limit: int = 50) -> list[Plan]:
        """The newest plans first."""
        return await self._with_activity(await self._plans.newest(limit))

    async def plan_items(
        self, plan_id: int, *, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[PlanItem]:
        """The letters of a plan in their order, from after the item ``after``.  Raises NotFoundError."""
        await self._plan(plan_id)
        return await self._plans.items(plan_id, state=state, limit=limit, after=after)

    async def pause_plan(self, plan_id: int) -> Plan:
        """Enqueue no more of a plan until it is run again.  Raises NotFoundError, ConflictError."""
        return await self._stop_plan("pause-plan", plan_id, "paused", ("running",))

    async def cancel_plan(self, plan_id: int) -> Plan:
        """Enqueue no more of a plan, ever; what was goes on.  Raises NotFoundError, ConflictError."""
        return await self._stop_plan("cancel-plan", plan_id, "cancelled", _UNENDED)

    async def replay(self, letter_id: int, kwargs: Mapping[str, Any] | None = None, reason: str = "") -> str:
        """Enqueue one letter's job again, under its own key, which is returned; with ``kwargs`` if given.

        Raises NotFoundError; ConflictError where it was replayed or discarded before, or where a job of
        its key is queued; InvalidJobError where ``kwargs`` break the queue's schema.
        """
        edited = {} if kwargs is None else {"kwargs": dict(kwargs)}
        async with self._audit.record("replay", {"id": letter_id, **edited}, reason) as act:
            letter = await self._letter(letter_id)
            self._check_edited(letter, kwargs)
            new = NewPlan(self._audit.actor, reason, describe([letter_id]), 0, None, 1.0)
            plan_id = await self._plans.freeze(new, [letter_id], poison=True, kwargs=kwargs, state="running")
            batch = await self._plans.batch(plan_id, limit=1)
            skipped = await self._replayer.replay(plan_id, batch) if batch else {}
            if skipped or not batch:
                await self._plans.forget(plan_id)
                state = (await self._letter(letter_id)).state
                why = next(iter(skipped.values()), f"it is {state} already")
                raise ConflictError(f"dead letter {letter_id}: {why}")
            await self._plans.set_state(plan_id, "done", of=["running"])
            act.outcome = f"enqueued as {letter.job_id}"
            self._changed()
            return letter.job_id

    def as_actor(self, audit: Audit) -> ReplayOperations:
        """The same, for the acts of another."""
        view = copy.copy(self)
        view._audit = audit
        return view

    async def _run(self, plan_id: int, halt: float | None, started: asyncio.Future[None]) -> Plan:
        async with (
            self._audit.record("run-plan", {"plan": plan_id, "halt": halt}) as act,
            self._replayer.holding(plan_id) as place,
        ):
            before = (await self._mark_running(plan_id, halt)).ledger.sent
            started.set_result(None)
            try:
                plan = await self._replayer.run(plan_id, place)
            finally:
                act.affected = act.done_so_far = await self._sent_since(plan_id, before)
            ledger = plan.ledger
            counts = f"{ledger.sent} replayed, {ledger.skipped} skipped, {ledger.died} died again"
            act.outcome = f"{plan.state}: {counts}"
            self._changed()
            return plan

    async def _run_in_background(
        self, plan_id: int, halt: float | None, started: asyncio.Future[None]
    ) -> None:
        """``started`` has an error where it could not begin; after that whoever asked has gone."""
        try:
            await self._run(plan_id, halt, started)
        except Exception as error:
            if not started.done():
                started.set_exception(error)
            else:
                log.warning("a plan was left: failed-jobs resume", plan=plan_id, error=str(error))
        except asyncio.CancelledError:
            started.cancel()  # nobody waits in vain for a plan that the end of the process broke off
            log.warning("a plan was left as the process ended: failed-jobs resume", plan=plan_id)
            raise

    async def _preview_filter(self, letter_filter: LetterFilter, options: ReplayOptions) -> Preview:
        check_dead(letter_filter, self._queues)
        bound = letter_filter.up_to if letter_filter.up_to is not None else await self._letters.newest_id()
        dead = letter_filter.model_copy(update={"state": "dead", "up_to": bound})
        chosen, poison = dead, 0
        if not options.poison and letter_filter.poison is None:
            chosen = dead.model_copy(update={"poison": False})
            poison = await self._letters.count(dead.model_copy(update={"poison": True}))
        total = await self._letters.count(chosen)
        groups = await self._letters.groups(chosen, limit=_MAX_GROUPS)
        queues: Counter[str] = Counter()
        for group in groups:
            queues[group.sample.queue_name] += group.count
        if len(groups) == _MAX_GROUPS:  # there are others, which count as well
            for name in [letter_filter.queue] if letter_filter.queue is not None else self._queues:
                queues[name] = await self._letters.count(chosen.model_copy(update={"queue": name}))
        return Preview(
            dead, total, poison, 0, queues, groups[:_SHOWN_GROUPS], self._seconds(queues, total, options)
        )

    def _seconds(self, queues: Mapping[str, int], total: int, options: ReplayOptions) -> float:
        """At least: by the plan's rate, and by the queues' own limits."""
        longest = total / options.rate if options.rate else 0.0
        for name, number in queues.items():
            limit = self._queues[name].policy.rate_limit if name in self._queues else None
            if limit is not None:
                longest = max(longest, number * limit.seconds / limit.starts)
        return longest

    def _includes(self, letter: LetterSummary, selection: Sequence[int], options: ReplayOptions) -> bool:
        return options.poison or len(set(selection)) == 1 or letter.deaths < POISON_DEATHS

    async def _plan(self, plan_id: int) -> Plan:
        plan = await self._plans.get(plan_id)
        if plan is None:
            raise NotFoundError(f"no plan has the id {plan_id}: list them with failed-jobs plans")
        (found,) = await self._with_activity([plan])
        return found

    async def _with_activity(self, plans: Sequence[Plan]) -> list[Plan]:
        """With who carries them out, which only Redis knows.

        A plan may have ended between the two answers: one that nobody carries out is read again.
        """
        running = [plan.id for plan in plans if plan.state == "running"]
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                held = await self._replayer.held(running)
        except (RedisError, OSError):
            return [replace(plan, active=None if plan.state == "running" else False) for plan in plans]
        found = []
        for plan in plans:
            active = plan.id in held or (plan.state == "running" and _is_new(plan))
            if plan.state == "running" and not active:
                plan = await self._plans.get(plan.id) or plan
            found.append(replace(plan, active=active))
        return found

    def _check_resumable(self, plan: Plan, halt: float | None) -> None:
        if plan.state not in _UNENDED:
            raise ConflictError(f"plan {plan.id} is {plan.state}: make a new one of what is still dead")
        if plan.state == "halted" and (halt is None or halt <= plan.halt):
            raise ConflictError(
                f"plan {plan.id} has halted ({plan.note}): "
                "it goes on with a higher limit only, up to 1 (100 %)"
            )

    async def _sent_since(self, plan_id: int, before: int) -> int:
        """How many were enqueued by this act; 0 where the database does not say."""
        try:
            plan = await self._plans.get(plan_id)
        except StorageError:
            return 0
        return max(0, plan.ledger.sent - before) if plan is not None else 0

    async def _mark_running(self, plan_id: int, halt: float | None) -> Plan:
        plan = await self._plan(plan_id)
        self._check_resumable(plan, halt)
        if not await self._plans.set_state(plan_id, "running", of=[plan.state], halt=halt):
            raise ConflictError(f"plan {plan_id} was changed by somebody else at this moment")
        return plan

    async def _stop_plan(self, verb: str, plan_id: int, to: PlanState, of: Sequence[PlanState]) -> Plan:
        async with self._audit.record(verb, {"plan": plan_id}) as act:
            plan = await self._plan(plan_id)
            act.affected = plan.ledger.waiting
            if not await self._plans.set_state(plan_id, to, of=of):
                raise ConflictError(f"plan {plan_id} is {plan.state}: there is nothing to stop")
            return await self._plan(plan_id)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        for plan_id in [plan_id for plan_id, each in self._running.items() if each is task]:
            del self._running[plan_id]

    async def _letter(self, letter_id: int) -> DeadLetter:
        letter = await self._letters.get(letter_id)
        if letter is None:
            raise NotFoundError(f"no dead letter has the id {letter_id}: list them with failed-jobs list")
        return letter

    def _check_edited(self, letter: DeadLetter, kwargs: Mapping[str, Any] | None) -> None:
        if kwargs is None:
            return
        schema = self._schemas.get(letter.queue_name)
        if schema is not None:
            validate_payload(schema, dict(kwargs))
        value = {"kwargs": dict(kwargs)}
        check_payload(wire.dump(value), value)


def _is_new(plan: Plan) -> bool:
    """Whether it was made a moment ago: a replay of one letter runs from the start, and holds no place."""
    return timedelta(0) <= datetime.now(UTC) - plan.created_at < timedelta(seconds=_NEW_SECONDS)
