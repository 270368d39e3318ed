"""Errors as the client sees them: application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.responses import Response

from storage.errors import ApplianceError, InvalidCursorError, Kind
from storage.redis.refusals import explain
from workers.errors import InvalidJobError, UnknownQueueError

MEDIA_TYPE = "application/problem+json"
_AGAIN_IN = "5"  # s: Retry-After while a server is away


class FieldProblem(BaseModel):
    """What is wrong with one field, parameter or header."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = Field(None, description="With 422: what is wrong with which field.")
    keys: list[str | None] | None = Field(
        None, description="With 409 of an enqueue: the key of each job, null where it was not enqueued."
    )


class ProblemError(Exception):
    """Raised to answer a request with a problem; ``more`` are further members of `Problem`."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)


def invalid(errors: Iterable[tuple[str, str]]) -> ProblemError:
    """The problem with fields, parameters or headers: a name and a message for each."""
    found = [FieldProblem(field=name, message=message) for name, message in errors]
    return ProblemError(422, "; ".join(f"{each.field}: {each.message}" for each in found), errors=found)


_STATUSES = {
    Kind.USAGE: 422,
    Kind.READ_ONLY: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.UNAVAILABLE: 503,
    Kind.FULL: 503,
}
_FIELDS = {InvalidJobError: "data", InvalidCursorError: "cursor", UnknownQueueError: "queue"}
"""The parameter that such an error is about."""


def problem_of(error: Exception) -> ProblemError | None:
    """The problem that an error of the layers below is; None where it is a defect."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ApplianceError) and error.kind in _STATUSES:
        return _answer(error)
    if isinstance(error, RedisError | OSError):  # TimeoutError is an OSError
        cause = explain(error) if str(error).strip() else "Redis: no answer in time"
        return ProblemError(503, cause, headers={"Retry-After": _AGAIN_IN})
    return None


def _answer(error: ApplianceError) -> ProblemError:
    status = _STATUSES[error.kind]
    if status == 422:
        if error.field:
            return invalid([(error.field, ": ".join(filter(None, (error.problem, error.fix))))])
        return invalid([(_FIELDS.get(type(error), "filter"), str(error))])
    return ProblemError(status, str(error), headers={"Retry-After": _AGAIN_IN} if status == 503 else None)


def response(error: ProblemError) -> Response:
    """The answer that tells it."""
    return Response(
        error.problem.model_dump_json(exclude_none=True),
        error.status,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )
