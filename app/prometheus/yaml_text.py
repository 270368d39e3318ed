"""Writes plain data as YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][\w./-]*( [\w./-]+)*|\d+[smh]")
"""Text that no reader takes for a number, a key or a comment."""
_KEYWORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def to_yaml(document: Mapping[str, Any]) -> str:
    """Return the document: mappings, lists, numbers and text; text of several lines as a block."""
    return "".join(f"{line}\n" for line in _mapping(document))


def _mapping(value: Mapping[str, Any]) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield f"{key}:"
            yield from _indent(_mapping(item))
        elif isinstance(item, list):
            yield f"{key}:"
            yield from _indent(_list(item))
        elif isinstance(item, str) and "\n" in item:
            yield f"{key}: |-"
            yield from _indent(iter(item.split("\n")))
        else:
            yield f"{key}: {_scalar(item)}"


def _list(values: list[Any]) -> Iterator[str]:
    for value in values:
        lines = list(_mapping(value)) if isinstance(value, Mapping) else [_scalar(value)]
        yield f"- {lines[0]}"
        yield from _indent(iter(lines[1:]))


def _indent(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _KEYWORDS:
        return value
    if isinstance(value, str) and '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)
