"""Payloads and results as text: JSON without control characters, and no more of it than is shown."""

from __future__ import annotations

import json
from typing import Any

from tui.text.format import clip, escape_lines


def json_lines(value: Any, max_chars: int) -> str:
    """Write indented JSON of at most ``max_chars``.

    No more than that is encoded: jobs share the event loop.
    """
    chunks, chars = [], 0
    try:
        for chunk in json.JSONEncoder(indent=2, ensure_ascii=False, default=repr).iterencode(value):
            chunks.append(chunk)
            chars += len(chunk)
            if chars > max_chars:
                break
    except (RecursionError, ValueError, TypeError):
        return "nested too deeply to be shown"
    return escape_lines(clip("".join(chunks), max_chars))
