"""One connection: how long it may be without a request, and who goes where there are too many."""

from __future__ import annotations

import asyncio

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.http.problems import ProblemError, problem_response

PATIENCE = 10.0
"""Seconds from the connection, or from an answer, until the headers of a request must be complete."""
MOST = 500
"""More would leave the process too few files for Redis and the database."""


class Connection(H11Protocol):
    """Where there are too many, the one that has waited longest for a request makes room for a new one."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, if there is any; a connection without room is told so."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            waiting = [each for each in self.connections if isinstance(each, Connection) and each._late]
            if waiting:
                min(waiting, key=Connection._since).make_room()
            else:
                self.app = _full
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The time is not counted any more."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes alone are no request: the time goes on until its headers are complete."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request has as long."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem, as all that is refused."""
        problem = ProblemError(400, "this is no HTTP request", headers={"Connection": "close"})
        answer = problem_response(problem)
        for event in (
            h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def make_room(self) -> None:
        """End a connection on which nothing is being answered, whether or not the last answer was read."""
        self._unwatch()
        self.connections.discard(self)
        self.transport.abort()

    def _since(self) -> float:
        return self._late.when() if self._late is not None else 0.0

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None:
            self._late = self.loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self.transport.get_write_buffer_size():  # the answer is still being read
            self._watch()
        else:
            self.transport.close()

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = ProblemError(
        503, "too many requests are under way", headers={"Connection": "close", "Retry-After": "5"}
    )
    await problem_response(refusal)(scope, receive, send)
