"""The dead letters that a request selects: by id, or by a filter."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from app.http.models import MAX_ID, IntegralFloat, QueueName, Reason, RequestBody
from storage.dead_letters.filters import (
    Arguments,
    Fingerprint,
    LetterFilter,
    LetterState,
    SearchText,
    Text,
    Time,
    describe_condition,
)
from workers.operations.selection import MAX_IDS, Selection

_BOOLEANS = {"true": True, "false": False}

LetterId = Annotated[int, Field(ge=1, le=MAX_ID), IntegralFloat]
Flag = Annotated[bool, Strict(), BeforeValidator(lambda text: _BOOLEANS.get(text, text))]
"""``true`` or ``false``, as text."""


def _condition(name: str, default: Any = None, example: str | None = None) -> Any:
    """Return a field of the letters' filter."""
    examples = None if example is None else [example]
    return Field(default, description=describe_condition(name), examples=examples)


class Conditions(BaseModel):
    """Conditions that hold together; without any, all letters are selected."""

    queue: QueueName | None = _condition("queue")
    function: Text | None = _condition("function", example="extract_colors")
    since: Time | None = _condition("since", example="2026-03-01T12:00:00Z")
    until: Time | None = _condition("until", example="2026-03-01T14:00:00Z")
    error: SearchText | None = _condition("error", example="TimeoutError: CDN")
    fingerprint: Fingerprint | None = _condition("fingerprint", example="9f2b1c0d4e5a6f78")

    def to_filter(self) -> LetterFilter:
        """Return the filter for the operations.  Raises InvalidFilterError."""
        names = set(type(self).model_fields) & set(LetterFilter.model_fields)
        return LetterFilter.from_options(**{name: getattr(self, name) for name in names})


class LetterQuery(Conditions):
    """Selects letters, by the parameters of a query."""

    state: Literal[LetterState, "all"] = _condition("state", "dead")
    poison: Flag | None = _condition("poison")
    archived: Flag = _condition("archived", False)


class GroupsQuery(LetterQuery):
    """Selects the groups with the most letters."""

    limit: int = Field(50, ge=1, le=200, description="Most items of the page.")


class ListQuery(GroupsQuery):
    """Selects a page of letters."""

    cursor: str | None = Field(None, description="`next` of the page before.")


class FilterBody(Conditions, RequestBody):
    """Conditions on the letters that an action is about; all of them hold together."""

    poison: bool | None = _condition("poison")
    archived: bool = _condition("archived", False)
    args: Arguments = Field(default_factory=dict, description=describe_condition("args"))
    up_to: LetterId | None = _condition("up_to")


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
