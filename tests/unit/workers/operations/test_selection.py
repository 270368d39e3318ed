"""The share of failures at which a replay halts, as an operator writes it."""

from __future__ import annotations

import pytest

from storage.errors import InvalidFilterError
from workers.operations.selection import parse_percent


@pytest.mark.parametrize(
    ("text", "share"), [("20", 0.2), ("20%", 0.2), (" 0.5 %", 0.005), ("100", 1.0), ("1e1", 0.1)]
)
def test_a_percentage_is_a_share(text: str, share: float) -> None:
    assert parse_percent(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "100.1", "nan", "inf", "20%%", "%"])
def test_any_other_text_is_refused_with_its_fix(text: str) -> None:
    with pytest.raises(InvalidFilterError) as refusal:
        parse_percent(text)
    assert (refusal.value.field, refusal.value.problem) == ("halt", repr(text))
    assert refusal.value.fix.startswith("use a percentage above 0, up to 100")
