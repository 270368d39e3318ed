"""The dead letters that a request selects: by id, or by a filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from app.http.models import MAX_ID, IntegralFloat, QueueName, Reason, RequestBody
from storage.dead_letters.filters import MIN_SEARCH_CHARS, LetterFilter, Text, Time
from workers.operations.selection import MAX_IDS, Selection

_MAX_ARGUMENTS = 8
_BOOLEANS = {"true": True, "false": False}

LetterId = Annotated[int, Field(ge=1, le=MAX_ID), IntegralFloat]
Flag = Annotated[bool, Strict(), BeforeValidator(lambda text: _BOOLEANS.get(text, text))]
"""``true`` or ``false``, as text."""


class Conditions(BaseModel):
    """Conditions that hold together; without any, all letters are selected."""

    queue: QueueName | None = Field(None, description="Of one queue.")
    function: Text | None = Field(None, description="Name of the job's function.")
    since: Time | None = Field(None, description="Died then or later: a time, or how long ago: 30m, 2h, 7d.")
    until: Time | None = Field(None, description="Died before: a time, or how long ago.")
    error: str | None = Field(
        None,
        min_length=MIN_SEARCH_CHARS,
        max_length=200,
        description="A text that the error contains, as `type: message`, in small or capital letters.",
    )
    fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{16}$", description="Of a group.")

    def to_filter(self) -> LetterFilter:
        """Return the filter for the operations.  Raises InvalidFilterError."""
        names = set(type(self).model_fields) & set(LetterFilter.model_fields)
        return LetterFilter.from_options(**{name: getattr(self, name) for name in names})


class LetterQuery(Conditions):
    """Selects letters, by the parameters of a query."""

    state: Literal["dead", "replayed", "discarded", "all"] = Field("dead", description="`all`: in any state.")
    poison: Flag | None = Field(None, description="Only those, or none, that died too often of one error.")
    archived: Flag = Field(False, description="Search the archive instead.")


class GroupsQuery(LetterQuery):
    """Selects the groups with the most letters."""

    limit: int = Field(50, ge=1, le=200, description="Most items of the page.")


class ListQuery(GroupsQuery):
    """Selects a page of letters."""

    cursor: str | None = Field(None, description="`next` of the page before.")


class FilterBody(Conditions, RequestBody):
    """Conditions on the letters that an action is about; all of them hold together."""

    poison: bool | None = Field(None, description="Only those, or none, that died too often of one error.")
    archived: bool = Field(False, description="Search the archive instead.")
    args: Annotated[Mapping[Text, Text], Field(max_length=_MAX_ARGUMENTS)] = Field(
        default_factory=dict, description="Arguments of the job, each with its value as text."
    )
    up_to: LetterId | None = Field(None, description="Leave out what was recorded after that letter.")


class SelectionBody(RequestBody):
    """Letters by id, or those that match a filter: exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["ids"]}, {"required": ["filter"]}],
            "examples": [{"filter": {"queue": "color-extraction", "since": "2h"}, "reason": "CDN is back"}],
        }
    )

    ids: list[LetterId] = Field(default_factory=list, min_length=1, max_length=MAX_IDS)
    filter: FilterBody = Field(default_factory=FilterBody)
    reason: Reason = ""

    @model_validator(mode="after")
    def _check_one_of_both(self) -> SelectionBody:
        if len(self.model_fields_set & {"ids", "filter"}) != 1:
            raise ValueError("give either ids or filter")
        return self

    @property
    def selection(self) -> Selection:
        """The letters, for the operations.  Raises InvalidFilterError."""
        return self.ids if "ids" in self.model_fields_set else self.filter.to_filter()
