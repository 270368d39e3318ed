"""Reads what a request brings into the models of its route."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.http.problems import ProblemError, invalid
from app.http.route import Route
from workers.engine.json_input import parse_json
from workers.engine.policy import MAX_PAYLOAD_BYTES
from workers.errors import InvalidJsonError

LARGEST = MAX_PAYLOAD_BYTES + 65_536
"""Bytes of a body that is no list: one payload and what is around it."""
LARGEST_LIST = 8_000_000
_PATIENCE = 30.0
"""Seconds that a body may take."""
_MOST_ERRORS = 20
_LONGEST_NAME = 80  # characters of a field that a message shows
_LIST = re.compile(rb"[ \t\r\n]*\[")


def path_of(route: Route, request: Request) -> Any:
    """The parameters in the path.  Raises ProblemError: what they name is not there."""
    if route.path_model is None:
        return None
    try:
        return route.path_model.model_validate(request.path_params)
    except ValidationError as error:
        raise ProblemError(404, "; ".join(f"{name}: {text}" for name, text in _errors(error))) from None


def query_of(route: Route, request: Request) -> Any:
    """The parameters of the query.  Raises ProblemError."""
    given = request.query_params
    twice = [name for name in given if len(given.getlist(name)) > 1]
    if twice:
        raise invalid((name, "is given more than once") for name in twice)
    if route.query is None:
        if given and not route.open:
            raise invalid((name, "is no parameter of this") for name in given)
        return None
    return _validated(_one_of(route.query), dict(given))


async def body_of(route: Route, request: Request) -> Any:
    """The body: the route's model, or a list of it.  Raises ProblemError."""
    announced = request.headers.get("content-length", "")
    empty = announced in ("", "0") and "transfer-encoding" not in request.headers
    if route.body is None:
        return None if empty or route.open else _not_taken()
    if route.body_optional and empty:
        return route.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "send JSON, and say so: Content-Type: application/json")
    if announced.isdecimal() and int(announced) > LARGEST_LIST:
        raise _too_large()
    body = _Body(many=bool(route.many))
    try:
        async with asyncio.timeout(_PATIENCE):
            async for chunk in request.stream():
                body.take(chunk)
    except TimeoutError:
        raise ProblemError(
            408, f"the body took longer than {_PATIENCE:g} s", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise ProblemError(400, "the body ended early") from None
    value = _parsed(bytes(body.kept))
    if not isinstance(value, list) or not route.many:
        return _validated(_one_of(route.body), value)
    if not 0 < len(value) <= route.many:
        raise invalid([("body", f"a list has 1 to {route.many} items, not {len(value)}")])
    return _validated(_list_of(route.body), value)


def _not_taken() -> None:
    raise invalid([("body", "is not taken here: send none")])


class _Body:
    """What has come of a body."""

    def __init__(self, *, many: bool) -> None:
        self.kept = bytearray()
        self._many = many

    def take(self, chunk: bytes) -> None:
        """The next piece.  Raises ProblemError where it is too large; the server drops what follows."""
        self.kept += chunk
        if len(self.kept) > LARGEST:
            listed = self._many and _LIST.match(self.kept) is not None
            if not listed or len(self.kept) > LARGEST_LIST:
                raise _too_large()


def _too_large() -> ProblemError:
    return ProblemError(413, f"a body has at most {LARGEST:,} bytes, one that is a list {LARGEST_LIST:,}")


@cache
def _one_of(model: type[BaseModel]) -> TypeAdapter[Any]:
    return TypeAdapter(model)


@cache
def _list_of(model: type[BaseModel]) -> TypeAdapter[Any]:
    return TypeAdapter(list[model])  # type: ignore[valid-type]


def _parsed(raw: bytes) -> Any:
    """The value of a JSON body.  Raises ProblemError."""
    try:
        return parse_json(raw)
    except InvalidJsonError as error:
        raise ProblemError(400, f"the body: {error}") from None


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise invalid(_errors(error)) from None


def _errors(error: ValidationError) -> Iterator[tuple[str, str]]:
    """A name and a message for each; never the value."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    for each in found[:_MOST_ERRORS]:
        yield _name(each["loc"]) or "body", each["msg"].removeprefix("Value error, ")


def _name(location: tuple[int | str, ...]) -> str:
    """For instance ``[2].data``; the client's own names are cut and escaped."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")[:_LONGEST_NAME].encode("unicode_escape").decode()
