"""The common parts of the four handlers: a payload model, a result model, and the shape that SAQ calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.validation import validation_problems
from workers.engine.runner import SaqFunction
from workers.errors import InvalidJobError

_MAX_PROBLEMS = 5
"""Listed in one message."""
_MAX_NAME_CHARS = 80
"""Characters of a field's name in a message; a payload may name a field anything."""
P = TypeVar("P", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class Payload(BaseModel):
    """Base of the payload models: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class JobContext:
    """The part of its job that a handler gets: SAQ's job key, and the number of the attempt, from 1."""

    job_key: str
    attempt: int


class Enqueue(Protocol):
    """Enqueues a job of another queue; False if one with that key is queued already."""

    def __call__(self, queue: str, data: Mapping[str, Any], *, key: str | None = None) -> Awaitable[bool]: ...


class Handler(ABC, Generic[P, R]):
    """Does the work of one queue, without Redis and the environment."""

    queue: ClassVar[str]
    payload_model: type[P]

    @abstractmethod
    async def run(self, payload: P, context: JobContext) -> R:
        """Do one job.  Raises PermanentError if another attempt cannot help."""

    async def close(self) -> None:
        """Free what the handler holds."""

    def validate(self, data: Mapping[str, Any]) -> P:
        """Validate ``data`` as the handler's payload.  Raises InvalidJobError."""
        return validate_payload(self.payload_model, data)

    def as_function(self) -> SaqFunction:
        """Return the handler as SAQ calls it: ``async def f(ctx, **kwargs)``, which returns a JSON object."""

        async def function(ctx: dict[str, Any], /, **kwargs: Any) -> dict[str, Any]:
            job = ctx["job"]
            result = await self.run(self.validate(kwargs), JobContext(job.key, job.attempts))
            return result.model_dump(mode="json")

        return function


def validate_payload(model: type[P], data: Mapping[str, Any]) -> P:
    """Validate ``data`` as ``model``.  Raises InvalidJobError: one line that names each wrong field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = validation_problems(error)
        lines = [f"{_field(problem.location)}: {problem.problem}" for problem in problems[:_MAX_PROBLEMS]]
        if len(problems) > _MAX_PROBLEMS:
            lines.append(f"and {len(problems) - _MAX_PROBLEMS} more")
        raise InvalidJobError("; ".join(lines)) from None


def _field(location: tuple[int | str, ...]) -> str:
    name = ".".join(map(str, location)) or "payload"
    return name[:_MAX_NAME_CHARS].encode("unicode_escape").decode()
