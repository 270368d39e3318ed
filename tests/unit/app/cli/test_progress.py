"""Progress of long commands without a terminal: a line every few seconds."""

from __future__ import annotations

import pytest

from app.cli import progress


def test_without_a_terminal_progress_is_a_line_every_five_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.show_progress("plan 7", 20_000) as show:
        for seconds, done in ((1, 500), (4.9, 1_000), (5, 1_500), (9.9, 3_000), (10.1, 4_000)):
            now = 100.0 + seconds
            show(done, "12 completed, 0 died again")
    assert capsys.readouterr().err.splitlines() == [
        "plan 7: 1,500 of 20,000, 12 completed, 0 died again",
        "plan 7: 4,000 of 20,000, 12 completed, 0 died again",
    ]


def test_progress_without_words_is_a_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.show_progress("enqueueing on alert-fanout", 2_000) as show:
        now = 6.0
        show(500, "")
    assert capsys.readouterr().err == "enqueueing on alert-fanout: 500 of 2,000\n"
