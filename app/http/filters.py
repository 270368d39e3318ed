"""Which dead letters a request means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict, model_validator

from app.http.route import WHOLE, Given, GivenBody, QueueName
from storage.dead_letters.filters import MIN_SEARCH_CHARS, LetterFilter, Text, Time
from workers.operations.selection import MAX_IDS, Selection

MAX_ID = 2**63 - 1
_MOST_ARGUMENTS = 8
_TRUTH = {"true": True, "false": False}


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdecimal()) or text.startswith("0"):
        raise ValueError("is no id: use digits only")
    return text


LetterId = Annotated[int, Field(ge=1, le=MAX_ID), WHOLE]
PathId = Annotated[int, Field(ge=1, le=MAX_ID), BeforeValidator(_digits)]
"""As `LetterId`, in a path: written in one way only."""
Flag = Annotated[bool, Strict(), BeforeValidator(lambda text: _TRUTH.get(text, text))]
"""``true`` or ``false``, as text."""
Since = Annotated[Time, Field(description="Died then or later: a time, or how long ago: 30m, 2h, 7d.")]
Until = Annotated[Time, Field(description="Died before: a time, or how long ago.")]
Error = Annotated[
    str,
    Field(
        min_length=MIN_SEARCH_CHARS,
        max_length=200,
        description="A text that the error contains, as `type: message`, in small or capital letters.",
    ),
]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", description="Of a group.")]


class Conditions(Given):
    """All of them hold together; without any, all letters are meant."""

    queue: QueueName | None = None
    function: Text | None = None
    since: Since | None = None
    until: Until | None = None
    error: Error | None = None
    fingerprint: Fingerprint | None = None

    def filter(self, **more: Any) -> LetterFilter:
        """The same for the operations.  Raises InvalidFilterError."""
        names = set(self.__class__.model_fields) & set(LetterFilter.model_fields)
        return LetterFilter.from_options(**{name: getattr(self, name) for name in names}, **more)


class GroupsQuery(Conditions):
    """The groups with the most letters."""

    state: Literal["dead", "replayed", "discarded", "all"] = "dead"
    poison: Flag | None = Field(None, description="Only those, or none, that died too often of one error.")
    archived: Flag = Field(False, description="Look in the archive instead.")
    limit: int = Field(50, ge=1, le=200)


class ListQuery(GroupsQuery):
    """A page of letters."""

    cursor: str | None = Field(None, description="`next` of the page before.")


class FilterBody(Conditions):
    """Conditions on the letters that an act is about; all of them hold together."""

    model_config = ConfigDict(strict=True)

    poison: bool | None = Field(None, description="Only those, or none, that died too often of one error.")
    archived: bool = Field(False, description="Look in the archive instead.")
    args: Annotated[Mapping[Text, Text], Field(max_length=_MOST_ARGUMENTS)] = Field(
        default_factory=dict, description="Arguments of the job, each with its value as text."
    )
    up_to: LetterId | None = Field(None, description="Leave out what was recorded after that letter.")


class SelectionBody(GivenBody):
    """Letters by id, or those that a filter means: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]})

    ids: list[LetterId] = Field(default_factory=list, min_length=1, max_length=MAX_IDS)
    filter: FilterBody = Field(default_factory=FilterBody)
    reason: str = Field("", max_length=500, description="Why, for the record.")

    @model_validator(mode="after")
    def _one(self) -> SelectionBody:
        if len(self.model_fields_set & {"ids", "filter"}) != 1:
            raise ValueError("give either ids or filter")
        return self

    @property
    def wanted(self) -> Selection:
        """The same for the operations.  Raises InvalidFilterError."""
        return self.ids if "ids" in self.model_fields_set else self.filter.filter()
