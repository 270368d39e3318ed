"""An event as a line of text."""

from __future__ import annotations

from tests.support.fake_signals import event
from tui.text.events import describe

QUEUE = "color-extraction"
TIMED_OUT = f"JobTimeoutError: ran longer than the 60 s that {QUEUE} allows"


def test_a_queue_is_put_before_a_sentence_that_does_not_name_it() -> None:
    assert describe(event(0, "alert-fired", "Jobs pile up", queue=QUEUE)).plain == f"{QUEUE}  Jobs pile up"
    assert (
        describe(event(0, "queue-paused", f"ops paused {QUEUE}", queue=QUEUE)).plain == f"ops paused {QUEUE}"
    )


def test_an_error_that_names_its_queue_does_not_hide_it() -> None:
    message = f"first dead letter of a new group: extract_colors: {TIMED_OUT}"
    assert describe(event(0, "new-group", message, queue=QUEUE)).plain.startswith(
        f"{QUEUE}  first dead letter"
    )
