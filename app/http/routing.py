"""Routes that refuse what plain FastAPI ignores or accepts: parameters, bodies and numbers that are wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Security
from fastapi.routing import APIRoute, get_request_handler
from pydantic import BaseModel
from starlette.responses import Response

from app.http.authentication import BEARER
from app.http.problems import ProblemError, problem_responses, validation_problem
from workers.engine.json_input import parse_json
from workers.engine.policy import MAX_PAYLOAD_BYTES
from workers.errors import InvalidJsonError

JSON = "application/json"
JSON_LINES = ("application/x-ndjson", "application/jsonl")
"""Two names of the same."""
MAX_BODY_BYTES = MAX_PAYLOAD_BYTES + 65_536
"""Limit of a body that is not a list: one payload and what surrounds it."""
MAX_LIST_BYTES = 8_000_000
_BODY_SECONDS = 30.0
_LIST = re.compile(rb"[ \t\r\n]*\[")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def open_router(tag: str, prefix: str = "") -> APIRouter:
    """Return a router for routes that are open to all."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        generate_unique_id_function=_operation_id,
        responses=problem_responses(500),
    )


def strict_router(tag: str, prefix: str) -> APIRouter:
    """Return a router for routes that need the token."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        generate_unique_id_function=_operation_id,
        route_class=StrictRoute,
        dependencies=[Security(BEARER)],
    )


def _operation_id(route: APIRoute) -> str:
    return route.name


class StrictRoute(APIRoute):
    """Refuses unknown and repeated parameters, and bodies that are not taken, not JSON or too large.

    It also describes the problems that follow from its method and from what it takes.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        statuses = {401, 422, 500, 503}
        if self.methods != {"GET"}:
            statuses.add(403)
        if self.param_convertors:
            statuses.add(404)
        if self.body_field is not None:
            statuses |= {400, 408, 413, 415}
        self.responses = {**problem_responses(*statuses), **self.responses}

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler, behind the checks."""
        handle = self._handle_body(super().get_route_handler())
        parameters = frozenset(self._query_parameters())

        async def check_and_handle(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive)
            _check_query(request, parameters)
            _check_encoding(request)
            return await handle(request)

        return check_and_handle

    def _handle_body(self, handle: Handler) -> Handler:
        """Return the handler behind the checks of the body."""
        body_field = self.body_field
        refuse_body = get_request_handler(replace(self.dependant, call=_refuse_body))

        async def check_and_handle(request: Request) -> Response:
            if body_field is None:
                return await (refuse_body if _has_body(request) else handle)(request)
            if _has_body(request) or body_field.field_info.is_required():
                _check_content_type(request)
                await request.json()
            return await handle(request)

        return check_and_handle

    def _query_parameters(self) -> Iterable[str]:
        for parameter in self.dependant.query_params:
            model = parameter.field_info.annotation
            if isinstance(model, type) and issubclass(model, BaseModel):
                yield from model.model_fields
            else:
                yield parameter.alias


class LinesRoute(StrictRoute):
    """Takes a body of one JSON object a line, which its handler reads as a stream."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.responses = {**problem_responses(400, 408, 413, 415), **self.responses}

    def _handle_body(self, handle: Handler) -> Handler:
        async def check_and_handle(request: Request) -> Response:
            if _media_type(request) not in JSON_LINES:
                raise ProblemError(
                    415, f"send a JSON object in each line, with the header Content-Type: {JSON_LINES[0]}"
                )
            return await handle(request)

        return check_and_handle


async def _refuse_body(**parameters: Any) -> None:
    """Stand in for a handler that takes no body: other mistakes are reported first."""
    raise validation_problem([("body", "is not taken here: send none")])


class StrictRequest(Request):
    """Reads bodies within limits of size and time, by the JSON parser of the whole program."""

    async def body(self) -> bytes:
        """Return the body.  Raises ProblemError if it is too large or takes too long."""
        if not hasattr(self, "_body"):
            announced = self.headers.get("content-length", "")
            if announced.isdecimal() and int(announced) > MAX_LIST_BYTES:
                raise _too_large()
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    self._body = await self._read()
            except TimeoutError:
                raise ProblemError(
                    408, f"the body took longer than {_BODY_SECONDS:g} s", headers={"Connection": "close"}
                ) from None
        return self._body

    async def json(self) -> Any:
        """Return the value of the body.  Raises ProblemError."""
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json(await self.body())
            except InvalidJsonError as error:
                raise ProblemError(400, f"the body: {error}") from None
        return self._json

    async def _read(self) -> bytes:
        body = bytearray()
        async for chunk in self.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES and (len(body) > MAX_LIST_BYTES or not _LIST.match(body)):
                raise _too_large()  # the server drops the rest
        return bytes(body)


def _check_query(request: Request, parameters: frozenset[str]) -> None:
    names = request.query_params.keys()
    repeated = [name for name in names if len(request.query_params.getlist(name)) > 1]
    if repeated:
        raise validation_problem((name, "is given more than once") for name in repeated)
    unknown = [name for name in names if name not in parameters]
    if unknown:
        known = f"use {', '.join(sorted(parameters))}" if parameters else "no parameter is taken here"
        raise validation_problem((name, f"is unknown: {known}") for name in unknown)


def _has_body(request: Request) -> bool:
    return (
        request.headers.get("content-length", "0") not in ("", "0") or "transfer-encoding" in request.headers
    )


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and _has_body(request):
        raise ProblemError(415, "send the body as it is, without Content-Encoding")


def _check_content_type(request: Request) -> None:
    if _media_type(request) != JSON:
        raise ProblemError(415, f"send JSON, with the header Content-Type: {JSON}")


def _too_large() -> ProblemError:
    return ProblemError(
        413, f"a body has at most {MAX_BODY_BYTES:,} bytes, one that is a list {MAX_LIST_BYTES:,}"
    )
