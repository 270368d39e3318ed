"""The wording that screens and commands share."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tui.text.words import REPLAY_STATE_LABELS, replay_options, replay_state, selection, times
from workers.operations.operations import Ledger
from workers.words import plural


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "letter", "0 letters"),
        (1, "letter", "1 letter"),
        (1_234, "letter", "1,234 letters"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (2, "key", "2 keys"),
        (2, "process", "2 processes"),
        (2, "mailbox", "2 mailboxes"),
    ],
)
def test_numbers_have_their_noun_in_singular_or_plural(number: int, noun: str, text: str) -> None:
    assert plural(number, noun) == text


def test_repetitions_are_counted() -> None:
    assert [times(number) for number in (1, 2, 1_000)] == ["once", "2 times", "1,000 times"]


def test_each_state_of_a_replayed_letter_has_a_label() -> None:
    assert list(REPLAY_STATE_LABELS) == [field.name for field in fields(Ledger)]
    assert replay_state("same") == "died, same error"
    assert replay_state("of a newer version") == "of a newer version"


def test_selections_are_described_in_one_line() -> None:
    assert selection({"filter": "queue:color-analysis\n"}) == "queue:color-analysis\\x0a"
    assert selection({"ids": [7], "count": 1}) == "letter 7"
    assert selection({"ids": [7], "count": 2}) == "letters 7 and 1 other"
    assert selection({"ids": [1, 2, 3], "count": 1_003}) == "letters 1, 2, 3 and 1,000 others"
    assert selection({"ids": list(range(7))}) == "letters 0, 1, 2, 3, 4 and 2 others"
    assert selection({"ids": list(range(7))}, max_ids=None) == "letters 0, 1, 2, 3, 4, 5, 6"
    assert selection({}) == selection({"ids": []}) == "–"


def test_replay_options_are_described_in_one_line() -> None:
    assert replay_options(1_000, 2.5, 0.2) == (
        "canary of 1,000 first · 2.5 a second · halts when more than 20 % die again"
    )
    assert replay_options(0, None, 1.0) == "no canary · no rate limit · never halts"
