"""The graceful drain."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, Field

from app.http.route import Call, Given, Reply

_LONGEST_WAIT = 86_400


class Wait(Given):
    """How long to wait for the end of the drain."""

    wait: float = Field(
        0.0, ge=0, le=_LONGEST_WAIT, description="Seconds that the answer may wait for the end of the drain."
    )


class Draining(BaseModel):
    """How far the drain is.  No job is deleted: what does not end in time goes back to its queue."""

    drained: bool
    in_flight: int = Field(description="Jobs that run still.")
    deadline_in: float | None = Field(description="Seconds left for them.")
    put_back: int | None = Field(description="Jobs that went back to their queues; null until it has ended.")


async def drain(call: Call) -> Reply:
    """Begin a drain; with ``wait`` the answer comes with its end, or after so many seconds."""
    await call.operations.drain()
    drained, seconds = call.context.drained, call.query.wait
    if drained is None or not seconds:
        return Reply(_now(call), 202)
    await asyncio.wait({drained}, timeout=seconds)
    return Reply(_now(call))


def _now(call: Call) -> Draining:
    drained, process = call.context.drained, call.context.process
    ended = drained is not None and drained.done() and not drained.cancelled()
    put_back = drained.result() if drained is not None and ended and drained.exception() is None else None
    return Draining(
        drained=ended,
        in_flight=call.operations.in_flight,
        deadline_in=process.drain_deadline_in if process is not None and not ended else None,
        put_back=put_back,
    )
