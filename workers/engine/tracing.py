"""The points at which the spans of jobs begin and end.  The program sets a tracer only if one is configured.

A job carries the context of its producer, and that of its latest attempt, in our part of its meta.  An
attempt belongs to the trace of the producer, and a retry links to the attempt before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from saq import Job

from workers.engine.attempts import META, our_meta

_PRODUCER = "trace"
_LATEST_ATTEMPT = "attempt_trace"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that begins.  ``producer`` and ``previous`` are contexts, as W3C's traceparent."""

    queue: str
    key: str
    number: int
    producer: str | None
    previous: str | None


class Tracer(Protocol):
    """Makes spans; each yields its context, as W3C's traceparent."""

    def send(self, queue: str, count: int | None) -> AbstractContextManager[str]:
        """Return a producer's span, around the enqueueing of ``count`` jobs; None: of an unknown number."""

    def process(self, attempt: Attempt) -> AbstractContextManager[str]:
        """Return the span of an attempt; an error that leaves the block is its status."""


_tracer: Tracer | None = None


def set_tracer(tracer: Tracer | None) -> None:
    """Let this process make spans from now on; None: no more."""
    global _tracer
    _tracer = tracer


def send_span(queue: str, count: int | None) -> AbstractContextManager[str | None]:
    """Return the span of a producer; it yields the context for `producer_meta`, None if nothing is traced."""
    return nullcontext() if _tracer is None else _tracer.send(queue, count)


def producer_meta(context: str) -> dict[str, Any]:
    """Return the meta of a new job that carries the context of its producer."""
    return {META: {_PRODUCER: context}}


def trace(function: Callable[..., Awaitable[Any]], queue: str, job: Job) -> Callable[..., Awaitable[Any]]:
    """Return a handler that runs in the span of its attempt; the handler itself if nothing is traced."""
    tracer = _tracer
    if tracer is None:
        return function

    async def run(context: dict[str, Any], **arguments: Any) -> Any:
        our_part = our_meta(job)
        our_part = our_part if isinstance(our_part, dict) else {}
        attempt = Attempt(
            queue, job.key, job.attempts, _text(our_part.get(_PRODUCER)), _text(our_part.get(_LATEST_ATTEMPT))
        )
        with tracer.process(attempt) as own:
            meta = job.meta if isinstance(job.meta, dict) else {}
            job.meta = {**meta, META: {**our_part, _LATEST_ATTEMPT: own}}
            return await function(context, **arguments)

    return run


def _text(value: Any) -> str | None:
    """Return a context that other programs may have written; None if it is not text."""
    return value if isinstance(value, str) else None
