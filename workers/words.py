"""Words for numbers, in sentences that operators read, and the blocks of small charts in text."""

from __future__ import annotations

BLOCKS = " ▁▂▃▄▅▆▇█"
"""A cell by how many eighths of it are full."""


def plural(number: int, noun: str) -> str:
    """Return ``1 letter``, ``1,234 letters``, ``2 entries``."""
    return f"{number:,} {noun if number == 1 else _plural_of(noun)}"


def _plural_of(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def requeued_text(number: int | None) -> str:
    """Return how many jobs a drain has requeued: ``no job was requeued``; None: that is not known."""
    if number is None:
        return "how many jobs were requeued is not known"
    if number == 0:
        return "no job was requeued"
    return f"{plural(number, 'job')} {'was' if number == 1 else 'were'} requeued"
