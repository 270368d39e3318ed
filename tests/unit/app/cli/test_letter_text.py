"""Dead letters and their groups as commands print them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from app.cli import output
from app.cli.render.dead_letters import groups_text, letter_text, letters_text
from tests.unit.app.cli.conftest import GROUP, HOSTILE, LETTER, control_characters, item


def test_a_list_has_a_row_for_each_letter() -> None:
    second = replace(LETTER, id=8, attempts=4, error_message="x" * 300)
    head, first, other = letters_text([LETTER, second]).split("\n")
    assert head.split() == ["id", "failed", "at", "queue", "job", "att", "error"]
    assert first.startswith("17  2026-03-01 14:32:07  color-extraction  job-1    2  PermanentError: no file")
    assert other.startswith(" 8  ")
    assert len(other) < 170


def test_an_empty_list_is_a_line_of_text() -> None:
    assert letters_text([]) == "no dead letters"


def test_a_letter_is_one_row_whatever_it_holds() -> None:
    hostile = replace(LETTER, job_id=f"a\nb{HOSTILE}", error_message=f"first\nsecond {HOSTILE}")
    shown = letters_text([hostile])
    assert len(shown.split("\n")) == 2
    assert control_characters(shown) == []


def test_a_letter_shows_its_payload_and_every_attempt() -> None:
    shown = letter_text(LETTER)
    assert shown.startswith("17  color-extraction  extract_colors  job job-1\n")
    assert "state dead · 2 attempts · failed at 2026-03-01 14:32:07 UTC" in shown
    assert '  "item_id": "dress-17"' in shown
    assert "attempt 1 at 2026-03-01 14:32:08 on w1, release –, ran 250 ms\nmessage 1" in shown
    traceback = "Traceback (most recent call last):\n  boom"
    assert f"attempt 2 at 2026-03-01 14:32:09 on w1, release –, ran 250 ms\n{traceback}" in shown


def test_a_letter_whose_job_could_not_be_read_shows_its_bytes() -> None:
    assert '"unreadable": "\\\\xff"' in letter_text(replace(LETTER, job_data={"unreadable": "\\xff"}))


def test_what_a_payload_holds_is_printed_and_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"kwargs": {"item_id": HOSTILE, "image": "\ud800"}}
    output.print_text(letter_text(replace(LETTER, job_data=data, error_message=HOSTILE, job_id=HOSTILE)))
    shown = capsys.readouterr().out
    assert control_characters(shown) == []
    assert "\\x1b[31mred" in shown
    assert "\\x9b2J" in shown
    assert "\\u202e" in shown
    assert "\\ud800" in shown
    assert '"item_id"' in shown


@pytest.mark.parametrize("odd", [1e300, -1e300, 10**400, math.nan, math.inf, None, "nan", "soon", []])
def test_an_attempt_whose_times_cannot_be_read_is_shown_with_dashes(odd: Any) -> None:
    attempt = {**LETTER.attempt_errors[0], "at": odd, "run_seconds": odd}
    shown = letter_text(replace(LETTER, attempt_errors=[attempt, {}]))
    assert "attempt 1 at – on w1, release –, ran –\nmessage 1" in shown
    assert shown.endswith("attempt – at – on –, release –, ran –\n–")


def test_on_a_terminal_a_row_is_cut_to_its_width() -> None:
    long = replace(LETTER, job_id="0123456789" * 3, error_message="x" * 300, queue_name="weather-ingestion")
    for width in (60, 80, 120, 200):
        head, row = letters_text([long], width=width).split("\n")
        assert len(row) <= width
        assert row.endswith("…") == (width < 170)
        assert ("att" in head.split()) == (width >= 120)


def test_a_list_of_letters_in_several_states_has_their_states() -> None:
    shown = letters_text([replace(LETTER, state="discarded"), LETTER], states=True)
    assert [line.split()[6] for line in shown.split("\n")[1:]] == ["discarded", "dead"]


def test_letters_that_died_thrice_of_the_same_error_have_a_sign() -> None:
    poison = replace(LETTER, deaths=3)
    assert "×" not in letters_text([LETTER])
    assert "17  ×3  2026" in letters_text([poison])
    assert "×3 died 3 times in a row of the same error, so bulk replays exclude it" in letter_text(poison)
    assert "×" not in letter_text(LETTER)


def test_a_letter_shows_what_it_came_of_and_what_came_of_it() -> None:
    first = replace(LETTER, id=11, state="replayed")
    second = replace(LETTER, replay_of=11, error_message="another")
    shown = letter_text(
        second, [(first, [item(11, "other")]), (second, [item(17, "skipped", note="gone\n")])]
    )
    assert shown.split("lineage\n")[1].split("\n\n")[0].split("\n") == [
        "  letter 11: 2026-03-01 14:32:07  PermanentError: no file 'dress.jpg'",
        "    plan 3  2026-03-01 14:32:07  died, other error",
        "  letter 17 (this one), of letter 11: 2026-03-01 14:32:07  PermanentError: another",
        "    plan 3  2026-03-01 14:32:07  skipped: gone\\x0a",
    ]
    assert "lineage" not in letter_text(LETTER, [(LETTER, [])])


def test_a_group_has_three_lines() -> None:
    small = replace(GROUP, count=7, sample=replace(LETTER, error_message=HOSTILE))
    shown = groups_text([GROUP, small], width=80).split("\n")
    assert shown[:4] == [
        "1,234  ······················▁█  2026-03-01 14:32 – 2026-03-01 14:32",
        "       group 0123456789abcdef  newest 17  color-extraction  extract_colors",
        "       PermanentError: no file 'dress.jpg'",
        "",
    ]
    assert shown[4].startswith("    7  ·")
    assert len(shown) == 7
    assert control_characters("\n".join(shown)) == []
    assert groups_text([]) == "no dead letters"


def test_a_letter_and_its_group_show_their_releases() -> None:
    letter = replace(LETTER, release="v2.1", attempt_errors=[LETTER.attempt_errors[0] | {"release": "v2.1"}])
    shown = letter_text(letter)
    assert " · release v2.1\n" in shown
    assert "on w1, release v2.1, ran 250 ms" in shown
    assert " · release –\n" in letter_text(LETTER)
    assert groups_text([replace(GROUP, releases=("v2.1", "v2.0"))]).endswith("\n       in v2.1, v2.0")
