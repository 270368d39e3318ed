"""The operator's verbs on dead letters: look, replay, discard, export, archive."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.asyncio_tools import cancel_and_wait
from storage.database.engine import Database
from storage.database.tables import POISON_DEATHS
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.plans import NewPlan, Plan, PlanItem, PlanRepository, PlanState
from storage.dead_letters.records import DeadLetter, FailureGroup, LetterSummary, Page
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import InvalidFilterError, StorageError
from workers.dead_letters.export import ExportFormat, export_letters
from workers.dead_letters.replayer import Replayer
from workers.dead_letters.retention import RETENTION_DAYS, Retention
from workers.engine import wire
from workers.engine.payload_limits import check_payload
from workers.engine.queue import JobQueue
from workers.errors import ConflictError, NotFoundError, UnknownQueueError
from workers.handlers.base import validate_payload
from workers.operations.audit import Audit

log = structlog.get_logger(__name__)

Selection = LetterFilter | Sequence[int]
"""The letters that a verb is about: those that a filter means, or some by id."""

MOST_IDS = 10_000
_GROUPS = 1_000
"""Groups that a preview looks at."""
_REDIS_SECONDS = 2.0
"""Seconds that the look at who carries a plan out may take."""
_NEW_SECONDS = 3.0
_SHOWN = 10
"""Groups that a preview names."""
LAST_WORDS = 3.0
"""Seconds that a plan which is broken off gets to write down how far it is."""
_UNENDED: tuple[PlanState, ...] = ("frozen", "running", "paused", "halted")


class ReplayOptions(BaseModel):
    """How many letters are replayed: ``canary`` of them first, until their jobs have ended; ``rate`` a second
    (None: as fast as it goes); halting where more than the share ``halt`` of the jobs that ended died again
    (1: never); with ``poison`` also those that died too often of the same error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    canary: Annotated[int, Field(ge=0, le=100_000)] = 0
    rate: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    halt: Annotated[float, Field(gt=0, le=1)] = 0.2
    poison: bool = False

    @classmethod
    def of(cls, **options: Any) -> ReplayOptions:
        """The options of those that are not None.  Raises InvalidFilterError, in one line."""
        try:
            return cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["msg"])
            problem = f"{message[0].lower()}{message[1:]}"
            raise InvalidFilterError(problem, field=str(first["loc"][0])) from None


