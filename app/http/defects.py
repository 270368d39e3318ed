"""Logs a defect of a route once, with its traceback, and answers it."""

from __future__ import annotations

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import ProblemError, problem_response

log = structlog.get_logger(__name__)


class DefectMiddleware:
    """Keeps errors that nothing explains from the server below.

    Starlette's handler of `Exception` raises the error again after the answer, and uvicorn logs it again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; if its answer has begun, a defect ends the connection."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            log.error(  # noqa: TRY400 - exc_info has the error itself
                "a request ended by a defect", method=scope["method"], path=scope["path"], exc_info=error
            )
            if not started:
                problem = ProblemError(500, "a defect of this program: its log has the traceback")
                await problem_response(problem)(scope, receive, send)
