"""Limits of a job: it is refused at enqueue, and dead-lettered if a foreign producer sent it."""

from __future__ import annotations

import re
from typing import Any

from workers.engine import wire
from workers.engine.attempts import META
from workers.engine.policy import MAX_PAYLOAD_BYTES
from workers.errors import InvalidJobError

MAX_DEPTH = 100
"""Levels of lists and objects in a job."""

_MAX_FAILURES_BYTES = 250_000
"""Bytes of the records of a job's failed attempts, which do not count."""
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD])")


def check_payload(body: bytes, value: Any) -> None:
    """Raises InvalidJobError for a job that is too large, too deep, or holds NUL or half a character.

    ``body`` is the job as JSON, ``value`` the same, parsed.  The value is checked only if the bytes
    give a reason to.  Our records of its failed attempts do not count.
    """
    if len(body) > MAX_PAYLOAD_BYTES:
        size = len(body) - min(_failures_size(value), _MAX_FAILURES_BYTES)
        if size > MAX_PAYLOAD_BYTES:
            raise InvalidJobError(f"the job has {size:,} bytes, {MAX_PAYLOAD_BYTES:,} are allowed")
    deep = body.count(b"[") + body.count(b"{") > MAX_DEPTH
    if deep or (b"\\u" in body and _SUSPICIOUS.search(body)):
        _check_value(value, 0)


def _failures_size(value: Any) -> int:
    try:
        return len(wire.dump([value["meta"][META], value.get("error")]))
    except (TypeError, LookupError, ValueError, RecursionError):
        return 0


def _check_value(value: Any, depth: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidJobError("the job holds a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidJobError("the job holds text that is not valid UTF-8") from None
    elif isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            raise InvalidJobError(f"the job is nested deeper than {MAX_DEPTH} levels")
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for item in items:
            _check_value(item, depth + 1)
