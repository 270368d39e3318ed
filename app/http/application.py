"""The FastAPI application: routers, middleware, errors, and its description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.authentication import TokenMiddleware
from app.http.defects import DefectMiddleware
from app.http.problems import EXPLAINED_ERRORS, Problem, answer_error
from app.http.routers import (
    alerts,
    cache,
    cron,
    dead_letter_export,
    dead_letters,
    events,
    health,
    job_verbs,
    jobs,
    metrics,
    probes,
    queues,
    replays,
    scaling,
    workers,
)
from app.http.state import HttpState

OPEN_ROUTERS = (probes.router, metrics.router, health.router, scaling.router)
CLOSED_ROUTERS = (
    queues.producers,
    queues.router,
    cache.router,
    workers.router,
    workers.cluster,
    dead_letters.router,
    dead_letter_export.router,
    replays.letter_router,
    replays.router,
    events.router,
    alerts.router,
    jobs.router,
    job_verbs.router,
    cron.router,
)
_OPEN_PATHS = frozenset(
    route.path for router in OPEN_ROUTERS for route in router.routes if isinstance(route, APIRoute)
)


def make_application(state: HttpState, token: str) -> FastAPI:
    """Return the application; all but the open routes need ``token``."""
    application = _Application(
        title="couturecast-tui",
        version=state.version,
        openapi_url=None,  # a route of ours serves it
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        middleware=[
            Middleware(DefectMiddleware),
            Middleware(HeadMiddleware),
            Middleware(TokenMiddleware, token=token, open_paths=_OPEN_PATHS),
        ],
        exception_handlers=dict.fromkeys(EXPLAINED_ERRORS, answer_error),
    )
    application.router.redirect_slashes = False
    for router in (*OPEN_ROUTERS, *CLOSED_ROUTERS):
        # Not include_router, which makes every route a second time.
        application.router.routes += router.routes
    application.state.http = state
    return application


class HeadMiddleware:
    """Serves HEAD like GET; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, send)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return FastAPI's description, completed by the model of problems; it is made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            problem = Problem.model_json_schema(
                mode="serialization", ref_template="#/components/schemas/{model}"
            )
            document["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
            for operations in document["paths"].values():
                for operation in operations.values():
                    for parameter in operation.get("parameters", ()):
                        parameter["schema"] = _without_null(parameter["schema"])
        return super().openapi()


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: one that may be left out is never null."""
    for name in ("title", "description"):  # the parameter has them
        schema.pop(name, None)
    choices = [choice for choice in schema.pop("anyOf", ()) if choice.get("type") != "null"]
    if not choices:
        return schema
    return schema | (choices[0] if len(choices) == 1 else {"anyOf": choices})
