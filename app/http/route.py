"""What a route is: the one declaration from which it is both served and described."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from app.http.context import Context
from workers.engine.policy import DEFAULT_POLICIES
from workers.operations.operations import Operations

JSON = "application/json"


class Given(BaseModel):
    """Base of what a client may send as parameters: one that is not known is a mistake, and is said."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class GivenBody(Given):
    """Base of what a client may send as a body: text is no number there."""

    model_config = ConfigDict(strict=True)


def _known(queue: str) -> str:
    if queue not in DEFAULT_POLICIES:
        raise ValueError(f"unknown queue: use one of {', '.join(DEFAULT_POLICIES)}")
    return queue


QueueName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(DEFAULT_POLICIES)})
]

WHOLE = BeforeValidator(lambda value: int(value) if type(value) is float and value.is_integer() else value)
"""Beside the type of a whole number, after its limits: JSON may write it as 1.0, too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the answers of a route; ``model`` is None where its handler answers with bytes."""

    description: str
    model: type[BaseModel] | None
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has passed all checks; ``path``, ``query`` and ``body`` are of the route's models."""

    context: Context
    operations: Operations
    """Acts in the name of whoever sent the request."""
    path: Any = None
    query: Any = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers; bytes are sent as they are."""

    body: BaseModel | bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A method on a path.

    A route that is not ``open`` needs the token.  ``problems`` are the statuses of its problems beyond those
    that follow from the rest.
    """

    method: str
    path: str
    summary: str
    handler: Callable[[Call], Awaitable[Reply]]
    answers: Mapping[int, Answer]
    open: bool = False
    path_model: type[Given] | None = None
    slashes: bool = False
    """Whether the last parameter of the path may hold some."""
    query: type[Given] | None = None
    body: type[GivenBody] | None = None
    body_optional: bool = False
    """Whether a request without a body is one with nothing but defaults."""
    many: int = 0
    """How many of ``body`` a list may hold that is sent in its place; 0: no list is taken."""
    problems: tuple[int, ...] = field(default=())

    @property
    def pattern(self) -> str:
        """The path as it is matched."""
        return f"{self.path[:-1]}:path}}" if self.slashes else self.path

    @property
    def problem_statuses(self) -> tuple[int, ...]:
        """The statuses of all problems that it may answer with."""
        found = {500, *self.problems}
        if not self.open:
            found |= {401, 422}
        if self.path_model is not None:
            found.add(404)
        if self.query is not None:
            found.add(422)
        if self.body is not None:
            found |= {400, 408, 413, 415, 422}
        return tuple(sorted(found))
