"""Which dead letters are meant: one model for pages, counts, groups and selections, on every surface."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from storage.errors import InvalidFilterError
from storage.validation import lower_first, validation_problems

LetterState = Literal["dead", "replayed", "discarded"]
STATES: tuple[LetterState, ...] = ("dead", "replayed", "discarded")
SHORTEST_SEARCH = 3
"""Characters of a text that is searched for: the indexes are made of three-character pieces."""
_LONGEST_TEXT = 200
_MOST_ARGUMENTS = 8
_MAX_ID = 2**63 - 1
_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_WORDS = {"queue", "function", "state", "since", "until", "error", "fingerprint", "poison", "archived"}
_ARGUMENT = "arg."


def _time(value: Any) -> Any:
    """``2h`` is two hours ago; a time without a zone is UTC."""
    if not isinstance(value, str):
        return value
    ago = _AGO.fullmatch(value.strip())
    if ago is not None:
        try:
            now = datetime.now(UTC).replace(microsecond=0)
            return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        except OverflowError:
            raise ValueError("is outside of the calendar") from None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("use for instance 2h, 30m, 7d, 2026-03-01 or 2026-03-01T12:00:00+00:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _in_range(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the calendar") from None


Text = Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT)]
Time = Annotated[AwareDatetime, BeforeValidator(_time), AfterValidator(_in_range)]


class LetterFilter(BaseModel):
    """All conditions hold together; one that is None, or empty, is none.

    ``state`` None means all states.  ``since`` and ``until`` bound the time of death: from, and before.
    ``error`` is a text that the error, as ``type: message``, contains, whatever the case of its letters.
    ``args`` are arguments of the job, by name, with the value that each has as text.
    ``poison``: only those, or none of those, that died `POISON_DEATHS` times in a row of the same error.
    ``archived`` looks in the archive instead.  ``up_to`` leaves out what was recorded after that letter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: Text | None = None
    function: Text | None = None
    state: LetterState | None = "dead"
    since: Time | None = None
    until: Time | None = None
    error: Annotated[str, Field(min_length=SHORTEST_SEARCH, max_length=_LONGEST_TEXT)] | None = None
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    args: Annotated[Mapping[Text, Text], Field(max_length=_MOST_ARGUMENTS)] = Field(default_factory=dict)
    poison: bool | None = None
    archived: bool = False
    up_to: Annotated[int, Field(ge=0, le=_MAX_ID)] | None = None

    @classmethod
    def of(cls, **conditions: Any) -> LetterFilter:
        """The filter with those of ``conditions`` that are not None, ``state="all"`` meaning all states.

        Raises InvalidFilterError, in one line that names the condition.
        """
        given = {name: value for name, value in conditions.items() if value is not None}
        if given.get("state") == "all":
            given["state"] = None
        try:
            return cls(**given)
        except ValidationError as error:
            raise _invalid(error) from None

    @classmethod
    def parse(cls, line: str) -> LetterFilter:
        """The filter that a line means: ``queue:… state:… since:2h arg.city:lisboa`` and words of the error.

        Quotation marks keep words together.  Raises InvalidFilterError.
        """
        try:
            words = shlex.split(line)
        except ValueError:
            raise InvalidFilterError("a quotation mark is not closed") from None
        conditions: dict[str, Any] = {}
        args: dict[str, str] = {}
        free: list[str] = []
        for word in words:
            name, colon, value = word.partition(":")
            if colon and name.startswith(_ARGUMENT) and len(name) > len(_ARGUMENT):
                args[name.removeprefix(_ARGUMENT)] = value
            elif colon and name in _WORDS:
                conditions[name] = value
            else:
                free.append(word)
        if free:
            conditions["error"] = " ".join(filter(None, [conditions.get("error"), *free]))
        return cls.of(**conditions, args=args)

    def line(self) -> str:
        """The line that `parse` reads as this filter."""
        words = [f"state:{self.state or 'all'}"] if self.state != "dead" else []
        for name in ("queue", "function", "fingerprint"):
            if (value := getattr(self, name)) is not None:
                words.append(f"{name}:{value}")
        for name in ("since", "until"):
            if (at := getattr(self, name)) is not None:
                words.append(f"{name}:{at.isoformat()}")
        words += [f"{_ARGUMENT}{name}:{value}" for name, value in self.args.items()]
        if self.poison is not None:
            words.append(f"poison:{'yes' if self.poison else 'no'}")
        if self.archived:
            words.append("archived:yes")
        if self.error is not None:
            words.append(f"error:{self.error}")
        return shlex.join(words)

    @property
    def searches(self) -> bool:
        """Whether it needs the search index; then the order is that of recording."""
        return self.error is not None or bool(self.args)


ALL_DEAD = LetterFilter()
"""All that are dead."""


def _invalid(error: ValidationError) -> InvalidFilterError:
    first = validation_problems(error)[0]
    problem = lower_first(first.problem)
    if first.type == "string_pattern_mismatch":
        problem = "use the 16 hexadecimal digits of a group"
    elif first.type == "literal_error":
        problem = f"use {', '.join(STATES)} or all"
    return InvalidFilterError(problem, field=(first.field or "filter").replace("args.", _ARGUMENT))
