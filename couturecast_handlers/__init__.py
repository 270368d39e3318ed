"""The types that handlers import of the appliance, and the process in which they run.

This package runs in the interpreter of a team: standard library only, Python 3.9 or newer.  The appliance
starts it as a program (`__main__`), which imports the team's function and runs jobs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["Job", "JobCancelledError", "PermanentError", "Queue", "run_for_test"]


class PermanentError(Exception):
    """A handler raises it when another attempt cannot help: the job becomes a dead letter at once."""


class JobCancelledError(BaseException):
    """Raised in a plain ``def`` handler whose job is cancelled: by its timeout, a drain or an abort."""


class Job:
    """The job that a handler runs; its names are those of SAQ's ``Job``."""

    def __init__(
        self,
        key: str,
        function: str,
        kwargs: dict[str, Any],
        attempts: int,
        meta: dict[str, Any],
        queue: str,
        ask: Callable[..., Any],
    ) -> None:
        self.key = key
        self.function = function
        self.kwargs = kwargs
        self.attempts = attempts
        """From 1 on."""
        self.meta = meta
        self.queue = queue
        """The name of its queue."""
        self._ask = ask

    @property
    def id(self) -> str:
        """Its id in Redis."""
        return f"saq:job:{self.queue}:{self.key}"

    def update(self, **fields: Any) -> Any:
        """Store ``progress`` (0 to 1) or ``meta`` while the job runs; awaited in an ``async def`` handler."""
        for name in fields:
            if name not in ("meta", "progress"):
                raise TypeError(f"update: {name}: use meta or progress")
        if "meta" in fields:
            if not isinstance(fields["meta"], dict):
                raise TypeError(f"update: meta: use a dict, not {type(fields['meta']).__name__}")
            self.meta = fields["meta"]
        if "progress" in fields:
            _check_number("update: progress: use a number from 0 to 1", fields["progress"], 1)
        return self._ask("update", fields)


def _check_number(fix: str, value: Any, most: float) -> None:
    """Raises TypeError or ValueError if ``value`` is no number from 0 to ``most``; NaN is none."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{fix}, not {type(value).__name__}")
    if not 0 <= value <= most:
        raise ValueError(f"{fix}, not {value}")


class Queue:
    """Enqueues jobs, of any queue: the function names it."""

    def __init__(self, name: str, ask: Callable[..., Any]) -> None:
        self.name = name
        self._ask = ask

    def enqueue(
        self, /, function: str, *, key: str | None = None, scheduled: float = 0, **kwargs: Any
    ) -> Any:
        """Enqueue a job of ``function``, which names its queue; its key, or None if one with it waits.

        ``scheduled``: Unix time before which it does not start.  Awaited in an ``async def`` handler.
        """
        if key is not None and not isinstance(key, str):
            raise TypeError(f"enqueue: key: use a string, not {type(key).__name__}")
        _check_number("enqueue: scheduled: use a Unix time, in seconds", scheduled, float("inf"))
        return self._ask(
            "enqueue", {"function": function, "key": key, "scheduled": scheduled, "kwargs": kwargs}
        )


def run_for_test(function: Callable[..., Any], /, *, attempt: int = 1, **payload: Any) -> Any:
    """Run a handler as a job with this payload, without an appliance; returns its result.

    Raises what the handler raises, and TypeError for a payload or a result that JSON does not have.
    ``ctx["job"].update`` and ``ctx["queue"].enqueue`` do nothing.
    """
    import asyncio

    from couturecast_handlers.importing import is_async

    awaits = is_async(function)

    async def answer() -> str:
        return "test"

    def ask(_verb: str, _fields: dict[str, Any]) -> Any:
        return answer() if awaits else "test"

    job = Job("test", getattr(function, "__name__", "test"), payload, attempt, {}, "test", ask)
    context = {"job": job, "queue": Queue("test", ask)}
    result = function(context, **json.loads(json.dumps(payload)))
    if awaits:
        result = asyncio.run(result)
    json.dumps(result)
    return result
