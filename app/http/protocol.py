"""A connection: how long it may be without a request, and which one is closed if there are too many."""

from __future__ import annotations

import asyncio

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.http.problems import RETRY_AFTER, ProblemError, problem_response

HEADER_SECONDS = 10.0
"""From the connection, or from an answer, until the headers of a request must be complete."""
MAX_CONNECTIONS = 500
"""More would leave the process too few files for Redis and the database."""


class Connection(H11Protocol):
    """If there are too many, the one that has waited longest for a request makes room for a new one."""

    _header_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room if possible; a connection without room gets a 503."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [
                connection
                for connection in self.connections
                if isinstance(connection, Connection) and connection._header_deadline
            ]
            if waiting:
                min(waiting, key=Connection._deadline).end_idle()
            else:
                self.app = _refuse
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let the timer run on until the headers of a request are complete."""
        super().data_received(data)
        self._restart_timer()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        super().on_response_complete()
        self._restart_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP with a problem, like all that is refused."""
        problem = ProblemError(400, "this is not an HTTP request", headers={"Connection": "close"})
        answer = problem_response(problem)
        for event in (
            h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def end_idle(self) -> None:
        """End a connection without a request, whether or not the last answer was read."""
        self._stop_timer()
        self.connections.discard(self)
        self.transport.abort()

    def _deadline(self) -> float:
        return self._header_deadline.when() if self._header_deadline is not None else 0.0

    def _restart_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._header_deadline is None:
            self._header_deadline = self.loop.call_later(HEADER_SECONDS, self._time_out)

    def _time_out(self) -> None:
        self._header_deadline = None
        if self.transport.get_write_buffer_size():  # the client still reads the answer
            self._restart_timer()
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    problem = ProblemError(
        503, "too many requests are under way", headers={"Connection": "close", **RETRY_AFTER}
    )
    await problem_response(problem)(scope, receive, send)
