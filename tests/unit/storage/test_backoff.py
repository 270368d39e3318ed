"""Delays between tries."""

from __future__ import annotations

import pytest

from storage.backoff import Backoff


def test_delays_double_up_to_the_longest_and_start_again_after_a_success() -> None:
    backoff = Backoff(0.25, 2.0)
    assert [backoff.next() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    backoff.reset()
    assert backoff.next() == 0.25


def test_a_first_delay_above_the_longest_is_cut() -> None:
    assert Backoff(5.0, 2.0).next() == 2.0


def test_jitter_spreads_a_delay_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = Backoff(1.0, 1.0, jitter=0.2)
    delays = {backoff.next() for _ in range(100)}
    assert len(delays) > 1
    assert all(0.8 <= delay <= 1.2 for delay in delays)
    for share, delay in ((-0.2, 0.8), (0.2, 1.2)):
        monkeypatch.setattr("storage.backoff.random.uniform", lambda *_, share=share: share)
        assert backoff.next() == delay
