"""Types of parameters that FastAPI provides: the shared state, and the operations of the actor."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import AfterValidator, WithJsonSchema

from app.http.state import HttpState
from workers.operations.operations import Operations

_MAX_NAME_CHARS = 64


def _check_name(name: str) -> str:
    if not (0 < len(name) <= _MAX_NAME_CHARS and name.isascii() and name.isprintable()):
        raise ValueError(f"use 1 to {_MAX_NAME_CHARS} printable characters of ASCII")
    return name


_OPERATOR_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": _MAX_NAME_CHARS,
    "pattern": "^[!-~]([ -~]*[!-~])?$",
}
OperatorName = Annotated[
    Annotated[str, AfterValidator(_check_name), WithJsonSchema(_OPERATOR_SCHEMA)] | None,
    Header(
        alias="X-Operator",
        description="Who acts, for the record; without it the address of the client is recorded.",
        examples=["anna@box-7"],
    ),
]


async def _get_state(request: Request) -> HttpState:
    state: HttpState = request.app.state.http
    return state


State = Annotated[HttpState, Depends(_get_state)]


async def _get_operations(request: Request, state: State, operator: OperatorName = None) -> Operations:
    host = request.client.host if request.client else "unknown"
    return state.operations.as_actor(f"http:{operator if operator is not None else host}")


ActorOperations = Annotated[Operations, Depends(_get_operations)]
"""The operations, which record their actions under the name of the sender."""
