"""Reads pydantic's validation errors: which field is wrong, why, and how to fix it."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from storage.errors import ApplianceError


class FieldProblem(NamedTuple):
    """One field that pydantic rejects; never its value, which may be a secret."""

    location: tuple[int | str, ...]
    """Keys and indexes that lead to the field; empty if the value as a whole is wrong."""
    type: str
    """Pydantic's name of the error, for instance ``missing``."""
    problem: str
    fix: str = ""
    """Set if the validator raised an `ApplianceError` that is a ValueError, too."""
    cause: BaseException | None = None
    """The error that the validator raised, if it is one of ours."""

    @property
    def field(self) -> str:
        """The location as a name, for instance ``jobs.0.data``."""
        return ".".join(map(str, self.location))


def validation_problems(error: ValidationError) -> list[FieldProblem]:
    """Return the problems of all fields, in pydantic's order."""
    return [_to_problem(details) for details in error.errors(include_url=False, include_input=False)]


def _to_problem(details: ErrorDetails) -> FieldProblem:
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, ApplianceError):
        return FieldProblem(details["loc"], details["type"], cause.problem, cause.fix, cause)
    problem = str(cause) if isinstance(cause, ValueError) else details["msg"]
    return FieldProblem(details["loc"], details["type"], problem)


def lower_first(message: str) -> str:
    """Return pydantic's message as the end of a line of ours: with a small letter, unless an acronym."""
    return message[0].lower() + message[1:] if message[1:2].islower() else message
