"""Pydantic's errors as field, problem and fix."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel, ValidationError

from storage.errors import ApplianceError, one_line
from storage.validation import lower_first, validation_problems

SECRET = "pa55word"


class EvenError(ApplianceError, ValueError):
    """A number is odd."""


def _even(number: int) -> int:
    if number % 2:
        raise EvenError("is odd", fix="use an even number")
    return number


def _small(number: int) -> int:
    if number > 10:
        raise ValueError("is too large")
    return number


class _Item(BaseModel):
    count: Annotated[int, AfterValidator(_even), AfterValidator(_small)]


class _Model(BaseModel):
    items: list[_Item]


def _problems(*counts: object) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as caught:
        _Model.model_validate({"items": [{"count": count} for count in counts]})
    return [(found.field, found.problem, found.fix) for found in validation_problems(caught.value)]


def test_an_error_of_ours_keeps_its_parts() -> None:
    assert _problems(2, 3) == [("items.1.count", "is odd", "use an even number")]


def test_a_value_error_is_the_problem() -> None:
    assert _problems(12) == [("items.0.count", "is too large", "")]


def test_a_problem_never_quotes_the_value() -> None:
    ((_, problem, _),) = _problems(SECRET)
    assert problem.startswith("Input should be a valid integer")
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("message", "lowered"),
    [
        ("Field required", "field required"),
        ("URL scheme should be", "URL scheme should be"),
        ("A", "A"),
        ("", ""),
    ],
)
def test_an_acronym_keeps_its_capitals(message: str, lowered: str) -> None:
    assert lower_first(message) == lowered


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("a\n  b"), "a b"), (TimeoutError(), "TimeoutError"), (OSError(" "), "OSError")],
)
def test_an_error_without_text_is_named_by_its_class(error: Exception, line: str) -> None:
    assert one_line(error) == line
