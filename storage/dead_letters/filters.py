"""The filter of dead letters, for pages, counts, groups and selections on every surface."""

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

from storage.database.tables import MAX_ID
from storage.errors import InvalidFilterError
from storage.validation import lower_first, validation_problems

LetterState = Literal["dead", "replayed", "discarded"]
STATES: tuple[LetterState, ...] = ("dead", "replayed", "discarded")
MIN_SEARCH_CHARS = 3
"""Shortest text that can be searched for: the indexes consist of three-character pieces."""
MAX_AGE_DAYS = 36_500
"""Largest age by which old letters are selected."""
_MAX_TEXT_CHARS = 200
_MAX_ARGUMENTS = 8
_DURATION = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_QUERY_WORDS = {"queue", "function", "state", "since", "until", "error", "fingerprint", "poison", "archived"}
_ARGUMENT_PREFIX = "arg."


def parse_duration(text: str) -> int | None:
    """Return the seconds of ``90s``, ``30m``, ``2h``, ``7d`` or ``1w``; None if it is none of these."""
    match = _DURATION.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _UNIT_SECONDS[match[2]]


def _parse_utc(value: Any) -> Any:
    """Parse a time; one without a zone is UTC, as in all of HTTP."""
    when = _parse_time(value)
    naive = isinstance(when, datetime) and when.tzinfo is None
    return when.replace(tzinfo=UTC) if naive else when


def _parse_local(value: Any) -> Any:
    """Parse a time; one without a zone is of the terminal's, as screens and tables show it."""
    when = _parse_time(value)
    try:
        return when.astimezone() if isinstance(when, datetime) and when.tzinfo is None else when
    except (OverflowError, OSError):
        raise ValueError("is outside of the calendar") from None


def _parse_time(value: Any) -> Any:
    """Parse a time: ``2h`` is two hours ago."""
    if not isinstance(value, str):
        return value
    seconds_ago = parse_duration(value)
    if seconds_ago is not None:
        try:
            return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds_ago)
        except OverflowError:
            raise ValueError("is outside of the calendar") from None
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("use for instance 2h, 30m, 7d, 2026-03-01 or 2026-03-01T12:00:00+00:00") from None


def _in_range(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the calendar") from None


Text = Annotated[str, Field(min_length=1, max_length=_MAX_TEXT_CHARS)]
Time = Annotated[AwareDatetime, BeforeValidator(_parse_utc), AfterValidator(_in_range)]
LocalTime = Annotated[AwareDatetime, BeforeValidator(_parse_local), AfterValidator(_in_range)]
SearchText = Annotated[str, Field(min_length=MIN_SEARCH_CHARS, max_length=_MAX_TEXT_CHARS)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Arguments = Annotated[Mapping[Text, Text], Field(max_length=_MAX_ARGUMENTS)]


class LetterFilter(BaseModel):
    """Selects the letters that meet all conditions; None or an empty value sets none.

    ``state`` None selects all states.  ``since`` and ``until`` bound the time of death: from, and before.
    ``error`` is contained in ``type: message`` of the error, whatever the case of its letters.  ``args`` are
    arguments of the job, by name, with their values as text.  ``poison`` selects only the letters, or only
    the others, that died `POISON_DEATHS` times in a row of the same error.  ``archived`` searches the archive
    instead.  ``up_to`` excludes letters that were recorded after that id.  Commands and HTTP describe their
    conditions by `describe_condition`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: Text | None = Field(None, description="Of one queue.")
    function: Text | None = Field(None, description="Of one job function.")
    state: LetterState | None = Field("dead", description=f"In one state: {', '.join(STATES)}, or all.")
    since: LocalTime | None = Field(
        None, description="Died then or later: a time, or how long ago: 30m, 2h, 7d, 2026-03-01T12:00."
    )
    until: LocalTime | None = Field(None, description="Died before: a time, or how long ago.")
    error: SearchText | None = Field(
        None, description="A text that the error contains, as type: message, in small or capital letters."
    )
    fingerprint: Fingerprint | None = Field(None, description="Of one group.")
    args: Arguments = Field(
        default_factory=dict, description="Arguments of the job, each with its value as text."
    )
    poison: bool | None = Field(
        None, description="Only those that died three times in a row of the same error, or only the others."
    )
    archived: bool = Field(False, description="Of the archive.")
    up_to: Annotated[int, Field(ge=0, le=MAX_ID)] | None = Field(
        None, description="Leave out what was recorded after that letter."
    )

    @classmethod
    def from_options(cls, **conditions: Any) -> LetterFilter:
        """Return the filter with those of ``conditions`` that are not None; ``state="all"`` means all states.

        Raises InvalidFilterError, whose field is the condition.
        """
        provided = {name: value for name, value in conditions.items() if value is not None}
        if provided.get("state") == "all":
            provided["state"] = None
        try:
            return cls(**provided)
        except ValidationError as error:
            raise _invalid_filter(error) from None

    @classmethod
    def parse(cls, query: str) -> LetterFilter:
        """Parse a query: ``queue:… state:… since:2h arg.city:lisboa``, and words of the error.

        Quotation marks keep words together.  Raises InvalidFilterError.
        """
        try:
            words = shlex.split(query)
        except ValueError:
            raise InvalidFilterError("a quotation mark is not closed") from None
        conditions: dict[str, Any] = {}
        args: dict[str, str] = {}
        free: list[str] = []
        for word in words:
            name, colon, value = word.partition(":")
            if colon and name.startswith(_ARGUMENT_PREFIX) and len(name) > len(_ARGUMENT_PREFIX):
                args[name.removeprefix(_ARGUMENT_PREFIX)] = value
            elif colon and name in _QUERY_WORDS:
                conditions[name] = value
            else:
                free.append(word)
        if free:
            conditions["error"] = " ".join(filter(None, [conditions.get("error"), *free]))
        return cls.from_options(**conditions, args=args)

    def to_query(self) -> str:
        """Return the query that `parse` turns into this filter."""
        words = [f"state:{self.state or 'all'}"] if self.state != "dead" else []
        for name in ("queue", "function", "fingerprint"):
            if (value := getattr(self, name)) is not None:
                words.append(f"{name}:{value}")
        for name in ("since", "until"):
            if (when := getattr(self, name)) is not None:
                words.append(f"{name}:{when.isoformat()}")
        words += [f"{_ARGUMENT_PREFIX}{name}:{value}" for name, value in self.args.items()]
        if self.poison is not None:
            words.append(f"poison:{'yes' if self.poison else 'no'}")
        if self.archived:
            words.append("archived:yes")
        if self.error is not None:
            words.append(f"error:{self.error}")
        return shlex.join(words)

    @property
    def uses_text_search(self) -> bool:
        """Whether it needs the search index; then pages are in the order of recording."""
        return self.error is not None or bool(self.args)


ALL_DEAD = LetterFilter()
"""Selects all dead letters."""


def describe_condition(name: str) -> str:
    """Return what a condition of the filter selects, for the help of a command and the schema of HTTP."""
    return LetterFilter.model_fields[name].description or ""


def _invalid_filter(error: ValidationError) -> InvalidFilterError:
    first = validation_problems(error)[0]
    problem = lower_first(first.problem)
    if first.type == "string_pattern_mismatch":
        problem = "use the 16 hexadecimal digits of a group"
    elif first.type == "literal_error":
        problem = f"use {', '.join(STATES)} or all"
    return InvalidFilterError(problem, field=(first.field or "filter").replace("args.", _ARGUMENT_PREFIX))
