"""The sender of a request: its token, and the name under which actions are recorded."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.problems import ProblemError, problem_response

CLOSED_PREFIX = "/api/"
"""All paths below need the token, also those that do not exist, except the open ones."""

BEARER = HTTPBearer(
    scheme_name="token",
    auto_error=False,
    description="COUTURECAST_ADMIN_TOKEN, or the file admin-token in the data directory.",
)
"""Describes the token for OpenAPI; `TokenMiddleware` checks it."""


class TokenMiddleware:
    """Refuses requests without the token, whichever path below `CLOSED_PREFIX` they name.

    The token is checked before the body is read.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Iterable[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        path = scope["path"]
        closed = path.startswith(CLOSED_PREFIX) and path not in self._open_paths
        if closed and not self._is_authorized(Headers(scope=scope)):
            refusal = ProblemError(
                401,
                "the token is missing or wrong: send Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_authorized(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self._token)
        return right and scheme.lower() == "bearer"
