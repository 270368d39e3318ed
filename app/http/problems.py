"""Errors as the client gets them: application/problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from storage.errors import ApplianceError, InvalidCursorError, Kind
from storage.redis.refusals import explain
from workers.errors import InvalidJobError, UnknownQueueError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "5"}
"""Header, in seconds, of the answers while a server is unavailable."""
EXPLAINED_ERRORS: tuple[type[Exception], ...] = (
    HTTPException,
    RequestValidationError,
    ApplianceError,
    RedisError,
    OSError,
    ClientDisconnect,
)
"""Errors that `problem_of` may explain; all others are defects."""
_MAX_ERRORS = 20
_MAX_FIELD_CHARS = 80
_STATUSES = {
    Kind.USAGE: 422,
    Kind.READ_ONLY: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.UNAVAILABLE: 503,
    Kind.FULL: 503,
}
_FIELDS = {InvalidJobError: "data", InvalidCursorError: "cursor", UnknownQueueError: "queue"}
"""The parameter that such an error is about, if it does not name one."""
_DESCRIPTIONS = {
    401: "The token is missing or wrong.",
    403: "Read-only mode: nothing may be changed.",
    404: "There is nothing of that name or id.",
    409: "Its state does not allow this.",
    503: "Redis or the database does not answer.",
}
_EXAMPLES = {
    400: "the body: not JSON: Expecting ',' delimiter at line 1, column 8",
    401: "the token is missing or wrong: send Authorization: Bearer TOKEN",
    403: "read-only: drain would change something; COUTURECAST_READ_ONLY=0 allows it",
    404: "no dead letter has the id 17: list them with failed-jobs list",
    408: "the body took longer than 30 s",
    409: "plan 3 is done: make a new one of what is still dead",
    413: "a body has at most 1,065,536 bytes, one that is a list 8,000,000",
    415: "send JSON, with the header Content-Type: application/json",
    500: "a defect of this program: its log has the traceback",
    503: "Redis: no answer in time",
}
"""The detail of the example of each answer, but of 422."""
_INVALID_EXAMPLE = ("limit", "Input should be greater than or equal to 1")


class FieldProblem(BaseModel):
    """The problem of one field, parameter or header."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = Field(None, description="With 422: what is wrong with which field.")
    keys: list[str | None] | None = Field(
        None, description="With 409 of an enqueue: the key of each job, null if it was not enqueued."
    )
    enqueued: int | None = Field(
        None, description="With jobs that are sent one a line: how many of them were enqueued."
    )
    next_line: int | None = Field(
        None, description="With these: the first line that was not enqueued; send it as `from_line`."
    )


class ProblemError(HTTPException):
    """Raised to answer a request with a problem; ``members`` are further members of `Problem`."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(status, detail, headers)
        self.problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **members)


def validation_problem(errors: Iterable[tuple[str, str]]) -> ProblemError:
    """Return the problem with fields, parameters or headers, given as pairs of a name and a message."""
    fields = [FieldProblem(field=name, message=message) for name, message in errors]
    return ProblemError(422, "; ".join(f"{error.field}: {error.message}" for error in fields), errors=fields)


def field_problems(error: ValidationError) -> list[tuple[str, str]]:
    """Return a name and a message for each field that is wrong, without its value."""
    return [(_field_name(details["loc"]), details["msg"]) for details in error.errors()[:_MAX_ERRORS]]


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer an error of a route; raise it again if nothing explains it."""
    problem = _wrong_method(request) if _is_wrong_method(error) else problem_of(error)
    if problem is None:
        raise error
    return problem_response(problem)


def problem_of(error: Exception) -> ProblemError | None:
    """Return the problem that explains an error; None if it is a defect."""
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            return _of_validation(error.errors())
        case HTTPException():
            return ProblemError(404, "this path does not exist: /openapi.json lists all paths")
        case ApplianceError() if error.kind in _STATUSES:
            return _of_appliance(error)
        case RedisError() | OSError():  # TimeoutError is an OSError
            cause = explain(error) if str(error).strip() else "Redis: no answer in time"
            return ProblemError(503, cause, headers=RETRY_AFTER)
        case ClientDisconnect():
            return ProblemError(400, "the body ended early")
    return None


def problem_response(error: ProblemError) -> Response:
    """Return the answer that a client gets."""
    return Response(
        error.problem.model_dump_json(exclude_none=True),
        error.status_code,
        headers=dict(error.headers or {}),
        media_type=MEDIA_TYPE,
    )


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of answers with a problem, for OpenAPI."""
    schema = {"$ref": "#/components/schemas/Problem"}
    described: dict[int | str, dict[str, Any]] = {
        status: {
            "description": _DESCRIPTIONS.get(status, f"{HTTPStatus(status).phrase}."),
            "content": {MEDIA_TYPE: {"schema": schema, "example": _example(status)}},
        }
        for status in statuses
    }
    if 401 in described:
        described[401]["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return described


def _example(status: int) -> dict[str, Any]:
    """Return a problem as a client may get it."""
    invalid = status == 422
    error = validation_problem([_INVALID_EXAMPLE]) if invalid else ProblemError(status, _EXAMPLES[status])
    return error.problem.model_dump(exclude_none=True)


def _of_validation(errors: Sequence[Any]) -> ProblemError:
    in_path = [error for error in errors if error["loc"][0] == "path"]
    if in_path:  # the path does not name an existing thing
        return ProblemError(404, "; ".join(f"{name}: {text}" for name, text in _named_messages(in_path)))
    return validation_problem(_named_messages(errors))


def _named_messages(errors: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield a name and a message for each error, without the value."""
    for error in errors[:_MAX_ERRORS]:
        place, *steps = error["loc"]
        cause = error.get("ctx", {}).get("error")
        yield _field_name(steps) or place, str(cause) if isinstance(cause, ValueError) else error["msg"]


def _field_name(steps: Sequence[int | str]) -> str:
    """Return for instance ``[2].data``; names that the client chose are cut and escaped."""
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return "".join(parts).removeprefix(".")[:_MAX_FIELD_CHARS].encode("unicode_escape").decode()


def _is_wrong_method(error: Exception) -> bool:
    return isinstance(error, HTTPException) and error.status_code == 405


def _wrong_method(request: Request) -> ProblemError:
    """Name the methods of all routes of the path: the error has only those of the first."""
    routes = (route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL)
    methods = {method for route in routes for method in route.methods}
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return ProblemError(405, f"use {allowed}", headers={"Allow": allowed})


def _of_appliance(error: ApplianceError) -> ProblemError:
    status = _STATUSES[error.kind]
    if status != 422:
        return ProblemError(status, str(error), headers=RETRY_AFTER if status == 503 else None)
    if error.field:
        return validation_problem([(error.field, ": ".join(filter(None, (error.problem, error.fix))))])
    return validation_problem([(_FIELDS.get(type(error), "filter"), str(error))])
