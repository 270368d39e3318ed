"""The view that shows what an event is about.  Pure."""

from __future__ import annotations

from textual.message import Message

from tui.navigation import OpenLetters, OpenPlan, OpenPlans, OpenQueue, OpenView, OpenWorker
from workers.engine.policy import DEFAULT_POLICIES
from workers.operations.operations import Event, LetterFilter


def target(event: Event) -> Message | None:
    """Return the message that opens it; None if there is no view of it."""
    area, _, _ = event.kind.partition("-")
    subject = event.subject or ""
    match area:
        case "worker" if subject:
            return OpenWorker(subject)
        case "plan":
            return OpenPlan(int(subject)) if subject.isdecimal() else OpenPlans()
        case "cache":
            return OpenView("cache")
        case "letters":
            return OpenView("letters")
    if event.kind == "new-group" and subject:
        return OpenLetters(LetterFilter(fingerprint=subject))
    if event.kind == "new-release":
        return OpenView("workers")
    if event.queue in DEFAULT_POLICIES:
        return OpenQueue(str(event.queue))
    return None
