"""Which messages are due is a function of the rows and the moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.repositories.alert_history import AlertRecord
from tests.support.alert_records import NOON, later, record
from workers.notifications.decisions import (
    DueLine,
    Notified,
    awaits_message,
    due_lines,
    due_occasion,
)


def sent(alert: AlertRecord, minutes: float) -> AlertRecord:
    """The row after the message that is due has been taken by a service."""
    claimed = claim(alert, minutes)
    return replace(claimed, notified=DueLine(claimed, "fired").confirm(later(minutes)))


def claim(alert: AlertRecord, minutes: float) -> AlertRecord:
    """The row after a process has claimed the message that is due."""
    occasion = due_occasion(alert, later(minutes))
    assert occasion is not None
    return DueLine(alert, occasion).claim(later(minutes)).record


def resolved(alert: AlertRecord, minutes: float) -> AlertRecord:
    return replace(alert, state="resolved", resolved_at=later(minutes))


def test_one_message_when_it_fires_and_one_when_it_is_resolved() -> None:
    fired = record()
    assert due_occasion(fired, later(0)) == "fired"
    sent_alert = sent(fired, 0)
    assert all(due_occasion(sent_alert, later(minutes)) is None for minutes in (0, 4, 60, 6000))
    over = resolved(sent_alert, 7)
    assert due_occasion(over, later(7)) == "resolved"
    assert due_occasion(sent(over, 7), later(8)) is None


def test_one_more_message_each_time_the_figure_doubles_against_the_last_message() -> None:
    sent_alert = sent(record(value=132.0), 0)
    assert due_occasion(replace(sent_alert, value=263.0), later(10)) is None
    assert due_occasion(replace(sent_alert, value=264.0), later(10)) == "doubled"
    again = sent(replace(sent_alert, value=300.0), 10)
    assert due_occasion(replace(again, value=599.0), later(20)) is None
    assert due_occasion(replace(again, value=600.0), later(20)) == "doubled"


def test_doubling_is_sent_at_most_every_five_minutes_and_the_end_at_once() -> None:
    sent_alert = sent(record(value=1.0), 0)
    deep = replace(sent_alert, value=1000.0)
    assert due_occasion(deep, later(4.9)) is None
    assert due_occasion(deep, later(5)) == "doubled"
    assert due_occasion(resolved(deep, 1), later(1)) == "resolved"


@pytest.mark.parametrize("values", [(0.0, 5.0), (None, 5.0), (5.0, None), (-2.0, 4.0)])
def test_a_figure_that_was_nothing_or_is_unknown_does_not_double(
    values: tuple[float | None, float | None],
) -> None:
    first, second = values
    assert due_occasion(replace(sent(record(value=first), 0), value=second), later(10)) is None


def test_an_acknowledged_alert_that_gets_worse_and_its_end_are_sent() -> None:
    seen = replace(sent(record(value=132.0), 0), acknowledged_at=later(1), acknowledged_by="ann")
    assert due_occasion(replace(seen, value=200.0), later(30)) is None
    assert due_occasion(replace(seen, value=10_000.0), later(30)) == "doubled"
    assert due_occasion(resolved(seen, 31), later(31)) == "resolved"


def test_an_alert_that_was_acknowledged_before_any_message_notifies_nobody() -> None:
    seen = record(acknowledged_at=later(0), acknowledged_by="ann")
    assert due_occasion(seen, later(1)) is None
    assert due_occasion(resolved(seen, 2), later(2)) is None


def test_a_silenced_alert_notifies_nobody_until_the_silence_ends() -> None:
    silenced = record(state="silenced", silenced_until=later(60))
    assert due_occasion(silenced, later(1)) is None
    assert due_occasion(resolved(silenced, 2), later(61)) is None
    assert due_occasion(silenced, later(60)) == "fired"
    assert due_occasion(replace(silenced, silenced_until=None), later(30)) == "fired"


def test_information_notifies_nobody() -> None:
    assert due_occasion(record(alert="new_error"), later(0)) is None


def test_an_alert_of_a_newer_version_is_sent() -> None:
    assert due_occasion(record(alert="not_known_here"), later(0)) == "fired"


def test_an_alert_that_still_fires_is_sent_however_old_it_is() -> None:
    assert due_occasion(record(), later(1_000)) == "fired"


def test_an_alert_that_ended_unsent_is_sent_within_a_quarter_of_an_hour() -> None:
    over = resolved(record(), 1)
    assert due_occasion(over, later(14)) == "resolved"
    assert due_occasion(over, later(15)) is None
    assert not awaits_message(over, later(15))


def test_the_end_of_an_alert_that_was_sent_may_be_late_by_an_hour() -> None:
    over = resolved(sent(record(), 0), 300)
    assert due_occasion(over, later(360)) == "resolved"
    assert due_occasion(over, later(361)) is None


def test_a_claimed_message_is_due_again_only_after_its_claim_has_expired() -> None:
    claimed = claim(record(), 0)
    assert due_occasion(claimed, later(2.9)) is None
    assert due_occasion(claimed, later(3)) == "fired"
    assert awaits_message(resolved(claimed, 1), later(1))
    assert due_occasion(resolved(claimed, 1), later(1)) is None
    assert due_occasion(resolved(claimed, 1), later(3)) == "resolved"


def test_unconfirmed_claims_last_longer_each_time_up_to_an_hour() -> None:
    alert, minutes, waits = record(), 0.0, []
    for _ in range(8):
        alert = claim(alert, minutes)
        step = next(step for step in range(3, 100) if due_occasion(alert, later(minutes + step)))
        waits.append(step)
        minutes += step
    assert waits == [3, 6, 12, 24, 48, 60, 60, 60]


def test_the_worst_comes_first_and_what_is_over_last() -> None:
    rows = [
        record(id=1),
        resolved(sent(record(id=2, alert="redis", queue=""), 0), 1),
        record(id=3, alert="no_worker", value=None),
        replace(sent(record(id=4, alert="stalled", value=10.0), 0), value=20.0),
    ]
    lines = due_lines(rows, later(6))
    assert [(line.record.id, line.occasion) for line in lines] == [
        (3, "fired"),
        (1, "fired"),
        (4, "doubled"),
        (2, "resolved"),
    ]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
_names = st.sampled_from(list(Notified.__dataclass_fields__))


@pytest.mark.slow
@given(st.dictionaries(_names | st.text(), _json, max_size=12))
def test_what_another_version_wrote_is_read_without_an_error(document: dict[str, Any]) -> None:
    notified = Notified.parse(document)
    assert Notified.parse(notified.document()) == notified
    due_occasion(record(notified=document), NOON)
    awaits_message(record(notified=document, resolved_at=NOON), NOON)


def test_a_document_survives_its_way_through_the_database() -> None:
    notified = Notified.parse(claim(record(), 3).notified)
    assert notified.claim == "fired"
    assert Notified.parse(notified.document()) == notified
