"""Completions of the word that is being written on a filter bar."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

MAX_CANDIDATES = 12
TIMES = ("15m", "1h", "2h", "24h", "7d", "30d")
"""Ages, for ``since:`` and ``until:``."""
Values = Mapping[str, Iterable[str]]
"""Names of fields with their values; a name ends where its value begins, with a colon."""


def split_last(text: str) -> tuple[str, str]:
    """Return the text before its last word, and that word; there is none inside of quotation marks."""
    try:
        shlex.split(text)
    except ValueError:
        return text, ""
    before, space, word = text.rpartition(" ")
    return before + space, word


def candidates(text: str, values: Values) -> Sequence[str]:
    """Return the words that the last one can become: names of fields, or values after such a name."""
    _, word = split_last(text)
    name, colon, start = word.partition(":")
    if colon:
        known_values = values.get(f"{name}:", ())
        words = [f"{name}:{shlex.quote(value)}" for value in known_values if value.startswith(start)]
    else:
        words = [value for value in values if value.startswith(word)]
    return [value for value in dict.fromkeys(words) if value != word][:MAX_CANDIDATES]


def complete(text: str, values: Values) -> str | None:
    """Return the text with its last word completed; None if nothing is known that it can become."""
    before, word = split_last(text)
    words = candidates(text, values)
    return before + words[0] if word and words else None
