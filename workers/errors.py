"""Errors of the engine.  Each message has what happened, to what, and what to do about it."""

from __future__ import annotations

from redis.exceptions import OutOfMemoryError

from couturecast_handlers import PermanentError
from storage.errors import ApplianceError, Kind


class WorkersError(ApplianceError):
    """Root of everything this package raises on purpose."""


class UnknownQueueError(WorkersError):
    """A queue was named that is not one of ours."""

    kind = Kind.USAGE

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown queue {name!r}", fix=f"use one of {', '.join(known)}")


class InvalidAlertError(WorkersError):
    """The name of an alert is not one of ours, or the time of a silence is invalid."""

    kind = Kind.USAGE


class InvalidJobError(WorkersError, PermanentError):
    """A payload breaks its queue's schema, or cannot be a job at all; the message names the field."""

    kind = Kind.USAGE


class InvalidJsonError(WorkersError):
    """A text that should be JSON is not, or holds what JSON cannot; the message has what and where."""

    kind = Kind.USAGE


class UnwritableJobError(WorkersError):
    """A handler left in its job, or in its error, what cannot be written; recorded on the attempt."""


class RecordTooLargeError(WorkersError, PermanentError):
    """A handler left a job, with its result or its meta, that Redis refuses; recorded on the attempt."""


class HandlerImportError(WorkersError):
    """A name in COUTURECAST_HANDLERS cannot be imported, or its process cannot be started."""

    kind = Kind.USAGE


class NotifyUrlError(WorkersError):
    """COUTURECAST_NOTIFY_URLS cannot be used; the message quotes no URL, since each may hold a secret."""

    kind = Kind.USAGE


class ReadOnlyError(WorkersError):
    """A verb that changes something was called in read-only mode."""

    kind = Kind.READ_ONLY

    def __init__(self, verb: str) -> None:
        super().__init__(f"read-only: {verb} would change something; COUTURECAST_READ_ONLY=0 allows it")


class NotFoundError(WorkersError):
    """An id was given that is not there."""

    kind = Kind.NOT_FOUND


class ConflictError(WorkersError):
    """The thing is there, but not in a state that allows the verb."""

    kind = Kind.CONFLICT


class RedisFullError(WorkersError, OutOfMemoryError):
    """Redis has no memory left for what a producer sent; a RedisError, too: it may work later."""

    kind = Kind.FULL


class WorkerLostError(WorkersError):
    """An attempt ended because its process died; recorded on the attempt, never raised at a caller."""


class HandlerProcessDiedError(WorkersError):
    """A handler ended its process; recorded on the attempt."""


class HandlerInterruptedError(WorkersError):
    """Another job ended the process of this one: it is requeued, and no attempt is charged."""
