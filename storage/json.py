"""JSON by orjson, and by the standard library if orjson would change a value."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_LONG_INTEGER = re.compile(rb"\d{19}")


def dumps(value: Any) -> bytes:
    """Return a value as JSON.  Raises TypeError, ValueError or RecursionError if it cannot be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # integers beyond 64 bits, among others
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def loads(body: bytes | str) -> Any:
    """Parse JSON; integers beyond 64 bits are exact.  Raises ValueError, RecursionError."""
    raw = body.encode() if isinstance(body, str) else body
    if _LONG_INTEGER.search(raw):
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)