CAREFULLY = ReplayOptions()
"""What is not said otherwise: all at once, but not those that died too often."""
ALL = ReplayOptions(poison=True)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be replayed, or discarded.  ``wanted`` means exactly what was counted, and nothing later.

    ``poison`` letters are left out; ``others`` are ids that are there, but are not dead.  ``queues`` and
    ``groups`` say where the letters belong; ``seconds`` is how long a replay takes at least.
    """

    wanted: Selection
    total: int
    poison: int
    others: int
    queues: Mapping[str, int]
    groups: Sequence[FailureGroup]
    seconds: float


class DeadLetterOperations:
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
        self._retention = Retention(redis, letters)
        self._queues = queues
        self._schemas = schemas
        self._audit = audit
        self._changed = changed
        self._running: dict[int, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Break off the plans that this process carries out: they can be resumed."""
        await cancel_and_wait(list(self._running.values()), retry_seconds=LAST_WORDS)

    # Looking

    async def page(
        self, wanted: LetterFilter = ALL_DEAD, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DeadLetter]:
        """One page, newest first.  Raises UnknownQueueError, InvalidCursorError, ValueError (the limit)."""
        self._check(wanted)
        return await self._letters.page(wanted, limit=limit, cursor=cursor)

    async def get(self, letter_id: int) -> DeadLetter:
        """One letter, from the archive too.  Raises NotFoundError."""
        letter = await self._letters.get(letter_id)
        if letter is None:
            raise NotFoundError(f"no dead letter has the id {letter_id}: list them with failed-jobs list")
        return letter

    async def count(self, wanted: LetterFilter = ALL_DEAD, *, most: int | None = None) -> int:
        """Number of letters; where there are more than ``most``, one more than that."""
        self._check(wanted)
        return await self._letters.count(wanted, most=most)

    async def groups(self, wanted: LetterFilter = ALL_DEAD, *, limit: int = 50) -> list[FailureGroup]:
        """The groups with the most letters.  Raises UnknownQueueError, ValueError (the limit)."""
        self._check(wanted)
        return await self._letters.groups(wanted, limit=limit)

    async def lineage(self, letter_id: int) -> list[tuple[DeadLetter, list[PlanItem]]]:
        """The letters of one lineage, the oldest first, each with its replays.  Raises NotFoundError."""
        lineage = await self._letters.lineage(await self.get(letter_id))
        return [(letter, await self._plans.replays_of(letter.id)) for letter in lineage]

    async def export(self, wanted: Selection, form: ExportFormat) -> AsyncIterator[str]:
        """A document of the letters, piece by piece: ``jsonl`` or ``markdown``.  Raises as `page`, `get`."""
        if isinstance(wanted, LetterFilter):
            self._check(wanted)
        else:
            await self._known(wanted)
        async for piece in export_letters(self._letters, self._audit.actions, wanted, form):
            yield piece

    # Replaying

    async def preview(self, wanted: Selection, options: ReplayOptions = ALL) -> Preview:
        """What an act on the dead ones of ``wanted`` would change.  Changes nothing."""
        if isinstance(wanted, LetterFilter):
            return await self._preview_filter(wanted, options)
        found = await self._known(wanted)
        dead = [letter for letter in found.values() if letter.state == "dead"]
        chosen = [letter for letter in dead if self._takes(letter, wanted, options)]
        return Preview(
            tuple(letter.id for letter in chosen),
            len(chosen),
            len(dead) - len(chosen),
            len(found) - len(dead),
            (queues := Counter(letter.queue_name for letter in chosen)),
            (),
            self._seconds(queues, len(chosen), options),
        )

    async def plan(self, wanted: Selection, options: ReplayOptions = CAREFULLY, reason: str = "") -> Plan:
        """Freeze the selection: what is replayed later is what is dead now.

        Raises ConflictError where there is nothing to replay.
        """
        poison = options.poison or (not isinstance(wanted, LetterFilter) and len(set(wanted)) == 1)
        arguments = {"selection": _described(wanted), **options.model_dump()}
        async with self._audit.act("plan", arguments, reason) as act:
            if isinstance(wanted, LetterFilter):
                self._check_dead(wanted)
            else:
                wanted = list(await self._known(wanted))
            new = NewPlan(
                self._audit.actor, reason, _described(wanted), options.canary, options.rate, options.halt
            )
            plan_id = await self._plans.create(new, wanted, poison=poison)
            plan = await self._plan(plan_id)
            act.affected, act.outcome = plan.total, f"plan {plan_id}"
            if plan.total == 0:
                await self._plans.delete_if_not_started(plan_id)
                raise ConflictError("no dead letter is meant by that: there is nothing to replay")
            return plan

    async def run(self, plan_id: int, *, halt: float | None = None) -> Plan:
        """Carry a plan out, or go on with it, until all its jobs are enqueued, it halts, or is stopped.

        ``halt`` is a new limit, which a plan that has halted needs.  Raises NotFoundError, ConflictError.
        """
        return await self._run(plan_id, halt, asyncio.get_running_loop().create_future())

    async def _run(self, plan_id: int, halt: float | None, begun: asyncio.Future[None]) -> Plan:
        async with (
            self._audit.act("run-plan", {"plan": plan_id, "halt": halt}) as act,
            self._replayer.holding(plan_id) as place,
        ):
            before = (await self._begin(plan_id, halt)).ledger.sent
            begun.set_result(None)
            try:
                plan = await self._replayer.run(plan_id, place)
            finally:
                act.affected = act.done_so_far = await self._sent_since(plan_id, before)
            ledger = plan.ledger
            counts = f"{ledger.sent} replayed, {ledger.skipped} skipped, {ledger.died} died again"
            act.outcome = f"{plan.state}: {counts}"
            self._changed()
            return plan

    async def start(self, plan_id: int, *, halt: float | None = None) -> Plan:
        """As `run`, in the background of this process; how it goes on is in `plan_now`."""
        self._audit.refuse("run-plan")
        begun = asyncio.get_running_loop().create_future()
        plan, before = await self._plan(plan_id), self._running.get(plan_id)
        if before is not None and plan.state != "running":  # it has halted, for instance: the end is near
            await asyncio.wait({before})
        if plan.active or plan_id in self._running:
            raise ConflictError(f"plan {plan_id} is carried out already")
        task = asyncio.create_task(self._run_behind(plan_id, halt, begun), name=f"plan {plan_id}")
        self._running[plan_id] = task
        task.add_done_callback(self._ran)
        await begun
        return await self._plan(plan_id)

    async def plan_now(self, plan_id: int) -> Plan:
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

    async def pause(self, plan_id: int) -> Plan:
        """Enqueue no more of a plan until it is run again.  Raises NotFoundError, ConflictError."""
        return await self._stop("pause-plan", plan_id, "paused", ("running",))

    async def cancel(self, plan_id: int) -> Plan:
        """Enqueue no more of a plan, ever; what was goes on.  Raises NotFoundError, ConflictError."""
        return await self._stop("cancel-plan", plan_id, "cancelled", _UNENDED)

    async def replay(self, letter_id: int, kwargs: Mapping[str, Any] | None = None, reason: str = "") -> str:
        """Enqueue one letter's job again, under its own key, which is returned; with ``kwargs`` if given.

        Raises NotFoundError; ConflictError where it was replayed or discarded before, or where a job of
        its key is queued; InvalidJobError where ``kwargs`` break the queue's schema.
        """
        edited = {} if kwargs is None else {"kwargs": dict(kwargs)}
        async with self._audit.act("replay", {"id": letter_id, **edited}, reason) as act:
            letter = await self.get(letter_id)
            self._check_edited(letter, kwargs)
            new = NewPlan(self._audit.actor, reason, _described([letter_id]), 0, None, 1.0)
            plan_id = await self._plans.create(new, [letter_id], poison=True, kwargs=kwargs, state="running")
            batch = await self._plans.next_items(plan_id, limit=1)
            skipped = await self._replayer.replay(plan_id, batch) if batch else {}
            if skipped or not batch:
                await self._plans.delete_if_not_started(plan_id)
                state = (await self.get(letter_id)).state
                why = next(iter(skipped.values()), f"it is {state} already")
                raise ConflictError(f"dead letter {letter_id}: {why}")
            await self._plans.transition(plan_id, "done", from_states=["running"])
            act.outcome = f"enqueued as {letter.job_id}"
            self._changed()
            return letter.job_id

    # Putting away

    async def discard(self, wanted: Selection, reason: str = "") -> int:
        """Hide dead letters; how many.  `restore` undoes it."""
        if isinstance(wanted, LetterFilter):
            self._check_dead(wanted)
        return await self._move("discard", self._letters.discard, wanted, reason)

    async def restore(self, wanted: Selection, reason: str = "") -> int:
        """Undo a discard; how many letters are dead again."""
        return await self._move("restore", self._letters.restore, wanted, reason)

    async def archive(self, *, days: float = RETENTION_DAYS, dry_run: bool = False) -> int:
        """Move letters older than so many days into the archive; how many.

        Raises ConflictError where another process does so at this moment.
        """
        before = datetime.now(UTC) - timedelta(days=days)
        if dry_run:
            return await self._letters.count(LetterFilter(state=None, until=before))
        async with self._audit.act("archive", {"days": days}) as act:
            moved = await self._retention.archive(before)
            if moved is None:
                raise ConflictError("another process archives at this moment: wait until it has done so")
            act.affected, act.outcome = moved, f"{moved} archived"
            self._changed()
            return moved

    def as_actor(self, audit: Audit) -> DeadLetterOperations:
        """The same, for the acts of another."""
        view = copy.copy(self)
        view._audit = audit
        return view

    async def _move(self, verb: str, move: Callable[..., Any], wanted: Selection, reason: str) -> int:
        async with self._audit.act(verb, {"selection": _described(wanted)}, reason) as act:
            if isinstance(wanted, LetterFilter):
                self._check(wanted)
                if wanted.up_to is None:
                    wanted = wanted.model_copy(update={"up_to": await self._letters.newest_id()})
            else:
                wanted = list(await self._known(wanted))
            act.affected = await move(wanted, act.count)
            act.outcome = f"{act.affected} letters"
            self._changed()
            return act.affected

    async def _preview_filter(self, wanted: LetterFilter, options: ReplayOptions) -> Preview:
        self._check_dead(wanted)
        bound = wanted.up_to if wanted.up_to is not None else await self._letters.newest_id()
        dead = wanted.model_copy(update={"state": "dead", "up_to": bound})
        chosen, poison = dead, 0
        if not options.poison and wanted.poison is None:
            chosen = dead.model_copy(update={"poison": False})
            poison = await self._letters.count(dead.model_copy(update={"poison": True}))
        total = await self._letters.count(chosen)
        groups = await self._letters.groups(chosen, limit=_GROUPS)
        queues: Counter[str] = Counter()
        for group in groups:
            queues[group.sample.queue_name] += group.count
        if len(groups) == _GROUPS:  # there are others, which count as well
            for name in [wanted.queue] if wanted.queue is not None else self._queues:
                queues[name] = await self._letters.count(chosen.model_copy(update={"queue": name}))
        return Preview(dead, total, poison, 0, queues, groups[:_SHOWN], self._seconds(queues, total, options))

    def _seconds(self, queues: Mapping[str, int], total: int, options: ReplayOptions) -> float:
        """At least: by the plan's rate, and by the queues' own limits."""
        longest = total / options.rate if options.rate else 0.0
        for name, number in queues.items():
            limit = self._queues[name].policy.rate_limit if name in self._queues else None
            if limit is not None:
                longest = max(longest, number * limit.seconds / limit.starts)
        return longest

    def _takes(self, letter: LetterSummary, wanted: Sequence[int], options: ReplayOptions) -> bool:
        return options.poison or len(set(wanted)) == 1 or letter.deaths < POISON_DEATHS

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

    def _runnable(self, plan: Plan, halt: float | None) -> None:
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

    async def _begin(self, plan_id: int, halt: float | None) -> Plan:
        plan = await self._plan(plan_id)
        self._runnable(plan, halt)
        if not await self._plans.transition(plan_id, "running", from_states=[plan.state], halt=halt):
            raise ConflictError(f"plan {plan_id} was changed by somebody else at this moment")
        return plan

    async def _run_behind(self, plan_id: int, halt: float | None, begun: asyncio.Future[None]) -> None:
        """``begun`` has an error where it could not begin; after that whoever asked has gone."""
        try:
            await self._run(plan_id, halt, begun)
        except Exception as error:
            if not begun.done():
                begun.set_exception(error)
            else:
                log.warning("a plan was left: failed-jobs resume", plan=plan_id, error=str(error))
        except asyncio.CancelledError:
            begun.cancel()  # nobody waits in vain for a plan that the end of the process broke off
            log.warning("a plan was left as the process ended: failed-jobs resume", plan=plan_id)
            raise

    async def _stop(self, verb: str, plan_id: int, to: PlanState, of: Sequence[PlanState]) -> Plan:
        async with self._audit.act(verb, {"plan": plan_id}) as act:
            plan = await self._plan(plan_id)
            act.affected = plan.ledger.waiting
            if not await self._plans.transition(plan_id, to, from_states=of):
                raise ConflictError(f"plan {plan_id} is {plan.state}: there is nothing to stop")
            return await self._plan(plan_id)

    def _check(self, wanted: LetterFilter) -> None:
        if wanted.queue is not None and wanted.queue not in self._queues:
            raise UnknownQueueError(wanted.queue, tuple(self._queues))

    def _check_dead(self, wanted: LetterFilter) -> None:
        """Nothing is acted on that the filter does not show."""
        self._check(wanted)
        if wanted.state not in (None, "dead"):
            raise InvalidFilterError(
                f"state: {wanted.state} letters are not acted on: use dead, or restore what was discarded"
            )

    def _ran(self, task: asyncio.Task[None]) -> None:
        for plan_id in [plan_id for plan_id, each in self._running.items() if each is task]:
            del self._running[plan_id]

    async def _known(self, ids: Sequence[int]) -> dict[int, LetterSummary]:
        """The letters of ``ids``.  Raises NotFoundError where one is not there."""
        if len(ids) > MOST_IDS:
            raise InvalidFilterError(f"{len(ids):,} ids are more than {MOST_IDS:,}: use a filter")
        found = await self._letters.summaries(ids)
        missing = [str(each) for each in dict.fromkeys(ids) if each not in found]
        if missing:
            more = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
            raise NotFoundError(f"no dead letter has the id {', '.join(missing[:5])}{more}")
        return found

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


def _described(wanted: Selection) -> dict[str, Any]:
    """For people who look at it later."""
    if isinstance(wanted, LetterFilter):
        return {"filter": wanted.to_query() or "state:dead"}
    ids = list(wanted)
    return {"ids": ids[:100], "count": len(ids)} if len(ids) > 100 else {"ids": ids}
