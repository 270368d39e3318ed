"""JSON by orjson, and by the standard library if orjson would change a value."""

from __future__ import annotations

import json
from typing import Any

import orjson

_DIGITS_AS_ZEROS = bytes(ord("0") if ord("0") <= byte <= ord("9") else ord(" ") for byte in range(256))
_LONG_INTEGER = b"0" * 19


def dumps(value: Any) -> bytes:
    """Return a value as JSON.  Raises TypeError, ValueError or RecursionError if it cannot be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # integers beyond 64 bits, among others
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def loads(body: bytes | str) -> Any:
    """Parse JSON; integers beyond 64 bits are exact.  Raises ValueError, RecursionError or TypeError."""
    raw = body.encode() if isinstance(body, str) else body
    # A regular expression takes six times as long for a job, and forty times for a result of a megabyte.
    if _LONG_INTEGER in bytes.translate(raw, _DIGITS_AS_ZEROS):
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)
