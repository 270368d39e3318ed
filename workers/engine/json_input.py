"""Parses JSON from people and programs, for the command line, HTTP and the edit dialog.

It checks the text.  `workers.engine.payload_limits` checks the limits of a job (size, levels, NUL, half
characters) when it is enqueued, since foreign producers do not use this parser.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from workers.errors import InvalidJsonError

_MAX_LEVELS = 200
"""Levels of lists and objects in a text: more than any job may have, and far from Python's own limit."""
_MAX_SHOWN_CHARS = 40
"""Characters of a number or a key that a message shows."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.  Raises InvalidJsonError.

    Stricter than the standard library, which reads NaN and infinities, makes an infinity of 1e999, and drops
    all but the last of equal keys.
    """
    try:
        value = _DECODER.decode(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError:
        raise InvalidJsonError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidJsonError(f"not JSON: {_position(error)}") from None
    except RecursionError:
        raise InvalidJsonError("nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise InvalidJsonError(f"not JSON: {str(error).partition(';')[0]}") from None
    if _is_too_deep(value):
        raise InvalidJsonError("nested too deeply")
    return value


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the object of a JSON text.  Raises InvalidJsonError."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise InvalidJsonError('a JSON object is needed, for instance {"item_id": "dress-17"}')
    return value


def _position(error: json.JSONDecodeError) -> str:
    if error.doc.startswith("\ufeff"):
        return "it begins with a byte order mark: write it without one"
    return f"{error.msg} at line {error.lineno}, column {error.colno}"


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_LEVELS + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [
            child for item in containers for child in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJsonError(f"not JSON: {name} is not a number")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidJsonError(f"not JSON: {text[:_MAX_SHOWN_CHARS]} is too large a number")
    return value


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in built if names.count(name) > 1)
        repeated = json.dumps(twice[:_MAX_SHOWN_CHARS])
        raise InvalidJsonError(f"an object has the key {repeated} more than once: keep one of them")
    return built


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_parse_float, object_pairs_hook=_build_object
)
