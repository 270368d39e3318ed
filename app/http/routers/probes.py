"""Open to all: the probes of a supervisor, and the description of the routes."""

from __future__ import annotations

import asyncio

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.http.dependencies import State
from app.http.models import example
from app.http.routing import open_router

router = open_router("probes")

_DESCRIPTION_EXAMPLE = {
    "openapi": "3.1.0",
    "info": {"title": "couturecast-tui", "version": "0.1.0"},
    "paths": {},
}


class Alive(BaseModel):
    """The process answers, and its dispatchers make progress."""

    model_config = example(alive=True, reasons=[])

    alive: bool = True
    reasons: list[str] = Field(default=[], description="Why a supervisor should restart it.")


class Ready(BaseModel):
    """Whether the process takes jobs; without workers: whether Redis takes writes."""

    model_config = example(ready=False, reasons=["draining"])

    ready: bool
    reasons: list[str] = Field(description="Why it is not ready.")


@router.get(
    "/livez",
    summary="Whether the process is alive",
    response_description="It is.",
    responses={503: {"model": Alive, "description": "A dispatcher is stuck, although Redis answers."}},
)
async def livez(state: State, response: Response) -> Alive:
    """No server is asked, unless a dispatcher is stuck."""
    reasons = await state.stall_reasons()
    response.status_code = 503 if reasons else 200
    return Alive(alive=not reasons, reasons=reasons)


@router.get(
    "/readyz",
    summary="Whether the process takes jobs",
    response_description="It does.",
    responses={
        503: {
            "model": Ready,
            "description": "It drains, a queue makes no progress, or Redis does not answer.",
        }
    },
)
async def readyz(state: State, response: Response) -> Ready:
    """For load balancers and deployments."""
    reasons = [*await state.redis_errors(), *state.unready()]
    response.status_code = 503 if reasons else 200
    return Ready(ready=not reasons, reasons=reasons)


@router.get(
    "/openapi.json",
    summary="This description",
    response_description="OpenAPI 3.1.",
    response_class=JSONResponse,
    responses={200: {"content": {"application/json": {"example": _DESCRIPTION_EXAMPLE}}}},
)
async def openapi(request: Request) -> Response:
    """The description of all routes, for programs and for tools that generate clients."""
    return JSONResponse(await asyncio.to_thread(request.app.openapi))
