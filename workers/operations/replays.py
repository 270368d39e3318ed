"""The operator's verbs that replay dead letters: previews, plans, and the replay of a single letter."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.asyncio_tools import cancel_and_wait
from storage.database.events import EventSink, ignore_event
from storage.database.tables import POISON_DEATHS
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.plans import NewPlan, Plan, PlanItem, PlanRepository, PlanState, is_new
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import StorageError
from workers.dead_letters.replay.replayer import Replayer
from workers.errors import ConflictError, NotFoundError
from workers.operations.action_events import plan_interrupted, plan_started, plan_stopped
from workers.operations.audit import Audit
from workers.operations.enqueueing import Enqueueing
from workers.operations.secrets import DEFAULT_MASK, SecretMask
from workers.operations.selection import (
    DEFAULT_OPTIONS,
    WITH_POISON,
    Preview,
    ReplayOptions,
    Selection,
    check_dead,
    describe,
    existing_letters,
    get_letter,
)

log = structlog.get_logger(__name__)

_MAX_GROUPS = 1_000
"""Groups that a preview counts one by one."""
_MAX_SHOWN_GROUPS = 10
"""Groups that a preview names."""
_REDIS_SECONDS = 2.0
"""Timeout of the question which plans a process runs now."""
CLOSE_GRACE_SECONDS = 3.0
"""How long an interrupted plan may take to write down how far it is."""
_UNENDED: tuple[PlanState, ...] = ("frozen", "running", "paused", "halted")


class LetterReplay(NamedTuple):
    """The replay of one letter: the key of its job, and the plan of which it is the only item."""

    job_id: str
    plan_id: int


class PlanTask:
    """Runs one plan in the background.  ``run`` calls its argument once the plan runs."""

    def __init__(
        self, plan_id: int, run: Callable[[Callable[[], None]], Awaitable[Plan]], on_end: Callable[[], object]
    ) -> None:
        self._plan_id = plan_id
        self._on_end = on_end
        self._started = asyncio.Event()
        self.task = asyncio.ensure_future(run(self._started.set))
        self.task.add_done_callback(self._end)

    async def wait_started(self) -> None:
        """Raises the error because of which the plan did not start, CancelledError if the process ends."""
        started = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait({started, self.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        if not self._started.is_set():
            self.task.result()

    def _end(self, task: asyncio.Future[Plan]) -> None:
        self._on_end()
        if task.cancelled():
            log.warning("a plan was left as the process ended: failed-jobs resume", plan=self._plan_id)
        elif (error := task.exception()) is not None and self._started.is_set():
            log.warning("a plan was left: failed-jobs resume", plan=self._plan_id, error=str(error))


class ReplayOperations:
    """Everything raises redis.exceptions.RedisError or storage.errors.StorageError if a server is down.

    ``changed`` is called when the number of dead letters has changed, ``emit`` with the event that a plan is
    started.
    """

    def __init__(
        self,
        redis: Redis,
        letters: DeadLetterRepository,
        plans: PlanRepository,
        enqueueing: Enqueueing,
        *,
        audit: Audit,
        changed: Callable[[], None],
        mask: SecretMask = DEFAULT_MASK,
        emit: EventSink = ignore_event,
    ) -> None:
        self._emit = emit
        self._mask = mask
        self._letters = letters
        self._plans = plans
        self._enqueueing = enqueueing
        self._queues = enqueueing.queues
        self._replayer = Replayer(redis, self._queues, plans, letters)
        self._audit = audit
        self._changed = changed
        self._running: dict[int, PlanTask] = {}
        """By plan id: the plans that this process runs in the background."""

    async def close(self) -> None:
        """Interrupt the plans that this process runs: they can be resumed."""
        running = [plan.task for plan in self._running.values()]
        await cancel_and_wait(running, retry_seconds=CLOSE_GRACE_SECONDS)

    async def preview(self, selection: Selection, options: ReplayOptions = WITH_POISON) -> Preview:
        """Return what a verb on the dead letters of ``selection`` would change.  Changes nothing."""
        if isinstance(selection, LetterFilter):
            return await self._preview_filter(selection, options)
        letters = (await existing_letters(self._letters, selection)).values()
        dead = [letter for letter in letters if letter.state == "dead"]
        with_poison = options.poison or len(set(selection)) == 1  # a single letter is always included
        included = [letter for letter in dead if with_poison or letter.deaths < POISON_DEATHS]
        queues = Counter(letter.queue_name for letter in included)
        return Preview(
            selection=tuple(letter.id for letter in included),
            total=len(included),
            poison_excluded=len(dead) - len(included),
            not_dead=len(letters) - len(dead),
            queues=queues,
            groups=(),
            min_seconds=self._min_seconds(queues, len(included), options),
        )

    async def create_plan(
        self, selection: Selection, options: ReplayOptions = DEFAULT_OPTIONS, reason: str = ""
    ) -> Plan:
        """Freeze the selection: only letters that are dead now are replayed later.

        Raises ConflictError if there is nothing to replay.
        """
        poison = options.poison or (not isinstance(selection, LetterFilter) and len(set(selection)) == 1)
        arguments = {"selection": describe(selection), **options.model_dump()}
        async with self._audit.record("plan", arguments, reason) as action:
            if isinstance(selection, LetterFilter):
                check_dead(selection, self._queues)
            else:
                selection = list(await existing_letters(self._letters, selection))
            new = NewPlan(
                self._audit.actor, reason, describe(selection), options.canary, options.rate, options.halt
            )
            plan_id = await self._plans.create(new, selection, poison=poison)
            plan = await self.get_plan(plan_id)
            action.affected, action.outcome, action.subject = plan.total, f"plan {plan_id}", str(plan_id)
            if plan.total == 0:
                await self._plans.delete_if_not_started(plan_id)
                raise ConflictError("no dead letter is selected: there is nothing to replay")
            return plan

    async def run_plan(self, plan_id: int, *, halt: float | None = None) -> Plan:
        """Start or resume a plan, and return once all its jobs are enqueued, it halts, or is stopped.

        ``halt`` is a new limit, which a halted plan needs.  Raises NotFoundError, ConflictError.
        """
        return await self._run(plan_id, halt, started=lambda: None)

    async def start_plan(self, plan_id: int, *, halt: float | None = None) -> Plan:
        """Like `run_plan`, but in the background of this process; `get_plan` has its progress."""
        self._audit.check_writable("run-plan")
        plan, before = await self.get_plan(plan_id), self._running.get(plan_id)
        if before is not None and plan.state != "running":  # it has halted, for instance, and ends now
            await asyncio.wait({before.task})
        if plan.active or plan_id in self._running:
            raise ConflictError(f"plan {plan_id} runs already")
        running = self._running[plan_id] = PlanTask(
            plan_id,
            lambda started: self._run(plan_id, halt, started),
            on_end=lambda: self._running.pop(plan_id),
        )
        await running.wait_started()
        return await self.get_plan(plan_id)

    async def get_plan(self, plan_id: int) -> Plan:
        """Return a plan with its progress.  Raises NotFoundError."""
        plan = await self._plans.get(plan_id)
        if plan is None:
            raise NotFoundError(f"no plan has the id {plan_id}", fix="list them with failed-jobs plans")
        (plan,) = await self._with_activity([plan])
        return plan

    async def plans(self, limit: int = 50) -> list[Plan]:
        """Return the newest plans first."""
        return await self._with_activity(await self._plans.newest(limit))

    async def plan_items(
        self, plan_id: int, *, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[PlanItem]:
        """Return the letters of a plan in their order, from after the item ``after``.

        Raises NotFoundError.
        """
        await self.get_plan(plan_id)
        items = await self._plans.items(plan_id, state=state, limit=limit, after=after)
        return [self._mask.replay(item) for item in items]

    async def pause_plan(self, plan_id: int) -> Plan:
        """Enqueue no more of a plan until it is resumed.  Raises NotFoundError, ConflictError."""
        return await self._stop_plan("pause-plan", plan_id, "paused", ("running",))

    async def cancel_plan(self, plan_id: int) -> Plan:
        """Enqueue no more of a plan; jobs that were enqueued run.  Raises NotFoundError, ConflictError."""
        return await self._stop_plan("cancel-plan", plan_id, "cancelled", _UNENDED)

    async def replay(
        self, letter_id: int, kwargs: Mapping[str, Any] | None = None, reason: str = ""
    ) -> LetterReplay:
        """Enqueue one letter's job again under its own key, with ``kwargs`` if given.

        A mask in ``kwargs`` stands for the letter's own secret, as it was shown.
        Raises NotFoundError; ConflictError if it was replayed or discarded before, or if a job with its key
        is queued; InvalidJobError if ``kwargs`` break the queue's schema, or a mask where no secret is.
        """
        edited = {} if kwargs is None else {"kwargs": self._mask.value(dict(kwargs))}
        async with self._audit.record("replay", {"id": letter_id, **edited}, reason) as action:
            letter = await get_letter(self._letters, letter_id)
            if kwargs is not None:
                kwargs = self._mask.restore(dict(kwargs), letter.job_data.get("kwargs"))
                self._enqueueing.check_payload(letter.queue_name, kwargs)
            new = NewPlan(self._audit.actor, reason, describe([letter_id]), 0, None, 1.0)
            plan_id = await self._plans.create(new, [letter_id], poison=True, kwargs=kwargs, state="running")
            items = await self._plans.next_items(plan_id, limit=1)
            skipped = await self._replayer.replay(plan_id, items) if items else {}
            if skipped or not items:
                await self._plans.delete_if_not_started(plan_id)
                state = (await get_letter(self._letters, letter_id)).state
                problem = next(iter(skipped.values()), f"it is {state} already")
                raise ConflictError(f"dead letter {letter_id}: {problem}")
            await self._plans.transition(plan_id, "done", from_states=["running"])
            action.outcome = f"enqueued as {letter.job_id}"
            self._changed()
            return LetterReplay(letter.job_id, plan_id)

    async def _run(self, plan_id: int, halt: float | None, started: Callable[[], None]) -> Plan:
        async with (
            self._audit.record("run-plan", {"plan": plan_id, "halt": halt}) as action,
            self._replayer.hold_lock(plan_id) as lock,
        ):
            plan = await self._mark_running(plan_id, halt)
            before = plan.ledger.sent
            self._emit(plan_started(plan, self._audit.actor))
            action.event = plan_interrupted(plan_id)  # unless it goes on to the end
            started()
            try:
                plan = await self._replayer.run(plan_id, lock)
            finally:
                action.affected = action.done_so_far = await self._sent_since(plan_id, before)
            ledger = plan.ledger
            counts = f"{ledger.sent} replayed, {ledger.skipped} skipped, {ledger.died} died again"
            action.outcome = f"{plan.state}: {counts}"
            action.event = plan_stopped(plan, counts)
            self._changed()
            return plan

    async def _mark_running(self, plan_id: int, halt: float | None) -> Plan:
        plan = await self.get_plan(plan_id)
        _check_resumable(plan, halt)
        if not await self._plans.transition(plan_id, "running", from_states=[plan.state], halt=halt):
            raise ConflictError(f"plan {plan_id} was changed by another operator at this moment")
        return plan

    async def _sent_since(self, plan_id: int, before: int) -> int:
        """Return the number of jobs that this run enqueued; 0 if the database is down."""
        try:
            plan = await self._plans.get(plan_id)
        except StorageError:
            return 0
        return max(0, plan.ledger.sent - before) if plan is not None else 0

    async def _stop_plan(
        self, verb: str, plan_id: int, to: PlanState, from_states: Sequence[PlanState]
    ) -> Plan:
        async with self._audit.record(verb, {"plan": plan_id}) as action:
            plan = await self.get_plan(plan_id)
            action.affected = plan.ledger.waiting
            if not await self._plans.transition(plan_id, to, from_states=from_states):
                raise ConflictError(f"plan {plan_id} is {plan.state}: there is nothing to stop")
            return await self.get_plan(plan_id)

    async def _preview_filter(self, letter_filter: LetterFilter, options: ReplayOptions) -> Preview:
        check_dead(letter_filter, self._queues)
        bound = letter_filter.up_to if letter_filter.up_to is not None else await self._letters.newest_id()
        dead = letter_filter.model_copy(update={"state": "dead", "up_to": bound})
        included, poison = dead, 0
        if not options.poison and letter_filter.poison is None:
            included = dead.model_copy(update={"poison": False})
            poison = await self._letters.count(dead.model_copy(update={"poison": True}))
        total = await self._letters.count(included)
        groups = await self._letters.groups(included, limit=_MAX_GROUPS)
        queues: Counter[str] = Counter()
        for group in groups:
            queues[group.sample.queue_name] += group.count
        if len(groups) == _MAX_GROUPS:  # there may be more groups than these
            for name in [letter_filter.queue] if letter_filter.queue is not None else self._queues:
                queues[name] = await self._letters.count(included.model_copy(update={"queue": name}))
        return Preview(
            selection=dead,
            total=total,
            poison_excluded=poison,
            not_dead=0,
            queues=queues,
            groups=[self._mask.group(group) for group in groups[:_MAX_SHOWN_GROUPS]],
            min_seconds=self._min_seconds(queues, total, options),
        )

    def _min_seconds(self, queues: Mapping[str, int], total: int, options: ReplayOptions) -> float:
        """Return how long a replay takes at least, by the plan's rate and by the queues' own limits."""
        longest = total / options.rate if options.rate else 0.0
        for name, number in queues.items():
            limit = self._queues[name].policy.rate_limit if name in self._queues else None
            if limit is not None:
                longest = max(longest, number * limit.seconds / limit.starts)
        return longest

    async def _with_activity(self, plans: Sequence[Plan]) -> list[Plan]:
        """Return the plans with ``active`` set, which only Redis has.

        A plan may have ended between the two replies, so one that no process runs is read again.
        """
        running = [plan.id for plan in plans if plan.state == "running"]
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                active_ids = await self._replayer.active_ids(running)
        except (RedisError, OSError):
            return [replace(plan, active=None if plan.state == "running" else False) for plan in plans]
        with_activity = []
        for plan in plans:
            active = plan.id in active_ids or (plan.state == "running" and is_new(plan.created_at))
            if plan.state == "running" and not active:
                plan = await self._plans.get(plan.id) or plan
            with_activity.append(replace(plan, active=active))
        return with_activity


def _check_resumable(plan: Plan, halt: float | None) -> None:
    if plan.state not in _UNENDED:
        raise ConflictError(f"plan {plan.id} is {plan.state}", fix="make a new one of what is still dead")
    if not plan.can_resume(halt):
        raise ConflictError(
            f"plan {plan.id} has halted ({plan.note})", fix="resume it with a higher limit, up to 1 (100 %)"
        )
