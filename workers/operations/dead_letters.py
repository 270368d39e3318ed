"""The operator's verbs on dead letters: read, export, discard, restore, archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.ordering import NEWEST_FIRST, LetterOrder
from storage.dead_letters.plans import PlanItem, PlanRepository
from storage.dead_letters.records import DeadLetter, FailureGroup, Page
from storage.dead_letters.repository import DeadLetterRepository
from workers.dead_letters.export import ExportFormat, export_letters
from workers.dead_letters.retention import RETENTION_DAYS, Retention
from workers.errors import ConflictError
from workers.operations.audit import Audit
from workers.operations.secrets import DEFAULT_MASK, SecretMask
from workers.operations.selection import (
    Selection,
    check_dead,
    check_queue,
    describe,
    existing_letters,
    get_letter,
)

ChangeState = Callable[[Selection, Callable[[int], None]], Awaitable[int]]
"""Moves the letters of a selection to another state, and reports how many after each batch."""


class DeadLetterOperations:
    """Everything raises redis.exceptions.RedisError or storage.errors.StorageError if a server is down.

    ``changed`` is called when the number of dead letters has changed.  Letters are returned without their
    secrets.
    """

    def __init__(
        self,
        redis: Redis,
        letters: DeadLetterRepository,
        plans: PlanRepository,
        *,
        queues: Collection[str],
        audit: Audit,
        changed: Callable[[], None],
        mask: SecretMask = DEFAULT_MASK,
    ) -> None:
        self._mask = mask
        self._letters = letters
        self._plans = plans
        self._retention = Retention(redis, letters)
        self._queues = queues
        self._audit = audit
        self._changed = changed

    async def page(
        self,
        letter_filter: LetterFilter = ALL_DEAD,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: LetterOrder = NEWEST_FIRST,
    ) -> Page[DeadLetter]:
        """Return one page.

        Raises UnknownQueueError, InvalidCursorError, InvalidFilterError (an order that no index has),
        ValueError (the limit).
        """
        check_queue(letter_filter, self._queues)
        page = await self._letters.page(letter_filter, limit=limit, cursor=cursor, order=order)
        return replace(page, items=[self._mask.letter(letter) for letter in page.items])

    async def get(self, letter_id: int, *, reveal: bool = False) -> DeadLetter:
        """Return one letter, from the archive too; ``reveal``: with its secrets.  Raises NotFoundError."""
        letter = await get_letter(self._letters, letter_id)
        return letter if reveal else self._mask.letter(letter)

    async def count(self, letter_filter: LetterFilter = ALL_DEAD, *, limit: int | None = None) -> int:
        """Return the number of letters; ``limit + 1`` if there are more than ``limit``."""
        check_queue(letter_filter, self._queues)
        return await self._letters.count(letter_filter, limit=limit)

    async def groups(self, letter_filter: LetterFilter = ALL_DEAD, *, limit: int = 50) -> list[FailureGroup]:
        """Return the groups with the most letters.  Raises UnknownQueueError, ValueError (the limit)."""
        check_queue(letter_filter, self._queues)
        groups = await self._letters.groups(letter_filter, limit=limit)
        return [self._mask.group(group) for group in groups]

    async def lineage(self, letter_id: int) -> list[tuple[DeadLetter, list[PlanItem]]]:
        """Return the letters of one lineage, the oldest first, each with its replays.

        Raises NotFoundError.
        """
        lineage = await self._letters.lineage(await get_letter(self._letters, letter_id))
        return [(self._mask.letter(letter), await self._replays_of(letter)) for letter in lineage]

    async def _replays_of(self, letter: DeadLetter) -> list[PlanItem]:
        return [self._mask.replay(item) for item in await self._plans.replays_of(letter.id)]

    async def export(
        self, selection: Selection, form: ExportFormat, *, reveal: bool = False
    ) -> AsyncIterator[str]:
        """Yield a document of the letters, piece by piece; ``reveal``: with secrets.

        Raises as `page`, `get`.
        """
        if isinstance(selection, LetterFilter):
            check_queue(selection, self._queues)
        else:
            await existing_letters(self._letters, selection)
        mask = (lambda letter: letter) if reveal else self._mask.letter
        async for piece in export_letters(self._letters, self._audit.actions, selection, form, mask):
            yield piece

    async def discard(self, selection: Selection, reason: str = "") -> int:
        """Hide dead letters; how many.  `restore` undoes it."""
        if isinstance(selection, LetterFilter):
            check_dead(selection, self._queues)
        return await self._change_state("discard", self._letters.discard, selection, reason)

    async def restore(self, selection: Selection, reason: str = "") -> int:
        """Undo a discard; how many letters are dead again."""
        return await self._change_state("restore", self._letters.restore, selection, reason)

    async def count_discarded(self, selection: Selection) -> tuple[int, tuple[int, ...]]:
        """Return the number of letters that `restore` would change, and which of the ids it would not.

        Raises NotFoundError, UnknownQueueError.
        """
        if isinstance(selection, LetterFilter):
            return await self.count(selection.model_copy(update={"state": "discarded"})), ()
        letters = (await existing_letters(self._letters, selection)).values()
        discarded = {letter.id for letter in letters if letter.state == "discarded"}
        return len(discarded), tuple(id_ for id_ in dict.fromkeys(selection) if id_ not in discarded)

    async def archive(self, *, days: float = RETENTION_DAYS, dry_run: bool = False) -> int:
        """Move letters older than ``days`` into the archive; how many.

        Raises ConflictError if another process archives now.
        """
        before = datetime.now(UTC) - timedelta(days=days)
        if dry_run:
            return await self._letters.count(LetterFilter(state=None, until=before))
        async with self._audit.record("archive", {"days": days}) as action:
            moved = await self._retention.archive(before)
            if moved is None:
                raise ConflictError("another process archives at this moment: wait until it has done so")
            action.affected, action.outcome = moved, f"{moved} archived"
            self._changed()
            return moved

    async def _change_state(self, verb: str, change: ChangeState, selection: Selection, reason: str) -> int:
        async with self._audit.record(verb, {"selection": describe(selection)}, reason) as action:
            if isinstance(selection, LetterFilter):
                check_queue(selection, self._queues)
                if selection.up_to is None:  # letters that arrive later are not selected
                    selection = selection.model_copy(update={"up_to": await self._letters.newest_id()})
            else:
                selection = list(await existing_letters(self._letters, selection))
            action.affected = await change(selection, action.count)
            action.outcome = f"{action.affected} letters"
            self._changed()
            return action.affected
