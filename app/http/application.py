"""The routes as a Starlette application: checks in order, one handler, one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from app.http.authentication import Guard, actor
from app.http.context import Context
from app.http.problems import ProblemError, problem_of, response
from app.http.reading import body_of, path_of, query_of
from app.http.route import Call, Reply, Route
from app.http.routes import ROUTES

log = structlog.get_logger(__name__)

_UNSTORED = {"Cache-Control": "no-store"}


def application(context: Context, token: str, routes: Sequence[Route] = ROUTES) -> Starlette:
    """All routes, of which those that are not open need ``token``."""
    paths: dict[str, dict[str, Route]] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method] = route
    made = Starlette(
        routes=[Path(path, endpoint=_Endpoint(context, methods)) for path, methods in paths.items()],
        middleware=[Middleware(Guard, token=token, open_paths={each.path for each in routes if each.open})],
        exception_handlers={HTTPException: _not_found},
    )
    made.router.redirect_slashes = False
    return made


async def _not_found(request: Request, error: Exception) -> Response:
    return response(ProblemError(404, "there is no such path: /openapi.json lists those that are"))


class _Endpoint:
    """All methods of one path, as an ASGI application."""

    def __init__(self, context: Context, methods: Mapping[str, Route]) -> None:
        self._context = context
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong is a problem."""
        try:
            answer = await self._answer(Request(scope, receive))
        except Exception as error:
            answer = _told(error, scope)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        route = self._methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = ", ".join(sorted([*self._methods, *(["HEAD"] if "GET" in self._methods else [])]))
            raise ProblemError(405, f"use {allowed}", headers={"Allow": allowed})
        operations = self._context.operations
        call = Call(
            self._context,
            operations if route.open else operations.as_actor(actor(request)),
            path=path_of(route, request),
            query=query_of(route, request),
            body=await body_of(route, request),
        )
        return _sent(route, await route.handler(call))


def _sent(route: Route, reply: Reply) -> Response:
    body = reply.body.model_dump_json() if isinstance(reply.body, BaseModel) else reply.body
    return Response(
        body,
        reply.status,
        headers={**_UNSTORED, **reply.headers},
        media_type=route.answers[reply.status].media_type,
    )


def _told(error: Exception, scope: Scope) -> Response:
    found = problem_of(error)
    if found is None:
        log.error("a request ended by a defect", method=scope["method"], path=scope["path"], exc_info=error)
        found = ProblemError(500, "a defect of this program; its log says more")
    return response(found)
