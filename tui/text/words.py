"""Wording that the screens and the command line share: one word for one thing on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tui.text.format import MISSING, count, escape
from workers.percent import percent
from workers.words import plural

DATE_TIME: Final = "%Y-%m-%d %H:%M:%S"
"""A date and a time of day, in a column."""
DATE_TIME_ZONE: Final = f"{DATE_TIME} %Z"
"""The same in a sentence, with its zone."""
DAY_AND_MINUTE: Final = "%m-%d %H:%M"
"""The same in a narrow column."""

KeyNames = Callable[[str], str]
"""By the id of a binding, the name of its key as it is mapped now."""

REPLAY_STATE_LABELS: Final[Mapping[str, str]] = {
    "waiting": "waiting",
    "enqueued": "running",
    "completed": "completed",
    "same": "died, same error",
    "other": "died, other error",
    "aborted": "aborted",
    "skipped": "skipped",
}
"""The states of a replayed letter, as stored and as shown, in the order in which a letter passes them."""


def class_name(error_type: str) -> str:
    """Return the class of a recorded error, without its module."""
    return error_type.rpartition(".")[2]


def error_line(error_type: str, message: str) -> str:
    """Return ``DownloadError: 503 from cdn``, as lists show a recorded error; not escaped."""
    return f"{class_name(error_type)}: {message}"


def times(number: int) -> str:
    """Return ``once``, ``3 times``."""
    return "once" if number == 1 else plural(number, "time")


def replay_state(state: str) -> str:
    """Return the label of a replayed letter's state; an unknown state is its own label."""
    return REPLAY_STATE_LABELS.get(state, state)


def selection(selected: Mapping[str, Any], *, max_ids: int | None = 5) -> str:
    """Describe a plan's recorded selection: its filter, or ``max_ids`` ids (None: all that are recorded)."""
    if "filter" in selected:
        return escape(str(selected["filter"]))
    ids = selected.get("ids")
    if not isinstance(ids, list) or not ids:
        return MISSING
    shown_ids = ids[:max_ids]
    others = int(selected.get("count", len(ids))) - len(shown_ids)
    noun = "letter" if len(shown_ids) == 1 and not others else "letters"
    more = f" and {plural(others, 'other')}" if others > 0 else ""
    return escape(f"{noun} {', '.join(map(str, shown_ids))}{more}")


def replay_options(canary: int, rate: float | None, halt: float) -> str:
    """Describe how a plan replays: ``canary of 5 first · 2 a second · halts when …``."""
    return " · ".join(
        (
            f"canary of {count(canary)} first" if canary else "no canary",
            f"{rate:g} a second" if rate else "no rate limit",
            "never halts" if halt >= 1 else f"halts when more than {percent(halt, None)} die again",
        )
    )
