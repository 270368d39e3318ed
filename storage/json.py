"""JSON with orjson where it says the same as the standard library."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_LONG_INTEGER = re.compile(rb"\d{19}")


def dumps(value: Any) -> bytes:
    """JSON of a value.  Raises TypeError, ValueError or RecursionError where it has none."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # integers beyond 64 bits, among others
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def loads(body: bytes | str) -> Any:
    """The value of JSON ``body``, whose integers beyond 64 bits stay whole.

    Raises ValueError where it is none, RecursionError if too deep.
    """
    raw = body.encode() if isinstance(body, str) else body
    if _LONG_INTEGER.search(raw):
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)
