"""A payload's form: its fields from a JSON schema, and what was typed as its values."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, Field

from tui.text.payload_form import FormField, form_fields, parse_form


class Inner(BaseModel):
    name: str


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Example(BaseModel):
    title: str = Field(description="What it is called.", max_length=20)
    note: str | None = None
    count: int = Field(default=3, ge=1, le=9)
    share: float = Field(ge=0)
    urgent: bool = False
    level: Literal["low", "high"] = "low"
    code: Literal[1, 2] = 1
    size: Size | None = None
    at: AwareDatetime | None = None
    when: datetime | None = None
    inner: Inner | None = None
    tags: list[str] = []


FIELDS = {field.name: field for field in form_fields(Example.model_json_schema())}


def test_each_property_is_a_field_with_its_kind_choices_default_and_help() -> None:
    kinds = {name: field.kind for name, field in FIELDS.items()}
    assert kinds == {
        "title": "text", "note": "text", "count": "whole number", "share": "number", "urgent": "choice",
        "level": "choice", "code": "choice", "size": "choice", "at": "text", "when": "text", "inner": "json",
        "tags": "json",
    }  # fmt: skip
    assert {name for name, field in FIELDS.items() if field.required} == {"title", "share"}
    assert FIELDS["level"].choices == ("low", "high")
    assert FIELDS["size"].choices == ("s", "l")
    assert FIELDS["urgent"].choices == ("true", "false")
    assert FIELDS["urgent"].help == "default false"
    assert FIELDS["title"].help == "What it is called; at most 20 characters"
    assert FIELDS["count"].help == "a whole number from 1 to 9; default 3"
    assert "zone" in FIELDS["at"].help


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("title", "007", "007"),
        ("count", " 4 ", 4),
        ("share", "-0.5", -0.5),
        ("share", "1e3", 1000.0),
        ("urgent", "true", True),
        ("level", "high", "high"),
        ("code", "2", 2),
        ("inner", '{"name": "a"}', {"name": "a"}),
        ("tags", '["a"]', ["a"]),
    ],
)
def test_what_is_typed_becomes_a_value_of_the_fields_type(name: str, typed: str, value: Any) -> None:
    payload, problems = parse_form(list(FIELDS.values()), {name: typed, "note": ""})
    assert (payload, problems) == ({name: value}, {})


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("count", "4.5"),
        ("count", "true"),
        ("share", "x"),
        ("share", "NaN"),
        ("share", "true"),
        ("share", '"1"'),
        ("inner", "{"),
        ("count", "9" * 9_000),
    ],
)
def test_what_cannot_be_read_is_a_problem_of_its_field(name: str, typed: str) -> None:
    payload, problems = parse_form(list(FIELDS.values()), {name: typed})
    assert payload == {}
    assert list(problems) == [name]
    assert "\n" not in problems[name]


def test_a_schema_without_properties_has_no_fields() -> None:
    assert form_fields({}) == []
    assert FormField("a", "text", required=False).parse("x") == "x"
