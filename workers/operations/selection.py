"""The letters that a verb changes, the options of a replay, and its preview."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.records import DeadLetter, FailureGroup, LetterSummary
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import InvalidFilterError
from storage.validation import lower_first, validation_problems
from workers.errors import NotFoundError, UnknownQueueError

Selection = LetterFilter | Sequence[int]
"""The letters that a verb is about: those that match a filter, or some by id."""

MAX_IDS = 10_000
"""Ids that one selection may name."""


class ReplayOptions(BaseModel):
    """Options of a replay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    canary: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Letters that go first; the rest waits until their jobs have ended."""
    rate: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    """Letters a second; None: no limit."""
    halt: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The plan halts if more than this share of the ended jobs died again; 1: never."""
    poison: bool = False
    """Whether letters that died too often of the same error are included."""

    @classmethod
    def from_values(cls, **options: Any) -> ReplayOptions:
        """Make options from the values that are not None.  Raises InvalidFilterError."""
        try:
            return cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = validation_problems(error)[0]
            raise InvalidFilterError(lower_first(first.problem), field=first.field) from None


def parse_percent(text: str) -> float:
    """Parse ``20`` or ``20%``, as an operator gives ``halt``, as a share.  Raises InvalidFilterError."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 100:
        fix = "use a percentage above 0, up to 100, which never halts"
        raise InvalidFilterError(repr(text), field="halt", fix=fix)
    return percent / 100


DEFAULT_OPTIONS = ReplayOptions()
"""All at once, but without the letters that died too often."""
WITH_POISON = ReplayOptions(poison=True)


@dataclass(frozen=True, slots=True)
class Preview:
    """The letters that a verb would change.  ``selection`` means exactly what was counted, nothing later.

    ``poison_excluded`` letters died too often to be replayed in bulk; ``not_dead`` ids exist in another
    state.  ``queues`` and ``groups`` count the letters of each; a replay takes at least ``min_seconds``.
    """

    selection: Selection
    total: int
    poison_excluded: int
    not_dead: int
    queues: Mapping[str, int]
    groups: Sequence[FailureGroup]
    min_seconds: float


def check_queue(letter_filter: LetterFilter, queues: Collection[str]) -> None:
    """Raises UnknownQueueError if the filter names a queue that is not one of ours."""
    if letter_filter.queue is not None and letter_filter.queue not in queues:
        raise UnknownQueueError(letter_filter.queue, tuple(queues))


def check_dead(letter_filter: LetterFilter, queues: Collection[str]) -> None:
    """Like `check_queue`, for verbs that change dead letters: only those that the filter shows."""
    check_queue(letter_filter, queues)
    if letter_filter.state not in (None, "dead"):
        raise InvalidFilterError(
            f"state: {letter_filter.state} letters are not acted on: use dead, or restore what was discarded"
        )


async def existing_letters(letters: DeadLetterRepository, ids: Sequence[int]) -> dict[int, LetterSummary]:
    """Return the letters of ``ids``.  Raises NotFoundError if one is missing."""
    if len(ids) > MAX_IDS:
        raise InvalidFilterError(f"{len(ids):,} ids are more than {MAX_IDS:,}: use a filter")
    summaries = await letters.summaries(ids)
    missing = [str(letter_id) for letter_id in dict.fromkeys(ids) if letter_id not in summaries]
    if missing:
        more = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
        raise NotFoundError(f"no dead letter has the id {', '.join(missing[:5])}{more}")
    return summaries


async def get_letter(letters: DeadLetterRepository, letter_id: int) -> DeadLetter:
    """Return one letter, from the archive too.  Raises NotFoundError."""
    letter = await letters.get(letter_id)
    if letter is None:
        raise NotFoundError(f"no dead letter has the id {letter_id}", fix="list them with failed-jobs list")
    return letter


def describe(selection: Selection) -> dict[str, Any]:
    """Return the selection as the record of an action has it."""
    if isinstance(selection, LetterFilter):
        return {"filter": selection.to_query() or "state:dead"}
    ids = list(selection)
    return {"ids": ids[:100], "count": len(ids)} if len(ids) > 100 else {"ids": ids}
