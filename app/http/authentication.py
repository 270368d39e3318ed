"""Who sends a request: the token, and the name under which acts are recorded."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.problems import ProblemError, invalid, response

CLOSED = "/api/"
"""All paths below need the token, also those that do not exist, except those of open routes."""
OPERATOR = "X-Operator"
_LONGEST = 64  # characters of a name
OPERATOR_PARAMETER: dict[str, Any] = {
    "name": OPERATOR,
    "in": "header",
    "required": False,
    "description": "Who acts, for the record; without it the address of the client is kept.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}


class Guard:
    """Lets nobody pass without the token, to whichever path below `CLOSED`."""

    def __init__(self, app: ASGIApp, token: str, open_paths: Iterable[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        path = scope["path"]
        if path.startswith(CLOSED) and path not in self._open and not self._knows(Headers(scope=scope)):
            refusal = ProblemError(
                401,
                "the token is missing or wrong: send Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self._token)
        return right and scheme.lower() == "bearer"


def actor(request: Request) -> str:
    """The name under which acts of this request are recorded.  Raises ProblemError."""
    name = request.headers.get(OPERATOR)
    if name is None:
        return f"http:{request.client.host if request.client else 'unknown'}"
    if not (0 < len(name) <= _LONGEST and name.isascii() and name.isprintable()):
        raise invalid([(OPERATOR, f"is no name of 1 to {_LONGEST} printable characters")])
    return f"http:{name}"
